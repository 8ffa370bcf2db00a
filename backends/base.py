"""The contract between the engine and an array framework.

A backend has two halves. `opdsl.jets.array_ops.ArrayOps` is all the engine may use on arrays. `Backend` captures the user's
function as a `Graph`, and turns the finished evaluator into something callable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.graph import Array, Graph


@dataclass(frozen=True)
class Capture:
    """A user's function as a graph, with the live arrays it closes over.

    Args:
        graph: the function of one point, or of a batch (see `ArrayOps.per_point`).
        constants: the arrays to supply for ``graph.constants``: parameters as live references.
        key: hashable and equal for captures whose graphs are interchangeable (same structure, other array contents);
            None where that cannot be told, so that nothing built from this capture may be reused for another.
    """

    graph: Graph
    constants: tuple[Array, ...]
    key: Hashable | None = None


@dataclass(frozen=True)
class Evaluator:
    """The finished computation, written against `ArrayOps`, before it is compiled.

    ``call(constants, x, bindings)``: ``constants`` one tuple per captured function, ``x`` of shape (d,) per point or (n, d),
    ``bindings`` by name. ``per_point_bindings`` names those bindings that carry a leading point axis and are mapped with x.
    Returns a tuple of arrays, one per equation.
    """

    call: Callable[[Sequence[Sequence[Array]], Array, Mapping[str, Array]], tuple[Array, ...]]
    per_point_bindings: frozenset[str] = field(default=frozenset())


class Backend(ABC):
    """One framework. Instances are stateless apart from caches."""

    name: str
    ops: ArrayOps

    @abstractmethod
    def is_array(self, value: object) -> bool:
        """Whether this is an array of the framework (tracers included). Must not import the framework."""

    @abstractmethod
    def is_function(self, value: object) -> bool:
        """Whether this is recognisably a function of the framework (an ``nn.Module``, an Equinox module). Plain callables: False."""

    @abstractmethod
    def capture(self, function: Callable[..., Any], x: Array, *, params: Any = None, batched: bool = False) -> Capture:
        """Capture ``function`` on points like ``x`` (n, d).

        With ``params`` the function is called as ``function(params, point)`` and the leaves of ``params`` become the leading
        constants. ``batched`` (JAX): the function takes (n, d).

        Raises:
            CaptureError: the function fails, branches on values, or does not return one array with one row per point.
            RowMixingError: rows of the batch influence one another.
            MissingRuleError: raised later, by the engine, for a primitive without a rule.
        """

    @abstractmethod
    def compile(self, evaluator: Evaluator, example: tuple[Any, Array, Mapping[str, Array]]) -> Callable[..., tuple[Array, ...]]:
        """``(constants, x, bindings) -> tuple of arrays`` ready to be called again and again with arrays like the example."""

    @abstractmethod
    def bind(
        self,
        evaluate: Callable[[Sequence[Sequence[Array]], Array, Mapping[str, Array]], Any],
        functions: Sequence[Any],
        captures: Sequence[Capture],
        params: Any,
    ) -> Any:
        """What `Operator.bind` returns: an ``nn.Module`` that owns the networks (torch), a function (JAX, NumPy).

        It is called as ``step(x, **given)``, or ``step(params, x, **given)`` where ``params`` was given, and calls
        ``evaluate(constants, x, given)`` with the constants of every capture in order: live ones where the networks own
        them, the leaves of ``params`` in front where there are any.
        """

    @abstractmethod
    def in_pieces(
        self, run: Callable[[Array, Mapping[str, Array]], tuple[Array, ...]], x: Array, rows: Mapping[str, Array], size: int
    ) -> tuple[Array, ...]:
        """``run(x, rows)`` on ``size`` points at a time (the last ones repeated to fill up), joined again.

        ``rows`` are the arrays that have one row per point. Reverse mode computes the pieces anew instead of keeping them.
        """

    @abstractmethod
    def normal(self, key: Any, shape: Sequence[int], x: Array) -> Array:
        """Independent standard normal numbers with the dtype and device of x; a function of ``key`` alone."""

    @abstractmethod
    def subsets(self, key: Any, count: int, size: int, of: int, x: Array) -> Array:
        """``count`` independent sets of ``size`` different integers below ``of``, all sets equally likely: (count, size)."""

    @abstractmethod
    def keys(self, key: Any, count: int) -> Sequence[Any]:
        """Independent keys from one."""

    def mode(self, functions: Sequence[Any]) -> Hashable:
        """A state of the functions that changes what they compute and may be switched after binding (train, eval)."""
        return ()

    def at_points(self, function: Callable[..., Any], x: Array) -> Array:
        """A coefficient function at all points: (n, …)."""
        return function(x)

    def concrete(self, value: Any) -> Any:
        """A float64 NumPy copy of an array whose values may be used while planning; None for tracers and for arrays that
        somebody differentiates."""
        import numpy as np

        return np.asarray(value, dtype=np.float64)

    def prepare(self, x: Any, *, like: Any = None) -> Array:
        """Check the points: a floating array of this framework; raise `ShapeError`/`BackendError` otherwise."""
        raise NotImplementedError

    def fingerprint(self, function: Any) -> Hashable | None:
        """A key that changes whenever re-capturing ``function`` could give another graph; None: always re-capture."""
        return None
