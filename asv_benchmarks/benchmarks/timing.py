"""Timing of rivals in one process: warmed up, synchronised by the caller, in turns, medians.

Machines are shared and noisy, so only ratios within one run mean anything; absolute times are kept for orientation.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])
Runner = Callable[[], object]
Clock = Callable[[], float]


def paired(
    of: Runner, to: Runner, *, rounds: int = 15, least: float = 2e-3, budget: float = 6.0, clock: Clock = time.perf_counter
) -> float:
    """The median, over rounds, of time(of) / time(to), the two taken one right after the other.

    A disturbance that is longer than a round hits both and cancels; a shorter one spoils a round, which the median forgets.

    Args:
        of, to: each runs once and waits for its result; both are warm.
        rounds: at most so many pairs; the order within a pair alternates.
        least: seconds a sample lasts at least, by repetition.
        budget: seconds (of the wall) after which no new round begins; five are done at least.
        clock: `time.process_time` for work of the CPU on a machine that others use too.
    """
    repeats = {f: _repeats(f, least, clock) for f in (of, to)}
    ratios: list[float] = []
    begun = time.perf_counter()
    for turn in range(rounds):
        if turn >= 5 and time.perf_counter() - begun > budget:
            break
        order = (of, to) if turn % 2 else (to, of)
        seconds = {f: _sample(f, repeats[f], clock) for f in order}
        ratios.append(seconds[of] / seconds[to])
    return statistics.median(ratios)


def _repeats(f: Runner, least: float, clock: Clock) -> int:
    f()
    return max(1, min(10_000, round(least / max(min(_sample(f, 1, clock) for _ in range(3)), 1e-7))))


def _sample(f: Runner, repeats: int, clock: Clock) -> float:
    start = clock()
    for _ in range(repeats):
        f()
    return max(clock() - start, 1e-9) / repeats


def measured_in(unit: str) -> Callable[[F], F]:
    """Give a ``track_`` benchmark its unit, where asv looks for it."""

    def mark(benchmark: F) -> F:
        setattr(benchmark, "unit", unit)  # noqa: B010
        return benchmark

    return mark
