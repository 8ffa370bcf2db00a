r"""Taylor coefficients of special functions: the gamma family, zeta, incomplete gamma and beta functions, Bessel functions.

Scaled coefficients as in `taylor`. Values come from the framework (`Functions.special`), everything else from differential
equations; near the singular point of Bessel's equation from power series.
"""

from __future__ import annotations

import math
from typing import Any

from opdsl.jets.elementary import (
    ELEMENTARY,
    Elementary,
    Functions,
    Series,
    exp,
    integrate,
    linear,
    log,
    log1p,
    plus,
    product,
    reciprocal,
    scale,
    times,
)

_NEAR = 12.0
"""Below this modulus Bessel functions of the first kind are summed: the recurrence divides by x, and torch's own values of J are
good to six digits only around 5. Above it the alternating sum would lose more than four digits."""


def polygamma(n: Any) -> Elementary:
    """ψ^(n): each is the derivative of the one before, c_k = ψ^(n+k)/k!; n a number or an array of the point's shape."""

    def coefficients(f: Functions, h0: Any, order: int) -> Series:
        return [f.special("polygamma")(n + k, h0) / math.factorial(k) for k in range(order + 1)]

    return Elementary("polygamma", None, coefficients)


def _after(name: str, value: Any, start: int) -> Elementary:
    def coefficients(f: Functions, h0: Any, order: int) -> Series:
        psi = f.special("polygamma")
        return [value(f)(h0), *(psi(start + k, h0) / math.factorial(k) for k in range(1, order + 1))]

    return Elementary(name, None, coefficients)


def hurwitz_zeta(s: Any) -> Elementary:
    """ζ(s, q) as a function of q: c_k = (−1)^k binom(s + k − 1, k) ζ(s + k, q)."""

    def coefficients(f: Functions, h0: Any, order: int) -> Series:
        out: Series = []
        factor: Any = 1.0
        for k in range(order + 1):
            out.append(factor * f.special("zeta")(s + k, h0))
            factor = -factor * (s + k) / (k + 1)
        return out

    return Elementary("zeta", None, coefficients)


def incomplete_gamma(a: Any, upper: bool) -> Elementary:
    """P(a, h), or Q = 1 − P: P' = h^(a−1) e^(−h)/Γ(a)."""

    def series(f: Functions, h: Series) -> Series:
        logs = [times(a - 1.0, t) for t in log(f, h)]
        exponent = [plus(t, scale(s, -1.0)) for t, s in zip(logs, h, strict=True)]
        exponent[0] = exponent[0] - f.special("lgamma")(a)
        rate = linear(exp(f, exponent), -1.0 if upper else 1.0)
        return integrate(f.special("gammaincc" if upper else "gammainc")(a, h[0]), h, lambda _y, k: rate[k])

    return Elementary("gammaincc" if upper else "gammainc", series)


def incomplete_beta(a: Any, b: Any) -> Elementary:
    """I_h(a, b): I' = h^(a−1) (1 − h)^(b−1)/B(a, b)."""

    def series(f: Functions, h: Series) -> Series:
        left, right = log(f, h), log1p(f, linear(h, -1.0))
        exponent = [plus(times(a - 1.0, s), times(b - 1.0, t)) for s, t in zip(left, right, strict=True)]
        gamma = f.special("lgamma")
        exponent[0] = exponent[0] - (gamma(a) + gamma(b) - gamma(a + b))
        rate = exp(f, exponent)
        return integrate(f.special("betainc")(a, b, h[0]), h, lambda _y, k: rate[k])

    return Elementary("betainc", series)


def exponential_integral(n: int) -> Elementary:
    """E_n: E_n' = −E_(n−1), E_0 = e^(−h)/h."""

    def series(f: Functions, h: Series) -> Series:
        y = product(exp(f, linear(h, -1.0)), reciprocal(f, h))
        for m in range(1, n + 1):
            rate = linear(y, -1.0)
            y = integrate(f.special("expn")(m, h[0]), h, lambda _y, k, rate=rate: rate[k])  # type: ignore[misc]
        return y

    return Elementary(f"expn({n})", series)


# ------------------------------------------------------------------------------------------------------------ Bessel
#
# With a and b of orders 0 and 1:  a' = p b,  x b' = q x a − b,  where (p, q) = (−1, 1) for J and Y, (1, 1) for I and (−1, −1)
# for K. A factor e^(s x) adds s a and s x b.

_SIGNS = {"j": (-1.0, 1.0), "y": (-1.0, 1.0), "i": (1.0, 1.0), "k": (-1.0, -1.0)}


def bessel(kind: str, order: int, scaled: bool = False) -> Elementary:
    """J, Y, I, K of order 0 or 1 (``kind`` a lower-case letter); scaled: e^(−|x|) I and e^x K.

    Scaled I is not smooth at 0, where |x| counts as if its derivative were 0.
    """
    suffix = "e" if scaled else ""
    p, q = _SIGNS[kind]

    def coefficients(f: Functions, h0: Any, count: int) -> Series:
        s = 0.0 if not scaled else 1.0 if kind == "k" else -f.xp.sign(h0)
        regular = kind in "ji"
        small = f.xp.abs(h0) < _NEAR
        x = f.xp.where(small, f.xp.full_like(h0, _NEAR), h0) if regular else h0
        a: Series = [f.special(f"bessel_{kind}0{suffix}")(x)]
        b: Series = [f.special(f"bessel_{kind}1{suffix}")(x)]
        for k in range(count):
            down: tuple[Any, Any] = (a[k - 1], b[k - 1]) if k else (0.0, 0.0)
            a.append((s * a[k] + p * b[k]) / (k + 1))
            b.append(((s * b[k] + q * a[k]) + (s * down[1] + q * down[0] - (k + 1) * b[k]) / x) / (k + 1))
        far = a if order == 0 else b
        if not regular:
            return far
        near = _power_series(f, f.xp.where(small, h0, f.xp.zeros_like(h0)), order, q * p, count)
        if scaled:
            decay = exp(f, [s * f.xp.where(small, h0, f.xp.zeros_like(h0)), s, *[None] * count][: count + 1])
            near = product(near, decay)
        return [f.xp.where(small, n, t) for n, t in zip(near, far, strict=True)]

    return Elementary(f"bessel_{kind}{order}{suffix}", None, coefficients)


def _power_series(f: Functions, x: Any, order: int, sign: float, count: int) -> Series:
    """c_k of Σ_m sign^m (x/2)^(2m+ν)/(m! (m+ν)!), by Horner's rule in x²; ν is ``order``."""
    out: Series = []
    for k in range(count + 1):
        first = max(0, (k - order + 1) // 2)
        total: Any = f.xp.zeros_like(x)
        for m in range(first + 32, first - 1, -1):
            power = 2 * m + order
            total = total * x * x + sign**m * math.comb(power, k) / (2.0**power * math.factorial(m) * math.factorial(m + order))
        # What is left of x^(2m+ν−k) at m = first.
        out.append(total * x if (order - k) % 2 else total)
    return out


def _spherical(f: Functions, h0: Any, count: int) -> Series:
    """sin(x)/x."""
    inner = ELEMENTARY["sinc"].expand(f, h0 / math.pi, count)
    return [scale(c, math.pi**-k) for k, c in enumerate(inner)]


SPECIAL: dict[str, Elementary] = {
    "lgamma": _after("lgamma", lambda f: f.special("lgamma"), -1),
    "digamma": _after("digamma", lambda f: f.special("digamma"), 0),
    "spherical_bessel_j0": Elementary("spherical_bessel_j0", None, _spherical),
    **{f"bessel_{kind}{order}": bessel(kind, order) for kind in _SIGNS for order in (0, 1)},
    **{f"bessel_{kind}{order}e": bessel(kind, order, True) for kind in "ik" for order in (0, 1)},
}
