r"""Taylor coefficients of elementary functions, by recurrences from their differential equations.

Everything here is *scaled*: a series h = (h_0, h_1, …, h_K) stands for Σ h_k t^k, so h_k = h^{(k)}/k!. A function is one
map from series to series. From y' = z h' follows

    k y_k = Σ_{i=1..k} i h_i z_{k-i},          z = σ'(h),                                     (1)

and z is a polynomial in y and h for almost every function of analysis (tanh: z = 1 − y²), so K coefficients cost O(K²)
products (Griewank & Walther, *Evaluating Derivatives*, 2nd ed., ch. 13, table 13.2) instead of the O(e^√K) terms of Faà di
Bruno's formula. The coefficients c_k = σ^{(k)}(h_0)/k! of σ itself are the series of σ on h = (h_0, 1, 0, …).

A term of a series is an array, a Python number, or None for an exact zero; zeros and ones cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Term = Any
"""An array, a Python number, or None (exactly zero)."""

Series = list[Term]


class Functions(Protocol):
    """What a series needs of a framework; `opdsl.jets.array_ops.ArrayOps` fits."""

    xp: Any

    def special(self, name: str) -> Callable[..., Any]: ...


@dataclass(frozen=True, slots=True)
class Elementary:
    """A function σ of one variable.

    Args:
        name: as users and the literature write it.
        series: Taylor coefficients of σ(h) from those of h, to the same length. None where only ``coefficients`` is known.
        coefficients: c_0 … c_K of σ at h_0; derived from ``series`` where None.
    """

    name: str
    series: Callable[[Functions, Series], Series] | None = None
    coefficients: Callable[[Functions, Any, int], Series] | None = None

    def expand(self, f: Functions, h0: Any, order: int) -> Series:
        """c_0 … c_order with σ(h_0 + n) = Σ c_k n^k."""
        if self.coefficients is not None:
            return self.coefficients(f, h0, order)
        assert self.series is not None
        return self.series(f, [h0, 1.0, *[None] * (order - 1)][: order + 1])


# ------------------------------------------------------------------------------------------------ arithmetic of terms


def plus(a: Term, b: Term) -> Term:
    return b if a is None else a if b is None else a + b


def times(a: Term, b: Term) -> Term:
    if a is None or b is None:
        return None
    if isinstance(a, float) and a == 1.0:
        return b
    if isinstance(b, float) and b == 1.0:
        return a
    return a * b


def scale(a: Term, c: float) -> Term:
    return None if a is None else a if c == 1.0 else a * c


def convolve(a: Sequence[Term], b: Sequence[Term], k: int) -> Term:
    """Coefficient k of the product of two series; half the products where both are the same series."""
    total: Term = None
    if a is b:
        for i in range((k + 1) // 2):
            total = plus(total, times(a[i], a[k - i]))
        total = scale(total, 2.0)
        return plus(total, times(a[k // 2], a[k // 2])) if k % 2 == 0 else total
    for i in range(k + 1):
        total = plus(total, times(a[i], b[k - i]))
    return total


def product(a: Series, b: Series) -> Series:
    return [convolve(a, b, k) for k in range(len(a))]


def linear(a: Series, c: float, constant: float = 0.0) -> Series:
    """c·a + constant."""
    head = a[0] * c if c != 1.0 else a[0]
    return [head + constant if constant else head, *(scale(t, c) for t in a[1:])]


def add(a: Series, b: Series) -> Series:
    return [plus(x, y) for x, y in zip(a, b, strict=True)]


def integrate(y0: Term, h: Series, rate: Callable[[Series, int], Term]) -> Series:
    """Solve (1): ``rate(y, k)`` gives z_k from y_0 … y_k."""
    y, z = [y0], []
    for k in range(1, len(h)):
        z.append(rate(y, k - 1))
        total: Term = None
        for i in range(1, k + 1):
            if h[i] is not None and z[k - i] is not None:
                total = plus(total, scale(times(h[i], z[k - i]), i / k))
        y.append(total)
    return y


def _given(z: Series) -> Callable[[Series, int], Term]:
    return lambda _y, k: z[k]


# ------------------------------------------------------------------------------------------------------- the functions


def exp(f: Functions, h: Series) -> Series:
    return integrate(f.xp.exp(h[0]), h, lambda y, k: y[k])


def expm1(f: Functions, h: Series) -> Series:
    return [f.xp.expm1(h[0]), *exp(f, h)[1:]]


def reciprocal(f: Functions, h: Series) -> Series:
    # h y = 1, coefficient k: h_0 y_k = −Σ_{i≥1} h_i y_{k−i}
    y: Series = [1.0 / h[0]]
    for k in range(1, len(h)):
        total: Term = None
        for i in range(1, k + 1):
            total = plus(total, times(h[i], y[k - i]))
        y.append(None if total is None else -(y[0] * total))
    return y


def log(f: Functions, h: Series) -> Series:
    return integrate(f.xp.log(h[0]), h, _given(reciprocal(f, h)))


def log1p(f: Functions, h: Series) -> Series:
    return integrate(f.xp.log1p(h[0]), h, _given(reciprocal(f, linear(h, 1.0, 1.0))))


def _sin_cos(f: Functions, h: Series, sine: Any, cosine: Any, sign: float) -> tuple[Series, Series]:
    """s' = c h', c' = sign · s h' (sign −1: circular, +1: hyperbolic)."""
    s, c = [sine(h[0])], [cosine(h[0])]
    for k in range(1, len(h)):
        up: Term = None
        down: Term = None
        for i in range(1, k + 1):
            if h[i] is not None:
                up = plus(up, scale(times(h[i], c[k - i]), i / k))
                down = plus(down, scale(times(h[i], s[k - i]), sign * i / k))
        s.append(up)
        c.append(down)
    return s, c


def sin(f: Functions, h: Series) -> Series:
    return _sin_cos(f, h, f.xp.sin, f.xp.cos, -1.0)[0]


def cos(f: Functions, h: Series) -> Series:
    return _sin_cos(f, h, f.xp.sin, f.xp.cos, -1.0)[1]


def sinh(f: Functions, h: Series) -> Series:
    return _sin_cos(f, h, f.xp.sinh, f.xp.cosh, 1.0)[0]


def cosh(f: Functions, h: Series) -> Series:
    return _sin_cos(f, h, f.xp.sinh, f.xp.cosh, 1.0)[1]


def _one_plus_square(y: Series, k: int, c: float) -> Term:
    square = scale(convolve(y, y, k) if k else y[0] * y[0], c)
    return square + 1.0 if k == 0 else square


def tan(f: Functions, h: Series) -> Series:
    return integrate(f.xp.tan(h[0]), h, lambda y, k: _one_plus_square(y, k, 1.0))


def tanh(f: Functions, h: Series) -> Series:
    return integrate(f.xp.tanh(h[0]), h, lambda y, k: _one_plus_square(y, k, -1.0))


def sigmoid(f: Functions, h: Series) -> Series:
    # z = y − y² = y (1 − y); for h → ∞ the factor 1 − y cancels, which costs only what is far below the value's ulp.
    return integrate(f.special("sigmoid")(h[0]), h, lambda y, k: y[k] - convolve(y, y, k))


def softplus(f: Functions, h: Series) -> Series:
    return integrate(f.special("softplus")(h[0]), h, _given(sigmoid(f, h)))


def log_sigmoid(f: Functions, h: Series) -> Series:
    return linear(softplus(f, linear(h, -1.0)), -1.0)


def _root(f: Functions, h: Series, exponent: float, y0: Any) -> Series:
    """h^r from h y' = r y h'; needs h_0 ≠ 0."""
    y: Series = [y0]
    inverse = 1.0 / h[0]
    for k in range(1, len(h)):
        total: Term = None
        for i in range(1, k + 1):
            total = plus(total, scale(times(h[i], y[k - i]), (i * exponent - (k - i)) / k))
        y.append(times(total, inverse))
    return y


def asin(f: Functions, h: Series) -> Series:
    return integrate(f.xp.asin(h[0]), h, _given(_inverse_root(f, linear(product(h, h), -1.0, 1.0))))


def acos(f: Functions, h: Series) -> Series:
    return [f.xp.acos(h[0]), *linear(asin(f, h), -1.0)[1:]]


def atan(f: Functions, h: Series) -> Series:
    return integrate(f.xp.atan(h[0]), h, _given(reciprocal(f, linear(product(h, h), 1.0, 1.0))))


def asinh(f: Functions, h: Series) -> Series:
    return integrate(f.xp.asinh(h[0]), h, _given(_inverse_root(f, linear(product(h, h), 1.0, 1.0))))


def acosh(f: Functions, h: Series) -> Series:
    return integrate(f.xp.acosh(h[0]), h, _given(_inverse_root(f, linear(product(h, h), 1.0, -1.0))))


def atanh(f: Functions, h: Series) -> Series:
    return integrate(f.xp.atanh(h[0]), h, _given(reciprocal(f, linear(product(h, h), -1.0, 1.0))))


def _inverse_root(f: Functions, w: Series) -> Series:
    return _root(f, w, -0.5, 1.0 / f.xp.sqrt(w[0]))


def _gauss(f: Functions, h: Series, factor: float) -> Series:
    return linear(exp(f, linear(product(h, h), -1.0)), factor)


def erf(f: Functions, h: Series) -> Series:
    return integrate(f.special("erf")(h[0]), h, _given(_gauss(f, h, 2 / math.sqrt(math.pi))))


def erfc(f: Functions, h: Series) -> Series:
    return integrate(f.special("erfc")(h[0]), h, _given(_gauss(f, h, -2 / math.sqrt(math.pi))))


def erfinv(f: Functions, h: Series) -> Series:
    # y' = (√π/2) e^{y²} h': the rate depends on y, so its series grows along with y.
    def rate(y: Series, k: int) -> Term:
        return exp(f, product(y, y))[k] * (math.sqrt(math.pi) / 2)

    return integrate(f.special("erfinv")(h[0]), h, rate)


def ndtr(f: Functions, h: Series) -> Series:
    """Φ, the normal distribution function."""
    return linear(erfc(f, linear(h, -1 / math.sqrt(2.0))), 0.5)


def log_ndtr(f: Functions, h: Series) -> Series:
    # z = φ(h)/Φ(h) obeys z' = −z (h + z) h'; its start is formed in logarithms, for Φ underflows.
    y0 = f.special("log_ndtr")(h[0])
    z0 = f.xp.exp(-0.5 * h[0] * h[0] - y0) / math.sqrt(2 * math.pi)
    z = integrate(z0, h, lambda z, k: -(convolve(z, h[: k + 1], k) + convolve(z, z, k)))
    return integrate(y0, h, _given(z))


def ndtri(f: Functions, h: Series) -> Series:
    # Φ(y) = h: y' = √(2π) e^{y²/2} h'
    def rate(y: Series, k: int) -> Term:
        return exp(f, linear(product(y, y), 0.5))[k] * math.sqrt(2 * math.pi)

    return integrate(f.special("ndtri")(h[0]), h, rate)


def erfcx(f: Functions, h: Series) -> Series:
    """e^{h²} erfc(h)."""

    def rate(y: Series, k: int) -> Term:
        term = scale(convolve(h[: k + 1], y, k), 2.0)
        return term - 2 / math.sqrt(math.pi) if k == 0 else term

    return integrate(f.special("erfcx")(h[0]), h, rate)


def silu(f: Functions, h: Series) -> Series:
    return product(h, sigmoid(f, h))


def gelu(f: Functions, h: Series) -> Series:
    """h Φ(h), with Φ the normal distribution function."""
    return product(h, linear(erfc(f, linear(h, -1 / math.sqrt(2.0))), 0.5))


def cbrt(f: Functions, h: Series) -> Series:
    """The real cube root, negative arguments included."""
    return _root(f, h, 1 / 3, f.special("cbrt")(h[0]))


def _sinc_coefficients(f: Functions, h0: Any, order: int) -> Series:
    """c_k of sin(πx)/(πx), also at the removable singularity.

    The recurrence x c_k = s_k − c_{k−1} loses digits like k!/|πx|^k; below |πx| = 4 the power series takes its place.
    """
    z = h0 * math.pi
    small = f.xp.abs(z) < 4.0
    near = f.xp.where(small, z, f.xp.zeros_like(z))
    far = f.xp.where(small, f.xp.full_like(z, 4.0), z)
    waves = sin(f, [far, 1.0, *[None] * (order - 1)][: order + 1])
    out: Series = []
    tail: Term = 0.0
    for k in range(order + 1):
        tail = (waves[k] - tail) / far
        series: Term = None
        first = (k + 1) // 2
        for j in range(first + 17, first - 1, -1):
            coefficient = (-1) ** j * math.comb(2 * j, k) / math.factorial(2 * j + 1)
            series = plus(coefficient, times(series, near * near))
        if k % 2:
            series = series * near
        out.append(scale(f.xp.where(small, series, tail), math.pi**k))
    return out


def gelu_tanh(f: Functions, h: Series) -> Series:
    """½ h (1 + tanh(√(2/π)(h + 0.044715 h³))), the usual approximation of `gelu`."""
    cubic = product(product(h, h), h)
    inner = linear(add(h, linear(cubic, 0.044715)), math.sqrt(2 / math.pi))
    return product(h, linear(tanh(f, inner), 0.5, 0.5))


def square(f: Functions, h: Series) -> Series:
    return product(h, h)


ELEMENTARY: dict[str, Elementary] = {
    name: Elementary(name, series)
    for name, series in {
        "exp": exp, "expm1": expm1, "reciprocal": reciprocal, "log": log, "log1p": log1p, "square": square, "cbrt": cbrt,
        "sin": sin, "cos": cos, "tan": tan, "sinh": sinh, "cosh": cosh, "tanh": tanh,
        "asin": asin, "acos": acos, "atan": atan, "asinh": asinh, "acosh": acosh, "atanh": atanh,
        "sigmoid": sigmoid, "softplus": softplus, "log_sigmoid": log_sigmoid, "silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh,
        "erf": erf, "erfc": erfc, "erfinv": erfinv, "erfcx": erfcx, "ndtr": ndtr, "ndtri": ndtri, "log_ndtr": log_ndtr,
        "exp2": lambda f, h: exp(f, linear(h, math.log(2.0))),
        "log2": lambda f, h: linear(log(f, h), 1 / math.log(2.0)),
        "log10": lambda f, h: linear(log(f, h), 1 / math.log(10.0)),
    }.items()
}  # fmt: skip


def power(exponent: float) -> Elementary:
    """x ↦ x^r for a constant real r; integer powers are exact, also at 0 and for negative bases.

    c_k = binom(r, k) h_0^{r−k}; k > r gives exactly 0 for a non-negative integer r, so no 0·∞ arises at h_0 = 0.
    """
    r = float(exponent)
    if r == 2.0:
        return ELEMENTARY["square"]
    if r == -1.0:
        return ELEMENTARY["reciprocal"]

    def coefficients(f: Functions, h0: Any, order: int) -> Series:
        out: Series = []
        binomial = 1.0
        for k in range(order + 1):
            if binomial == 0.0:
                out.append(None)
            else:
                rest = r - k
                out.append(scale(_real_power(f, h0, rest), binomial) if rest != 0.0 else binomial)
            binomial *= (r - k) / (k + 1)
        if not hasattr(out[0], "shape"):  # x ** 0: keep the value an array
            out[0] = f.xp.ones_like(h0)
        return out

    return Elementary(f"power({exponent:g})", None, coefficients)


def exponential(base: float) -> Elementary:
    """x ↦ b^x for a constant b ≥ 0; a negative one has values at integers and no derivatives (nan)."""
    rate = math.log(base) if base > 0 else 0.0 if base == 0 else math.nan

    def series(f: Functions, h: Series) -> Series:
        return integrate(base ** h[0], h, lambda y, k: scale(y[k], rate))

    return Elementary(f"exponential({base:g})", series)


def _real_power(f: Functions, base: Any, exponent: float) -> Any:
    if exponent == 1.0:
        return base
    if exponent == 0.5:
        return f.xp.sqrt(base)
    if exponent == -0.5:
        return 1.0 / f.xp.sqrt(base)
    if exponent == int(exponent):
        return _integer_power(base, int(exponent))
    return base**exponent


def _integer_power(base: Any, exponent: int) -> Any:
    """By repeated squaring: exact for small integers and defined for negative bases on every framework."""
    if exponent < 0:
        return 1.0 / _integer_power(base, -exponent)
    result: Any = None
    while exponent:
        if exponent & 1:
            result = base if result is None else result * base
        exponent >>= 1
        if exponent:
            base = base * base
    return result


def polynomial(name: str, coefficients: Sequence[float]) -> Elementary:
    """Σ a_j x^j, by Horner's scheme in series arithmetic."""

    def series(f: Functions, h: Series) -> Series:
        y: Series = [f.xp.full_like(h[0], coefficients[-1]), *[None] * (len(h) - 1)]
        for a in reversed(coefficients[:-1]):
            y = linear(product(y, h), 1.0, a)
        return y

    return Elementary(name, series)


ELEMENTARY["sinc"] = Elementary("sinc", None, _sinc_coefficients)
ELEMENTARY["sqrt"] = power(0.5)
ELEMENTARY["rsqrt"] = power(-0.5)
