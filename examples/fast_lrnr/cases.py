"""The equations, and how long each is trained: a size for two processor cores, the published one, and a quick one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import pi

import numpy as np

from opdsl.lowrank.family import Family, Floats, Interval

_PERIODIC = "sides: u(x=0) = u(x=2 pi)"
_SMOOTH = f"{_PERIODIC}; slopes: d_x u(x=0) = d_x u(x=2 pi)"


@dataclass(frozen=True)
class Case:
    """One family.

    Args:
        name: of the folder of its results.
        text: equation and conditions; t in [0, 1], x in [0, 2π].
        published: ranges of the parameters in the meta phase, as published.
        test: ranges of the test parameters.
        weights: of the losses of the meta phase.
        steps: of the meta phase by size; two processor cores take about five minutes.
        narrow: ranges for the smaller sizes, where the published ones need a network of the published size.
    """

    name: str
    text: str
    published: Mapping[str, Interval]
    test: Mapping[str, Interval]
    weights: Mapping[str, float]
    steps: Mapping[str, int]
    narrow: Mapping[str, Interval] = field(default_factory=dict)

    def family(self, size: str) -> Family:
        """For `opdsl.lowrank`, with the ranges of a size."""
        ranges = self.published if size == "paper" else {**self.published, **self.narrow}
        return Family(self.text, box={"t": (0.0, 1.0), "x": (0.0, 2 * pi)}, ranges=ranges)

    def tests(self, count: int) -> Floats:
        """Test parameters (count, p): evenly spread for one parameter, random and fixed for several."""
        low, high = np.array(list(self.test.values())).T
        if len(low) == 1:
            return np.linspace(low, high, count)
        return np.random.default_rng(7).uniform(low, high, (count, len(low)))


@dataclass(frozen=True)
class Size:
    """How long to train, and how large.

    Args:
        width, rank: M and r of the network.
        rate: of Adam at its first step.
        parameters, points: drawn at every step.
        tests: number of test parameters.
        fast: steps of the fast phase.
    """

    width: int
    rank: int
    rate: float
    parameters: int
    points: int
    tests: int
    fast: int


SIZES = {
    "quick": Size(width=64, rank=6, rate=5e-3, parameters=3, points=48, tests=2, fast=60),
    "cpu": Size(width=256, rank=20, rate=3e-3, parameters=6, points=96, tests=20, fast=400),
    "paper": Size(width=4000, rank=100, rate=1e-3, parameters=20, points=1000, tests=20, fast=400),
}

CASES = {
    case.name: case
    for case in (
        Case(
            "convection",
            f"pde: u_t + beta u_x = 0; initial: u(t=0) = 1 + sin(x); {_PERIODIC}",
            {"beta": (1.0, 20.0)}, {"beta": (5.0, 8.0)}, {"pde": 0.1}, {"quick": 120, "cpu": 6000, "paper": 20000},
            {"beta": (4.0, 9.0)},
        ),
        Case(
            "convection_diffusion_reaction",
            f"pde: u_t + beta u_x - nu u_xx - rho u (1 - u) = 0; initial: u(t=0) = 1 + sin(x); {_SMOOTH}",
            {"beta": (1.0, 3.0), "nu": (0.0, 2.0), "rho": (0.0, 2.0)},
            {"beta": (1.0, 3.0), "nu": (0.0, 2.0), "rho": (0.0, 2.0)}, {"pde": 0.1}, {"quick": 120, "cpu": 3000, "paper": 20000},
        ),
        Case(
            "burgers",
            f"pde: u_t + u u_x = nu u_xx; initial: u(t=0) = sin(x); {_SMOOTH}",
            {"nu": (0.05, 0.5)}, {"nu": (0.06, 0.3)}, {"pde": 0.1}, {"quick": 120, "cpu": 1500, "paper": 20000},
        ),
    )
}  # fmt: skip
