"""Structure that is found: the rank of a matrix at its own precision, and which inputs a value depends on."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import opdsl

# ------------------------------------------------------------------------------------------------ rank of a matrix


def _product(rank: int, d: int, dtype: Any) -> Any:
    factor = np.linalg.qr(np.random.default_rng(7).normal(size=(d, d)))[0][:, :rank].astype(dtype)
    return factor @ np.diag(np.linspace(1.0, 9.0, rank)).astype(dtype) @ factor.T


def _network(xp: Any) -> Any:
    return lambda x: xp.sin(xp.sum(x * x, -1)) + x[..., 0] * x[..., 1]


FRAMEWORKS = {"jax": (jnp, jnp.asarray), "torch": (torch, torch.as_tensor), "numpy": (np, np.asarray)}


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rank_of_a_matrix_is_found_at_its_own_precision(name: str, dtype: Any) -> None:
    """A product of rank 8 in 16 coordinates takes 8 directions, the sum and the value; a full matrix takes all."""
    xp, array = FRAMEWORKS[name]
    op = opdsl.operator("a_ij d_i d_j u", coords="x[16]", params="a_ij")
    x = array(np.random.default_rng(1).normal(size=(2, 16)).astype(dtype))
    channels = [
        op.plan(_network(xp), x, strategy="dof", a=array(_product(rank, 16, dtype))).groups[0].method.channels for rank in (8, 16)
    ]
    assert channels == [10, 18]


def test_a_small_block_beside_a_large_one_is_no_rounding() -> None:
    """Weights of 1e-7 beside 1 are below the precision of float32 relative to the whole, and exact in their own rows."""
    from opdsl.strategies.dof import _eigen

    matrix = np.zeros((4, 4))
    matrix[:2, :2] = [[2.0, 1.0], [1.0, 2.0]]
    matrix[2:, 2:] = 1e-7 * np.array([[2.0, 1.0], [1.0, 2.0]])
    static = {(i, j): matrix[i, j] * (1 if i == j else 2) for i in range(4) for j in range(i, 4)}
    found = _eigen(static, 4, float(np.finfo(np.float32).eps))
    rebuilt = sum(w * np.outer(v, v) for v, w in found)
    np.testing.assert_allclose(rebuilt, matrix, rtol=1e-12, atol=1e-20)


# ------------------------------------------------------------------------------------- networks with structure in their inputs
#
# Graphs of blocks, written once for all frameworks, against Hessians by torch's reverse mode.

BLOCKS, EACH, WIDTH = 4, 3, 4
D = BLOCKS * EACH


def _weights(seed: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s) * 0.5 for s in ((BLOCKS, EACH, WIDTH), (BLOCKS, WIDTH, WIDTH), (BLOCKS, WIDTH), (EACH, WIDTH))]


def _separate(xp: Any, w: list[Any], x: Any) -> list[Any]:
    """One network for each block, by slices."""
    out = []
    for b in range(BLOCKS):
        h = xp.tanh(x[..., b * EACH : (b + 1) * EACH] @ w[0][b])
        out.append(xp.sum(xp.sin(h @ w[1][b]) * w[2][b], axis=-1))
    return out


def _stacked(xp: Any, w: list[Any], x: Any) -> Any:
    """The same by products of stacks of matrices: (…, blocks)."""
    h = xp.reshape(x, (*x.shape[:-1], BLOCKS, 1, EACH))
    h = xp.sin(xp.tanh(h @ w[0]) @ w[1])
    return xp.sum(h[..., 0, :] * w[2], axis=-1)


def _shared(xp: Any, w: list[Any], x: Any) -> Any:
    """One network for all blocks: (…, blocks, width)."""
    return xp.tanh(xp.reshape(x, (*x.shape[:-1], BLOCKS, EACH)) @ w[3])


def _folded(found: list[Any], combine: Any) -> Any:
    total = found[0]
    for more in found[1:]:
        total = combine(total, more)
    return total


NETWORKS = {
    "sum of separate networks": lambda xp, w, x: _folded(_separate(xp, w, x), lambda a, b: a + b),
    "product of separate networks": lambda xp, w, x: _folded(_separate(xp, w, x), lambda a, b: a * b),
    "sum of stacked networks": lambda xp, w, x: xp.sum(_stacked(xp, w, x), axis=-1),
    "product of stacked networks": lambda xp, w, x: xp.prod(_stacked(xp, w, x), axis=-1),
    "one pair of blocks after the other": lambda xp, w, x: _pairs(xp, _separate(xp, w, x)),
    "features, then mixed": lambda xp, w, x: xp.sum(xp.sin(_mixed(xp, _shared(xp, w, x)) @ w[1][0]), axis=-1),
    "turned, joined and cut": lambda xp, w, x: _turned(xp, _shared(xp, w, x)),
    "blocks against blocks": lambda xp, w, x: _against(xp, _shared(xp, w, x)),
    "beside a function of all": lambda xp, w, x: xp.sum(_stacked(xp, w, x), axis=-1) * xp.cos(xp.sum(x, axis=-1)) + x[..., 0],
}


def _pairs(xp: Any, found: list[Any]) -> Any:
    return xp.sin(found[0] * found[1]) / (2.0 + xp.cos(found[2])) + xp.exp(found[3] - found[0])


def _mixed(xp: Any, h: Any) -> Any:
    return h[..., 0, :] + h[..., 1, :] * h[..., 2, :] - h[..., 3, :]


def _turned(xp: Any, h: Any) -> Any:
    """(…, width, blocks), its halves exchanged and squared, rows of one block against those of another."""
    axes = (*range(len(h.shape) - 2), len(h.shape) - 1, len(h.shape) - 2)
    turned = xp.permute_dims(h, axes) if hasattr(xp, "permute_dims") else xp.permute(h, axes)
    joined = xp.concat([turned[..., 2:], turned[..., :2]], axis=-1)
    return xp.sum(joined**2 * turned[..., ::1], axis=(-2, -1)) + xp.sum(xp.exp(joined[..., 0, :]), axis=-1)


def _against(xp: Any, h: Any) -> Any:
    """Products of all pairs, as in attention."""
    axes = (*range(len(h.shape) - 2), len(h.shape) - 1, len(h.shape) - 2)
    turned = xp.permute_dims(h, axes) if hasattr(xp, "permute_dims") else xp.permute(h, axes)
    return xp.sum(xp.tanh(h @ turned), axis=(-2, -1))


class _Torch:
    """The names of the array API that torch spells otherwise."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, {"concat": "cat"}.get(name, name))

    @staticmethod
    def sum(a: Any, axis: Any) -> Any:
        return torch.sum(a, dim=axis)

    @staticmethod
    def concat(arrays: Any, axis: int) -> Any:
        return torch.cat(arrays, dim=axis)

    @staticmethod
    def prod(a: Any, axis: int) -> Any:
        return torch.prod(a, dim=axis)


SPACES = {"jax": jnp, "torch": _Torch(), "numpy": np}
OPERATORS = {
    "laplace(u)": ("forward_laplacian", lambda h, g: np.trace(h, axis1=1, axis2=2)),
    "laplace(u) - 3 d_2 d_2 u + d_1 u": ("dof", lambda h, g: np.trace(h, axis1=1, axis2=2) - 3 * h[:, 2, 2] + g[:, 1]),
    "sum_i(w_i d_i^2 u) + 2 d_0 d_11 u": ("dof", lambda h, g: np.einsum("nii,i->n", h, SCALES) + 2 * h[:, 0, 11]),
    "laplace(u) + |grad u|^2": ("forward_laplacian", lambda h, g: np.trace(h, axis1=1, axis2=2) + np.sum(g * g, axis=1)),
}
SCALES = np.linspace(1.0, 2.0, D)
X = np.random.default_rng(3).uniform(-1.0, 1.0, (2, D))


@cache
def truth(name: str) -> tuple[Any, Any]:
    """Hessians and gradients of a network by torch."""
    w = [torch.as_tensor(a) for a in _weights(0)]

    def u(x: Any) -> Any:
        return NETWORKS[name](SPACES["torch"], w, x)

    found = []
    for row in X:
        x = torch.tensor(row, requires_grad=True)
        (gradient,) = torch.autograd.grad(u(x), x, create_graph=True)
        rows = [torch.autograd.grad(g, x, retain_graph=True)[0].numpy() for g in gradient]
        found.append((np.stack(rows), gradient.detach().numpy()))
    hessians, gradients = zip(*found, strict=True)
    return np.stack(hessians), np.stack(gradients)


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_operators_on_networks_of_blocks(name: str, network: str) -> None:
    _, array = FRAMEWORKS[name]
    w = [array(a) for a in _weights(0)]
    # Compiling is what JAX takes time for: one operator there, with unequal weights and a part of first order.
    for text, (strategy, expected) in list(OPERATORS.items())[slice(1, 2) if name == "jax" else slice(None)]:
        op = opdsl.operator(text, coords=f"x[{D}]", **({"params": "w_i"} if "w_i" in text else {}))
        given = {"w": array(SCALES)} if "w_i" in text else {}
        found = op(lambda x: NETWORKS[network](SPACES[name], w, x), array(X), strategy=strategy, **given)
        np.testing.assert_allclose(np.asarray(found), expected(*truth(network)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_high_orders_on_networks_of_blocks(name: str) -> None:
    """Σ_i ∂_i⁴ of Π_b sin(a_b · x_b) is Σ_i a_i⁴ times the function."""
    xp, (_, array) = SPACES[name], FRAMEWORKS[name]
    a = array(np.linspace(0.5, 1.5, D))

    def u(x: Any) -> Any:
        return xp.prod(xp.sin(xp.sum(xp.reshape(x * a, (*x.shape[:-1], BLOCKS, EACH)), axis=-1)), axis=-1)

    sines = np.sin((X * np.asarray(a)).reshape(-1, BLOCKS, EACH).sum(-1))
    found = opdsl.operator("sum_i(d_i^4 u)", coords=f"x[{D}]")(u, array(X), strategy="collapsed_taylor")
    np.testing.assert_allclose(np.asarray(found), np.sum(np.asarray(a) ** 4) * sines.prod(-1), rtol=1e-11)


def _widths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many directions functions of entries see, from now on."""
    from opdsl.jets.directional import Directional

    seen: list[int] = []
    compose = Directional.compose

    def spy(self: Any, *args: Any) -> Any:
        seen.append(sum(size for size, _ in self.groups))
        return compose(self, *args)

    monkeypatch.setattr(Directional, "compose", spy)
    return seen


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_functions_of_blocks_carry_the_directions_of_a_block(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three channels before blocks meet; where all entries depend on everything, as many as ever."""
    xp, (_, array) = SPACES[name], FRAMEWORKS[name]
    w = [array(a) for a in _weights(0)]
    op, x = opdsl.operator("laplace(u)", coords=f"x[{D}]"), array(X)
    seen = _widths(monkeypatch)
    for network in ("sum of stacked networks", "sum of separate networks"):
        op(lambda x, network=network: NETWORKS[network](xp, w, x), x, strategy="forward_laplacian")
        assert set(seen) == {EACH}
        seen.clear()
    full = array(np.random.default_rng(0).normal(size=(D, 5)))
    op(lambda x: xp.sum(xp.tanh(x @ full), axis=-1), x, strategy="forward_laplacian")
    assert set(seen) == {D}


def test_plans_tell_what_is_carried() -> None:
    w = _weights(0)
    op = opdsl.operator("laplace(u)", coords=f"x[{D}]")
    lines = str(op.explain(lambda x: NETWORKS["sum of stacked networks"](np, w, x), X)).splitlines()
    assert any(f"entries depend on few of them: {EACH} to {D}" in line for line in lines)
    full = np.ones((D, 5))
    assert "depend on few" not in str(op.explain(lambda x: np.sum(np.tanh(x @ full), axis=-1), X))
