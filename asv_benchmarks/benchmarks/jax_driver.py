"""JAX: compiled by ``jit``, counted on the compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .cases import Case, points, weights
from .targets import Absent, Driver, Work, first_run


class JaxDriver(Driver):
    """JAX on one device."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        import jax

        self.jax = jax
        try:
            self.device = jax.devices(target.partition(":")[2])[0]
        except RuntimeError as error:
            raise Absent(f"{target} skipped: {str(error).splitlines()[0]}") from error

    def operator(self, case: Case, goal: str, strategy: str = "auto") -> Work:
        import opdsl

        x, params = self._arrays(case)
        matrix = case.matrix()
        given = {} if matrix is None else {"a": self.jax.device_put(matrix.astype("float32"), self.device)}
        op = opdsl.operator(case.text, coords=case.coords, params="a_ij" if given else None)
        training = goal == "training"
        return self._work(
            lambda: op.bind(_network, x, params=params, strategy=strategy, training=training, **given), params, x, goal
        )

    def plain(self, case: Case, goal: str, channels: int = 1) -> Work:
        x, params = self._arrays(case, channels)
        return self._work(lambda: self.jax.vmap(_network, (None, 0)), params, x, goal)

    def folx(self, case: Case, goal: str) -> Work:
        if not case.folx:
            raise Absent(f"{self.target} skipped: folx has no such operator")
        try:
            from folx import forward_laplacian
        except ImportError as error:
            raise Absent(f"{self.target} skipped: folx is not installed") from error

        def laplacian(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
            return lambda z: forward_laplacian(f)(z).laplacian

        def value(params: Any, z: Any) -> Any:
            f: Callable[[Any], Any] = lambda q: _network(params, q)  # noqa: E731
            for _ in range(case.folx):
                f = laplacian(f)
            return f(z)

        x, params = self._arrays(case)
        return self._work(lambda: self.jax.vmap(value, (None, 0)), params, x, goal)

    def memory(self, work: Work) -> float:
        stats = self.device.memory_stats()
        if not stats:
            return super().memory(work)
        # JAX cannot reset the peak: in a process of its own it is that of this work.
        base = stats["bytes_in_use"]
        work.run()
        return float(self.device.memory_stats()["peak_bytes_in_use"] - base)

    def _arrays(self, case: Case, channels: int = 1) -> tuple[Any, Any]:
        x = self.jax.device_put(points(channels * case.points, case.dimension), self.device)
        return x, self.jax.device_put(weights(case.sizes), self.device)

    def _work(self, make: Callable[[], Callable[..., Any]], params: Any, x: Any, goal: str) -> Work:
        jax = self.jax
        body: Callable[..., Any] = lambda p, z: None  # noqa: E731

        def ready() -> Callable[[], Any]:
            nonlocal body
            f = make()
            body = f if goal == "evaluation" else jax.value_and_grad(lambda p, z: (f(p, z) ** 2).mean())
            compiled = jax.jit(body)
            return lambda: jax.block_until_ready(compiled(params, x))

        def count() -> dict[str, float]:
            compiled = jax.jit(body).lower(params, x).compile()
            cost = compiled.cost_analysis()
            cost = cost[0] if isinstance(cost, list) else cost
            return {
                "flops": float(cost["flops"]),
                "nodes": float(_equations(jax.make_jaxpr(body)(params, x).jaxpr)),
                "temporaries": float(compiled.memory_analysis().temp_size_in_bytes),
            }

        return first_run(ready, count)


def _network(params: Any, point: Any) -> Any:
    """One output for one point."""
    import jax.numpy as jnp

    for w, b in params[:-1]:
        point = jnp.tanh(point @ w + b)
    w, b = params[-1]
    return (point @ w + b)[0]


def _equations(jaxpr: Any) -> int:
    """Equations of a jaxpr, those of inner ones included."""
    inner = [getattr(v, "jaxpr", v) for e in jaxpr.eqns for value in e.params.values() for v in _flat(value)]
    return len(jaxpr.eqns) + sum(_equations(j) for j in inner if hasattr(j, "eqns"))


def _flat(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


make = JaxDriver
