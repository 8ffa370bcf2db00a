"""Methods that carry channels through the network in one pass: seeds in, an algebra on the way, a read-out at the end.

Two algebras are carried this way, powers along directions (`opdsl.strategies.directional`) and the table of a derivative space
(`opdsl.strategies.derivative_space`). They differ in which directions x starts with and in how operators are read; where the
points stand, what is zero, and networks that ignore their input are the same for both and stand here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.directional import Directional
from opdsl.jets.graph import Array, Graph
from opdsl.jets.jet import Jet
from opdsl.jets.packing import packing
from opdsl.jets.propagate import push_forward
from opdsl.jets.tabular import Tabular
from opdsl.strategies.base import Delivered, Method, Surroundings
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import LinearOperator

Floats = npt.NDArray[np.float64]
A = TypeVar("A", Directional, Tabular)


@dataclass(frozen=True)
class UnitRows:
    """Rows with a single one: a shape for counting, which needs no numbers, and an array for everything else."""

    shape: tuple[int, int]
    along: tuple[int, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Floats:
        out = np.zeros(self.shape, dtype=dtype or np.float64)
        out[np.arange(self.shape[0]), list(self.along)] = 1.0
        return out


@dataclass(frozen=True)
class ReadOut:
    """The channels of a network's output, in the shape of its value.

    Args:
        ops: array operations.
        jet: the output.
        value: its channel 0, (…, m).
    """

    ops: ArrayOps
    jet: Jet
    value: Array

    def part(self, position: int) -> Array | None:
        """All channels of a part, (C, …, m); None where they are zero."""
        part = self.jet.parts[position]
        if part is None:
            return None
        full = self.ops.xp.broadcast_to(part, (part.shape[0], *self.jet.primal.shape))
        return self.ops.xp.reshape(full, (part.shape[0], *self.value.shape))

    def channel(self, position: int, number: int) -> Array | None:
        """One channel of a part, (…, m)."""
        part = self.jet.parts[position]
        if part is None:
            return None
        return self.ops.xp.reshape(self.ops.xp.broadcast_to(part[number, ...], self.jet.primal.shape), self.value.shape)


class PushForwardMethod(Method, Generic[A]):
    """A push-forward of x over an algebra whose collapsed channels, if any, are one part."""

    @abstractmethod
    def algebra(self, env: Environment) -> A:
        """The algebra with the weights of this evaluation."""

    @abstractmethod
    def directions(self, algebra: A) -> Mapping[int, Floats | UnitRows]:
        """Directions that x starts with, the same at every point: rows (C, d) by part."""

    @abstractmethod
    def first_order(self, env: Environment, algebra: A) -> tuple[Sequence[Array | None], bool]:
        """What x gives to every collapsed channel, its first-order part (d,) or (n, d), None for zero; and whether all of it is plain
        numbers."""

    @abstractmethod
    def needed(self, algebra: A) -> frozenset[int]:
        """The parts that are read."""

    @abstractmethod
    def read(self, env: Environment, algebra: A, found: ReadOut) -> dict[LinearOperator, Array | None]:
        """Every operator, (…, m); None for zero."""

    def seed(self, env: Environment, algebra: A) -> Jet:
        """The jet of x."""
        ops = env.ops
        parts: list[Array | None] = [None] * len(algebra.sizes)
        fixed = [True] * len(algebra.sizes)
        for part, rows in self.directions(algebra).items():
            parts[part] = ops.points.same(ops.asarray(rows, env.x))
        top = algebra.top_part if algebra.tops else None
        if top is not None:
            first, numbers = self.first_order(env, algebra)
            if any(r is not None for r in first):
                parts[top], fixed[top] = ops.points.stacked(first, ops.asarray(0.0, env.x), numbers)
        return ops.points.jet(env.inputs, parts, fixed)

    def structure(self, where: Surroundings) -> list[str]:
        ops, env = self.counted(where)
        algebra = self.algebra(env)
        found = packing(ops.graph, algebra, self.directions(algebra))
        if found is None:
            return []
        total = sum(map(len, found.rows))
        return [f"entries depend on few of them: {found.fewest} to {total}, {found.share * total:.3g} on average over the work"]

    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        ops, algebra = env.ops, self.algebra(env)
        seed, rows = self.seed(env, algebra), self.directions(algebra)
        (jet,) = push_forward(graph, algebra, seed, constants, ops, self.needed(algebra), rows)
        if not isinstance(jet, Jet):  # the network ignores its input
            nothing = [None] * len(algebra.sizes)
            jet = ops.points.jet(jet, nothing, [False] * len(nothing))
        value: Array = ops.points.columns(jet.primal)
        zero = ops.xp.zeros_like(value)
        found = self.read(env, algebra, ReadOut(ops, jet, value))

        def delivered(op: LinearOperator, array: Array | None) -> Array:
            if array is not None:
                return array
            return zero if op.spread is None else ops.xp.broadcast_to(zero[..., None], (*value.shape, len(env.space)))

        return Delivered(value, {op: delivered(op, array) for op, array in found.items()})
