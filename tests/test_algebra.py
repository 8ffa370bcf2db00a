"""Products and compositions of jets against exact polynomials: integers in, integers out, compared with ``==``."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import factorial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opdsl import backends
from opdsl.algebra.derivative_space import derivative_space
from opdsl.algebra.polynomial import Polynomial
from opdsl.jets.algebra import Algebra, Pairing, powers
from opdsl.jets.directional import Directional, Reduction, Top
from opdsl.jets.elementary import polynomial
from opdsl.jets.jet import Jet
from opdsl.jets.tabular import RuntimeTop, Tabular

OPS = backends.get("numpy").ops
POINTS = ((0, 0, 0), (1, -2, 3), (2, 1, -1))
x, y, z = (Polynomial.variable(i) for i in range(3))

# ------------------------------------------------------------------------------------------------------ the algebras


def values(p: Polynomial, scale: Fraction = Fraction(1)) -> Any:
    return np.array([float(p(point) * scale) for point in POINTS])


def coefficient(f: Polynomial, direction: Polynomial, order: int) -> Any:
    """The scaled coefficient D^k f[v, …, v]/k!."""
    return values((direction**order).apply(f), Fraction(1, factorial(order)))


class DirectionalCase:
    """Groups of (directions, kept order) and tops of (group, order, weights) or a matrix on order 2 of group 0."""

    def __init__(self, groups: Any, tops: Sequence[Sequence[tuple[int, int, Any]]], per_point: bool = False) -> None:
        self.groups, self.tops = groups, tops
        made = []
        for top in tops:
            forms: list[dict[int, Reduction]] = [{} for _ in groups]
            for g, j, w in top:
                array = np.array(w, dtype=float)
                if array.ndim == 2:
                    forms[g][j] = Reduction(matrix=array)
                elif per_point:
                    forms[g][j] = Reduction(runtime=np.repeat(array[:, None], len(POINTS), axis=1))
                else:
                    forms[g][j] = Reduction(static=array)
            made.append(Top(tuple(forms)))
        self.algebra = Directional([(len(d), kept) for d, kept in groups], made)

    def top(self, f: Polynomial, which: int) -> Any:
        total = np.zeros(len(POINTS))
        for g, j, w in self.tops[which]:
            directions = self.groups[g][0]
            if np.ndim(w) == 2:  # Σ_rs A_rs v_r v_s on order 2, where scaled coefficients carry 1/2
                total += sum(
                    w[r][s] * values(a.apply(b.apply(f))) / 2 for r, a in enumerate(directions) for s, b in enumerate(directions)
                )
            else:
                total += sum(c * coefficient(f, v, j) for c, v in zip(w, directions, strict=True))
        return total

    def jet(self, f: Polynomial) -> Jet:
        parts = [np.stack([coefficient(f, v, k) for v in directions]) for directions, kept in self.groups for k in range(1, kept + 1)]
        if self.tops:
            parts.append(np.stack([self.top(f, t) for t in range(len(self.tops))]))
        return Jet(values(f), tuple(parts), tuple(False for _ in parts), 0)


class TabularCase:
    """The derivative space of some symbols, with tops known at run time."""

    def __init__(self, symbols: Sequence[Polynomial], collapse: Sequence[Sequence[Polynomial]] = ()) -> None:
        self.space = derivative_space(list(symbols), collapse=[list(c) for c in collapse])
        self.weights = [[float(k + 2) for k, _ in enumerate(members)] for members in collapse]
        rows: dict[int, list[tuple[int, int, float]]] = {}
        for k, i, j, m in self.space.table:
            if 0 < i <= j:
                rows.setdefault(k, []).append((i, j, float(m) * (1.0 if i == j else 2.0)))
        tops = [
            RuntimeTop(
                tuple(self.weights[top.entry]),
                tuple(tuple((i, j, float(m) * (1.0 if i == j else 2.0)) for i, j, m in row if i <= j) for row in top.rows),
            )
            for top in self.space.tops
        ]
        self.algebra = Tabular(self.space.degrees, rows, tops, max(self.space.order, 1))
        self.collapse = collapse

    def jet(self, f: Polynomial) -> Jet:
        parts: list[Any] = []
        for part, size in enumerate(self.algebra.sizes):
            if part == self.algebra.top_part:
                continue
            members = [c for c in range(1, len(self.space.basis)) if self.algebra.place(c)[0] == part]
            assert len(members) == size
            parts.append(np.stack([values(self.space.basis[c].apply(f)) for c in members]))
        if self.algebra.top_part is not None:
            parts.append(np.stack([self.top(f, k) for k in range(len(self.space.tops))]))
        return Jet(values(f), tuple(parts), tuple(False for _ in parts), 0)

    def top(self, f: Polynomial, which: int) -> Any:
        """What the channel holds: the combination without what is read from other channels."""
        top = self.space.tops[which]
        total = np.zeros(len(POINTS))
        for weight, member, lower in zip(self.weights[top.entry], self.collapse[top.entry], top.lower, strict=True):
            rest = sum((self.space.basis[c] * v for c, v in lower), Polynomial())
            total += weight * values((member - rest).apply(f))
        return total / float(top.unit)


CASES: dict[str, Any] = {
    "one direction to order 5": lambda: DirectionalCase([([x], 5)], []),
    "forward Laplacian": lambda: DirectionalCase([([x, y, z], 1)], [[(0, 2, (2, 2, 2))]]),
    "two tops on shared directions": lambda: DirectionalCase([([x, y, x + y], 2)], [[(0, 3, (6, 0, -2)), (0, 2, (1, 4, 2))], [(0, 3, (0, 2, 0))]]),
    "weights per point": lambda: DirectionalCase([([x, y], 1)], [[(0, 2, (2, -4))]], per_point=True),
    "a matrix": lambda: DirectionalCase([([x, y, z], 1)], [[(0, 2, ((2, 1, 0), (1, 4, -3), (0, -3, 6)))]]),
    "one direction with a matrix": lambda: DirectionalCase([([x], 1)], [[(0, 2, ((4,),))]]),
    "two groups of unequal order": lambda: DirectionalCase([([x, y], 1), ([x - y], 3)], [[(0, 2, (2, 2)), (1, 4, (24,))]]),
    "order 6, by recurrence": lambda: DirectionalCase([([x, y], 5)], [[(0, 6, (720, 720)), (0, 3, (6, 0))]]),
    "biharmonic": lambda: TabularCase([Polynomial.laplacian((0, 1)) ** 2]),
    "a monomial": lambda: TabularCase([x * x * y * z]),
    "several symbols": lambda: TabularCase([x**3 + y, x * y, z]),
    "a collapsed combination": lambda: TabularCase([x], [[x * x, y * y + z], [x * y * y, y]]),
    "order six": lambda: TabularCase([x**4 * y**2 + x**2]),
}  # fmt: skip


def everything(algebra: Algebra) -> frozenset[int]:
    return frozenset(range(len(algebra.sizes)))


def same(found: Jet, expected: Jet, needed: frozenset[int]) -> None:
    np.testing.assert_array_equal(found.primal, expected.primal)
    for k in needed:
        part = np.zeros_like(expected.parts[k]) if found.parts[k] is None else found.parts[k]
        np.testing.assert_allclose(np.broadcast_to(part, expected.parts[k].shape), expected.parts[k], rtol=1e-14, atol=0)


def multiply(case: Any, f: Polynomial, g: Polynomial, needed: frozenset[int]) -> Jet:
    a, b = case.jet(f), case.jet(g)
    pairing = Pairing(OPS, OPS.xp.multiply, direct=True)
    return case.algebra.product(OPS, pairing, a, b, a.primal * b.primal, needed, 0)  # type: ignore[no-any-return]


F, G = x**3 - 2 * y**3 + x**2 * y - 3 * y * z + 2 * x + 1, x * y**2 + y**4 + z**2 - y + 2
CUBIC = polynomial("cubic", (1.0, -2.0, 0.0, 1.0))


def cubic(f: Polynomial) -> Polynomial:
    return f * f * f - 2 * f + 1


@pytest.mark.parametrize("name", list(CASES))
def test_product_rule(name: str) -> None:
    case = CASES[name]()
    needed = everything(case.algebra)
    same(multiply(case, F, G, needed), case.jet(F * G), needed)


@pytest.mark.parametrize("name", list(CASES))
def test_chain_rule(name: str) -> None:
    case = CASES[name]()
    needed = everything(case.algebra)
    same(case.algebra.compose(OPS, CUBIC, case.jet(F), needed), case.jet(cubic(F)), needed)


@pytest.mark.parametrize("name", list(CASES))
def test_one_part_alone_needs_what_requires_says(name: str) -> None:
    """With every part that is not required removed, the wanted part is the same."""
    case = CASES[name]()
    algebra = case.algebra
    for wanted in range(len(algebra.sizes)):
        kept = algebra.requires(frozenset([wanted]))
        f, g = (
            Jet(j.primal, tuple(p if k in kept else None for k, p in enumerate(j.parts)), j.fixed, 0)
            for j in (case.jet(F), case.jet(G))
        )
        pairing = Pairing(OPS, OPS.xp.multiply, direct=True)
        only = frozenset([wanted])
        same(algebra.product(OPS, pairing, f, g, f.primal * g.primal, only, 0), case.jet(F * G), only)
        same(algebra.compose(OPS, CUBIC, f, only), case.jet(cubic(F)), only)


@pytest.mark.parametrize("name", list(CASES))
def test_symbolic_zeros(name: str) -> None:
    """A jet whose vanishing parts are None gives what explicit zeros give."""
    case = CASES[name]()
    needed = everything(case.algebra)
    linear = case.jet(2 * x - y)
    sparse = Jet(
        linear.primal, tuple(p if np.any(p) else None for p in linear.parts), linear.fixed, 0
    )
    other = case.jet(G)
    pairing = Pairing(OPS, OPS.xp.multiply, direct=True)
    found = case.algebra.product(OPS, pairing, sparse, other, sparse.primal * other.primal, needed, 0)
    same(found, case.jet((2 * x - y) * G), needed)
    same(case.algebra.compose(OPS, CUBIC, sparse, needed), case.jet(cubic(2 * x - y)), needed)


small = st.integers(-2, 2)
monomials = st.lists(st.integers(0, 2), max_size=3).map(lambda axes: Polynomial.from_axes(tuple(axes)))
polynomials = st.lists(st.tuples(small, monomials), min_size=1, max_size=4).map(
    lambda terms: sum((p * c for c, p in terms), Polynomial())
)


@settings(max_examples=40)
@given(f=polynomials, g=polynomials, symbol=st.lists(st.integers(0, 2), min_size=1, max_size=5))
def test_random_products_over_random_monomials(f: Polynomial, g: Polynomial, symbol: list[int]) -> None:
    case = TabularCase([Polynomial.from_axes(tuple(symbol)) + x])
    needed = everything(case.algebra)
    same(multiply(case, f, g, needed), case.jet(f * g), needed)
    same(case.algebra.compose(OPS, CUBIC, case.jet(f), needed), case.jet(cubic(f)), needed)


def test_powers_of_a_series() -> None:
    """(2t + 3t²)³ = 8t³ + 36t⁴ + …"""
    table = powers([None, 2.0, 3.0], 4)
    assert table[2][2:] == [4.0, 12.0, 9.0]
    assert table[3][3:] == [8.0, 36.0]
