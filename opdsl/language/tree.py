"""The expression tree of the language: names are resolved, operators stand before what they act on, spans are kept.

The tree says what the text says, before any calculus: ``laplace(c^3 - c)`` is one operator applied to a sum. Spans do not
take part in equality, so two texts that mean the same in the same words have equal trees.

================  =============================  ==========================================
node              text                           meaning
================  =============================  ==========================================
`Field` …         ``u``, ``nu``, ``x``           a declared or inferred name
`Indexed`         ``a_ij``, ``u_0``, ``δ_ij``    component; letters are index notation
`Partial`         ``d_x``, ``∂²/∂x∂y``, ``d_i``  an operator
`Nabla`           ``grad``, ``laplace``, …       an operator over the space coordinates
`Apply`           ``d_x u``, ``(1 + ∇²) u``      an operator applied to its operand
================  =============================  ==========================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, overload

from opdsl.errors import Span

Dim = int | str
"""A length: a number, or a name (``u[d]``) that stands for the number of space coordinates."""

USUAL_COORDINATES = frozenset("txyzr")
"""Letters that are read as the coordinate of ``u_x`` where no coordinates are declared."""


# --------------------------------------------------------------------------------------------- declarations
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


# --------------------------------------------------------------------------------------------- nodes
@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Base of the expression tree. ``span`` is the place in the text; it does not count for equality."""

    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Num(Node):
    """An exact number."""

    value: Fraction


@dataclass(frozen=True, slots=True)
class Const(Node):
    """``pi``, ``i`` (imaginary unit), ``I`` (identity tensor), ``delta``, ``epsilon``, ``e`` (Euler's number), ``position``, ``n`` (the normal)."""

    name: str


@dataclass(frozen=True, slots=True)
class Coord(Node):
    """The value of a coordinate; of a coordinate vector, the vector."""

    name: str


@dataclass(frozen=True, slots=True)
class Field(Node):
    """An unknown field."""

    name: str


@dataclass(frozen=True, slots=True)
class Param(Node):
    """A parameter or coefficient."""

    name: str


@dataclass(frozen=True, slots=True)
class Ref(Node):
    """A name introduced by ``let``."""

    name: str


@dataclass(frozen=True, slots=True)
class Indexed(Node):
    """Components of a tensor: numbers select, letters are index notation."""

    base: Node
    indices: tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Add(Node):
    """A sum."""

    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Neg(Node):
    """A sign."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Mul(Node):
    """A product, scalar × tensor, matrix × vector, or composition of operators."""

    factors: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Div(Node):
    """A quotient by a scalar."""

    top: Node
    bottom: Node


@dataclass(frozen=True, slots=True)
class Pow(Node):
    """A power; of a vector, the squared norm; of an operator, repeated application."""

    base: Node
    exponent: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of the table (``sin``, ``dot``, ``det``, ``where`` …) or one declared by the user."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """A comparison, the first argument of ``where``."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Partial(Node):
    """∂ with respect to coordinates and index letters, as an operator.

    Each axis is ``(name, None)`` for a coordinate, ``(name, 3)`` for a component of a coordinate vector, ``(None, "i")``
    for an index letter.
    """

    axes: tuple[tuple[str | None, int | str | None], ...]


@dataclass(frozen=True, slots=True)
class Nabla(Node):
    """An operator over the space coordinates: grad div curl laplace hess jac dn perp."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply(Node):
    """An operator applied to an operand."""

    operator: Node
    operand: Node


@dataclass(frozen=True, slots=True)
class Sum(Node):
    """An explicit sum ``sum_i(...)`` over the space coordinates."""

    letter: str
    body: Node


@dataclass(frozen=True, slots=True)
class At(Node):
    """A restriction ``u(x=0)``: the expression at a fixed value of some coordinates."""

    operand: Node
    where: tuple[tuple[str, Node], ...]


# --------------------------------------------------------------------------------------------- statements
@dataclass(frozen=True, slots=True)
class Definition(Node):
    """``let name = value``."""

    name: str
    value: Node


@dataclass(frozen=True, slots=True)
class EquationNode(Node):
    """``name: left = right``; ``right`` None where only one side is written."""

    name: str
    left: Node
    right: Node | None = None
    named: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """A parsed text: declarations, definitions and equations. Equal where declarations and trees are equal."""

    declarations: Declarations
    definitions: tuple[Definition, ...]
    equations: tuple[EquationNode, ...]
    source: str = field(default="", compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    constants: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """Parameters of which a change of variables has used that they are the same at all points."""

    @property
    def symbolic(self) -> str | None:
        """Name of the coordinate vector whose length is not known yet, or None."""
        return self.declarations.symbolic

    @property
    def text(self) -> str:
        """The text that was parsed, or the printed one for a derived system."""
        return self.source or str(self)

    def __str__(self) -> str:
        # printing knows every node, so it comes after this module.
        from opdsl.language.tree_text import system_text

        return system_text(self)

    def latex(self) -> str:
        """Return the equations as LaTeX, one per line of an ``aligned`` block if there are several."""
        from opdsl.language.tree_text import system_latex

        return system_latex(self)

    def dimension_of(self, columns: int) -> int | None:
        """Return the length of the symbolic vector when points have so many columns; None if nothing is symbolic."""
        if self.symbolic is None:
            return None
        fixed = 0
        for coord in self.declarations.coords:
            if coord.size is None:
                fixed += 1
            elif isinstance(coord.size, int):
                fixed += coord.size
        return columns - fixed


# --------------------------------------------------------------------------------------------- walking
def children(node: Node) -> tuple[Node, ...]:
    """Return the direct subexpressions, left to right."""
    match node:
        case Indexed(base=base):
            return (base,)
        case Add(terms=many) | Mul(factors=many) | Call(args=many):
            return many
        case Neg(operand=one):
            return (one,)
        case Div(top=a, bottom=b) | Pow(base=a, exponent=b) | Compare(left=a, right=b) | Apply(operator=a, operand=b):
            return (a, b)
        case Sum(body=one):
            return (one,)
        case At(operand=one, where=where):
            return (one, *(value for _, value in where))
    return ()


def with_children(node: Node, new: Sequence[Node]) -> Node:
    """Return the node with new subexpressions, in the order of `children`."""
    match node:
        case Indexed():
            return replace(node, base=new[0])
        case Add():
            return replace(node, terms=tuple(new))
        case Mul():
            return replace(node, factors=tuple(new))
        case Call():
            return replace(node, args=tuple(new))
        case Neg():
            return replace(node, operand=new[0])
        case Div():
            return replace(node, top=new[0], bottom=new[1])
        case Pow():
            return replace(node, base=new[0], exponent=new[1])
        case Compare():
            return replace(node, left=new[0], right=new[1])
        case Apply():
            return replace(node, operator=new[0], operand=new[1])
        case Sum():
            return replace(node, body=new[0])
        case At(where=where):
            names = [name for name, _ in where]
            return replace(node, operand=new[0], where=tuple(zip(names, new[1:], strict=True)))
    return node


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and everything below it, without recursion."""
    stack: list[Any] = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(children(current)))
