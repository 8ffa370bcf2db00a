"""Bessel functions with derivatives.

Torch computes their values and takes them for constants when it differentiates: no error, and a gradient of zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from opdsl.backends.torch.tape import aten


class _WithSlope(torch.autograd.Function):  # type: ignore[misc]
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, name: str) -> Tensor:
        return getattr(torch.special, name)(x)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, str], output: Tensor) -> None:
        ctx.name = inputs[1]
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return g * _SLOPES[ctx.name](x), None


def _named(name: str) -> Callable[[Tensor], Tensor]:
    return lambda x: _WithSlope.apply(x, name)  # type: ignore[no-any-return]


j0, j1, y0, y1 = (_named(f"bessel_{name}") for name in ("j0", "j1", "y0", "y1"))
k0, k1 = (_named(f"modified_bessel_{name}") for name in ("k0", "k1"))
k0e, k1e = (_named(f"scaled_modified_bessel_{name}") for name in ("k0", "k1"))


def _j1_by_x(x: Tensor) -> Tensor:
    # J₁(x)/x = Σ (−1)^k (x/2)^{2k} / (2 k! (k+1)!), where dividing loses digits.
    small = x.abs() < 0.5
    near, far = torch.where(small, x, 0.0), torch.where(small, 1.0, x)
    square, series = near * near / -4, torch.zeros_like(x)
    for k in range(8, -1, -1):
        series = series * square + 0.5 / (math.factorial(k) * math.factorial(k + 1))
    return torch.where(small, series, j1(far) / far)


_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {
    "bessel_j0": lambda x: -j1(x),
    "bessel_j1": lambda x: j0(x) - _j1_by_x(x),
    "bessel_y0": lambda x: -y1(x),
    "bessel_y1": lambda x: y0(x) - y1(x) / x,
    "modified_bessel_k0": lambda x: -k1(x),
    "modified_bessel_k1": lambda x: -k0(x) - k1(x) / x,
    "scaled_modified_bessel_k0": lambda x: k0e(x) - k1e(x),
    "scaled_modified_bessel_k1": lambda x: k1e(x) - k0e(x) - k1e(x) / x,
}

BY_OPERATOR: dict[Any, Callable[[Tensor], Tensor]] = {
    **{getattr(aten, f"special_{name}").default: _named(name) for name in _SLOPES},
    aten.special_modified_bessel_i0.default: torch.special.i0,
    aten.special_modified_bessel_i1.default: torch.special.i1,
    aten.special_spherical_bessel_j0.default: lambda x: torch.sinc(x / math.pi),
}
