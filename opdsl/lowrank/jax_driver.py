"""Training on JAX: optax, one compiled function per step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from opdsl import backends
from opdsl.lowrank.driver import Driver, Loss, Tree

_KEPT = 32


class JaxDriver(Driver):
    """See `Driver`."""

    tanh = staticmethod(jnp.tanh)
    relu = staticmethod(jax.nn.relu)

    @staticmethod
    def absolute(a: Any) -> Any:
        # The derivative of jnp.abs at 0 is 1.
        return jnp.where(a == 0, 0.0, jnp.abs(a))

    def array(self, a: Any, dtype: str) -> Any:
        return backends.get("jax").from_numpy(np.asarray(a, dtype=dtype))

    def mapped(self, change: Callable[[Any], Any], tree: Tree) -> Tree:
        return jax.tree.map(change, tree)

    def over_rows(self, function: Callable[..., Tree], *rows: Any) -> Tree:
        return jax.vmap(function)(*rows)

    def minimise(
        self, loss: Loss, variables: Tree, batch: Callable[[int], Any], rates: Sequence[float], shown: Callable[..., None],
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> Tree:  # fmt: skip
        update = _update(loss, betas)
        state = optax.scale_by_adam(*betas).init(variables)
        for step, rate in enumerate(rates):
            variables, state, terms = update(variables, state, batch(step), jnp.asarray(rate))
            shown(step + 1, variables, terms)
        return variables

    def with_jacobian(self, function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
        run = _with_jacobian(function)

        def both(v: Any, *given: Any) -> tuple[Any, Any]:
            value, jacobian = run(v, *given)
            return np.asarray(value, dtype=np.float64), np.asarray(jacobian, dtype=np.float64)

        return both


@lru_cache(_KEPT)
def _update(loss: Loss, betas: tuple[float, float]) -> Callable[..., Any]:
    optimiser = optax.scale_by_adam(*betas)

    def update(variables: Tree, state: Any, batch: Any, rate: Any) -> Any:
        (_, terms), gradient = jax.value_and_grad(loss, has_aux=True)(variables, batch)
        change, state = optimiser.update(gradient, state)
        return jax.tree.map(lambda v, c: v - rate.astype(v.dtype) * c, variables, change), state, terms

    return jax.jit(update)  # type: ignore[no-any-return]


@lru_cache(_KEPT)
def _with_jacobian(function: Callable[..., Any]) -> Callable[..., Any]:
    # Forward mode: one push for each of the few coefficients, of all points at once.
    return jax.jit(lambda v, *given: (function(v, *given), jax.jacfwd(function)(v, *given)))  # type: ignore[no-any-return]
