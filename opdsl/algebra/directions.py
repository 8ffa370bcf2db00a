r"""Operators as weighted sums of pure directional derivatives.

    p(∂) u = Σ_r w_r D^K u[v_r, …, v_r],    p(ξ) = Σ_r w_r (v_r·ξ)^K                                                 (1)

===============================  ========================================================
symbol                           here
===============================  ========================================================
v_r                              a row of ``DirectionalSum.directions``, shape (R, d)
w_r                              ``DirectionalSum.weights``, shape (R,)
K                                ``DirectionalSum.order``
===============================  ========================================================

Everything is exact (`fractions.Fraction`, ``==``) except a few minimal sets with irrational coordinates, which carry
``exact=False``, hold to 1e-15 by far, and are left out on request. Collapsed Taylor mode (arXiv:2505.13644) carries
R(K−1) + 2 channels for (1), so R is what counts; `opdsl.algebra.waring` (monomials),
`opdsl.algebra.quadric_power` (Δ²) and `opdsl.algebra.direction_search` (a search, for all else) find small sets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import product

import numpy as np

from opdsl.algebra.derivative_space import derivative_space
from opdsl.algebra.direction_search import many_monomials, short_directions, solve_exactly, sparse_sum
from opdsl.algebra.polynomial import Polynomial
from opdsl.algebra.quadratic_forms import sum_of_squares
from opdsl.algebra.quadric_power import quadric_power, square_root
from opdsl.algebra.waring import Powers, add_power, amplification, monomial_sum

Direction = tuple[Fraction, ...]

_MAX_DIMENSION = 5
"""Integer directions are searched up to this many essential variables."""

_FEW = 200
_TOLERANCE = 1e-15


@dataclass(frozen=True)
class DirectionalSum:
    """Σ_r w_r (v_r·ξ)^K. ``exact`` is false for irrational directions, rounded far below 1e-15."""

    directions: tuple[Direction, ...]
    weights: tuple[Fraction, ...]
    order: int
    exact: bool = True

    def polynomial(self) -> Polynomial:
        """The right side of (1), expanded."""
        return _expand(self.directions, self.weights, self.order)

    def apply(self, function: Polynomial) -> Polynomial:
        """Σ w_r (v_r·∂)^K f for a polynomial f in x."""
        return self.polynomial().apply(function)


@dataclass(frozen=True)
class DirectionalSet:
    """Several polynomials of one degree over common directions: p_t = Σ_r weights[t][r] (v_r·ξ)^K."""

    directions: tuple[Direction, ...]
    weights: tuple[tuple[Fraction, ...], ...]
    order: int
    exact: bool = True

    def polynomials(self) -> tuple[Polynomial, ...]:
        """The polynomials, expanded."""
        return tuple(_expand(self.directions, row, self.order) for row in self.weights)


@dataclass(frozen=True)
class DirectionalSums:
    """A polynomial of mixed degrees over common directions.

    p(ξ) = Σ_K Σ_r parts[K][r] (v_r·ξ)^K + linear(ξ) + constant

    Attributes:
        directions: shape (R, d).
        orders: per direction the highest K it is used with: powers up to K − 1 must be carried along it.
        parts: (K, weights of shape (R,)) for K ≥ 2, highest first.
        linear: the first-order part. It is a derivation: in a collapsed channel it changes the seeds, nothing else.
        constant: the part of order 0.
        exact: as for `DirectionalSum`.
    """

    directions: tuple[Direction, ...]
    orders: tuple[int, ...]
    parts: tuple[tuple[int, tuple[Fraction, ...]], ...]
    linear: Polynomial
    constant: Fraction
    exact: bool = True

    def polynomial(self) -> Polynomial:
        """All parts, expanded."""
        terms = [_expand(self.directions, weights, order) for order, weights in self.parts]
        return sum(terms, self.linear + self.constant)


def directional_sum(p: Polynomial, *, dimension: int | None = None, rational: bool = False) -> DirectionalSum:
    r"""Write p(∂) as a weighted sum of directional derivatives of its order, with as few directions as we know how.

    p(ξ) = Σ_r w_r (v_r·ξ)^K,   K = deg p

    Args:
        p: homogeneous of degree K ≥ 1.
        dimension: length of the directions; by default up to the last coordinate that occurs.
        rational: only directions with rational coordinates. Otherwise Δ² in 2 … 5 and Δ^k in 2 variables use smaller
            sets with irrational ones: 3, 6, 11, 16 directions instead of 4, 7, 12, 17.

    Returns:
        Directions (R, dimension), weights (R,), the order.

    Raises:
        ValueError: if p is zero, a constant, or mixes degrees; `directional_sums` takes those.

    Example:
        >>> print(*directional_sum(Polynomial.from_axes((0, 1))).directions)
        (Fraction(1, 1), Fraction(1, 1)) (Fraction(1, 1), Fraction(-1, 1))
        >>> len(directional_sum(Polynomial.laplacian(range(3)) ** 2).directions)
        6

    Reference: Griewank, Utke, Walther, Math. Comp. 69 (2000) 1117–1130; Reznick, Mem. AMS 463 (1992).
    """
    if p.degree() < 1 or not p.is_homogeneous():
        raise ValueError(
            f"a directional sum needs a symbol of one degree ≥ 1, got {p}. Split it with directional_sums(p)."
        )
    powers, exact = _smallest(p, rational)
    return DirectionalSum(_rows(powers, _dimension([p], dimension)), tuple(powers.values()), p.degree(), exact)


def directional_sums(p: Polynomial, *, dimension: int | None = None, rational: bool = False) -> DirectionalSums:
    """Write an operator of mixed order over common directions; lower orders reuse directions of higher ones.

    Args:
        p: any symbol.
        dimension: length of the directions.
        rational: as for `directional_sum`.

    Example:
        >>> sums = directional_sums(Polynomial.from_axes((0,) * 4) + 3 * Polynomial.from_axes((0, 0)))
        >>> len(sums.directions), [order for order, _ in sums.parts]
        (1, [4, 2])
    """
    split = p.order_parts()
    higher = [part for order, part in split.items() if order >= 2]

    def written(only_rational: bool) -> tuple[list[Polynomial], list[int], list[Powers], bool]:
        forms: list[Polynomial] = []
        orders: list[int] = []
        parts: list[Powers] = []
        exact = True
        for part in higher:
            powers, part_exact = _extend(part, forms, exact, only_rational)
            exact = exact and part_exact
            new = [form for form in powers if form not in forms]
            forms += new
            orders += [part.degree()] * len(new)
            parts.append(powers)
        return forms, orders, parts, exact

    forms, orders, parts, exact = min(
        (written(only) for only in ((True,) if rational else (False, True))), key=lambda found: sum(found[1])
    )
    return DirectionalSums(
        _rows(forms, _dimension([p], dimension)),
        tuple(orders),
        tuple(
            (part.degree(), tuple(powers.get(form, Fraction(0)) for form in forms))
            for part, powers in zip(higher, parts, strict=True)
        ),
        split.get(1, Polynomial()),
        p.coefficient(()),
        exact,
    )


def multi_directional(
    polys: Sequence[Polynomial], order: int, *, dimension: int | None = None, rational: bool = False
) -> DirectionalSet:
    """One set of directions for several operators of the same order.

    Args:
        polys: homogeneous of degree ``order``, or zero.
        order: K ≥ 1.
        dimension: length of the directions.
        rational: as for `directional_sum`.

    Returns:
        Directions (R, d) and weights (T, R).

    Raises:
        ValueError: if a polynomial has another degree.

    Example:
        >>> xx, yy = Polynomial.from_axes((0, 0)), Polynomial.from_axes((1, 1))
        >>> multi_directional([xx + yy, xx - yy, yy], 2).weights[1]
        (Fraction(1, 1), Fraction(-1, 1))
    """
    for p in polys:
        if p and (p.degree() != order or not p.is_homogeneous() or order < 1):
            raise ValueError(f"every symbol must be of the one degree {order} ≥ 1, got {p}")
    candidates: list[tuple[list[Polynomial], bool]] = []
    # Large operators first fix directions that small ones reuse; small ones first may give all that large ones need.
    for sign, only_rational in product((1, -1), (True,) if rational else (False, True)):
        forms: list[Polynomial] = []
        exact = True
        for p in sorted(filter(None, polys), key=lambda p: sign * -len(p.terms)):
            powers, part_exact = _extend(p, forms, exact, only_rational)
            exact = exact and part_exact
            forms += [form for form in powers if form not in forms]
        candidates.append((_pruned(forms, polys) if exact else forms, exact))
    forms, exact = min(candidates, key=lambda candidate: len(candidate[0]))
    weights = [_solve(p, forms, exact) if p else [Fraction(0)] * len(forms) for p in polys]
    solved = [row for row in weights if row is not None]
    assert len(solved) == len(polys), "every polynomial was written over these directions"
    return DirectionalSet(_rows(forms, _dimension(polys, dimension)), tuple(map(tuple, solved)), order, exact)


# ---------------------------------------------------------------------- choosing


def spread_over_directions(
    polys: Sequence[Polynomial], *, dimension: int, rational: bool = False
) -> list[dict[Direction, Fraction]]:
    """Several homogeneous operators, of any orders, over directions they share as far as that is possible.

    Args:
        polys: each homogeneous of degree ≥ 2.
        dimension: length of the directions.
        rational: as for `directional_sum`.

    Returns:
        For each polynomial {direction: weight} with p(ξ) = Σ w (v·ξ)^deg p.

    Example:
        >>> xx = Polynomial.from_axes((0, 0))
        >>> spread_over_directions([xx * xx, 3 * xx], dimension=1)
        [{(Fraction(1, 1),): Fraction(1, 1)}, {(Fraction(1, 1),): Fraction(3, 1)}]
    """
    found: list[dict[Direction, Fraction]] = [{} for _ in polys]
    forms: list[Polynomial] = []
    exact = True
    for order in sorted({p.degree() for p in polys if p}, reverse=True):
        same = [k for k, p in enumerate(polys) if p.degree() == order]
        if not forms and len(same) > 1:
            joint = multi_directional([polys[k] for k in same], order, dimension=dimension, rational=rational)
            exact = joint.exact
            forms = [Polynomial.linear(v) for v in joint.directions]
            for k, row in zip(same, joint.weights, strict=True):
                found[k] = {v: w for v, w in zip(joint.directions, row, strict=True) if w}
            continue
        for k in same:
            powers, part_exact = _extend(polys[k], forms, exact, rational)
            exact = exact and part_exact
            known = set(forms)
            forms += [form for form in powers if form not in known]
            found[k] = dict(zip(_rows(powers, dimension), powers.values(), strict=True))
    return found


@lru_cache(maxsize=512)
def _smallest(p: Polynomial, rational: bool) -> tuple[Powers, bool]:
    """The smallest sum known for homogeneous p, and whether it is exact."""
    order = p.degree()
    if order == 1:
        total: Powers = {}
        add_power(total, p, Fraction(1), 1)
        return total, True
    if all(len(monomial) == 1 for monomial, _ in p.terms):
        return {Polynomial.variable(m[0][0]): c for m, c in p.terms}, True
    if order == 2:
        return {form: weight for weight, form in sum_of_squares(p)}, True
    found: list[tuple[Powers, bool]] = []
    root = square_root(p)
    quadric = None
    if root is not None:
        leading, base, k = root
        squares = sum_of_squares(base)
        quadric = quadric_power([weight for weight, _ in squares], k, rational=rational)
        if quadric is not None:
            powers, exact = quadric
            substituted = _substituted(powers, [form for _, form in squares], order, exact)
            found.append(({form: leading * weight for form, weight in substituted.items()}, exact))
    if quadric is None or len(p.terms) <= _FEW:
        found.append((_by_terms(p), True))
    # The sets for powers of quadrics are (next to) minimal; a search would only cost time.
    reduced = _reduced(p, min(len(powers) for powers, _ in found)) if quadric is None else None
    if reduced is not None:
        found.append((reduced, True))
    best, exact = min(found, key=lambda entry: (len(entry[0]), amplification(entry[0], order)))
    difference = p - Polynomial.total(weight * form**order for form, weight in best.items())
    scale = max(abs(c) for _, c in p.terms)
    assert not difference or (not exact and max(abs(c) for _, c in difference.terms) < _TOLERANCE * scale)
    return best, exact


def _by_terms(p: Polynomial) -> Powers:
    """Monomial by monomial; equal directions merge."""
    order = p.degree()
    total: Powers = {}
    for monomial, coefficient in p.terms:
        variables = [Polynomial.variable(axis) for axis, _ in monomial]
        powers = _substituted(monomial_sum([power for _, power in monomial]), variables, order, True)
        for form, weight in powers.items():
            add_power(total, form, coefficient * weight, order)
    return total


def _reduced(p: Polynomial, known: int) -> Powers | None:
    """Search among short integer directions in the essential variables of p, those linear forms it depends on."""
    order = p.degree()
    if len(p.coordinates()) > 3 * _MAX_DIMENSION:
        return None
    space = derivative_space([p])
    # No sum is shorter than the number of independent derivatives of any one degree (the catalecticant bound).
    if known <= max(space.degrees.count(degree) for degree in space.degrees):
        return None
    forms = [b for b in space.basis if b.degree() == 1]
    if len(forms) > _MAX_DIMENSION or many_monomials(len(forms), order):
        return None
    # The forms are in echelon form, ξ_c + (non-pivots): set those to 0 and each is its pivot variable.
    place = {form.terms[0][0][0][0]: k for k, form in enumerate(forms)}
    essential = Polynomial.from_terms(
        (tuple(sorted((place[axis], power) for axis, power in m)), c)
        for m, c in p.terms
        if all(axis in place for axis, _ in m)
    )
    powers = sparse_sum(essential, short_directions(len(forms)))
    return None if powers is None else _substituted(powers, forms, order, True)


def _substituted(powers: Powers, variables: Sequence[Polynomial], order: int, exact: bool) -> Powers:
    """The sum with variable k replaced by the k-th linear form."""
    total: Powers = {}
    for direction, weight in powers.items():
        form = Polynomial.total(c * variables[m[0][0]] for m, c in direction.terms)
        if exact:
            add_power(total, form, weight, order)
        else:
            # Nothing to merge, and numerators and denominators are beyond reading anyway.
            total[form] = weight
    return total


def _extend(p: Polynomial, forms: Sequence[Polynomial], exact: bool, rational: bool) -> tuple[Powers, bool]:
    """p over the given forms and as few new ones as possible."""
    powers, own_exact = _smallest(p, rational)
    known = set(forms)
    new = [form for form in powers if form not in known]
    weights = _solve(p, forms, exact) if forms and new else None
    if weights is not None:
        return {form: w for form, w in zip(forms, weights, strict=True) if w}, exact
    coordinates = {axis for form in (*forms, p) for axis in form.coordinates()}
    if forms and exact and own_exact and not many_monomials(len(coordinates), p.degree()):
        mixed = sparse_sum(p, [*forms, *new], free=len(forms))
        if mixed is not None and sum(form not in known for form in mixed) < len(new):
            return mixed, True
    return powers, own_exact


def _solve(p: Polynomial, forms: Sequence[Polynomial], exact: bool) -> list[Fraction] | None:
    if exact:
        return solve_exactly(p, forms)
    powers = [form ** p.degree() for form in forms]
    monomials = sorted({m for q in [*powers, p] for m, _ in q.terms})
    matrix = np.array([[float(q.coefficient(m)) for q in powers] for m in monomials])
    target = np.array([float(p.coefficient(m)) for m in monomials])
    # Irrational directions: the exact system for their roundings has no solution, the true one has.
    weights = np.linalg.lstsq(matrix, target, rcond=1e-12)[0]
    scale = np.abs(target).max() + (np.abs(matrix) @ np.abs(weights)).max()
    if np.abs(matrix @ weights - target).max() > 32 * np.finfo(float).eps * scale:
        return None
    return [Fraction(w) if abs(w) > 1e-14 * np.abs(weights).max() else Fraction(0) for w in weights.tolist()]


def _pruned(forms: list[Polynomial], polys: Iterable[Polynomial]) -> list[Polynomial]:
    """Drop directions, last first, while all polynomials stay in the span of the powers of the others."""
    targets = [p for p in polys if p]
    if len(forms) > 40:
        return forms
    for form in reversed(forms):
        rest = [other for other in forms if other is not form]
        if all(solve_exactly(p, rest) is not None for p in targets):
            forms = rest
    return forms


# ---------------------------------------------------------------------- shapes


def _expand(directions: Sequence[Direction], weights: Sequence[Fraction], order: int) -> Polynomial:
    powers = (Polynomial.linear(v) ** order * w for v, w in zip(directions, weights, strict=True) if w)
    return Polynomial.total(powers)


def _dimension(polys: Iterable[Polynomial], dimension: int | None) -> int:
    needed = max((p.coordinates()[-1] + 1 for p in polys if p.coordinates()), default=0)
    if dimension is not None and dimension < needed:
        raise ValueError(f"the symbol contains ξ_{needed - 1}, so directions need {needed} entries, not {dimension}")
    return needed if dimension is None else dimension


def _rows(forms: Iterable[Polynomial], dimension: int) -> tuple[Direction, ...]:
    zero = Fraction(0)
    rows = []
    for form in forms:
        row = [zero] * dimension
        for monomial, coefficient in form.terms:
            row[monomial[0][0]] = coefficient
        rows.append(tuple(row))
    return tuple(rows)
