"""A bound step on torch at any number of points: decided twice, then followed; and what a first call has to import."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from references import points
from torch import Tensor, nn

import opdsl
from opdsl.backends.torch.backend import TorchBackend

HEAT = "u_t - nu u_xx + u u_x"


def residual(u: Callable[[Tensor], Tensor], x: Tensor, nu: float | Tensor) -> Tensor:
    """By sweeps of autograd."""
    x = x.detach().clone().requires_grad_(True)
    value = u(x).reshape(len(x))
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope[:, 1].sum(), x, create_graph=True)
    return slope[:, 0] - nu * second[:, 1] + value * slope[:, 1]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often functions are recorded and programs are made."""
    counts = {"capture": 0, "compile": 0}
    from opdsl.backends.torch import cache

    recorded, compiled = cache.capture, TorchBackend.compile

    def capture(*args: Any) -> Any:
        counts["capture"] += 1
        return recorded(*args)

    def compile(*args: Any) -> Any:
        counts["compile"] += 1
        return compiled(*args)

    monkeypatch.setattr(cache, "capture", capture)
    monkeypatch.setattr(TorchBackend, "compile", compile)
    return counts


SIZES = (6, 4, 9, 6, 31, 2, 4, 9)


def test_a_third_number_of_points_decides_nothing(made: dict[str, int]) -> None:
    u = network()
    step = opdsl.operator(HEAT, coords="t x").bind(u, torch.tensor(points(6, 2)), nu=0.3)
    for number, n in enumerate(SIZES):
        x = torch.tensor(points(n, 2))
        torch.testing.assert_close(step(x), residual(u, x, 0.3), rtol=1e-12, atol=1e-12)
        assert made == dict.fromkeys(made, min(number, 1) + 1)


def test_gradients_at_any_number_of_points() -> None:
    u, nu = network(), nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    step = opdsl.operator(HEAT, coords="t x", params="?nu").bind(u, torch.tensor(points(6, 2)), nu=nu)
    for n in SIZES:
        x = torch.tensor(points(n, 2))
        found = torch.autograd.grad((step(x) ** 2).sum(), [*u.parameters(), nu])
        expected = torch.autograd.grad((residual(u, x, nu) ** 2).sum(), [*u.parameters(), nu], allow_unused=True)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_a_bound_tensor_of_another_shape_is_refused_as_by_a_call() -> None:
    u, nu = network(), nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    step = opdsl.operator(HEAT, coords="t x", params="?nu").bind(u, torch.tensor(points(6, 2)), nu=nu)
    for n in (6, 4, 9):
        step(torch.tensor(points(n, 2)))
    nu.data = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(opdsl.errors.ShapeError, match="nu has shape"):
        step(torch.tensor(points(9, 2)))


def test_changes_are_followed_at_any_number_of_points() -> None:
    u = network()
    step = opdsl.operator(HEAT, coords="t x").bind(u, torch.tensor(points(6, 2)), nu=0.3)
    changes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: u[0].weight.data.mul_(1.5),
        lambda: setattr(u[0], "weight", nn.Parameter(u[0].weight.detach() * 0.7)),
        lambda: u[1].register_forward_hook(lambda module, inputs, output: output * 1.2),
        lambda: u[0].weight.requires_grad_(False),
        lambda: setattr(u[0], "forward", lambda x: x @ u[0].weight.t()),
        lambda: u.insert(2, nn.Sigmoid()),
    ]
    for change in changes:
        change()
        for n in (6, 4, 9, 31, 6):
            x = torch.tensor(points(n, 2))
            torch.testing.assert_close(step(x), residual(u, x, 0.3), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["asks for the number", "holds a value for each point", "numbers of its own", "one row"])
def test_functions_of_the_number_of_points_are_followed(name: str) -> None:
    inner, rows = network(), {n: torch.tensor(points(n, 1, seed=n)) for n in (*SIZES, 1)}
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "asks for the number": lambda x: inner(x) / len(x),
        "holds a value for each point": lambda x: inner(x) * rows[x.shape[0]],
        "numbers of its own": lambda x: inner(x) * torch.linspace(1, 2, 2, dtype=x.dtype)[1],
        "one row": lambda x: inner(x),
    }
    u = functions[name]
    step = opdsl.operator(HEAT, coords="t x").bind(u, torch.tensor(points(6, 2)), nu=0.3)
    for n in (*SIZES, 1, 6, 1) if name == "one row" else SIZES:
        x = torch.tensor(points(n, 2))
        torch.testing.assert_close(step(x), residual(u, x, 0.3), rtol=1e-12, atol=1e-12)


def test_given_again_in_another_precision_and_by_other_names() -> None:
    u = network()
    step = opdsl.operator(HEAT, coords="t x").bind(u, torch.tensor(points(6, 2)), nu=0.3)
    for n in (6, 4, 9):
        x = torch.tensor(points(n, 2))
        torch.testing.assert_close(step(x, nu=0.7), residual(u, x, 0.7), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(step(x), residual(u, x, 0.3), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(step(x, nu=torch.linspace(0, 1, n).double()), residual(u, x, torch.linspace(0, 1, n).double()))
    u.float()
    for n in (4, 9, 6):
        x = torch.tensor(points(n, 2)).float()
        torch.testing.assert_close(step(x), residual(u, x, 0.3), rtol=1e-4, atol=1e-5)
    with pytest.raises(opdsl.OpdslError):
        step(torch.tensor(points(9, 2)))


def test_points_that_are_differentiated() -> None:
    u = network()
    step = opdsl.operator("laplace(u)", coords="t x").bind(u, torch.tensor(points(6, 2)))
    for n in (6, 4, 9, 6, 9):
        for differentiated in (False, True):
            x = torch.tensor(points(n, 2)).requires_grad_(differentiated)
            found = step(x)
            if differentiated:
                (slope,) = torch.autograd.grad(found.sum(), x)
                shifted = x.detach() + torch.tensor([0.0, 1e-6])
                torch.testing.assert_close(slope[:, 1], (step(shifted) - found.detach()) / 1e-6, rtol=1e-4, atol=1e-4)


def test_pinned_strategies_are_followed() -> None:
    u, op = network(), opdsl.operator("laplace(u)", coords="t x")
    step = op.bind(u, torch.tensor(points(6, 2)))
    at = [torch.tensor(points(n, 2)) for n in (6, 4, 9)]
    before = [step(x) for x in at]
    for x in at:
        decided = step._bound.run(x, {})
        assert decided.prepared.plan.fields["u"].strategy != "nested_ad"
        op._session.pin(op._session.call(u, x, decided.call.options, {}).kind, ("nested_ad",))
    for x, value in zip(at, before, strict=True):
        assert step._bound.run(x, {}).prepared.plan.fields["u"].strategy == "nested_ad"
        torch.testing.assert_close(step(x), value, rtol=1e-12, atol=1e-12)


def test_a_single_row_has_a_program_of_its_own() -> None:
    u = network()
    step = opdsl.operator(HEAT, coords="t x").bind(u, torch.tensor(points(1, 2)), nu=0.3)
    for n in (1, 6, 1, 4, 9, 1):
        x = torch.tensor(points(n, 2))
        torch.testing.assert_close(step(x), residual(u, x, 0.3), rtol=1e-12, atol=1e-12)
        assert all(e.open <= (e.call.x.shape[0] > 1) for e in step._bound._examples._known)


def test_calls_keep_no_network_alive() -> None:
    op, x = opdsl.operator("laplace(u)", coords="t x"), torch.tensor(points(6, 2))
    u = network(3)
    for _ in range(3):
        op(u, x)
    gone = weakref.ref(u), weakref.ref(u[0].weight)
    del u
    gc.collect()
    assert [r() for r in gone] == [None, None]


def test_numpy_steps_take_their_examples_too() -> None:
    w = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    step = opdsl.operator("laplace(u)", coords="x y").bind(lambda p: np.sin(p @ w).sum(-1), points(6, 2))
    for n in (6, 4, 6, 1, 9):
        x = points(n, 2)
        np.testing.assert_allclose(step(x), -(np.sin(x @ w) * (w**2).sum(0)).sum(-1), rtol=1e-12)
        w[0, 0] += 0.5


def test_a_first_call_imports_no_compiler() -> None:
    code = (
        "import sys, torch, opdsl\nu = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))\n"
        "x = torch.rand(5, 2)\nop = opdsl.operator('laplace(u)', coords='x y')\nop(u, x); step = op.bind(u, x)\n"
        "[step(torch.rand(n, 2)) for n in (5, 6, 7)]\n"
        "print([m for m in ('torch._dynamo', 'torch._inductor', 'sympy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120,
                         cwd=Path(__file__).parent.parent)  # fmt: skip
    assert run.stdout.strip() == "[]"
