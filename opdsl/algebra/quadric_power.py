r"""Powers of quadratic forms as few powers of linear forms: directions for Δ² and its relatives.

    (Σ D_i y_i²)^k = Σ_r w_r (v_r·y)^{2k}                                                                            (1)

============================  ==========================  ===========================================================
polynomial                    directions                  reference
============================  ==========================  ===========================================================
(y_1² + … + y_r²)²            3, 6, 11, 16, 22, 28        Reznick, Mem. AMS 463 (1992), ch. 9, for r = 2 … 7
the same, rational            4, 7, 12, 17, 22, 28        axes with sign vectors; sections of the Fano plane's 28
(y_1² + y_2²)^k               k + 1 (minimal)             Reznick: a regular polygon
(Σ D_i y_i²)²                 r² at most                  12 a²b² = (a+b)⁴ + (a−b)⁴ − 2a⁴ − 2b⁴
============================  ==========================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, product
from math import comb, isqrt

from opdsl.algebra.polynomial import Polynomial, Scalar
from opdsl.algebra.waring import Powers, collect

_BITS = 140
"""Irrational coordinates are rounded to this many binary places, far below any float."""

_PI = Fraction(31415926535897932384626433832795028841971693993751, 10**49)


def square_root(p: Polynomial) -> tuple[Fraction, Polynomial, int] | None:
    """(c, q, k) with p = c q^k, q quadratic and k ≥ 2, if p is of that form with a pure power in it."""
    order = p.degree()
    pure = next((m[0][0] for m, _ in p.terms if len(m) == 1), None)
    if order < 4 or order % 2 or pure is None or not p.is_homogeneous():
        return None
    k = order // 2
    leading = p.coefficient(((pure, order),))
    by_power: dict[int, Polynomial] = {}
    for m, c in p.terms:
        power = dict(m).get(pure, 0)
        if power >= order - 2:
            cofactor = tuple((axis, n) for axis, n in m if axis != pure)
            by_power[power] = by_power.get(power, Polynomial()) + Polynomial.from_terms({cofactor: c / leading})
    # With q = ξ_i² + ξ_i l + r:  q^k = ξ_i^{2k} + k ξ_i^{2k−1} l + ξ_i^{2k−2} (k r + C(k,2) l²) + …
    linear = by_power.get(order - 1, Polynomial()) / k
    rest = (by_power.get(order - 2, Polynomial()) - comb(k, 2) * linear**2) / k
    variable = Polynomial.variable(pure)
    root = variable**2 + variable * linear + rest
    return (leading, root, k) if len(root.terms) <= len(p.terms) and leading * root**k == p else None


def quadric_power(weights: Sequence[Fraction], k: int, *, rational: bool) -> tuple[Powers, bool] | None:
    """(Σ D_r y_r²)^k for k ≥ 2 in the variables y_0, y_1, …; the second result says whether it is exact.

    Directions with irrational coordinates are approximated to 2^-140 and only used where `rational` is off.
    """
    squares = [_rational_root(weight / weights[0]) for weight in weights]
    definite = all(weight / weights[0] > 0 for weight in weights)
    scale = weights[0] ** k
    if all(squares) or (definite and not rational):
        exact_scale = all(squares)
        roots = [root or _root(weight / weights[0]) for root, weight in zip(squares, weights, strict=True)]
        rows, exact = _sphere(len(weights), k, rational=rational)
        if rows and (exact_scale or len(rows) < len(weights) ** 2):
            form = [(Polynomial.linear([c * r for c, r in zip(v, roots, strict=True)]), scale * w) for v, w in rows]
            if exact and exact_scale:
                return collect(form, 2 * k), True
            return dict(form), False
    return (_weighted_square(weights), True) if k == 2 else None


def _weighted_square(weights: Sequence[Fraction]) -> Powers:
    """Σ D_i² y_i⁴ + Σ_{i<j} 2 D_i D_j y_i² y_j², by 12 a²b² = (a+b)⁴ + (a−b)⁴ − 2a⁴ − 2b⁴."""
    y = [Polynomial.variable(i) for i in range(len(weights))]
    terms = [(y[i], w * w) for i, w in enumerate(weights)]
    for i, j in combinations(range(len(weights)), 2):
        share = weights[i] * weights[j] / 6
        terms += [(y[i] + y[j], share), (y[i] - y[j], share), (y[i], -2 * share), (y[j], -2 * share)]
    return collect(terms, 4)


_Rows = list[tuple[tuple[Fraction, ...], Fraction]]


def _row(values: Sequence[Scalar], weight: Scalar) -> tuple[tuple[Fraction, ...], Fraction]:
    return tuple(Fraction(v) for v in values), Fraction(weight)


def _sphere(r: int, k: int, *, rational: bool) -> tuple[_Rows, bool]:
    """(Σ y_i²)^k in r variables: directions and weights, and whether they are exact; [] if nothing special is known."""
    if r == 2:
        return _polygon(k, rational=rational)
    if k != 2:
        return [], True
    if r == 3:
        return (_cube_and_axes(), True) if rational else (_icosahedron(), False)
    if r == 4 and not rational:
        # (±e_i, 1/√2) six, (±1, ±1, ±1, 0) four, e_4: the weights solve four equations for the four monomial types.
        half = _root(Fraction(1, 2))
        axes = [
            _row([*(s if i == j else 0 for i in range(3)), half], Fraction(1, 3)) for j in range(3) for s in (1, -1)
        ]
        cube = [_row([1, a, b, 0], Fraction(1, 12)) for a, b in product((1, -1), repeat=2)]
        return [*axes, *cube, _row([0, 0, 0, 1], Fraction(1, 2))], False
    if r == 5 and not rational:
        return _six_points(), False
    if r in (5, 6, 7):
        return _fano(r), True
    return [], True


def _polygon(k: int, *, rational: bool) -> tuple[_Rows, bool]:
    """Σ_j cos^{2k}(θ − jπ/n) is constant for n = k + 1: C(2k, k) n/4^k."""
    if k == 3:
        # Multiples of 45°: (1, ±1)/√2 has a rational sixth power.
        side = Fraction(4, 5)
        return [_row([1, 0], side), _row([0, 1], side), _row([1, 1], side / 8), _row([1, -1], side / 8)], True
    if rational:
        return [], True
    n = k + 1
    weight = Fraction(4**k, comb(2 * k, k) * n)
    return [_row(_cos_sin(_PI * j / n), weight) for j in range(n)], False


def _cube_and_axes() -> _Rows:
    axes = [_row([int(i == j) for i in range(3)], Fraction(2, 3)) for j in range(3)]
    return [*axes, *(_row([1, a, b], Fraction(1, 12)) for a, b in product((1, -1), repeat=2))]


def _icosahedron() -> _Rows:
    """The six diagonals (0, ±1, φ) and cyclic: 6 · 3/15 |v|⁴ |y|⁴."""
    golden = (1 + _root(Fraction(5))) / 2
    weight = Fraction(5, 6) / (1 + golden**2) ** 2
    rows = []
    for shift in range(3):
        for sign in (1, -1):
            values = [Fraction(0), Fraction(sign), golden]
            rows.append(_row([values[(i - shift) % 3] for i in range(3)], weight))
    return rows


def _six_points() -> _Rows:
    """On Σx_i = 0 in R⁶: (Σx²)² = 1/1296 Σ_6 (6x_i)⁴ + 1/48 Σ_10 (x_i + x_j + x_k − rest)⁴, in an orthonormal basis."""
    helmert = [
        [Fraction(1)] * n + [Fraction(-n)] + [Fraction(0)] * (5 - n) for n in range(1, 6)
    ]  # rows orthogonal, squared norm n(n+1)
    lengths = [_root(Fraction(n * (n + 1))) for n in range(1, 6)]

    def flat(v: Sequence[int]) -> list[Fraction]:
        return [
            sum(a * b for a, b in zip(row, v, strict=True)) / size for row, size in zip(helmert, lengths, strict=True)
        ]

    ones = [_row(flat([6 * (i == j) - 1 for i in range(6)]), Fraction(1, 1296)) for j in range(6)]
    splits = [(0, *pair) for pair in combinations(range(1, 6), 2)]
    return ones + [_row(flat([1 if i in s else -1 for i in range(6)]), Fraction(1, 48)) for s in splits]


def _fano(r: int) -> _Rows:
    """12 |y|⁴ = Σ (±y_i ± y_j ± y_k)⁴ over the 7 lines of the Fano plane, 28 directions, cut to r coordinates."""
    total: dict[tuple[Fraction, ...], Fraction] = {}
    for line in ((i, (i + 1) % 7, (i + 3) % 7) for i in range(7)):
        for a, b in product((1, -1), repeat=2):
            values = [Fraction(0)] * 7
            for axis, sign in zip(line, (1, a, b), strict=True):
                values[axis] = Fraction(sign)
            kept = tuple(values[:r])
            lead = next((v for v in kept if v), Fraction(0))
            if lead:
                kept = tuple(v * lead for v in kept)
                total[kept] = total.get(kept, Fraction(0)) + Fraction(1, 12)
    return list(total.items())


def _rational_root(value: Fraction) -> Fraction | None:
    if value <= 0:
        return None
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    return root if root * root == value else None


def _root(value: Fraction) -> Fraction:
    return Fraction(isqrt((value.numerator << 2 * _BITS) // value.denominator), 1 << _BITS)


def _cos_sin(angle: Fraction) -> tuple[Fraction, Fraction]:
    """Taylor series, rounded at the end; |angle| < 4 needs some sixty terms."""
    term, cosine, sine = Fraction(1), Fraction(0), Fraction(0)
    for n in range(64):
        signed = -term if n % 4 > 1 else term
        if n % 2:
            sine += signed
        else:
            cosine += signed
        term = Fraction(round(term * angle / (n + 1) * (1 << 2 * _BITS)), 1 << 2 * _BITS)
    return Fraction(round(cosine * (1 << _BITS)), 1 << _BITS), Fraction(round(sine * (1 << _BITS)), 1 << _BITS)
