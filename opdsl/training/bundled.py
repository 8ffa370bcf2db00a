"""The problems that come with opdsl, by name; needs nothing but the files."""

from __future__ import annotations

from importlib import resources
from pathlib import PurePath

from opdsl.errors import ProblemError, did_you_mean


def bundled_problems() -> tuple[str, ...]:
    """Return the names of the problems that come with opdsl.

    Example:
        >>> "burgers" in bundled_problems()
        True
    """
    folder = resources.files("opdsl.training.problems")
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def bundled_source(name: str) -> str:
    """Return the text of a bundled problem."""
    return resources.files("opdsl.training.problems").joinpath(f"{name}.toml").read_text("utf-8")


def no_such_problem(name: str) -> ProblemError:
    """Return the error for a name that is neither a file nor a bundled problem."""
    known = bundled_problems()
    hint = did_you_mean(PurePath(name).stem, known)
    return ProblemError(
        f"no file {name!r} and no bundled problem of that name" + (f"; {hint}" if hint else "")
        + f"\nBundled problems: {', '.join(known)}.", code="E801",
    )  # fmt: skip
