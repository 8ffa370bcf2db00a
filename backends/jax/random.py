"""Random directions on JAX: pure functions of a key."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from opdsl.errors import StrategyError


def _key(key: Any) -> Any:
    if isinstance(key, int):
        return jax.random.key(key)
    if hasattr(key, "dtype") and (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.shape == (2,)):
        return key
    raise StrategyError(f"key= must be an integer or a key of jax.random, got {type(key).__name__}.")


def normal(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Independent standard normal numbers."""
    return _normal(_key(key), shape, dtype)


@partial(jax.jit, static_argnums=(1, 2))
def _normal(key: Any, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return jax.random.normal(key, shape, dtype)


def subsets(key: Any, count: int, size: int, of: int) -> jax.Array:
    """Sets drawn without replacement, (count, size)."""
    return _subsets(_key(key), count, size, of)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _subsets(key: Any, count: int, size: int, of: int) -> jax.Array:
    """Floyd's algorithm: ``size`` draws whatever ``of`` is (Bentley and Floyd, CACM 30 (1987) 754)."""
    highest = jnp.arange(of - size, of)

    def one(key: Any) -> jax.Array:
        drawn = jax.random.randint(key, (size,), 0, highest + 1)

        def step(k: Any, chosen: jax.Array) -> jax.Array:
            taken = jnp.any(chosen == drawn[k])
            return chosen.at[k].set(jnp.where(taken, highest[k], drawn[k]))

        return jax.lax.fori_loop(0, size, step, jnp.full((size,), -1))

    return jax.vmap(one)(jax.random.split(key, count))


def keys(key: Any, count: int) -> Sequence[Any]:
    """Independent keys from one."""
    return list(jax.random.split(_key(key), count))
