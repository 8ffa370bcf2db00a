"""Every rule of the JAX table against nested `jax.jvp` of the same function, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from jax_corpus import CONTROL, DIRECTION, ELEMENTARY, GROUPS, MATRICES, POINT, REVERSE, SINGLE, SPECIAL, V, h, own_vjp
from references import nested_grad

import opdsl
from opdsl import backends
from opdsl.backends.jax.primitives import TABLE
from opdsl.errors import MissingRuleError, OpdslWarning
from opdsl.jets.directional import Directional
from opdsl.jets.graph import Elementwise
from opdsl.jets.jet import Jet
from opdsl.jets.propagate import push_forward

Function = Callable[[Any], Any]
JAX = backends.get("jax")

CASES = [(group, name) for group, table in GROUPS.items() for name in table if group not in ("matrices", "special")]
SLOW = [("matrices", name) for name in MATRICES] + [("special", name) for name in SPECIAL]


def series(function: Function, order: int) -> Callable[[Any, Any], list[Any]]:
    """Taylor coefficients of t ↦ function(x + t v) by one push-forward, as a function of x and v."""
    capture = JAX.capture(function, jnp.asarray(POINT)[None])
    algebra = Directional([(1, order)])

    def run(x: Any, v: Any) -> list[Any]:
        seed = Jet(x, (v[None], *[None] * (order - 1)), (True,) * order)
        needed = frozenset(range(order))
        (out,) = push_forward(capture.graph, algebra, seed, capture.constants, JAX.ops, needed)
        if not isinstance(out, Jet):
            return [out, *[jnp.zeros_like(out)] * order]
        return [out.primal, *(jnp.zeros_like(out.primal) if p is None else p[0] for p in out.parts)]

    return run


def nested(function: Function, order: int) -> Callable[[Any, Any], list[Any]]:
    """The same by differentiating again and again."""

    def run(x: Any, v: Any) -> list[Any]:
        def along(t: Any) -> Any:
            return function(x + t * v)

        out, scale, current = [], 1.0, along
        for k in range(order + 1):
            out.append(jnp.asarray(current(0.0)) / scale)
            current, scale = _derivative(current), scale * (k + 1)
        return out

    return run


def _derivative(function: Function) -> Function:
    return lambda t: jax.jvp(function, (t,), (1.0,))[1]


def compare(function: Function, order: int, tolerance: float = 1e-10) -> None:
    """Coefficient by coefficient; relative to the largest entry of the coefficient, or to one."""

    def both(x: Any, v: Any) -> Any:
        return series(function, order)(x, v), nested(function, order)(x, v)

    found, truth = jax.jit(both)(jnp.asarray(POINT), jnp.asarray(DIRECTION))
    for k, (a, b) in enumerate(zip(found, truth, strict=True)):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0.0)), err_msg=f"order {k}")


@pytest.mark.family(keep=7)
@pytest.mark.parametrize(("group", "name"), CASES)
def test_jets_agree_with_nested_jvp(group: str, name: str) -> None:
    compare(GROUPS[group][name], 3, 1e-6 if name in SINGLE else 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), CASES)
def test_sixth_order(group: str, name: str) -> None:
    """c_6 is the third derivative of c_3 along the direction, over 3! binom(6, 3); c_3 is compared with nested jvp above."""
    function = GROUPS[group][name]

    def both(x: Any, v: Any) -> Any:
        slope: Any = lambda t: series(function, 3)(x + t * v, v)[3]  # noqa: E731
        for _ in range(3):
            slope = _derivative(slope)
        return series(function, 6)(x, v)[6], slope(0.0) / 120

    found, truth = (np.asarray(a, np.float64) for a in jax.jit(both)(jnp.asarray(POINT), jnp.asarray(DIRECTION)))
    tolerance = 1e-3 if name in SINGLE else 1e-8
    np.testing.assert_allclose(found, truth, rtol=0, atol=tolerance * max(1.0, np.abs(truth).max(initial=0.0)))


@pytest.mark.parametrize("name", ["det", "solve", "solve with a constant matrix", "triangular solve"])
def test_matrix_functions_to_second_order(name: str) -> None:
    compare(MATRICES[name], 2)


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), SLOW)
def test_expensive_rules_agree_with_nested_jvp(group: str, name: str) -> None:
    compare(GROUPS[group][name], 3, 1e-9)


@pytest.mark.parametrize("name", ["tanh", "erf", "sinc", "sinc at 0", "arctan", "log1p", "cbrt", "array power"])
def test_elementary_functions_to_sixth_order(name: str) -> None:
    compare(ELEMENTARY[name], 6, 1e-9)


@pytest.mark.parametrize("name", ["custom_jvp of itself", "custom_jvp in a derivative", "scan", "cond", "while by value", "custom_jvp in a scan"])
def test_control_flow_to_fifth_order(name: str) -> None:
    compare(CONTROL[name], 5)


# Every kind of rule once more in the other algebras: collapsed second order, and a table of structure constants.
MIXED = [
    ("activations", "gelu"),
    ("elementary", "hypot"),
    ("elementary", "xlogy"),
    ("selection", "sort"),
    ("reductions", "prod over all axes"),
    ("reductions", "cumlogsumexp"),
    ("products", "conv with moving kernel"),
    ("matrices", "triangular solve"),
    ("control", "scan"),
    ("control", "switch by value"),
    ("control", "custom_jvp of itself"),
    ("facts", "linear"),
]


@pytest.mark.family(keep=10)
@pytest.mark.parametrize(("group", "name"), MIXED)
@pytest.mark.parametrize("text", ["laplace(u)", "u_xxy + u_x - u_z"])
def test_rules_in_every_algebra(group: str, name: str, text: str) -> None:
    inner = GROUPS[group][name]

    def function(p: Any) -> Any:
        return jnp.sum(jnp.sin(inner(p)))

    x = jnp.asarray(np.stack([POINT, POINT + 0.01]))
    operator = opdsl.operator(text, coords="x y z")
    partials = {"laplace(u)": [(1, (i, i)) for i in range(3)], "u_xxy + u_x - u_z": [(1, (0, 0, 1)), (1, (0,)), (-1, (2,))]}
    truth = sum(weight * nested_grad(function, np.asarray(x), axes) for weight, axes in partials[text])
    for strategy in operator.plan(function, x).candidates:
        if strategy.channels is not None and strategy.strategy not in ("nested_ad", "reverse_gradient"):
            found = operator(function, x, strategy=strategy.strategy)
            np.testing.assert_allclose(found, truth, rtol=1e-9, atol=1e-9, err_msg=strategy.strategy)


def test_declared_reverse_rules_are_honoured() -> None:
    """custom_vjp functions refuse forward mode, so the reference is the declared derivative itself, half of cos."""
    found = jax.jit(series(lambda p: own_vjp(h(p)), 4))(jnp.asarray(POINT), jnp.asarray(DIRECTION))
    truth = jax.jit(nested(lambda p: jnp.sin(h(p)), 4))(jnp.asarray(POINT), jnp.asarray(DIRECTION))
    np.testing.assert_allclose(found[0], truth[0], rtol=1e-14)
    for a, b in zip(found[1:], truth[1:], strict=True):
        np.testing.assert_allclose(a, 0.5 * b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", REVERSE)
def test_declared_reverse_rules_inside_one_another(name: str) -> None:
    function, plain = REVERSE[name]
    found = jax.jit(series(lambda p: function(h(p)), 4))(jnp.asarray(POINT), jnp.asarray(DIRECTION))
    truth = jax.jit(nested(lambda p: plain(h(p)), 4))(jnp.asarray(POINT), jnp.asarray(DIRECTION))
    for a, b in zip(found, truth, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("strategy", ["nested_ad", "forward_laplacian", "collapsed_taylor"])
def test_strategies_agree_on_functions_that_allow_one_mode_only(strategy: str) -> None:
    """custom_vjp allows no forward mode, while_loop no reverse mode; nested differentiation has to choose."""
    laplacian = opdsl.operator("laplace(u) + u_xy", coords="x y z")
    x = jnp.asarray(POINT)
    truth = 0.5 * jnp.trace(jax.hessian(lambda p: jnp.sin(h(p)).sum())(x))
    operator = opdsl.operator("laplace(u)", coords="x y z")
    np.testing.assert_allclose(operator(lambda p: own_vjp(h(p)).sum(), x, strategy=strategy), truth, rtol=1e-12)
    if strategy != "forward_laplacian":
        loop = CONTROL["while"]
        hessian = jax.jacfwd(jax.jacfwd(lambda p: loop(p).sum()))(x)
        found = laplacian(lambda p: loop(p).sum(), x, strategy=strategy)
        np.testing.assert_allclose(found, jnp.trace(hessian) + hessian[0, 1], rtol=1e-12)


def test_large_arguments_stay_finite() -> None:
    point = jnp.asarray([500.0, -500.0, 1e4, -1e4])

    def function(p: Any) -> Any:
        h = p[0] * point
        return jnp.concatenate([jax.nn.softplus(h), jax.nn.sigmoid(h), jnp.tanh(h), jax.nn.logsumexp(h)[None]])

    capture = JAX.capture(function, jnp.ones((1, 1)))
    seed = Jet(jnp.ones(1), (jnp.ones((1, 1)), *[None] * 4), (True,) * 5)
    (out,) = push_forward(capture.graph, Directional([(1, 5)]), seed, capture.constants, JAX.ops, frozenset(range(5)))
    assert all(bool(jnp.isfinite(p).all()) for p in (out.primal, *out.parts))
    np.testing.assert_allclose(out.parts[0][0, :4], [500.0, 0.0, 1e4, 0.0], atol=1e-12)


# ------------------------------------------------------------------------------------------------- classification


def _nodes() -> list[tuple[str, Any, Any, Any]]:
    """One node per primitive and rule type that occurs anywhere in the corpus, with operands at the point."""
    found: dict[tuple[str, str], tuple[str, Any, Any, Any]] = {}
    for group, table in GROUPS.items():
        for name, function in table.items() if group not in ("matrices", "special") else ():
            capture = JAX.capture(function, jnp.asarray(POINT)[None])
            store = {capture.graph.x: jnp.asarray(POINT), **dict(zip(capture.graph.constants, capture.constants, strict=True))}
            dependent = capture.graph.dependent()
            for node in capture.graph.nodes:
                operands = [store[i] for i in node.inputs]
                result = node.apply(*operands)
                store.update(zip(node.outputs, result if node.several else (result,), strict=True))
                if any(i in dependent for i in node.inputs):
                    key = (node.primitive, type(node.rule).__name__)
                    found.setdefault(key, (f"{group}: {name}", node, operands, [i in dependent for i in node.inputs]))
    return list(found.values())


@pytest.mark.thorough
def test_every_classification_agrees_with_the_primitive_itself() -> None:
    """Linear, bilinear, elementwise and constant are claims about the primitive; `jax.jvp` is the judge."""
    for where, node, operands, moving in _nodes():
        kind = type(node.rule).__name__
        label = f"{node.primitive} ({kind}) in {where}"
        live = [i for i, o in enumerate(operands) if moving[i] and jnp.issubdtype(jnp.asarray(o).dtype, jnp.inexact)]
        if kind in ("Composed", "Derived", "PiecewiseLinear") or not live:
            continue

        def along(*values: Any, node: Any = node, operands: Any = operands, live: Any = live) -> Any:
            full = list(operands)
            for i, value in zip(live, values, strict=True):
                full[i] = value
            result = node.apply(*full)
            return [r for r in (result if node.several else (result,)) if jnp.issubdtype(r.dtype, jnp.inexact)]

        points = [jnp.asarray(operands[i]) for i in live]
        steps = [jnp.cos(jnp.arange(p.size, dtype=float)).reshape(p.shape).astype(p.dtype) for p in points]
        slope = jax.jvp(along, points, steps)[1]
        if kind == "Constant":
            assert all(float(jnp.abs(s).max(initial=0.0)) == 0.0 for s in slope), label
        elif kind == "Linear":
            base, moved = along(*points), along(*(p + 0.5 * s for p, s in zip(points, steps, strict=True)))
            for a, b, s in zip(base, moved, slope, strict=True):
                # A cast to single precision inside a network rounds base and moved value.
                atol = 1e-10 + 4 * float(jnp.finfo(b.dtype).eps) * float(jnp.abs(b).max(initial=0.0))
                np.testing.assert_allclose(b - a, 0.5 * s, atol=atol, err_msg=label)
            if len(live) == len(operands):
                assert all(float(jnp.abs(z).max(initial=0.0)) == 0.0 for z in along(*(0 * p for p in points))), label
        elif kind == "Bilinear" and len(live) == 2:
            a, b = points
            value = along(a, b)[0]
            single = value.dtype != jnp.float64
            rtol, atol = (20 * float(jnp.finfo(value.dtype).eps),) * 2 if single else (1e-12, 0.0)
            np.testing.assert_allclose(along(2 * a, b)[0], 2 * value, rtol=rtol, atol=atol, err_msg=label)
            np.testing.assert_allclose(along(a, 3 * b)[0], 3 * value, rtol=rtol, atol=atol, err_msg=label)
        elif isinstance(node.rule, Elementwise):
            c0, c1 = node.rule.function.expand(JAX.ops, points[0], 1)
            rtol = 1e-12 if points[0].dtype in (jnp.float64, jnp.complex128) else 50 * float(jnp.finfo(points[0].dtype).eps)
            np.testing.assert_allclose(c0 + 0 * points[0], along(*points)[0], rtol=rtol, err_msg=label)
            np.testing.assert_allclose(c1 * steps[0], slope[0], rtol=max(rtol, 1e-10), atol=rtol, err_msg=label)


def test_every_function_of_jax_nn_is_in_the_corpus() -> None:
    known = {"swish": "silu", "hard_swish": "hard_silu", "one_hot": "one hot", "dot_product_attention": "attention",
             "logmeanexp": "logsumexp", "log1mexp": "log_sigmoid"}  # fmt: skip
    left_out = {"initializers", "scaled_matmul", "scaled_dot_general", "get_scaled_dot_general_config", "fp8_cast_transpose",
                "identity", "tanh"}  # fmt: skip
    public = {n for n in vars(jax.nn) if not n.startswith("_")} - left_out
    assert {n for n in public if known.get(n, n) not in GROUPS["activations"]} == set()


def test_the_table_covers_jax_arithmetic() -> None:
    """Every differentiable arithmetic primitive that JAX lists has an entry of its own."""
    names = {p.name for n, p in vars(jax.extend.core.primitives).items() if n.endswith("_p")}
    expected = {n for n in names if n.startswith(("reduce_", "cum", "scatter", "dynamic_", "conv_", "broadcast", "select"))}
    expected |= {"add", "sub", "mul", "div", "pow", "neg", "exp", "log", "tanh", "dot_general", "gather", "concatenate", "fft"}
    assert expected - set(TABLE) <= {"reduce_precision", "select_and_scatter"}


# -------------------------------------------------------------------------------------------- primitives without rule


def test_a_primitive_without_a_rule_goes_by_its_first_derivative_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TABLE, "tanh")
    monkeypatch.setattr("opdsl.jets.first_derivative._announced", set())
    with pytest.warns(OpdslWarning, match="'tanh' has no jet rule"):
        compare(lambda p: jnp.tanh(h(p)), 4)


def test_an_undifferentiable_primitive_is_refused_by_name() -> None:
    def function(p: Any) -> Any:
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct((4,), jnp.float64), p @ V[:3], vmap_method="broadcast_all")

    with pytest.raises(MissingRuleError, match=r"'pure_callback'.*nested_ad"):
        jax.jit(series(function, 2))(jnp.asarray(POINT), jnp.asarray(DIRECTION))
