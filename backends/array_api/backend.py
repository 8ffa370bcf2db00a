"""NumPy, and any other array-API namespace: functions need no automatic differentiation framework at all.

Results are plain arrays; there is nothing to differentiate through, so parameter gradients are not available here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import array_api_compat
import numpy as np

from opdsl.backends.array_api.array_ops import ArrayApiOps
from opdsl.backends.array_api.capture import capture_batch
from opdsl.backends.array_api.rates import RATES
from opdsl.backends.array_api.tracer import Tracer
from opdsl.backends.base import Backend, Capture, Evaluator
from opdsl.backends.execution import Execution
from opdsl.backends.fingerprint import content, fingerprint
from opdsl.errors import BackendError, ShapeError
from opdsl.jets.graph import Array
from opdsl.jets.points import Batched


class ArrayApiBackend(Backend):
    """A library of the array API: functions are traced on real arrays and evaluated eagerly.

    A backend for one such library is this class with the facts of the library, `is_array`, and its namespace.
    """

    execution = Execution(points=Batched, nesting="reverse")
    differentiable = False

    def __init__(self, xp: Any) -> None:
        self.ops, self.namespace = ArrayApiOps(xp), xp

    def device_of(self, x: Any) -> str:
        """``"cuda"`` where the array's device says so; devices of array libraries have no common names."""
        return "cuda" if "cuda" in str(getattr(x, "device", "")).lower() else "cpu"

    def is_function(self, value: object) -> bool:
        return False

    def prepare(self, x: Any, *, like: Any = None) -> Array:
        xp = self.ops.xp
        if not self.is_array(x):
            raise BackendError(f"the {self.title} backend needs an array-API array of points, got {type(x).__name__}.")
        if not xp.isdtype(x.dtype, "real floating"):
            raise ShapeError(f"points must be real floating-point numbers, got dtype {x.dtype}. Convert them, e.g. x.astype(float).")
        return x

    def capture(self, function: Callable[..., Any], x: Array, *, params: Any = None, batched: bool = False) -> Capture:
        return Capture(*capture_batch(function if params is None else partial(function, params), x, self.ops.xp))

    def compile(
        self, evaluator: Evaluator, example: tuple[Any, Array, Mapping[str, Array]]
    ) -> Callable[..., tuple[Array, ...]]:
        return evaluator.call

    def kept(self, x: Array) -> Array | None:
        return None if isinstance(x, Tracer) else self.ops.xp.broadcast_to(self.ops.xp.asarray(x[:1, ...], copy=True), x.shape)

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

    def unusual(self, value: Array) -> str | None:
        """Arrays of NumPy whose operators mean something else."""
        if isinstance(value, np.ma.MaskedArray):
            return "a masked array; fill it"
        return "a matrix of NumPy; write np.asarray(…)" if isinstance(value, np.matrix) else None

    def fingerprint(self, function: Any) -> Hashable | None:
        def leaf(thing: Any) -> Hashable | None:
            if isinstance(thing, Tracer):
                raise LookupError
            return content(thing) if self.is_array(thing) else None

        return fingerprint(function, leaf)


class NumpyBackend(ArrayApiBackend):
    """NumPy, and arrays of any other library of the array API that has no backend of its own."""

    name = framework = distribution = "numpy"
    title = "NumPy"
    convert = "np.asarray(x)"
    general = True
    rates = RATES

    def __init__(self, xp: Any = None) -> None:
        import array_api_compat.numpy

        super().__init__(array_api_compat.numpy if xp is None else xp)

    def for_array(self, x: Array) -> NumpyBackend:
        """This backend over the namespace of x (array-api-strict, CuPy, …)."""
        xp = array_api_compat.array_namespace(x)
        return self if xp is self.namespace else NumpyBackend(xp)

    def is_array(self, value: object) -> bool:
        if isinstance(value, np.ndarray):
            return True
        return hasattr(value, "__array_namespace__") and not array_api_compat.is_torch_array(value) and not _is_jax(value)


def _is_jax(value: object) -> bool:
    return type(value).__module__.partition(".")[0] in ("jax", "jaxlib")
