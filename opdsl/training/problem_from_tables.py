"""From the tables of a file to a problem: what one table says about another is checked here, and nothing is lost of the rest."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from opdsl.errors import ProblemError, did_you_mean
from opdsl.training.choose_optimiser import choose
from opdsl.training.observations import read_columns
from opdsl.training.problem import Problem
from opdsl.training.problem_errors import Findings, short
from opdsl.training.problem_schema import (
    BoundaryCondition,
    LearnedParameter,
    NetworkTable,
    PartCondition,
    PeriodicCondition,
    ProblemFile,
    ReferenceTable,
)
from opdsl.training.problem_tables import (
    METHODS,
    DataSpec,
    NetworkSpec,
    OptimiserSpec,
    ParameterValue,
    ProblemCondition,
    ReferenceSpec,
    SamplingSpec,
)

_CHARACTERS = 20_000  # of all formulas together
_COLUMNS = 10_000
_ENTRIES = 100  # of equations, conditions, phases
_WEIGHTS = 100_000_000  # of a network
_NUMBERS = 100_000_000  # of one set of points


def problem_from_tables(
    table: ProblemFile, values: dict[str, Any], name: str, text: str, folder: Path, findings: Findings
) -> Problem | None:
    """Return the problem, or None where its names contradict each other."""
    before = len(findings)
    fields = tuple(split_names(table.fields))
    if not fields:
        findings.add("fields", 'name at least one unknown, such as "u"')
    for unknown in fields:
        if not unknown.isidentifier():
            findings.add("fields", f'{short(unknown)}: write scalar fields by name, "u v p"; a vector as its components')
    columns, box = _columns(table, findings)
    if len(findings) == before:
        _check_names(table, columns, fields, findings)
    for part in ("equations", "conditions", "parameters"):
        entries = getattr(table, part)
        if len(entries) > _ENTRIES:
            findings.add(part, f"{len(entries)} entries are more than the limit {_ENTRIES}")
        for key in entries:
            if not key.isidentifier():
                what = {"equations": "an equation", "conditions": "a condition", "parameters": "a parameter"}[part]
                findings.add((part, key), f"{what}'s name consists of letters, digits and underscores")
    if len(findings) > before:
        return None
    reference = _reference(table.reference, fields, columns, findings)
    problem = Problem(
        name=name,
        source=text,
        title=table.title or name,
        about=table.about,
        coordinates=" ".join(table.coordinates),
        time=table.time or None,
        box=box,
        columns=columns,
        fields=fields,
        equations={key: value.strip() for key, value in table.equations.items()},
        parameters=_parameters(table),
        conditions=_conditions(table, dict(zip(columns, box, strict=True)), findings),
        reference=reference,
        data=_data(table, reference, columns, fields, folder, findings),
        network=_network(table.network, fields, columns, findings),
        sampling=_sampling(table, len(columns), findings),
        weights={},
        optimisers=_optimisers(table, findings),
        dtype=table.training.dtype or "float32",
        seed=table.training.seed,
    )
    for key, formula in problem.equations.items():
        if not formula:
            findings.add(("equations", key), "the equation is empty")
    length = sum(map(len, _formulas(problem)))
    if length > _CHARACTERS:
        findings.add("", f"the formulas have {length:,} characters together; the limit is {_CHARACTERS:,}")
        return None
    return _with_weights(_with_optimisers(problem, table), table, values, findings)


def split_names(names: str) -> list[str]:
    return names.replace(",", " ").split()


def _formulas(problem: Problem) -> list[str]:
    pairs = [text for pair in problem.network.constraints.values() for text in pair]
    conditions = [c.equation for c in problem.conditions]
    return [*problem.equations.values(), *conditions, *problem.reference.formulas.values(), *pairs]


def _columns(table: ProblemFile, findings: Findings) -> tuple[tuple[str, ...], tuple[tuple[float, float], ...]]:
    """Return the column names and the box."""
    columns: list[str] = []
    box: list[tuple[float, float]] = []
    for name, interval in table.coordinates.items():
        base, bracket, length = name.partition("[")
        if not bracket:
            columns.append(name)
            box.append(interval)
            continue
        digits = length.removesuffix("]").strip()
        if not length.endswith("]") or not digits.isdecimal() or len(digits) > 4 or not 1 <= int(digits) <= 1000:
            findings.add(("coordinates", name), f'a coordinate vector needs its length, 1 to 1000: "{base}[10]" = [0, 1]')
            continue
        columns += [f"{base}_{k}" for k in range(int(digits))]
        box += [interval] * int(digits)
    if len(columns) > _COLUMNS:
        findings.add("coordinates", f"{len(columns):,} columns are more than the limit {_COLUMNS:,}")
    return tuple(columns), tuple(box)


def _check_names(table: ProblemFile, columns: tuple[str, ...], fields: tuple[str, ...], findings: Findings) -> None:
    """Refuse a name with two roles; the language would report it less clearly, once per formula."""
    roles: dict[str, str] = {}
    for role, names in (("coordinate", columns), ("field", fields), ("parameter", tuple(table.parameters))):
        for name in names:
            if name in roles:
                findings.add("", f"{name!r} is declared as a {roles[name]} and as a {role}")
            roles[name] = role
    for name in table.conditions.keys() & table.equations.keys():
        findings.add("conditions", f"{name!r} names two losses; give each equation and condition a name of its own")


def _parameters(table: ProblemFile) -> tuple[ParameterValue, ...]:
    return tuple(
        ParameterValue(name, value.initial, True, value.exact, value.positive, value.between)
        if isinstance(value, LearnedParameter)
        else ParameterValue(name, float(value))
        for name, value in table.parameters.items()
    )


def _conditions(table: ProblemFile, box: dict[str, tuple[float, float]], findings: Findings) -> tuple[ProblemCondition, ...]:
    found = []
    for name, value in table.conditions.items():
        match value:
            case PeriodicCondition():
                if value.periodic not in box:
                    _not_one_of(("conditions", name, "periodic"), value.periodic, tuple(box), findings)
                    continue
                found.append(ProblemCondition(name, periodic=value.periodic, order=value.order))
            case PartCondition():
                found.append(ProblemCondition(name, value.equation, inside=dict(value.inside)))
                for column, (low, high) in value.inside.items():
                    if column not in box:
                        _not_one_of(("conditions", name, "inside", column), column, tuple(box), findings)
                    elif not (box[column][0] <= low and high <= box[column][1]):
                        limits = "[{:g}, {:g}]".format(*box[column])
                        findings.add(("conditions", name, "inside", column), f"[{low:g}, {high:g}] is no part of the box {limits}")
            case BoundaryCondition():
                found.append(ProblemCondition(name, value.equation, everywhere=True))
            case _:
                found.append(ProblemCondition(name, str(value)))
    return tuple(found)


def _not_one_of(path: tuple[str, ...], value: str, options: tuple[str, ...], findings: Findings) -> None:
    hint = did_you_mean(value, options)
    findings.add(path, f"{short(value)} is not one of {', '.join(options)}" + (f"; {hint}" if hint else ""))


def _reference(table: ReferenceTable, fields: tuple[str, ...], columns: tuple[str, ...], findings: Findings) -> ReferenceSpec:
    extras = table.model_extra or {}
    formulas = {name: extras[name] for name in fields if name in extras}
    if formulas and table.method:
        findings.add("reference.method", "give either a method or expressions for the fields, not both")
    if formulas and len(formulas) < len(fields):
        missing = next(name for name in fields if name not in formulas)
        findings.add(("reference", missing), "missing; give the exact solution of every field, or of none", "E804")
    if table.method and (len(fields) != 1 or set(columns) != set(METHODS[table.method].columns)):
        findings.add("reference.method", f"{table.method} is for one field over {' and '.join(METHODS[table.method].columns)}")
    points, dimension = tuple(table.points), len(columns)
    if points and len(points) != dimension and not (dimension > 2 and len(points) == 1):
        findings.add("reference.points", f"expected {dimension} numbers, one for each coordinate, found {len(points)}")
    if math.prod(points) * dimension > _NUMBERS:
        findings.add("reference.points", f"{math.prod(points):,} points are too many to compare at")
    return ReferenceSpec(formulas, table.method or "", points)


def _data(
    table: ProblemFile, reference: ReferenceSpec, columns: tuple[str, ...], fields: tuple[str, ...], folder: Path, findings: Findings
) -> DataSpec:
    given = table.data
    if given.file and (given.points or given.noise):
        findings.add("data.file", "observations come from a file or from the reference (points, noise), not from both")
    if given.points and not reference.active:
        findings.add("data.points", "there is no [reference] to observe; give a file")
    if given.points * (len(columns) + len(fields)) > _NUMBERS:
        findings.add("data.points", f"{given.points:,} points in {len(columns)} dimensions are too many")
    path = folder / given.file if given.file else None
    if path is not None:
        try:
            read_columns(path, (*columns, *fields))
        except ProblemError as error:
            findings.add("data.file", error.reason)
    if any(isinstance(p, LearnedParameter) for p in table.parameters.values()) and not (given.points or path or reference.active):
        findings.add("parameters", "a parameter can only be learned from observations; add a [data] table")
    return DataSpec(given.points, given.noise, path)


def _network(table: NetworkTable, fields: tuple[str, ...], columns: tuple[str, ...], findings: Findings) -> NetworkSpec:
    extras = table.model_extra or {}
    for name in table.periodic:
        if name not in columns:
            findings.add("network.periodic", f"{name!r} is no coordinate; choose from {', '.join(columns)}")
    inputs = len(columns) + 2 * table.harmonics * len(table.periodic)
    inputs += 2 * table.fourier.features
    weights = (inputs + len(fields)) * table.width + (table.layers - 1) * table.width**2
    if weights > _WEIGHTS:
        findings.add("network.width", f"a network of {weights:,} weights is larger than the limit {_WEIGHTS:,}; use fewer layers or less width")
    return NetworkSpec(
        layers=table.layers, width=table.width, activation=table.activation, periodic=tuple(table.periodic),
        harmonics=table.harmonics, fourier=table.fourier.features, fourier_scale=table.fourier.scale,
        constraints={name: (extras[name].factor, extras[name].offset) for name in fields if name in extras},
    )  # fmt: skip


def _sampling(table: ProblemFile, dimension: int, findings: Findings) -> SamplingSpec:
    given = table.sampling
    for name in given.points.keys() - table.conditions.keys():
        findings.unknown_key(("sampling", "points", name), table.conditions)
    for key, count in (("interior", given.interior), ("boundary", given.boundary), *given.points.items()):
        if count * dimension > _NUMBERS:
            findings.add(("sampling", key), f"{count:,} points in {dimension} dimensions are too many")
    if given.adaptive and not given.resample:
        findings.add("sampling.adaptive", "points follow the residual only when they are drawn again; set resample = 100, say")
    return SamplingSpec(
        method=given.method, interior=given.interior, boundary=given.boundary, counts=given.points,
        resample=given.resample, adaptive=given.adaptive, refine=given.refine, power=given.power, floor=given.floor,
    )  # fmt: skip


def _optimisers(table: ProblemFile, findings: Findings) -> tuple[OptimiserSpec, ...]:
    """2000 steps of Adam where none is given; nothing where they are to be chosen."""
    if table.optimiser == "auto":
        return ()
    if len(table.optimiser) > _ENTRIES:
        findings.add("optimiser", f"{len(table.optimiser)} phases are more than the limit {_ENTRIES}")
    # What a phase does not have plays no part in it.
    neutral = OptimiserSpec(rate=1.0, schedule="constant", final=1.0, memory=0)
    found = [
        replace(neutral, **phase.model_dump(exclude={"rounds"}))
        for phase in table.optimiser for _ in range(getattr(phase, "rounds", 1))
    ]  # fmt: skip
    return tuple(found) or (OptimiserSpec(steps=2000),)


def _with_optimisers(problem: Problem, table: ProblemFile) -> Problem:
    """The phases that ``auto`` chooses; double precision where a second-order method could not use less."""
    if not problem.optimisers:
        phases, why = choose(problem)
        problem = replace(problem, optimisers=phases, choice=why)
    wide = any(phase.for_residuals for phase in problem.optimisers)
    return replace(problem, dtype=table.training.dtype or ("float64" if wide else "float32"))


def _with_weights(problem: Problem, table: ProblemFile, values: dict[str, Any], findings: Findings) -> Problem:
    # Equations and conditions that were left out for their mistakes are known by name all the same.
    named = [key for part in ("equations", "conditions") if isinstance(values.get(part), dict) for key in values[part]]
    known = dict.fromkeys([*problem.losses, *named, *(["data"] if problem.data.active else [])])
    for name in table.weights.keys() - known.keys():
        findings.unknown_key(("weights", name), known)
    return replace(problem, weights={name: table.weights.get(name, 1.0) for name in problem.losses})
