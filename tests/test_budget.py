"""Memory budgets: the same numbers and gradients in pieces."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import Engine

import opdsl
from opdsl.errors import BindingError

RNG = np.random.default_rng(3)
W, A, X, NU = RNG.normal(size=(3, 16)), RNG.normal(size=16), RNG.normal(size=(23, 3)), RNG.uniform(size=23)
OP = opdsl.operator("u_t - nu*laplace(u) + k*u^2", coords="t x y", fields="u", params="nu k")


def network(engine: Engine) -> Any:
    w, a = engine.array(W), engine.array(A)
    if engine.name == "torch":
        return lambda x: torch.tanh(x @ w) @ a
    return lambda x: x.__array_namespace__().tanh(x @ w) @ a


@pytest.mark.parametrize("memory", ["9 kB", 5000, 1])
def test_pieces_give_the_same_numbers(engine: Engine, memory: Any) -> None:
    u, x, nu = network(engine), engine.array(X), engine.array(NU)
    plan = OP.plan(u, x, nu=nu, k=0.5, memory=memory)
    assert 1 < plan.pieces <= 23
    assert f"23 points in {plan.pieces} pieces" in str(plan)
    whole = engine.read(OP(u, x, nu=nu, k=0.5))
    np.testing.assert_allclose(engine.read(OP(u, x, nu=nu, k=0.5, memory=memory)), whole, rtol=1e-13)
    step = OP.bind(u, x, nu=nu, k=0.5, memory=memory)
    np.testing.assert_allclose(engine.read(step(x)), whole, rtol=1e-13)
    assert OP.plan(u, x, nu=nu, k=0.5, memory="1 GiB").pieces == 1


def test_gradients_in_pieces() -> None:
    def loss(w: Any, memory: Any) -> Any:
        given = {} if memory is None else {"memory": memory}
        found = OP(lambda w, p: jnp.tanh(p @ w) @ jnp.asarray(A), jnp.asarray(X), params=w, nu=jnp.asarray(NU), k=0.5, **given)
        return jnp.mean(found**2)

    have, want = (jax.grad(loss)(jnp.asarray(W), memory) for memory in ("9 kB", None))
    np.testing.assert_allclose(have, want, rtol=1e-12)


def test_torch_keeps_less_for_reverse_mode() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
    op, x = opdsl.operator("laplace(u)", coords="x y z", fields="u"), torch.randn(512, 3)
    found = []
    for given in ({}, {"memory": "200 kB"}):
        kept = 0

        def pack(t: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += t.numel() * t.element_size()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            value = op(net, x, **given).pow(2).mean()
        before = kept
        grads = torch.autograd.grad(value, list(net.parameters())[:4])
        found.append((before, value, *grads))
    assert found[1][0] < found[0][0] / 4
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("memory", ["a lot", 0, -5, "3 parsecs", True])
def test_budgets_that_are_none(memory: Any) -> None:
    with pytest.raises(BindingError, match="6 GiB"):
        OP(lambda p: p[0], jnp.asarray(X), nu=0.1, k=0.1, memory=memory)
