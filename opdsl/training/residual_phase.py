"""A phase of training with an optimiser for residuals, the same for every framework.

The trainer evaluates residuals and Jacobians in its framework; the linear algebra of a step is LAPACK's, on NumPy views of the
same memory, so that a state is plain numbers and arrays.
"""

from __future__ import annotations

from typing import Any

from opdsl.training.least_squares import LeastSquares, Report, ResidualOptimiser, State
from opdsl.training.levenberg_marquardt import levenberg_marquardt
from opdsl.training.natural_gradient import natural_gradient
from opdsl.training.problem_tables import OptimiserSpec


def make_optimiser(phase: OptimiserSpec) -> ResidualOptimiser:
    """Return the optimiser of a phase."""
    if phase.name == "levenberg_marquardt":
        return levenberg_marquardt(damping=phase.damping, geodesic=phase.geodesic, matrix_free=phase.matrix_free)
    return natural_gradient(damping=phase.damping, momentum=phase.momentum, matrix_free=phase.matrix_free)


class ResidualPhase:
    """One phase: its optimiser, that one's state, and what the last step did.

    Args:
        phase: what the problem file says.
        theta: flat parameters, (P,), at the beginning.
    """

    def __init__(self, phase: OptimiserSpec, theta: Any) -> None:
        self._optimiser = make_optimiser(phase)
        self.state: State = self._optimiser.start(theta)
        self.report: Report | None = None

    def step(self, problem: LeastSquares, theta: Any) -> tuple[Any, bool]:
        """New parameters, and whether another step may change them."""
        new, self.state, self.report = self._optimiser.step(problem, theta, self.state)
        return new, not self.report.reason
