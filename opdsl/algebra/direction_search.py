r"""Few powers of linear forms for any homogeneous polynomial, found among short integer directions.

The conditions Σ_r w_r (v_r·ξ)^K = p(ξ) are linear in the weights. A basic solution by elimination is improved by
exchanging directions: one pivot of the tableau brings a direction in and removes all those whose weights it cancels.
The search runs modulo a prime in NumPy; weights are then solved for exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from math import comb, gcd

import numpy as np
import numpy.typing as npt

from opdsl.algebra.elimination import Combinations
from opdsl.algebra.polynomial import Polynomial
from opdsl.algebra.waring import Powers

_PRIME = 2_147_483_629
"""Products of two residues fit in int64."""

_RESTARTS = 12
_MAX_MONOMIALS = 220
_Matrix = npt.NDArray[np.int64]


def short_directions(dimension: int, most: int = 160) -> list[Polynomial]:
    """Coprime integer vectors up to sign, short ones first (e_i, e_i ± e_j, …); a few hundred at most."""
    found: list[tuple[int, ...]] = []
    for reach in (1, 2, 3, 4):
        if reach > 1 and (2 * reach + 1) ** dimension > 3 * most:
            break
        found = [v for v in product(range(-reach, reach + 1), repeat=dimension) if gcd(*v) == 1 and _leads(v)]
    found.sort(key=lambda v: (sum(map(abs, v)), tuple(-abs(c) for c in v), v))
    return [Polynomial.linear(v) for v in found]


def _leads(v: Sequence[int]) -> bool:
    return next(c for c in v if c) > 0


def solve_exactly(p: Polynomial, forms: Sequence[Polynomial]) -> list[Fraction] | None:
    """Weights with Σ w_r forms[r]^K = p for homogeneous p of degree K, or None. Forms listed first are used first."""
    order = p.degree()
    weights = Combinations(form**order for form in forms).express(p)
    return None if weights is None else [weights.get(r, Fraction(0)) for r in range(len(forms))]


def sparse_sum(p: Polynomial, forms: Sequence[Polynomial], free: int = 0) -> Powers | None:
    """p as a sum of powers of few of the forms; the first ``free`` of them cost nothing. None if they do not span p."""
    order = p.degree()
    powers = [form**order for form in forms]
    monomials = sorted({m for q in [*powers, p] for m, _ in q.terms})
    if len(monomials) > _MAX_MONOMIALS:
        return None
    place = {m: k for k, m in enumerate(monomials)}
    table = np.zeros((len(monomials), len(forms) + 1), dtype=np.int64)
    for column, q in enumerate([*powers, p]):
        for monomial, c in q.terms:
            table[place[monomial], column] = c.numerator * pow(c.denominator, -1, _PRIME) % _PRIME
    random = np.random.default_rng(0)
    best: list[int] | None = None
    for restart in range(_RESTARTS):
        priced = free + (np.arange(len(forms) - free) if restart == 0 else random.permutation(len(forms) - free))
        support = _search(table, np.concatenate([np.arange(free), priced]), free)
        if support is None:
            return None
        if best is None or sum(r >= free for r in support) < sum(r >= free for r in best):
            best = support
    assert best is not None
    chosen = sorted(best)
    weights = solve_exactly(p, [forms[r] for r in chosen])
    if weights is None:
        # Only an unlucky prime gets here: it made a combination vanish that does not.
        return None
    return {forms[r]: w for r, w in zip(chosen, weights, strict=True) if w}


def _search(table: _Matrix, order: npt.NDArray[np.intp], free: int) -> list[int] | None:
    """Support of a basic solution that no single exchange improves, or None if there is no solution."""
    work = table[:, [*order, table.shape[1] - 1]]
    price = (order >= free).astype(np.int64)
    basis: list[int] = []
    for column in range(len(order)):
        rows = np.flatnonzero(work[len(basis) :, column])
        if rows.size:
            row = len(basis) + int(rows[0])
            work[[len(basis), row]] = work[[row, len(basis)]]
            _pivot(work, len(basis), column)
            basis.append(column)
            if len(basis) == work.shape[0]:
                break
    if work[len(basis) :, -1].any():
        return None
    work = work[: len(basis)]
    while (exchange := _improvement(work, basis, price)) is not None:
        row, column = exchange
        _pivot(work, row, column)
        basis[row] = column
    return [int(order[basis[k]]) for k in np.flatnonzero(work[:, -1])]


def _improvement(work: _Matrix, basis: Sequence[int], price: _Matrix) -> tuple[int, int] | None:
    """The (row, column) whose exchange saves the most, if any saves."""
    values, prices = work[:, -1], price[np.array(basis, dtype=np.intp)]
    active = values != 0
    best: tuple[int, int, int] | None = None
    for column in np.setdiff1d(np.arange(len(price)), basis):
        entries = work[:, column]
        rows = np.flatnonzero(active & (entries != 0))
        if rows.size == 0:
            continue
        ratios = [int(values[k]) * pow(int(entries[k]), -1, _PRIME) % _PRIME for k in rows]
        woken = int(prices[~active & (entries != 0)].sum()) + int(price[column])
        for ratio in dict.fromkeys(ratios):
            same = [int(k) for k, other in zip(rows, ratios, strict=True) if other == ratio]
            saving = int(prices[same].sum()) - woken
            if saving > 0 and (best is None or saving > best[0]):
                best = saving, same[0], int(column)
    return None if best is None else best[1:]


def _pivot(work: _Matrix, row: int, column: int) -> None:
    work[row] = work[row] * pow(int(work[row, column]), -1, _PRIME) % _PRIME
    factors = work[:, column].copy()
    factors[row] = 0
    work -= factors[:, None] * work[row] % _PRIME
    work %= _PRIME


def many_monomials(dimension: int, order: int) -> bool:
    """Whether there are too many monomials of the order for a dense tableau."""
    return comb(dimension + order - 1, order) > _MAX_MONOMIALS
