"""Plain formulas of a problem: functions of coordinates and parameters, as numbers and inside a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl import backends
from opdsl.evaluation.api import Expression, expression
from opdsl.evaluation.description import Described
from opdsl.language.calculus import specialise
from opdsl.language.residual import Residual
from opdsl.strategies.environment import Environment
from opdsl.training.problem import Problem

Points = npt.NDArray[np.float64]


def residual_of(made: Described) -> Residual:
    """The residual of an operator of a problem, whose parameters are numbers."""
    residual = made.residual()
    return specialise(residual, [f.name for f in residual.fields if f.coefficient])


def parameter_names(made: Described) -> tuple[str, ...]:
    """Names that an operator has to be given."""
    return tuple(spec.name for spec in residual_of(made).parameters)


def formula(problem: Problem, text: str, backend: str | None = None) -> Expression:
    """Return a formula of the coordinates and parameters of a problem."""
    declared = problem.declarations
    return expression(text, coords=declared["coords"], params=declared["params"].replace("?", ""), backend=backend)


def formula_values(problem: Problem, text: str, points: Points) -> Points:
    """Return a formula at points, (n, d) → (n,), with the parameters' exact values, in float64."""
    made = formula(problem, text, backends.HOST)
    given = {name: problem.exact_constants[name] for name in parameter_names(made)}
    return np.broadcast_to(np.asarray(made(points, **given), dtype=np.float64), (len(points),))


def constraint_functions(
    problem: Problem, backend: str
) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]:
    """Return (factor, offset) of every constrained field: functions of points (…, d) in the backend's arrays.

    They stand inside the network, so they are plain array operations that a capture sees through.
    """
    return {
        name: (_inside(problem, factor, backend), _inside(problem, offset, backend))
        for name, (factor, offset) in problem.network.constraints.items()
    }


def _inside(problem: Problem, text: str, backend: str) -> Callable[[Any], Any]:
    residual = residual_of(formula(problem, text))
    node = residual.equations[0].components[0]
    ops = backends.get(backend).ops
    constants = problem.constants

    def values(x: Any) -> Any:
        found = Environment(ops, x, residual.space, constants)(node)
        return found if hasattr(found, "shape") else ops.asarray(found, x) + 0.0 * x[..., 0]

    return values
