"""The parts of a problem file, one frozen dataclass and one reader each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opdsl.training.tables import Table

ACTIVATIONS = ("tanh", "sin", "gelu", "silu", "softplus", "sigmoid")
METHODS = ("sobol", "lhs", "halton", "uniform")
OPTIMISERS = ("adam", "adamw", "nadam", "radam", "sgd", "lbfgs")
SCHEDULES = ("constant", "cosine", "exponential")
REFERENCES = ("cole_hopf",)


@dataclass(frozen=True)
class ParameterValue:
    """A parameter of the equations; learned from data where ``learn``, starting at ``value``.

    ``exact`` is only compared with at the end. A ``positive`` parameter is trained through its logarithm.
    """

    name: str
    value: float
    learn: bool = False
    exact: float | None = None
    positive: bool = False


@dataclass(frozen=True)
class Condition:
    """A boundary, initial or periodic condition.

    Exactly one of three kinds: ``equation`` with a restriction in its text (``u(t=0) = 0``); ``equation`` on all
    faces of the space box (``everywhere``); agreement of both ends of the coordinate ``periodic`` up to derivatives of
    ``order``.
    """

    name: str
    equation: str = ""
    everywhere: bool = False
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
    eq. 2).
    """

    method: str = "sobol"
    interior: int = 1024
    boundary: int = 256
    counts: Mapping[str, int] = field(default_factory=dict)
    resample: int = 0
    adaptive: bool = False
    power: float = 1.0
    floor: float = 1.0


@dataclass(frozen=True)
class OptimiserSpec:
    """One phase of training. ``final`` is the last learning rate divided by the first."""

    name: str = "adam"
    steps: int = 1000
    rate: float = 1e-3
    schedule: str = "constant"
    final: float = 0.01
    memory: int = 50


def read_parameters(table: Table) -> tuple[ParameterValue, ...]:
    """Read ``[parameters]``: a number, or a table with ``initial`` for one that is learned."""
    found = []
    for name, value in table.values.items():
        if not name.isidentifier():
            table.fail(name, "a parameter's name consists of letters, digits and underscores")
        if not isinstance(value, dict):
            found.append(ParameterValue(name, table.number(name)))
            continue
        inner = table.table(name)
        positive = inner.flag("positive")
        initial = inner.number("initial", above=0.0 if positive else None)
        exact = inner.number("exact", 0.0) if "exact" in inner.values else None
        inner.close(["initial", "exact", "positive"])
        found.append(ParameterValue(name, initial, True, exact, positive))
    return tuple(found)


def read_conditions(table: Table, columns: tuple[str, ...]) -> tuple[Condition, ...]:
    """Read ``[conditions]``: a text, or a table with ``on`` and ``equation``, or with ``periodic``."""
    found = []
    for name, value in table.values.items():
        if not name.isidentifier():
            table.fail(name, "a condition's name consists of letters, digits and underscores")
        if not isinstance(value, dict):
            found.append(Condition(name, table.text(name, required=True)))
            continue
        inner = table.table(name)
        if "periodic" in value:
            column = inner.choice("periodic", "", columns)
            found.append(Condition(name, periodic=column, order=inner.count("order", 1, least=0)))
        else:
            inner.choice("on", "", ("boundary",))
            found.append(Condition(name, inner.text("equation", required=True), everywhere=True))
        inner.close(["periodic", "order"] if "periodic" in value else ["on", "equation"])
    return tuple(found)


def read_reference(table: Table, fields: tuple[str, ...], columns: tuple[str, ...], dimension: int) -> ReferenceSpec:
    """Read ``[reference]``."""
    method = table.choice("method", "", REFERENCES) if "method" in table.values else ""
    formulas = {name: table.text(name) for name in fields if name in table.values}
    if formulas and method:
        table.fail("method", "give either a method or expressions for the fields, not both")
    if formulas and len(formulas) < len(fields):
        missing = next(name for name in fields if name not in formulas)
        table.fail(missing, "missing; give the exact solution of every field, or of none", code="E804")
    if method == "cole_hopf" and (len(fields) != 1 or set(columns) != {"t", "x"}):
        table.fail("method", "cole_hopf is for one field over t and x")
    points = table.counts("points")
    if points and len(points) != dimension and not (dimension > 2 and len(points) == 1):
        table.fail("points", f"expected {dimension} numbers, one for each coordinate, found {len(points)}")
    table.close([*fields, "method", "points"])
    return ReferenceSpec(formulas, method, points)


def read_data(
    table: Table, reference: ReferenceSpec, columns: tuple[str, ...], fields: tuple[str, ...], folder: Path
) -> DataSpec:
    """Read ``[data]``."""
    file = table.text("file")
    points = table.count("points", 0, least=0)
    noise = table.number("noise", 0.0, least=0.0)
    table.close()
    if file and (points or noise):
        table.fail("file", "observations come from a file or from the reference (points, noise), not from both")
    if points and not reference.active:
        table.fail("points", "there is no [reference] to observe; give a file")
    path = folder / file if file else None
    if path is not None:
        if not path.is_file():
            table.fail("file", f"no file {path}")
        with path.open(encoding="utf-8") as stream:
            header = [name.strip() for name in stream.readline().split(",")]
        if header != [*columns, *fields]:
            table.fail(
                "file", f"the first line of {path} must be {','.join([*columns, *fields])}, found {','.join(header)}"
            )
    return DataSpec(points, noise, path)


def read_network(table: Table, fields: tuple[str, ...], columns: tuple[str, ...]) -> NetworkSpec:
    """Read ``[network]``."""
    constraints = {}
    for name in fields:
        if name in table.values:
            inner = table.table(name)
            constraints[name] = (inner.text("factor", "1"), inner.text("offset", "0"))
            inner.close(["factor", "offset"])
    periodic = table.texts("periodic")
    for name in periodic:
        if name not in columns:
            table.fail("periodic", f"{name!r} is no coordinate; choose from {', '.join(columns)}")
    fourier = table.table("fourier")
    spec = NetworkSpec(
        layers=table.count("layers", 4),
        width=table.count("width", 32),
        activation=table.choice("activation", "tanh", ACTIVATIONS),
        periodic=periodic,
        harmonics=table.count("harmonics", 1),
        fourier=fourier.count("features", 0, least=0),
        fourier_scale=fourier.number("scale", 1.0, above=0.0),
        constraints=constraints,
    )
    fourier.close()
    table.close([*fields])
    return spec


def read_sampling(table: Table, conditions: tuple[str, ...]) -> SamplingSpec:
    """Read ``[sampling]``; ``points`` may name single conditions."""
    inner = table.table("points")
    spec = SamplingSpec(
        method=table.choice("method", "sobol", METHODS),
        interior=table.count("interior", 1024),
        boundary=table.count("boundary", 256),
        counts={name: inner.count(name, 1) for name in conditions if name in inner.values},
        resample=table.count("resample", 0, least=0),
        adaptive=table.flag("adaptive"),
        power=table.number("power", 1.0, above=0.0),
        floor=table.number("floor", 1.0, least=0.0),
    )
    inner.close(conditions)
    table.close()
    if spec.adaptive and not spec.resample:
        table.fail("adaptive", "points follow the residual only when they are drawn again; set resample = 100, say")
    return spec


def read_optimisers(tables: list[Table]) -> tuple[OptimiserSpec, ...]:
    """Read ``[[optimiser]]``; 2000 steps of Adam where there is none."""
    found = []
    for table in tables:
        name = table.choice("name", "adam", OPTIMISERS)
        newton = name == "lbfgs"
        found.append(
            OptimiserSpec(
                name=name,
                steps=table.count("steps", 1000),
                rate=1.0 if newton else table.number("rate", 1e-3, above=0.0),
                schedule="constant" if newton else table.choice("schedule", "constant", SCHEDULES),
                final=1.0 if newton else table.number("final", 0.01, above=0.0),
                memory=table.count("memory", 50) if newton else 0,
            )
        )
        table.close()
    return tuple(found) or (OptimiserSpec(steps=2000),)
