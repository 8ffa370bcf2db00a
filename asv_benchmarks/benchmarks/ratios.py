"""Paired ratios in one process; lower is better. They say the same on an idle and on a busy machine, where times do not.

``plain`` is one forward pass of the network (with its parameter gradient for ``training``), ``floor`` the same on dim C(p) × points
rows, which is what any exact push-forward has to carry through the matrix products; ``nested_ad`` is nested automatic
differentiation, ``folx`` the forward Laplacian of folx.
"""

from __future__ import annotations

from .cases import QUICK, case
from .targets import GOALS, TARGETS, clock_of, driver
from .timing import measured_in, paired

REFERENCES = ("plain", "floor", "nested_ad", "folx")


class Ratios:
    """opdsl's time over that of a reference."""

    params = (TARGETS, QUICK, REFERENCES, GOALS)
    param_names = ("target", "case", "reference", "goal")
    timeout = 600
    version = "2"

    def setup(self, target: str, name: str, reference: str, goal: str) -> None:
        there = driver(target)
        self.reference = there.reference(reference, case(name), goal).run
        self.run = there.operator(case(name), goal).run

    @measured_in("×")
    def track_ratio(self, target: str, name: str, reference: str, goal: str) -> float:
        return paired(self.run, self.reference, clock=clock_of(target))
