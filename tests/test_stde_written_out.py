"""Estimates of sums that are written out term by term: in few dimensions, and of any derivatives in many."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engines import Engine

import opdsl
from opdsl import STDE
from opdsl.errors import StrategyError
from opdsl.strategies.linear_operators import DerivativeTerm, LinearOperator, split
from opdsl.strategies.stde_monomials import as_forms, inclusion

D, KEYS = 6, 200
RNG = np.random.default_rng(0)
W, A = RNG.normal(size=D) / 2, RNG.normal(size=(D, D))
POINTS = RNG.normal(size=(3, D)) * 0.4
SIN, COS = np.sin, np.cos
CUBES = " + ".join(f"{k + 1} u_{{x_{k} x_{k} x_{(k + 1) % D}}}" for k in range(D))
FOURTHS = " + ".join(f"{(-1) ** k * (k + 1)} u_{{x_{k} x_{k} x_{(k + 1) % D} x_{(k + 2) % D}}}" for k in range(D))


def ridge(order: int, x: Any, weights: Any = W) -> Any:
    """sin(w·x) has ∂^α = w^α · (the |α|-th derivative of sine)."""
    return (SIN, COS, lambda z: -SIN(z), lambda z: -COS(z), SIN)[order](x @ weights)


def u(xp: Any, weights: Any) -> Any:
    return lambda x: xp.sin(x @ weights)


#        text, coordinates, the closed form at points (n, D), the distributions that estimate it
CASES: tuple[tuple[str, Any, str], ...] = (
    ("laplace(u)", lambda x: (W**2).sum() * ridge(2, x), "crg"),
    ("u_{x_0} + laplace(u) - u", lambda x: W[0] * ridge(1, x) + (W**2).sum() * ridge(2, x) - ridge(0, x), "crg"),
    (" + ".join(f"{k + 1} u_{{x_{k} x_{k}}}" for k in range(D)) + " + 5 u_{x_0 x_3} - 2 u_{x_1 x_3} + u_{x_2 x_3}",
     lambda x: ((np.arange(D) + 1) @ W**2 + 5 * W[0] * W[3] - 2 * W[1] * W[3] + W[2] * W[3]) * ridge(2, x), "crg"),
    (" + ".join(f"u_{{x_{k} x_{k} x_{k} x_{k}}}" for k in range(D)), lambda x: (W**4).sum() * ridge(4, x), "crg"),
    ("Δ²u", lambda x: (W**2).sum() ** 2 * ridge(4, x), "crg"),
    (CUBES, lambda x: sum((k + 1) * W[k] ** 2 * W[(k + 1) % D] for k in range(D)) * ridge(3, x), "c"),
    (FOURTHS, lambda x: sum((-1) ** k * (k + 1) * W[k] ** 2 * W[(k + 1) % D] * W[(k + 2) % D] for k in range(D)) * ridge(4, x), "c"),
)  # fmt: skip
NAMES = {"c": "coordinates", "r": "rademacher", "g": "gaussian"}
PAIRS = [(*case[:2], NAMES[k], k in case[2]) for case in CASES for k in "crg"]


@pytest.mark.family(keep=3)
@pytest.mark.parametrize(("text", "meaning", "distribution", "estimates"), PAIRS, ids=[f"{p[0][:12]}-{p[2]}" for p in PAIRS])
def test_the_mean_is_the_operator(text: str, meaning: Any, distribution: Any, estimates: bool) -> None:
    """Under `jit`, with a traced key; what a distribution cannot estimate is refused with one that can."""
    op, x = opdsl.operator(text, coords=f"x[{D}]", fields="u"), POINTS[:2]
    field = u(jnp, jnp.asarray(W))

    def estimate(key: Any) -> Any:
        return op(field, jnp.asarray(x), strategy=STDE(2, distribution, key))

    if not estimates:
        with pytest.raises(StrategyError, match="distribution='coordinates' takes any sum"):
            estimate(jax.random.key(0))
        return
    found = np.asarray(jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(1), KEYS)))
    error = found.std(axis=0, ddof=1) / np.sqrt(KEYS)
    assert (error > 1e-9).all(), "an estimate that does not vary samples nothing"
    assert (np.abs(found.mean(axis=0) - meaning(x)) < 4 * error).all()


@pytest.mark.parametrize("text", [CASES[2][0], CASES[5][0]], ids=["second", "third"])
def test_as_many_samples_as_terms_are_exact_on_every_backend(engine: Engine, text: str) -> None:
    if text == CASES[2][0] and engine.name != "torch":
        pytest.skip("one backend shows what second order adds")
    meaning = next(case[1] for case in CASES if case[0] == text)
    op, x = opdsl.operator(text, coords=f"x[{D}]", fields="u"), POINTS
    field = engine.function(lambda xp, columns: xp.sin(sum(w * c for w, c in zip(W.tolist(), columns, strict=True))))
    exact = engine.read(op(field, engine.array(x), strategy=STDE(9, key=0)))
    np.testing.assert_allclose(exact, meaning(x), rtol=1e-11)
    few = [engine.read(op(field, engine.array(x), strategy=STDE(2, key=k))) for k in (3, 3, 4)]
    np.testing.assert_array_equal(few[0], few[1])
    assert (few[0] != few[2]).any() and np.abs(few[0] - exact).max() > 1e-6


@pytest.mark.parametrize("distribution", ["coordinates", "gaussian"])
@pytest.mark.parametrize("per_point", [False, True])
def test_matrices_given_at_the_call(differentiable: Engine, distribution: Any, per_point: bool) -> None:
    """a_ij ∂_i ∂_j in six dimensions is written out: its entries are drawn, or it stands between directions."""
    engine, x = differentiable, POINTS
    op = opdsl.operator("a_ij d_i d_j u", coords=f"x[{D}]", fields="u", params="a_ij")
    field = engine.function(lambda xp, columns: xp.sin(sum(w * c for w, c in zip(W.tolist(), columns, strict=True))))
    matrix = A[None] * (1.0 + x[:, :1, None])
    want = np.einsum("i,nij,j->n", W, matrix if per_point else A[None], W) * ridge(2, x)
    given = engine.array(matrix if per_point else A)
    found = np.stack([engine.read(op(field, engine.array(x), strategy=STDE(5, distribution, key=k), a=given)) for k in range(30)])
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert (error > 1e-9).all() and (np.abs(found.mean(axis=0) - want) < 4 * error).all()


def test_large_terms_are_drawn_more_often() -> None:
    """Probabilities in proportion to the coefficients: an operator with one large term has little noise left."""
    text = "100 u_{x_0 x_0} + " + " + ".join(f"u_{{x_{k} x_{k}}}" for k in range(1, D))
    op = opdsl.operator(text, coords=f"x[{D}]", fields="u")

    def field(x: Any) -> Any:
        return jnp.sum(x**2)

    keys = jax.random.split(jax.random.key(0), 50)
    found = jax.vmap(lambda key: op(field, jnp.ones((1, D)), strategy=STDE(2, key=key)))(keys)
    np.testing.assert_allclose(found, 210.0, rtol=1e-12)
    assert inclusion([3.0, 1.0, 1.0, 1.0], 2) == (1.0, 1 / 3, 1 / 3, 1 / 3)


def test_differentiable_in_parameters_and_independent_pairs() -> None:
    """The gradient of one estimate against differences; the mean of products of two is the square of the operator."""
    op, x = opdsl.operator(CUBES, coords=f"x[{D}]", fields="u"), jnp.asarray(POINTS[:1])

    def value(w: Any, key: Any) -> Any:
        return op(lambda p: jnp.sin(p @ w), x, strategy=STDE(2, key=key))[0]

    w, step = jnp.asarray(W), 1e-6 * jnp.eye(D)[2]
    slope = jax.jit(jax.grad(value))(w, jax.random.key(5))[2]
    np.testing.assert_allclose(slope, (value(w + step, jax.random.key(5)) - value(w - step, jax.random.key(5))) / 2e-6, rtol=1e-6)

    def pair(key: Any) -> Any:
        return jnp.prod(op(lambda p: jnp.sin(p @ w), x, strategy=STDE(2, key=key, two_sample=True))[0])

    products = np.asarray(jax.jit(jax.vmap(pair))(jax.random.split(jax.random.key(2), 400)))
    truth = float(CASES[5][1](np.asarray(x))[0]) ** 2
    assert abs(products.mean() - truth) < 4 * products.std(ddof=1) / 20


def test_what_has_nothing_to_draw_is_refused() -> None:
    op = opdsl.operator("u_t + u_xx", coords="t x", fields="u")
    with pytest.raises(StrategyError, match="no sum over coordinates to sample, and no sum of derivatives"):
        op(lambda p: p[0] * p[1] ** 2, jnp.ones((1, 2)), strategy=STDE(2, key=0))


@pytest.mark.parametrize("extra", ["", " + 3 Σ_i d_i^4 u", " - Σ_i d_i^4 u + laplace(u)"])
def test_forms_of_directions_are_the_written_terms_exactly(extra: str) -> None:
    """As polynomials, with fractions: noise hides a wrong weight of a fourth-order form from any mean that one can afford."""
    residual = opdsl.operator("Δ²u" + extra, coords="x[3]", fields="u").residual()
    (op,) = split(residual, merge=True).operators["u"]
    forms = list(as_forms(op, residual.space))
    assert all(isinstance(form, DerivativeTerm) and form.labels for form in forms)
    ((_, found),) = LinearOperator(tuple(f for f in forms if isinstance(f, DerivativeTerm))).polynomials(residual.space) or ()
    ((_, want),) = op.polynomials(residual.space) or ()
    assert found == want
