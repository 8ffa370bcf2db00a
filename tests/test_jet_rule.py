"""A user's own primitive gets a rule in one line, of each kind, on both frameworks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import opdsl
from opdsl.backends.jax.primitives import TABLE as JAX_TABLE
from opdsl.backends.torch.primitives import TABLE as TORCH_TABLE
from opdsl.errors import BackendError, OpdslWarning
from opdsl.jets.elementary import ELEMENTARY
from opdsl.jets.power_series import PowerSeries

TEXTS = ("laplace(u)", "laplace(laplace(u))", "u_xxxxx")
POINTS = np.array([[0.4, 0.7], [0.5, -1.0]])
W = np.array([[0.3, -0.8], [0.9, 0.2]])
Kind = dict[str, Any]
# Name: (the function on arrays of a namespace, kinds of rules that fit).
CASES: dict[str, tuple[Callable[..., Any], tuple[Kind, ...]]] = {
    "tanh": (
        lambda xp, a: xp.tanh(a),
        (
            {"elementwise": "tanh"},
            {"derivative": lambda x, y: 1 - y * y},
            {"derivative": lambda x, y: 4 / (x.apply("exp") + (-x).apply("exp")) ** 2},
            {"derivative": True},
        ),
    ),
    "gauss": (
        lambda xp, a: xp.exp(-a * a),
        (
            {"derivative": lambda x, y: -2 * x * y},
            {"composed": lambda ops, a: ops.elementwise("exp", ops.neg(ops.mul(a, a)))},
            {"derivative": True},
        ),
    ),
    "rotation": (lambda xp, a: xp.stack([a[..., 1], -a[..., 0]], -1), ({"linear": True}, {"derivative": True})),
    "product": (lambda xp, a, b: a * b[..., ::-1] if xp is jnp else a * b.flip(-1), ({"bilinear": True}, {"derivative": True})),
}
ALL = [(name, k) for name, (_, kinds) in CASES.items() for k in range(len(kinds))]


def _jax_primitive(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    primitive = Primitive(name)
    run = lambda *a: function(jnp, *a)  # noqa: E731
    primitive.def_impl(run)
    primitive.def_abstract_eval(lambda a, *_: a)
    batching.primitive_batchers[primitive] = lambda args, dims: (
        jax.vmap(run, in_axes=dims)(*args), 0
    )  # fmt: skip
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=False))
    ad.primitive_jvps[primitive] = lambda primals, tangents: jax.jvp(
        run, primals, tuple(ad.instantiate_zeros(t) for t in tangents)
    )
    return primitive.bind


@pytest.mark.family(keep=3)
@pytest.mark.parametrize(("name", "kind"), ALL)
def test_jax(name: str, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    function, kinds = CASES[name]
    own = f"{name}_of_the_test"
    bind = _jax_primitive(own, function)
    monkeypatch.setitem(JAX_TABLE, own, None)
    opdsl.jet_rule(own, backend="jax", **kinds[kind])
    x = jnp.asarray(POINTS)
    _compare(lambda f: lambda p: jnp.sum(jnp.sin(f(*_operands(jnp, name, p)))), bind, lambda *a: function(jnp, *a), x)


@pytest.mark.parametrize(("name", "kind"), ALL)
def test_torch(name: str, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    function, kinds = CASES[name]
    own = f"opdsl_test::{name}"
    if not hasattr(torch.ops.opdsl_test, name):
        _torch_operator(own, function, 2 if name == "product" else 1)
    bind = getattr(torch.ops.opdsl_test, name)
    monkeypatch.setitem(TORCH_TABLE, own, None)
    opdsl.jet_rule(own, backend="torch", **kinds[kind])
    x = torch.tensor(POINTS)
    _compare(lambda f: lambda p: torch.sin(f(*_operands(torch, name, p))).sum(-1), bind, lambda *a: function(torch, *a), x)


def _torch_operator(own: str, function: Callable[..., Any], operands: int) -> None:
    arguments = ", ".join(f"Tensor a{i}" for i in range(operands))
    operator = torch.library.custom_op(
        own, lambda *a: function(torch, *a).clone(), mutates_args=(), schema=f"({arguments}) -> Tensor"
    )
    operator.register_fake(lambda a, *_: torch.empty_like(a))

    def backward(ctx: Any, g: Any) -> Any:
        slopes = torch.func.vjp(lambda *a: function(torch, *a), *ctx.saved_tensors)[1](g)
        return slopes if operands > 1 else slopes[0]

    operator.register_autograd(backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


def _operands(xp: Any, name: str, p: Any) -> tuple[Any, ...]:
    h = p @ (jnp.asarray(W) if xp is jnp else torch.tensor(W))
    return (h, xp.cos(h)) if name == "product" else (h,)


def _compare(network: Callable[..., Any], found: Callable[..., Any], plain: Callable[..., Any], x: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", OpdslWarning)
        for text in TEXTS:
            op = opdsl.operator(text, coords="x y")
            strategy = "n_tangentprop" if text == "u_xxxxx" else "collapsed_taylor"
            value = op(network(found), x, strategy=strategy)
            np.testing.assert_allclose(np.asarray(value), np.asarray(op(network(plain), x)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kinds", [{}, {"linear": True, "bilinear": True}, {"elementwise": "tahn"}, {"derivative": True, "linear": True}])
def test_exactly_one_kind_with_a_known_name(kinds: Kind) -> None:
    with pytest.raises(BackendError):
        opdsl.jet_rule("anything", backend="jax", **kinds)


def test_arithmetic_of_series() -> None:
    """(2 − x)/(1 + x)³ · √x around x = 0.25, against the recurrences of each function."""
    functions = opdsl.backends.get("numpy").ops
    x = PowerSeries(functions, [np.array(0.25), 1.0, None, None])
    found = (2 - x) / (1 + x) ** 3 * x.apply("sqrt") - 1 + 0.0 * x
    root = ELEMENTARY["sqrt"].expand(functions, np.array(0.25), 3)
    front = [1.75 / 1.25**3 * c for c in _quotient()]
    truth = [sum(front[i] * root[k - i] for i in range(k + 1)) for k in range(4)]
    truth[0] -= 1
    np.testing.assert_allclose([float(t) for t in found.terms], [float(t) for t in truth], rtol=1e-13)


def _quotient() -> list[float]:
    """Coefficients of (1 − t/1.75)(1 + t/1.25)⁻³."""
    inverse = [1.0, -3 / 1.25, 6 / 1.25**2, -10 / 1.25**3]
    return [inverse[k] - (inverse[k - 1] / 1.75 if k else 0.0) for k in range(4)]
