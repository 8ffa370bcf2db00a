"""Seconds, memory and precision of the training steps, each group in processes of its own, into results_<framework>.json.

Run: python -m asv_benchmarks.high_dimensions.measure {jax,torch} {steps,precision,race} [dimensions …]
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from asv_benchmarks.high_dimensions import problem

VARIANTS = ("stde", "exact", "published", "plain")
DIMENSIONS = (10**2, 10**3, 10**4, 10**5, 10**6)


def steps(framework: Any, d: int, variants: list[str], rounds: int) -> dict[str, Any]:
    """Median processor and wall seconds of a step, variants in turns, and the peak memory of this process."""
    x = problem.ball(d, problem.POINTS)
    training = framework.Training(d)
    c = problem.coefficients(d).astype(np.float32)
    # Point by point: the temporaries of all of them would be the peak.
    x, g = training.arrays(x, np.concatenate([problem.forcing(np, x[i : i + 1], c) for i in range(len(x))]))
    run = {v: training.step(v) for v in variants}
    for f in run.values():
        f(x, g, 0)
    seconds: dict[str, list[tuple[float, float]]] = {v: [] for v in variants}
    for number in range(1, rounds + 1):
        for v, f in run.items():
            processor, wall = time.process_time(), time.perf_counter()
            f(x, g, number)
            seconds[v].append((time.process_time() - processor, time.perf_counter() - wall))
    return {
        "processor": {v: statistics.median(p for p, _ in s) for v, s in seconds.items()},
        "wall": {v: statistics.median(w for _, w in s) for v, s in seconds.items()},
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "rounds": rounds,
    }


def precision(framework: Any, d: int, n: int = 8) -> dict[str, float]:
    """Relative error (in the norm over points) of the exact residual in float32, against float64 on the same numbers."""
    return {"relative_error": framework.precision(d, problem.ball(d, n))}


def race(framework: Any, d: int, budget: float) -> dict[str, Any]:
    """Error against processor seconds, fresh points at every step; both variants start alike and take turns of about a second.

    The learning rate falls from 1e-3 to 0 in proportion to the seconds that are spent, so that each anneals fully.
    """
    c = problem.coefficients(d)
    test = problem.ball(d, 1000, seed=11)
    truth = problem.solution(np, test.astype(np.float64), c)
    trainings = {v: framework.Training(d) for v in ("stde", "exact")}
    run = {v: (t.step(v), t.sampler(c)) for v, t in trainings.items()}
    for step, sample in run.values():
        step(*sample(0), 0, 0.0)  # compiles; moments of Adam are touched alike in both
    spent, number = dict.fromkeys(run, 0.0), dict.fromkeys(run, 0)
    curve: dict[str, list[tuple[float, float]]] = {v: [] for v in run}
    for part in range(1, 11):
        for v, (step, sample) in run.items():
            while spent[v] < budget * part / 10:
                begun = time.process_time()
                number[v] += 1
                step(*sample(number[v]), number[v], 1e-3 * max(0.0, 1.0 - spent[v] / budget))
                spent[v] += time.process_time() - begun
            curve[v].append((round(part / 10, 1), trainings[v].error(test, truth)))
    return {"seconds": budget, "steps": number, "curve": curve, "constant_fit": problem.constant_fit(test, truth)}


def child(*words: object) -> dict[str, Any]:
    """One measurement in a fresh process."""
    command = [sys.executable, "-m", "asv_benchmarks.high_dimensions.measure", *map(str, words), "--here"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure in child processes and keep what they print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("framework", choices=("jax", "torch"))
    parser.add_argument("what", choices=("steps", "precision", "race"))
    parser.add_argument("dimensions", type=int, nargs="*")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=90.0, help="of processor time for each side of a race")
    parser.add_argument("--peaks", action=argparse.BooleanOptionalAction, default=True, help="a process per variant for its memory")
    parser.add_argument("--here", action="store_true", help="measure in this process and print")
    given = parser.parse_args()
    variants = given.variants.split(",")
    if given.here:
        framework: Any = importlib.import_module(f"asv_benchmarks.high_dimensions.{given.framework}_steps")
        (d,) = given.dimensions
        found = {
            "steps": lambda: steps(framework, d, variants, given.rounds),
            "precision": lambda: precision(framework, d),
            "race": lambda: race(framework, d, given.seconds),
        }[given.what]()
        print(json.dumps({**found, "facts": framework.facts()}))
        return
    path = Path(__file__).parent / f"results_{given.framework}.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for d in given.dimensions or DIMENSIONS:
        if given.what == "steps":
            rounds = given.rounds or max(5, min(40, 4_000_000 // d))
            found = child(given.framework, "steps", d, "--variants", given.variants, "--rounds", rounds)
            found["peak_gib"] = {
                v: child(given.framework, "steps", d, "--variants", v, "--rounds", 1)["peak_gib"] for v in variants if given.peaks
            }
        else:
            found = child(given.framework, given.what, d, "--seconds", given.seconds)
        results["facts"] = found.pop("facts")
        results.setdefault(given.what, {})[str(d)] = found
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(d, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
