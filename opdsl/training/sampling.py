"""Where the losses are evaluated: low-discrepancy points in the box and on its faces, drawn again on request.

Every set of points is a function of ``(seed, name of the loss, round)`` alone, so a resumed run draws what the
uninterrupted run would have drawn. Adaptive points depend on the network as well and are kept in the checkpoint.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from opdsl.training.problem import Problem
from opdsl.training.problem_tables import ProblemCondition

Points = npt.NDArray[np.float64]

INTERIOR = "interior"
_POOL = 4  # candidates per adaptive point


def unit_points(method: str, count: int, dimension: int, rng: np.random.Generator) -> Points:
    """Return points in the unit cube, (count, dimension).

    Args:
        method: ``sobol`` (scrambled), ``halton`` (scrambled), ``lhs`` (Latin hypercube) or ``uniform``.
        count: number of points; Sobol sequences are balanced for powers of two, any number is allowed.
        dimension: of the cube.
        rng: source of the scrambling.

    Example:
        >>> unit_points("lhs", 4, 2, np.random.default_rng(0)).shape
        (4, 2)
    """
    if method == "uniform":
        return rng.random((count, dimension))
    if method == "lhs":
        return np.asarray(qmc.LatinHypercube(dimension, rng=rng).random(count), dtype=np.float64)
    if method == "halton":
        return np.asarray(qmc.Halton(dimension, scramble=True, rng=rng).random(count), dtype=np.float64)
    # The whole power of two is drawn and cut, which is what the sequence's guarantee is about.
    exponent = max(0, math.ceil(math.log2(count)))
    return np.asarray(qmc.Sobol(dimension, scramble=True, rng=rng).random_base2(exponent)[:count], dtype=np.float64)


class Sampler:
    """All points of a problem.

    Args:
        problem: what to sample for.
        seed: of all draws.
        observations: fixed points of the data loss, (k, d), or None.
    """

    def __init__(self, problem: Problem, seed: int, observations: Points | None = None) -> None:
        self.problem, self.seed, self.observations = problem, seed, observations
        self.low, self.high = np.array(problem.box).T

    def rng(self, name: str, draw: int) -> np.random.Generator:
        """Return the random numbers of one set of points; independent for every name and draw."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode()), draw])

    def box(self, name: str, count: int, draw: int) -> Points:
        """Return points in the box, (count, d)."""
        unit = unit_points(self.problem.sampling.method, count, len(self.low), self.rng(name, draw))
        return np.asarray(self.low + unit * (self.high - self.low))

    def faces(self, name: str, count: int, draw: int) -> Points:
        """Return points on the faces of the space box, (count, d), as evenly shared among them as possible."""
        points = self.box(name, count, draw)
        space = self.problem.space
        # Each face takes a block of consecutive points. Taking turns would not do: every fourth point of a Sobol
        # sequence lies in the same part of the box, so that some parts of a face would never be visited.
        face = np.arange(count) * (2 * len(space)) // count
        column = np.array(space)[face // 2]
        points[np.arange(count), column] = np.where(face % 2 == 0, self.low[column], self.high[column])
        return points

    def draw(self, number: int) -> dict[str, Points]:
        """Return the points of every loss for one round of drawing.

        Periodic conditions get two sets, ``name`` and ``name+``: both ends.
        """
        sampling = self.problem.sampling
        points = {INTERIOR: self.box(INTERIOR, sampling.interior, number)}
        for condition in self.problem.conditions:
            count = sampling.counts.get(condition.name, sampling.boundary)
            points |= self._condition(condition, count, number)
        if self.observations is not None:
            points["data"] = self.observations
        return points

    def _condition(self, condition: ProblemCondition, count: int, number: int) -> dict[str, Points]:
        name = condition.name
        if condition.everywhere:
            return {name: self.faces(name, count, number)}
        inside = self.box(name, count, number)
        for axis, (low, high) in condition.inside.items():
            k = self.problem.columns.index(axis)
            inside[:, k] = low + (high - low) * (inside[:, k] - self.low[k]) / (self.high[k] - self.low[k])
        if not condition.periodic:
            return {name: inside}
        column = self.problem.columns.index(condition.periodic)
        other = inside.copy()
        inside[:, column], other[:, column] = self.low[column], self.high[column]
        return {name: inside, f"{name}+": other}

    def adapt(self, number: int, residual: Callable[[Points], Points]) -> Points:
        r"""Return interior points drawn where the residual is large, (interior, d).

        p(x) ∝ |r(x)|^k / mean |r|^k + c over a fresh pool of candidates, drawn without replacement.

        Args:
            number: round of drawing.
            residual: absolute residual at points: (n, d) → (n,).

        Reference: Wu, Zhu, Tan, Kartha, Lu, arXiv:2207.10289, eq. 2 (RAD).
        """
        sampling = self.problem.sampling
        pool = self.box("adaptive", _POOL * sampling.interior, number)
        size = np.abs(residual(pool)) ** sampling.power
        if not np.isfinite(size).all():
            return self.box(INTERIOR, sampling.interior, number)
        mean = size.mean()
        weight = (size / mean if mean > 0 else np.ones_like(size)) + sampling.floor
        # A floor of zero and residuals that are exactly zero would leave fewer candidates than points.
        weight = weight + 1e-12
        chosen = self.rng("choice", number).choice(len(pool), sampling.interior, replace=False, p=weight / weight.sum())
        return pool[np.sort(chosen)]


def comparison_points(problem: Problem) -> tuple[Points, tuple[int, ...]]:
    """Return the points where errors are measured and the shape of their grid.

    A tensor grid in up to three dimensions; in more, a scrambled Sobol set (shape ``(n,)``), fixed for all seeds.
    """
    low, high = np.array(problem.box).T
    dimension = len(low)
    given = problem.reference.points
    if dimension <= 3 and len(given) in (0, dimension):
        shape = given or {1: (1001,), 2: (101, 201), 3: (21, 51, 51)}[dimension]
        axes = [np.linspace(a, b, n) for a, b, n in zip(low, high, shape, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        return np.ascontiguousarray(grid.reshape(-1, dimension)), shape
    count = given[0] if given else 4096
    unit = unit_points("sobol", count, dimension, np.random.default_rng(20240229))
    return np.asarray(low + unit * (high - low)), (count,)


def slice_points(problem: Problem, count: int = 81) -> tuple[Points, tuple[int, ...], Mapping[str, float]]:
    """Return a two-dimensional slice through the middle of a box of three or more dimensions, for pictures.

    The first two space coordinates vary; the others, named in the result with their values, are fixed: space at the
    middle, time at its end.
    """
    low, high = np.array(problem.box).T
    fixed = 0.5 * (low + high)
    for column in range(len(low)):
        if column not in problem.space:
            fixed[column] = high[column]
    shown = (*problem.space, *(c for c in range(len(low)) if c not in problem.space))[:2]
    axes = [np.linspace(low[c], high[c], count) for c in shown]
    first, second = np.meshgrid(*axes, indexing="ij")
    points = np.tile(fixed, (count * count, 1))
    points[:, shown[0]], points[:, shown[1]] = first.ravel(), second.ravel()
    held = {n: float(fixed[c]) for c, n in enumerate(problem.columns) if c not in shown}
    return points, (count, count), held
