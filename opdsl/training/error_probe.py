"""Errors during a run, at a part of the points where they are measured in the end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from opdsl.training.problem import Problem
from opdsl.training.reference_solutions import Array, reference_values, relative_errors
from opdsl.training.sampling import comparison_points

_PROBED = 1000  # points: they cost next to nothing


class ErrorProbe:
    """Errors of a network that changes.

    Args:
        problem: with or without a reference solution.
    """

    def __init__(self, problem: Problem) -> None:
        self._fields = problem.fields
        self._points, self._exact = np.zeros((0, len(problem.columns))), None
        if problem.reference.active:
            points, _ = comparison_points(problem)
            chosen = np.random.default_rng(20240229).permutation(len(points))[:_PROBED]
            self._points = points[np.sort(chosen)]
            self._exact = reference_values(problem, self._points)

    def errors(self, predict: Callable[[Array], Array]) -> dict[str, float]:
        """Relative L2 error of every field; empty without a reference."""
        return {} if self._exact is None else relative_errors(self._fields, predict(self._points), self._exact)
