r"""From a wide low-rank network to a tiny one: snapshots of hidden states, bases, interpolation rows.

With Ξ_ℓ, I_ℓ, P_ℓ = Ξ_ℓ[I_ℓ] for every hidden state the rows ẑ_ℓ = z_ℓ[I_ℓ] obey, as far as z_ℓ lies in the span of Ξ_ℓ,

    ẑ₁ = tanh(A[I₁] x + b[I₁]),  ẑ_{ℓ+1} = tanh(V_ℓ[I_{ℓ+1}] diag(s_ℓ) (P_ℓ⁻ᵀ Ξ_ℓᵀ U_ℓ)ᵀ ẑ_ℓ),  u = a Ξ_L P_L⁻¹ ẑ_L + c:

again a low-rank network, of width k instead of M, with the very coefficients s (arXiv:2410.04001, §3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from opdsl import backends
from opdsl.errors import ReductionError, ShapeError
from opdsl.jets.directional import Directional
from opdsl.jets.propagate import push_forward
from opdsl.lowrank.factors import Factors
from opdsl.lowrank.interpolation import Floats, Interpolation, interpolation
from opdsl.lowrank.network import LRNR, ArrayLRNR
from opdsl.lowrank.record import FLOOR, Reduction


def reduce(
    net: LRNR,
    points: Any,
    *,
    rank: int | Sequence[int] = 5,
    coefficients: Sequence[Sequence[Any]] | None = None,
    order: int = 2,
    radius: float | Sequence[float] | None = None,
    method: str = "deim",
) -> LRNR:
    """The FastLRNR of a low-rank network: an ordinary network of the same framework, of width ``rank``.

    Snapshots are the hidden states at the points and their Taylor coefficients D^k z[v,…,v] ρ^k / k! along every coordinate, from
    exact jets; the published small shifts of the points are finite differences of these. Coefficients s are shared with ``net``:
    what trains the one trains the other.

    Args:
        net: the network.
        points: sampling points (n, d).
        rank: interpolation rows, of all hidden states or of each.
        coefficients: sets of coefficients whose hidden states are sampled; those of ``net`` by default.
        order: highest derivative that is sampled and whose error is measured: that of the equation.
        radius: ρ, how far each point speaks for its surroundings, by coordinate; half the mean distance of points by default.
        method: ``"deim"`` (greedy) or ``"qdeim"`` (pivoted QR, needs SciPy).

    Raises:
        ReductionError: no low-rank network, a rank that the snapshots do not carry, singular rows.
        ShapeError: points of another dimension.

    Example:
        >>> import numpy as np
        >>> from opdsl.lowrank import network
        >>> net = network(2, width=300, rank=4, backend="numpy", dtype="float64")
        >>> fast = reduce(net, np.random.default_rng(0).random((12, 2)), rank=8)
        >>> fast.reduction.ranks, fast.reduction.errors[0] < 0.02
        ((8, 8, 8, 8), True)
    """
    if not isinstance(net, LRNR):
        raise ReductionError(
            f"only low-rank networks can be reduced, got {type(net).__name__}: make one with opdsl.lowrank.network(…)."
        )
    if net.reduction is not None:
        raise ReductionError("this network is a reduced one already; reduce the network it was made from.")
    if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order <= 8:
        raise ReductionError(f"order={order!r}: give the highest derivative of the equation, 0 to 8.")
    full = net.numpy()
    x = sampling_points(net, points)
    reach = _reach(x, radius)
    sets = [net.coefficients] if coefficients is None else list(coefficients)
    sampled = [net.with_coefficients(s).numpy() for s in sets]
    found = [_snapshots(each, x, order, reach) for each in sampled]
    if not found:
        raise ReductionError("coefficients=[]: give at least one set of coefficients, or leave it out.")
    widths = full.factors.widths
    ranks = (rank,) * len(widths) if isinstance(rank, int) else tuple(rank)
    if len(ranks) != len(widths):
        raise ReductionError(f"rank={rank!r}: give one number, or one for each of the {len(widths)} hidden states.")
    parts = [
        interpolation(np.concatenate([f[k] for f in found], axis=1), r, method, f"the snapshots of hidden state {k + 1}")
        for k, r in enumerate(ranks)
    ]
    small = ArrayLRNR(reduced_factors(full.factors, parts), full.coefficients)
    reduction = Reduction(
        width=full.width, factor_ranks=full.ranks, method=method, points=len(x), rows=tuple(p.rows for p in parts),
        reach=_spread(full, sampled), singular_values=tuple(tuple(float(v) for v in p.singular_values / p.singular_values[0]) for p in parts),
        lost=tuple(p.lost for p in parts), constants=tuple(p.constant for p in parts), errors=derivative_errors(full, small, x, order),
    )  # fmt: skip
    dtype = str(net.coefficients[0].dtype).split(".")[-1]
    factors = small.factors.mapped(lambda a: net.array(a, dtype, False))
    return net.rebuilt(factors, net.coefficients, None, reduction)


def reduced_factors(factors: Factors, parts: Sequence[Interpolation]) -> Factors:
    """Â, b̂; Û_ℓ = P_ℓ⁻ᵀ Ξ_ℓᵀ U_ℓ, V̂_ℓ = V_ℓ[I_{ℓ+1}]; â = a Ξ_L P_L⁻¹."""
    rows = [list(p.rows) for p in parts]
    layers = tuple(
        (before.inverse.T @ (before.basis.T @ u), v[after])
        for (u, v), before, after in zip(factors.layers, parts, rows[1:], strict=False)
    )
    weight, bias = factors.last
    last = parts[-1]
    return Factors((factors.first[0][rows[0]], factors.first[1][rows[0]]), layers, (weight @ last.basis @ last.inverse, bias))


def sampling_points(net: LRNR, points: Any) -> Floats:
    """Points as (n, d) in double precision."""
    backend = backends.choose(None, [points], [])
    x = np.asarray(backend.to_numpy(points), dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != net.factors.dimension or not len(x):
        raise ShapeError(f"sampling points have shape {x.shape}; the network takes (n, {net.factors.dimension}), n at least 1.")
    return x


def _reach(x: Floats, radius: float | Sequence[float] | None) -> Floats:
    """Half the mean distance of points along each coordinate, or what is given."""
    if radius is not None:
        return np.broadcast_to(np.asarray(radius, dtype=np.float64), (x.shape[1],))
    extent = np.ptp(x, axis=0)
    return np.asarray(np.where(extent > 0, extent, 1.0) / (2.0 * len(x) ** (1.0 / x.shape[1])), dtype=np.float64)


def _spread(net: ArrayLRNR, sampled: Sequence[ArrayLRNR]) -> tuple[tuple[float, ...], ...]:
    out = []
    for k, own in enumerate(net.coefficients):
        far = np.max([np.abs(other.coefficients[k] - own) for other in sampled], axis=0)
        out.append(tuple(float(v) for v in np.maximum(far, FLOOR * np.abs(own).max())))
    return tuple(out)


def _snapshots(net: ArrayLRNR, x: Floats, order: int, reach: Floats) -> list[Floats]:
    """(M, N) of every hidden state."""
    value, coefficients = taylor_coefficients(net.states, x, np.diag(reach), order)
    rows = [value, *(c.reshape(-1, c.shape[-1]) for c in coefficients)]
    stacked = np.concatenate(rows).T
    return np.split(stacked, np.cumsum(net.factors.widths)[:-1])


def taylor_coefficients(function: Any, x: Floats, directions: Floats, order: int) -> tuple[Floats, list[Floats]]:
    """f(x), (n, w), and D^k f[v,…,v]/k! for k = 1 … order, (R, n, w) each, along directions (R, d)."""
    backend = backends.get(backends.HOST)
    capture = backend.capture(function, x)
    ops = backend.ops
    if order == 0:
        return np.asarray(function(x)), []
    algebra = Directional([(len(directions), order)])
    parts: list[Any] = [None] * len(algebra.sizes)
    parts[algebra.part(0, 1)] = ops.points.same(ops.asarray(directions, x))
    jet = ops.points.jet(x, parts, [True] * len(parts))
    (found,) = push_forward(capture.graph, algebra, jet, capture.constants, ops, frozenset(range(len(parts))))
    shape = (len(directions), *found.primal.shape)
    return np.asarray(found.primal), [
        np.zeros(shape) if part is None else np.broadcast_to(np.asarray(part), shape) for part in found.parts
    ]


def derivative_errors(full: ArrayLRNR, small: ArrayLRNR, x: Floats, order: int) -> tuple[float, ...]:
    """‖D^k(û − u)‖ / ‖D^k u‖ over the points for k = 0 … order.

    Derivatives are taken along e_i and (e_i + e_j)/√2, so that mixed ones count as well.
    """
    d = x.shape[1]
    unit = np.eye(d)
    pairs = [(unit[i] + unit[j]) / 2**0.5 for i in range(d) for j in range(i)] if d <= 4 else []
    directions = np.array([*unit, *pairs])
    exact, near = (taylor_coefficients(f, x, directions, order) for f in (full, small))
    return tuple(
        float(np.linalg.norm(b - a) / max(float(np.linalg.norm(a)), np.finfo(np.float64).tiny))
        for a, b in zip([exact[0], *exact[1]], [near[0], *near[1]], strict=True)
    )
