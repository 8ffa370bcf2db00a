"""Derivatives of residuals in parameters, point by point, against `jax.jacrev` over nested derivatives and loops of autograd.

Neither oracle uses the package's engine: the residuals are written out by hand over the framework's own derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import equinox
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from references import Floats, assert_close, points

import opdsl
from opdsl.backends import execution
from opdsl.errors import BackendError, BindingError, CaptureError, ShapeError, StrategyError

X = points(5, 2)
CLOSE = 1e-12
BURGERS = opdsl.operator("u_t + u u_x = nu u_xx", coords="t x", params="?nu", fields="u")
SYSTEM = opdsl.operator("mom: nu laplace(u) = p_x; flow: grad(p) = b; mass: u_x + u p = 0", coords="x y", params="?nu ?b[2]", fields="u p")


def weights(outputs: int = 1, seed: int = 3) -> dict[str, Floats]:
    random = np.random.default_rng(seed)
    shapes = {"W": (4, 2), "a": (4,), "V": (4, 4), "b": (4,), "out": (outputs, 4), "unused": (3,)}
    return {name: random.normal(size=shape) for name, shape in shapes.items()}


def jax_network(params: Any, point: Any) -> Any:
    h = jnp.tanh(params["W"] @ point + params["a"])
    return params["out"] @ jnp.tanh(params["V"] @ h + params["b"])


class Net(torch.nn.Module):
    """The same network, with a hard constraint on request, a frozen parameter and one that nothing depends on."""

    def __init__(self, outputs: int = 1, hard: bool = False, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.hard = hard
        for name, value in weights(outputs).items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(value, dtype=dtype)))
        self.shift = torch.nn.Parameter(torch.tensor(0.25, dtype=dtype), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(x @ self.W.T + self.a)
        out = torch.tanh(h @ self.V.T + self.b) @ self.out.T + self.shift
        return x[:, :1] * (1 - x[:, 1:]) * out if self.hard else out


# -------------------------------------------------------------------------------------------------------------- oracles


def jacrev(residual: Callable[..., Any], params: Any, coefficients: Any, x: Floats) -> Floats:
    """(n, k, P) of ``residual(params, coefficients, point)`` -> (k,)."""
    found = jax.jit(jax.vmap(jax.jacrev(residual, (0, 1)), (None, None, 0)))(params, coefficients, jnp.asarray(x))
    return np.concatenate([np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(found)], axis=-1)


def burgers(params: Any, coefficients: Any, point: Any) -> Any:
    def u(p: Any) -> Any:
        return jax_network(params, p)[0]

    slope, second = jax.grad(u)(point), jax.hessian(u)(point)
    return (slope[0] + u(point) * slope[1] - coefficients["nu"] * second[1, 1])[None]


def system(params: Any, coefficients: Any, point: Any) -> Any:
    def field(k: int) -> Callable[[Any], Any]:
        return lambda p: jax_network(params, p)[k]

    u, p = field(0), field(1)
    du, dp = jax.grad(u)(point), jax.grad(p)(point)
    momentum = coefficients["nu"] * jnp.trace(jax.hessian(u)(point)) - dp[0]
    return jnp.stack([momentum, *(dp - coefficients["b"]), du[0] + u(point) * p(point)])


def torch_rows(function: Callable[[Any], Any], residual: Callable[..., Any], arrays: list[Any], x: Any) -> Floats:
    """(n, k, P): one `torch.autograd.grad` for every point and component, over nested autograd derivatives."""
    p = x.clone().requires_grad_()

    def d(value: Any, *axes: int) -> Any:
        for axis in axes:
            value = torch.autograd.grad(value.sum(), p, create_graph=True)[0][:, axis]
        return value

    values = residual(function(p), d, p)
    rows = []
    for value in values.reshape(-1):
        found = torch.autograd.grad(value, arrays, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([torch.zeros(a.numel(), dtype=a.dtype) if f is None else f.reshape(-1) for a, f in zip(arrays, found)]))  # fmt: skip  # noqa: B905
    return torch.stack(rows).reshape(*values.shape, -1).detach().numpy()  # type: ignore[no-any-return]


def torch_burgers(nu: Any) -> Callable[..., Any]:
    return lambda u, d, p: (d(u[:, 0], 0) + u[:, 0] * d(u[:, 0], 1) - nu * d(u[:, 0], 1, 1))[:, None]


@pytest.fixture(scope="module")
def jax_case() -> Any:
    """Parameters, points, and the Jacobian of Burgers' residual with what came with it."""
    params = jax.tree.map(jnp.asarray, weights())
    value, rows = BURGERS.jacobian(jax_network, jnp.asarray(X), params=params, nu=0.3, value=True)
    return SimpleNamespace(params=params, x=jnp.asarray(X), value=value, rows=rows)


def trained(module: torch.nn.Module) -> list[Any]:
    return [p for p in module.parameters() if p.requires_grad]


# ------------------------------------------------------------------------------------------------------------------ JAX


def test_jax_scalar_equation_against_jacrev(jax_case: Any) -> None:
    """Columns stand as `ravel_pytree` orders them, the coefficient of the text last; the value is the call's."""
    assert_close(jax_case.rows, jacrev(burgers, jax_case.params, {"nu": 0.3}, X), CLOSE)
    assert_close(jax_case.value[:, 0], BURGERS(jax_network, jax_case.x, params=jax_case.params, nu=0.3), CLOSE)
    flat, unravel = jax.flatten_util.ravel_pytree(jax_case.params)
    assert jax_case.rows.shape == (5, 1, flat.size + 1)
    assert_close(unravel(jax_case.rows[2, 0, :-1])["V"], jax_case.rows[2, 0, :16].reshape(4, 4), 1e-15)


def test_jax_system_against_jacrev() -> None:
    """Three equations, one of them a vector: k counts all their components. Coefficients stand in the order of the text."""
    params, b = jax.tree.map(jnp.asarray, weights(2)), jnp.asarray([0.7, -0.2])
    found = SYSTEM.jacobian(jax_network, jnp.asarray(X), params=params, nu=0.3, b=b)
    want = jacrev(system, params, {"b": b, "nu": 0.3}, X)
    assert_close(found, np.concatenate([want[..., :-3], want[..., -1:], want[..., -3:-1]], axis=-1), CLOSE)


def test_jax_under_jit_in_pieces_and_named(jax_case: Any) -> None:
    c = jax_case
    flat = jax.jit(lambda p, x, nu: BURGERS.jacobian(jax_network, x, params=p, nu=nu))(c.params, c.x, 0.3)
    assert_close(flat, c.rows, CLOSE)
    pieces = BURGERS.jacobian(jax_network, c.x, params=c.params, nu=0.3, memory="6 kB")
    assert_close(pieces, c.rows, CLOSE)
    named = BURGERS.jacobian(jax_network, c.x, params=c.params, nu=0.3, form="named")
    assert named["coefficients"]["nu"].shape == (5, 1) and named["params"]["W"].shape == (5, 1, 4, 2)
    leaves = [np.asarray(leaf).reshape(5, 1, -1) for leaf in [*jax.tree.leaves(named["params"]), named["coefficients"]["nu"]]]
    assert_close(np.concatenate(leaves, axis=-1), c.rows, 1e-15)


def test_jax_products(jax_case: Any) -> None:
    c = jax_case
    products = BURGERS.jacobian(jax_network, c.x, params=c.params, nu=0.3, form="products")
    assert products.shape == c.rows.shape
    v, w = np.random.default_rng(0).normal(size=c.rows.shape[-1]), np.random.default_rng(1).normal(size=(5, 1))
    dense = np.asarray(c.rows)
    assert_close(products.value, c.value, CLOSE)
    assert_close(products.jvp(jnp.asarray(v)), dense @ v, CLOSE)
    assert_close(products.jvp(products.named(jnp.asarray(v))), dense @ v, CLOSE)
    assert_close(products.vjp(jnp.asarray(w)), np.einsum("nkp,nk->p", dense, w), CLOSE)
    pieces = BURGERS.jacobian(jax_network, c.x, params=c.params, nu=0.3, form="products", memory="6 kB")
    assert_close(pieces.jvp(jnp.asarray(v)), dense @ v, CLOSE)
    assert_close(pieces.vjp(jnp.asarray(w)), np.einsum("nkp,nk->p", dense, w), CLOSE)


@pytest.mark.thorough
def test_equinox_modules_and_steps(jax_case: Any) -> None:
    """A module is its own parameters; a step has the verb of its operator, with the parameters of the call."""
    c = jax_case
    step = BURGERS.bind(jax_network, c.x, params=c.params, nu=0.1)
    assert_close(step.jacobian(c.params, c.x, nu=0.3), c.rows, CLOSE)
    net = equinox.nn.MLP(2, "scalar", 4, 1, activation=jnp.tanh, key=jax.random.key(0), dtype=jnp.float64)
    arrays, static = equinox.partition(net, equinox.is_inexact_array)
    want = BURGERS.jacobian(lambda p, x: equinox.combine(p, static)(x), c.x, params=arrays, nu=0.3)
    assert_close(BURGERS.jacobian(net, c.x, nu=0.3), want, 1e-15)
    assert_close(BURGERS.bind(net, c.x, nu=0.3).jacobian(c.x), want, 1e-15)
    assert_close(BURGERS.jacobian({"u": net}, c.x, nu=0.3, form="named")["params"]["u"].layers[0].weight.reshape(5, -1),
                 want[:, 0, :8], 1e-15)  # fmt: skip


def test_coefficients_alone_and_single_points(jax_case: Any) -> None:
    """A closure has no parameters: what is left are those of the text. One point gives no leading axis, none gives no rows."""
    c = jax_case
    alone = BURGERS.jacobian(lambda p: jax_network(c.params, p), c.x, nu=0.3)
    assert_close(alone, c.rows[..., -1:], CLOSE)
    one = BURGERS.jacobian(jax_network, c.x[1], params=c.params, nu=0.3)
    assert_close(one, c.rows[1], CLOSE)
    empty = BURGERS.jacobian(jax_network, c.x[:0], params=c.params, nu=0.3)
    assert empty.shape == (0, *c.rows.shape[1:])
    products = BURGERS.jacobian(jax_network, c.x[:0], params=c.params, nu=0.3, form="products")
    assert products.shape == empty.shape
    assert_close(products.vjp(jnp.zeros((0, 1))), np.zeros(c.rows.shape[-1]), 1e-15)


@pytest.mark.thorough
def test_jax_differentiates_jacobians(jax_case: Any) -> None:
    """Σ J² differentiated once more, against differences."""
    c = jax_case

    def size(nu: Any) -> Any:
        return jnp.sum(BURGERS.jacobian(jax_network, c.x, params=c.params, nu=nu) ** 2)

    assert_close(jax.grad(size)(0.3), (size(0.3 + 1e-5) - size(0.3 - 1e-5)) / 2e-5, 1e-7)


# ---------------------------------------------------------------------------------------------------------------- torch


@pytest.mark.parametrize("hard", [False, True])
def test_torch_scalar_equation_against_loops(hard: bool) -> None:
    """Frozen parameters have no columns, those without influence have zeros; the result is a constant to autograd."""
    net, x = Net(hard=hard), torch.tensor(X)
    nu = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    want = torch_rows(net, torch_burgers(nu), [*trained(net), nu], x)
    value, found = BURGERS.jacobian(net, x, nu=nu, value=True)
    assert not found.requires_grad and not value.requires_grad
    assert_close(found, want, CLOSE)
    assert_close(value[:, 0], BURGERS(net, x, nu=nu).detach(), CLOSE)
    assert_close(BURGERS.jacobian(net, x, nu=nu, memory="12 kB"), want, CLOSE)
    named = BURGERS.jacobian(net, x, nu=nu, form="named")
    assert list(named["params"]) == [name for name, p in net.named_parameters() if p.requires_grad]
    assert_close(named["params"]["V"].reshape(5, 1, -1), want[..., 12:28], CLOSE)


def test_torch_system_of_two_networks_and_closures() -> None:
    """Names begin with the field where several networks have parameters; closures own what they close over."""
    first, second, x = Net(), Net(hard=True), torch.tensor(X)
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    op = opdsl.operator("mom: u_t + p_x = nu u_xx; mass: p_t + u p = 0", coords="t x", params="?nu", fields="u p")
    nu = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def p(points: Any) -> Any:
        return scale * second(points)

    def residual(values: Any, d: Any, _: Any) -> Any:
        u, q = values[:, 0], values[:, 1]
        return torch.stack([d(u, 0) + d(q, 1) - nu * d(u, 1, 1), d(q, 0) + u * q], dim=1)

    arrays = [*trained(first), *trained(second), scale, nu]
    want = torch_rows(lambda z: torch.cat([first(z), p(z)], dim=1), residual, arrays, x)
    assert_close(op.jacobian({"u": first, "p": p}, x, nu=nu), want, CLOSE)
    names = list(op.jacobian({"u": first, "p": p}, x, nu=nu, form="named")["params"])
    assert names[0] == "u.W" and "p.V" in names and names[-1] == "p.closed_over.6"


def test_torch_products_and_parameters_of_the_call() -> None:
    net, x = Net(), torch.tensor(X)
    params = {name: p.detach().clone() for name, p in net.named_parameters() if p.requires_grad}

    def u(params: Any, points: Any) -> Any:
        return torch.func.functional_call(net, params, (points,))

    dense = BURGERS.jacobian(net, x, nu=0.3)
    assert_close(BURGERS.jacobian(u, x, params=params, nu=0.3), dense, CLOSE)
    v, w = torch.randn(dense.shape[-1], dtype=torch.float64), torch.randn(5, 1, dtype=torch.float64)
    for memory in (None, "20 kB"):
        products = BURGERS.jacobian(net, x, nu=0.3, form="products", memory=memory)
        assert_close(products.jvp(v), dense @ v, CLOSE)
        assert_close(products.jvp(products.named(v)), dense @ v, CLOSE)
        assert_close(products.vjp(w), torch.einsum("nkp,nk->p", dense, w), CLOSE)
        assert_close(products.vjp(2 * w), torch.einsum("nkp,nk->p", dense, 2 * w), CLOSE)


def test_torch_steps_follow_their_networks() -> None:
    """Weights edited in place, modes, hooks and replaced tensors, as for the step itself; values given anew."""
    net, x = Net(), torch.tensor(X)
    step = BURGERS.bind(net, x, nu=torch.tensor(0.1, dtype=torch.float64))

    def agree() -> None:
        assert_close(step.jacobian(x[:3], nu=0.3), BURGERS.jacobian(net, x[:3], nu=0.3), 1e-14)
        want = torch_rows(net, torch_burgers(0.3), trained(net), x[:3])
        assert_close(step.jacobian(x[:3], nu=0.3)[..., :-1], want, CLOSE)

    agree()
    with torch.no_grad():
        net.V.mul_(1.5)
    agree()
    net.hard = True
    agree()
    handle = net.register_forward_hook(lambda module, given, out: out * out)
    agree()
    handle.remove()
    agree()


def test_torch_func_goes_through() -> None:
    """A Jacobian inside `torch.func`: mapped over several sets of parameters, differentiated in a coefficient."""
    net, x = Net(), torch.tensor(X)
    sets = {name: torch.stack([p.detach(), 1.2 * p.detach()]) for name, p in net.named_parameters() if p.requires_grad}

    def u(params: Any, points: Any) -> Any:
        return torch.func.functional_call(net, params, (points,))

    def rows(params: Any) -> Any:
        return BURGERS.jacobian(u, x, params=params, nu=0.3)

    both = torch.func.vmap(rows)(sets)
    for k in range(2):
        assert_close(both[k], rows({name: p[k] for name, p in sets.items()}), CLOSE)

    def size(nu: Any) -> Any:
        return (BURGERS.jacobian(net, x, nu=nu) ** 2).sum()

    nu = torch.tensor(0.3, dtype=torch.float64)
    assert_close(torch.func.grad(size)(nu), (size(nu + 1e-5) - size(nu - 1e-5)) / 2e-5, 1e-7)


def test_single_precision_on_both() -> None:
    x, nu = X.astype(np.float32), 0.3
    params = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights())
    rows = BURGERS.jacobian(jax_network, jnp.asarray(x), params=params, nu=nu)
    found = BURGERS.jacobian(Net(dtype=torch.float32), torch.tensor(x), nu=nu)
    assert rows.dtype == jnp.float32 and found.dtype == torch.float32
    exact = jacrev(burgers, jax.tree.map(jnp.asarray, weights()), {"nu": nu}, X)
    assert_close(rows, exact, 1e-5)


# ------------------------------------------------------------------------------------------------------- both frameworks


def test_conditions_at_their_places() -> None:
    """Where a condition compares places its Jacobian is the sum of theirs, with the same columns."""
    op = opdsl.operator(
        "u_t = u_xx; wall: u_x(x=0) = c u(x=0); ring: u(x=1) = g u(x=-1)", coords="t x", params="?c ?g", fields="u"
    )
    net, x = Net(), torch.tensor(X)
    c, g = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.4, 0.9))

    def at(value: float) -> Any:
        return torch.stack([x[:, 0], torch.full_like(x[:, 0], value)], dim=1)

    wall = torch_rows(net, lambda u, d, p: (d(u[:, 0], 1) - c * u[:, 0])[:, None], [*trained(net), c], at(0.0))
    assert_close(op.conditions["wall"].jacobian(net, x, c=c), wall, CLOSE)
    assert_close(op.conditions["wall"].bind(net, x, c=c).jacobian(x), wall, CLOSE)
    parts = [torch_rows(net, lambda u, d, p: u, trained(net), at(v)) for v in (1.0, -1.0)]
    other = -net(at(-1.0)).detach().numpy()[..., None]
    ring = np.concatenate([parts[0] - 0.9 * parts[1], other], axis=-1)
    assert_close(op.conditions["ring"].jacobian(net, x, g=g), ring, CLOSE)
    products = op.conditions["ring"].jacobian(net, x, g=g, form="products")
    v = torch.randn(ring.shape[-1], dtype=torch.float64)
    assert_close(products.jvp(v), ring @ v.numpy(), CLOSE)
    params = jax.tree.map(jnp.asarray, weights())
    found = op.conditions["ring"].jacobian(jax_network, jnp.asarray(X), params=params, g=0.9)

    def residual(params: Any, coefficients: Any, p: Any) -> Any:
        return jax_network(params, p.at[1].set(1.0)) - coefficients["g"] * jax_network(params, p.at[1].set(-1.0))

    assert_close(found, jacrev(residual, params, {"g": 0.9}, X), CLOSE)


def test_values_per_point_and_coefficient_networks() -> None:
    """Data of every point are cut with the points; a network that is differentiated as a coefficient has columns of its own."""
    op = opdsl.operator("d_x(k u_x) = f", coords="t x", params="?k f", fields="u")
    net, other, x = Net(), Net(hard=True), torch.tensor(X)
    f = torch.tensor(points(5, 1)[:, 0])

    def residual(values: Any, d: Any, _: Any) -> Any:
        return (d(values[:, 1] * d(values[:, 0], 1), 1) - f)[:, None]

    want = torch_rows(lambda z: torch.cat([net(z), other(z)], dim=1), residual, [*trained(net), *trained(other)], x)
    for memory in (None, "12 kB"):
        assert_close(op.jacobian(net, x, k=other, f=f, memory=memory), want, CLOSE)
        assert_close(op.jacobian(net, x, k=other, f=lambda p: f[: len(p)] * 0 + p[:, 0], memory=memory), want, CLOSE)


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_fixed_draws_are_differentiated(framework: str) -> None:
    """With a key that stays, a random strategy is a function like any other: J against the gradient of each value."""
    op = opdsl.operator("laplace(u)", coords="x[40]", fields="u")
    strategy, random = opdsl.STDE(samples=3, key=7), np.random.default_rng(0)
    w, v, x = random.normal(size=(4, 40)), random.normal(size=4), random.normal(size=(2, 40))
    if framework == "jax":
        params = (jnp.asarray(v), jnp.asarray(w))

        def u(params: Any, p: Any) -> Any:
            return params[0] @ jnp.tanh(params[1] @ p)

        def call(params: Any) -> Any:
            return op(u, jnp.asarray(x), params=params, strategy=strategy)

        found = op.jacobian(u, jnp.asarray(x), params=params, strategy=strategy)
        want = np.concatenate([np.asarray(leaf).reshape(2, 1, -1) for leaf in jax.jacrev(call)(params)], axis=-1)
    else:
        tensors = [torch.tensor(v, requires_grad=True), torch.tensor(w, requires_grad=True)]

        def net(p: Any) -> Any:
            return torch.tanh(p @ tensors[1].T) @ tensors[0]

        found = op.jacobian(net, torch.tensor(x), strategy=strategy)
        rows = [torch.autograd.grad(r, tensors, retain_graph=True) for r in op(net, torch.tensor(x), strategy=strategy)]
        want = np.stack([np.concatenate([np.asarray(g).reshape(-1) for g in row]) for row in rows])[:, None]
    assert_close(found, want, CLOSE)


# -------------------------------------------------------------------------------------------------------------- refusals


def test_what_has_no_jacobian_is_refused() -> None:
    net, x = Net(), torch.tensor(X)
    laplacian = opdsl.operator("laplace(u)", coords="x y", fields="u")
    with pytest.raises(BackendError, match="no automatic differentiation.*JAX or torch"):
        laplacian.jacobian(lambda p: p[:, 0] ** 2, X)
    with pytest.raises(BindingError, match=r"nothing to differentiate.*params="):
        laplacian.jacobian(lambda p: jnp.sin(p[0]), jnp.asarray(X))
    with pytest.raises(BindingError, match="'flat', 'named', 'products'"):
        laplacian.jacobian(net, x, form="dense")
    with pytest.raises(BindingError, match="nu is trainable and has one value for each point"):
        BURGERS.jacobian(net, x, nu=torch.ones(5, dtype=torch.float64))
    diffusion = opdsl.operator("u_t = k u_xx", coords="t x", params="k", fields="u")
    with pytest.raises(BindingError, match="k is a network with parameters.*field of u"):
        diffusion.jacobian(net, x, k=torch.nn.Linear(2, 1).double())
    generator = torch.Generator().manual_seed(0)
    many = opdsl.operator("laplace(u)", coords="x[40]", fields="u")
    with pytest.raises(StrategyError, match="directions that stay"):
        many.jacobian(net, torch.ones(2, 40), strategy=opdsl.STDE(samples=2, key=generator))
    table = torch.ones(5, 1, dtype=torch.float64)
    with pytest.raises(CaptureError, match=r"single points.*form='products'"):
        laplacian.jacobian(lambda p: net(p) * table, x)
    with pytest.raises(CaptureError, match=r"asks for the number of points.*form='products'"):
        laplacian.jacobian(lambda p: net(p) * (2.0 if len(p) > 4 else 1.0), x)
    assert laplacian.jacobian(lambda p: net(p.view(len(p), 2)), x).shape == (5, 1, 39)


def test_a_jacobian_larger_than_memory_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Net(), torch.tensor(X)
    with pytest.raises(BackendError, match=r"5 points × 1 residual × 40 parameters .* 1.56 KiB, and memory='1000 B'.*products.*3 points"):
        BURGERS.jacobian(net, x, nu=0.3, memory="1000 B")
    monkeypatch.setattr(execution, "free_memory", lambda: 300.0)
    monkeypatch.setattr("opdsl.backends.base.free_memory", lambda: 300.0)
    with pytest.raises(BackendError, match=r"there are 300 bytes.*not even"):
        BURGERS.jacobian(net, x, nu=0.3)
    params = jax.tree.map(jnp.asarray, weights())
    with pytest.raises(BackendError, match="not even"):
        BURGERS.jacobian(jax_network, jnp.asarray(X), params=params, nu=0.3)


def test_vectors_of_other_shapes_are_refused() -> None:
    products = BURGERS.jacobian(Net(), torch.tensor(X), nu=0.3, form="products")
    with pytest.raises(ShapeError, match=r"\(40,\)"):
        products.jvp(torch.ones(39, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"\(5, 1\)"):
        products.vjp(torch.ones(5, dtype=torch.float64))
    with pytest.raises(BindingError, match="'params' and 'coefficients'"):
        products.jvp({"params": {}})
