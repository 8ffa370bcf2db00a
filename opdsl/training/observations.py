"""Observations to fit: drawn from the reference solution with noise, or read from a CSV file by the names of its columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from opdsl.errors import ProblemError
from opdsl.training.problem import Problem
from opdsl.training.reference_solutions import reference_values

Points = npt.NDArray[np.float64]

_BYTES = 32 << 20  # of a file; all observations are used in every step


def observations(problem: Problem, seed: int) -> tuple[Points, Points] | None:
    """Return the places and values to fit, (k, d) and (k, m).

    Noise is Gaussian, relative to the standard deviation of each field.

    Raises:
        ProblemError: the file does not hold what is needed.
    """
    if not problem.data.active:
        return None
    dimension = len(problem.columns)
    if problem.data.file is not None:
        table = read_columns(problem.data.file, (*problem.columns, *problem.fields))
        return table[:, :dimension], table[:, dimension:]
    from opdsl.training.sampling import Sampler  # loads SciPy, which reading a problem does not need

    places = Sampler(problem, seed).box("data", problem.data.points, 0)
    values = reference_values(problem, places)
    assert values is not None, "observations of a missing reference are refused when the file is read"
    noise = np.random.default_rng([seed, 2]).standard_normal(values.shape)
    return places, values + problem.data.noise * values.std(axis=0) * noise


def read_columns(path: Path, names: Sequence[str]) -> Points:
    """Return the named columns of a CSV file in the order of ``names``, (rows, len(names)).

    The first line names the columns, in any order; it must name these and no others, and every line must have a finite
    number for each.

    Raises:
        ProblemError: with the line and the column of the first thing that is wrong.
    """
    if not path.is_file():
        raise ProblemError(f"no file {path}")
    try:
        size = path.stat().st_size
        if size > _BYTES:
            raise ProblemError(f"{path}: {size:,} bytes are more than the limit {_BYTES:,}")
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise ProblemError(f"{path} cannot be read: {error.strerror or error}") from error
    first, _, body = text.partition("\n")
    header = [name.strip() for name in next(csv.reader([first]), [])]
    if sorted(header) != sorted(names):
        raise ProblemError(_wrong_header(path, header, names))
    lines = body.splitlines()
    try:
        # One call for all numbers; only where it fails is the place looked for.
        table = np.loadtxt(lines, delimiter=",", ndmin=2, comments=None, dtype=np.float64) if body.strip() else np.zeros((0, 0))
        right = table.shape[1] == len(header) and bool(np.isfinite(table).all())
    except ValueError:
        right = False
    if not right:
        raise ProblemError(_wrong_line(path, lines, header))
    return np.ascontiguousarray(table[:, [header.index(name) for name in names]])


def _wrong_header(path: Path, header: Sequence[str], names: Sequence[str]) -> str:
    missing = [name for name in names if name not in header]
    extra = [name for name in header if name not in names]
    twice = sorted({name for name in header if header.count(name) > 1})
    parts = [("missing", missing), ("superfluous", extra), ("named twice", twice)]
    what = "; ".join(f"{word}: {', '.join(found)}" for word, found in parts if found)
    shown = ",".join(header)
    return f"the first line of {path} must name the columns {','.join(names)}, in any order, found {shown[:100]!r} ({what[:200]})"


def _wrong_line(path: Path, lines: Sequence[str], header: Sequence[str]) -> str:
    for number, line in enumerate(lines, 2):
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) != len(header):
            return f"{path}, line {number}: {len(cells)} values for {len(header)} columns ({','.join(header)})"
        for name, cell in zip(header, cells, strict=True):
            try:
                if np.isfinite(float(cell)):
                    continue
            except ValueError:
                pass
            return f"{path}, line {number}, column {name}: {cell.strip()[:40]!r} is not a finite number"
    return f"{path} has no line of observations below its header"
