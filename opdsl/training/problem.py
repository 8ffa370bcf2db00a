"""A problem of differential equations: everything one problem file says, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from opdsl.training.problem_tables import (
    DataSpec,
    NetworkSpec,
    OptimiserSpec,
    ParameterValue,
    ProblemCondition,
    ReferenceSpec,
    SamplingSpec,
)

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Problem:
    """Everything one problem file says. Formulas are kept as text and parsed again where they are used.

    Attributes:
        name: stem of the file, used for the results folder.
        source: the text of the file; a checkpoint carries it.
        box: ``(low, high)`` for every column.
        equations: name and text, in the order of the file.
        weights: a factor for every loss in `losses`.
        choice: what ``optimiser = "auto"`` chose, and why; empty where the file names its optimisers.
    """

    name: str
    source: str
    title: str
    about: str
    coordinates: str
    time: str | None
    box: tuple[tuple[float, float], ...]
    columns: tuple[str, ...]
    fields: tuple[str, ...]
    equations: Mapping[str, str]
    parameters: tuple[ParameterValue, ...]
    conditions: tuple[ProblemCondition, ...]
    reference: ReferenceSpec
    data: DataSpec
    network: NetworkSpec
    sampling: SamplingSpec
    weights: Mapping[str, float]
    optimisers: tuple[OptimiserSpec, ...]
    dtype: str
    seed: int
    choice: str = ""

    @cached_property
    def losses(self) -> tuple[str, ...]:
        """Names of all losses: equations, conditions, then ``data``."""
        data = ("data",) if self.data.active else ()
        return (*self.equations, *(c.name for c in self.conditions), *data)

    @property
    def space(self) -> tuple[int, ...]:
        """Columns that are not time."""
        return tuple(k for k, name in enumerate(self.columns) if name != (self.time or "t"))

    @property
    def steps(self) -> int:
        """Steps of all training phases together."""
        return sum(o.steps for o in self.optimisers)

    @property
    def declarations(self) -> dict[str, str]:
        """``coords=``, ``fields=``, ``params=`` (and ``time=``) for `opdsl.operator`."""
        marks = (f"?{p.name}" if p.learn else p.name for p in self.parameters)
        declared = {"coords": self.coordinates, "fields": " ".join(self.fields), "params": " ".join(marks)}
        return declared | ({"time": self.time} if self.time else {})

    @property
    def constants(self) -> dict[str, float]:
        """Parameters that are known."""
        return {p.name: p.value for p in self.parameters if not p.learn}

    @property
    def exact_constants(self) -> dict[str, float]:
        """All parameters at the values the reference solution belongs to."""
        return {p.name: p.value if p.exact is None else p.exact for p in self.parameters}

    @property
    def system_text(self) -> str:
        """All equations as one text, so that they share one push-forward."""
        return "\n".join(f"{name}: {text}" for name, text in self.equations.items())
