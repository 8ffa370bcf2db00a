r"""Quadratic forms as sums of squares, exactly (Lagrange's reduction, the rational LDLᵀ).

q(ξ) = ξᵀAξ = Σ_r D_r (l_r·ξ)²  with rank(A) many terms and D_r of either sign; without square roots everything
stays rational.
"""

from __future__ import annotations

from fractions import Fraction
from math import gcd, lcm

from opdsl.algebra.polynomial import Polynomial
from opdsl.algebra.work import spend

_DENSE = 12
"""Fuller matrices than this are eliminated over the integers."""

_PLAIN = 16
"""Integer directions up to this size read better than fractions; larger ones are scaled to 1: floats hold them."""


def normalised(form: Polynomial) -> tuple[Polynomial, Fraction]:
    """(direction, scale) with form = scale · direction, for a nonzero linear form.

    The direction has coprime integer coefficients if those stay small, else largest coefficient 1; the first one
    is positive.
    """
    spend(len(form.terms))
    numerators = gcd(*(c.numerator for _, c in form.terms))
    scale = Fraction(numerators, lcm(*(c.denominator for _, c in form.terms)))
    largest = max(abs(c) for _, c in form.terms)
    if largest / scale > _PLAIN:
        scale = largest
    if form.terms[0][1] < 0:
        scale = -scale
    return form / scale, scale


_Rows = dict[int, dict[int, Fraction]]


def _eliminate_dense(rows: _Rows) -> tuple[list[tuple[Fraction, Polynomial]], _Rows]:
    """Squares from nonzero diagonal pivots by fraction-free elimination (Bareiss), and what is left of the form.

    The remaining form is S/d with an integer matrix S; a pivot a = S_pp takes off r rᵀ/(a d), r = row p, and
    S ← (a S − r rᵀ)/d divides exactly, d ← a. No gcd is ever taken: that is what makes dense fractions slow.
    """
    places = sorted(rows)
    common = lcm(*(c.denominator for row in rows.values() for c in row.values()))
    matrix = {i: {j: int(rows[i].get(j, 0) * common) for j in places} for i in places}
    result: list[tuple[Fraction, Polynomial]] = []
    previous = 1
    while (pivot := next((i for i in places if matrix[i][i]), None)) is not None:
        row = matrix.pop(pivot)
        a = row[pivot]
        direction, scale = normalised(Polynomial.linear(row))
        result.append((scale**2 / (a * previous * common), direction))
        places.remove(pivot)
        for index, i in enumerate(places):
            del matrix[i][pivot]
            for j in places[index:]:
                matrix[i][j] = matrix[j][i] = (a * matrix[i][j] - row[i] * row[j]) // previous
        previous = a
    return result, {i: {j: Fraction(c, previous * common) for j, c in matrix[i].items() if c} for i in places}


def sum_of_squares(form: Polynomial) -> tuple[tuple[Fraction, Polynomial], ...]:
    """Write a quadratic form as Σ D_r l_r², with linearly independent l_r (rank many).

    Args:
        form: homogeneous of degree 2 (or zero); indefinite and rank-deficient forms are fine.

    Returns:
        Pairs (D_r, l_r).

    Raises:
        ValueError: if a term is not quadratic.

    Example:
        >>> x, y = Polynomial.variable(0), Polynomial.variable(1)
        >>> [(str(weight), str(square)) for weight, square in sum_of_squares(x * y)]
        [('1/4', 'ξ_0 + ξ_1'), ('-1/4', 'ξ_0 - ξ_1')]
    """
    if form and (form.degree() != 2 or not form.is_homogeneous()):
        raise ValueError(f"a quadratic form has degree 2 in every term, got {form}")
    rows: dict[int, dict[int, Fraction]] = {}
    for monomial, coefficient in form.terms:
        i, j = monomial[0][0], monomial[-1][0]
        rows.setdefault(i, {})[j] = coefficient if i == j else coefficient / 2
        rows.setdefault(j, {})[i] = rows[i][j]
    result: list[tuple[Fraction, Polynomial]] = []
    if len(rows) > _DENSE and 2 * sum(map(len, rows.values())) > len(rows) ** 2:
        result, rows = _eliminate_dense(rows)

    def subtract(weight: Fraction, square: dict[int, Fraction]) -> None:
        direction, scale = normalised(Polynomial.linear(square))
        result.append((weight * scale**2, direction))
        for i, a in square.items():
            row = rows[i]
            for j, b in square.items():
                rest = row.get(j, Fraction(0)) - weight * a * b
                if rest:
                    row[j] = rest
                else:
                    row.pop(j, None)

    while rows := {i: row for i, row in rows.items() if row}:
        diagonal = [i for i, row in rows.items() if i in row]
        if diagonal:
            # The shortest row causes the least fill-in: an arrow-shaped form stays sparse.
            pivot = min(diagonal, key=lambda i: (len(rows[i]), i))
            row = rows[pivot]
            subtract(1 / row[pivot], dict(row))
        else:
            # No squares at all: 2a ξ_i ξ_j + 2 ξ_i l + 2 ξ_j m = 2 X Y / a + (rest) with X = a ξ_i + m, Y = a ξ_j + l.
            i = min(rows, key=lambda i: (len(rows[i]), i))
            j = min(rows[i], key=lambda j: (len(rows[j]), j))
            a = rows[i][j]
            first, second = dict(rows[j]), dict(rows[i])
            total = {k: first.get(k, Fraction(0)) + second.get(k, Fraction(0)) for k in first | second}
            difference = {k: first.get(k, Fraction(0)) - second.get(k, Fraction(0)) for k in first | second}
            subtract(1 / (2 * a), {k: v for k, v in total.items() if v})
            subtract(-1 / (2 * a), {k: v for k, v in difference.items() if v})
    return tuple(result)
