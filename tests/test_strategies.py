"""Every strategy on every framework against 50-digit expansions; polynomials exactly; random operators and networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, Engine
from hypothesis import given, settings
from hypothesis import strategies as st
from references import Floats, Network, Truth, assert_close, network, partials, points

import opdsl
from opdsl.strategies import STRATEGIES

MATRIX = np.array([[2.0, 0.5, -0.3], [0.1, -1.0, 0.7], [0.4, 0.2, 1.5]])
LOW_RANK = np.outer([1.0, 2.0, -1.0], [1.0, 2.0, -1.0])


@dataclass(frozen=True)
class Case:
    """An operator, what it means, and which strategies take it."""

    text: str
    coords: str
    truth: Callable[[Truth], Any]
    strategies: str
    order: int
    options: dict[str, Any] = field(default_factory=dict)
    bindings: dict[str, Any] = field(default_factory=dict)
    activations: str = "tanh tanh"

    @property
    def tolerance(self) -> float:
        return 1e-10 if self.order <= 4 else 1e-7


def _matrix_form(matrix: Floats, T: Truth) -> Floats:
    total = sum(matrix[i, j] * T.u(a + b) for i, a in enumerate("xyz") for j, b in enumerate("xyz"))
    return np.asarray(total)


def _sum(names: str, derivative: Callable[[str], Floats]) -> Any:
    return sum(derivative(a) for a in names)


def _biharmonic(names: str, T: Truth) -> Any:
    return _sum(names, lambda a: _sum(names, lambda b: T.u(a + a + b + b)))


FIRST = "forward_laplacian dof collapsed_taylor derivative_space nested_ad reverse_gradient"
SECOND = "forward_laplacian dof collapsed_taylor derivative_space nested_ad"
MIXED = "dof collapsed_taylor derivative_space nested_ad"
HIGH = "collapsed_taylor derivative_space nested_ad"

CASES = [
    Case("u_x", "x", lambda T: T.u("x"), f"n_tangentprop {FIRST}", 1),
    Case("u_xx", "x", lambda T: T.u("xx"), f"n_tangentprop {SECOND}", 2),
    Case("u u_x + x u_xx", "x", lambda T: T.u() * T.u("x") + T.x() * T.u("xx"), f"n_tangentprop {SECOND}", 2),
    Case("u_xxxx + 2 u_xx - u_x", "x", lambda T: T.u("xxxx") + 2 * T.u("xx") - T.u("x"), f"n_tangentprop {HIGH}", 4),
    Case("d^6u/dx^6", "x", lambda T: T.u("xxxxxx"), f"n_tangentprop {HIGH}", 6),
    Case("d^8u/dx^8 + u_xxx u_xxxxx", "x", lambda T: T.u("x" * 8) + T.u("xxx") * T.u("x" * 5), f"n_tangentprop {HIGH}", 8),
    Case("3 u_x - y u_y + u", "x y", lambda T: 3 * T.u("x") - T.y() * T.u("y") + T.u(), FIRST, 1),
    Case("b·∇u", "x y", lambda T: 0.3 * T.u("x") - 2 * T.u("y"), FIRST, 1, bindings={"b": np.array([0.3, -2.0])}),
    Case("|∇u|^2", "x y", lambda T: T.u("x") ** 2 + T.u("y") ** 2, FIRST, 1),
    Case("laplace(u)", "x y z", lambda T: _sum("xyz", lambda a: T.u(a + a)), SECOND, 2),
    Case("u_t - nu Δu", "t x y", lambda T: T.u("t") - 0.3 * (T.u("xx") + T.u("yy")), SECOND, 2, bindings={"nu": 0.3}),
    Case("u_t + u u_x - nu u_xx", "t x", lambda T: T.u("t") + T.u() * T.u("x") - 0.1 * T.u("xx"), SECOND, 2,
         bindings={"nu": 0.1}),
    Case("u_xy", "x y", lambda T: T.u("xy"), MIXED, 2),
    Case("u_xx u_yy - u_xy^2", "x y", lambda T: T.u("xx") * T.u("yy") - T.u("xy") ** 2, MIXED, 2),
    Case("2 u_xx - 3 u_xy + u_y", "x y", lambda T: 2 * T.u("xx") - 3 * T.u("xy") + T.u("y"), MIXED, 2),
    Case("laplace(u) + a_ij d_i d_j u", "x y z", lambda T: _sum("xyz", lambda a: T.u(a + a)) + _matrix_form(MATRIX, T),
         MIXED, 2, bindings={"a": MATRIX}),
    Case("a_ij d_i d_j u", "x y z", lambda T: _matrix_form(LOW_RANK, T), MIXED, 2, bindings={"a": LOW_RANK}),
    Case("d_i(a_ij d_j u) + b_i d_i u", "x y z",
         lambda T: _matrix_form(MATRIX, T) + T.u("x") - 2 * T.u("y") + 3 * T.u("z"), MIXED, 2,
         bindings={"a": MATRIX, "b": np.array([1.0, -2.0, 3.0])}),
    Case("u_xxx + u_xyy + k u_x", "x y", lambda T: T.u("xxx") + T.u("xyy") + 0.7 * T.u("x"), HIGH, 3, bindings={"k": 0.7}),
    Case("u_t + 6 u u_x + u_xxx", "t x", lambda T: T.u("t") + 6 * T.u() * T.u("x") + T.u("xxx"), HIGH, 3),
    Case("bilap(u)", "x y", lambda T: _biharmonic("xy", T), HIGH, 4),
    Case("Δ²u + u Δu", "x y z", lambda T: _biharmonic("xyz", T) + T.u() * _sum("xyz", lambda a: T.u(a + a)), HIGH, 4,
         activations="sin tanh"),
    Case("u_xxyy - 2 x u_xxxy", "x y", lambda T: T.u("xxyy") - 2 * T.x() * T.u("xxxy"), HIGH, 4),
    Case("u_tx + u_xxxx + u_yy + 6 u_x^2 + 6 u u_xx", "t x y",
         lambda T: T.u("tx") + T.u("xxxx") + T.u("yy") + 6 * T.u("x") ** 2 + 6 * T.u() * T.u("xx"), HIGH, 4),
    Case("Δ³u", "x y",
         lambda T: T.u("xxxxxx") + 3 * T.u("xxxxyy") + 3 * T.u("xxyyyy") + T.u("yyyyyy"), HIGH, 6, activations="tanh"),
    Case("∂_x^5 ∂_y^3 u", "x y", lambda T: T.u("xxxxxyyy"), HIGH, 8, activations="tanh"),
    Case("u_xxxxxxyy + nu u_xxxxx", "x y", lambda T: T.u("xxxxxxyy") + 0.2 * T.u("xxxxx"), HIGH, 8, bindings={"nu": 0.2},
         activations="softplus"),
]  # fmt: skip
IDS = [c.text.replace(" ", "") for c in CASES]


def evaluate(case: Case, engine: Engine, strategy: str, net: Network, x: Floats) -> Floats:
    op = opdsl.operator(case.text, coords=case.coords, **case.options)
    given = {k: engine.array(v) if isinstance(v, np.ndarray) else v for k, v in case.bindings.items()}
    return engine.read(op(engine.network(net), engine.array(x), strategy=strategy, **given))


def settle(case: Case) -> tuple[Network, Floats, Floats]:
    d = len(case.coords.split())
    net, x = network(d, 1, case.activations), points(3, d)
    return net, x, np.asarray(case.truth(Truth(net, x, case.coords, "u", case.order)))


def compare(case: Case, engine: Engine, strategy: str) -> None:
    net, x, truth = settle(case)
    without_ad = engine.backend == "numpy" and strategy in ("nested_ad", "reverse_gradient")
    if strategy not in case.strategies.split() or without_ad:
        with pytest.raises(opdsl.errors.StrategyError, match=strategy):
            evaluate(case, engine, strategy, net, x)
        return
    assert_close(evaluate(case, engine, strategy, net, x), truth, case.tolerance)


@pytest.mark.family(keep=4)
@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_numpy_against_expansions(case: Case, strategy: str) -> None:
    compare(case, ENGINES["numpy"], strategy)


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("name", ["jax", "torch", "strict"])
@pytest.mark.parametrize("case", [c for c in CASES if c.order in (2, 3, 6)], ids=lambda c: c.text.replace(" ", ""))
def test_automatic_choice_on_every_framework(case: Case, name: str) -> None:
    net, x, truth = settle(case)
    engine = ENGINES[name]
    assert_close(evaluate(case, engine, "auto", net, x), truth, case.tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", list(STRATEGIES))
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_frameworks_against_expansions(case: Case, strategy: str, differentiable: Engine) -> None:
    compare(case, differentiable, strategy)


# ------------------------------------------------------------------------------------------------------- polynomials

INTEGER_CASES: list[tuple[str, Callable[..., Any]]] = [
    # On u = x³y² + x⁵ − 2 x y⁴, worked by hand.
    ("u_xxx", lambda x, y: 6 * y**2 + 60 * x**2),
    ("laplace(u)", lambda x, y: 6 * x * y**2 + 20 * x**3 + 2 * x**3 - 24 * x * y**2),
    ("u_xxy", lambda x, y: 12 * x * y),
    ("Δ²u", lambda x, y: 120 * x + 2 * 12 * x - 48 * x),
    ("u u_xy", lambda x, y: (x**3 * y**2 + x**5 - 2 * x * y**4) * (6 * x**2 * y - 8 * y**3)),
    ("u_xxxyy", lambda x, y: 12 + 0 * x),
    ("∂_x^6 u", lambda x, y: 0 * x),
]


@pytest.mark.parametrize(
    ("name", "strategy"),
    # Every strategy runs on the other frameworks in the comparison with expansions; here compiling would take all the time.
    [("numpy", s) for s in ("auto", *STRATEGIES)] + [(e, s) for e in ("jax", "torch", "strict") for s in ("auto", "derivative_space")],
)
@pytest.mark.parametrize(("text", "truth"), INTEGER_CASES, ids=[c[0] for c in INTEGER_CASES])
def test_polynomials_exactly(text: str, truth: Callable[..., Any], strategy: str, name: str) -> None:
    engine = ENGINES[name]

    def u(p: Any) -> Any:
        x, y = p[..., 0], p[..., 1]
        return x * x * x * y * y + x**5 - 2.0 * x * (y * y) * (y * y)

    grid = np.array([[1.0, 2.0], [-3.0, 1.0], [0.0, 4.0], [2.0, 0.0]])
    op = opdsl.operator(text, coords="x y")
    try:
        found = engine.read(op(u, engine.array(grid), strategy=strategy))
    except opdsl.errors.StrategyError:
        assert strategy not in ("auto", "collapsed_taylor", "derivative_space")
        return
    expected = truth(grid[:, 0], grid[:, 1])
    if strategy in ("collapsed_taylor", "auto"):
        # Mixed derivatives are interpolated with weights like 1/12, which binary fractions do not hold.
        assert_close(found, expected, 4e-16, scale=288.0)
    else:
        np.testing.assert_array_equal(found, expected)


# ------------------------------------------------------------------------------------------------- random operators

AXES = "xyz"


@dataclass(frozen=True)
class RandomOperator:
    """Σ c ∂^axes u, and a nonlinear term Π ∂^axes u."""

    linear: tuple[tuple[Fraction, str], ...]
    nonlinear: tuple[str, ...]
    weight: str

    @property
    def text(self) -> str:
        terms = [f"({c}) {name(a)}" for c, a in self.linear]
        if self.nonlinear:
            terms.append(" ".join(name(a) for a in self.nonlinear))
        head = {"1": "", "nu": "nu ", "x": "cos(x) "}[self.weight]
        return " + ".join([f"{head}({' + '.join(terms[:1])})", *terms[1:]])

    def truth(self, T: Truth) -> Any:
        scale = {"1": 1.0, "nu": 0.37, "x": np.cos(T.x())}[self.weight]
        parts = [float(c) * T.u(a) for c, a in self.linear]
        if self.nonlinear:
            parts.append(np.prod([T.u(a) for a in self.nonlinear], axis=0))
        return scale * parts[0] + sum(parts[1:])

    def size(self, T: Truth) -> float:
        """Σ of the moduli of the terms: what rounding is relative to where they cancel."""
        return float(np.max(sum(abs(float(c) * T.u(a)) for c, a in self.linear) + 1e-3 * np.ones_like(T.x())))


def name(axes: str) -> str:
    return f"u_{axes}" if axes else "u"


@st.composite
def operators(draw: Any, dimension: int, order: int) -> RandomOperator:
    axes = st.text(AXES[:dimension], min_size=0, max_size=order).map(lambda a: "".join(sorted(a)))
    numbers = st.fractions(-3, 3, max_denominator=4).filter(bool)
    linear = draw(st.lists(st.tuples(numbers, axes), min_size=1, max_size=4))
    nonlinear = draw(st.lists(axes.filter(lambda a: len(a) <= 3), max_size=3))
    return RandomOperator(tuple(linear), tuple(nonlinear), draw(st.sampled_from(["1", "nu", "x"])))


def check_random(
    op: RandomOperator, dimension: int, activations: str, seed: int, engine: Engine, strategies: Sequence[str]
) -> None:
    net, x = network(dimension, 1, activations, width=3, seed=seed), points(2, dimension)
    coords = " ".join(AXES[:dimension])
    T = Truth(net, x, coords, "u", 4)
    truth, size = np.asarray(op.truth(T)), max(op.size(T), float(np.max(np.abs(op.truth(T)))))
    parsed = opdsl.operator(op.text, coords=coords, fields="u", params="nu" if op.weight == "nu" else "")
    given = {"nu": 0.37} if op.weight == "nu" else {}
    applied = 0
    for strategy in strategies:
        try:
            found = engine.read(parsed(engine.network(net), engine.array(x), strategy=strategy, **given))
        except opdsl.errors.StrategyError:
            assert strategy not in ("auto", "collapsed_taylor", "derivative_space"), (strategy, op.text)
            continue
        applied += 1
        assert_close(found, truth, 1e-10, scale=size)
    assert applied


@settings(max_examples=20)
@given(data=st.data())
def test_random_operators_on_numpy(data: st.DataObject) -> None:
    dimension = data.draw(st.integers(1, 3))
    op = data.draw(operators(dimension, 4))
    activations = data.draw(st.sampled_from(["tanh", "sin tanh", "gauss rational", "sigmoid square", "silu"]))
    check_random(op, dimension, activations, data.draw(st.integers(0, 3)), ENGINES["numpy"], ["auto", *STRATEGIES])


@pytest.mark.slow
@pytest.mark.parametrize(("library", "examples"), [("torch", 12), ("jax", 5)])
def test_random_operators(library: str, examples: int) -> None:
    @settings(max_examples=examples)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        dimension = data.draw(st.integers(1, 3))
        op = data.draw(operators(dimension, 4))
        activations = data.draw(st.sampled_from(["tanh", "sin softplus", "gauss rational"]))
        check_random(op, dimension, activations, data.draw(st.integers(0, 3)), ENGINES[library], ["auto", *STRATEGIES])

    run()


# ------------------------------------------------------------------------------------------------ many dimensions


def test_hundred_dimensions_against_hessians(engine: Engine) -> None:
    """laplace(u) + a_ij d_i d_j u for u = sin(w·x) + |x|⁴, whose Hessian is known."""
    d = 100
    w, a, x = np.linspace(-0.3, 0.3, d), np.random.default_rng(0).normal(size=(d, d)), points(2, d)

    def u(p: Any) -> Any:
        xp = engine.space(p)
        return xp.sin(p @ engine.array(w)) + xp.sum(p * p, axis=-1) ** 2

    op = opdsl.operator("laplace(u) + a_ij d_i d_j u", coords="x[100]")
    found = engine.read(op(u, engine.array(x), a=engine.array(a)))
    wave, r2 = np.sin(x @ w), np.sum(x**2, axis=1)
    laplacian = -(w @ w) * wave + 4 * (d + 2) * r2
    quadratic = -(w @ a @ w) * wave + 4 * r2 * np.trace(a) + 8 * np.einsum("ni,ij,nj->n", x, a, x)
    assert_close(found, laplacian + quadratic, 1e-10)


def test_partials_used_here_are_those_of_the_network() -> None:
    """The truth itself on something known: ∂_x∂_x of a network without activations is 0."""
    net = network(2, 1, "square")
    x = points(2, 2)
    w, v = net.layers[0][0], net.layers[1][0][0]
    assert_close(partials(net, x, (0, 1))[:, 0], np.full(2, 2 * np.sum(v * w[:, 0] * w[:, 1])), 1e-14)
