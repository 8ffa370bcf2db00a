"""``optimiser = "auto"``: a short first-order phase, then the second-order method that the sizes allow, and why."""

from __future__ import annotations

import itertools
import math

from opdsl.errors import ProblemError
from opdsl.training.network import sizes
from opdsl.training.problem import Problem
from opdsl.training.problem_tables import OptimiserSpec

_BYTES = 2 << 30  # what a Jacobian and its Gram matrix may take; fixed, so that a problem is trained alike on all machines
_ADAM = OptimiserSpec("adam", 200, 5e-3, "exponential", 0.1)
_STEPS, _ROUNDS = 100, 4


def parameter_count(problem: Problem) -> int:
    """P: weights and biases of the network, and the learned parameters of the equations."""
    widths = sizes(problem)
    weights = sum((before + 1) * after for before, after in itertools.pairwise(widths))
    return weights + sum(p.learn for p in problem.parameters)


def residual_count(problem: Problem) -> int:
    """n: residuals of all losses together, an equation or condition counted as a scalar."""
    sampling, fields = problem.sampling, len(problem.fields)
    count = sampling.interior * len(problem.equations) + problem.data.points * fields
    for condition in problem.conditions:
        each = (condition.order + 1) * fields if condition.periodic else 1
        count += each * sampling.counts.get(condition.name, sampling.boundary)
    return count


def working_memory(residuals: int, parameters: int, itemsize: int = 8) -> int:
    """Bytes of one step with a Jacobian: it, its scaled copy, and three matrices of the smaller size."""
    return itemsize * (2 * residuals * parameters + 3 * min(residuals, parameters) ** 2)


def choose(problem: Problem) -> tuple[tuple[OptimiserSpec, ...], str]:
    """Return the phases of ``auto`` and the reason, one sentence."""
    n, parameters = residual_count(problem), parameter_count(problem)
    needed = working_memory(n, parameters)
    counted = f"{parameters:,} parameters and {n:,} residuals"
    if needed > _BYTES:
        why = f"a Jacobian of {counted} would take {_size(needed)}, more than {_size(_BYTES)}: products with it only"
        second = OptimiserSpec("levenberg_marquardt", _STEPS, matrix_free=True)
    elif parameters <= n:
        why = f"{counted}: no more parameters than residuals, and {_size(needed)} for the Jacobian"
        second = OptimiserSpec("levenberg_marquardt", _STEPS)
    else:
        why = f"{counted}: more parameters than residuals, so that the smaller matrix JJᵀ is factored"
        second = OptimiserSpec("natural_gradient", _STEPS * _ROUNDS)
        return (_ADAM, second), f"adam, then natural_gradient ({why})"
    return (_ADAM, *[second] * _ROUNDS), f"adam, then levenberg_marquardt ({why})"


def check_memory(phase: OptimiserSpec, residuals: int, parameters: int, itemsize: int, available: float | None) -> None:
    """Refuse a phase whose Jacobian does not fit.

    Args:
        phase: of an optimiser for residuals.
        residuals, parameters: n and P.
        itemsize: bytes of one number.
        available: bytes; None where nobody can tell.

    Raises:
        ProblemError: with the sizes and the method that fits.
    """
    needed = working_memory(residuals, parameters, itemsize)
    if phase.matrix_free or available is None or needed <= available:
        return
    fitting = max(1, math.floor(available / (2.0 * itemsize * parameters)))
    raise ProblemError(
        f"{phase.name} keeps the Jacobian of {residuals:,} residuals in {parameters:,} parameters and a matrix of "
        f"{min(residuals, parameters):,} × {min(residuals, parameters):,}, {_size(needed)} together; {_size(available)} are free. "
        f"Products alone fit: set matrix_free = true; or take fewer points (about {fitting:,} residuals fit) or a smaller network",
        code="E830",
    )


def _size(count: float) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"
