"""What the recording namespaces ask of an operand, and how they refuse what has no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opdsl.errors import CaptureError

LIST = "Write the function with the operations of the array API standard (x.__array_namespace__())."


def moves(operand: Any) -> bool:
    """Whether an operand depends on the points: whether it is a tracer, or a list with one."""
    if isinstance(operand, list | tuple):
        return any(moves(entry) for entry in operand)
    return hasattr(operand, "recorder")


def shape_of(operand: Any) -> tuple[int, ...]:
    """The shape; () of a number."""
    return tuple(getattr(operand, "shape", ()))


def axes_of(operand: Any, axis: Any) -> tuple[int, ...]:
    """Axes, non-negative; all of them for None."""
    ndim = len(shape_of(operand))
    axes = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(k % ndim for k in axes)


def refused(name: str) -> CaptureError:
    """For an operation that has no rule."""
    return CaptureError(f"{name} has no rule on the NumPy backend. {LIST}")


def guarded(name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the framework itself, for operands that do not depend on the points."""

    def call(*args: Any, **options: Any) -> Any:
        if any(moves(a) for a in (*args, *options.values())):
            raise refused(name)
        return found(*args, **options)

    return call


class Guarded:
    """A module of the framework without any rules: its functions act on what does not depend on the points."""

    def __init__(self, name: str, module: Any) -> None:
        self._name, self._module = name, module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        return guarded(f"{self._name}.{name}", found) if callable(found) else found
