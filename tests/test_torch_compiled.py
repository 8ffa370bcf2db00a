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
