"""Half-precision networks: parameters and points of 16 bits, everything between them in float32.

The reference is the same function with the same (rounded) parameters in double precision. What remains is float32 rounding, some
hundred operations of it: 2⁻²⁴ · 200, far below the 2⁻¹¹ and 2⁻⁸ of the networks' own numbers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax import lax
from torch import nn

import opdsl

TOLERANCE = 200 * 2.0**-24
TEXTS = ("laplace(u)", "u_xxxx + u_x u_y", "nu*laplace(u)", "laplace(laplace(u))")
_random = np.random.default_rng(3)
_POINTS = _random.uniform(-1, 1, (4, 2))
_WEIGHTS = [_random.normal(size=s) / np.sqrt(s[0]) for s in ((2, 8), (8, 8), (8, 1))]


@jax.custom_jvp
def declared(x: Any) -> Any:
    """x sin x, with a derivative of its own."""
    return jnp.sin(x) * x


declared.defjvp(lambda p, t: (declared(p[0]), (jnp.cos(p[0]) * p[0] + jnp.sin(p[0])) * t[0]))


@jax.custom_vjp
def backwards(x: Any) -> Any:
    """sin, its derivative declared backwards."""
    return jnp.sin(x)


backwards.defvjp(lambda x: (backwards(x), x), lambda x, g: (g * jnp.cos(x),))

JAX: dict[str, Callable[[Any], Any]] = {
    "tanh": jnp.tanh,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softmax": jax.nn.softmax,
    "custom_jvp": declared,
    "custom_vjp": backwards,
    "remat": jax.checkpoint(jnp.sin),  # type: ignore[attr-defined]
    "scan": lambda h: lax.scan(lambda c, _: (jnp.sin(c), None), h, None, length=6)[0],
    "while": lambda h: lax.while_loop(lambda c: c[0] < 5, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, h))[1],
    "cond": lambda h: lax.cond(h[0] > 0, jnp.sin, jnp.cos, h),
    "cast": lambda h: jnp.tanh(h.astype(jnp.bfloat16) if h.dtype == jnp.bfloat16 else h),
}


def close(found: Any, truth: Any) -> None:
    truth = np.asarray(truth, np.float64)
    np.testing.assert_allclose(np.asarray(found, np.float64), truth, rtol=0, atol=TOLERANCE * np.abs(truth).max())


@pytest.mark.family(keep=5)
@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", JAX)
def test_jax(name: str, half: Any) -> None:
    def network(weights: Any, p: Any) -> Any:
        first, second, last = weights
        return (JAX[name](JAX[name](p @ first) @ second) @ last)[0]

    weights, x = [jnp.asarray(w, half) for w in _WEIGHTS], jnp.asarray(_POINTS, half)
    wide = [jnp.asarray(w, jnp.float64) for w in weights]
    for text in TEXTS if name == "tanh" else TEXTS[:1]:
        op = opdsl.operator(text, coords="x y", params="nu" if "nu" in text else "")
        given = {"nu": jnp.asarray(0.375, half)} if "nu" in text else {}
        truth = op(lambda p: network(wide, p), x.astype(jnp.float64), **{k: v.astype(jnp.float64) for k, v in given.items()})
        found = op(network, x, params=weights, **given) if text == "laplace(u)" else op(lambda p: network(weights, p), x, **given)
        assert found.dtype == jnp.float32
        close(found, truth)


def test_jax_gradients_have_the_precision_of_the_parameters() -> None:
    weights, x = [jnp.asarray(w, jnp.bfloat16) for w in _WEIGHTS], jnp.asarray(_POINTS, jnp.bfloat16)
    op = opdsl.operator("laplace(u)", coords="x y")

    def loss(weights: Any) -> Any:
        value = op(lambda p: (jnp.tanh(jnp.tanh(p @ weights[0]) @ weights[1]) @ weights[2])[0], x.astype(weights[0].dtype))
        return (value**2).sum()

    found, truth = jax.grad(loss)(weights), jax.grad(loss)([w.astype(jnp.float64) for w in weights])
    for a, b in zip(found, truth, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.asarray(a, np.float64), b, rtol=2.0**-8, atol=2.0**-8 * float(jnp.abs(b).max()))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(2, 12), nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        h = self.first(x).reshape(-1, 3, 4)
        return (self.norm(self.attention(h, h, h)[0]) * h).sum((1, 2))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell = nn.Linear(2, 12), nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.cell(self.first(x).reshape(-1, 3, 4))[0].sum((1, 2))


class Writing(nn.Module):
    """Casts, new tensors and slices written in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 5)

    def forward(self, x: Any) -> Any:
        h = self.first(x)
        h = h if h.dtype == torch.float64 else h.to(self.first.weight.dtype).to(torch.float32).type_as(h)
        out = torch.zeros(x.shape[0], 5, dtype=x.dtype)
        out[:, 1:] += h[:, 1:].sin()
        return out.sum(1)


def _torch_networks() -> dict[str, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {
            "plain": nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 1), nn.Flatten(0)),
            "attention": Attention(),
            "recurrent": Recurrent(),
            "writing": Writing(),
            "weight norm": nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 6)), nn.SiLU(), nn.Linear(6, 1)),
        }


TORCH = _torch_networks()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", TORCH)
def test_torch(name: str, half: torch.dtype) -> None:
    network = copy.deepcopy(TORCH[name]).to(half)
    wide, x = copy.deepcopy(network).double(), torch.tensor(_POINTS).to(half)
    for text in TEXTS if name == "plain" else TEXTS[:1]:
        op = opdsl.operator(text, coords="x y", params="nu" if "nu" in text else "")
        given = {"nu": torch.tensor(0.375, dtype=half)} if "nu" in text else {}
        truth = op(wide, x.double(), **{k: v.double() for k, v in given.items()})
        for found in (op(network, x, **given), op.bind(network, x, **given)(x)):
            assert found.dtype == torch.float32
            close(found.detach(), truth.detach())
    found, truth = (
        torch.autograd.grad(opdsl.operator("laplace(u)", coords="x y")(n, p).square().sum(), list(n.parameters()), allow_unused=True)
        for n, p in ((network, x), (wide, x.double()))
    )
    eps = torch.finfo(half).eps
    for a, b in zip(found, truth, strict=True):
        if b is not None and float(b.abs().max()) < 6e4:
            assert a.dtype == half
            torch.testing.assert_close(a.double(), b, rtol=eps, atol=eps * max(float(b.abs().max()), 1e-3))


def test_single_and_double_precision_are_left_alone() -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor(_POINTS).to(dtype)
        assert opdsl.operator("laplace(u)", coords="x y")(lambda p: (p**3).sum(1), x).dtype == dtype
