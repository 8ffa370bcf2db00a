"""The expression tree of the language: names are resolved, operators stand before what they act on, spans are kept.

The tree says what the text says, before any calculus: ``laplace(c^3 - c)`` is one operator applied to a sum. A node is an occurrence:
it knows its place in the text, which errors point at. Its `form` is the node without places, and of equal forms there is one. Two
nodes are equal if their forms are the same, so two texts that mean the same in the same words have equal trees.

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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from opdsl.errors import Span
from opdsl.language.interning import Expression, expression_node, interned
from opdsl.language.traverse import fill_slot, preorder


# --------------------------------------------------------------------------------------------- nodes
class _Kept(Expression):
    """What is kept on a node once it has been asked for."""

    __slots__ = ("_form", "_operator")
    _form: Node | None
    _operator: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Node(_Kept):
    """Base of the expression tree. ``span`` is the place in the text; it does not count for equality."""

    span: Span | None = field(default=None, compare=False)

    def __eq__(self, other: object) -> bool:
        return form(self) is form(other) if isinstance(other, Node) else NotImplemented

    def __hash__(self) -> int:
        return object.__hash__(form(self))


@expression_node
class Num(Node):
    """An exact number."""

    value: Fraction


@expression_node
class Const(Node):
    """``pi``, ``i`` (imaginary unit), ``I`` (identity tensor), ``delta``, ``epsilon``, ``e`` (Euler's number), ``position``, ``n`` (the normal)."""

    name: str


@expression_node
class Coord(Node):
    """The value of a coordinate; of a coordinate vector, the vector."""

    name: str


@expression_node
class Field(Node):
    """An unknown field."""

    name: str


@expression_node
class Param(Node):
    """A parameter or coefficient."""

    name: str


@expression_node
class Ref(Node):
    """A name introduced by ``let``."""

    name: str


@expression_node
class Indexed(Node):
    """Components of a tensor: numbers select, letters are index notation."""

    base: Node
    indices: tuple[int | str, ...]


@expression_node
class Add(Node):
    """A sum."""

    terms: tuple[Node, ...]


@expression_node
class Neg(Node):
    """A sign."""

    operand: Node


@expression_node
class Mul(Node):
    """A product, scalar × tensor, matrix × vector, or composition of operators."""

    factors: tuple[Node, ...]


@expression_node
class Div(Node):
    """A quotient by a scalar."""

    top: Node
    bottom: Node


@expression_node
class Pow(Node):
    """A power; of a vector, the squared norm; of an operator, repeated application."""

    base: Node
    exponent: Node


@expression_node
class Call(Node):
    """A function of the table (``sin``, ``dot``, ``det``, ``where`` …) or one declared by the user."""

    name: str
    args: tuple[Node, ...]


@expression_node
class Compare(Node):
    """A comparison, the first argument of ``where``."""

    operator: str
    left: Node
    right: Node


@expression_node
class Partial(Node):
    """∂ with respect to coordinates and index letters, as an operator.

    Each axis is ``(name, None)`` for a coordinate, ``(name, 3)`` for a component of a coordinate vector, ``(None, "i")``
    for an index letter.
    """

    axes: tuple[tuple[str | None, int | str | None], ...]


@expression_node
class Nabla(Node):
    """An operator over the space coordinates: grad div curl laplace hess jac dn perp."""

    name: str


@expression_node
class Apply(Node):
    """An operator applied to an operand."""

    operator: Node
    operand: Node


@expression_node
class SumOver(Node):
    """An explicit sum ``sum_i(...)`` over the space coordinates."""

    letter: str
    body: Node


@expression_node
class At(Node):
    """A restriction ``u(x=0)``: the expression at a fixed value of some coordinates."""

    operand: Node
    where: tuple[tuple[str, Node], ...]


# --------------------------------------------------------------------------------------------- statements
@expression_node
class Definition(Node):
    """``let name = value``."""

    name: str
    value: Node


@expression_node
class EquationNode(Node):
    """``name: left = right``; ``right`` None where only one side is written."""

    name: str
    left: Node
    right: Node | None = None
    named: bool = False


# --------------------------------------------------------------------------------------------- walking
_BELOW: dict[type[Node], Callable[[Any], tuple[Node, ...]]] = {
    Indexed: lambda node: (node.base,),
    Add: lambda node: node.terms,
    Mul: lambda node: node.factors,
    Call: lambda node: node.args,
    Neg: lambda node: (node.operand,),
    Div: lambda node: (node.top, node.bottom),
    Pow: lambda node: (node.base, node.exponent),
    Compare: lambda node: (node.left, node.right),
    Apply: lambda node: (node.operator, node.operand),
    SumOver: lambda node: (node.body,),
    Definition: lambda node: (node.value,),
    EquationNode: lambda node: (node.left,) if node.right is None else (node.left, node.right),
    At: lambda node: (node.operand, *(value for _, value in node.where)),
}
"""The walks ask this more often than anything else; classes that are not here have nothing below them."""


def children(node: Node) -> tuple[Node, ...]:
    """Return the direct subexpressions, left to right."""
    below = _BELOW.get(type(node))
    return () if below is None else below(node)


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
        case SumOver():
            return replace(node, body=new[0])
        case At(where=where):
            names = [name for name, _ in where]
            return replace(node, operand=new[0], where=tuple(zip(names, new[1:], strict=True)))
        case Definition():
            return replace(node, value=new[0])
        case EquationNode():
            return replace(node, left=new[0], right=new[1] if len(new) > 1 else None)
    return node


def walk(*roots: Node) -> Iterator[Node]:
    """Yield the nodes and everything below them, every node once, parents first and from left to right."""
    return preorder(roots, children)


def form(node: Node) -> Node:
    """Return the node without places; equal nodes have the same, as an object."""
    if not hasattr(node, "_form"):
        fill_slot(node, "_form", children, _form_of)
    return node if node._form is None else node._form


def _form_of(node: Node) -> Node | None:
    """The form, or None for a node that is its own."""
    below = children(node)
    forms = [child if child._form is None else child._form for child in below]
    bare = node
    if node.span is not None or any(a is not b for a, b in zip(forms, below, strict=True)):
        bare = replace(with_children(node, forms), span=None)

    def kept() -> Node:
        object.__setattr__(bare, "_form", None)
        return bare

    found = interned((type(bare), *(getattr(bare, name) for name in bare._entries)), kept)
    return None if found is node else found
