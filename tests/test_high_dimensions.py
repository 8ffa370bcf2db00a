"""The benchmark of high dimensions: its forcing, its variants, and the page written from its results."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np

import opdsl
from asv_benchmarks.high_dimensions import problem
from asv_benchmarks.high_dimensions.jax_steps import residuals
from asv_benchmarks.high_dimensions.report import section

D = 20


def test_the_forcing_is_that_of_the_solution() -> None:
    c, x = problem.coefficients(D), problem.ball(D, 7).astype(np.float64)
    op = opdsl.operator(problem.EQUATION, coords=f"x[{D}]", fields="u")
    want = op(lambda z: problem.solution(jnp, z, c), jnp.asarray(x), strategy="forward_laplacian")
    np.testing.assert_allclose(problem.forcing(np, x, c), want, rtol=1e-12)


def test_the_published_variant_estimates_what_ours_does() -> None:
    x = jnp.asarray(problem.ball(200, 3), jnp.float64)
    params = [(jnp.asarray(w, jnp.float64), jnp.asarray(b, jnp.float64)) for w, b in problem.weights(200)]
    of, key = residuals(200), jax.random.key(3)
    np.testing.assert_allclose(of["published"](params, x, key), of["stde"](params, x, key), rtol=1e-10)
    assert not np.allclose(of["exact"](params, x, key), of["stde"](params, x, key), rtol=1e-4)


def test_the_constant_fit_is_the_best_multiple() -> None:
    x = problem.ball(D, 50)
    q = 1.0 - (x.astype(np.float64) ** 2).sum(-1)
    assert problem.constant_fit(x, 3.0 * q) < 1e-14
    u = q + 0.1 * np.sin(10 * q)
    assert problem.constant_fit(x, u) < min(np.linalg.norm(k * q - u) / np.linalg.norm(u) for k in (0.9, 1.0, 1.1))


def test_the_page_says_what_was_met_and_what_was_missed() -> None:
    def results(exact: float, error: float) -> dict[str, object]:
        found = {"processor": {"stde": 1.0, "exact": exact}, "wall": {"stde": 1.0, "exact": 4.0}, "peak_gib": {"exact": 4.0}, "rounds": 5}
        race = {"seconds": 9.0, "steps": {"exact": 1, "stde": 2}, "curve": {"exact": [[1.0, error]], "stde": [[1.0, 0.2]]}, "constant_fit": 0.3}
        return {"facts": {"jax": "0"}, "steps": {"1000000": found}, "race": {"1000": race}}

    good, bad = section({"JAX": results(2.0, 0.1)}), section({"JAX": results(2.6, 0.3)})
    assert "| 10⁶ | 2 (4) |  |  | 5 |  | 4.00 |  |  |" in good
    assert re.findall(r": (met|missed), ", good) == ["met", "met", "met"]
    assert re.findall(r": (met|missed), ", bad) == ["missed", "missed", "met"]
