"""Choose groups, tops and read-outs for a directional push-forward.

Input: for each operator its *needs*, order by order, as weighted directions. Output: a `DirectionalMethod`. A direction is
kept one order below the highest it is needed for, because the highest order collapses; an operator whose orders are all kept
anyway is read from there and costs no channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import factorial

from opdsl.language.residual import Number, Pointwise
from opdsl.language.structure import free_labels
from opdsl.strategies.base import Refusal
from opdsl.strategies.directional import MOST_ENTRIES, DirectionalMethod, Form, Group, Quadratic, Weight
from opdsl.strategies.linear_operators import LinearOperator, split_number

Direction = int | tuple[float, ...]
"""A coordinate column, or a vector."""


@dataclass(frozen=True)
class Need:
    """coefficient · Σ_r w_r (v_r·∂)^order of one operator.

    ``directions`` maps each direction to its weight; None stands for all space coordinates with weight ``uniform`` (and a
    coefficient that may carry ``label``).
    """

    order: int
    coefficient: Pointwise
    directions: Mapping[Direction, float] | None = None
    uniform: float = 1.0
    label: str | None = None


@dataclass
class Needs:
    """Everything one operator needs."""

    weighted: list[Need] = field(default_factory=list)
    first: list[tuple[Pointwise, int]] = field(default_factory=list)
    vectors: list[tuple[Pointwise, str]] = field(default_factory=list)
    entries: list[tuple[int, int, Pointwise]] = field(default_factory=list)
    arrays: list[tuple[Pointwise, str, str]] = field(default_factory=list)
    spread: int | None = None


def first_order(operator: LinearOperator, needs: Needs) -> bool:
    """Take the order-1 terms of an operator; False where a form of them is not supported."""
    for t in operator.terms:
        if t.order != 1:
            continue
        axis = t.axes[0]
        if isinstance(axis, int):
            if free_labels(t.coefficient):
                return False
            needs.first.append((t.coefficient, axis))
        else:
            needs.vectors.append((t.coefficient, axis))
    return True


def diagonal(operator: LinearOperator, needs: Needs, orders: Sequence[int] | None = None) -> list[str]:
    """Take the pure powers ∂_i^k, k ≥ 2 (single or summed over all coordinates); the rest is named in the result."""
    left: list[str] = []
    by_key: dict[tuple[int, Pointwise], dict[Direction, float]] = {}
    for t in operator.terms:
        if t.order < 2 or (orders is not None and t.order not in orders):
            continue
        if len(set(t.axes)) > 1:
            left.append("mixed derivatives")
        elif isinstance(t.axes[0], int):
            number, rest = split_number(t.coefficient)
            weights = by_key.setdefault((t.order, rest), {})
            weights[t.axes[0]] = weights.get(t.axes[0], 0.0) + float(number)
        else:
            number, rest = split_number(t.coefficient)
            label = t.labels[0] if free_labels(rest) else None
            needs.weighted.append(Need(t.order, rest, None, float(number), label))
    needs.weighted += [Need(order, rest, weights) for (order, rest), weights in by_key.items()]
    return left


def build(
    strategy: str,
    needs: Mapping[LinearOperator, Needs],
    dimension: int,
    space: Sequence[int],
    *,
    collapse: bool = True,
    notes: Sequence[str] = (),
) -> DirectionalMethod | Refusal:
    """Lay out the groups and read-outs; refused where the directions would not fit into memory.

    Args:
        strategy: its name, for the plan.
        needs: per operator.
        dimension: number of columns d.
        space: columns of an unwritten sum.
        collapse: collapse the top order; False keeps every order (n-TangentProp).
        notes: lines for `explain`.
    """
    kept: dict[Direction, int] = {}
    whole = 0  # order to be kept along all space coordinates together

    def keep(direction: Direction, order: int) -> None:
        kept[direction] = max(kept.get(direction, 0), order)

    below = 1 if collapse else 0
    for n in needs.values():
        for need in n.weighted:
            order = max(need.order - below, 1)
            if need.directions is None:
                whole = max(whole, order)
            else:
                for direction in need.directions:
                    keep(direction, order)
        if n.arrays:
            whole = max(whole, 1)
        for r, s, _ in n.entries:
            keep(r, 1)
            keep(s, 1)
        if n.spread is not None:
            whole = max(whole, n.spread)
        if not collapse:
            for _, column in n.first:
                keep(column, 1)
    matrices = any(n.entries or n.arrays for n in needs.values())
    axes = [d for d in kept if isinstance(d, int)]
    vectors = [d for d in kept if not isinstance(d, int)]
    if whole or (matrices and whole):
        whole = max([whole] + [kept[c] for c in axes if c in space])
        axes = [c for c in axes if c not in space]
    if whole and len(space) * dimension > MOST_ENTRIES:
        return Refusal(
            strategy,
            f"{len(space)} directions in {dimension} dimensions are {len(space) * dimension:.3g} numbers before the first layer",
        )
    space = tuple(space)
    groups: list[Group] = []
    place: dict[Direction, tuple[int, int]] = {}
    if whole:
        groups.append(Group(whole, along=space))
        place.update({c: (0, r) for r, c in enumerate(space)})
    if matrices and axes:  # a matrix couples all of its axes: they stay together
        highest = max(kept[c] for c in axes)
        kept.update(dict.fromkeys(axes, highest))
    for order in sorted({kept[c] for c in axes}):
        chosen = tuple(sorted(c for c in axes if kept[c] == order))
        place.update({c: (len(groups), r) for r, c in enumerate(chosen)})
        groups.append(Group(order, along=chosen))
    for order in sorted({kept[v] for v in vectors}):
        some = tuple(v for v in vectors if kept[v] == order)
        place.update({v: (len(groups), r) for r, v in enumerate(some)})
        groups.append(Group(order, vectors=some))  # type: ignore[arg-type]
    if any(place[r][0] != place[s][0] for n in needs.values() for r, s, _ in n.entries):
        return Refusal(strategy, "a mixed derivative couples a coordinate of an index sum with one outside of it")
    forms = {op: _form(n, groups, place, whole) for op, n in needs.items()}
    return DirectionalMethod(strategy, tuple(groups), forms, dimension, space, tuple(notes))


def _form(n: Needs, groups: Sequence[Group], place: Mapping[Direction, tuple[int, int]], whole: int) -> Form:
    if n.spread is not None:
        return Form(top=False, spread=(0, n.spread))
    weights: list[Weight] = []
    for need in n.weighted:
        scale = float(factorial(need.order))
        if need.directions is None:
            weights.append(Weight(0, need.order, need.coefficient, None, need.uniform * scale, need.label))
            continue
        by_group: dict[int, list[float]] = {}
        for direction, w in need.directions.items():
            g, r = place[direction]
            by_group.setdefault(g, [0.0] * groups[g].size)[r] += w * scale
        weights += [Weight(g, need.order, need.coefficient, tuple(v)) for g, v in by_group.items()]
    # Arrays run over the coordinates of index sums, which are the first group; entries may also couple others among themselves.
    coupled: dict[int, list[tuple[int, int, Pointwise]]] = {0: []} if n.arrays else {}
    for r, s, c in n.entries:
        coupled.setdefault(place[r][0], []).append((place[r][1], place[s][1], c))
    quadratic = tuple(Quadratic(g, tuple(entries), tuple(n.arrays) if g == 0 else ()) for g, entries in coupled.items())
    readable = (
        not quadratic
        and not n.vectors
        and all(groups[w.group].kept >= w.order for w in weights)
        and all(c in place for _, c in n.first)
    )
    if not readable:
        return Form(tuple(weights), tuple(n.first), tuple(n.vectors), quadratic, True)
    for coefficient, column in n.first:
        g, r = place[column]
        vector = [0.0] * groups[g].size
        vector[r] = 1.0
        weights.append(Weight(g, 1, coefficient, tuple(vector)))
    return Form(tuple(weights), top=False)


def spread_of(operator: LinearOperator) -> int | None:
    """The order k where the operator is the family ∂_i^k over a label; None otherwise."""
    if operator.spread is None:
        return None
    axes = operator.terms[0].axes
    return len(axes) if all(a == operator.spread for a in axes) else None


def number_one() -> Number:
    """The coefficient 1."""
    return Number(Fraction(1))
