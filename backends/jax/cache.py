"""What identifies a JAX function between calls: its code, the arrays it holds, and the settings it is traced under.

JAX arrays are immutable, so their identity tells their contents. NumPy arrays are not, and count by their contents too. Tracers
belong to one transformation and are never reused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from opdsl.backends.base import Capture
from opdsl.backends.fingerprint import content, fingerprint
from opdsl.backends.identity import Identity
from opdsl.backends.jax.capture import capture, leaf_positions
from opdsl.backends.recent import Recent
from opdsl.jets.graph import Array


def identity(function: Any) -> Hashable | None:
    """A key of everything the traced program depends on; None where that cannot be told."""
    found = fingerprint(function, _leaf)
    return None if found is None else (found, _settings())


def _settings() -> tuple[Any, ...]:
    # Reading one setting takes 10 µs: only those that change which program is traced.
    return jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision, jax.config.jax_numpy_dtype_promotion


def _leaf(thing: Any) -> Hashable | None:
    if isinstance(thing, jax.core.Tracer):
        raise LookupError
    if isinstance(thing, jax.Array):
        return Identity(thing)
    if isinstance(thing, np.ndarray | np.generic):
        return content(thing)
    return None


class ParameterisedCaptures:
    """Captures of functions ``u(params, point)``: the graph stays, the leaves of ``params`` are those of the call."""

    def __init__(self) -> None:
        self._found = Recent(64)

    def __call__(self, function: Callable[..., Any], x: Array, params: Any, batched: bool) -> Capture:
        """A capture of ``function`` for parameters of the structure of ``params``."""
        key = self._key(function, x, params, batched)
        if key is None:
            return capture(function, x, params=params, batched=batched)
        leaves, where = jax.tree_util.tree_leaves(params), leaf_positions(params)
        found = self._found.get(key)
        if found is None:
            made = capture(function, x, params=params, batched=batched)
            if any(isinstance(c, jax.core.Tracer) for c in made.constants[len(where) :]):
                return made
            # Keeping the parameters of this call would keep them in memory for nothing, or leak tracers.
            own = Capture(made.graph, made.constants[len(where) :], made.key)
            self._found[key] = found = (function, own)
        own = found[1]
        return Capture(own.graph, (*(leaves[i] for i in where), *own.constants), own.key)

    def _key(self, function: Callable[..., Any], x: Array, params: Any, batched: bool) -> Hashable | None:
        mark = identity(function)
        if mark is None:
            return None
        leaves, tree = jax.tree_util.tree_flatten(params)
        moving = set(leaf_positions(params))
        facts = [_aval(leaf) if i in moving else identity(leaf) for i, leaf in enumerate(leaves)]
        if any(f is None for f in facts):
            return None
        return mark, tree, tuple(facts), x.shape[-1], str(x.dtype), batched


def _aval(leaf: Any) -> Hashable:
    return tuple(np.shape(leaf)), str(getattr(leaf, "dtype", type(leaf).__name__)), getattr(leaf, "weak_type", False)
