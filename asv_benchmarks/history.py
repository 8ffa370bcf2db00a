"""The committed results as plain numbers: one `Commit` for every result file of a machine, in the order of their dates."""

from __future__ import annotations

import json
from ast import literal_eval
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import isfinite
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")

Key = tuple[str, ...]


@dataclass(frozen=True)
class Commit:
    """Results of one commit on one machine.

    Attributes:
        short: the first seven digits of its hash.
        date: of the commit, in milliseconds.
        values: by benchmark and parameters, ``("ratios.Ratios.track_ratio", "jax:cpu", "KP", "floor", "training")``; what was
            skipped is missing.
    """

    short: str
    date: int
    values: dict[Key, float]

    def get(self, *key: object) -> float | None:
        """One number, or None."""
        return self.values.get(tuple(str(k) for k in key))


@dataclass(frozen=True)
class Machine:
    """A machine, what asv knows of it, what was noted beside its results (``NOTE.md``), and its commits."""

    name: str
    facts: dict[str, str]
    note: str
    commits: tuple[Commit, ...]

    def newest(self, prefix: str) -> Commit | None:
        """The newest number of everything under a benchmark's name, as one commit that names those it comes from; None without
        any. Long benchmarks are run framework by framework, not always at the same commit."""
        values: dict[Key, float] = {}
        used = []
        for commit in reversed(self.commits):
            fresh = {k: v for k, v in commit.values.items() if k[0].startswith(prefix) and k not in values}
            if fresh:
                used.append(commit)
                values |= fresh
        return Commit(", ".join(c.short for c in used), used[0].date, values) if used else None


def machines(folder: Path = RESULTS) -> list[Machine]:
    """All machines with results."""
    found = []
    for path in sorted(folder.glob("*/machine.json")):
        commits = sorted((_commit(p) for p in path.parent.glob("*-*.json")), key=lambda c: c.date)
        noted = path.with_name("NOTE.md")
        note = noted.read_text("utf-8").strip() if noted.exists() else ""
        found.append(Machine(path.parent.name, json.loads(path.read_text("utf-8")), note, tuple(c for c in commits if c.values)))
    return [m for m in found if m.commits]


def _commit(path: Path) -> Commit:
    data = json.loads(path.read_text("utf-8"))
    values = {key: value for name, row in data["results"].items() for key, value in _values(name, row)}
    return Commit(data["commit_hash"][:7], data["date"], values)


def _values(name: str, row: list[Any]) -> Iterator[tuple[Key, float]]:
    # asv's columns: result, params, version, …; parameters are kept as their repr, trailing columns that are empty are left out.
    if not row or row[0] is None:
        return  # the benchmark failed at this commit
    flat, params = row[0], row[1] if len(row) > 1 else []
    for combination, value in zip(product(*params), flat, strict=True):
        if isinstance(value, int | float) and isfinite(value):
            yield (name, *(str(literal_eval(p)) for p in combination)), float(value)
