"""Derivative spaces: channel counts of the theory, and Leibniz' and the chain rule exactly on polynomials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import prod
from time import perf_counter

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from test_symbol import polynomials

from opdsl.algebra.derivative_space import DerivativeSpace, Row, derivative_space, describe
from opdsl.algebra.polynomial import Polynomial

t, x, y = (Polynomial.variable(i) for i in range(3))
laplacian = Polynomial.laplacian
Jet = list[Polynomial]


def quadratic(matrix: Sequence[Sequence[int]]) -> Polynomial:
    terms = [a * Polynomial.from_axes((i, j)) for i, row in enumerate(matrix) for j, a in enumerate(row)]
    return sum(terms, Polynomial())


# ---------------------------------------------------------------------- slow, obvious references


def all_derivatives(p: Polynomial) -> Iterator[Polynomial]:
    yield p
    for coordinate in p.coordinates():
        yield from all_derivatives(p.diff(coordinate))


def rank_of_all_derivatives(operators: Sequence[Polynomial]) -> int:
    rows = [*(d for p in operators for d in all_derivatives(p)), Polynomial.constant(1)]
    columns = sorted({monomial for row in rows for monomial, _ in row.terms})
    numbers = [[sympy.Rational(str(row.coefficient(m))) for m in columns] for row in rows]
    return int(sympy.Matrix(numbers).rank())


def jet(space: DerivativeSpace, f: Polynomial) -> Jet:
    return [element.apply(f) for element in space.basis]


def multiply(table: Sequence[tuple[int, int, int, Fraction]], f: Jet, g: Jet) -> Jet:
    result = [Polynomial() for _ in f]
    for k, i, j, m in table:
        result[k] += m * f[i] * g[j]
    return result


def combined(space: DerivativeSpace, weights: Mapping[int, Fraction], f: Polynomial) -> Polynomial:
    return sum((weight * space.basis[k].apply(f) for k, weight in weights.items()), Polynomial())


def row_value(row: Row, f: Jet, g: Jet) -> Polynomial:
    return sum((m * f[i] * g[j] for i, j, m in row), Polynomial())


# ---------------------------------------------------------------------- counts

COUNTS: list[tuple[str, list[Polynomial], int]] = [
    *((f"biharmonic {d}", [laplacian(range(d)) ** 2], n) for d, n in ((2, 9), (3, 14), (5, 27), (10, 77))),
    *((f"laplacian {d}", [laplacian(range(d))], d + 2) for d in (1, 2, 3, 10)),
    *((f"power {n}", [x**n], n + 1) for n in (1, 2, 5, 20)),
    ("heat costs no more", [t - laplacian((1, 2))], 4),
    ("rank 2 of 3", [quadratic([[1, 2, 3], [2, 4, 6], [3, 6, 10]])], 4),
    ("rank 1 of 3", [quadratic([[1, 1, 1], [1, 1, 1], [1, 1, 1]])], 3),
    ("indefinite", [x * y], 4),
    ("KdV one by one", [t, x, x**3], 5),
    ("KdV merged", [t + x**3, x], 4),
    ("Kuramoto-Sivashinsky", [t + x**2 + x**4, x], 5),
    ("KP", [t * x + x**4 + y**2, x, x**2], 6),
    ("mixed 2, 2", [x**2 * y**2], 9),
    ("mixed 2, 1 and 1, 3", [x**2 * y + x * y**3], 8),
    ("triharmonic 2", [laplacian((0, 1)) ** 3], 16),
    ("triharmonic 3", [laplacian((0, 1, 2)) ** 3], 30),
    *((f"monomial {a}", [prod((Polynomial.variable(i) ** n for i, n in enumerate(a)), start=Polynomial.constant(1))],
       prod(n + 1 for n in a)) for a in ((3,), (2, 1), (3, 2, 1), (1, 1, 1, 1), (2, 2, 2))),
    ("two-dimensional KdV", [t * y + x**3 * y + x * y, x, y, x**2, x * y], 8),
    ("nothing", [], 1),
    ("identity", [Polynomial.constant(3)], 1),
    ("zero", [Polynomial()], 1),
    ("repeated", [x**2, 2 * x**2, x], 3),
]  # fmt: skip


@pytest.mark.parametrize(("operators", "channels"), [row[1:] for row in COUNTS], ids=[row[0] for row in COUNTS])
def test_channel_counts(operators: list[Polynomial], channels: int) -> None:
    space = derivative_space(operators)
    assert space.channels == len(space.basis) == len(space.degrees) == channels
    assert space.tops == ()
    assert space.order == max([0, *(p.degree() for p in operators)])


def test_biharmonic_formula() -> None:
    for d in range(1, 8):
        assert derivative_space([laplacian(range(d)) ** 2]).channels == ((d * d + 5 * d + 4) // 2 if d > 1 else 5)


operator_lists = st.lists(polynomials(dim=3, degree=4, size=3), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(operator_lists)
def test_dimension_is_the_rank_of_all_derivatives(operators: list[Polynomial]) -> None:
    assert derivative_space(operators).channels == rank_of_all_derivatives(operators)


# ---------------------------------------------------------------------- structure


def test_scaling_makes_channels_taylor_coefficients() -> None:
    space = derivative_space([x**3 * y**2])
    assert all(len(element.terms) == 1 for element in space.basis)
    assert {m for *_, m in space.table} == {Fraction(1)}
    assert space.basis[-1] == x**3 * y**2 / 12
    assert derivative_space([laplacian((0, 1, 2)) ** 2]).basis[-1] == laplacian((0, 1, 2)) ** 2 / 24
    assert x * laplacian((0, 1)) / 6 in derivative_space([laplacian((0, 1)) ** 2]).basis


@settings(max_examples=40, deadline=None)
@given(operator_lists)
def test_basis_is_graded_and_table_symmetric(operators: list[Polynomial]) -> None:
    space = derivative_space(operators)
    assert space.basis[0] == Polynomial.constant(1)
    assert list(space.degrees) == sorted(space.degrees) == [b.degree() for b in space.basis]
    entries = {(k, i, j): m for k, i, j, m in space.table}
    assert len(entries) == len(space.table)
    for (k, i, j), m in entries.items():
        assert m
        assert entries[k, j, i] == m
        assert space.degrees[i] + space.degrees[j] <= space.degrees[k]
    for k in range(1, space.channels):
        assert entries[k, 0, k] == entries[k, k, 0] == 1


@settings(max_examples=40, deadline=None)
@given(operator_lists, polynomials(degree=5, size=3), polynomials(degree=5, size=3))
def test_product_rule_is_exact(operators: list[Polynomial], f: Polynomial, g: Polynomial) -> None:
    space = derivative_space(operators)
    assert multiply(space.table, jet(space, f), jet(space, g)) == jet(space, f * g)


@settings(max_examples=25, deadline=None)
@given(operator_lists, polynomials(degree=2, size=3), st.lists(st.integers(-3, 3), min_size=1, max_size=5))
def test_chain_rule_is_exact(operators: list[Polynomial], h: Polynomial, outer: list[int]) -> None:
    space = derivative_space(operators)
    s = Polynomial.from_terms((((0, n),) if n else (), c) for n, c in enumerate(outer))

    def compose(p: Polynomial) -> Polynomial:
        return sum((c * h ** (m[0][1] if m else 0) for m, c in p.terms), Polynomial())

    nilpotent = [Polynomial(), *jet(space, h)[1:]]
    power = [Polynomial.constant(1), *(Polynomial() for _ in nilpotent[1:])]
    result = [Polynomial() for _ in nilpotent]
    derivative, factorial = s, 1
    for n in range(space.order + 1):
        coefficient = compose(derivative) / factorial
        result = [r + coefficient * p for r, p in zip(result, power, strict=True)]
        power = multiply(space.table, power, nilpotent)
        derivative, factorial = derivative.diff(0), factorial * (n + 1)
    assert not any(power)
    assert result == jet(space, compose(s))


@settings(max_examples=40, deadline=None)
@given(operator_lists)
def test_every_operator_and_derivative_is_read_back(operators: list[Polynomial]) -> None:
    space = derivative_space(operators)
    for p in (d for operator in operators for d in all_derivatives(operator)):
        weights = space.read(p)
        assert weights is not None
        assert sum((w * space.basis[k] for k, w in weights.items()), Polynomial()) == p
        assert all(weights.values())
    assert space.read(Polynomial.variable(7)) is None
    assert space.read(Polynomial.variable(0) ** 9 + 1) is None


@settings(max_examples=40, deadline=None)
@given(operator_lists)
def test_seeds_are_the_jet_of_a_coordinate(operators: list[Polynomial]) -> None:
    space = derivative_space(operators)
    for coordinate in range(4):
        seeds = space.seeds(coordinate)
        assert 0 not in seeds
        point = Polynomial.variable(coordinate)
        expected = [point, *(Polynomial.constant(seeds.get(k, 0)) for k in range(1, space.channels))]
        assert jet(space, point) == expected


# ---------------------------------------------------------------------- one quadratic form


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=16, max_size=16), polynomials(dim=4, size=3), polynomials(dim=4, size=3))
def test_a_quadratic_form_takes_at_most_rank_products(entries: list[int], f: Polynomial, g: Polynomial) -> None:
    matrix = [[entries[4 * i + j] + entries[4 * j + i] for j in range(4)] for i in range(4)]
    p = quadratic(matrix) + 3 * t - 1
    space = derivative_space([p])
    rank = int(sympy.Matrix(matrix).rank())
    products = {(i, j) for _, i, j, _ in space.table if 0 < i <= j}
    assert len(products) <= rank
    assert space.channels == rank + 2
    assert multiply(space.table, jet(space, f), jet(space, g)) == jet(space, f * g)
    weights = space.read(p)
    assert weights is not None
    assert combined(space, weights, f) == p.apply(f)


# ---------------------------------------------------------------------- collapsed entries

a, b, c = Polynomial.variable(3), Polynomial.variable(4), Polynomial.variable(5)
COLLAPSE: list[tuple[str, list[Polynomial], list[list[Polynomial]], int, int]] = [
    ("a u_t + b u_xx + c u_xxx beside u_x", [x], [[t, x**2, x**3]], 3, 1),
    ("viscous Burgers", [x], [[t, x**2]], 2, 1),
    ("members in the span are read", [x**2, t], [[t, x**2]], 4, 0),
    ("one member outside is an ordinary channel", [x], [[x, x**2]], 3, 0),
    ("members dependent modulo the span", [t], [[x**2, x**2 + t]], 4, 0),
    ("same combination twice", [], [[t, x**2], [t, x**2]], 4, 0),
    ("three entries over two members", [], [[t, x**2]] * 3, 4, 0),
    ("one and a half", [], [[t, x**2, y], [t, x**2]], 2, 2),
    ("proper derivative of another member", [], [[x**3], [x**2, t]], 5, 0),
    ("proper derivative of another member, three", [], [[x**3, y], [x**2, t, a]], 3, 2),
    ("empty entry", [x], [[], [t, x**2]], 2, 1),
    ("zero and constant members", [x], [[Polynomial(), Polynomial.constant(2)]], 2, 0),
    ("quadratic forms", [], [[t, (x + y + a) ** 2 + (x - y) ** 2]], 3, 1),
    ("quadratic form with lower parts", [], [[x + t, (x + y + a) ** 2 + (x - y) ** 2 + x + y + a]], 3, 1),
    ("biharmonic and laplacian", [], [[laplacian((1, 2)) ** 2, laplacian((1, 2)), t]], 8, 1),
    ("disjoint", [], [[t**2, x**2], [y**2, a**2]], 5, 2),
]


@pytest.mark.parametrize(
    ("operators", "collapse", "static", "tops"), [row[1:] for row in COLLAPSE], ids=[row[0] for row in COLLAPSE]
)
def test_collapsed_counts(
    operators: list[Polynomial], collapse: list[list[Polynomial]], static: int, tops: int
) -> None:
    space = derivative_space(operators, collapse=collapse)
    assert (len(space.basis), len(space.tops)) == (static, tops)
    assert [top.channel for top in space.tops] == list(range(static, static + tops))


def check_collapse(
    operators: list[Polynomial],
    collapse: list[list[Polynomial]],
    coefficients: Callable[[], Fraction],
    f: Polynomial,
    g: Polynomial,
) -> None:
    space = derivative_space(operators, collapse=collapse)
    by_entry = {top.entry: top for top in space.tops}
    for operator in operators:
        assert space.read(operator) is not None
    fs, gs = jet(space, f), jet(space, g)
    for index, members in enumerate(collapse):
        if index not in by_entry:
            assert all(space.read(member) is not None for member in members)
            continue
        top = by_entry[index]
        weights = [coefficients() for _ in members]
        merged = sum((w * p for w, p in zip(weights, members, strict=True)), Polynomial())
        lowers = [sum((v * space.basis[k] for k, v in lower), Polynomial()) for lower in top.lower]
        below = sum((w * p for w, p in zip(weights, lowers, strict=True)), Polynomial())
        channel = (merged - below) / top.unit
        assert top.members == tuple(members)
        # The product rule of the run-time row, and its value on coordinates.
        inner = sum((w * row_value(row, fs, gs) for w, row in zip(weights, top.rows, strict=True)), Polynomial())
        assert channel.apply(f * g) == channel.apply(f) * g + f * channel.apply(g) + inner
        for coordinate in range(6):
            value = sum((w * dict(s).get(coordinate, 0) for w, s in zip(weights, top.seeds, strict=True)), Fraction(0))
            assert channel.apply(Polynomial.variable(coordinate)) == Polynomial.constant(value)


@pytest.mark.parametrize(("operators", "collapse"), [row[1:3] for row in COLLAPSE], ids=[row[0] for row in COLLAPSE])
def test_collapsed_combinations_are_exact(operators: list[Polynomial], collapse: list[list[Polynomial]]) -> None:
    numbers = iter(Fraction(n, 3) for n in range(2, 100))
    f = (x + 2 * y - t + a) ** 4 + x * y * t + a**2
    g = (x - y + 3 * a) ** 3 + t**2 * x**2 + y
    check_collapse(operators, collapse, lambda: next(numbers), f, g)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(polynomials(degree=3, size=2), max_size=2),
    st.lists(st.lists(polynomials(degree=4, size=2), max_size=3), max_size=3),
    st.data(),
)
def test_random_collapses_are_exact(
    operators: list[Polynomial], collapse: list[list[Polynomial]], data: st.DataObject
) -> None:
    fractions = st.fractions(min_value=-3, max_value=3, max_denominator=5)
    f, g = data.draw(polynomials(degree=4, size=3)), data.draw(polynomials(degree=4, size=3))
    check_collapse(operators, collapse, lambda: data.draw(fractions), f, g)
    members = [member for entry in collapse for member in entry]
    proper = [m.diff(axis) for m in members for axis in m.coordinates()]
    space = derivative_space(operators, collapse=collapse)
    assert space.channels <= min(
        derivative_space([*operators, *members]).channels,
        derivative_space([*operators, *proper]).channels + len(collapse),
    )


# ---------------------------------------------------------------------- text and speed


def test_describe() -> None:
    text = describe(derivative_space([x], collapse=[[t, x**2 - x, x**3]]), ("t", "x", "y"))
    assert text.splitlines() == [
        "4 channels, order 3",
        "  b0 = 1",
        "  b1 = ∂_x",
        "  b2 = 1/2 ∂_x²",
        "  b3 = 1/6 (c0 (∂_t) + c2 (∂_x³))",
        "product rule",
        "  (fg)0 = f0 g0",
        "  (fg)1 = f0 g1 + f1 g0",
        "  (fg)2 = f0 g2 + f2 g0 + f1 g1",
        "  (fg)3 = f0 g3 + f3 g0 + c2 (f1 g2 + f2 g1)",
    ]


def test_the_table_stays_sparse() -> None:
    space = derivative_space([laplacian(range(100))])
    assert len(space.table) == 1 + 2 * 101 + 100


@pytest.mark.parametrize(
    ("operators", "seconds"),
    [([laplacian(range(100))], 0.2), ([laplacian(range(10)) ** 2], 0.2), ([laplacian(range(6)) ** 3], 1.0)],
)
def test_speed(operators: list[Polynomial], seconds: float) -> None:
    # Limits are five to twenty times what it takes alone: they catch a change of complexity, not a busy machine.
    start = perf_counter()
    derivative_space(operators)
    assert perf_counter() - start < seconds
