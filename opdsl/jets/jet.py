"""A jet: the channels of one intermediate array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from opdsl.errors import StrategyError
from opdsl.jets.graph import Array


@dataclass(frozen=True, slots=True)
class Jet:
    """Values c(∂)h of one intermediate array h for all channels c of an algebra.

    Args:
        primal: channel 0, the value of h; shape S.
        parts: the other channels, grouped as the algebra groups them (`Algebra.sizes`): each part has shape
            (channels, *S), channel axis in front, or is None where all of it is exactly zero.
        fixed: for each part whether it is the same at every point. Before the first nonlinearity the first-degree channels
            are rows of the weights (theory: "the first linear layer is free"); they then carry a batch axis of length 1
            (batched graphs), or none at all (graphs of one point, where the mapping over points keeps them unbatched).
        batch_axis: position of the point axis in S; None in graphs of one point.
    """

    primal: Array
    parts: tuple[Array | None, ...]
    fixed: tuple[bool, ...]
    batch_axis: int | None = None

    @property
    def is_constant(self) -> bool:
        """Whether every derivative is exactly zero."""
        return all(part is None for part in self.parts)

    def map(self, change: Callable[[Any], Any]) -> Jet:
        """Apply a shape-preserving linear map to every part."""
        return replace(self, parts=tuple(None if p is None else change(p) for p in self.parts))


def align(xp: Any, weight: Any, ndim: int, batch_axis: int | None, lead: int = 0) -> Any:
    """Shape a per-direction, per-point weight so that it broadcasts against parts of shape (…, *S).

    ``weight`` has ``lead`` leading axes over directions, then either nothing or one axis over points.
    """
    if not hasattr(weight, "shape"):
        return weight
    points = len(weight.shape) - lead
    tail = [1] * ndim
    if points:
        if batch_axis is None:
            raise per_point_error()
        tail[batch_axis] = weight.shape[-1]
    return xp.reshape(weight, (*weight.shape[:lead], *tail)) if lead or points else weight


def per_point_error() -> StrategyError:
    """Weights per point meet an array in which the points have no axis of their own."""
    return StrategyError(
        "a coefficient that varies from point to point meets an intermediate array of the network in which the axis of the "
        "points is merged with another one or cut into pieces. Use strategy='nested_ad', or a network without such reshapes."
    )
