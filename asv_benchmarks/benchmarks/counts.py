"""Deterministic counts: they do not depend on how busy a machine is, so two per cent mean something."""

from __future__ import annotations

from itertools import product
from math import nan

from .cases import CASES, QUICK, case
from .targets import GOALS, TARGETS, Absent, driver, require
from .timing import measured_in

Found = dict[tuple[str, str, str], dict[str, float]]


class Counts:
    """Of the program that a framework runs; what it cannot tell is skipped.

    FLOPs and bytes of temporaries of the compiled program and equations of the jaxpr (JAX); FLOPs of matrix products, operators
    dispatched and bytes they write (torch); bytes alive at once (NumPy).
    """

    params = (TARGETS, QUICK, GOALS)
    param_names = ("target", "case", "goal")
    timeout = 600
    version = "1"  # to be raised when what is counted changes; else asv forgets history with every edit

    def setup_cache(self) -> Found:
        """All counts of one process; what is absent has none. A process for each would only compile the same again."""
        return {key: counted(*key) for key in product(TARGETS, QUICK, GOALS)}

    def setup(self, found: Found, target: str, name: str, goal: str) -> None:
        require(target)

    @measured_in("FLOP")
    def track_flops(self, found: Found, target: str, name: str, goal: str) -> float:
        return found[target, name, goal].get("flops", nan)

    @measured_in("nodes")
    def track_nodes(self, found: Found, target: str, name: str, goal: str) -> float:
        return found[target, name, goal].get("nodes", nan)

    @measured_in("bytes")
    def track_temporaries(self, found: Found, target: str, name: str, goal: str) -> float:
        return found[target, name, goal].get("temporaries", nan)


def counted(target: str, name: str, goal: str) -> dict[str, float]:
    """Counts of one program; empty where it cannot be had here."""
    if target.startswith("torch-compiled"):
        return {}  # nothing to count, and slow to compile
    try:
        return driver(target).operator(case(name), goal).count()
    except Absent:
        return {}


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
