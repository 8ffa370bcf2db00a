"""NaN in, NaN out, in values and derivatives; infinities, signed zeros, denormals and dtypes as the framework's own function has them.

The oracle is the framework itself: its own value, and its own first derivative where that is finite.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax import lax, nn
from jax.scipy import special

from opdsl import backends, operator
from opdsl.errors import OpdslError, StrategyError
from opdsl.jets.directional import Directional
from opdsl.jets.jet import Jet
from opdsl.jets.propagate import push_forward

Function = Callable[[Any], Any]
POINTS = np.array([math.nan, math.inf, -math.inf, 0.0, -0.0, 0.0, 1e30, 0.3, -0.7])
LOOSE = {"hardsigmoid": 1e-7}  # torch keeps a sixth in single precision
TINY = {"float32": 1e-40, "float64": 1e-310}


def _named(module: Any, names: str, prefix: str = "") -> dict[str, Function]:
    return {prefix + name: getattr(module, name) for name in names.split()}


JAX: dict[str, Function] = {
    **_named(
        jnp,
        "exp exp2 expm1 log log1p log2 log10 sqrt cbrt square reciprocal sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh "
        "arccosh arctanh sinc abs sign floor ceil rint trunc negative",
    ),
    **_named(nn, "relu relu6 silu softplus sigmoid log_sigmoid leaky_relu hard_tanh elu selu gelu mish soft_sign"),
    **_named(special, "erf erfc erfinv ndtr log_ndtr ndtri digamma gammaln i0e i1e"),
    "rsqrt": lax.rsqrt,
    "gelu exact": lambda x: nn.gelu(x, approximate=False),
    "maximum": lambda x: jnp.maximum(x, 0.5),
    "minimum": lambda x: jnp.minimum(0.5, x),
    "clip": lambda x: jnp.clip(x, -0.5, 0.5),
    "copysign": lambda x: jnp.copysign(x, -1.0),
    "x³": lambda x: x**3,
    "x⁻²": lambda x: x**-2,
    "x^1.5": lambda x: x**1.5,
    "x⁰": lambda x: x ** jnp.zeros_like(x),
    "2^x": lambda x: 2.0**x,
    "x mod 1": lambda x: jnp.mod(x, 1.0),
    "atan2": lambda x: jnp.arctan2(x, jnp.ones_like(x)),
    "hypot": lambda x: jnp.hypot(x, jnp.ones_like(x)),
    "logaddexp": lambda x: jnp.logaddexp(x, jnp.ones_like(x)),
}
TORCH: dict[str, Function] = {
    **_named(
        torch,
        "exp exp2 expm1 log log1p log2 log10 sqrt rsqrt square reciprocal sin cos tan asin acos atan sinh cosh tanh asinh acosh "
        "atanh sinc abs floor ceil round trunc negative erf erfc erfinv sigmoid lgamma digamma frac sgn sign",
    ),
    **_named(torch.special, "ndtr log_ndtr ndtri erfcx i0e i1e bessel_j0"),
    **_named(
        F, "relu relu6 silu softplus logsigmoid leaky_relu hardtanh elu selu gelu mish softsign hardswish hardsigmoid softshrink"
    ),
    "prelu": lambda x: F.prelu(x, torch.full((1,), 0.25, dtype=x.dtype)),
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "maximum": lambda x: torch.maximum(x, torch.full_like(x, 0.5)),
    "minimum": lambda x: torch.minimum(torch.full_like(x, 0.5), x),
    "clamp": lambda x: torch.clamp(x, -0.5, 0.5),
    "copysign": lambda x: torch.copysign(x, torch.full_like(x, -1.0)),
    "x³": lambda x: x**3,
    "x⁻²": lambda x: x**-2.0,
    "x^1.5": lambda x: x**1.5,
    "x⁰": lambda x: x**0,
    "2^x": lambda x: 2.0**x,
    "x mod 1": lambda x: torch.remainder(x, 1.0),
    "atan2": lambda x: torch.atan2(x, torch.ones_like(x)),
    "hypot": lambda x: torch.hypot(x, torch.ones_like(x)),
    "logaddexp": lambda x: torch.logaddexp(x, torch.ones_like(x)),
}


def _array_api() -> dict[str, Function]:
    return {
        **_spaced("exp expm1 log log1p log2 log10 sqrt square reciprocal sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh "
                     "abs sign floor ceil round trunc negative"),
        "maximum": lambda x: _space(x).maximum(x, _space(x).full_like(x, 0.5)),
        "minimum": lambda x: _space(x).minimum(_space(x).full_like(x, 0.5), x),
        "relu": lambda x: _space(x).maximum(x, _space(x).zeros_like(x)),
        "clip": lambda x: _space(x).clip(x, -0.5, 0.5),
        "copysign": lambda x: _space(x).copysign(x, -_space(x).ones_like(x)),
        "x³": lambda x: x**3,
        "x⁻²": lambda x: x**-2.0,
        "x^1.5": lambda x: x**1.5,
        "x⁰": lambda x: x**0.0,
        "2^x": lambda x: 2.0**x,
        "x mod 1": lambda x: x % 1.0,
        "atan2": lambda x: _space(x).atan2(x, _space(x).ones_like(x)),
        "hypot": lambda x: _space(x).hypot(x, _space(x).ones_like(x)),
        "logaddexp": lambda x: _space(x).logaddexp(x, _space(x).ones_like(x)),
    }  # fmt: skip


def _spaced(names: str) -> dict[str, Function]:
    return {name: (lambda x, name=name: getattr(_space(x), name)(x)) for name in names.split()}


def _space(x: Any) -> Any:
    return x.__array_namespace__()


CASES = [
    (backend, name)
    for backend, table in {"jax": JAX, "torch": TORCH, "numpy": _array_api(), "strict": _array_api()}.items()
    for name in table
]
# Their slope does not depend on where it is taken: a constant, or 0 between the jumps.
STRAIGHT = frozenset("floor ceil rint round trunc sign sgn negative x⁰ frac".split()) | {"x mod 1"}
# Second derivatives that are the same everywhere, or 0 between kinks.
BENT = (
    STRAIGHT
    | frozenset(
        "square abs relu relu6 leaky_relu hard_tanh hardtanh maximum minimum clip clamp copysign prelu softshrink".split()
    )
    | {"hardsigmoid"}
)


def _functions(backend: str) -> dict[str, Function]:
    return {"jax": JAX, "torch": TORCH}.get(backend) or _array_api()


def _array(backend: str, values: list[float], dtype: str) -> Any:
    if backend == "torch":
        return torch.tensor(values, dtype=getattr(torch, dtype))
    return {"jax": jnp, "numpy": np, "strict": array_api_strict}[backend].asarray(
        values, dtype=dtype if backend != "strict" else getattr(array_api_strict, dtype)
    )


@functools.cache
def _results(backend: str, dtype: str) -> tuple[Any, Any, Any]:
    """Value, first and second derivatives of all functions by one pass of jets; their own values; their own slopes."""
    functions = list(_functions(backend).values())
    x = _array(backend, [*POINTS[:5], TINY[dtype], *POINTS[6:]], dtype)
    xp = _space(x) if backend != "torch" else torch
    engine = backends.get("numpy" if backend == "strict" else backend)
    engine = engine.for_array(x) if backend == "strict" else engine

    def net(p: Any) -> Any:
        t = p[..., 0]
        return (
            xp.stack([f(t) for f in functions], -1) if backend == "torch" else _space(p).stack([f(t) for f in functions], axis=-1)
        )

    capture = engine.capture(net, x[:, None])
    ops, algebra, axis = engine.ops, Directional([(1, 2)]), None if engine.ops.per_point else 0

    def push(point: Any) -> tuple[Any, ...]:
        seed = Jet(point, (ops.xp.ones_like(point)[None, ...], None), (True, True) if axis is None else (False, False), axis)
        (jet,) = push_forward(capture.graph, algebra, seed, capture.constants, ops, frozenset({0, 1}))
        return jet.primal, *(p[0, ...] for p in jet.parts)

    found = jax.jit(jax.vmap(push))(x[:, None]) if backend == "jax" else push(x[:, None])
    own = jax.jit(jax.vmap(net))(x[:, None]) if backend == "jax" else net(x[:, None])
    slopes = None
    if backend == "jax":
        slopes = np.asarray(jax.jit(jax.vmap(jax.jacfwd(net)))(x[:, None]))[..., 0]
    elif backend == "torch":
        slopes = np.stack([_slope(f, x) for f in functions], -1)
    return tuple(np.asarray(a.detach() if backend == "torch" else a) for a in found), np.asarray(own), slopes


def _slope(function: Function, x: Any) -> Any:
    points = x.clone().requires_grad_(True)
    y = function(points)
    return torch.autograd.grad(y.sum(), points)[0].numpy(force=True) if y.requires_grad else np.zeros(x.shape)


@pytest.mark.family(keep=5)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("backend", "name"), CASES)
def test_special_values(backend: str, name: str, dtype: str) -> None:
    (u, first, second), own, slopes = _results(backend, dtype)
    assert u.dtype == first.dtype == second.dtype == np.dtype(dtype)
    k = list(_functions(backend)).index(name)
    tolerance = 64 * float(np.finfo(dtype).eps)
    tiny = float(np.finfo(dtype).tiny)
    # Torch's gelu is nan at infinity in half of its kernels.
    sure = ~(np.isnan(own[:, k]) & np.isinf(POINTS))
    np.testing.assert_allclose(u[sure, k], own[sure, k], rtol=tolerance, atol=tiny, err_msg="value")
    if name not in STRAIGHT:
        assert math.isnan(first[0, k])
    if name not in BENT:
        assert math.isnan(second[0, k])
    if slopes is not None and name != "bessel_j0":  # torch has no derivative of it
        # Kinks have a test of their own; far out the frameworks' own derivatives overflow and vanish on the way.
        ours, slope = first[:, k], slopes[:, k]
        sure = np.isfinite(slope) & (np.abs(POINTS) < 2) & ((POINTS != 0) | (name not in BENT | {"cbrt"}))
        np.testing.assert_allclose(ours[sure], slope[sure], rtol=max(tolerance, LOOSE.get(name, 0.0)), atol=tiny, err_msg="slope")
        far = np.isfinite(slope) & np.isfinite(ours) & (np.abs(POINTS) > 2)
        np.testing.assert_allclose(ours[far], slope[far], rtol=tolerance, atol=1e-25, err_msg="slope far out")


TEXTS = (
    "max(u, 0)", "min(u, 0)", "relu(u)", "heaviside(u)", "abs(u)", "sign(u)", "sigmoid(u)", "softplus(u)", "d_x(max(u, 0))",
    "d_x(min(0, u))", "d_x(relu(u))", "d_x(abs(u))", "d_xx(max(u, x)^2)",
)  # fmt: skip


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy"])
def test_the_language_does_not_hide_divergence(backend: str) -> None:
    x = _array(backend, [0.3, -0.7], "float64")[:, None]

    def net(p: Any) -> Any:
        xp = {"jax": jnp, "torch": torch}.get(backend) or _space(p)
        return xp.log(p[..., 0])  # nan at the second point

    with np.errstate(invalid="ignore"):
        found = operator("; ".join(TEXTS), coords="x", fields="u")(net, x)
    for text, values in zip(TEXTS, found, strict=True):
        assert np.isfinite(np.asarray(values)[0]), text
        assert np.isnan(np.asarray(values)[1]), text


def test_scatter_multiply_with_repeated_indices() -> None:
    """x.at[(0, 0, 2)].multiply((p, p², 3p)) against the product written out."""
    places = jnp.array([0, 0, 2])

    def scattered(p: Any) -> Any:
        return jnp.array([1.5, -0.7, 2.0, 0.0]).at[places].multiply(jnp.stack([p[0], p[0] ** 2, 3 * p[0]])) * p[0]

    def plain(p: Any) -> Any:
        return jnp.stack([1.5 * p[0] ** 3, jnp.full((), -0.7), 6.0 * p[0], jnp.zeros(())]) * p[0]

    x = jnp.array([[0.7], [-1.3], [0.0]])
    op = operator("d_xxx(u_i)", coords="x", fields="u[4]")
    hessian = jax.vmap(jax.jacfwd(jax.jacfwd(jax.jacfwd(plain))))(x)[..., 0, 0, 0]
    np.testing.assert_allclose(op(scattered, x), hessian, rtol=1e-13, atol=1e-13)
    with pytest.raises(StrategyError, match=r"'nested_ad' does not apply .*: JAX itself has no derivative .*unique_indices.*Applicable: n_tan"):
        op(scattered, x, strategy="nested_ad")


def test_what_jax_cannot_differentiate_is_planned_without_its_derivatives() -> None:
    """A gradient is cheapest by reverse mode, which JAX lacks for a multiplied scatter with repeated indices: alone, and in a loop."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(2, 30)))
    places, base = jnp.array([0, 0, 2]), jnp.array([1.5, -0.7, 2.0, 0.0])

    def scattered(p: Any) -> Any:
        return base.at[places].multiply(jnp.tanh(p @ weights)[:3])[0] * p[0]

    def looped(p: Any) -> Any:
        h = jnp.tanh(p @ weights)
        return lax.scan(lambda c, _: (c, base.at[places].multiply(h[:3])[0]), 0.0, None, length=2)[1][1] * p[0]

    def plain(p: Any) -> Any:
        h = jnp.tanh(p @ weights)
        return 1.5 * h[0] * h[1] * p[0]

    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))
    op = operator("|grad(u)|^2", coords="x y", fields="u")
    distinct = jnp.array([0, 1, 2])
    twin = op.plan(lambda p: base.at[distinct].multiply(jnp.tanh(p @ weights)[:3], unique_indices=True)[0] * p[0], x)
    assert twin.groups[0].strategy == "reverse_gradient"
    truth = jnp.sum(jax.vmap(jax.grad(plain))(x) ** 2, axis=1)
    for function in (scattered, looped):
        refused = {c.strategy: c.why for c in op.plan(function, x).groups[0].candidates}
        for name in ("reverse_gradient", "nested_ad"):
            assert refused[name].startswith("does not apply: JAX itself has no derivative of this function (scatter_mul"), name
        np.testing.assert_allclose(op(function, x), truth, rtol=1e-13)


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy"])
@pytest.mark.parametrize("value", [1 + 2j, np.complex64(2j), np.array([1j, 2.0]), [1j, 2j], np.array(1 + 0j)], ids=str)
def test_complex_bindings_are_refused(backend: str, value: Any) -> None:
    x = _array(backend, [0.3, -0.7], "float64")[:, None]
    for text, fields in (("k u_x", "u"), ("i u_t + k u_x", "u:complex")):
        op = operator(text, coords="t x" if "t" in text else "x", fields=fields, params="k")
        points = _array(backend, [[0.1, 0.3], [0.2, -0.7]], "float64") if "t" in text else x
        with pytest.raises(OpdslError, match="complex"):
            op(lambda p: p, points, k=value)
