"""What a strategy is: it looks at the operators wanted of one network and proposes a method, or says why it cannot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from opdsl.backends.execution import Execution
from opdsl.jets.graph import Array, Graph
from opdsl.pricing.counting import CountingOps, Effort, Shape, stand_ins
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import LinearOperator


@dataclass(frozen=True)
class Request:
    """The operators wanted of all fields that share one network.

    Args:
        operators: without repetition; each is read for every output column.
        dimension: number of coordinate columns d.
        space: the columns over which index sums run.
        undifferentiable: why nothing that needs the framework's own differentiation of this network applies; empty where it does.
        known: constant arrays that are known while planning, by name: they may be factored. Everything else is a
            run-time weight.
        outputs: number of output columns m.
        graph: the captured network, for strategies that depend on its structure.
    """

    operators: tuple[LinearOperator, ...]
    dimension: int
    space: Sequence[int]
    undifferentiable: str = ""
    known: Mapping[str, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)
    outputs: int = 1
    graph: Graph | None = None

    @property
    def differentiable(self) -> bool:
        """Whether the framework differentiates the network itself."""
        return not self.undifferentiable


@dataclass(frozen=True)
class Surroundings:
    """Where a method would be evaluated, as far as its work depends on it.

    Args:
        graph: the captured network, or a description of one (`opdsl.pricing.counting.layers`).
        points: number of points.
        execution: how the backend runs it.
        space: the columns over which index sums run.
        bindings: shape of every bound array, and whether it varies from point to point.
        functions: names of bound functions.
    """

    graph: Graph
    points: int
    execution: Execution
    space: Sequence[int] = ()
    bindings: Mapping[str, tuple[Shape, bool]] = field(default_factory=dict)
    functions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Why a strategy does not apply."""

    strategy: str
    reason: str


@dataclass(frozen=True)
class Delivered:
    """What a method delivers: the value (…, m) and every operator (…, m), or (…, m, D) for a family.

    ``again`` holds a second, independent estimate of every operator where operators are sampled twice.
    """

    value: Array
    operators: Mapping[LinearOperator, Array]
    again: Mapping[LinearOperator, Array] | None = None


class Method(ABC):
    """A strategy applied to one request: static, printable, and able to evaluate.

    Attributes:
        strategy: the strategy's name.
        channels: arrays carried through the network, the value included.
        order: highest order of differentiation.
    """

    strategy: str
    channels: int
    order: int

    @property
    def estimated(self) -> frozenset[LinearOperator]:
        """Operators whose values are random, right on average only."""
        return frozenset()

    @abstractmethod
    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        """Value and operators at ``env.x``; run-time coefficients are evaluated in ``env``."""

    @abstractmethod
    def details(self) -> list[str]:
        """Lines for `explain`: what is carried."""

    def structure(self, where: Surroundings) -> list[str]:
        """Lines for `explain`: what the structure of the network saves."""
        return []

    def counted(self, where: Surroundings) -> tuple[CountingOps, Environment]:
        """Arrays without numbers, and what stands for a call with them."""
        ops = CountingOps(where.graph, where.points, where.execution)
        functions = {name: lambda _orders, *values, name=name: ops.special(name)(values[0]) for name in where.functions}
        return ops, Environment(ops, ops.point, where.space, stand_ins(ops, where.bindings), functions=functions)

    def effort(self, where: Surroundings) -> Effort:
        """The work of one evaluation, counted by running `evaluate` on arrays without numbers."""
        ops, env = self.counted(where)
        self.evaluate(env, ops.graph, ops.constants)
        return ops.tally.effort()


class Strategy(ABC):
    """One way to differentiate, named as in the literature. Stateless; one instance each, in `opdsl.strategies.STRATEGIES`.

    Attributes:
        name: what users write.
        reference: where it was published.
        exact: whether it gives the operators of the network itself; one that does not is taken only where it is asked for.
    """

    name: ClassVar[str]
    reference: ClassVar[str]
    exact: ClassVar[bool] = True

    def keyed(self, key: Any) -> Strategy:
        """This strategy with another key for its random numbers."""
        return self

    def draws(self, backend: Any, x: Array, size: int) -> Mapping[str, Array]:
        """Random arrays that a call binds beside the user's; ``size`` is the number of space coordinates."""
        return {}

    @abstractmethod
    def propose(self, request: Request) -> Method | Refusal:
        """A method for the request, or the reason why this strategy does not apply."""
