"""Derivatives of residuals in parameters, on JAX; see `opdsl.backends.base.Backend.per_point_jacobian`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from opdsl.backends import execution
from opdsl.backends.base import Evaluator
from opdsl.backends.jax.capture import leaf_positions
from opdsl.backends.parameters import Linearised, Owned, Places, replaced, taken
from opdsl.jets.graph import Array


def explicit(u: Any) -> tuple[Any, Any] | None:
    """Networks that hold their own parameters (Equinox modules), as functions of these; None where none does.

    Returns:
        Functions of (parameters, point), and the parameters.
    """
    if not isinstance(u, Mapping):
        return (_called, u) if _holds(u) else None
    if not any(_holds(f) for f in u.values()):
        return None
    functions = {name: partial(_member, name) if _holds(f) else partial(_without, f) for name, f in u.items()}
    return functions, {name: f for name, f in u.items() if _holds(f)}


def _holds(function: Any) -> bool:
    leaves = jax.tree_util.tree_leaves(function)
    return not (len(leaves) == 1 and leaves[0] is function) and any(_floating(leaf) for leaf in leaves)


def _called(network: Any, point: Array) -> Any:
    return network(point)


def _member(name: str, networks: Mapping[str, Any], point: Array) -> Any:
    return networks[name](point)


def _without(function: Callable[..., Any], params: Any, point: Array) -> Any:
    return function(point)


def _floating(leaf: Any) -> bool:
    return isinstance(leaf, float) or jnp.issubdtype(getattr(leaf, "dtype", jnp.bool_), jnp.floating)


def owned(params: Any) -> Owned:
    """The floating leaves of a pytree of parameters."""
    leaves, tree = jax.tree_util.tree_flatten(params)
    traced = leaf_positions(params)
    chosen = [(place, i) for place, i in enumerate(traced) if _floating(leaves[i])]

    def rebuild(arrays: Sequence[Any]) -> Any:
        filled = list(leaves)
        for (_, i), array in zip(chosen, arrays, strict=True):
            filled[i] = array
        return jax.tree_util.tree_unflatten(tree, filled)

    def of(nest: Any) -> Sequence[Any]:
        found = tree.flatten_up_to(nest)
        return [found[i] for _, i in chosen]

    return Owned(tuple(leaves[i] for _, i in chosen), tuple(place for place, _ in chosen), rebuild, of)


def per_point_jacobian(evaluator: Evaluator, places: Places, shapes: Sequence[Sequence[int]]) -> Evaluator:
    """One point's residuals (k,) and their derivatives (k, P): mapped over the points with everything else."""

    def call(constants: Sequence[Sequence[Array]], point: Array, bindings: Mapping[str, Array]) -> tuple[Array, ...]:
        def residuals(arrays: Sequence[Array]) -> Array:
            own, given = replaced(places, constants, bindings, arrays)
            return jnp.concatenate([jnp.reshape(v, -1) for v in evaluator.call(own, point, given)])

        values, pull = jax.vjp(residuals, [jnp.asarray(a) for a in taken(places, constants, bindings)])
        k = values.shape[0]
        if k == 1:
            (rows,) = pull(jnp.ones_like(values))
        else:
            (rows,) = jax.vmap(pull)(jnp.eye(k, dtype=values.dtype))
        given = iter(rows)
        parts = [
            jnp.reshape(next(given), (k, prod(shape))).astype(values.dtype) if place else jnp.zeros((k, prod(shape)), values.dtype)
            for place, shape in zip(places, shapes, strict=True)
        ]
        return values, jnp.concatenate(parts, axis=1)

    return Evaluator(call, evaluator.per_point_bindings)


def linearised(function: Callable[[Sequence[Array]], Array], arrays: Sequence[Array]) -> Linearised:
    """See `opdsl.backends.base.Backend.linearised`."""
    given = list(arrays)
    values, pull = jax.vjp(function, given)
    return Linearised(values, lambda tangents: jax.jvp(function, (given,), (list(tangents),))[1], lambda weights: pull(weights)[0])


def free_memory(x: Any) -> float | None:
    """Bytes that the device of an array has left, or the machine where it does not tell (tracers have no device)."""
    try:
        found = next(iter(x.devices())).memory_stats() or {}
        return float(found["bytes_limit"] - found["bytes_in_use"])
    except Exception:
        return execution.free_memory()
