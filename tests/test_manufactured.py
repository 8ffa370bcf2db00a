"""Manufactured solutions: the forcing that opdsl derives from an exact solution's text makes it a solution, on every framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, Engine
from references import assert_close, points

import opdsl
from opdsl.errors import OpdslError


@dataclass(frozen=True)
class Case:
    """Equations, the exact solution as text, and as a function of (namespace, columns)."""

    text: str
    options: Mapping[str, Any]
    exact: Mapping[str, str]
    solution: Any
    bindings: Mapping[str, float] = field(default_factory=dict)


def decay(xp: Any, c: Any) -> list[Any]:
    """The velocity and pressure of forced Navier–Stokes flow in three dimensions."""
    t, x, y, z = c
    e = xp.exp(-9 * 0.05 * t)
    return [2 * e * xp.cos(2 * x) * xp.sin(2 * y) * xp.sin(z), -e * xp.sin(2 * x) * xp.cos(2 * y) * xp.sin(z),
            -2 * e * xp.sin(2 * x) * xp.sin(2 * y) * xp.cos(z), x * y + 0 * t]  # fmt: skip


NAVIER_STOKES = "mom: u_t + u·∇u = -∇p + nu Δu; mass: ∇·u = 0"
CASES = [
    Case(NAVIER_STOKES, {"coords": "t x y z", "fields": "u[3] p", "params": "nu"},
         {"u": "exp(-9 nu t) vec(2 cos(2x) sin(2y) sin(z), -sin(2x) cos(2y) sin(z), -2 sin(2x) sin(2y) cos(z))", "p": "x y"},
         decay, {"nu": 0.05}),
    Case("u_t + u u_x = nu u_xx", {"coords": "t x", "fields": "u"}, {"u": "exp(-t) sin(2 x)"},
         lambda xp, c: xp.exp(-c[0]) * xp.sin(2 * c[1]), {"nu": 0.3}),
    Case("c_t = laplace(c**3 - c - gamma*laplace(c))", {"coords": "t x y", "fields": "c", "params": "?gamma"},
         {"c": "sin(x - t) cos(y)"}, lambda xp, c: xp.sin(c[1] - c[0]) * xp.cos(c[2]), {"gamma": 0.2}),
    Case("i u_t + u_xx + |u|^2 u = 0", {"coords": "t x", "fields": "u:complex"}, {"u": "x exp(i (2 x - t))"},
         lambda xp, c: [c[1] * xp.cos(2 * c[1] - c[0]), c[1] * xp.sin(2 * c[1] - c[0])]),
    Case("(lam+mu)∇(∇·u) + mu Δu", {"coords": "x y", "fields": "u[2]", "params": "lam mu"}, {"u_0": "x^2 y", "u_1": "sin(x y)"},
         lambda xp, c: [c[0] ** 2 * c[1], xp.sin(c[0] * c[1])], {"lam": 1.3, "mu": 0.6}),
    Case("laplace(u) + u^2", {"coords": "t polar(r, theta)", "fields": "u"}, {"u": "t r^3 cos(2 theta)"},
         lambda xp, c: c[0] * (c[1] + 3) ** 0 * c[1] ** 3 * xp.cos(2 * c[2])),
    Case("u_tt = laplace(u)", {"coords": "t x[4]", "fields": "u"}, {"u": "sin(t) x_0 x_3^2"},
         lambda xp, c: xp.sin(c[0]) * c[1] * c[4] ** 2),
    Case("θ_t = D_u (exp(θ) θ_x)_x; v = θ_x", {"coords": "t x", "fields": "theta v", "params": "D_u"},
         {"theta": "t x^2", "v": "2 t x"}, lambda xp, c: [c[0] * c[1] ** 2, 2 * c[0] * c[1]], {"D_u": 0.7}),
]  # fmt: skip
IDS = [c.text for c in CASES]


def parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, opdsl.Residuals) else [value]


def check(case: Case, engine: Engine) -> None:
    op = opdsl.operator(case.text, **case.options)
    forcing = op.substitute(case.exact)
    assert opdsl.parse(str(forcing)) == forcing
    x = engine.array(points(4, len(op.residual().coords)) + 1.5)
    left = parts(op(engine.stacked(case.solution), x, **case.bindings))
    right = parts(forcing(x, **{k: v for k, v in case.bindings.items() if k in str(forcing)}))
    for a, b in zip(left, right, strict=True):
        assert_close(engine.read(a), engine.read(b), 1e-12, scale=20.0)


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_the_forcing_is_the_residual_of_the_exact_solution(case: Case, name: str) -> None:
    check(case, ENGINES[name])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_forcing_on_jax(case: Case) -> None:
    check(case, ENGINES["jax"])


def test_a_forced_flow_has_the_exact_solution(engine: Engine) -> None:
    """The derived forcing bound as the coefficient f."""
    case = CASES[0]
    forcing = opdsl.operator(case.text, **case.options).substitute(case.exact)
    forced = opdsl.operator(
        "mom: u_t + u·∇u = -∇p + nu Δu + f; mass: ∇·u = 0", coords="t x y z", fields="u[3] p", params="nu f[3]"
    )
    x = engine.array(points(4, 4))
    result = forced(engine.stacked(decay), x, nu=0.05, f=lambda p: forcing(p, nu=0.05).mom)
    assert np.abs(engine.read(forcing(x, nu=0.05).mom)).max() > 0.1
    assert_close(engine.read(result.mom), 0 * engine.read(result.mom), 1e-12, scale=20.0)
    assert_close(engine.read(result.mass), 0 * engine.read(result.mass), 1e-12, scale=20.0)


def test_taylor_green_needs_no_forcing() -> None:
    op = opdsl.operator(NAVIER_STOKES, coords="t x y", fields="u[2] p", params="nu")
    left = op.substitute({
        "u": "exp(-2 nu t) vec(cos(x) sin(y), -sin(x) cos(y))", "p": "-1/4 (cos(2x) + cos(2y)) exp(-4 nu t)"
    })  # fmt: skip
    found = left(points(6, 3), nu=0.1)
    assert np.abs(found.mom).max() < 1e-14
    assert np.abs(found.mass).max() == 0


@pytest.mark.parametrize(("text", "options", "lines", "message"), [
    ("∇·u", {"fields": "u[2]"}, "u = x", "u is a vector .2., its line is a scalar"),
    ("∇·u", {"fields": "u[2]"}, "u = vec(1, 2, 3)", "its line is a vector .3."),
    ("∇·u", {"fields": "u[2]"}, "u_0 = x", "component 1 of u has no line"),
    ("∇·u", {"fields": "u[2]"}, "u_2 = x", "out of range 0 … 1"),
    ("u_xx", {"fields": "u"}, "v = x", "no old coordinate or field 'v'"),
    ("u_xx", {"fields": "u"}, "u", "is no replacement"),
    ("u_xx", {"fields": "u"}, "u = a x", "'a' is not declared"),
    ("u_xx", {"fields": "u"}, {"u": "x = 3"}, "the line of u is no formula"),
    ("u_xx", {"fields": "u"}, {"u": "u(x=0)"}, "not declared"),
    ("u_xx + i u", {"fields": "u:complex"}, {"u": "exp(i x) u"}, "a formula of itself"),
    ("u_i d_i u_0", {"coords": "x[40]", "fields": "u[40]"}, {"u_0": "1"}, "few space coordinates"),
], ids=str)  # fmt: skip
def test_refused(text: str, options: dict[str, str], lines: Any, message: str) -> None:
    op = opdsl.operator(text, **{"coords": "x y", **options})
    with pytest.raises(OpdslError, match=message):
        op.substitute(lines)


def test_fields_that_stay_keep_their_shapes() -> None:
    """A Galilean change of one coordinate in a system of vector, matrix and complex fields."""
    for text, fields in [("u_t + u·∇u = ∇·s; s = sym(∇u)", "u[2] s[2,2]"), ("i ψ_t + Δψ = q_x ψ", "ψ:complex q")]:
        op = opdsl.operator(text, coords="t x y", fields=fields)
        moved = op.substitute("x = x + c t", params="c")
        assert opdsl.parse(str(moved)) == moved
        assert [p.name for p in moved.residual().parameters] == ["c"]
        count = 3 if "q" in fields else 6
        net = ENGINES["numpy"].stacked(lambda xp, c, n=count: [xp.sin(c[0] + k * c[1]) * xp.cos(c[2] - k) for k in range(n)])
        x = points(3, 3)
        for a, b in zip(parts(moved.substitute("x = x - c t")(net, x)), parts(op(net, x)), strict=False):
            assert_close(a.reshape(3, -1)[:, :1], b.reshape(3, -1)[:, :1], 1e-12)
