"""Simpler operators for those without a rule.

Torch's own decompositions serve, except where they are slower, end in primitives that autograd does not know, or ask for sizes
or values that channels do not have. A function here takes the operator's arguments; `NotImplemented` leaves the operator whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decompositions as steps

from opdsl.backends.torch.layers import attention
from opdsl.backends.torch.primitives import lookup
from opdsl.backends.torch.tape import aten


def _addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    return _affine(bias, torch.ops.aten.mm.default(a, b), beta, alpha)


def _baddbmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    return _affine(bias, torch.ops.aten.bmm.default(a, b), beta, alpha)


def _addmv(bias: Tensor, a: Tensor, b: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    return _affine(bias, torch.ops.aten.mv.default(a, b), beta, alpha)


def _affine(bias: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    product = product if alpha == 1 else product * alpha
    return product if beta == 0 else product + (bias if beta == 1 else bias * beta)


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    if bias is None:
        return NotImplemented
    return aten.convolution.default(x, weight, None, *rest) + bias.reshape(-1, *[1] * (weight.dim() - 2))


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, _bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    _output_padding: Any, groups: int, mask: Any,
) -> Any:  # fmt: skip
    """The transposed map of a convolution, where only its input is differentiated: the operator itself returns gaps beside it."""
    if transposed or list(mask) != [True, False, False]:
        return NotImplemented
    kernel = weight.shape[2:]
    sizes = zip(x.shape[2:], grad.shape[2:], kernel, stride, padding, dilation, strict=True)
    rest = [n - ((m - 1) * s - 2 * p + e * (k - 1) + 1) for n, m, k, s, p, e in sizes]
    return aten.convolution.default(grad, weight, None, stride, padding, dilation, True, rest, groups), None, None


def _trilinear_bilinear(a: Tensor, b: Tensor, c: Tensor, e1: Any, e2: Any, e3: Any, over: Any, unroll: int = 1) -> Tensor:
    for axis in sorted(e1):
        a = a.unsqueeze(axis)
    for axis in sorted(e2):
        b = b.unsqueeze(axis)
    for axis in sorted(e3):
        c = c.unsqueeze(axis)
    return (a * b * c).sum(tuple(over))


def _slice_scatter(x: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    # torch.vmap overflows on an end of 2⁶³ − 1, which is what x[:, 2:] = … passes.
    size = x.shape[dim]
    if start is not None and end is not None and end <= size:
        return NotImplemented
    return aten.slice_scatter.default(x, src, dim, 0 if start is None else start, size if end is None else min(end, size), step)


def _masked_write(x: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Any:
    # x[mask] = number, without asking how many places there are.
    given = [i for i in indices if i is not None]
    if len(given) != 1 or given[0].dtype is not torch.bool or values.numel() != 1 or accumulate:
        return NotImplemented
    mask = given[0]
    before = next(k for k, i in enumerate(indices) if i is not None)
    shape = (*[1] * before, *mask.shape, *[1] * (x.dim() - before - mask.dim()))
    return torch.where(mask.reshape(shape), values.reshape(()).to(x.dtype), x)


def _squeeze(x: Tensor, dim: Any = None) -> Any:
    # Which axes go must not depend on lengths again: channels may have one row where the value has many.
    given = range(x.dim()) if dim is None else dim if isinstance(dim, tuple | list) else (dim,)
    axes = [a % x.dim() for a in given if x.shape[a] == 1] if x.dim() else []
    if isinstance(dim, tuple | list) and len(axes) == len(dim):
        return NotImplemented
    return aten.squeeze.dims(x, axes) if axes else aten.alias.default(x)


def _logcumsumexp(x: Tensor, dim: int) -> Any:
    # Torch's own derivatives of it are NaN from the third on. Sums over 2, 4, 8, … neighbours, joined.
    if x.is_complex() or not x.dim():
        return NotImplemented
    size, reach = x.shape[dim], 1
    while reach < size:
        longer = torch.logaddexp(x.narrow(dim, reach, size - reach), x.narrow(dim, 0, size - reach))
        x, reach = torch.cat([x.narrow(dim, 0, reach), longer], dim), 2 * reach
    return aten.alias.default(x)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.complex(radius * torch.cos(angle), radius * torch.sin(angle))


def _variance(x: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> Tensor:
    return _variance_and_mean(x, dim, correction=correction, keepdim=keepdim)[0]


def _variance_and_mean(x: Tensor, dim: Any = None, *, correction: Any = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    axes = tuple(range(x.dim())) if dim is None or not len(dim) else tuple(dim)
    count = math.prod(x.shape[a] for a in axes) - (1 if correction is None else correction)
    mean = x.mean(axes, keepdim=True)
    total = ((x - mean) * (x - mean)).sum(axes, keepdim=keepdim)
    return total / count, mean if keepdim else mean.squeeze(axes)


def _layer_norm(x: Tensor, shape: Any, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    axes = tuple(range(x.dim() - len(shape), x.dim()))
    variance, mean = _variance_and_mean(x, axes, correction=0, keepdim=True)
    scale = torch.rsqrt(variance + eps)
    out = (x - mean) * scale
    out = out if weight is None else out * weight
    return (out if bias is None else out + bias), mean, scale


def _group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, channels: int, size: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    grouped = x.reshape(n, groups, -1)
    variance, mean = _variance_and_mean(grouped, (2,), correction=0, keepdim=True)
    scale = torch.rsqrt(variance + eps)
    out = ((grouped - mean) * scale).reshape(x.shape)
    shape = (channels, *[1] * (x.dim() - 2))
    out = out if weight is None else out * weight.reshape(shape)
    return (out if bias is None else out + bias.reshape(shape)), mean.squeeze(2), scale.squeeze(2)


def _rrelu(
    x: Tensor, noise: Tensor, lower: Any = 0.125, upper: Any = 1 / 3, training: bool = False, generator: Any = None
) -> Any:
    if not training:
        return torch.nn.functional.leaky_relu(x, (lower + upper) / 2), noise
    drawn = torch.empty_like(x).uniform_(lower, upper, generator=generator)
    slope = torch.where(x > 0, torch.ones_like(x), drawn)
    return x * slope, slope


def _threshold(x: Tensor, threshold: Any, value: Any) -> Tensor:
    # Torch's ends in a primitive that autograd does not know.
    return torch.where(x <= threshold, torch.full_like(x, value), x)


def _lstm_cell(
    x: Tensor, h: Tensor, c: Tensor, x_bias: Tensor | None = None, h_bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The fused cell of CUDA, from the products with both weight matrices."""
    gates = _biased(x, x_bias) + _biased(h, h_bias)
    enter, forget, new, leave = gates.chunk(4, 1)
    cell = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(new)
    return torch.sigmoid(leave) * torch.tanh(cell), cell, gates


def _gru_cell(
    x: Tensor, h: Tensor, state: Tensor, x_bias: Tensor | None = None, h_bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The fused cell of CUDA, likewise."""
    x_reset, x_update, x_new = _biased(x, x_bias).chunk(3, 1)
    h_reset, h_update, h_new = _biased(h, h_bias).chunk(3, 1)
    update = torch.sigmoid(x_update + h_update)
    new = torch.tanh(x_new + torch.sigmoid(x_reset + h_reset) * h_new)
    return (state - new) * update + new, x


def _one_layer_lstm(x: Tensor, w: Tensor, v: Tensor, x_bias: Tensor, h_bias: Tensor, h: Tensor, c: Tensor, reverse: bool, *rest: Any) -> Any:
    """A layer as oneDNN carries it out in single precision; found in scripted modules, whose calls nobody sees."""
    biases = bool(rest[4])
    weights = [w, v, x_bias, h_bias] if biases else [w, v]
    out, (last, cell) = steps.one_layer_lstm(x, (h.squeeze(0), c.squeeze(0)), weights, biases, reverse)
    return out, last, cell, torch.empty(0)


def _fused_attention(op: Any) -> Callable[..., Any]:
    """The output of a fused kernel of attention; what else it gives is for its own backward."""
    names = [a.name for a in op._schema.arguments]

    def build(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if given.get("return_debug_mask"):
            return NotImplemented
        mask = given.get("attn_mask", given.get("attn_bias"))
        query, key, value = given["query"], given["key"], given["value"]
        out = attention(query, key, value, mask, given.get("dropout_p", 0.0), given.get("is_causal", False), given.get("scale"))
        return out, *(torch.empty(0) if "Tensor" in str(r.type) else 0 for r in op._schema.returns[1:])

    return build


def _biased(gates: Tensor, bias: Tensor | None) -> Tensor:
    return gates if bias is None else gates + bias


_OWN: dict[Any, Callable[..., Any]] = {
    aten.mkldnn_rnn_layer.default: _one_layer_lstm,
    aten.cudnn_grid_sampler.default: lambda x, grid: aten.grid_sampler_2d.default(x, grid, 0, 0, True),
    **{op: _fused_attention(op) for op in (
        aten._scaled_dot_product_flash_attention_for_cpu.default, aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default, aten._scaled_dot_product_cudnn_attention.default,
    )},
    aten.addmm.default: _addmm,
    aten.baddbmm.default: _baddbmm,
    aten.addmv.default: _addmv,
    aten.convolution.default: _convolution,
    aten._trilinear.default: _trilinear_bilinear,
    aten._thnn_fused_lstm_cell.default: _lstm_cell,
    aten._thnn_fused_gru_cell.default: _gru_cell,
    aten.logcumsumexp.default: _logcumsumexp,
    aten.polar.default: _polar,
    aten.index_put.default: _masked_write,
    aten.squeeze.default: _squeeze,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
    aten.slice_scatter.default: _slice_scatter,
    aten.var.correction: _variance,
    aten.var_mean.correction: _variance_and_mean,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
    aten.rrelu_with_noise_functional.default: _rrelu,
    aten.threshold.default: _threshold,
    aten.rrelu_with_noise.default: lambda *args, **kwargs: _rrelu(*args, **kwargs)[0],
}


def own() -> list[str]:
    """Operators that are decomposed here, for the documentation."""
    return sorted({op.__name__.partition(".")[0] for op in _OWN})


def without_gaps(op: Any) -> Callable[..., Any] | None:
    """For finished programs: only what cannot be written down as it is, results with gaps between them."""
    return _convolution_backward if op is aten.convolution_backward.default else None


def decompose(op: Any) -> Callable[..., Any] | None:
    """Simpler operators for one without a rule: ours, or torch's."""
    if op in _OWN:
        return _OWN[op]
    if lookup(op) is not None:
        return None
    if "airy" in op.__name__:
        return None  # torch's ends in a primitive that autograd does not know
    from torch._decomp import decomposition_table

    if op in decomposition_table:
        found: Callable[..., Any] = decomposition_table[op]
        return found
    # Composite operators called from inside a decomposition arrive whole.
    if op.namespace == "aten" and op._can_decompose():
        composite: Callable[..., Any] = op.decompose
        return composite
    return None
