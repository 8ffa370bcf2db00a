"""Short text of expanded expressions, for plans and messages."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

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
from opdsl.language.structure import children
from opdsl.language.traverse import fold

_LONGEST = 2000


def number_text(value: Fraction | float) -> str:
    """3, 1/2 or 0.1."""
    return str(value) if isinstance(value, Fraction) else f"{value:g}"


def expression_text(node: Pointwise, coords: Sequence[str]) -> str:
    """An expression as one would write it; what is very long is left out."""

    def written(node: Pointwise, below: tuple[str, ...]) -> str:
        found = _written(node, below, coords)
        return found if len(found) <= _LONGEST else "…"

    return fold((node,), children, written)[0]


def _written(node: Pointwise, below: tuple[str, ...], coords: Sequence[str]) -> str:
    match node:
        case Number(value):
            return number_text(value)
        case Coordinate(axis):
            return _axis(axis, coords) if isinstance(axis, int) else f"x_{axis}"
        case Parameter(name, index):
            return name + ("_" + "".join(str(i) for i in index) if index else "")
        case Derivative(field, component, axes):
            base = field if component == 0 else f"{field}[{component}]"
            return base if not axes else f"{derivative_text(axes, coords)} {base}"
        case Add():
            return " + ".join(below).replace("+ -", "- ")
        case Mul(factors):
            parts = [f"({part})" if isinstance(f, Add) else part for f, part in zip(factors, below, strict=True)]
            negative = isinstance(factors[0], Number) and factors[0].value == -1
            return "-" + " ".join(parts[1:]) if negative else " ".join(parts)
        case Power(base, exponent):
            inner = f"({below[0]})" if isinstance(base, Add | Mul | Power | Derivative) else below[0]
            plain = isinstance(exponent, Number) and exponent.value >= 0 and (
                isinstance(exponent.value, float) or exponent.value.denominator == 1
            )  # fmt: skip
            return f"{inner}^{below[1]}" if plain else f"{inner}^({below[1]})"
        case Composition(name, _, orders):
            return name + "'" * sum(orders) + "(" + ", ".join(below) + ")"
        case Comparison(operator):
            return f"{below[0]} {operator} {below[1]}"
        case Where():
            return f"where({', '.join(below)})"
        case IndexSum(label):
            return f"Σ_{label} {below[0]}"
    return repr(node)


def _axis(axis: Axis, coords: Sequence[str]) -> str:
    return str(coords[axis]) if isinstance(axis, int) else axis


_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def derivative_text(axes: Sequence[Axis], coords: Sequence[str]) -> str:
    """∂_xxy; for longer names ∂_{x_0}² ∂_{x_1}."""
    names = [_axis(a, coords) for a in axes]
    if all(len(n) == 1 for n in names) and len(names) <= 4:
        return "∂_" + "".join(names)
    return " ".join(_power("∂_{" + n + "}" if len(n) > 1 else f"∂_{n}", names.count(n)) for n in dict.fromkeys(names))


def _power(symbol: str, exponent: int) -> str:
    return symbol if exponent == 1 else symbol + str(exponent).translate(_POWERS)
