"""Timing of peers in one process: warmed up, synchronised by the caller, round robin, medians.

Machines are shared and noisy, so only ratios within one run mean anything; absolute times are kept for orientation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def round_robin(functions: Mapping[str, Callable[[], object]], rounds: int = 21, budget: float = 20.0) -> dict[str, float]:
    """Median seconds of each function, interleaved so that a disturbance hits all of them.

    Args:
        functions: each runs once and waits for its result.
        rounds: at most so many rounds.
        budget: seconds after which no new round begins (at least three are done).
    """
    for f in functions.values():
        f()
    times: dict[str, list[float]] = {name: [] for name in functions}
    begun = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begun > budget:
            break
        for name, f in functions.items():
            start = time.perf_counter()
            f()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}
