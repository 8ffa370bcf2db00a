"""Jets through every kind of primitive: elementwise, linear, bilinear, piecewise, composed; against nested `jax.grad`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from engines import ENGINES
from references import assert_close, nested_grad, points

import opdsl
from opdsl import backends
from opdsl.backends.array_api.tracer import Recorder, Tracer
from opdsl.errors import MissingRuleError
from opdsl.jets.directional import Directional, Reduction, Top
from opdsl.jets.elementary import ELEMENTARY
from opdsl.jets.graph import Constant, Elementwise, Graph, Linear, Node, Value
from opdsl.jets.jet import Jet
from opdsl.jets.propagate import needed_parts, push_forward

X = points(2, 2)
W = np.array([[0.6, -0.4, 1.1], [0.3, 0.9, -0.7]])
V = np.array([0.5, -1.2, 0.8])

Program = Callable[[Any, Any, Callable[[Any], Any]], Any]
"""(namespace, points (…, 2), conversion of constants) → one number per point."""


def _softmax(xp: Any, p: Any, c: Any) -> Any:
    e = xp.exp(p @ c(W))
    return (e / xp.sum(e, axis=-1, keepdims=True)) @ c(V)


def _layer_norm(xp: Any, p: Any, c: Any) -> Any:
    h = p @ c(W)
    centred = h - xp.mean(h, axis=-1, keepdims=True)
    return (centred / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + 0.1)) @ c(V)


def _features(xp: Any, p: Any, c: Any) -> Any:
    h = p @ c(W)
    return xp.tanh(xp.concat([xp.sin(h), xp.cos(h), p], axis=-1) @ c(np.linspace(-1, 1, 8)))


def _residual_block(xp: Any, p: Any, c: Any) -> Any:
    h = p @ c(W)
    return (h + xp.tanh(h @ c(W.T @ W)) * h) @ c(V)


def _outer(xp: Any, p: Any, c: Any) -> Any:
    h = xp.tanh(p @ c(W))
    return xp.sum(h[..., :, None] * h[..., None, :] * c(np.outer(V, V + 1.0)), axis=(-1, -2))


def _matrices(xp: Any, p: Any, c: Any) -> Any:
    h = xp.sin(p @ c(W))
    m = h[..., :, None] * c(V)[None, :] + c(np.eye(3))
    return xp.sum((m @ m) * c(np.arange(9.0).reshape(3, 3)), axis=(-1, -2))


def _reshaped(xp: Any, p: Any, c: Any) -> Any:
    h = xp.tanh(p @ c(np.concatenate([W, W + 0.5], axis=1)))
    h = xp.reshape(h, (*h.shape[:-1], 2, 3))
    return xp.sum(xp.sin(h[..., 0, :] * h[..., 1, :]), axis=-1)


PROGRAMS: dict[str, Program] = {
    "constant": lambda xp, p, c: 0.0 * p[..., 0] + 2.0,
    "linear": lambda xp, p, c: (p @ c(W)) @ c(V) + 1.5,
    "one coordinate": lambda xp, p, c: xp.sin(p[..., 1]),
    "product of coordinates": lambda xp, p, c: p[..., 0] * p[..., 1] * p[..., 0],
    "quotient": lambda xp, p, c: p[..., 0] / (2.0 + p[..., 1] * p[..., 1]),
    "number over": lambda xp, p, c: 1.0 / (3.0 + p[..., 0] + p[..., 1]),
    "constant array over": lambda xp, p, c: xp.sum(xp.divide(c(V), 3.0 + p @ c(W)), axis=-1),
    "integer power": lambda xp, p, c: p[..., 0] ** 3 * p[..., 1] ** 2,
    "real power": lambda xp, p, c: (3.0 + p[..., 0] + p[..., 1]) ** 1.7,
    "varying power": lambda xp, p, c: (2.0 + p[..., 0]) ** p[..., 1],
    "number to a power": lambda xp, p, c: xp.exp(p[..., 0] * float(np.log(3.0))) * p[..., 1],
    "absolute value": lambda xp, p, c: xp.abs(p[..., 0] * p[..., 1] + 0.01) * p[..., 0],
    "square root": lambda xp, p, c: xp.sqrt(2.0 + p[..., 0] * p[..., 1]),
    "logarithm": lambda xp, p, c: xp.log(3.0 + p[..., 0] - p[..., 1]),
    "where": lambda xp, p, c: xp.where(p[..., 0] > 0.1, xp.sin(p[..., 1]) * p[..., 0], p[..., 0] ** 2),
    "largest": lambda xp, p, c: xp.sum(xp.max(p @ c(W), axis=-1, keepdims=True) ** 2, axis=-1),
    "mean": lambda xp, p, c: xp.mean(xp.sin(p @ c(W)), axis=-1) ** 2,
    "stack": lambda xp, p, c: xp.sum(xp.sin(xp.stack([p[..., 0], p[..., 0] * p[..., 1]], axis=-1)), axis=-1),
    "angle": lambda xp, p, c: xp.atan2(p[..., 0] + 2.0, p[..., 1] - 1.5),
    "softmax": _softmax,
    "layer norm": _layer_norm,
    "Fourier features": _features,
    "residual block": _residual_block,
    "outer product": _outer,
    "matrix product": _matrices,
    "reshape": _reshaped,
    "product of nets": lambda xp, p, c: (xp.tanh(p @ c(W)) @ c(V)) * (xp.sin(p @ c(W)) @ c(V)),
    "net times a hard constraint": lambda xp, p, c: p[..., 0] * (1.0 - p[..., 1]) * (xp.tanh(p @ c(W)) @ c(V)),
    "gauss": lambda xp, p, c: xp.exp(-xp.sum(p * p, axis=-1)),
    "distance": lambda xp, p, c: xp.sqrt(xp.sum((p - 3.0) ** 2, axis=-1)),
}

TEXT = "a: 2 u_xx - u_yy + u_x; b: u_xxy + 3 u_xy"
TERMS: dict[str, list[tuple[float, tuple[int, ...]]]] = {
    "a": [(2.0, (0, 0)), (-1.0, (1, 1)), (1.0, (0,))],
    "b": [(1.0, (0, 0, 1)), (3.0, (0, 1))],
}


@cache
def truth(name: str, equation: str) -> tuple[Any, float]:
    """The residual, and the size of its terms."""
    program = PROGRAMS[name]
    parts = [w * nested_grad(lambda p: program(jnp, p, jnp.asarray), X, axes) for w, axes in TERMS[equation]]
    return sum(parts), max(sum(float(np.max(np.abs(p))) for p in parts), 1.0)


@pytest.mark.parametrize("library", ["numpy", "strict", *(pytest.param(e, marks=pytest.mark.slow) for e in ("jax", "torch"))])
@pytest.mark.parametrize("name", list(PROGRAMS))
def test_programs(name: str, library: str) -> None:
    program, engine = PROGRAMS[name], ENGINES[library]
    op = opdsl.operator(TEXT, coords="x y")
    found = op(lambda p: program(engine.space(p), p, engine.array), engine.array(X))
    for equation in TERMS:
        expected, scale = truth(name, equation)
        assert_close(engine.read(found[equation]), expected, 1e-12, scale=scale)


# --------------------------------------------------------------------------------------------------- the bare engine


def traced(function: Callable[[Any], Any], x: Any) -> tuple[Graph, tuple[Any, ...]]:
    capture = backends.get("numpy").capture(function, x)
    return capture.graph, capture.constants


def test_parts_nobody_reads_are_not_computed() -> None:
    """A top of order 2 needs order 1 up to the last nonlinearity, and nothing else behind it."""
    graph, _ = traced(lambda p: np.tanh(p @ W) @ V, X)
    algebra = Directional([(2, 1)], [Top(({2: Reduction()},))])
    needed = needed_parts(graph, algebra, frozenset([algebra.top_part]))
    assert needed[graph.outputs[0]] == {algebra.top_part}
    assert needed[graph.x] == {0, algebra.top_part}


def test_first_linear_layer_stays_unbatched() -> None:
    """Channels that are the same at every point keep a batch axis of length 1; higher ones are None."""
    graph, constants = traced(lambda p: p @ W + V, X)
    algebra = Directional([(2, 2)])
    seed = Jet(X, (np.eye(2)[:, None, :], None), (True, True), 0)
    (out,) = push_forward(graph, algebra, seed, constants, backends.get("numpy").ops, frozenset([0, 1]))
    assert out.parts[0].shape == (2, 1, 3)
    assert out.parts[1] is None
    np.testing.assert_allclose(out.parts[0][:, 0, :], W, rtol=1e-15)


def test_a_constant_rule_stops_derivatives() -> None:
    op = opdsl.operator("u_x", coords="x y")
    found = op(lambda p: np.floor(3.0 * p[:, 0]) * p[:, 0], X)
    np.testing.assert_allclose(found, np.floor(3.0 * X[:, 0]), rtol=1e-15)


def test_jets_on_indices_are_refused() -> None:
    """An operand that has to be constant, with a jet on it, is a missing rule and not a wrong number."""
    value = Value((3,), np.float64, 0)
    node = Node("take", Linear(positions=(0,)), (0, 1), (2,), lambda a, b: a)
    square = Node("square", Elementwise(ELEMENTARY["square"]), (0,), (1,), lambda a: a * a)
    graph = Graph((value, value, value), 0, (), (square, node), (2,))
    algebra = Directional([(1, 1)])
    seed = Jet(np.ones(3), (np.ones((1, 3)),), (False,), 0)
    with pytest.raises(MissingRuleError, match="take"):
        push_forward(graph, algebra, seed, (), backends.get("numpy").ops, frozenset([0]))


def test_dependence_stops_at_constants() -> None:
    recorder = Recorder(np)
    x = Tracer(recorder, recorder.new(X), X)
    kept = np.floor(x)
    y = x * kept
    graph = recorder.graph(x.number, y.number)
    assert any(isinstance(n.rule, Constant) for n in graph.nodes)
    assert kept.number not in graph.dependent()
    assert y.number in graph.dependent()
