"""What is followed from commit to commit: deterministic counts, and time as a multiple of the floor and of folx.

All of it is measured in one process for each commit, because a process for every number would mostly compile the same again.
Counts do not depend on how busy a machine is, so two per cent mean something; for the ratios see `ratios`.
"""

from __future__ import annotations

from itertools import product
from math import nan

from .cases import QUICK, case
from .targets import GOALS, TARGETS, Absent, clock_of, driver, require
from .timing import measured_in, paired

Found = dict[tuple[str, str, str], dict[str, float]]


class Followed:
    """FLOPs, nodes and bytes of temporaries; time over that of the floor and of folx.

    JAX counts on the compiled program, and equations of the jaxpr; torch counts FLOPs of matrix products, operators dispatched
    and bytes they write; NumPy bytes alive at once. What a framework cannot tell is skipped.
    """

    params = (TARGETS, QUICK, GOALS)
    param_names = ("target", "case", "goal")
    timeout = 900
    version = "1"  # to be raised when what is measured changes; else asv forgets history with every edit

    def setup_cache(self) -> Found:
        return {key: measured(*key) for key in product(TARGETS, QUICK, GOALS)}

    setup_cache.timeout = 900  # type: ignore[attr-defined]

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

    @measured_in("×")
    def track_floors(self, found: Found, target: str, name: str, goal: str) -> float:
        return found[target, name, goal].get("floor", nan)

    @measured_in("×")
    def track_folx(self, found: Found, target: str, name: str, goal: str) -> float:
        return found[target, name, goal].get("folx", nan)


def measured(target: str, name: str, goal: str) -> dict[str, float]:
    """Counts of one program and its ratios; empty where there is none."""
    if target.startswith("torch-compiled"):
        return {}  # nothing to count, and slow to compile
    try:
        there = driver(target)
        work = there.operator(case(name), goal)
    except Absent:
        return {}
    found = work.count()
    for reference in ("floor", "folx"):
        try:
            against = there.reference(reference, case(name), goal)
            found[reference] = paired(work.run, against.run, budget=1.5, clock=clock_of(target))
        except Absent:
            continue
    return found
