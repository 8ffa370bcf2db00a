"""Operators and steps under `torch.compile`: how many graphs are made, and that the numbers are those of autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import opdsl

BURGERS = opdsl.operator("u_t + u u_x = nu u_xx; left: u(x=0) = 0", coords="t x", params="nu")

pytestmark = [
    pytest.mark.usefixtures("_fresh_dynamo"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning"),
]


@pytest.fixture
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend of `torch.compile` that runs what it is given and counts the graphs."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward  # type: ignore[no-any-return]


def mlp(columns: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(columns, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def points(n: int, columns: int = 2) -> Tensor:
    return torch.rand(n, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def reference(u: Callable[[Tensor], Tensor], x: Tensor, nu: float = 0.1) -> Tensor:
    """The residual by nested autograd."""
    x = x.clone().requires_grad_(True)
    value = u(x).reshape(len(x))
    (g,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g[:, 1].sum(), x, create_graph=True)
    return g[:, 0] + value * g[:, 1] - nu * h[:, 1]


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


# ------------------------------------------------------------------------------------------------ around an operator


def left(u: nn.Module, x: Tensor) -> Tensor:
    return u(torch.stack([x[:, 0], torch.zeros_like(x[:, 1])], dim=1))[:, 0]


CALLS: dict[str, tuple[Callable[[nn.Module, Tensor], Tensor], Callable[[nn.Module, Tensor], Tensor]]] = {
    "call": (lambda u, x: BURGERS(u, x, nu=0.1), reference),
    "condition": (lambda u, x: BURGERS.conditions["left"](u, x), left),
    "bind and call": (lambda u, x: BURGERS.bind(u, x, nu=0.1)(x), reference),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_function_around_an_operator_breaks_there_and_nowhere_inside(name: str) -> None:
    net, x, counting = mlp(), points(5), Counting()
    call, expected = CALLS[name]
    compiled = torch.compile(lambda p: (call(net, 1.0 * p) ** 2).sum() + 1.0, backend=counting)
    found = compiled(x)
    same(found, (expected(net, x) ** 2).sum() + 1.0)
    weights = list(net.parameters())[:-1]
    for a, b in zip(
        torch.autograd.grad(found, weights), torch.autograd.grad((expected(net, x) ** 2).sum(), weights), strict=True
    ):
        same(a, b)
    assert counting.graphs <= 3, "before the call, after it, and a bound step by itself: nothing of the planner"


@pytest.mark.parametrize("name", CALLS)
def test_as_one_graph_it_is_refused_in_our_words(name: str) -> None:
    net, x, counting = mlp(), points(5), Counting()
    compiled = torch.compile(lambda p: CALLS[name][0](net, p), backend=counting, fullgraph=True)
    with pytest.raises(Exception, match=r"step = op\.bind\(net, x, …\)"):
        compiled(x)
    assert not counting.graphs


def test_a_step_that_draws_is_evaluated_outside() -> None:
    op, counting = opdsl.operator("laplace(u)", coords="x[20]"), Counting()
    net, x = mlp(20), points(5, 20)
    step = op.bind(net, x, strategy=opdsl.STDE(samples=4, key=0))
    compiled = torch.compile(lambda p: 2.0 * step(p, key=3), backend=counting)
    same(compiled(x), 2.0 * op(net, x, strategy=opdsl.STDE(samples=4, key=3)))
    assert counting.graphs <= 2
    torch._dynamo.reset()
    with pytest.raises(Exception, match="a step with a key"):
        torch.compile(step, fullgraph=True)(x, key=3)


def test_a_step_that_draws_from_a_generator_draws_anew_at_every_call() -> None:
    """Without a key it went on with the directions of its last call outside."""
    op, net, x = opdsl.operator("laplace(u)", coords="x[20]"), mlp(20), points(5, 20)
    step, plain = (
        op.bind(net, x, strategy=opdsl.STDE(samples=4, key=torch.Generator().manual_seed(1))) for _ in range(2)
    )  # fmt: skip
    compiled = torch.compile(step, backend="eager")
    first, second = compiled(x), compiled(x)
    assert not torch.equal(first, second)
    for found in (first, second):
        same(found, plain(x))
    torch._dynamo.reset()
    with pytest.raises(Exception, match="draws random numbers"):
        torch.compile(step, fullgraph=True, backend="eager")(x)


# ------------------------------------------------------------------------------------------------ a step, at any size

SIZES = (3, 4, 7, 1, 12)


class Reshaping(nn.Module):
    """Convolutions, normalisation and attention weights over places of one row, nothing that asks how many rows there are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.lift = nn.Linear(2, 12).double()
        self.mix = nn.Conv1d(3, 2, 3, padding=1).double()
        self.norm = nn.LayerNorm(8).double()
        self.last = nn.Linear(8, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.sin(self.lift(x)).unflatten(1, (3, 4))
        h = self.norm(self.mix(h).flatten(1))
        return self.last(h * torch.softmax(h, -1) + torch.ones_like(h) * x[:, :1])


def _network() -> Callable[[Tensor], Tensor]:
    return mlp()


def _plain() -> Callable[[Tensor], Tensor]:
    return lambda x: torch.sin(x[:, 0] * 1.3) * torch.exp(x[:, 1]) + torch.where(x[:, 0] > 0.5, x[:, 1] ** 3, x[:, 0] * x[:, 1])


def _gated() -> Callable[[Tensor], Tensor]:
    net = mlp()
    return lambda x: x[:, 1:] * torch.cat([net(x), x], dim=1).prod(1, keepdim=True) + x.sum(1, keepdim=True) ** 2


@pytest.mark.family(keep=3)
@pytest.mark.parametrize(("make", "first"), [(_network, 3), (_network, 1), (Reshaping, 3), (_plain, 2), (_gated, 3)])
def test_one_graph_serves_all_sizes(make: Callable[[], Any], first: int) -> None:
    net, counting = make(), Counting()
    step = BURGERS.bind(net, points(first), nu=0.1)
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=counting)
    for n in (3, 4, 7, 12):
        same(compiled(points(n)), reference(net, points(n)))
    assert counting.graphs == 1
    same(compiled(points(1)), reference(net, points(1)))
    assert counting.graphs == 2, "torch makes a graph of its own for a length of 1"


def test_without_dynamic_torch_finds_out_at_the_second_size() -> None:
    net, counting = mlp(), Counting()
    compiled = torch.compile(BURGERS.bind(net, points(3), nu=0.1), fullgraph=True, backend=counting)
    for n in (3, 4, 7, 12, 20):
        same(compiled(points(n)), reference(net, points(n)))
    assert counting.graphs == 2


def test_gradients_of_a_step_of_any_size() -> None:
    net, x = mlp(), points(9)
    compiled = torch.compile(BURGERS.bind(net, points(3), nu=0.1), fullgraph=True, dynamic=True, backend="aot_eager")
    weights = list(net.parameters())[:-1]
    for a, b in zip(
        torch.autograd.grad((compiled(x) ** 2).sum(), weights), torch.autograd.grad((reference(net, x) ** 2).sum(), weights), strict=True
    ):
        same(a, b)


def _branches(x: Tensor) -> Tensor:
    return torch.sin(x[:, 0]) * x[:, 1] if len(x) > 8 else torch.cos(x[:, 0]) * x[:, 1]


def _by_shape(x: Tensor) -> Tensor:
    return x[:, 0] ** 2 * x[:, 1] * (2.0 if x.shape[0] > 8 else 3.0)


def _number(x: Tensor) -> Tensor:
    return x[:, 0] * x[:, 1] ** 2 * len(x)


def _mean(x: Tensor) -> Tensor:
    return x[:, 0] * x[:, 1] ** 2 / x.numel()


def _in_pieces(x: Tensor) -> Tensor:
    return torch.cat([torch.sin(piece[:, 0]) * piece[:, 1] for piece in x.split(5)])


def _in_halves(x: Tensor) -> Tensor:
    return torch.cat([torch.sin(x[:8, 0]) * x[:8, 1], torch.cos(x[8:, 0]) * x[8:, 1]])


def _whole_size(x: Tensor) -> Tensor:
    scale = torch.full((x.size(0),), 1.0 / x.size(0), dtype=x.dtype)
    return scale * x[:, 1] ** 2 * x[:, 0]


def _scripted() -> Callable[[Tensor], Tensor]:
    """The branch is decided inside of scripted code, where nobody sees that the size is asked for."""
    scripted = torch.jit.script(_branches)
    return lambda x: 2.0 * scripted(x)


@pytest.mark.parametrize("net", [_branches, _by_shape, _number, _mean, _in_pieces, _in_halves, _whole_size, _scripted])
def test_functions_of_the_number_of_points_get_a_graph_for_each(net: Any) -> None:
    net = net() if net is _scripted else net
    step = BURGERS.bind(net, points(3), nu=0.1)
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="eager")
    for n in (3, 4, 12):
        same(compiled(points(n)), reference(net, points(n)))


def test_a_value_for_each_point_stays_with_its_points() -> None:
    net = mlp()
    step = BURGERS.bind(net, points(3), nu=torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="eager")
    same(compiled(points(3)), reference(net, points(3), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)))
    with pytest.raises(Exception, match="opdsl"):
        compiled(points(4))


def test_a_coefficient_function_follows_the_points() -> None:
    net, counting = mlp(), Counting()
    step = BURGERS.bind(net, points(3), nu=lambda x: 0.1 + x[:, 0] ** 2)
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=counting)
    for n in (3, 4, 7):
        same(compiled(points(n)), reference(net, points(n), 0.1 + points(n)[:, 0] ** 2))
    assert counting.graphs <= 2, "torch takes a length of 3 that something else has too for a coincidence at first"


def test_what_changes_outside_is_followed_at_every_size() -> None:
    net = Reshaping()
    step = BURGERS.bind(net, points(3), nu=0.1)
    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="eager")
    for n in SIZES:
        same(compiled(points(n)), reference(net, points(n)))
    net.norm.eps = 0.5
    step(points(5))
    for n in SIZES:
        same(compiled(points(n)), reference(net, points(n)))
    with torch.no_grad():
        net.lift.weight.mul_(1.5)
    for n in SIZES:
        same(compiled(points(n)), reference(net, points(n)))
