"""Capturing JAX functions: what the graph holds, what is refused, and when two captures are interchangeable."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from opdsl import backends
from opdsl.backends.base import Capture
from opdsl.errors import BackendError, CaptureError, OpdslError, RowMixingError
from opdsl.jets.graph import Composed, Linear, PiecewiseLinear, evaluate

JAX = backends.get("jax")
X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 2)))
W = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4)))


def run(capture: Capture, point: Any) -> Any:
    return evaluate(capture.graph, point, capture.constants)[0]


# ---------------------------------------------------------------------------------------------------- what is captured


@pytest.mark.parametrize(
    "function",
    [
        lambda p: jnp.tanh(p @ W),
        lambda p: p[0] * p[1],
        lambda p: jax.jit(lambda q: jnp.sin(q) * 2)(p),
        lambda p: lax.scan(lambda c, t: (c * t, c), p[0], jnp.arange(3.0))[0],
        lambda p: 2.5,
        lambda p: p,
    ],
)
def test_the_graph_is_the_function(function: Callable[[Any], Any]) -> None:
    capture = JAX.capture(function, X)
    np.testing.assert_array_equal(run(capture, X[1]), jnp.asarray(function(X[1])))


def test_constants_are_the_arrays_themselves() -> None:
    assert JAX.capture(lambda p: p @ W, X).constants[0] is W


def test_dead_code_and_unused_arrays_are_dropped() -> None:
    def function(p: Any) -> Any:
        jnp.sin(p @ W)
        return p[0] * 2

    capture = JAX.capture(function, X)
    assert capture.constants == ()
    assert "sin" not in [node.primitive for node in capture.graph.nodes]


def test_parameters_lead_the_constants() -> None:
    params = {"b": jnp.ones(4), "a": W, "n": 3, "name": "net", "scale": 2.0}

    def function(params: Any, p: Any) -> Any:
        assert params["n"] == 3
        assert params["name"] == "net"
        return (p @ params["a"] + params["b"]) * params["scale"]

    capture = JAX.capture(function, X, params=params)
    assert [np.shape(c) for c in capture.constants] == [(2, 4), (4,), ()]
    np.testing.assert_allclose(run(capture, X[0]), function(params, X[0]))
    again = JAX.capture(function, X, params={**params, "b": jnp.zeros(4)})
    assert float(again.constants[1][0]) == 0.0
    assert again.key == capture.key


def test_library_functions_are_recognised_but_not_a_users_function_of_that_name() -> None:
    @jax.jit
    def relu(p: Any) -> Any:
        return jnp.sin(p)

    known = [node.rule for node in JAX.capture(jax.nn.relu, X).graph.nodes]
    assert any(isinstance(rule, PiecewiseLinear) for rule in known)
    own = JAX.capture(relu, X)
    np.testing.assert_allclose(run(own, X[0]), jnp.sin(X[0]))
    assert not any(isinstance(node.rule, PiecewiseLinear) for node in own.graph.nodes)


def test_short_scans_are_written_out_and_long_ones_are_not() -> None:
    def loop(length: int) -> Callable[[Any], Any]:
        return lambda p: lax.scan(lambda c, t: (jnp.sin(c) * t, c), p, jnp.arange(float(length)))[1].sum(0)

    short, long = JAX.capture(loop(3), X), JAX.capture(loop(30), X)
    assert "scan" not in [node.primitive for node in short.graph.nodes]
    assert [type(node.rule) for node in long.graph.nodes if node.primitive == "scan"] == [Composed]
    for capture, length in ((short, 3), (long, 30)):
        np.testing.assert_allclose(run(capture, X[0]), loop(length)(X[0]), rtol=1e-14)


def test_matrix_times_point_has_the_point_in_front() -> None:
    """The layout matters (see `jax_program._swapped`); the numbers do not change."""
    matrix = jnp.asarray(np.random.default_rng(2).normal(size=(4, 2)))
    capture = JAX.capture(lambda p: matrix @ p, X)
    (node,) = [n for n in capture.graph.nodes if n.primitive == "dot_general"]
    assert node.inputs[0] == capture.graph.x
    np.testing.assert_allclose(run(capture, X[0]), matrix @ X[0], rtol=1e-15)


def test_functions_of_batches() -> None:
    capture = JAX.capture(lambda x: jnp.tanh(x @ W), X, batched=True)
    assert capture.graph.values[capture.graph.outputs[0]].shape == (4,)
    np.testing.assert_allclose(run(capture, X[0]), jnp.tanh(X[0] @ W))


# ------------------------------------------------------------------------------------------------------------ refusals

MIXING: dict[str, Callable[[Any], Any]] = {
    "mean": lambda x: x[:, 0] - x.mean(),
    "sort": lambda x: jnp.sort(x[:, 0]),
    "softmax": lambda x: jax.nn.softmax(x[:, 0]),
    "roll": lambda x: jnp.roll(x[:, 0], 1),
    "norm": lambda x: x[:, 0] / jnp.linalg.norm(x),
    "cumsum": lambda x: jnp.cumsum(x[::-1, 0])[::-1],
}


@pytest.mark.parametrize("name", MIXING)
def test_rows_that_mix_are_refused(name: str) -> None:
    with pytest.raises(RowMixingError, match="influence one another"):
        JAX.capture(MIXING[name], X, batched=True)


POSITION: dict[str, Callable[[Any], Any]] = {
    "row number": lambda x: x[:, 0] * jnp.arange(1, x.shape[0] + 1),
    "number of rows": lambda x: x[:, 0] / x.shape[0],
    "random numbers per row": lambda x: x[:, 0] * jax.random.normal(jax.random.key(0), (x.shape[0],)),
}


@pytest.mark.parametrize("name", POSITION)
def test_rows_that_depend_on_their_place_are_refused(name: str) -> None:
    with pytest.raises(RowMixingError, match="the same row alone"):
        JAX.capture(POSITION[name], X, batched=True)


def test_rows_are_checked_under_jit_too() -> None:
    @jax.jit
    def inside(weights: Any) -> Any:
        capture = JAX.capture(lambda x: jnp.tanh(x @ weights) - (x @ weights).mean(), X, batched=True)
        return run(capture, X[0])

    with pytest.raises(RowMixingError):
        inside(W)
    clean = jax.jit(lambda w: run(JAX.capture(lambda x: jnp.tanh(x @ w), X, batched=True), X[0]))
    np.testing.assert_allclose(clean(W), jnp.tanh(X[0] @ W))


def _branch(p: Any) -> Any:
    return p[0] if p[0] > 0 else -p[0]


REFUSED: dict[str, tuple[Callable[[Any], Any], type[OpdslError], str]] = {
    "branch": (_branch, CaptureError, "branches on values.*jnp.where"),
    "float": (lambda p: float(p[0]), CaptureError, "branches on values"),
    "NumPy": (lambda p: np.sin(np.asarray(p)), CaptureError, "NumPy array"),
    "wrong shape": (lambda p: p @ jnp.ones((3, 4)), CaptureError, r"shape \(2,\) failed.*batched=True"),
    "nothing": (lambda p: None, CaptureError, "`return` missing"),
    "tuple": (lambda p: (p, p), CaptureError, "a tuple"),
    "matrix": (lambda p: jnp.outer(p, p), CaptureError, r"shape \(2, 2\)"),
    "complex": (lambda p: p * 1j, CaptureError, "pair of real fields"),
    "integer": (lambda p: jnp.int32(3), CaptureError, "real and floating"),
    "precision": (lambda p: p @ jnp.ones((2, 4), jnp.float32) * jnp.float64(2.0), BackendError, "x is float32.*float64"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_functions_that_cannot_be_used(name: str) -> None:
    function, error, message = REFUSED[name]
    x = X.astype(jnp.float32) if name == "precision" else X
    with pytest.raises(error, match=f"(?s){message}"):
        JAX.capture(function, x)


def test_points_are_never_converted_silently() -> None:
    with pytest.raises(BackendError, match="int64"):
        JAX.prepare(jnp.arange(6).reshape(3, 2))
    with jax.enable_x64(False), pytest.raises(BackendError, match="jax_enable_x64"):
        JAX.prepare(np.ones((3, 2)))
    with pytest.raises(BackendError, match="list"):
        JAX.prepare([[1.0, 2.0]])


def test_half_precision_is_carried_out_in_single_precision() -> None:
    x = X.astype(jnp.bfloat16)
    capture = JAX.capture(lambda p: jnp.tanh(p @ W.astype(jnp.bfloat16)) * 2.0 + 1, x)
    assert run(capture, x[0].astype(jnp.float32)).dtype == jnp.float32


# ---------------------------------------------------------------------------------------------------------------- keys


def _net(weights: Any, scale: float = 2.0, power: int = 2) -> Callable[[Any], Any]:
    return lambda p: jnp.tanh(p @ weights) ** power * scale


def test_keys_ignore_contents_and_see_everything_else() -> None:
    key = JAX.capture(_net(W), X).key
    assert key is not None
    assert key == JAX.capture(_net(W + 1), X).key
    others = [_net(W[:, :3]), _net(W, scale=3.0), _net(W, power=3), _net(W.astype(jnp.float32))]
    others.append(lambda p: jnp.sin(p @ W) ** 2 * 2.0)
    assert all(key != JAX.capture(other, X).key for other in others)
    assert key != JAX.capture(_net(W.astype(jnp.float32)), X.astype(jnp.float32)).key


def test_keys_see_inside_loops_and_branches() -> None:
    def loop(step: float) -> Callable[[Any], Any]:
        return lambda p: lax.fori_loop(0, 9, lambda i, c: jnp.sin(c) * step, p)

    assert JAX.capture(loop(1.5), X).key == JAX.capture(loop(1.5), X).key
    assert JAX.capture(loop(1.5), X).key != JAX.capture(loop(1.25), X).key


def test_a_users_derivative_rule_has_no_key() -> None:
    @jax.custom_jvp
    def f(p: Any) -> Any:
        return jnp.sin(p)

    f.defjvp(lambda p, t: (f(p[0]), 3 * t[0]))
    assert JAX.capture(f, X).key is None


def test_fingerprints_notice_changes() -> None:
    box = {"scale": 2.0, "w": W}

    def function(p: Any) -> Any:
        return jnp.tanh(p @ box["w"]) * box["scale"]

    first = JAX.fingerprint(function)
    assert first is not None
    assert first == JAX.fingerprint(function)
    box["scale"] = 3.0
    second = JAX.fingerprint(function)
    box["w"] = W + 1
    assert len({first, second, JAX.fingerprint(function)}) == 3


def test_mutable_arrays_count_by_their_contents_and_traced_ones_are_not_trusted() -> None:
    for array in (np.ones(4), np.ones(100_000)):

        def function(p: Any, a: Any = array) -> Any:
            return p @ a

        before = JAX.fingerprint(function)
        assert before is not None
        assert before == JAX.fingerprint(function)
        array[-1] = 2.0
        assert before != JAX.fingerprint(function)
    seen: list[Any] = []
    jax.jit(lambda w: (seen.append(JAX.fingerprint(lambda p: p @ w)), w)[1])(W)
    assert seen == [None]


# -------------------------------------------------------------------------------------------------------------- imports


def test_looking_up_the_backend_does_not_import_jax() -> None:
    code = (
        "import sys, opdsl; from opdsl import backends; b = backends.get('jax'); "
        "assert not b.is_array(3.0) and not b.is_function(len); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_linear_layers_are_linear_nodes() -> None:
    capture = JAX.capture(lambda p: jnp.reshape(p @ W, (2, 2)).sum(0), X)
    dependent = capture.graph.dependent()
    rules = [n.rule for n in capture.graph.nodes if any(i in dependent for i in n.inputs)]
    assert sum(isinstance(rule, Linear) for rule in rules) == len(rules) - 1
