"""What a text declares: coordinates, fields, parameters, functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

Dim = int | str
"""A length: a number, or a name (``u[d]``) that stands for the number of space coordinates."""

USUAL_COORDINATES = frozenset("txyzr")
"""Letters that are read as the coordinate of ``u_x`` where no coordinates are declared."""


@dataclass(frozen=True, slots=True)
class CoordinateDecl:
    """One coordinate (``size`` None) or a coordinate vector ``x[100]``, ``x[d]``."""

    name: str
    size: Dim | None = None

    def __str__(self) -> str:
        return self.name if self.size is None else f"{self.name}[{self.size}]"


@dataclass(frozen=True, slots=True)
class FieldDecl:
    """An unknown field: name, shape, whether its values are complex."""

    name: str
    shape: tuple[Dim, ...] = ()
    complex: bool = False

    def __str__(self) -> str:
        shape = f"[{','.join(map(str, self.shape))}]" if self.shape else ""
        return self.name + shape + (":complex" if self.complex else "")


@dataclass(frozen=True, slots=True)
class ParamDecl:
    """A name bound at call time. ``shape`` None: not declared, it follows from the text."""

    name: str
    shape: tuple[Dim, ...] | None = None
    trainable: bool = False

    def __str__(self) -> str:
        shape = f"[{','.join(map(str, self.shape))}]" if self.shape else ""
        return ("?" if self.trainable else "") + self.name + shape


@dataclass(frozen=True, slots=True)
class Declarations:
    """Everything a text may name. ``given`` tells which of coords, fields, params, functions, time were declared."""

    coords: tuple[CoordinateDecl, ...] = ()
    fields: tuple[FieldDecl, ...] = ()
    params: tuple[ParamDecl, ...] = ()
    functions: tuple[str, ...] = ()
    time: str | None = None
    geometry: str = "cartesian"
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @property
    def names(self) -> frozenset[str]:
        """Everything that is declared."""
        return frozenset([*(each.name for group in (self.fields, self.params, self.coords) for each in group), *self.functions])

    @property
    def symbolic(self) -> str | None:
        """The name of the coordinate vector whose length is not known yet (``x`` for ``x[d]``), or None."""
        return next((c.name for c in self.coords if isinstance(c.size, str)), None)

    def columns(self, dimension: int | None = None) -> CoordinateNames:
        """Return one name per column; ``dimension`` is the length of a symbolic vector."""
        groups: list[tuple[str, int | None]] = []
        for coord in self.coords:
            size = dimension if isinstance(coord.size, str) else coord.size
            if isinstance(coord.size, str) and size is None:
                raise ValueError(f"the length of {coord} is not known yet; pass dimension=")
            groups.append((coord.name, size))
        return CoordinateNames(tuple(groups))

    def space(self, dimension: int | None = None) -> Sequence[int]:
        """Return the columns of the space coordinates: all but time."""
        total = len(self.columns(dimension))
        if self.time is None:
            return range(total) if total > 64 else tuple(range(total))
        start = 0
        for coord in self.coords:
            if coord.name == self.time:
                break
            size = dimension if isinstance(coord.size, str) else coord.size
            start += 1 if size is None else size
        if total <= 64 or 0 < start < total - 1:
            return tuple(c for c in range(total) if c != start)
        return range(1, total) if start == 0 else range(total - 1)

    def space_size(self, dimension: int | None = None) -> Dim:
        """Return the number of space coordinates, or the name of a symbolic length.

        Beside a symbolic vector there may be other space coordinates; then the symbol stands for the whole number.
        """
        for coord in self.coords:
            if isinstance(coord.size, str) and dimension is None:
                return coord.size
        return len(self.space(dimension))


@dataclass(frozen=True, slots=True)
class CoordinateNames(Sequence[str]):
    """Column names, formatted on demand: ``x[100000]`` does not create a hundred thousand strings.

    Example:
        >>> names = CoordinateNames((("t", None), ("x", 3)))
        >>> list(names), names.index("x_2"), len(names)
        (['t', 'x_0', 'x_1', 'x_2'], 3, 4)
    """

    groups: tuple[tuple[str, int | None], ...]

    def __len__(self) -> int:
        return sum(1 if size is None else size for _, size in self.groups)

    @overload
    def __getitem__(self, column: int) -> str: ...
    @overload
    def __getitem__(self, column: slice) -> tuple[str, ...]: ...
    def __getitem__(self, column: int | slice) -> str | tuple[str, ...]:
        if isinstance(column, slice):
            return tuple(self[c] for c in range(*column.indices(len(self))))
        left = column + len(self) if column < 0 else column
        for name, size in self.groups:
            width = 1 if size is None else size
            if 0 <= left < width:
                return name if size is None else f"{name}_{left}"
            left -= width
        raise IndexError(column)

    def __iter__(self) -> Iterator[str]:
        for name, size in self.groups:
            if size is None:
                yield name
            else:
                yield from (f"{name}_{k}" for k in range(size))

    def column(self, name: str, component: int | None = None) -> int:
        """Return the column of a coordinate, or of one component of a coordinate vector."""
        start = 0
        for group, size in self.groups:
            if group == name:
                return start + (component or 0)
            start += 1 if size is None else size
        raise KeyError(name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, CoordinateNames):
            return self.groups == other.groups
        if isinstance(other, tuple):
            return len(other) == len(self) and tuple(self) == other
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.groups) if len(self) > 64 else hash(tuple(self))

    def __str__(self) -> str:
        return " ".join(name if size is None else f"{name}[{size}]" for name, size in self.groups)
