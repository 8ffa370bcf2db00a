"""From the formulas of a problem file to operators: losses, hard constraints, reference solutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl import backends
from opdsl.errors import LanguageError, OpdslError
from opdsl.evaluation.api import Condition as ConditionOperator
from opdsl.evaluation.api import Expression, Operator, expression, operator
from opdsl.evaluation.results import Residuals
from opdsl.language.calculus import specialise
from opdsl.language.residual import Residual
from opdsl.strategies.environment import Environment
from opdsl.training.problem import Problem
from opdsl.training.problem_tables import Condition
from opdsl.training.tables import Table

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Term:
    """Losses that come out of one operator.

    Args:
        names: of the losses: one for each equation of the operator, or a single one for all of them together.
        operator: bound by the trainer to its network.
        points: the set of points it is evaluated on; two sets for a periodic condition, whose results are subtracted.
        parameters: names the operator has to be given.
        condition: what says where the points belong; see `place`.
    """

    names: tuple[str, ...]
    operator: Operator
    points: tuple[str, ...]
    parameters: tuple[str, ...]
    condition: ConditionOperator | None = None

    @staticmethod
    def arrays(result: Any) -> tuple[Any, ...]:
        """Return the arrays of one call of the operator, one per equation."""
        return tuple(result) if isinstance(result, Residuals) else (result,)

    def losses(self, results: Sequence[tuple[Any, ...]], mean_square: Callable[[Any], Any]) -> dict[str, Any]:
        """Return the named losses from the arrays on every set of points."""
        first = results[0]
        if len(results) == 2:
            first = tuple(a - b for a, b in zip(*results, strict=True))
        if len(self.names) == len(first):
            return {name: mean_square(r) for name, r in zip(self.names, first, strict=True)}
        return {self.names[0]: sum(mean_square(r) for r in first)}


def terms(problem: Problem, backend: str | None) -> tuple[Term, ...]:
    """Return the losses of a problem; the equations, which share one push-forward, come first."""
    system = operator(problem.system_text, backend=backend, **problem.declarations)
    found = [Term(tuple(problem.equations), system, ("interior",), _parameters(system))]
    return (*found, *(condition_term(problem, condition, backend) for condition in problem.conditions))


def condition_term(problem: Problem, condition: Condition, backend: str | None) -> Term:
    """Return the loss of one condition."""
    name = condition.name
    if condition.periodic:
        derivative = f"d_{condition.periodic} "
        texts = []
        for unknown in problem.fields:
            texts += [f"{derivative * k}{unknown}" for k in range(condition.order + 1)]
        made = operator("\n".join(texts), backend=backend, **problem.declarations)
        return Term((name,), made, (name, f"{name}+"), _parameters(made))
    made = operator(f"{name}: {condition.equation}", backend=backend, **problem.declarations)
    places = made.conditions
    if condition.everywhere:
        if places:
            raise LanguageError(
                'the equation already names a place; leave out on = "boundary", or the place', code="E401"
            )
        return Term((name,), made, (name,), _parameters(made))
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
    return Term((name,), inside, (name,), _parameters(inside), inside)


def place(problem: Problem, found: Sequence[Term], points: dict[str, Points]) -> dict[str, Points]:
    """Move the points of boundary and initial conditions to where the conditions hold."""
    moved = {t.points[0]: _place(problem, t.condition, points[t.points[0]]) for t in found if t.condition is not None}
    return points | moved


def _place(problem: Problem, inside: ConditionOperator, points: Points) -> Points:
    return np.ascontiguousarray(inside.place(points, backend=backends.HOST, **problem.constants))


def _residual(made: Operator) -> Residual:
    """The residual of an operator of a problem, whose parameters are numbers."""
    residual = made.residual()
    return specialise(residual, [f.name for f in residual.fields if f.coefficient])


def _parameters(made: Operator) -> tuple[str, ...]:
    return tuple(spec.name for spec in _residual(made).parameters)


# ---------------------------------------------------------------------------------------------------- plain formulas


def formula(problem: Problem, text: str, backend: str | None = None) -> Expression:
    """Return a formula of the coordinates and parameters of a problem."""
    declared = problem.declarations
    return expression(text, coords=declared["coords"], params=declared["params"].replace("?", ""), backend=backend)


def formula_values(problem: Problem, text: str, points: Points) -> Points:
    """Return a formula at points, (n, d) → (n,), with the parameters' exact values, in float64."""
    made = formula(problem, text, backends.HOST)
    given = {name: problem.exact_constants[name] for name in _parameters(made)}
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
    residual = _residual(formula(problem, text))
    node = residual.equations[0].components[0]
    ops = backends.get(backend).ops
    constants = problem.constants

    def values(x: Any) -> Any:
        found = Environment(ops, x, residual.space, constants)(node)
        return found if hasattr(found, "shape") else ops.asarray(found, x) + 0.0 * x[..., 0]

    return values


# --------------------------------------------------------------------------------------------------------- reference


def reference_values(problem: Problem, points: Points) -> Points | None:
    """Return the known solution at points, (n, d) → (n, m), or None where there is none."""
    reference = problem.reference
    if not reference.active:
        return None
    if reference.method == "cole_hopf":
        from opdsl.training.reference_solutions import cole_hopf

        t, x = (points[:, problem.columns.index(name)] for name in "tx")
        return cole_hopf(t, x, problem.exact_constants["nu"])[:, None]
    return np.stack([formula_values(problem, reference.formulas[name], points) for name in problem.fields], axis=-1)


def observations(problem: Problem, seed: int) -> tuple[Points, Points] | None:
    """Return the places and values to fit, (k, d) and (k, m).

    Noise is Gaussian, relative to the standard deviation of each field.
    """
    if not problem.data.active:
        return None
    dimension = len(problem.columns)
    if problem.data.file is not None:
        table = np.loadtxt(problem.data.file, delimiter=",", skiprows=1, ndmin=2)
        return table[:, :dimension], table[:, dimension:]
    from opdsl.training.sampling import Sampler

    places = Sampler(problem, seed).box("data", problem.data.points, 0)
    values = reference_values(problem, places)
    assert values is not None, "read_data() refuses observations of a missing reference"
    noise = np.random.default_rng([seed, 2]).standard_normal(values.shape)
    return places, values + problem.data.noise * values.std(axis=0) * noise


# ------------------------------------------------------------------------------------------------------------- check


def check_formulas(problem: Problem, top: Table) -> None:
    """Parse every formula, so that a mistake is reported before anything is trained.

    Raises:
        ProblemError: with the file, the key, and what the language says about the formula.
    """

    def attempt(key: str, work: Callable[[], object]) -> None:
        try:
            work()
        except OpdslError as error:
            top.fail(key, f"\n{error}", code="E810")

    for name, text in problem.equations.items():
        attempt(f"equations.{name}", lambda text=text: _equation(problem, text))  # type: ignore[misc]
    for condition in problem.conditions:
        attempt(f"conditions.{condition.name}", lambda c=condition: condition_term(problem, c, None))  # type: ignore[misc]
    for name, text in problem.reference.formulas.items():
        attempt(f"reference.{name}", lambda text=text: formula(problem, text).residual())  # type: ignore[misc]
    for name, pair in problem.network.constraints.items():
        for part, text in zip(("factor", "offset"), pair, strict=True):
            attempt(f"network.{name}.{part}", lambda text=text: _constraint(problem, text))  # type: ignore[misc]
    if problem.reference.method == "cole_hopf" and "nu" not in problem.exact_constants:
        top.fail("reference.method", "cole_hopf needs a parameter nu")
    _check_range(problem, top)


def _equation(problem: Problem, text: str) -> None:
    made = operator(text, **problem.declarations)
    residual = made.residual()
    if made.conditions:
        raise LanguageError("this is a condition: it names a place; move it to [conditions]", code="E401")
    if len(residual.equations) != 1:
        raise LanguageError(
            f"{len(residual.equations)} equations under one name; give each a name of its own", code="E401"
        )


def _constraint(problem: Problem, text: str) -> None:
    for name in _parameters(formula(problem, text)):
        if name not in problem.constants:
            raise LanguageError(f"{name} is learned; a hard constraint can only use known parameters", code="E401")


def _check_range(problem: Problem, top: Table) -> None:
    """Refuse formulas that are not finite inside the box (a logarithm of a negative number, a pole on a grid point)."""
    low, high = np.array(problem.box).T
    points = low + (high - low) * (0.5 + 0.31 * np.sin(np.arange(1, 18)[:, None] * np.arange(1, len(low) + 1)))
    for name, text in problem.reference.formulas.items():
        with np.errstate(all="ignore"):
            values = formula_values(problem, text, points)
        if not np.isfinite(values).all():
            top.fail(f"reference.{name}", "the formula is not finite everywhere inside the box")
