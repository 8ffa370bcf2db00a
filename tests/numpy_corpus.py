"""Functions of points in R³ written against the array API, or with NumPy itself: what the NumPy backend has to let through.

Every entry of `GROUPS` maps a name to a function ``(xp, p)`` of points (…, 3), with the points' own namespace or NumPy as ``xp``,
smooth or piecewise smooth at `POINTS`. `NUMPY` holds those that use names and methods of NumPy which the standard lacks; JAX has
the same ones, so that nested `jax.jvp` of the very same function is the reference everywhere. `REFUSED` holds what has no rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[[Any, Any], Any]

_random = np.random.default_rng(0)
POINTS = np.array([[0.3, -0.6, 0.8], [-0.45, 0.25, 0.55]])
DIRECTION = np.array([0.5, -1.1, 0.7])
W = _random.normal(size=(3, 4))
V = _random.normal(size=(4, 4))
B = _random.normal(size=4)


def h(xp: Any, p: Any) -> Any:
    """Four features of either sign."""
    return p @ xp.asarray(W) + xp.asarray(B)


def positive(xp: Any, p: Any) -> Any:
    """Four features in (0.5, 2.5)."""
    return 1.5 + xp.tanh(h(xp, p))


def inside(xp: Any, p: Any) -> Any:
    """Four features in (−0.8, 0.8)."""
    return 0.8 * xp.tanh(h(xp, p))


def table(xp: Any, p: Any) -> Any:
    """A 4 × 3 matrix."""
    return xp.sin(h(xp, p)[..., :, None] * p[..., None, :])


def regular(xp: Any, p: Any) -> Any:
    """A regular 3 × 3 matrix."""
    return xp.sin(p[..., :, None] * xp.asarray(W)[:, :3]) + xp.asarray([[4.0, 0.3, -0.2], [0.5, 3.0, 0.1], [-0.4, 0.2, 2.0]])


def spd(xp: Any, p: Any) -> Any:
    """A symmetric positive definite 3 × 3 matrix with distinct eigenvalues."""
    a = regular(xp, p)
    return a @ xp.matrix_transpose(a)


def _each(names: str, features: Function) -> dict[str, Function]:
    def entry(name: str) -> Function:
        return lambda xp, p: getattr(xp, name)(features(xp, p))

    return {name: entry(name) for name in names.split()}


def _pairs(names: str) -> dict[str, Function]:
    def entry(name: str) -> Function:
        return lambda xp, p: getattr(xp, name)(positive(xp, p), xp.cos(h(xp, p)))

    return {name: entry(name) for name in names.split()}


ELEMENTARY: dict[str, Function] = {
    **_each("exp expm1 sin cos sinh cosh tanh asinh atan square abs sign floor ceil round trunc negative positive reciprocal", h),
    **_each("log log1p log2 log10 sqrt acosh", lambda xp, p: 1.0 + positive(xp, p)),
    **_each("asin acos atanh tan", inside),
    **_pairs("add subtract multiply divide pow atan2 hypot logaddexp copysign remainder maximum minimum floor_divide"),
    "operators": lambda xp, p: (-h(xp, p) + 2.0 - 3.0 * positive(xp, p)) / (1.0 + h(xp, p) ** 2) + 1.0 / positive(xp, p),
    "abs of a difference": lambda xp, p: abs(h(xp, p) - 0.3) * h(xp, p),
    "integer powers": lambda xp, p: h(xp, p) ** 3 + positive(xp, p) ** -2,
    "float power": lambda xp, p: positive(xp, p) ** 2.5,
    "array power": lambda xp, p: positive(xp, p) ** xp.asarray([2.0, 0.5, -1.0, 3.0]),
    "integer array power": lambda xp, p: h(xp, p) ** xp.asarray([2.0, 0.0, 1.0, 3.0]),
    "moving exponent": lambda xp, p: positive(xp, p) ** h(xp, p),
    "constant base": lambda xp, p: 2.0 ** h(xp, p),
    "remainder by a number": lambda xp, p: xp.remainder(h(xp, p), 0.7) * h(xp, p) + h(xp, p) % 0.4,
    "whole part": lambda xp, p: xp.floor_divide(h(xp, p), 0.7) * h(xp, p),
    "numbers on the left": lambda xp, p: (1.0 - h(xp, p)) * (2.0 / positive(xp, p)),
}

ACTIVATIONS: dict[str, Function] = {
    "relu": lambda xp, p: xp.maximum(h(xp, p), xp.asarray(0.0)) * h(xp, p),
    "relu6": lambda xp, p: xp.clip(4.0 * h(xp, p), 0.0, 6.0) * h(xp, p),
    "leaky relu": lambda xp, p: xp.where(h(xp, p) > 0, h(xp, p), 0.1 * h(xp, p)) ** 2,
    "elu": lambda xp, p: xp.where(h(xp, p) > 0, h(xp, p), xp.expm1(h(xp, p))),
    "sigmoid": lambda xp, p: 1.0 / (1.0 + xp.exp(-h(xp, p))),
    "swish": lambda xp, p: h(xp, p) / (1.0 + xp.exp(-h(xp, p))),
    "softplus": lambda xp, p: xp.logaddexp(h(xp, p), xp.asarray(0.0)),
    "gelu by tanh": lambda xp, p: 0.5 * h(xp, p) * (1.0 + xp.tanh(0.8 * (h(xp, p) + 0.04 * h(xp, p) ** 3))),
    "mish": lambda xp, p: h(xp, p) * xp.tanh(xp.log1p(xp.exp(h(xp, p)))),
    "softmax": lambda xp, p: (e := xp.exp(h(xp, p))) / xp.sum(e, axis=-1, keepdims=True),
    "shifted softmax": lambda xp, p: (
        e := xp.exp(h(xp, p) - xp.max(h(xp, p), axis=-1, keepdims=True))
    ) / xp.sum(e, axis=-1, keepdims=True),
    "logsumexp": lambda xp, p: xp.log(xp.sum(xp.exp(h(xp, p)), axis=-1)),
    "layer norm": lambda xp, p: (h(xp, p) - xp.mean(h(xp, p), axis=-1, keepdims=True))
    / xp.sqrt(xp.var(h(xp, p), axis=-1, keepdims=True) + 1e-3),
    "rms norm": lambda xp, p: h(xp, p) / xp.sqrt(xp.mean(h(xp, p) ** 2, axis=-1, keepdims=True) + 1e-6),
    "siren": lambda xp, p: xp.sin(3.0 * xp.sin(3.0 * h(xp, p)) @ xp.asarray(V)) @ xp.asarray(V),
    "random Fourier features": lambda xp, p: xp.concat([xp.sin(h(xp, p)), xp.cos(h(xp, p))], axis=-1) @ xp.ones((8, 2)),
    "gated layer": lambda xp, p: xp.tanh(h(xp, p) @ xp.asarray(V)) * h(xp, p) + (1.0 - xp.tanh(h(xp, p))) * xp.cos(h(xp, p)),
    "attention": lambda xp, p: xp.reshape(_attention(xp, table(xp, p)), (*p.shape[:-1], 12)),
}


def _attention(xp: Any, q: Any) -> Any:
    scores = xp.exp(q @ xp.matrix_transpose(xp.cos(q)))
    return (scores / xp.sum(scores, axis=-1, keepdims=True)) @ xp.sin(q)


SELECTION: dict[str, Function] = {
    "where": lambda xp, p: xp.where(h(xp, p) > 0, xp.sin(h(xp, p)), h(xp, p) ** 2),
    "where with a number": lambda xp, p: xp.where(h(xp, p) > 0.1, h(xp, p) ** 3, 0.5),
    "comparisons": lambda xp, p: sum(
        xp.where(getattr(xp, name)(h(xp, p), xp.asarray(0.2)), h(xp, p) ** k, xp.sin(h(xp, p)))
        for k, name in enumerate("less less_equal greater greater_equal equal not_equal".split())
    ),
    "operators of comparison": lambda xp, p: xp.where(
        xp.logical_and(h(xp, p) <= 1.0, xp.logical_not(h(xp, p) < -1.0)), h(xp, p) ** 2, xp.sin(h(xp, p))
    ),
    "logic": lambda xp, p: xp.where(
        xp.logical_xor(xp.logical_or(h(xp, p) > 1.0, h(xp, p) < 0.0), xp.signbit(h(xp, p))), h(xp, p) ** 2, xp.sin(h(xp, p))
    ),
    "bits of conditions": lambda xp, p: xp.where(
        ((h(xp, p) > 0.0) & (h(xp, p) < 1.0)) | ~(h(xp, p) > -1.0), h(xp, p) ** 2, xp.sin(h(xp, p))
    ),
    "finite": lambda xp, p: xp.where(xp.isfinite(h(xp, p)), h(xp, p) ** 2, 0.0)
    + xp.where(xp.isnan(h(xp, p)), 0.0, 1.0) * xp.where(xp.isinf(h(xp, p)), 0.0, h(xp, p)),
    "all and any": lambda xp, p: xp.where(xp.all(h(xp, p) > 9.0, axis=-1), 0.0, 1.0)
    * xp.where(xp.any(h(xp, p) < 9.0, axis=-1), xp.sum(h(xp, p) ** 2, axis=-1), 0.0),
    "counted": lambda xp, p: xp.astype(xp.count_nonzero(h(xp, p) > 0, axis=-1), xp.float64) * p[..., 0] ** 2,
    "clip": lambda xp, p: xp.clip(xp.sin(h(xp, p)), -0.5, 0.5) * h(xp, p),
    "clip on one side": lambda xp, p: xp.clip(h(xp, p), 0.1) * h(xp, p) + xp.clip(h(xp, p), max=0.3),
    "clip by arrays": lambda xp, p: xp.clip(h(xp, p), xp.asarray(-1.0 - B**2), xp.sin(h(xp, p)) + 0.1),
    "max": lambda xp, p: xp.max(xp.sin(h(xp, p)), axis=-1),
    "min over an axis": lambda xp, p: xp.min(table(xp, p), axis=-1),
    "max with keepdims": lambda xp, p: xp.max(table(xp, p), axis=-1, keepdims=True)[..., 0] ** 2,
    "max over two axes": lambda xp, p: xp.max(table(xp, p), axis=(-2, -1)) ** 2,
    "sort": lambda xp, p: xp.sort(xp.sin(h(xp, p)), axis=-1) ** 2,
    "sort downwards": lambda xp, p: xp.sort(xp.sin(h(xp, p)), axis=-1, descending=True) ** 2,
    "argsort": lambda xp, p: xp.take_along_axis(h(xp, p), xp.argsort(h(xp, p), axis=-1), axis=-1) ** 2,
    "argmax": lambda xp, p: xp.take_along_axis(h(xp, p), xp.argmax(h(xp, p), axis=-1, keepdims=True), axis=-1) ** 2,
    "argmin": lambda xp, p: xp.astype(xp.argmin(h(xp, p), axis=-1), xp.float64) * p[..., 0] ** 2,
    "searchsorted": lambda xp, p: xp.astype(xp.searchsorted(xp.asarray([-1.0, 0.0, 1.0]), xp.sin(3.0 * p)), xp.float64) * p**2,
}

REDUCTIONS: dict[str, Function] = {
    "sum": lambda xp, p: xp.sum(table(xp, p), axis=(-1, -2)),
    "mean": lambda xp, p: xp.mean(xp.sin(h(xp, p)), axis=-1),
    "var": lambda xp, p: xp.var(xp.sin(h(xp, p)), axis=-1),
    "var with a correction": lambda xp, p: xp.var(xp.sin(h(xp, p)), axis=-1, correction=1),
    "std": lambda xp, p: xp.std(h(xp, p), axis=-1, keepdims=True) * h(xp, p),
    "prod": lambda xp, p: xp.prod(h(xp, p), axis=-1),
    "prod over two axes": lambda xp, p: xp.prod(table(xp, p), axis=(-2, -1)),
    "prod with keepdims": lambda xp, p: xp.prod(table(xp, p), axis=-2, keepdims=True)[..., 0, :],
    "cumulative sum": lambda xp, p: xp.cumulative_sum(xp.sin(h(xp, p)), axis=-1) ** 2,
    "cumulative sum from zero": lambda xp, p: xp.cumulative_sum(xp.sin(h(xp, p)), axis=-1, include_initial=True) ** 2,
    "cumulative product": lambda xp, p: xp.cumulative_prod(h(xp, p), axis=-1),
    "cumulative product along a middle axis": lambda xp, p: xp.sum(xp.cumulative_prod(table(xp, p), axis=-2), axis=-1),
    "difference": lambda xp, p: xp.diff(xp.sin(h(xp, p)), axis=-1) ** 2,
    "second difference": lambda xp, p: xp.diff(xp.sin(h(xp, p)), axis=-1, n=2) ** 2,
}

INDEXING: dict[str, Function] = {
    "columns": lambda xp, p: p[..., 0] * p[..., 1] ** 2 - p[..., -1],
    "slices": lambda xp, p: h(xp, p)[..., 1:3] * h(xp, p)[..., ::2],
    "negative step": lambda xp, p: h(xp, p)[..., ::-2] ** 2,
    "new axes": lambda xp, p: (h(xp, p)[..., None, :] * p[..., :, None])[..., 1, :],
    "take": lambda xp, p: xp.take(xp.sin(h(xp, p)), xp.asarray([0, 2, 2, 1]), axis=-1) ** 2,
    "take along an axis": lambda xp, p: xp.take_along_axis(xp.sin(table(xp, p)), _places(xp, p), axis=-1)[..., 0] ** 2,
    "reshape": lambda xp, p: xp.reshape(h(xp, p), (*p.shape[:-1], 2, 2))[..., 0] ** 2,
    "permuted axes": lambda xp, p: xp.matrix_transpose(table(xp, p))[..., 0, :] ** 2 + table(xp, p).mT[..., 1, :],
    "moved axis": lambda xp, p: xp.moveaxis(table(xp, p), -1, -2)[..., 0, :] ** 2,
    "expand and squeeze": lambda xp, p: xp.squeeze(xp.expand_dims(h(xp, p), axis=-2), axis=-2) ** 2,
    "broadcast": lambda xp, p: xp.broadcast_to(p[..., :1], p.shape) * p,
    "broadcast together": lambda xp, p: (lambda a, b: a * xp.sin(b))(*xp.broadcast_arrays(p[..., :1], p)),
    "concat": lambda xp, p: xp.concat([h(xp, p), xp.sin(p), p[..., :1] ** 2], axis=-1) ** 2,
    "stack": lambda xp, p: xp.stack([p[..., 0] * p[..., 1], xp.sin(p[..., 2])], axis=-1) ** 2,
    "stack in the middle": lambda xp, p: xp.stack([h(xp, p), xp.sin(h(xp, p))], axis=-2)[..., 1, :] ** 2,
    "unstack": lambda xp, p: xp.unstack(xp.sin(table(xp, p)), axis=-1)[1] ** 2,
    "flip": lambda xp, p: xp.flip(xp.sin(h(xp, p)), axis=-1) * h(xp, p),
    "roll": lambda xp, p: xp.roll(xp.sin(h(xp, p)), 1, axis=-1) * h(xp, p),
    "repeat": lambda xp, p: xp.repeat(xp.sin(h(xp, p)), 2, axis=-1) ** 2,
    "tile": lambda xp, p: xp.tile(xp.sin(h(xp, p)), (*[1] * (len(p.shape) - 1), 2)) ** 2,
    "tril": lambda xp, p: xp.sum(xp.tril(table(xp, p) ** 2), axis=-1),
    "triu": lambda xp, p: xp.sum(xp.triu(table(xp, p) ** 2, k=1), axis=-1),
    "zeros, ones and full": lambda xp, p: xp.sin(p) * xp.ones_like(p) + xp.zeros_like(p) + xp.full_like(p, 2.0) * p**2,
    "single precision and back": lambda xp, p: xp.astype(xp.astype(p, xp.float64) ** 2, xp.float64) * p,
    "fresh array": lambda xp, p: xp.asarray(p) ** 2,
}


def _places(xp: Any, p: Any) -> Any:
    """For each row of the table, the place of its largest entry."""
    return xp.argmax(table(xp, p), axis=-1, keepdims=True)


PRODUCTS: dict[str, Function] = {
    "matrix vector": lambda xp, p: xp.tanh(xp.matmul(xp.asarray(W.T), p[..., :, None])[..., 0]),
    "matmul": lambda xp, p: xp.matmul(table(xp, p), xp.matrix_transpose(xp.cos(table(xp, p))))[..., 1],
    "matmul with a constant": lambda xp, p: xp.sum(xp.matmul(xp.asarray(V), table(xp, p)), axis=-1) ** 2,
    "vecdot": lambda xp, p: xp.vecdot(h(xp, p), xp.sin(h(xp, p))),
    "vecdot along another axis": lambda xp, p: xp.vecdot(table(xp, p), xp.sin(table(xp, p)), axis=-2),
    "vecdot with a constant": lambda xp, p: xp.vecdot(h(xp, p), xp.asarray(B)) ** 2,
    "tensordot with a constant": lambda xp, p: xp.tensordot(h(xp, p), xp.asarray(V), axes=1) ** 2,
    "tensordot over two axes": lambda xp, p: xp.tensordot(table(xp, p), xp.asarray(W.T), axes=((-2, -1), (0, 1))) ** 2,
    "outer": lambda xp, p: xp.sum((h(xp, p)[..., :, None] * p[..., None, :]) ** 2, axis=-1),
    "trace": lambda xp, p: xp.linalg.trace(xp.sin(regular(xp, p))) ** 2,
    "diagonal": lambda xp, p: xp.linalg.diagonal(regular(xp, p)) ** 2,
    "cross": lambda xp, p: xp.linalg.cross(p, xp.sin(p)),
    "cross with a constant": lambda xp, p: xp.linalg.cross(p**2, xp.asarray([0.3, 0.5, -0.2])),
    "matrix power": lambda xp, p: xp.linalg.matrix_power(regular(xp, p) / 4.0, 3)[..., 0, :],
    "linalg's own names": lambda xp, p: xp.linalg.matmul(table(xp, p), xp.linalg.matrix_transpose(table(xp, p)))[..., 0, :]
    + xp.linalg.vecdot(h(xp, p), h(xp, p))[..., None],
}

MATRICES: dict[str, Function] = {
    "det": lambda xp, p: xp.linalg.det(regular(xp, p) / 3.0),
    "slogdet": lambda xp, p: xp.linalg.slogdet(regular(xp, p))[1],
    "inv": lambda xp, p: xp.linalg.inv(regular(xp, p))[..., 0, :],
    "solve": lambda xp, p: xp.linalg.solve(regular(xp, p), xp.sin(p)[..., None])[..., 0],
    "solve with a constant matrix": lambda xp, p: xp.linalg.solve(xp.asarray(V), xp.sin(h(xp, p))[..., None])[..., 0],
    "cholesky": lambda xp, p: xp.linalg.cholesky(spd(xp, p))[..., :, 0],
    "upper cholesky": lambda xp, p: xp.linalg.cholesky(spd(xp, p), upper=True)[..., 0, :],
    "qr": lambda xp, p: xp.linalg.qr(regular(xp, p))[1][..., 0, :],
    "qr of a tall matrix": lambda xp, p: xp.linalg.qr(regular(xp, p)[..., :2])[0][..., 0, :],
    "eigvalsh": lambda xp, p: xp.linalg.eigvalsh(spd(xp, p)),
    "eigh": lambda xp, p: xp.linalg.eigh(spd(xp, p))[1][..., 0, :] ** 2,
    "svdvals": lambda xp, p: xp.linalg.svdvals(regular(xp, p)),
    "svd": lambda xp, p: xp.linalg.svd(regular(xp, p), full_matrices=False)[0][..., 0, :] ** 2,
    "svd of a wide matrix": lambda xp, p: xp.linalg.svd(regular(xp, p)[..., :2, :], full_matrices=False)[2][..., 0, :] ** 2,
    "pinv": lambda xp, p: xp.linalg.pinv(regular(xp, p)[..., :2])[..., 0, :],
    "pinv of a wide matrix": lambda xp, p: xp.linalg.pinv(regular(xp, p)[..., :2, :])[..., 0, :],
    "vector norm": lambda xp, p: xp.linalg.vector_norm(h(xp, p), axis=-1),
    "vector norm 1": lambda xp, p: xp.linalg.vector_norm(h(xp, p), axis=-1, ord=1),
    "vector norm 3": lambda xp, p: xp.linalg.vector_norm(h(xp, p), axis=-1, ord=3, keepdims=True) * h(xp, p),
    "vector norm inf": lambda xp, p: xp.linalg.vector_norm(h(xp, p), axis=-1, ord=float("inf")) ** 2,
    "Frobenius norm": lambda xp, p: xp.linalg.matrix_norm(table(xp, p)),
    "matrix norm 1": lambda xp, p: xp.linalg.matrix_norm(table(xp, p), ord=1) ** 2,
    "spectral norm": lambda xp, p: xp.linalg.matrix_norm(regular(xp, p), ord=2),
    "nuclear norm": lambda xp, p: xp.linalg.matrix_norm(regular(xp, p), ord="nuc", keepdims=True)[..., 0],
    "matrix norm inf": lambda xp, p: xp.linalg.matrix_norm(table(xp, p), ord=float("inf")) ** 2,
}

CONTROL: dict[str, Function] = {
    "loop over columns": lambda xp, p: sum(p[..., i] ** (i + 2) * p[..., 0] for i in range(3)),
    "repeated layer": lambda xp, p: _repeated(xp, h(xp, p)),
    "horner": lambda xp, p: ((0.2 * h(xp, p) + 0.5) * h(xp, p) - 1.0) * h(xp, p) + 2.0,
    "Newton's iteration for a root": lambda xp, p: _root(positive(xp, p)),
    "runge kutta": lambda xp, p: _runge_kutta(xp, h(xp, p)),
}


def _repeated(xp: Any, z: Any) -> Any:
    for k in range(4):
        z = z + 0.3 * xp.tanh(z @ xp.asarray(V)) / (k + 1)
    return z


def _root(a: Any) -> Any:
    z = a
    for _ in range(3):
        z = 0.5 * (z + a / z)
    return z


def _runge_kutta(xp: Any, z: Any) -> Any:
    for _ in range(2):
        middle = z + 0.05 * xp.sin(z)
        z = z + 0.1 * xp.sin(middle)
    return z


FACTS: dict[str, Function] = {
    "constant": lambda xp, p: xp.ones(p.shape),
    "ignores coordinates": lambda xp, p: xp.sin(p[..., 1]),
    "identity": lambda xp, p: p,
    "linear": lambda xp, p: h(xp, p),
    "quadratic": lambda xp, p: xp.sum(p * p, axis=-1),
    "only a locally constant part": lambda xp, p: xp.floor(3.0 * p),
}

GROUPS: dict[str, dict[str, Function]] = {
    "activations": ACTIVATIONS,
    "elementary": ELEMENTARY,
    "selection": SELECTION,
    "reductions": REDUCTIONS,
    "indexing": INDEXING,
    "products": PRODUCTS,
    "matrices": MATRICES,
    "control": CONTROL,
    "facts": FACTS,
}

NUMPY: dict[str, Function] = {
    **{
        f"np.{name}": entry
        for name, entry in {
            **_each("arctan arcsinh absolute exp2 cbrt rint fabs", h),
            **_each("arcsin arccos arctanh", inside),
            **_each("arccosh sinc", lambda xp, p: 1.0 + positive(xp, p)),
            **_pairs("power arctan2 true_divide fmax fmin mod float_power"),
        }.items()
    },
    "clip by bounds that cross": lambda xp, p: xp.clip(h(xp, p), -(B**2), xp.sin(h(xp, p)) + 0.1),
    "concatenate": lambda xp, p: xp.concatenate([h(xp, p), xp.sin(p)], axis=-1) ** 2,
    "hstack of columns": lambda xp, p: xp.stack([p[..., 0] ** 2, p[..., 1]], -1).sum(-1),
    "column by an index": lambda xp, p: p[..., [2, 0]] ** 2,
    "transpose": lambda xp, p: (xp.swapaxes(table(xp, p), -1, -2) ** 2)[..., 0, :],
    "norm": lambda xp, p: xp.linalg.norm(h(xp, p), axis=-1),
    "dot": lambda xp, p: xp.dot(h(xp, p), V) ** 2,
    "inner": lambda xp, p: xp.inner(h(xp, p), V) ** 2,
    "einsum": lambda xp, p: xp.einsum("...i,...j->...ij", h(xp, p), xp.sin(h(xp, p)))[..., 1, :],
    "einsum of one": lambda xp, p: xp.einsum("...ij->...i", table(xp, p)) ** 2,
    "einsum with a constant": lambda xp, p: xp.einsum("...i,ij->...j", h(xp, p), V) ** 2,
    "amax": lambda xp, p: xp.amax(h(xp, p), axis=-1) ** 2 - xp.amin(h(xp, p), axis=-1) ** 2,
    "cumsum": lambda xp, p: xp.cumsum(h(xp, p), axis=-1) ** 2,
    "cumprod": lambda xp, p: xp.cumprod(h(xp, p), axis=-1),
    "sums as methods": lambda xp, p: p.sum(axis=-1) ** 2 + (p**2).mean(axis=-1) + p.max(axis=-1) * p.min(axis=-1) + p.prod(axis=-1),
    "spread as a method": lambda xp, p: h(xp, p).std(axis=-1) + h(xp, p).var(axis=-1),
    "shapes as methods": lambda xp, p: p[..., None].swapaxes(-1, -2).squeeze(-2) ** 2 + p.reshape(p.shape).clip(-0.4, 0.4),
    "product as a method": lambda xp, p: h(xp, p).dot(V) ** 2,
    "weights of NumPy on the left": lambda xp, p: (W.T @ p[..., None])[..., 0] ** 2 + B * h(xp, p),
    "functions of NumPy itself": lambda xp, p: xp.tanh(p @ W + B) @ xp.sin(V),
}

REFUSED: dict[str, tuple[str, Function]] = {
    "unique_values": ("unique_values", lambda xp, p: xp.unique_values(p)),
    "nonzero": ("nonzero", lambda xp, p: xp.nonzero(p)[0]),
    "nextafter": ("nextafter", lambda xp, p: xp.nextafter(p, 2.0 * p)),
    "meshgrid": ("meshgrid", lambda xp, p: xp.meshgrid(p[:, 0], p[:, 1])[0]),
    "fft": ("fft", lambda xp, p: xp.abs(xp.fft.fft(p))),
    "real": ("real", lambda xp, p: xp.real(p)),
    "bitwise_and of points": ("bitwise_and", lambda xp, p: xp.bitwise_and(p, p)),
    "full svd": ("svd", lambda xp, p: xp.linalg.svd(table(xp, p))[0][..., 0]),
    "complete qr": ("qr", lambda xp, p: xp.linalg.qr(table(xp, p), mode="complete")[0][..., 0]),
    "einsum of three": ("einsum", lambda xp, p: xp.einsum("ni,ij,nj->n", p, W[:, :3], p)),
    "matrix rank": ("matrix_rank", lambda xp, p: xp.linalg.matrix_rank(table(xp, p))),
    "branch": ("branches", lambda xp, p: p if p[0, 0] > 0 else 2.0 * p),
    "number": ("branches", lambda xp, p: p * float(p[0, 0])),
    "index by points": ("indexing", lambda xp, p: p[xp.argmax(p, axis=-1)]),
    "condition as index": ("indexing", lambda xp, p: p[p > 0]),
    "assignment": ("xp.where", lambda xp, p: _assigned(p)),
}


def _assigned(p: Any) -> Any:
    p[..., 0] = 1.0
    return p
