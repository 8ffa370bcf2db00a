"""The record of what a run has reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opdsl.training.problem import Problem
from opdsl.training.sampling import Points


@dataclass(kw_only=True)
class Solution:
    """What was reached.

    Attributes:
        status: ``finished`` (all phases), ``stopped`` (at the ``steps`` asked for), ``interrupted`` or ``diverged``.
        step: steps done; of a run that diverged, those up to the last finite losses, which everything here belongs to.
        errors: relative L2 error ‖u - reference‖ / ‖reference‖ of every field over the comparison points; empty
            without a reference.
        parameters: learned parameters.
        history: ``step``, ``seconds``, ``losses`` by name and ``errors`` by field, one entry per time they were looked at;
            ``phases`` with the reason where one ended early.
        predict: all fields at points, (n, d) → (n, m).
        metrics: everything above and more, as written to ``metrics.json``.
        folder: where the results are.
        signal: the number of the signal that interrupted the run, if one did.
        diverged: step and losses at which a run was seen to have diverged, if it has, and at how many of how many ``points``
            each is not finite.
    """

    problem: Problem
    backend: str
    status: str
    step: int
    errors: dict[str, float]
    parameters: dict[str, float]
    history: dict[str, Any]
    predict: Callable[[Points], Points]
    metrics: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    signal: int | None = None
    diverged: dict[str, Any] | None = None
