"""The oracles against each other and against sympy: they share no code."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import sympy
import torch
from references import ACTIVATIONS, Truth, assert_close, nested_grad, network, partials, points, torch_loop


@pytest.mark.parametrize("axes", [(), (0,), (1, 1), (0, 1), (0, 1, 1)])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_three_oracles_agree(activation: str, axes: tuple[int, ...]) -> None:
    net, x = network(2, 2, f"{activation} {activation}"), points(2, 2)
    truth = partials(net, x, axes)
    for component in (0, 1):
        by_jax = nested_grad(lambda p: net.on(jnp, p, jnp.asarray), x, axes, component)
        by_torch = torch_loop(lambda p: net.on(torch, p, torch.tensor), x, axes, component)
        assert_close(by_jax, truth[:, component], 1e-13)
        assert_close(by_torch, truth[:, component], 1e-13)


def test_expansion_against_sympy() -> None:
    net, x = network(2, 1, "tanh", width=2), points(1, 2)
    a, b = sympy.symbols("a b")
    symbols = sympy.Matrix([a, b])
    (w1, b1), (w2, b2) = net.layers
    hidden = (sympy.Matrix(w1) * symbols + sympy.Matrix(b1)).applyfunc(sympy.tanh)
    u = (sympy.Matrix(w2) * hidden)[0] + b2[0]
    expected = sympy.diff(u, a, 2, b, 3).subs({a: x[0, 0], b: x[0, 1]}).evalf(30)
    assert_close(partials(net, x, (0, 0, 1, 1, 1))[:, 0], [float(expected)], 1e-13)


def test_truth_reads_columns_and_coordinates() -> None:
    net, x = network(2, 3), points(2, 2)
    truth = Truth(net, x, "t x", "u v p")
    np.testing.assert_array_equal(truth.p("tx"), partials(net, x, (0, 1))[:, 2])
    np.testing.assert_array_equal(truth.t(), x[:, 0])


def test_every_activation_has_one_meaning() -> None:
    for on_arrays, on_numbers in ACTIVATIONS.values():
        for h in (-0.7, 0.4):
            assert abs(float(on_numbers(h)) - float(on_arrays(np, np.float64(h)))) < 1e-14
