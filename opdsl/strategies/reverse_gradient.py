"""Reverse mode for first-order operators of few outputs: about two forward passes whatever d is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opdsl.jets.elementary import Term, plus
from opdsl.jets.graph import Array, Graph, evaluate
from opdsl.strategies.base import Delivered, Method, Refusal, Request, Strategy
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import LinearOperator


@dataclass(frozen=True)
class ReverseGradientMethod(Method):
    """∇u for every output column by one pull-back each; operators are contractions of it."""

    operators: tuple[LinearOperator, ...]
    space: Sequence[int]
    outputs: int
    strategy: str = "reverse_gradient"
    order: int = 1

    @property
    def channels(self) -> int:  # type: ignore[override]
        return 1 + self.outputs

    def details(self) -> list[str]:
        return [f"{self.outputs} pull-back{'s' if self.outputs > 1 else ''}, all first derivatives at once"]

    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        ops = env.ops

        def function(x: Array) -> Array:
            return ops.points.columns(evaluate(graph, x, constants)[0])

        value, gradient = ops.gradient(function, env.inputs)
        inner = Environment(ops, gradient, env.space)
        return Delivered(value, {op: self._contract(env, inner, op, gradient) for op in self.operators})

    def _contract(self, env: Environment, inner: Environment, op: LinearOperator, gradient: Array) -> Array:
        """Σ_c coefficient_c ∂_c u: (…, m)."""
        if op.spread is not None:
            return inner.space_of(gradient)
        total: Term = None
        for t in op.terms:
            axis = t.axes[0]
            if isinstance(axis, int):
                term = env.scaled(gradient[..., axis], env(t.coefficient))
            else:
                weight = env.array(t.coefficient, (axis,))
                weight = weight[..., None, :] if hasattr(weight, "shape") else weight
                term = env.ops.xp.sum(inner.space_of(gradient) * weight, axis=-1)
            total = plus(total, term)
        return total


class ReverseGradient(Strategy):
    """First derivatives only, few outputs, many coordinates: one reverse sweep per output (theory: two forward passes)."""

    name = "reverse_gradient"
    reference = "Griewank and Walther, Evaluating Derivatives, ch. 3 (cheap gradient principle)"

    def propose(self, request: Request) -> Method | Refusal:
        if not request.differentiable:
            return Refusal(self.name, request.undifferentiable)
        for op in request.operators:
            if op.order > 1:
                return Refusal(self.name, f"order {op.order} is above 1")
        return ReverseGradientMethod(request.operators, request.space, request.outputs)
