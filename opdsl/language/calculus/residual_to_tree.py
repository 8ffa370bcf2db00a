"""Pointwise expressions back in the language, so that what was derived prints and parses again."""

from __future__ import annotations

from fractions import Fraction

from opdsl.errors import OpdslError
from opdsl.language import tree as ex
from opdsl.language.calculus.coefficients import component_index
from opdsl.language.constructors import mul
from opdsl.language.residual import (
    Add,
    Call,
    Compare,
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


def to_expression(node: Pointwise, residual: Residual) -> ex.Node:
    """Write a pointwise expression as an expression tree.

    Raises:
        OpdslError: it holds the derivative of a user's function, for which the language has no notation.
    """
    coords = residual.coords
    specs = {f.name: f for f in residual.fields}
    groups = coords.groups if isinstance(coords, ex.CoordinateNames) else ()
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

    def one(node: Pointwise) -> ex.Node:
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
            case Add(terms):
                return ex.Add(tuple(one(term) for term in terms))
            case Mul(factors):
                if isinstance(factors[0], Number) and factors[0].value < 0:
                    rest = mul(Number(-factors[0].value), *factors[1:])
                    return ex.Neg(one(rest))
                return ex.Mul(tuple(one(factor) for factor in factors))
            case Power(base=below, exponent=Number(value)) if value == -1:
                return ex.Div(ex.Num(Fraction(1)), one(below))
            case Power(base=below, exponent=exponent):
                return ex.Pow(one(below), one(exponent))
            case Call(function, args, orders) if not any(orders):
                return ex.Call(function, tuple(one(arg) for arg in args))
            case Where(condition, yes, no):
                return ex.Call("where", (one(condition), one(yes), one(no)))
            case Compare(operator, left, right):
                return ex.Compare(operator, one(left), one(right))
            case IndexSum(label, body):
                return ex.Sum(label, one(body))
        raise OpdslError(f"{type(node).__name__} of a user function's derivative cannot be written as text", code="E054")

    return one(node)


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
