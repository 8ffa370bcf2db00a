"""Matrix functions on JAX and NumPy against nested differentiation of JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opdsl
from opdsl import backends
from opdsl.jets.graph import Derived, Role

X = np.array([[0.3, -0.6], [0.8, 0.2]])
SHIFT = np.array([[4.0, 0.3, -0.2], [0.5, 3.0, 0.1], [-0.4, 0.2, 2.0]])


def _matrix(xp: Any, p: Any) -> Any:
    """A regular 3 × 3 matrix, rows and columns last."""
    s, t = p[..., 0], p[..., 1]
    rows = [[xp.sin(s), s * t, xp.cos(t)], [t, xp.exp(s), s * s], [s - t, xp.sin(t), xp.cos(s * t)]]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2) + xp.asarray(SHIFT)


def _positive(xp: Any, p: Any) -> Any:
    a = _matrix(xp, p)
    return a @ xp.matrix_transpose(a)


def _sides(xp: Any, p: Any) -> Any:
    return xp.stack([xp.stack([p[..., 0], p[..., 1], p[..., 0] * p[..., 1]], axis=-1)], axis=-1)


def _sum(xp: Any, m: Any) -> Any:
    """Every entry counts, each differently."""
    weights = xp.reshape(xp.asarray(np.linspace(1.0, 2.0, m.shape[-1] * m.shape[-2])), tuple(m.shape[-2:]))
    return xp.sum(xp.sum(m * weights, axis=-1), axis=-1)


FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "solve": lambda xp, p: _sum(xp, xp.linalg.solve(_matrix(xp, p), _sides(xp, p))),
    "inv": lambda xp, p: _sum(xp, xp.linalg.inv(_matrix(xp, p))),
    "det": lambda xp, p: xp.linalg.det(_matrix(xp, p)),
    "slogdet": lambda xp, p: xp.linalg.slogdet(_matrix(xp, p))[1],
    "cholesky": lambda xp, p: _sum(xp, xp.linalg.cholesky(_positive(xp, p))),
    "eigh": lambda xp, p: xp.sum(xp.linalg.eigh(_positive(xp, p))[0] ** 2 * xp.asarray([1.0, 2.0, 3.0]), axis=-1),
    "eigenvectors": lambda xp, p: _sum(xp, xp.linalg.eigh(_positive(xp, p))[1] ** 4),
    "qr": lambda xp, p: _sum(xp, xp.linalg.qr(_matrix(xp, p)[..., :2])[1]),
}


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    def all_of(p: Any) -> Any:
        return jnp.stack([f(jnp, p) for f in FUNCTIONS.values()])

    third = jax.jit(jax.vmap(jax.jacfwd(jax.jacfwd(jax.jacfwd(all_of)))))(jnp.asarray(X))
    return {name: np.asarray(third[:, k]) for k, name in enumerate(FUNCTIONS)}


@pytest.mark.family(keep=3)
@pytest.mark.parametrize("backend", ["jax", "numpy"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_third_derivatives(name: str, backend: str, truth: dict[str, Any]) -> None:
    xp: Any = jnp if backend == "jax" else np
    op = opdsl.operator("u_xxx; u_xxy + u_yyy", coords="x y")
    found = op(lambda p: FUNCTIONS[name](xp, p), xp.asarray(X), strategy="collapsed_taylor")
    for have, wanted in zip(found, (truth[name][:, 0, 0, 0], truth[name][:, 0, 0, 1] + truth[name][:, 1, 1, 1]), strict=True):
        np.testing.assert_allclose(have, wanted, rtol=1e-9, atol=1e-9 * np.abs(truth[name]).max())


@pytest.mark.parametrize("backend", ["jax", "numpy"])
@pytest.mark.parametrize("name", ["solve", "inv", "cholesky", "eigh", "qr"])
def test_factorisations_have_a_rule_of_their_own(name: str, backend: str) -> None:
    xp: Any = jnp if backend == "jax" else np
    graph = backends.get(backend).capture(lambda p: FUNCTIONS[name](xp, p), xp.asarray(X)).graph
    nodes = [n for n in graph.nodes if n.operation.role is Role.FACTORISATION]
    assert [n.operation.name for n in nodes if n.operation.name == name]
    assert not any(isinstance(n.rule, Derived) for n in nodes)
