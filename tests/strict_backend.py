"""A backend that opdsl does not know, as another package would bring it: array-api-strict, one point at a time.

Its graphs are of ONE point, and a plain loop maps them over the batch as `jax.vmap` does for JAX; so it owns the axis of the points
in another way than the shipped backend that serves the same arrays. It is found by an entry point (`test_further_backend`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from opdsl.backends.array_api.backend import ArrayApiBackend
from opdsl.backends.array_api.capture import trace
from opdsl.backends.base import Capture, Evaluator
from opdsl.backends.execution import Execution
from opdsl.jets.points import Mapped


class StrictBackend(ArrayApiBackend):
    """Everything opdsl has to know of the library."""

    name, title, framework, distribution = "strict", "array-api-strict", "array_api_strict", "array-api-strict"
    convert = "array_api_strict.asarray(x)"
    execution = Execution(points=Mapped)

    def __init__(self) -> None:
        import array_api_strict

        super().__init__(array_api_strict)
        self.ops.points = Mapped(array_api_strict)

    def is_array(self, value: object) -> bool:
        strict = sys.modules.get("array_api_strict")
        return strict is not None and isinstance(value, type(strict.asarray(0.0)))

    def capture(self, function: Callable[..., Any], x: Any, *, params: Any = None, batched: bool = False) -> Capture:
        graph, arrays, _ = trace(function if params is None else partial(function, params), x[0, ...], self.ops.xp)
        return Capture(graph, tuple(arrays))

    def at_points(self, function: Callable[..., Any], x: Any) -> Any:
        return self.ops.xp.stack([function(x[k, ...]) for k in range(x.shape[0])])

    def compile(self, evaluator: Evaluator, example: Any) -> Callable[..., tuple[Any, ...]]:
        def at_point(constants: Sequence[Any], x: Any, bindings: Mapping[str, Any], k: int) -> tuple[Any, ...]:
            here = {n: b[k, ...] if n in evaluator.per_point_bindings else b for n, b in bindings.items()}
            return evaluator.call(constants, x[k, ...], here)

        def run(constants: Sequence[Any], x: Any, bindings: Mapping[str, Any]) -> tuple[Any, ...]:
            rows = [at_point(constants, x, bindings, k) for k in range(x.shape[0])]
            return tuple(self.ops.xp.stack(list(parts)) for parts in zip(*rows, strict=True))

        return run
