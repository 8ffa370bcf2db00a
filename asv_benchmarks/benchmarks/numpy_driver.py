"""NumPy: evaluations only; counted by what is allocated."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import Case, points, weights
from .targets import Absent, Driver, Work, first_run


class NumpyDriver(Driver):
    """NumPy on the CPU."""

    def operator(self, case: Case, goal: str, strategy: str = "auto") -> Work:
        import opdsl

        self._only_evaluations(goal)
        if strategy == "nested_ad":
            raise Absent(f"{self.target} skipped: NumPy has no automatic differentiation")
        matrix = case.matrix()
        given = {} if matrix is None else {"a": matrix.astype("float32")}
        op = opdsl.operator(case.text, coords=case.coords, params="a_ij" if given else None)
        x = points(case.points, case.dimension)
        net = _network(case)
        return self._work(lambda: op.bind(net, x, strategy=strategy, **given), x)

    def plain(self, case: Case, goal: str, channels: int = 1) -> Work:
        self._only_evaluations(goal)
        net = _network(case)
        return self._work(lambda: net, points(channels * case.points, case.dimension))

    def _only_evaluations(self, goal: str) -> None:
        if goal != "evaluation":
            raise Absent(f"{self.target} skipped: NumPy has no gradients")

    def _work(self, make: Callable[[], Callable[[Any], Any]], x: Any) -> Work:
        work: Work

        def ready() -> Callable[[], Any]:
            f = make()
            return lambda: f(x)

        def count() -> dict[str, float]:
            tracemalloc.start()
            work.run()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return {"temporaries": float(peak)}

        work = first_run(ready, count)
        return work


def _network(case: Case) -> Callable[[Any], Any]:
    layers = weights(case.sizes)

    def network(h: Any) -> Any:
        for w, b in layers[:-1]:
            h = np.tanh(h @ w + b)
        w, b = layers[-1]
        return h @ w + b

    return network


make = NumpyDriver
