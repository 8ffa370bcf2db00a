"""DOF: any second-order operator through a factorisation of its coefficient matrix, rank(A) + 2 channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from opdsl.algebra.polynomial import Polynomial
from opdsl.algebra.quadratic_forms import sum_of_squares
from opdsl.language.constructors import mul, transform
from opdsl.language.residual import Number, Parameter, Pointwise
from opdsl.language.structure import free_labels
from opdsl.strategies.base import Method, Refusal, Request, Strategy
from opdsl.strategies.direction_groups import Direction, Need, Needs, build, first_order, number_one, spread_of
from opdsl.strategies.linear_operators import LinearOperator, split_number


class DOF(Strategy):
    r"""ξᵀAξ + b·ξ with A = Σ_r D_r v_r v_rᵀ: directions v_r and one collapsed channel, s ← σ's + σ'' Σ_r D_r g_r².

    A constant A is factored once (exactly over the rationals where the text gives it, by eigenvalues where an array is
    bound), so low rank and indefinite signs cost nothing extra. Where A depends on the point or is learned, the
    coordinate directions are kept and g·(A g) is formed at every nonlinearity, differentiable in A.

    Reference: Li, Wang, Ye, He, Wang, *DOF: Accelerating High-order Differential Operators with Forward Propagation*,
    arXiv:2402.09730, eqs. 6–9.
    """

    name = "dof"
    reference = "arXiv:2402.09730"

    def propose(self, request: Request) -> Method | Refusal:
        needs: dict[LinearOperator, Needs] = {}
        notes: list[str] = []
        if any(op.spread is not None for op in request.operators):
            # All coordinate directions are carried anyway: a matrix over them costs fewer channels than directions of its own.
            request = replace(request, known={})
        for op in request.operators:
            n = needs[op] = Needs()
            if op.spread is not None:
                n.spread = spread_of(op)
                if n.spread is None or n.spread > 2:
                    return Refusal(self.name, f"a family of derivatives of order {op.order} is not of second order")
                continue
            if op.order > 2:
                return Refusal(self.name, f"order {op.order} is above 2")
            if not first_order(op, n):
                return Refusal(self.name, "a first-order term has coefficients over several indices")
            reason = second_order(op, n, request, notes)
            if reason:
                return Refusal(self.name, reason)
        return build(self.name, needs, request.dimension, request.space, notes=tuple(dict.fromkeys(notes)))


def second_order(op: LinearOperator, n: Needs, request: Request, notes: list[str]) -> str | None:
    """Fill the second-order needs; a reason where that is impossible."""
    static: dict[tuple[int, int], float] = {}
    from_arrays = False
    exact: dict[Pointwise, Polynomial] = {}
    whole: list[Need] = []
    arrays: list[tuple[Pointwise, str, str]] = []
    for t in op.terms:
        if t.order != 2:
            continue
        if t.labels:
            first, second = t.axes
            if first == second:
                number, rest = split_number(t.coefficient)
                whole.append(Need(2, rest, None, float(number), str(first) if free_labels(rest) else None))
            elif len(t.labels) == 2:
                known = _known_matrix(t.coefficient, t.labels, request)
                if known is None:
                    arrays.append((t.coefficient, str(first), str(second)))
                else:
                    from_arrays = True
                    for (r, s), v in np.ndenumerate(known):
                        _accumulate(static, request.space[r], request.space[s], float(v))
            else:
                return "a second-order term mixes an index with a fixed coordinate"
            continue
        i, j = (a for a in t.axes if isinstance(a, int))
        coefficient = substitute_known(t.coefficient, request)
        from_arrays |= coefficient is not t.coefficient
        number, rest = split_number(coefficient)
        if rest == number_one():
            _accumulate(static, i, j, float(number))
        exact[rest] = exact.get(rest, Polynomial.constant(0)) + Polynomial.from_axes((i, j)) * Fraction(number)
    if whole and not arrays and not any(_mixed(p) for p in exact.values()) and not from_arrays:
        n.weighted += whole
        _pure(exact, n)
        return None
    if from_arrays:
        one = number_one()
        for need in [w for w in whole if w.coefficient == one and w.label is None]:
            whole.remove(need)
            for column in request.space:
                _accumulate(static, column, column, need.uniform)
        exact.pop(one, None)
        rounding = max(float(np.finfo(known.dtype).eps) for known in request.known.values())
        squares = _eigen(static, request.dimension, rounding)
        notes.append(f"A has rank {len(squares)}: {len(squares)} directions")
        n.weighted.append(Need(2, one, dict(squares)))
    _factor(exact, whole, arrays, request.dimension, n, notes)
    return None


def _accumulate(static: dict[tuple[int, int], float], i: int, j: int, value: float) -> None:
    key = (min(i, j), max(i, j))
    static[key] = static.get(key, 0.0) + value


def _mixed(p: Polynomial) -> bool:
    return any(len(monomial) > 1 for monomial, _ in p.terms)


def _pure(exact: dict[Pointwise, Polynomial], n: Needs) -> None:
    for coefficient, p in exact.items():
        directions: dict[Direction, float] = {m[0][0]: float(c) for m, c in p.terms}
        if directions:
            n.weighted.append(Need(2, coefficient, directions))


def _factor(
    exact: dict[Pointwise, Polynomial],
    whole: Sequence[Need],
    arrays: Sequence[tuple[Pointwise, str, str]],
    dimension: int,
    n: Needs,
    notes: list[str],
) -> None:
    """Exact factors where they need no more directions than there are coordinates; otherwise a run-time matrix."""
    factored = {c: sum_of_squares(p) for c, p in exact.items() if p}
    directions = {as_direction(form, dimension) for squares in factored.values() for _, form in squares}
    columns = {c for p in exact.values() for c in p.coordinates()}
    if not arrays and not whole and len(directions) <= len(columns):
        for coefficient, squares in factored.items():
            weights: dict[Direction, float] = {}
            for w, form in squares:
                direction = as_direction(form, dimension)
                weights[direction] = weights.get(direction, 0.0) + float(w) * _along(form)
            n.weighted.append(Need(2, coefficient, weights))
        return
    n.arrays += list(arrays)
    n.weighted += list(whole)
    for coefficient, p in exact.items():
        for monomial, number in p.terms:
            i, j = (c for c, power in monomial for _ in range(power))
            n.entries.append((i, j, mul(Number(number), coefficient)))
    if n.entries or n.arrays:
        notes.append("coefficients known at run time: g·(A g) at every nonlinearity")


def as_direction(form: Polynomial, dimension: int) -> Direction:
    """A linear form as a direction: a column where it is a single coordinate, else a vector (d,)."""
    terms = {m[0][0]: c for m, c in form.terms}
    if len(terms) == 1:
        return next(iter(terms))
    return tuple(float(terms.get(k, Fraction(0))) for k in range(dimension))


def _along(form: Polynomial) -> float:
    """(c ξ_i)² = c² ξ_i²: a single coordinate is carried with coefficient 1."""
    return float(form.terms[0][1]) ** 2 if len(form.terms) == 1 else 1.0


def _eigen(static: dict[tuple[int, int], float], dimension: int, rounding: float) -> list[tuple[Direction, float]]:
    """Directions and weights of a symmetric matrix by its eigenvalues, without those that rounding alone explains.

    Numbers of relative precision ``rounding`` leave of a product of low rank eigenvalues that are not quite zero. The smallest ones are
    dropped as long as no entry changes by more than d · rounding of its row and its column, so that a small block beside large ones stays.
    """
    matrix = np.zeros((dimension, dimension))
    for (i, j), v in static.items():
        matrix[i, j] += v / 2
        matrix[j, i] += v / 2
    if not (matrix - np.diag(np.diag(matrix))).any():
        return [(i, float(matrix[i, i])) for i in range(dimension) if matrix[i, i] != 0.0]
    values, vectors = np.linalg.eigh(matrix)
    rows = np.sqrt(np.abs(matrix).max(axis=0))
    allowed = dimension * rounding * np.outer(rows, rows)
    order = np.argsort(np.abs(values))
    rest, dropped = np.zeros_like(matrix), 0
    for k in order:
        rest = rest + values[k] * np.outer(vectors[:, k], vectors[:, k])
        # Eigenvectors are known up to the rounding of the largest eigenvalue, in double precision.
        if (np.abs(rest) > allowed + dimension * np.finfo(np.float64).eps * np.abs(values).max()).any():
            break
        dropped += 1
    return [(tuple(vectors[:, k].tolist()), float(values[k])) for k in np.sort(order[dropped:])]


def substitute_known(node: Pointwise, request: Request) -> Pointwise:
    """Put in the entries of arrays that are known while planning."""

    def leaf(node: Pointwise) -> Pointwise:
        if isinstance(node, Parameter) and node.name in request.known and all(isinstance(a, int) for a in node.index):
            return Number(float(request.known[node.name][tuple(int(a) for a in node.index)]))
        return node

    return transform(node, leaf, {})


def _known_matrix(coefficient: Pointwise, labels: Sequence[str], request: Request) -> np.ndarray | None:  # type: ignore[type-arg]
    number, rest = split_number(coefficient)
    if isinstance(rest, Parameter) and rest.name in request.known and set(rest.index) == set(labels):
        return float(number) * request.known[rest.name]
    return None
