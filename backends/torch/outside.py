"""Leave `torch.compile` for the time of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_REASON = (
    "opdsl: calling an operator, or a step with a key or another that draws random numbers, decides and captures in Python, which is "
    "no part of a graph. Bind the operator first, step = op.bind(net, x, …), with an exact strategy, and use step(x) inside "
    "torch.compile, or compile it: torch.compile(step)"
)


@torch.compiler.disable(reason=_REASON)  # type: ignore[untyped-decorator]
def outside(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function as it stands; with ``fullgraph=True`` torch raises this reason."""
    return function(*args, **kwargs)
