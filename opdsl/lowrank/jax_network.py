"""Low-rank networks on JAX: a function of one point, and a pytree of its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from opdsl.lowrank.factors import Array, Factors, value
from opdsl.lowrank.network import LRNR
from opdsl.lowrank.record import Reduction


@jax.tree_util.register_pytree_node_class
class JaxLRNR(LRNR):
    """See `LRNR`. All arrays are leaves; how a reduced network was made is part of the structure."""

    backend = "jax"

    def __init__(
        self, factors: Factors, coefficients: Sequence[Array], reduced: LRNR | None = None, reduction: Reduction | None = None
    ) -> None:
        self.factors, self.coefficients, self.reduced, self.reduction = factors, tuple(coefficients), reduced, reduction

    def rebuilt(
        self, factors: Factors, coefficients: Sequence[Array], reduced: LRNR | None = None, reduction: Reduction | None = None
    ) -> JaxLRNR:
        return JaxLRNR(factors, coefficients, reduced, reduction)

    @classmethod
    def array(cls, a: Any, dtype: str, trainable: bool) -> Any:
        from opdsl import backends

        return backends.get("jax").from_numpy(a.astype(dtype))  # type: ignore[attr-defined]

    def __call__(self, x: Array) -> Array:
        return value(self.factors, self.coefficients, x, jnp.tanh)

    def tree_flatten(self) -> tuple[tuple[Any, ...], Any]:
        """Arrays, and what is structure."""
        return (self.factors, self.coefficients, self.reduced), self.reduction

    @classmethod
    def tree_unflatten(cls, structure: Any, children: tuple[Any, ...]) -> JaxLRNR:
        """Undo `tree_flatten`."""
        net = object.__new__(cls)
        net.factors, net.coefficients, net.reduced = children
        net.reduction = structure
        return net
