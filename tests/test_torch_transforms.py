"""Operators compose with everything torch users do: autograd, torch.func, modules, optimisers, torch.compile, export."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, stack_module_state, vmap

import opdsl
from opdsl.errors import BindingError

OP = opdsl.operator("u_t + u u_x = nu u_xx", coords="t x", params="nu")


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def points(n: int = 7) -> Tensor:
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def reference(u, x: Tensor, nu=0.1) -> Tensor:
    """The residual by nested autograd."""
    x = x if x.requires_grad else x.clone().requires_grad_(True)
    value = u(x)[:, 0]
    (g,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g[:, 1].sum(), x, create_graph=True)
    return g[:, 0] + value * g[:, 1] - nu * h[:, 1]


def parameters_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in net.named_parameters()}


def in_terms_of(net: nn.Module, params: dict[str, Tensor]):
    return lambda p: functional_call(net, params, (p,))


def same(found, expected, tolerance: float = 1e-11) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def gradients(loss: Tensor, net: nn.Module) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    return {name: g for (name, _), g in zip(net.named_parameters(), found, strict=True)}


STRATEGIES = ["auto", "nested_ad", "forward_laplacian", "collapsed_taylor"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_parameter_gradients_by_autograd(strategy):
    net, x = mlp(), points()
    residual = OP(net, x, nu=0.1, strategy=strategy)
    same(residual, reference(net, x))
    same(gradients((residual**2).sum(), net), gradients((reference(net, x) ** 2).sum(), net))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_gradients_in_points_and_in_the_equation_parameter(strategy):
    net, x = mlp(), points().requires_grad_(True)
    nu = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    found = torch.autograd.grad(OP(net, x, nu=nu, strategy=strategy) @ weights, (x, nu))
    same(found, torch.autograd.grad(reference(net, x, nu) @ weights, (x, nu)))


def test_gradcheck_with_tight_tolerances():
    x, w = points(3), torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: OP(lambda p: torch.tanh(p @ v).sum(1), x, nu=0.1), (w,), rtol=1e-6, atol=1e-9)
    assert torch.autograd.gradcheck(lambda p: OP(mlp(), p, nu=0.1), (points(3).requires_grad_(True),), rtol=1e-6, atol=1e-9)
    # The step of the finite differences is below float64's cube root: second order needs the loose default.
    assert torch.autograd.gradgradcheck(lambda v: OP(lambda p: torch.tanh(p @ v).sum(1), x, nu=0.1), (w,))


def test_func_grad_through_a_closure():
    net, x = mlp(), points()
    found = grad(lambda params: (OP(in_terms_of(net, params), x, nu=0.1) ** 2).sum())(parameters_of(net))
    same(found, gradients((reference(net, x) ** 2).sum(), net))


def test_vmap_over_an_ensemble():
    nets, x = [mlp(seed) for seed in range(3)], points()
    params, _ = stack_module_state(nets)
    base = copy.deepcopy(nets[0]).to("meta")
    found = vmap(lambda p: OP(in_terms_of(base, p), x, nu=0.1))(params)
    same(found, torch.stack([reference(net, x) for net in nets]))
    slopes = vmap(grad(lambda p: (OP(in_terms_of(base, p), x, nu=0.1) ** 2).sum()))({k: v.detach() for k, v in params.items()})
    for k, net in enumerate(nets):
        same({name: g[k] for name, g in slopes.items()}, gradients((reference(net, x) ** 2).sum(), net))


def test_vmap_over_points():
    net, x = mlp(), points()
    found = vmap(lambda p: OP(net, p, nu=0.1))(torch.stack([x, 2 * x]))
    same(found, torch.stack([reference(net, x), reference(net, 2 * x)]))


def test_jacrev():
    net, x = mlp(), points()
    found = jacrev(lambda params: OP(in_terms_of(net, params), x, nu=0.1))(parameters_of(net))
    rows = [gradients(reference(net, x)[i], net) for i in range(len(x))]
    same(found, {name: torch.stack([row[name] for row in rows]) for name in found})


def test_params_argument():
    net, x = mlp(), points()
    params = dict(net.named_parameters())

    def u(p, z):
        return functional_call(net, p, (z,))

    residual = OP(u, x, nu=0.1, params=params)
    same(residual, reference(net, x))
    same(gradients((residual**2).sum(), net), gradients((reference(net, x) ** 2).sum(), net))
    found = grad(lambda p: (OP(u, x, nu=0.1, params=p) ** 2).sum())(parameters_of(net))
    same(found, gradients((reference(net, x) ** 2).sum(), net))


def test_without_gradients():
    net, x = mlp(), points()
    with torch.no_grad():
        quiet = OP(net, x, nu=0.1)
    with torch.inference_mode():
        frozen = OP(net, x, nu=0.1)
    assert not quiet.requires_grad
    assert not frozen.requires_grad
    # What was prepared under inference mode must serve training afterwards.
    same(gradients((OP(net, x, nu=0.1) ** 2).sum(), net), gradients((reference(net, x) ** 2).sum(), net))
    same(quiet, reference(net, x).detach())


def test_single_and_half_precision_give_single_precision():
    for dtype in (torch.float32, torch.bfloat16):
        net, x = mlp().to(dtype), points().to(dtype)
        found = OP(net, x, nu=0.1)
        assert found.dtype == torch.float32
        same(found.double(), reference(mlp().to(dtype).double(), x.double()), 1e-5)


# ---------------------------------------------------------------------------------------------------------- bound steps


def test_a_step_owns_its_network():
    net, x = mlp(), points()
    step = OP.bind(net, x, nu=0.1)
    assert isinstance(step, nn.Module)
    assert {id(p) for p in step.parameters()} == {id(p) for p in net.parameters()}
    same(step(x), reference(net, x))
    changed = {name: p.detach() * 1.1 for name, p in step.named_parameters()}
    other = copy.deepcopy(net)
    with torch.no_grad():
        for p in other.parameters():
            p *= 1.1
    same(functional_call(step, changed, (x,)), reference(other, x))
    step.load_state_dict({name: p * 1.1 for name, p in step.state_dict().items()})
    same(step(x), reference(other, x))


def test_a_step_follows_its_network():
    net, x = mlp(), points()
    step = OP.bind(net, x, nu=0.1)
    net[0].weight = nn.Parameter(net[0].weight.detach() * 2)
    same(step(x), reference(net, x))
    step.float()
    assert step(x.float()).dtype == torch.float32


def test_a_step_takes_other_numbers_of_points_and_other_parameters():
    net, x = mlp(), points()
    step = OP.bind(net, x, nu=0.1)
    for n in (3, 12, 3):
        same(step(points(n)), reference(net, points(n)))
    nu = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    same(step(x, nu=nu), reference(net, x, 0.3))
    (found,) = torch.autograd.grad(step(x, nu=nu).sum(), nu)
    same(found, torch.autograd.grad(reference(net, x, nu).sum(), nu)[0])


def test_a_step_with_parameters():
    net, x = mlp(), points()
    params = dict(net.named_parameters())
    step = OP.bind(lambda p, z: functional_call(net, p, (z,)), x, nu=0.1, params=params)
    same(step(params, x), reference(net, x))
    found = grad(lambda p: (step(p, x) ** 2).sum())(parameters_of(net))
    same(found, gradients((reference(net, x) ** 2).sum(), net))
    with pytest.raises(BindingError, match="structure"):
        step({"weight": params["0.weight"]}, x)


def test_a_step_trains():
    net, x = mlp(), points(32)
    step = OP.bind(net, x, nu=0.1)
    optimiser = torch.optim.Adam(step.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = (step(x) ** 2).mean() + ((net(x) - 1) ** 2).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    same(step(x), reference(net, x))


# ------------------------------------------------------------------------------------------------ compilation and export


@pytest.fixture
def _fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_step_compiles_as_one_graph():
    net, x = mlp(), points()
    step = OP.bind(net, x, nu=0.1)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    same(compiled(x), reference(net, x))
    same(gradients((compiled(x) ** 2).sum(), net), gradients((reference(net, x) ** 2).sum(), net))
    same(compiled(points(4)), reference(net, points(4)))
    with pytest.raises(Exception, match="Call the step once with such points"):
        compiled(points(4)[0])
    step(points(4)[0])
    same(compiled(points(4)[0]), reference(net, points(4))[0])


@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_an_operator_inside_a_compiled_function():
    net, x = mlp(), points()

    @torch.compile(backend="eager")
    def loss(p: Tensor) -> Tensor:
        return (OP(net, p, nu=0.1) ** 2).sum()

    same(loss(x), (reference(net, x) ** 2).sum())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_step_exports():
    net, x = mlp(), points()
    exported = torch.export.export(OP.bind(net, x, nu=0.1), (x,))
    same(exported.module()(x), reference(net, x))


@pytest.mark.slow
@pytest.mark.usefixtures("_fresh_dynamo")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_step_compiles_with_inductor():
    net, x = mlp().float(), points().float()
    step = OP.bind(net, x, nu=0.1)
    compiled = torch.compile(step, fullgraph=True)
    same(compiled(x), step(x), 1e-5)
    same(gradients((compiled(x) ** 2).sum(), net), gradients((step(x) ** 2).sum(), net), 1e-4)
