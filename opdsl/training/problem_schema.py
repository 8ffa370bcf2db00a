"""What may stand in a problem file: one pydantic model per table, with its defaults and limits.

The models know types, ranges and choices. What one table says about another (names, weights, points per coordinate) is
checked in `opdsl.training.problem_file`, where the models become the records of `opdsl.training.problem_tables`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationInfo, field_validator

from opdsl.training.problem_tables import DataSpec, NetworkSpec, OptimiserSpec, SamplingSpec

# Beyond these, memory or patience ends before training does.
_POINTS = 10_000_000
_STEPS = 1_000_000_000

Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
PointCount = Annotated[int, Field(ge=1, le=_POINTS)]


def _interval(value: Any) -> Any:
    numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool)] if isinstance(value, list) else []
    if len(numbers) != 2 or len(value) != 2 or not all(abs(v) <= 1e300 for v in numbers):
        raise ValueError("expected [low, high] with two numbers, found {found}")
    low, high = float(numbers[0]), float(numbers[1])
    if low >= high:
        raise ValueError(f"the interval is empty: {low:g} is not below {high:g}; write [{high:g}, {low:g}]?")
    return low, high


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _is_table(value: Any) -> str:
    return "#table" if isinstance(value, dict) else "#plain"


def _condition_kind(value: Any) -> str:
    if not isinstance(value, dict):
        return "#plain"
    return "#periodic" if "periodic" in value else "#part" if "inside" in value else "#boundary"


Interval = Annotated[tuple[float, float], BeforeValidator(_interval)]
Names = Annotated[list[str], BeforeValidator(_one_or_more)]


class Table(BaseModel):
    """A table with a fixed set of keys."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class OpenTable(Table):
    """A table whose other keys are named after fields of the problem."""

    model_config = ConfigDict(extra="allow")


class LearnedParameter(Table):
    """``nu = { initial = 0.1, exact = 0.05, positive = true }``, or ``between = [0, 1]``."""

    positive: bool = False
    between: Interval | None = None
    initial: float
    exact: float | None = None

    @field_validator("initial")
    @classmethod
    def _in_its_domain(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("positive") and value <= 0:
            raise ValueError(f"must be larger than 0, found {value:g}")
        bounds = info.data.get("between")
        if bounds is not None and not bounds[0] < value < bounds[1]:
            raise ValueError(f"must lie between {bounds[0]:g} and {bounds[1]:g}, found {value:g}")
        if bounds is not None and info.data.get("positive"):
            raise ValueError("give either positive or between; the bounds say enough")
        return value


class BoundaryCondition(Table):
    """``{ on = "boundary", equation = "u = 0" }``."""

    on: Literal["boundary"]
    equation: str


class PartCondition(Table):
    """``{ inside = { x = [0, 0.1] }, equation = "u_xxx = 0" }``."""

    inside: Annotated[dict[str, Interval], Field(min_length=1)]
    equation: str


class PeriodicCondition(Table):
    """``{ periodic = "x", order = 1 }``."""

    periodic: str
    order: Annotated[int, Field(ge=0, le=20)] = 1


class ReferenceTable(OpenTable):
    """``[reference]``: a method, or a formula for every field."""

    __pydantic_extra__: dict[str, str]
    method: Literal["cole_hopf", "self_similar_burgers"] | None = None
    points: list[PointCount] = []


class DataTable(Table):
    """``[data]``."""

    points: Annotated[int, Field(ge=0, le=_POINTS)] = DataSpec.points
    noise: NotNegative = DataSpec.noise
    file: str = ""


class Fourier(Table):
    """``fourier = { features = 16, scale = 2.0 }``."""

    features: Annotated[int, Field(ge=0, le=100_000)] = NetworkSpec.fourier
    scale: Positive = NetworkSpec.fourier_scale


class Constraint(Table):
    """``u = { factor = "t", offset = "sin(x)" }``."""

    factor: str = "1"
    offset: str = "0"


class NetworkTable(OpenTable):
    """``[network]``."""

    __pydantic_extra__: dict[str, Constraint]
    layers: Annotated[int, Field(ge=1, le=1000)] = NetworkSpec.layers
    width: Annotated[int, Field(ge=1, le=100_000)] = NetworkSpec.width
    activation: Literal["tanh", "sin", "gelu", "silu", "softplus", "sigmoid"] = "tanh"
    periodic: Names = []
    harmonics: Annotated[int, Field(ge=1, le=1000)] = NetworkSpec.harmonics
    fourier: Fourier = Fourier()


class SamplingTable(Table):
    """``[sampling]``; ``points`` names single conditions."""

    method: Literal["sobol", "lhs", "halton", "uniform"] = "sobol"
    interior: PointCount = SamplingSpec.interior
    boundary: PointCount = SamplingSpec.boundary
    points: dict[str, PointCount] = {}
    resample: Annotated[int, Field(ge=0, le=_STEPS)] = SamplingSpec.resample
    adaptive: bool = SamplingSpec.adaptive
    refine: bool = SamplingSpec.refine
    power: Positive = SamplingSpec.power
    floor: NotNegative = SamplingSpec.floor


Steps = Annotated[int, Field(ge=1, le=_STEPS)]


OptimiserName = Literal[
    "adam", "adamw", "nadam", "radam", "sgd", "soap", "lbfgs", "levenberg_marquardt", "natural_gradient"
]  # fmt: skip


class FirstOrder(Table):
    """A phase of a first-order optimiser."""

    name: OptimiserName = "adam"
    steps: Steps = OptimiserSpec.steps
    rate: Positive = OptimiserSpec.rate
    schedule: Literal["constant", "cosine", "exponential"] = "constant"
    final: Positive = OptimiserSpec.final


class LBFGS(Table):
    """A phase of L-BFGS, which has no rate."""

    name: Literal["lbfgs"]
    steps: Steps = OptimiserSpec.steps
    memory: Annotated[int, Field(ge=1, le=1000)] = OptimiserSpec.memory


class LevenbergMarquardtPhase(Table):
    """A phase of damped Gauss-Newton steps, or several alike: ``rounds`` of ``steps`` each."""

    name: Literal["levenberg_marquardt"]
    steps: Steps = 300
    rounds: Annotated[int, Field(ge=1, le=100)] = 1
    damping: Positive = OptimiserSpec.damping
    geodesic: bool = OptimiserSpec.geodesic
    matrix_free: bool = OptimiserSpec.matrix_free


class NaturalGradientPhase(Table):
    """A phase of natural-gradient steps with momentum."""

    name: Literal["natural_gradient"]
    steps: Steps = 300
    damping: Positive = OptimiserSpec.damping
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = OptimiserSpec.momentum
    matrix_free: bool = OptimiserSpec.matrix_free


Phase = Annotated[
    Annotated[FirstOrder, Tag("#first-order")]
    | Annotated[LBFGS, Tag("#lbfgs")]
    | Annotated[LevenbergMarquardtPhase, Tag("#levenberg_marquardt")]
    | Annotated[NaturalGradientPhase, Tag("#natural_gradient")],
    Discriminator(lambda value: _optimiser_kind(value)),
]


def _optimiser_kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else None
    return f"#{name}" if name in ("lbfgs", "levenberg_marquardt", "natural_gradient") else "#first-order"


def _phases(value: Any) -> Any:
    """A name alone is one phase with its defaults."""
    return [{"name": value}] if isinstance(value, str) and value != "auto" else value


def _auto_or_phases(value: Any) -> str:
    return "#auto" if value == "auto" else "#phases"


class TrainingTable(Table):
    """``[training]``."""

    dtype: Literal["float32", "float64"] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0


class ProblemFile(Table):
    """A whole file."""

    title: str = ""
    about: str = ""
    fields: str
    time: str = ""
    coordinates: Annotated[dict[str, Interval], Field(min_length=1)]
    parameters: dict[
        str, Annotated[Annotated[float, Tag("#plain")] | Annotated[LearnedParameter, Tag("#table")], Discriminator(_is_table)]
    ] = {}
    equations: Annotated[dict[str, str], Field(min_length=1)]
    conditions: dict[
        str,
        Annotated[
            Annotated[str, Tag("#plain")]
            | Annotated[BoundaryCondition, Tag("#boundary")]
            | Annotated[PartCondition, Tag("#part")]
            | Annotated[PeriodicCondition, Tag("#periodic")],
            Discriminator(_condition_kind),
        ],
    ] = {}
    reference: ReferenceTable = ReferenceTable()  # type: ignore[call-arg]
    data: DataTable = DataTable()
    network: NetworkTable = NetworkTable()  # type: ignore[call-arg]
    sampling: SamplingTable = SamplingTable()
    weights: dict[str, NotNegative] = {}
    optimiser: Annotated[
        Annotated[Literal["auto"], Tag("#auto")] | Annotated[list[Phase], Tag("#phases")],
        Discriminator(_auto_or_phases), BeforeValidator(_phases),
    ] = []  # fmt: skip
    training: TrainingTable = TrainingTable()
