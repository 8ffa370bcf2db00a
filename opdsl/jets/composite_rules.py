"""Rules composed of the elementary ones, written once for every backend.

Each function here has the signature of `Composed.build` (``rule(ops, *operands, …)``) or of `PiecewiseLinear.tangent`
(``tangent(xp, primals, tangents)``). Backends point their primitives at them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from opdsl.jets.elementary import Elementary, exponential, power
from opdsl.jets.graph import Array
from opdsl.jets.propagate import JetOps

Operand = Any
Tangent = Callable[[Any, Sequence[Array], Sequence[Array | None]], Array]


# ------------------------------------------------------------------------------------------------------- arithmetic


def divide(ops: JetOps, a: Operand, b: Operand) -> Operand:
    """a / b."""
    return ops.div(a, b)


def power_of(ops: JetOps, base: Operand, exponent: Operand) -> Operand:
    """base ** exponent with an exponent that may vary: exp(exponent · log base); the base must then be positive."""
    if isinstance(exponent, int | float):
        return ops.elementwise(power(exponent), base)
    if isinstance(base, int | float):
        return ops.elementwise(exponential(float(base)), exponent)
    if not ops.is_jet(exponent):
        # One exponent per element: c_k = binom(r, k) h^(r−k) element by element.
        return ops.elementwise(_array_power(exponent), base)
    return ops.elementwise("exp", ops.mul(exponent, ops.elementwise("log", base)))


def _array_power(r: Array) -> Elementary:
    def coefficients(f: Any, h0: Array, order: int) -> list[Any]:
        out: list[Any] = []
        binomial: Any = 1.0
        for k in range(order + 1):
            rest = r - k
            # binom(r, k) = 0 for integers k > r ≥ 0, where h^(r−k) may be infinite: select before evaluating.
            safe = f.xp.where(binomial == 0, f.xp.ones_like(rest), rest) if k else rest
            out.append(binomial * h0**safe)
            binomial = binomial * rest / (k + 1)
        return out

    return Elementary("power", None, coefficients)


def square_root_of_squares(ops: JetOps, a: Operand, b: Operand) -> Operand:
    """hypot(a, b) = √(a² + b²), scaled by max(|a|, |b|) so that squares do not overflow."""
    xp = ops.xp
    scale = xp.maximum(xp.abs(ops.primal(a)), xp.abs(ops.primal(b)))
    scale = xp.where(scale == 0, xp.ones_like(scale), scale)
    value = xp.hypot(ops.primal(a), ops.primal(b))
    a, b = ops.div(a, scale), ops.div(b, scale)
    return ops.valued(ops.mul(ops.elementwise("sqrt", ops.add(ops.mul(a, a), ops.mul(b, b))), scale), value)


def atan2(ops: JetOps, y: Operand, x: Operand) -> Operand:
    """atan2(y, x): the branch of the primal plus ∫ (x dy − y dx)/(x² + y²), through atan of whichever ratio is at most one."""
    xp = ops.xp
    y0, x0 = ops.primal(y), ops.primal(x)
    steep = xp.abs(y0) > xp.abs(x0)
    top, bottom = ops.where(steep, ops.neg(x), y), ops.where(steep, y, x)
    angle = ops.elementwise("atan", ops.div(top, bottom))
    # atan(top/bottom) differs from atan2 by a locally constant angle.
    full = xp.atan2(y0, x0)
    return ops.add(angle, full - ops.primal(angle))


def modulus(ops: JetOps, z: Operand) -> Operand:
    """|z| of complex numbers."""
    return square_root_of_squares(ops, ops.linear(ops.xp.real, z), ops.linear(ops.xp.imag, z))


def xlogy(ops: JetOps, x: Operand, y: Operand) -> Operand:
    """x log y, 0 where x = y = 0."""
    x0, y0 = ops.primal(x), ops.primal(y)
    both = (x0 == 0) & (y0 == 0)
    return ops.mul(x, ops.elementwise("log", ops.where(both, ops.xp.ones_like(y0), y)))


def logaddexp(ops: JetOps, a: Operand, b: Operand) -> Operand:
    """log(eᵃ + eᵇ) = max + softplus(min − max): no overflow on either side, and −∞ is a neutral element."""
    swap = ops.primal(a) < ops.primal(b)
    high, low = ops.where(swap, b, a), ops.where(swap, a, b)
    # Of two equal infinities the difference is nan; the value is still the infinity.
    value = ops.xp.logaddexp(ops.primal(a), ops.primal(b))
    return ops.valued(ops.add(high, ops.elementwise("softplus", ops.sub(low, high))), value)


def clamp_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """clamp(low, x, high), which is the upper bound where that is the smaller one; at a bound the derivative of the interior. None: no bound."""
    low, x, high = primals
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    zero = xp.zeros_like(next(t for t in tangents if t is not None))
    d_low, d_x, d_high = (zero if t is None else t for t in tangents)
    return xp.where((x > high) | (low > high), d_high, xp.where(x < low, d_low, d_x))


# ------------------------------------------------------------------------------------------------- piecewise linear


def copysign(ops: JetOps, a: Operand, b: Operand) -> Operand:
    """|a| with the sign of b, which is locally constant; the derivative is 0 where a = 0, as that of |a|."""
    xp, b0 = ops.xp, ops.primal(b)

    def tangent(_xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
        return tangents[0] * xp.sign(primals[0]) * xp.copysign(xp.ones_like(primals[0]), b0)

    if not ops.is_jet(a):
        return xp.copysign(a, b0)
    return ops.piecewise(tangent, lambda h: xp.copysign(h, b0), a)


def abs_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """|x|; 0 at the kink."""
    return tangents[0] * xp.sign(primals[0])


def relu_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """max(x, 0); 0 at the kink."""
    t = tangents[0]
    assert t is not None
    return xp.where(primals[0] > 0, t, xp.zeros_like(t))


def leaky_tangent(slope: Any) -> Tangent:
    """x where x > 0, slope · x elsewhere; the slope at the kink."""

    def tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
        t = tangents[0]
        assert t is not None
        return xp.where(primals[0] > 0, t, t * slope)

    return tangent


def saturated_tangent(low: Any, high: Any) -> Tangent:
    """An activation that is constant beyond two bounds; 0 at the bounds."""

    def tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
        x, t = primals[0], tangents[0]
        assert t is not None
        return xp.where((x > low) & (x < high), t, xp.zeros_like(t))

    return tangent


def shrink_tangent(bound: float) -> Tangent:
    """0 between −bound and bound, moved or left alone outside; 0 at the bounds."""
    return lambda xp, primals, tangents: xp.where(xp.abs(primals[0]) > bound, tangents[0], xp.zeros_like(tangents[0]))


def remainder_tangent(rounding: str) -> Tangent:
    """a − q b with the quotient rounded (``floor`` or ``trunc``), which is locally constant."""

    def tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
        (a, b), (d_a, d_b) = primals, tangents
        if d_b is None:
            assert d_a is not None
            return d_a
        other = d_b * -getattr(xp, rounding)(a / b)
        return other if d_a is None else d_a + other

    return tangent


def same_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """Of a function that differs from its argument by a constant on every piece."""
    assert tangents[0] is not None
    return tangents[0]


def finite_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """x where it is a finite number, a constant elsewhere."""
    return xp.where(xp.isfinite(primals[0]), tangents[0], xp.zeros_like(tangents[0]))


def affine_tangent(apply: Callable[..., Array]) -> Tangent:
    """L a + c in the first operand, c fixed by the others: f(t) − f(0)."""

    def tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
        t = tangents[0]
        return apply(t, *primals[1:]) - apply(xp.zeros_like(t), *primals[1:])

    return tangent


def maximum_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """max(a, b); the mean of both derivatives where they are equal."""
    a, b = primals
    return _select(xp, a > b, a == b, tangents)


def number_maximum_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """The larger of two, or the one that is a number; the mean of both derivatives where they are equal."""
    a, b = primals
    return _select(xp, (a > b) | xp.isnan(b), a == b, tangents)


def number_minimum_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """The smaller of two, or the one that is a number; the mean of both derivatives where they are equal."""
    a, b = primals
    return _select(xp, (a < b) | xp.isnan(b), a == b, tangents)


def minimum_tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
    """min(a, b); the mean of both derivatives where they are equal."""
    a, b = primals
    return _select(xp, a < b, a == b, tangents)


def _select(xp: Any, first: Array, tie: Array, tangents: Sequence[Array | None]) -> Array:
    zero = xp.zeros_like(next(t for t in tangents if t is not None))
    a, b = (zero if t is None else t for t in tangents)
    return xp.where(tie, (a + b) * 0.5, xp.where(first, a, b))


def extremum_tangent(axes: Sequence[int], keepdims: bool, largest: bool) -> Tangent:
    """max or min over ``axes`` (non-negative); the mean over all places where the extremum is attained."""

    def tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
        x, t = primals[0], tangents[0]
        assert t is not None
        extreme = (xp.max if largest else xp.min)(x, axis=tuple(axes), keepdims=True)
        hit = xp.where(x == extreme, xp.ones_like(t), xp.zeros_like(t))
        return xp.sum(hit * t, axis=tuple(axes), keepdims=keepdims) / xp.sum(hit, axis=tuple(axes), keepdims=keepdims)

    return tangent


def sort_tangent(axis: int, descending: bool = False, stable: bool = True) -> Tangent:
    """sort along ``axis``: channels follow the permutation of the primal."""

    def tangent(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
        order = xp.argsort(primals[0], axis=axis, descending=descending, stable=stable)
        return xp.take_along_axis(tangents[0], order, axis=axis)

    return tangent


def entries_at(choose: Callable[[Array], tuple[Array, Array]], axis: int, keepdims: bool = True) -> Callable[..., Any]:
    """(values, places) along one axis, as ``choose`` picks them at the primal: the channels are those of the places.

    ``keepdims`` False: one place, its axis removed.
    """

    def build(ops: JetOps, a: Operand) -> tuple[Operand, Array]:
        xp, (value, places) = ops.xp, choose(ops.primal(a))
        wide = places if keepdims else xp.expand_dims(places, axis=axis)

        def picked(h: Array) -> Array:
            found = xp.take_along_axis(h, wide, axis=axis)
            return found if keepdims else xp.squeeze(found, axis=axis)

        return ops.valued(ops.linear(picked, a), value), places

    return build


def largest_in_windows(choose: Callable[[Array], tuple[Array, Array]], rank: int) -> Callable[..., Any]:
    """(values, flat places) over windows of the last ``rank`` axes."""

    def build(ops: JetOps, a: Operand) -> tuple[Operand, Array]:
        xp, (value, places) = ops.xp, choose(ops.primal(a))
        inner = tuple(places.shape[-rank:])
        flat = xp.reshape(places, (*places.shape[:-rank], math.prod(inner)))

        def picked(h: Array) -> Array:
            lead = tuple(h.shape[:-rank])
            found = xp.take_along_axis(xp.reshape(h, (*lead, math.prod(h.shape[-rank:]))), flat, axis=-1)
            return xp.reshape(found, (*lead, *inner))

        return ops.valued(ops.linear(picked, a), value), places

    return build


# -------------------------------------------------------------------------------------------------------- reductions


def logsumexp(ops: JetOps, a: Operand, axes: Sequence[int], keepdims: bool) -> Operand:
    """log Σ e^a over ``axes``, shifted by the maximum of the primal."""
    xp, axes = ops.xp, tuple(axes)
    shift = xp.max(ops.primal(a), axis=axes, keepdims=True)
    total = _sum(ops, ops.elementwise("exp", ops.sub(a, shift)), axes, True)
    out = ops.add(ops.elementwise("log", total), shift)
    return out if keepdims else _sum(ops, out, axes, False)


def softmax(ops: JetOps, a: Operand, axis: int) -> Operand:
    """e^a / Σ e^a along ``axis``."""
    e = ops.elementwise("exp", ops.sub(a, ops.xp.max(ops.primal(a), axis=axis, keepdims=True)))
    return ops.div(e, _sum(ops, e, (axis,), True))


def log_softmax(ops: JetOps, a: Operand, axis: int) -> Operand:
    """a − log Σ e^a along ``axis``."""
    return ops.sub(a, logsumexp(ops, a, (axis,), True))


def _sum(ops: JetOps, a: Operand, axes: Sequence[int], keepdims: bool) -> Operand:
    return ops.linear(lambda h: ops.xp.sum(h, axis=tuple(axes), keepdims=keepdims), a)


def product_over(ops: JetOps, a: Operand, axis: int, keepdims: bool) -> Operand:
    """Π a along one axis, by halving: log₂ n multiplications, no division, so zeros are harmless."""
    xp = ops.xp
    length = ops.primal(a).shape[axis]
    if length == 0:
        return xp.prod(ops.primal(a), axis=axis, keepdims=keepdims)

    def piece(start: int, stop: int) -> Callable[[Array], Array]:
        return lambda h: h[(*[slice(None)] * axis, slice(start, stop), ...)]

    while length > 1:
        half = length // 2
        pairs = ops.mul(ops.linear(piece(0, half), a), ops.linear(piece(half, 2 * half), a))
        if length % 2:
            rest = ops.linear(piece(2 * half, length), a)
            pairs = ops.linear(lambda p, q: xp.concat([p, q], axis=axis), pairs, rest)
        a, length = pairs, half + length % 2
    return a if keepdims else ops.linear(lambda h: xp.squeeze(h, axis=axis), a)


def product(ops: JetOps, a: Operand, axes: Sequence[int] | None, keepdims: bool) -> Operand:
    """Π a over non-negative ``axes``; over all of them for None."""
    for axis in sorted(range(len(ops.primal(a).shape)) if axes is None else axes, reverse=True):
        a = product_over(ops, a, axis, keepdims)
    return a


def cumulative(
    ops: JetOps, combine: Callable[[Any, Operand, Operand], Operand], a: Operand, axis: int, reverse: bool = False
) -> Operand:
    """Running results of an associative operation along ``axis``: log₂ n steps of doubling stride."""
    xp = ops.xp
    length = ops.primal(a).shape[axis]

    def piece(start: int, stop: int) -> Callable[[Array], Array]:
        return lambda h: h[(*[slice(None)] * axis, slice(start, stop), ...)]

    stride = 1
    while stride < length:
        early, late = ops.linear(piece(0, length - stride), a), ops.linear(piece(stride, length), a)
        both = combine(ops, early, late)
        if reverse:
            rest = ops.linear(piece(length - stride, length), a)
            a = ops.linear(lambda p, q: xp.concat([p, q], axis=axis), both, rest)
        else:
            rest = ops.linear(piece(0, stride), a)
            a = ops.linear(lambda p, q: xp.concat([p, q], axis=axis), rest, both)
        stride *= 2
    return a


# ------------------------------------------------------------------------------------------ from the first derivative


def with_parameters(make: Callable[..., Elementary], general: Callable[..., Any]) -> Callable[..., Any]:
    """Elementwise in the last operand while the others, parameters, are constant; ``general`` where one of them moves."""

    def build(ops: JetOps, *operands: Operand) -> Operand:
        if any(ops.is_jet(o) for o in operands[:-1]):
            return general(ops, *operands)
        return ops.elementwise(make(*operands[:-1]), operands[-1])

    return build


def from_derivative(
    ops: JetOps,
    value: Sequence[Operand],
    tangent: Callable[[Sequence[Operand], Sequence[Operand]], Sequence[Operand]],
    jets: Sequence[Operand],
    order: int,
) -> tuple[Operand, ...]:
    r"""Any differentiable function from its first derivative alone.

    With n = h − h_0, the nilpotent part of the arguments, and Df(h)[t] the directional derivative as a program,

        f(h) = f(h_0) + ∫_0^1 Df(h_0 + s n)[n] ds = f(h_0) + Σ_q w_q Df(h_0 + s_q n)[n].                       (1)

    In an algebra of order K the integrand is a polynomial of degree K − 1 in s, so Gauss's rule with ⌈K/2⌉ nodes is exact: one
    evaluation of Df for a Laplacian, two for a biharmonic operator. Df may use f itself, to one order less, because every
    term of it carries a factor n.

    Args:
        ops: jet operations.
        value: f(h_0), one array per result; jets where f also depends on something held fixed here.
        tangent: ``tangent(points, directions)`` evaluates Df on jets, a tuple like ``value``.
        jets: the arguments that carry jets.
        order: K; smaller than the algebra's order where the result is multiplied by something nilpotent.
    """
    if order == 0:
        return tuple(value)
    steps = [replace(h, primal=ops.xp.zeros_like(h.primal)) for h in jets]
    nodes, weights = np.polynomial.legendre.leggauss((order + 1) // 2)
    totals: list[Operand] = list(value)
    for node, weight in zip(nodes, weights, strict=True):
        s = float(node + 1) / 2
        slopes = tangent([h.map(lambda part, s=s: part * s) for h in jets], steps)
        totals = [ops.add(t, ops.mul(slope, float(weight) / 2)) for t, slope in zip(totals, slopes, strict=True)]
    return tuple(totals)


# -------------------------------------------------------------------------------------------------------- activations


def prelu(ops: JetOps, a: Operand, slope: Operand) -> Operand:
    """a where a > 0, slope · a elsewhere; the slope at 0."""
    positive = ops.primal(a) > 0
    if ops.is_jet(slope):
        return ops.where(positive, a, ops.mul(a, slope))
    return ops.piecewise(leaky_tangent(slope), lambda h: ops.xp.where(positive, h, h * slope), a)


def softplus(ops: JetOps, a: Operand, beta: float) -> Operand:
    """log(1 + e^{beta·a})/beta."""
    return ops.div(ops.elementwise("softplus", ops.mul(a, beta)), beta)


def elu(ops: JetOps, a: Operand, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Operand:
    """scale · (a where a > 0, alpha (e^{input_scale·a} − 1) elsewhere); the left branch at 0."""
    xp = ops.xp
    positive = ops.primal(a) > 0
    # The unused branch must not overflow: exp sees min(a, 0).
    safe = ops.where(positive, xp.zeros_like(ops.primal(a)), a)
    left = ops.mul(ops.elementwise("expm1", ops.mul(safe, input_scale)), alpha * scale)
    return ops.where(positive, ops.mul(a, scale), left)
