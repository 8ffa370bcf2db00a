"""Backends: capture the user function, supply array operations, compile.

Three are shipped; others are found by entry points of the group ``opdsl.backends`` that name a class of
`opdsl.backends.base.Backend`. Looking one up imports no framework: arrays of a framework can only exist once it has been imported.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from opdsl.errors import BackendError, OpdslWarning, shown, unknown

if TYPE_CHECKING:
    from opdsl.backends.base import Backend

GROUP = "opdsl.backends"
SHIPPED = {
    "jax": "opdsl.backends.jax.backend:JaxBackend",
    "torch": "opdsl.backends.torch.backend:TorchBackend",
    "numpy": "opdsl.backends.array_api.backend:NumpyBackend",
}
REFERENCE = "jax"
"""Whose facts stand for a backend that is not named yet."""
HOST = "numpy"
"""Where opdsl itself computes with numbers that belong to nobody."""

_chosen: ContextVar[str | None] = ContextVar("opdsl_backend", default=None)


@cache
def _classes() -> Mapping[str, str]:
    """``module:Class`` by name: the shipped backends, then those of installed packages. Names of shipped ones are taken."""
    from importlib.metadata import entry_points

    return {**{e.name: f"{e.module}:{e.attr}" for e in entry_points(group=GROUP)}, **SHIPPED}


def names() -> tuple[str, ...]:
    """All backends, shipped ones first, whether or not their frameworks are installed."""
    return (*SHIPPED, *(name for name in _classes() if name not in SHIPPED))


@cache
def facts(name: str | None) -> type[Backend]:
    """The class of a backend, on which everything known of it stands; None asks for the `REFERENCE`. Imports no framework.

    Raises:
        BackendError: unknown name, or the package that brings it cannot be loaded.
    """
    name = REFERENCE if name is None else name
    where = SHIPPED.get(name) or _classes().get(name)
    if where is None:
        raise BackendError(unknown("unknown backend", name, names()))
    module, _, attribute = where.partition(":")
    try:
        found: type[Backend] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise BackendError(f"backend {name!r} stands in {where}, which cannot be loaded: {error}.") from error
    return found


@cache
def get(name: str) -> Backend:
    """The backend of that name.

    Raises:
        BackendError: unknown name, or its framework is not installed.
    """
    found = facts(name)
    if found.framework not in sys.modules and find_spec(found.framework) is None:
        what = f"opdsl[{name}]" if name in SHIPPED else found.distribution
        raise BackendError(
            f"backend {name!r} is not installed (No module named {found.framework!r}). Install it with: pip install '{what}'."
        )
    return found()


def loaded() -> list[Backend]:
    """The backends whose frameworks have been imported: others cannot have arrays."""
    found = []
    for name in names():
        try:
            if facts(name).framework in sys.modules:
                found.append(get(name))
        except BackendError as error:
            _complain(str(error))
    return found


@cache
def _complain(problem: str) -> None:
    """Say once that an installed backend does not load: it may be the one that the arrays belong to."""
    warnings.warn(problem, OpdslWarning, stacklevel=4)


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
    if not isinstance(name, str):
        raise BackendError(f"backend({shown(name)}): give its name, 'jax', 'torch' or 'numpy'.")
    facts(name)
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
    arrays, functions = list(arrays), list(functions)
    present = loaded()
    found = [
        b for b in present
        if not b.general and (any(b.is_array(a) for a in arrays) or any(b.is_function(f) for f in functions))
    ]  # fmt: skip
    if len(found) > 1:
        raise BackendError(
            f"{' and '.join(b.title for b in found)} objects are mixed in one call; give the points and the function of one framework."
        )
    found += [b for b in present if b.general and any(b.is_array(a) for a in arrays)]
    if found:
        return found[0]
    kinds = ", ".join(sorted({type(a).__name__ for a in arrays})) or "nothing"
    titles = [facts(name).title for name in SHIPPED]
    raise BackendError(
        f"no backend recognises {kinds}. Give an array of {', '.join(titles[:-1])} or {titles[-1]}, or name one with backend=."
    )
