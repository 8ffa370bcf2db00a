"""The language: notations that mean the same, binding rules, declarations, printing, LaTeX."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from opdsl.errors import OpdslError, OpdslWarning
from opdsl.grammar import parse_system
from opdsl.language.calculus import conditions, expand, facts, specialise
from opdsl.language.constructors import ZERO, add, call, index_sum, mul, negate, number, power
from opdsl.language.residual import Coordinate, Derivative, IndexSum, Parameter, Pointwise, Residual
from opdsl.language.system import System
from tests.language_gallery import GALLERY

U = {"coords": "t x y", "fields": "u v", "params": "nu k p"}
V = {"coords": "t x y", "fields": "u[2] v[2] s[2,2] q", "params": "nu"}


def d(name: str, axes: str = "", component: int = 0) -> Pointwise:
    """A derivative over (t, x, y)."""
    return Derivative(name, component, tuple(sorted("txy".index(a) for a in axes)))


def parsed(text: str, **declarations: Any) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        return parse_system(text, **declarations)


def expanded(text: str, **declarations: Any) -> Residual:
    return expand(parsed(text, **declarations))


def only(text: str, **declarations: Any) -> Pointwise:
    (equation,) = expanded(text, **declarations).equations
    (component,) = equation.components
    return component


def components(text: str, **declarations: Any) -> tuple[Pointwise, ...]:
    (equation,) = expanded(text, **declarations).equations
    return equation.components


u, v, nu, p, k = d("u"), d("v"), Parameter("nu"), Parameter("p"), Parameter("k")
lap = add(d("u", "xx"), d("u", "yy"))
bilap = add(d("u", "xxxx"), mul(number(2), d("u", "xxyy")), d("u", "yyyy"))
x, y = Coordinate(1), Coordinate(2)

SAME: list[tuple[Pointwise, list[str]]] = [
    (d("u", "x"), ["u_x", "d_x u", "∂_x u", "∂ₓ u", "uₓ", "d/dx u", "∂/∂x u", "du/dx", "∂u/∂x", "dx(u)", "diff(u, x)", "∇_x u",
                   "u_{x}", "(u)_x", "d_{x} u", "e_x·∇u", "e_0·∇u", "∂(u)/∂x", "nabla_x u"]),
    (d("u", "xx"), ["u_xx", "d_xx u", "d_x^2 u", "∂_x² u", "∂²_x u", "∂^2_x u", "d^2_x u", "d^2u/dx^2", "d²u/dx²",
                    "∂²u/∂x²", "d^2/dx^2 u", "diff(u,x,2)", "diff(u,x,x)", "d_x d_x u", "(u_x)_x", "u_x_x", "u_{2x}", "dxx(u)",
                    "d_{xx}u", "∂_x∂_x u", "d_x**2 u", "d_x^{2} u", "∂^2 u / ∂x^2"]),
    (d("u", "xxt"), ["u_xxt", "u_txx", "d_t u_xx", "∂³u/∂x²∂t", "d^3u/dxdxdt", "d^3u/(dx dx dt)", "diff(u, x, 2, t)",
                     "u_{xx t}", "u_{x x t}", "∂_t∂_x∂_x u", "(d_t d_xx) u", "d_t(d_xx(u))"]),
    (d("u", "xxxx"), ["u_{4x}", "d^4/dx^4 u", "∂⁴u/∂x⁴", "u_xxxx"]),
    (lap, ["laplace(u)", "laplace u", "lap u", "laplacian(u)", "Δu", "∆u", "∇²u", "∇^2 u", "∇·∇u", "div(grad(u))", "d_i d_i u",
           "∂_i∂_i u", "tr(hess(u))", "tr(D²u)", "u_xx + u_yy", "sum_i(d_i^2 u)", "Σ_i d_i^2 u", "∑_i d_i d_i u", "div ∇u",
           "∇·(∇u)", "nabla^2 u", "del^2 u", "nabla·nabla u", "Delta u", "δ_ij d_i d_j u", "(d_x^2 + d_y^2) u", "∂²u/∂x_i∂x_i",
           "u_{,ii}", "d^2/dx_i^2 u"]),
    (bilap, ["bilap(u)", "biharmonic u", "Δ²u", "Δ^2 u", "∇⁴u", "∇^4 u", "laplace(laplace(u))", "laplace laplace u", "lap^2 u",
             "(∇²)² u", "d_i d_i d_j d_j u"]),
    (mul(u, d("u", "x")), ["u u_x", "u*u_x", "u·u_x", "u(u_x)", "u (u_x)", "(u)(u_x)", "u_x u", "1/2 (u^2)_x", "u u_x(t,x,y)"]),
    (power(u, number(2)), ["u^2", "u²", "u**2", "u^{2}", "|u|^2", "u u", "(u)²"]),
    (call("sin", (u,)), ["sin u", "sin(u)", "sin (u)", "sin(u(x,y,t))"]),
    (power(call("sin", (u,)), number(2)), ["sin²u", "sin^2 u", "sin(u)^2", "(sin u)²", "sin^2(u)"]),
    (mul(power(number(2), number(-1)), u), ["1/2 u", "u/2", "0.5 u", ".5u", "2^-1 u", "5e-1 u"]),
    (power(u, add(p, number(-2))), ["u^(p-2)", "u^{p-2}", "u**(p-2)"]),
    (mul(u, add(number(1), negate(u))), ["u(1-u)", "u*(1-u)", "(1-u)u"]),
    (call("exp", (negate(u),)), ["exp(-u)", "e^(-u)", "e^{-u}", "e^-u"]),
    (add(power(d("u", "x"), number(2)), power(d("u", "y"), number(2))),
     ["|∇u|^2", "|∇u|²", "(∇u)²", "∇u·∇u", "dot(grad u, grad u)", "norm(grad(u))^2", "‖∇u‖²", "||∇u||^2", "d_i u d_i u",
      "∂_i u ∂_i u"]),
    (ZERO, ["u_xy - u_yx", "u - u", "0*u + 0", "d_x d_y u - d_y d_x u", "d_i d_i u - d_j d_j u", "nu_x - nu_x", "curl(grad(u))",
            "div(perp(grad(u)))"]),
    (add(d("u", "t"), negate(mul(nu, lap))), ["(d_t - nu*lap) u", "(∂_t − ν Δ)u", "u_t - nu Δu", "u_t = nu laplace(u)"]),
    (add(u, mul(number(2), lap), bilap), ["(1 + ∇²)² u", "(1+lap)^2 u", "(1 + Δ)(1 + Δ)u"]),
    (mul(power(x, number(2)), d("u", "xx")), ["x^2 u_xx", "x² d_xx u", "x x u_xx", "x²d²u/dx²", "x^2d^2/dx^2 u", "x²∂²u/∂x²",
                                              "x^2 d^2/dx^2u"]),
    (mul(number(6), d("u", "x")), ["6u_x", "6du/dx", "6d/dx u", "6 d_x u", "6∂u/∂x", "6dx(u)"]),
    (add(mul(x, d("u", "x")), mul(y, d("u", "y"))), ["x u_x + y u_y", "x_i d_i u", "sum_i(x_i d_i u)"]),
]  # fmt: skip


PAIRS = [(m, t) for m, many in SAME for t in many]


@pytest.mark.parametrize(("meaning", "text"), PAIRS, ids=[t for _, t in PAIRS])
def test_notations_mean_the_same(meaning: Pointwise, text: str) -> None:
    assert only(text, **U) == meaning


@pytest.mark.parametrize(("text", "declarations"), GALLERY, ids=[t for t, _ in GALLERY])
def test_gallery_expands_and_prints_back(text: str, declarations: dict[str, Any]) -> None:
    system = parsed(text, **declarations)
    assert parsed(str(system)) == system
    assert parsed(str(system), **declarations) == system
    residual = expand(system)
    assert all(equation.components and ZERO not in equation.components for equation in residual.equations)
    assert system.latex()


@pytest.mark.parametrize(("text", "printed"), [
    ("u - (v + k)", "u - (v + k)"), ("(u + v) + k", "(u + v) + k"), ("u - (v - k)", "u - (v - k)"), ("u - -v", "u + v"), ("(u v)/k", "u*v/k"),
    ("u/(v k)", "u/(v*k)"), ("u/(v/k)", "u/(v/k)"), ("(u/v)/k", "u/v/k"), ("u (v/k)", "u*(v/k)"), ("(u^2)^k", "(u^2)^k"),
    ("u^(v^k)", "u^(v^k)"), ("u^v^k", "u^(v^k)"), ("-(u + v)^2", "-(u + v)^2"), ("(-u)^2", "(-u)^2"), ("2^(-u)", "2^(-u)"), ("u^(-2)", "u^(-2)"),
    ("u (v + k) u_x", "u*(v + k)*u_x"), ("d_x (u v) u", "d_x (u*v)*u"), ("d_x(u^2)", "d_x (u^2)"), ("(d_x u)^2", "u_x^2"), ("d_x (u^2)", "d_x (u^2)"),
    ("(d_x - k) (u + v)", "(d_x - k) (u + v)"), ("((d_x + k)^2) u", "((d_x + k)^2) u"), ("(d_x (k d_x)) u", "(d_x*(k*d_x)) u"),
    ("(Σ_i x_i d_i u) v", "(sum_i(x_i*d_i u))*v"), ("-u v", "-u*v"), ("-(u v)", "-u*v"), ("(-u) v", "(-u)*v"), ("u (-v)", "u*(-v)"),
    ("|u - v| k", "abs(u - v)*k"), ("R(u)^2 v", "R(u)^2*v"), ("(u + v)_x", "d_x (u + v)"), ("0.5 u - 1/3 v", "0.5*u - 1/3*v"),
    ("s (w + w)", "s*(w + w)"), ("(w·∇)(v + k)", "(w·∇) (v + k)"),
])  # fmt: skip
def test_parentheses_print_back(text: str, printed: str) -> None:
    """Where they are needed, and only there."""
    options = {"coords": "t x y", "fields": "u v w[2] s[2,2]", "params": "k", "functions": "R"}
    system = parsed(text, **options)
    assert str(system).rpartition("; ")[2] == printed
    assert parsed(printed, **options) == system


@pytest.mark.parametrize("text", [t for _, t in PAIRS])
def test_every_notation_prints_back(text: str) -> None:
    system = parsed(text, **U)
    assert parsed(str(system)) == system


# --------------------------------------------------------------------------------------------- vectors, tensors, indices
VECTORS: list[tuple[str, list[str]]] = [
    ("u·∇u", ["dot(u, grad(u))", "(u·∇)u", "u_j d_j u_i", "(u_j d_j) u_i", "dot(u, ∇u)", "u_j u_{i,j}", "jac(u) u"]),
    ("∇(∇·u)", ["grad(div(u))", "d_i d_j u_j", "grad div u"]),
    ("div(s)", ["∇·s", "d_i s_ij", "d_j s_ji"]),
    ("s u", ["s_ij u_j", "dot(s, u)", "s·u", "s*u"]),
    ("Δu", ["laplace(u)", "div(grad(u))", "d_j d_j u_i", "grad(div(u)) + perp(grad(curl(u)))", "∇²u"]),
    ("sym(grad(u))", ["1/2 (grad(u) + transpose(grad(u)))", "1/2 (d_i u_j + d_j u_i)"]),
    ("dev(s)", ["s - 1/2 tr(s) I", "s_ij - 1/2 s_kk δ_ij"]),
    ("jac(u)", ["transpose(grad(u))", "d_j u_i"]),
    ("outer(u, v)", ["u⊗v", "u_i v_j"]),
    ("tr(s)", ["s_ii", "s_00 + s_11", "ddot(s, I)"]),
    ("det(s)", ["s_00 s_11 - s_01 s_10"]),
    ("curl(u)", ["d_x u_1 - d_y u_0", "∇×u", "u_{1,x} - u_{0,y}"]),
    ("|u|^2", ["u·u", "u_i u_i", "norm(u)^2", "u_0^2 + u_1^2", "(u)²"]),
    ("perp(u)", ["vec(-u_1, u_0)"]),
    ("∂_n q", ["dn(q)"]),
]


@pytest.mark.parametrize(("text", "same"), [(t, s) for t, many in VECTORS for s in many])
def test_vector_notations_mean_the_same(text: str, same: str) -> None:
    def meaning(one: str) -> list[tuple[Pointwise, ...]]:
        system = parsed(one, **V)
        found = [e.components for e in expand(system).equations]
        return found or [c.residual.equations[0].components for c in conditions(system).values()]

    assert meaning(text) == meaning(same)
    assert parsed(str(parsed(same, **V))) == parsed(same, **V)


def test_gradient_of_a_vector_has_the_derivative_first() -> None:
    """(∇u)_ij = ∂_i u_j, row-major."""
    assert components("grad(u)", **V) == (d("u", "x", 0), d("u", "x", 1), d("u", "y", 0), d("u", "y", 1))
    assert expanded("grad(u)", **V).equations[0].shape == (2, 2)


def test_curl_in_three_dimensions() -> None:
    got = components("curl(u)", coords="x y z", fields="u[3]")
    w = {(i, c): Derivative("u", c, (i,)) for i in range(3) for c in range(3)}
    assert got == tuple(add(w[(i + 1) % 3, (i + 2) % 3], negate(w[(i + 2) % 3, (i + 1) % 3])) for i in range(3))
    assert got == components("ε_ijk d_j u_k", coords="x y z", fields="u[3]")


def test_free_indices_stand_in_alphabetical_order() -> None:
    assert components("s_ji", **V) == tuple(Derivative("s", c, ()) for c in (0, 2, 1, 3))


def test_a_vector_need_not_have_the_length_of_space() -> None:
    assert components("m_t + m", coords="t x y", fields="m[3]")[2] == add(Derivative("m", 2, (0,)), Derivative("m", 2, ()))


# --------------------------------------------------------------------------------------------- dimensions
def test_a_huge_dimension_is_one_sum() -> None:
    residual = expanded("laplace(u)", coords="x[100000]")
    assert residual.equations[0].components == (IndexSum("i", Derivative("u", 0, ("i", "i"))),)
    assert residual.coords[99_999] == "x_99999"
    assert isinstance(residual.space, range)


def test_a_symbolic_dimension_is_resolved_at_expansion() -> None:
    system = parsed("u_t = laplace(u)", coords="t x[d]")
    assert system.symbolic == "x"
    assert system.dimension_of(4) == 3
    with pytest.raises(OpdslError, match="not known yet"):
        expand(system)
    assert expand(system, 2).equations[0].components[0] == add(d("u", "t"), negate(lap))


def test_components_of_a_coordinate_vector() -> None:
    for text in ("d_2 u", "u_{x_2}", "d_{2} u", "∂u/∂x_2", "diff(u, x_2)", "d_{x_2} u"):
        assert only(text, coords="x[4]", fields="u") == Derivative("u", 0, (2,)), text
    assert only("d_12^2 u", coords="x[20]", fields="u") == Derivative("u", 0, (12, 12))
    assert only("x_3 u", coords="t x[4]", fields="u") == mul(Coordinate(4), Derivative("u"))
    assert only("x·∇u", coords="x[40]", fields="u") == index_sum("q", mul(Coordinate("q"), Derivative("u", 0, ("q",))))


def test_equal_sums_cancel_whatever_their_letters() -> None:
    assert only("a_ij d_i d_j u - a_mn d_m d_n u", coords="x[50]") == ZERO


# --------------------------------------------------------------------------------------------- names and declarations
def test_greek_letters_and_their_names_are_one_name() -> None:
    assert parsed("ν u_xx + ψ_t", coords="t x", params="nu") == parsed("nu u_xx + psi_t", coords="t x", params="ν")


NAMES = "E I S N Q beta gamma lambda d e D d_L D_u nu_t P_k i k pi delta epsilon lap sin n x_0 T_in".split()


@pytest.mark.parametrize("name", NAMES)
def test_a_declared_name_always_wins(name: str) -> None:
    assert only(f"u_t - {name} u", coords="t z", fields="u", params=name) == add(
        Derivative("u", 0, (0,)), negate(mul(Parameter(name), Derivative("u")))
    )


def test_coordinate_letters_as_fields() -> None:
    """The Lorenz system: x, y, z are unknowns over time."""
    residual = expanded("x' = s (y - x); y' = x (r - z) - y; z' = x y - b z", coords="t", fields="x y z", params="s r b")
    assert [e.components[0] != ZERO for e in residual.equations] == [True] * 3
    assert only("x_t - y", coords="t", fields="x y") == add(Derivative("x", 0, (0,)), negate(Derivative("y")))


def test_a_declared_name_that_looks_like_a_derivative_warns() -> None:
    with pytest.warns(OpdslWarning, match="u_x is the declared name"):
        system = parse_system("u_t + u_x", coords="t x", fields="u", params="u_x")
    assert expand(system).equations[0].components[0] == add(Parameter("u_x"), Derivative("u", 0, (0,)))


def test_what_is_inferred() -> None:
    residual = expanded("u_t + b_i d_i u = nu laplace(u) + R0", coords="t x y")
    assert [f.name for f in residual.fields] == ["u"]
    assert {q.name: q.shape for q in residual.parameters} == {"b": (2,), "nu": (), "R0": ()}
    assert any("b" in note and "coefficient" in note for note in residual.notes)


@pytest.mark.parametrize(("text", "fields"), [
    ("dS/dt = -beta S I/N; dI/dt = beta S I/N - gamma I", ["S", "I"]), ("dpi/dt = -pi", ["pi"]), ("dtheta/dt = omega", ["theta"]),
    ("x'' + omega^2 x = 0", ["x"]),
    ("1 + c(t)' = c", ["c"]), ("c(t)_t = 1", ["c"]), ("c(t=0)_t = 1", ["c"]),
])  # fmt: skip
def test_what_is_differentiated_is_a_field(text: str, fields: list[str]) -> None:
    system = parsed(text, coords="t")
    assert [f.name for f in system.declarations.fields] == fields
    assert parsed(str(system)) == system
    assert str(parsed("(u^k)' + (u²)_x", coords="x", fields="u", params="k")).endswith("d_x (u^k) + d_x (u^2)")
    for text in ("laplace(u(x, y)) = 0", "det(D²u(x=0)) = 0"):
        assert [f.name for f in parsed(text, coords="x y").declarations.fields] == ["u"]


@pytest.mark.parametrize(("text", "inferred"), [("(1 + ∇²)^2 u", True), ("(lap^2 - 1) u", True), ("(d_x 0) u + v_x", False)])
def test_what_stands_after_an_operator_in_parentheses_is_a_field(text: str, inferred: bool) -> None:
    assert ("u" in [f.name for f in parsed(text, coords="x y").declarations.fields]) == inferred


def test_the_normal_derivative_as_a_quotient() -> None:
    system = parsed("u_xx = 0; ∂u/∂n = g; du/dn = 0; ∂_n u = 0", coords="x", fields="u")
    assert [spec.residual.equations[0].components[0] for spec in list(conditions(system).values())[1:]] == [
        mul(Parameter("n", (0,)), Derivative("u", 0, (0,)))
    ] * 2
    with pytest.raises(OpdslError, match="'n' is not a declared coordinate"):
        parsed("∂u/∂n = 0", coords="x", fields="u", params="n")


def test_given_lists_are_complete() -> None:
    with pytest.raises(OpdslError, match="nuu"):
        parse_system("u_t = nuu u_xx", coords="t x", params="nu")
    with pytest.raises(OpdslError, match="v"):
        parse_system("u_t = v_x", coords="t x", fields="u", params="nu")


@pytest.mark.parametrize("text", [
    "d/dq u", "d^2u/dq^2 + du/dq = u^3", "(d/dq - nu) u", "d/dq (u^2) + u d/dq u", "d_theta d_theta u + u", "d^4/dx^4 v_j",
    "dd/dx u",
])  # fmt: skip
def test_an_inferred_coordinate_is_seen_in_the_printed_text(text: str) -> None:
    system = parsed(text)
    assert parsed(str(system)) == system


def test_inferred_fields_stand_in_the_order_of_the_text() -> None:
    """They are the columns of the network."""
    assert [f.name for f in parsed("d_x w_a + u_x + v_x", coords="x").declarations.fields] == ["w_a", "u", "v"]


def test_several_coordinates_must_be_declared() -> None:
    assert expanded("d^4/dx^4 u").coords == ("x",)
    with pytest.raises(OpdslError, match="coordinates are not declared"):
        parse_system("d_x u + d_y u")


def test_time_is_left_out_of_vector_calculus() -> None:
    assert only("laplace(u)", coords="t x y") == lap
    assert only("laplace(u)", coords="tau x y", time="tau") == lap
    assert only("laplace(u)", coords="x y t", fields="u") == add(Derivative("u", 0, (0, 0)), Derivative("u", 0, (1, 1)))


def test_trainable_parameters_are_differentiated_like_others() -> None:
    residual = expanded("d_x(k u_x)", coords="x", params="?k")
    assert residual.equations == expanded("d_x(k u_x)", coords="x", params="k").equations
    assert residual.fields[1].trainable
    constant = specialise(residual, ["k"])
    assert constant.parameters[0].trainable
    assert constant.equations[0].components[0] == mul(k, Derivative("u", 0, (0, 0)))


def test_differentiated_coefficients_become_fields() -> None:
    residual = expanded("d_i(a_ij d_j u)", coords="x y")
    spec = residual.fields[1]
    assert (spec.name, spec.shape, spec.coefficient) == ("a", (2, 2), True)
    assert not residual.parameters
    constant = specialise(residual, ["a"])
    assert constant.equations[0].components == components("a_ij d_i d_j u", coords="x y")


def test_a_constant_exponent_loses_its_logarithms() -> None:
    residual = specialise(expanded("laplace(u^m)", coords="x", fields="u"), ["m"])
    expected = only("m*(m-1) u^(m-2) u_x^2 + m u^(m-1) u_xx", coords="x", fields="u")
    assert residual.equations[0].components[0] == expected


def test_conditions_are_not_part_of_the_residual() -> None:
    text = "u_t = u_xx; init: u(t=0, x) = sin(pi x); u(x=0) = 0; u_x(x=L) = g; ∂_n u = 0"
    system = parsed(text, coords="t x", fields="u")
    assert [e.name for e in expand(system).equations] == ["eq1"]
    found = conditions(system)
    assert list(found) == ["init", "eq3", "eq4", "eq5"]
    assert dict(found["init"].where) == {"t": ZERO}
    assert dict(found["eq4"].where) == {"x": Parameter("L")}
    assert found["eq4"].residual.equations[0].components[0] == add(Derivative("u", 0, (1,)), negate(Parameter("g")))
    assert not found["eq5"].where
    assert parsed(str(system)) == system


def test_definitions_and_names() -> None:
    system = parsed("let w = curl(u)  # vorticity\nvort: w_t + u·∇w = nu Δw\ndiv u = 0", coords="t x y", fields="u[2]")
    assert [e.name for e in expand(system).equations] == ["vort", "eq2"]
    direct = expanded("(curl(u))_t + u·∇(curl u) = nu Δ(curl u)", coords="t x y", fields="u[2]")
    assert expand(system).equations[0].components == direct.equations[0].components
    assert parsed(str(system)) == system


def test_a_complex_equation_has_real_and_imaginary_part() -> None:
    equation = expanded("i u_t + u_xx", coords="t x", fields="u:complex").equations[0]
    assert equation.shape == (2,)
    assert equation.components == (
        add(Derivative("u", 0, (1, 1)), negate(Derivative("u", 1, (0,)))),
        add(Derivative("u", 0, (0,)), Derivative("u", 1, (1, 1))),
    )


@pytest.mark.parametrize(("text", "real", "imaginary"), [
    ("conj(z)", "a", "-b"), ("conj(z) z", "a^2 + b^2", "0"), ("re(z^2)", "a^2 - b^2", None), ("im(conj(z) z_x)", "a b_x - b a_x", None),
    ("|z|^2", "a^2 + b^2", None), ("z/conj(z)", "(a^2 - b^2)/(a^2 + b^2)", "2 a b/(a^2 + b^2)"), ("1/z", "a/(a^2 + b^2)", "-b/(a^2 + b^2)"),
    ("exp(i x) z", "cos(x) a - sin(x) b", "sin(x) a + cos(x) b"), ("i z_x", "-b_x", "a_x"),
])  # fmt: skip
def test_complex_arithmetic(text: str, real: str, imaginary: str | None) -> None:
    import sympy

    from opdsl.language.to_sympy import to_sympy

    a, b = (sympy.Function(n)(sympy.Symbol("x")) for n in "ab")
    z = {sympy.Function("z_0")(sympy.Symbol("x")): a, sympy.Function("z_1")(sympy.Symbol("x")): b}
    found = [e.subs(z).doit() for e in to_sympy(parsed(text, coords="x", fields="z:complex"))]
    for part, expected in zip(found, [real] if imaginary is None else [real, imaginary], strict=True):
        assert sympy.simplify(part - to_sympy(parsed(expected, coords="x", fields="a b"))[0]) == 0


def test_user_functions_are_differentiated_by_order() -> None:
    equation = only("d_x(R(u))", coords="x", functions="R", fields="u")
    from opdsl.language.residual import Composition

    assert equation == mul(Composition("R", (Derivative("u"),), (1,)), Derivative("u", 0, (0,)))


def test_curvilinear_operators() -> None:
    polar = {"coords": "polar(r, theta)", "fields": "u w[2]"}
    assert only("laplace(u)", **polar) == only("u_rr + u_r/r + u_{theta theta}/r^2", **polar)
    assert only("div(w)", **polar) == only("d_r w_0 + w_0/r + d_theta w_1/r", **polar)
    assert components("u grad(u)", **polar)[1] == only("u u_theta/r", **polar)
    ball = {"coords": "spherical(r, theta, phi)", "fields": "u"}
    assert only("laplace(u) - (u_rr + 2 u_r/r + u_{theta theta}/r^2 + cos(theta)/(r^2 sin(theta)) u_theta"
                " + u_{phi phi}/(r^2 sin(theta)^2))", **ball) == ZERO
    turning = components("(w·∇)w", **polar)
    assert turning[0] == only("w_0 d_r w_0 + w_1 ((d_theta w_0)/r - w_1/r)", **polar)


def test_facts() -> None:
    info = facts(expanded("u_t + u u_x = nu u_xx", coords="t x"))
    assert (info.order, info.kind, info.linear) == (2, "semilinear", False)
    assert facts(expanded("u_t = nu u_xx", coords="t x")).kind == "linear"
    assert facts(expanded("u u_xx + u_x", coords="x")).kind == "quasilinear"
    assert facts(expanded("det(D²u) = f", coords="x y")).kind == "nonlinear"
    assert "u is a field" in str(info)


def test_facts_are_those_of_the_text_at_hand() -> None:
    """Equal systems share their expansion, but not the words they were written in."""
    declared = expanded("u_t + u*u_x = 2 u_xx", coords="t x", fields="u")
    inferred = expanded("u_t + u u_x = 2u_xx", coords="t x")
    assert not declared.notes
    assert [note.split()[0] for note in inferred.notes] == ["u"]
    assert [e.text for e in (*declared.equations, *inferred.equations)] == ["u_t + u*u_x = 2 u_xx", "u_t + u u_x = 2u_xx"]


# --------------------------------------------------------------------------------------------- LaTeX
LATEX: list[tuple[str, str, dict[str, str]]] = [
    (r"\partial_t u + u \partial_x u = \nu \partial_{xx} u", "u_t + u u_x = nu u_xx", {"coords": "t x"}),
    (r"\frac{\partial^2 u}{\partial x^2} + \frac{\partial^2 u}{\partial x \partial y}", "u_xx + u_xy", {"coords": "x y"}),
    (r"\nabla^2 u = f", "laplace(u) = f", {"coords": "x y"}),
    (r"u_{t} + 6 uu_{x} + \partial_x^3 u = 0", "u_t + 6 u u_x + u_xxx = 0", {"coords": "t x", "fields": "u"}),
    (r"{u}_{t} = \frac12 U^2rp + \exp{u}", "u_t = 1/2 U^2 r p + exp(u)", {"coords": "t x", "fields": "u", "params": "U r p"}),
    (r"\frac{\partial \mathbf{u}}{\partial t} + \left(\mathbf{u}\cdot\nabla\right)\mathbf{u} = -\frac{1}{\rho}\nabla p, \\ "
     r"\nabla\cdot\mathbf{u} = 0.", "u_t + (u·∇)u = -1/rho grad(p); div(u) = 0", {"coords": "t x y", "fields": "u[2] p"}),
    (r"y^{(4)} = y'' + y^{2}", "y'''' = y'' + y^2", {"coords": "x", "fields": "y"}),
    (r"\ddot{u} + \dot u + \sin u = 0", "u_tt + u_t + sin(u) = 0", {"coords": "t", "fields": "u"}),
    (r"\frac{d}{dx}\left[ k \frac{du}{dx} \right] = \mathrm{Re}\, u", "d_x(k u_x) = Re u", {"coords": "x", "params": "k Re"}),
    (r"i\hbar\frac{\partial \psi}{\partial t} = -\frac{\hbar^2}{2m}\nabla^2\psi", "i hbar psi_t = -hbar^2/(2 m) lap psi",
     {"coords": "t x", "fields": "psi:complex", "params": "hbar m"}),
    (r"\begin{align} u_t &= \Delta u \\ v_t &= \Delta v \end{align}", "u_t = lap u; v_t = lap v", {"coords": "t x"}),
    (r"\|\nabla u\|^2 = \left|\nabla u\right|^{2}", "norm(grad u)^2 = abs(grad u)^2", {"coords": "x y"}),
    (r"u_{\theta\theta} + u_{r\theta} + \partial_{\theta} u", "u_{theta theta} + u_{r theta} + d_theta u",
     {"coords": "r theta", "fields": "u"}),
]  # fmt: skip


@pytest.mark.parametrize(("latex", "plain", "declarations"), LATEX, ids=[a for a, _, _ in LATEX])
def test_latex_means_what_the_plain_text_means(latex: str, plain: str, declarations: dict[str, str]) -> None:
    ours, theirs = expanded(latex, **declarations), expanded(plain, **declarations)
    assert [e.components for e in ours.equations] == [e.components for e in theirs.equations]


def test_errors_point_into_the_latex() -> None:
    text = r"\partial_t u = \nu \, q u"
    with pytest.raises(OpdslError) as caught:
        parse_system(text, coords="t x", fields="u", params="nu")
    (span,) = caught.value.spans
    assert text[span.start : span.stop] == "q"


def test_latex_output() -> None:
    assert parsed("u_t + u u_x = nu u_xx", coords="t x").latex() == (
        r"\partial_{t} u + u \, \partial_{x} u = \nu \, \partial_{x x} u"
    )


# --------------------------------------------------------------------------------------------- warnings
@pytest.mark.parametrize("text", ["d_x u v", "∂_x u v", "a_ij d_i d_j u v", "nu/k u", "d_x(u)^2", "Δ(u v)²", "∂/∂x (u)^2"])
def test_surprising_readings_warn(text: str) -> None:
    with pytest.warns(OpdslWarning):
        parse_system(text, coords="t x y", fields="u v")


@pytest.mark.parametrize("text", ["d_x(u^2)", "(d_x u)^2", "laplace(u)^2", "u_x^2", "nu/(2 k) u", "d_x (u v) k", "dx(u)^2", "d_x u^2"])
def test_plain_readings_do_not_warn(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_system(text, coords="t x y", fields="u v")


def test_the_grammar_has_no_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    """Lark resolves shift/reduce conflicts silently; its log tells them."""
    import logging

    from lark import Lark, logger

    from opdsl.grammar.lark_parser import _Classified, parser

    with caplog.at_level(logging.DEBUG, logger=logger.name):
        Lark(parser().source_grammar, parser="lalr", lexer=_Classified, debug=True, maybe_placeholders=False)
    assert not [r.message for r in caplog.records if "conflict" in r.message.lower()]


def test_what_the_grammar_cannot_carry() -> None:
    """The same terminals, and another operand of the prefix: a field at all coordinates, or a product."""
    from opdsl.grammar.parse import _Parse
    from opdsl.grammar.symbol_table import Classifier

    def terminals(text: str) -> list[str]:
        worker = _Parse(text, 0, dict(declared))
        lexemes, decls = worker._lexemes(text, None, worker._declared())
        return [token.type for token in Classifier(decls).run(lexemes)]

    declared = {"coords": "x", "fields": "u v"}
    assert terminals("d_x u(x)^2") == terminals("d_x u(v)^2") == "PREFIX VALUE CALL VALUE RPAR POWER NUMBER".split()
    assert only("d_x u(x)^2", **declared) == only("d_x (u^2)", **declared)
    assert only("d_x u(v)^2", **declared) == only("(d_x u) v^2", **declared)


@pytest.mark.parametrize(("text", "printed"), [
    ("k sum_i x_i d_i u / 2 v", "k*sum_i(x_i*d_i u/2*v)"), ("d_x sum_i x_i u v", "d_x sum_i(x_i*u*v)"),
    ("v + sum_i x_i d_i u + v", "v + sum_i(x_i*d_i u) + v"),
    ("u/sum_i x_i x_i", "u/sum_i(x_i*x_i)"), ("u * -sum_i x_i d_i u", "u*(-sum_i(x_i*d_i u))"),
])  # fmt: skip
def test_an_explicit_sum_takes_all_to_its_right(text: str, printed: str) -> None:
    declared = {"coords": "x y", "fields": "u v", "params": "k"}
    assert parsed(text, **declared) == parsed(printed, **declared)
