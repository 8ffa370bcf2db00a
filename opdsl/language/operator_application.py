"""Operators as values: which expressions are operators, and what applying one means.

``(d_t - nu*lap) u`` applies a sum of operators, ``(1 + ∇²)² u`` a power of one. Applying distributes over the structure of the
operator until only `Partial` and `Nabla` stand directly before an operand:

    (A + B) u = A u + B u        (c A) u = c (A u)        (A B) u = A (B u)        A² u = A (A u)        1 u = u
"""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise

from opdsl.errors import OpLimitError, OpRankError, OpSyntaxError, Span
from opdsl.language.traverse import demand, fill_slot, fold
from opdsl.language.tree import (
    Add,
    Apply,
    Call,
    Div,
    Mul,
    Nabla,
    Neg,
    Node,
    Num,
    Partial,
    Pow,
    SumOver,
    children,
    walk,
    with_children,
)

MAX_OPERATOR_POWER = 16


def spans_of(*nodes: Node) -> tuple[Span, ...]:
    """Collect the spans of nodes that have one."""
    return tuple(node.span for node in nodes if node.span is not None)


def is_operator(node: Node) -> bool:
    """Say whether the expression is an operator without operand, such as ``d_t - nu*lap`` or ``u·∇``."""
    fill_slot(node, "_operator", _acting, _is_operator)
    return node._operator


def _acting(node: Node) -> tuple[Node, ...]:
    """The parts of which one has to be an operator for the node to be one."""
    match node:
        case Add() | Mul():
            return children(node)
        case Neg(operand=inner) | Pow(base=inner) | SumOver(body=inner) | Div(top=inner):
            return (inner,)
    return ()


def _is_operator(node: Node) -> bool:
    match node:
        case Partial() | Nabla() | Call(name="dot", args=(_, Nabla(name="grad"))):
            return True
    return any(part._operator for part in _acting(node))


def power_of(node: Pow) -> int:
    """Return the whole number an operator is raised to."""
    exponent = node.exponent
    if not isinstance(exponent, Num) or exponent.value.denominator != 1 or exponent.value < 0:
        raise OpSyntaxError("an operator can only be raised to a whole number", code="E024", spans=spans_of(node))
    count = int(exponent.value)
    if count > MAX_OPERATOR_POWER:
        raise OpLimitError(
            f"an operator to the power {count}; the limit is {MAX_OPERATOR_POWER}", code="E304", spans=spans_of(node)
        )
    return count


def apply_operator(operator: Node, operand: Node, span: Span | None) -> Node:
    """Return ``operator operand`` with the operator's structure distributed; the operand is shared, not copied."""
    # Keyed by identity, so that every occurrence keeps its place in the text; the results keep their operands.
    return demand((operator, operand), lambda pair: _applied(*pair, span), lambda pair: (id(pair[0]), id(pair[1])), {})


def _applied(operator: Node, operand: Node, span: Span | None) -> Generator[tuple[Node, Node], Node, Node]:
    match operator:
        case Partial(axes=()):
            return operand
        case Partial() | Nabla():
            return Apply(operator, operand, span=span)
        case Call(name="dot", args=(vector, Nabla())):
            return Call("convect", (vector, operand), span=span)
        case Add(terms=terms):
            made = []
            for term in terms:
                made.append((yield term, operand))
            return Add(tuple(made), span=span)
        case Neg(operand=inner):
            return Neg((yield inner, operand), span=span)
        case Div(top=top, bottom=bottom):
            return Div((yield top, operand), bottom, span=span)
        case SumOver(letter=letter, body=body):
            return SumOver(letter, (yield body, operand), span=span)
        case Pow() if is_operator(operator.base):
            if isinstance(operator.base, Call):
                raise OpSyntaxError(
                    "the power of a convective derivative is ambiguous", code="E025", spans=spans_of(operator),
                    suggestion="write (u·∇)((u·∇)u) or ((u·∇)u)^2",
                )
            result = operand
            for _ in range(power_of(operator)):
                result = yield operator.base, result
            return result
        case Mul(factors=factors) if is_operator(operator):
            result = operand
            for factor in reversed(factors):
                result = yield factor, result
            return result
    # A function among operators is multiplication by it; the number 1 is the identity.
    if isinstance(operator, Num) and operator.value == 1:
        return operand
    if isinstance(operand, Mul):
        return Mul((operator, *operand.factors), span=span)
    return Mul((operator, operand), span=span)


def desugar(root: Node) -> Node:
    """Rewrite every application to `Partial`, `Nabla` or ``convect`` directly before its operand.

    Raises:
        OpSyntaxError: an operator stands where a value is needed.
    """
    if is_operator(root):
        raise _nothing_to_act_on(root)
    for node in walk(root):
        values = (node.operand,) if isinstance(node, Apply) else () if is_operator(node) else children(node)
        for child in values:
            if is_operator(child):
                raise _nothing_to_act_on(child)
    return fold((root,), children, _desugared)[0]


def _desugared(node: Node, new: tuple[Node, ...]) -> Node:
    if isinstance(node, Apply):
        operator, operand = new
        return apply_operator(operator, operand, node.span)
    return with_children(node, new) if any(a is not b for a, b in zip(new, children(node), strict=True)) else node


def _nothing_to_act_on(operator: Node) -> OpSyntaxError:
    return OpSyntaxError(
        "this operator has nothing to act on", code="E022", spans=spans_of(operator),
        suggestion="write what it acts on after it, as in laplace(u) or (d_t - nu*lap) u",
    )


def check_operator_product(factors: tuple[Node, ...]) -> None:
    """Refuse ``lap * u``: an operator acts on what stands after it, a star multiplies."""
    for factor, following in pairwise(factors):
        if is_operator(factor) and not is_operator(following):
            raise OpRankError(
                "an operator is not multiplied, it acts", code="E023", spans=spans_of(factor, following),
                suggestion="write laplace(u) or d_x u, without the star",
            )
