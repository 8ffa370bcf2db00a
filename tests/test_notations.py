"""Notations of textbooks: each means what the plain text beside it means, and prints back."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from opdsl.errors import OpdslError, OpdslWarning
from opdsl.grammar import parse_system
from opdsl.grammar.spellings import coordinate_suffix
from opdsl.language.calculus import conditions, expand
from opdsl.language.tree import System

Meaning = tuple[Any, ...]


def parsed(text: str, **declarations: Any) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        return parse_system(text, **declarations)


def meaning(system: System) -> Meaning:
    """Components of all equations, and of all conditions with their places."""
    equations = tuple(e.components for e in expand(system).equations)
    found = []
    for spec in conditions(system).values():
        for part in (spec, *spec.others):
            found.append((dict(part.where), part.residual.equations[0].components))
    return (*equations, *found)


XY: dict[str, Any] = {"coords": "t x y", "fields": "u v", "params": "k g"}
NUMBERED = [{"coords": names, "fields": "u"} for names in ("x1 x2", "x_1 x_2", "x₁ x₂")]
TEXTS_OF_NUMBERED = [
    ("d_x1 u", ["u_x1", "u_x_1", "u_{x_1}", "u_{x_{1}}", "u_x₁", "uₓ₁", "∂u/∂x₁", "∂u/∂x_1", "∂u/∂x1", "du/dx_1", "∂_x1 u", "∂_{x_1} u", "∂_x₁ u",
                "d/dx1 u", "dx1(u)", "dx_1(u)", "diff(u, x_1)", r"\partial_{x_1} u", r"\frac{\partial u}{\partial x_1}", "∂_x_1 u"]),
    ("d_x1 d_x1 u", ["u_x1x1", "u_{x1 x1}", "u_{x_1 x_1}", "u_{2x_1}", "∂²u/∂x₁²", "d^2u/dx_1^2", "∂²u/∂x1²", "d_x1^2 u", "diff(u, x1, 2)",
                     r"\frac{\partial^2 u}{\partial x_1^2}", r"u_{x_1x_1}", r"\partial_{x_1}^2 u", r"\partial_{x_1}\partial_{x_1} u"]),
    ("x1 d_x1 d_x2 u", ["x_1 u_{x_1 x_2}", "x₁ ∂²u/∂x₁∂x₂", r"x_1 \frac{\partial^2 u}{\partial x_1 \partial x_2}", "x1 u_{x_{1}x_{2}}"]),
    ("laplace(u) + u", ["d_i d_i u + u(x1, x2)", "u_{x_1 x_1} + u_{x_2 x_2} + u(x_1, x_2)"]),
]  # fmt: skip

SAME: list[tuple[dict[str, Any], str, list[str]]] = [
    *((declared, plain, texts) for declared in NUMBERED for plain, texts in TEXTS_OF_NUMBERED),
    ({"coords": "q1 q2", "fields": "u1 u_2"}, "d_q1 u1 + d_q2 u_2", [
        "u_{1,q1} + u_{2,q2}", "∂u₁/∂q₁ + ∂u₂/∂q₂", r"\frac{\partial u_1}{\partial q_1} + \frac{\partial u_2}{\partial q_2}", "u1_q1 + u2_q2"]),
    ({"coords": "t theta_0", "fields": "u"}, "d_{theta_0} u", ["u_{θ_0}", "∂u/∂θ₀", r"\partial_{\theta_0} u", "u_{theta0}"]),
]  # fmt: skip
SAME += [
    (XY, "Δu = 0; u(t=0) = g; u(x=1) = 0; u_x(y=0) = 0; u(t=0, x=1, y=k) = 0", [
        "Δu = 0; u(0, x, y) = g; u(t, 1, y) = 0; u_x(t, x, 0) = 0; u(0, 1, k) = 0",
        "Δu = 0; u(x, y, 0) = g; u(1, y, t) = 0; ∂u/∂x(x, 0, t) = 0; u(0, 1, k) = 0",
        r"\Delta u = 0 \\ u(0, x, y) = g \\ u(t, 1, y) = 0 \\ \frac{\partial u}{\partial x}(t, x, 0) = 0 \\ u(0, 1, k) = 0"]),
    ({"coords": "x", "fields": "y", "params": "L"}, "d_x d_x y + y = 0; y(x=0) = 1; y_x(x=0) = 0; y(x=L) = 0; y(x=-1) = y(x=2 L)", [
        "y'' + y = 0; y(0) = 1; y'(0) = 0; y(L) = 0; y(-1) = y(2 L)", "y''(x) + y(x) = 0; y(0) = 1; dy/dx(0) = 0; y(L) = 0; y(-1) = y(2L)",
        r"\frac{d^2y}{dx^2} + y = 0 \\ y(0) = 1 \\ \frac{dy}{dx}(0) = 0 \\ y(L) = 0 \\ y(-1) = y(2L)"]),
    ({"coords": "t x", "fields": "u", "params": "nu"}, "u_t = nu u_xx", [
        r"\frac{\partial u}{\partial t}(x,t) = \nu \frac{\partial^2 u}{\partial x^2}(x,t)",
        "∂u/∂t(t,x) = ν ∂²u/∂x²(t,x)", "u_t(x,t) = nu u_xx(x,t)"]),
    (XY, "k u_x v + 2 u_x + (1 - x) u_x + x u_t", ["∂u/∂x (k v) + ∂u/∂x (2) + ∂u/∂x (1 - x) + ∂u/∂t (x)"]),
    ({"coords": "t x y", "fields": "T", "params": "k h T_inf"}, "T_t = ΔT; k dn(T) + h (T - T_inf) = 0", [
        "T_t = ΔT; k ∂T/∂n + h (T - T_inf) = 0", "∂T/∂t = ∇²T; k n·∇T + h (T - T_inf) = 0", "T_t = ΔT; k ∂_n T + h (T - T_inf) = 0",
        "T_t = ΔT; n·(k ∇T) + h (T - T_inf) = 0", "T_t = ΔT; ∇T·(k n) = -h (T - T_inf)", "T_t = ΔT; k n_i d_i T + h (T - T_inf) = 0",
        r"\frac{\partial T}{\partial t} = \Delta T \\ k \frac{\partial T}{\partial n} + h (T - T_{inf}) = 0"]),
    ({"coords": "x y", "fields": "σ[2,2]", "params": "f[2]"}, "div(σ) = 0; dot(n, σ) = f", [
        "d_i σ_ij = 0; n_i σ_ij = f_j", "∇·σ = 0; n·σ = f"]),
    ({"coords": "x y", "fields": "n", "params": "D g"}, "d_x d_x n + d_y d_y n = 0; dn(n) = g", ["Δn = 0; dn(n) = g", "∇²n = 0; dn(n) - g = 0"]),
]  # fmt: skip
CASES = [(declared, plain, text) for declared, plain, texts in SAME for text in texts]


@pytest.mark.parametrize(("declared", "plain", "text"), CASES, ids=[f"{d['coords']}: {t}" for d, _, t in CASES])
def test_means_what_the_plain_text_means(declared: dict[str, Any], plain: str, text: str) -> None:
    system = parsed(text, **declared)
    assert meaning(system) == meaning(parsed(plain, **declared))
    assert parsed(str(system)) == system
    assert parsed(str(system), **declared) == system


def test_a_name_with_a_number_is_not_another_one() -> None:
    assert coordinate_suffix("x12", ["x1", "x12"], repeats=True) == ["x12"]
    with pytest.raises(ValueError, match="x12x"):
        coordinate_suffix("x12x", ["x", "x1", "x12"], repeats=True)
    for text, declared in [("∂u/∂x_3", NUMBERED[1]), ("u_x3", NUMBERED[0]), ("∂u/∂x_1", XY)]:
        with pytest.raises(OpdslError, match="is not a declared coordinate"):
            parsed(text, **declared)
    both = parsed("x_1 x1", coords="x1", fields="u", params="x_1")
    assert str(both).endswith("x_1*x1")


def test_components_and_unit_vectors_stay_what_they_are() -> None:
    assert str(parsed("u_0 + u_1", coords="x y", fields="u[2] u1")).endswith("u_0 + u_1")
    assert str(parsed("u_0 + e_1·u", coords="x y", fields="u[2] e1")).endswith("u_0 + dot(e_1, u)")


@pytest.mark.parametrize(("text", "declared"), [
    ("∂_n n = 0", {"fields": "n"}), ("∂u/∂n = 0", {"params": "n"}), ("u n = 0", {"params": ""}), ("u = n", {"params": "k"}),
    ("n u_x + dn(u) = 0", {"params": "n"}), ("u(1, x) = u(2, y)", {}), ("u(x, 0, 0)", {}), ("u(t-1, x, y)", {}),
])  # fmt: skip
def test_refused(text: str, declared: dict[str, str]) -> None:
    with pytest.raises(OpdslError) as caught:
        parsed(text, **{"coords": "t x y", "fields": "u", **declared})
    assert caught.value.errors[0].suggestion if hasattr(caught.value, "errors") else caught.value.suggestion  # type: ignore[attr-defined]


def test_an_undeclared_n_is_the_normal_where_it_is_a_vector() -> None:
    assert [p.name for p in parsed("Δu = u^n", coords="x y").declarations.params] == ["n"]
    system = parsed("Δu = 0; n·∇u = 0", coords="x y")
    assert not system.declarations.params
    assert list(conditions(system)) == ["eq2"]
    assert [p.name for p in parsed("u_t = ∂_n u", coords="t x", params="").declarations.params] == []


def test_terms_without_a_place_are_taken_at_the_place_of_the_others() -> None:
    with pytest.warns(OpdslWarning, match="a term without a place"):
        parse_system("u_xx = u(0)", coords="x", fields="u")
    with pytest.warns(OpdslWarning, match="is the derivative at x"):
        parse_system("du/dx (x) = 1", coords="x", fields="u")
