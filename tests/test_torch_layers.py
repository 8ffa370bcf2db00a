"""Layers that torch carries out by fused kernels or in place, and the functions of torch.special, against independent oracles."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import opdsl
from opdsl.errors import MissingRuleError

# torch.jit is on its way out, and still in use.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

LAPLACE = opdsl.operator("laplace(u)", coords="x y")


def points(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(5, 2, dtype=dtype, generator=torch.Generator().manual_seed(1))


def laplacian(function, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    return sum(torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2)).detach()


# --------------------------------------------------------------------------------------------------------------- padding

MODES = ["circular", "reflect", "replicate"]


def image(x: Tensor, rank: int) -> Tensor:
    """Two channels of a picture with three pixels along each axis, smooth in x."""
    phases = torch.arange(1.0, 2 * 3**rank + 1, dtype=x.dtype) / 9
    return torch.tanh(x[:, :, None] * phases.reshape(2, -1)).reshape(len(x), 2, *[3] * rank)


def read(h: Tensor) -> Tensor:
    h = h.flatten(1)
    return torch.sin(h * torch.arange(1.0, h.shape[1] + 1, dtype=h.dtype) / 7).sum(1)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", MODES)
def test_padding(mode, rank):
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
    torch.manual_seed(0)
    layer = kind(2, 3, 3, padding=1, padding_mode=mode).double()

    def convolved(x: Tensor) -> Tensor:
        return read(layer(image(x, rank)))

    torch.testing.assert_close(LAPLACE(convolved, points()), laplacian(convolved, points()))
    sides = [1, 2] * rank

    def padded(x: Tensor) -> Tensor:
        return read(F.pad(image(x, rank), sides, mode=mode))

    torch.testing.assert_close(LAPLACE(padded, points()), laplacian(padded, points()))


@pytest.mark.parametrize("sides", [(0, 2), (3, 0), (-1, 1), (-1, -1), (2, -1), (1, 1, 2, 0)])
def test_circular_padding_by_other_widths(sides):
    def function(x: Tensor) -> Tensor:
        return read(F.pad(image(x, len(sides) // 2), sides, "circular"))

    torch.testing.assert_close(LAPLACE(function, points()), laplacian(function, points()))


# ------------------------------------------------------------------------------------------------------- fused in kernels


class Recurrent(nn.Module):
    """Reads the coordinates one after the other."""

    def __init__(self, kind: type[nn.Module], **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = kind(1, 4, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.layer(x[:, :, None])[0]).sum((1, 2))


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_in_single_precision_without_gradients(kind, options):
    """In inference torch carries out an LSTM by a kernel of oneDNN."""
    net = Recurrent(kind, **options).eval().requires_grad_(False)
    exact = laplacian(copy.deepcopy(net).double(), points(torch.float32).double())
    torch.testing.assert_close(LAPLACE(net, points(torch.float32)).double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_scripted_recurrent_layer(dtype):
    net = Recurrent(nn.LSTM).to(dtype).eval().requires_grad_(False)
    exact = laplacian(copy.deepcopy(net).double(), points(dtype).double())
    torch.testing.assert_close(LAPLACE(torch.jit.script(net), points(dtype)).double(), exact, rtol=1e-4, atol=1e-5)


def attend(x: Tensor) -> Tensor:
    q = torch.tanh(x[:, :, None] * torch.arange(1.0, 5.0, dtype=x.dtype))[:, None]
    return F.scaled_dot_product_attention(q, q, q).sum((1, 2, 3))


def attend_in_steps(x: Tensor) -> Tensor:
    q = torch.tanh(x[:, :, None] * torch.arange(1.0, 5.0, dtype=x.dtype))
    return (torch.softmax(q @ q.mT / 2, -1) @ q).sum((1, 2))


@pytest.mark.parametrize("way", ["called", "scripted", "by its operator"])
def test_attention(way):
    def by_operator(x: Tensor) -> Tensor:
        q = torch.tanh(x[:, :, None] * torch.arange(1.0, 5.0, dtype=x.dtype))[:, None]
        return torch.ops.aten.scaled_dot_product_attention(q, q, q).sum((1, 2, 3))

    function = {"called": attend, "scripted": torch.jit.script(attend), "by its operator": by_operator}[way]
    torch.testing.assert_close(LAPLACE(function, points()), laplacian(attend_in_steps, points()))


def test_a_transformer_in_evaluation_mode_does_not_take_the_fast_path():
    torch.manual_seed(0)
    first, layer = nn.Linear(1, 4).double(), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0).double()

    def net(x: Tensor) -> Tensor:
        return torch.sin(layer(torch.tanh(first(x[:, :, None])))).sum((1, 2))

    training = LAPLACE(net, points()).detach()
    layer.eval()
    with torch.no_grad():
        torch.testing.assert_close(LAPLACE(net, points()), training)


# ---------------------------------------------------------------------------------------------------------- torch.special

_HALF = [Fraction(-205, 72), Fraction(8, 5), Fraction(-1, 5), Fraction(8, 315), Fraction(-1, 560)]
WAYS = {
    "one argument": lambda f: lambda p: f(p),
    "the first of two": lambda f: lambda p: f(p, torch.full_like(p, 1.3)),
    "the second of two": lambda f: lambda p: f(torch.full_like(p, 1.3), p),
    "of order two": lambda f: lambda p: f(2, p),
}


def differences(f, x: Tensor, h: float = 0.02) -> Tensor:
    """f″ of every entry by central differences of order 8."""
    return sum(float(w) * (f(x + k * h) if k == 0 else f(x + k * h) + f(x - k * h)) for k, w in enumerate(_HALF)) / h**2


@pytest.mark.parametrize("way", WAYS)
def test_functions_of_torch_special_are_right_or_refused(way):
    x, tried = 0.3 * points() + 0.4, 0
    for name in torch.special.__all__:
        f = WAYS[way](getattr(torch.special, name))
        try:
            if f(x).shape != x.shape:
                continue
        except (TypeError, RuntimeError):
            continue
        tried += 1
        try:
            found = LAPLACE(lambda p, f=f: f(p).sum(1), x)
        except MissingRuleError:
            assert name.endswith(("_t", "_u", "_v", "_w", "_h", "_he", "_l", "_p", "airy_ai", "zeta", "gammainc", "gammaincc"))
            continue
        by_rows = name in ("softmax", "log_softmax")
        expected = laplacian(lambda p, f=f: f(p).sum(1), x) if by_rows else differences(f, x).sum(1)
        expected = torch.zeros(5, dtype=torch.float64) if name == "round" else expected
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}")
    assert tried > 5


BESSEL = [n for n in torch.special.__all__ if "bessel" in n or n in ("i0", "i1", "i0e", "i1e")]


@pytest.mark.parametrize("strategy", ["forward_laplacian", "nested_ad"])
def test_bessel_functions_are_differentiated_by_every_method_and_in_their_parameters(strategy):
    """Torch has no derivatives for most of them, and says so by gradients of zero."""
    x, step = 0.3 * points() + 0.4, 1e-3
    for name in BESSEL:
        f = getattr(torch.special, name)

        def loss(c: Tensor, f=f) -> Tensor:
            return LAPLACE(lambda p: f(c * p).sum(1), x, strategy=strategy).sum()

        c = torch.tensor(1.3, dtype=torch.float64)
        value = loss(c.requires_grad_(True))
        torch.testing.assert_close(value.detach(), 1.69 * differences(f, 1.3 * x).sum(), rtol=1e-5, atol=1e-6, msg=name)
        (slope,) = torch.autograd.grad(value, c)
        with torch.no_grad():
            expected = (loss(c + step) - loss(c - step)) / (2 * step)
        torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_bessel_functions_at_zero():
    x = torch.zeros(1, 2, dtype=torch.float64)
    fourth = opdsl.operator("u_xxxx", coords="x y")
    for strategy in ("nested_ad", "n_tangentprop"):
        value = fourth(lambda p: torch.special.bessel_j0(p[:, 0]), x, strategy=strategy)
        assert value.detach().item() == pytest.approx(3 / 8)


@pytest.mark.parametrize("strategy", ["auto", "nested_ad"])
def test_third_derivatives_of_logcumsumexp(strategy):
    third = opdsl.operator("u_xxx", coords="x y")

    def features(x: Tensor) -> Tensor:
        return torch.sin(torch.cat([x, x * x, 2 * x], 1))

    def by_definition(x: Tensor) -> Tensor:
        return features(x).exp().cumsum(1).log().square().sum(1)

    x = points()
    value = by_definition(x.requires_grad_(True))
    for _ in range(3):
        value = torch.autograd.grad(value.sum(), x, create_graph=True)[0][:, 0]
    found = third(lambda p: torch.logcumsumexp(features(p), 1).square().sum(1), x.detach(), strategy=strategy)
    torch.testing.assert_close(found, value.detach())
    far = torch.tensor([[-800.0, 0.0, 3.0]], dtype=torch.float64) + features(points())[:, :3] * 0
    both = opdsl.operator("u; laplace(u)", coords="x y")
    value, _ = both(lambda p: torch.logcumsumexp(far + p.sum(1, keepdim=True), 1).sum(1), points())
    assert torch.isfinite(value).all()
    torch.testing.assert_close(value, torch.logcumsumexp(far + points().sum(1, keepdim=True), 1).sum(1))
    assert math.isfinite(float(value.sum()))
