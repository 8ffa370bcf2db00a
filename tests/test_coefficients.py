"""Coefficients of every kind (constant, one per point, a function, trainable) under every strategy that takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, Engine
from references import Floats, Network, assert_close, network, partials, points

import opdsl
from opdsl.strategies import STRATEGIES

KINDS = ("constant", "per point", "function")


def scalar(xp: Any, c: Any) -> Any:
    return 1.0 + 0.5 * xp.sin(c[0]) * c[1]


def vector(xp: Any, c: Any) -> Any:
    return [xp.cos(c[0] + float(k)) + c[-1] for k in range(len(c))]


def matrix(xp: Any, c: Any) -> Any:
    return [[xp.sin(c[0] * float(i + 1)) + float(j) * c[1] for j in range(len(c))] for i in range(len(c))]


BUILD: dict[str, Callable[[Any, Any], Any]] = {"k": scalar, "m": lambda xp, c: xp.exp(c[1]), "b": vector, "w": vector, "a": matrix}


def entries(name: str, x: Floats) -> Floats:
    """The coefficient at the points: (n,), (n, d) or (n, d, d)."""
    made = BUILD[name](np, [x[:, i] for i in range(x.shape[1])])
    if isinstance(made, list):
        made = [np.stack(row, axis=-1) if isinstance(row, list) else row for row in made]
        return np.stack(made, axis=1)
    return np.asarray(made)


def bind(name: str, kind: str, x: Floats, engine: Engine) -> tuple[Any, Floats]:
    """What the user gives, and its values at the points."""
    values = entries(name, x)
    if kind == "constant":
        return engine.array(values[0]), np.broadcast_to(values[0], values.shape)
    if kind == "per point":
        return engine.array(values), values
    return engine.stacked(BUILD[name]), values


class Field:
    """Value, gradient, Hessian and fourth derivatives of a network at the points."""

    def __init__(self, net: Network, x: Floats) -> None:
        d = x.shape[1]
        self.u = partials(net, x, (), 2)[:, 0]
        self.grad = np.stack([partials(net, x, (i,), 2)[:, 0] for i in range(d)], axis=-1)
        rows = [[partials(net, x, (i, j), 2)[:, 0] for j in range(d)] for i in range(d)]
        self.hessian = np.moveaxis(np.array(rows), -1, 0)
        self.lap = np.einsum("nii->n", self.hessian)


def frobenius(a: Floats, h: Floats) -> Floats:
    return np.asarray(np.einsum("nij,nij->n", a, h))


CASES: list[tuple[str, str, Callable[..., Floats]]] = [
    ("k laplace(u)", "k", lambda q, k: k * q.lap),
    ("k laplace(u) + m u_{x_0}", "k m", lambda q, k, m: k * q.lap + m * q.grad[:, 0]),
    ("laplace(u) + k d_0 d_0 u", "k", lambda q, k: q.lap + k * q.hessian[:, 0, 0]),
    ("k d_0 d_1 u + m d_1 d_1 u - u d_0 u", "k m",
     lambda q, k, m: k * q.hessian[:, 0, 1] + m * q.hessian[:, 1, 1] - q.u * q.grad[:, 0]),
    ("b_i d_i u", "b", lambda q, b: np.sum(b * q.grad, axis=1)),
    ("laplace(u) + b_i d_i u + k u", "b k", lambda q, b, k: q.lap + np.sum(b * q.grad, axis=1) + k * q.u),
    ("sum_i(w_i d_i^2 u)", "w", lambda q, w: np.einsum("ni,nii->n", w, q.hessian)),
    ("sum_i(w_i d_i^2 u) + k laplace(u) + b_i d_i u", "w k b",
     lambda q, w, k, b: np.einsum("ni,nii->n", w, q.hessian) + k * q.lap + np.sum(b * q.grad, axis=1)),
    ("a_ij d_i d_j u", "a", lambda q, a: frobenius(a, q.hessian)),
    ("k a_ij d_i d_j u + m laplace(u) + b_i d_i u", "k a m b",
     lambda q, k, a, m, b: k * frobenius(a, q.hessian) + m * q.lap + np.sum(b * q.grad, axis=1)),
    ("a_ij d_i d_j u + sum_i(w_i d_i^2 u) + d_0 d_1 u", "a w",
     lambda q, a, w: frobenius(a, q.hessian) + np.einsum("ni,nii->n", w, q.hessian) + q.hessian[:, 0, 1]),
    ("a_ij d_i u d_j u + laplace(u)^2", "a", lambda q, a: np.einsum("nij,ni,nj->n", a, q.grad, q.grad) + q.lap**2),
    ("a_00 d_0^2 u + a_01 u", "a", lambda q, a: a[:, 0, 0] * q.hessian[:, 0, 0] + a[:, 0, 1] * q.u),
    ("a_ii laplace(u)", "a", lambda q, a: np.einsum("nii->n", a) * q.lap),
]  # fmt: skip
"""Text, names, meaning; in two coordinates sums are written out, in seventeen they are not."""
IDS = [c[0].replace(" ", "") for c in CASES]


def declared(names: str, d: int) -> str:
    return " ".join({"a": f"a[{d},{d}]", "b": f"b[{d}]", "w": f"w[{d}]"}.get(n, n) for n in names.split())


def compare(case: tuple[str, str, Callable[..., Floats]], d: int, kind: str, engine: Engine, strategies: list[str]) -> None:
    text, names, meaning = case
    net, x = network(d, 1, "tanh sin", width=3), points(2, d)
    bound = {n: bind(n, kind, x, engine) for n in names.split()}
    truth = meaning(Field(net, x), *(bound[n][1] for n in names.split()))
    op = opdsl.operator(text, coords=f"x[{d}]", fields="u", params=declared(names, d))
    applied = []
    for strategy in strategies:
        try:
            found = op(engine.network(net), engine.array(x), strategy=strategy, **{n: v for n, (v, _) in bound.items()})
        except opdsl.errors.StrategyError:
            continue
        applied.append(strategy)
        assert_close(engine.read(found), truth, 1e-11)
    assert "auto" in applied


@pytest.mark.family(keep=3)
@pytest.mark.parametrize(("d", "kind"), [(2, "per point"), *((17, kind) for kind in KINDS)])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_numpy(case: Any, d: int, kind: str) -> None:
    compare(case, d, kind, ENGINES["numpy"], ["auto", *STRATEGIES])


@pytest.mark.parametrize("kind", ["constant", "per point"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_torch(case: Any, kind: str) -> None:
    compare(case, 17, kind, ENGINES["torch"], ["auto"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "per point"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_jax(case: Any, kind: str) -> None:
    compare(case, 17, kind, ENGINES["jax"], ["auto"])


@pytest.mark.parametrize("name", ["a", "flat"])
def test_a_matrix_that_is_differentiated(name: str, engine: Engine) -> None:
    """d_i(a_ij d_j u) with a function that returns (d, d) at a point, or its entries side by side."""
    x, net = points(3, 2), network(2, 1, "tanh sin", width=3)

    def rows(xp: Any, c: Any) -> Any:
        return [[1.0 + c[0] * c[1], xp.sin(c[0])], [c[1] ** 2, 2.0 + c[0] ** 2]]

    def columns(xp: Any, c: Any) -> Any:
        return [entry for row in rows(xp, c) for entry in row]

    op = opdsl.operator("d_i(a_ij d_j u)", coords="x y", fields="u")
    found = engine.read(op(engine.network(net), engine.array(x), a=engine.stacked(rows if name == "a" else columns)))
    q = Field(net, x)
    values = np.moveaxis(np.array([[np.broadcast_to(e, 3) for e in row] for row in rows(np, x.T)]), -1, 0)
    flux = np.stack([x[:, 1] + 2 * x[:, 1], np.cos(x[:, 0])], axis=-1)  # ∂_i a_ij
    assert_close(found, frobenius(values, q.hessian) + np.sum(flux * q.grad, axis=1), 1e-11)


def test_a_matrix_network_learns() -> None:
    """The parameters of a torch module that returns (n, d, d) receive their gradient."""
    import torch

    class Matrix(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

        def forward(self, p: torch.Tensor) -> torch.Tensor:
            return self.scale * (p[:, :1, None] * torch.eye(2, dtype=p.dtype))

    matrix, x = Matrix(), torch.tensor([[0.3, 0.7], [1.2, -0.4]], dtype=torch.float64)
    op = opdsl.operator("d_i(a_ij d_j u)", coords="x y", fields="u")
    found = op(lambda p: p[:, 0] ** 2 * p[:, 1], x, a=matrix)  # s (x u_x)_x + s (x u_y)_y = s (4 x y)
    assert_close(found.detach().numpy(), 8 * (x[:, 0] * x[:, 1]).numpy(), 1e-12)
    found.sum().backward()
    assert matrix.scale.grad is not None
    assert_close(matrix.scale.grad.numpy(), (4 * x[:, 0] * x[:, 1]).sum().numpy(), 1e-12)
