"""Capturing touches nothing that another thread can see: switches, random numbers, classes of torch, the user's modules."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import eval_frame
from torch.autograd.function import _SingleLevelFunction
from torch.utils import _python_dispatch

import opdsl

LAPLACE = opdsl.operator("laplace(u)", coords="x y")


def laplacian(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    return sum(torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2))


def switches() -> tuple[object, ...]:
    """What torch keeps for the whole process and a recording could be tempted to change."""
    return (
        torch._C._get_mkldnn_enabled(), torch.backends.cudnn.enabled, torch.backends.mha.get_fastpath_enabled(),
        torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cuda.math_sdp_enabled(), eval_frame._stance,
        torch.get_default_dtype(), _python_dispatch._is_in_torch_dispatch_mode,
        _python_dispatch._is_in_non_infra_torch_dispatch_mode,
    )  # fmt: skip


class Cube(torch.autograd.Function):
    """x³ with a derivative of its own."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


class Bystander(threading.Thread):
    """Differentiates custom functions, draws random numbers, and looks at the switches, all the while."""

    def __init__(self) -> None:
        super().__init__()
        self.done, self.rounds, self.harm = threading.Event(), 0, []
        self.before = switches()

    def run(self) -> None:
        expected = torch.Generator().manual_seed(11)
        torch.manual_seed(11)
        x = torch.linspace(0, 1, 5, requires_grad=True)
        while len(self.harm) < 100 and (not self.done.is_set() or self.rounds < 10):
            self.rounds += 1
            y = Cube.apply(x)
            if not y.requires_grad:
                self.harm.append("a custom function lost its gradient")
            elif not torch.allclose(torch.autograd.grad(y.sum(), x)[0], 3 * x * x):
                self.harm.append("a custom function has another gradient")
            if switches() != self.before:
                self.harm.append(f"switched: {switches()}")
            if not torch.equal(torch.rand(3), torch.rand(3, generator=expected)):
                self.harm.append("random numbers were wound back, or taken away")
                expected.set_state(torch.get_rng_state())


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v


def network(k: int, i: int, own: torch.Generator, attention: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    """Call i of thread k: another width, power or kind of layer each time."""
    weight = torch.randn(2, 2 + (i + k) % 9, dtype=torch.float64, generator=own)

    def net(p: Tensor) -> Tensor:
        h = torch.tanh(p @ weight)
        kind = (3 * k + i) % 4
        if kind == 1:
            h = Cube.apply(h)
        if kind == 2:
            h = h + 0 * torch.rand(h.shape, dtype=h.dtype, generator=own)
        if kind == 3:
            h = attention(h[:, :, None], h[:, :, None], h[:, :, None])[..., 0]
        return torch.sin((1 + i) * h).sum(1)

    return net


def work(k: int, calls: int, failures: list[str]) -> None:
    for i in range(calls):
        own = torch.Generator().manual_seed(100 * k + i)
        net = network(k, i, own, torch.nn.functional.scaled_dot_product_attention)
        x = torch.rand(2 + k, 2, dtype=torch.float64, generator=own)
        found = LAPLACE(net, x)
        expected = laplacian(network(k, i, torch.Generator().manual_seed(100 * k + i), softmax_attention), x)
        if not torch.allclose(found, expected, rtol=1e-9, atol=1e-9):
            failures.append(f"thread {k}, call {i}: {found} instead of {expected}")


@pytest.mark.parametrize("calls", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_eight_threads_capture_beside_a_bystander(calls):
    torch.compiler.reset()  # imports what it needs before the bystander looks
    before, bystander, failures = switches(), Bystander(), []
    threads = [threading.Thread(target=work, args=(k, calls, failures)) for k in range(8)]
    bystander.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    bystander.done.set()
    bystander.join()
    assert not failures
    assert not bystander.harm, f"{len(bystander.harm)} of {bystander.rounds} rounds: {sorted(set(bystander.harm))[:3]}"
    assert switches() == before
    assert "apply" not in vars(_SingleLevelFunction)


def test_a_generator_of_the_users_is_left_where_it_was():
    own = torch.Generator().manual_seed(3)
    x = torch.rand(4, 2, dtype=torch.float64)

    def noisy(p: Tensor) -> Tensor:
        return (p**2).sum(1) * (1 + torch.rand(len(p), dtype=p.dtype, generator=own))

    op = opdsl.operator("u; laplace(u)", coords="x y")
    value, second = op(noisy, x)
    expected = 1 + torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(value, (x**2).sum(1) * expected)
    torch.testing.assert_close(second, 4 * expected)


def test_a_compiled_network_is_captured_and_stays_compiled():
    compiled = []

    def backend(module, inputs):
        compiled.append(module)
        return module.forward

    torch.compiler.reset()
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    net, x = torch.compile(plain, backend=backend, fullgraph=True), torch.rand(5, 2, dtype=torch.float64)
    torch.testing.assert_close(LAPLACE(net, x), laplacian(plain, x))
    assert not compiled
    net(x)
    assert len(compiled) == 1
    torch.testing.assert_close(LAPLACE(net, x), laplacian(plain, x))
    torch.testing.assert_close(LAPLACE(lambda p: net(p) ** 2, x), laplacian(lambda p: plain(p) ** 2, x))
    net(x)
    assert len(compiled) == 1
    torch.compiler.reset()
