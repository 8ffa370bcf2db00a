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
from typing import Any

from opdsl.errors import Span


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
