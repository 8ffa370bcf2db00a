"""Functions bound by the user, ``R(u)``: evaluated by the framework, differentiated by jets."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from opdsl.backends.base import Backend, Capture
from opdsl.errors import BindingError
from opdsl.jets.array_ops import ArrayOps
from opdsl.language.residual import Composition, Number, Residual
from opdsl.language.structure import children
from opdsl.language.traverse import postorder
from opdsl.planning.planner import push_forward_method
from opdsl.strategies.base import Method
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import DerivativeTerm, LinearOperator
from opdsl.strategies.no_derivatives import PlainEvaluation


@dataclass(frozen=True, kw_only=True)
class BoundFunction:
    """One bound function with the derivative orders the residual needs.

    It is captured like a network whose coordinates are its arguments, and its derivatives come from the same engine (the chain
    rule for R(u) needs R', R'', …).
    """

    name: str
    arguments: int
    orders: tuple[tuple[int, ...], ...]
    capture: Capture
    method: Method

    def at(self, ops: ArrayOps, constants: Sequence[Any], orders: Sequence[int], values: Sequence[Any]) -> Any:
        """∂^orders R at the values; plain numbers among them are allowed."""
        xp = ops.xp
        like = next(v for v in values if hasattr(v, "shape"))
        arrays = [v if hasattr(v, "shape") else ops.asarray(v, like) for v in values]
        shape = max((tuple(a.shape) for a in arrays), key=len)
        point = xp.stack([xp.broadcast_to(a, shape) for a in arrays], axis=-1)
        env = Environment(ops, point, tuple(range(self.arguments)))
        delivered = self.method.evaluate(env, self.capture.graph, constants)
        found = delivered.operators[self._operator(orders)] if any(orders) else delivered.value
        return found[..., 0]

    @staticmethod
    def _operator(orders: Sequence[int]) -> LinearOperator:
        axes = tuple(i for i, k in enumerate(orders) for _ in range(k))
        return LinearOperator((DerivativeTerm(Number(Fraction(1)), axes),))


def used_orders(residual: Residual) -> dict[str, tuple[int, set[tuple[int, ...]]]]:
    """For every user function its number of arguments and the derivative orders that occur."""
    out: dict[str, tuple[int, set[tuple[int, ...]]]] = {}
    if not residual.functions:
        return out
    for node in postorder((c for e in residual.equations for c in e.components), children):
        if isinstance(node, Composition) and node.function in residual.functions:
            orders = tuple(node.orders) or (0,) * len(node.args)
            out.setdefault(node.function, (len(node.args), set()))[1].add(orders)
    return out


@dataclass(frozen=True)
class _OfColumns:
    """R(a, b, …) as a function of points whose columns are its arguments."""

    function: Callable[..., Any]
    arguments: int

    def __call__(self, point: Any) -> Any:
        return self.function(*(point[..., i] for i in range(self.arguments)))


def bind_functions(
    residual: Residual, given: dict[str, Any], x: Any, backend: Backend, capture: Callable[..., tuple[Capture, Any]]
) -> tuple[dict[str, BoundFunction], list[Hashable | None]]:
    """Check and capture the functions the residual calls; and what identifies their graphs.

    Args:
        residual: it says which derivatives are needed.
        given: functions by name.
        x: points; as many rows of arguments are captured.
        backend: that captures.
        capture: `opdsl.evaluation.session.Session.capture`.

    Raises:
        BindingError: what is bound is no function, or does not give one number for each row of arguments.
    """
    out: dict[str, BoundFunction] = {}
    marks: list[Hashable | None] = []
    for name, (count, orders) in used_orders(residual).items():
        function = given[name]
        if not callable(function):
            raise BindingError(f"{name} is a function in the text; bind a callable, got {type(function).__name__}.")
        captured, mark = capture(backend, _OfColumns(function, count), backend.ops.asarray([[0.5] * count] * x.shape[0], x))
        shape = captured.graph.values[captured.graph.outputs[0]].shape
        columns = backend.ops.points.inner(shape)
        if columns not in ((), (1,)):
            raise BindingError(f"{name} must give one number for each of its arguments, not an array of shape {columns}.")
        operators = tuple(BoundFunction._operator(o) for o in sorted(orders) if any(o))
        method = push_forward_method(operators, count) if operators else PlainEvaluation()
        out[name] = BoundFunction(name=name, arguments=count, orders=tuple(sorted(orders)), capture=captured, method=method)
        marks.append(mark)
    return out, marks
