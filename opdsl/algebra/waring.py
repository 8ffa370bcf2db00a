r"""Monomials as few powers of linear forms (Waring decompositions).

    ξ^α = Σ_r w_r (v_r·ξ)^K,   K = |α|                                                                              (1)

=============================  ==========================  ===================================================
monomial                       directions                  reference
=============================  ==========================  ===================================================
two variables                  α_1 + α_2 (minimal)         Boij, Carlini, Geramita, Proc. AMS 139 (2011)
1 = α_0 ≤ α_i                  Π_{i>0} (α_i + 1) (minimal) Carlini, Catalisano, Geramita, J. Algebra 370 (2012)
any                            ½ Π (α_i + 1) at most       polarisation; published: C(K+d−1, K), see `guw_sum`
=============================  ==========================  ===================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import combinations, product
from math import comb, factorial, prod

from opdsl.algebra.polynomial import Polynomial
from opdsl.algebra.quadratic_forms import normalised
from opdsl.algebra.work import spend

Powers = dict[Polynomial, Fraction]
"""A sum of powers of one order: linear forms and their weights; forms are normalised, so equal directions merge."""

MultiIndex = Sequence[int]


def add_power(total: Powers, form: Polynomial, weight: Fraction, order: int) -> None:
    """total += weight · form^order, on the normalised direction; zero weights are dropped."""
    direction, scale = normalised(form)
    new = total.get(direction, Fraction(0)) + weight * scale**order
    if new:
        total[direction] = new
    else:
        total.pop(direction, None)


def collect(terms: Iterable[tuple[Polynomial, Fraction]], order: int) -> Powers:
    """Σ weight · form^order, zero forms left out."""
    total: Powers = {}
    for form, weight in terms:
        if form:
            add_power(total, form, weight, order)
    return total


def guw_coefficient(i: MultiIndex, j: MultiIndex) -> Fraction:
    r"""Griewank, Utke and Walther's coefficient for mixed partials from univariate Taylor series.

    γ_{i,j} = Σ_{0<m≤i} (−1)^{|i−m|} C(i, m) C(|i| m/|m|, j) (|m|/|i|)^{|i|},
    ξ^i = Σ_{|j|=|i|} γ_{i,j}/|i|! (j·ξ)^{|i|}

    Args:
        i: the mixed partial ∂^i.
        j: the direction, natural numbers with |j| = |i|.

    Example:
        >>> str(guw_coefficient((2, 2), (2, 2)))
        '5/8'

    Reference: Math. Comp. 69 (2000) 1117–1130; in this form arXiv:2505.13644.
    """
    order = sum(i)
    if len(i) != len(j) or sum(j) != order or order == 0 or min(*i, *j) < 0:
        raise ValueError(f"i and j are multi-indices of equal length and equal positive sum, got {i} and {j}")
    total = Fraction(0)
    for m in product(*(range(power + 1) for power in i)):
        size = sum(m)
        if size:
            sign = -1 if (order - size) % 2 else 1
            binomials = prod(comb(a, b) for a, b in zip(i, m, strict=True))
            general = prod(
                (_binomial(Fraction(order * b, size), c) for b, c in zip(m, j, strict=True)), start=Fraction(1)
            )
            total += sign * binomials * general * Fraction(size, order) ** order
    return total


def _binomial(top: Fraction, bottom: int) -> Fraction:
    return prod((top - k for k in range(bottom)), start=Fraction(1)) / factorial(bottom)


def guw_sum(alpha: MultiIndex) -> Powers:
    """The published interpolation of ξ^α by `guw_coefficient`: directions j with |j| = |α|."""
    order = sum(alpha)
    return collect(
        (
            (Polynomial.linear(j), guw_coefficient(alpha, j) / factorial(order))
            for j in _compositions(order, len(alpha))
        ),
        order,
    )


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def polarised(alpha: MultiIndex) -> Powers:
    """ξ^α = 1/(2^K K!) Σ_k (−1)^{|k|} C(α, k) ((α − 2k)·ξ)^K over 0 ≤ k ≤ α; opposite directions merge."""
    order = sum(alpha)
    scale = Fraction(1, 2**order * factorial(order))
    return collect(
        (
            (
                Polynomial.linear([a - 2 * b for a, b in zip(alpha, k, strict=True)]),
                scale * (-1) ** sum(k) * prod(comb(a, b) for a, b in zip(alpha, k, strict=True)),
            )
            for k in product(*(range(power + 1) for power in alpha))
        ),
        order,
    )


def grid(alpha: MultiIndex) -> Powers | None:
    """ξ^α with all α_i ≥ 1 from the directions (1, c_1, c_2, …), c_i in a set of α_0 + α_i rationals; α_0 smallest.

    The points are a complete intersection inside the apolar ideal (∂_i^{α_i+1}): that asks of each set that its
    elementary symmetric function of degree α_0 vanish. Weights are then products of Lagrange coefficients.
    """
    least = min(range(len(alpha)), key=lambda k: alpha[k])
    others = [k for k in range(len(alpha)) if k != least]
    order = sum(alpha)
    multinomial = Fraction(prod(factorial(a) for a in alpha), factorial(order))
    if len(others) == 1 and alpha[least] % 2 == 0:
        # Two variables allow (0, 1) as a point; then the other slopes may be symmetric about 0 for even powers too.
        return _binary_with_infinity(alpha, least, others[0])
    axes: list[list[tuple[Fraction, Fraction]]] = []
    for k in others:
        nodes = _nodes(alpha[least] + alpha[k], alpha[least])
        if nodes is None:
            return None
        axes.append(list(zip(nodes, _lagrange(nodes, alpha[k]), strict=True)))
    return collect(
        (
            (
                Polynomial.linear({least: 1, **{k: c for k, (c, _) in zip(others, points, strict=True)}}),
                multinomial * prod((w for _, w in points), start=Fraction(1)),
            )
            for points in product(*axes)
        ),
        order,
    )


def _binary_with_infinity(alpha: MultiIndex, first: int, second: int) -> Powers:
    order = sum(alpha)
    nodes = _nodes(order - 1, alpha[first] - 1)
    assert nodes is not None, "an odd symmetric function vanishes on a symmetric set"
    weights = _lagrange(nodes, alpha[second])
    scale = Fraction(1, comb(order, alpha[first]))
    last = -sum((w * c**order for w, c in zip(weights, nodes, strict=True)), Fraction(0))
    terms = [(Polynomial.linear({first: 1, second: c}), scale * w) for w, c in zip(weights, nodes, strict=True)]
    return collect([*terms, (Polynomial.variable(second), scale * last)], order)


@lru_cache(maxsize=256)
def _nodes(count: int, symmetric_degree: int) -> tuple[Fraction, ...] | None:
    """Distinct small rationals on which the elementary symmetric function of the degree vanishes; well conditioned."""
    if symmetric_degree % 2:
        pool = [Fraction(n, 2) for n in (2, 1, 4, 3, 6, 8, 5, 10, 12)]
        if count // 2 > len(pool):
            pool = [Fraction(n) for n in range(1, count // 2 + 1)]
        sets = [tuple(s * c for c in half for s in (1, -1)) for half in combinations(pool, count // 2)]
        candidates = [(*nodes, Fraction(0)) if count % 2 else nodes for nodes in sets]
    else:
        reach = max(6, (count + 3) // 2)
        numbers = [Fraction(n) for n in range(-reach, reach + 1)]
        if comb(len(numbers), count) > 20_000:
            return None
        candidates = [c for c in combinations(numbers, count) if _elementary(c)[symmetric_degree] == 0]
    return min((tuple(sorted(nodes)) for nodes in candidates), key=_badness, default=None)


def _badness(nodes: Sequence[Fraction]) -> Fraction:
    weights = _lagrange(nodes, len(nodes) // 2)
    return sum((abs(w) * (1 + abs(c)) ** len(nodes) for w, c in zip(weights, nodes, strict=True)), Fraction(0))


def _elementary(values: Sequence[Fraction]) -> list[Fraction]:
    spend(len(values) ** 2)
    result = [Fraction(1)]
    for value in values:
        result = [a + value * b for a, b in zip([*result, Fraction(0)], [Fraction(0), *result], strict=True)]
    return result


def _lagrange(nodes: Sequence[Fraction], power: int) -> list[Fraction]:
    """Weights with Σ w_r c_r^s = 1 for s = power and 0 for every other s below the number of nodes."""
    weights = []
    for r, node in enumerate(nodes):
        others = [*nodes[:r], *nodes[r + 1 :]]
        weights.append(_elementary([-c for c in others])[len(others) - power] / prod(node - c for c in others))
    return weights


def monomial_sum(alpha: MultiIndex) -> Powers:
    """The smallest known rational sum for ξ^α, all α_i ≥ 1.

    Example:
        >>> [str(v) for v in monomial_sum((2, 2))]
        ['ξ_0 + ξ_1', 'ξ_0', 'ξ_0 - ξ_1', 'ξ_1']
    """
    if len(alpha) == 1:
        return {Polynomial.variable(0): Fraction(1)}
    order = sum(alpha)
    candidates = [total for total in (grid(alpha), polarised(alpha)) if total is not None]
    return min(candidates, key=lambda total: (len(total), amplification(total, order)))


def amplification(total: Powers, order: int) -> Fraction:
    """Σ |w_r| max|v_r|^K: by how much rounding errors of the directional derivatives may grow."""
    return sum((abs(w) * max(abs(c) for _, c in v.terms) ** order for v, w in total.items()), Fraction(0))
