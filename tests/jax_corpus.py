"""Functions of one point in R³ that JAX users write: what the JAX backend has to let through.

Every entry maps a name to a function p ↦ scalar or (m,), smooth or piecewise smooth at `POINT`, so that a jet can be compared
with nested `jax.jvp` of the very same function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
from jax import lax, nn

Function = Callable[[Any], Any]

_random = np.random.default_rng(0)
POINT = np.array([0.3, -0.6, 0.8])
DIRECTION = np.array([0.5, -1.1, 0.7])
W = _random.normal(size=(3, 4))
V = _random.normal(size=(4, 4))
B = _random.normal(size=4)
KERNEL = _random.normal(size=(3, 3, 1, 2))


def h(p: Any) -> Any:
    """Four features of either sign."""
    return p @ W + B


def positive(p: Any) -> Any:
    """Four features in (0.5, 2.5)."""
    return 1.5 + jnp.tanh(h(p))


def inside(p: Any) -> Any:
    """Four features in (−0.8, 0.8)."""
    return 0.8 * jnp.tanh(h(p))


def table(p: Any) -> Any:
    """A 4 × 3 matrix."""
    return jnp.sin(jnp.outer(h(p), p))


def image(p: Any) -> Any:
    """A 5 × 6 image with one channel, NHWC."""
    return jnp.sin(jnp.outer(jnp.arange(1.0, 6.0), jnp.tile(p, 2))).reshape(1, 5, 6, 1)


def spd(p: Any) -> Any:
    """A symmetric positive definite 4 × 4 matrix."""
    a = jnp.sin(jnp.outer(h(p), jnp.arange(1.0, 5.0))) + V
    return a @ a.T + jnp.eye(4)


def _each(module: Any, names: str, features: Function) -> dict[str, Function]:
    def entry(function: Any) -> Function:
        return lambda p: function(features(p))

    return {name: entry(getattr(module, name)) for name in names.split()}


ACTIVATIONS: dict[str, Function] = {
    **_each(
        nn,
        "relu relu6 silu softplus sigmoid log_sigmoid soft_sign leaky_relu hard_sigmoid hard_silu hard_tanh elu celu selu gelu "
        "squareplus mish sparse_plus sparse_sigmoid softmax log_softmax logsumexp standardize glu",
        h,
    ),
    "siren": lambda p: jnp.sin(3.0 * jnp.sin(3.0 * h(p)) @ V) @ V,
    "rms norm": lambda p: h(p) * lax.rsqrt(jnp.mean(h(p) ** 2) + 1e-6) * B,
    "weight norm": lambda p: jnp.tanh(p @ (W / jnp.linalg.norm(W, axis=0)) * B),
    "random Fourier features": lambda p: jnp.concatenate([jnp.sin(p @ W), jnp.cos(p @ W)]) @ jnp.ones((8, 2)),
    "attention": lambda p: nn.dot_product_attention(
        table(p)[None, :, None], jnp.cos(table(p))[None, :, None], jnp.sin(table(p))[None, :, None]
    ).ravel(),
    "causal attention": lambda p: nn.dot_product_attention(
        table(p)[None, :, None], jnp.cos(table(p))[None, :, None], table(p)[None, :, None], is_causal=True
    ).ravel(),
    "attention in double precision": lambda p: (nn.softmax(table(p) @ jnp.cos(table(p)).T) @ jnp.sin(table(p))).ravel(),
    "gelu exact": lambda p: nn.gelu(h(p), approximate=False),
    "softplus at 0": lambda p: nn.softplus(0 * p[0] + p[1] - POINT[1]),
    "relu at 0": lambda p: nn.relu(p[1] - POINT[1]),
    "layer norm": lambda p: nn.standardize(jnp.sin(h(p))) * B + 1.0,
    "one hot": lambda p: nn.one_hot(1, 4) * h(p),
}

ELEMENTARY: dict[str, Function] = {
    **_each(
        jnp,
        "exp exp2 expm1 sin cos tan sinh cosh tanh arctan arcsinh square sinc cbrt abs sign floor ceil rint trunc negative "
        "reciprocal deg2rad",
        h,
    ),
    **_each(jnp, "log log1p log2 log10 sqrt arccosh", lambda p: 1.0 + positive(p)),
    **_each(jnp, "arcsin arccos arctanh", inside),
    **_each(special, "erf erfc expit log_ndtr ndtr", h),
    "erfinv": lambda p: special.erfinv(inside(p)),
    "sinc at 0": lambda p: jnp.sinc(p[1] - POINT[1]),
    "div": lambda p: h(p) / positive(p),
    "integer powers": lambda p: h(p) ** 3 + positive(p) ** -2,
    "float power": lambda p: positive(p) ** 2.5,
    "negative base": lambda p: h(p) ** -2.0,
    "array power": lambda p: positive(p) ** jnp.array([2.0, 0.5, -1.0, 3.0]),
    "integer array power": lambda p: h(p) ** jnp.array([2, 0, 1, 3]),
    "moving exponent": lambda p: positive(p) ** h(p),
    "constant base": lambda p: 2.0 ** h(p),
    "atan2": lambda p: jnp.arctan2(h(p), jnp.cos(h(p))),
    "hypot": lambda p: jnp.hypot(h(p), jnp.cos(h(p))),
    "logaddexp": lambda p: jnp.logaddexp(h(p), jnp.cos(h(p))),
    "logaddexp2": lambda p: jnp.logaddexp2(h(p), jnp.cos(h(p))),
    "logaddexp with -inf": lambda p: jnp.logaddexp(h(p), -jnp.inf),
    "xlogy": lambda p: special.xlogy(h(p), positive(p)),
    "xlogy at 0": lambda p: special.xlogy(p[1] - POINT[1], positive(p)),
    "xlog1py": lambda p: special.xlog1py(h(p), positive(p)),
    "mod": lambda p: jnp.mod(h(p), 0.7) + jnp.remainder(h(p), positive(p)) + jnp.fmod(h(p), 0.3),
    "ldexp": lambda p: jnp.ldexp(h(p), 2),
    "polyval": lambda p: jnp.polyval(jnp.array([1.0, 2.0, 3.0]), h(p)),
    "complex": lambda p: jnp.real(jnp.exp(1j * h(p)) * lax.complex(h(p), h(p) ** 2)),
    "angle": lambda p: jnp.angle(lax.complex(h(p), positive(p))),
    "modulus": lambda p: jnp.abs(lax.complex(h(p), positive(p))),
}

SPECIAL: dict[str, Function] = {
    **_each(
        special,
        "gammaln digamma gamma i0 i0e i1 i1e logit entr expi spence factorial",
        lambda p: 0.2 + 0.3 * positive(p),
    ),
    "ndtri": lambda p: special.ndtri(0.5 + 0.4 * jnp.tanh(h(p))),
    "polygamma": lambda p: special.polygamma(2, positive(p)),
    "gammainc": lambda p: special.gammainc(1.3, positive(p)),
    "gammaincc": lambda p: special.gammaincc(1.3, positive(p)),
    "betainc": lambda p: special.betainc(1.3, 0.7, 0.2 * positive(p)),
    "zeta": lambda p: special.zeta(3.5, positive(p)),
}

SELECTION: dict[str, Function] = {
    "scatter mul": lambda p: (
        positive(p).at[jnp.array([1, 3])].multiply(h(p)[:2], unique_indices=True)
        + h(p).at[2].multiply(p[0], unique_indices=True)
    ),
    "where": lambda p: jnp.where(h(p) > 0, jnp.sin(h(p)), h(p) ** 2),
    "select": lambda p: jnp.select([h(p) > 0, h(p) > -1], [jnp.sin(h(p)), jnp.cos(h(p))], 0.0),
    "clip": lambda p: jnp.clip(jnp.sin(h(p)), -0.5, 0.5),
    "maximum": lambda p: jnp.maximum(h(p), jnp.sin(h(p)[::-1])),
    "minimum": lambda p: jnp.minimum(h(p), 0.3),
    "max": lambda p: jnp.max(jnp.sin(h(p))),
    "min over an axis": lambda p: jnp.min(table(p), axis=1),
    "max with keepdims": lambda p: jnp.max(table(p), axis=1, keepdims=True)[:, 0],
    "ptp": lambda p: jnp.ptp(h(p)),
    "median": lambda p: jnp.median(h(p)),
    "quantile": lambda p: jnp.quantile(h(p), 0.3),
    "argmax": lambda p: h(p)[jnp.argmax(h(p))],
    "sort": lambda p: jnp.sort(jnp.sin(h(p))),
    "sort downwards": lambda p: jnp.sort(jnp.sin(h(p)), descending=True),
    "sort by key": lambda p: lax.sort((jnp.sin(h(p)), jnp.cos(h(p))), num_keys=1)[1],
    "argsort": lambda p: h(p)[jnp.argsort(h(p))],
    "top k": lambda p: lax.top_k(jnp.sin(h(p)), 2)[0],
    "cummax": lambda p: lax.cummax(jnp.sin(h(p))),
    "cummin backwards": lambda p: lax.cummin(jnp.sin(h(p)), reverse=True),
    "heaviside": lambda p: jnp.heaviside(h(p), 0.5) * h(p),
    "digitize": lambda p: jnp.digitize(h(p), jnp.array([0.0, 1.0])) * h(p),
    "interp": lambda p: jnp.interp(h(p), jnp.linspace(-3, 3, 7), jnp.sin(jnp.linspace(-3, 3, 7))),
    "nan to num": lambda p: jnp.nan_to_num(jnp.sin(h(p))),
    "unwrap": lambda p: jnp.unwrap(h(p) * 3),
}

REDUCTIONS: dict[str, Function] = {
    "mean": lambda p: jnp.mean(jnp.sin(h(p))),
    "var": lambda p: jnp.var(jnp.sin(h(p))),
    "std": lambda p: jnp.std(h(p)),
    "norm": lambda p: jnp.linalg.norm(h(p)),
    "norm 1": lambda p: jnp.linalg.norm(h(p), ord=1),
    "norm inf": lambda p: jnp.linalg.norm(h(p), ord=jnp.inf),
    "norm 3": lambda p: jnp.linalg.norm(h(p), ord=3),
    "prod": lambda p: jnp.prod(h(p)),
    "prod over all axes": lambda p: jnp.prod(table(p), axis=(0, 1)),
    "prod over one axis": lambda p: jnp.prod(table(p), axis=0),
    "prod with a zero": lambda p: jnp.prod(h(p) - h(jnp.asarray(POINT)) * jnp.array([1.0, 0.0, 0.0, 0.0])),
    "cumsum": lambda p: jnp.cumsum(jnp.sin(h(p))),
    "cumprod": lambda p: jnp.cumprod(h(p)),
    "cumprod backwards": lambda p: lax.cumprod(h(p), reverse=True),
    "cumlogsumexp": lambda p: lax.cumlogsumexp(h(p)),
    "cumlogsumexp backwards": lambda p: lax.cumlogsumexp(jnp.outer(h(p), h(p)), axis=1, reverse=True)[:, 0],
    "weighted logsumexp": lambda p: special.logsumexp(h(p), b=jnp.array([1.0, -0.2, 0.3, 2.0])),
    "trapezoid": lambda p: jnp.trapezoid(jnp.sin(h(p))),
    "cov": lambda p: jnp.cov(jnp.outer(h(p), jnp.sin(p)))[0],
    "empty sum": lambda p: jnp.sum(p[:0]) + jnp.sin(p[0]),
}

INDEXING: dict[str, Function] = {
    "negative step": lambda p: h(p)[::-2],
    "gather": lambda p: jnp.sin(h(p))[jnp.array([0, 2, 2, 1])],
    "take along axis": lambda p: jnp.take_along_axis(jnp.sin(h(p)), jnp.argsort(h(p)), 0),
    "scatter": lambda p: jnp.zeros(6).at[jnp.array([1, 3, 5, 0])].set(jnp.sin(h(p))),
    "scatter a constant": lambda p: jnp.sin(h(p)).at[1].set(2.0),
    "scatter-add": lambda p: jnp.ones(6).at[jnp.array([1, 3, 3, 0])].add(jnp.sin(h(p))),
    "scatter-mul": lambda p: jnp.sin(h(p)).at[jnp.array([1])].multiply(2.0),
    "scatter-max": lambda p: jnp.sin(h(p)).at[jnp.array([1])].max(0.2),
    "dynamic slice": lambda p: lax.dynamic_slice(jnp.sin(h(p)), (jnp.int32(p[0] > 0),), (2,)),
    "dynamic update": lambda p: lax.dynamic_update_slice(jnp.ones(6), jnp.sin(h(p)), (1,)),
    "concatenate": lambda p: jnp.concatenate([h(p), jnp.ones(2), jnp.sin(p)]),
    "stack": lambda p: jnp.stack([h(p), h(p) ** 2]).reshape(-1),
    "split": lambda p: lax.split(jnp.sin(h(p)), (1, 3))[1],
    "pad": lambda p: jnp.pad(jnp.sin(h(p)), (1, 2), mode="wrap"),
    "flip": lambda p: jnp.flip(jnp.sin(h(p))),
    "unstack": lambda p: jnp.unstack(jnp.sin(table(p)), axis=1)[1],
    "scatter-min": lambda p: jnp.sin(h(p)).at[jnp.array([1])].min(0.2),
    "embedding": lambda p: jnp.asarray(V)[(h(p) > 0).astype(int)].sum(1) * h(p),
    "roll": lambda p: jnp.roll(jnp.sin(h(p)), 1),
    "tile": lambda p: jnp.tile(jnp.sin(h(p)), 2),
    "repeat": lambda p: jnp.repeat(jnp.sin(h(p)), 2),
    "diff": lambda p: jnp.diff(jnp.sin(h(p))),
}

PRODUCTS: dict[str, Function] = {
    "matrix vector": lambda p: jnp.tanh(W.T @ p),
    "einsum": lambda p: jnp.einsum("i,ij,j->i", h(p), V, jnp.sin(h(p))),
    "batched matmul": lambda p: (table(p)[None] @ table(p).T[None])[0, :, 1],
    "outer": lambda p: jnp.outer(h(p), jnp.sin(p)).ravel(),
    "tril": lambda p: jnp.tril(jnp.outer(h(p), h(p))).sum(0),
    "trace": lambda p: jnp.trace(jnp.sin(jnp.outer(h(p), h(p)))),
    "kron": lambda p: jnp.kron(h(p), jnp.sin(p)),
    "cross": lambda p: jnp.cross(p, jnp.sin(p)),
    "tensordot": lambda p: jnp.tensordot(table(p), table(p), 2),
    "matrix power": lambda p: jnp.linalg.matrix_power(jnp.outer(h(p), h(p)) / 5, 3)[0],
    "conv": lambda p: lax.conv_general_dilated(
        image(p), KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).mean((0, 1, 2)),
    "conv with moving kernel": lambda p: lax.conv_general_dilated(
        image(p), KERNEL * p[0], (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).mean((0, 1, 2)),
    "transposed conv": lambda p: lax.conv_transpose(
        image(p), KERNEL, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).max((0, 1, 2)),
    "conv in one dimension": lambda p: lax.conv_general_dilated(
        jnp.sin(jnp.outer(h(p), p)).reshape(1, 4, 3), KERNEL.reshape(-1)[:16].reshape(2, 4, 2), (1,), "VALID"
    ).ravel(),
    "grouped conv": lambda p: lax.conv_general_dilated(
        jnp.sin(jnp.outer(h(p), jnp.arange(1.0, 6.0))).reshape(1, 4, 5), KERNEL.reshape(-1)[:12].reshape(2, 2, 3), (1,), "SAME",
        feature_group_count=2,
    ).ravel(),
    "conv in three dimensions": lambda p: lax.conv_general_dilated(
        jnp.sin(jnp.outer(h(p), jnp.arange(1.0, 7.0))).reshape(1, 1, 4, 3, 2), KERNEL.reshape(-1)[:8].reshape(1, 1, 2, 2, 2),
        (1, 1, 1), "VALID",
    ).ravel(),
    "max pool": lambda p: lax.reduce_window(image(p), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").ravel(),
    "average pool": lambda p: lax.reduce_window(image(p), 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").ravel(),
    "fft": lambda p: jnp.abs(jnp.fft.fft(h(p))),
    "rfft": lambda p: jnp.fft.irfft(jnp.fft.rfft(jnp.sin(h(p))) ** 2),
}

MATRICES: dict[str, Function] = {
    "det": lambda p: jnp.linalg.det(spd(p) / 3),
    "lu": lambda p: jax.scipy.linalg.lu(spd(p))[1][2],
    "pinv": lambda p: jnp.linalg.pinv(V[:, :3] + 0.3 * table(p))[0],
    "slogdet": lambda p: jnp.linalg.slogdet(spd(p))[1],
    "inv": lambda p: jnp.linalg.inv(spd(p))[0],
    "solve": lambda p: jnp.linalg.solve(spd(p), jnp.sin(h(p))),
    "solve with a constant matrix": lambda p: jnp.linalg.solve(V, jnp.sin(h(p))),
    "cholesky": lambda p: jnp.linalg.cholesky(spd(p))[:, 0],
    "cho_solve": lambda p: jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(spd(p)), h(p)),
    "triangular solve": lambda p: jax.scipy.linalg.solve_triangular(jnp.tril(spd(p)), h(p), lower=True),
    "qr": lambda p: jnp.linalg.qr(spd(p))[1][0],
    "eigvalsh": lambda p: jnp.linalg.eigvalsh(spd(p)),
    "eigh": lambda p: jnp.linalg.eigh(spd(p))[1][0] ** 2,
    "svd": lambda p: jnp.linalg.svd(spd(p), compute_uv=False),
    "expm": lambda p: jax.scipy.linalg.expm(spd(p) / 20)[0],
}


@jax.custom_jvp
def own_jvp(x: Any) -> Any:
    """x sin x with a derivative of its own."""
    return jnp.sin(x) * x


own_jvp.defjvp(lambda p, t: (own_jvp(p[0]), (jnp.cos(p[0]) * p[0] + jnp.sin(p[0])) * t[0]))


@jax.custom_jvp
def own_exp(x: Any) -> Any:
    """A function whose derivative calls the function itself."""
    return jnp.exp(x)


own_exp.defjvp(lambda p, t: (own_exp(p[0]), own_exp(p[0]) * t[0]))


@jax.custom_jvp
def straight_through(x: Any) -> Any:
    """Rounding with the derivative of the identity."""
    return jnp.round(x * 3) / 3


straight_through.defjvp(lambda p, t: (straight_through(p[0]), t[0]))


@jax.custom_vjp
def own_vjp(x: Any) -> Any:
    """sin with half its derivative, declared backwards."""
    return jnp.sin(x)


own_vjp.defvjp(lambda x: (own_vjp(x), x), lambda x, g: (0.5 * g * jnp.cos(x),))


@jax.custom_jvp
def tangent_product(x: Any, t: Any) -> Any:
    """t cos x, for use in the derivative of another function."""
    return jnp.cos(x) * t


tangent_product.defjvp(lambda p, t: (tangent_product(*p), jnp.cos(p[0]) * t[1] - jnp.sin(p[0]) * p[1] * t[0]))


@jax.custom_jvp
def through_another(x: Any) -> Any:
    """sin, by the derivative of a function that has its own."""
    return jnp.sin(x)


through_another.defjvp(lambda p, t: (jnp.sin(p[0]), tangent_product(p[0], t[0])))


@jax.custom_jvp
def circle(x: Any) -> Any:
    """(sin, cos), each the other's derivative."""
    return jnp.sin(x), jnp.cos(x)


circle.defjvp(lambda p, t: (circle(p[0]), (circle(p[0])[1] * t[0], -circle(p[0])[0] * t[0])))


@jax.custom_vjp
def vjp_product(x: Any, g: Any) -> Any:
    """g cos x, its derivative declared backwards."""
    return jnp.cos(x) * g


vjp_product.defvjp(
    lambda x, g: (vjp_product(x, g), (x, g)), lambda r, c: (-jnp.sin(r[0]) * r[1] * c, jnp.cos(r[0]) * c)
)


@jax.custom_vjp
def vjp_through_another(x: Any) -> Any:
    """sin, its backward a function with a backward of its own."""
    return jnp.sin(x)


vjp_through_another.defvjp(lambda x: (vjp_through_another(x), x), lambda x, g: (vjp_product(x, g),))


@jax.custom_vjp
def clipped(x: Any) -> Any:
    """The identity, long cotangents cut."""
    return x


clipped.defvjp(lambda x: (x, None), lambda _, g: (jnp.clip(g, -1.0, 1.0),))

REVERSE: dict[str, tuple[Function, Function]] = {
    "of another": (vjp_through_another, jnp.sin),
    "in a scan": (
        lambda x: lax.scan(lambda c, _: (vjp_through_another(c), None), x, None, length=5)[0],
        lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=5)[0],
    ),
    "clipped": (lambda x: jnp.sin(clipped(x)), jnp.sin),
}
"""Functions whose derivative is declared backwards, and what they are: nested differentiation refuses forward mode."""


def _loop(c: Any, w: Any) -> tuple[Any, Any]:
    return jnp.tanh(c @ w), c.sum()


CONTROL: dict[str, Function] = {
    "scan": lambda p: lax.scan(_loop, h(p), jnp.stack([jnp.asarray(V)] * 7))[1],
    "scan backwards": lambda p: lax.scan(_loop, h(p), jnp.stack([jnp.asarray(V)] * 6), reverse=True)[1],
    "short scan": lambda p: lax.scan(_loop, h(p), jnp.stack([jnp.asarray(V)] * 3), reverse=True)[1],
    "scan from a constant": lambda p: lax.scan(
        lambda c, t: (jnp.sin(c + h(p) * t), c), jnp.zeros(4), jnp.arange(6.0)
    )[0],
    "scan over rows": lambda p: lax.scan(lambda c, t: (c * t + 1, c), 1.0, jnp.tile(jnp.sin(h(p)), 3))[1],
    "fori": lambda p: lax.fori_loop(0, 6, lambda i, c: jnp.sin(c) + p[0] * i, h(p)),
    "map": lambda p: lax.map(lambda t: jnp.sin(t * p).sum(), jnp.arange(6.0)),
    "associative scan": lambda p: lax.associative_scan(jnp.multiply, h(p)),
    "while": lambda p: lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, jnp.sin(c[1]) * p[1]), (0, h(p)))[1],
    "while by value": lambda p: lax.while_loop(lambda c: (c**2).sum() > 0.5, lambda c: jnp.sin(c) * 0.7, h(p)),
    "cond": lambda p: lax.cond(p[0] > 0, jnp.sin, lambda q: q**2, h(p)),
    "cond with a constant branch": lambda p: lax.cond(p[0] > 0, lambda: jnp.sin(h(p)), lambda: jnp.zeros(4)),
    "switch": lambda p: lax.switch(2, [jnp.sin, jnp.cos, jnp.tanh], h(p)),
    "switch by value": lambda p: lax.switch(jnp.int32(p[2] * 3), [jnp.sin, jnp.ones_like, jnp.tanh], h(p)),
    "remat": lambda p: jax.checkpoint(lambda q: jnp.sin(q @ V))(h(p)),
    "jit": lambda p: jax.jit(lambda q: jnp.sin(q @ V))(h(p)),
    "vmap inside": lambda p: jax.vmap(lambda t: jnp.sin(t * p).sum())(jnp.arange(6.0)),
    "grad inside": lambda p: jax.grad(lambda q: jnp.sin(h(q)).prod())(p),
    "hessian inside": lambda p: jnp.trace(jax.hessian(lambda q: jnp.tanh(h(q)).sum())(p)),
    "vjp inside": lambda p: jax.vjp(lambda q: jnp.tanh(h(q)), p)[1](h(p))[0],
    "custom_jvp": lambda p: own_jvp(h(p)),
    "custom_jvp of itself": lambda p: own_exp(h(p)),
    "custom_jvp in a derivative": lambda p: through_another(h(p)),
    "custom_jvp in a derivative, several results": lambda p: circle(h(p))[0] * circle(jnp.sin(h(p)))[1],
    "custom_jvp in a derivative, in a branch": lambda p: lax.cond(p[0] > 0, through_another, jnp.cos, h(p)),
    "custom_jvp in a scan": lambda p: lax.fori_loop(0, 6, lambda i, c: own_jvp(c), h(p) / 3),
    "straight through": lambda p: jnp.sin(straight_through(h(p))),
    "optimization barrier": lambda p: lax.optimization_barrier((jnp.sin(h(p)), p))[0],
}

FACTS: dict[str, Function] = {
    "constant": lambda p: jnp.ones(2) * 3.0,
    "Python number": lambda p: 1.0,
    "ignores inputs": lambda p: jnp.sin(p[1]),
    "identity": lambda p: p,
    "linear": lambda p: p @ W,
    "stop gradient": lambda p: jnp.sin(lax.stop_gradient(h(p))) * p[0],
    "random numbers": lambda p: h(p) * jax.random.normal(jax.random.key(0), (4,)),
    "integer weights": lambda p: jnp.sin(h(p)) * jnp.arange(4),
}

SINGLE = {"attention", "causal attention"}
"""Those that JAX itself carries out in float32: `jax.nn.dot_product_attention` casts its scores."""

GROUPS: dict[str, dict[str, Function]] = {
    "activations": ACTIVATIONS,
    "elementary": ELEMENTARY,
    "special": SPECIAL,
    "selection": SELECTION,
    "reductions": REDUCTIONS,
    "indexing": INDEXING,
    "products": PRODUCTS,
    "matrices": MATRICES,
    "control": CONTROL,
    "facts": FACTS,
}
