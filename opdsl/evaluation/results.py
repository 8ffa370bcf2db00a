"""What an operator of several equations returns: a record that behaves like a tuple and knows the names."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from opdsl import backends
from opdsl.errors import BindingError, unknown


@dataclass(frozen=True)
class Estimate:
    """A mean over independent estimates.

    Attributes:
        value: the mean.
        standard_error: its standard error, √(sample variance / repeats), of the same shape.
        repeats: how many estimates.
    """

    value: Any
    standard_error: Any
    repeats: int


class Residuals:
    """One array per equation, in order: unpacks and indexes like a tuple, and by name.

    Registered as a pytree with JAX and torch.

    Example:
        >>> r = Residuals(("mom", "div"), (1.0, 2.0))
        >>> mom, div = r
        >>> r["div"], r.mom, list(r.items())
        (2.0, 1.0, [('mom', 1.0), ('div', 2.0)])
    """

    __slots__ = ("_names", "_values")

    def __init__(self, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
        self._names, self._values = names, values
        _register()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, key: int | slice | str) -> Any:
        if isinstance(key, str):
            if key not in self._names:
                raise BindingError(unknown("no equation", key, self._names, "Equations"))
            return self._values[self._names.index(key)]
        return self._values[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._names:
            raise AttributeError(name)
        return self._values[self._names.index(name)]

    def keys(self) -> tuple[str, ...]:
        """The names of the equations."""
        return self._names

    def values(self) -> tuple[Any, ...]:
        """The arrays."""
        return self._values

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and arrays."""
        return zip(self._names, self._values, strict=True)

    def map(self, change: Callable[[Any], Any]) -> Residuals:
        """Apply a function to every array."""
        return Residuals(self._names, tuple(change(v) for v in self._values))

    def __repr__(self) -> str:
        inner = ", ".join(f"{n}={tuple(getattr(v, 'shape', ()))}" for n, v in self.items())
        return f"Residuals({inner})"


_registered: set[str] = set()
_registering = threading.Lock()


def _register() -> None:
    """Tell frameworks that are already loaded that this is a container; importing this module loads none."""
    with _registering:
        for backend in backends.loaded():
            if backend.name not in _registered:
                backend.register_container(
                    Residuals, lambda r: (r._values, r._names), lambda names, values: Residuals(tuple(names), tuple(values))
                )
                _registered.add(backend.name)
