"""A differential-equation problem as a text file: TOML, with every formula in the operator language.

Nothing in the file is evaluated as code. A file has these tables; only the first three are required.

=================  ===================================================================================================
table              meaning
=================  ===================================================================================================
``fields``         the unknowns, ``"u"`` or ``"u v"`` (a text at the top of the file)
``[coordinates]``  ``name = [low, high]``, columns in this order; ``"x[10]" = [0, 1]`` is a cube of ten dimensions
``[equations]``    ``name = "u_t + u u_x = nu u_xx"``, each a loss of that name, on points inside the box
``[parameters]``   ``nu = 0.01``, or ``nu = { initial = 0.1, exact = 0.05, positive = true }`` to learn it
``[conditions]``   ``name = "u(t=0) = -sin(pi x)"`` · ``{ on = "boundary", equation = "u = 0" }`` (all faces of the
                   space box) · ``{ periodic = "x", order = 1 }`` (values and derivatives to that order agree)
``[reference]``    ``u = "exp(-t) sin(x)"``, or ``method = "cole_hopf"``; ``points`` per coordinate where it is compared
``[data]``         observations to fit: ``points`` and ``noise`` of the reference, or ``file`` (CSV with a header)
``[network]``      ``layers``, ``width``, ``activation``, ``periodic``, ``fourier``; hard constraints
                   ``u = { factor = "t", offset = "sin(x)" }`` make the field offset + factor · network
``[sampling]``     ``method``, ``interior``, ``boundary``, ``resample``, ``adaptive``
``[weights]``      a factor for each named loss; 1 where absent
``[[optimiser]]``  the phases of training, one after the other
``[training]``     ``dtype``, ``seed``
=================  ===================================================================================================
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path

from opdsl.errors import ProblemError, did_you_mean
from opdsl.training.problem_tables import (
    Condition,
    DataSpec,
    NetworkSpec,
    OptimiserSpec,
    ParameterValue,
    ReferenceSpec,
    SamplingSpec,
    read_conditions,
    read_data,
    read_network,
    read_optimisers,
    read_parameters,
    read_reference,
    read_sampling,
)
from opdsl.training.tables import Table

__all__ = ["DTYPES", "Problem", "bundled_problems", "load_problem", "problem_from_text"]

DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Problem:
    """Everything one problem file says, checked. Formulas are kept as text and parsed again where they are used.

    Attributes:
        name: stem of the file, used for the results folder.
        source: the text of the file; a checkpoint carries it.
        box: ``(low, high)`` for every column.
        equations: name and text, in the order of the file.
        weights: a factor for every loss in `losses`.
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
    conditions: tuple[Condition, ...]
    reference: ReferenceSpec
    data: DataSpec
    network: NetworkSpec
    sampling: SamplingSpec
    weights: Mapping[str, float]
    optimisers: tuple[OptimiserSpec, ...]
    dtype: str
    seed: int
    grid: tuple[int, ...] = field(default=())

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


def bundled_problems() -> tuple[str, ...]:
    """Return the names of the problems that come with opdsl.

    Example:
        >>> "burgers" in bundled_problems()
        True
    """
    folder = resources.files("opdsl.training.problems")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_problem(source: str | Path) -> Problem:
    """Read a problem: the path of a TOML file, or the name of a bundled one.

    Args:
        source: ``"my/problem.toml"`` or ``"burgers"``.

    Raises:
        ProblemError: the file is missing, is not TOML, or says something that cannot be meant; the message names the
            file, the key and what to write instead.

    Example:
        >>> load_problem("burgers").fields
        ('u',)
    """
    text = str(source)
    if text in bundled_problems():
        return problem_from_text(resources.files("opdsl.training.problems").joinpath(f"{text}.toml").read_text("utf-8"), text)
    path = Path(source)
    if not path.is_file():
        known = bundled_problems()
        hint = did_you_mean(path.stem, known)
        raise ProblemError(
            f"no file {text!r} and no bundled problem of that name" + (f"; {hint}" if hint else "")
            + f"\nBundled problems: {', '.join(known)}.", code="E801",
        )  # fmt: skip
    try:
        content = path.read_text("utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise ProblemError(f"{text}: cannot be read as UTF-8 text: {error}", code="E801") from error
    return problem_from_text(content, path.stem, folder=path.parent, file=text)


def problem_from_text(text: str, name: str, *, folder: Path | None = None, file: str | None = None) -> Problem:
    """Read a problem from the text of a file.

    Args:
        text: TOML.
        name: the problem's name.
        folder: what relative paths in the file are relative to; the working directory by default.
        file: what errors call the file.
    """
    file = file or f"{name}.toml"
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{file}: not valid TOML: {error}", code="E801") from error
    top = Table(file, "", values)
    fields = tuple(top.text("fields", required=True).replace(",", " ").split())
    if not fields:
        top.fail("fields", 'name at least one unknown, such as "u"')
    for unknown in fields:
        if not unknown.isidentifier():
            top.fail("fields", f'{unknown!r}: write scalar fields by name, "u v p"; a vector as its components')
    coordinates, columns, box = _coordinates(top)
    equations = _equations(top)
    parameters = read_parameters(top.table("parameters"))
    conditions = read_conditions(top.table("conditions"), columns)
    reference = read_reference(top.table("reference"), fields, columns, len(box))
    training = top.table("training")
    problem = Problem(
        name=name,
        source=text,
        title=top.text("title", name),
        about=top.text("about"),
        coordinates=coordinates,
        time=top.text("time") or None,
        box=box,
        columns=columns,
        fields=fields,
        equations=equations,
        parameters=parameters,
        conditions=conditions,
        reference=reference,
        data=read_data(top.table("data"), reference, columns, fields, folder or Path()),
        network=read_network(top.table("network"), fields, columns),
        sampling=read_sampling(top.table("sampling"), tuple(c.name for c in conditions)),
        weights={},
        optimisers=read_optimisers(top.tables("optimiser")),
        dtype=training.choice("dtype", "float32", DTYPES),
        seed=training.count("seed", 0, least=0),
    )
    training.close()
    problem = _with_weights(problem, top)
    top.close()
    _check_names(problem, top)
    from opdsl.training.losses import check_formulas

    check_formulas(problem, top)
    return problem


def _coordinates(top: Table) -> tuple[str, tuple[str, ...], tuple[tuple[float, float], ...]]:
    """Return the declaration text, the column names, and the box."""
    table = top.table("coordinates", required=True)
    if not table.values:
        table.fail("", "give at least one coordinate, such as x = [0, 1]")
    columns: list[str] = []
    box: list[tuple[float, float]] = []
    for name in table.values:
        interval = table.interval(name)
        base, bracket, length = name.partition("[")
        if not bracket:
            columns.append(name)
            box.append(interval)
            continue
        digits = length.removesuffix("]").strip()
        if not length.endswith("]") or not digits.isdecimal() or not 1 <= int(digits) <= 1000:
            table.fail(name, f'a coordinate vector needs its length, 1 to 1000: "{base}[10]" = [0, 1]')
        columns += [f"{base}_{k}" for k in range(int(digits))]
        box += [interval] * int(digits)
    return " ".join(table.values), tuple(columns), tuple(box)


def _equations(top: Table) -> dict[str, str]:
    table = top.table("equations", required=True)
    if not table.values:
        table.fail("", 'give at least one equation, such as heat = "u_t = u_xx"')
    equations = {name: table.text(name, required=True).strip() for name in table.values}
    for name, text in equations.items():
        if not name.isidentifier():
            table.fail(name, "an equation's name consists of letters, digits and underscores")
        if not text:
            table.fail(name, "the equation is empty")
    return equations


def _with_weights(problem: Problem, top: Table) -> Problem:
    from dataclasses import replace

    table = top.table("weights")
    weights = {name: table.number(name, 1.0, least=0.0) for name in problem.losses}
    table.close(problem.losses)
    return replace(problem, weights=weights)


def _check_names(problem: Problem, top: Table) -> None:
    """Refuse a name with two roles; the language would report it less clearly, once per formula."""
    roles: dict[str, str] = {}
    parameters = tuple(p.name for p in problem.parameters)
    groups = [("coordinate", problem.columns), ("field", problem.fields), ("parameter", parameters)]
    for role, names in groups:
        for name in names:
            if name in roles:
                top.fail("", f"{name!r} is declared as a {roles[name]} and as a {role}")
            roles[name] = role
    if len(set(problem.losses)) < len(problem.losses):
        twice = next(n for n in problem.losses if problem.losses.count(n) > 1)
        top.fail("conditions", f"{twice!r} names two losses; give each equation and condition a name of its own")
    if any(p.learn for p in problem.parameters) and not problem.data.active and problem.reference.active is False:
        top.fail("parameters", "a parameter can only be learned from observations; add a [data] table")
