"""Functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from opdsl.language.declarations import Dim
from opdsl.language.function_record import Function, Given


def _square(e: Any, x: Any) -> Any:
    return e.power(x, e.number(2))


def _one_minus(e: Any, x: Any) -> Any:
    return e.add(e.ONE, e.negate(x))


def _root(e: Any, x: Any) -> Any:
    return e.call("sqrt", (x,))


def _tan(e: Any, x: Any) -> Any:
    return e.add(e.ONE, _square(e, e.call("tan", (x,))))


def _asin(e: Any, x: Any) -> Any:
    return e.divide(e.ONE, _root(e, _one_minus(e, _square(e, x))))


def _sigmoid(e: Any, x: Any) -> Any:
    s = e.call("sigmoid", (x,))
    return e.mul(s, _one_minus(e, s))


def _erf(e: Any, x: Any) -> Any:
    return e.mul(e.number(2 / math.sqrt(math.pi)), e.call("exp", (e.negate(_square(e, x)),)))


def _atan2(e: Any, args: tuple[Any, ...], inner: list[Any]) -> Any:
    (y, x), (dy, dx) = args, inner
    below = e.power(e.add(_square(e, x), _square(e, y)), e.MINUS_ONE)
    return e.mul(below, e.add(e.mul(x, dy), e.negate(e.mul(y, dx))))


def _extremum(name: str, taken: str, left: str) -> Callable[[Any, tuple[Any, ...], list[Any]], Any]:
    """The derivative of the piece that is taken; of two equal ones the mean. Of nan no comparison holds: there it is the value, nan."""

    def chain(e: Any, args: tuple[Any, ...], inner: list[Any]) -> Any:
        (a, b), (da, db) = args, inner
        mean = e.mul(e.number(Fraction(1, 2)), e.add(da, db))
        equal = e.where(e.Comparison("==", a, b), mean, e.call(name, args))
        return e.where(e.Comparison(taken, a, b), da, e.where(e.Comparison(left, a, b), db, equal))

    return chain


def _absolute(value: Fraction | float) -> Fraction | float:
    return value if value >= 0 else -value


def _rational_root(value: Fraction | float) -> Fraction | None:
    if not isinstance(value, Fraction) or value < 0:
        return None
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    return Fraction(top, bottom) if top * top == value.numerator and bottom * bottom == value.denominator else None


# At a + i b.
def _exp_parts(e: Any, a: Any, b: Any) -> tuple[Any, Any]:
    size = e.call("exp", (a,))
    return e.mul(size, e.call("cos", (b,))), e.mul(size, e.call("sin", (b,)))


def _sin_parts(e: Any, a: Any, b: Any) -> tuple[Any, Any]:
    return e.mul(e.call("sin", (a,)), e.call("cosh", (b,))), e.mul(e.call("cos", (a,)), e.call("sinh", (b,)))


def _cos_parts(e: Any, a: Any, b: Any) -> tuple[Any, Any]:
    return e.mul(e.call("cos", (a,)), e.call("cosh", (b,))), e.negate(e.mul(e.call("sin", (a,)), e.call("sinh", (b,))))


def _sinh_parts(e: Any, a: Any, b: Any) -> tuple[Any, Any]:
    return e.mul(e.call("sinh", (a,)), e.call("cos", (b,))), e.mul(e.call("cosh", (a,)), e.call("sin", (b,)))


def _cosh_parts(e: Any, a: Any, b: Any) -> tuple[Any, Any]:
    return e.mul(e.call("cosh", (a,)), e.call("cos", (b,))), e.mul(e.call("sinh", (a,)), e.call("sin", (b,)))


def _scalars(given: Given) -> tuple[Dim, ...]:
    name = given.node.name
    given.need(not any(given.shapes), f"{name} takes scalars")
    given.need(not any(t.complex for t in given.types), f"{name} takes real values", "E225")
    return ()


def _step(xp: Any, a: Any) -> Any:
    # Neither branch is taken of nan: it stays what it is.
    return xp.where(a <= 0, xp.zeros_like(a), xp.where(a > 0, xp.ones_like(a), a))


ELEMENTARY_FUNCTIONS = (
    Function(name="sin", derivative=lambda e, x: e.call("cos", (x,)), at_zero=0, parts=_sin_parts, latex=r"\sin"),
    Function(name="cos", derivative=lambda e, x: e.negate(e.call("sin", (x,))), at_zero=1, parts=_cos_parts, latex=r"\cos"),
    Function(name="tan", derivative=_tan, at_zero=0, latex=r"\tan"),
    Function(name="asin", spellings=("arcsin",), derivative=_asin, at_zero=0),
    Function(name="acos", spellings=("arccos",), derivative=lambda e, x: e.negate(_asin(e, x))),
    Function(name="atan", spellings=("arctan",), derivative=lambda e, x: e.divide(e.ONE, e.add(e.ONE, _square(e, x))), at_zero=0),
    Function(name="sinh", derivative=lambda e, x: e.call("cosh", (x,)), at_zero=0, parts=_sinh_parts, latex=r"\sinh"),
    Function(name="cosh", derivative=lambda e, x: e.call("sinh", (x,)), at_zero=1, nonnegative=True, parts=_cosh_parts, latex=r"\cosh"),
    Function(name="tanh", derivative=lambda e, x: _one_minus(e, _square(e, e.call("tanh", (x,)))), at_zero=0, latex=r"\tanh"),
    Function(name="asinh", spellings=("arsinh",), at_zero=0,
             derivative=lambda e, x: e.divide(e.ONE, _root(e, e.add(e.ONE, _square(e, x))))),
    Function(name="acosh", spellings=("arcosh",),
             derivative=lambda e, x: e.divide(e.ONE, _root(e, e.add(_square(e, x), e.MINUS_ONE)))),
    Function(name="atanh", spellings=("artanh",), at_zero=0,
             derivative=lambda e, x: e.divide(e.ONE, _one_minus(e, _square(e, x)))),
    Function(name="exp", derivative=lambda e, x: e.call("exp", (x,)), at_zero=1, nonnegative=True, parts=_exp_parts, latex=r"\exp"),
    Function(name="log", spellings=("ln",), derivative=lambda e, x: e.divide(e.ONE, x), latex=r"\log",
             exact=lambda value: Fraction(0) if value == 1 else None, domain=lambda value: value > 0),
    Function(name="sqrt", at_zero=0, exact=_rational_root, domain=lambda value: value >= 0, nonnegative=True, squared=1,
             bracket=r"\sqrt{{{}}}",
             derivative=lambda e, x: e.divide(e.ONE, e.mul(e.number(2), _root(e, x)))),
    Function(name="abs", derivative=lambda e, x: e.call("sign", (x,)), at_zero=0, exact=_absolute, nonnegative=True, squared=2,
             tensor=True, real_valued=True, letters=True, bracket=r"\left|{}\right|", sympy="Abs", values=lambda xp, a: xp.abs(a)),
    Function(name="sign", spellings=("sgn",), derivative=lambda e, x: e.ZERO, at_zero=0, values=lambda xp, a: xp.sign(a)),
    Function(name="erf", derivative=_erf, at_zero=0),
    Function(name="sigmoid", spellings=("logistic",), derivative=_sigmoid, to_sympy=lambda s, a: 1 / (1 + s.exp(-a))),
    Function(name="softplus", derivative=lambda e, x: e.call("sigmoid", (x,)), to_sympy=lambda s, a: s.log(1 + s.exp(a))),
    Function(name="relu", derivative=lambda e, x: e.call("heaviside", (x,)), at_zero=0, to_sympy=lambda s, a: s.Max(a, 0),
             values=lambda xp, a: xp.where(a <= 0, xp.zeros_like(a), a)),
    Function(name="heaviside", derivative=lambda e, x: e.ZERO, at_zero=0, sympy="Heaviside", to_sympy=lambda s, a: s.Heaviside(a, 0),
             values=_step),
    Function(name="atan2", arguments=2, chain=_atan2, spellings=("arctan2",), values=lambda xp, a, b: xp.atan2(a, b)),
    Function(name="min", arguments=2, shape=_scalars, spellings=("minimum",), chain=_extremum("min", "<", ">"), tensor=True, letters=True,
             any_more=True,
             latex=r"\min", sympy="Min", values=lambda xp, a, b: xp.minimum(a, b)),
    Function(name="max", arguments=2, shape=_scalars, spellings=("maximum",), chain=_extremum("max", ">", "<"), tensor=True, letters=True,
             any_more=True, latex=r"\max", sympy="Max", values=lambda xp, a, b: xp.maximum(a, b)),
)  # fmt: skip

REWRITTEN = (
    Function(name="cot", reciprocal_of="tan"), Function(name="sec", reciprocal_of="cos"), Function(name="csc", reciprocal_of="sin"),
    Function(name="coth", reciprocal_of="tanh"), Function(name="sech", reciprocal_of="cosh"), Function(name="csch", reciprocal_of="sinh"),
    Function(name="erfc", one_minus="erf"),
)  # fmt: skip
"""Functions that texts call and no tree holds."""
