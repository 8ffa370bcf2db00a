"""A differential-equation problem as a text file: TOML, with every formula in the operator language.

Nothing in the file is evaluated as code. A file has these tables; only the first three are required.

=================  ===================================================================================================
table              meaning
=================  ===================================================================================================
``fields``         the unknowns, ``"u"`` or ``"u v"`` (a text at the top of the file)
``[coordinates]``  ``name = [low, high]``, columns in this order; ``"x[10]" = [0, 1]`` is a cube of ten dimensions
``[equations]``    ``name = "u_t + u u_x = nu u_xx"``, each a loss of that name, on points inside the box
``[parameters]``   ``nu = 0.01``, or ``nu = { initial = 0.1, exact = 0.05, positive = true }`` to learn it; ``between = [0, 1]``
                   keeps it inside bounds
``[conditions]``   ``name = "u(t=0) = -sin(pi x)"`` · ``{ on = "boundary", equation = "u = 0" }`` (all faces of the
                   space box) · ``{ inside = { x = [0, 0.1] }, equation = "…" }`` (in a part of the box) ·
                   ``{ periodic = "x", order = 1 }`` (values and derivatives to that order agree)
``[reference]``    ``u = "exp(-t) sin(x)"``, or ``method = "cole_hopf"``, ``"self_similar_burgers"``; ``points`` per coordinate where it is compared
``[data]``         observations to fit: ``points`` and ``noise`` of the reference, or ``file`` (CSV with a header)
``[network]``      ``layers``, ``width``, ``activation``, ``periodic``, ``fourier``; hard constraints
                   ``u = { factor = "t", offset = "sin(x)" }`` make the field offset + factor · network
``[sampling]``     ``method``, ``interior``, ``boundary``, ``resample``, ``adaptive``, ``refine`` (interior points where the
                   residual is large, whenever a phase begins)
``[weights]``      a factor for each named loss; 1 where absent
``[[optimiser]]``  the phases of training, one after the other: first-order methods, ``lbfgs``, ``levenberg_marquardt``,
                   ``natural_gradient``; or one text, ``optimiser = "auto"``, at the top of the file
``[training]``     ``dtype`` (float64 where an optimiser for residuals is at work, else float32), ``seed``
=================  ===================================================================================================
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from opdsl.errors import ProblemError
from opdsl.training.bundled import bundled_problems, bundled_source, no_such_problem
from opdsl.training.check_formulas import check_formulas
from opdsl.training.problem import Problem
from opdsl.training.problem_errors import Findings, short, translate
from opdsl.training.problem_from_tables import problem_from_tables, split_names
from opdsl.training.problem_schema import NetworkTable, ProblemFile, ReferenceTable

__all__ = ["bundled_problems", "load_problem", "problem_from_text"]

_BYTES = 1 << 18  # of a file
_LINE = 10_000  # characters; the TOML parser takes quadratic time for a key of many parts


def load_problem(source: str | Path) -> Problem:
    """Read a problem: the path of a TOML file, or the name of a bundled one.

    Args:
        source: ``"my/problem.toml"`` or ``"burgers"``.

    Raises:
        ProblemError: the file is missing, is not TOML, or says something that cannot be meant; the message names the
            file, the line, the key and what to write instead, for every mistake of the file.

    Example:
        >>> load_problem("burgers").fields
        ('u',)
    """
    text = str(source)
    if text in bundled_problems():
        return problem_from_text(bundled_source(text), text)
    path = Path(source)
    try:
        found = path.is_file()
        size = path.stat().st_size if found else 0
        content = path.read_text("utf-8") if found and size <= _BYTES else ""
    except (ValueError, OSError) as error:
        raise ProblemError(f"{short(text)}: cannot be read as UTF-8 text: {error}", code="E801") from error
    if not found:
        raise no_such_problem(text)
    if size > _BYTES:
        raise ProblemError(f"{text}: {size:,} bytes are more than a problem file may have ({_BYTES:,})", code="E801")
    return problem_from_text(content, path.stem, folder=path.parent, file=text)


def problem_from_text(text: str, name: str, *, folder: Path | None = None, file: str | None = None) -> Problem:
    """Read a problem from the text of a file.

    Args:
        text: TOML.
        name: the problem's name.
        folder: what relative paths in the file are relative to; the working directory by default.
        file: what errors call the file.

    Raises:
        ProblemError: see `load_problem`.
    """
    file = file or f"{name}.toml"
    longest = max(map(len, text.split("\n")))
    if len(text) > _BYTES or longest > _LINE:
        raise ProblemError(
            f"{file}: {len(text):,} characters, {longest:,} in the longest line, are more than a problem file may have "
            f"({_BYTES:,}, {_LINE:,})", code="E801",
        )  # fmt: skip
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{file}: not valid TOML: {error}", code="E801") from error
    except RecursionError as error:
        raise ProblemError(f"{file}: not valid TOML: brackets are nested too deep", code="E801") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise ProblemError(f"{file}: not valid TOML: {error}", code="E801") from error
    findings = Findings(file, text)
    table = _tables(values, findings)
    problem = None if table is None else problem_from_tables(table, values, name, text, folder or Path(), findings)
    if problem is not None:
        check_formulas(problem, findings)
    findings.raise_if_any()
    assert problem is not None, "where there is no problem there is an error"
    return problem


# ---------------------------------------------------------------------------------------------------- types and ranges


def _tables(values: dict[str, Any], findings: Findings) -> ProblemFile | None:
    """Return the tables. What is wrong is noted and left out, so that the rest of the file is checked too.

    None where so much is wrong that the rest could only be misjudged: names that every formula uses, or tables that
    must be there.
    """
    values = dict(values)
    fields = split_names(values["fields"]) if isinstance(values.get("fields"), str) else []
    for name, model in (("reference", ReferenceTable), ("network", NetworkTable)):
        inner = values.get(name)
        if isinstance(inner, dict) and fields:
            known = [*fields, *model.model_fields]
            for key in inner.keys() - set(known):
                findings.unknown_key((name, key), known)
            values[name] = {key: value for key, value in inner.items() if key in known}
    try:
        return ProblemFile.model_validate(values)
    except ValidationError as error:
        paths = translate(error, ProblemFile, findings)
    if any(path[0] in ("fields", "coordinates", "parameters", "time") for path in paths):
        return None
    try:
        return ProblemFile.model_validate(_without(values, paths))
    except ValidationError:  # of what is required too much is missing; that has been said
        return None


def _without(values: dict[str, Any], paths: list[tuple[str | int, ...]]) -> dict[str, Any]:
    """A copy without what the paths lead to: a key of a table, a whole condition, all phases of training."""
    kept = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for top, *below in paths:
        inner = kept.get(str(top))
        if below and isinstance(inner, dict):
            inner.pop(below[0], None)
        else:
            kept.pop(str(top), None)
    return kept
