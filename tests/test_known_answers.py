"""Equations on solutions known in closed form: solitons, fronts, Taylor–Green flow, eigenfunctions, exponentials."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, Engine
from hypothesis import given, settings
from hypothesis import strategies as st
from references import assert_close, points

import opdsl

Solution = Callable[[Any, Any], Any]
"""(namespace, columns) → one array, or a list of components."""


@dataclass(frozen=True)
class Known:
    """An equation and a solution; ``scale`` is the size of the terms that must cancel.

    ``value`` is the residual's closed form where it does not vanish.
    """

    text: str
    coords: str
    solution: Solution
    bindings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    scale: float = 10.0
    value: Callable[[Any], Any] | None = None
    tolerance: float = 1e-11


def sech2(xp: Any, z: Any) -> Any:
    return 1.0 / (xp.cosh(z) * xp.cosh(z))


C, K, L = 1.7, 0.8, 0.6
W = np.array([0.7, -0.4, 1.1])
OMEGA = K**3 + 3 * 0.5**2 * L**2 / K
PI = math.pi


def taylor_green(xp: Any, c: Any) -> Any:
    t, x, y = c
    decay = xp.exp(-2 * 0.1 * t)
    return [xp.cos(x) * xp.sin(y) * decay, -xp.sin(x) * xp.cos(y) * decay,
            -0.25 * (xp.cos(2 * x) + xp.cos(2 * y)) * decay * decay]  # fmt: skip


def beltrami(xp: Any, c: Any) -> Any:
    """The ABC flow: curl u = u, u·∇u = ∇|u|²/2, so p = −|u|²/2."""
    t, x, y, z = c
    decay = xp.exp(-0.2 * t)
    u = [xp.sin(z) + 0.5 * xp.cos(y), 0.7 * xp.sin(x) + xp.cos(z), 0.5 * xp.sin(y) + 0.7 * xp.cos(x)]
    u = [v * decay for v in u]
    return [*u, -0.5 * (u[0] * u[0] + u[1] * u[1] + u[2] * u[2])]


def two_body(xp: Any, c: Any) -> Any:
    a, b = c
    return (1.0 - a * a - b * b) * xp.sin(a + xp.cos(b) + b * xp.cos(a))


def two_waves(xp: Any, c: Any) -> Any:
    """−log(e^{a·x−|a|²t} + e^{b·x−|b|²t}): the logarithm takes u_t + Δu = |∇u|² to the backward heat equation."""
    a = sum(w * x for w, x in zip((0.5, -0.2, 0.3), c[1:], strict=True)) - 0.38 * c[0]
    b = sum(w * x for w, x in zip((-0.1, 0.6, 0.2), c[1:], strict=True)) - 0.41 * c[0]
    return -xp.log(xp.exp(a) + xp.exp(b))


def light(xp: Any, c: Any) -> Any:
    """A plane wave of Maxwell's equations, along x with speed 1.5."""
    wave, zero = xp.cos(2 * (c[1] - 1.5 * c[0])), 0 * c[0]
    return [zero, wave, zero, zero, zero, wave / 1.5]


KNOWN = [
    Known("u_t + 6 u u_x + u_xxx = 0", "t x", lambda xp, c: C / 2 * sech2(xp, C**0.5 / 2 * (c[1] - C * c[0]))),
    Known("u_t + u u_x + a u_xxx = 0", "t x", lambda xp, c: 3 * C * sech2(xp, (C / 0.9) ** 0.5 / 2 * (c[1] - C * c[0])), {"a": 0.9}),
    Known("(u_t + 6 u u_x + u_xxx)_x + 3 sigma² u_yy = 0", "t x y",
          lambda xp, c: K**2 / 2 * sech2(xp, (K * c[1] + L * c[2] - OMEGA * c[0]) / 2), {"sigma": 0.5}),
    Known("u_t + u u_x = nu u_xx", "t x", lambda xp, c: C - 0.5 * xp.tanh(0.5 * (c[1] - C * c[0]) / 0.6), {"nu": 0.3}),
    Known("u_t = u_xx + u - u^3", "t x", lambda xp, c: 0.5 * (1 + xp.tanh((c[1] + 3 * c[0] / 2**0.5) / (2 * 2**0.5)))),
    Known("u_xt = sin(u)", "t x", lambda xp, c: 4 * xp.atan(xp.exp(K * c[1] + c[0] / K))),
    Known("u_tt = Δu", "t x y z", lambda xp, c: xp.cosh(c[0]) * (xp.sinh(c[1]) + xp.sinh(c[2]) + xp.sinh(c[3]))),
    Known("u_t = nu Δu", "t x y", lambda xp, c: xp.exp(-2 * PI**2 * 0.1 * c[0]) * xp.sin(PI * c[1]) * xp.sin(PI * c[2]),
          {"nu": 0.1}, scale=50.0),
    Known("Δu + k² u = 0", "x y", lambda xp, c: xp.sin(PI * c[0]) * xp.sin(2 * PI * c[1]), {"k": PI * 5**0.5}, scale=50.0),
    Known("u_t + b u_x = nu u_xx", "t x", lambda xp, c: 1 + xp.exp(-0.3 * c[0]) * xp.sin(c[1] - 2 * c[0]), {"b": 2.0, "nu": 0.3}),
    Known("u_t + b u_x = rho u (1 - u)", "t x",
          lambda xp, c: 1.0 / (1.0 + (1.0 / (2 + xp.sin(c[1] - 2 * c[0])) - 1.0) * xp.exp(-0.7 * c[0])),
          {"b": 2.0, "rho": 0.7}),
    Known("u_tt - Δu + u² - f = 0; f = -(x+y) cos(t) - x y sin(t) + ((x+y) cos(t) + x y sin(t))^2", "t x y",
          lambda xp, c: [(c[1] + c[2]) * xp.cos(c[0]) + c[1] * c[2] * xp.sin(c[0]),
                         -(c[1] + c[2]) * xp.cos(c[0]) - c[1] * c[2] * xp.sin(c[0])
                         + ((c[1] + c[2]) * xp.cos(c[0]) + c[1] * c[2] * xp.sin(c[0])) ** 2],
          options={"fields": "u f"}),
    Known("u_t + u·∇u = -∇p + nu Δu; ∇·u = 0", "t x y", taylor_green, {"nu": 0.1}, {"fields": "u[2] p"}),
    Known("u_t + u·∇u = -∇p + nu Δu; ∇·u = 0; curl u = u", "t x y z", beltrami, {"nu": 0.2}, {"fields": "u[3] p"}),
    Known("Δ³u", "x y", lambda xp, c: xp.sin(PI * c[0]) * xp.sin(PI * c[1]), scale=8 * PI**6,
          value=lambda c: -8 * PI**6 * np.sin(PI * c[0]) * np.sin(PI * c[1])),
    Known("Δ²u", "x y z", lambda xp, c: xp.sin(PI * c[0]) * xp.sin(PI * c[1]) * xp.sin(PI * c[2]), scale=9 * PI**4,
          value=lambda c: 9 * PI**4 * np.sin(PI * c[0]) * np.sin(PI * c[1]) * np.sin(PI * c[2])),
    Known("det(D²u)", "x y", lambda xp, c: xp.exp((c[0] * c[0] + c[1] * c[1]) / 2), scale=30.0,
          value=lambda c: (1 + c[0] ** 2 + c[1] ** 2) * np.exp(c[0] ** 2 + c[1] ** 2)),
    Known("|∇u| - 1", "x y", lambda xp, c: xp.sqrt((c[0] - 3) ** 2 + (c[1] + 2) ** 2)),
    Known("∇·(∇u/sqrt(1+|∇u|²)) = 0", "x y", lambda xp, c: xp.log(xp.cos(c[0] * 0.9) / xp.cos(c[1] * 0.9)) / 0.9),
    Known("∇·(∇u/sqrt(1+|∇u|²)) = 0", "x y",  # a catenoid
          lambda xp, c: xp.log((r := xp.sqrt((c[0] + 3) ** 2 + c[1] ** 2)) + xp.sqrt(r * r - 1))),
    Known("i u_t + u_xx + 2 |u|² u = 0", "t x",  # a bright soliton, e^{it} sech x
          lambda xp, c: [xp.cos(c[0]) / xp.cosh(c[1]), xp.sin(c[0]) / xp.cosh(c[1])], options={"fields": "u:complex"}),
    Known("-lam U + ((1+lam) y + U) U' = 0", "y", lambda xp, c: -c[0], {"lam": 0.5},
          options={"params": "lam", "fields": "U"}),
    Known("u_tt - u_xx + sin u = 0", "t x",  # a kink
          lambda xp, c: 4 * xp.atan(xp.exp((c[1] - 0.6 * c[0]) / 0.8))),
    Known("u_t + u u_x + a u_xxx - b u_xxxxx = 0", "t x",  # Kawahara's soliton
          lambda xp, c: 105 / 169 * 4 / 0.5 * sech2(xp, 0.5 * (2 / 6.5) ** 0.5 * (c[1] - 36 * 4 / (169 * 0.5) * c[0])) ** 2,
          {"a": 2.0, "b": 0.5}),
    Known("u_t + 6 u u_x + (Δu)_x = 0", "t x y",  # a line soliton of Zakharov and Kuznetsov
          lambda xp, c: 2 * sech2(xp, 0.8 * c[1] + 0.6 * c[2] - 0.8 * 4 * c[0])),
    Known("u_tt = u_xx + (u²)_xx + u_xxxx", "t x", lambda xp, c: 1.5 * 0.44 * sech2(xp, 0.5 * 0.44**0.5 * (c[1] - 1.2 * c[0]))),
    Known("c_t = laplace(c**3 - c - gamma*laplace(c))", "t x y", lambda xp, c: xp.tanh((0.6 * c[1] + 0.8 * c[2]) / 0.6**0.5),
          {"gamma": 0.3}, scale=50.0),
    Known("u_t = Δ(u^m)", "t x", lambda xp, c: (c[0] + 3) ** (-1 / 3) * (2 - c[1] * c[1] / (12 * (c[0] + 3) ** (2 / 3))), {"m": 2.0}),
    Known("u_t = Δu", "t x y", lambda xp, c: xp.exp(-(c[1] * c[1] + c[2] * c[2]) / (4 * (c[0] + 3))) / (4 * PI * (c[0] + 3))),
    Known("u_t + Δu - |∇u|² = 0", "t x[3]", two_waves),
    Known("u_tt - c² Δu + m² u = 0", "t x y",
          lambda xp, c: xp.cos(0.6 * c[1] + 0.8 * c[2] - (2.25 + 0.49) ** 0.5 * c[0]), {"c": 1.5, "m": 0.7}),
    Known("∂_t E = c^2 ∇×B - J/eps0; ∂_t B = -∇×E", "t x y z", light, {"c": 1.5, "eps0": 1.0, "J": np.zeros(3)},
          {"fields": "E[3] B[3]"}),
    Known("i hbar ψ_t = -hbar²/(2m) Δψ + V ψ", "t x",  # a plane wave, ħω = ħ²k²/2m + V
          lambda xp, c: [xp.cos(phase := 1.2 * c[1] - (0.8 * 1.44 / 1.4 + 0.3 / 0.8) * c[0]), xp.sin(phase)],
          {"hbar": 0.8, "m": 0.7, "V": 0.3}, {"fields": "ψ:complex"}),
    Known("i u_t + u_xx + |u|^2 u = 0", "t x",
          lambda xp, c: [2**0.5 * xp.cos(c[0]) / xp.cosh(c[1]), 2**0.5 * xp.sin(c[0]) / xp.cosh(c[1])],
          options={"fields": "u:complex"}),
    Known("w_t + u·∇w = nu Δw; w = curl u", "t x y",
          lambda xp, c: [*taylor_green(xp, c)[:2], -2 * xp.cos(c[1]) * xp.cos(c[2]) * xp.exp(-0.2 * c[0])], {"nu": 0.1},
          {"fields": "u[2] w"}),
    Known("laplace(u) = 0", "x y z", lambda xp, c: 1.0 / xp.sqrt((c[0] - 3) ** 2 + (c[1] + 2) ** 2 + (c[2] - 2) ** 2)),
]  # fmt: skip
IDS = [f"{k}:{c.text.replace(' ', '')}" for k, c in enumerate(KNOWN)]


@pytest.mark.parametrize("case", KNOWN, ids=IDS)
@pytest.mark.parametrize("name", ["torch", "numpy"])
def test_closed_form(case: Known, name: str) -> None:
    check(case, ENGINES[name])


@pytest.mark.slow
@pytest.mark.parametrize("case", KNOWN, ids=IDS)
def test_closed_form_on_jax(case: Known) -> None:
    check(case, ENGINES["jax"])


def check(case: Known, engine: Engine) -> None:
    op = opdsl.operator(case.text, coords=case.coords, **case.options)
    bound = {k: engine.array(v) if isinstance(v, np.ndarray) else v for k, v in case.bindings.items()}
    x = points(5, len(op.residual().coords))
    result = op(engine.stacked(case.solution), engine.array(x), **bound)
    columns = [x[:, i] for i in range(x.shape[1])]
    for part in result if isinstance(result, opdsl.Residuals) else [result]:
        found = engine.read(part)
        expected = np.zeros_like(found) if case.value is None else case.value(columns)
        assert_close(found, expected, case.tolerance, scale=case.scale)


# ------------------------------------------------------------------------------- the universal test, p(∂) e^{w·x} = p(w) e^{w·x}

AXES = "xyz"


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(-3, 3).filter(bool), st.text(AXES, min_size=1, max_size=4)), min_size=1, max_size=3))
def test_exponentials(terms: list[tuple[int, str]]) -> None:
    text = " + ".join(f"({c}) u_{''.join(sorted(a))}" for c, a in terms)
    x = points(3, 3)
    op = opdsl.operator(text, coords="x y z")
    found = op(lambda p: np.exp(p @ W), x)
    symbol = [c * math.prod(W[AXES.index(a)] for a in axes) for c, axes in terms]
    assert_close(found, sum(symbol) * np.exp(x @ W), 1e-12, scale=sum(abs(s) for s in symbol) * float(np.exp(x @ W).max()))


def test_waves_of_a_constant_matrix(engine: Engine) -> None:
    """A:∇² sin(w·x) = −(wᵀAw) sin(w·x), indefinite and unsymmetric A."""
    a = np.array([[1.0, 2.0, 0.0], [0.5, -3.0, 1.0], [0.0, 0.2, 0.0]])
    x, w = points(4, 3), engine.array(W)
    op = opdsl.operator("a_ij d_i d_j u", coords="x y z")
    found = engine.read(op(lambda p: engine.space(p).sin(p @ w), engine.array(x), a=engine.array(a)))
    assert_close(found, -(W @ a @ W) * np.sin(x @ W), 1e-12)


def test_monomials_exactly() -> None:
    """∂^α x^β = β!/(β−α)! x^{β−α}."""
    x = np.array([[2.0, -1.0], [3.0, 2.0]])
    for a, b in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 3)]:
        op = opdsl.operator(f"u_{'x' * a}{'y' * b}" if a + b else "u", coords="x y", fields="u")
        found = op(lambda p: p[:, 0] ** 4 * p[:, 1] ** 3, x)
        np.testing.assert_array_equal(found, math.perm(4, a) * x[:, 0] ** (4 - a) * math.perm(3, b) * x[:, 1] ** (3 - b))


@pytest.mark.parametrize("bodies", [2, 3])
def test_manufactured_solution_on_the_ball(bodies: int, engine: Engine) -> None:
    """Two- and three-body solutions against the product rule worked by hand: Δ[(1−|x|²) g] = (1−|x|²)Δg − 4 x·∇g − 2d g."""
    d, x = 4, points(3, 4) / 2

    def inner(xp: Any, c: Any) -> Any:
        if bodies == 2:
            return sum(0.5 * (k + 1) * xp.sin(c[k] + xp.cos(c[k + 1]) + c[k + 1] * xp.cos(c[k])) for k in range(d - 1))
        return sum(0.5 * (k + 1) * xp.exp(c[k] * c[k + 1] * c[k + 2]) for k in range(d - 2))

    def whole(xp: Any, c: Any) -> Any:
        return (1.0 - sum(v * v for v in c)) * inner(xp, c)

    lap = opdsl.operator("laplace(u)", coords="x[4]")
    radial = opdsl.operator("x_i d_i u", coords="x[4]")
    value = opdsl.operator("u", coords="x[4]", fields="u")
    p = engine.array(x)
    u, g = engine.function(whole), engine.function(inner)
    by_hand = (1 - np.sum(x**2, axis=1)) * engine.read(lap(g, p)) - 4 * engine.read(radial(g, p)) - 2 * d * engine.read(value(g, p))
    assert_close(engine.read(lap(u, p)), by_hand, 1e-12)
