"""Values at kinks are those that docs/coverage.md states; large arguments give finite and right derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from jax import lax, nn

import opdsl
from docs.generate.coverage import KINKS

Function = Callable[[Any], Any]


def _t(x: Any) -> Any:
    return torch.stack([x, 2 * x], 1)


def _j(x: Any) -> Any:
    return jnp.stack([x, 2 * x])


def _n(x: Any) -> Any:
    return x.__array_namespace__().stack([x, 2 * x], axis=1)


# Functions of one number on JAX, of a vector on torch and NumPy; and the point.
FUNCTIONS: dict[str, tuple[Function | None, Function | None, Function | None, float]] = {
    "relu(x) at 0": (nn.relu, F.relu, None, 0.0),
    "relu6(x) at 0": (nn.relu6, F.relu6, None, 0.0),
    "relu6(x) at 6": (nn.relu6, F.relu6, None, 6.0),
    "hardtanh(x) at 1": (nn.hard_tanh, F.hardtanh, None, 1.0),
    "leaky_relu(x) at 0": (nn.leaky_relu, F.leaky_relu, None, 0.0),
    "softshrink(x) at ½": (None, F.softshrink, None, 0.5),
    "elu(x) at 0": (nn.elu, F.elu, None, 0.0),
    "|x| at 0": (jnp.abs, torch.abs, np.abs, 0.0),
    "copysign(x, −1) at 0": (
        lambda x: jnp.copysign(x, -1.0),
        lambda x: torch.copysign(x, torch.tensor(-1.0)),
        lambda x: np.copysign(x, -1.0),
        0.0,
    ),
    "max(x, 0) at 0": (
        lambda x: jnp.maximum(x, 0.0),
        lambda x: torch.maximum(x, torch.zeros_like(x)),
        lambda x: np.maximum(x, 0.0),
        0.0,
    ),
    "min(x, 0) at 0": (
        lambda x: jnp.minimum(x, 0.0),
        lambda x: torch.minimum(x, torch.zeros_like(x)),
        lambda x: np.minimum(x, 0.0),
        0.0,
    ),
    "max(x, −x) at 0": (
        lambda x: jnp.maximum(x, -x),
        lambda x: torch.maximum(x, -x),
        lambda x: np.maximum(x, -x),
        0.0,
    ),
    "clip(x, 0, 1) at 0": (lambda x: jnp.clip(x, 0, 1), lambda x: torch.clamp(x, 0, 1), lambda x: np.clip(x, 0, 1), 0.0),
    "clip(x, 0, 1) at 1": (lambda x: jnp.clip(x, 0, 1), lambda x: torch.clamp(x, 0, 1), lambda x: np.clip(x, 0, 1), 1.0),
    "clip from below by 0, at 0": (
        lambda x: jnp.clip(x, 0),
        lambda x: torch.clamp(x, min=0),
        lambda x: np.clip(x, 0, None),
        0.0,
    ),
    "the largest of (x, 2x) at 0, as a reduction": (
        lambda x: _j(x).max(),
        lambda x: _t(x).amax(1),
        lambda x: np.max(_n(x), 1),
        0.0,
    ),
    "the largest of (x, 2x) at 0, with its index": (None, lambda x: _t(x).max(1)[0], None, 0.0),
    "max pooling of (x, 2x) at 0": (None, lambda x: F.max_pool1d(_t(x)[:, None], 2)[:, 0, 0], None, 0.0),
    "sort(x, 2x) at 0, its first entry": (
        lambda x: jnp.sort(_j(x))[0],
        lambda x: _t(x).sort(1)[0][:, 0],
        lambda x: np.sort(_n(x), axis=1)[:, 0],
        0.0,
    ),
    "cummax(x, 2x) at 0, its last entry": (lambda x: lax.cummax(_j(x))[1], lambda x: _t(x).cummax(1)[0][:, 1], None, 0.0),
    "floor(x) at 0": (jnp.floor, torch.floor, np.floor, 0.0),
    "sign(x) at 0": (jnp.sign, torch.sign, np.sign, 0.0),
    "x mod 1 at 1": (lambda x: jnp.mod(x, 1.0), lambda x: torch.remainder(x, 1.0), lambda x: x % 1.0, 1.0),
    "where(x > 0, 2x, 3x) at 0": (
        lambda x: jnp.where(x > 0, 2 * x, 3 * x),
        lambda x: torch.where(x > 0, 2 * x, 3 * x),
        lambda x: np.where(x > 0, 2 * x, 3 * x),
        0.0,
    ),
}


def _derivative(backend: str, function: Function, at: float, text: str, **options: Any) -> float:
    x: Any = {"jax": jnp.asarray, "torch": torch.tensor, "numpy": np.asarray}[backend]([[at]])
    x = x.double() if backend == "torch" else x
    net = (lambda p: function(p[0])) if backend == "jax" else (lambda p: function(p[:, 0]))
    return float(opdsl.operator(text, coords="x")(net, x, **options)[0])


@pytest.mark.parametrize(("text", "value"), KINKS)
def test_values_at_kinks(text: str, value: float) -> None:
    """One value for all backends."""
    *functions, at = FUNCTIONS[text]
    for backend, function in zip(("jax", "torch", "numpy"), functions, strict=True):
        if function is not None:
            for strategy in ("n_tangentprop", "collapsed_taylor"):
                assert _derivative(backend, function, at, "u_x + u_xx - u_xx", strategy=strategy) == value, (backend, strategy)


# The same functions as functions of the language, of u = x.
IN_TEXTS = {
    "relu(x) at 0": "relu(u)",
    "|x| at 0": "|u|",
    "max(x, 0) at 0": "max(u, 0)",
    "min(x, 0) at 0": "min(u, 0)",
    "max(x, −x) at 0": "max(u, -u)",
    "sign(x) at 0": "sign(u)",
    "where(x > 0, 2x, 3x) at 0": "where(u > 0, 2 u, 3 u)",
}


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy"])
def test_values_at_kinks_in_texts(backend: str) -> None:
    """``d_x(max(u, 0))`` is what u_x is of a network that takes the maximum; NaN stays NaN."""
    stated = dict(KINKS)
    text = "; ".join(f"d_x({function})" for function in IN_TEXTS.values())
    second = "; ".join(f"d_x d_x({function})" for function in IN_TEXTS.values())
    x: Any = {"jax": jnp.asarray, "torch": torch.tensor, "numpy": np.asarray}[backend]([[0.0], [2.0], [-2.0], [math.nan]])
    first, curved = (opdsl.operator(t, coords="x", fields="u")(lambda p: p[..., 0], x) for t in (text, second))
    for (name, function), slope, bend in zip(IN_TEXTS.items(), first, curved, strict=True):
        at, right, left, nowhere = map(float, slope)
        assert at == stated[name], function
        assert (right, left) == {"relu(u)": (1, 0), "max(u, 0)": (1, 0), "min(u, 0)": (0, 1), "sign(u)": (0, 0)}.get(
            function, (2, 3) if "where" in function else (1, -1)
        ), function
        assert math.isnan(nowhere) or function in ("sign(u)", "where(u > 0, 2 u, 3 u)"), function
        assert [float(b) for b in bend[:3]] == [0, 0, 0], function


def test_the_mean_is_taken_of_both_derivatives() -> None:
    """max(sin x, x − x³): equal at 0 with slopes 1 and 1, curvatures 0 and 0, third derivatives −1 and −6."""
    op = opdsl.operator("d_x d_x d_x(max(u, v)); d_x d_x d_x(min(u, v))", coords="x", fields="u v")
    both = op(lambda p: np.stack([np.sin(p[:, 0]), p[:, 0] - p[:, 0] ** 3], 1), np.zeros((1, 1)))
    assert [float(value[0]) for value in both] == [-3.5, -3.5]


def test_undefined_derivatives_are_not_numbers() -> None:
    for backend, norm, root in (
        ("jax", lambda x: jnp.linalg.norm(_j(x)), jnp.sqrt),
        ("torch", lambda x: torch.linalg.vector_norm(_t(x), dim=1), torch.sqrt),
    ):
        assert math.isnan(_derivative(backend, norm, 0.0, "u_x", strategy="n_tangentprop"))
        assert not math.isfinite(_derivative(backend, root, 0.0, "u_xx", strategy="n_tangentprop"))


def test_nested_differentiation_passes_a_threshold() -> None:
    assert _derivative("torch", lambda x: F.threshold(x, 0.1, 20.0) ** 2, 0.7, "u_xx", strategy="nested_ad") == 2.0


def _pair(xp: Any) -> Function:
    return lambda x: xp.stack([x, 0.5 * x + 1.0], -1)


def _sigmoid(t: Any) -> Any:
    return 1 / (1 + mpmath.exp(-t))


LARGE: dict[str, tuple[Function, Function, Function]] = {
    "tanh": (jnp.tanh, torch.tanh, mpmath.tanh),
    "sigmoid": (nn.sigmoid, torch.sigmoid, _sigmoid),
    "softplus": (nn.softplus, F.softplus, lambda t: mpmath.log1p(mpmath.exp(t))),
    "log sigmoid": (nn.log_sigmoid, F.logsigmoid, lambda t: -mpmath.log1p(mpmath.exp(-t))),
    "erf": (lax.erf, torch.erf, mpmath.erf),
    "silu": (nn.silu, F.silu, lambda t: t * _sigmoid(t)),
    "gelu": (lambda x: nn.gelu(x, approximate=False), F.gelu, lambda t: t * mpmath.ncdf(t)),
    "gelu tanh": (
        nn.gelu,
        lambda x: F.gelu(x, approximate="tanh"),
        lambda t: t / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (t + mpmath.mpf(0.044715) * t**3))),
    ),
    "mish": (nn.mish, F.mish, lambda t: t * mpmath.tanh(mpmath.log1p(mpmath.exp(t)))),
    "elu": (nn.elu, F.elu, lambda t: t if t > 0 else mpmath.expm1(t)),
    "logsumexp": (
        lambda x: nn.logsumexp(_pair(jnp)(x)),
        lambda x: torch.logsumexp(_pair(torch)(x), -1),
        lambda t: mpmath.log(mpmath.exp(t) + mpmath.exp(t / 2 + 1)),
    ),
    "logaddexp": (
        lambda x: jnp.logaddexp(x, 0.5 * x + 1),
        lambda x: torch.logaddexp(x, 0.5 * x + 1),
        lambda t: mpmath.log(mpmath.exp(t) + mpmath.exp(t / 2 + 1)),
    ),
    "softmax": (
        lambda x: nn.softmax(_pair(jnp)(x))[0],
        lambda x: torch.softmax(_pair(torch)(x), -1)[:, 0],
        lambda t: mpmath.exp(t) / (mpmath.exp(t) + mpmath.exp(t / 2 + 1)),
    ),
}
POINTS = (-1e4, -500.0, -40.0, 40.0, 500.0, 1e4)


@pytest.mark.family(keep=5)
@pytest.mark.parametrize("backend", ["jax", "torch"])
@pytest.mark.parametrize("name", LARGE)
def test_large_arguments(name: str, backend: str) -> None:
    """Orders 0 to 5 at once: u, u_x, …, u_xxxxx."""
    function = LARGE[name][0 if backend == "jax" else 1]
    x: Any = jnp.asarray(POINTS)[:, None] if backend == "jax" else torch.tensor(POINTS, dtype=torch.float64)[:, None]
    op = opdsl.operator("; ".join(["0*u_x + u", *("u_" + "x" * k for k in range(1, 6))]), coords="x")
    found = op((lambda p: function(p[0])) if backend == "jax" else (lambda p: function(p[:, 0])), x, strategy="n_tangentprop")
    for i, at in enumerate(POINTS):
        with mpmath.workdps(40 + int(abs(at))):
            terms = mpmath.taylor(LARGE[name][2], mpmath.mpf(at), 5) if abs(at) < 100 else _tail(LARGE[name][2], at)
            truth = [float(c * math.factorial(k)) for k, c in enumerate(terms)]
        here = [float(np.asarray(values)[i]) for values in found]
        # Coefficients are rounded at the size of 1, derivatives are up to 5! times as large.
        np.testing.assert_allclose(here, truth, rtol=1e-12, atol=120 * 2.0**-53, err_msg=f"{name} at {at}")


def _tail(function: Function, at: float) -> list[Any]:
    """Far out everything is a straight line up to e^−100: value and slope tell all."""
    value, step = function(mpmath.mpf(at)), function(mpmath.mpf(at) + 1)
    return [value, step - value, 0, 0, 0, 0]
