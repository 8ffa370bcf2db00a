"""Which coordinates every entry of every value of a graph depends on: found once, before anything is evaluated.

The answer is static, so it is that of the structure: weights count as full, whatever their values. Sums and functions of entries are
read off their shapes. Where entries are moved, added up or multiplied by a matrix, the operation itself is asked: it is applied to
indicators, ones where an operand depends on a coordinate and zeros elsewhere, which no such operation can make cancel. So slices,
gathers, batched products or convolutions need no rule of their own, on any backend. An operation that cannot be asked (a softmax, a
loop, an index that is data) has every entry depend on whatever its operands depend on, which is always safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.graph import Array, Bilinear, Composed, Constant, Elementwise, Graph, Linear, Node, Role, Sum, Value

Mask = npt.NDArray[np.bool_]
"""(d, *S): entry by entry whether it depends on a coordinate; the axis of the points, if any, has length 1."""

FEWEST = 6
"""With fewer coordinates there is nothing to be saved."""
_MOST = 2**24
_MOVES = frozenset({Role.VIEW, Role.ARRANGE, Role.GATHER, Role.SUM, Role.MATMUL})
_ENTRYWISE = frozenset(
    "divide abs relu relu6 hardtanh leaky_relu shrink maximum minimum fmax fmin clip copysign remainder where multiply".split()
)
_WRITTEN = frozenset({"literal", "iota"})
"""Values that stand in the code itself; what comes from elsewhere may be other numbers at the next call."""


def find_dependence(graph: Graph, ops: ArrayOps, like: Array, read: Callable[[Array], Any]) -> dict[int, Mask]:
    """The coordinates that values depend on, by value number; values that are missing may depend on all of them everywhere.

    Args:
        graph: a captured function.
        ops: array operations of its backend.
        like: an array of the kind that the graph takes.
        read: an array of the backend as a NumPy array.
    """
    x = graph.values[graph.x]
    d = x.shape[-1]
    if d < FEWEST or d * d > _MOST:
        return {}
    with ops.aside():
        return _Search(graph, ops, like, read).found()


class _Search:
    def __init__(self, graph: Graph, ops: ArrayOps, like: Array, read: Callable[[Array], Any]) -> None:
        self.graph, self.ops, self.like, self.read = graph, ops, like, read
        x = graph.values[graph.x]
        self.points = None if x.batch_axis is None else x.shape[x.batch_axis]
        self.d = x.shape[-1]
        self.made = {o: n for n in graph.nodes for o in n.outputs}

    def found(self) -> dict[int, Mask]:
        graph, dependent = self.graph, self.graph.dependent()
        masks: dict[int, Mask] = {graph.x: np.reshape(np.eye(self.d, dtype=bool), (self.d, *self.thin(graph.values[graph.x])))}
        for node in graph.nodes:
            inputs = {i for i in node.inputs if i in dependent}
            if isinstance(node.rule, Constant) or not inputs or not inputs <= masks.keys():
                continue
            values = [graph.values[o] for o in node.outputs]
            if any(not self._plain(v) or self.d * prod(self.thin(v)) > _MOST for v in values):
                continue
            for o, mask in zip(node.outputs, self._through(node, {i: masks[i] for i in inputs}, values), strict=True):
                if not mask.all():
                    masks[o] = mask
        return masks

    def thin(self, value: Value) -> tuple[int, ...]:
        """The shape with one point."""
        return tuple(1 if k == value.batch_axis else s for k, s in enumerate(value.shape))

    def _plain(self, value: Value) -> bool:
        """Whether the points have an axis to themselves."""
        return value.batch_axis is None or value.shape[value.batch_axis] == self.points

    def _through(self, node: Node, masks: Mapping[int, Mask], values: Sequence[Value]) -> list[Mask]:
        rule, role = node.rule, node.operation.role
        entrywise = isinstance(rule, Elementwise | Sum) or role is Role.ELEMENTWISE or node.operation.name in _ENTRYWISE
        if entrywise and not node.several:
            joined = self._joined([masks[i] for i in dict.fromkeys(node.inputs) if i in masks], values[0])
            if joined is not None:
                return [joined]
        if isinstance(rule, Linear | Bilinear) and role in _MOVES:
            asked = self._asked(node, masks, values)
            if asked is not None:
                return asked
        anywhere = np.any([m.reshape(self.d, -1).any(axis=1) for m in masks.values()], axis=0)
        return [np.broadcast_to(anywhere.reshape(-1, *[1] * len(v.shape)), (self.d, *self.thin(v))) for v in values]

    def _joined(self, masks: Iterable[Mask], value: Value) -> Mask | None:
        """Entries at equal places together, with broadcasting."""
        shape, total = (self.d, *self.thin(value)), None
        for mask in masks:
            if mask.ndim > len(shape):
                return None
            lifted = mask if mask.ndim == len(shape) else mask.reshape(self.d, *[1] * (len(shape) - mask.ndim), *mask.shape[1:])
            total = lifted if total is None or total is lifted else total | lifted
        assert total is not None
        try:
            return total if total.shape == shape else np.broadcast_to(total, shape)
        except ValueError:
            return None

    # ------------------------------------------------------------------------------------------- asking the operation

    def _asked(self, node: Node, masks: Mapping[int, Mask], values: Sequence[Value]) -> list[Mask] | None:
        """What the operation makes of indicators; None where it cannot be asked."""
        slots = [p for p, i in enumerate(node.inputs) if i in masks]
        # A product is linear in each factor by itself: the other one counts as full.
        together = [[p] for p in slots] if isinstance(node.rule, Bilinear) else [slots]
        total: list[Mask] | None = None
        for moved in together:
            try:
                made = self._applied(node, masks, moved, values)
            except Exception:  # whatever the framework has against indicators: then nothing is known of the operation
                return None
            if made is None:
                return None
            total = made if total is None else [a | b for a, b in zip(total, made, strict=True)]
        return total

    def _applied(self, node: Node, masks: Mapping[int, Mask], moved: Sequence[int], values: Sequence[Value]) -> list[Mask] | None:
        rule, full = node.rule, not node.flexible
        free = rule.positions if isinstance(rule, Linear | Bilinear) and rule.positions is not None else range(len(node.inputs))
        arrays: list[Any] = []
        for p, i in enumerate(node.inputs):
            value = self.graph.values[i]
            shape = value.shape if full else self.thin(value)
            if p in moved:
                if self.d * prod(shape) > _MOST:
                    return None
                arrays.append(self.ops.asarray(np.broadcast_to(masks[i], (self.d, *shape)).astype(np.float64), self.like))
            elif p in free:
                fill = np.ones if isinstance(rule, Bilinear) else np.zeros
                arrays.append(self.ops.asarray(fill(shape), self.like))
            else:
                known = self._written(i)
                if known is None:
                    return None
                arrays.append(known)
        result = self.ops.channelwise(node.apply, arrays, [p in moved for p in range(len(arrays))])
        out: list[Mask] = []
        for array, value in zip(result if node.several else (result,), values, strict=True):
            mask = np.asarray(self.read(array)) != 0
            if value.batch_axis is not None:
                mask = mask.any(axis=1 + value.batch_axis, keepdims=True)
            if mask.shape != (self.d, *self.thin(value)):
                return None
            out.append(mask)
        return out

    def _written(self, value: int) -> Any:
        """A value that the code itself gives; None for any other."""
        node = self.made.get(value)
        if node is None or not isinstance(node.rule, Constant) or node.several:
            return None
        if node.primitive not in _WRITTEN and not node.inputs:
            return None
        inputs = [self._written(i) for i in node.inputs]
        return None if any(i is None for i in inputs) else node.apply(*inputs)


def opaque(node: Node) -> bool:
    """Whether the intermediate values inside a node are not those of its result entry by entry."""
    return isinstance(node.rule, Composed)
