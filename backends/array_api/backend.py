"""NumPy, and any other array-API namespace: functions need no automatic differentiation framework at all.

Results are plain arrays; there is nothing to differentiate through, so parameter gradients are not available here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import array_api_compat
import numpy as np

from opdsl.backends.array_api.rates import RATES
from opdsl.backends.array_api.tracer import Recorder, Tracer
from opdsl.backends.base import Backend, Capture, Evaluator
from opdsl.backends.execution import Execution
from opdsl.backends.fingerprint import Identity, fingerprint
from opdsl.errors import BackendError, CaptureError, RowMixingError, ShapeError, StrategyError
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.graph import Array, Graph, Node, Value
from opdsl.jets.points import Batched

_SCIPY_SPECIAL = {"erf", "erfc", "erfinv"}


class NumpyOps(ArrayOps):
    """Array operations of one array-API namespace."""

    stacked = False

    def __init__(self, xp: Any) -> None:
        self.xp, self.points = xp, Batched(xp)

    def channelwise(self, apply: Callable[..., Any], arrays: Sequence[Array], mapped: Sequence[bool]) -> Any:
        xp = self.xp
        count = next(a.shape[0] for a, m in zip(arrays, mapped, strict=True) if m)
        rows = [apply(*(a[i, ...] if m else a for a, m in zip(arrays, mapped, strict=True))) for i in range(count)]
        if isinstance(rows[0], tuple | list):
            return tuple(xp.stack([r[j] for r in rows], axis=0) for j in range(len(rows[0])))
        return xp.stack(rows, axis=0)

    def special(self, name: str) -> Callable[[Array], Array]:
        xp = self.xp
        if name == "sigmoid":
            return lambda h: xp.where(h >= 0, xp.ones_like(h), xp.exp(-xp.abs(h))) / (xp.exp(-xp.abs(h)) + 1.0)
        if name == "softplus":
            return lambda h: (h + xp.abs(h)) * 0.5 + xp.log1p(xp.exp(-xp.abs(h)))
        if name in _SCIPY_SPECIAL and array_api_compat.is_numpy_namespace(xp):
            import scipy.special

            return getattr(scipy.special, name)  # type: ignore[no-any-return]
        raise KeyError(name)

    def asarray(self, value: Any, like: Array) -> Array:
        return self.xp.asarray(value, dtype=like.dtype, device=like.device)

    def nested_ad(self, function: Any, x: Array, axes: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Array]:
        raise StrategyError("nested_ad needs automatic differentiation, which the NumPy backend does not have. Use another strategy.")

    def gradient(self, function: Any, x: Array) -> tuple[Array, Array]:
        raise StrategyError("reverse mode needs automatic differentiation, which the NumPy backend does not have.")

    def pull_back(self, function: Any, x: Array, count: int, affine: bool) -> Array:
        raise StrategyError("reverse mode needs automatic differentiation, which the NumPy backend does not have.")


class NumpyBackend(Backend):
    """Capture by tracing, evaluate eagerly."""

    name = framework = distribution = "numpy"
    title = "NumPy"
    convert = "np.asarray(x)"
    general = True
    execution = Execution(points=Batched, loops=True, nesting="reverse")
    rates = RATES
    differentiable = False

    def __init__(self) -> None:
        import array_api_compat.numpy

        self.ops = NumpyOps(array_api_compat.numpy)

    def for_array(self, x: Array) -> NumpyBackend:
        """This backend over the namespace of x (array-api-strict, CuPy, …)."""
        other = NumpyBackend()
        other.ops = NumpyOps(array_api_compat.array_namespace(x))
        return other

    def device_of(self, x: Any) -> str:
        """``"cuda"`` where the array's device says so; devices of array libraries have no common names."""
        return "cuda" if "cuda" in str(getattr(x, "device", "")).lower() else "cpu"

    def is_array(self, value: object) -> bool:
        if isinstance(value, sys.modules["numpy"].ndarray):
            return True
        return hasattr(value, "__array_namespace__") and not array_api_compat.is_torch_array(value) and not _is_jax(value)

    def is_function(self, value: object) -> bool:
        return False

    def prepare(self, x: Any, *, like: Any = None) -> Array:
        xp = self.ops.xp
        if not self.is_array(x):
            raise BackendError(f"the NumPy backend needs an array-API array of points, got {type(x).__name__}.")
        if not xp.isdtype(x.dtype, "real floating"):
            raise ShapeError(f"points must be real floating-point numbers, got dtype {x.dtype}. Convert them, e.g. x.astype(float).")
        return x

    def capture(self, function: Callable[..., Any], x: Array, *, params: Any = None, batched: bool = False) -> Capture:
        if params is not None:
            given = function

            def function(points: Array) -> Array:
                return given(params, points)

        graph, arrays, output = _trace(function, x, self.ops.xp)
        # A second run with one more row: in every shape, the axis that grew is the axis of the points. Inside another
        # capture it uses plain arrays, so that it leaves no trace there.
        plain = x
        while isinstance(plain, Tracer):
            plain = plain.value
        xp = array_api_compat.array_namespace(plain)
        more, _, second = _trace(function, xp.concat([plain, plain[:1, ...]], axis=0), xp)
        graph = _with_batch_axes(graph, more)
        _check_output(output, x, second)
        _check_rows(graph, x, arrays, self.ops.xp)
        return Capture(graph, tuple(arrays))

    def compile(
        self, evaluator: Evaluator, example: tuple[Any, Array, Mapping[str, Array]]
    ) -> Callable[..., tuple[Array, ...]]:
        return evaluator.call

    def in_pieces(
        self, run: Callable[[Array, Mapping[str, Array]], tuple[Array, ...]], x: Array, rows: Mapping[str, Array], size: int
    ) -> tuple[Array, ...]:
        xp = self.ops.xp

        def cut(a: Array, start: int) -> Array:
            piece = a[start : min(start + size, a.shape[0]), ...]
            missing = size - piece.shape[0]
            return xp.concat([piece, *[piece[-1:, ...]] * missing], axis=0) if missing else piece

        starts = range(0, x.shape[0], size)
        found = [run(cut(x, k), {name: cut(a, k) for name, a in rows.items()}) for k in starts]
        return tuple(xp.concat(list(parts), axis=0)[: x.shape[0], ...] for parts in zip(*found, strict=True))

    def normal(self, key: Any, shape: Sequence[int], x: Array) -> Array:
        """``key``: whatever ``numpy.random.default_rng`` takes."""
        return self.ops.asarray(np.random.default_rng(key).standard_normal(tuple(shape)), x)

    def subsets(self, key: Any, count: int, size: int, of: int, x: Array) -> Array:
        generator = np.random.default_rng(key)
        rows = [generator.choice(of, size, replace=False, shuffle=False) for _ in range(count)]
        return self.ops.xp.asarray(np.stack(rows))

    def keys(self, key: Any, count: int) -> Sequence[Any]:
        return [int(k) for k in np.random.default_rng(key).integers(2**62, size=count)]

    def bind(
        self,
        evaluate: Callable[[Any, Array, Mapping[str, Array]], Any],
        functions: Sequence[Any],
        captures: Sequence[Capture],
        params: Any,
    ) -> Any:
        def step(x: Array, **given: Array) -> Any:
            return evaluate([c.constants for c in captures], x, given)

        return step

    def fingerprint(self, function: Any) -> Hashable | None:
        def leaf(thing: Any) -> Hashable | None:
            if isinstance(thing, Tracer):
                raise LookupError
            return Identity(thing) if self.is_array(thing) else None

        return fingerprint(function, leaf)


def _trace(function: Callable[..., Any], x: Array, xp: Any) -> tuple[Graph, list[Array], Array]:
    recorder = Recorder(xp)
    number = recorder.new(x)
    try:
        output = function(Tracer(recorder, number, x))
    except CaptureError:
        raise
    except Exception as error:
        raise CaptureError(
            f"the function failed on points of shape {tuple(x.shape)}: {type(error).__name__}: {error}. "
            "On the NumPy backend it takes an array (n, d) and is written against the array API or NumPy."
        ) from error
    if isinstance(output, Tracer):
        return recorder.graph(number, output.number), recorder.arrays, output.value
    if not hasattr(output, "__array_namespace__"):
        raise CaptureError(f"the function must return an array with one row per point, got {type(output).__name__}.")
    return recorder.graph(number, recorder.constant(output)), recorder.arrays, output


def _is_jax(value: object) -> bool:
    return type(value).__module__.partition(".")[0] in ("jax", "jaxlib")


def _with_batch_axes(graph: Graph, more: Graph) -> Graph:
    if [n.primitive for n in graph.nodes] != [n.primitive for n in more.nodes]:
        raise CaptureError("the function does different things for different numbers of points; it must treat each point alike.")
    dependent = graph.dependent()
    values = []
    for i, (a, b) in enumerate(zip(graph.values, more.values, strict=True)):
        grown = [k for k, (s, t) in enumerate(zip(a.shape, b.shape, strict=True)) if s != t]
        if i in dependent and len(grown) != 1:
            raise RowMixingError(
                f"the points influence one another: an intermediate of shape {a.shape} has "
                f"{'no axis' if not grown else 'several axes'} of points. Every operation must act on each row by itself."
            )
        values.append(Value(a.shape, a.dtype, grown[0] if grown else None))
    flexible = tuple(_thin_ok(n, values) for n in graph.nodes)
    return Graph(tuple(values), graph.x, graph.constants, flexible, graph.outputs)


def _thin_ok(node: Node, values: Sequence[Value]) -> Node:
    """Whether a batch axis of length 1 passes: the points stay where they are, and no constant has a row per point."""
    ok = node.flexible and all(values[i].batch_axis == 0 for i in node.outputs)
    return node if ok == node.flexible else Node(node.primitive, node.rule, node.inputs, node.outputs, node.apply, node.several, ok)


def _check_output(output: Array, x: Array, second: Array) -> None:
    if len(output.shape) not in (1, 2) or output.shape[0] != x.shape[0] or second.shape[0] != x.shape[0] + 1:
        raise ShapeError(
            f"the function returned shape {tuple(output.shape)} for points of shape {tuple(x.shape)}; "
            "expected (n,) or (n, m): one row per point."
        )


def _check_rows(graph: Graph, x: Array, constants: Sequence[Array], xp: Any) -> None:
    """Change one row: the others must not notice."""
    from opdsl.jets.graph import evaluate

    if x.shape[0] < 2 or isinstance(x, Tracer):  # inside another capture, which checks its own rows
        return
    moved = xp.concat([x[:-1, ...], x[-1:, ...] + 0.5], axis=0)
    before, after = evaluate(graph, x, constants)[0], evaluate(graph, moved, constants)[0]
    a, b = before[:-1, ...], after[:-1, ...]
    # A few ulps: a matrix product may round differently, a mixed row changes by far more.
    close = xp.abs(a - b) <= (xp.abs(a) + 1e-30) * (64 * xp.finfo(x.dtype).eps)
    if not bool(xp.all(close | (a == b) | (xp.isnan(a) & xp.isnan(b)))):
        raise RowMixingError(
            "the points influence one another: changing the last row changes other rows. "
            "Every operation must act on each row by itself (no sums, sorts or normalisation over the batch)."
        )
