"""Structure that is found: the rank of a matrix at its own precision, and which inputs a value depends on."""

from __future__ import annotations

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
    """A product of rank 32 in 64 coordinates takes 32 directions, the sum and the value; a full matrix takes all."""
    xp, array = FRAMEWORKS[name]
    op = opdsl.operator("a_ij d_i d_j u", coords="x[64]", params="a_ij")
    x = array(np.random.default_rng(1).normal(size=(2, 64)).astype(dtype))
    channels = [
        op.plan(_network(xp), x, strategy="dof", a=array(_product(rank, 64, dtype))).groups[0].method.channels for rank in (32, 64)
    ]
    assert channels == [34, 66]


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
