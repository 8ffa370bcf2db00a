"""Modules that torch has compiled, scripted, traced, exported or wrapped: captured as they are now, or refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import opdsl
from opdsl.errors import CaptureError

# torch.jit is on its way out, and still in use.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
LAPLACE = opdsl.operator("laplace(u)", coords="x y")


def points(n: int = 5) -> Tensor:
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def laplacian(function, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    return sum(torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2)).detach()


class Net(nn.Module):
    """Has a mode and an attribute."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.scale = nn.Linear(2, 4), nn.Linear(4, 1), 1.0
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.last(torch.tanh(self.first(x))) * self.scale
        return h * 2.0 if self.training else h


class Counting(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1.0
        return self.last(torch.tanh(self.first(x)))


def exported(net: nn.Module, sizes: object = None) -> nn.Module:
    return torch.export.export(net.eval(), (points(),), dynamic_shapes=sizes).module()


WRAPPED = {
    "scripted": torch.jit.script,
    "traced": lambda net: torch.jit.trace(net, points()),
    "frozen": lambda net: torch.jit.freeze(torch.jit.script(net.eval())),
    "compiled": lambda net: torch.compile(net, backend="eager", fullgraph=True),
    "exported": lambda net: exported(net, ({0: torch.export.Dim("n")},)),
    "exported for five points": exported,
    "in parallel": nn.DataParallel,
    "symbolically traced": lambda net: torch.fx.symbolic_trace(net.eval()),
    "scripted inside": lambda net: nn.Sequential(torch.jit.script(net), nn.Tanh()),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_modules(kind):
    net = WRAPPED[kind](Net())
    torch.testing.assert_close(LAPLACE(net, points()), laplacian(net, points()))
    torch.testing.assert_close(LAPLACE(lambda p: net(p) ** 2, points()), laplacian(lambda p: net(p) ** 2, points()))
    if kind == "exported for five points":
        with pytest.raises(CaptureError, match=r"x\.size\(\)\[0\] == 5"):
            LAPLACE(net, points(7))
        return
    torch.testing.assert_close(LAPLACE(net, points(7)), laplacian(net, points(7)))


def change_attribute(net):
    net.scale = 3.0


def change_mode(net):
    net.eval()


def change_weight(net):
    with torch.no_grad():
        net.first.weight.mul_(2)


@pytest.mark.parametrize("change", [change_attribute, change_mode, change_weight])
@pytest.mark.parametrize("kind", ["scripted", "compiled", "in a function", "in a compiled function"])
def test_changes_of_wrapped_modules_are_followed(kind, change):
    net = Net() if kind == "in a compiled function" else WRAPPED["compiled" if kind == "compiled" else "scripted"](Net())
    function = net
    if kind.startswith("in a"):
        function = lambda p: net(p) ** 2  # noqa: E731
    if kind == "in a compiled function":
        function = torch.compile(function, backend="eager")
    before = LAPLACE(function, points())
    change(net)
    after = LAPLACE(function, points())
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, laplacian(function, points()))


@pytest.mark.filterwarnings("ignore:the function writes into tensors")
def test_a_scripted_module_keeps_its_buffers():
    net = torch.jit.script(Counting())
    torch.testing.assert_close(LAPLACE(net, points()), laplacian(copy.deepcopy(net), points()))
    assert float(net.calls) == 0.0


def test_marks_for_profilers_are_passed_over():
    net = Net()

    def function(x: Tensor) -> Tensor:
        with torch.autograd.profiler.record_function("forward"):
            return net(x)

    torch.testing.assert_close(LAPLACE(function, points()), laplacian(function, points()))
