"""The parts of a problem, one frozen record each; `opdsl.training.problem_schema` says what may stand in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class ParameterValue:
    """A parameter of the equations; learned from data where ``learn``, starting at ``value``.

    ``exact`` is only compared with at the end. A ``positive`` parameter is trained through its logarithm, one ``between`` two
    bounds through its logistic function; see `opdsl.training.learned`.
    """

    name: str
    value: float
    learn: bool = False
    exact: float | None = None
    positive: bool = False
    between: tuple[float, float] | None = None


@dataclass(frozen=True)
class ProblemCondition:
    """A boundary, initial or periodic condition.

    Exactly one of four kinds: ``equation`` with a restriction in its text (``u(t=0) = 0``); ``equation`` on all
    faces of the space box (``everywhere``); ``equation`` in a part of the box, an interval for some coordinates
    (``inside``); agreement of both ends of the coordinate ``periodic`` up to derivatives of ``order``.
    """

    name: str
    equation: str = ""
    everywhere: bool = False
    inside: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    periodic: str = ""
    order: int = 1


@dataclass(frozen=True)
class ReferenceSpec:
    """A known solution: one expression per field, or a named method.

    ``points`` per coordinate (or in all) to compare at.
    """

    formulas: Mapping[str, str] = field(default_factory=dict)
    method: str = ""
    points: tuple[int, ...] = ()

    @property
    def active(self) -> bool:
        """Whether there is a reference solution."""
        return bool(self.formulas or self.method)


@dataclass(frozen=True)
class Method:
    """What a named reference solution is for: one field over these columns, with this positive parameter."""

    columns: tuple[str, ...]
    parameter: str


METHODS = {"cole_hopf": Method(("t", "x"), "nu"), "self_similar_burgers": Method(("X",), "lam")}


@dataclass(frozen=True)
class DataSpec:
    """Observations of all fields: ``points`` draws of the reference with relative ``noise``, or the CSV ``file``."""

    points: int = 0
    noise: float = 0.0
    file: Path | None = None

    @property
    def active(self) -> bool:
        """Whether there are observations."""
        return self.points > 0 or self.file is not None


@dataclass(frozen=True)
class NetworkSpec:
    """A multilayer perceptron with optional input features and hard constraints.

    ``constraints[field] = (factor, offset)``: the field is offset(x) + factor(x) · network(x).
    """

    layers: int = 4
    width: int = 32
    activation: str = "tanh"
    periodic: tuple[str, ...] = ()
    harmonics: int = 1
    fourier: int = 0
    fourier_scale: float = 1.0
    constraints: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class SamplingSpec:
    """Where the losses are evaluated.

    ``resample``: draw new points every so many steps (0: never). ``adaptive``: share of the interior points that is
    drawn with probability ∝ |residual|^power + floor · mean (residual-based adaptive distribution, arXiv:2207.10289,
    eq. 2). ``refine``: draw them so whenever a new phase of training begins, and leave them alone until the next one.
    """

    method: str = "sobol"
    interior: int = 1024
    boundary: int = 256
    counts: Mapping[str, int] = field(default_factory=dict)
    resample: int = 0
    adaptive: bool = False
    refine: bool = False
    power: float = 1.0
    floor: float = 1.0


@dataclass(frozen=True)
class OptimiserSpec:
    """One phase of training.

    ``rate``, ``schedule`` and ``final`` (the last learning rate divided by the first) belong to first-order methods, ``memory`` to
    L-BFGS, the rest to the optimisers for residuals; see `opdsl.training.levenberg_marquardt` and
    `opdsl.training.natural_gradient`.
    """

    name: str = "adam"
    steps: int = 1000
    rate: float = 1e-3
    schedule: str = "constant"
    final: float = 0.01
    memory: int = 50
    damping: float = 1e-3
    geodesic: bool = True
    momentum: float = 0.9
    matrix_free: bool = False

    @property
    def for_residuals(self) -> bool:
        """Whether it works on the residuals one by one, not on their mean."""
        return self.name in RESIDUAL_OPTIMISERS

    @property
    def keeps_points(self) -> bool:
        """Whether its steps, each of which goes down from the one before, belong to one set of points."""
        return self.name in ("lbfgs", "levenberg_marquardt")


RESIDUAL_OPTIMISERS = ("levenberg_marquardt", "natural_gradient")
