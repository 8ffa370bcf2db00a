"""Exact derivatives of pointwise expressions: product rule, chain rule, the table of elementary derivatives.

``derivative(e, a)`` is ∂e/∂x_a, where ``a`` is a coordinate column or an index label. Nothing is approximated and nothing is
silently zero: only numbers, values bound at call time and other coordinates have derivative 0.
"""

from __future__ import annotations

from opdsl.algebra.work import spend
from opdsl.errors import OpLimitError
from opdsl.language import constructors
from opdsl.language.constructors import MINUS_ONE, ONE, ZERO, add, call, index_sum, mul, power, where
from opdsl.language.functions import FUNCTIONS
from opdsl.language.residual import (
    Add,
    Axis,
    Comparison,
    Composition,
    Coordinate,
    Derivative,
    IndexSum,
    Mul,
    Number,
    Parameter,
    Pointwise,
    Power,
    Where,
)
from opdsl.language.structure import Coefficient, children, sort_axes
from opdsl.language.traverse import postorder

MAX_ORDER = 64
# What is built for one part of a derivative takes as long as a dozen produced terms.
PRICE = 12


class NeedsWritingOut(Exception):
    """A Kronecker delta between two labels: the sum must be written out, or refused where it is too long."""


class Differentiator:
    """Differentiates, everything once; ``space`` tells which columns a label ranges over."""

    def __init__(self, space: frozenset[int] | range) -> None:
        self.space = space
        self.memo: dict[tuple[Pointwise, Axis], Pointwise] = {}

    def __call__(self, node: Pointwise, axis: Axis) -> Pointwise:
        match node:
            case Number() | Parameter():
                return ZERO
            case Derivative(name, component, axes):
                if len(axes) >= MAX_ORDER:
                    raise OpLimitError(f"a derivative of order {len(axes) + 1}; the limit is {MAX_ORDER}", code="E304")
                return Derivative(name, component, sort_axes((*axes, axis)))
            case Coefficient(name, index, axes):
                return Coefficient(name, index, sort_axes((*axes, axis)))
            case Coordinate(other):
                return self._coordinate(other, axis)
        if (node, axis) not in self.memo:
            # What is nested deeply is done from the inside, so that no call waits for more than one other.
            for each in postorder((node,), lambda n: () if (n, axis) in self.memo else _differentiated(n)):
                if children(each) and not isinstance(each, Comparison) and (each, axis) not in self.memo:
                    self.memo[(each, axis)] = self._compound(each, axis)
        return self.memo[(node, axis)]

    def _coordinate(self, other: Axis, axis: Axis) -> Pointwise:
        if other == axis:
            return ONE
        if isinstance(other, int) and isinstance(axis, int):
            return ZERO
        column = other if isinstance(other, int) else axis
        if isinstance(column, int) and column not in self.space:
            return ZERO
        raise NeedsWritingOut

    def _compound(self, node: Pointwise, axis: Axis) -> Pointwise:
        match node:
            case Add(terms):
                spend(PRICE * len(terms))
                return add(*(self(term, axis) for term in terms))
            case Mul(factors):
                parts = []
                for k, factor in enumerate(factors):
                    changed = self(factor, axis)
                    if changed != ZERO:
                        # Every part is a product as long as the whole: long products cost the square of their length.
                        spend(PRICE * len(factors))
                        parts.append(mul(*factors[:k], changed, *factors[k + 1 :]))
                made = add(*parts)
                spend(PRICE * (len(made.terms) if isinstance(made, Add) else 1))
                return made
            case Power(base, exponent):
                spend(PRICE * 4)
                return self._power(base, exponent, axis)
            case Composition(function, args, orders):
                spend(PRICE * 4)
                return self._call(function, args, orders, axis)
            case Where(condition, yes, no):
                spend(PRICE * 2)
                return where(condition, self(yes, axis), self(no, axis))
            case IndexSum(label, body):
                spend(PRICE * 2)
                return index_sum(label, self(body, axis))
            case Comparison():
                raise AssertionError("a comparison has no derivative; Where does not differentiate its condition")
        raise AssertionError(f"no derivative for {type(node).__name__}; a new node type needs one")

    def _power(self, base: Pointwise, exponent: Pointwise, axis: Axis) -> Pointwise:
        d_base = self(base, axis)
        d_exponent = self(exponent, axis)
        parts = []
        if d_base != ZERO:
            parts.append(mul(exponent, power(base, add(exponent, MINUS_ONE)), d_base))
        if d_exponent != ZERO:
            parts.append(mul(power(base, exponent), call("log", (base,)), d_exponent))
        return add(*parts)

    def _call(self, function: str, args: tuple[Pointwise, ...], orders: tuple[int, ...], axis: Axis) -> Pointwise:
        inner = [self(arg, axis) for arg in args]
        if all(d == ZERO for d in inner):
            return ZERO
        known = FUNCTIONS.get(function)
        if known is not None and known.chain is not None:
            made: Pointwise = known.chain(constructors, args, inner)
            return made
        if known is not None and known.derivative is not None:
            return mul(known.derivative(constructors, args[0]), inner[0])
        orders = orders or (0,) * len(args)
        if sum(orders) >= MAX_ORDER:
            raise OpLimitError(f"a derivative of {function} of order {sum(orders) + 1}", code="E304")
        parts = []
        for k, d in enumerate(inner):
            if d != ZERO:
                raised = tuple(o + (1 if j == k else 0) for j, o in enumerate(orders))
                parts.append(mul(call(function, args, raised), d))
        return add(*parts)


def _differentiated(node: Pointwise) -> tuple[Pointwise, ...]:
    """The parts that the derivative of a node needs the derivatives of: a condition keeps its place."""
    return (node.yes, node.no) if isinstance(node, Where) else children(node)
