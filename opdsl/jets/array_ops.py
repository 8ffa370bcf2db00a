"""What the engine asks of an array framework: the array-API namespace ``xp``, the few functions the standard lacks, and one way
to apply a primitive along the channel axis. Every backend has one `ArrayOps`; counting has one without numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opdsl.jets.graph import Array
from opdsl.jets.points import Points


class ArrayOps(ABC):
    """Array operations of one framework, as the engine sees them.

    Attributes:
        xp: array-API namespace (through array-api-compat), resolved once.
        points: who owns the batch axis: the mapping outside of a graph of ONE point (JAX), or every value (torch, NumPy).
        stacked: True where one product over all channels of a jet beats one product per block of channels.
    """

    xp: Any
    points: Points
    stacked: bool

    @property
    def per_point(self) -> bool:
        """Whether graphs are of one point; asked by the engine only, everybody else talks to `points`."""
        return self.points.axis is None

    @abstractmethod
    def channelwise(self, apply: Callable[..., Any], arrays: Sequence[Array], mapped: Sequence[bool]) -> Any:
        """Apply a primitive to every channel: map ``apply`` over axis 0 of the arrays flagged in ``mapped``.

        The result has the channel axis in front (each member, where ``apply`` returns a tuple).
        """

    def aside(self) -> AbstractContextManager[Any]:
        """Inside, arrays without tracers are computed at once, whatever is being traced or recorded around."""
        return nullcontext()

    def split(self, array: Array, sizes: Sequence[int]) -> list[Array]:
        """Consecutive blocks along axis 0. Frameworks whose reverse mode is slow on slices override this."""
        out, start = [], 0
        for size in sizes:
            out.append(array[start : start + size, ...])
            start += size
        return out

    def unstack(self, array: Array) -> list[Array]:
        """All entries along axis 0."""
        return [array[i, ...] for i in range(array.shape[0])]

    def itemsize(self, like: Any) -> int:
        """Bytes of a number of an array, or of a value of a graph, that holds floating-point numbers."""
        return int(self.xp.finfo(like.dtype).bits) // 8

    @abstractmethod
    def special(self, name: str) -> Callable[..., Array]:
        """A function the array API lacks: erf, sigmoid, softplus, gammainc, … KeyError where the framework lacks it too."""

    @abstractmethod
    def asarray(self, value: Any, like: Array) -> Array:
        """A constant (numbers, nested tuples, NumPy array) with the dtype and device of ``like``."""

    @abstractmethod
    def nested_ad(
        self, function: Callable[[Array], Array], x: Array, axes: Sequence[tuple[int, ...]]
    ) -> dict[tuple[int, ...], Array]:
        """Partial derivatives by the framework's own nested automatic differentiation.

        ``function`` maps x to its output: (d,) → (m,) per point, or (n, d) → (n, m) batched. The result maps each entry of
        ``axes`` (sorted coordinate columns, () for the value) to an array of the output's shape. Shared inner
        derivatives are computed once.
        """

    @abstractmethod
    def gradient(self, function: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
        """Value and all first derivatives by reverse mode: (…, m) and (…, m, d)."""

    def gram(self, rows: Array) -> Array:
        """All products of rows: (h, d) → (h, h)."""
        return rows @ self.xp.matrix_transpose(rows)

    @abstractmethod
    def pull_back(self, function: Callable[[Array], Array], x: Array, count: int, affine: bool) -> Array:
        """The gradients of all ``count`` entries that ``function`` has at one point, by reverse mode.

        ``function`` maps (d,) → (count,) per point, or (n, d) → (n, count) batched; the result is (count, d), or
        (count, n, d). ``affine``: they are the same at every point.
        """
