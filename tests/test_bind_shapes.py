"""A bound step at other shapes: every constant still comes from where it should."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import torch
from references import nested_grad, torch_loop

import opdsl

LAPLACIAN = opdsl.operator("laplace(u)", coords="x y")


def test_torch_constants_that_depend_on_the_number_of_points() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()

    def u(z: torch.Tensor) -> torch.Tensor:
        return net(z)[:, 0] * torch.arange(1, z.shape[0] + 1, dtype=z.dtype)

    step = LAPLACIAN.bind(u, torch.rand(5, 2, dtype=torch.float64))
    x = torch.rand(9, 2, dtype=torch.float64)
    truth = sum(torch_loop(u, x.numpy(), (i, i)) for i in range(2))
    torch.testing.assert_close(step(x), torch.as_tensor(truth), rtol=1e-12, atol=1e-12)
    doubled = torch.func.functional_call(step, {k: 2 * v for k, v in step.named_parameters()}, (x,))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    torch.testing.assert_close(step(x), doubled, rtol=1e-12, atol=1e-12)


def test_jax_parameters_at_another_number_of_points() -> None:
    def u(p: dict[str, jax.Array], z: jax.Array) -> jax.Array:
        return jnp.tanh(z @ p["w"]) @ p["v"]

    params = {"w": 0.3 * jnp.ones((2, 4)), "v": jnp.arange(4.0)}
    step = LAPLACIAN.bind(u, jnp.ones((3, 2)), params=params)
    other = {"w": 2 * params["w"], "v": params["v"] + 1}
    x = jnp.linspace(0.0, 1.0, 12).reshape(6, 2)
    expected = sum(nested_grad(lambda p: u(other, p), np.asarray(x), (i, i)) for i in range(2))
    assert jnp.allclose(step(other, x), expected, rtol=1e-12, atol=1e-14)
