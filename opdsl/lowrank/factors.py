r"""The arithmetic of a low-rank network, on the arrays of any framework.

    z₁ = tanh(A x + b),   z_{ℓ+1} = tanh(V_ℓ diag(s_ℓ) U_ℓᵀ z_ℓ),   u = a z_L + c.

The M × M matrices V diag(s) Uᵀ are never formed where M is large: two thin products M × r take their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = Any
"""An array of whichever framework is in use."""
Coefficients = tuple[Array, ...]
"""s_ℓ, shape (r_ℓ,), one for each low-rank layer."""


class Factors(NamedTuple):
    """Everything of a low-rank network but its coefficients.

    A named tuple, so that it is a container of arrays to every framework.

    Args:
        first: A (M, d) and b (M,).
        layers: U (M, r) and V (M, r) of every low-rank layer.
        last: a (m, M) and c (m,).
    """

    first: tuple[Array, Array]
    layers: tuple[tuple[Array, Array], ...]
    last: tuple[Array, Array]

    @property
    def dimension(self) -> int:
        """Number of coordinates d."""
        return int(self.first[0].shape[1])

    @property
    def outputs(self) -> int:
        """Number of output columns m."""
        return int(self.last[0].shape[0])

    @property
    def widths(self) -> tuple[int, ...]:
        """Entries of every hidden state."""
        return (int(self.first[0].shape[0]), *(int(v.shape[0]) for _, v in self.layers))

    @property
    def ranks(self) -> tuple[int, ...]:
        """Columns of the factors of every low-rank layer."""
        return tuple(int(u.shape[1]) for u, _ in self.layers)

    def mapped(self, change: Callable[[Array], Array]) -> Factors:
        """The same with ``change`` applied to every array."""
        return Factors(
            (change(self.first[0]), change(self.first[1])),
            tuple((change(u), change(v)) for u, v in self.layers),
            (change(self.last[0]), change(self.last[1])),
        )


def hidden_states(factors: Factors, s: Sequence[Array], x: Array, tanh: Callable[[Array], Array]) -> list[Array]:
    """z₁ … z_L at one point (d,) or at points (n, d): (…, M) each."""
    weight, bias = factors.first
    states = [tanh(x @ weight.T + bias)]
    for (u, v), scale in zip(factors.layers, s, strict=True):
        (inner, rank), outer = u.shape, v.shape[0]
        if inner * outer <= rank * (inner + outer):
            # Narrower than its rank, as a reduced network is: one small matrix, made once for all points.
            states.append(tanh(states[-1] @ (u @ (v * scale).T)))
        else:
            states.append(tanh(((states[-1] @ u) * scale) @ v.T))
    return states


def value(factors: Factors, s: Sequence[Array], x: Array, tanh: Callable[[Array], Array]) -> Array:
    """u at one point (d,) or at points (n, d): (…, m)."""
    weight, bias = factors.last
    return hidden_states(factors, s, x, tanh)[-1] @ weight.T + bias


def initial(
    dimension: int, width: int, rank: int, depth: int, outputs: int, seed: int
) -> tuple[Factors, tuple[npt.NDArray[np.float64], ...]]:
    """Random first and last layers, orthonormal U and V, and coefficients that fall geometrically.

    The first coefficient is about √M, so that hidden states neither die nor saturate: U and V have columns of length 1.
    """
    rng = np.random.default_rng(seed)

    def orthonormal() -> npt.NDArray[np.float64]:
        return np.linalg.qr(rng.standard_normal((width, rank)))[0]

    first = rng.standard_normal((width, dimension)) / dimension**0.5, rng.uniform(-1.0, 1.0, width)
    layers = tuple((orthonormal(), orthonormal()) for _ in range(depth))
    last = rng.standard_normal((outputs, width)) / width, np.zeros(outputs)
    scale = width**0.5 * 0.8 ** np.arange(rank)
    return Factors(first, layers, last), tuple(scale.copy() for _ in range(depth))
