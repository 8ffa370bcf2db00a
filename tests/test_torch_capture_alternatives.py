"""Why functions are not captured by `make_fx` with symbolic sizes, nor by `torch.export`: what each gives, and what opdsl gives.

Both make a graph for every number of points, which opdsl learns from two recordings. But ``make_fx`` drops the derivative of a
custom ``autograd.Function`` and what ``no_grad`` means, bakes sizes that Python reads into the graph without a word, and takes no
tensors that a function closes over; ``torch.export`` drops custom derivatives too, and refuses functions whose sizes it cannot
prove free. Torch's own elimination of common subexpressions takes 1 and 1.0 for equal.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.fx import Graph, GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.passes.dialect.common.cse_pass import CSEPass, get_CSE_banned_ops

import opdsl
from opdsl.backends.torch.simplify import simplify

LAPLACE = opdsl.operator("laplace(u)", coords="x y")
aten = torch.ops.aten


def points(n: int = 5) -> Tensor:
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def laplacian(function, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    rows = (torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2))
    return sum(rows, torch.zeros(len(x), dtype=x.dtype)).detach()


class Exported(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def exported(function) -> nn.Module:
    return export(Exported(function), (points(),), dynamic_shapes=({0: Dim("n")},)).module()


class Rounded(torch.autograd.Function):
    """Rounds, with the derivative of the identity."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


def with_its_own_derivative(x: Tensor) -> Tensor:
    return (Rounded.apply(x * x) * x).sum(1)


def under_no_grad(x: Tensor) -> Tensor:
    with torch.no_grad():
        still = x**3
    return (x * still).sum(1)


def point_by_point(x: Tensor) -> Tensor:
    return torch.stack([torch.sin(x[i]) for i in range(len(x))]).sum(1)


def into_a_view(x: Tensor) -> Tensor:
    out = x.new_zeros(len(x), 3)
    out[:, 1:] = torch.sin(x)
    return out.sum(1)


@pytest.mark.parametrize("alternative", [lambda f: make_fx(f, tracing_mode="symbolic")(points()), exported], ids=["make_fx", "export"])
def test_custom_derivatives_are_dropped(alternative):
    graph = alternative(with_its_own_derivative)
    expected = laplacian(with_its_own_derivative, points())
    assert not torch.allclose(laplacian(graph, points()), expected)
    torch.testing.assert_close(LAPLACE(with_its_own_derivative, points()), expected)


def test_make_fx_forgets_no_grad():
    graph = make_fx(under_no_grad, tracing_mode="symbolic")(points())
    expected = torch.zeros(5, dtype=torch.float64)
    assert float(laplacian(graph, points()).min()) > 0.0
    torch.testing.assert_close(LAPLACE(under_no_grad, points()), expected)


@pytest.mark.parametrize("function", [point_by_point, into_a_view])
def test_sizes_that_python_reads(function):
    graph = make_fx(function, tracing_mode="symbolic")(points())
    if function is point_by_point:
        assert graph(points(7)).shape == (5,)  # without a word
    else:
        with pytest.raises(RuntimeError, match="must match"):
            graph(points(7))
    with pytest.raises(Exception, match="specialized it to be a constant"):
        exported(function)
    for n in (5, 7):
        torch.testing.assert_close(LAPLACE(function, points(n)), laplacian(function, points(n)))


def test_make_fx_takes_no_tensors_that_are_closed_over():
    weight = torch.rand(2, 1, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor) -> Tensor:
        return torch.sin(x @ weight)[:, 0]

    with pytest.raises(AssertionError, match="FakeTensor"):
        make_fx(function, tracing_mode="symbolic")(points())
    torch.testing.assert_close(LAPLACE(function, points()).detach(), laplacian(function, points()))


# ------------------------------------------------------------------------------------------------- common subexpressions


def twice(op, *others) -> Graph:
    graph = Graph()
    x = graph.placeholder("x")
    nodes = [graph.call_function(op, (x, *other)) for other in (others or ((), ()))]
    graph.output(tuple(nodes))
    for node in (x, *nodes):
        node.meta["val"] = torch.empty(3, dtype=torch.int64, device="meta")
    return graph


def by_torch(graph: Graph) -> GraphModule:
    return CSEPass(get_CSE_banned_ops())(GraphModule(nn.Module(), graph)).graph_module


def by_opdsl(graph: Graph) -> GraphModule:
    simplify(graph)
    return GraphModule(nn.Module(), graph)


def test_common_subexpressions_are_told_apart_by_the_kinds_of_their_numbers():
    x = torch.ones(3, dtype=torch.int64)
    assert [v.dtype for v in by_torch(twice(aten.add.Scalar, (1,), (1.0,)))(x)] == [torch.int64, torch.int64]
    assert [v.dtype for v in by_opdsl(twice(aten.add.Scalar, (1,), (1.0,)))(x)] == [torch.int64, torch.float32]


def test_random_operators_are_never_shared():
    first, second = by_torch(twice(aten.randn_like.default))(torch.ones(3))
    assert torch.equal(first, second)
    first, second = by_opdsl(twice(aten.randn_like.default))(torch.ones(3))
    assert not torch.equal(first, second)
