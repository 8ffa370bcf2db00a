"""Array operations on torch: what the engine may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import array_api_compat.torch as xp
import numpy as np
import torch
from torch import Tensor

from opdsl.backends.torch import bessel
from opdsl.backends.torch.tape import AtenCall, aten
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.points import Batched


class TorchNamespace:
    """array-api-compat with plain operators where its wrappers cost more than they give here."""

    @staticmethod
    def sign(a: Tensor) -> Tensor:
        """−1, 0, 1 or nan: torch's own says 0 of nan, the wrapper writes through a mask, in place."""
        return torch.where(torch.isnan(a), a, torch.sgn(a))

    @staticmethod
    def eye(n: int, *, dtype: Any, device: Any) -> Tensor:
        """The identity; torch's writes its diagonal in place."""
        index = torch.arange(n, device=device)
        return (index[:, None] == index).to(dtype)

    def __getattr__(self, name: str) -> Any:
        found = getattr(xp, name)
        setattr(self, name, found)
        return found


class TorchOps(ArrayOps):
    """Torch tensors with the points along an axis of every value."""

    xp: Any = TorchNamespace()
    points = Batched(xp)
    stacked = False

    def channelwise(self, apply: Callable[..., Any], arrays: Sequence[Tensor], mapped: Sequence[bool]) -> Any:
        """Map over axis 0; products with a constant matrix or factor are written directly, the rest goes through `torch.vmap`."""
        op = apply.op if isinstance(apply, AtenCall) and not apply.kwargs else apply
        if len(arrays) == 2:
            a, b = arrays
            if (op is aten.mm.default or op is aten.matmul.default) and not mapped[1] and b.dim() == 2 and a.dim() >= 3:
                # All channels in one product: (C, …, f) @ (f, g) folds the leading axes into rows.
                return a @ b
            if op is xp.multiply:
                return _aligned(a, mapped[0], b, mapped[1])
        return torch.vmap(apply, in_dims=tuple(0 if m else None for m in mapped), randomness="same")(*arrays)

    def aside(self) -> AbstractContextManager[Any]:
        return torch.no_grad()  # type: ignore[no-any-return]

    def split(self, array: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        return list(torch.split(array, list(sizes)))

    def unstack(self, array: Tensor) -> list[Tensor]:
        return list(torch.unbind(array))

    def special(self, name: str) -> Callable[..., Tensor]:
        return _SPECIAL[name]

    def asarray(self, value: Any, like: Tensor) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(like)
        return torch.as_tensor(np.asarray(value, dtype=np.float64), dtype=like.dtype, device=like.device)

    def nested_ad(
        self, function: Callable[[Tensor], Tensor], x: Tensor, axes: Sequence[tuple[int, ...]]
    ) -> dict[tuple[int, ...], Tensor]:
        r"""Loops of reverse mode: ∂_i of a column is column i of the gradient of its sum over points, for rows do not mix.

        Nested forward mode would be shorter and is silently wrong for layer norm and determinants (torch 2.13).
        """
        wanted = {tuple(a[:k]) for a in axes for k in range(len(a) + 1)}
        with torch.enable_grad():
            points = x if x.requires_grad else x.detach().requires_grad_(True)
            points = points.view_as(points)
            value = function(points)
            columns = value.reshape(value.shape[0], -1).unbind(1)
            done: dict[tuple[int, ...], list[Tensor]] = {(): list(columns)}
            for axis in sorted(wanted, key=len):
                later = sorted({a[len(axis)] for a in wanted if len(a) == len(axis) + 1 and a[:-1] == axis})
                if later:
                    gradients = [_gradient(c, points) for c in done[axis]]
                    for i in later:
                        done[(*axis, i)] = [g[:, i] for g in gradients]
        return {a: _joined(done[tuple(a)]).reshape(value.shape) for a in axes}

    def gradient(self, function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Value and first derivatives by one pull-back for each output."""
        with torch.enable_grad():
            points = x if x.requires_grad else x.detach().requires_grad_(True)
            points = points.view_as(points)
            value = function(points)
            columns = value.reshape(value.shape[0], -1).unbind(1)
            slopes = _joined([_gradient(c, points) for c in columns])
        return value, slopes.reshape(*value.shape, x.shape[1])

    def pull_back(self, function: Callable[[Tensor], Tensor], x: Tensor, count: int, affine: bool) -> Tensor:
        """The gradients of all entries, (count, n, d), in one mapped sweep."""
        value, pull = torch.func.vjp(function, x)
        basis = self.xp.eye(count, dtype=value.dtype, device=value.device)
        rows = basis[:, None, :].expand(count, *value.shape)
        return torch.vmap(lambda row: pull(row)[0])(rows)


def _joined(columns: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(columns), 1) if len(columns) > 1 else columns[0]


def _gradient(column: Tensor, points: Tensor) -> Tensor:
    if not column.requires_grad:
        return torch.zeros_like(points)
    # The derivative of the sum over the points; made of the points, so that their number is no constant of a recording.
    one = points.new_ones((), dtype=column.dtype).expand(column.shape)
    (slope,) = torch.autograd.grad(column, points, one, create_graph=True, allow_unused=True)
    return torch.zeros_like(points) if slope is None else slope


def _aligned(a: Tensor, a_mapped: bool, b: Tensor, b_mapped: bool) -> Tensor:
    """a · b with the channel axis of the mapped operands in front of the broadcast of the others."""
    rank = max(a.dim() - a_mapped, b.dim() - b_mapped)

    def widened(t: Tensor, mapped: bool) -> Tensor:
        missing = rank - (t.dim() - mapped)
        return t.reshape(t.shape[0], *[1] * missing, *t.shape[1:]) if mapped and missing else t

    return widened(a, a_mapped) * widened(b, b_mapped)


_SPECIAL: dict[str, Callable[..., Tensor]] = {
    "erf": torch.erf,
    "erfc": torch.erfc,
    "erfinv": torch.erfinv,
    "sigmoid": torch.sigmoid,
    # Beyond 40 the exponential is below the last place: the exact function, without overflow.
    "softplus": lambda h: torch.nn.functional.softplus(h, threshold=40.0),
    "lgamma": torch.lgamma,
    "digamma": torch.digamma,
    "log_ndtr": torch.special.log_ndtr,
    "ndtr": torch.special.ndtr,
    "ndtri": torch.special.ndtri,
    "erfcx": torch.special.erfcx,
    "sinc": torch.sinc,
    "polygamma": lambda n, h: torch.lgamma(h) if n < 0 else torch.polygamma(n, h),
    "zeta": torch.special.zeta,
    "gammainc": torch.special.gammainc,
    "gammaincc": torch.special.gammaincc,
    "bessel_i0": torch.special.i0,
    "bessel_i1": torch.special.i1,
    "bessel_i0e": torch.special.i0e,
    "bessel_i1e": torch.special.i1e,
    "bessel_k0": bessel.k0,
    "bessel_k1": bessel.k1,
    "bessel_k0e": bessel.k0e,
    "bessel_k1e": bessel.k1e,
    **{f"bessel_{name}": getattr(bessel, name) for name in ("j0", "j1", "y0", "y1")},
    "cbrt": lambda h: torch.sign(h) * torch.abs(h) ** (1 / 3),
}
