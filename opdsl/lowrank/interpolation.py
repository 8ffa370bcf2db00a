r"""Bases from snapshots, and the rows that determine the rest of a vector in their span.

A vector z near the span of the columns of Ξ (M, k) is known from k of its entries: z ≈ Ξ P⁻¹ z[I] with P = Ξ[I], and

    ‖z − Ξ P⁻¹ z[I]‖ ≤ ‖P⁻¹‖ ‖z − Ξ Ξᵀ z‖,

so that ‖P⁻¹‖ says how much the choice of rows loses (Chaturantabut and Sorensen, SIAM J. Sci. Comput. 32 (2010) 2737, lemma 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from opdsl.errors import ReductionError, shown, unknown

Floats = npt.NDArray[np.float64]
METHODS = ("deim", "qdeim")


@dataclass(frozen=True, eq=False)
class Interpolation:
    """A basis and its rows.

    Args:
        basis: Ξ, (M, k), orthonormal columns.
        rows: I, k different rows.
        singular_values: of the snapshots, falling.

    Raises:
        ReductionError: the rows do not determine the coefficients: Ξ[I] is singular.
    """

    basis: Floats
    rows: tuple[int, ...]
    singular_values: Floats

    def __post_init__(self) -> None:
        p = self.basis[list(self.rows)]
        if np.linalg.cond(p) > 1.0 / (len(self.basis) * np.finfo(np.float64).eps):
            raise ReductionError(
                f"the interpolation rows {list(self.rows)} are singular: vectors of the basis differ where these entries agree. "
                f"Choose rows with method={' or '.join(repr(m) for m in METHODS)}, or a smaller rank."
            )

    @cached_property
    def inverse(self) -> Floats:
        """P⁻¹, (k, k)."""
        return np.asarray(np.linalg.inv(self.basis[list(self.rows)]), dtype=np.float64)

    @cached_property
    def constant(self) -> float:
        """‖P⁻¹‖ in the spectral norm: at least 1."""
        return float(np.linalg.norm(self.inverse, 2))

    @property
    def lost(self) -> float:
        """The part of the snapshots outside of the basis, √(Σ_{i>k} σ_i² / Σ σ_i²)."""
        squares = self.singular_values**2
        return float(np.sqrt(squares[len(self.rows) :].sum() / squares.sum()))


def interpolation(snapshots: Floats, rank: int, method: str = "deim", name: str = "the snapshots") -> Interpolation:
    """POD basis and interpolation rows of snapshots.

    Args:
        snapshots: (M, N), one in each column.
        rank: columns of the basis.
        method: ``"deim"``, greedy rows; ``"qdeim"``, the pivots of a QR decomposition of Ξᵀ.
        name: of the snapshots, for messages.

    Raises:
        ReductionError: the snapshots do not span so many dimensions.

    Reference: Drmač and Gugercin, SIAM J. Sci. Comput. 38 (2016) A631 (QDEIM).
    """
    if method not in METHODS:
        raise ReductionError(unknown("no interpolation method", method, METHODS))
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise ReductionError(f"rank={shown(rank)}: give the number of interpolation rows, an integer of at least one.")
    if not np.isfinite(snapshots).all():
        raise ReductionError(f"{name} hold numbers that are not finite: the network overflows at these points.")
    if rank > min(snapshots.shape):
        what = "snapshots" if rank > snapshots.shape[1] else "entries"
        raise ReductionError(
            f"rank={rank} is more than there are {what} in {name} ({min(snapshots.shape)}): "
            f"{'give more points or more coefficients' if what == 'snapshots' else 'the network is no wider'}, or a smaller rank."
        )
    left, sigma, _ = np.linalg.svd(snapshots, full_matrices=False)
    floor = max(snapshots.shape) * np.finfo(np.float64).eps * sigma[0]
    if sigma[rank - 1] <= floor:
        raise ReductionError(
            f"rank={rank} is more than {name} span: of {snapshots.shape[1]} only {int((sigma > floor).sum())} are linearly "
            "independent to working precision. Give more points or more coefficients, or a smaller rank."
        )
    basis = left[:, :rank]
    return Interpolation(basis, greedy_rows(basis) if method == "deim" else pivot_rows(basis), sigma)


def greedy_rows(basis: Floats) -> tuple[int, ...]:
    """One row for each column: where interpolation at the rows before fails most (Barrault et al., C. R. Acad. Sci. 339 (2004))."""
    rows = [int(np.abs(basis[:, 0]).argmax())]
    for k in range(1, basis.shape[1]):
        before = basis[:, :k]
        miss = basis[:, k] - before @ np.linalg.solve(before[rows], basis[rows, k])
        rows.append(int(np.abs(miss).argmax()))
    return tuple(rows)


def pivot_rows(basis: Floats) -> tuple[int, ...]:
    """The columns that a pivoted QR decomposition of Ξᵀ takes first."""
    from scipy.linalg import qr

    return tuple(int(i) for i in qr(basis.T, mode="economic", pivoting=True)[2][: basis.shape[1]])
