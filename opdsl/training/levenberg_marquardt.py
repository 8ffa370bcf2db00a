r"""Levenberg–Marquardt: damped Gauss–Newton steps with a damping that follows the gain ratio, and geodesic acceleration.

    (JᵀJ + λI) δ₁ = -Jᵀ r,                                        r_vv ≈ 2/h · ((r(θ + h δ₁) - r)/h - J δ₁)
    (JᵀJ + λI) δ₂ = -½ Jᵀ r_vv,                                   θ ← θ + δ₁ + δ₂
    ρ = (‖r(θ)‖² - ‖r(θ + δ)‖²) / (‖r‖² - ‖r + J δ₁‖²)            accepted where ρ > 0

λ is multiplied by max(1/3, 1 - (2ρ-1)³) after an accepted trial, and by 2, 4, 8, … after refused ones (Nielsen 1999). The
second-order correction δ₂ costs one more evaluation of r and a solve with the same factor. Networks need it: along the narrow
curved valleys of their losses the plain step is cut down to a crawl.

References: Levenberg (1944); Marquardt, SIAM J. Appl. Math. 11 (1963) 431–441; Nielsen, IMM-REP-1999-05, eq. 2.22;
Transtrum, Sethna, arXiv:1201.5885, eqs. 11–15.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import array_api_compat

from opdsl.training.damped_steps import Linearisation, linearise
from opdsl.training.least_squares import Array, LeastSquares, Report, State, Vector

_PROBE = 0.1  # h, the part of the step at which the second derivative is taken
_BEND = 0.75  # 2‖δ₂‖/‖δ₁‖ at most; beyond it the expansion says nothing
_ACCEPTED = 1e-4  # the gain ratio at least


@dataclass(frozen=True)
class LevenbergMarquardt:
    """The options of Levenberg–Marquardt; `levenberg_marquardt` makes them."""

    damping: float = 1e-3
    geodesic: bool = True
    matrix_free: bool = False
    trials: int = 12

    def start(self, theta: Array) -> State:
        """The state before the first step; the damping is found there, from the size of the Jacobian."""
        del theta
        return {"damping": 0.0, "growth": 2.0}

    def step(self, problem: LeastSquares, theta: Array, state: State) -> tuple[Array, State, Report]:
        """One step; see `ResidualOptimiser`."""
        at = linearise(problem, theta, matrix_free=self.matrix_free)
        before = _square(at.residual)
        slope = _square(at.transposed(at.residual))
        if not math.isfinite(before) or not math.isfinite(slope):
            return theta, state, Report(before, state["damping"], 0, reason="a residual or its Jacobian is not finite")
        if slope == 0.0:
            return theta, state, Report(before, state["damping"], 0, reason="the gradient is zero")
        # ‖Jᵀr‖²/‖r‖² lies between the squares of the smallest and the largest singular value of J.
        damping, growth = state["damping"] or self.damping * slope / before, state["growth"]
        for trial in range(1, self.trials + 1):
            found = self._trial(problem, theta, at, damping, before)
            if found is not None:
                new, after, gain = found
                calmer = damping * max(1.0 / 3.0, 1.0 - (2.0 * min(gain, 1.5) - 1.0) ** 3)
                return new, {"damping": calmer, "growth": 2.0}, Report(after, damping, trial, gain)
            damping, growth = damping * growth, growth * 2.0
            if not math.isfinite(damping):
                break
        reason = f"no step goes down any more, up to damping {damping:.1e}"
        return theta, state, Report(before, damping, self.trials, reason=reason)

    def _trial(
        self, problem: LeastSquares, theta: Array, at: Linearisation, damping: float, before: float
    ) -> tuple[Array, float, float] | None:
        """Parameters, loss and gain ratio with one damping; None where it is singular, explodes or goes up."""
        solve = at.damped(damping)
        if solve is None:
            return None
        first = solve(at.residual)
        along = at.times(first)
        promised = -float((2.0 * at.residual + along) @ along)
        if not promised > 0.0:
            return None
        step = self._bent(problem, theta, at, solve, first, along) if self.geodesic else first
        new = theta + step
        after = _square(problem.residual(new))
        gain = (before - after) / promised
        return (new, after, gain) if gain > _ACCEPTED else None  # nan is refused, too

    def _bent(
        self, problem: LeastSquares, theta: Array, at: Linearisation, solve: Vector, first: Array, along: Array
    ) -> Array:
        """The step with its second-order correction, where that is small beside it."""
        second = 2.0 / _PROBE * ((problem.residual(theta + _PROBE * first) - at.residual) / _PROBE - along)
        if not math.isfinite(_square(second)):
            return first
        correction = 0.5 * solve(second)
        small = 4.0 * _square(correction) <= _BEND**2 * _square(first)
        return first + correction if small else first


def levenberg_marquardt(
    *, damping: float = 1e-3, geodesic: bool = True, matrix_free: bool = False, trials: int = 12
) -> LevenbergMarquardt:
    """Make a Levenberg–Marquardt optimiser for residuals.

    Best where there are fewer parameters than residuals; with more, the same steps are found by Woodbury's identity. Every
    step goes down, so the points must not change under it from one step to the next without need.

    Args:
        damping: the first λ as a multiple of ‖Jᵀr‖²/‖r‖².
        geodesic: whether steps follow the curvature of the residuals.
        matrix_free: solve by LSMR on products with J, without J.
        trials: dampings tried in one step before it gives up.

    Example:
        >>> import numpy as np
        >>> from opdsl.training.least_squares import LeastSquares
        >>> problem = LeastSquares(
        ...     residual=lambda t: np.array([1.0 - t[0], 10.0 * (t[1] - t[0] ** 2)]),
        ...     jacobian=lambda t: np.array([[-1.0, 0.0], [-20.0 * t[0], 10.0]]),
        ... )
        >>> optimiser, theta = levenberg_marquardt(), np.array([-1.2, 1.0])
        >>> state = optimiser.start(theta)
        >>> for _ in range(30):
        ...     theta, state, report = optimiser.step(problem, theta, state)
        ...     if report.reason:
        ...         break
        >>> bool(abs(theta - 1.0).max() < 1e-8)
        True
    """
    return LevenbergMarquardt(damping, geodesic, matrix_free, trials)


def _square(vector: Array) -> float:
    """‖vector‖²."""
    xp = array_api_compat.array_namespace(vector)
    return float(xp.sum(vector * vector))
