r"""From the parameters of a family to the coefficients of its low-rank network.

    h = tanh(W₃ tanh(W₂ tanh(W₁ μ' + b₁) + b₂) + b₃),   s_ℓ = √M relu(H_ℓ h + g_ℓ),

where μ' are the parameters mapped from their ranges to [−1, 1] (arXiv:2410.04001, §2; the factor √M makes the heads of order one).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from opdsl.lowrank.factors import Array


class Hypernetwork(NamedTuple):
    """Weights; a container of arrays to every framework.

    Args:
        layers: (W, b) of the hidden layers.
        heads: (H, g) for every low-rank layer.
    """

    layers: tuple[tuple[Array, Array], ...]
    heads: tuple[tuple[Array, Array], ...]

    def mapped(self, change: Callable[[Array], Array]) -> Hypernetwork:
        """The same with ``change`` applied to every array."""
        return Hypernetwork(*(tuple((change(w), change(b)) for w, b in part) for part in self))

    def coefficients(
        self, row: Array, scale: float, tanh: Callable[[Array], Array], relu: Callable[[Array], Array]
    ) -> tuple[Array, ...]:
        """s_ℓ for parameters (p,) in [−1, 1]."""
        h = row
        for w, b in self.layers:
            h = tanh(h @ w.T + b)
        return tuple(relu(h @ w.T + b) * scale for w, b in self.heads)


def initial(parameters: int, ranks: Sequence[int], seed: int) -> Hypernetwork:
    """Weights of a hypernetwork whose coefficients fall by 0.8 along the rank, nearly the same for all parameters."""
    rng = np.random.default_rng(seed)
    width = max(ranks)
    sizes = (parameters, width, width, width)

    def dense(inner: int, outer: int, gain: float) -> Any:
        return gain * rng.standard_normal((outer, inner)) / inner**0.5

    layers = tuple((dense(a, b, 1.0), np.zeros(b)) for a, b in pairwise(sizes))
    decay = [0.8 ** np.arange(r) for r in ranks]
    return Hypernetwork(layers, tuple((dense(width, r, 0.1) * d[:, None], d.copy()) for r, d in zip(ranks, decay, strict=True)))
