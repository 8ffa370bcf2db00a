r"""Natural gradient in the energy metric, by Woodbury's identity, with SPRING's momentum and a line search.

    φ = argmin ‖J φ + r‖² + λ‖φ - μ φ_before‖² = μ φ_before - Jᵀ (JJᵀ + λI)⁻¹ (r + μ J φ_before),     θ ← θ + η φ

For least squares the energy metric is JᵀJ, so that without momentum this is a Gauss–Newton step. With n < P points many
parameters are not seen by J; there φ keeps what earlier steps found, which is what the momentum is for. λ is a share of the
loss, so that the damping vanishes with the residuals. η is the best of 1, ½, ¼, … that goes down.

References: Müller, Zeinhofer, arXiv:2302.13163, eq. 14 (energy natural gradient); Guzmán-Cordero et al., arXiv:2505.12149
(Woodbury, momentum); Goldshlager, Abrahamsen, Lin, arXiv:2401.10190, eq. 30 (SPRING).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import array_api_compat

from opdsl.training.damped_steps import linearise
from opdsl.training.least_squares import Array, LeastSquares, Report, State

_SHORTEST = 20  # halvings of a step


@dataclass(frozen=True)
class NaturalGradient:
    """The options of a natural gradient; `natural_gradient` makes them."""

    damping: float = 1e-3
    momentum: float = 0.9
    matrix_free: bool = False

    def start(self, theta: Array) -> State:
        """The state before the first step."""
        return {"direction": theta * 0.0}

    def step(self, problem: LeastSquares, theta: Array, state: State) -> tuple[Array, State, Report]:
        """One step; see `ResidualOptimiser`."""
        at = linearise(problem, theta, matrix_free=self.matrix_free)
        before = _square(at.residual)
        if not math.isfinite(before):
            return theta, state, Report(before, 0.0, 0, reason="a residual is not finite")
        if before == 0.0:
            return theta, state, Report(before, 0.0, 0, reason="the residuals are zero")
        damping = self.damping * before
        carried = self.momentum * state["direction"]
        # A momentum that leads nowhere is dropped before the step is given up, and a singular matrix is damped more.
        for trial, start in enumerate((carried, 0.0 * carried), 1):
            solve = at.damped(damping)
            while solve is None:
                damping *= 100.0
                solve = at.damped(damping)
            direction = start + solve(at.residual + at.times(start))
            found = self._search(problem, theta, direction, before)
            if found is not None:
                new, after, length = found
                return new, {"direction": direction}, Report(after, damping, trial, length=length)
        return theta, state, Report(before, damping, 2, reason="no step along the natural gradient goes down any more")

    def _search(self, problem: LeastSquares, theta: Array, direction: Array, before: float) -> tuple[Array, float, float] | None:
        """The first of the halved steps after which the loss grows again; None where none goes down."""
        best: tuple[Array, float, float] | None = None
        for halvings in range(_SHORTEST):
            length = 0.5**halvings
            new = theta + length * direction
            after = _square(problem.residual(new))
            if after < (before if best is None else best[1]):
                best = new, after, length
            elif best is not None:
                break
        return best


def natural_gradient(*, damping: float = 1e-3, momentum: float = 0.9, matrix_free: bool = False) -> NaturalGradient:
    """Make a natural-gradient optimiser for residuals.

    Best where there are more parameters than residuals: a step costs one Cholesky factor of n × n, and new points may be
    drawn between steps.

    Args:
        damping: λ as a multiple of the loss.
        momentum: μ, what is kept of the direction before; 0 for plain energy natural gradient.
        matrix_free: solve by LSMR on products with J, without J.

    Example:
        >>> import numpy as np
        >>> from opdsl.training.least_squares import LeastSquares
        >>> line = LeastSquares(lambda t: np.array([t[0] + t[1] - 3.0]), lambda t: np.array([[1.0, 1.0]]))
        >>> optimiser, theta = natural_gradient(), np.array([0.0, 1.0])
        >>> theta, state, report = optimiser.step(line, theta, optimiser.start(theta))
        >>> report.loss < 1e-4
        True
    """
    return NaturalGradient(damping, momentum, matrix_free)


def _square(vector: Array) -> float:
    """‖vector‖²."""
    xp = array_api_compat.array_namespace(vector)
    return float(xp.sum(vector * vector))
