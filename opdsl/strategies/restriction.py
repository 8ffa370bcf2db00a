r"""Operators on many coordinates as operators on few: u along chosen directions.

A change of variables x ↦ x + Vη with few η restricts u to g(η) = u(x + Vη). Where an operator P of u at x is an operator Q of g
at η = 0, it is evaluated there, by any strategy: η are few, whatever d is. `pull_back` chooses V so that this is exact,
`stde` draws it so that it is right on average.

The network is restricted at its `Cut`, where it is narrow: y(η) = y(x) + Σ_k B_k η^k, and nothing of size V × d is ever formed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.bottleneck import Cut
from opdsl.jets.elementary import power
from opdsl.jets.graph import Array, Bilinear, Elementwise, Graph, Node, Sum, Value
from opdsl.jets.operations import OPERATIONS
from opdsl.language.constructors import mul, transform
from opdsl.language.residual import Number, Parameter, Pointwise
from opdsl.strategies.base import Delivered, Method, Refusal, Request, Strategy
from opdsl.strategies.collapsed_taylor import CollapsedTaylor
from opdsl.strategies.derivative_space import DerivativeSpaceStrategy
from opdsl.strategies.dof import DOF
from opdsl.strategies.environment import Environment
from opdsl.strategies.forward_laplacian import ForwardLaplacian
from opdsl.strategies.linear_operators import DerivativeTerm, LinearOperator
from opdsl.strategies.n_tangentprop import NTangentProp
from opdsl.strategies.reverse_gradient import ReverseGradientMethod

_INNER: tuple[Strategy, ...] = (NTangentProp(), ForwardLaplacian(), DOF(), CollapsedTaylor(), DerivativeSpaceStrategy())


class NotSuitable(Exception):
    """Why an operator is none of a restriction; the strategy turns it into a refusal."""


@dataclass(frozen=True)
class Block:
    """A contribution η[start : start + c]^order · array to one value at the cut.

    Args:
        value: the value's number.
        start: first of the c columns of η.
        array: (c, w), or (n, c, w) where it differs from point to point of a batched graph; w entries of the value.
        varies: whether it does.
        order: power of η, element by element.
    """

    value: int
    start: int
    array: Array
    varies: bool = False
    order: int = 1


def restrict(cut: Cut, ops: ArrayOps, eta_shape: tuple[int, ...], blocks: Sequence[Block]) -> Graph:
    """The network as a function of η.

    Its constants are those of the whole network, then the values at the cut, then the arrays of the blocks. ``eta_shape`` is the
    shape of η.
    """
    whole = cut.graph
    batch = whole.values[whole.x].batch_axis
    dtype = whole.values[whole.x].dtype
    values = list(whole.values)

    def new(shape: tuple[int, ...], axis: int | None) -> int:
        values.append(Value(shape, dtype, axis))
        return len(values) - 1

    eta = new(eta_shape, batch)
    bases = {v: new(whole.values[v].shape, whole.values[v].batch_axis) for v in cut.values}
    arrays = [new(tuple(b.array.shape), 0 if b.varies and batch is not None else None) for b in blocks]
    nodes: list[Node] = []
    powers = {1: eta}
    for order in sorted({b.order for b in blocks} - {1}):
        powers[order] = new(eta_shape, batch)
        nodes.append(Node(f"power({order})", Elementwise(power(order)), (eta,), (powers[order],), _never, flexible=True))
    for v in cut.values:
        terms = []
        for b, place in zip(blocks, arrays, strict=True):
            if b.value == v:
                terms.append(new(whole.values[v].shape, whole.values[v].batch_axis))
                apply = _product(ops, b, whole.values[v])
                flexible = batch is None or not b.varies
                made = (powers[b.order], place), (terms[-1],)
                nodes.append(Node("matmul", Bilinear(), *made, apply, flexible=flexible, operation=OPERATIONS["matmul"]))
        signs = (1.0,) * (1 + len(terms))
        nodes.append(Node("add", Sum(signs), (bases[v], *terms), (v,), _add, flexible=True, operation=OPERATIONS["add"]))
    needed, tail = set(whole.outputs), []
    for node in reversed(whole.nodes):
        if any(o in needed for o in node.outputs) and not any(o in cut.values for o in node.outputs):
            tail.append(node)
            needed.update(node.inputs)
    return Graph(
        tuple(values), eta, (*whole.constants, *bases.values(), *arrays), (*nodes, *reversed(tail)), whole.outputs
    )  # fmt: skip


def _product(ops: ArrayOps, block: Block, value: Value) -> Any:
    start, stop = block.start, block.start + block.array.shape[-2]
    shape = value.shape if value.batch_axis is None else value.shape[1:]
    xp = ops.xp

    def apply(eta: Array, array: Array) -> Array:
        part = eta[..., start:stop]
        if value.batch_axis is None:
            return xp.reshape(part @ array, shape)
        out = (part[:, None, :] @ array)[:, 0, :] if block.varies else part @ array
        return xp.reshape(out, (out.shape[0], *shape))

    return apply


def _add(first: Array, *rest: Array) -> Array:
    for r in rest:
        first = first + r
    return first


def _never(*_: Any) -> Any:
    raise AssertionError("η always carries a jet")


@dataclass(frozen=True)
class RestrictedMethod(Method):
    """Operators of u as operators of its restriction.

    Args:
        strategy: the name.
        inner: the method on the restriction.
        images: what every operator becomes there.
        columns: number of new coordinates η.
        space: those over which index sums range there.
        notes: lines for `explain`.
        again: images of a second, independent restriction.
        rest: the method of operators that are not restricted.
    """

    strategy: str
    inner: Method
    images: Mapping[LinearOperator, LinearOperator]
    columns: int
    space: Sequence[int]
    notes: tuple[str, ...] = field(default=())
    again: Mapping[LinearOperator, LinearOperator] | None = None
    rest: Method | None = None

    @property
    def channels(self) -> int:  # type: ignore[override]
        return self.inner.channels + (0 if self.rest is None else self.rest.channels - 1)

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.inner.order

    def details(self) -> list[str]:
        return [*self.notes, *self.inner.details(), *(() if self.rest is None else self.rest.details())]

    @abstractmethod
    def blocks(
        self, env: Environment, cut: Cut, constants: Sequence[Array], values: Mapping[int, Array]
    ) -> tuple[list[Block], dict[str, Array]]:
        """The restriction at ``env.x``, and arrays for the parameters that images have of their own.

        ``values``: those at the cut, by number.
        """

    @abstractmethod
    def cut(self, graph: Graph) -> Cut:
        """Where the network is restricted."""

    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        ops, cut = env.ops, self.cut(graph)
        base = cut.at(env.inputs, constants)
        blocks, bindings = self.blocks(env, cut, constants, dict(zip(cut.values, base, strict=True)))
        origin = ops.points.everywhere(ops.asarray(np.zeros(self.columns), env.x), env.x)
        narrow = restrict(cut, ops, tuple(origin.shape), blocks)
        inner = Environment(
            ops, env.x, self.space, {**env.bindings, **bindings}, functions=env.functions, inputs=origin
        )  # fmt: skip
        found = self.inner.evaluate(inner, narrow, (*constants, *base, *(b.array for b in blocks)))
        rest = {} if self.rest is None else self.rest.evaluate(env, graph, constants).operators

        def read(images: Mapping[LinearOperator, LinearOperator]) -> dict[LinearOperator, Array]:
            return {**{op: found.operators[image] for op, image in images.items()}, **rest}

        return Delivered(found.value, read(self.images), None if self.again is None else read(self.again))


def flat_parts(ops: ArrayOps, cut: Cut, value: int, part: Array, fixed: bool) -> Array:
    """Derivatives (R, *S) of a value at the cut as a block's array: (R, w), or (n, R, w) where they differ by point."""
    flat = ops.points.flat(part, cut.width(value), fixed)
    return flat if fixed else ops.points.in_front(flat)


def fewest_channels(request: Request) -> Method | Refusal:
    """The push-forward with the fewest channels; the more special name among equals."""
    found, methods = [], []
    for s in _INNER:
        answer = s.propose(request)
        found.append(answer)
        if isinstance(answer, Method):
            methods.append(answer)
            if all(op.order <= 2 for op in request.operators):
                break  # a direction for each rank and one top: nothing has fewer
    if methods:
        return min(methods, key=lambda m: m.channels)
    return next(r for r in reversed(found) if isinstance(r, Refusal))


def written_out(operator: LinearOperator, space: Sequence[int], start: int = 0) -> LinearOperator:
    """All index sums written out over few coordinates, columns ``start + space``; equal derivatives collected."""
    found: dict[tuple[Pointwise, tuple[int, ...]], int] = {}
    for t in operator.terms:
        for values in product(range(len(space)), repeat=len(t.labels)):
            where = dict(zip(t.labels, values, strict=True))
            axes = tuple(sorted(a if isinstance(a, int) else start + space[where[a]] for a in t.axes))
            key = _entry(t.coefficient, where), axes
            found[key] = found.get(key, 0) + 1
    return LinearOperator(tuple(DerivativeTerm(mul(Number(Fraction(n)), c), axes) for (c, axes), n in found.items()))


def _entry(node: Pointwise, where: Mapping[str, int]) -> Pointwise:
    """A coefficient at given values of its labels."""

    def leaf(node: Pointwise) -> Pointwise:
        if not isinstance(node, Parameter):
            return node
        return Parameter(node.name, tuple(where.get(a, a) if isinstance(a, str) else a for a in node.index))

    return transform(node, leaf, {})


def direction_of(env: Environment, among: Sequence[int], coefficient: Pointwise, label: str) -> tuple[Array, bool]:
    """A coefficient vector b_i as a direction (1, d), or (1, n, d) where it differs from point to point; and whether it is the same."""
    ops, xp = env.ops, env.ops.xp
    value = env.array(coefficient, (label,))
    size = len(among)
    value = value if hasattr(value, "shape") else ops.asarray(np.full(size, float(value)), env.x)
    if value.shape[-1] != size:
        value = xp.broadcast_to(value, (*value.shape[:-1], size))
    return padded(env, among, value)[None, ...], len(value.shape) == 1


def padded(env: Environment, among: Sequence[int], v: Array) -> Array:
    """Directions over the space coordinates, continued by zeros to all columns."""
    d = env.x.shape[-1]
    before, after = among[0], d - among[-1] - 1
    if not before and not after:
        return v
    xp, zero = env.ops.xp, env.ops.asarray(0.0, env.x)
    ends = [xp.broadcast_to(zero, (*v.shape[:-1], n)) for n in (before, after)]
    return xp.concat([ends[0], v, ends[1]], axis=-1)


def reverse_of(request: Request) -> Method | None:
    """All first derivatives one by one (as in |∇u|²) by reverse mode, beside a restriction; None where none are wanted."""
    families = tuple(op for op in request.operators if op.spread is not None)
    if not families:
        return None
    return ReverseGradientMethod(families, request.space, request.outputs)
