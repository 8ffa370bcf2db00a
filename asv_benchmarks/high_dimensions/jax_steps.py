"""Training steps on JAX: exact, sampled by opdsl, sampled as published, and plain forward and backward for scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import jet

import opdsl
from asv_benchmarks.high_dimensions import problem
from opdsl import backends

Params = list[tuple[Any, Any]]
Residual = Callable[[Params, Any, Any], Any]


def u(params: Params, x: Any) -> Any:
    """(1 − |x|²) v(x) at one point."""
    h = x
    for w, b in params[:-1]:
        h = jnp.tanh(h @ w + b)
    w, b = params[-1]
    return (1.0 - jnp.sum(x * x)) * (h @ w + b)[0]


def published(d: int, params: Params, x: Any, key: Any) -> Any:
    """A 2-jet of u per direction along dense one-hots; one draw for all points, so that XLA keeps the first layer's unbatched."""
    # opdsl's own draw: jax.random.choice without replacement permutes all d numbers.
    chosen = backends.get("jax").subsets(key, 1, problem.SAMPLES, d, x)[0]
    drawn = jax.nn.one_hot(chosen, d, dtype=x.dtype)

    def at(point: Any) -> Any:
        def along(v: Any) -> Any:
            value, (_, second) = jet.jet(partial(u, params), (point,), ((v, jnp.zeros_like(point)),))
            return value, second

        values, second = jax.vmap(along)(drawn)
        return values[0] - values[0] ** 3 + d / problem.SAMPLES * second.sum()

    return jax.vmap(at)(x)


def residuals(d: int) -> dict[str, Residual]:
    """Every variant: (params, x, key) → (n,)."""
    op = opdsl.operator(problem.EQUATION, coords=f"x[{d}]", fields="u")

    def stde(params: Params, x: Any, key: Any) -> Any:
        return op(u, x, params=params, strategy=opdsl.STDE(problem.SAMPLES, key=key), training=True)

    return {
        "exact": lambda params, x, key: op(u, x, params=params, strategy=problem.exact(d), training=True),
        "stde": stde,
        "published": partial(published, d),
        "plain": lambda params, x, key: jax.vmap(partial(u, params))(x),
    }


class Training:
    """Parameters and Adam's state, shared by all variants so that only one of each lives in memory."""

    def __init__(self, d: int) -> None:
        self.d, self.optimizer = d, optax.scale_by_adam()
        self.params = jax.tree.map(jnp.asarray, problem.weights(d))
        self.state = self.optimizer.init(self.params)

    def step(self, variant: str) -> Callable[..., float]:
        """One Adam step on (points, forcing, number, learning rate); returns the loss when it is done."""
        residual = residuals(self.d)[variant]

        def loss(params: Params, x: Any, g: Any, key: Any) -> Any:
            return jnp.mean((residual(params, x, key) - g) ** 2)

        @partial(jax.jit, donate_argnums=(0, 1))
        def advance(params: Params, state: Any, x: Any, g: Any, number: Any, rate: Any) -> Any:
            value, slope = jax.value_and_grad(loss)(params, x, g, jax.random.key(number))
            update, state = self.optimizer.update(slope, state, params)
            return jax.tree.map(lambda p, s: p - rate * s, params, update), state, value

        def run(x: Any, g: Any, number: int, rate: float = 1e-3) -> float:
            self.params, self.state, value = advance(self.params, self.state, x, g, number, rate)
            jax.block_until_ready(self.params)
            return float(value)

        return run

    def arrays(self, x: Any, g: Any) -> tuple[Any, Any]:
        """Points and forcing on the device."""
        return jnp.asarray(x), jnp.asarray(g)

    def sampler(self, c: Any) -> Callable[[int], tuple[Any, Any]]:
        """Fresh points and their forcing by number."""
        c = jnp.asarray(c, jnp.float32)

        @jax.jit
        def sample(number: Any) -> Any:
            direction, radius = jax.random.split(jax.random.fold_in(jax.random.key(7), number))
            v = jax.random.normal(direction, (problem.POINTS, self.d))
            x = v * (jax.random.uniform(radius, (problem.POINTS, 1)) / jnp.linalg.norm(v, axis=1, keepdims=True))
            return x, problem.forcing(jnp, x, c)

        return sample  # type: ignore[no-any-return]

    def error(self, x: Any, truth: Any) -> float:
        """Relative L2 error at test points."""
        have = np.asarray(jax.jit(jax.vmap(u, (None, 0)))(self.params, jnp.asarray(x)), np.float64)
        return float(np.linalg.norm(have - truth) / np.linalg.norm(truth))


def facts() -> dict[str, str]:
    """What was measured on."""
    return {"jax": jax.__version__, "device": jax.devices()[0].platform, "dtype": "float32"}


def precision(d: int, x: Any) -> float:
    """Relative error of the exact residual in float32 against float64 on the same numbers."""
    with jax.enable_x64(True):
        op = opdsl.operator(problem.EQUATION, coords=f"x[{d}]", fields="u")
        found = []
        for dtype in (np.float32, np.float64):
            params = [(jnp.asarray(w, dtype), jnp.asarray(b, dtype)) for w, b in problem.weights(d)]
            have = jax.jit(lambda p, y: op(u, y, params=p, strategy="pull_back"))(params, jnp.asarray(x, dtype))
            assert have.dtype == dtype
            found.append(np.asarray(have, np.float64))
    return float(np.linalg.norm(found[0] - found[1]) / np.linalg.norm(found[1]))
