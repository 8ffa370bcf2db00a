"""Compilers that follow Python code line by line, as `torch.compile` does: what is decided once is not for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def as_it_stands(method: Callable[_P, _R]) -> Callable[_P, _R]:
    """Inside `torch.compile` this is called and not compiled: the compiled code around it breaks in two, or with
    ``fullgraph=True`` is refused. Following the planner would take minutes."""

    @wraps(method)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        torch: Any = sys.modules.get("torch")
        if torch is None or not torch.compiler.is_dynamo_compiling():
            return method(*args, **kwargs)
        from opdsl.backends.torch.outside import outside

        return outside(method, *args, **kwargs)  # type: ignore[no-any-return]

    return call
