"""Directional sums: exact equality with the polynomial, counts, and the values printed in the literature."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, product
from math import comb, prod

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from test_symbol import polynomials

from opdsl.algebra.directions import directional_sum, directional_sums, multi_directional
from opdsl.algebra.polynomial import Polynomial
from opdsl.algebra.quadratic_forms import sum_of_squares
from opdsl.algebra.quadric_power import square_root
from opdsl.algebra.waring import Powers, grid, guw_coefficient, guw_sum, monomial_sum, polarised

x, y, z, w = (Polynomial.variable(i) for i in range(4))
laplacian = Polynomial.laplacian


def monomial(alpha: Sequence[int]) -> Polynomial:
    return prod((Polynomial.variable(i) ** a for i, a in enumerate(alpha)), start=Polynomial.constant(1))


def expand(powers: Powers, order: int) -> Polynomial:
    return sum((weight * form**order for form, weight in powers.items()), Polynomial())


def homogeneous(dim: int, degree: int, size: int = 4) -> st.SearchStrategy[Polynomial]:
    axes = st.lists(st.integers(0, dim - 1), min_size=degree, max_size=degree)
    terms = st.lists(st.tuples(axes, st.fractions(-4, 4, max_denominator=4)), min_size=1, max_size=size)
    return terms.map(lambda pairs: sum((c * Polynomial.from_axes(a) for a, c in pairs), Polynomial())).filter(bool)


def largest(p: Polynomial) -> float:
    return max((abs(float(c)) for _, c in p.terms), default=0.0)


# ---------------------------------------------------------------------- Griewank, Utke, Walther

GUW = {
    (2, 2): {(4, 0): "13/192", (3, 1): "-1/3", (2, 2): "5/8", (1, 3): "-1/3", (0, 4): "13/192"},
    (2, 1): {(3, 0): "-5/27", (2, 1): "2/3", (1, 2): "-1/3", (0, 3): "2/27"},
    (3, 1): {(4, 0): "-13/128", (3, 1): "3/8", (2, 2): "-9/32", (1, 3): "1/8", (0, 4): "-3/128"},
    (1, 1): {(2, 0): "-1/4", (1, 1): "1", (0, 2): "-1/4"},
}


@pytest.mark.parametrize(("i", "j", "value"), [(i, j, v) for i, row in GUW.items() for j, v in row.items()])
def test_guw_values(i: tuple[int, int], j: tuple[int, int], value: str) -> None:
    assert guw_coefficient(i, j) == Fraction(value)


def test_guw_refuses_unequal_orders() -> None:
    with pytest.raises(ValueError, match="equal positive sum"):
        guw_coefficient((2, 1), (1, 1))


ALPHAS = [
    alpha
    for n in (1, 2, 3, 4)
    for alpha in product(range(1, 5), repeat=n)
    if sum(alpha) <= 6 and list(alpha) == sorted(alpha, reverse=True)
]


@pytest.mark.parametrize("alpha", [*ALPHAS, (1, 2), (1, 3, 2), (5, 4), (3, 3, 3)])
def test_monomials_are_exact_and_never_worse_than_guw(alpha: tuple[int, ...]) -> None:
    p, order = monomial(alpha), sum(alpha)
    best = monomial_sum(alpha)
    assert expand(best, order) == p
    assert expand(polarised(alpha), order) == p
    points = grid(alpha)
    assert points is None or expand(points, order) == p
    if order <= 6:
        published = guw_sum(alpha)
        assert expand(published, order) == p
        assert len(best) <= len(published)
    if len(alpha) == 2:
        assert len(best) == order
    if min(alpha) == 1:
        assert len(best) == prod(a + 1 for a in alpha) // 2


# ---------------------------------------------------------------------- quadratic forms


@settings(max_examples=60, deadline=None)
@given(homogeneous(dim=5, degree=2, size=7))
def test_sum_of_squares_is_exact_with_rank_many_terms(p: Polynomial) -> None:
    squares = sum_of_squares(p)
    assert sum((weight * form**2 for weight, form in squares), Polynomial()) == p
    matrix = [[sympy.Rational(str(p.diff(i).diff(j).coefficient(()))) for j in range(5)] for i in range(5)]
    assert len(squares) == sympy.Matrix(matrix).rank()
    assert len(directional_sum(p).directions) == len(squares)


@pytest.mark.parametrize("p", [x * y + z * w, x * y + y * z + z * x, x * y + x * z, Polynomial()])
def test_zero_diagonals(p: Polynomial) -> None:
    assert sum((weight * form**2 for weight, form in sum_of_squares(p)), Polynomial()) == p


@pytest.mark.parametrize(("size", "rank"), [(14, 14), (16, 9), (14, 0)])
def test_dense_forms(size: int, rank: int) -> None:
    draw = np.random.default_rng(0)
    forms = [Polynomial.linear([Fraction(int(c), 3) for c in draw.integers(-3, 4, size)]) for _ in range(rank)]
    p = sum(((-1) ** k * (k + 1) * form**2 for k, form in enumerate(forms)), Polynomial())
    if rank == 0:
        # Nothing on the diagonal: elimination by squares cannot start.
        p = sum((x_i * x_j for x_i, x_j in combinations(map(Polynomial.variable, range(size)), 2)), Polynomial())
    squares = sum_of_squares(p)
    assert sum((weight * form**2 for weight, form in squares), Polynomial()) == p
    assert len(squares) == (rank or size)


def test_sum_of_squares_refuses_other_degrees() -> None:
    with pytest.raises(ValueError, match="degree 2 in every term"):
        sum_of_squares(x**2 + x)


# ---------------------------------------------------------------------- powers of quadratic forms


@pytest.mark.parametrize(
    ("d", "k", "best", "rational"),
    [
        (2, 2, 3, 4), (3, 2, 6, 7), (4, 2, 11, 12), (5, 2, 16, 17), (6, 2, 22, 22), (7, 2, 28, 28), (8, 2, 64, 64),
        (2, 3, 4, 4), (2, 4, 5, 8), (2, 5, 6, 8),
    ],
)  # fmt: skip
def test_powers_of_the_laplacian(d: int, k: int, best: int, rational: int) -> None:
    p = laplacian(range(d)) ** k
    exact = directional_sum(p, rational=True)
    assert exact.exact
    assert exact.polynomial() == p
    assert len(exact.directions) == rational
    smallest = directional_sum(p)
    assert len(smallest.directions) == best
    assert smallest.exact == (smallest.polynomial() == p)
    assert largest(smallest.polynomial() - p) <= 1e-15 * largest(p)
    # In floating point, as the engine uses it.
    directions, weights = np.array(smallest.directions, dtype=float), np.array(smallest.weights, dtype=float)
    point = np.linspace(0.3, -0.7, d)
    np.testing.assert_allclose(weights @ (directions @ point) ** (2 * k), (point @ point) ** k, rtol=1e-14)


@pytest.mark.parametrize("d", range(2, 9))
def test_squared_laplacian_is_never_larger_than_the_published_formula(d: int) -> None:
    sum_ = directional_sum(laplacian(range(d)) ** 2, rational=True)
    assert len(sum_.directions) <= d * (d - 1) + (0 if d == 4 else d)


@pytest.mark.parametrize(
    ("q", "rational"),
    [
        (x**2 + 4 * y**2 + 9 * z**2, 7),
        (x**2 + 2 * y**2, 4),
        (x**2 - y**2 + z**2, 9),
        (x**2 + 2 * x * y + 3 * y**2 + z**2, 9),
        (-2 * x**2 - 8 * y**2, 4),
    ],
)
def test_squares_of_other_quadrics(q: Polynomial, rational: int) -> None:
    exact = directional_sum(q**2, rational=True)
    assert exact.polynomial() == q**2
    assert len(exact.directions) <= rational
    rounded = directional_sum(q**2)
    assert len(rounded.directions) <= len(exact.directions)
    assert largest(rounded.polynomial() - q**2) <= 1e-15 * largest(q**2)


@settings(max_examples=30, deadline=None)
@given(homogeneous(dim=3, degree=2, size=4), st.integers(2, 3), st.fractions(-3, 3, max_denominator=3).filter(bool))
def test_square_root_of_a_power(q: Polynomial, k: int, c: Fraction) -> None:
    p = c * q**k
    found = square_root(p)
    if any(len(m) == 1 for m, _ in p.terms):
        assert found is not None
    if found is not None:
        leading, base, power = found
        assert leading * base**power == p
    assert square_root(p + x ** (2 * k) + y ** (2 * k - 1) * z * 77) is None


# ---------------------------------------------------------------------- any polynomial


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5).flatmap(lambda degree: homogeneous(dim=3, degree=degree)))
def test_directional_sums_are_exact(p: Polynomial) -> None:
    found = directional_sum(p, dimension=4, rational=True)
    assert found.exact
    assert found.polynomial() == p
    assert all(len(v) == 4 for v in found.directions)
    assert all(found.weights)
    assert len(found.directions) <= comb(p.degree() + 2, 2)
    f = (x + 2 * y - z) ** 5 + x * y * z
    assert found.apply(f) == p.apply(f)


@pytest.mark.parametrize(
    ("p", "count"),
    [
        (laplacian(range(50)), 50),
        (x**4 + 2 * y**4 - z**4, 3),
        (3 * x - y, 1),
        ((x + 2 * y - z) ** 5, 1),
        ((x + 2 * y - z) ** 4 + (x - w) ** 4, 2),
        (x**4 + x**2 * y**2, 4),
        (x**3 * y + x * y**3, 2),
        (x**3 + 3 * x**2 * y + 3 * x * y**2 + y**3, 1),
        (laplacian(range(3)) ** 3, 13),
        ((x**2 + y**2) * (y**2 + z**2), 7),
    ],
)
def test_direction_counts(p: Polynomial, count: int) -> None:
    found = directional_sum(p)
    assert found.polynomial() == p
    assert len(found.directions) == count


def test_many_variables_in_short_terms() -> None:
    chain = sum((Polynomial.variable(i) ** 3 * Polynomial.variable(i + 1) for i in range(20)), Polynomial())
    found = directional_sum(chain)
    assert found.polynomial() == chain
    assert len(found.directions) <= 80


@pytest.mark.parametrize("p", [Polynomial(), Polynomial.constant(2), x**2 + x])
def test_mixed_degrees_are_refused(p: Polynomial) -> None:
    with pytest.raises(ValueError, match="directional_sums"):
        directional_sum(p)


def test_short_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="need 3 entries"):
        directional_sum(z**2, dimension=2)


# ---------------------------------------------------------------------- several degrees, several polynomials


@settings(max_examples=30, deadline=None)
@given(polynomials(dim=3, degree=4, size=4))
def test_mixed_degrees_are_exact(p: Polynomial) -> None:
    found = directional_sums(p, rational=True)
    assert found.exact
    assert found.polynomial() == p
    for r, order in enumerate(found.orders):
        assert order == max(k for k, weights in found.parts if weights[r])


def test_lower_orders_reuse_directions() -> None:
    kuramoto = directional_sums(x**4 + x**2 + y)
    assert (kuramoto.orders, kuramoto.linear) == ((4,), y)
    many = directional_sums(laplacian(range(6)) ** 2 + laplacian(range(6)) - 1, rational=True)
    assert many.orders == (4,) * 22
    assert many.constant == -1
    sextic = x**6 + y**6 + (x + y) ** 6 + (x - y) ** 6
    quartic = (x + 2 * y) ** 4 + (2 * x - 3 * y) ** 4 + (x + 4 * y) ** 4
    assert len(directional_sum(sextic).directions) == 4
    # Four old directions and one new one span all binary quartics.
    assert sorted(directional_sums(sextic + quartic).orders) == [4, 6, 6, 6, 6]
    swift_hohenberg = (1 + laplacian(range(3))) ** 2
    found = directional_sums(swift_hohenberg)
    assert found.orders == (4,) * 6
    assert not found.exact
    assert largest(found.polynomial() - swift_hohenberg) <= 1e-15 * largest(swift_hohenberg)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), st.lists(homogeneous(3, n), max_size=3))))
def test_common_directions_are_exact(drawn: tuple[int, list[Polynomial]]) -> None:
    order, polys = drawn
    found = multi_directional([*polys, Polynomial()], order, rational=True)
    assert found.polynomials() == (*polys, Polynomial())
    assert len(found.directions) <= sum(len(directional_sum(p, rational=True).directions) for p in polys)


@pytest.mark.parametrize(
    ("polys", "order", "count"),
    [
        ([x**2 + y**2, x**2 - y**2, y**2], 2, 2),
        ([x**2, y**2, x * y], 2, 3),
        ([x**2 + y**2, x * y], 2, 2),
        ([x**4, x**2 * y**2, y**4], 4, 4),
        ([x**3, x**2 * y, x * y**2, y**3], 3, 4),
        ([laplacian(range(2)) ** 2, x**4], 4, 3),
        ([laplacian(range(3)) ** 2, x**4, x**2 * y**2], 4, 9),
    ],
)
def test_common_direction_counts(polys: list[Polynomial], order: int, count: int) -> None:
    found = multi_directional(polys, order)
    assert len(found.directions) == count
    for p, q in zip(polys, found.polynomials(), strict=True):
        assert largest(p - q) <= (0 if found.exact else 1e-15 * largest(p))


def test_common_directions_refuse_another_degree() -> None:
    with pytest.raises(ValueError, match="one degree 2"):
        multi_directional([x**2, x**3], 2)
