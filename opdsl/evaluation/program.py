"""From a plan to a function of arrays: the one program that all backends run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from opdsl.evaluation.bound_functions import BoundFunction
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.graph import Array, Graph
from opdsl.language.residual import Residual
from opdsl.planning.plan import Plan
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import Split


class Program:
    """``(constants, x, bindings) -> one array per equation``, pure, written against `ArrayOps`.

    Args:
        residual: for declarations.
        split: equations over operator values.
        plan: the method of every network.
        graphs: one captured function per network, in the plan's order.
        functions: functions the user bound.
        ops: array operations.
    """

    def __init__(
        self,
        residual: Residual,
        split: Split,
        plan: Plan,
        graphs: Sequence[Graph],
        functions: Mapping[str, BoundFunction],
        ops: ArrayOps,
    ) -> None:
        self._residual, self._split, self._plan = residual, split, plan
        self._graphs, self._functions, self._ops = tuple(graphs), dict(functions), ops
        self._sizes = {f.name: _count(f.shape) for f in residual.fields}

    def __call__(
        self, constants: Sequence[Sequence[Array]], x: Array, bindings: Mapping[str, Array]
    ) -> tuple[Array, ...]:
        ops, residual = self._ops, self._residual
        given: dict[str, Any] = {
            "ops": ops, "x": x, "space": residual.space, "bindings": bindings,
        }  # fmt: skip
        own = constants[len(self._graphs) :]
        given["functions"] = {
            name: partial(_apply, f, ops, arrays)
            for (name, f), arrays in zip(self._functions.items(), own, strict=True)
        }
        coefficients = Environment(**given)
        fields: dict[str, Array] = {}
        operators: dict[tuple[str, Any], Array] = {}
        again: dict[tuple[str, Any], Array] = {}
        for group, graph, arrays in zip(self._plan.groups, self._graphs, constants, strict=False):
            delivered = group.method.evaluate(coefficients, graph, arrays)
            start = 0
            for name in group.fields:
                stop = start + self._sizes[name]
                fields[name] = delivered.value[..., start:stop]
                for op in self._split.operators.get(name, ()):
                    for found, into in ((delivered.operators, operators), (delivered.again, again)):
                        if found is not None:
                            into[name, op] = found[op][..., start:stop] if op.spread is None else found[op][..., start:stop, :]
                start = stop
        first = self._equations(Environment(**given, fields=fields, operators=operators))
        if not again:
            return first
        second = self._equations(Environment(**given, fields=fields, operators={**operators, **again}))
        return tuple(ops.xp.stack(pair, axis=-1) for pair in zip(first, second, strict=True))

    def _equations(self, env: Environment) -> tuple[Array, ...]:
        ops, x = env.ops, env.x
        shape = tuple(x.shape[:-1])
        out = []
        for equation in self._split.equations:
            parts = [_spread(env, env(c), shape) for c in equation.components]
            if equation.shape:
                stacked = ops.xp.stack(parts, axis=-1)
                out.append(ops.xp.reshape(stacked, (*shape, *equation.shape)))
            else:
                out.append(parts[0])
        return tuple(out)


def _apply(function: BoundFunction, ops: ArrayOps, constants: Sequence[Any], orders: Sequence[int], *values: Any) -> Any:
    return function.at(ops, constants, orders, values)


def _spread(env: Environment, value: Any, shape: tuple[int, ...]) -> Array:
    """One number per point, also where the expression is constant."""
    value = value if hasattr(value, "shape") else env.ops.asarray(value, env.x)
    return value if tuple(value.shape) == shape else env.ops.xp.broadcast_to(value, shape)


def _count(shape: Sequence[int]) -> int:
    out = 1
    for s in shape:
        out *= s
    return out
