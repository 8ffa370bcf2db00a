r"""A low-rank network evaluated through its reduced network: SPInProp.

The network brings a small one along whose hidden states are a few entries of its own (`opdsl.lowrank.reduce`). Its residual, and the
derivatives of that in the coefficients the two share, cost what the small one costs. This is an approximation: nobody but the user
chooses it, and its error is measured when the network is reduced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from opdsl.jets.graph import Approximation, Array, Graph
from opdsl.pricing.counting import Effort
from opdsl.strategies.base import Delivered, Method, Refusal, Request, Strategy, Surroundings
from opdsl.strategies.environment import Environment
from opdsl.strategies.no_derivatives import PlainEvaluation
from opdsl.strategies.restriction import fewest_channels

_NAMES = ("values", "first derivatives", "second derivatives", "third derivatives")


@dataclass(frozen=True)
class SPInPropMethod(Method):
    """An exact method on the reduced network.

    Args:
        inner: the exact method.
        lines: how the network was reduced.
        errors: measured, by order of derivative.
    """

    inner: Method
    lines: tuple[str, ...]
    errors: tuple[float, ...]
    strategy = "spinprop"

    @property
    def channels(self) -> int:  # type: ignore[override]
        return self.inner.channels

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.inner.order

    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        return self.inner.evaluate(env, _approximation(graph).graph, constants)

    def effort(self, where: Surroundings) -> Effort:
        return self.inner.effort(replace(where, graph=_approximation(where.graph).graph))

    def details(self) -> list[str]:
        measured = [f"{_named(k)} {e:.1e}" for k, e in enumerate(self.errors[: self.order + 1])]
        missing = [_named(k) for k in range(len(self.errors), self.order + 1)]
        error = f"measured relative error: {', '.join(measured)}" if measured else "its error was not measured"
        if missing and measured:
            error += f"; not measured: {', '.join(missing)}"
        return [f"{self.inner.strategy} on the reduced network, not exact", *self.inner.details(), *self.lines, error]


def _named(order: int) -> str:
    return _NAMES[order] if order < len(_NAMES) else f"derivatives of order {order}"


def _approximation(graph: Graph) -> Approximation:
    assert graph.approximation is not None, "proposed for a network with a reduced one"
    return graph.approximation


class SPInProp(Strategy):
    r"""P(∂)u ≈ P(∂)û, where û is the reduced network that u brings along.

    Reference: Cho et al., arXiv:2410.04001, §3 (sparse physics-informed backpropagation).
    """

    name = "spinprop"
    reference = "arXiv:2410.04001"
    exact = False

    def propose(self, request: Request) -> Method | Refusal:
        near = None if request.graph is None else request.graph.approximation
        if near is None:
            return Refusal(
                self.name,
                "the network brings no reduced network along; fast = opdsl.lowrank.reduce(net, points, rank=5) makes one of a "
                "low-rank network, and net.with_reduced(fast) attaches it",
            )
        if not request.operators:
            return SPInPropMethod(PlainEvaluation(), near.lines, near.errors)
        inner = fewest_channels(replace(request, graph=near.graph))
        if isinstance(inner, Refusal):
            return Refusal(self.name, inner.reason)
        return SPInPropMethod(inner, near.lines, near.errors)
