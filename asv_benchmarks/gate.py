"""The performance gate of CI: ``python -m asv_benchmarks.gate``, about a minute, against ``gate_baseline.json``.

Two things are guarded, because two things can be told on a machine that others use too:

- deterministic counts (FLOPs, equations or operators, bytes of temporaries; multiply-adds and channels of the plan), which may
  grow by 2 %;
- the ratio of an operator's processor time to that of its floor, the plain network on dim C(p) × points rows, the two paired in
  one process; it may grow by a half, and a larger one is measured again before it counts.

Counts belong to a version of a framework: where the installed one differs from the baseline's, they are shown and not compared,
and the report says so. So are ratios on another kind of processor. The counts of the plan, which need no framework, are always
compared. ``--update`` writes a new baseline; commit it with the change that explains it.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

BASELINE = Path(__file__).with_name("gate_baseline.json")
MOST_COUNTS, MOST_RATIO = 1.02, 1.5
TARGETS = ("jax:cpu", "torch:cpu", "numpy:cpu")


@dataclass(frozen=True)
class Subject:
    """One thing that is guarded.

    Attributes:
        name: what its baseline is kept under.
        framework: whose version its counts belong to; empty where they need none.
        counts: deterministic counts.
        ratio: one measurement of a paired ratio, lower is better; None where nothing is timed.
    """

    name: str
    framework: str
    counts: Callable[[], Mapping[str, float]]
    ratio: Callable[[], float] | None = None


@dataclass(frozen=True)
class Verdict:
    """What was found of one count or ratio; ``outcome`` is ok, better, worse, new or not compared."""

    name: str
    what: str
    found: float
    before: float | None
    outcome: str
    note: str = ""

    def __str__(self) -> str:
        change = "" if self.before is None else f" against {self.before:.6g} ({self.found / self.before:.3f} ×)"
        return f"{self.outcome}: {self.name}: {self.what} {self.found:.6g}{change}{'; ' if self.note else ''}{self.note}"


def judge(subjects: Iterable[Subject], baseline: Mapping[str, Any], versions: Mapping[str, str]) -> list[Verdict]:
    """Measure all subjects and compare them with the baseline.

    Args:
        subjects: what is guarded.
        baseline: ``{"versions": {framework: version}, "subjects": {name: {"counts": {…}, "ratio": …}}}``.
        versions: of the frameworks here.
    """
    return [verdict for s in subjects for verdict in (*_counts(s, baseline, versions), *_ratio(s, baseline, versions))]


def _before(subject: Subject, baseline: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = baseline.get("subjects", {}).get(subject.name, {})
    return found


def _counts(subject: Subject, baseline: Mapping[str, Any], versions: Mapping[str, str]) -> Iterable[Verdict]:
    old = baseline.get("versions", {}).get(subject.framework, "")
    new = versions.get(subject.framework, "") if subject.framework else ""
    for what, found in subject.counts().items():
        before = _before(subject, baseline).get("counts", {}).get(what)
        if before is not None and old != new:
            yield Verdict(subject.name, what, found, before, "not compared", f"{new} here, {old} in the baseline")
        else:
            yield Verdict(subject.name, what, found, before, _outcome(found, before, MOST_COUNTS))


def _ratio(subject: Subject, baseline: Mapping[str, Any], versions: Mapping[str, str]) -> Iterable[Verdict]:
    if subject.ratio is None:
        return
    before = _before(subject, baseline).get("ratio")
    found, note = subject.ratio(), ""
    new, old = (v.get(subject.framework, "").rpartition(" on ")[2] for v in (versions, baseline.get("versions", {})))
    if before is not None and old != new:
        yield Verdict(subject.name, "time / floor", found, before, "not compared", f"{new} here, {old} in the baseline")
        return
    if _outcome(found, before, MOST_RATIO) == "worse":
        first, found = found, min(found, subject.ratio())
        note = f"measured again after {first:.3g}"
    yield Verdict(subject.name, "time / floor", found, before, _outcome(found, before, MOST_RATIO), note)


def _outcome(found: float, before: float | None, most: float) -> str:
    if before is None:
        return "new"
    return "worse" if found > most * before else "better" if found * most < before else "ok"


# ----------------------------------------------------------------------------------------------------------- subjects


def subjects() -> list[Subject]:
    """The followed cases on the frameworks that are installed, and all plans; says which frameworks are absent."""
    from asv_benchmarks.benchmarks.cases import CASES, QUICK
    from asv_benchmarks.benchmarks.counts import planned
    from asv_benchmarks.benchmarks.targets import GOALS, Absent, framework_of, require

    found = [Subject(f"plan, {name}", "", lambda name=name: planned(name)) for name in CASES]  # type: ignore[misc]
    for target in TARGETS:
        try:
            require(target)
        except Absent as absent:
            print(absent)
            continue
        for name in QUICK:
            for goal in GOALS if target != "numpy:cpu" else GOALS[:1]:
                found.append(_measured(target, framework_of(target), name, goal))
    return found


def _measured(target: str, framework: str, name: str, goal: str) -> Subject:
    from asv_benchmarks.benchmarks.cases import case
    from asv_benchmarks.benchmarks.targets import Work, clock_of, driver
    from asv_benchmarks.benchmarks.timing import paired

    made: list[Work] = []

    def operator() -> Work:
        if not made:
            made.append(driver(target).operator(case(name), goal))
        return made[0]

    def ratio() -> float:
        floor = driver(target).reference("floor", case(name), goal)
        return paired(operator().run, floor.run, budget=1.5, clock=clock_of(target))

    return Subject(f"{target}, {name}, {goal}", framework, lambda: operator().count(), ratio)


def processor() -> str:
    """The kind of processor: what compilers decide by, and what ratios of times depend on."""
    found = Path("/proc/cpuinfo")
    lines = found.read_text("utf-8").splitlines() if found.exists() else []
    facts = dict(reversed([tuple(part.strip() for part in line.partition(":")[::2]) for line in lines if ":" in line]))
    named = [facts[k] for k in ("model name", "cpu family", "model") if k in facts]
    return " ".join([platform.machine(), *named])


def installed() -> dict[str, str]:
    """Versions of the frameworks, without local suffixes such as ``+cpu``, and the kind of processor: what counts belong to."""
    out = {}
    for name in ("jax", "torch", "numpy"):
        try:
            out[name] = f"{name} {metadata.version(name).partition('+')[0]} on {processor()}"
        except metadata.PackageNotFoundError:
            continue
    return out


# ---------------------------------------------------------------------------------------------------------------- command


def report(verdicts: Sequence[Verdict], *, everything: bool = False) -> int:
    """Print what matters and return the exit status: 1 where something is worse or unknown to the baseline, or nothing was
    measured."""
    for v in verdicts:
        if everything or v.outcome in ("worse", "better", "new"):
            print(v)
    for note in dict.fromkeys(v.note for v in verdicts if v.outcome == "not compared"):
        print(f"counts not compared: {note}")
    by = {o: sum(v.outcome == o for v in verdicts) for o in ("ok", "better", "worse", "new", "not compared")}
    print("; ".join(f"{n} {outcome}" for outcome, n in by.items() if n) or "nothing was measured")
    if by["better"] or by["new"]:
        print("python -m asv_benchmarks.gate --update writes a new baseline")
    return int(bool(by["worse"] or by["new"] or not verdicts))


def settled(subject: Subject) -> Subject:
    """The same with the median of three measurements for a ratio: a lucky one would be a baseline that nobody meets."""
    once = subject.ratio
    return subject if once is None else replace(subject, ratio=lambda: median(once() for _ in range(3)))


def record(verdicts: Sequence[Verdict], versions: Mapping[str, str]) -> dict[str, Any]:
    """A baseline of what was found."""
    kept: dict[str, Any] = {}
    for v in verdicts:
        entry = kept.setdefault(v.name, {})
        if v.what == "time / floor":
            entry["ratio"] = round(v.found, 3)
        else:
            entry.setdefault("counts", {})[v.what] = v.found
    return {"versions": dict(versions), "subjects": kept}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and compare, or write the baseline."""
    parser = argparse.ArgumentParser(prog="python -m asv_benchmarks.gate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--update", action="store_true", help="write the baseline")
    parser.add_argument("--all", action="store_true", help="print every count and ratio")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    given = parser.parse_args(arguments)
    begun, versions = time.perf_counter(), installed()
    if given.update:
        verdicts = judge([settled(s) for s in subjects()], {}, versions)
        given.baseline.write_text(json.dumps(record(verdicts, versions), indent=1, ensure_ascii=False) + "\n", "utf-8")
        status = int(not verdicts)
    else:
        baseline = json.loads(given.baseline.read_text("utf-8")) if given.baseline.exists() else {}
        status = report(judge(subjects(), baseline, versions), everything=given.all)
    print(f"{time.perf_counter() - begun:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
