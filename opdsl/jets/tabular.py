r"""The tabular algebra: any derivative space, by its sparse table of structure constants.

Channels are the values b_k(∂)h for the basis of `opdsl.derivative_space`, in divided powers, so that a monomial channel is a
Taylor coefficient. Products follow the table,

    (fg)_k = Σ m[k,i,j] f_i g_j,

and compositions use powers of the nilpotent part n = h − h_0, σ(h) = Σ_m c_m n^m; n^m has no channel below degree m, so the
sum stops at the highest degree. Tops, combinations known at run time only, never feed any other channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opdsl.algebra.work import spend
from opdsl.jets.algebra import Algebra, Needed, Pairing
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.elementary import Elementary, Term, plus, scale, times
from opdsl.jets.graph import Array
from opdsl.jets.jet import Jet, align

Rows = Mapping[int, Sequence[tuple[int, int, float]]]
"""For each channel the terms (i, j, m) of its product rule between channels i, j ≥ 1, i ≤ j, m already doubled for i < j."""


@dataclass(frozen=True)
class RuntimeTop:
    """A collapsed channel: Σ_g c_g Σ rows[g], with c_g known at run time."""

    coefficients: tuple[Any, ...]
    rows: tuple[tuple[tuple[int, int, float], ...], ...]


class Tabular(Algebra):
    """A derivative space with numbered channels 0 … C−1 (0 the value), then the tops.

    Parts: the channels of each degree together, in ascending degree, then all tops.

    Args:
        degrees: degree of every channel, ascending; ``degrees[0] == 0``.
        rows: product rule of every channel.
        tops: run-time combinations.
        order: highest degree, tops included.
    """

    def __init__(self, degrees: Sequence[int], rows: Rows, tops: Sequence[RuntimeTop], order: int) -> None:
        self.rows, self.tops, self.order = rows, tuple(tops), order
        self._where: list[tuple[int, int]] = [(-1, 0)]
        sizes: list[int] = []
        self._members: list[list[int]] = []
        seen: dict[int, int] = {}
        for channel, degree in enumerate(degrees[1:], start=1):
            if degree not in seen:
                seen[degree] = len(sizes)
                sizes.append(0)
                self._members.append([])
            part = seen[degree]
            self._where.append((part, sizes[part]))
            self._members[part].append(channel)
            sizes[part] += 1
        self.top_part = len(sizes) if self.tops else None
        if self.tops:
            sizes.append(len(self.tops))
        self.sizes = tuple(sizes)

    def place(self, channel: int) -> tuple[int, int]:
        """(part, position in it) of a channel ≥ 1."""
        return self._where[channel]

    def requires(self, needed: Needed) -> Needed:
        out = set(needed)
        wanted = [i for part in needed if part != self.top_part for c in self._members[part] for i in self._inner(c)]
        if self.top_part in needed:
            wanted += [i for top in self.tops for row in top.rows for a, b, _ in row for i in (a, b)]
        out.update(self._where[i][0] for i in wanted)
        return frozenset(out) if out == needed else self.requires(frozenset(out))

    def _inner(self, channel: int) -> list[int]:
        return [i for a, b, _ in self.rows.get(channel, ()) for i in (a, b)]

    def _channels(self, ops: ArrayOps, jet: Jet) -> dict[int, Array]:
        """Channel arrays by number; zeros are absent."""
        out: dict[int, Array] = {}
        for part, members in enumerate(self._members):
            array = jet.parts[part]
            if array is not None:
                out.update(zip(members, ops.unstack(array), strict=True))
        return out

    def _pack(self, ops: ArrayOps, primal: Array, channels: Mapping[int, Term], top: Array | None, jet: Jet, needed: Needed) -> Jet:
        parts: list[Array | None] = []
        for part, members in enumerate(self._members):
            present = [channels.get(c) for c in members]
            parts.append(_stacked(ops, present, primal) if part in needed else None)
        if self.top_part is not None:
            parts.append(top)
        return Jet(primal, tuple(parts), tuple(False for _ in parts), jet.batch_axis)

    # ------------------------------------------------------------------------------------------------- compositions

    def compose(self, ops: ArrayOps, function: Elementary, h: Jet, needed: Needed) -> Jet:
        c = function.expand(ops, h.primal, self.order if not h.is_constant else 0)
        if h.is_constant:
            return Jet(c[0], h.parts, h.fixed, h.batch_axis)
        n = self._channels(ops, h)
        read_tops = self.top_part is not None and self.top_part in needed
        wanted = [ch for part, members in enumerate(self._members) if part in needed for ch in members]
        out: dict[int, Term] = {ch: times(c[1], n.get(ch)) for ch in wanted}
        sums: list[list[Term]] = [[None] * (self.order + 1) for _ in self.tops]
        power: dict[int, Term] = dict(n)
        # n^m for m = 2, 3, …: each needs n^(m−1) on lower channels only.
        for m in range(2, self.order + 1):
            if read_tops:
                for t, top in enumerate(self.tops):
                    sums[t][m] = self._top_product(ops, top, n, power, h.batch_axis)
            higher: dict[int, Term] = {}
            for channel, row in self.rows.items():
                if not read_tops and not any(True for _ in wanted):
                    break
                value = _bilinear_form(row, n, power)
                if value is not None:
                    higher[channel] = value
            for channel in wanted:
                out[channel] = plus(out[channel], times(c[m], higher.get(channel)))
            power = higher
        top_value = None
        if read_tops:
            assert self.top_part is not None
            rest: list[Term] = []
            for by_power in sums:
                total: Term = None
                for m in range(2, self.order + 1):
                    total = plus(total, times(c[m], by_power[m]))
                rest.append(total)
            top_value = times(c[1], h.parts[self.top_part])
            if any(r is not None for r in rest):
                top_value = plus(top_value, _stacked(ops, rest, h.primal))
        return self._pack(ops, c[0], out, top_value, h, needed)

    def _top_product(
        self, ops: ArrayOps, top: RuntimeTop, n: Mapping[int, Array], power: Mapping[int, Term], axis: int | None
    ) -> Term:
        total: Term = None
        for coefficient, row in zip(top.coefficients, top.rows, strict=True):
            value = _bilinear_form(row, n, power)
            if value is not None:
                total = plus(total, _weighted(ops, coefficient, value, axis))
        return total

    # ----------------------------------------------------------------------------------------------------- products

    def product(self, ops: ArrayOps, bilinear: Pairing, f: Jet, g: Jet, primal: Array, needed: Needed, batch_axis: int | None) -> Jet:
        a, b = self._channels(ops, f), self._channels(ops, g)
        out: dict[int, Term] = {}
        for part, members in enumerate(self._members):
            if part not in needed:
                continue
            own: list[Array] = []
            if f.parts[part] is not None:
                own.append(bilinear.left(f.parts[part], g.primal))
            if g.parts[part] is not None:
                own.append(bilinear.right(f.primal, g.parts[part]))
            split = [ops.unstack(array) for array in own]
            for position, channel in enumerate(members):
                total: Term = None
                for arrays in split:
                    total = plus(total, arrays[position])
                out[channel] = plus(total, self._cross(ops, bilinear, self.rows.get(channel, ()), a, b))
        top_value: Term = None
        if self.top_part is not None and self.top_part in needed:
            if f.parts[self.top_part] is not None:
                top_value = bilinear.left(f.parts[self.top_part], g.primal)
            if g.parts[self.top_part] is not None:
                top_value = plus(top_value, bilinear.right(f.primal, g.parts[self.top_part]))
            rest: list[Term] = []
            for top in self.tops:
                total = None
                for coefficient, row in zip(top.coefficients, top.rows, strict=True):
                    value = self._cross(ops, bilinear, row, a, b)
                    if value is not None:
                        total = plus(total, _weighted(ops, coefficient, value, batch_axis))
                rest.append(total)
            if any(r is not None for r in rest):
                top_value = plus(top_value, _stacked(ops, rest, primal))
        jet = Jet(primal, f.parts, f.fixed, batch_axis)
        return self._pack(ops, primal, out, top_value, jet, needed)

    def _cross(
        self, ops: ArrayOps, bilinear: Pairing, row: Sequence[tuple[int, int, float]], a: Mapping[int, Array], b: Mapping[int, Array]
    ) -> Term:
        """Σ m (B(f_i, g_j) + B(f_j, g_i)), all pairs in one application of the bilinear map."""
        left: list[Array] = []
        right: list[Array] = []
        weights: list[float] = []
        for i, j, m in row:
            for p, q in ((i, j),) if i == j else ((i, j), (j, i)):
                if p in a and q in b:
                    left.append(a[p])
                    right.append(b[q])
                    weights.append(m if i == j else m / 2)
        if not left:
            return None
        pairs = ops.unstack(bilinear.both(ops.xp.stack(_same(ops, left)), ops.xp.stack(_same(ops, right))))
        total: Term = None
        for pair, w in zip(pairs, weights, strict=True):
            total = plus(total, scale(pair, w))
        return total


def _bilinear_form(row: Sequence[tuple[int, int, float]], n: Mapping[int, Array], power: Mapping[int, Term]) -> Term:
    """Σ m n_i q_j over a symmetric row, with q = n^(m−1): both orders of every pair."""
    spend(len(row))
    total: Term = None
    same = n is power
    for i, j, m in row:
        if i == j or same:
            total = plus(total, scale(times(n.get(i), power.get(j)), m))
        else:
            total = plus(total, scale(times(n.get(i), power.get(j)), m / 2))
            total = plus(total, scale(times(n.get(j), power.get(i)), m / 2))
    return total


def _weighted(ops: ArrayOps, coefficient: Any, value: Array, axis: int | None) -> Array:
    if isinstance(coefficient, float):
        return scale(value, coefficient)
    return align(ops.xp, coefficient, len(value.shape), axis) * value


def _same(ops: ArrayOps, arrays: Sequence[Array]) -> list[Array]:
    """Fixed channels (batch axis of length 1) beside full ones: bring all to one shape."""
    import numpy as np

    shapes = {tuple(a.shape) for a in arrays}
    if len(shapes) == 1:
        return list(arrays)
    shape = np.broadcast_shapes(*shapes)
    return [ops.xp.broadcast_to(a, shape) for a in arrays]


def _stacked(ops: ArrayOps, values: Sequence[Term], like: Array) -> Array | None:
    if all(v is None for v in values):
        return None
    if len(values) == 1:
        return values[0][None, ...]
    zero = ops.asarray(0.0, like)
    present = _same(ops, [v for v in values if v is not None])
    shape = tuple(present[0].shape)
    rest = iter(present)
    return ops.xp.stack([ops.xp.broadcast_to(zero, shape) if v is None else next(rest) for v in values])
