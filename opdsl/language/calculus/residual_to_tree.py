"""Pointwise expressions back in the language, so that what was derived prints and parses again."""

from __future__ import annotations

from fractions import Fraction

from opdsl.errors import OpdslError, OpLimitError
from opdsl.language import tree as ex
from opdsl.language.calculus.coefficients import component_index
from opdsl.language.declarations import CoordinateNames
from opdsl.language.residual import (
    Add,
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
    Residual,
    Where,
)
from opdsl.language.structure import children
from opdsl.language.traverse import fold

MAX_WRITTEN_NODES = 10_000


def to_expression(node: Pointwise, residual: Residual) -> ex.Node:
    """Write a pointwise expression as an expression tree.

    Raises:
        OpdslError: it holds the derivative of a user's function, for which the language has no notation.
    """
    coords = residual.coords
    specs = {f.name: f for f in residual.fields}
    groups = coords.groups if isinstance(coords, CoordinateNames) else ()
    places = [(name, k) for name, size in groups for k in (range(size) if size else [None])]

    def axis_name(axis: int | str) -> tuple[str | None, int | str | None]:
        if not isinstance(axis, int):
            return None, axis
        return places[axis] if places else (coords[axis], None)

    def derivative(name: str, component: int | str, axes: tuple[int | str, ...]) -> ex.Node:
        spec = specs[name]
        made: ex.Node = ex.Param(name) if spec.coefficient else ex.Field(name)
        shape, part = (spec.shape[:-1], "re") if spec.complex else (spec.shape, None)
        if part and isinstance(component, int):
            component, part = component // 2, ("re", "im")[component % 2]
        if shape:
            made = ex.Indexed(made, component_index(component, shape))
        if axes:
            made = ex.Apply(ex.Partial(tuple(axis_name(a) for a in axes)), made)
        return ex.Call(part, (made,)) if part else made

    def one(node: Pointwise, below: tuple[ex.Node, ...]) -> ex.Node:
        match node:
            case Number(value):
                # The shortest decimal of a float stands for the same float.
                return _number(value if isinstance(value, Fraction) else Fraction(repr(value)))
            case Coordinate(axis):
                name, which = axis_name(axis)
                if name is None:
                    return ex.Indexed(ex.Const("position"), (axis,))
                return ex.Coord(name) if which is None else ex.Indexed(ex.Coord(name), (which,))
            case Parameter(name, index):
                return ex.Indexed(ex.Param(name), index) if index else ex.Param(name)
            case Derivative(name, component, axes):
                return derivative(name, component, axes)
            case Add():
                return ex.Add(below)
            case Mul(factors):
                first = factors[0]
                if isinstance(first, Number) and first.value < 0:
                    # A sign stands before the product, and a one is not written.
                    rest = below[1:] if first.value == -1 else (below[0].operand, *below[1:])  # type: ignore[attr-defined]
                    return ex.Neg(rest[0] if len(rest) == 1 else ex.Mul(rest))
                return ex.Mul(below)
            case Power(exponent=Number(value)) if value == -1:
                return ex.Div(ex.Num(Fraction(1)), below[0])
            case Power():
                return ex.Pow(*below)
            case Composition(function, _, orders) if not any(orders):
                return ex.Call(function, below)
            case Where():
                return ex.Call("where", below)
            case Comparison(operator):
                return ex.Compare(operator, *below)
            case IndexSum(label):
                return ex.SumOver(label, *below)
        raise OpdslError("the derivative of a function that is bound cannot be written as text", code="E054")

    def length(node: Pointwise, below: tuple[int, ...]) -> int:
        return min(1 + sum(below), MAX_WRITTEN_NODES + 1)

    if fold((node,), children, length)[0] > MAX_WRITTEN_NODES:
        raise OpLimitError(
            f"the result has more than {MAX_WRITTEN_NODES} symbols when it is written out", code="E307",
            suggestion="introduce auxiliary fields for parts that occur again and again",
        )
    return fold((node,), children, one)[0]


def _number(value: Fraction) -> ex.Node:
    if value < 0:
        return ex.Neg(_number(-value))
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1:
        return ex.Num(value)
    return ex.Div(ex.Num(Fraction(value.numerator)), ex.Num(Fraction(value.denominator)))
