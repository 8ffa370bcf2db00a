"""Taylor recurrences against 50-digit coefficients: values, order 20, poles of accuracy, exactness, float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from references import assert_close

from opdsl import backends
from opdsl.jets.elementary import ELEMENTARY, Elementary, convolve, polynomial, power

NUMPY = backends.get("numpy").ops
JAX = backends.get("jax").ops
TORCH = backends.get("torch").ops


def _log_ndtr(h: Any) -> Any:
    return mpmath.log(mpmath.ncdf(h))


MEANING: dict[str, tuple[Callable[[Any], Any], tuple[float, ...]]] = {
    "exp": (mpmath.exp, (-2.0, 0.0, 3.0)),
    "expm1": (mpmath.expm1, (-2.0, 1e-9, 3.0)),
    "exp2": (lambda h: mpmath.power(2, h), (-2.0, 0.0, 3.0)),
    "reciprocal": (lambda h: 1 / h, (-1.5, 0.7, 4.0)),
    "log": (mpmath.log, (0.3, 1.0, 5.0)),
    "log2": (lambda h: mpmath.log(h, 2), (0.3, 1.0, 5.0)),
    "log10": (mpmath.log10, (0.3, 5.0)),
    "log1p": (mpmath.log1p, (-0.4, 1e-9, 5.0)),
    "square": (lambda h: h * h, (-2.0, 0.0, 3.0)),
    "cbrt": (lambda h: mpmath.sign(h) * mpmath.cbrt(abs(h)), (-2.0, 0.5, 8.0)),
    "sqrt": (mpmath.sqrt, (0.3, 1.0, 5.0)),
    "rsqrt": (lambda h: 1 / mpmath.sqrt(h), (0.3, 1.0, 5.0)),
    "sin": (mpmath.sin, (-2.0, 0.0, 30.0)),
    "cos": (mpmath.cos, (-2.0, 0.0, 30.0)),
    "tan": (mpmath.tan, (-1.0, 0.0, 0.5)),
    "sinh": (mpmath.sinh, (-2.0, 0.0, 3.0)),
    "cosh": (mpmath.cosh, (-2.0, 0.0, 3.0)),
    "tanh": (mpmath.tanh, (-2.0, 0.0, 0.5)),
    "asin": (mpmath.asin, (-0.5, 0.0, 0.6)),
    "acos": (mpmath.acos, (-0.5, 0.0, 0.6)),
    "atan": (mpmath.atan, (-2.0, 0.0, 0.6)),
    "asinh": (mpmath.asinh, (-2.0, 0.0, 0.6)),
    "acosh": (mpmath.acosh, (1.5, 4.0)),
    "atanh": (mpmath.atanh, (-0.5, 0.0, 0.6)),
    "sigmoid": (lambda h: 1 / (1 + mpmath.exp(-h)), (-3.0, 0.0, 2.0)),
    "softplus": (lambda h: mpmath.log1p(mpmath.exp(h)), (-3.0, 0.0, 2.0)),
    "log_sigmoid": (lambda h: -mpmath.log1p(mpmath.exp(-h)), (-3.0, 0.0, 2.0)),
    "silu": (lambda h: h / (1 + mpmath.exp(-h)), (-3.0, 0.0, 2.0)),
    "gelu": (lambda h: h * mpmath.ncdf(h), (-2.0, 0.0, 1.5)),
    "erf": (mpmath.erf, (-1.5, 0.0, 1.0)),
    "erfc": (mpmath.erfc, (-1.5, 0.0, 1.0)),
    "erfinv": (mpmath.erfinv, (-0.5, 0.0, 0.6)),
    "erfcx": (lambda h: mpmath.exp(h * h) * mpmath.erfc(h), (-1.0, 0.0, 1.0)),
    "ndtr": (mpmath.ncdf, (-1.5, 0.0, 1.0)),
    "ndtri": (lambda h: mpmath.sqrt(2) * mpmath.erfinv(2 * h - 1), (0.3, 0.6)),
    "log_ndtr": (_log_ndtr, (-3.0, 0.0, 1.5)),
    "gelu_tanh": (
        lambda h: h / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (h + mpmath.mpf(0.044715) * h**3))),
        (-1.5, 0.0, 1.0),
    ),
    "sinc": (lambda h: mpmath.sincpi(h), (-1.7, 0.0, 0.4, 3.2)),
    "power(2.5)": (lambda h: mpmath.power(h, 2.5), (0.3, 2.0)),
    "power(-3)": (lambda h: h**-3, (-1.2, 0.5)),
    "power(7)": (lambda h: h**7, (-1.2, 0.0, 2.0)),
}


def function(name: str) -> Elementary:
    return power(float(name[6:-1])) if name.startswith("power(") else ELEMENTARY[name]


def expansion(name: str, at: float, order: int) -> list[float]:
    with mpmath.workdps(60):
        return [float(c) for c in mpmath.taylor(MEANING[name][0], mpmath.mpf(at), order)]


def filled(terms: list[Any], like: Any) -> np.ndarray[Any, Any]:
    return np.stack([np.zeros_like(like) if t is None else np.broadcast_to(np.asarray(t), like.shape) for t in terms])


def test_every_function_of_the_table_is_compared() -> None:
    assert set(ELEMENTARY) <= set(MEANING)


@pytest.mark.parametrize("name", list(MEANING))
def test_coefficients(name: str) -> None:
    """c_k of σ(h_0 + n) = Σ c_k n^k, to order 8: 1e-13 of the largest term of the recurrence."""
    ops = TORCH if name in ("erfcx", "ndtr") else JAX
    for at in MEANING[name][1]:
        h = ops.xp.asarray([at, at], dtype=ops.xp.float64)
        found = filled(function(name).expand(ops, h, 8), np.zeros(2))[:, 0]
        truth = np.array(expansion(name, at, 8))
        # Near a singularity at distance ρ coefficients grow like ρ^-k, each has its own size.
        np.testing.assert_allclose(found, truth, rtol=2e-12, atol=1e-13 * np.max(np.abs(truth)))


@pytest.mark.parametrize("name", [n for n in MEANING if function(n).series is not None])
def test_series_of_a_series(name: str) -> None:
    """σ(h(t)) for h = h_0 + 0.3 t − 0.2 t² + 0.1 t⁴, against mpmath's expansion of the composition."""
    ops = TORCH if name in ("erfcx", "ndtr") else JAX
    at = MEANING[name][1][-1]
    with mpmath.workdps(60):
        composed = mpmath.taylor(
            lambda t: MEANING[name][0](mpmath.mpf(at) + t * (mpmath.mpf("0.3") - t / 5 + t**3 / 10)), 0, 7
        )
    h0 = ops.xp.asarray([at], dtype=ops.xp.float64)
    series = function(name).series
    assert series is not None
    found = filled(series(ops, [h0, 0.3, -0.2, None, 0.1, None, None, None]), np.zeros(1))[:, 0]
    truth = np.array([float(c) for c in composed])
    np.testing.assert_allclose(found, truth, rtol=1e-11, atol=1e-13 * np.max(np.abs(truth)))


@pytest.mark.parametrize("name", ["exp", "tanh", "sin", "sigmoid", "softplus", "gelu", "silu", "erf", "log", "sqrt"])
def test_order_twenty_in_float32(name: str) -> None:
    """The derivatives u^(20) = 20! c_20 reach 1e18; scaled coefficients stay near 1 and overflow nowhere."""
    at = MEANING[name][1][-1]
    found = filled(function(name).expand(NUMPY, np.array([at], dtype=np.float32), 20), np.zeros(1, np.float32))[:, 0]
    truth = np.array(expansion(name, at, 20))
    assert np.isfinite(found).all()
    assert_close(found, truth, 2e-5)


def test_special_functions_of_numpy() -> None:
    """Written with the array API alone: no overflow at ±800, one ulp elsewhere."""
    h = np.array([-800.0, -30.0, -1.0, 0.0, 1.0, 30.0, 800.0])
    np.testing.assert_allclose(NUMPY.special("sigmoid")(h), [0.0, 1 / (1 + math.exp(30.0)), 1 / (1 + math.e), 0.5,
                               math.e / (1 + math.e), 1 / (1 + math.exp(-30.0)), 1.0], rtol=1e-14)  # fmt: skip
    np.testing.assert_allclose(NUMPY.special("softplus")(h), [0.0, math.log1p(math.exp(-30.0)), math.log1p(math.exp(-1)), math.log(2),
                               1 + math.log1p(math.exp(-1)), 30.0, 800.0], rtol=1e-14, atol=1e-300)  # fmt: skip


@pytest.mark.parametrize(("exponent", "base", "expected"), [
    (3.0, 0.0, [0.0, 0.0, 0.0, 1.0, 0.0]),
    (3.0, -2.0, [-8.0, 12.0, -6.0, 1.0, 0.0]),
    (0.0, 0.0, [1.0, 0.0, 0.0, 0.0, 0.0]),
    (1.0, 5.0, [5.0, 1.0, 0.0, 0.0, 0.0]),
    (2.0, -3.0, [9.0, -6.0, 1.0, 0.0, 0.0]),
    (-1.0, 2.0, [0.5, -0.25, 0.125, -0.0625, 0.03125]),
])  # fmt: skip
def test_integer_powers_are_exact_at_zero_and_below(exponent: float, base: float, expected: list[float]) -> None:
    found = filled(power(exponent).expand(NUMPY, np.array([base]), 4), np.zeros(1))[:, 0]
    np.testing.assert_array_equal(found, expected)


def test_polynomials_are_exact() -> None:
    """1 − 2x + 3x³ at 2: value 21, slope −2 + 36, …"""
    found = filled(polynomial("p", (1.0, -2.0, 0.0, 3.0)).expand(NUMPY, np.array([2.0]), 4), np.zeros(1))[:, 0]
    np.testing.assert_array_equal(found, [21.0, 34.0, 18.0, 3.0, 0.0])


def test_convolution_of_a_series_with_itself_takes_the_short_way() -> None:
    a: list[Any] = [2.0, 3.0, None, 5.0]
    b = list(a)
    assert [convolve(a, a, k) for k in range(4)] == [convolve(a, b, k) for k in range(4)] == [4.0, 12.0, 9.0, 20.0]


def test_jax_arrays_stay_jax_arrays() -> None:
    assert isinstance(ELEMENTARY["tanh"].expand(JAX, jnp.ones(2), 3)[2], jnp.ndarray)
