"""Layers that torch carries out by fused kernels, in steps that can be followed.

Which kernel runs depends on switches of the whole process (flash attention, oneDNN, cuDNN). Written out, the layers do not ask.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp import decompositions as steps


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q Kᵀ · scale + mask) V: what `scaled_dot_product_attention` computes, in differentiable steps."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scale is None else scale), key.transpose(-2, -1))
    if is_causal:
        allowed = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        scores = torch.where(allowed, scores, -torch.inf)
    if attn_mask is not None:
        scores = torch.where(attn_mask, scores, -torch.inf) if attn_mask.dtype is torch.bool else scores + attn_mask
    weights = torch.softmax(scores, -1)
    return torch.matmul(F.dropout(weights, dropout_p) if dropout_p else weights, value)


def attention_layer(forward: Any, *args: Any, **kwargs: Any) -> Any:
    """Output and weights by separate computations: the one with weights merges points and heads into one axis, and its output
    is the same. Weights that nobody uses leave the graph again."""
    given = inspect.signature(forward).bind(*args, **kwargs)
    given.apply_defaults()
    values = given.arguments
    if not values["need_weights"] or (values["training"] and values["dropout_p"] > 0):
        return forward(**values)
    _, weights = forward(**values)
    output, _ = forward(**{**values, "need_weights": False})
    return output, weights


_CLONES: dict[Any, Any] = {}


def without_overrides(function: Any) -> Any:
    """A function of `torch.nn.functional` without its override check, which would come back to us for ever."""
    if function not in _CLONES:
        names = dict(function.__globals__)
        names |= dict.fromkeys(
            ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), lambda *_: False
        )
        clone = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
        clone.__kwdefaults__ = function.__kwdefaults__
        _CLONES[function] = clone
    return _CLONES[function]


def circular_pad(x: Tensor, pad: Any) -> Tensor:
    """``F.pad(mode="circular")``, which torch carries out by writing into pieces of a new tensor."""
    for k in range(len(pad) // 2):
        axis, (left, right) = x.dim() - 1 - k, pad[2 * k : 2 * k + 2]
        x = x.narrow(axis, max(-left, 0), x.shape[axis] + min(left, 0) + min(right, 0))
        size = x.shape[axis]
        ends = [x.narrow(axis, size - left, left)] if left > 0 else [], [x.narrow(axis, 0, right)] if right > 0 else []
        x = torch.cat([*ends[0], x, *ends[1]], axis)
    return x


def recurrent(layer: Any, *args: Any) -> Any:
    """A recurrent layer, step by step in time."""
    packed = isinstance(args[1], Tensor) and not isinstance(args[3], bool)
    return RECURRENT[layer][packed](*args)


def _lstm(
    input: Tensor, hx: Any, weights: Any, biases: bool, layers: int, dropout: float, train: bool, both: bool, batch_first: bool
) -> Any:
    projected = hx[0].size(2) != hx[1].size(2)
    hidden, weights = list(zip(hx[0], hx[1], strict=True)), steps.gather_params(weights, biases, projected)
    out, last = steps._rnn_helper(
        input, hidden, weights, biases, layers, dropout, train, both, batch_first, steps.one_layer_lstm
    )  # fmt: skip
    h, c = zip(*last, strict=True)
    return out, torch.stack(h), torch.stack(c)


RECURRENT: dict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = {
    torch.lstm: (_lstm, steps.lstm_data_impl),
    torch.gru: (steps.gru_impl, steps.gru_impl_data),
    torch.rnn_tanh: (steps.rnn_tanh_input, steps.rnn_tanh_data),
    torch.rnn_relu: (steps.rnn_relu_input, steps.rnn_relu_data),
}
"""For each layer what carries it out, for sequences of one length and for packed ones."""
