"""The same string on every framework: the same numbers to 1e-12, and those of the equation written out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engines import ENGINES, Engine
from equations import EQUATIONS, Equation, Formula, UserFunction
from language_gallery import GALLERY
from references import Network, assert_close, points

import opdsl

pytestmark = pytest.mark.filterwarnings("ignore:a/b c is read from left to right")

IDS = [f"{k}:{e.text.replace(' ', '')}" for k, e in enumerate(EQUATIONS)]


def bound(equation: Equation, engine: Engine) -> dict[str, Any]:
    """The bindings as a user of this framework writes them."""
    out: dict[str, Any] = {}
    for name, value in equation.bindings.items():
        if isinstance(value, Formula):
            out[name] = engine.stacked(value.build)
        elif isinstance(value, UserFunction):
            out[name] = lambda *values, build=value.build: build(engine.space(values[0]), *values)
        elif isinstance(value, Network):
            out[name] = engine.network(value)
        else:
            out[name] = engine.array(value) if isinstance(value, np.ndarray) else value
    return out


def evaluate(equation: Equation, engine: Engine, **options: Any) -> list[Any]:
    op = opdsl.operator(equation.text, **equation.options)
    net, x, _ = equation.settle()
    result = op(engine.network(net), engine.array(x), **bound(equation, engine), **options)
    parts = list(result) if isinstance(result, opdsl.Residuals) else [result]
    return [engine.read(p) for p in parts]


@pytest.mark.parametrize("equation", EQUATIONS, ids=IDS)
def test_equation(equation: Equation) -> None:
    truth = equation.settle()[2]
    truth = truth if isinstance(truth, list) else [truth]
    reference = evaluate(equation, ENGINES["numpy"])
    assert len(reference) == len(truth)
    for a, b in zip(reference, truth, strict=True):
        assert_close(a, b, 1e-11)
    for name in ("jax", "torch", "strict"):
        for a, b in zip(evaluate(equation, ENGINES[name]), reference, strict=True):
            assert_close(a, b, 1e-12)


def test_every_equation_of_the_list_is_here() -> None:
    def plain(text: str) -> str:
        return text.replace(" ", "")

    here = {(plain(e.text), e.coords) for e in EQUATIONS} | {(plain(text), "t x[100]") for text, _ in MANY}
    assert {(plain(text), options.get("coords", "x")) for text, options in GALLERY} <= here


@pytest.mark.slow
@pytest.mark.parametrize("equation", EQUATIONS, ids=IDS)
def test_nested_differentiation_agrees(equation: Equation, differentiable: Engine) -> None:
    for a, b in zip(evaluate(equation, differentiable, strategy="nested_ad"), evaluate(equation, differentiable), strict=True):
        assert_close(a, b, 1e-11)


# ------------------------------------------------------------------------------------------- long coordinate vectors

D = 101
CENTRE = np.linspace(-1.0, 1.0, D - 1)
A = np.random.default_rng(3).normal(size=(D - 1, D - 1)) / 10.0
MANY: list[tuple[str, Any]] = [
    ("u_t + Δu - |∇u|² = 0", lambda q: q.t + q.lap - q.grad_2),
    ("u_t + b_i d_i u", lambda q: q.t + q.grad @ CENTRE),
    ("a_ij d_i d_j u", lambda q: np.einsum("ij,nij->n", A, q.hessian)),
    ("a_ij d_i u d_j u", lambda q: np.einsum("ij,ni,nj->n", A, q.grad, q.grad)),
    ("b_j a_ij d_i u", lambda q: q.grad @ (A @ CENTRE)),
    ("x_i d_i u", lambda q: np.sum(q.x * q.grad, axis=1)),
    ("sum_i(x_i^2 d_i^2 u) + u d_3 u", lambda q: np.einsum("ni,nii->n", q.x**2, q.hessian) + q.u * q.grad[:, 3]),
    ("Σ_i d_i^4 u", lambda q: q.quartic),
    ("d_t^2 u + d_0 d_7 u", lambda q: q.tt + q.hessian[:, 0, 7]),
    ("t laplace(u) - (laplace(u))^2", lambda q: q.time * q.lap - q.lap**2),
    ("(b_i d_i u) laplace(u) + sin(t) u", lambda q: (q.grad @ CENTRE) * q.lap + np.sin(q.time) * q.u),
]


class Wave:
    """u = e^{-t/2} sin(w·x) + |x|²/2, with its derivatives."""

    def __init__(self, points: Any) -> None:
        w = self.w = 0.3 * np.cos(np.arange(D - 1.0))
        self.time, self.x = points[:, 0], points[:, 1:]
        decay, phase = np.exp(-self.time / 2), self.x @ w
        sine, cosine = decay * np.sin(phase), decay * np.cos(phase)
        self.u = sine + np.sum(self.x**2, axis=1) / 2
        self.t, self.tt = -sine / 2, sine / 4
        self.grad = cosine[:, None] * w + self.x
        self.hessian = -sine[:, None, None] * np.outer(w, w) + np.eye(D - 1)
        self.lap, self.grad_2 = np.einsum("nii->n", self.hessian), np.sum(self.grad**2, axis=1)
        self.quartic = sine * np.sum(w**4)


@pytest.mark.parametrize(("text", "meaning"), MANY, ids=[m[0] for m in MANY])
def test_hundred_coordinates(text: str, meaning: Any, engine: Engine) -> None:
    """Sums over many coordinates stay unwritten; every index keeps its own meaning."""
    x = points(2, D)
    q = Wave(x)

    def u(p: Any) -> Any:
        xp = engine.space(p)
        space = p[..., 1:]
        return xp.exp(-0.5 * p[..., 0]) * xp.sin(space @ engine.array(q.w)) + 0.5 * xp.sum(space * space, axis=-1)

    known = {"a": A, "b": CENTRE}
    given = {k: engine.array(v) for k, v in known.items() if f"{k}_" in text}
    op = opdsl.operator(text, coords="t x[100]")
    assert_close(engine.read(op(u, engine.array(x), **given)), meaning(q), 1e-11)
