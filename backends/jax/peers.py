"""Peers on JAX: `jax.hessian`, folx, and `jax.experimental.jet`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module

import jax
import jax.numpy as jnp

from opdsl.algebra.polynomial import Polynomial
from opdsl.backends.peers import Function, Peer
from opdsl.jets.graph import Array

# ------------------------------------------------------------------------------------------------------------- hessian


def _above_second(symbols: Sequence[Polynomial], _dimension: int) -> str | None:
    order = max(p.degree() for p in symbols)
    return f"it has second derivatives; order {order} is wanted" if order > 2 else None


def _hessian(function: Function, x: Array, symbols: Sequence[Polynomial]) -> tuple[Array, list[Array]]:
    value = function(x)
    # What is not used is not computed: the compiler sees to that.
    first, second = jax.jacrev(function)(x), jax.hessian(function)(x)

    def at(monomial: tuple[tuple[int, int], ...]) -> Array:
        columns = [c for c, power in monomial for _ in range(power)]
        return value if not columns else first[:, columns[0]] if len(columns) == 1 else second[:, columns[0], columns[1]]

    return value, [sum((float(c) * at(m) for m, c in p.terms), start=jnp.zeros_like(value)) for p in symbols]


# ---------------------------------------------------------------------------------------------------------------- folx


def _powers(symbol: Polynomial, dimension: int) -> dict[int, float] | None:
    """The symbol as Σ c_k Δ^k beside first derivatives; None where it is no such sum."""
    found: dict[int, float] = {}
    laplacian = Polynomial.laplacian(range(dimension))
    for order, part in symbol.order_parts().items():
        if order in (0, 1):
            continue
        weight = part.coefficient(((0, order),))
        if order % 2 or part != laplacian ** (order // 2) * weight:
            return None
        found[order // 2] = float(weight)
    return found


def _no_laplacian(symbols: Sequence[Polynomial], dimension: int) -> str | None:
    if all(_powers(p, dimension) is not None for p in symbols):
        return None
    return "it has first derivatives and the Laplacian of all coordinates, and what nests these"


def _forward_laplacian(
    threshold: float, function: Function, x: Array, symbols: Sequence[Polynomial]
) -> tuple[Array, list[Array]]:
    folx = import_module("folx")

    def laplacian(f: Function) -> Function:
        return lambda z: folx.forward_laplacian(f, sparsity_threshold=threshold)(z).laplacian

    dimension = x.shape[0]
    once = folx.forward_laplacian(function, sparsity_threshold=threshold)(x)
    gradient = once.jacobian.dense_array  # (d, m)
    powers: dict[int, Array] = {1: once.laplacian}
    nested: Function = laplacian(function)
    for k in range(2, max((k for p in symbols for k in _powers(p, dimension) or {}), default=1) + 1):
        nested = laplacian(nested)
        powers[k] = nested(x)
    out = []
    for p in symbols:
        total = jnp.zeros_like(once.x)
        for monomial, number in (t for order in (0, 1) for t in p.order_parts().get(order, Polynomial()).terms):
            total = total + float(number) * (gradient[monomial[0][0]] if monomial else once.x)
        for k, weight in (_powers(p, dimension) or {}).items():
            total = total + weight * powers[k]
        out.append(total)
    return once.x, out


# ----------------------------------------------------------------------------------------------------------------- jet


def _several_coordinates(symbols: Sequence[Polynomial], _dimension: int) -> str | None:
    if len({c for p in symbols for c in p.coordinates()}) <= 1:
        return None
    return "it goes along one line; derivatives in several coordinates are wanted"


def _jet(function: Function, x: Array, symbols: Sequence[Polynomial]) -> tuple[Array, list[Array]]:
    from jax.experimental import jet

    column = next((c for p in symbols for c in p.coordinates()), 0)
    order = max(max(p.degree() for p in symbols), 1)
    seed = [jnp.zeros_like(x).at[column].set(1.0), *[jnp.zeros_like(x)] * (order - 1)]
    value, series = jet.jet(function, (x,), (seed,))
    found = [value, *series]
    return value, [
        sum((float(c) * found[m[0][1] if m else 0] for m, c in p.terms), start=jnp.zeros_like(value)) for p in symbols
    ]


PEERS = (
    Peer("jax.hessian", "jax", _above_second, _hessian),
    Peer("folx", "folx", _no_laplacian, partial(_forward_laplacian, 0)),
    Peer("folx, sparse", "folx", _no_laplacian, partial(_forward_laplacian, 0.6)),
    Peer("jax.experimental.jet", "jax", _several_coordinates, _jet),
)
