"""Rewriting of compiled programs: fewer operators, the same numbers, the same gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from opdsl.backends import get
from opdsl.backends.base import Evaluator
from opdsl.backends.torch.eager import _FUNCTIONS, eager
from opdsl.backends.torch.simplify import getitem


def compiled(function: Callable[..., Tensor], *inputs: Tensor):
    """``function`` of tensors, compiled, and its program."""
    evaluator = Evaluator(lambda constants, x, bindings: (function(*constants[0], x),))
    run = get("torch").compile(evaluator, ([inputs[:-1]], inputs[-1], {}))
    program = run.program
    return (lambda *given: run([given[:-1]], given[-1], {})[0]), program


def operators(program: torch.fx.GraphModule) -> list[str]:
    calls = [n.target for n in program.graph.nodes if n.op == "call_function" and n.target is not getitem]
    return [str(target).removeprefix("aten.").partition(".")[0] for target in calls]


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


CASES: dict[str, tuple[Callable[..., Tensor], Sequence[Tensor], list[str]]] = {
    "numbers multiply": (lambda x: ((x * 2.0) * 3.0) * 0.5, [draw(4, 3)], ["mul"]),
    "one is nothing": (lambda x: (x * 1.0).sin(), [draw(4, 3)], ["sin"]),
    "difference": (lambda x: 1.0 + (x * x) * -1.0, [draw(4, 3)], ["mul", "rsub"]),
    "product into sum": (lambda a, b, x: x + a * b, [draw(4, 3)] * 3, ["addcmul"]),
    "number into sum": (lambda a, x: x + a * 3.0, [draw(4, 3)] * 2, ["add"]),
    "scaled product into sum": (lambda a, b, x: x + (a * b) * 3.0, [draw(4, 3)] * 3, ["addcmul"]),
    "numbers move outwards": (lambda a, b, x: x + (a * 2.0) * (b * 3.0), [draw(4, 3)] * 3, ["addcmul"]),
    "affine": (lambda w, b, x: x @ w.t() + b, [draw(5, 3), draw(5), draw(4, 3)], ["t", "addmm"]),
    "reshapes cancel": (lambda x: x.unsqueeze(0).reshape(1, 12).reshape(4, 3).sin(), [draw(4, 3)], ["sin"]),
    "reshapes merge": (lambda x: x.unsqueeze(0).reshape(1, 12).reshape(2, 6).sin(), [draw(4, 3)], ["reshape", "sin"]),
    "the only entry": (lambda x: x.unbind(0)[0].sin(), [draw(1, 3)], ["reshape", "sin"]),
    "one channel": (lambda a, x: (a[None] * 2.0 + x * x[None])[0].sin(), [draw(4, 3)] * 2, ["mul", "addcmul", "sin"]),
    "shared": (lambda x: x.sin() * x.sin(), [draw(4, 3)], ["sin", "mul"]),
    "turned twice": (lambda w, x: x @ (w * 2.0).t().t(), [draw(3, 5), draw(4, 3)], ["mul", "mm"]),
    "all entries at once": (lambda x: x[:, 0] * x[:, 2] + x[:, 1], [draw(4, 3)], ["unbind", "addcmul"]),
    "some entries": (lambda x: x[:, 0] * x[:, 2], [draw(4, 3)], ["select", "select", "mul"]),
    "entries of entries": (lambda x: x[:, 0][:, 1] * x[:, 0][:, 0] + x[:, 1].sum(1), [draw(4, 2, 2)], ["unbind", "unbind", "sum", "addcmul"]),
    "an axis of length 1": (lambda x: x[:, :, 1][:, 0] * 2.0, [draw(4, 1, 3)], ["reshape", "select", "mul"]),
    "numbers fold": (lambda x: x + torch.linspace(0, 1, 3, dtype=x.dtype).exp(), [draw(4, 3)], ["add"]),
}


@pytest.mark.parametrize("name", CASES)
def test_patterns(name):
    function, inputs, expected = CASES[name]
    inputs = [t.clone().requires_grad_(True) for t in inputs]
    run, program = compiled(function, *inputs)
    assert operators(program) == expected
    torch.testing.assert_close(run(*inputs), function(*inputs), rtol=1e-14, atol=1e-14)
    found = torch.autograd.grad((run(*inputs) ** 2).sum(), inputs)
    torch.testing.assert_close(found, torch.autograd.grad((function(*inputs) ** 2).sum(), inputs), rtol=1e-13, atol=1e-13)


KEPT = {
    "two uses": (lambda a, x: (x + a * a) * (a * a), [draw(4, 3)] * 2),
    "integers": (lambda x: x + (x > 0).long() * 2 * 3, [draw(4, 3)]),
    "mixed precision": (lambda x: x + (x.float() * x.float()) * 2.0, [draw(4, 3)]),
    "strides": (lambda x: x.t().unsqueeze(0).reshape(12).sin(), [draw(4, 3)]),
    "complex": (lambda x: ((x + 1j * x) * 2.0 * 3.0).real, [draw(4, 3)]),
    "broadcast": (lambda a, x: x[:, None] + (a * 2.0) * x[:1, None], [draw(4, 3), draw(4, 3)]),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_only_looks_like_a_pattern(name):
    function, inputs = KEPT[name]
    run, _ = compiled(function, *inputs)
    torch.testing.assert_close(run(*inputs), function(*inputs), rtol=1e-6 if name == "mixed precision" else 1e-14, atol=1e-14)
    assert run(*inputs).dtype == function(*inputs).dtype


def test_random_numbers_are_drawn_at_each_run_and_never_shared():
    run, program = compiled(lambda x: torch.rand_like(x) - torch.rand_like(x), draw(4, 3))
    assert operators(program).count("rand_like") == 2
    assert not torch.equal(run(draw(4, 3)), run(draw(4, 3)))
    assert float(run(draw(4, 3)).abs().max()) > 0


STEPS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a + b,
    lambda a, b: a * b,
    lambda a, b: a * -1.0,
    lambda a, b: b * 0.5,
    lambda a, b: a + 1.0,
    lambda a, b: a - b * 2.0,
    lambda a, b: torch.tanh(a),
    lambda a, b: a.unsqueeze(0).reshape(3, 4),
    lambda a, b: a.t().contiguous().reshape(3, 4),
    lambda a, b: a + b[:1],
    lambda a, b: (a.reshape(12) * b.reshape(12)).reshape(3, 4),
    lambda a, b: torch.stack([a, b]).unbind(0)[1],
]


@given(st.lists(st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=14))
def test_random_programs_keep_values_and_gradients(steps):
    def function(a: Tensor, x: Tensor) -> Tensor:
        known = [a, x]
        for which, i, j in steps:
            known.append(STEPS[which](known[i % len(known)], known[j % len(known)]))
        return known[-1] + 0.1 * known[-2]

    inputs = [(0.5 * draw(3, 4)).requires_grad_(True), torch.sin(draw(3, 4)).detach().requires_grad_(True)]
    run, _ = compiled(function, *inputs)
    expected = function(*inputs)
    torch.testing.assert_close(run(*inputs), expected, rtol=1e-10, atol=1e-10)
    found = torch.autograd.grad(run(*inputs).sum(), inputs, allow_unused=True)
    right = torch.autograd.grad(expected.sum(), inputs, allow_unused=True)
    for f, r in zip(found, right, strict=True):
        torch.testing.assert_close(torch.zeros(()) if f is None else f, torch.zeros(()) if r is None else r, rtol=1e-9, atol=1e-9)


def test_functions_take_their_arguments_in_the_order_of_the_operators():
    """The text that is run without a compiler calls torch's functions: the names of their first arguments are those of ATen."""
    for operator, function in _FUNCTIONS.items():
        name = operator._schema.name.removeprefix("aten::")
        assert function is getattr(torch, name), name


def test_a_plain_network_is_run_by_torch_functions_alone():
    def function(w, v, x):
        return torch.tanh(x @ w.t() + v)[:, 0] * 2.0

    inputs = [draw(5, 3), draw(5), draw(4, 3)]
    program = compiled(function, *inputs)[1]
    assert "torch.ops" in program.code
    assert "torch.ops" not in eager(program).__self__.code
    torch.testing.assert_close(eager(program)(*inputs)[0], function(*inputs), rtol=1e-14, atol=1e-14)
