"""No derivatives at all: the network is only evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opdsl.jets.graph import Array, Graph, evaluate
from opdsl.strategies.base import Delivered, Method
from opdsl.strategies.environment import Environment


@dataclass(frozen=True)
class PlainEvaluation(Method):
    """One plain forward pass."""

    strategy: str = "evaluation"
    channels: int = 1
    order: int = 0

    def details(self) -> list[str]:
        return ["the value"]

    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        return Delivered(env.ops.points.columns(evaluate(graph, env.inputs, constants)[0]), {})
