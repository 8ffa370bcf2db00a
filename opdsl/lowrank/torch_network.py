"""Low-rank networks on PyTorch: modules whose arrays are parameters, or tensors that somebody else has computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from opdsl.lowrank.factors import Array, Factors, value
from opdsl.lowrank.network import LRNR
from opdsl.lowrank.record import Reduction


class TorchLRNR(torch.nn.Module, LRNR):  # type: ignore[misc]
    """See `LRNR`. Parameters stay parameters; coefficients that come out of a hypernetwork are buffers, through which gradients flow.

    Parameters and buffers are ``first_weight``, ``first_bias``, ``u0``, ``v0``, ``s0``, … ``last_weight``, ``last_bias``.
    """

    backend = "torch"

    def __init__(
        self, factors: Factors, coefficients: Sequence[Array], reduced: LRNR | None = None, reduction: Reduction | None = None
    ) -> None:
        torch.nn.Module.__init__(self)
        self._depth = len(factors.layers)
        named = {"first_weight": factors.first[0], "first_bias": factors.first[1]}
        for k, (u, v) in enumerate(factors.layers):
            named |= {f"u{k}": u, f"v{k}": v, f"s{k}": coefficients[k]}
        named |= {"last_weight": factors.last[0], "last_bias": factors.last[1]}
        for name, tensor in named.items():
            if isinstance(tensor, torch.nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)
        self.reduced, self.reduction = reduced, reduction

    @property
    def factors(self) -> Factors:  # type: ignore[override]
        layers = tuple((getattr(self, f"u{k}"), getattr(self, f"v{k}")) for k in range(self._depth))
        return Factors((self.first_weight, self.first_bias), layers, (self.last_weight, self.last_bias))

    @property
    def coefficients(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        return tuple(getattr(self, f"s{k}") for k in range(self._depth))

    def rebuilt(
        self, factors: Factors, coefficients: Sequence[Array], reduced: LRNR | None = None, reduction: Reduction | None = None
    ) -> TorchLRNR:
        return TorchLRNR(factors, coefficients, reduced, reduction)

    @classmethod
    def array(cls, a: Any, dtype: str, trainable: bool) -> Any:
        tensor = torch.as_tensor(a.astype(dtype))
        return torch.nn.Parameter(tensor) if trainable else tensor

    def forward(self, x: Tensor) -> Tensor:
        return value(self.factors, self.coefficients, x, torch.tanh)  # type: ignore[no-any-return]
