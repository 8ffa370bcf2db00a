"""What is bound decides what is differentiated: functions exactly, constants not at all, values at the points are refused.

The oracle is SymPy: every text is built beside the expression it means, and that is differentiated symbolically.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
import torch
from engines import ENGINES, Engine
from hypothesis import given, settings
from hypothesis import strategies as st
from references import assert_close

import opdsl
from opdsl.errors import BindingError, ShapeError

X, Y = sympy.symbols("x y")
AXES = (X, Y)
POINTS = np.array([[0.3, 0.7], [1.1, -0.4], [-0.6, 0.9]])
U = sympy.sin(X + Y / 2) + X**3 * Y
FUNCTIONS: dict[str, Any] = {
    "k": 2 + sympy.sin(X) * Y,
    "b": [1 + X * Y, sympy.cos(X)],
    "a": [[2 + X**2, X * Y], [Y, 3 + sympy.cos(X + Y)]],
}
CONSTANTS: dict[str, Any] = {"k": 1.7, "b": [0.6, -1.3], "a": [[2.0, 0.4], [0.1, 1.5]]}
DECLARED = {"k": "k", "b": "b[2]", "a": "a[2,2]"}


@dataclass(frozen=True)
class Text:
    """A text and what it means, given the coefficients as SymPy expressions."""

    text: str
    meaning: Callable[[dict[str, Any]], Any]


def leaf(text: str, meaning: Callable[[dict[str, Any]], Any]) -> Text:
    return Text(text, meaning)


LEAVES = [
    leaf("u", lambda c: U), leaf("k", lambda c: c["k"]), leaf("(k u)", lambda c: c["k"] * U), leaf("b_0", lambda c: c["b"][0]),
    leaf("a_01", lambda c: c["a"][0][1]), leaf("u_x", lambda c: sympy.diff(U, X)), leaf("(k^2 u_y)", lambda c: c["k"]**2 * sympy.diff(U, Y)),
    leaf("sin(k u)", lambda c: sympy.sin(c["k"] * U)), leaf("(u/k)", lambda c: U / c["k"]),
]  # fmt: skip


def lap(e: Any) -> Any:
    return sympy.diff(e, X, 2) + sympy.diff(e, Y, 2)


OPERATORS: list[tuple[str, Callable[[dict[str, Any], Any], Any]]] = [
    ("d_x({})", lambda c, e: sympy.diff(e, X)),
    ("d_x(k d_y({}))", lambda c, e: sympy.diff(c["k"] * sympy.diff(e, Y), X)),
    ("div(k grad({}))", lambda c, e: sum(sympy.diff(c["k"] * sympy.diff(e, v), v) for v in AXES)),
    ("laplace({})", lambda c, e: lap(e)),
    ("laplace(k {})", lambda c, e: lap(c["k"] * e)),
    ("k^2 d_y({})", lambda c, e: c["k"]**2 * sympy.diff(e, Y)),
    ("div({} b)", lambda c, e: sum(sympy.diff(e * c["b"][i], AXES[i]) for i in range(2))),
    ("b·∇({})", lambda c, e: sum(c["b"][i] * sympy.diff(e, AXES[i]) for i in range(2))),
    ("b_i d_i({})", lambda c, e: sum(c["b"][i] * sympy.diff(e, AXES[i]) for i in range(2))),
    ("d_i(a_ij d_j {})", lambda c, e: sum(
        sympy.diff(c["a"][i][j] * sympy.diff(e, AXES[j]), AXES[i]) for i in range(2) for j in range(2))),
    ("a_ij d_i d_j {}", lambda c, e: sum(c["a"][i][j] * sympy.diff(e, AXES[i], AXES[j]) for i in range(2) for j in range(2))),
    ("({})^2", lambda c, e: e**2),
]  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> Text:
    made = draw(st.sampled_from(LEAVES))
    for letters in ("ij", "kl")[: draw(st.integers(1, 2))]:
        pattern, meaning = draw(st.sampled_from(OPERATORS))
        for old, new in zip("ij", letters, strict=True):
            pattern = pattern.replace(f"_{old}", f"_{new}").replace(f"a_{new}j", f"a_{letters}")
        made = Text(
            f"({pattern.format(made.text)})", lambda c, inner=made.meaning, own=meaning: own(c, inner(c))  # type: ignore[misc]
        )
    other = draw(st.sampled_from(LEAVES))
    return Text(f"{made.text} + {other.text}", lambda c: made.meaning(c) + other.meaning(c))


def values(expression: Any) -> Any:
    found = sympy.lambdify(AXES, expression, "numpy")(POINTS[:, 0], POINTS[:, 1])
    return np.broadcast_to(np.asarray(found, dtype=float), (len(POINTS),))


def truth(text: Text, bound: dict[str, str]) -> Any:
    return values(text.meaning({n: CONSTANTS[n] if kind == "constant" else FUNCTIONS[n] for n, kind in bound.items()}))


def flat(value: Any) -> list[Any]:
    return [v for part in value for v in flat(part)] if isinstance(value, list) else [value]


def field(engine: Engine) -> Any:
    return engine.function(lambda xp, c: xp.sin(c[0] + c[1] / 2) + c[0] ** 3 * c[1])


def coefficient(engine: Engine, name: str) -> Any:
    """A function of the point with one column per component."""
    if name == "k":
        return engine.function(lambda xp, c: 2 + xp.sin(c[0]) * c[1])
    if name == "b":
        return engine.stacked(lambda xp, c: [1 + c[0] * c[1], xp.cos(c[0])])
    return engine.stacked(lambda xp, c: [2 + c[0] ** 2, c[0] * c[1], c[1], 3 + xp.cos(c[0] + c[1])])


def given_value(engine: Engine, name: str, kind: str, differentiated: bool) -> Any:
    if kind == "constant":
        return CONSTANTS[name] if name == "k" else engine.array(CONSTANTS[name])
    if kind == "function" and (differentiated or name != "a"):
        return coefficient(engine, name)
    rows = np.stack([values(e) for e in flat(FUNCTIONS[name])], axis=-1)
    return engine.array(rows.reshape(len(POINTS), *np.shape(CONSTANTS[name])))


def check(text: Text, bound: dict[str, str], marks: dict[str, bool], engine: Engine) -> None:
    params = " ".join(("?" if marks[n] else "") + DECLARED[n] for n in DECLARED)
    op = opdsl.operator(text.text, coords="x y", fields="u", params=params)
    needed = {name.lstrip("?") for name in op.info().coefficients}
    takes = needed | {p.lstrip("?") for p in op.info().parameters}
    chosen = {n: given_value(engine, n, kind, n in needed) for n, kind in bound.items() if n in takes}
    if any(bound[n] == "per point" for n in needed):
        with pytest.raises(ShapeError, match="is differentiated, and an array .* of one value per point"):
            op(field(engine), engine.array(POINTS), **chosen)
        return
    found = engine.read(op(field(engine), engine.array(POINTS), **chosen))
    expected = truth(text, bound)
    assert_close(found, expected, 1e-10, scale=1 + np.abs(expected).max())


KINDS = st.sampled_from(["constant", "function", "per point"])


@settings(max_examples=50)
@given(text=texts(), bound=st.fixed_dictionaries(dict.fromkeys("kba", KINDS)), marks=st.fixed_dictionaries({n: st.booleans() for n in "kba"}))
def test_any_placement_agrees_with_sympy(text: Text, bound: dict[str, str], marks: dict[str, bool]) -> None:
    check(text, bound, marks, ENGINES["numpy"])


@pytest.mark.parametrize("kind", ["constant", "function", "per point"])
@pytest.mark.parametrize("pattern", ["d_x(k d_y({}))", "div(k grad({}))", "div({} b)", "d_i(a_ij d_j {})"])
@pytest.mark.parametrize("engine", ["jax", "torch", "strict"])
def test_every_backend(engine: str, pattern: str, kind: str) -> None:
    meaning = dict(OPERATORS)[pattern]
    text = Text(pattern.format("u"), lambda c: meaning(c, U))
    for mark in (True, False):
        check(text, dict.fromkeys("kba", kind), dict.fromkeys("kba", mark), ENGINES[engine])


@pytest.mark.parametrize("params", ["k", "?k", None])
@pytest.mark.parametrize("engine", ["jax", "torch", "numpy"])
def test_closed_forms(engine: str, params: str | None) -> None:
    """u = x³: ∂_x(k u_x) is 6 k x + 3 k' x²."""
    e, x = ENGINES[engine], np.array([[1.0], [2.0]])
    op = opdsl.operator("d_x(k u_x)", coords="x", params=params)
    u, points = e.function(lambda xp, c: c[0] ** 3), e.array(x)
    assert_close(e.read(op(u, points, k=e.function(lambda xp, c: c[0]))), 9 * x[:, 0] ** 2, 1e-13)
    assert_close(e.read(op(u, points, k=lambda p: 0 * p[..., 0] + 2.0)), 12 * x[:, 0], 1e-13)
    for number in (2, 2.0, np.float64(2.0), e.array(2.0)):
        assert_close(e.read(op(u, points, k=number)), 12 * x[:, 0], 1e-13)
    step = op.bind(u, points, k=2.0)
    assert_close(e.read(step(points, k=3.0)), 18 * x[:, 0], 1e-13)
    with pytest.raises(ShapeError, match="one value per point"):
        step(points, k=e.array(x[:, 0]))
    with pytest.raises(BindingError, match="a function or network, or a constant"):
        op(u, points)


def test_a_mark_says_trainable_and_nothing_else() -> None:
    for text in ("d_x(k u_x)", "div(k grad u)", "u_xx + k u"):
        plain, marked = (opdsl.operator(text, coords="x y", fields="u", params=p).residual() for p in ("k", "?k"))
        assert plain.equations == marked.equations
        spec = next(s for s in (*marked.parameters, *marked.fields) if s.name == "k")
        assert spec.trainable


def test_info_lists_the_derivatives_of_coefficients() -> None:
    op = opdsl.operator("d_i(a_ij d_j u) + k laplace(m u)", coords="x y", fields="u", params="a_ij ?m k")
    found = op.info()
    assert found.coefficients == {"a": ("a_{0,x}", "a_{1,x}", "a_{2,y}", "a_{3,y}"), "?m": ("m_x", "m_y", "m_xx", "m_yy")}
    assert found.parameters == ("k",)
    assert "differentiated coefficients: a (" in str(found)


# ------------------------------------------------------------------------------------------------------- training
def test_gradients_on_torch() -> None:
    """A trainable number keeps its gradient, and a trainable network gets one: against autograd by hand."""
    op = opdsl.operator("d_x(k u_x)", coords="x", params="?k")
    x = torch.tensor([[0.4], [1.2]], dtype=torch.float64)
    number = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    (op(lambda p: p[:, 0] ** 3, x, k=number) ** 2).mean().backward()
    assert_close(number.grad.numpy(), (72 * x[:, 0] ** 2 * 2).mean().numpy(), 1e-12)  # type: ignore[union-attr]
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    found = torch.autograd.grad((op(lambda p: p[:, 0] ** 3, x, k=net) ** 2).mean(), list(net.parameters()))
    points = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((points**3).sum(), points, create_graph=True)
    (outer,) = torch.autograd.grad((net(points) * slope).sum(), points, create_graph=True)
    for a, b in zip(found, torch.autograd.grad((outer**2).mean(), list(net.parameters()), allow_unused=True), strict=True):
        assert_close(a.numpy(), np.zeros(a.shape) if b is None else b.numpy(), 1e-11, scale=10.0)


def test_gradients_on_jax() -> None:
    op = opdsl.operator("d_x(k u_x)", coords="x", params="?k")
    x = jnp.array([[0.4], [1.2]])

    def u(p: Any) -> Any:
        return p[0] ** 3

    slope = jax.grad(lambda k: jnp.mean(op(u, x, k=k) ** 2))(jnp.asarray(2.0))
    assert_close(np.asarray(slope), np.mean(72 * np.asarray(x[:, 0]) ** 2 * 2), 1e-12)
    weights = jnp.array([[0.3, -0.7], [1.1, 0.2]])

    def k(w: Any, p: Any) -> Any:
        return jnp.sum(jnp.tanh(p[0] * w[0]) * w[1])

    def loss(w: Any) -> Any:
        return jnp.mean(op(u, x, k=lambda p: k(w, p)) ** 2)

    def by_hand(w: Any) -> Any:
        flux = jax.grad(lambda s: k(w, s[None]) * jax.grad(lambda r: r**3)(s))
        return jnp.mean(jax.vmap(flux)(x[:, 0]) ** 2)

    assert_close(np.asarray(jax.grad(loss)(weights)), np.asarray(jax.grad(by_hand)(weights)), 1e-11, scale=10.0)


# ------------------------------------------------------------------------------------------------------- other faces
def test_a_change_of_variables_remembers_its_constants() -> None:
    """x = c y: the derivatives of c have been left out, so a function of the point is refused for it."""
    heat = opdsl.operator("u_t = u_xx", coords="t x", fields="u").substitute("x = c y; t = s", coords="s y", params="c")
    points = np.array([[0.5, 2.0]])
    assert_close(heat(lambda p: p[:, 1] ** 2, points, c=2.0), np.array([-0.5]), 1e-14)
    assert any("c is a constant" in note for note in heat.info().notes)
    for wrong in (lambda p: p[:, 1], np.array([2.0])):
        with pytest.raises((BindingError, ShapeError), match="c was taken for a constant when the change of variables was made"):
            heat(lambda p: p[:, 1] ** 2, points, c=wrong)
    again = heat.sobolev(1)
    with pytest.raises(BindingError, match="change of variables"):
        again(lambda p: p[:, 1] ** 2, points, c=lambda p: p[:, 1])


def test_a_differentiated_coefficient_is_differentiated_in_a_formula_too() -> None:
    """∂_x(k u_x) of u = k x is ∂_x(k (k' x + k))."""
    op = opdsl.operator("d_x(k u_x)", coords="x", fields="u", params="k").substitute({"u": "k x"})
    x, k = np.array([[0.4], [1.3]]), 2 + sympy.sin(X)
    expected = sympy.lambdify(X, sympy.diff(k * sympy.diff(k * X, X), X))(x[:, 0])
    assert_close(op(x, k=lambda p: 2 + np.sin(p[:, 0]) if isinstance(p, np.ndarray) else 2 + p.__array_namespace__().sin(p[:, 0])),
                 expected, 1e-13)


def test_a_matrix_in_many_coordinates_is_a_constant() -> None:
    """Its derivatives would be too many components: a constant is served, a function refused."""
    op = opdsl.operator("d_i(a_ij d_j u)", coords="x[40]", fields="u", params="?a[40,40]")
    a = np.arange(1600.0).reshape(40, 40) / 1600
    x = np.full((2, 40), 0.5)
    assert_close(op(lambda p: (p**2).sum(axis=-1), x, a=a), np.full(2, 2 * np.trace(a)), 1e-12)
    with pytest.raises(BindingError, match="more components than are written out.*Bind a number or a constant array"):
        op(lambda p: (p**2).sum(axis=-1), x, a=lambda p: p)
