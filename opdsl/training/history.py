"""What a run has seen: losses and errors at the steps where they were looked at, and its phases."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from opdsl.training.problem import Problem


class History:
    """The record of a run, as it stands in ``metrics.json``.

    Args:
        problem: what is solved.

    Attributes:
        record: ``step`` and ``seconds``, ``losses`` by name and ``errors`` by field (with a reference solution), one entry per
            time they were looked at; ``phases``, one entry for each that was begun: its ``name``, the ``step`` and the
            ``seconds`` at which it began, and why it ended before its last step (``reason``, else empty).
    """

    def __init__(self, problem: Problem) -> None:
        self.record: dict[str, Any] = {
            "step": [], "seconds": [], "losses": {name: [] for name in problem.losses},
            "errors": {name: [] for name in problem.fields if problem.reference.active}, "phases": [],
        }  # fmt: skip

    @property
    def last(self) -> int | None:
        """The step that was looked at last."""
        return self.record["step"][-1] if self.record["step"] else None

    def look(self, step: int, seconds: float, losses: Mapping[str, float], errors: Mapping[str, float]) -> None:
        """Note what is seen at a step."""
        self.record["step"].append(step)
        self.record["seconds"].append(round(seconds, 4))
        for part, values in (("losses", losses), ("errors", errors)):
            for name, value in values.items():
                self.record[part][name].append(value)

    def begin(self, name: str, step: int, seconds: float) -> None:
        """Note that a phase begins."""
        self.record["phases"].append({"name": name, "step": step, "seconds": round(seconds, 4), "reason": ""})

    def end(self, reason: str) -> None:
        """Note why the present phase ends before its last step."""
        self.record["phases"][-1]["reason"] = reason

    def tree(self) -> dict[str, Any]:
        """A copy for a checkpoint."""
        return copy.deepcopy(self.record)

    def put(self, tree: dict[str, Any]) -> None:
        """Go back to what `tree` gave."""
        self.record = copy.deepcopy(tree)


def check_history(tree: Any, problem: Problem) -> str:
    """What is wrong with the history in a checkpoint; empty where nothing is."""
    columns = [tree["step"], tree["seconds"], *tree["losses"].values(), *tree["errors"].values()]
    if list(tree["losses"]) != list(problem.losses) or list(tree["errors"]) != list(History(problem).record["errors"]):
        return "its losses have other names"
    if not all(isinstance(c, list) and len(c) == len(columns[0]) for c in columns):
        return "its history has gaps"
    if not all(isinstance(v, int | float) for c in columns for v in c):
        return "its history holds something else than numbers"
    kinds = {"name": str, "step": int, "seconds": float, "reason": str}
    phases = tree["phases"]
    if not isinstance(phases, list) or not all(
        isinstance(p, dict) and p.keys() == kinds.keys() and all(isinstance(p[k], t) for k, t in kinds.items()) for p in phases
    ):
        return "its phases are none of a run"
    return ""
