"""What is bound may be named as it was written: in Greek, with its indices, with its number as a subscript or not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engines import Engine
from references import assert_close

import opdsl
from opdsl.errors import BindingError

X = np.array([[0.3, 0.7], [1.2, -0.4]])


@pytest.mark.parametrize(("declared", "given"), [
    ("ν", "ν"), ("ν", "nu"), ("nu", "ν"), ("nu", "nu"), ("varepsilon", "ε"), ("ε", "varepsilon"), ("k1", "k_1"), ("k_1", "k1"), ("κ₀", "kappa_0"),
    ("κ₀", "κ0"), ("ħ", "hbar"), ("T_in", "T_in"),
])  # fmt: skip
def test_a_parameter_under_any_spelling(declared: str, given: str, engine: Engine) -> None:
    text = f"u_t = {declared} u_xx; left: u(0, x) = {declared}; right: u(t, {declared}) = u(t, 0)"
    op = opdsl.operator(text, coords="t x", fields="u", params=declared)
    net, x = engine.function(lambda xp, c: c[0] + c[1] ** 3), engine.array(X)
    value: Any = {given: 0.5}
    assert_close(engine.read(op(net, x, **value)), 1 - 3 * X[:, 1], 1e-12)
    assert_close(engine.read(op(net, x, bindings=value)), 1 - 3 * X[:, 1], 1e-12)
    assert_close(engine.read(op.conditions["left"](net, x, **value)), X[:, 1] ** 3 - 0.5, 1e-12)
    assert_close(engine.read(op.conditions["right"](net, x, **value)), 0.125 + 0 * X[:, 1], 1e-12)
    if engine.name in ("jax", "numpy"):
        assert_close(engine.read(op.bind(net, x, **value)(x, **{given: 0.25})), 1 - 1.5 * X[:, 1], 1e-12)


def test_coefficients_with_their_indices_and_functions() -> None:
    op = opdsl.operator("a_ij d_i d_j u + b_i d_i u = Φ(u)", coords="x y", fields="u", params="a_ij b_i", functions="Φ")
    a, b = np.array([[2.0, 0.5], [0.0, 1.0]]), np.array([1.0, -1.0])
    u = lambda p: p[:, 0] ** 2 * p[:, 1]  # noqa: E731
    expected = op(u, X, a=a, b=b, Phi=lambda v: 2 * v)
    assert_close(op(u, X, a_ij=a, b_i=b, Φ=lambda v: 2 * v), expected, 1e-14)
    x, y = X.T
    assert_close(expected, 4 * y + x + 2 * x * y - x**2 - 2 * x**2 * y, 1e-12)


def test_one_name_is_bound_once() -> None:
    op = opdsl.operator("u_t = ν u_xx + k1 u", coords="t x", fields="u", params="ν k1")
    with pytest.raises(BindingError, match="nu is bound twice"):
        op(lambda p: p[:, 0], X, nu=0.1, k1=1.0, ν=0.2)
    with pytest.raises(BindingError, match="no parameter 'k_2'"):
        op(lambda p: p[:, 0], X, nu=0.1, k1=1.0, k_2=0.2)
