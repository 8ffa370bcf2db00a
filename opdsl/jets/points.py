"""Who owns the axis of the points: the one place that knows.

A backend either captures a function of ONE point and maps the finished program over the batch (`Mapped`), or captures a function
of the batch, so that every array carries an axis of points (`Batched`). Everything else is written once, in terms of *rows* (one
array for each point), *channels* (an axis in front) and what is *the same at every point*:

==========================  ==========  ====================================================================
arrays                      mapped      batched
==========================  ==========  ====================================================================
x, one row per point        (d,)        (n, d)
a number per point          ()          (n,)
channels that vary          (C, w)      (C, n, w)
channels that are the same  (C, w)      (C, 1, w): the mapping, or broadcasting, repeats them where it has to
a matrix at each point      (C, w)      (n, C, w)
==========================  ==========  ====================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from opdsl.jets.graph import Array
from opdsl.jets.jet import Jet

Shape = tuple[int, ...]


class Points(ABC):
    """Questions about, and moves of, the axis of the points.

    Args:
        xp: the array namespace.

    Attributes:
        axis: where the points stand in x and in the values of a graph that keep them in front; None where there is no such axis.
    """

    axis: ClassVar[int | None]

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    # ------------------------------------------------------------------------------------------------------- questions

    @staticmethod
    @abstractmethod
    def lead(count: int) -> Shape:
        """The axes in front of what belongs to a point, for so many points: () or (n,)."""

    @classmethod
    def inner(cls, shape: Sequence[int]) -> Shape:
        """The shape at one point of a value with one row per point."""
        return tuple(shape[len(cls.lead(1)) :])

    @classmethod
    def seen(cls, shape: Sequence[int]) -> Shape:
        """What a method sees of an array (n, …) that is handed in with one row per point."""
        return (*cls.lead(shape[0]), *shape[1:])

    @classmethod
    def thin(cls, shape: Sequence[int]) -> Shape:
        """The shape of a channel that is the same at every point, of a value with one row per point."""
        return (*cls.lead(1), *cls.inner(shape))

    @staticmethod
    @abstractmethod
    def executions(count: int) -> int:
        """How many times an operation of the graph is done for so many points: once for each, or once for all."""

    # ---------------------------------------------------------------------------------------------------------- arrays

    @abstractmethod
    def one(self, x: Array) -> Array:
        """The first point, as a batch of its own where there is an axis of points: (d,) or (1, d)."""

    @abstractmethod
    def same(self, channels: Array) -> Array:
        """Channels (C, …) that are the same at every point, as a part of a jet: (C, …) or (C, 1, …)."""

    @abstractmethod
    def everywhere(self, row: Array, x: Array) -> Array:
        """One row at every point of x: (…) or (n, …)."""

    @abstractmethod
    def in_front(self, channels: Array) -> Array:
        """Channels as one matrix at each point: (C, w) as it is, (C, n, w) → (n, C, w)."""

    @abstractmethod
    def along(self, gradients: Array, directions: Array, same: bool) -> Array:
        """Σ_i g_ki v_ri over the coordinates at each point: (K, d), (R, d) → (K, R), or (K, n, d), (R, n, d) → (K, n, R).

        ``same``: the directions are the same at every point, (R, d).
        """

    def flat(self, channels: Array, width: int, same: bool) -> Array:
        """Channels (C, …) of a value with so many entries at each point as (C, w), or (C, n, w) where they vary."""
        points = () if same else tuple(channels.shape[1 : 1 + len(self.lead(1))])
        return self.xp.reshape(channels, (channels.shape[0], *points, width))

    def columns(self, output: Array) -> Array:
        """An output as (…, m): one number per point becomes a column."""
        shape = tuple(output.shape)
        return output if self.inner(shape) else self.xp.reshape(output, (*shape, 1))

    # ------------------------------------------------------------------------------------------------------------ jets

    def jet(self, x: Array, parts: Sequence[Array | None], fixed: Sequence[bool]) -> Jet:
        """The jet of x, or of a value that keeps the points in front."""
        return Jet(x, tuple(parts), tuple(fixed), self.axis)

    def stacked(self, rows: Sequence[Array | None], zero: Array, numbers: bool) -> tuple[Array, bool]:
        """Vectors (d,), or (n, d) where they vary, as channels of x; and whether they are the same at every point.

        Args:
            rows: one vector for each channel; None for zero.
            zero: the number 0 as an array.
            numbers: all entries are plain numbers: in a graph of one point nobody else can tell that they do not vary.
        """
        shapes = {tuple(r.shape) for r in rows if r is not None}
        shape = max(shapes, key=len)
        out = self.xp.stack([self.xp.broadcast_to(zero if r is None else r, shape) for r in rows])
        return self._part(out, varies=len(shape) > 1, numbers=numbers)

    @abstractmethod
    def _part(self, channels: Array, varies: bool, numbers: bool) -> tuple[Array, bool]: ...


class Mapped(Points):
    """Graphs are of one point; the batch is mapped outside."""

    axis = None

    @staticmethod
    def lead(count: int) -> Shape:
        return ()

    @staticmethod
    def executions(count: int) -> int:
        return count

    def one(self, x: Array) -> Array:
        return x

    def same(self, channels: Array) -> Array:
        return channels

    def everywhere(self, row: Array, x: Array) -> Array:
        return row

    def in_front(self, channels: Array) -> Array:
        return channels

    def along(self, gradients: Array, directions: Array, same: bool) -> Array:
        return gradients @ self.xp.matrix_transpose(directions)

    def _part(self, channels: Array, varies: bool, numbers: bool) -> tuple[Array, bool]:
        return channels, numbers


class Batched(Points):
    """Every value carries an axis of points; x has it in front."""

    axis = 0

    @staticmethod
    def lead(count: int) -> Shape:
        return (count,)

    @staticmethod
    def executions(count: int) -> int:
        return 1

    def one(self, x: Array) -> Array:
        return x[:1, ...]

    def same(self, channels: Array) -> Array:
        return channels[:, None, ...]

    def everywhere(self, row: Array, x: Array) -> Array:
        return self.xp.broadcast_to(row[None, ...], (x.shape[0], *row.shape))

    def in_front(self, channels: Array) -> Array:
        return self.xp.permute_dims(channels, (1, 0, *range(2, len(channels.shape))))

    def along(self, gradients: Array, directions: Array, same: bool) -> Array:
        if same:
            return gradients @ self.xp.matrix_transpose(directions)
        pairs = self.xp.sum(gradients[:, None, ...] * directions[None, ...], axis=-1)
        return self.xp.permute_dims(pairs, (0, 2, 1))

    def _part(self, channels: Array, varies: bool, numbers: bool) -> tuple[Array, bool]:
        return (channels, False) if varies else (self.same(channels), True)
