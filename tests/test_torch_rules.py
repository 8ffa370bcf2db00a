"""Every torch function users write goes through: against loops of `torch.autograd.grad`, and rules against their definition."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch_corpus import EXPLICIT, FUNCTIONS, POINTS

import opdsl
from opdsl.backends.torch import primitives
from opdsl.backends.torch.capture import capture
from opdsl.backends.torch.primitives import TABLE
from opdsl.errors import MissingRuleError
from opdsl.jets.elementary import power
from opdsl.jets.graph import Bilinear, Elementwise, Linear, evaluate

SECOND = opdsl.operator("laplace(u)", coords="x y z")
BIHARMONIC = opdsl.operator("u_xxxx + 2 u_xxyy + u_yyyy", coords="x y z")
SIXTH = opdsl.operator("u_xxxxxx", coords="x y z")
THIRD = opdsl.operator("d_x d_x d_y u + d_z d_z d_z u", coords="x y z")


def to_scalar(function):
    """One number per point: every column counts, each differently."""

    def scalar(x: Tensor) -> Tensor:
        y = function(x)
        y = y.reshape(y.shape[0], -1)
        return y @ torch.linspace(1.0, 2.0, y.shape[1], dtype=y.dtype)

    return scalar


def partial(function, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Loops of reverse mode, the one engine of torch that is right for all of these."""
    x = x.clone().requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):
        y = function(x)
        for axis in axes:
            if not y.requires_grad:
                return torch.zeros(x.shape[0], dtype=x.dtype)
            (g,) = torch.autograd.grad(y.sum(), x, create_graph=True, allow_unused=True)
            y = torch.zeros_like(y) if g is None else g[:, axis]
    return y.detach()


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    assert found.shape == expected.shape
    found = found.detach()
    scale = max(float(expected.abs().max()), 1.0)
    assert float((found - expected).abs().max()) <= tolerance * scale


@pytest.mark.family(keep=3)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_second_and_third_derivatives(name):
    function = to_scalar(FUNCTIONS[name])
    reference = to_scalar(EXPLICIT[name]) if name in EXPLICIT else function
    laplacian = sum(partial(reference, POINTS, (i, i)) for i in range(3))
    assert_close(SECOND(function, POINTS), laplacian)
    third = partial(reference, POINTS, (0, 0, 1)) + partial(reference, POINTS, (2, 2, 2))
    assert_close(THIRD(function, POINTS, strategy="collapsed_taylor"), third)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_fourth_and_sixth_derivatives(name):
    """The biharmonic operator in the plane, and one derivative of order 6; rounding grows with the derivatives themselves."""
    function = to_scalar(FUNCTIONS[name])
    reference = to_scalar(EXPLICIT[name]) if name in EXPLICIT else function
    x = POINTS[:2] if name != "one constant per point" else POINTS
    biharmonic = partial(reference, x, (0, 0, 0, 0)) + 2 * partial(reference, x, (0, 0, 1, 1)) + partial(reference, x, (1, 1, 1, 1))
    assert_close(BIHARMONIC(function, x, strategy="collapsed_taylor"), biharmonic, 1e-8)
    assert_close(SIXTH(function, x, strategy="n_tangentprop"), partial(reference, x, (0,) * 6), 1e-7)


def corpus_nodes():
    """Every linear and bilinear operator that the corpus uses, with a place where it is used."""
    found = {}
    for name, function in FUNCTIONS.items():
        graph = capture(function, POINTS).capture.graph
        for node in graph.nodes:
            if isinstance(node.rule, Linear | Bilinear):
                found.setdefault((node.primitive, type(node.rule).__name__), name)
    return sorted((primitive, rule, name) for (primitive, rule), name in found.items())


@pytest.mark.parametrize(("primitive", "rule", "name"), corpus_nodes())
def test_linear_means_linear(primitive, rule, name):
    """f(a h + b k) = a f(h) + b f(k) in the operands a rule calls linear."""
    recorded = capture(FUNCTIONS[name], POINTS).capture
    graph, constants = recorded.graph, recorded.constants
    node = next(n for n in graph.nodes if n.primitive == primitive and type(n.rule).__name__ == rule)
    values = values_of(graph, constants, node.inputs)
    places = range(len(values)) if node.rule.positions is None else node.rule.positions
    generator = torch.Generator().manual_seed(1)

    def other(t: Tensor) -> Tensor:
        return torch.randn(t.shape, dtype=t.dtype, generator=generator)

    groups = [[p] for p in places] if isinstance(node.rule, Bilinear) else [list(places)]
    for group in groups:
        directions = {p: (other(values[p]), other(values[p])) for p in group}

        def at(a: float, b: float, directions=directions) -> tuple[Tensor, ...]:
            filled = [a * directions[i][0] + b * directions[i][1] if i in directions else v for i, v in enumerate(values)]
            out = node.apply(*filled)
            return tuple(out) if node.several else (out,)

        for both, first, second in zip(at(1.3, -0.7), at(1.0, 0.0), at(0.0, 1.0), strict=True):
            torch.testing.assert_close(both, 1.3 * first - 0.7 * second, rtol=1e-11, atol=1e-11)


def values_of(graph, constants, wanted):
    from dataclasses import replace

    return [v.detach() for v in evaluate(replace(graph, outputs=tuple(wanted)), POINTS, constants)]


@pytest.mark.parametrize("name", ["tanh", "layer_norm", "gru", "attention", "conv2d", "in place", "det", "grad inside"])
def test_the_graph_repeats_the_function(name):
    recorded = capture(FUNCTIONS[name], POINTS).capture
    x = POINTS.flip(0) * 0.9
    with sdpa_kernel(SDPBackend.MATH):
        torch.testing.assert_close(evaluate(recorded.graph, x, recorded.constants)[0], FUNCTIONS[name](x), rtol=1e-12, atol=1e-12)


def test_every_entry_names_an_operator():
    for key in TABLE:
        namespace, _, name = key.rpartition("::")
        packet = getattr(getattr(torch.ops, namespace or "aten"), name.partition(".")[0], None)
        assert packet is not None, key
        if "." in name:
            assert name.partition(".")[2] in packet.overloads(), key


def test_fused_cells_of_cuda_are_the_cells():
    from opdsl.backends.torch.decompositions import decompose

    x, h, c = (torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) for k in range(3))
    for cell, op in (
        (torch.nn.LSTMCell(4, 4).double(), torch.ops.aten._thnn_fused_lstm_cell.default),
        (torch.nn.GRUCell(4, 4).double(), torch.ops.aten._thnn_fused_gru_cell.default),
    ):
        lstm = isinstance(cell, torch.nn.LSTMCell)
        products = (x @ cell.weight_ih.T, h @ cell.weight_hh.T)
        found = decompose(op)(*products, c if lstm else h, cell.bias_ih, cell.bias_hh)
        expected = cell(x, (h, c)) if lstm else (cell(x, h),)
        for f, e in zip(found, expected, strict=False):
            torch.testing.assert_close(f, e, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["lgamma", "digamma", "log_ndtr", "erfcx", "ndtri"])
def test_special_functions_against_fifty_digits(name):
    exact = {
        "lgamma": mpmath.loggamma,
        "digamma": mpmath.digamma,
        "log_ndtr": lambda t: mpmath.log(mpmath.ncdf(t)),
        "erfcx": lambda t: mpmath.exp(t * t) * mpmath.erfc(t),
        "ndtri": lambda t: mpmath.sqrt(2) * mpmath.erfinv(2 * t - 1),
    }[name]
    function = getattr(torch.special if hasattr(torch.special, name) else torch, name)
    x = torch.tensor([[0.3], [0.45], [0.71]], dtype=torch.float64)
    with mpmath.workdps(50):
        for order in (1, 2, 4):
            op = opdsl.operator(f"d^{order} u / dx^{order}", coords="x")
            exactly = torch.tensor(
                [float(mpmath.diff(exact, mpmath.mpf(t), order)) for t in x[:, 0].tolist()], dtype=torch.float64
            )
            assert_close(op(lambda p: function(p[:, 0]), x), exactly, 1e-9)


@pytest.mark.parametrize("value", [-500.0, 500.0, -1e4, 1e4])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softplus", "logsigmoid", "erf", "logsumexp", "softmax"])
def test_large_arguments_stay_finite(name, value):
    def function(x: Tensor) -> Tensor:
        pair = torch.stack([x[:, 0], 0.5 * x[:, 0] + 1.0], 1)
        if name == "logsumexp":
            return torch.logsumexp(pair, 1)
        if name == "softmax":
            return torch.softmax(pair, 1)[:, 0]
        return getattr(torch.nn.functional if hasattr(torch.nn.functional, name) and name != "tanh" else torch, name)(x[:, 0])

    x = torch.tensor([[value]], dtype=torch.float64)
    op = opdsl.operator("u_xxxxx", coords="x")
    assert abs(op(function, x).item()) <= 1e-14
    first = opdsl.operator("u_x", coords="x")(function, x).item()
    slope = {"softplus": float(value > 0), "logsigmoid": float(value < 0), "logsumexp": 1.0 if value > 0 else 0.5}.get(name, 0.0)
    assert math.isclose(first, slope, abs_tol=1e-15)


def test_a_rule_of_the_users_own():
    library = torch.library.custom_op("opdsl_test::cube", lambda x: x * x * x, mutates_args=(), schema="(Tensor x) -> Tensor")
    x = POINTS[:2]
    with pytest.raises(MissingRuleError, match=r"opdsl_test\.cube"):
        SECOND(lambda p: torch.ops.opdsl_test.cube(p).sum(1), x)
    primitives.enter("opdsl_test::cube", Elementwise(power(3)))
    try:
        assert_close(SECOND(lambda p: torch.ops.opdsl_test.cube(p).sum(1), x), 6 * x.sum(1))
    finally:
        del TABLE["opdsl_test::cube"], library
