"""What an algebra of jets must do; the engine calls nothing else.

A jet lives in the quotient algebra R[∂]/Ann(C): channels are dual to a basis of the derivative space. Two shapes of algebra
cover every exact strategy: `directional` (powers along directions, vectorised over them) and `tabular` (any derivative
space, by its table of structure constants).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.elementary import Elementary, Series, Term
from opdsl.jets.graph import Array
from opdsl.jets.jet import Jet

Parts = tuple[Array | None, ...]
Needed = frozenset[int]
"""Positions of the parts somebody reads."""
Slots = tuple[int, ...]
"""For each direction of a group the slot of the channel axis it is carried in; −1 where nothing depends on it."""


class Algebra(ABC):
    """One algebra, with its run-time weights filled in.

    Attributes:
        sizes: channels in each part (channel 0 not counted).
        order: highest degree that occurs.
    """

    sizes: tuple[int, ...]
    order: int

    @property
    def channels(self) -> int:
        """Number of channels, channel 0 included."""
        return 1 + sum(self.sizes)

    @abstractmethod
    def requires(self, needed: Needed) -> Needed:
        """Parts of the operands that products and compositions read to produce the ``needed`` parts."""

    def grouped(self) -> Sequence[Sequence[int]]:
        """The parts of each group of directions that may share slots, those of order 1 first; none where there are no such groups."""
        return ()

    def apart(self, group: int, composed: bool) -> Any:
        """Which directions must not share a slot, whatever the entries depend on: (R, R), or False for none; True keeps all of them as
        they are. Composed rules may ask for more."""
        return False

    def packed(self, slots: Sequence[Slots], masks: Sequence[Any]) -> Algebra:
        """This algebra over slots; ``masks`` (R, *S) say which entries depend on which direction, where weights may have to know."""
        raise NotImplementedError

    @abstractmethod
    def compose(self, ops: ArrayOps, function: Elementary, h: Jet, needed: Needed) -> Jet:
        """σ(h) = Σ_k c_k(h_0) (h − h_0)^k for an elementwise σ."""

    @abstractmethod
    def product(self, ops: ArrayOps, bilinear: Pairing, f: Jet, g: Jet, primal: Array, needed: Needed, batch_axis: int | None) -> Jet:
        """B(f, g) for a bilinear map B: channel k is Σ m[k,i,j] B(f_i, g_j)."""


class Pairing:
    """A bilinear map applied to channels: both operands mapped over the channel axis, or one of them."""

    def __init__(self, ops: ArrayOps, apply: Callable[[Any, Any], Any], direct: bool = False) -> None:
        self._ops = ops
        self._apply = apply
        # ``direct``: plain multiplication of arrays of equal rank, which broadcasts over the channel axis by itself.
        self._direct = direct

    def both(self, a: Array, b: Array) -> Array:
        """(C, *S1), (C, *S2) → (C, *S)."""
        return a * b if self._direct else self._ops.channelwise(self._apply, (a, b), (True, True))

    def left(self, a: Array, b0: Array) -> Array:
        """(C, *S1), S2 → (C, *S)."""
        return a * b0 if self._direct else self._ops.channelwise(self._apply, (a, b0), (True, False))

    def right(self, a0: Array, b: Array) -> Array:
        """S1, (C, *S2) → (C, *S)."""
        return a0 * b if self._direct else self._ops.channelwise(self._apply, (a0, b), (False, True))


def powers(n: Sequence[Term], order: int) -> list[Series]:
    """``powers(n, K)[m][j]``: degree-j coefficient of n^m for m = 1 … K, with n = (None, n_1, n_2, …); univariate series.

    Only m ≤ j ≤ K occur; missing n_j count as zero.
    """
    from opdsl.jets.elementary import convolve, plus, times

    base = [None, *n[1:], *[None] * (order + 1 - len(n))][: order + 1]
    table: list[Series] = [[], base]
    for m in range(2, order + 1):
        row: Series = [None] * (order + 1)
        for j in range(m, order + 1):
            if m == 2:
                row[j] = convolve(base, base, j)
            else:
                for i in range(1, j - m + 2):
                    row[j] = plus(row[j], times(base[i], table[m - 1][j - i]))
        table.append(row)
    return table
