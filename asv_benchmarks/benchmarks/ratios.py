"""Paired ratios in one process; lower is better. They say the same on an idle and on a busy machine, where times do not.

``plain`` is one forward pass of the network (with its parameter gradient for ``training``), ``floor`` the same on dim C(p) × points
rows, which is what any exact push-forward has to carry through the matrix products; ``nested_ad`` is nested automatic
differentiation, ``folx`` the forward Laplacian of folx.
"""

from __future__ import annotations

import time

from .cases import QUICK, case
from .targets import GOALS, TARGETS, driver
from .timing import measured_in, paired

REFERENCES = ("plain", "floor", "nested_ad", "folx")


class Ratios:
    """opdsl's time over that of a reference."""

    params = (TARGETS, QUICK, REFERENCES, GOALS)
    param_names = ("target", "case", "reference", "goal")
    timeout = 600
    version = "1"  # to be raised when what is measured changes; else asv forgets history with every edit

    def setup(self, target: str, name: str, reference: str, goal: str) -> None:
        there = driver(target)
        self.reference = there.reference(reference, case(name), goal).run
        self.run = there.operator(case(name), goal).run
        # Processor time does not see who else uses the machine; a GPU's work is not in it.
        self.clock = time.process_time if target.endswith(":cpu") else time.perf_counter

    @measured_in("×")
    def track_ratio(self, target: str, name: str, reference: str, goal: str) -> float:
        return paired(self.run, self.reference, clock=self.clock)
