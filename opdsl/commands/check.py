"""Check a file of equations or a problem file: every error of every equation, with its place.

A file of equations is plain text with its declarations in front (``coords: t x; params: nu``) or given as options.
Prints "ok" for a file without errors; the exit status is 0 where all files are ok and 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opdsl.errors import LanguageError
    from opdsl.language.system import System


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("file", nargs="+", help="texts (with declarations, or the options below) or problem files (.toml)")
    parser.add_argument("--coords", help='coordinates in the order of the columns, such as "t x y"')
    parser.add_argument("--fields", help='unknowns, such as "u[2] p"')
    parser.add_argument("--params", help='parameters and coefficients, such as "nu a_ij"')


def run(given: argparse.Namespace) -> int:
    """Print what is wrong with each file."""
    wrong = 0
    for name in given.file:
        problems = list(_wrong(Path(name), given))
        if not problems:
            print(f"{name}: ok")
        wrong += bool(problems)
        for problem in problems:
            print(problem, file=sys.stderr)
    return 1 if wrong else 0


def _wrong(path: Path, given: argparse.Namespace) -> Iterator[str]:
    """Everything that is wrong with a file, each with ``file:line`` where a place is known."""
    from opdsl.errors import LanguageError, OpdslError, OpErrors, ProblemError, ProblemErrors
    from opdsl.grammar import parse_system
    try:
        if path.suffix == ".toml":
            from opdsl.training.problem_file import load_problem

            load_problem(path)
            return
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            system = parse_system(text, coords=given.coords, fields=given.fields, params=given.params)
            for error in _expansion_errors(system):
                yield _placed(path, text, error)
    except LanguageError as error:
        for each in error.errors if isinstance(error, OpErrors) else (error,):
            yield _placed(path, text, each)
    except ProblemError as error:
        for problem in error.errors if isinstance(error, ProblemErrors) else (error,):
            line = f"{path}:{problem.line}" if problem.line else f"{path}"
            key = f"key '{problem.key}': " if problem.key else ""
            yield f"{line}: {type(problem).__name__}[{problem.code}]: {key}{problem.reason}"
    except OpdslError as error:
        yield f"{path}: {error}"
    except (OSError, UnicodeDecodeError) as error:
        yield f"{path}: cannot be read: {error}"


def _expansion_errors(system: System) -> Iterator[LanguageError]:
    """Expand the equations one by one, so that one that fails does not hide the next."""
    from opdsl.errors import LanguageError
    from opdsl.language.calculus import conditions, expand

    # An open length is checked at the smallest one that has all operators.
    dimension = None if system.symbolic is None else 3
    for equation in system.equations:
        alone = replace(system, equations=(equation,))
        try:
            expand(alone, dimension)
            conditions(alone, dimension)
        except LanguageError as error:
            yield error


def _placed(path: Path, text: str, error: LanguageError) -> str:
    line = text.count("\n", 0, error.spans[0].start) + 1 if error.spans else None
    return f"{path}:{line}: {error}" if line else f"{path}: {error}"
