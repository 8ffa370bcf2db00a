r"""The directional algebra: Taylor coefficients along R directions, the top order collapsed.

For each direction v_r the channels are the scaled coefficients h_{k,r} = D^k h[v_r,…,v_r]/k!, k = 1 … M. A *top* is one
channel for a whole weighted sum,

    p(∂)h = Σ_j Σ_r w_{j,r} j! h_{j,r}  (+ first-order part),

which may use orders one higher than are kept: the top coefficient of σ∘h is linear in the top coefficient of h, so the sum
over directions commutes with the network (arXiv:2505.13644, eq. 6). Special cases: R = 1 without tops is n-TangentProp;
v_r = e_r, M = 1 with one top of order 2 is the forward Laplacian; other directions or weights give DOF, collapsed Taylor mode
and STDE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.jets.algebra import Algebra, Needed, Pairing, Slots, powers
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.elementary import Elementary, Series, Term, plus, times
from opdsl.jets.graph import Array
from opdsl.jets.jet import Jet, align, per_point_error


@dataclass(frozen=True)
class Reduction:
    """The linear form a ↦ Σ_r w_r a_r over directions (on scaled coefficients: factorials are already in w).

    Args:
        scale: run-time factor, a number, () or, in batched graphs, (n,).
        static: weights known when planning, (R,), or (K, *S) where slots mean other directions at other entries; None for all ones.
        runtime: weights known at run time, (R,) or (R, n); exclusive with ``static``.
        matrix: for order 2 only: the form Σ_rs A_rs a_r b_s, shape (R, R) or (R, R, n).
    """

    scale: Any = 1.0
    static: npt.NDArray[np.float64] | None = None
    runtime: Any = None
    matrix: Any = None

    def one(self, ops: ArrayOps, a: Array, batch_axis: int | None) -> Array:
        """w_0 a for a single direction whose axis has been dropped: S → S."""
        if self.matrix is not None:
            return align(ops.xp, self.matrix[0, 0, ...], len(a.shape), batch_axis) * a
        if self.runtime is not None:
            return align(ops.xp, self.runtime[0, ...], len(a.shape), batch_axis) * a
        if self.static is not None:
            a = _scaled(a, float(self.static[0])) if self.static.ndim == 1 else a * ops.asarray(self.static[0], a)
        if isinstance(self.scale, float):
            return _scaled(a, self.scale)
        return align(ops.xp, self.scale, len(a.shape), batch_axis) * a

    def __call__(self, ops: ArrayOps, a: Array, batch_axis: int | None) -> Array:
        """(R, *S) → S."""
        xp, ndim = ops.xp, len(a.shape) - 1
        if self.runtime is not None:
            total = xp.sum(align(xp, self.runtime, ndim, batch_axis, lead=1) * a, axis=0)
        elif self.static is None:
            total = xp.sum(a, axis=0) if a.shape[0] > 1 else a[0, ...]
        elif self.static.ndim > 1:
            total = xp.sum(ops.asarray(self.static, a) * a, axis=0)
        elif a.shape[0] == 1:
            total = _scaled(a[0, ...], float(self.static[0]))
        else:
            total = xp.sum(xp.reshape(ops.asarray(self.static, a), (-1, *[1] * ndim)) * a, axis=0)
        if isinstance(self.scale, float):
            return _scaled(total, self.scale)
        return align(xp, self.scale, ndim, batch_axis) * total

    def packed(self, slots: Slots, mask: npt.NDArray[np.bool_] | None) -> Reduction:
        """The same form on slots: an entry's weight in a slot is that of the one direction it depends on there."""
        if self.static is None:
            return self
        own, count = np.asarray(slots), max(slots, default=-1) + 1
        if mask is None or np.ptp(self.static) == 0:
            # Directions of one slot weigh the same.
            weights = np.zeros(count)
            weights[own[own >= 0]] = self.static[own >= 0]
            return replace(self, static=weights)
        weights = np.zeros((count, *mask.shape[1:]))
        for r in np.flatnonzero(own >= 0):
            weights[own[r], ...] = np.where(mask[r], self.static[r], weights[own[r]])
        return replace(self, static=weights)

    def pair(self, ops: ArrayOps, pairing: Pairing, a: Array, b: Array, batch_axis: int | None) -> Array:
        """Σ_r w_r B(a_r, b_r), or Σ_rs A_rs B(a_r, b_s)."""
        if self.matrix is None:
            return self(ops, pairing.both(a, b), batch_axis)
        return self(ops, pairing.both(a, _transform(ops, self.matrix, b, batch_axis)), batch_axis)


def _scaled(a: Array, c: float) -> Array:
    return a if c == 1.0 else a * c


def _transform(ops: ArrayOps, matrix: Any, b: Array, batch_axis: int | None) -> Array:
    """(A b)_r = Σ_s A_rs b_s over the direction axis, A constant or one matrix per point."""
    size, shape = b.shape[0], b.shape
    if len(matrix.shape) == 2:
        return ops.xp.reshape(matrix @ ops.xp.reshape(b, (size, -1)), (matrix.shape[0], *shape[1:]))
    # One matrix per point: bring points in front, one small product each. (R, *S) → (n, R, rest)
    xp = ops.xp
    if batch_axis is None:
        raise per_point_error()
    front = xp.moveaxis(b, 1 + batch_axis, 0)
    rest = front.shape[2:]
    product = xp.permute_dims(matrix, (2, 0, 1)) @ xp.reshape(front, (front.shape[0], size, -1))
    return xp.moveaxis(xp.reshape(product, (product.shape[0], matrix.shape[0], *rest)), 0, 1 + batch_axis)


@dataclass(frozen=True)
class Top:
    """One collapsed channel. ``reductions[g][j]`` is the form on order-j coefficients of group g (2 ≤ j ≤ M_g + 1)."""

    reductions: tuple[dict[int, Reduction], ...]


class Directional(Algebra):
    """Groups of directions, each kept up to its own order, and tops over all of them.

    Parts, in this order: for every group g the orders 1 … M_g (each R_g channels); then one part with all tops.

    Args:
        groups: (R_g, M_g) for each group.
        tops: the collapsed channels.
    """

    def __init__(self, groups: Sequence[tuple[int, int]], tops: Sequence[Top] = ()) -> None:
        self.groups = tuple(groups)
        self.tops = tuple(tops)
        sizes: list[int] = []
        self._start: list[int] = []
        for directions, kept in self.groups:
            self._start.append(len(sizes))
            sizes += [directions] * kept
        self._top = len(sizes) if self.tops else None
        if self.tops:
            sizes.append(len(self.tops))
        self.sizes = tuple(sizes)
        self.order = max(
            [kept for _, kept in self.groups] + [j for top in self.tops for by in top.reductions for j in by] + [1],
        )

    # ------------------------------------------------------------------------------------------------------- slots

    def grouped(self) -> list[list[int]]:
        return [[self.part(g, k) for k in range(1, kept + 1)] for g, (_, kept) in enumerate(self.groups)]

    def apart(self, group: int, composed: bool) -> Any:
        """Weights known at run time only are by direction; so are those of composed rules, whose intermediate entries nobody looks at."""
        forms = [form for top in self.tops for form in top.reductions[group].values()]
        if any(form.matrix is not None or form.runtime is not None for form in forms):
            return True
        static = [form.static for form in forms if form.static is not None]
        return np.logical_or.reduce([s[:, None] != s[None, :] for s in static]) if composed and static else False

    def packed(self, slots: Sequence[Slots], masks: Sequence[Any]) -> Directional:
        groups = [(max(own, default=-1) + 1, kept) for own, (_, kept) in zip(slots, self.groups, strict=True)]
        tops = [
            Top(tuple({j: f.packed(slots[g], masks[g]) for j, f in forms.items()} for g, forms in enumerate(top.reductions)))
            for top in self.tops
        ]
        return Directional(groups, tops)

    # -------------------------------------------------------------------------------------------------- bookkeeping

    def part(self, group: int, order: int) -> int:
        """Position of the part that holds order ``order`` of a group."""
        return self._start[group] + order - 1

    @property
    def top_part(self) -> int:
        assert self._top is not None
        return self._top

    def requires(self, needed: Needed) -> Needed:
        out = set(needed)
        for g, (_, kept) in enumerate(self.groups):
            highest = max((k for k in range(1, kept + 1) if self.part(g, k) in needed), default=0)
            if self._top in needed:
                highest = max([highest] + [min(j - 1 if j > kept else j, kept) for t in self.tops for j in t.reductions[g]])
            out.update(self.part(g, k) for k in range(1, highest + 1))
        return frozenset(out)

    def _series(self, jet: Jet, group: int) -> Series:
        kept = self.groups[group][1]
        return [jet.primal, *(jet.parts[self.part(group, k)] for k in range(1, kept + 1))]

    def _slim(self, ops: ArrayOps, jet: Jet, group: int) -> Series:
        """The series for elementwise work. A single direction loses its axis: XLA's loops are a fifth faster without it."""
        series = self._series(jet, group)
        if self.groups[group][0] > 1:
            return series
        return [series[0], *(None if t is None else ops.unstack(t)[0] for t in series[1:])]

    def _reduce(self, ops: ArrayOps, form: Reduction, a: Array, group: int, axis: int | None) -> Array:
        return form(ops, a, axis) if self.groups[group][0] > 1 else form.one(ops, a, axis)

    def _result(self, primal: Array, levels: list[Series], top: Array | None, fixed: bool, batch_axis: int | None) -> Jet:
        parts = [
            term[None, ...] if term is not None and slim else term
            for series, (size, _) in zip(levels, self.groups, strict=True)
            for slim in (size == 1,)
            for term in series[1:]
        ]
        if self._top is not None:
            parts.append(top)
        return Jet(primal, tuple(parts), tuple([fixed] * len(parts)), batch_axis)

    # ------------------------------------------------------------------------------------------------- compositions

    def compose(self, ops: ArrayOps, function: Elementary, h: Jet, needed: Needed) -> Jet:
        # Powers of the nilpotent part cost about K³/6 products but share the scalars c_k over all directions and let them be
        # factored out of the collapsed sum; the differential equation costs K² per direction. They break even at K = 4.
        if function.series is None or self.order <= 4:
            return self._compose_by_powers(ops, function, h, needed)
        return self._compose_by_recurrence(ops, function, h, needed)

    def _wanted(self, group: int, needed: Needed) -> int:
        kept = self.groups[group][1]
        return max((k for k in range(1, kept + 1) if self.part(group, k) in needed), default=0)

    def _compose_by_powers(self, ops: ArrayOps, function: Elementary, h: Jet, needed: Needed) -> Jet:
        c = function.expand(ops, h.primal, self.order if not h.is_constant else 0)
        if h.is_constant:
            return Jet(c[0], h.parts, h.fixed, h.batch_axis)
        axis = h.batch_axis
        read_tops = self._top is not None and self._top in needed
        levels: list[Series] = []
        sums: list[list[Term]] = [[None] * (self.order + 1) for _ in self.tops]
        for g, (_, kept) in enumerate(self.groups):
            highest = self._wanted(g, needed)
            n = self._slim(ops, h, g)
            top_order = max([j for t in self.tops for j in t.reductions[g]], default=0) if read_tops else 0
            power = powers([None, *n[1:]], max(highest, top_order))
            level: Series = [c[0]]
            for j in range(1, kept + 1):
                total: Term = None
                if self.part(g, j) in needed:
                    for m in range(1, j + 1):
                        total = plus(total, times(c[m], power[m][j]))
                level.append(total)
            levels.append(level)
            if read_tops:
                for t, top in enumerate(self.tops):
                    self._collapse(ops, top.reductions[g], n, power, sums[t], g, axis)
        top_value = self._assemble(ops, c, h, sums) if read_tops else None
        return self._result(c[0], levels, top_value, False, axis)

    def _collapse(
        self,
        ops: ArrayOps,
        forms: dict[int, Reduction],
        n: Series,
        power: list[Series],
        sums: list[Term],
        group: int,
        axis: int | None,
    ) -> None:
        """Add Σ_j w_j·[n^m]_j to ``sums[m]``; the scalar c_m multiplies the sum over directions once."""
        square = Pairing(ops, ops.xp.multiply, direct=True)
        for j, form in forms.items():
            if form.matrix is not None and self.groups[group][0] > 1:
                if n[1] is not None:
                    sums[2] = plus(sums[2], form.pair(ops, square, n[1], n[1], axis))
                continue
            for m in range(2, j + 1):
                if power[m][j] is not None:
                    sums[m] = plus(sums[m], self._reduce(ops, form, power[m][j], group, axis))

    def _assemble(self, ops: ArrayOps, c: Series, h: Jet, sums: list[list[Term]]) -> Array | None:
        own = h.parts[self.top_part]
        rest: list[Term] = []
        for by_power in sums:
            total: Term = None
            for m in range(2, self.order + 1):
                total = plus(total, times(c[m], by_power[m]))
            rest.append(total)
        return _combine(ops, times(c[1], own), rest, h.primal)

    def _compose_by_recurrence(self, ops: ArrayOps, function: Elementary, h: Jet, needed: Needed) -> Jet:
        assert function.series is not None
        axis = h.batch_axis
        read_tops = self._top is not None and self._top in needed
        primal: Array | None = None
        levels: list[Series] = []
        own = h.parts[self.top_part] if read_tops else None
        # With n_j, j ≤ M, kept: top(σ∘h) = σ'·(top(h) − Σ_{j≤M} w_j n_j) + Σ_j w_j y_j, y computed with n_{M+1} = 0.
        inner: list[Term] = [None] * len(self.tops)
        outer: list[Term] = [None] * len(self.tops)
        for g, (_, kept) in enumerate(self.groups):
            n = self._slim(ops, h, g)
            highest = self._wanted(g, needed)
            top_order = max([j for t in self.tops for j in t.reductions[g]], default=0) if read_tops else 0
            length = max(highest, top_order)
            y = function.series(ops, (n + [None] * length)[: length + 1])
            primal = y[0]
            levels.append([y[0], *(y[j] if j <= highest and self.part(g, j) in needed else None for j in range(1, kept + 1))])
            for t, top in enumerate(self.tops if read_tops else ()):
                for j, form in top.reductions[g].items():
                    assert form.matrix is None, "matrix weights are of order 2"
                    if y[j] is not None:
                        outer[t] = plus(outer[t], self._reduce(ops, form, y[j], g, axis))
                    if j <= kept and n[j] is not None:
                        inner[t] = plus(inner[t], self._reduce(ops, form, n[j], g, axis))
        if primal is None:
            primal = function.expand(ops, h.primal, 0)[0]
        top_value = None
        if read_tops and not h.is_constant:
            slope = function.expand(ops, h.primal, 1)[1]
            if any(i is not None for i in inner):
                own = _combine(ops, own, [None if i is None else -i for i in inner], h.primal)
            top_value = _combine(ops, times(slope, own), outer, h.primal)
        return self._result(primal, levels, top_value, False, axis)

    # ----------------------------------------------------------------------------------------------------- products

    def product(self, ops: ArrayOps, bilinear: Pairing, f: Jet, g: Jet, primal: Array, needed: Needed, batch_axis: int | None) -> Jet:
        levels: list[Series] = []
        sums: list[Term] = [None] * len(self.tops)
        read_tops = self._top is not None and self._top in needed
        for group, (_, kept) in enumerate(self.groups):
            a, b = self._series(f, group), self._series(g, group)
            level: Series = [primal]
            for k in range(1, kept + 1):
                total: Term = None
                if self.part(group, k) in needed:
                    if b[k] is not None:
                        total = plus(total, bilinear.right(a[0], b[k]))
                    if a[k] is not None:
                        total = plus(total, bilinear.left(a[k], b[0]))
                    for i in range(1, k):
                        if a[i] is not None and b[k - i] is not None:
                            total = plus(total, bilinear.both(a[i], b[k - i]))
                level.append(total)
            levels.append(level)
            for t, top in enumerate(self.tops if read_tops else ()):
                for j, form in top.reductions[group].items():
                    for i in range(1, j):
                        if i <= kept and j - i <= kept and a[i] is not None and b[j - i] is not None:
                            sums[t] = plus(sums[t], form.pair(ops, bilinear, a[i], b[j - i], batch_axis))
        top_value: Term = None
        if read_tops:
            left, right = f.parts[self.top_part], g.parts[self.top_part]
            if left is not None:
                top_value = bilinear.left(left, g.primal)
            if right is not None:
                top_value = plus(top_value, bilinear.right(f.primal, right))
            top_value = _combine(ops, top_value, sums, primal)
        levels = [
            [s[0], *(None if t is None else ops.unstack(t)[0] for t in s[1:])] if size == 1 else s
            for s, (size, _) in zip(levels, self.groups, strict=True)
        ]
        return self._result(primal, levels, top_value, False, batch_axis)


def _combine(ops: ArrayOps, own: Array | None, rest: Sequence[Term], like: Array) -> Array | None:
    """own (T, *S) plus one array S per top; None where all is zero."""
    if all(r is None for r in rest):
        return own
    if len(rest) == 1:
        return plus(own, rest[0][None, ...])
    # Sums over fixed channels still have a batch axis of length 1, others the full one.
    shape = np.broadcast_shapes(*(tuple(r.shape) for r in rest if r is not None))
    zero = ops.asarray(0.0, like)
    return plus(own, ops.xp.stack([ops.xp.broadcast_to(zero if r is None else r, shape) for r in rest]))
