"""Exact operators in many coordinates through the first linear layers, against strategies that carry every coordinate."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import ENGINES, Engine
from references import Derivatives

import opdsl
from opdsl.backends import get
from opdsl.errors import StrategyError
from opdsl.jets.bottleneck import find_cut

RNG = np.random.default_rng(0)
D, H = 24, 5
W, W2, B, A = (RNG.normal(size=s) / 2 for s in ((D, H), (H, H), (H,), (H,)))
POINTS = RNG.normal(size=(4, D)) * 0.4
MATRIX, VECTOR = RNG.normal(size=(D, D)), RNG.normal(size=D)


def network(engine: Engine, kind: str) -> Any:
    """v(x) = a·tanh(W₂ tanh(Wx + b)), alone or beside separable sums."""
    xp = engine.xp
    w, w2, b, a = (engine.array(v) for v in (W, W2, B, A))

    def v(x: Any) -> Any:
        return xp.tanh(xp.tanh(x @ w + b) @ w2) @ a

    def square(x: Any) -> Any:
        return xp.sum(x * x, axis=-1)

    kinds = {
        "plain": v,
        "ball": lambda x: (1.0 - square(x)) * v(x),
        "shell": lambda x: (1.0 - square(x)) * (4.0 - square(x)) * v(x) + square(x),
        "quartic": lambda x: xp.sum(xp.tanh(x) ** 3, axis=-1) * v(x) + xp.sqrt(1.0 + square(x)),
        "part": lambda x: (1.0 - xp.sum((x * x)[..., :20], axis=-1)) * v(x),
        "scaled": lambda x: v(2.0 * x),
        "split": lambda x: v(xp.concat([2.0 * x[..., :3], x[..., 3:]], axis=-1)) if engine.name != "torch" else v(
            torch.cat([2.0 * x[..., :3], x[..., 3:]], -1)
        ),
    }
    return kinds[kind]


Meaning = Callable[[Derivatives], Any]
OPERATORS: tuple[tuple[str, str, dict[str, Any], Meaning], ...] = (
    ("laplace(u)", f"x[{D}]", {}, lambda q: q.lap()),
    ("u_t + 0.5*laplace(u) + b_i d_i u", f"t x[{D - 1}]", {"b": VECTOR[1:]},
     lambda q: q.grad[:, 0] + 0.5 * q.lap(1) + q.grad[:, 1:] @ VECTOR[1:]),
    ("nu*laplace(u) + u^2 + x_3*u_{x_2} - sin(x_1)*laplace(u)", f"x[{D}]", {"nu": 0.3},
     lambda q: (0.3 - np.sin(q.x[:, 1])) * q.lap() + q.u**2 + q.x[:, 3] * q.grad[:, 2]),
    ("u_t - laplace(u)*u", f"x[{D - 1}] t", {},
     lambda q: q.grad[:, -1] - np.einsum("nii->n", q.hessian[:, :-1, :-1]) * q.u),
)  # fmt: skip
MATRICES: tuple[tuple[str, str, dict[str, Any], Meaning], ...] = (
    ("a_ij d_i d_j u - laplace(u) + u_{x_1}", f"x[{D}]", {"a": MATRIX},
     lambda q: np.einsum("ij,nij->n", MATRIX, q.hessian) - q.lap() + q.grad[:, 1]),
    ("sum_i(c_i d_i d_i u)", f"x[{D}]", {"c": VECTOR}, lambda q: np.einsum("i,nii->n", VECTOR, q.hessian)),
)  # fmt: skip


@cache
def reference(kind: str) -> Derivatives:
    """The network's derivatives by JAX, for every framework."""
    return Derivatives(network(ENGINES["jax"], kind), POINTS)


def declared(text: str, coords: str, bound: dict[str, Any]) -> opdsl.Operator:
    names = " ".join({"a": "a_ij", "b": "b_i", "c": "c_i"}.get(n, n) for n in bound)
    return opdsl.operator(text, coords=coords, fields="u", **({"params": names} if names else {}))


@pytest.mark.family(keep=5)
@pytest.mark.parametrize("kind", ["plain", "ball", "shell", "part", "quartic", "split"])
@pytest.mark.parametrize(("text", "coords", "bound", "meaning"), OPERATORS, ids=[o[0] for o in OPERATORS])
def test_equal_to_carrying_every_coordinate(
    differentiable: Engine, kind: str, text: str, coords: str, bound: dict[str, Any], meaning: Meaning
) -> None:
    op, x = declared(text, coords, bound), differentiable.array(POINTS)
    given = {n: differentiable.array(v) if hasattr(v, "shape") else v for n, v in bound.items()}
    u = network(differentiable, kind)
    have = differentiable.read(op(u, x, strategy="pull_back", **given))
    np.testing.assert_allclose(have, meaning(reference(kind)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("text", "coords", "bound", "meaning"), MATRICES, ids=[o[0] for o in MATRICES])
def test_coefficients_bound_at_run_time_keep_the_matrix(
    differentiable: Engine, text: str, coords: str, bound: dict[str, Any], meaning: Meaning
) -> None:
    op, x = declared(text, coords, bound), differentiable.array(POINTS)
    given = {n: differentiable.array(v) for n, v in bound.items()}
    u = network(differentiable, "plain")
    have = differentiable.read(op(u, x, strategy="pull_back", **given))
    np.testing.assert_allclose(have, meaning(reference("plain")), rtol=1e-11, atol=1e-12)
    with pytest.raises(StrategyError, match="nonlinear sums of coordinates"):
        op(network(differentiable, "ball"), x, strategy="pull_back", **given)


def test_powers_of_the_laplacian_keep_their_form(differentiable: Engine) -> None:
    x = POINTS[:2]
    w = W[:, :3]

    def u(point: Any) -> Any:
        return differentiable.xp.sin(point @ differentiable.array(w)) @ differentiable.array(A[:3])

    op = opdsl.operator("Δ²u + d_t laplace(u)", coords=f"t x[{D - 1}]", fields="u")
    rates = np.sum(w[1:] ** 2, axis=0)
    phase = x @ w
    truth = np.sin(phase) @ (A[:3] * rates**2) - np.cos(phase) @ (A[:3] * rates * w[0])
    have = differentiable.read(op(u, differentiable.array(x), strategy="pull_back"))
    np.testing.assert_allclose(have, truth, rtol=1e-11)
    with pytest.raises(StrategyError, match="not a power of the Laplacian"):
        opdsl.operator("Σ_i d_i^4 u", coords=f"x[{D}]", fields="u")(u, differentiable.array(x), strategy="pull_back")


def test_numpy_takes_a_dense_first_layer_and_refuses_the_rest() -> None:
    engine = ENGINES["numpy"]
    op = opdsl.operator("laplace(u)", coords=f"x[{D}]", fields="u")
    x = engine.array(POINTS)
    have = op(network(engine, "plain"), x, strategy="pull_back")
    np.testing.assert_allclose(have, reference("plain").lap(), rtol=1e-11)
    with pytest.raises(StrategyError, match="NumPy backend"):
        op(network(engine, "scaled"), x, strategy="pull_back")


@pytest.mark.thorough
def test_parameter_gradients_and_their_derivatives() -> None:
    op = opdsl.operator("laplace(u) + u^3", coords=f"x[{D}]", fields="u")
    parameters = tuple(map(jnp.asarray, (W, W2, B, A)))

    def u(p: Any, x: Any) -> Any:
        w, w2, b, a = p
        return (1 - x @ x) * (jnp.tanh(jnp.tanh(x @ w + b) @ w2) @ a)

    def loss(p: Any, strategy: str) -> Any:
        return jnp.mean(op(u, jnp.asarray(POINTS), params=p, strategy=strategy) ** 2)

    def second(p: Any, strategy: str) -> Any:
        return jax.jvp(jax.grad(lambda q: loss(q, strategy)), (p,), (p,))

    have, want = second(parameters, "pull_back"), second(parameters, "forward_laplacian")
    for a, b in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


class Shared(torch.nn.Module):
    """Blocks of ten coordinates share a convolution in front of the dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.Conv1d(1, 2, 8, stride=8)
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.blocks(x[:, None, :]).flatten(1))


class Ball(torch.nn.Module):
    """A hard constraint around a network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(D, 7), torch.nn.GELU(), torch.nn.Linear(7, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (1 - (x**2).sum(-1, keepdim=True)) * self.net(x)


@pytest.mark.parametrize("kind", [Shared, Ball])
def test_torch_modules_train_alike(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = kind().double(), torch.as_tensor(POINTS)
    op = opdsl.operator("laplace(u) + u^2", coords=f"x[{D}]", fields="u")
    found = []
    for strategy in ("pull_back", "dof"):
        step = op.bind(net, x, strategy=strategy)
        loss = (step(x) ** 2).mean()
        found.append([loss, *torch.autograd.grad(loss, list(net.parameters()))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_dependent_rows_do_not_stop_the_factorisation(differentiable: Engine) -> None:
    w = W.copy()
    w[:, 3] = w[:, 1]
    w[:, 4] = 0.0
    xp, array = differentiable.xp, differentiable.array

    def u(x: Any) -> Any:
        return xp.tanh(xp.tanh(x @ array(w) + array(B)) @ array(W2)) @ array(A)

    op, x = opdsl.operator("laplace(u)", coords=f"x[{D}]", fields="u"), array(POINTS)
    have, want = (differentiable.read(op(u, x, strategy=s)) for s in ("pull_back", "dof"))
    np.testing.assert_allclose(have, want, rtol=1e-11)


def test_single_precision_in_very_many_coordinates() -> None:
    d = 20_000
    rng = np.random.default_rng(1)
    w, b, a, x = rng.normal(size=(d, 16)) / np.sqrt(d), rng.normal(size=16), rng.normal(size=16), rng.normal(size=(3, d)) / np.sqrt(d)
    op = opdsl.operator("laplace(u)", coords=f"x[{d}]", fields="u")
    found = {}
    for dtype in (jnp.float32, jnp.float64):
        w_, b_, a_ = (jnp.asarray(v, dtype) for v in (w, b, a))
        found[dtype] = np.asarray(op(lambda p, w=w_, b=b_, a=a_: (1 - p @ p) * (jnp.tanh(p @ w + b) @ a), jnp.asarray(x, dtype)))
    # Sums of 20,000 squares lose √d units in the last place or less.
    np.testing.assert_allclose(found[jnp.float32], found[jnp.float64], rtol=1.2e-7 * np.sqrt(d))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: jnp.sum(jnp.tanh(x) ** 2) * jnp.prod(jnp.cos(x)), "linear maps that keep fewer"),
        (lambda x: jnp.sum(jnp.sin(x @ jnp.ones((D, D)))), "linear maps that keep fewer"),
    ],
)
def test_networks_that_stay_wide_are_refused(function: Any, reason: str) -> None:
    op = opdsl.operator("laplace(u)", coords=f"x[{D}]", fields="u")
    with pytest.raises(StrategyError, match=reason):
        op(function, jnp.asarray(POINTS), strategy="pull_back")


PRODUCTS = (
    lambda x: jnp.sum(x[1:] * x[:-1]),
    lambda x: jnp.sum(jnp.multiply(*jnp.split(x, 2))),  # pieces of one selection
    lambda x: jnp.sum(jnp.tensordot(x, x, 0)),  # an outer product is a product without contraction
    lambda x: jnp.sum(x * x[::-1]),
    lambda x: jnp.sum(jnp.zeros(D).at[jnp.arange(D) // 2].add(x) ** 2),  # sums of two coordinates, squared
    lambda x: jnp.sum((x + x[::-1]) ** 2),
)


@pytest.mark.parametrize("number", range(len(PRODUCTS)))
def test_a_product_of_two_different_coordinates_is_not_separable(number: int) -> None:
    def u(x: Any) -> Any:
        return PRODUCTS[number](x) * (jnp.tanh(x @ jnp.asarray(W)) @ jnp.asarray(A))

    x = jnp.asarray(POINTS)
    assert find_cut(get("jax").capture(u, x).graph) is None
    op = opdsl.operator("laplace(u)", coords=f"x[{D}]", fields="u")
    np.testing.assert_allclose(op(u, x), Derivatives(u, POINTS).lap(), rtol=1e-11)


def test_the_planner_takes_it_where_it_pays() -> None:
    op = opdsl.operator("laplace(u)", coords="x[5000]", fields="u")
    plan = op.explain(network=(32, 32), backend="jax")
    assert plan.strategy == "pull_back"
    assert plan.channels == 34
    assert "5000 coordinates enter through 32 linear forms" in str(plan)
