"""Error against seconds of the bundled problems: as they are, and with Adam and L-BFGS alone, side by side.

    python -m asv_benchmarks.accuracy run burgers --backend torch --seeds 0 1 2 --seconds 60
    python -m asv_benchmarks.accuracy run                     # every problem, both backends, five seeds; hours
    python -m asv_benchmarks.accuracy table                   # the tables of docs/training.md from what was measured

Seconds are processor time of the whole run, setting up and compiling included; evaluating the errors is not counted. Every run
is a process of its own and replaces what was measured before for the same problem, backend, method and seed.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "accuracy.json"
PAGE = Path(__file__).parent.parent / "docs" / "training.md"

# Network and points of the files before they had second-order methods; Adam, then L-BFGS until the time is over.
BEFORE: dict[str, dict[str, Any]] = {
    "poisson2d": {"layers": 3, "width": 32, "interior": 1024, "boundary": 256, "adam": 1000},
    "heat1d": {"layers": 3, "width": 24, "interior": 1024, "boundary": 128, "adam": 1000},
    "allen_cahn": {"layers": 3, "width": 24, "interior": 1024, "boundary": 128, "adam": 800},
    "biharmonic_plate": {"layers": 3, "width": 24, "interior": 512, "boundary": 256, "adam": 800, "rate": 3e-3},
    "burgers": {"layers": 4, "width": 24, "interior": 2048, "boundary": 256, "adam": 500},
    "kdv": {"layers": 4, "width": 24, "interior": 2048, "boundary": 256, "adam": 1000},
    "inverse_burgers": {"layers": 3, "width": 24, "interior": 1024, "boundary": 256, "adam": 1500},
}
METHODS = ("auto", "adam+lbfgs")
MARKS = (10, 60, 120, 300)


def curve(name: str, backend: str, method: str, seed: int, seconds: float) -> dict[str, Any]:
    """One run in this process: what it had reached after how many seconds of processor time."""
    began = time.process_time()
    from opdsl.training.problem_file import load_problem
    from opdsl.training.problem_tables import OptimiserSpec
    from opdsl.training.reference_solutions import reference_values, relative_errors
    from opdsl.training.run import Run
    from opdsl.training.sampling import comparison_points
    from opdsl.training.trainer import trainer_of
    from opdsl.training.versions import versions

    problem = replace(load_problem(name), seed=seed)
    if method != "auto":
        old = BEFORE[name]
        phases = (
            OptimiserSpec("adam", old["adam"], old.get("rate", 5e-3), "exponential", 0.1),
            OptimiserSpec("lbfgs", 100_000, 1.0, "constant", 1.0, 50),
        )
        problem = replace(
            problem, optimisers=phases, network=replace(problem.network, layers=old["layers"], width=old["width"]),
            sampling=replace(problem.sampling, interior=old["interior"], boundary=old["boundary"], refine=False),
        )  # fmt: skip
    aside = time.process_time()
    points, _ = comparison_points(problem)
    exact = reference_values(problem, points)
    assert exact is not None, "every bundled problem has a reference solution"
    not_counted = time.process_time() - aside
    trainer_of(backend).use_threads(1)
    run = Run(problem, backend, None, None, 1e9)
    found: list[dict[str, Any]] = []

    def look(step: int, *_: Any) -> None:
        nonlocal not_counted
        spent = time.process_time() - began - not_counted
        aside = time.process_time()
        if not found or spent > 1.03 * found[-1]["seconds"] or spent > seconds or step == problem.steps:
            errors = relative_errors(problem.fields, run.trainer.predict(points), exact)
            entry = {"seconds": round(spent, 2), "step": step, "error": max(errors.values()), "parameters": run.trainer.parameters()}
            found.append(entry)
        not_counted += time.process_time() - aside
        if spent > seconds:
            raise KeyboardInterrupt

    run._progress, run._every = look, 5 if method == "auto" else 25
    run.train(problem.steps)
    reasons = [f"{p['name']} from step {p['step']}: {p['reason']}" for p in run.history["phases"] if p["reason"]]
    return {
        "problem": name, "backend": backend, "method": method, "seed": seed, "limit": seconds, "status": run.status, "reasons": reasons,
        "curve": found, "versions": versions(), "platform": platform.processor() or platform.machine(),
    }  # fmt: skip


def measured() -> list[dict[str, Any]]:
    """Everything that was kept."""
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else []
    return found


def keep(result: dict[str, Any]) -> None:
    """Add a run, in the place of the one like it."""
    key = ("problem", "backend", "method", "seed")
    others = [r for r in measured() if any(r[k] != result[k] for k in key)]
    runs = sorted([*others, result], key=lambda r: tuple(str(r[k]) for k in key))
    text = ",\n".join(json.dumps(r) for r in runs)
    RESULTS.write_text(f"[\n{text}\n]\n", "utf-8")


def at(result: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """The last entry up to a time; None before the first, or where the run was stopped earlier."""
    if result["limit"] < seconds and result["status"] == "interrupted":
        return None
    return next((entry for entry in reversed(result["curve"]) if entry["seconds"] <= seconds), None)


def table(results: list[dict[str, Any]]) -> str:
    """Medians over seeds of the error at the marks, for every problem, backend and method."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for r in results:
        groups.setdefault((r["problem"], r["backend"], r["method"]), []).append(r)
    lines = [
        "| problem | backend | method | seeds | " + " | ".join(f"{mark} s" for mark in MARKS) + " | end | learned |",
        "|---" * (len(MARKS) + 6) + "|",
    ]
    for (problem, backend, method), runs in sorted(groups.items()):
        cells = []
        for mark in MARKS:
            entries = [entry["error"] for r in runs if (entry := at(r, mark)) is not None]
            cells.append(f"{statistics.median(entries):.1e}" if len(entries) == len(runs) else "")
        last = [r["curve"][-1] for r in runs]
        end = f"{statistics.median(e['error'] for e in last):.1e} ({statistics.median(e['seconds'] for e in last):.0f} s)"
        learned = _learned(problem, last)
        lines.append(f"| `{problem}` | {backend} | {method} | {len(runs)} | " + " | ".join(cells) + f" | {end} | {learned} |")
    return "\n".join(lines)


def _learned(problem: str, last: list[dict[str, Any]]) -> str:
    """Medians and largest of the errors of learned parameters."""
    from opdsl.training.problem_file import load_problem

    texts = []
    for p in load_problem(problem).parameters:
        if p.learn and p.exact:
            off = [abs(e["parameters"][p.name] - p.exact) for e in last]
            texts.append(f"\\|Δ{p.name}\\| {statistics.median(off):.1e}, at most {max(off):.1e}")
    return ", ".join(texts)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    from opdsl.training.bundled import bundled_problems

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("run", help="measure and keep")
    runs.add_argument("problems", nargs="*", help="all by default")
    runs.add_argument("--backend", nargs="+", choices=("jax", "torch"), default=["jax", "torch"])
    runs.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    runs.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    runs.add_argument("--seconds", type=float, default=60.0)
    runs.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    verbs.add_parser("table", help="write the table of docs/training.md")
    given = parser.parse_args(arguments)
    if given.verb == "table":
        text = PAGE.read_text("utf-8")
        begin, end = "<!-- measured -->\n", "<!-- end of measured -->"
        PAGE.write_text(re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{table(measured())}\n{end}", text, flags=re.DOTALL), "utf-8")
        return 0
    cases = [
        (name, backend, method, seed)
        for name in given.problems or bundled_problems() for backend in given.backend for method in given.method for seed in given.seeds
        if method == "auto" or name in BEFORE
    ]  # fmt: skip
    if given.here:
        keep(curve(*cases[0], given.seconds))
        return 0
    for name, backend, method, seed in cases:
        command = [sys.executable, "-m", "asv_benchmarks.accuracy", "run", name, "--backend", backend, "--method", method]
        command += ["--seeds", str(seed), "--seconds", str(given.seconds), "--here"]
        done = subprocess.run(command, check=False).returncode
        latest = next((r for r in measured() if (r["problem"], r["backend"], r["method"], r["seed"]) == (name, backend, method, seed)), None)
        last = latest["curve"][-1] if latest and not done else {"seconds": 0.0, "error": float("nan"), "parameters": {}}
        print(name, backend, method, seed, f"{last['seconds']} s", f"{last['error']:.2e}", last["parameters"] or "", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
