r"""One member of a family: only the few coefficients s are trained, through the reduced network or through the full one.

`adam` is the published fast phase: through the reduced network, at a dozen points, it minimises

    Σ |equations| + Σ |conditions| + Σ_k λ_k |s_k − s⁰_k|.

How far the coefficients may go is one rule for all targets: moving each of the q coefficients by the reach R_k of the reduced
network (`Reduction.reach`) costs as much as the loss at the start, λ_k = loss(s⁰) / (q R_k).

`newton` takes squares, with Levenberg–Marquardt steps whose Jacobians have as many columns as there are coefficients: through the
full network too, a step costs about as much as evaluating it once for each coefficient.

Reference: arXiv:2410.04001, §4 (fast phase, without the rule).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from opdsl import backends
from opdsl.errors import ProblemError, ReductionError
from opdsl.lowrank.driver import Driver, Progress, cosine, detached, driver
from opdsl.lowrank.family import Family, Floats
from opdsl.lowrank.network import LRNR

_TOLERANCE = 1e-12
"""Second-order steps end earlier where nothing changes by more than this part."""


@dataclass(frozen=True)
class Adapted:
    """What an adaptation gives.

    Attributes:
        net: the full network with the new coefficients, and its reduced network with the same.
        losses: at the start and after the last step, by name; of the network that was trained through.
        steps: of the optimiser.
    """

    net: LRNR
    losses: tuple[Mapping[str, float], Mapping[str, float]]
    steps: int


def adam(
    family: Family,
    net: LRNR,
    points: Any,
    given: Mapping[str, float],
    *,
    steps: int = 400,
    rate: float = 2.5e-5,
    betas: tuple[float, float] = (0.9, 0.99),
    falling: bool = False,
    locality: float = 1.0,
    full: bool = False,
    progress: Progress | None = None,
) -> Adapted:
    """Train the coefficients by Adam: the fast phase, or with ``full`` and ``falling`` fine-tuning of the full network.

    Args:
        family: equations and conditions.
        net: with its reduced network (`LRNR.with_reduced`), unless ``full``.
        points: NumPy points (n, d).
        given: values of the parameters.
        steps, rate, betas: of Adam.
        falling: let the rate fall along a cosine.
        locality: times the λ of the rule; none where the network is full.
        full: train through the network itself.
        progress: told ``(step, steps, phase, losses by name)``.

    Raises:
        ReductionError: there is no reduced network.
    """
    task = _Task(family, net, points, given, full, absolute=True)
    start = task.array(task.start)
    weight = 0.0 if full else locality
    price = task.array(weight * task.total(task.start) / (len(task.start) * task.reach))
    name = "tuning" if full else "fast"
    every = max(1, steps // 10)

    def told(step: int, _: Any, terms: Mapping[str, Any]) -> None:
        if progress is not None and (step % every == 0 or step == steps):
            progress(step, steps, name, {k: float(detached(v)) for k, v in terms.items()})

    rates = cosine(rate, steps) if falling else [rate] * steps
    found = task.engine.minimise(_absolute(family), start, lambda _: (*task.data, start, price), rates, told, betas)
    return task.adapted(detached(found), steps)


def newton(
    family: Family,
    net: LRNR,
    points: Any,
    given: Mapping[str, float],
    *,
    steps: int = 10,
    locality: float = 1.0,
    full: bool = False,
    progress: Progress | None = None,
) -> Adapted:
    """Train the coefficients by Levenberg–Marquardt (SciPy's MINPACK).

    Args:
        family, net, points, given, full: as for `adam`; squares take the place of absolute values.
        steps: at most.
        locality: times the λ of the rule; where the network is full the reach is that of its largest coefficient.
        progress: told once, after the last step.

    Raises:
        ReductionError: there is no reduced network.
    """
    from scipy.optimize import least_squares

    task = _Task(family, net, points, given, full, absolute=False)
    both = task.engine.with_jacobian(_vector(family))
    penalty = np.sqrt(locality * task.total(task.start) / len(task.start)) / task.reach

    @lru_cache(1)
    def evaluated(key: bytes) -> tuple[Floats, Floats]:
        s = np.frombuffer(key).copy()
        value, jacobian = both(task.array(s), *task.data)
        return np.concatenate([value, penalty * (s - task.start)]), np.concatenate([jacobian, np.diag(penalty)])

    # MINPACK counts the evaluation at the start.
    found = least_squares(
        lambda s: evaluated(s.tobytes())[0], task.start, jac=lambda s: evaluated(s.tobytes())[1], method="lm", x_scale=task.reach,
        max_nfev=steps + 1, ftol=_TOLERANCE, xtol=_TOLERANCE, gtol=_TOLERANCE,
    )  # fmt: skip
    taken = int(found.nfev) - 1
    if progress is not None:
        progress(taken, steps, "newton", task.losses(found.x))
    return task.adapted(found.x, taken)


@lru_cache(32)
def _residuals(family: Family) -> Callable[..., dict[str, Any]]:
    """Every equation and condition at all points, as a function of the coefficients side by side."""

    def residuals(s: Any, net: LRNR, x: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        edges = [0, *accumulate(net.ranks)]
        parts = tuple(s[a:b] for a, b in pairwise(edges))
        return family.residuals(net.with_coefficients(parts), x, given)

    return residuals


@lru_cache(32)
def _vector(family: Family) -> Callable[..., Any]:
    """All of them side by side."""
    residuals = _residuals(family)

    def vector(s: Any, net: LRNR, x: Any, given: Mapping[str, Any]) -> Any:
        concat = backends.get(net.backend).ops.xp.concat
        return concat([r.reshape(-1) for r in residuals(s, net, x, given).values()])

    return vector


@lru_cache(32)
def _absolute(family: Family) -> Callable[..., Any]:
    """The loss of the fast phase, and its terms."""
    residuals = _residuals(family)

    def loss(s: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
        net, x, given, start, price = batch
        size = driver(net.backend).absolute
        terms = {name: size(r).sum() for name, r in residuals(s, net, x, given).items()}
        terms["locality"] = (size(s - start) * price).sum()
        return sum(terms.values()), terms

    return loss


class _Task:
    """One member of a family and the network to train through."""

    def __init__(self, family: Family, net: LRNR, points: Any, given: Mapping[str, float], full: bool, absolute: bool) -> None:
        if not full and (net.reduced is None or net.reduced.reduction is None):
            raise ReductionError(
                "the fast phase needs the reduced network: net = net.with_reduced(opdsl.lowrank.reduce(net, points, rank=…)); "
                "full=True trains through the network itself."
            )
        self.family, self.net, self.absolute = family, net, absolute
        self.engine: Driver = driver(net.backend)
        self.dtype = str(net.coefficients[0].dtype).split(".")[-1]
        row = dict(zip(family.parameters, family.row(given, stacklevel=5), strict=True))
        through = net if full or net.reduced is None else net.reduced
        # How it was reduced is no part of the program: one is compiled for all members of the family.
        bare = through.rebuilt(through.factors, through.coefficients)
        self.data = bare, self.array(points), {name: self.array(v) for name, v in row.items()}
        numbers = net.numpy().coefficients
        self.start: Floats = np.concatenate(numbers)
        reduction = None if full or net.reduced is None else net.reduced.reduction
        reach = [np.full(len(s), np.abs(s).max()) for s in numbers] if reduction is None else [np.array(r) for r in reduction.reach]
        self.reach: Floats = np.concatenate(reach)

    def array(self, a: Any) -> Any:
        return self.engine.array(a, self.dtype)

    def losses(self, s: Floats) -> dict[str, float]:
        """Sums of absolute values, or of squares, by name."""
        found = {name: detached(r) for name, r in _residuals(self.family)(self.array(s), *self.data).items()}
        return {name: float(np.abs(r).sum() if self.absolute else (r**2).sum()) for name, r in found.items()}

    def total(self, s: Floats) -> float:
        return sum(self.losses(s).values())

    def adapted(self, s: Floats, steps: int) -> Adapted:
        """The full network with these coefficients."""
        if not np.isfinite(s).all():
            raise ProblemError("the coefficients are no longer finite: take a smaller rate.")
        parts = tuple(self.array(s[a:b]) for a, b in pairwise([0, *accumulate(self.net.ranks)]))
        return Adapted(self.net.with_coefficients(parts), (self.losses(self.start), self.losses(s)), steps)
