"""Evaluation and training time: operator × dimension × strategy, on every framework and device.

Absolute times are for history only; ratios are in `ratios`.
"""

from __future__ import annotations

from .cases import CASES, STRATEGIES, case
from .targets import GOALS, TARGETS, driver
from .timing import measured_in

_PAIRS = tuple(f"{name} | {strategy}" for name, strategies in STRATEGIES.items() for strategy in strategies)


class Operators:
    """What the planner chooses."""

    params = (TARGETS, tuple(CASES), GOALS)
    param_names = ("target", "case", "goal")
    rounds, repeat, warmup_time, timeout = 1, (3, 9, 4.0), 0.0, 600

    def setup(self, target: str, name: str, goal: str) -> None:
        self.run = driver(target).operator(case(name), goal).run

    def time_run(self, target: str, name: str, goal: str) -> None:
        self.run()


class Strategies:
    """The methods of the literature, each forced."""

    params = (TARGETS, _PAIRS, GOALS)
    param_names = ("target", "case | strategy", "goal")
    rounds, repeat, warmup_time, timeout = 1, (3, 9, 4.0), 0.0, 600

    def setup(self, target: str, pair: str, goal: str) -> None:
        name, _, strategy = pair.partition(" | ")
        self.run = driver(target).operator(case(name), goal, strategy).run

    def time_run(self, target: str, pair: str, goal: str) -> None:
        self.run()


class FirstCall:
    """Planning, capture, compilation and one run, in a fresh process; the framework is loaded before."""

    params = (TARGETS, tuple(CASES), GOALS)
    param_names = ("target", "case", "goal")
    timeout = 600

    def setup(self, target: str, name: str, goal: str) -> None:
        self.driver = driver(target)

    @measured_in("s")
    def track_seconds(self, target: str, name: str, goal: str) -> float:
        return self.driver.operator(case(name), goal).first
