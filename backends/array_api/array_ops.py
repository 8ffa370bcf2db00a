"""Array operations of a library of the array API: what the engine may use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat

from opdsl.backends.array_api.channelwise import ChannelNamespace, over_channels
from opdsl.errors import StrategyError
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.graph import Array
from opdsl.jets.points import Batched

_SCIPY_SPECIAL = {"erf", "erfc", "erfinv", "cbrt"}


class ArrayApiOps(ArrayOps):
    """Array operations of one namespace of the array API; functions of ``xp`` act on all channels at once where they are given some."""

    stacked = False

    def __init__(self, xp: Any) -> None:
        self._own = xp
        self.xp, self.points = ChannelNamespace(xp), Batched(xp)

    def channelwise(self, apply: Callable[..., Any], arrays: Sequence[Array], mapped: Sequence[bool]) -> Any:
        return over_channels(self._own, apply, arrays, mapped)

    def special(self, name: str) -> Callable[[Array], Array]:
        xp = self._own
        if name == "sigmoid":
            return lambda h: xp.where(h >= 0, xp.ones_like(h), xp.exp(-xp.abs(h))) / (xp.exp(-xp.abs(h)) + 1.0)
        if name == "softplus":
            return lambda h: xp.maximum(h, xp.zeros_like(h)) + xp.log1p(xp.exp(-xp.abs(h)))
        if name in _SCIPY_SPECIAL and array_api_compat.is_numpy_namespace(xp):
            import scipy.special

            return getattr(scipy.special, name)  # type: ignore[no-any-return]
        raise KeyError(name)

    def asarray(self, value: Any, like: Array) -> Array:
        return self.xp.asarray(value, dtype=like.dtype, device=like.device)

    def nested_ad(self, function: Any, x: Array, axes: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], Array]:
        raise StrategyError("nested_ad needs automatic differentiation, which the NumPy backend does not have. Use another strategy.")

    def gradient(self, function: Any, x: Array) -> tuple[Array, Array]:
        raise StrategyError("reverse mode needs automatic differentiation, which the NumPy backend does not have.")

    def pull_back(self, function: Any, x: Array, count: int, affine: bool) -> Array:
        raise StrategyError("reverse mode needs automatic differentiation, which the NumPy backend does not have.")
