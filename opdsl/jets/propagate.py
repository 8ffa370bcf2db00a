"""Push jets forward over a captured graph: one pass, each node once.

The whole rule set is: elementwise, linear, bilinear; everything else is composed of these. Channels that nobody reads are
found by one pass over the graph before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from opdsl.errors import MissingRuleError
from opdsl.jets.algebra import Algebra, Needed, Pairing
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.elementary import ELEMENTARY, Elementary
from opdsl.jets.graph import (
    Array,
    Bilinear,
    Composed,
    Constant,
    Elementwise,
    Graph,
    Linear,
    Node,
    PiecewiseLinear,
    Sum,
    Value,
)
from opdsl.jets.jet import Jet
from opdsl.jets.packing import packing

Operand = Any
"""A `Jet`, or a plain array (a value without derivatives)."""


def needed_parts(graph: Graph, algebra: Algebra, outputs: Needed) -> dict[int, Needed]:
    """For each value the parts that the read-out needs, backwards through the graph.

    Linear nodes need of their operands what is needed of them; products and compositions need what the algebra says.
    """
    needed: dict[int, Needed] = dict.fromkeys(graph.outputs, outputs)
    for node in reversed(graph.nodes):
        wanted: Needed = frozenset().union(*(needed.get(i, frozenset()) for i in node.outputs))
        linear = isinstance(node.rule, Linear | Sum | PiecewiseLinear)
        inner = wanted if linear else algebra.requires(wanted)
        for i in node.inputs:
            needed[i] = needed.get(i, frozenset()) | inner
    return needed


def push_forward(
    graph: Graph, algebra: Algebra, seed: Jet, constants: Sequence[Array], ops: ArrayOps, outputs: Needed,
    directions: Mapping[int, Any] | None = None,
) -> tuple[Operand, ...]:
    """Evaluate the graph on jets.

    Args:
        graph: the captured function.
        algebra: which channels there are and how they multiply.
        seed: the jet of the input x.
        constants: arrays for ``graph.constants``.
        ops: array operations of the backend (`opdsl.jets.array_ops.ArrayOps`).
        outputs: parts that are read of the outputs.
        directions: the rows (R, d) of the seed by part, where they are known: values that depend on few of them carry fewer channels.

    Returns:
        One jet per output, or a plain array where the output does not depend on x.

    Raises:
        MissingRuleError: a jet reaches a primitive without a rule.
    """
    needed = needed_parts(graph, algebra, outputs)
    packed = None if directions is None else packing(graph, algebra, directions)
    store: dict[int, Operand] = {graph.x: seed, **dict(zip(graph.constants, constants, strict=True))}
    last = graph.last_use()
    for position, node in enumerate(graph.nodes):
        operands = [store[i] for i in node.inputs]
        if isinstance(node.rule, Constant) or not any(isinstance(o, Jet) for o in operands):
            raw = node.apply(*(primal(o) for o in operands))
            results = tuple(raw) if node.several else (raw,)
        else:
            wanted = frozenset().union(*(needed.get(i, frozenset()) for i in node.outputs))
            own, values = algebra, [graph.values[i] for i in node.outputs]
            if packed is not None:
                own, slots = packed.algebra(algebra, position), packed.steps[position].slots
                operands = [packed.operand(ops, o, i, slots, seed) for o, i in zip(operands, node.inputs, strict=True)]
            results = JetOps(ops, own, wanted).node(node, operands, values)
            if packed is not None:
                results = tuple(packed.moved(ops, r, i, slots, packed.slots[i]) for r, i in zip(results, node.outputs, strict=True))
        store.update(zip(node.outputs, results, strict=True))
        for i in node.inputs:
            if last[i] == position:
                store.pop(i, None)
    found = tuple(store[i] for i in graph.outputs)
    return found if packed is None else tuple(packed.opened(ops, o, i, seed) for o, i in zip(found, graph.outputs, strict=True))


def primal(operand: Operand) -> Array:
    """Channel 0."""
    return operand.primal if isinstance(operand, Jet) else operand


@dataclass(frozen=True, slots=True)
class JetOps:
    """Arithmetic on jets: what rules are written with.

    Operands are jets, plain arrays or Python numbers. Plain results stay plain.
    """

    ops: ArrayOps
    algebra: Algebra
    needed: Needed

    @property
    def xp(self) -> Any:
        """The array namespace."""
        return self.ops.xp

    @staticmethod
    def primal(a: Operand) -> Array:
        """Channel 0 of a jet; the array itself otherwise."""
        return primal(a)

    @staticmethod
    def valued(a: Operand, value: Array) -> Operand:
        """The derivatives of ``a`` beside this value: the framework's own, rounded as it rounds."""
        return Jet(value, a.parts, a.fixed, a.batch_axis) if isinstance(a, Jet) else value

    @staticmethod
    def is_jet(a: Operand) -> bool:
        """Whether ``a`` carries derivatives."""
        return isinstance(a, Jet)

    # ------------------------------------------------------------------------------------------------ one graph node

    def node(self, node: Node, operands: Sequence[Operand], values: Sequence[Value]) -> tuple[Operand, ...]:
        """Apply a node of the graph."""
        rule, axis = node.rule, values[0].batch_axis
        if not node.flexible and not self.ops.per_point:
            operands = [self._unfixed(o) if isinstance(o, Jet) else o for o in operands]
        match rule:
            case Elementwise(function):
                return (self.elementwise(function, operands[0]),)
            case Sum(signs):
                return (self._sum(signs, operands, node.apply, axis),)
            case Linear(positions):
                jets = [i for i, o in enumerate(operands) if isinstance(o, Jet)]
                if positions is not None and not set(jets) <= set(positions):
                    raise MissingRuleError(
                        f"{node.primitive}: an operand that must be constant (an index, a mask or a size) depends on the point."
                    )
                result = self._linear(node.apply, operands, axis, node.several, positions)
                return result if node.several else (result,)
            case Bilinear(positions):
                return (self._bilinear_at(node.apply, operands, positions, axis),)
            case PiecewiseLinear(tangent):
                return (self.piecewise(tangent, node.apply, *operands, batch_axis=axis),)
            case Composed(build):
                result = build(self._everything(), *operands)
                results = tuple(result) if node.several else (result,)
                return tuple(self._with_axis(r, v.batch_axis) for r, v in zip(results, values, strict=True))
        raise MissingRuleError(f"no jet rule for {node.primitive} ({type(rule).__name__}).")

    def _everything(self) -> JetOps:
        # Inside a composed rule every step may feed any other: compute whatever the needed parts can depend on.
        return JetOps(self.ops, self.algebra, self.algebra.requires(self.needed))

    @staticmethod
    def _with_axis(result: Operand, axis: int | None) -> Operand:
        return Jet(result.primal, result.parts, result.fixed, axis) if isinstance(result, Jet) else result

    def _unfixed(self, jet: Jet) -> Jet:
        """Materialise parts with a batch axis of length 1, for primitives that insist on the full one."""
        if not any(f and p is not None for f, p in zip(jet.fixed, jet.parts, strict=True)):
            return jet
        shape = tuple(jet.primal.shape)
        parts = tuple(
            p if p is None or not f else self.xp.broadcast_to(p, (p.shape[0], *shape))
            for p, f in zip(jet.parts, jet.fixed, strict=True)
        )
        return Jet(jet.primal, parts, tuple(False for _ in parts), jet.batch_axis)

    # --------------------------------------------------------------------------------------------------- elementwise

    def elementwise(self, function: Elementary | str, a: Operand) -> Operand:
        """σ(a)."""
        function = ELEMENTARY[function] if isinstance(function, str) else function
        if not isinstance(a, Jet):
            return function.expand(self.ops, a, 0)[0]
        return self._marked(self.algebra.compose(self.ops, function, a, self.needed))

    def _marked(self, jet: Jet) -> Jet:
        """Where a coefficient is one number (x², polynomials), channels made of fixed ones alone are still the same at every
        point: say so, for others must not mistake them for full ones."""
        axis = jet.batch_axis
        if self.ops.per_point or axis is None or jet.primal.shape[axis] == 1:
            return jet
        target = _target(jet.primal.shape, axis, True)
        fixed = tuple(f or (p is not None and tuple(p.shape[1:]) == target) for p, f in zip(jet.parts, jet.fixed, strict=True))
        return Jet(jet.primal, jet.parts, fixed, axis)

    # -------------------------------------------------------------------------------------------------------- linear

    def add(self, a: Operand, b: Operand) -> Operand:
        """a + b, with broadcasting."""
        return self._sum((1.0, 1.0), (a, b), self.xp.add, None)

    def sub(self, a: Operand, b: Operand) -> Operand:
        """a − b, with broadcasting."""
        return self._sum((1.0, -1.0), (a, b), self.xp.subtract, None)

    def neg(self, a: Operand) -> Operand:
        """−a."""
        return Jet(-a.primal, a.map(lambda p: -p).parts, a.fixed, a.batch_axis) if isinstance(a, Jet) else -a

    def _sum(self, signs: Sequence[float], operands: Sequence[Operand], apply: Callable[..., Any], axis: int | None) -> Operand:
        if not any(isinstance(o, Jet) for o in operands):
            return apply(*operands) if not any(isinstance(o, int | float) for o in operands) else _python_sum(signs, operands)
        arrays = [primal(o) for o in operands]
        value = _python_sum(signs, arrays) if any(isinstance(o, int | float) for o in arrays) else apply(*arrays)
        jets = [(s, o) for s, o in zip(signs, operands, strict=True) if isinstance(o, Jet)]
        axis = axis if axis is not None else _shifted_axis(jets[0][1], len(value.shape))
        parts: list[Array | None] = []
        fixed: list[bool] = []
        for k in range(len(self.algebra.sizes)):
            total: Array | None = None
            same = True
            for sign, jet in jets:
                part = jet.parts[k]
                if part is None or k not in self.needed:
                    continue
                part = _lift(self.xp, part, len(jet.primal.shape), len(value.shape))
                same &= jet.fixed[k]
                part = part if sign == 1.0 else -part if sign == -1.0 else part * sign
                total = part if total is None else total + part
            if total is not None:
                # Broadcasting in the sum itself (a vector plus a matrix) must show in every channel alike.
                target = _target(value.shape, axis, same and not self.ops.per_point)
                if tuple(total.shape[1:]) != target:
                    total = self.xp.broadcast_to(total, (total.shape[0], *target))
            parts.append(total)
            fixed.append(same)
        return Jet(value, tuple(parts), tuple(fixed), axis)

    def linear(self, apply: Callable[..., Any], *operands: Operand, several: bool = False, batch_axis: int | None = None) -> Any:
        """A map that is jointly linear in all jets among its operands."""
        if not any(isinstance(o, Jet) for o in operands):
            return apply(*operands)
        jet = next(o for o in operands if isinstance(o, Jet))
        return self._linear(apply, operands, batch_axis if batch_axis is not None else jet.batch_axis, several, None)

    def _linear(
        self,
        apply: Callable[..., Any],
        operands: Sequence[Operand],
        axis: int | None,
        several: bool,
        positions: Sequence[int] | None,
    ) -> Any:
        jets = [i for i, o in enumerate(operands) if isinstance(o, Jet)]
        count = len(self.algebra.sizes)
        live = [k for k in range(count) if k in self.needed and any(operands[i].parts[k] is not None for i in jets)]
        homogeneous = len(jets) == 1 and all(
            i == jets[0] or (positions is not None and i not in positions) for i in range(len(operands))
        )
        only = operands[jets[0]]
        loose = [k for k in live if not only.fixed[k]] if homogeneous else []
        if homogeneous and self.ops.stacked and loose:
            # One application for channel 0 and all channels that vary over the batch.
            stack = self.xp.concat([only.primal[None, ...], *(only.parts[k] for k in loose)], axis=0)
            arrays = [stack if i == jets[0] else o for i, o in enumerate(operands)]
            out = self.ops.channelwise(apply, arrays, [i == jets[0] for i in range(len(operands))])
            sizes = (1, *(self.algebra.sizes[k] for k in loose))
            blocks = [self.ops.split(o, sizes) for o in (out if several else (out,))]
            first = [self.ops.unstack(b[0])[0] for b in blocks]
            value: Any = tuple(first) if several else first[0]
            channels: dict[int, Any] = {
                k: tuple(b[j] for b in blocks) if several else blocks[0][j] for j, k in enumerate(loose, start=1)
            }
        else:
            value = apply(*(primal(o) for o in operands))
            channels = {}
        for k in live:
            if k not in channels:
                channels[k] = self._channel(apply, operands, jets, k, homogeneous, positions)
        fixed = tuple(all(operands[i].parts[k] is None or operands[i].fixed[k] for i in jets) for k in range(count))
        if not several:
            return self._checked(Jet(value, tuple(channels.get(k) for k in range(count)), fixed, axis))
        return tuple(
            self._checked(Jet(v, tuple(channels[k][j] if k in channels else None for k in range(count)), fixed, axis))
            for j, v in enumerate(value)
        )

    def _checked(self, jet: Jet) -> Jet:
        """A factor with one row per point makes fixed channels vary."""
        axis = jet.batch_axis
        if self.ops.per_point or axis is None or not any(jet.fixed):
            return jet
        fixed = tuple(f and (p is None or p.shape[1 + axis] == 1) for p, f in zip(jet.parts, jet.fixed, strict=True))
        return Jet(jet.primal, jet.parts, fixed, axis)

    def _channel(
        self,
        apply: Callable[..., Any],
        operands: Sequence[Operand],
        jets: Sequence[int],
        k: int,
        homogeneous: bool,
        positions: Sequence[int] | None,
    ) -> Any:
        """Part k of a linear map; operands that contribute nothing to it enter as zeros of their shape."""
        arrays: list[Any] = []
        mapped: list[bool] = []
        batch = any(operands[i].parts[k] is not None and not operands[i].fixed[k] for i in jets)
        for i, o in enumerate(operands):
            if i in jets and o.parts[k] is not None:
                part = o.parts[k]
                if batch and o.fixed[k] and not self.ops.per_point:
                    part = self.xp.broadcast_to(part, (part.shape[0], *o.primal.shape))
                arrays.append(part)
                mapped.append(True)
            elif homogeneous or (positions is not None and i not in positions) or not hasattr(primal(o), "shape"):
                arrays.append(primal(o))
                mapped.append(False)
            else:
                zero = primal(o)
                arrays.append(self.xp.zeros_like(zero if batch or not isinstance(o, Jet) else _thin(zero, o, self.ops)))
                mapped.append(False)
        return self.ops.channelwise(apply, arrays, mapped)

    # ------------------------------------------------------------------------------------------------------ bilinear

    def mul(self, a: Operand, b: Operand) -> Operand:
        """a · b, with broadcasting."""
        if not isinstance(a, Jet) and not isinstance(b, Jet):
            return a * b
        if isinstance(a, int | float) or isinstance(b, int | float):
            number, jet = (a, b) if isinstance(a, int | float) else (b, a)
            return Jet(jet.primal * number, jet.map(lambda p: p * number).parts, jet.fixed, jet.batch_axis)
        return self._bilinear_at(self.xp.multiply, (a, b), (0, 1), None)

    def div(self, a: Operand, b: Operand) -> Operand:
        """a / b, with broadcasting."""
        if isinstance(b, int | float):
            return self.mul(a, 1.0 / b)
        return self.mul(a, self.elementwise("reciprocal", b)) if isinstance(b, Jet) else self._over(a, b)

    def _over(self, a: Operand, b: Array) -> Operand:
        if not isinstance(a, Jet):
            return a / b
        return self.linear(lambda h: h / b, a) if len(a.primal.shape) >= len(b.shape) else self.mul(a, 1.0 / b)

    def bilinear(self, apply: Callable[..., Any], a: Operand, b: Operand, *, batch_axis: int | None = None) -> Operand:
        """B(a, b) for any bilinear ``apply``."""
        if not isinstance(a, Jet) and not isinstance(b, Jet):
            return apply(a, b)
        return self._bilinear_at(apply, (a, b), (0, 1), batch_axis)

    def _bilinear_at(
        self, apply: Callable[..., Any], operands: Sequence[Operand], positions: tuple[int, int], axis: int | None
    ) -> Operand:
        f, g = operands[positions[0]], operands[positions[1]]
        if axis is None:
            axis = f.batch_axis if isinstance(f, Jet) else g.batch_axis
        if not (isinstance(f, Jet) and isinstance(g, Jet)):
            at = positions[0] if isinstance(f, Jet) else positions[1]
            # With one operand constant the map is linear and homogeneous in the other.
            return self._linear(apply, operands, axis, False, (at,))

        def pair(a: Array, b: Array) -> Array:
            rest = list(operands)
            rest[positions[0]], rest[positions[1]] = a, b
            return apply(*rest)

        value = pair(f.primal, g.primal)
        direct = apply is self.xp.multiply and len(f.primal.shape) == len(g.primal.shape)
        result = self.algebra.product(self.ops, Pairing(self.ops, pair, direct), f, g, value, self.needed, axis)
        return self._full(result)

    def _full(self, jet: Jet) -> Jet:
        """Products of fixed channels keep a batch axis of length 1, or a broadcast feature axis: bring all to full shape."""
        shape = tuple(jet.primal.shape)
        parts = tuple(
            p if p is None or tuple(p.shape[1:]) == shape else self.xp.broadcast_to(p, (p.shape[0], *shape)) for p in jet.parts
        )
        return Jet(jet.primal, parts, jet.fixed, jet.batch_axis)

    # ----------------------------------------------------------------------------------------------------- selection

    def piecewise(
        self, tangent: Callable[..., Any], apply: Callable[..., Any], *operands: Operand, batch_axis: int | None = None
    ) -> Operand:
        """A piecewise linear map: every channel goes through the tangent map at the primal.

        Which piece an entry is on cannot be told of NaN: where the value is NaN, so is every channel.
        """
        if not any(isinstance(o, Jet) for o in operands):
            return apply(*operands)
        full = [self._unfixed(o) if isinstance(o, Jet) and not self.ops.per_point else o for o in operands]
        primals = [primal(o) for o in full]
        value = apply(*primals)
        undefined = self.xp.isnan(value)

        def poisoned(xp: Any, given: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
            found = tangent(xp, given, tangents)
            return xp.where(undefined, value, found)

        return self._pieces(poisoned, value, full, batch_axis)

    def _pieces(self, tangent: Callable[..., Any], value: Array, full: Sequence[Operand], batch_axis: int | None) -> Operand:
        primals = [primal(o) for o in full]
        jets = [i for i, o in enumerate(full) if isinstance(o, Jet)]
        axis = batch_axis if batch_axis is not None else full[jets[0]].batch_axis
        parts: list[Array | None] = []
        for k in range(len(self.algebra.sizes)):
            present = [i for i in jets if full[i].parts[k] is not None and k in self.needed]
            if not present:
                parts.append(None)
                continue

            def along(*tangents: Array, present: Sequence[int] = present) -> Array:
                slots: list[Array | None] = [None] * len(full)
                for i, t in zip(present, tangents, strict=True):
                    slots[i] = t
                return tangent(self.xp, primals, slots)

            channel = self.ops.channelwise(along, [full[i].parts[k] for i in present], [True] * len(present))
            parts.append(channel)
        return Jet(value, tuple(parts), tuple(False for _ in parts), axis)

    def where(self, mask: Array, a: Operand, b: Operand) -> Operand:
        """a where the mask holds, b elsewhere, with the channels of the one that is taken; the mask is constant."""
        mask = primal(mask)
        if not isinstance(a, Jet) and not isinstance(b, Jet):
            return self.xp.where(mask, a, b)
        like = primal(a if isinstance(a, Jet) else b)
        a, b = (self.ops.asarray(o, like) if isinstance(o, int | float) else o for o in (a, b))

        def tangent(xp: Any, _primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
            zero = xp.zeros_like(next(t for t in tangents if t is not None))
            return xp.where(mask, *(zero if t is None else t for t in tangents))

        full = [self._unfixed(o) if isinstance(o, Jet) and not self.ops.per_point else o for o in (a, b)]
        return self._pieces(tangent, self.xp.where(mask, *(primal(o) for o in full)), full, None)


def _python_sum(signs: Sequence[float], arrays: Sequence[Any]) -> Any:
    total: Any = None
    for sign, a in zip(signs, arrays, strict=True):
        term = a if sign == 1.0 else -a if sign == -1.0 else a * sign
        total = term if total is None else total + term
    return total


def _lift(xp: Any, part: Array, ndim: int, target: int) -> Array:
    """Insert axes behind the channel axis so that (C, *S) broadcasts like S against arrays of ``target`` dimensions."""
    return part if ndim == target else xp.reshape(part, (part.shape[0], *[1] * (target - ndim), *part.shape[1:]))


def _target(shape: Sequence[int], axis: int | None, thin: bool) -> tuple[int, ...]:
    return tuple(1 if thin and i == axis else n for i, n in enumerate(shape))


def _shifted_axis(jet: Jet, ndim: int) -> int | None:
    return None if jet.batch_axis is None else jet.batch_axis + ndim - len(jet.primal.shape)


def _thin(zero: Array, jet: Jet, ops: ArrayOps) -> Array:
    """One row along the batch axis, beside fixed parts of other operands."""
    if ops.per_point or jet.batch_axis is None:
        return zero
    return zero[(*[slice(None)] * jet.batch_axis, slice(0, 1), ...)]


def size(shape: Sequence[int]) -> int:
    """Number of elements."""
    return prod(shape)
