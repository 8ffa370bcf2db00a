"""The losses of a problem as operators, and where their points belong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from opdsl import backends
from opdsl.errors import LanguageError
from opdsl.evaluation.api import Condition, Operator, operator
from opdsl.evaluation.results import Residuals
from opdsl.training.formulas import parameter_names
from opdsl.training.problem import Problem
from opdsl.training.problem_tables import ProblemCondition

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LossTerm:
    """Losses that come out of one operator.

    Args:
        names: of the losses: one for each equation of the operator, or a single one for all of them together.
        operator: bound by the trainer to its network.
        points: the set of points it is evaluated on; two sets for a periodic condition, whose results are subtracted.
        parameters: names the operator has to be given.
        condition: what says where the points belong; see `place`.
        observed: what the operator is compared with at its points, one column per equation; None for zero.
    """

    names: tuple[str, ...]
    operator: Operator | Condition
    points: tuple[str, ...]
    parameters: tuple[str, ...]
    condition: Condition | None = None
    observed: Points | None = None

    @staticmethod
    def arrays(result: Any) -> tuple[Any, ...]:
        """Return the arrays of one call of the operator, one per equation."""
        return tuple(result) if isinstance(result, Residuals) else (result,)

    def losses(self, results: Sequence[tuple[Any, ...]], mean_square: Callable[[Any], Any]) -> dict[str, Any]:
        """Return the named losses from the arrays on every set of points."""
        first = results[0]
        if len(results) == 2:
            first = tuple(a - b for a, b in zip(*results, strict=True))
        if self.observed is not None:
            xp = array_api_compat.array_namespace(*first)
            first = tuple(a - xp.asarray(o, dtype=a.dtype) for a, o in zip(first, self.observed.T, strict=True))
        parts = [(name, share * mean_square(r)) for (name, share, _), r in zip(self.parts(), first, strict=True)]
        return {name: sum(value for other, value in parts if other == name) for name in self.names}

    def parts(self) -> tuple[tuple[str, float, int], ...]:
        """For each equation of the operator: its loss, its share in that loss's mean, the number of its components."""
        equations = self.operator.residual().equations
        names = self.names if len(self.names) == len(equations) else self.names * len(equations)
        # Several fields are observed at once: their loss is the mean over all of them. Conditions add up.
        share = 1.0 if self.observed is None else 1.0 / len(equations)
        return tuple((name, share, len(e.components)) for name, e in zip(names, equations, strict=True))

    def scales(self, weights: Mapping[str, float], count: int) -> npt.NDArray[np.float64]:
        """What each column of the residuals (count, k) is multiplied by, so that its sum of squares is its weighted loss."""
        return np.concatenate([np.full(k, np.sqrt(weights[name] * share / (count * k))) for name, share, k in self.parts()])


def terms(problem: Problem, backend: str | None, observed: Points | None = None) -> tuple[LossTerm, ...]:
    """Return the losses of a problem; the equations, which share one push-forward, come first, observations (k, m) last."""
    system = operator(problem.system_text, backend=backend, **problem.declarations)
    found = [LossTerm(tuple(problem.equations), system, ("interior",), parameter_names(system))]
    found += [condition_term(problem, condition, backend) for condition in problem.conditions]
    if observed is not None:
        fields = operator("\n".join(problem.fields), backend=backend, **problem.declarations)
        found.append(LossTerm(("data",), fields, ("data",), (), observed=observed))
    return tuple(found)


def condition_term(problem: Problem, condition: ProblemCondition, backend: str | None) -> LossTerm:
    """Return the loss of one condition."""
    name = condition.name
    if condition.periodic:
        derivative = f"d_{condition.periodic} "
        texts = []
        for unknown in problem.fields:
            texts += [f"{derivative * k}{unknown}" for k in range(condition.order + 1)]
        made = operator("\n".join(texts), backend=backend, **problem.declarations)
        return LossTerm((name,), made, (name, f"{name}+"), parameter_names(made))
    made = operator(f"{name}: {condition.equation}", backend=backend, **problem.declarations)
    places = made.conditions
    if condition.everywhere or condition.inside:
        if places:
            key = 'on = "boundary"' if condition.everywhere else "inside = {…}"
            raise LanguageError(f"the equation already names a place; leave out {key}, or the place", code="E401")
        return LossTerm((name,), made, (name,), parameter_names(made))
    inside = next(iter(places.values()), None)
    if inside is None or not inside.where:
        raise LanguageError(
            "the condition names no place", code="E401",
            suggestion='write it, as in u(x=0) = 1 or d_x u(x=1) = 0, or set on = "boundary"',
        )  # fmt: skip
    middle = np.array(problem.box).mean(axis=1)
    placed = _place(problem, inside, middle[None, :])[0]
    for column, (low, high) in enumerate(problem.box):
        if not low <= placed[column] <= high:
            where = f"{problem.columns[column]} = {placed[column]:g}"
            raise LanguageError(f"the place {where} lies outside the box [{low:g}, {high:g}]", code="E403")
    return LossTerm((name,), inside, (name,), parameter_names(inside), inside)


def place(problem: Problem, found: Sequence[LossTerm], points: dict[str, Points]) -> dict[str, Points]:
    """Move the points of boundary and initial conditions to where the conditions hold."""
    moved = {t.points[0]: _place(problem, t.condition, points[t.points[0]]) for t in found if t.condition is not None}
    return points | moved


def _place(problem: Problem, inside: Condition, points: Points) -> Points:
    return np.ascontiguousarray(inside.place(points, backend=backends.HOST, **problem.constants))
