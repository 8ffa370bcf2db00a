"""Stochastic estimates: unbiased for every distribution and operator, reproducible, and gathered where weights are dense."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import Engine
from references import Derivatives

import opdsl
from opdsl import HTE, SDGD, STDE
from opdsl.backends import get
from opdsl.errors import BindingError, OpdslWarning, StrategyError

RNG = np.random.default_rng(0)
D, H = 18, 5
W, W2, B, A = (RNG.normal(size=s) / 2 for s in ((D, H), (H, H), (H,), (H,)))
POINTS = RNG.normal(size=(2, D)) * 0.4
MATRIX, VECTOR = RNG.normal(size=(D, D)), RNG.normal(size=D)
KEYS = 200


def network(xp: Any, array: Any, kind: str) -> Any:
    w, w2, b, a = (array(v) for v in (W, W2, B, A))

    def space(x: Any) -> Any:
        return x.__array_namespace__() if hasattr(x, "__array_namespace__") else xp

    def v(x: Any) -> Any:
        xp = space(x)
        return xp.tanh(xp.tanh(x @ w + b) @ w2) @ a

    return {
        "plain": v,  # dense first layer: coordinates are gathered from its weights
        "ball": lambda x: (1.0 - space(x).sum(x * x, axis=-1)) * v(x),  # and a sum of squares beside it
        "wide": lambda x: space(x).sum(space(x).sin(x[..., 1:] * x[..., :-1]), axis=-1) * v(x),  # nothing is narrow
    }[kind]


SPACE = f"x[{D}]"
Meaning = Callable[[Derivatives], Any]
OPERATORS: tuple[tuple[str, str, dict[str, Any], Meaning], ...] = (
    ("laplace(u)", SPACE, {}, lambda q: q.lap()),
    ("u_t - nu*laplace(u)", f"t x[{D - 1}]", {"nu": 0.3}, lambda q: q.grad[:, 0] - 0.3 * q.lap(1)),
    ("u_{x_1} + 0.5*laplace(u) + b_i d_i u", SPACE, {"b": VECTOR}, lambda q: q.grad[:, 1] + 0.5 * q.lap() + q.grad @ VECTOR),
    ("u*laplace(u) - sin(x_2)", SPACE, {}, lambda q: q.u * q.lap() - np.sin(q.x[:, 2])),
    ("a_ij d_i d_j u", SPACE, {"a": MATRIX}, lambda q: np.einsum("ij,nij->n", MATRIX, q.hessian)),
    ("sum_i(c_i d_i d_i u)", SPACE, {"c": VECTOR}, lambda q: np.einsum("i,nii->n", VECTOR, q.hessian)),
    ("sum_i(x_i^2 d_i d_i u)", SPACE, {}, lambda q: np.einsum("ni,nii->n", q.x**2, q.hessian)),
    ("laplace(u) + a_ij d_i d_j u", SPACE, {"a": MATRIX}, lambda q: q.lap() + np.einsum("ij,nij->n", MATRIX, q.hessian)),
    ("Δ²u", SPACE, {}, lambda q: q.bilap),
    ("Σ_i d_i^4 u - laplace(u)", SPACE, {}, lambda q: q.quartic - q.lap()),
    ("Σ_i d_i^3 u", SPACE, {}, lambda q: np.einsum("niii->n", q.third)),
    ("d_t laplace(u)", f"t x[{D - 1}]", {}, lambda q: np.einsum("nii->n", q.third[:, 0, 1:, 1:])),
    ("d_t (b_i d_i u) + laplace(u)", f"t x[{D - 1}]", {"b": VECTOR[1:]},
     lambda q: q.hessian[:, 0, 1:] @ VECTOR[1:] + q.lap(1)),
)  # fmt: skip
REFUSED = {
    ("Σ_i d_i^3 u", "plain", "rademacher"), ("Σ_i d_i^3 u", "plain", "gaussian"),
    ("Δ²u", "ball", "rademacher"), ("d_t laplace(u)", "ball", "rademacher"), ("d_t laplace(u)", "ball", "gaussian"),
    *(("d_t (b_i d_i u) + laplace(u)", "ball", d) for d in ("coordinates", "rademacher", "gaussian")),
}  # fmt: skip


@cache
def reference(kind: str) -> Derivatives:
    """The network's derivatives by JAX, for every framework."""
    return Derivatives(network(jnp, jnp.asarray, kind), POINTS)


def declared(text: str, coords: str, bound: dict[str, Any]) -> opdsl.Operator:
    names = " ".join({"a": "a_ij", "b": "b_i", "c": "c_i"}.get(n, n) for n in bound)
    return opdsl.operator(text, coords=coords, fields="u", **({"params": names} if names else {}))


THROUGH_EVERY_NETWORK = ("laplace(u)", "a_ij d_i d_j u", "Δ²u", "d_t laplace(u)", "d_t (b_i d_i u) + laplace(u)")
CASES = [(*o, kind) for o in OPERATORS for kind in ("plain", "ball", "wide") if kind == "plain" or o[0] in THROUGH_EVERY_NETWORK]


@pytest.mark.family(keep=8)
@pytest.mark.parametrize("distribution", ["coordinates", "rademacher", "gaussian"])
@pytest.mark.parametrize(("text", "coords", "bound", "meaning", "kind"), CASES, ids=[f"{o[0]}-{o[4]}" for o in CASES])
def test_the_mean_is_the_operator(
    text: str, coords: str, bound: dict[str, Any], meaning: Meaning, kind: str, distribution: Any
) -> None:
    op, x, u = declared(text, coords, bound), jnp.asarray(POINTS), network(jnp, jnp.asarray, kind)
    given = {n: jnp.asarray(v) if hasattr(v, "shape") else v for n, v in bound.items()}

    def estimate(key: Any) -> Any:
        return op(u, x, strategy=STDE(3, distribution, key), **given)

    if (text, kind, distribution) in REFUSED:
        with pytest.raises(StrategyError, match="coordinates"):
            estimate(jax.random.key(0))
        return
    found = np.asarray(jax.jit(jax.vmap(estimate))(jax.random.split(jax.random.key(1), KEYS)))
    truth = meaning(reference(kind))
    error = found.std(axis=0, ddof=1) / np.sqrt(KEYS)
    assert (error > 1e-8 * np.abs(truth)).all(), "an estimate that does not vary samples nothing"
    assert (np.abs(found.mean(axis=0) - truth) < 4 * error).all()


@pytest.mark.family(keep=5)
@pytest.mark.parametrize("distribution", ["coordinates", "rademacher", "gaussian"])
@pytest.mark.parametrize("kind", ["plain", "ball", "wide"])
def test_all_coordinates_and_all_backends(engine: Engine, kind: str, distribution: Any) -> None:
    """The same directions give the same estimate on every backend; all coordinates give the operator itself."""
    if engine.backend == "numpy" and kind == "ball":
        pytest.skip("nonlinear sums over the coordinates need reverse mode")
    op = declared("u_{x_1} + laplace(u) + a_ij d_i d_j u", SPACE, {"a": MATRIX})
    u, x = network(engine.xp if engine.name != "torch" else torch, engine.array, kind), engine.array(POINTS)
    first = op(u, x, strategy=STDE(5, distribution, key=7), a=engine.array(MATRIX))
    again = op(u, x, strategy=STDE(5, distribution, key=7), a=engine.array(MATRIX))
    other = op(u, x, strategy=STDE(5, distribution, key=8), a=engine.array(MATRIX))
    np.testing.assert_array_equal(engine.read(first), engine.read(again))
    assert (engine.read(first) != engine.read(other)).all()
    if distribution == "coordinates":
        exact = op(u, x, strategy=STDE(100, key=3), a=engine.array(MATRIX))
        q = reference(kind)
        want = q.grad[:, 1] + q.lap() + np.einsum("ij,nij->n", MATRIX, q.hessian)
        np.testing.assert_allclose(engine.read(exact), want, rtol=1e-11)


@pytest.mark.family(keep=3)
@pytest.mark.parametrize("text", ["Σ_i d_i^4 u", "Δ²u"])
@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_fourth_order_weights_are_sharp(distribution: Any, text: str) -> None:
    """u = Σ (x_i⁴ + 3 x_i² x_{i+1}²): constant fourth derivatives, so that many directions leave little noise."""

    def u(x: Any) -> Any:
        return jnp.sum(x**4) + 3 * jnp.sum(x[1:] ** 2 * x[:-1] ** 2)

    truth = 24.0 * D if text == "Σ_i d_i^4 u" else 24.0 * D + 24.0 * (D - 1)
    op = opdsl.operator(text, coords=SPACE, fields="u")
    samples = 16 if (text, distribution) == ("Δ²u", "rademacher") else 400
    found = op.estimate(u, jnp.asarray(POINTS), strategy=STDE(samples, distribution, 5), repeats=12)
    assert (found.standard_error < (0.08 if samples == 16 else 0.03) * truth).all()
    assert (abs(found.value - truth) < 4 * found.standard_error + 1e-9).all()


def test_torch_is_unbiased_too() -> None:
    u, x = network(torch, torch.as_tensor, "ball"), torch.as_tensor(POINTS)
    op = opdsl.operator("laplace(u)", coords=SPACE, fields="u")
    truth = torch.as_tensor(reference("ball").lap())
    for distribution in ("coordinates", "gaussian"):
        found = torch.stack([op(u, x, strategy=STDE(4, distribution, key=k)) for k in range(200)])
        assert (abs(found.mean(0) - truth) < 4 * found.std(0) / 200**0.5).all()


def test_sets_are_drawn_without_replacement_and_evenly(engine: Engine) -> None:
    backend = get(engine.backend)
    sets = np.concatenate([np.asarray(backend.subsets(k, 50, 3, 7, engine.array([[0.0]]))) for k in range(20)])
    assert all(len(set(row)) == 3 for row in sets.tolist())
    counts = np.bincount(sets.ravel(), minlength=7)
    pairs = np.bincount([7 * a + b for row in sets.tolist() for a in row for b in row if a < b], minlength=49)
    # 1000 sets of 3 of 7: every number 3/7, every pair 1/7 of the time, within 5 standard deviations.
    assert (abs(counts - 3000 / 7) < 5 * np.sqrt(1000 * 3 / 7 * 4 / 7)).all()
    assert (abs(pairs[pairs > 0] - 1000 / 7) < 5 * np.sqrt(1000 * 6 / 49)).all()
    assert (pairs > 0).sum() == 21


def test_the_product_of_two_samples_is_an_unbiased_square() -> None:
    op, x, u = opdsl.operator("laplace(u) - 1", coords=SPACE, fields="u"), jnp.asarray(POINTS), network(jnp, jnp.asarray, "plain")

    def pair(key: Any) -> Any:
        return op(u, x, strategy=STDE(3, "rademacher", key, two_sample=True))

    found = np.asarray(jax.jit(jax.vmap(pair))(jax.random.split(jax.random.key(0), 2000)))
    assert found.shape == (2000, 2, 2)
    truth = np.asarray(op(u, x)) ** 2
    product, square = found[..., 0] * found[..., 1], found[..., 0] ** 2
    error = product.std(axis=0) / np.sqrt(2000)
    assert (abs(product.mean(axis=0) - truth) < 4 * error).all()
    assert (square.mean(axis=0) - truth > 4 * square.std(axis=0) / np.sqrt(2000)).all()


@pytest.mark.parametrize("distribution", ["coordinates", "gaussian"])
def test_two_samples_of_one_call_differ_on_torch(distribution: Any) -> None:
    op, x, u = declared("a_ij d_i d_j u", SPACE, {"a": MATRIX}), torch.as_tensor(POINTS), network(torch, torch.as_tensor, "plain")
    both = op(u, x, strategy=STDE(D, distribution, 3, two_sample=True), a=torch.as_tensor(MATRIX))
    exact = op(u, x, strategy="dof", a=torch.as_tensor(MATRIX))
    if distribution == "coordinates":
        torch.testing.assert_close(both, exact[:, None].expand(-1, 2), rtol=1e-10, atol=1e-12)
    else:
        assert (abs(both[:, 0] - both[:, 1]) > 1e-6 * abs(exact)).all()


def test_standard_errors_are_reported() -> None:
    op, x, u = opdsl.operator("laplace(u)", coords=SPACE, fields="u"), jnp.asarray(POINTS), network(jnp, jnp.asarray, "plain")
    found = op.estimate(u, x, strategy=HTE(4, key=jax.random.key(0)), repeats=40)
    assert found.value.shape == found.standard_error.shape == (2,)
    assert (abs(found.value - op(u, x)) < 4 * found.standard_error).all()
    more = op.estimate(u, x, strategy=HTE(4, key=1), repeats=160)
    assert (more.standard_error < found.standard_error).all()
    two = opdsl.operator("F: laplace(u); G: u_{x_1}", coords=SPACE, fields="u").estimate(u, x, strategy=SDGD(4, 0), repeats=4)
    assert two["G"].standard_error.tolist() == [0.0, 0.0]


def test_derivatives_one_by_one_stay_exact_beside_an_estimate() -> None:
    """Hamilton–Jacobi–Bellman: Δu is sampled or pulled back, |∇u|² comes from a reverse sweep."""
    for kind in ("plain", "ball"):
        u, x = network(jnp, jnp.asarray, kind), jnp.asarray(POINTS)
        op = opdsl.operator("u_t + Δu - |∇u|²", coords=f"t x[{D - 1}]", fields="u")
        q = reference(kind)
        exact = q.grad[:, 0] + q.lap(1) - np.sum(q.grad[:, 1:] ** 2, axis=1)
        np.testing.assert_allclose(op(u, x, strategy="pull_back"), exact, rtol=1e-11)
        np.testing.assert_allclose(op(u, x, strategy=STDE(D, key=0)), exact, rtol=1e-11)


def test_bound_steps_draw_anew(differentiable: Engine) -> None:
    op, x = opdsl.operator("laplace(u)", coords=SPACE, fields="u"), differentiable.array(POINTS)
    u = network(torch if differentiable.name == "torch" else jnp, differentiable.array, "plain")
    step = op.bind(u, x, strategy=SDGD(3, key=0))
    one, two, same = (differentiable.read(step(x, key=k)) for k in (1, 2, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != two).all()
    with pytest.raises(BindingError, match="key="):
        step(x)
    np.testing.assert_array_equal(one, differentiable.read(op(u, x, strategy=SDGD(3, key=1))))


def test_parameter_gradients_of_an_estimate() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(D, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    op, x = opdsl.operator("laplace(u)", coords=SPACE, fields="u"), torch.as_tensor(POINTS)
    loss = op(net, x, strategy=SDGD(D, key=0)).pow(2).sum()
    exact = op(net, x, strategy="dof").pow(2).sum()
    for a, b in zip(torch.autograd.grad(loss, net.parameters(), allow_unused=True),
                    torch.autograd.grad(exact, net.parameters(), allow_unused=True), strict=True):  # fmt: skip
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_coordinates_are_gathered_not_multiplied() -> None:
    """A million coordinates: a product of 16 one-hot rows with W would be the largest product of the program."""
    d = 10**6
    op = opdsl.operator("laplace(u)", coords=f"x[{d}]", fields="u")
    w = jnp.zeros((d, 8), jnp.float32)

    def residual(w: Any, x: Any, key: Any) -> Any:
        return op(lambda w, p: jnp.tanh(p @ w).sum(), x, params=w, strategy=STDE(16, key=key))

    program = jax.make_jaxpr(residual)(w, jnp.zeros((2, d), jnp.float32), jax.random.key(0))
    sizes = [e.invars[0].aval.size for e in _equations(program.jaxpr) if e.primitive.name == "dot_general"]
    assert max(sizes) == 2 * d  # the forward pass of two points, nothing else of this size
    assert sorted(sizes)[-2] < 10_000


def _equations(jaxpr: Any) -> Any:
    for e in jaxpr.eqns:
        yield e
        for value in e.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "jaxpr"):
                    yield from _equations(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    yield from _equations(inner)


def test_a_nonlinear_use_of_an_estimate_is_pointed_out() -> None:
    u, x = network(jnp, jnp.asarray, "plain"), jnp.asarray(POINTS)
    with pytest.warns(OpdslWarning, match="not linear in its estimated derivatives"):
        opdsl.operator("laplace(u)^2 - u", coords=SPACE, fields="u")(u, x, strategy=SDGD(3, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opdsl.operator("u^2*laplace(u) - u_{x_1}^2", coords=SPACE, fields="u")(u, x, strategy=SDGD(3, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: STDE(4, "uniform", 0), "coordinates"),
        (lambda: STDE(0, key=0), "samples=0.*at least one"),
        (lambda: STDE(4), "needs a key"),
        (lambda: STDE(4, key="seed"), "integer"),
    ],
)
def test_mistakes_are_explained(differentiable: Engine, make: Any, message: str) -> None:
    u = network(torch if differentiable.name == "torch" else jnp, differentiable.array, "plain")
    with pytest.raises(StrategyError, match=message):
        opdsl.operator("laplace(u)", coords=SPACE, fields="u")(u, differentiable.array(POINTS), strategy=make())


def test_where_nothing_exact_fits_the_estimate_is_named() -> None:
    d = 20_000
    op = opdsl.operator("laplace(u)", coords=f"x[{d}]", fields="u")
    x = jnp.asarray(np.random.default_rng(5).normal(size=(2, d)))

    def stays_wide(p: Any) -> Any:
        return jnp.sum(jnp.sin(p[1:] * p[:-1]))

    with pytest.raises(StrategyError, match=r"no strategy applies.*numbers before the first layer.*opdsl\.STDE\(samples=16, key="):
        op(stays_wide, x)
    found = op.estimate(stays_wide, x, strategy=SDGD(50, 0))
    a, b = np.asarray(x)[:, 1:], np.asarray(x)[:, :-1]
    truth = -np.sum(np.sin(a * b) * (a**2 + b**2), axis=1)
    assert (abs(found.value - truth) < 4 * found.standard_error).all()


def test_an_operator_without_sums_is_not_sampled() -> None:
    with pytest.raises(StrategyError, match="no sum over coordinates"):
        opdsl.operator("u_xx", coords="x y", fields="u")(lambda p: p[0] ** 2, jnp.ones((1, 2)), strategy=SDGD(1, 0))
