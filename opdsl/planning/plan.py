"""The plan: what was chosen for every network, why, what it costs, and what lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from opdsl.pricing.cost import Cost
from opdsl.strategies.base import Method
from opdsl.strategies.linear_operators import LinearOperator


@dataclass(frozen=True)
class Candidate:
    """One strategy that was considered.

    Attributes:
        strategy: its name.
        channels: arrays carried; None where it does not apply.
        cost: predicted; None where it does not apply.
        why: why it lost, or does not apply.
        measured: seconds, where it was measured.
        opt_in: it is shown, and never chosen or measured by itself.
    """

    strategy: str
    channels: int | None
    cost: Cost | None
    why: str
    measured: float | None = None
    opt_in: bool = False


@dataclass(frozen=True)
class FieldPlan:
    """The choice for all fields that share one network.

    Attributes:
        fields: their names.
        operators: what is wanted of them, merged; as text.
        strategy: what was chosen.
        channels: arrays carried through the network, the value included.
        cost: predicted.
        why: why it was chosen.
        candidates: all strategies, the chosen one among them, from special to general.
        details: what is carried.
        measured: seconds, where it was measured.
    """

    fields: tuple[str, ...]
    operators: tuple[str, ...]
    strategy: str
    channels: int
    cost: Cost
    why: str
    candidates: tuple[Candidate, ...]
    details: tuple[str, ...]
    method: Method = field(repr=False, compare=False)
    wanted: tuple[LinearOperator, ...] = field(default=(), repr=False, compare=False)
    measured: float | None = None

    def versus(self, strategy: str = "nested_ad", *, training: bool = False) -> float | None:
        """Predicted time as a multiple of another candidate's; None where that does not apply."""
        other = next((c.cost for c in self.candidates if c.strategy == strategy), None)
        return None if other is None else self.cost.time(training) / other.time(training)


@dataclass(frozen=True)
class Plan:
    """All choices for one operator on given networks.

    With one network, its attributes (``strategy``, ``channels``, ``cost``, ``candidates``, ``why``) stand on the plan itself.
    Printing it gives a report; notebooks show a table; `to_dict` and `to_json` give plain data.

    Attributes:
        text: the operator.
        backend: the backend planned for; None for none in particular.
        over: the coordinates of vector calculus.
        fields: the choice by field name.
        groups: the choice by network.
        merged: whether linear terms are merged into one operator each.
        training: whether the choice is for a training step rather than for an evaluation.
        points: number of points planned for.
        device: ``"cpu"`` or ``"cuda"``.
        rates: where the prices come from: ``"shipped"``, ``"measured"`` (`opdsl tune`) or ``"guessed"``.
        pieces: how many pieces the points are evaluated in, for ``memory=``.
    """

    text: str
    backend: str | None
    over: str
    fields: Mapping[str, FieldPlan]
    groups: tuple[FieldPlan, ...]
    merged: bool
    training: bool = False
    points: int = 256
    device: str = "cpu"
    rates: str = "shipped"
    pieces: int = 1

    @property
    def memory(self) -> float:
        """Predicted bytes: what an evaluation holds at once, or what a training step keeps."""
        return sum(g.cost.training_memory if self.training else g.cost.memory for g in self.groups)

    def _only(self) -> FieldPlan:
        if len(self.groups) != 1:
            raise AttributeError(
                f"the plan has {len(self.groups)} networks; ask plan.fields[name] for one of {', '.join(self.fields)}"
            )
        return self.groups[0]

    strategy = property(lambda self: self._only().strategy)
    channels = property(lambda self: self._only().channels)
    cost = property(lambda self: self._only().cost)
    candidates = property(lambda self: self._only().candidates)
    why = property(lambda self: self._only().why)

    def __str__(self) -> str:
        from opdsl.planning.plan_text import plan_text

        return plan_text(self)

    def _repr_html_(self) -> str:
        from opdsl.planning.plan_text import plan_html

        return plan_html(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""

        def cost(c: Cost | None) -> dict[str, Any] | None:
            return None if c is None else asdict(c)

        return {
            "text": self.text,
            "backend": self.backend,
            "device": self.device,
            "points": self.points,
            "over": self.over,
            "merged": self.merged,
            "optimised_for": "training" if self.training else "evaluation",
            "rates": self.rates,
            "networks": [
                {
                    "fields": list(g.fields),
                    "operators": list(g.operators),
                    "strategy": g.strategy,
                    "channels": g.channels,
                    "cost": cost(g.cost),
                    "versus_nested_ad": {
                        "evaluation": g.versus("nested_ad"),
                        "training": g.versus("nested_ad", training=True),
                    },
                    "why": g.why,
                    "details": list(g.details),
                    "measured": g.measured,
                    "candidates": [
                        {
                            "strategy": c.strategy,
                            "channels": c.channels,
                            "cost": cost(c.cost),
                            "why": c.why,
                            "measured": c.measured,
                        }
                        for c in g.candidates
                    ],
                }
                for g in self.groups
            ],
        }

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
