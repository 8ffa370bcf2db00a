"""How a network was reduced, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FLOOR = 0.01


@dataclass(frozen=True)
class Reduction:
    """How a network was reduced, and how well; plain and immutable data, so that it can be part of a program's structure.

    Attributes:
        width: entries M of the hidden states before.
        factor_ranks: columns r_ℓ of the low-rank layers.
        method: how the rows were chosen.
        points: number of sampling points.
        rows: the interpolation rows I_ℓ of every hidden state.
        singular_values: σ_i / σ_1 of the snapshots of every hidden state.
        lost: √(Σ_{i>k} σ_i² / Σ σ_i²) of every hidden state, the part of the snapshots outside of the basis.
        constants: ‖P_ℓ⁻¹‖ of every hidden state: interpolation misses at most this many times what projection misses.
        reach: how far each coefficient of a sampled set is from that of the network, at most, by layer; never below `FLOOR` of
            the largest one. Farther away nothing is known of the reduced network.
        errors: at the sampling points the relative error (in the mean square) of the values, of the first derivatives, …
    """

    width: int
    factor_ranks: tuple[int, ...]
    method: str
    points: int
    rows: tuple[tuple[int, ...], ...]
    singular_values: tuple[tuple[float, ...], ...]
    lost: tuple[float, ...]
    constants: tuple[float, ...]
    reach: tuple[tuple[float, ...], ...]
    errors: tuple[float, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Interpolation rows of every hidden state."""
        return tuple(len(rows) for rows in self.rows)

    @property
    def lines(self) -> tuple[str, ...]:
        """What `explain` says of it, beside the errors."""
        return (
            f"ranks {_listed(self.factor_ranks)}; hidden states of width {self.width} by {_listed(self.ranks)} of their entries "
            f"({self.method}, {self.points} points)",
            f"interpolation constants {', '.join(f'{c:.2g}' for c in self.constants)}",
        )


def _listed(sizes: Sequence[int]) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else ", ".join(str(k) for k in sizes)
