"""Counts of the plan, which need no framework, and peak memory."""

from __future__ import annotations

from math import nan

from .cases import CASES, QUICK, case
from .targets import GOALS, TARGETS, Absent, driver
from .timing import measured_in


class Plan:
    """What the planner decides and counts, without a framework."""

    params = (tuple(CASES),)
    param_names = ("case",)
    version = "1"

    def setup(self, name: str) -> None:
        self.found = planned(name)

    @measured_in("channels")
    def track_channels(self, name: str) -> float:
        return self.found["channels"]

    @measured_in("multiply-adds")
    def track_multiply_adds(self, name: str) -> float:
        return self.found["multiply-adds"]


def planned(name: str) -> dict[str, float]:
    """Channels, multiply-adds in matrix products and operations of the plan for a case, without a framework."""
    import opdsl

    what = case(name)
    op = opdsl.operator(what.text, coords=what.coords, params="a_ij" if what.rank else None)
    plan = op.plan(network=what.hidden, backend="jax")
    return {
        "channels": float(plan.channels),
        "multiply-adds": float(plan.groups[0].cost.effort.products),
        "steps": float(plan.groups[0].cost.effort.steps),
    }


class Memory:
    """Peak memory of a process that evaluates or trains (CPU), and of the device beyond what lies there (GPU)."""

    params = (TARGETS, QUICK, GOALS)
    param_names = ("target", "case", "goal")
    timeout = 600

    def setup(self, target: str, name: str, goal: str) -> None:
        self.driver = driver(target)
        self.work = self.driver.operator(case(name), goal)

    def peakmem_process(self, target: str, name: str, goal: str) -> None:
        if not target.endswith(":cpu"):
            raise Absent(f"{target} skipped: what counts there is the device's memory")
        self.work.run()

    @measured_in("bytes")
    def track_device(self, target: str, name: str, goal: str) -> float:
        try:
            return self.driver.memory(self.work)
        except Absent:
            return nan
