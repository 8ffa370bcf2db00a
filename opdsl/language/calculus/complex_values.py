"""Complex values as pairs of real pointwise expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from opdsl.language import constructors
from opdsl.language.constructors import ONE, ZERO, add, call, divide, mul, negate, number, power
from opdsl.language.functions import FUNCTIONS
from opdsl.language.residual import Number, Pointwise


@dataclass(frozen=True, slots=True)
class Pair:
    """re + i im."""

    re: Pointwise
    im: Pointwise


Value = Pointwise | Pair


def as_pair(value: Value) -> Pair:
    """Lift a real value."""
    return value if isinstance(value, Pair) else Pair(value, ZERO)


def real(value: Value) -> Pointwise:
    """The real part."""
    return value.re if isinstance(value, Pair) else value


def imaginary(value: Value) -> Pointwise:
    """The imaginary part."""
    return value.im if isinstance(value, Pair) else ZERO


def v_map(function: Callable[[Pointwise], Pointwise], value: Value) -> Value:
    """Apply a real-linear function to both parts: a derivative, a sum over an index."""
    return Pair(function(value.re), function(value.im)) if isinstance(value, Pair) else function(value)


def v_add(*values: Value) -> Value:
    """Sum."""
    if any(isinstance(v, Pair) for v in values):
        return Pair(add(*(real(v) for v in values)), add(*(imaginary(v) for v in values)))
    return add(*(real(v) for v in values))


def v_mul(*values: Value) -> Value:
    """Product."""
    if not any(isinstance(v, Pair) for v in values):
        return mul(*(real(v) for v in values))
    result = Pair(ONE, ZERO)
    for value in values:
        b = as_pair(value)
        result = Pair(
            add(mul(result.re, b.re), negate(mul(result.im, b.im))), add(mul(result.re, b.im), mul(result.im, b.re))
        )
    return result


def v_negate(value: Value) -> Value:
    """Change the sign."""
    return v_map(negate, value)


def v_conj(value: Value) -> Value:
    """Complex conjugate."""
    return Pair(value.re, negate(value.im)) if isinstance(value, Pair) else value


def square_modulus(value: Value) -> Pointwise:
    """|z|² = re² + im²."""
    two = number(2)
    return add(power(value.re, two), power(value.im, two)) if isinstance(value, Pair) else power(value, two)


def v_divide(top: Value, bottom: Value) -> Value:
    """Quotient; a complex denominator is multiplied by its conjugate."""
    if isinstance(bottom, Pair):
        below = square_modulus(bottom)
        return v_map(lambda part: divide(part, below), v_mul(top, v_conj(bottom)))
    return v_map(lambda part: divide(part, bottom), top)


def v_power(base: Value, exponent: Pointwise) -> Value:
    """Power; a complex base takes whole exponents (the ranks have checked it)."""
    if not isinstance(base, Pair):
        return power(base, exponent)
    assert isinstance(exponent, Number)
    count = int(Fraction(exponent.value))
    result: Value = ONE
    for _ in range(abs(count)):
        result = v_mul(result, base)
    return v_divide(ONE, result) if count < 0 else result


def v_call(name: str, value: Value) -> Value:
    """An elementary function; entire ones are split into real and imaginary part."""
    if not isinstance(value, Pair):
        return call(name, (value,))
    parts = FUNCTIONS[name].parts
    assert parts is not None, name
    return Pair(*parts(constructors, value.re, value.im))
