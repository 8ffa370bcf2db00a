"""Measure instead of predicting: candidates of one operator, and the rates of this machine.

Every candidate is compiled and warmed up first; then all are timed in turns, so that whatever else the machine does meets all of
them alike, and the medians are compared. A timed call ends when its results exist (``block_until_ready``, ``synchronize``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from opdsl.errors import StrategyError
from opdsl.evaluation.options import Options
from opdsl.planning.plan import Plan
from opdsl.planning.planner import choose, with_measurements
from opdsl.pricing.abstract_arrays import Effort
from opdsl.pricing.cost import Cost

if TYPE_CHECKING:
    from opdsl.evaluation.call import OperatorCall
    from opdsl.evaluation.decided import Prepared
    from opdsl.evaluation.session import Session

Runner = Callable[[], Any]
HOPELESS = 25.0
"""Candidates predicted to take this many times the least are not measured."""
_MOST_COMPILING = 60.0
"""Nor are those predicted to compile for longer than this, in seconds."""


@dataclass(frozen=True)
class Timing:
    """What was measured of one candidate.

    Attributes:
        seconds: median of one call.
        first: seconds of the first call, compilation included.
        effort: what it does, as counted.
        predicted: seconds the planner expected.
    """

    seconds: float
    first: float
    effort: Effort
    predicted: float


def tune(session: Session, u: Any, x: Any, options: Options, given: Mapping[str, Any], budget: float) -> Plan:
    """Measure all candidates and pin the fastest; see `Operator.tune`."""
    call = _automatic(session, u, x, options, given)
    session.unpin(call.kind)
    timings, plan = measure(session, u, x, options, given, budget)
    names = []
    for k, group in enumerate(plan.groups):
        seconds = {c.strategy: timings[k, c.strategy].seconds for c in group.candidates if (k, c.strategy) in timings}
        names.append(choose(seconds, tie=1.02) if seconds else group.strategy)
    session.pin(call.kind, names)
    pinned = session.plan(session.call(u, x, replace(options, strategy=None), given, planning=True))
    return with_measurements(pinned, {k: t.seconds for k, t in timings.items()})


def measured_plan(session: Session, u: Any, x: Any, options: Options, given: Mapping[str, Any], budget: float) -> Plan:
    """The plan of `Operator.explain` with measured times; nothing is pinned."""
    timings, _ = measure(session, u, x, options, given, budget)
    found = session.plan(session.call(u, x, options, given, planning=True))
    return with_measurements(found, {k: t.seconds for k, t in timings.items()})


def measure(
    session: Session,
    u: Any,
    x: Any,
    options: Options,
    given: Mapping[str, Any],
    budget: float = 20.0,
    hopeless: float = HOPELESS,
    clock: Callable[[], float] = perf_counter,
) -> tuple[dict[tuple[int, str], Timing], Plan]:
    """Times by (network, strategy), and the plan that would have been made.

    With several networks the others keep the planner's choice while one is varied.

    Args:
        session: the operator's.
        u, x, options, given: a call of it.
        budget: seconds for timing, compilation not counted.
        hopeless: candidates predicted to take this many times the least are left out.
        clock: `time.process_time` where a machine is shared and one thread is used.
    """
    call = _automatic(session, u, x, options, given)
    plan = session.decide(call)[0]
    chosen = {g.fields[0]: g.strategy for g in plan.groups if g.candidates}
    runners: dict[tuple[int, str], Runner] = {}
    first: dict[tuple[int, str], float] = {}
    costs: dict[tuple[int, str], Cost] = {}
    same: dict[tuple[int, str], tuple[int, str]] = {}
    for k, group in enumerate(plan.groups):
        applicable = {c.strategy: c.cost for c in group.candidates if c.cost is not None and not c.opt_in}
        least = min((c.time(call.training) for c in applicable.values()), default=0.0)
        for name, cost in applicable.items():
            if cost.time(call.training) > hopeless * least or cost.compiling(call.training) > _MOST_COMPILING:
                continue
            costs[k, name] = cost
            twin = next((key for key in runners if key[0] == k and costs[key].effort == cost.effort), None)
            if twin is not None:
                # The same work in every respect: one computation under two names, compiled and timed once.
                same[k, name] = twin
                continue
            forced = replace(options, strategy={**chosen, group.fields[0]: name}, training=call.training)
            again = session.call(u, x, forced, given)
            start = clock()
            run = runner(session.build(again), again)
            run()
            first[k, name] = clock() - start
            runners[k, name] = run
    seconds = round_robin(runners, budget, clock=clock)
    timed = {key: same.get(key, key) for key in costs}
    return {
        key: Timing(seconds[timed[key]], first[timed[key]], cost.effort, cost.time(call.training)) for key, cost in costs.items()
    }, plan


def _automatic(session: Session, u: Any, x: Any, options: Options, given: Mapping[str, Any]) -> OperatorCall:
    call = session.call(u, x, replace(options, strategy="auto"), given)
    if call.empty:
        raise StrategyError("there is nothing to measure on zero points.")
    return call


def round_robin(
    runners: Mapping[Any, Runner], budget: float, most: int = 25, clock: Callable[[], float] = perf_counter
) -> dict[Any, float]:
    """Median seconds of every runner; all are timed in turns, ``most`` times or until the budget is spent (three at least)."""
    repeats = {}
    for key, run in runners.items():
        run()
        start = clock()
        run()
        # A clock reading costs nothing beside two milliseconds.
        repeats[key] = max(1, min(50, int(2e-3 / max(clock() - start, 1e-7))))
    samples: dict[Any, list[float]] = {key: [] for key in runners}
    order = list(runners)
    begin = perf_counter()
    for turn in range(most):
        if turn >= 3 and perf_counter() - begin > budget:
            break
        for key in order:
            run = runners[key]
            run()  # not timed: whoever comes after a large candidate would find its caches emptied
            start = clock()
            for _ in range(repeats[key]):
                run()
            samples[key].append((clock() - start) / repeats[key])
        order = order[1:] + order[:1]
    return {key: median(values) for key, values in samples.items()}


# ------------------------------------------------------------------------------------------------------------- runners


def runner(prepared: Prepared, call: OperatorCall) -> Runner:
    """One evaluation, or one value with parameter gradient, until its results exist."""
    return call.backend.timed(prepared.run, call.constants, call.x, call.bindings.arrays, call.training)
