"""The contract between the engine and an array framework.

A backend has two halves. `opdsl.jets.array_ops.ArrayOps` is all the engine may use on arrays. `Backend` captures the user's
function as a `Graph`, and turns the finished evaluator into something callable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from opdsl.backends.execution import Constants, Execution, device_kind, free_memory
from opdsl.backends.parameters import Linearised, Owned, Places
from opdsl.backends.peers import Peer
from opdsl.backends.step import Bound, Run, Step, StepWithParameters
from opdsl.errors import BackendError
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.graph import Array, Graph, Rule


@dataclass(frozen=True)
class Capture:
    """A user's function as a graph, with the live arrays it closes over.

    Args:
        graph: the function of one point, or of a batch (see `opdsl.jets.points`).
        constants: the arrays to supply for ``graph.constants``: parameters as live references.
        key: hashable and equal for captures whose graphs are interchangeable (same structure, other array contents);
            None where that cannot be told, so that nothing built from this capture may be reused for another.
        asks_size: whether the function asked how many points there are, so that it may do something else for others.
    """

    graph: Graph
    constants: tuple[Array, ...]
    key: Hashable | None = None
    asks_size: bool = False


@dataclass(frozen=True)
class Surrogate:
    """A smaller function with nearly the same values, which a network brings along as its attribute ``opdsl_surrogate``.

    It takes the place of the network where a strategy that says so is asked for, and nowhere else.

    Args:
        function: of the same points, with the same columns.
        lines: how it was made, for `explain`.
        errors: measured relative error of the values, of first derivatives, …
    """

    function: Callable[..., Any]
    lines: tuple[str, ...] = ()
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Evaluator:
    """The finished computation, written against `ArrayOps`, before it is compiled.

    ``call(constants, x, bindings)``: ``constants`` one tuple per captured function, ``x`` of shape (d,) per point or (n, d),
    ``bindings`` by name. ``per_point_bindings`` names those bindings that carry a leading point axis and are mapped with x.
    Returns a tuple of arrays, one per equation.
    """

    call: Callable[[Sequence[Sequence[Array]], Array, Mapping[str, Array]], tuple[Array, ...]]
    per_point_bindings: frozenset[str] = field(default=frozenset())


Example = tuple[Sequence[Sequence[Array]], Array, Mapping[str, Array]]
"""Constants, points and bindings like those that a program is made for."""


class Backend(ABC):
    """One framework: everything that is known of it. Instances are stateless apart from caches.

    Importing the module of a backend must not import its framework, nor may making an instance: the class attributes are
    facts that plans need whether or not the framework is installed. A backend outside of this package is found by an entry point
    of the group ``opdsl.backends`` that names its class.

    Attributes:
        name: what users write, ``backend="jax"``.
        title: what sentences call it.
        framework: the module that has to be imported before anybody can hold an array of the framework.
        distribution: what is installed; measured rates count for one version of it.
        convert: how points ``x`` become an array of the framework, for messages.
        general: recognises arrays that belong to no other backend; asked last.
        execution: how it runs a method.
        rates: what each kind of work takes, by device (``"cpu"``, ``"cuda"``); guessed where there are none.
        differentiable: has automatic differentiation, so that parameters can be trained and derivatives nested.
        compiles: the first call of a program takes as long as its operations take to compile.
        ops: its array operations.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    framework: ClassVar[str]
    distribution: ClassVar[str]
    convert: ClassVar[str]
    general: ClassVar[bool] = False
    execution: ClassVar[Execution]
    rates: ClassVar[Mapping[str, Constants]] = {}
    differentiable: ClassVar[bool] = True
    compiles: ClassVar[bool] = False
    ops: ArrayOps

    # ------------------------------------------------------------------------------------------------------------ facts

    @classmethod
    def undifferentiable(cls, graph: Graph) -> str:
        """Why the framework itself cannot differentiate a captured function; empty where it can. Plans ask this before they choose."""
        return "" if cls.differentiable else f"the {cls.title} backend has no automatic differentiation"

    # ---------------------------------------------------------------------------------------------- arrays and functions

    @abstractmethod
    def is_array(self, value: object) -> bool:
        """Whether this is an array of the framework (tracers included). Must not import the framework."""

    @abstractmethod
    def is_function(self, value: object) -> bool:
        """Whether this is recognisably a function of the framework (an ``nn.Module``, an Equinox module). Plain callables: False."""

    def for_array(self, x: Any) -> Backend:
        """The backend for points like x: this one, unless one class serves several array libraries."""
        return self

    def device_of(self, x: Any) -> str:
        """The kind of device of an array, ``"cpu"`` or ``"cuda"``; of the framework's default where the array does not tell."""
        return device_kind(str(getattr(x, "device", "cpu")))

    def from_numpy(self, value: Any) -> Array:
        """An array of the framework with the numbers of a NumPy array, of the same dtype."""
        return self.ops.xp.asarray(value)

    def to_numpy(self, value: Array) -> Any:
        """The numbers of an array in double precision."""
        return np.asarray(value, dtype=np.float64)

    def register_container(
        self, kind: type[Any], take_apart: Callable[[Any], tuple[Sequence[Any], Any]], build: Callable[[Any, Sequence[Any]], Any]
    ) -> None:
        """Tell the framework of a container of arrays: ``take_apart(c)`` gives (arrays, rest), ``build(rest, arrays)`` undoes it."""
        return

    def register(self, primitive: str, rule: Rule | Callable[..., Rule] | None) -> None:
        """Use this rule for a primitive; None stands for the framework's own derivative of it.

        Raises:
            BackendError: the framework has no primitives that could be named.
        """
        raise BackendError(f"backend {self.name!r} has no primitives to give a rule to: it records functions of the array API.")

    # --------------------------------------------------------------------------------------------------------- programs

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
    def compile(self, evaluator: Evaluator, example: Example) -> Callable[..., tuple[Array, ...]]:
        """``(constants, x, bindings) -> tuple of arrays`` ready to be called again and again with arrays like the example."""

    def bind(self, bound: Bound, first: Run, x: Array) -> Any:
        """What `Operator.bind` returns: a function ``step(x, **given)``, or ``step(params, x, **given)`` where parameters are
        given at each call.

        Args:
            bound: what it evaluates.
            first, x: an evaluation that was prepared when binding, and its points.
        """
        return Step(bound) if bound.params is None else StepWithParameters(bound)

    def kept(self, x: Array) -> Array | None:
        """Points that a bound step may keep as an example of those that it was called with, without their history; None where it
        must not: inside transformations, and where calls are compiled as a whole."""
        return None

    def for_any_size(self, one: Any, more: Any, sizes: tuple[int, int], inputs: int) -> Any:
        """What `compile` gave for two numbers of points as one program for any number from two on; None where there is none.

        Args:
            one, more: the programs.
            sizes: their numbers of points.
            inputs: how many constants stand in front of the points.
        """
        return None

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

    def trains(self, constants: Sequence[Sequence[Array]]) -> bool:
        """Whether the constants of captured functions say that somebody is going to differentiate in them."""
        return False

    # --------------------------------------------------------------------------------------------- derivatives in parameters

    def explicit(self, u: Any) -> tuple[Any, Any] | None:
        """Networks that hold their own parameters as (functions of (params, point), params), where the framework writes them so;
        None for all others."""
        return None

    def owned(self, functions: Mapping[str, Any], params: Any) -> Owned:
        """The parameters of networks: those given at each call, or what the functions by field train.

        Raises:
            BackendError: the framework has no derivatives in parameters.
        """
        raise BackendError(f"{self.title} has no automatic differentiation, so that a residual has no Jacobian in parameters there.")

    def per_point_jacobian(
        self, evaluator: Evaluator, one: Example, example: Example, places: Places, shapes: Sequence[Sequence[int]]
    ) -> Callable[..., tuple[Array, ...]]:
        """A program ``(constants, x, bindings)`` that gives the residuals (n, k) and their derivatives (n, k, P) in the parameters of
        these places and shapes, by reverse mode at every point.

        Args:
            evaluator: of one point: its constants are of functions captured there.
            one: constants, points and bindings to evaluate it on.
            example: those that the program is for.
            places: where each parameter enters.
            shapes: of the parameters; P entries in all.
        """
        raise NotImplementedError

    def linearised(self, function: Callable[[Sequence[Array]], Array], arrays: Sequence[Array]) -> Linearised:
        """The values of a function of arrays, and its derivative as a linear map."""
        raise NotImplementedError

    def without_history(self, array: Any) -> Any:
        """An array as a constant to derivatives that nobody asks for by a transformation."""
        return array

    def free_memory(self, x: Any) -> float | None:
        """Bytes that are free where an array stands; None where nobody can tell."""
        return free_memory()

    # ---------------------------------------------------------------------------------------------------------- measuring

    def timed(
        self, run: Callable[..., Any], constants: Sequence[Sequence[Array]], x: Array, bindings: Mapping[str, Array], training: bool
    ) -> Callable[[], Any]:
        """``run(constants, x, bindings)``, or the mean square of its results with its gradient in the constants, for a clock:
        it returns when the results exist."""
        return lambda: run(constants, x, bindings)

    def peers(self) -> Sequence[Peer]:
        """Other libraries on this framework that `opdsl.compare` puts beside our strategies."""
        return ()

    def example(
        self, sizes: Sequence[int], points: int, matrices: Mapping[str, int] | None = None, seed: int = 0
    ) -> tuple[Any, Array, dict[str, Array]]:
        """A plain tanh network with layers of these sizes, points in the unit cube, and square matrices by name; float32."""
        rng = np.random.default_rng(seed)
        weights = [rng.standard_normal((a, b)).astype(np.float32) / a**0.5 for a, b in pairwise(sizes)]
        biases = [rng.standard_normal(b).astype(np.float32) for b in sizes[1:]]
        x = self.from_numpy(rng.random((points, sizes[0]), dtype=np.float32))
        given = {name: self.from_numpy(np.eye(n, dtype=np.float32) + 0.1) for name, n in (matrices or {}).items()}
        return self.network(list(zip(weights, biases, strict=True))), x, given

    def network(self, layers: Sequence[tuple[Any, Any]]) -> Any:
        """The function tanh(… x W + b …) W + b of NumPy weights, as a user of the framework would write it."""
        arrays = [(self.from_numpy(w), self.from_numpy(b)) for w, b in layers]

        def function(h: Any) -> Any:
            for w, b in arrays[:-1]:
                h = h @ w + b
                h = h.__array_namespace__().tanh(h)
            w, b = arrays[-1]
            return h @ w + b

        return function

    # ------------------------------------------------------------------------------------------------- what may be frozen

    def structure(self, params: Any) -> Hashable:
        """What parameters given at each call of a bound step must share with those it was bound with."""
        return None

    def at_points(self, function: Callable[..., Any], x: Array) -> Array:
        """A coefficient function at all points: (n, …)."""
        return function(x)

    def unusual(self, value: Array) -> str | None:
        """What kind of array this is, where it is none of plain numbers: sparse, quantised, without data."""
        return None

    def number(self, value: Array, x: Array) -> Array:
        """An array that stands for a Python number takes the dtype of the points; any other stays as it is."""
        return value

    def concrete(self, value: Any) -> Any:
        """A NumPy copy of an array whose values may be used while planning, float32 in its own precision and all else in
        float64; None for tracers and for arrays that somebody differentiates."""
        array = np.asarray(value)
        return array if array.dtype == np.float32 else array.astype(np.float64)

    def prepare(self, x: Any, *, like: Any = None) -> Array:
        """Check the points: a floating array of this framework; raise `ShapeError`/`BackendError` otherwise."""
        raise NotImplementedError

    def fingerprint(self, function: Any) -> Hashable | None:
        """A key that changes whenever re-capturing ``function`` could give another graph; None: always re-capture."""
        return None
