"""Operators inside JAX's own transformations, and on the modules people use."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import opdsl
from opdsl.errors import BindingError

Params = list[tuple[Any, Any]]
NU = 0.01
X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (7, 2)))
BURGERS = opdsl.operator("u_t + u u_x = nu u_xx", coords="t x", params="nu")


def parameters(seed: int = 0) -> Params:
    random = np.random.default_rng(seed)
    shapes = [(2, 6), (6, 6), (6, 1)]
    return [(jnp.asarray(random.normal(size=s)), jnp.asarray(random.normal(size=s[1]))) for s in shapes]


def network(params: Params, p: Any) -> Any:
    for weight, bias in params[:-1]:
        p = jnp.tanh(p @ weight + bias)
    weight, bias = params[-1]
    return (p @ weight + bias)[0]


def residual(params: Params, x: Any = X, nu: Any = NU) -> Any:
    """By hand."""

    def at(p: Any) -> Any:
        u = network(params, p)
        first, second = jax.grad(network, 1)(params, p), jax.hessian(network, 1)(params, p)
        return first[0] + u * first[1] - nu * second[1, 1]

    return jax.vmap(at)(x)


def by_closure(params: Params, x: Any = X, nu: Any = NU) -> Any:
    return BURGERS(lambda p: network(params, p), x, nu=nu)


def by_params(params: Params, x: Any = X, nu: Any = NU) -> Any:
    return BURGERS(network, x, params=params, nu=nu)


_STEP: Callable[..., Any] = BURGERS.bind(network, X, params=parameters(), nu=NU)


def by_step(params: Params, x: Any = X, nu: Any = NU) -> Any:
    return _STEP(params, x, nu=nu)


WAYS = [by_closure, by_params, by_step]


def close(found: Any, truth: Any) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("way", WAYS)
def test_values(way: Any) -> None:
    close(way(parameters()), residual(parameters()))
    # Other numbers, same structure: nothing of the first call may linger.
    close(way(parameters(1)), residual(parameters(1)))


@pytest.mark.family(keep=3)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("jit", [False, True])
def test_gradients_in_parameters(way: Any, jit: bool) -> None:
    def loss(function: Any) -> Any:
        return lambda params: jnp.mean(function(params) ** 2)

    gradient = jax.grad(loss(way))
    close((jax.jit(gradient) if jit else gradient)(parameters()), jax.grad(loss(residual))(parameters()))


@pytest.mark.parametrize("way", WAYS)
def test_gradient_in_a_coefficient_and_in_the_points(way: Any) -> None:
    params = parameters()
    close(jax.grad(lambda nu: way(params, X, nu).sum())(0.3), jax.grad(lambda nu: residual(params, X, nu).sum())(0.3))
    close(jax.grad(lambda x: way(params, x).sum())(X), jax.grad(lambda x: residual(params, x).sum())(X))
    close(jax.jvp(lambda x: way(params, x), (X,), (X,)), jax.jvp(lambda x: residual(params, x), (X,), (X,)))


@pytest.mark.parametrize("way", WAYS)
def test_ensembles_and_loops(way: Any) -> None:
    stacked = jax.tree.map(lambda *a: jnp.stack(a), parameters(0), parameters(1))
    close(jax.vmap(way)(stacked), jnp.stack([residual(parameters(0)), residual(parameters(1))]))
    steps = jnp.array([0.1, 0.2, 0.3])
    found = jax.lax.scan(lambda c, nu: (c, way(parameters(), X, nu)), 0.0, steps)[1]
    close(found, jnp.stack([residual(parameters(), X, nu) for nu in steps]))


@pytest.mark.thorough
def test_second_order_optimisers_see_through() -> None:
    params = parameters()

    def loss(function: Any) -> Any:
        return lambda flat: jnp.mean(function([*params[:-1], (flat[:, None], params[-1][1])]) ** 2)

    flat = params[-1][0][:, 0]
    close(jax.hessian(loss(by_closure))(flat), jax.hessian(loss(residual))(flat))


def test_empty_batches_single_points_and_other_sizes() -> None:
    params = parameters()
    assert by_closure(params, X[:0]).shape == (0,)
    assert by_closure(params, X[2]).shape == ()
    close(by_closure(params, X[2]), residual(params)[2])
    close(by_step(params, X[:3]), residual(params)[:3])


def test_precision_follows_the_points() -> None:
    params = jax.tree.map(lambda a: a.astype(jnp.float32), parameters())
    assert by_closure(params, X.astype(jnp.float32)).dtype == jnp.float32


def test_a_bound_step_refuses_parameters_of_another_structure() -> None:
    with pytest.raises(BindingError, match="structure"):
        _STEP(tuple(parameters()), X)


def test_closures_of_one_structure_share_one_program() -> None:
    operator = opdsl.operator("laplace(u)", coords="x y")

    def field(seed: int) -> Callable[[Any], Any]:
        params = parameters(seed)
        # Traced under grad, where the function has no fingerprint: only the structure can tell that nothing new is needed.
        return lambda scale: operator(lambda p: scale * network(params, p), X).sum()

    for seed in range(3):
        truth = laplacian_of(lambda p, seed=seed: network(parameters(seed), p)).sum()
        close(jax.grad(field(seed))(2.0), truth)
    kinds = [key[1][0] for key in operator._session._kept._entries if isinstance(key[0], int)]  # (pinned choices, (kind, …))
    assert kinds.count("program") == 1


def test_points_sharded_over_devices() -> None:
    """Four virtual devices: the result and the gradient are those of one."""
    code = """
import os
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"
import json, sys
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
import opdsl
from jax.sharding import NamedSharding, PartitionSpec as P
operator = opdsl.operator("laplace(u) + u u_x", coords="x y")
w = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)))
x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 2)))
loss = lambda w, x: jnp.mean(operator(lambda p: jnp.sum(jnp.tanh(p @ w)), x) ** 2)
value, gradient = jax.value_and_grad(loss)(w, x)
mesh = jax.make_mesh((4,), ("batch",))
placed = jax.device_put(x, NamedSharding(mesh, P("batch")))
weights = jax.device_put(w, NamedSharding(mesh, P()))
again, other = jax.jit(jax.value_and_grad(loss))(weights, placed)
rows = jax.jit(lambda w, x: operator(lambda p: jnp.sum(jnp.tanh(p @ w)), x))(weights, placed)
print(json.dumps([abs(float(value - again)), float(jnp.abs(gradient - other).max()), len(rows.sharding.device_set)]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    difference, gradient, devices = json.loads(done.stdout.splitlines()[-1])
    assert difference < 1e-12
    assert gradient < 1e-12
    assert devices == 4


# --------------------------------------------------------------------------------------------------------------- modules


def laplacian_of(field: Callable[[Any], Any], x: Any = X) -> Any:
    return jax.vmap(lambda p: jnp.trace(jax.hessian(lambda q: jnp.reshape(field(q), ()))(p)))(x)


LAPLACE = opdsl.operator("laplace(u)", coords="x y")


@pytest.mark.thorough
def test_equinox_modules() -> None:
    eqx = pytest.importorskip("equinox", reason="equinox is an optional test dependency")
    net = eqx.nn.MLP(2, 1, 8, 2, activation=jax.nn.gelu, key=jax.random.key(0))
    net = jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_array(a) else a, net)
    close(LAPLACE(net, X), laplacian_of(net))
    loss = eqx.filter_grad(lambda net: jnp.sum(LAPLACE(net, X) ** 2))
    close(loss(net).layers[0].weight, eqx.filter_grad(lambda net: jnp.sum(laplacian_of(net) ** 2))(net).layers[0].weight)
    step = LAPLACE.bind(lambda net, p: net(p), X, params=net)
    close(eqx.filter_jit(step)(net, X), laplacian_of(net))


@pytest.mark.thorough
def test_flax_modules() -> None:
    nnx = pytest.importorskip("flax.nnx", reason="flax is an optional test dependency")
    linen = pytest.importorskip("flax.linen", reason="flax is an optional test dependency")

    class Net(linen.Module):  # type: ignore[name-defined,misc]
        @linen.compact  # type: ignore[untyped-decorator]
        def __call__(self, p: Any) -> Any:
            p = linen.LayerNorm(param_dtype=jnp.float64)(linen.silu(linen.Dense(8, param_dtype=jnp.float64)(p)))
            return linen.Dense(1, param_dtype=jnp.float64)(p)

    module = Net()
    variables = module.init(jax.random.key(0), X[0])
    close(LAPLACE(module.apply, X, params=variables), laplacian_of(lambda p: module.apply(variables, p)))
    close(LAPLACE(module.bind(variables), X), laplacian_of(lambda p: module.apply(variables, p)))

    class Other(nnx.Module):  # type: ignore[name-defined,misc]
        def __init__(self, rngs: Any) -> None:
            self.inner = nnx.Linear(2, 8, rngs=rngs, param_dtype=jnp.float64)
            self.outer = nnx.Linear(8, 1, rngs=rngs, param_dtype=jnp.float64)

        def __call__(self, p: Any) -> Any:
            return self.outer(jnp.sin(self.inner(p)))

    net = Other(nnx.Rngs(0))
    close(LAPLACE(net, X), laplacian_of(net))
    # An optimiser writes new values into the same object.
    net.inner.kernel[...] = net.inner.kernel[...] * 2
    close(LAPLACE(net, X), laplacian_of(net))
    gradient = nnx.grad(lambda net: jnp.sum(LAPLACE(net, X) ** 2))(net)
    truth = nnx.grad(lambda net: jnp.sum(laplacian_of(net) ** 2))(net)
    close(jax.tree.leaves(gradient), jax.tree.leaves(truth))
