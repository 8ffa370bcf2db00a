r"""Fewer channels than directions, where every entry depends on few of them.

Two directions may share a slot of the channel axis as long as no entry depends on both: the channels of a slot are then those along
the *sum* of its directions, and each entry means by it the one direction it depends on. Linear maps, functions and products go on
as ever, on fewer channels; 16 networks of 4 inputs each are pushed forward along 4 directions instead of 64. Before an operation that
would bring two directions of a slot together, the slots are opened: the channel of a direction is that of its slot, at the entries that
depend on it, and zero elsewhere. This is the compression of sparse Jacobians by colours (Curtis, Powell, Reid, IMA J. Appl. Math. 13
(1974) 117–119), chosen anew at every operation of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.jets.algebra import Algebra, Slots
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.dependence import Mask, opaque
from opdsl.jets.graph import Array, Bilinear, Constant, Elementwise, Graph, Role
from opdsl.jets.jet import Jet

Floats = npt.NDArray[np.float64]
_PAYS = 0.75
"""Packed only where the work of the graph falls below this part of itself: opening slots is not free."""
_MOST = 2**24


@dataclass(frozen=True)
class Step:
    """One operation of the graph.

    Args:
        slots: in which it is done, for each group.
        after: those of each result, without slots that no entry uses any more.
        work: a measure of what it costs in each channel.
    """

    slots: tuple[Slots, ...]
    after: tuple[tuple[Slots, ...], ...]
    work: float


class Packing:
    """The slots of every value of one graph, for one set of directions.

    Args:
        graph: with what its values depend on.
        rows: the directions of each group, (R, d).
        parts: the parts of a jet that each group fills.
        apart: which directions of each group must not share a slot, in all rules and in composed ones (`Algebra.apart`).
    """

    def __init__(self, graph: Graph, rows: Sequence[Floats], parts: Sequence[Sequence[int]], apart: Sequence[tuple[Any, Any]]) -> None:
        self.graph, self.rows, self.parts, self._apart = graph, tuple(rows), tuple(parts), tuple(apart)
        self._masks: dict[tuple[int, int], Mask | None] = {}
        self._together: dict[tuple[int, int], npt.NDArray[np.bool_]] = {}
        self.whole = tuple(tuple(range(len(r))) for r in self.rows)
        self.slots: dict[int, tuple[Slots, ...]] = {}
        self.steps: dict[int, Step] = {}
        self._decide()

    @property
    def saves(self) -> bool:
        """Whether it is worth while."""
        return self.share <= _PAYS

    @property
    def share(self) -> float:
        """The work of the graph on slots, as a part of that on all directions."""
        total = sum(map(len, self.rows)) * sum(s.work for s in self.steps.values())
        return sum(s.work * sum(map(_count, s.slots)) for s in self.steps.values()) / total if total else 1.0

    @property
    def fewest(self) -> int:
        """The fewest channels any work is done on."""
        return min(sum(map(_count, s.slots)) for s in self.steps.values() if s.work)

    # ---------------------------------------------------------------------------------------------- what is decided

    def mask(self, value: int, group: int) -> Mask | None:
        """(R, *S): which entries depend on which direction; None for all on all."""
        found = self.graph.dependence.get(value)
        if found is None:
            return None
        key = (id(found), group)
        if key not in self._masks:
            rows = self.rows[group] != 0
            flat = found.reshape(len(found), -1)
            if (rows.sum(axis=1) == 1).all():
                flat = flat[rows.argmax(axis=1)]
            else:
                flat = (rows.astype(np.float32) @ flat.astype(np.float32)) > 0
            mask = flat.reshape(len(rows), *found.shape[1:])
            self._masks[key] = None if mask.all() else mask
        return self._masks[key]

    def _meet(self, value: int, group: int) -> npt.NDArray[np.bool_]:
        """(R, R): whether some entry depends on both directions."""
        mask, size = self.mask(value, group), len(self.rows[group])
        if mask is None:
            return np.ones((size, size), dtype=bool)
        key = (id(self.graph.dependence[value]), group)
        if key not in self._together:
            flat = mask.reshape(size, -1)
            # Entries with the same dependence say the same.
            _, first = np.unique(np.random.default_rng(0).random(size) @ flat, return_index=True)
            flat = flat[:, first].astype(np.float32)
            self._together[key] = flat @ flat.T > 0
        return self._together[key]

    def _decide(self) -> None:
        graph = self.graph
        dependent = graph.dependent()
        for position, node in enumerate(graph.nodes):
            inputs = [i for i in dict.fromkeys(node.inputs) if i in dependent]
            if isinstance(node.rule, Constant) or not inputs:
                continue
            slots = tuple(
                self._common(g, [self.slots[i][g] for i in inputs if i != graph.x], (*inputs, *node.outputs), opaque(node))
                for g in range(len(self.rows))
            )
            after = tuple(tuple(self._used(g, slots[g], o) for g in range(len(slots))) for o in node.outputs)
            self.slots.update(zip(node.outputs, after, strict=True))
            self.steps[position] = Step(slots, after, self._work(position))

    def _work(self, position: int) -> float:
        node = self.graph.nodes[position]
        sizes = [float(prod(self.graph.values[i].shape)) for i in (*node.inputs, *node.outputs)]
        if node.operation.role is Role.VIEW:
            return 0.0
        if node.operation.role is Role.MATMUL and isinstance(node.rule, Bilinear):
            return max(sqrt(prod(sizes)), sizes[-1])
        return sizes[-1]

    def _common(self, group: int, have: Sequence[Slots], values: Sequence[int], composed: bool) -> Slots:
        """Slots that keep apart what any of some values depends on."""
        whole = self.whole[group]
        apart = self._apart[group][composed]
        if apart is True or any(self.mask(v, group) is None for v in values):
            return whole
        meet = np.logical_or.reduce([self._meet(v, group) for v in values])
        used = meet.diagonal().copy()
        meet = meet | apart
        for slots in sorted(set(have), key=_count, reverse=True):
            own = np.where(used, np.asarray(slots), -1)
            same = (own[:, None] == own[None, :]) & (own[:, None] >= 0)
            np.fill_diagonal(same, False)
            if not (same & meet).any():
                break
        else:
            own = np.full(len(whole), -1)
        for r in np.flatnonzero(used & (own < 0)):
            taken = set(own[meet[r] & (own >= 0)].tolist())
            own[r] = next(k for k in range(len(whole)) if k not in taken)
        found = _numbered(own)
        return found if 2 * _count(found) <= len(whole) else whole

    def _used(self, group: int, slots: Slots, value: int) -> Slots:
        """The slots that some entry of a value uses."""
        if self._apart[group][False] is True:
            return slots
        found = _numbered(np.where(self._meet(value, group).diagonal(), np.asarray(slots), -1))
        return found if _count(found) < _count(slots) else slots

    # -------------------------------------------------------------------------------------------------- what is done

    def algebra(self, whole: Algebra, position: int) -> Algebra:
        """That of the slots of an operation."""
        node, slots = self.graph.nodes[position], self.steps[position].slots
        if slots == self.whole:
            return whole
        entries = isinstance(node.rule, Elementwise | Bilinear)
        return whole.packed(slots, [self.mask(node.outputs[0], g) if entries else None for g in range(len(slots))])

    def operand(self, ops: ArrayOps, jet: Any, value: int, slots: tuple[Slots, ...], original: Jet) -> Any:
        """An operand in other slots."""
        if not isinstance(jet, Jet):
            return jet
        if value == self.graph.x:
            return self._seed(ops, slots, original)
        return self.moved(ops, jet, value, self.slots[value], slots)

    def _seed(self, ops: ArrayOps, slots: tuple[Slots, ...], original: Jet) -> Jet:
        """x along the sums of the directions of each slot."""
        parts = list(original.parts)
        for g, own in enumerate(slots):
            if own != self.whole[g]:
                rows = np.zeros((_count(own), self.rows[g].shape[1]))
                np.add.at(rows, np.asarray(own)[np.asarray(own) >= 0], self.rows[g][np.asarray(own) >= 0])
                parts[self.parts[g][0]] = ops.points.same(ops.asarray(rows, original.primal))
        return replace(original, parts=tuple(parts))

    def moved(self, ops: ArrayOps, jet: Any, value: int, source: tuple[Slots, ...], target: tuple[Slots, ...]) -> Any:
        """A jet of some slots in others."""
        if source == target or not isinstance(jet, Jet):
            return jet
        parts = list(jet.parts)
        for g, (have, want) in enumerate(zip(source, target, strict=True)):
            if have != want:
                for k in self.parts[g]:
                    if parts[k] is not None:
                        parts[k] = _moved(ops, parts[k], self.mask(value, g), have, want)
        return replace(jet, parts=tuple(parts))

    def opened(self, ops: ArrayOps, jet: Any, value: int, original: Jet) -> Any:
        """A jet over all directions."""
        return self.operand(ops, jet, value, self.whole, original)


def _count(slots: Slots) -> int:
    return max(slots, default=-1) + 1


def _numbered(own: npt.NDArray[Any]) -> Slots:
    """Slots without gaps, in the order of their numbers; one at least, for what depends on none of the directions is a jet of zeros."""
    present = np.unique(own[own >= 0])
    if not present.size:
        return (0, *[-1] * (len(own) - 1))
    return tuple(int(np.searchsorted(present, s)) if s >= 0 else -1 for s in own)


def _moved(ops: ArrayOps, part: Array, mask: Mask | None, source: Slots, target: Slots) -> Array:
    """(K, *S) → (L, *S): slot by slot the entries of the slots its directions had."""
    xp, ndim = ops.xp, len(part.shape) - 1
    have, want = _count(source), _count(target)
    mask = np.ones((len(source), *[1] * ndim), dtype=bool) if mask is None else mask
    wanted: list[dict[int, Mask]] = [{} for _ in range(want)]
    carried = np.zeros((have, *mask.shape[1:]), dtype=bool)
    for r, (a, b) in enumerate(zip(source, target, strict=True)):
        if a >= 0:
            carried[a] |= mask[r]
        if a >= 0 and b >= 0 and mask[r].any():
            wanted[b][a] = wanted[b][a] | mask[r] if a in wanted[b] else mask[r]
    total: Array | None = None
    for k in range(max([1, *map(len, wanted)])):
        index = np.zeros(want, dtype=int)
        keep = np.zeros((want, *mask.shape[1:]), dtype=bool)
        for b, found in enumerate(wanted):
            if k < len(found):
                index[b], keep[b] = list(found.items())[k]
        term = _picked(ops, part, index, have)
        if (carried[index] & ~keep).any():
            term = term * ops.asarray(keep.astype(np.float64), part)
        total = term if total is None else total + term
    assert total is not None
    return total if tuple(total.shape[1:]) == tuple(part.shape[1:]) else xp.broadcast_to(total, (want, *part.shape[1:]))


def _picked(ops: ArrayOps, part: Array, index: npt.NDArray[Any], have: int) -> Array:
    """Entries along the channel axis; repetitions of all of them are broadcast, neighbours are a slice: both are cheap in reverse mode."""
    xp, want, shape = ops.xp, len(index), tuple(part.shape[1:])
    if want % have == 0 and (index == np.tile(np.arange(have), want // have)).all():
        return part if want == have else xp.reshape(xp.broadcast_to(part[None, ...], (want // have, have, *shape)), (want, *shape))
    if (index == np.arange(want) + index[0]).all():
        return part[int(index[0]) : int(index[0]) + want, ...]
    rows = ops.unstack(part)
    return xp.stack([rows[i] for i in index.tolist()])


def packing(graph: Graph, algebra: Algebra, directions: Mapping[int, Any]) -> Packing | None:
    """How the directions of an algebra are packed on a graph; None where that saves too little."""
    groups = algebra.grouped()
    if not graph.dependence or not groups or any(parts[0] not in directions for parts in groups):
        return None
    if any(prod(directions[parts[0]].shape) > _MOST for parts in groups):
        return None
    rows = [np.asarray(directions[parts[0]], dtype=np.float64) for parts in groups]
    apart = [(algebra.apart(g, False), algebra.apart(g, True)) for g in range(len(groups))]
    # One decision for all evaluations of a graph: weights at run time change the algebra and not the slots.
    key = tuple(r.tobytes() for r in rows), tuple(np.asarray(a).tobytes() for pair in apart for a in pair), str(groups)
    found = graph.dependence.kept.get(key)
    if found is None:
        graph.dependence.kept[key] = found = Packing(graph, rows, groups, apart)
    return found if found.saves else None
