"""Silent wrong answers seen in other tools. One test per entry, named after it."""

from __future__ import annotations

import pytest

from opdsl.errors import OpdslError
from opdsl.grammar import parse_system
from opdsl.language.calculus import expand
from opdsl.language.constructors import ZERO, add, call, mul, negate, number, power
from opdsl.language.residual import Composition, Coordinate, Derivative, Parameter, Pointwise
from tests.test_grammar import components, only


def u(*axes: int) -> Pointwise:
    return Derivative("u", 0, axes)


def test_01_implicit_multiplication_does_not_split_operators() -> None:
    assert only("d^4/dx^4 u", coords="x") == u(0, 0, 0, 0)
    assert only("laplace(u)", coords="x") == u(0, 0)
    assert only("laplace(u)", coords="x", fields="u l a p c e") == u(0, 0)
    with pytest.raises(OpdslError, match="laplac"):
        parse_system("laplac u", coords="x", fields="u l a p c", params="nu")


@pytest.mark.parametrize("text", [
    "u_t = (d^2 u)/dx^2", "u_t = d2u/dx2", "u_t = 2 dx u", "Du/Dt = u_x", "u_t = D_x^2 u", "u_t = D_xx u",
    "u_t = ud^2u/dx^2", r"\frac{D u}{D t} = u_x", "D u/D t = u_x", "(D u)/(D t) = u_x",
])  # fmt: skip
def test_01_what_is_left_of_a_derivative_is_never_inferred_as_a_parameter(text: str) -> None:
    with pytest.raises(OpdslError):
        parse_system(text, coords="t x")


@pytest.mark.parametrize("text", [
    "u_t = u_xx in Omega", "u_t = u_xx if x", "u_t = sum_{i=1}^3 d_i^2 u",
    "u_t = u_{n+1}", "u_t = nu uxx", "u_t = Laplace u", "u_t = laplce u", "u_t = dudx",
    "u_t = sinx u_x", "u_t = xu_x", "u_t = u^3_x",
    "u_t + uu_x = 0", "uu_t = Δu(u^m)", "u_t + nuu = nu u_xx", "Re (u_t + u u_x) = u_xx",
])  # fmt: skip
def test_01_what_looks_like_something_else_is_never_inferred(text: str) -> None:
    with pytest.raises(OpdslError):
        parse_system(text, coords="t x")


@pytest.mark.parametrize(("text", "meaning"), [
    ("u_t = du^2/dx", "u_t = d_x(u^2)"), (r"u_t = u_{xx} \quad \text{in } \Omega", "u_t = u_xx"),
    (r"u_t = \sum_{i=1}^{d} \partial_i^2 u", "u_t = laplace(u)"),
])  # fmt: skip
def test_01_what_is_read_has_the_meaning_of_the_textbook(text: str, meaning: str) -> None:
    assert only(text, coords="t x") == only(meaning, coords="t x")
    assert not parse_system(text, coords="t x").declarations.params


def test_02_a_derivative_with_respect_to_another_symbol_is_not_silently_zero() -> None:
    for text in ("d_z u", "diff(u, z)", "du/dz", "u_z", "diff(u, nu)"):
        with pytest.raises(OpdslError):
            parse_system(text, coords="t x", fields="u", params="nu")


@pytest.mark.parametrize("name", ["E", "beta", "gamma", "S", "N", "Q", "lambda", "I", "pi"])
def test_03_built_in_constants_do_not_shadow_declared_names(name: str) -> None:
    assert only(f"{name} u", coords="x", fields="u", params=name) == mul(Parameter(name), u())


def test_04_latex_nabla_squared_is_the_laplacian() -> None:
    assert only(r"\nabla^2 u", coords="x y") == add(u(0, 0), u(1, 1))
    assert only(r"\frac{\partial^2 u}{\partial x^2}", coords="x y") == u(0, 0)


@pytest.mark.parametrize("text", ["w_i w_i w_i", "div(u)", "∇·u", "cross(w, w)", "w × w", "s_ii w_i"])
def test_05_three_equal_indices_divergence_of_a_scalar_cross_of_plane_vectors(text: str) -> None:
    with pytest.raises(OpdslError):
        parse_system(text, coords="x y", fields="u w[2] s[2,2]")


def test_06_laplace_of_a_quoted_name_and_divergence_of_a_scalar() -> None:
    with pytest.raises(OpdslError):
        parse_system('laplace("u")', coords="x y", fields="u")
    with pytest.raises(OpdslError, match="divergence needs a vector"):
        parse_system("div(u)", coords="x y", fields="u")


def test_07_nabla_with_a_coordinate_is_a_partial_derivative() -> None:
    assert only("∇_x u", coords="x y", fields="u") == u(0)


def test_08_components_count_from_zero_and_are_never_clamped() -> None:
    assert only("w_1", coords="x y", fields="w[2]") == Derivative("w", 1, ())
    for text in ("w_2", "w_{-1}", "s_02", "d_3 u"):
        with pytest.raises(OpdslError):
            parse_system(text, coords="x[3]", fields="u w[2] s[2,2]")


def test_09_a_derivative_with_respect_to_an_unrelated_input_is_kept() -> None:
    assert only("k_x", coords="x y", fields="u", params="k") == Derivative("k", 0, (0,))
    assert only("d_y(k u)", coords="x y", fields="u", params="k") == add(
        mul(Derivative("k", 0, (1,)), u()), mul(Derivative("k", 0, ()), u(1))
    )


def test_10_the_hessian_of_a_vector_is_not_that_of_its_first_component() -> None:
    with pytest.raises(OpdslError, match="Hessian"):
        parse_system("hess(w)", coords="x y", fields="w[2]")
    assert len(components("hess(w_1)", coords="x y", fields="w[2]")) == 4


def test_11_the_laplacian_leaves_time_out() -> None:
    assert only("laplace(u)", coords="t x") == u(1, 1)
    assert only("laplace(u)", coords="x t", fields="u") == u(0, 0)


def test_12_the_laplacian_of_a_linear_function_is_zero() -> None:
    residual = expand(parse_system("laplace(3 x + 2 y) + u", coords="x y", fields="u"))
    assert residual.equations[0].components[0] == u()
    assert only("laplace(x^2 y) + 0*u", coords="x y", fields="u") == mul(number(2), Coordinate(1))


def test_exact_arithmetic_does_not_round() -> None:
    assert only("0.1 u + 0.2 u - 0.3 u", coords="x", fields="u") == ZERO
    assert only("u/3 + u/3 + u/3 - u", coords="x", fields="u") == ZERO


def test_nothing_of_the_text_is_evaluated() -> None:
    for text in ("__import__('os').system('true')", "u.__class__", "().__class__", "u if u else u", "exec('u')"):
        with pytest.raises(OpdslError):
            parse_system(text, coords="x", fields="u", params="nu")


def test_a_derivative_of_a_known_function_is_exact() -> None:
    assert only("d_x(sin(x) u)", coords="x", fields="u") == add(
        mul(call("cos", (Coordinate(0),)), u()), mul(call("sin", (Coordinate(0),)), u(0))
    )
    assert only("d_x(1/u)", coords="x", fields="u") == negate(mul(power(u(), number(-2)), u(0)))
    assert isinstance(call("tanh", (u(),)), Composition)
