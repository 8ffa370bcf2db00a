"""Derivatives of the functions of the language, d_x d_x f(u) and the like, against nested `jax.grad` of the composition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from engines import ENGINES
from references import assert_close, nested_grad, network, points

import opdsl
from opdsl.language.functions import ELEMENTARY

NET, X = network(2, 1, "tanh", width=3), points(3, 2)

MEANING: dict[str, Callable[..., Any]] = {
    **{name: getattr(jnp, name) for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "log", "sqrt", "abs", "sign")},
    "asin": jnp.arcsin, "acos": jnp.arccos, "atan": jnp.arctan, "asinh": jnp.arcsinh, "acosh": jnp.arccosh,
    "atanh": jnp.arctanh, "erf": jax.scipy.special.erf, "sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus,
    "relu": jax.nn.relu, "heaviside": lambda h: jnp.where(h > 0, 1.0, 0.0), "atan2": jnp.arctan2, "min": jnp.minimum,
    "max": jnp.maximum,
}  # fmt: skip
# Arguments inside the domain of each function; s is a bounded field.
ARGUMENT: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    name: ("2 + sin(u)", lambda u, p: 2.0 + jnp.sin(u)) for name in ("log", "sqrt", "acosh")
}
ARGUMENT.update({name: ("sin(u)/2", lambda u, p: jnp.sin(u) / 2.0) for name in ("asin", "acos", "atanh")})
DEFAULT: tuple[str, Callable[[Any, Any], Any]] = ("u + x y", lambda u, p: u + p[0] * p[1])
SECOND: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "atan2": ("2 + u^2", lambda u, p: 2.0 + u * u),
    "min": ("x - u", lambda u, p: p[0] - u),
    "max": ("x - u", lambda u, p: p[0] - u),
}


def u_of(p: Any) -> Any:
    return NET.on(jnp, p, jnp.asarray)[0]


def compare(text: str, meaning: Callable[[Any], Any], names: tuple[str, ...] = ("numpy", "torch")) -> None:
    """``d_x d_y`` and ``d_x`` of an expression."""
    for prefix, axes in (("d_x", (0,)), ("d_y d_y d_x", (1, 1, 0))):
        truth = nested_grad(meaning, X, axes)
        op = opdsl.operator(f"{prefix} ({text})", coords="x y", fields="u")
        for name in names:
            engine = ENGINES[name]
            found = engine.read(op(engine.network(NET), engine.array(X)))
            assert_close(found, truth, 1e-11, scale=max(float(np.max(np.abs(truth))), 1.0))


def test_every_function_has_a_meaning_here() -> None:
    assert set(MEANING) == set(ELEMENTARY)


@pytest.mark.family(keep=3)
@pytest.mark.parametrize("name", list(MEANING))
def test_table_of_functions(name: str) -> None:
    first, inner = ARGUMENT.get(name, DEFAULT)
    if ELEMENTARY[name] == 1:
        compare(f"{name}({first})", lambda p: MEANING[name](inner(u_of(p), p)))
    else:
        second, other = SECOND[name]
        compare(f"{name}({first}, {second})", lambda p: MEANING[name](inner(u_of(p), p), other(u_of(p), p)))


EXPRESSIONS: list[tuple[str, Callable[[Any, Any], Any]]] = [
    ("u^3 - 2 u^2 + u", lambda u, p: u**3 - 2 * u**2 + u),
    ("(2 + u^2)^x", lambda u, p: (2 + u**2) ** p[0]),
    ("2^u", lambda u, p: 2.0**u),
    ("e^(x u)", lambda u, p: jnp.exp(p[0] * u)),
    ("1/(2 + u^2)", lambda u, p: 1 / (2 + u**2)),
    ("u/(x + 3)/(y + 3)", lambda u, p: u / (p[0] + 3) / (p[1] + 3)),
    ("(2 + u^2)^(-3/2)", lambda u, p: (2 + u**2) ** -1.5),
    ("sin²u + cos²u + u", lambda u, p: u),
    ("sin(cos(tan(u)))", lambda u, p: jnp.sin(jnp.cos(jnp.tan(u)))),
    ("where(x > 0, u^2, sin(u))", lambda u, p: jnp.where(p[0] > 0, u**2, jnp.sin(u))),
    ("u |u|", lambda u, p: u * jnp.abs(u)),
    ("x^2 y u", lambda u, p: p[0] ** 2 * p[1] * u),
    ("tanh(u)^2 sqrt(1 + u^2)", lambda u, p: jnp.tanh(u) ** 2 * jnp.sqrt(1 + u**2)),
    ("-u^2", lambda u, p: -(u**2)),
    ("2 u^2/4 u", lambda u, p: 0.5 * u**3),
]


@pytest.mark.filterwarnings("ignore:a/b c is read from left to right")
@pytest.mark.parametrize(("text", "meaning"), EXPRESSIONS, ids=[e[0] for e in EXPRESSIONS])
def test_expressions(text: str, meaning: Callable[[Any, Any], Any]) -> None:
    compare(text, lambda p: meaning(u_of(p), p), ("numpy",))


def test_a_bound_function_to_third_order() -> None:
    """R(u, x) differentiated by the engine: the chain rule with mixed derivatives of R."""
    truth = nested_grad(lambda p: jnp.sin(u_of(p) * p[1]) * jnp.exp(u_of(p)), X, (0, 1, 1))
    op = opdsl.operator("d_x d_y d_y R(u, y)", coords="x y", fields="u", functions="R")
    for name in ("numpy", "torch", "jax", "strict"):
        engine = ENGINES[name]

        def bound(u: Any, y: Any, engine: Any = engine) -> Any:
            xp = engine.space(u)
            return xp.sin(u * y) * xp.exp(u)

        assert_close(engine.read(op(engine.network(NET), engine.array(X), R=bound)), truth, 1e-11)
