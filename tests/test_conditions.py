"""Boundary and initial data at the places they name: called, bound, compared between two places, in any dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engines import ENGINES, Engine
from references import assert_close, points

import opdsl
from opdsl.errors import OpdslError

TEXT = """u_t = u_xx
init: u(t=0) = x^2
left: u(x=0) = g
slope: u_x(x=L) = t
periodic: u(x=0) = u(x=L)
flux: u_x(x=0) - u_x(x=2) = g t
mixed: 2 u(t=0) + u(x=1) + x = 0"""
MEANING: dict[str, Any] = {
    "init": lambda u, ux, t, x, g, L: u(0 * t, x) - x**2,
    "left": lambda u, ux, t, x, g, L: u(t, 0 * x) - g,
    "slope": lambda u, ux, t, x, g, L: ux(t, 0 * x + L) - t,
    "periodic": lambda u, ux, t, x, g, L: u(t, 0 * x) - u(t, 0 * x + L),
    "flux": lambda u, ux, t, x, g, L: ux(t, 0 * x) - ux(t, 0 * x + 2) - g * t,
    # What names no place goes with the first one; here that is t = 0.
    "mixed": lambda u, ux, t, x, g, L: 2 * u(0 * t, x) + u(t, 0 * x + 1) + x,
}
USES = {"left": "g", "slope": "L", "periodic": "L", "flux": "g"}
VALUES = {"g": 0.7, "L": 1.5}


def wave(t: Any, x: Any) -> Any:
    return np.sin(2 * x - t) + x**3 * t


def wave_x(t: Any, x: Any) -> Any:
    return 2 * np.cos(2 * x - t) + 3 * x**2 * t


def network(engine: Engine) -> Any:
    return engine.function(lambda xp, c: xp.sin(2 * c[1] - c[0]) + c[1] ** 3 * c[0])


def operator() -> opdsl.Operator:
    return opdsl.operator(TEXT, coords="t x", fields="u", params="g L")


@pytest.mark.parametrize("name", MEANING)
def test_called_and_bound(name: str, engine: Engine) -> None:
    x = points(4, 2)
    condition, net = operator().conditions[name], network(engine)
    given = {k: v for k, v in VALUES.items() if k in USES.get(name, "")}
    expected = MEANING[name](wave, wave_x, x[:, 0], x[:, 1], **VALUES)
    assert_close(engine.read(condition(net, engine.array(x), **given)), expected, 1e-12, scale=5.0)
    assert_close(engine.read(condition(net, engine.array(x[0]), **given)), expected[0], 1e-12, scale=5.0)
    if engine.name == "torch":  # a bound torch step owns its network
        net = Wrapped(net)
    total = 0
    for part in condition.parts:
        total = total + part.bind(net, engine.array(x[:2]), **part._own(given, condition.parts))(engine.array(x))
    assert_close(engine.read(total), expected, 1e-12, scale=5.0)


def Wrapped(function: Any) -> Any:
    import torch

    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    return Module()


def test_a_step_takes_the_place_again() -> None:
    x = points(4, 2)
    step = operator().conditions["slope"].bind(network(ENGINES["numpy"]), x, L=1.5)
    assert_close(step(x, L=0.5), wave_x(x[:, 0], 0 * x[:, 1] + 0.5) - x[:, 0], 1e-12, scale=5.0)


def test_gradients_reach_the_place_and_the_network() -> None:
    """∂/∂L of u_x(x=L) − t is u_xx(L)."""
    import jax
    import jax.numpy as jnp

    condition, net = operator().conditions["slope"], network(ENGINES["jax"])
    x = jnp.asarray(points(1, 2))
    found = jax.grad(lambda L: condition(net, x, L=L)[0])(1.5)
    assert_close(found, -4 * np.sin(3.0 - x[0, 0]) + 9 * x[0, 0], 1e-12)


@pytest.mark.parametrize("d", [1, 2, 5, 30])
def test_the_dimension_may_be_open(d: int) -> None:
    op = opdsl.operator("u_t = Δu; a: u(t=0) = x_i x_i; b: u(t=0) = u(t=1); c: ∂_n u = 0", coords="t x[d]", fields="u")
    x, normal = points(3, d + 1), np.linspace(-1.0, 1.0, d)

    def u(p: Any) -> Any:
        return p[:, 0] + 2 * np.sum(p[:, 1:] ** 2, axis=-1)

    assert_close(op.conditions["a"](u, x), np.sum(x[:, 1:] ** 2, axis=1), 1e-12)
    assert_close(op.conditions["a"].bind(u, x)(x), np.sum(x[:, 1:] ** 2, axis=1), 1e-12)
    assert_close(op.conditions["b"](u, x), -np.ones(3), 1e-12)
    assert_close(op.conditions["c"](u, x, n=normal), 4 * x[:, 1:] @ normal, 1e-12)


@pytest.mark.parametrize(("text", "message"), [
    ("u(x=0)*u(x=1) = 0", "one term of a condition is taken at one place, this at two"),
    ("(u(x=0) + u(x=1))^2 = 0", "one term of a condition is taken at one place, this at two"),
])  # fmt: skip
def test_refused(text: str, message: str) -> None:
    op = opdsl.operator(f"u_xx = 0; {text}", coords="x", fields="u")
    with pytest.raises(OpdslError, match=message):
        _ = op.conditions


def test_what_a_condition_needs() -> None:
    conditions, net, x = operator().conditions, network(ENGINES["numpy"]), points(2, 2)
    with pytest.raises(OpdslError, match="bind L="):
        conditions["slope"](net, x)
    with pytest.raises(OpdslError, match="no parameter 'g'"):
        conditions["periodic"](net, x, g=1.0, L=1.0)
    with pytest.raises(OpdslError, match="compares 2 places"):
        conditions["periodic"].bind(net, x, L=1.0)


ORDINARY = {
    "u(0, x, y) = x": lambda u, g, x, n: u(x * [0, 1, 1]) - x[:, 1],
    "u(t, 1, y) = k": lambda u, g, x, n: u(x * [1, 0, 1] + [0, 1, 0]) - 0.5,
    "u(x, y, k) = 0": lambda u, g, x, n: u(x * [0, 1, 1] + [0.5, 0, 0]),
    "∂u/∂x(t, 0, y) = k": lambda u, g, x, n: g(x * [1, 0, 1])[:, 0] - 0.5,
    "k ∂u/∂n + 2 (u - 3) = 0": lambda u, g, x, n: 0.5 * g(x) @ n + 2 * (u(x) - 3),
    "n·∇u = k": lambda u, g, x, n: g(x) @ n - 0.5,
    "∇u·n = 0": lambda u, g, x, n: g(x) @ n,
    "n_i d_i u = x": lambda u, g, x, n: g(x) @ n - x[:, 1],
}  # fmt: skip
"""u(t, x, y) = x² y + t y³, its spatial gradient, points and the normal."""


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_notations(text: str, engine: Engine) -> None:
    op = opdsl.operator(f"u_t = Δu; place: {text}", coords="t x y", fields="u", params="k")
    x, n = points(4, 3), np.array([0.6, -0.8])
    net = engine.function(lambda xp, c: c[1] ** 2 * c[2] + c[0] * c[2] ** 3)

    def u(p: Any) -> Any:
        return p[:, 1] ** 2 * p[:, 2] + p[:, 0] * p[:, 2] ** 3

    def gradient(p: Any) -> Any:
        return np.stack([2 * p[:, 1] * p[:, 2], p[:, 1] ** 2 + 3 * p[:, 0] * p[:, 2] ** 2], axis=-1)

    given = ({"k": 0.5} if "k" in text else {}) | ({"n": list(n)} if "n" in text else {})
    found = op.conditions["place"](net, engine.array(x), **given)
    assert_close(engine.read(found), ORDINARY[text](u, gradient, x, n), 1e-12, scale=5.0)


def test_only_components_of_a_vector_of_coordinates_are_fixed() -> None:
    for text in ("u(x=0) = 0", "u(t, 0) = 0"):
        with pytest.raises(OpdslError, match="x is a coordinate vector"):
            opdsl.operator(f"u_t = Δu; {text}", coords="t x[2]", fields="u")
    op = opdsl.operator("u_t = Δu; u(x_0=2) = 0", coords="t x[2]", fields="u")
    assert op.conditions["eq2"](lambda p: p[:, 0] + p[:, 1], np.ones((1, 3))) == [3.0]


def test_an_unknown_called_n(engine: Engine) -> None:
    """A field called n needs no normal; where there is one, it is bound as n."""
    op = opdsl.operator("n_t = D Δn; wall: dn(n) = g", coords="t x y", fields="n", params="D g")
    x, normal = points(3, 3), np.array([0.6, -0.8])
    net = engine.function(lambda xp, c: c[0] * c[1] ** 2 + c[2] ** 3)
    assert_close(engine.read(op(net, engine.array(x), D=0.5)), x[:, 1] ** 2 - 0.5 * (2 * x[:, 0] + 6 * x[:, 2]), 1e-12, scale=5.0)
    found = op.conditions["wall"](net, engine.array(x), n=list(normal), g=2.0)
    assert_close(engine.read(found), 1.2 * x[:, 0] * x[:, 1] - 2.4 * x[:, 2] ** 2 - 2.0, 1e-12, scale=5.0)
