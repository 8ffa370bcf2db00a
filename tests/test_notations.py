"""Notations of textbooks: each means what the plain text beside it means, and prints back."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from opdsl.errors import OpdslError, OpdslWarning
from opdsl.grammar import parse_system
from opdsl.grammar.spellings import coordinate_suffix
from opdsl.language.calculus import conditions, expand
from opdsl.language.system import System

Meaning = tuple[Any, ...]


def parsed(text: str, **declarations: Any) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        return parse_system(text, **declarations)


def meaning(system: System) -> Meaning:
    """Components of all equations, and of all conditions with their places."""
    dimension = 3 if system.symbolic else None
    equations = tuple(e.components for e in expand(system, dimension).equations)
    found = []
    for spec in conditions(system, dimension).values():
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
TWO: dict[str, Any] = {"coords": "t x y", "fields": "u v w[2] s[2,2]", "params": "k g a[2,2]"}
SAME += [
    (TWO, "d_j s_ij = w_i", ["s_ij,j = w_i", "s_{ij,j} = w_i", "(s_ij,j) = w_i", "∂s_ij/∂x_j = w_i"]),
    (TWO, "u_tt = k^2 u_xx + w_{i,i}", ["u,tt = k² u,xx + w_i,i", "u,tt = k^2 u,xx + (w_i,i)"]),
    (TWO, "max(u, v) + dot(w, w) + max(u_x, v)", ["max(u,v) + dot(w,w) + max(u_x,v)"]),
    (TWO, "(1/2) d_x(u^2) + u^(1/2) + (1/3) v", ["½ ∂u²/∂x + u^½ + ⅓v", "½ [u^2]_x + u^{½} + ⅓ v", "½ ∂(u²)/∂x + u^(½) + (⅓)v",
        "½ ∂u^2/∂x + u^½ + ⅓v"]),
    (TWO, "d_x(k (u + v)) - exp(-(u^2))", ["[k (u + v)]_x - exp[-u²]", "∂(k (u + v))/∂x - exp(-[u^2])"]),
    (TWO, "u_tt - laplace(u) + k^2 u = 0", ["□u + k² u = 0", r"\Box u + k^2 u = 0", r"\square u + k^2 u = 0"]),
    (TWO, "s - transpose(s) + 1/2 (grad(w) + transpose(grad(w)))", [
        "s - s^T + 1/2 (∇w + (∇w)^T)", "s - sᵀ + 1/2 (∇w + (∇w)ᵀ)", "s - s^⊤ + 1/2 (∇w + ∇wᵀ)", "s - s^T + 1/2 (∇w + ∇w^T)",
        r"s - s^{\mathsf{T}} + \frac12 (\nabla w + (\nabla w)^\top)", r"s - s^T + \frac12 (\nabla w + \nabla w^{\mathrm T})"]),
    (TWO, "sum_i(sum_j(a_ij d_i d_j u))", [
        "sum_ij a_ij d_i d_j u", "∑_ij a_ij d_i d_j u", "sum_{i,j}(a_ij d_i d_j u)", "∑_{i,j=1}^2 a_ij d_i d_j u", "sum_{ij=1}^d (a_ij d_i d_j u)",
        r"\sum_{i,j=1}^{d} a_{ij} \frac{\partial^2 u}{\partial x_i \partial x_j}", r"\sum_{i,j} a_{ij} \partial_i \partial_j u",
        r"\sum_{i=1}^2 \sum_{j=1}^2 a_{ij} \partial_i \partial_j u", "Σ_{i=1}^2 Σ_{j=1}^2 a_ij d_i d_j u",
        "Σ_{i=0}^{d-1} Σ_{j=0}^1 a_ij d_i d_j u"]),
    (TWO, "u_t = v_xx + v_xy", [
        r"\pdv{u}{t} = \pdv[2]{v}{x} + \pdv{v}{x}{y}", r"\pdv{t} u = \dv[2]{v}{x} + \pdv{v}{x,y}", r"\pdv*{u}{t} = \pdv[2]{x} v + \pdv{v}{x}{y}"]),
    (TWO, "d_x(k u) + d_x(u^2) = 0", [r"\pdv{(k u)}{x} + \pdv{u^2}{x} = 0",
        r"\frac{\partial k u}{\partial x} + \frac{\partial u^2}{\partial x} = 0"]),
    (TWO, "u_t = v_xx", ["$u_t = v_{xx}$", "$$u_t = v_{xx}$$", r"\[ u_t = v_{xx}. \]", r"\(u_t = v_{xx}\)", r"u_t = v_{xx}, \quad x \in \Omega",
        r"u_t = v_{xx}, \quad (x, y) \in (0,1)^2, \quad t > 0", r"u_t = v_{xx}, \qquad 0 < x < 1, \; t \ge 0",
        r"u_t = v_{xx} \quad \text{in } \Omega",
        r"u_t = v_{xx} \quad \text{for all } x \in \Omega", "∂u(t,x,y)/∂t = ∂²v(t,x,y)/∂x²", "𝜕𝑢/𝜕𝑡 = 𝜕²𝑣/𝜕𝑥²", "𝐮_t = 𝑣_𝑥𝑥"]),
    ({"coords": "t x", "fields": "S", "params": "b"}, "S_t = -b S", ["dS(t,x)/dt = -b S", "dS/dt = -b S(t, x)"]),
    ({"coords": "t x", "fields": "u", "params": "varepsilon"}, "u_t = varepsilon u_xx", [r"u_t = \varepsilon u_{xx}", "u_t = ε u_xx",
        r"u_t = \epsilon u_{xx}"]),
    ({"coords": "t x", "fields": "u", "params": "varepsilon epsilon"},
        "u_t = varepsilon u_xx + epsilon u", [r"u_t = \varepsilon u_{xx} + \epsilon u"]),
    ({"coords": "x[d]", "fields": "u"}, "sum_i(d_i d_i u)", [r"\sum_{i=1}^d \frac{\partial^2 u}{\partial x_i^2}", "∑_{i=1}^d d_i^2 u"]),
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


@pytest.mark.parametrize(("text", "said"), [
    ("∂_μ u", "'mu' is not a declared coordinate"), ("∂_μ u", "index letters are i … n"), ("∂^μ u", "write ∂_i, with a letter i … n"),
    ("i nuu", "write nu u for a product"), ("s^{ij} d_i d_j u", "indices stand below: write a_ij"), ("u == 0", "an equation has one '='"),
    ("∂ρ u/∂x", "write ∂(ρ u)/∂x"), ("∂u w_i/∂x_i", "write ∂(u w_i)/∂x_i"), ("∂u/∂q", "'q' is not a declared coordinate"), ("w[0]", "write w_0"),
    ("u(r, t)", "write u(t, x, y) for the field"), ("sum_{i=1}^3 d_i u", "there are 2 space coordinates"), ("n u", "an undeclared n is the normal"),
    ("u_t := nu u_xx", "':=' stands where an equation has '='"), ("u_t -> u", "write u_t = …"), ("ẋ u", "write d_t x"), ("ü u", "write d_tt u"),
    ("1,5 u", "write 1.5 with a point"), ("partial u/partial t", "write ∂u/∂t or d_t u"), ("Du/Dt", "material derivative"),
    ("4pinuu", "write pi nu u"),
    ("sinh⁻¹ u", "write arsinh(…)"), ("nuuw_i", "write nu u w_i for a product"), ("u_t ≡ u", "an equation is written with '='"),
])  # fmt: skip
def test_what_is_refused_says_what_to_write(text: str, said: str) -> None:
    with pytest.raises(OpdslError) as caught:
        parsed(text, coords="t x y", fields="u w[2] s[2,2]", params="nu")
    assert said in str(caught.value)


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


def test_an_exponent_t_is_a_transpose_where_the_base_is_a_tensor() -> None:
    assert [p.name for p in parsed("u^T = laplace(u)", coords="x y").declarations.params] == ["T"]
    assert [p.name for p in parsed("s - s^T", coords="x y", fields="s[2,2]").declarations.params] == []
    assert str(parsed("s_00^T", coords="x y", fields="s[2,2]", params="T")).endswith("s_00^T")
    assert [p.name for p in parsed("s - s^T + T s", coords="x y", fields="s[2,2]").declarations.params] == ["T"]


def test_the_wave_operator_says_which_sign_it_has() -> None:
    with pytest.warns(OpdslWarning, match="□ is ∂_t² − Δ"):
        parse_system("□u = 0", coords="t x", fields="u")
    with pytest.raises(OpdslError, match="needs a time coordinate"):
        parse_system("□u = 0", coords="x y", fields="u")


def test_a_matrix_called_sigma_is_no_sum() -> None:
    system = parsed("½ Σ_ij d_i d_j u + Σ_i d_i^2 u", coords="x y")
    assert [(p.name, p.shape) for p in system.declarations.params] == [("Sigma", ("d", "d"))]
