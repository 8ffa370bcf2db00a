"""Special functions against 30-digit Taylor coefficients, and through operators on both frameworks."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import torch

import opdsl
from opdsl import backends
from opdsl.jets import special_functions
from opdsl.jets.elementary import Elementary
from opdsl.jets.special_functions import SPECIAL

ORDER = 6
JAX, TORCH = backends.get("jax").ops, backends.get("torch").ops
Case = tuple[Elementary, Callable[[Any], Any], tuple[float, ...], tuple[Any, ...]]

CASES: dict[str, Case] = {
    "lgamma": (SPECIAL["lgamma"], mpmath.loggamma, (0.3, 1.0, 7.5), (JAX, TORCH)),
    "digamma": (SPECIAL["digamma"], mpmath.digamma, (0.3, 1.0, 7.5), (JAX, TORCH)),
    "polygamma": (special_functions.polygamma(2), lambda t: mpmath.polygamma(2, t), (0.4, 3.0), (JAX, TORCH)),
    "zeta": (special_functions.hurwitz_zeta(3.5), lambda t: mpmath.zeta(3.5, t), (0.4, 3.0), (JAX, TORCH)),
    "gammainc": (
        special_functions.incomplete_gamma(torch.tensor(1.3, dtype=torch.float64), upper=False),
        lambda t: mpmath.gammainc(1.3, 0, t, regularized=True),
        (0.2, 1.0, 6.0),
        (TORCH,),
    ),
    "gammaincc": (
        special_functions.incomplete_gamma(np.float64(0.7), upper=True),
        lambda t: mpmath.gammainc(0.7, t, mpmath.inf, regularized=True),
        (0.2, 1.0, 6.0),
        (JAX,),
    ),
    "betainc": (
        special_functions.incomplete_beta(np.float64(1.3), np.float64(0.7)),
        lambda t: mpmath.betainc(1.3, 0.7, 0, t, regularized=True),
        (0.1, 0.5, 0.8),
        (JAX,),
    ),
    "spherical_bessel_j0": (SPECIAL["spherical_bessel_j0"], mpmath.sinc, (-2.0, 0.0, 0.3, 20.0), (JAX, TORCH)),
}


@cache
def _bessel(kind: str, nu: int, k: int, t: Any) -> Any:
    """The k-th derivative by 2 B_ν' = ± B_{ν−1} ± B_{ν+1}: mpmath's numerical ones are slow."""
    function = {"j": mpmath.besselj, "y": mpmath.bessely, "i": mpmath.besseli, "k": mpmath.besselk}[kind]
    if k == 0:
        return function(nu, t)
    down, up = {"j": (1, -1), "y": (1, -1), "i": (1, 1), "k": (-1, -1)}[kind]
    return (down * _bessel(kind, nu - 1, k - 1, t) + up * _bessel(kind, nu + 1, k - 1, t)) / 2


def _expansion(kind: str, nu: int, factor: int) -> Callable[[Any], list[Any]]:
    """Taylor coefficients of e^(factor·|t|) B_ν(t)."""

    def coefficients(t: Any) -> list[Any]:
        own = [_bessel(kind, nu, k, t) / mpmath.factorial(k) for k in range(ORDER + 1)]
        rate = factor * mpmath.sign(t)
        front = [mpmath.exp(rate * t) * rate**k / mpmath.factorial(k) for k in range(ORDER + 1)]
        return [sum(own[i] * front[k - i] for i in range(k + 1)) for k in range(ORDER + 1)]

    return coefficients


for _kind in "jyik":
    for _nu in (0, 1):
        _at = (-2.0, 0.0, 0.3, 5.0, 11.9, 30.0) if _kind in "ji" else (0.3, 2.0, 30.0)
        CASES[f"bessel_{_kind}{_nu}"] = (SPECIAL[f"bessel_{_kind}{_nu}"], _expansion(_kind, _nu, 0), _at, (TORCH,))
for _nu in (0, 1):
    _at = (-2.0, 0.3, 11.9, 12.1, -20.0)
    CASES[f"bessel_i{_nu}e"] = (SPECIAL[f"bessel_i{_nu}e"], _expansion("i", _nu, -1), _at, (JAX, TORCH))
    CASES[f"bessel_k{_nu}e"] = (SPECIAL[f"bessel_k{_nu}e"], _expansion("k", _nu, 1), (0.3, 20.0), (TORCH,))


def test_every_function_of_the_table_is_compared() -> None:
    assert set(SPECIAL) <= set(CASES)


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("name", CASES)
def test_coefficients(name: str) -> None:
    """Relative to the largest coefficient: 1e-16 from the framework's values, times what the recurrences and sums may lose."""
    function, exact, points, frameworks = CASES[name]
    for ops in frameworks:
        found = function.expand(ops, ops.xp.asarray(points, dtype=ops.xp.float64), ORDER)
        for i, at in enumerate(points):
            with mpmath.workdps(30):
                t = mpmath.mpf(at)
                terms = exact(t) if name.startswith("bessel") else mpmath.taylor(exact, t, ORDER)
                truth = np.array([float(mpmath.re(c)) for c in terms])
            here = np.array([float(np.asarray(c)[i]) for c in found])
            # Torch's own trigamma is good to nine digits.
            rough = ops is TORCH and name in ("lgamma", "digamma")
            atol = (1e-9 if rough else 1e-12) * np.abs(truth).max()
            np.testing.assert_allclose(here, truth, rtol=1e-11, atol=atol, err_msg=f"{name} at {at}")


TORCH_FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "bessel_j0": (torch.special.bessel_j0, lambda t: mpmath.besselj(0, t)),
    "i0": (torch.special.i0, lambda t: mpmath.besseli(0, t)),
    "i1e": (torch.special.i1e, lambda t: mpmath.exp(-t) * mpmath.besseli(1, t)),
    "modified_bessel_i1": (torch.special.modified_bessel_i1, lambda t: mpmath.besseli(1, t)),
    "spherical_bessel_j0": (torch.special.spherical_bessel_j0, mpmath.sinc),
    "zeta": (lambda t: torch.special.zeta(torch.full_like(t, 2.5), t), lambda t: mpmath.zeta(2.5, t)),
    "gammainc": (
        lambda t: torch.special.gammainc(torch.full_like(t, 2.5), t), lambda t: mpmath.gammainc(2.5, 0, t, regularized=True)
    ),
    "polygamma": (lambda t: torch.special.polygamma(1, t), lambda t: mpmath.polygamma(1, t)),
    "multigammaln": (
        lambda t: torch.special.multigammaln(t + 2, 2),
        lambda t: mpmath.loggamma(t + 2) + mpmath.loggamma(t + 1.5) + mpmath.log(mpmath.pi) / 2,
    ),
    "xlog1py": (lambda t: torch.special.xlog1py(t, t), lambda t: t * mpmath.log1p(t)),
    "entr": (torch.special.entr, lambda t: -t * mpmath.log(t)),
}  # fmt: skip
_s = jax.scipy.special
JAX_FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "exp1": (_s.exp1, mpmath.e1),
    "expi": (_s.expi, mpmath.ei),
    "expn": (lambda t: _s.expn(3, t), lambda t: mpmath.expint(3, t)),
    "i0": (_s.i0, lambda t: mpmath.besseli(0, t)),
    "i1": (_s.i1, lambda t: mpmath.besseli(1, t)),
    "gammainc": (lambda t: _s.gammainc(2.5, t), lambda t: mpmath.gammainc(2.5, 0, t, regularized=True)),
    "betainc": (lambda t: _s.betainc(2.5, 0.6, t), lambda t: mpmath.betainc(2.5, 0.6, 0, t, regularized=True)),
    "polygamma": (lambda t: _s.polygamma(1, t), lambda t: mpmath.polygamma(1, t)),
    "beta": (lambda t: _s.beta(t, 1.5), lambda t: mpmath.beta(t, 1.5)),
    "log_ndtr": (_s.log_ndtr, lambda t: mpmath.log(mpmath.ncdf(t))),
    "spence": (_s.spence, lambda t: mpmath.polylog(2, 1 - t)),
    "kl_div": (lambda t: _s.kl_div(t, 2.0), lambda t: t * mpmath.log(t / 2) - t + 2),
}
POINTS = (0.31, 0.62)


@pytest.mark.family(keep=3)
@pytest.mark.parametrize(
    ("backend", "name"), [*(("torch", n) for n in TORCH_FUNCTIONS), *(("jax", n) for n in JAX_FUNCTIONS)]
)
def test_operators_of_special_functions(backend: str, name: str) -> None:
    """Orders 2 and 5 of f(x) by one operator each."""
    function, exact = (TORCH_FUNCTIONS if backend == "torch" else JAX_FUNCTIONS)[name]
    x: Any = torch.tensor(POINTS, dtype=torch.float64)[:, None] if backend == "torch" else jnp.asarray(POINTS)[:, None]
    for order, text in ((2, "u_xx"), (5, "u_xxxxx")):
        op = opdsl.operator(text, coords="x")
        found = op(lambda p: function(p[:, 0] if backend == "torch" else p[0]), x, strategy="n_tangentprop")
        with mpmath.workdps(40):
            truth = [float(mpmath.taylor(exact, mpmath.mpf(t), order)[order] * math.factorial(order)) for t in POINTS]
        np.testing.assert_allclose(np.asarray(found), truth, rtol=1e-9, atol=1e-11 * np.abs(truth).max())
