"""Nested automatic differentiation of the framework: the baseline every other strategy is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from opdsl.jets.elementary import Term, plus
from opdsl.jets.graph import Array, Graph, evaluate
from opdsl.language.residual import Axis
from opdsl.strategies.base import Delivered, Method, Refusal, Request, Strategy
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import LinearOperator

Axes = tuple[int, ...]
_DEEPEST = 16
_MOST = 5_000


def label_values(axes: Sequence[Axis], labels: Sequence[str], space: Sequence[int]) -> list[tuple[dict[str, int], Axes]]:
    """All values of the labels, with the columns they stand for."""
    out = []
    for values in product(range(len(space)), repeat=len(labels)):
        where = dict(zip(labels, values, strict=True))
        out.append((where, tuple(sorted(a if isinstance(a, int) else space[where[a]] for a in axes))))
    return out


def wanted_axes(operators: Sequence[LinearOperator], space: Sequence[int]) -> list[Axes]:
    """Every partial derivative that occurs."""
    found: dict[Axes, None] = {}
    for op in operators:
        for t in op.terms:
            labels = t.labels or ((op.spread,) if op.spread is not None else ())
            for _, axes in label_values(t.axes, labels, space):
                found[axes] = None
    return list(found)


def combine(env: Environment, op: LinearOperator, partial: dict[Axes, Array]) -> Array:
    """The operator's value from all partial derivatives."""
    xp = env.ops.xp
    if op.spread is not None:
        members = [partial[axes] for _, axes in label_values(op.terms[0].axes, (op.spread,), env.space)]
        return xp.stack(members, axis=-1)
    total: Term = None
    for t in op.terms:
        weights = env.array(t.coefficient, t.labels) if t.labels else env(t.coefficient)
        for where, axes in label_values(t.axes, t.labels, env.space):
            weight = weights
            if hasattr(weight, "shape") and t.labels:
                lead = len(weight.shape) - len(t.labels)
                key = tuple(0 if weight.shape[lead + k] == 1 else where[label] for k, label in enumerate(t.labels))
                weight = weight[(..., *key)]
            total = plus(total, env.scaled(partial[axes], weight))
    return total


@dataclass(frozen=True)
class NestedADMethod(Method):
    """One derivative after the other, inner ones shared."""

    operators: tuple[LinearOperator, ...]
    space: Sequence[int]
    count: int
    strategy: str = "nested_ad"

    @property
    def channels(self) -> int:  # type: ignore[override]
        return 1 + self.count

    @property
    def order(self) -> int:  # type: ignore[override]
        return max(op.order for op in self.operators)

    def details(self) -> list[str]:
        return [f"{self.count} partial derivatives, each by nested differentiation"]

    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        ops = env.ops
        axes = [(), *wanted_axes(self.operators, self.space)]

        def function(x: Array) -> Array:
            return ops.points.columns(evaluate(graph, x, constants)[0])

        partial = ops.nested_ad(function, env.inputs, axes)
        return Delivered(partial[()], {op: combine(env, op, partial) for op in self.operators})


class NestedAD(Strategy):
    """Plain nested automatic differentiation; always right, never fast at high order."""

    name = "nested_ad"
    reference = "Griewank and Walther, Evaluating Derivatives, ch. 3–5"

    def propose(self, request: Request) -> Method | Refusal:
        if not request.differentiable:
            return Refusal(self.name, request.undifferentiable)
        order = max(op.order for op in request.operators)
        if order > _DEEPEST:
            return Refusal(self.name, f"order {order} nests {order} differentiations, each of which doubles the work")
        size = sum(len(request.space) ** max(len(t.labels), op.spread is not None) for op in request.operators for t in op.terms)
        if size > _MOST:
            return Refusal(self.name, f"{size} partial derivatives would be needed")
        return NestedADMethod(request.operators, request.space, len(wanted_axes(request.operators, request.space)))
