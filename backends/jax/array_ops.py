"""Array operations of JAX for the engine, and nested automatic differentiation at one point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from opdsl.backends.jax.calls import CUSTOM_VJP, mentions
from opdsl.errors import StrategyError
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.graph import Array
from opdsl.jets.points import Mapped

Axes = tuple[int, ...]

_SPECIAL: dict[str, Callable[..., Array]] = {
    "bessel_i0e": lax.bessel_i0e,
    "bessel_i1e": lax.bessel_i1e,
    "betainc": lambda a, b, x: lax.betainc(*jnp.broadcast_arrays(a, b, x)),
    "cbrt": jnp.cbrt,
    "digamma": lax.digamma,
    "erf": lax.erf,
    "erfc": lax.erfc,
    "erfinv": lax.erf_inv,
    "expn": jax.scipy.special.expn,
    "gammainc": lambda a, x: lax.igamma(*jnp.broadcast_arrays(a, x)),
    "gammaincc": lambda a, x: lax.igammac(*jnp.broadcast_arrays(a, x)),
    "lgamma": lax.lgamma,
    "log_ndtr": jax.scipy.special.log_ndtr,
    "log_sigmoid": jax.nn.log_sigmoid,
    "ndtri": jax.scipy.special.ndtri,
    "polygamma": lambda n, x: lax.polygamma(jnp.zeros_like(x) + n, x),
    "relu": jax.nn.relu,
    "rsqrt": lax.rsqrt,
    "sigmoid": lax.logistic,
    "sinc": jnp.sinc,
    "softplus": jax.nn.softplus,
    "zeta": lambda s, q: lax.zeta(jnp.zeros_like(q) + s, q),
}


class JaxOps(ArrayOps):
    """`ArrayOps` on ``jax.numpy``; graphs are of one point, the batch is mapped outside."""

    xp = jnp
    points = Mapped(jnp)
    stacked = False

    def channelwise(self, apply: Callable[..., Any], arrays: Sequence[Array], mapped: Sequence[bool]) -> Any:
        """``jax.vmap`` over axis 0 of the mapped arrays: batching rules exist for every primitive."""
        return jax.vmap(apply, in_axes=tuple(0 if m else None for m in mapped))(*arrays)

    def aside(self) -> AbstractContextManager[Any]:
        return jax.ensure_compile_time_eval()  # type: ignore[no-any-return]

    # The transpose of `lax.split` is one concatenation; that of C slices is C paddings of the whole array.
    def split(self, array: Array, sizes: Sequence[int]) -> list[Array]:
        return list(jax.lax.split(array, sizes, axis=0))

    def unstack(self, array: Array) -> list[Array]:
        return [jnp.squeeze(a, 0) for a in jax.lax.split(array, (1,) * array.shape[0], axis=0)]

    def special(self, name: str) -> Callable[..., Array]:
        """A function that the array API lacks."""
        return _SPECIAL[name]

    def asarray(self, value: Any, like: Array) -> Array:
        """A constant with the dtype of ``like``; never promotes."""
        if isinstance(value, int | float) or (isinstance(value, np.ndarray) and value.ndim == 0):
            # Putting one number on a device costs more than a small program; `jit` takes it as it is.
            return np.asarray(value, dtype=like.dtype)
        return jnp.asarray(value, dtype=like.dtype)

    def nested_ad(self, function: Callable[[Array], Array], x: Array, axes: Sequence[Axes]) -> dict[Axes, Array]:
        """Partial derivatives of ``function`` at the point x (d,), by nested `jax.jvp` over one reverse sweep or none.

        Derivatives of one order are taken together: their directions are mapped, so that the primal and everything else that
        does not depend on a direction is computed once. Where many first derivatives of few outputs occur innermost, reverse
        mode gives them all in one sweep.
        """
        wanted = list(dict.fromkeys(axes))
        if not any(wanted):
            value = function(x)
            return {(): value} if wanted else {}
        # custom_vjp functions have no forward mode, while loops no reverse mode.
        program = jax.make_jaxpr(function)(x)
        if mentions(program, "while"):
            reverse = False
        elif mentions(program, *CUSTOM_VJP):
            return _by_reverse_only(function, x, wanted)
        else:
            shape = program.out_avals[0].shape
            reverse = _reverse_pays(wanted, shape[0] if shape else 1)
        try:
            return (_by_reverse if reverse else _by_forward)(function, x, wanted)
        except NotImplementedError as error:
            raise StrategyError(
                f"nested_ad: JAX itself has no derivative here ({error}). Name another strategy, such as strategy='collapsed_taylor'."
            ) from error

    def gradient(self, function: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
        """Value and all first derivatives by reverse mode: () and (d,), or (m,) and (m, d)."""
        value, pull_back = jax.vjp(function, x)
        if not value.shape:
            return value, pull_back(jnp.ones_like(value))[0]
        basis = jnp.eye(value.shape[0], dtype=value.dtype)
        return value, jax.vmap(lambda row: pull_back(row)[0])(basis)

    def gram(self, rows: Array) -> Array:
        """A Aᵀ whose derivative is one product and its transpose: XLA's own transpose of this product took three times as long."""
        return _gram(rows)

    def pull_back(self, function: Callable[[Array], Array], x: Array, count: int, affine: bool) -> Array:
        """The rows of the Jacobian, (count, d); those of an affine function do not depend on x and stay unmapped."""
        _, pull = jax.vjp(function, jnp.zeros(x.shape, x.dtype) if affine else x)
        return jax.vmap(lambda row: pull(row)[0])(jnp.eye(count, dtype=x.dtype))


@jax.custom_jvp  # type: ignore[untyped-decorator]
def _gram(rows: Array) -> Array:
    return rows @ rows.T


@_gram.defjvp  # type: ignore[untyped-decorator]
def _gram_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (rows,), (change,) = primals, tangents
    half = change @ rows.T
    return _gram(rows), half + half.T


def _reverse_pays(wanted: Sequence[Axes], outputs: int) -> bool:
    """Whether sharing the innermost derivatives by reverse mode needs fewer passes than forward mode alone.

    A forward derivative doubles the work; a reverse sweep costs about three evaluations per output and gives all first
    derivatives at once.
    """
    forward = sum(2 ** len(a) for a in wanted if a)
    stems = {a[1:] for a in wanted if a}
    return bool(3 * outputs * sum(2 ** len(s) for s in stems) < forward)


def _by_forward(function: Callable[[Array], Array], x: Array, wanted: Sequence[Axes]) -> dict[Axes, Array]:
    out: dict[Axes, Array] = {}
    for order in sorted({len(a) for a in wanted}):
        group = [a for a in wanted if len(a) == order]
        if order == 0:
            out[()] = function(x)
            continue
        values = _along(function, x, group)
        out.update({a: values[i] for i, a in enumerate(group)})
    return out


def _by_reverse(function: Callable[[Array], Array], x: Array, wanted: Sequence[Axes]) -> dict[Axes, Array]:
    """∂_{a_1} ∂_{a_2} … ∂_{a_k} u = entry a_1 of the gradient, differentiated forward along a_2 … a_k."""
    value, first = JaxOps().gradient(function, x)
    out: dict[Axes, Array] = {}
    stems = dict.fromkeys(a[1:] for a in wanted if len(a) > 1)
    higher: dict[Axes, Array] = {(): first}

    def gradient(point: Array) -> Array:
        return JaxOps().gradient(function, point)[1]

    for order in sorted({len(s) for s in stems}):
        group = [s for s in stems if len(s) == order]
        values = _along(gradient, x, group)
        higher.update({s: values[i] for i, s in enumerate(group)})
    for a in wanted:
        out[a] = higher[a[1:]][..., a[0]] if a else value
    return out


def _by_reverse_only(function: Callable[[Array], Array], x: Array, wanted: Sequence[Axes]) -> dict[Axes, Array]:
    """One reverse sweep inside the other, for functions that know nothing else."""
    gradients: dict[Axes, Callable[[Array], Array]] = {}

    def partial(axes: Axes) -> Callable[[Array], Array]:
        if not axes:
            return function
        stem = axes[:-1]
        if stem not in gradients:
            inner = partial(stem)
            gradients[stem] = lambda point: JaxOps().gradient(inner, point)[1]
        return lambda point: gradients[stem](point)[..., axes[-1]]

    return {a: partial(a)(x) for a in wanted}


def _along(function: Callable[[Array], Array], x: Array, group: Sequence[Axes]) -> Array:
    """Nested directional derivatives along coordinate axes, one row per entry of ``group`` (all of one length)."""

    def nested(directions: Array) -> Array:
        derivative = function
        for k in range(len(group[0])):
            derivative = _directional(derivative, directions[k])
        return derivative(x)

    basis = jnp.eye(x.shape[0], dtype=x.dtype)
    directions = jnp.stack([jnp.stack([basis[i] for i in axes]) for axes in group])
    return jax.vmap(nested)(directions)


def _directional(function: Callable[[Array], Array], direction: Array) -> Callable[[Array], Array]:
    return lambda point: jax.jvp(function, (point,), (direction,))[1]
