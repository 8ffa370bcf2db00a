"""The expansion against SymPy's own derivatives, on concrete functions and exactly."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import sympy

from opdsl.errors import LanguageError, OpdslWarning
from opdsl.grammar import parse_system
from opdsl.grammar.from_sympy import from_sympy
from opdsl.language.calculus import expand, sobolev, specialise, substitute
from opdsl.language.constructors import ZERO, add, mul, negate, number, power
from opdsl.language.residual import Number
from opdsl.language.to_sympy import pointwise_to_sympy, to_sympy
from tests.language_gallery import GALLERY
from tests.references_language import evaluate
from tests.test_grammar import only, parsed

t, x, y, z = sympy.symbols("t x y z")
COORDS = (t, x, y, z)
D = sympy.diff
Fields = dict[str, Any]


def values(text: str, functions: Fields, **declarations: Any) -> list[Any]:
    """Put concrete functions into the expanded residual; fields by component, ``{"u": (u0, u1)}``."""
    residual = expand(parsed(text, **declarations))
    out = []
    for equation in residual.equations:
        for component in equation.components:
            made = pointwise_to_sympy(component, residual)
            for spec in residual.fields:
                given = functions[spec.name] if spec.shape else (functions[spec.name],)
                for k, function in enumerate(given):
                    applied = sympy.Function(f"{spec.name}_{k}" if spec.shape else spec.name)
                    symbols = [sympy.Symbol(name) for name in residual.coords]
                    made = made.replace(applied, sympy.Lambda(tuple(symbols), function))
            out.append(made.doit())
    return out


def agree(ours: list[Any], theirs: list[Any]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert sympy.simplify(a - b) == 0, (a, b)


u = x**3 * y**2 + 2 * x * y * t**2 + t * y**4
v = x * y - 3 * t**2 * x**2
q = sympy.sin(x) * y + t
w = (x**2 * y + t * z, y * z**2 - x, x * y * z + t**2)
lap2 = lambda f: D(f, x, 2) + D(f, y, 2)  # noqa: E731
lap3 = lambda f: D(f, x, 2) + D(f, y, 2) + D(f, z, 2)  # noqa: E731
grad2 = lambda f: [D(f, x), D(f, y)]  # noqa: E731
PLANE = {"coords": "t x y"}
SPACE = {"coords": "t x y z"}

SCALAR: list[tuple[str, Callable[[], Any]]] = [
    ("u_t + u u_x - u_xx", lambda: D(u, t) + u * D(u, x) - D(u, x, 2)),
    ("laplace(u^3 - u - laplace(u))", lambda: lap2(u**3 - u - lap2(u))),
    ("∇·(∇u/(1+|∇u|²))", lambda: sum(D(D(u, a) / (1 + D(u, x) ** 2 + D(u, y) ** 2), a) for a in (x, y))),
    ("det(D²u)", lambda: D(u, x, 2) * D(u, y, 2) - D(u, x, y) ** 2),
    ("(u_t + 6 u u_x + u_xxx)_x + 3 u_yy", lambda: D(D(u, t) + 6 * u * D(u, x) + D(u, x, 3), x) + 3 * D(u, y, 2)),
    ("Δ²u", lambda: lap2(lap2(u))),
    ("d_x(sin(u) exp(x) / (1 + y^2))", lambda: D(sympy.sin(u) * sympy.exp(x) / (1 + y**2), x)),
    ("d_xy(u v)", lambda: D(u * v, x, y)),
    ("d_x(tanh(v)) + d_y(log(1+u^2)) + d_t(sqrt(1+v^2))",
     lambda: D(sympy.tanh(v), x) + D(sympy.log(1 + u**2), y) + D(sympy.sqrt(1 + v**2), t)),
    ("d_x(atan(u)) + d_x(asinh(v)) + d_x(erf(v)) + d_y(cosh v) + d_y(sinh v)",
     lambda: D(sympy.atan(u), x) + D(sympy.asinh(v), x) + D(sympy.erf(v), x) + D(sympy.cosh(v) + sympy.sinh(v), y)),
    ("d_x(acos(x/9)) + d_x(asin(x/9)) + d_x(atanh(x/9)) + d_x(acosh(x)) + d_x(tan(x)) + 0*u",
     lambda: D(sympy.acos(x / 9) + sympy.asin(x / 9) + sympy.atanh(x / 9) + sympy.acosh(x) + sympy.tan(x), x)),
    ("d_x(atan2(u, v)) + d_x(sigmoid(v)) + d_x(softplus(v)) + 0*u",
     lambda: D(sympy.atan2(u, v) + 1 / (1 + sympy.exp(-v)) + sympy.log(1 + sympy.exp(v)), x)),
    ("d_x(u^v)", lambda: D(u**v, x)),
    ("(d_t - lap)(d_t + lap) u", lambda: D(u, t, 2) - lap2(lap2(u))),
    ("(x d_x + y d_y)² u", lambda: x * D(x * D(u, x) + y * D(u, y), x) + y * D(x * D(u, x) + y * D(u, y), y)),
    ("Σ_i x_i^2 d_i^2 u", lambda: x**2 * D(u, x, 2) + y**2 * D(u, y, 2)),
    ("curl(perp(grad(u)))", lambda: lap2(u)),
    ("d_i(x_j d_j(x_i u))", lambda: sum(D(sum(b * D(a * u, b) for b in (x, y)), a) for a in (x, y))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "theirs"), SCALAR, ids=[text for text, _ in SCALAR])
def test_scalar_operators(text: str, theirs: Callable[[], Any]) -> None:
    ours = values(text, {"u": u, "v": v}, fields="u v", **PLANE)
    point = {t: sympy.Rational(1, 3), x: sympy.Rational(7, 5), y: sympy.Rational(-2, 3)}
    difference = (ours[0] - theirs()).subs(point)
    # Rational points: polynomial differences are exactly 0, transcendental ones to 40 digits (up to the float in erf').
    assert abs(sympy.N(difference, 40)) < (1e-12 if "erf" in text else 1e-30)


def curl3(f: Any) -> list[Any]:
    return [D(f[2], y) - D(f[1], z), D(f[0], z) - D(f[2], x), D(f[1], x) - D(f[0], y)]


XYZ = (x, y, z)
VECTOR: list[tuple[str, Callable[[], list[Any]]]] = [
    ("w_t + w·∇w - Δw", lambda: [D(w[i], t) + sum(w[j] * D(w[i], XYZ[j]) for j in range(3)) - lap3(w[i]) for i in range(3)]),
    ("curl(w)", lambda: curl3(w)),
    ("∇×(∇×w) - ∇(∇·w) + Δw", lambda: [0, 0, 0]),
    ("div(curl(w))", lambda: [0]),
    ("curl(grad(q))", lambda: [0, 0, 0]),
    ("grad(w)", lambda: [D(w[j], XYZ[i]) for i in range(3) for j in range(3)]),
    ("jac(w)", lambda: [D(w[i], XYZ[j]) for i in range(3) for j in range(3)]),
    ("div(outer(w, w)) - w div(w) - w·∇w", lambda: [0, 0, 0]),
    ("cross(w, curl(w)) - grad(|w|^2)/2 + w·∇w", lambda: [0, 0, 0]),
    ("dev(sym(grad(w)))",
     lambda: [(D(w[j], XYZ[i]) + D(w[i], XYZ[j])) / 2 - (sum(D(w[k], XYZ[k]) for k in range(3)) / 3 if i == j else 0)
              for i in range(3) for j in range(3)]),
    ("ε_ijk d_j w_k", lambda: curl3(w)),
    ("d_j(d_j w_i + d_i w_j)", lambda: [lap3(w[i]) + D(sum(D(w[j], XYZ[j]) for j in range(3)), XYZ[i]) for i in range(3)]),
    ("det(jac(w))", lambda: [sympy.Matrix(3, 3, lambda i, j: D(w[i], XYZ[j])).det()]),
    ("hess(w_1)", lambda: [D(w[1], a, b) for a in XYZ for b in XYZ]),
    ("skew(jac(w)) w", lambda: [sum((D(w[i], XYZ[j]) - D(w[j], XYZ[i])) / 2 * w[j] for j in range(3)) for i in range(3)]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "theirs"), VECTOR, ids=[text for text, _ in VECTOR])
def test_vector_operators(text: str, theirs: Callable[[], list[Any]]) -> None:
    ours = values(text, {"w": w, "q": q}, fields="w[3] q", **SPACE)
    agree([sympy.expand(a) for a in ours], [sympy.expand(b) for b in theirs()])


def test_coefficients_are_differentiated_with_the_product_rule() -> None:
    a = (x**2, x * y, y**3, x + y)
    ours = values("d_i(a_ij d_j u)", {"u": u, "a": a}, coords="t x y")
    pair = (x, y)
    theirs = sum(D(sum(a[2 * i + j] * D(u, pair[j]) for j in range(2)), pair[i]) for i in range(2))
    agree(ours, [theirs])


def test_curvilinear_operators_agree_with_cartesian_ones() -> None:
    """A Cartesian polynomial, written in spherical coordinates, has the same Laplacian and the same gradient norm."""
    r, theta, phi = sympy.symbols("r theta phi")
    place = {x: r * sympy.sin(theta) * sympy.cos(phi), y: r * sympy.sin(theta) * sympy.sin(phi), z: r * sympy.cos(theta)}
    f = x**2 * y + z**3 + x
    declared = {"coords": "spherical(r, theta, phi)", "fields": "u"}
    point = {r: sympy.Rational(5, 4), theta: sympy.Rational(2, 3), phi: sympy.Rational(1, 5)}
    for text, cartesian in (("laplace(u)", lap3(f)), ("|∇u|²", sum(D(f, a) ** 2 for a in XYZ)), ("tr(hess(u))", lap3(f)),
                            ("det(hess(u))", sympy.hessian(f, XYZ).det()), ("bilap(u)", lap3(lap3(f)))):  # fmt: skip
        (ours,) = values(text, {"u": f.subs(place, simultaneous=True)}, **declared)
        difference = ours.subs(point) - cartesian.subs(place, simultaneous=True).subs(point)
        assert abs(sympy.N(difference, 30)) < 1e-20, text


def test_cylindrical_vector_identities() -> None:
    r, theta = sympy.symbols("r theta")
    f = (r**2 * sympy.cos(theta) * z, r * sympy.sin(2 * theta), r * z**2)
    declared = {"coords": "cylindrical(r, theta, z)", "fields": "w[3]"}
    for text in ("div(curl(w))", "curl(curl(w)) - grad(div(w)) + laplace(w)", "laplace(w) - div(grad(w))",
                 "cross(w, curl(w)) - grad(|w|^2)/2 + (w·∇)w"):  # fmt: skip
        for component in values(text, {"w": f}, **declared):
            assert sympy.simplify(component) == 0, text


def test_sums_over_labels_are_the_written_out_sums() -> None:
    """The same text over 20 coordinates keeps its sum; putting the values in gives the written-out Laplacian of a product."""
    text = "laplace(u^2) + |∇u|² + x·∇u + a_ij d_i d_j u"
    names = [sympy.Symbol(f"x_{k}") for k in range(20)]
    f = sum((k + 1) * name**3 for k, name in enumerate(names)) + names[0] * names[19]
    residual = expand(parsed(text, coords="x[20]", fields="u"))
    made = pointwise_to_sympy(residual.equations[0].components[0], residual)
    made = made.replace(sympy.Function("u"), sympy.Lambda(tuple(names), f)).doit()
    a = [[sympy.Symbol(f"a_{i}_{j}") for j in range(20)] for i in range(20)]
    theirs = sum(D(f**2, n, 2) + D(f, n) ** 2 + n * D(f, n) for n in names)
    theirs += sum(a[i][j] * D(f, names[i], names[j]) for i in range(20) for j in range(20))
    assert sympy.expand(made - theirs) == 0


def test_random_nests_of_operators_agree_with_sympy() -> None:
    """Random expressions of products, powers and derivatives against an evaluator that shares no code."""
    rng = random.Random(7)

    def build(depth: int) -> str:
        if depth == 0:
            return rng.choice(["u", "v", "x", "2", "y"])
        text, other = build(depth - 1), build(rng.randrange(depth))
        shapes = ("({0} + {1})", "{0}*{1}", "d_x ({0})", "({0})_y", "laplace({0})", "({0} - {1})^2", "dot(grad({0}), grad({1}))")
        return rng.choice(shapes).format(text, other)

    fields = {"u": x * y + t, "v": x**2 - y}
    for _ in range(25):
        text = build(4)
        (ours,) = values(text, fields, coords="t x y", fields="u v")
        assert sympy.expand(ours - evaluate(text, {**fields, "x": x, "y": y}, x, y)) == 0, text


# --------------------------------------------------------------------------------------------- derived systems, SymPy
def test_sobolev_residuals_are_derivatives() -> None:
    system = sobolev(parsed("F: u_t + u u_x", coords="t x"), 2)
    assert [e.name for e in system.equations] == ["F", "F_t", "F_x", "F_tt", "F_tx", "F_xx"]
    assert expand(system).equations[5].components[0] == only("d_xx(u_t + u u_x)", coords="t x")
    assert parsed(str(system)) == system


def test_substitution_to_polar_coordinates_is_the_polar_laplacian() -> None:
    r, phi = sympy.symbols("r phi")
    system = substitute(parsed("laplace(u)", coords="x y", fields="u"), "x = r*cos(phi); y = r*sin(phi)", parse_system, coords="r phi")
    f = r**3 * sympy.cos(phi) + r * phi**2
    residual = expand(system)
    made = pointwise_to_sympy(residual.equations[0].components[0], residual)
    made = made.replace(sympy.Function("u"), sympy.Lambda((r, phi), f))
    theirs = D(f, r, 2) + D(f, r) / r + D(f, phi, 2) / r**2
    assert sympy.simplify(made.doit() - theirs) == 0
    assert parsed(str(system)) == system


def test_self_similar_substitution() -> None:
    """u = U(ξ)/√s with ξ = x/√t turns the heat equation into U_ξξ + ξ U_ξ/2 + U/2 = 0 for steady U."""
    heat = parsed("u_t = u_xx", coords="t x", fields="u")
    system = substitute(heat, "t = s; x = xi*sqrt(s); u = U/sqrt(s)", parse_system, coords="s xi", fields="U")
    s, xi = sympy.symbols("s xi")
    residual = expand(system)
    made = pointwise_to_sympy(residual.equations[0].components[0], residual)
    assert sympy.simplify(made.replace(sympy.Function("U"), sympy.Lambda((s, xi), sympy.exp(-(xi**2) / 4))).doit()) == 0


def test_singular_or_incomplete_substitutions_are_refused() -> None:
    system = parsed("u_t = u_xx", coords="t x", fields="u")
    for text in ("t = s; x = s", "t = s", "t = s; x = y; q = s", ""):
        with pytest.raises(LanguageError):
            substitute(system, text, parse_system, coords="s y")


SMALL = [g for g in GALLERY if "R(" not in g[0] and "[100]" not in g[1].get("coords", "")]


@pytest.mark.parametrize(("text", "declarations"), SMALL)
def test_sympy_and_back(text: str, declarations: dict[str, Any]) -> None:
    system = parsed(text, **declarations)
    residual = expand(system)
    if any(f.shape for f in residual.fields) or any(p.shape for p in residual.parameters) or "functions" in declarations:
        assert to_sympy(system)
        return
    expressions = to_sympy(system)
    coords = " ".join(residual.coords)
    back = from_sympy(expressions, coords=coords)
    assert [sympy.expand(e) for e in to_sympy(back)] == [sympy.expand(e) for e in expressions]
    assert parsed(str(back)) == back


def test_specialise_refuses_other_names() -> None:
    with pytest.raises(LanguageError):
        specialise(expand(parsed("u_xx", coords="x")), ["u"])


# --------------------------------------------------------------------------------------------- smart constructors
def test_equal_expressions_are_equal_objects_whatever_their_order() -> None:
    a, b, c = (only(name, coords="x", fields="a b c") for name in "abc")
    assert add(a, b, c) == add(c, a, b)
    assert mul(add(a, b), c) == mul(c, add(b, a))
    assert add(mul(add(a, b), c), negate(mul(c, add(b, a)))) == ZERO
    assert hash(add(a, b)) == hash(add(b, a))


def test_products_of_sums_are_not_multiplied_out() -> None:
    a, b, k = (only(name, coords="x", fields="a b", params="k") for name in "abk")
    assert len(mul(add(a, b), add(a, k)).factors) == 2  # type: ignore[attr-defined]
    assert len(mul(k, add(a, b)).terms) == 2  # type: ignore[attr-defined]


def test_numbers_stay_exact() -> None:
    assert power(number(2), number(-3)) == Number(Fraction(1, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error", OpdslWarning)
        assert expand(parse_system("0.1 u_x + 0.2 u_x", coords="x")).equations[0].components[0] == only("3/10 u_x", coords="x")
