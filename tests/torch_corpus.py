"""Functions of points in R³ that torch users write: what the torch backend has to let through.

`FUNCTIONS` maps a name to a function (n, 3) → (n, m), smooth or piecewise smooth at `POINTS`. `EXPLICIT` holds, for those whose
third derivatives torch itself gets wrong or refuses, the same function in elementary operations, to take the reference from.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]
with warnings.catch_warnings():
    # Forward mode compiles some decompositions with torch.jit.script, which torch itself declares obsolete.
    warnings.simplefilter("ignore", DeprecationWarning)
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))
_generator = torch.Generator().manual_seed(0)


def _random(*shape: int, scale: float = 0.6) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=_generator) * scale


POINTS = torch.tensor(
    [[0.61, -0.18, 0.33], [-0.27, 0.55, 0.82], [0.14, 0.29, -0.12], [0.73, 0.07, 0.48]], dtype=torch.float64
)
W, B, V = _random(3, 6), _random(6), _random(6, 6)
INDEX = torch.tensor([[0, 2, 1, 1, 1, 5]])
PERMUTED = torch.tensor([[0, 2, 1, 3, 5, 4]])
ARANGE = torch.arange(6.0, dtype=torch.float64)


def filled(module: nn.Module) -> Any:
    """Double precision and reproducible parameters, without touching the global random state."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(_random(*parameter.shape, scale=0.4))
    return module


class Layered(nn.Module):
    """Linear, ``inner`` on features of ``shape``, linear."""

    def __init__(self, inner: Any, shape: tuple[int, ...] = (6,)) -> None:
        super().__init__()
        self.first = filled(nn.Linear(3, math.prod(shape)))
        self.inner, self.shape = inner, shape

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = h if len(self.shape) == 1 else torch.tanh(h).reshape(-1, *self.shape)
        return self.inner(h).flatten(1)[:, :6]


FUNCTIONS: dict[str, Function] = {}
EXPLICIT: dict[str, Function] = {}


def add(name: str, inner: Any, shape: tuple[int, ...] = (6,), explicit: Any = None) -> None:
    FUNCTIONS[name] = function = Layered(inner, shape)
    if explicit is not None:
        EXPLICIT[name] = twin = Layered(explicit, shape)
        twin.first = function.first


# ------------------------------------------------------------------------------------------ functions of one number

for _n in "tanh sin cos exp sigmoid sinh cosh atan asinh erf erfc expm1 exp2 square deg2rad".split():
    add(_n, getattr(torch, _n))
for _n in "log sqrt rsqrt reciprocal log2 log10 log1p lgamma digamma".split():
    f = getattr(torch, _n)
    add(_n, lambda h, f=f: f(h * h + 0.7))
for _n in "asin acos atanh erfinv tan".split():
    f = getattr(torch, _n)
    add(_n, lambda h, f=f: f(0.4 * torch.tanh(h)))
add("acosh", lambda h: torch.acosh(h * h + 1.5))
add("logit", lambda h: torch.logit(0.5 + 0.4 * torch.tanh(h)))
for _n in "ndtr log_ndtr erfcx entr expit xlog1py".split():
    f = getattr(torch.special, _n)
    add(_n, (lambda h, f=f: f(h, h * h)) if _n == "xlog1py" else (lambda h, f=f: f(h * h + 0.2)))
EXPLICIT["erfcx"] = lambda x: torch.exp((h := FUNCTIONS["erfcx"].first(x) ** 2 + 0.2) ** 2) * torch.erfc(h)
add(
    "ndtri",
    lambda h: torch.special.ndtri(torch.sigmoid(h)),
    explicit=lambda h: math.sqrt(2) * torch.erfinv(2 * torch.sigmoid(h) - 1),
)
add("sinc", torch.sinc, explicit=lambda h: torch.sin(math.pi * h) / (math.pi * h))
add("polygamma", lambda h: torch.polygamma(2, h * h + 1))
add("mvlgamma", lambda h: torch.mvlgamma(h * h + 3, 2))

for _n in ("relu relu6 elu selu celu gelu silu mish softplus softsign tanhshrink logsigmoid hardswish hardtanh leaky_relu "
           "softshrink hardshrink rrelu").split():  # fmt: skip
    add(f"F.{_n}", getattr(F, _n))
add("F.hardsigmoid", F.hardsigmoid, explicit=lambda h: torch.clamp(h + 3, 0, 6) / 6)
add("F.gelu tanh", lambda h: F.gelu(h, approximate="tanh"))
add("F.softplus beta", lambda h: F.softplus(h, beta=2.0))
add("F.prelu", filled(nn.PReLU()))
add("F.glu", lambda h: torch.cat([F.glu(h)] * 2, -1))
add("F.threshold", lambda h: F.threshold(h, 0.1, 20.0))
add("F.relu_", lambda h: F.relu_(h.clone()) ** 2)

# ------------------------------------------------------------------------------------------------------- arithmetic

add("h³", lambda h: h**3)
add("h⁻²", lambda h: (h * h + 1) ** -2.0)
add("h^1.5", lambda h: (h * h + 1) ** 1.5)
add("array exponent", lambda h: (h * h + 1) ** ARANGE)
add("2^h", lambda h: 2.0**h)
add("h^h", lambda h: (h * h + 1) ** h)
FUNCTIONS["negative base"] = lambda x: (x[:, :1] - 3) ** 3 * (x[:, 1:2] - 2) ** -2
add("divide", lambda h: h / (1 + h * h) + 1 / (1 + h * h) + h / 3 - h / (ARANGE + 1))
add("rsub", lambda h: 1 - h * h)
add("remainder", lambda h: torch.remainder(h * h, 0.3) * h)
add("fmod", lambda h: torch.fmod(h * h, 0.3) * h)
add("abs", lambda h: h.abs() * h * h)
add("sign floor frac", lambda h: h.sign() * h * h + h.floor() * h * h + torch.frac(h) * h)
add("clamp", lambda h: h.clamp(-0.5, 0.5) * h * h + torch.clamp(h, min=h * h - 1) * h + h.clamp_min(0.1) * h)
add("where", lambda h: torch.where(h > 0, h * h * h, torch.sin(h)) + torch.where(h > 0.1, h**3, 0.0))
add("masked_fill", lambda h: (h**3).masked_fill(h > 0.2, 2.0))
add("maximum fmin", lambda h: torch.maximum(h * h, h.sin()) * h + torch.fmin(h * h, h.cos()) * h)
add("atan2 hypot", lambda h: torch.atan2(h, h.flip(1) + 0.3) + torch.hypot(h, h.flip(1) + 0.3))
add("logaddexp", lambda h: torch.logaddexp(h, h.flip(1)) + torch.logaddexp2(h, h.flip(1)))
add("xlogy", lambda h: torch.xlogy(h, h * h + 1))
add("copysign", lambda h: torch.copysign(h**2, h.flip(1)), explicit=lambda h: h**2 * torch.where(h.flip(1) < 0, -1.0, 1.0))
add("addcmul addcdiv", lambda h: torch.addcmul(h, h, h.sin(), value=0.3) + torch.addcdiv(h, h, h * h + 1, value=0.3))
add("lerp", lambda h: torch.lerp(h, h.sin(), 0.3) + torch.lerp(h, h.sin(), h.cos()))
add("nan_to_num", lambda h: torch.nan_to_num(h) ** 2)

# ------------------------------------------------------------------------------------------- reductions, selections

add("softmax", lambda h: F.softmax(h, -1) + F.log_softmax(h, 1) + F.softmin(h, -1))
add("logsumexp", lambda h: h * torch.logsumexp(h, 1, keepdim=True))
add("max dim", lambda h: h * h.max(1, keepdim=True)[0] ** 2 + h * h.min(1)[0][:, None] ** 2)
add("amax", lambda h: h * h.amax((1,), keepdim=True) ** 2 - h * h.amin(1, keepdim=True) ** 2)
add("sort topk", lambda h: h.sort(-1)[0] ** 2 + h.topk(3, -1)[0].repeat(1, 2) ** 2)
add("median kthvalue", lambda h: h * h.median(1)[0][:, None] ** 2 + h * h.kthvalue(2, 1)[0][:, None] ** 2)
add("cummax", lambda h: h.cummax(1)[0] ** 2)
add("argsort gather", lambda h: torch.gather(h, 1, h.argsort(1)) ** 2)
add("cumsum cumprod", lambda h: h.cumsum(1) ** 2 + h.cumprod(1))
add("logcumsumexp", lambda h: h.logcumsumexp(1), explicit=lambda h: torch.exp(h).cumsum(1).log())
add("prod", lambda h: h * h.prod(1, keepdim=True))
add(
    "var std mean", lambda h: h * (h.var(1, keepdim=True) + h.std(1, keepdim=True, unbiased=False) + h.mean(1, keepdim=True))
)
add("norms", lambda h: h * (h.norm(p=1, dim=1, keepdim=True) + torch.linalg.vector_norm(h, 3, dim=1, keepdim=True)))
add("norm inf", lambda h: h * torch.linalg.vector_norm(h, math.inf, dim=1, keepdim=True) + F.normalize(h, dim=-1))
add("cosine similarity", lambda h: h * F.cosine_similarity(h, h.flip(1) + 0.1)[:, None])
add("pairwise distance", lambda h: h * F.pairwise_distance(h, h.sin() + 1)[:, None])
add("cdist", lambda h: torch.cdist(h, h.flip(2) + 5), (3, 2),
    explicit=lambda h: torch.sqrt(((h[:, :, None] - h.flip(2)[:, None] - 5) ** 2).sum(-1)))  # fmt: skip

# --------------------------------------------------------------------------------------------------- indexing, shapes

add("index", lambda h: h[:, [2, 0, 1, 5, 4, 3]] ** 2 + torch.stack([h[:, -1], h[..., 0] * h[:, 3]], 1).repeat(1, 3))
add("gather", lambda h: h.gather(1, INDEX.expand(h.shape[0], 6)) ** 2 + torch.take_along_dim(h, INDEX, 1) ** 2)
add("index_select", lambda h: h.index_select(1, torch.tensor([5, 4, 3, 2, 1, 0])) ** 2)
add("scatter_add", lambda h: torch.zeros_like(h).scatter_add(1, INDEX.expand(h.shape[0], 6), h) ** 2)
add("index_add", lambda h: h.index_add(1, torch.tensor([0, 1]), h[:, :2]) ** 2)
add("scatter", lambda h: torch.zeros_like(h).scatter(1, PERMUTED.expand(h.shape[0], 6), h**2)
    + h.scatter(1, PERMUTED[:, :2].expand(h.shape[0], 2), 0.5) ** 2)
add("diff", lambda h: torch.diff(h**2, dim=1, prepend=h[:, :1]))
add("index_copy index_fill",
    lambda h: h.index_copy(1, torch.tensor([0, 1]), h[:, 2:4] ** 2).index_fill(1, torch.tensor([5]), 2.0) ** 2)
add("cummin", lambda h: h.cummin(1)[0] ** 2)
add("rounding", lambda h: h.ceil() * h * h + h.round() * h * h + h.trunc() * h)
add("quantile", lambda h: h * h.quantile(0.3, 1, keepdim=True) ** 2 + h * h.nansum(1, keepdim=True))
add("fold", lambda h: F.fold(F.unfold(h, 2), (3, 3), 2) ** 2, (1, 3, 3))
add("grid sample", lambda h: F.grid_sample(
    ARANGE[:4].reshape(1, 1, 2, 2).expand(h.shape[0], 1, 2, 2) ** 2, 0.3 * torch.tanh(h) + 0.05, align_corners=True), (2, 2, 2))
add("masked attention", lambda h: F.scaled_dot_product_attention(
    h, h, h, attn_mask=torch.tensor([[True, False, True]] * 3)), (2, 3, 4))
add("pad", lambda h: F.pad(h, (1, 0))[:, :6] ** 2 + F.pad(h, (1, 0), value=2.0)[:, :6] ** 2)
add("pad reflect", lambda h: F.pad(h[:, None], (1, 1), mode="reflect")[:, 0, :6] ** 2)
add("roll flip", lambda h: h.roll(1, 1) * h + h.flip(-1) * h)
add("tile repeat", lambda h: h[:, :3].tile(1, 2) * h + h[:, :3].repeat_interleave(2, 1) * h)
add("split chunk", lambda h: torch.cat([a * b for a, b in zip(h.split(2, 1), h.flip(1).chunk(3, 1), strict=True)], 1))
add("unbind transpose", lambda h: torch.stack([v**2 for v in h.unbind(1)], 1) + (h.T**2).T)
add("diagonal", lambda h: torch.diagonal(torch.diag_embed(h) @ torch.diag_embed(h), dim1=1, dim2=2))
add("tril", lambda h: (h[:, :, None] * h[:, None]).tril().sum(2))
add("unfold", lambda h: torch.cat([h.unfold(1, 2, 1).prod(-1) * h[:, :5], h[:, :1]], 1))
add("einsum", lambda h: torch.einsum("ni,ij->nj", h.tanh(), V) + torch.einsum("ni,nj->nij", h, h.sin()).sum(2))
add("einsum three", lambda h: torch.einsum("ni,nj,nj->ni", h, h.sin(), h))
add("bmm", lambda h: torch.bmm(h, h.mT), (2, 3))
add("matmul", lambda h: (h.tanh() @ torch.ones(3, 3, dtype=h.dtype)) ** 2, (2, 3))
add("cross", lambda h: torch.cross(h[:, :3], h[:, 3:], dim=1))
add("tensordot", lambda h: torch.tensordot(h, V, dims=1) ** 2)
FUNCTIONS["expand_as"] = lambda x: (x[:, :1].expand_as(x) * x).sum(-1, keepdim=True)
FUNCTIONS["python loop"] = lambda x: sum(x[:, i : i + 1] ** (i + 2) * x[:, :1] for i in range(3))


def _in_place(h: Tensor) -> Tensor:
    z = torch.zeros_like(h)
    z[:, 1] = h[:, 0] ** 2
    z[:, 2:] += h[:, 2:].sin()
    z *= h
    return z.add_(1.0)


def _write_parameter(h: Tensor) -> Tensor:
    p = V.clone()
    p[0] *= 2.0
    return (h @ p).sin()


def _masked_write(h: Tensor) -> Tensor:
    out = h**3
    out[h > 0.2] = 1.5
    return out


def _metadata(h: Tensor) -> Tensor:
    h = h.clone()
    h.t_().unsqueeze_(0).squeeze_()
    return (h**2).T


add("in place", _in_place)
add("in place on a view of a parameter", _write_parameter)
add("masked write", _masked_write)
add("in-place views", _metadata)

# -------------------------------------------------------------------------------------------------------------- layers


def _layer_norm(h: Tensor, axes: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    centred = h - h.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)


add("layer_norm", lambda h: F.layer_norm(h, (6,)), explicit=lambda h: _layer_norm(h, (1,)))
add("group_norm", lambda h: F.group_norm(h, 2), explicit=lambda h: _layer_norm(h.reshape(-1, 2, 3), (2,)).flatten(1))
add("instance_norm", F.instance_norm, (2, 3), explicit=lambda h: _layer_norm(h, (2,)))
add("rms_norm", lambda h: F.rms_norm(h, (6,)))
add("batch norm, evaluation", filled(nn.BatchNorm1d(6)).eval())
add("conv1d", nn.Sequential(filled(nn.Conv1d(2, 3, 3, padding=1)), nn.Tanh()), (2, 5))
add("conv2d", nn.Sequential(filled(nn.Conv2d(2, 4, 3, groups=2, stride=2)), nn.Tanh()), (2, 5, 5))
add("conv3d", nn.Sequential(filled(nn.Conv3d(1, 2, 2)), nn.Tanh()), (1, 2, 3, 3))
add("conv transpose", nn.Sequential(filled(nn.ConvTranspose2d(2, 3, 2, stride=2)), nn.Tanh()), (2, 2, 2))
add("average pooling", lambda h: F.avg_pool1d(h, 2) ** 2, (2, 4))
add("adaptive pooling", lambda h: F.adaptive_avg_pool2d(h, 1) ** 2, (6, 2, 2))
add("max pooling", lambda h: F.max_pool2d(h, 2) ** 2, (2, 4, 4))
add("max pooling 1d", lambda h: F.max_pool1d(h, 2) ** 2 + F.adaptive_max_pool1d(h, 2), (2, 4))
add("upsample", lambda h: F.interpolate(h, scale_factor=2, mode="bilinear") ** 2, (1, 2, 2))
add("pixel shuffle", lambda h: F.pixel_shuffle(h, 2) ** 2, (4, 1, 2))
_bilinear = filled(nn.Bilinear(3, 3, 6))
add("bilinear", lambda h: _bilinear(h[:, :3], h[:, 3:]))
_gru, _lstm = filled(nn.GRU(3, 4, batch_first=True)), filled(nn.LSTM(3, 2, 2, batch_first=True, bidirectional=True))
add("gru", lambda h: _gru(h)[0], (2, 3))
add("lstm", lambda h: _lstm(h)[0], (2, 3))
_rnn, _cell = filled(nn.RNN(3, 4, batch_first=True)), filled(nn.LSTMCell(6, 6))
add("rnn", lambda h: _rnn(h)[0], (2, 3))
add("lstm cell", lambda h: _cell(h.tanh())[0])
_attention = filled(nn.MultiheadAttention(4, 2, batch_first=True))
add("attention", lambda h: _attention(h, h, h, need_weights=False)[0], (3, 4))
add("attention with weights", lambda h: _attention(h, h, h)[0], (3, 4))
add("dot-product attention", lambda h: F.scaled_dot_product_attention(h, h.sin(), h.cos()), (2, 3, 4))
add("causal attention", lambda h: F.scaled_dot_product_attention(h, h.sin(), h.cos(), is_causal=True), (2, 3, 4))
add("linear on three axes", nn.Sequential(filled(nn.Linear(4, 4)), nn.Tanh(), filled(nn.Linear(4, 3))), (3, 4))
_embedding = filled(nn.Embedding(2, 6))
add("embedding", lambda h: h * _embedding((h[:, 0] > 0).long()) * h)
_normed = nn.utils.parametrizations.weight_norm(filled(nn.Linear(6, 6)))
add("weight norm", lambda h: _normed(h).tanh())
_orthogonal = nn.utils.parametrizations.orthogonal(filled(nn.Linear(6, 6)))
add("orthogonal", lambda h: _orthogonal(h).tanh())
FUNCTIONS["fourier features"] = lambda x: (
    torch.cat([torch.sin(x @ W), torch.cos(x @ W)], -1) @ torch.ones(12, 1, dtype=x.dtype)
)

# ---------------------------------------------------------------------------------------------- complex, linear algebra

add("fft", lambda h: torch.fft.fft(h, dim=1).abs() ** 2 + torch.fft.irfft(torch.fft.rfft(h.tanh(), dim=1), n=6, dim=1))
add("complex", lambda h: torch.exp(1j * h).real * h + torch.polar(h * h + 1, h).imag)
add("view as complex", lambda h: torch.view_as_real(torch.view_as_complex(h) ** 2), (3, 2))


def matrix(h: Tensor) -> Tensor:
    """A regular matrix."""
    return (
        h @ h.mT
        + 2 * torch.eye(2, dtype=h.dtype)
        + 0.3 * torch.tensor([[0.0, 1.0], [0.0, 0.5]], dtype=h.dtype) * h[:, :1, :1]
    )


def symmetric(h: Tensor) -> Tensor:
    """A positive matrix with distinct eigenvalues."""
    return h @ h.mT + torch.diag(torch.tensor([1.0, 3.0], dtype=h.dtype))


L = torch.linalg
add("det", lambda h: h[:, 0] * L.det(matrix(h))[:, None], (2, 3), explicit=lambda h: h[:, 0] * _det(matrix(h))[:, None])
add("slogdet", lambda h: h[:, 0] * L.slogdet(matrix(h))[1][:, None], (2, 3),
    explicit=lambda h: h[:, 0] * torch.log(_det(matrix(h)))[:, None])  # fmt: skip
add("inv", lambda h: L.inv(matrix(h)), (2, 3))
add("solve", lambda h: L.solve(matrix(h), h), (2, 3))
add("cholesky", lambda h: L.cholesky(symmetric(h)), (2, 3))
add("triangular solve", lambda h: L.solve_triangular(L.cholesky(symmetric(h)), h, upper=False), (2, 3))
add("qr", lambda h: L.qr(matrix(h))[0], (2, 3))
add("eigh", lambda h: L.eigh(symmetric(h))[0], (2, 3))
add("eigenvectors", lambda h: L.eigh(symmetric(h))[1] ** 2, (2, 3))
add("singular values", lambda h: L.svdvals(matrix(h)), (2, 3))
add("svd", lambda h: L.svd(h + torch.eye(2, 3, dtype=h.dtype), full_matrices=False)[0] ** 2, (2, 3))
add("pinv", lambda h: L.pinv(h + torch.eye(2, 3, dtype=h.dtype)), (2, 3))
add("logdet", lambda h: h[:, 0] * torch.logdet(matrix(h))[:, None], (2, 3),
    explicit=lambda h: h[:, 0] * torch.log(_det(matrix(h)))[:, None])  # fmt: skip
add("lu", lambda h: L.lu(matrix(h))[1] + torch.linalg.lu_factor(matrix(h))[0], (2, 3))
add("lu solve", lambda h: L.lu_solve(*L.lu_factor(matrix(h)), h), (2, 3))
add("matrix_exp", lambda h: torch.matrix_exp(0.2 * matrix(h)), (2, 3))
add("matrix_power", lambda h: L.matrix_power(matrix(h), 3), (2, 3))


def _det(a: Tensor) -> Tensor:
    return a[:, 0, 0] * a[:, 1, 1] - a[:, 0, 1] * a[:, 1, 0]


# ------------------------------------------------------------------------------------------ derivatives and maps inside

_net = Layered(torch.tanh)
FUNCTIONS["grad inside"] = lambda x: torch.vmap(torch.func.grad(lambda p: _net(p[None])[0, 0]))(x)
FUNCTIONS["vmap inside"] = lambda x: torch.vmap(_net)(x[:, None])[:, 0]
FUNCTIONS["jacrev inside"] = lambda x: torch.vmap(torch.func.jacrev(lambda p: _net(p[None])[0]))(x).flatten(1)[:, :6]
FUNCTIONS["jvp inside"] = lambda x: torch.func.jvp(_net, (x,), (torch.ones_like(x),))[1]
FUNCTIONS["ensemble inside"] = lambda x: torch.vmap(lambda w: (x @ w).tanh(), out_dims=1)(torch.stack([W, 2 * W])).sum(1)
FUNCTIONS["functional_call"] = lambda x: torch.func.functional_call(_net, dict(_net.named_parameters()), (x,))
FUNCTIONS["chunks of the batch"] = lambda x: torch.cat([_net(c) for c in x.split(3)])
FUNCTIONS["hard constraint"] = lambda x: x[:, :1] * (1 - x[:, :1]) * _net(x) + torch.exp(-x[:, 1:2])
FUNCTIONS["distance"] = lambda x: torch.sqrt((x**2).sum(1, keepdim=True) + 0.1) * _net(x)
FUNCTIONS["one constant per point"] = lambda x: _net(x) * torch.arange(1.0, 5.0, dtype=x.dtype)[:, None]
add("checkpoint", lambda h: torch.utils.checkpoint.checkpoint(torch.sin, h, use_reentrant=False))


def _autograd_inside(x: Tensor) -> Tensor:
    x = x if x.requires_grad else x.requires_grad_(True)
    return torch.autograd.grad(_net(x).sum(), x, create_graph=True)[0]


FUNCTIONS["autograd inside"] = _autograd_inside

# --------------------------------------------------------------------------------------------------------- degenerate

FUNCTIONS["identity"] = lambda x: x
FUNCTIONS["constant"] = lambda x: torch.ones(x.shape[0], 2, dtype=x.dtype) + B[:2]
FUNCTIONS["detached factor"] = lambda x: (x * x.detach() + x) ** 3
FUNCTIONS["linear"] = filled(nn.Linear(3, 2))
FUNCTIONS["some inputs"] = lambda x: x[:, :1] ** 2
FUNCTIONS["scalar per point"] = lambda x: (x**2).sum(-1) * x[:, 0]
