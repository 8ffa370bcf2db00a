"""One call of a compiled program for a clock: it ends when its results exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from opdsl.jets.graph import Array


def timed(
    run: Callable[..., Any], constants: Sequence[Sequence[Array]], x: Array, bindings: Mapping[str, Array], training: bool
) -> Callable[[], Any]:
    """See `opdsl.backends.base.Backend.timed`."""
    if not training:
        return lambda: jax.block_until_ready(run(constants, x, bindings))
    leaves, tree = jax.tree_util.tree_flatten(constants)
    floating = [k for k, a in enumerate(leaves) if jnp.issubdtype(jnp.result_type(a), jnp.floating)]

    def loss(trained: Sequence[Any], points: Any, bound: Any) -> Any:
        merged = list(leaves)
        for k, a in zip(floating, trained, strict=True):
            merged[k] = a
        return sum(jnp.mean(jnp.square(r)) for r in run(jax.tree_util.tree_unflatten(tree, merged), points, bound))

    step = jax.jit(jax.value_and_grad(loss))
    own = [leaves[k] for k in floating]
    return lambda: jax.block_until_ready(step(own, x, bindings))
