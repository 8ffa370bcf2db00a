"""Optimisers for residuals: their steps against dense linear algebra, and what they do where a step cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares

from opdsl.training.damped_steps import cholesky_solver, linearise
from opdsl.training.least_squares import LeastSquares
from opdsl.training.levenberg_marquardt import levenberg_marquardt
from opdsl.training.natural_gradient import natural_gradient

LIBRARIES = ("numpy", "torch", "jax", "array_api_strict")


def arrays(library: str) -> Callable[[Any], Any]:
    """What makes float64 arrays of a library."""
    if library == "torch":
        import torch

        return lambda a: torch.as_tensor(np.asarray(a), dtype=torch.float64)
    if library == "jax":
        import jax.numpy as jnp

        return lambda a: jnp.asarray(a, dtype=jnp.float64)
    if library == "array_api_strict":
        import array_api_strict

        return lambda a: array_api_strict.asarray(np.asarray(a), dtype=array_api_strict.float64)
    return lambda a: np.asarray(a, dtype=np.float64)


@pytest.fixture
def precision() -> Any:
    """JAX in double precision."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def quadratic(n: int, parameters: int, make: Callable[[Any], Any]) -> LeastSquares:
    """r_i = a_i + b_i · θ + ½ (c_i · θ)², computed by NumPy and handed over as arrays of a library."""
    rng = np.random.default_rng(n)
    a, b, c = rng.normal(size=n), rng.normal(size=(n, parameters)), 0.3 * rng.normal(size=(n, parameters))

    def j(t: Any) -> Any:
        return b + (c @ np.asarray(t))[:, None] * c

    return LeastSquares(
        residual=lambda t: make(a + b @ np.asarray(t) + 0.5 * (c @ np.asarray(t)) ** 2),
        jacobian=lambda t: make(j(t)),
        products=lambda t: (lambda v: make(j(t) @ np.asarray(v)), lambda w: make(j(t).T @ np.asarray(w))),
    )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("n", "parameters"), [(9, 4), (4, 9), (5, 5)])
@pytest.mark.parametrize("matrix_free", [False, True])
def test_a_damped_step_is_the_least_squares_solution(
    library: str, n: int, parameters: int, matrix_free: bool, precision: None
) -> None:
    make = arrays(library)
    problem, theta = quadratic(n, parameters, make), make(np.linspace(-1, 1, parameters))
    at = linearise(problem, theta, matrix_free=matrix_free)
    w, damping = np.arange(1.0, n + 1), 0.3
    solve = at.damped(damping)
    assert solve is not None
    found = np.asarray(solve(make(w)))
    j = np.asarray(problem.jacobian(theta))  # type: ignore[misc]
    expected = np.linalg.lstsq(np.vstack([j, np.sqrt(damping) * np.eye(parameters)]), -np.append(w, np.zeros(parameters)), rcond=None)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_a_matrix_that_is_not_positive_definite_has_no_solver(library: str, precision: None) -> None:
    make = arrays(library)
    assert cholesky_solver(make([[1.0, 2.0], [2.0, 1.0]])) is None
    assert cholesky_solver(make([[1.0, 0.0], [0.0, 0.0]])) is None


def test_the_damping_follows_the_gain_ratio() -> None:
    """r = t³ at t = 1 with λ = 3: δ = -1/4, so that all numbers are fractions."""
    cube = LeastSquares(lambda t: t**3, lambda t: 3.0 * t[None, :] ** 2)
    optimiser, theta = levenberg_marquardt(geodesic=False), np.array([1.0])
    new, state, report = optimiser.step(cube, theta, {"damping": 3.0, "growth": 16.0})
    assert new[0] == pytest.approx(3 / 4)
    gain = (1 - (3 / 4) ** 6) / (1 - (1 / 4) ** 2)
    assert report.gain == pytest.approx(gain)
    assert state == {"damping": pytest.approx(3.0 * (1 - (2 * gain - 1) ** 3)), "growth": 2.0}
    # Far from the root of r = arctan t the undamped step overshoots: refused trials multiply λ by 2, 4, 8, …
    bent = LeastSquares(np.arctan, lambda t: 1.0 / (1.0 + t[None, :] ** 2))
    _, _, report = optimiser.step(bent, np.array([20.0]), {"damping": 1e-9, "growth": 2.0})
    assert report.trials > 2
    assert report.damping == pytest.approx(1e-9 * 2 ** (report.trials * (report.trials - 1) // 2))


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize(("n", "parameters"), [(9, 4), (4, 9)])
def test_the_geodesic_step_follows_the_second_derivative(library: str, n: int, parameters: int, precision: None) -> None:
    """For quadratic residuals the second derivative along the first step is (c_i · δ)², without any probe."""
    make = arrays(library)
    problem, theta = quadratic(n, parameters, make), make(np.linspace(-0.1, 0.1, parameters))
    optimiser = levenberg_marquardt(damping=3.0)
    new, state, report = optimiser.step(problem, theta, optimiser.start(theta))
    r, j = np.asarray(problem.residual(theta)), np.asarray(problem.jacobian(theta))  # type: ignore[misc]
    damping = 3.0 * ((j.T @ r) @ (j.T @ r)) / (r @ r)
    inverse = np.linalg.inv(j.T @ j + damping * np.eye(parameters)) @ j.T
    first = -inverse @ r
    rng = np.random.default_rng(n)
    rng.normal(size=n), rng.normal(size=(n, parameters))
    c = 0.3 * rng.normal(size=(n, parameters))
    second = -0.5 * inverse @ (c @ first) ** 2
    assert 2 * np.linalg.norm(second) < 0.75 * np.linalg.norm(first)
    assert report.damping == pytest.approx(damping)
    np.testing.assert_allclose(np.asarray(new), np.asarray(theta) + first + second, rtol=1e-9)
    promised = r @ r - (r + j @ first) @ (r + j @ first)
    gain = (r @ r - report.loss) / promised
    assert report.gain == pytest.approx(gain)
    assert state["damping"] == pytest.approx(damping * max(1 / 3, 1 - (2 * gain - 1) ** 3))


@pytest.mark.parametrize("geodesic", [False, True])
@pytest.mark.parametrize("matrix_free", [False, True])
def test_levenberg_marquardt_finds_what_scipy_finds(geodesic: bool, matrix_free: bool) -> None:
    x = np.linspace(0, 3, 25)
    data = 2.0 * np.exp(-1.3 * x) + 0.5 + 0.05 * np.cos(40 * x)

    def residual(t: Any) -> Any:
        return t[0] * np.exp(-t[1] * x) + t[2] - data

    def jacobian(t: Any) -> Any:
        return np.stack([np.exp(-t[1] * x), -t[0] * x * np.exp(-t[1] * x), np.ones_like(x)], axis=1)

    problem = LeastSquares(residual, jacobian, lambda t: ((lambda v: jacobian(t) @ v), (lambda w: jacobian(t).T @ w)))
    theta = np.array([1.0, 0.1, 0.0])
    optimiser = levenberg_marquardt(geodesic=geodesic, matrix_free=matrix_free)
    state, losses = optimiser.start(theta), [float(problem.loss(theta))]
    for _ in range(60):
        theta, state, report = optimiser.step(problem, theta, state)
        losses.append(report.loss)
        if report.reason:
            break
    assert "goes down" in report.reason
    assert (np.diff(losses) <= 0).all()
    np.testing.assert_allclose(theta, least_squares(residual, np.array([1.0, 0.1, 0.0]), jac=jacobian, xtol=1e-14, ftol=1e-14).x, rtol=1e-6)


def test_geodesic_acceleration_saves_steps_in_a_curved_valley() -> None:
    def count(geodesic: bool) -> int:
        problem = LeastSquares(
            lambda t: np.array([1.0 - t[0], 100.0 * (t[1] - t[0] ** 2)]), lambda t: np.array([[-1.0, 0.0], [-200.0 * t[0], 100.0]])
        )
        optimiser, theta = levenberg_marquardt(geodesic=geodesic), np.array([-1.5, 2.0])
        state = optimiser.start(theta)
        for step in range(1000):
            theta, state, report = optimiser.step(problem, theta, state)
            if report.loss < 1e-20:
                return step
        return 1000

    assert count(True) < 0.5 * count(False)


def test_singular_and_exploding_steps_are_survived() -> None:
    """One parameter moves nothing, and beyond 2 the residual is no number: every loss is finite and none goes up."""

    def residual(t: Any) -> Any:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.array([np.log(2.0 - t[0]) - np.log(0.001), t[0] * 0.0])

    problem = LeastSquares(residual, lambda t: np.array([[-1.0 / (2.0 - t[0]), 0.0], [0.0, 0.0]]))
    optimiser, theta = levenberg_marquardt(damping=1e-12), np.array([0.0, 5.0])
    state, losses, trials = optimiser.start(theta), [float(problem.loss(theta))], []
    for _ in range(30):
        theta, state, report = optimiser.step(problem, theta, state)
        losses.append(report.loss)
        trials.append(report.trials)
        if report.reason:
            break
    assert max(trials) > 1
    assert np.isfinite(losses).all()
    assert (np.diff(losses) <= 0).all()
    np.testing.assert_allclose(theta, [1.999, 5.0], rtol=1e-9)


@pytest.mark.parametrize("make", [levenberg_marquardt, natural_gradient])
def test_where_no_step_is_left_the_reason_is_said(make: Callable[[], Any]) -> None:
    optimiser, theta = make(), np.array([1.0, 2.0])
    nowhere = LeastSquares(lambda t: np.array([np.nan, 1.0]), lambda t: np.eye(2))
    assert "not finite" in optimiser.step(nowhere, theta, optimiser.start(theta))[2].reason
    done = LeastSquares(lambda t: t - 1.0, lambda t: np.eye(2))
    assert "zero" in optimiser.step(done, np.ones(2), optimiser.start(theta))[2].reason
    uphill = LeastSquares(lambda t: t, lambda t: -np.eye(2))  # a Jacobian that is wrong
    new, _, report = optimiser.step(uphill, theta, optimiser.start(theta))
    assert "goes down" in report.reason
    assert new is theta


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize(("n", "parameters"), [(9, 4), (4, 9)])
def test_the_natural_gradient_keeps_momentum_where_the_points_do_not_see(
    library: str, n: int, parameters: int, precision: None
) -> None:
    """φ solves (JᵀJ + λI) φ = -Jᵀr + λ μ φ_before."""
    make = arrays(library)
    problem, theta = quadratic(n, parameters, make), make(np.linspace(-0.1, 0.1, parameters))
    before = 0.01 * np.arange(parameters)
    new, state, report = natural_gradient(damping=0.1, momentum=0.7).step(problem, theta, {"direction": make(before)})
    r, j = np.asarray(problem.residual(theta)), np.asarray(problem.jacobian(theta))  # type: ignore[misc]
    damping = 0.1 * (r @ r)
    expected = np.linalg.solve(j.T @ j + damping * np.eye(parameters), -j.T @ r + damping * 0.7 * before)
    np.testing.assert_allclose(np.asarray(state["direction"]), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.asarray(new), np.asarray(theta) + report.length * expected, rtol=1e-12)
    assert report.loss < r @ r
