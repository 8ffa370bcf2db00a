"""Backends: capture the user function, supply array operations, compile.

Looking up a backend imports no framework: arrays of a framework can only exist once it has been imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from opdsl.errors import BackendError, unknown

if TYPE_CHECKING:
    from opdsl.backends.base import Backend

NAMES = ("jax", "torch", "numpy")
_chosen: ContextVar[str | None] = ContextVar("opdsl_backend", default=None)


@cache
def get(name: str) -> Backend:
    """The backend of that name.

    Raises:
        BackendError: unknown name, or its framework is not installed.
    """
    if name not in NAMES:
        raise BackendError(unknown("unknown backend", name, NAMES))
    try:
        if name == "jax":
            from opdsl.backends.jax.backend import JaxBackend

            return JaxBackend()
        if name == "torch":
            from opdsl.backends.torch.backend import TorchBackend

            return TorchBackend()
    except ImportError as error:
        how = f"pip install 'opdsl[{name}]'"
        raise BackendError(f"backend {name!r} is not installed ({error}). Install it with: {how}.") from error
    from opdsl.backends.array_api.backend import NumpyBackend

    return NumpyBackend()


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose the backend for everything inside the ``with`` block.

    An argument ``backend=`` of a call still wins; the environment variable ``OPDSL_BACKEND`` and the arrays given come after.

    Raises:
        BackendError: unknown name.

    Example:
        >>> import opdsl
        >>> with opdsl.backend("numpy"):
        ...     pass
    """
    if name not in NAMES:
        raise BackendError(unknown("unknown backend", name, NAMES))
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


def choose(argument: str | None, arrays: Iterable[Any], functions: Iterable[Any]) -> Backend:
    """The backend of a call: argument, context manager, environment, then the arrays and functions given.

    Raises:
        BackendError: the arrays belong to several frameworks, or to none.
    """
    for name in (argument, _chosen.get(), os.environ.get("OPDSL_BACKEND") or None):
        if name is not None:
            return get(name)
    import sys

    found: dict[str, Backend] = {}
    arrays, functions = list(arrays), list(functions)
    for name in ("torch", "jax"):
        if name in sys.modules:
            candidate = get(name)
            if any(candidate.is_array(a) for a in arrays) or any(candidate.is_function(f) for f in functions):
                found[name] = candidate
    if len(found) > 1:
        raise BackendError("torch and JAX objects are mixed in one call; give the points and the function of one framework.")
    if found:
        return next(iter(found.values()))
    numpy = get("numpy")
    if any(numpy.is_array(a) for a in arrays):
        return numpy
    kinds = ", ".join(sorted({type(a).__name__ for a in arrays})) or "nothing"
    raise BackendError(f"no backend recognises {kinds}. Give an array of JAX, torch or NumPy, or name one with backend=.")
