"""Residuals differentiate like any other function: in parameters, bindings and points, on both frameworks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import ENGINES, Engine
from jax.test_util import check_grads
from references import assert_close, nested_grad, network, points, torch_loop

import opdsl

TEXTS = [
    ("u_t + u u_x - nu u_xx", "t x"),
    ("u_xy u_x + nu sin(u)", "x y"),
    ("nu Δ²u + u_x^2", "x y"),
    ("u_xxx + nu |u_x|", "x"),
]
STRATEGIES = ["auto", "collapsed_taylor", "derivative_space"]


def operator(text: str, coords: str) -> opdsl.Operator:
    return opdsl.operator(text, coords=coords, params="?nu", fields="u")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("text", "coords"), TEXTS)
def test_torch_gradcheck(text: str, coords: str, strategy: str) -> None:
    """Finite differences in weights, nu and points."""
    d = len(coords.split())
    net, op = network(d, 1, "tanh", width=2), operator(text, coords)
    flat = [torch.tensor(w, requires_grad=True) for layer in net.layers for w in layer]
    nu, x = torch.tensor(0.3, dtype=torch.float64, requires_grad=True), torch.tensor(points(2, d), requires_grad=True)

    def residual(nu: Any, x: Any, *weights: Any) -> Any:
        def u(weights: Any, p: Any) -> Any:
            w1, b1, w2, b2 = weights
            return torch.tanh(p @ w1.T + b1) @ w2.T + b2

        return op(u, x, params=list(weights), nu=nu, strategy=strategy)

    assert torch.autograd.gradcheck(residual, (nu, x, *flat), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("text", "coords", "strategy"), [(*TEXTS[0], "auto"), (*TEXTS[1], "derivative_space"),
                                                          (*TEXTS[2], "collapsed_taylor"), (*TEXTS[2], "derivative_space")])  # fmt: skip
def test_jax_check_grads(text: str, coords: str, strategy: str) -> None:
    """Finite differences, forward and reverse, in weights, nu and points."""
    d = len(coords.split())
    net, op = network(d, 1, "tanh", width=2), operator(text, coords)
    weights = [jnp.asarray(w) for layer in net.layers for w in layer]

    def residual(weights: Any, nu: Any, x: Any) -> Any:
        def u(weights: Any, p: Any) -> Any:
            w1, b1, w2, b2 = weights
            return jnp.tanh(p @ w1.T + b1) @ w2.T + b2

        # `check_grads` moves its arguments as NumPy arrays.
        return jnp.sum(op(u, jnp.asarray(x), params=weights, nu=nu, strategy=strategy) ** 2)

    check_grads(residual, (weights, jnp.asarray(0.3), jnp.asarray(points(2, d))), order=1, rtol=1e-6, atol=1e-6)


def test_torch_module_gradients_against_loops() -> None:
    """Gradients of the loss of a module's residual: those of a residual built from autograd loops."""
    net = network(2, 1, "tanh tanh", width=3)
    module = ENGINES["torch"].network(net)
    x = points(4, 2)
    op = operator("u_t + u u_x - nu u_xx", "t x")
    (op(module, torch.tensor(x), nu=0.3) ** 2).mean().backward()
    found = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    p = torch.tensor(x, requires_grad=True)
    u = module(p)[:, 0]
    (first,) = torch.autograd.grad(u.sum(), p, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 1].sum(), p, create_graph=True)
    ((first[:, 0] + u * first[:, 1] - 0.3 * second[:, 1]) ** 2).mean().backward()
    for a, b in zip(found, module.parameters(), strict=True):
        assert_close(a, b.grad, 1e-11)


def test_torch_func() -> None:
    """`torch.func`: grad over parameters of a functional call, vmap over points, jacrev over a binding."""
    net = network(2, 1, "tanh", width=3)
    module = ENGINES["torch"].network(net)
    op = operator("u_t + u u_x - nu u_xx", "t x")
    x = torch.tensor(points(4, 2))
    weights = dict(module.named_parameters())

    def loss(weights: Any) -> Any:
        return (op(lambda p: torch.func.functional_call(module, weights, (p,)), x, nu=0.3) ** 2).mean()

    by_func = torch.func.grad(loss)(weights)
    (op(module, x, nu=0.3) ** 2).mean().backward()
    for name, value in module.named_parameters():
        assert_close(by_func[name].detach(), value.grad, 1e-12)
    slope = torch.func.jacrev(lambda nu: op(module, x, nu=nu))(torch.tensor(0.3, dtype=torch.float64))
    assert_close(slope.detach(), -torch_loop(lambda p: net.on(torch, p, torch.tensor), x.numpy(), (1, 1)), 1e-12)


def test_jax_transformations_compose() -> None:
    """grad, jit and vmap over the operator; the slope in nu is −u_xx."""
    net = network(2, 1, "tanh", width=3)
    op, u = operator("u_t + u u_x - nu u_xx", "t x"), ENGINES["jax"].network(net)
    x = jnp.asarray(points(4, 2))
    second = nested_grad(u, np.asarray(x), (1, 1))
    slope = jax.jit(jax.jacrev(lambda nu: op(u, x, nu=nu)))(0.3)
    assert_close(slope, -second, 1e-12)
    each = jax.vmap(lambda p, nu: op(u, p, nu=nu))(x, jnp.linspace(0.1, 0.4, 4))
    assert_close(each, jnp.stack([op(u, p, nu=float(nu)) for p, nu in zip(x, np.linspace(0.1, 0.4, 4), strict=True)]), 1e-12)


def test_gradient_in_a_coefficient_array(differentiable: Engine) -> None:
    """∂(a_ij ∂_i∂_j u)/∂a is the Hessian."""
    net, x = network(2, 1, "tanh", width=3), points(2, 2)
    op = opdsl.operator("a_ij d_i d_j u", coords="x y")
    a = np.array([[1.0, 0.5], [0.2, -1.0]])
    u = differentiable.network(net)
    if differentiable.name == "torch":
        matrix = torch.tensor(a, requires_grad=True)
        op(u, torch.tensor(x), a=matrix).sum().backward()
        found = matrix.grad
    else:
        found = jax.grad(lambda m: jnp.sum(op(u, jnp.asarray(x), a=m)))(jnp.asarray(a))
    hessian = [[np.sum(nested_grad(ENGINES["jax"].network(net), x, (i, j))) for j in (0, 1)] for i in (0, 1)]
    assert_close(found, hessian, 1e-12)


def test_gradient_through_a_coefficient_network(differentiable: Engine) -> None:
    """∂_x(k ∂_x u) for a network k: the loss's slope in k's weights, against finite differences."""
    base, op = network(1, 1, "tanh", width=3), opdsl.operator("d_x(k d_x u)", coords="x")
    x = differentiable.array(points(3, 1))
    u = differentiable.network(network(1, 1, "sin", width=3, seed=1))
    weight = base.layers[0][0]

    def loss(w: Any) -> Any:
        def k(p: Any) -> Any:
            xp = differentiable.xp
            rest = [differentiable.array(v) for layer in base.layers for v in layer][1:]
            return xp.tanh(p @ w.T + rest[0]) @ rest[1].T + rest[2]

        return differentiable.xp.sum(op(u, x, k=k) ** 2)

    step = 1e-6
    moved = [weight.copy(), weight.copy()]
    moved[0][1, 0] += step
    moved[1][1, 0] -= step
    values = [float(differentiable.read(loss(differentiable.array(m)))) for m in moved]
    slope = (values[0] - values[1]) / (2 * step)
    if differentiable.name == "torch":
        w = torch.tensor(weight, requires_grad=True)
        loss(w).backward()
        found = float(w.grad[1, 0])
    else:
        found = float(jax.grad(loss)(jnp.asarray(weight))[1, 0])
    assert abs(found - slope) < 1e-6 * max(abs(slope), 1.0)


def test_bound_step_follows_the_network() -> None:
    """`bind` keeps live parameters: an optimiser step shows in the next value."""
    module = ENGINES["torch"].network(network(2, 1, "tanh", width=3))
    op, x = operator("u_t + u u_x - nu u_xx", "t x"), torch.tensor(points(4, 2))
    step = op.bind(module, x, nu=0.3)
    before = step(x)
    assert_close(before.detach(), op(module, x, nu=0.3).detach(), 1e-14)
    assert len(list(step.parameters())) >= len(list(module.parameters()))
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(1.1)
    after = step(x)
    assert_close(after.detach(), op(module, x, nu=0.3).detach(), 1e-14)
    assert float((after - before).detach().abs().max()) > 1e-3
    assert_close(step(x, nu=torch.tensor(0.5, dtype=torch.float64)).detach(), op(module, x, nu=0.5).detach(), 1e-14)


def test_bound_step_of_jax_parameters() -> None:
    net, op = network(2, 1, "tanh", width=3), operator("u_t + u u_x - nu u_xx", "t x")
    weights = [jnp.asarray(w) for layer in net.layers for w in layer]

    def u(weights: Any, p: Any) -> Any:
        w1, b1, w2, b2 = weights
        return jnp.tanh(p @ w1.T + b1) @ w2.T + b2

    x = jnp.asarray(points(4, 2))
    step = op.bind(u, x, params=weights, nu=0.3)
    assert_close(jax.jit(step)(weights, x), op(u, x, params=weights, nu=0.3), 1e-13)
    other = [1.1 * w for w in weights]
    assert_close(step(other, x), op(u, x, params=other, nu=0.3), 1e-13)


@pytest.mark.parametrize("inner", ["auto", "nested_ad"])
def test_operators_nest(inner: str, differentiable: Engine) -> None:
    """Δ(Δu) by an operator inside the network of another is Δ²u, also in its parameter gradients."""
    laplace, bilap = opdsl.operator("laplace(u)", coords="x y"), opdsl.operator("Δ²u", coords="x y")
    net, x = network(2, 1, "tanh", width=3), differentiable.array(points(3, 2))
    if differentiable.name == "jax":
        w = jnp.asarray(net.layers[0][0])

        def values(op: Any, nest: bool, w: Any) -> Any:
            def u(p: Any) -> Any:
                return jnp.tanh(p @ w.T) @ jnp.asarray(net.layers[1][0][0])

            return op((lambda p: laplace(u, p, strategy=inner)) if nest else u, x)

        assert_close(values(laplace, True, w), values(bilap, False, w), 1e-12)
        slopes = [jax.grad(lambda w, a=a: jnp.sum(values(*a, w)))(w) for a in ((laplace, True), (bilap, False))]
        assert_close(slopes[0], slopes[1], 1e-11)
        return
    module = differentiable.network(net)
    nested, whole = laplace(lambda p: laplace(module, p, strategy=inner), x), bilap(module, x)
    assert_close(nested.detach(), whole.detach(), 1e-12)
    first, second = (torch.autograd.grad(r.sum(), list(module.weights)[:3]) for r in (nested, whole))
    for a, b in zip(first, second, strict=True):
        assert_close(a, b, 1e-11)
