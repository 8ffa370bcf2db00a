"""Operators as values: which expressions are operators, and what applying one means.

``(d_t - nu*lap) u`` applies a sum of operators, ``(1 + ∇²)² u`` a power of one. Applying distributes over the structure of the
operator until only `Partial` and `Nabla` stand directly before an operand:

    (A + B) u = A u + B u        (c A) u = c (A u)        (A B) u = A (B u)        A² u = A (A u)        1 u = u
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from opdsl.errors import OpLimitError, OpRankError, OpSyntaxError, Span
from opdsl.language.tree import Add, Apply, Call, Div, Mul, Nabla, Neg, Node, Num, Partial, Pow, Sum, children, with_children

MAX_OPERATOR_POWER = 16


def spans_of(*nodes: Node) -> tuple[Span, ...]:
    """Collect the spans of nodes that have one."""
    return tuple(node.span for node in nodes if node.span is not None)


def is_operator(node: Node) -> bool:
    """Say whether the expression is an operator without operand, such as ``d_t - nu*lap`` or ``u·∇``."""
    match node:
        case Partial() | Nabla():
            return True
        case Add() | Mul():
            return any(is_operator(child) for child in children(node))
        case Neg(operand=inner) | Pow(base=inner) | Sum(body=inner):
            return is_operator(inner)
        case Div(top=inner):
            return is_operator(inner)
        case Call(name="dot", args=(_, Nabla(name="grad"))):
            return True
    return False


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
    match operator:
        case Partial(axes=()):
            return operand
        case Partial() | Nabla():
            return Apply(operator, operand, span=span)
        case Call(name="dot", args=(vector, Nabla())):
            return Call("convect", (vector, operand), span=span)
        case Add(terms=terms):
            return Add(tuple(apply_operator(term, operand, span) for term in terms), span=span)
        case Neg(operand=inner):
            return Neg(apply_operator(inner, operand, span), span=span)
        case Div(top=top, bottom=bottom):
            return Div(apply_operator(top, operand, span), bottom, span=span)
        case Sum(letter=letter, body=body):
            return Sum(letter, apply_operator(body, operand, span), span=span)
        case Pow() if is_operator(operator.base):
            if isinstance(operator.base, Call):
                raise OpSyntaxError(
                    "the power of a convective derivative is ambiguous", code="E025", spans=spans_of(operator),
                    suggestion="write (u·∇)((u·∇)u) or ((u·∇)u)^2",
                )
            result = operand
            for _ in range(power_of(operator)):
                result = apply_operator(operator.base, result, span)
            return result
        case Mul(factors=factors) if is_operator(operator):
            result = operand
            for factor in reversed(factors):
                result = apply_operator(factor, result, span)
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
    done: dict[int, Node] = {}
    keep: list[Node] = []
    # The third entry tells that the parent has been checked, and with it this node.
    stack: list[tuple[Node, bool, bool]] = [(root, False, False)]
    while stack:
        node, ready, known = stack.pop()
        if id(node) in done:
            continue
        if isinstance(node, Apply):
            if not ready:
                stack.append((node, True, True))
                stack.append((node.operand, False, False))
                # Functions inside an operator (``sin(u)*d_x``) hold applications of their own.
                stack.extend((part, False, False) for part in _values(node.operator))
                continue
            made = apply_operator(_rebuilt(node.operator, done), done[id(node.operand)], node.span)
            done[id(node)] = made
            keep.append(made)
            continue
        if not known and is_operator(node):
            raise OpSyntaxError(
                "this operator has nothing to act on", code="E022", spans=spans_of(node),
                suggestion="write what it acts on after it, as in laplace(u) or (d_t - nu*lap) u",
            )
        below = children(node)
        if not ready and below:
            inherits = isinstance(node, (Add, Mul, Neg))
            stack.append((node, True, True))
            stack.extend((child, False, inherits) for child in reversed(below))
            continue
        new = tuple(done[id(child)] for child in below)
        done[id(node)] = with_children(node, new) if any(a is not b for a, b in zip(new, below, strict=True)) else node
    return done[id(root)]


def _values(operator: Node) -> list[Node]:
    """Return the parts of an operator that are values."""
    if not is_operator(operator):
        return [operator]
    out: list[Node] = []
    for child in children(operator):
        if isinstance(operator, Pow) and child is operator.exponent:
            continue
        out += _values(child)
    return out


def _rebuilt(operator: Node, done: dict[int, Node]) -> Node:
    if not is_operator(operator):
        return done[id(operator)]
    if isinstance(operator, Pow):
        return replace(operator, base=_rebuilt(operator.base, done))
    below = children(operator)
    return with_children(operator, [_rebuilt(child, done) for child in below]) if below else operator


def check_operator_product(factors: tuple[Node, ...]) -> None:
    """Refuse ``lap * u``: an operator acts on what stands after it, a star multiplies."""
    for factor, following in pairwise(factors):
        if is_operator(factor) and not is_operator(following):
            raise OpRankError(
                "an operator is not multiplied, it acts", code="E023", spans=spans_of(factor, following),
                suggestion="write laplace(u) or d_x u, without the star",
            )
