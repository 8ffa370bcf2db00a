"""The planner: enumerate what applies, price it, choose, keep the losers with their reasons."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.algebra.work import bounded
from opdsl.backends import facts
from opdsl.backends.execution import Constants, Execution
from opdsl.errors import OpdslWarning, OpLimitError, StrategyError, unknown
from opdsl.jets.graph import Graph
from opdsl.language.residual import Add, IndexSum, Mul, Pointwise, Residual
from opdsl.language.structure import children
from opdsl.language.traverse import fold
from opdsl.planning.plan import Candidate, FieldPlan, Plan
from opdsl.pricing.cost import Cost, price
from opdsl.pricing.counting import Effort, Shape, layers, plain_effort
from opdsl.pricing.rates import constants
from opdsl.strategies import STRATEGIES, Method, Refusal, Request, Strategy
from opdsl.strategies.base import Surroundings
from opdsl.strategies.linear_operators import LinearOperator, OperatorValue, Split, split
from opdsl.strategies.no_derivatives import PlainEvaluation
from opdsl.strategies.operator_text import operator_text
from opdsl.strategies.stde import STDE

MAX_SEARCH = 300_000
TIE = 1.05
"""Predictions closer than this are no reason to choose: among those the more special literature name wins."""


@dataclass(frozen=True)
class Network:
    """What the planner knows of one network.

    Args:
        fields: names of the fields it computes.
        outputs: number of output columns.
        graph: the captured function.
        points: number of points.
        execution: how the backend runs methods.
        itemsize: bytes of a number.
    """

    fields: tuple[str, ...]
    outputs: int
    graph: Graph
    points: int = 256
    execution: Execution = field(default_factory=Execution)
    itemsize: int = 4

    @classmethod
    def described(
        cls, fields: tuple[str, ...], dimension: int, widths: Sequence[int], outputs: int, backend: str | None, points: int = 256
    ) -> Network:
        """A plain multilayer network, for planning without one."""
        execution = facts(backend).execution
        return cls(fields, outputs, layers(dimension, widths, outputs, points, execution), points, execution)

    @cached_property
    def plain(self) -> Effort:
        """The work of one plain forward pass."""
        return plain_effort(self.graph, self.points, self.execution)


@dataclass(frozen=True)
class Settings:
    """What a plan depends on besides the residual and the networks.

    Args:
        strategy: a name, an instance, ``"auto"``, or a mapping of field names to these.
        backend: its name; None for none in particular.
        device: ``"cpu"`` or ``"cuda"``.
        known: constant arrays whose values may be used while planning.
        bindings: shape of every bound array, and whether it varies from point to point.
        training: choose for a training step rather than for an evaluation.
        pinned: strategies that were measured to be fastest, by network; they stand in for ``"auto"``.
    """

    strategy: Any = "auto"
    backend: str | None = None
    device: str = "cpu"
    known: Mapping[str, npt.NDArray[np.floating[Any]]] = field(default_factory=dict)
    bindings: Mapping[str, tuple[Shape, bool]] = field(default_factory=dict)
    training: bool = False
    pinned: tuple[str, ...] = ()

    @cached_property
    def constants(self) -> Constants:
        """The rates to price with."""
        return constants(self.backend, self.device)


def resolve(strategy: Any) -> Strategy | None:
    """A strategy by name or instance; None for ``"auto"``.

    Raises:
        StrategyError: for an unknown name, with a suggestion.
    """
    if isinstance(strategy, Strategy):
        return strategy
    if strategy == "auto":
        return None
    if strategy not in STRATEGIES:
        options = ["auto", *STRATEGIES]
        raise StrategyError(unknown("unknown strategy", strategy, options))
    return STRATEGIES[strategy]


def make_plan(residual: Residual, networks: Sequence[Network], settings: Settings, text: str) -> tuple[Plan, Split]:
    """Choose a method for every network.

    Linear terms are merged into one operator each when that is cheaper over all networks, which is nearly always; the other
    reading is tried as well.

    Raises:
        StrategyError: a forced strategy does not apply, with the reason and those that do.
    """
    _check_mapping(settings.strategy, networks)
    best: tuple[float, Plan, Split] | None = None
    failure: StrategyError | None = None
    merged, single = split(residual, merge=True), split(residual, merge=False)
    readings = [merged, single] if _worth_trying(merged, single) else [merged]
    for reading in readings:
        try:
            groups = tuple(_Choice(residual, reading, n, settings, k).plan() for k, n in enumerate(networks))
        except StrategyError as error:
            failure = failure or error
            continue
        total = sum(g.cost.share(settings.training) for g in groups)
        # The merged reading comes first and keeps ties.
        if best is None or total * TIE < best[0]:
            space = ", ".join(str(residual.coords[c]) for c in residual.space[:6]) + (", …" if len(residual.space) > 6 else "")
            over = f"space over {space}" if space else "no space coordinates"
            by_field = {name: g for g in groups for name in g.fields}
            points = networks[0].points if networks else 0
            plan = Plan(
                text, settings.backend, over, by_field, groups, reading.merged, settings.training, points, settings.device,
                settings.constants.source,
            )  # fmt: skip
            best = total, plan, reading
    if best is None:
        assert failure is not None
        raise failure
    _check_unbiased(*best[1:])
    return best[1], best[2]


def _worth_trying(merged: Split, single: Split) -> bool:
    """Whether reading terms one by one may be cheaper.

    That happens where most terms are wanted by themselves anyway; a long sum (Δ² has d(d + 1)/2 terms) is never better in pieces,
    and its pieces take long to plan.
    """
    counts = [sum(len(ops) for ops in s.operators.values()) for s in (merged, single)]
    return merged.operators != single.operators and counts[1] <= 3 * counts[0] + 3


def _check_unbiased(plan: Plan, reading: Split) -> None:
    """Warn where a random value enters an equation nonlinearly: the mean of a square is not the square of the mean."""
    random = frozenset(op for g in plan.groups for op in g.method.estimated)
    for equation in reading.equations if random else ():
        if max(_degrees(equation.components, random)) > 1:
            warnings.warn(
                f"equation '{equation.name}' is not linear in its estimated derivatives, so that its mean over the random directions is "
                "not its value. Use an exact strategy, or write the equation so that each estimate enters linearly.",
                OpdslWarning,
                stacklevel=2,
            )


def _degrees(nodes: Sequence[Pointwise], random: frozenset[LinearOperator]) -> list[int]:
    """Degrees of expressions in random values; 2 stands for anything that is not linear."""

    def degree(node: Pointwise, below: tuple[int, ...]) -> int:
        if isinstance(node, OperatorValue):
            return int(node.operator in random)
        if isinstance(node, Mul):
            return min(sum(below), 2)
        if isinstance(node, Add | IndexSum):
            return max(below)
        return 2 if any(below) else 0

    return fold(nodes, children, degree)


def _check_mapping(strategy: Any, networks: Sequence[Network]) -> None:
    if isinstance(strategy, Mapping):
        fields = [name for n in networks for name in n.fields]
        for name in strategy:
            if name not in fields:
                raise StrategyError(unknown("strategy= names a field", name, fields, "Fields"))


class _Choice:
    """All candidates for one network, and which of them wins."""

    def __init__(self, residual: Residual, reading: Split, network: Network, settings: Settings, number: int) -> None:
        operators: dict[LinearOperator, None] = {}
        for name in network.fields:
            operators.update(dict.fromkeys(reading.operators.get(name, ())))
        self.wanted = tuple(operators)
        self.texts = tuple(operator_text(op, residual, network.fields) for op in self.wanted)
        self.network, self.settings, self.number = network, settings, number
        backend = facts(settings.backend)
        self.request = Request(
            self.wanted, len(residual.coords), residual.space, backend.undifferentiable(network.graph), settings.known,
            network.outputs, network.graph,
        )  # fmt: skip
        self.where = Surroundings(
            network.graph, network.points, network.execution, residual.space, settings.bindings,
            tuple(residual.functions),
        )  # fmt: skip

    def cost(self, method: Method) -> Cost:
        """Predicted."""
        try:
            effort = method.effort(self.where)
        except OpLimitError:
            raise
        except Exception:
            # Counting runs the method, and a strategy of the user's may use what abstract arrays lack; a price must never be the reason
            # why an operator cannot be evaluated. Strategies of our own are counted without this net in the tests.
            effort = replace(self.network.plain * float(method.channels), guesses=1.0)
        return price(effort, self.network.plain, self.settings.constants, self.network.itemsize)

    def forced(self) -> tuple[Strategy | None, str]:
        """The strategy to take whatever it costs, and why."""
        given = self.settings.strategy
        if isinstance(given, Mapping):
            given = next((given[name] for name in self.network.fields if name in given), "auto")
        found = resolve(given)
        if found is None and self.number < len(self.settings.pinned):
            return STRATEGIES.get(self.settings.pinned[self.number]), "measured to be the fastest for calls like this"
        return found, "asked for"

    def proposed(self, strategy: Strategy) -> Method | Refusal:
        """What a strategy offers; one that needs too much exact arithmetic to find its directions does not apply."""
        try:
            with bounded("the search for exact directions", amount=MAX_SEARCH):
                return strategy.propose(self.request)
        except OpLimitError:
            return Refusal(strategy.name, f"its exact directions need more than {MAX_SEARCH} terms to be found")

    def priced(self, method: Method) -> Cost | Refusal:
        """What a method costs; one that is too large to be counted is too large to be run."""
        try:
            with bounded("the method", amount=MAX_SEARCH):
                return self.cost(method)
        except OpLimitError:
            return Refusal(method.strategy, f"it has more than {MAX_SEARCH} terms")

    def plan(self) -> FieldPlan:
        fields, texts, wanted = self.network.fields, self.texts, self.wanted
        forced, why = self.forced()
        if not wanted and (forced is None or forced.exact):
            method: Method = PlainEvaluation()
            why = "no derivatives are needed"
            cost = self.cost(method)
            return FieldPlan(fields, texts, method.strategy, 1, cost, why, (), tuple(method.details()), method, wanted)
        found = {name: self.proposed(s) for name, s in STRATEGIES.items() if wanted or s is forced}
        if forced is not None and STRATEGIES.get(forced.name) is not forced:
            found = {forced.name: self.proposed(forced), **found}
        costs: dict[str, Cost] = {}
        for name, offer in found.items():
            if isinstance(offer, Method):
                priced = self.priced(offer)
                if isinstance(priced, Refusal):
                    found[name] = priced
                else:
                    costs[name] = priced
        methods = {name: m for name, m in found.items() if isinstance(m, Method)}
        if forced is not None:
            answer = found[forced.name]
            if isinstance(answer, Refusal):
                raise StrategyError(
                    f"strategy {forced.name!r} does not apply to {'; '.join(texts)}: {answer.reason}. "
                    f"Applicable: {', '.join(methods) or 'none'}."
                )
            chosen = forced.name
        else:
            exact = {name: c for name, c in costs.items() if STRATEGIES[name].exact}
            if not exact:
                reasons = "; ".join(f"{n}: {r.reason}" for n, r in found.items() if isinstance(r, Refusal))
                hint = "" if isinstance(STDE().propose(self.request), Refusal) else (
                    " An unbiased estimate is possible: strategy=opdsl.STDE(samples=16, key=…)."
                )
                raise StrategyError(f"no strategy applies to {'; '.join(texts)}. {reasons}.{hint}")
            chosen = choose({name: self._time(c) for name, c in exact.items()})
            why = self._reason(chosen, exact)
        shown = {n: m for n, m in found.items() if n in methods or n not in STRATEGIES or STRATEGIES[n].exact}
        candidates = tuple(self._candidate(name, m, costs, chosen) for name, m in shown.items())
        candidates += self._sampling(found, self._time(costs[chosen]))
        method = methods[chosen]
        details = (*method.details(), *method.structure(self.where))
        return FieldPlan(fields, texts, chosen, method.channels, costs[chosen], why, candidates, details, method, wanted)

    def _sampling(self, found: Mapping[str, Method | Refusal], own: float) -> tuple[Candidate, ...]:
        """What an estimate would cost, where it would pay: shown, never chosen."""
        if STDE.name in found:
            return ()
        method = STDE().propose(self.request)
        if isinstance(method, Refusal) or not method.estimated:
            return ()
        cost = self.cost(method)
        ratio = self._time(cost) / own
        if ratio > 0.8:
            return ()
        why = f"{ratio:.3g} × the predicted cost for an unbiased estimate: strategy=opdsl.STDE(samples=16, key=…)"
        return (Candidate(STDE.name, method.channels, cost, why, opt_in=True),)

    def _time(self, cost: Cost) -> float:
        return cost.share(self.settings.training)

    def _candidate(self, name: str, found: Method | Refusal, costs: Mapping[str, Cost], chosen: str) -> Candidate:
        if isinstance(found, Refusal):
            return Candidate(name, None, None, f"does not apply: {found.reason}")
        if name == chosen:
            return Candidate(name, found.channels, costs[name], "chosen")
        ratio = self._time(costs[name]) / self._time(costs[chosen])
        why = "predicted to cost the same" if 1 / TIE < ratio < TIE else f"{ratio:.3g} × the predicted cost"
        if name in STRATEGIES and not STRATEGIES[name].exact:
            return Candidate(name, found.channels, costs[name], f"{why}, not exact: strategy={name!r}", opt_in=True)
        return Candidate(name, found.channels, costs[name], why)

    def _reason(self, chosen: str, costs: Mapping[str, Cost]) -> str:
        own = self._time(costs[chosen])
        others = {name: self._time(c) for name, c in costs.items() if name != chosen}
        if not others:
            return "the only strategy that applies"
        same = [name for name, t in others.items() if t < TIE * own]
        slower = {name: t for name, t in others.items() if name not in same}
        count = f"cheapest of {len(costs)} that apply" if len(costs) > 2 else "cheaper of the two that apply"
        parts = []
        if same:
            parts.append(f"{_and(same)} cost{'s' if len(same) == 1 else ''} the same, the more special name is taken")
        if slower:
            second = min(slower, key=lambda name: slower[name])
            parts.append(f"{second} is next at {slower[second] / own:.3g} × the predicted cost")
        return "; ".join([count, *parts])


def choose(times: Mapping[str, float], tie: float = TIE) -> str:
    """The fastest; among those as good as equal the first, for names are given from special to general."""
    least = min(times.values())
    return next(name for name, t in times.items() if t <= tie * least)


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def push_forward_method(operators: tuple[LinearOperator, ...], dimension: int) -> Method:
    """The push-forward with the fewest channels for operators given as such (derivatives of a bound function)."""
    request = Request(operators, dimension, tuple(range(dimension)), "functions that are bound are pushed forward")
    found = [m for m in (s.propose(request) for s in STRATEGIES.values()) if isinstance(m, Method)]
    return min(found, key=lambda m: m.channels)


def with_measurements(plan: Plan, seconds: Mapping[tuple[int, str], float]) -> Plan:
    """Put measured times, by (network, strategy), into a plan."""
    groups = tuple(
        replace(
            g,
            measured=seconds.get((k, g.strategy)),
            candidates=tuple(replace(c, measured=seconds.get((k, c.strategy))) for c in g.candidates),
        )
        for k, g in enumerate(plan.groups)
    )
    return replace(plan, groups=groups, fields={name: g for g in groups for name in g.fields})
