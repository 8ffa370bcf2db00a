"""Read every formula of a problem, so that a mistake is reported before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from opdsl.errors import LanguageError, OpdslError
from opdsl.evaluation.api import operator
from opdsl.training.formulas import formula, formula_values, parameter_names
from opdsl.training.losses import condition_term
from opdsl.training.problem import Problem
from opdsl.training.problem_errors import Findings, Path
from opdsl.training.problem_tables import METHODS


def check_formulas(problem: Problem, findings: Findings) -> None:
    """Note what the language says about each formula that it cannot read, with its key."""

    def attempt(path: Path, work: Callable[[], object]) -> bool:
        try:
            work()
        except OpdslError as error:
            findings.add(path, f"\n{error}", "E810")
            return False
        return True

    for name, text in problem.equations.items():
        if text:
            attempt(("equations", name), lambda text=text: _equation(problem, text))  # type: ignore[misc]
    for condition in problem.conditions:
        attempt(("conditions", condition.name), lambda c=condition: condition_term(problem, c, None))  # type: ignore[misc]
    for name, text in problem.reference.formulas.items():
        path = ("reference", name)
        if attempt(path, lambda text=text: formula(problem, text).residual()):  # type: ignore[misc]
            attempt(path, lambda text=text: _finite(problem, text))  # type: ignore[misc]
    for name, pair in problem.network.constraints.items():
        for part, text in zip(("factor", "offset"), pair, strict=True):
            attempt(("network", name, part), lambda text=text: _constraint(problem, text))  # type: ignore[misc]
    if method := problem.reference.method:
        name = METHODS[method].parameter
        value = problem.exact_constants.get(name)
        if value is None or not value > 0:
            findings.add("reference.method", f"{method} needs a parameter {name} that is larger than 0")


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
    for name in parameter_names(formula(problem, text)):
        if name not in problem.constants:
            raise LanguageError(f"{name} is learned; a hard constraint can only use known parameters", code="E401")


def _finite(problem: Problem, text: str) -> None:
    """Refuse a formula that is not finite inside the box (a logarithm of a negative number, a pole on a grid point)."""
    low, high = np.array(problem.box).T
    points = low + (high - low) * (0.5 + 0.31 * np.sin(np.arange(1, 18)[:, None] * np.arange(1, len(low) + 1)))
    with np.errstate(all="ignore"):
        values = formula_values(problem, text, points)
    if not np.isfinite(values).all():
        raise LanguageError("the formula is not finite everywhere inside the box", code="E811")
