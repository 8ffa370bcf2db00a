"""A bound step gives what the call gives that it was bound from, or refuses; whatever happened to its networks since."""

from __future__ import annotations

import copy
import functools
import operator
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import ENGINES, Engine
from hypothesis import given, settings
from hypothesis import strategies as st
from references import assert_close, points
from torch import nn

import opdsl
from opdsl.errors import BackendError, BindingError, OpdslError

HEAT = opdsl.operator("u_t - nu u_xx", coords="t x", fields="u", params="nu")
LAPLACE = opdsl.operator("laplace(u)", coords="x y")
MATRIX = opdsl.operator("a_ij d_i d_j u", coords="x y", params="a[2,2]")


class Net(nn.Module):
    """a · w · tanh(Bx), with dropout, a buffer and an attribute."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.inner = nn.Parameter(torch.randn(2, 3, dtype=torch.float64, generator=generator))
        self.outer = nn.Linear(3, 1).double()
        self.register_buffer("scale", torch.tensor(1.0, dtype=torch.float64))
        self.factor = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(x @ self.inner) * self.factor
        if self.training:
            h = h * 2.0
        return self.outer(h) * self.scale


def laplacian(u: Any, x: torch.Tensor) -> torch.Tensor:
    """By two sweeps of autograd for each coordinate."""
    x = x.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    return sum(torch.autograd.grad(slope[:, i].sum(), x, retain_graph=True)[0][:, i] for i in (0, 1))  # type: ignore[return-value]


FORMS: dict[str, Callable[[nn.Module], Callable[..., Any]]] = {
    "module": lambda net: net,
    "lambda": lambda net: lambda z: net(z) * z[:, :1],
    "partial": lambda net: functools.partial(lambda scale, inner, z: scale * inner(z), 0.5, net),
    "method": lambda net: net.forward,
}


def replace_parameter(net: Any) -> None:
    net.inner = nn.Parameter(net.inner.detach() * 1.5)


def replace_buffer(net: Any) -> None:
    net.scale = torch.tensor(-2.0, dtype=torch.float64)


def assign_state(net: Any) -> None:
    net.load_state_dict({k: v * 1.25 for k, v in net.state_dict().items()}, assign=True)


def edit_in_place(net: Any) -> None:
    with torch.no_grad():
        net.outer.weight.mul_(0.75)


def set_attribute(net: Any) -> None:
    net.factor = 3.0


def add_hook(net: Any) -> None:
    net.outer.register_forward_hook(lambda module, inputs, output: output * 1.5)


CHANGES = [replace_parameter, replace_buffer, assign_state, edit_in_place, set_attribute, add_hook, nn.Module.eval, nn.Module.train]


@settings(max_examples=12)
@given(st.sampled_from(sorted(FORMS)), st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(1, 4)), min_size=1, max_size=4))
def test_a_torch_step_follows_every_history(form: str, history: list[tuple[Callable[[Any], Any], int]]) -> None:
    net = Net()
    u = FORMS[form](net)
    step = LAPLACE.bind(u, torch.tensor(points(3, 2)))
    for change, n in history:
        change(net)
        x = torch.tensor(points(n, 2))
        torch.testing.assert_close(step(x), laplacian(u, x), rtol=1e-10, atol=1e-12)


class Holder:
    """A function of arrays that it holds."""

    def __init__(self, engine: Engine) -> None:
        self.space, self.weight, self.power, self.sign = engine.space, engine.array([[1.0, 2.0], [0.5, -1.0]]), 2, 1.0

    def __call__(self, p: Any) -> Any:
        h = self.space(p).sin(p @ self.weight)
        return self.sign * h[..., 0] ** self.power + h[..., 1]

    def exact(self, x: Any, read: Callable[[Any], Any]) -> Any:
        """The Laplacian in closed form: of sin^k it is |w|² (k(k−1) sin^(k−2) cos² − k sin^k)."""
        w, k = read(self.weight), self.power
        s, c = np.sin(x @ w), np.cos(x @ w)
        squares = (w**2).sum(axis=0)
        return self.sign * squares[0] * (k * (k - 1) * s[:, 0] ** (k - 2) * c[:, 0] ** 2 - k * s[:, 0] ** k) - squares[1] * s[:, 1]


HOLDER_CHANGES: list[Callable[[Holder, Engine], Any]] = [
    lambda h, e: setattr(h, "sign", -h.sign),
    lambda h, e: setattr(h, "power", 5 - h.power),
    lambda h, e: setattr(h, "weight", h.weight * 1.5),
    lambda h, e: operator.imul(h.weight, 0.5) if e.name in ("torch", "numpy") else None,
]


@settings(max_examples=8)
@given(st.sampled_from(sorted(ENGINES)), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4))
def test_a_step_follows_what_a_function_holds(name: str, history: list[tuple[int, int]]) -> None:
    engine = ENGINES[name]
    holder = Holder(engine)
    step = LAPLACE.bind(lambda p: holder(p), engine.array(points(3, 2)))
    for change, n in history:
        HOLDER_CHANGES[change](holder, engine)
        x = points(n, 2)
        found = step(engine.array(x))
        assert tuple(found.shape) == (n,)
        assert_close(engine.read(found), holder.exact(x, engine.read), 1e-12, scale=10.0)


# ----------------------------------------------------------------------------------------------------------- bindings


def bilinear(p: Any) -> Any:
    return p[..., 0] * p[..., 1] ** 2


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_coefficient_that_returns_a_column_is_a_scalar(engine: Engine, n: int) -> None:
    step = HEAT.bind(bilinear, engine.array(points(3, 2)), nu=lambda p: p[..., :1] + 2.0)
    x = points(n, 2)
    found = step(engine.array(x))
    assert tuple(found.shape) == (n,)
    assert_close(engine.read(found), x[:, 1] ** 2 - (x[:, 0] + 2.0) * 2.0 * x[:, 0], 1e-13)


def test_values_edited_in_place_are_followed(engine: Engine) -> None:
    if engine.name == "jax":
        pytest.skip("JAX arrays cannot be edited")
    a, x = engine.array([[1.0, 0.0], [0.0, 1.0]]), engine.array(points(3, 2))
    nested = [[1.0, 0.0], [0.0, 1.0]]
    steps = [MATRIX.bind(bilinear, x, a=a), MATRIX.bind(bilinear, x, a=nested)]
    a[1, 1] = 4.0
    nested[1][1] = 4.0
    for step in steps:
        assert_close(engine.read(step(x)), 4.0 * 2.0 * points(3, 2)[:, 0], 1e-13)


def test_an_empty_batch(engine: Engine) -> None:
    step = HEAT.bind(bilinear, engine.array(points(3, 2)), nu=0.5)
    assert tuple(step(engine.array(np.zeros((0, 2)))).shape) == (0,)


@pytest.mark.parametrize("nu", [None, "0.1", float("nan"), [1.0, 2.0]])
def test_values_given_again_are_checked(engine: Engine, nu: Any) -> None:
    step = HEAT.bind(bilinear, engine.array(points(3, 2)), nu=0.5)
    with pytest.raises(OpdslError, match="nu"):
        step(engine.array(points(3, 2)), nu=nu)
    with pytest.raises(BindingError, match="did you mean 'nu'"):
        step(engine.array(points(3, 2)), nuu=1.0)


def test_a_bound_parameter_belongs_to_the_step() -> None:
    nu, x = nn.Parameter(torch.tensor(0.5, dtype=torch.float64)), torch.tensor(points(3, 2))
    step = HEAT.bind(bilinear, x, nu=nu)
    assert any(p is nu for p in step.parameters())
    step(x).sum().backward()
    assert nu.grad is not None
    torch.testing.assert_close(nu.grad, -(2.0 * x[:, 0]).sum())
    (name,) = (name for name, p in step.named_parameters() if p is nu)
    doubled = torch.func.functional_call(step, {name: torch.tensor(1.0, dtype=torch.float64)}, (x,))
    torch.testing.assert_close(doubled, x[:, 1] ** 2 - 2.0 * x[:, 0])


# --------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_numbers_among_the_parameters_are_followed(name: str) -> None:
    engine = ENGINES[name]

    def u(params: Any, p: Any) -> Any:
        return params["c"] * p[..., 0] ** params["k"] * (1.0 if params["positive"] else -1.0)

    x = engine.array(points(3, 2))
    step = LAPLACE.bind(u, x, params={"c": 1.0, "k": 2, "positive": True})
    for c, k, positive in ((2.0, 2, True), (2.0, 3, True), (3.0, 3, False)):
        found = step({"c": c, "k": k, "positive": positive}, x)
        expected = c * k * (k - 1) * points(3, 2)[:, 0] ** (k - 2) * (1 if positive else -1)
        assert_close(engine.read(found), expected, 1e-13)


@pytest.mark.parametrize("name", ["jax", "torch"])
def test_parameters_of_another_structure_are_refused(name: str) -> None:
    engine = ENGINES[name]
    x = engine.array(points(3, 2))
    step = LAPLACE.bind(lambda params, p: params["c"] * bilinear(p), x, params={"c": engine.array(1.0)})
    with pytest.raises(BindingError, match="structure"):
        step([engine.array(1.0)], x)


def test_a_traced_number_takes_the_dtype_of_the_points() -> None:
    x = jnp.asarray(points(3, 2), jnp.float32)
    step = HEAT.bind(bilinear, x, nu=0.5)
    expected = -2.0 * x[:, 0].sum()
    for evaluate in (lambda nu: step(x, nu=nu).sum(), lambda nu: HEAT(bilinear, x, nu=nu).sum()):
        assert np.allclose(jax.grad(evaluate)(0.25), expected, rtol=1e-6)
        assert jax.jit(evaluate)(0.25).dtype == jnp.float32


def test_a_jax_step_stays_with_jax() -> None:
    step = LAPLACE.bind(lambda p: jnp.sin(p[0]) * p[1], jnp.asarray(points(3, 2)))
    found = step(points(4, 2))
    assert isinstance(found, jax.Array)
    assert_close(found, -np.sin(points(4, 2)[:, 0]) * points(4, 2)[:, 1], 1e-13)


# ------------------------------------------------------------------------------------------------- copies and pickles


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["deepcopy", "pickle"])
def test_copies(engine: Engine, copied: Callable[[Any], Any]) -> None:
    """Operators, conditions and expressions that have been called, and steps of functions that can be pickled."""
    x = engine.array(points(3, 2))
    op = opdsl.operator("u_t - nu u_xx; u(t=0) = sin(x)", coords="t x", params="nu")
    step = op.bind(bilinear, x, nu=0.5)
    expected = engine.read(step(x))
    initial = engine.read(op.conditions["eq2"](bilinear, x))
    for twin in (copied(op), op):
        assert twin == op
        assert_close(engine.read(twin(bilinear, x, nu=0.5)), expected, 1e-15)
        assert_close(engine.read(twin.conditions["eq2"](bilinear, x)), initial, 1e-15)
    assert_close(engine.read(copied(step)(x)), expected, 1e-15)
    assert_close(engine.read(copied(op.conditions["eq2"])(bilinear, x)), initial, 1e-15)
    f = opdsl.expression("x + t", coords="t x")
    assert_close(engine.read(copied(f)(x)), points(3, 2).sum(axis=1), 1e-15)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["deepcopy", "pickle"])
def test_a_copied_step_has_a_network_of_its_own(copied: Callable[[Any], Any]) -> None:
    x, net = torch.tensor(points(3, 2)), Net()
    nu = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    step = HEAT.bind(net, x, nu=nu)
    expected = step(x).detach()
    twin = copied(step)
    with torch.no_grad():
        for p in step.parameters():
            p.mul_(2.0)
    torch.testing.assert_close(twin(x), expected)
    assert len(list(twin.parameters())) == len(list(step.parameters()))
    assert all(p.grad is not None for p in (twin(x).sum().backward(), list(twin.parameters()))[1] if p.shape != (1,))
    single = copied(twin).float()
    assert single(x.float()).dtype == torch.float32
    torch.testing.assert_close(single(x.float()).double(), expected, rtol=1e-4, atol=1e-5)


def test_a_step_of_a_closure_over_tensors_is_not_copied() -> None:
    net, x = Net(), torch.tensor(points(3, 2))
    step = LAPLACE.bind(lambda z: net(z) ** 2, x)
    with pytest.raises(BackendError, match=r"nn\.Module"):
        copy.deepcopy(step)


# ------------------------------------------------------------------------------------------------- inside torch.compile


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_compiled_step_follows_tensors_and_modes() -> None:
    torch._dynamo.reset()
    net, x = Net(), torch.tensor(points(3, 2))
    nu = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    step = HEAT.bind(net, x, nu=nu)
    compiled = torch.compile(step, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), step(x))
    with torch.no_grad():
        nu.mul_(3.0)
        net.inner.mul_(0.5)
    torch.testing.assert_close(compiled(x), HEAT(net, x, nu=1.5))
    net.eval()
    with pytest.raises(Exception, match="another mode"):
        compiled(x)
    step(x)
    torch.testing.assert_close(compiled(x), HEAT(net, x, nu=1.5))
    torch._dynamo.reset()
