"""Composed rules for norms and matrix functions, written once for every backend; see `rules`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opdsl.jets.composite_rules import abs_tangent, extremum_tangent
from opdsl.jets.elementary import power
from opdsl.jets.graph import Array
from opdsl.jets.propagate import JetOps

Operand = Any


def norm(ops: JetOps, a: Operand, order: float, axes: Sequence[int], keepdims: bool) -> Operand:
    """(Σ |a|^p)^{1/p} over non-negative ``axes``; p = ±∞ the largest or smallest modulus.

    Derivatives at a zero vector do not exist; they come out as nan.
    """
    xp, axes = ops.xp, tuple(axes)

    def total(h: Operand) -> Operand:
        return ops.linear(lambda t: xp.sum(t, axis=axes, keepdims=keepdims), h)

    if order != 2.0:
        a = ops.piecewise(abs_tangent, xp.abs, a)
    if math.isinf(order):
        largest = order > 0
        reduce = xp.max if largest else xp.min
        return ops.piecewise(extremum_tangent(axes, keepdims, largest), lambda t: reduce(t, axis=axes, keepdims=keepdims), a)
    if order == 1.0:
        return total(a)
    # Scaled by the largest entry, so that powers neither overflow nor vanish.
    scale = xp.max(xp.abs(ops.primal(a)), axis=axes, keepdims=True)
    scale = xp.where(scale == 0, xp.ones_like(scale), scale)
    scaled = ops.elementwise(power(order), ops.div(a, scale))
    outer = scale if keepdims else xp.squeeze(scale, axis=axes)
    return ops.mul(ops.elementwise(power(1.0 / order), total(scaled)), outer)


def distances(ops: JetOps, a: Operand, b: Operand, order: float) -> Operand:
    """|a_i − b_j| for all pairs of rows."""
    xp = ops.xp
    difference = ops.sub(ops.linear(lambda h: xp.expand_dims(h, axis=-2), a), ops.linear(lambda h: xp.expand_dims(h, axis=-3), b))
    return norm(ops, difference, order, (len(ops.primal(difference).shape) - 1,), False)


# --------------------------------------------------------------------------------------------------- matrix functions
#
# A jet is A = A_0 + N with N nilpotent of order K + 1. Each rule is an iteration that gains one order per step and is exact
# after K steps; only the primal is ever factorised.


def outputs(ops: JetOps, plain: Array | Sequence[Array], jets: Mapping[int, Operand]) -> Any:
    """The framework's own results with these derivatives; pivots, flags and what else has none stay plain."""
    single = hasattr(plain, "shape")
    results: list[Operand] = [plain] if single else list(plain)
    for k, jet in jets.items():
        results[k] = ops.valued(jet, results[k])
    return results[0] if single else tuple(results)


def _identity(xp: Any, like: Array) -> Array:
    # Tracers have no device.
    return xp.eye(like.shape[-1], dtype=like.dtype, device=getattr(like, "device", None))


def nilpotent(ops: JetOps, a: Operand) -> Operand:
    """N = A − A_0."""
    return ops.sub(a, ops.primal(a))


def matmul(ops: JetOps, a: Operand, b: Operand) -> Operand:
    """A B."""
    return ops.bilinear(ops.xp.matmul, a, b)


def transpose(ops: JetOps, a: Operand) -> Operand:
    """Aᵀ."""
    return ops.linear(ops.xp.matrix_transpose, a)


def solve(
    ops: JetOps, a: Operand, b: Operand, apply: Callable[[Array, Array], Array] | None = None, left: bool = True
) -> Operand:
    """X with A X = B (or X A = B): X ← A_0⁻¹ (B − N X). ``apply(a_0, b)`` solves with the primal."""
    xp = ops.xp
    a0 = ops.primal(a)

    def inverse(h: Array) -> Array:
        if apply is not None:
            return apply(a0, h)
        if left:
            return xp.linalg.solve(a0, h)
        return xp.matrix_transpose(xp.linalg.solve(xp.matrix_transpose(a0), xp.matrix_transpose(h)))

    n = nilpotent(ops, a)
    x = ops.linear(inverse, b)
    for _ in range(ops.algebra.order if ops.is_jet(a) else 0):
        x = ops.linear(inverse, ops.sub(b, matmul(ops, n, x) if left else matmul(ops, x, n)))
    return x


def inverse(ops: JetOps, a: Operand) -> Operand:
    """A⁻¹ by Newton's iteration X ← X + X (I − A X), which doubles the order at each step."""
    xp = ops.xp
    x: Operand = xp.linalg.inv(ops.primal(a))
    eye = _identity(xp, x)
    for _ in range(max(1, math.ceil(math.log2(ops.algebra.order + 1)))):
        x = ops.add(x, matmul(ops, x, ops.sub(eye, matmul(ops, a, x))))
    return x


def trace(ops: JetOps, a: Operand) -> Operand:
    """tr A."""
    xp = ops.xp
    return ops.linear(lambda h: xp.linalg.trace(h), a)


def log_det_change(ops: JetOps, a: Operand) -> Operand:
    """log det(A) − log det(A_0) = Σ_k (−1)^{k+1} tr(M^k)/k with M = A_0⁻¹ N; A_0 must be regular."""
    a0 = ops.primal(a)
    m = ops.linear(lambda h: ops.xp.linalg.solve(a0, h), nilpotent(ops, a))
    total, power_of_m = trace(ops, m), m
    for k in range(2, ops.algebra.order + 1):
        power_of_m = matmul(ops, power_of_m, m)
        total = ops.add(total, ops.mul(trace(ops, power_of_m), (-1.0) ** (k + 1) / k))
    return total


def determinant(ops: JetOps, a: Operand) -> Operand:
    """det A = det A_0 · e^{log_det_change}; not for singular matrices."""
    return ops.mul(ops.elementwise("exp", log_det_change(ops, a)), ops.xp.linalg.det(ops.primal(a)))


def log_determinant(ops: JetOps, a: Operand) -> Operand:
    """log |det A|."""
    return ops.add(log_det_change(ops, a), ops.xp.linalg.slogdet(ops.primal(a))[1])


def cholesky(ops: JetOps, a: Operand, factor: Array) -> Operand:
    """L with A = L Lᵀ; ``factor`` is L_0.

    With L = L_0 (I + Y) and S = L_0⁻¹ N L_0⁻ᵀ: Y + Yᵀ = S − Y Yᵀ, so Y ← Φ(S − Y Yᵀ), Φ the lower triangle with half the
    diagonal.
    """
    xp = ops.xp
    n = nilpotent(ops, a)
    n = ops.mul(ops.add(n, transpose(ops, n)), 0.5)
    inner = ops.linear(lambda h: xp.linalg.solve(factor, h), n)
    s = ops.linear(lambda h: xp.matrix_transpose(xp.linalg.solve(factor, xp.matrix_transpose(h))), inner)
    eye = _identity(xp, factor)
    weights = xp.tril(xp.ones_like(factor)) - 0.5 * eye
    y = ops.linear(lambda h: h * weights, s)
    for _ in range(ops.algebra.order - 1):
        y = ops.linear(lambda h: h * weights, ops.sub(s, matmul(ops, y, transpose(ops, y))))
    return ops.add(ops.linear(lambda h: xp.matmul(factor, h), y), factor)


def eigh(ops: JetOps, a: Operand, values: Array, vectors: Array) -> tuple[Operand, Operand]:
    """Eigenvalues and eigenvectors of a symmetric matrix with distinct eigenvalues; the primal ones are given.

    In the basis of the primal eigenvectors A = D + N. With eigenvectors I + X and eigenvalues D + μ,

        (λ_i − λ_j) X_ij = (W μ − N W)_ij  (i ≠ j),   μ_i = (N W)_ii / W_ii,   X_ii = −½ (XᵀX)_ii,   W = I + X.
    """
    xp = ops.xp
    n = nilpotent(ops, a)
    n = ops.mul(ops.add(n, transpose(ops, n)), 0.5)
    n = ops.linear(lambda h: xp.matmul(xp.matrix_transpose(vectors), h) @ vectors, n)
    eye = _identity(xp, values)
    gaps = values[..., :, None] - values[..., None, :] + eye
    off = (1.0 - eye) / gaps
    w: Operand = xp.broadcast_to(eye, tuple(vectors.shape))
    mu: Operand = xp.zeros_like(values)

    def diagonal(h: Operand) -> Operand:
        return ops.linear(lambda t: xp.sum(t * eye, axis=-1), h)

    for _ in range(ops.algebra.order):
        nw = matmul(ops, n, w)
        mu = ops.div(diagonal(nw), diagonal(w))
        columns = ops.mul(w, ops.linear(lambda t: t[..., None, :], mu))
        x = ops.linear(lambda h: h * off, ops.sub(columns, nw))
        previous = ops.sub(w, eye)
        norms = ops.linear(lambda h: h * eye, matmul(ops, transpose(ops, previous), previous))
        w = ops.add(ops.sub(x, ops.mul(norms, 0.5)), eye)
    return ops.add(mu, values), ops.linear(lambda h: xp.matmul(vectors, h), w)


def qr(ops: JetOps, a: Operand, r0: Array) -> tuple[Operand, Operand]:
    """Q, R of a matrix with full column rank: R is the Cholesky factor of AᵀA, with the signs of the primal's diagonal."""
    xp = ops.xp
    eye = _identity(xp, r0)
    signs = xp.sign(xp.sum(r0 * eye, axis=-1))
    upper = r0 * signs[..., :, None]
    gram = matmul(ops, transpose(ops, a), a)
    r = transpose(ops, cholesky(ops, gram, xp.matrix_transpose(upper)))
    r = ops.linear(lambda h: h * signs[..., :, None], r)
    return solve(ops, r, a, left=False), r


def svd(ops: JetOps, a: Operand, u0: Array, s0: Array, vh0: Array) -> tuple[Operand, Operand, Operand]:
    """U, S, Vᵀ (reduced) of a matrix with distinct, nonzero singular values; the primal ones are given.

    Through the symmetric matrix AᵀA (or AAᵀ), whichever is smaller.
    """
    xp = ops.xp
    a0 = ops.primal(a)
    wide = a0.shape[-1] > a0.shape[-2]
    tall = transpose(ops, a) if wide else a
    basis = (u0 if wide else xp.matrix_transpose(vh0))[..., : s0.shape[-1]]
    values, v = eigh(ops, matmul(ops, transpose(ops, tall), tall), s0 * s0, basis)
    s = ops.elementwise("sqrt", values)
    u = ops.div(matmul(ops, tall, v), ops.linear(lambda h: h[..., None, :], s))
    left, right = (v, u) if wide else (u, v)
    return left, s, transpose(ops, right)


def pseudo_inverse(ops: JetOps, a: Operand) -> Operand:
    """A⁺ of a matrix with full rank: (AᵀA)⁻¹Aᵀ, or Aᵀ(AAᵀ)⁻¹ where it is wide."""
    a0, turned = ops.primal(a), transpose(ops, a)
    if a0.shape[-2] >= a0.shape[-1]:
        return solve(ops, matmul(ops, turned, a), turned)
    return solve(ops, matmul(ops, a, turned), turned, left=False)


def lu(ops: JetOps, a: Operand, lower: Array, upper: Array) -> tuple[Operand, Operand]:
    """L, U with A = L U of a square matrix whose rows are in pivot order; the primal factors are given.

    With L = L_0 (I + X), U = (I + Y) U_0 and M = L_0⁻¹ N U_0⁻¹: X + Y = M − X Y, X strictly lower and Y upper triangular.
    """
    xp = ops.xp
    turned = xp.matrix_transpose(upper)

    def inner(h: Array) -> Array:
        left = xp.linalg.solve(lower, h)
        return xp.matrix_transpose(xp.linalg.solve(turned, xp.matrix_transpose(left)))

    m = ops.linear(inner, nilpotent(ops, a))
    rest = m
    for _ in range(ops.algebra.order):
        x = ops.linear(lambda h: xp.tril(h, k=-1), rest)
        y = ops.linear(lambda h: xp.triu(h), rest)
        rest = ops.sub(m, matmul(ops, x, y))
    x, y = ops.linear(lambda h: xp.matmul(lower, xp.tril(h, k=-1)), rest), ops.linear(lambda h: xp.triu(h) @ upper, rest)
    return ops.add(x, lower), ops.add(y, upper)


def matrix_exponential(ops: JetOps, a: Operand) -> Operand:
    """e^A by scaling (2⁻⁶), Taylor's polynomial of degree 14, and squaring: 1e-12 up to norm 60."""
    xp = ops.xp
    a0 = ops.primal(a)
    eye = _identity(xp, a0)
    small = ops.mul(a, 2.0**-6)
    total: Operand = xp.broadcast_to(eye, tuple(a0.shape))
    for k in range(14, 0, -1):
        total = ops.add(ops.mul(matmul(ops, small, total), 1.0 / k), eye)
    for _ in range(6):
        total = matmul(ops, total, total)
    return total
