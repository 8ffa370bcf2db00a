"""Count what a method does, by running it on arrays that have shapes and no numbers.

There are no formulas of work that could go stale: `Method.effort` evaluates the method with the array operations of this
module, on the captured graph's real shapes, and every operation adds to a `Tally`. So first layers that are free, symbolic
zeros, channels that nobody reads, tables and recurrences are counted as they are executed. No framework is needed, and no
machine enters: seconds are made of the counts in `opdsl.pricing.cost`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod, sqrt
from typing import Any

import numpy as np

from opdsl.backends.execution import Execution
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.graph import (
    Bilinear,
    Composed,
    Constant,
    Graph,
    Linear,
    Node,
    PiecewiseLinear,
    Role,
    Sum,
    Value,
    evaluate,
)
from opdsl.jets.operations import OPERATIONS
from opdsl.jets.propagate import push_forward
from opdsl.pricing import nested_work
from opdsl.pricing.abstract_arrays import (
    AbstractArray,
    CountingNamespace,
    Effort,
    Shape,
    Tally,
    broadcast,
    elementwise,
    multiply_matrices,
)

__all__ = ["AbstractArray", "CountingOps", "Effort", "Shape", "layers", "plain_effort", "stand_ins"]


class CountingOps(ArrayOps):
    """`ArrayOps` on abstract arrays, for one network."""

    def __init__(self, graph: Graph, points: int, execution: Execution) -> None:
        self.tally = Tally(points, execution)
        self.stacked = execution.stacked
        self.xp = CountingNamespace(self.tally)
        self.points = execution.points(self.xp)
        self.graph = _counting(graph, self)
        self.constants = tuple(AbstractArray(self.tally, graph.values[i].shape, False) for i in graph.constants)

    @property
    def point(self) -> AbstractArray:
        """The points."""
        return AbstractArray(self.tally, self.graph.values[self.graph.x].shape, True)

    def channelwise(self, apply: Callable[..., Any], arrays: Sequence[Any], mapped: Sequence[bool]) -> Any:
        tally = self.tally
        count = next(a.shape[0] for a, m in zip(arrays, mapped, strict=True) if m)
        outer = tally.channels
        tally.channels = outer * count
        inner = [AbstractArray(tally, a.shape[1:], a.varies, a) if m else a for a, m in zip(arrays, mapped, strict=True)]
        try:
            found = apply(*inner)
        finally:
            tally.channels = outer

        def outside(g: AbstractArray) -> AbstractArray:
            return AbstractArray(tally, (count, *g.shape), g.varies, owns=True)

        return tuple(outside(g) for g in found) if isinstance(found, tuple | list) else outside(found)

    def split(self, array: AbstractArray, sizes: Sequence[int]) -> list[AbstractArray]:
        return [array.view((size, *array.shape[1:])) for size in sizes]

    def unstack(self, array: AbstractArray) -> list[AbstractArray]:
        return [array.view(array.shape[1:]) for _ in range(array.shape[0])]

    def special(self, name: str) -> Callable[[Any], Any]:
        return lambda a: elementwise(self.tally, (a,), "functions")

    def asarray(self, value: Any, like: Any) -> Any:
        return value if isinstance(value, AbstractArray) else AbstractArray(self.tally, tuple(np.shape(value)), False)

    # ------------------------------------------------------------------------------------- the framework's own modes

    def nested_ad(self, function: Callable[..., Any], x: Any, axes: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Any]:
        """What `ArrayOps.nested_ad` of the backend does, by its number of passes."""
        with self.tally.aside() as counted:
            value = function(x)
        plain = counted()
        if self.tally.execution.nesting == "forward":
            effort = nested_work.forward(self._pushed, plain, axes, self._columns(value))
        else:
            effort = nested_work.reverse(plain, axes, self._columns(value))
        self.tally.take(effort)
        return {a: AbstractArray(self.tally, value.shape, True, owns=True) for a in axes}

    def gradient(self, function: Callable[..., Any], x: Any) -> tuple[Any, Any]:
        with self.tally.aside() as counted:
            value = function(x)
        self.tally.take(nested_work.value_and_gradient(counted(), self._columns(value)))
        return value, AbstractArray(self.tally, (*value.shape, x.shape[-1]), True, owns=True)

    def pull_back(self, function: Callable[..., Any], x: Any, count: int, affine: bool) -> Any:
        """One transposed pass for every entry."""
        point = AbstractArray(self.tally, x.shape, x.varies and not affine)
        with self.tally.repeated(count):
            function(point)
        return AbstractArray(self.tally, (count, *x.shape), point.varies, owns=True)

    def _pushed(self, algebra: nested_work.Nilpotent) -> Effort:
        """The work of pushing nested directions through the network."""
        with self.tally.aside() as counted:
            x = self.point
            shape = (algebra.sizes[0], *self.points.thin(x.shape))
            # One seed for every variable: the masks of a single bit.
            seeds = [AbstractArray(self.tally, shape, False) if mask.bit_count() == 1 else None for mask in range(1, 2**algebra.levels)]
            seed = self.points.jet(x, seeds, [True] * len(seeds))
            outputs = push_forward(self.graph, algebra, seed, self.constants, self, frozenset(range(len(seeds))))
            del outputs
        return counted()

    def _columns(self, value: AbstractArray) -> int:
        return prod(self.points.inner(value.shape))


# ------------------------------------------------------------------------------------------------------------- graphs


def _counting(graph: Graph, ops: CountingOps) -> Graph:
    """The graph with nodes that count instead of computing."""
    return replace(graph, nodes=tuple(_counting_node(n, graph.values, ops) for n in graph.nodes))


def _counting_node(node: Node, values: Sequence[Value], ops: CountingOps) -> Node:
    tally, rule, role = ops.tally, node.rule, node.operation.role

    def results(operands: Sequence[Any]) -> list[tuple[Shape, bool]]:
        arrays = [(o, values[i]) for o, i in zip(operands, node.inputs, strict=True) if isinstance(o, AbstractArray)]
        varies = any(g.varies for g, _ in arrays)
        axes = [(g, v) for g, v in arrays if v.batch_axis is not None]
        thin = bool(axes) and all(g.shape[v.batch_axis] == 1 for g, v in axes)  # type: ignore[index]
        out = []
        for o in node.outputs:
            v = values[o]
            out.append((tuple(1 if thin and k == v.batch_axis else s for k, s in enumerate(v.shape)), varies))
        return out

    def apply(*operands: Any) -> Any:
        out = [_one(shape, varies, operands) for shape, varies in results(operands)]
        return tuple(out) if node.several else out[0]

    def _one(shape: Shape, varies: bool, operands: Sequence[Any]) -> AbstractArray:
        arrays = [o for o in operands if isinstance(o, AbstractArray)]
        if isinstance(rule, Bilinear):
            a, b = (operands[p] for p in rule.positions)
            products = _products(role is Role.MATMUL, a.shape, b.shape, shape)
            if products is not None:
                return multiply_matrices(a, b, shape, products)
        if isinstance(rule, Linear) and len(arrays) == 1 and role is Role.VIEW:
            tally.add("views", prod(shape), varies)
            tally.start("windows")
            return AbstractArray(tally, shape, varies, arrays[0])
        if isinstance(rule, Linear):
            kind = "reductions" if role is Role.SUM else "moves"
        else:
            kind = "elements" if isinstance(rule, Bilinear | Sum | PiecewiseLinear) else "functions"
        if isinstance(rule, Constant) and not any(g.varies for g in arrays):
            return AbstractArray(tally, shape, False)
        tally.add(kind, prod(shape), varies)
        tally.start("steps")
        out = AbstractArray(tally, shape, varies, owns=True)
        if kind == "functions":
            out.keep()
        elif isinstance(rule, Bilinear):
            for g in arrays:
                g.keep()
        return out

    if isinstance(rule, Composed):
        rule = Composed(_safely(rule.build, node, values))
    return replace(node, rule=rule, apply=apply)


def _products(contracts: bool, a: Shape, b: Shape, out: Shape) -> float | None:
    """Multiply-adds of a bilinear operation; None where it is an elementwise product."""
    if not contracts:
        try:
            if broadcast(a, b) == out:
                return None
        except ValueError:
            pass
    shared = 1
    if len(a) > 2 and len(b) > 2:
        for s, t in zip(a, b, strict=False):
            if s != t:
                break
            shared *= s
    # (m k)(k n)(m n) = (m k n)²; axes shared by all three are counted three times in the product of sizes.
    return max(sqrt(prod(a) * prod(b) * prod(out) / shared), float(prod(out)))


def _safely(build: Callable[..., Any], node: Node, values: Sequence[Value]) -> Callable[..., Any]:
    """A composed rule may call its framework (loops, branches); then it counts as one composition."""

    def attempt(jets: Any, *operands: Any) -> Any:
        tally = jets.ops.tally
        counts, live, channels = dict(tally.counts), tally.live, tally.channels
        try:
            return build(jets, *operands)
        except Exception:
            tally.counts.update(counts)
            tally.live, tally.channels = live, channels
            tally.counts["guesses"] += 1.0
        jet = next(o for o in operands if jets.is_jet(o))
        done = jets.elementwise("tanh", jet)
        out = []
        for o in node.outputs:
            shape = values[o].shape

            def resized(p: Any, shape: Shape = shape) -> Any:
                return jets.ops.channelwise(lambda g: AbstractArray(tally, shape, g.varies), [p], [True])

            out.append(replace(done.map(resized), primal=AbstractArray(tally, shape, jet.primal.varies)))
        return tuple(out) if node.several else out[0]

    return attempt


def plain_effort(graph: Graph, points: int, execution: Execution) -> Effort:
    """One plain forward pass."""
    ops = CountingOps(graph, points, execution)
    evaluate(ops.graph, ops.point, ops.constants)
    return ops.tally.effort()


def layers(dimension: int, widths: Sequence[int], outputs: int, points: int, execution: Execution) -> Graph:
    """A plain multilayer network tanh(… W x + b …), for planning without one."""
    lead, axis = execution.points.lead(points), execution.points.axis
    values = [Value((*lead, dimension), None, axis)]
    constants: list[int] = []
    nodes: list[Node] = []

    def add(shape: Shape, batch_axis: int | None) -> int:
        values.append(Value(shape, None, batch_axis))
        return len(values) - 1

    def node(name: str, inputs: tuple[int, ...], width: int) -> int:
        out, operation = add((*lead, width), axis), OPERATIONS[name]
        assert operation.rule is not None
        nodes.append(Node(name, operation.rule, inputs, (out,), _never, flexible=True, operation=operation))
        return out

    current, before = 0, dimension
    for k, width in enumerate((*widths, outputs)):
        weight, bias = add((before, width), None), add((width,), None)
        constants += [weight, bias]
        current = node("matmul", (current, weight), width)
        current = node("add", (current, bias), width)
        if k < len(widths):
            current = node("tanh", (current,), width)
        before = width
    return Graph(tuple(values), 0, tuple(constants), tuple(nodes), (current,))


def _never(*_: Any) -> Any:
    raise AssertionError("a network that was only described is never evaluated")


def stand_ins(ops: CountingOps, shapes: Mapping[str, tuple[Shape, bool]]) -> dict[str, AbstractArray]:
    """Abstract arrays for bound arrays: shape, and whether it varies from point to point."""
    return {name: AbstractArray(ops.tally, shape, varies) for name, (shape, varies) in shapes.items()}
