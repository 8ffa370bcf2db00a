"""Train a network on a problem file, or on a bundled problem by name.

Writes metrics.json, checkpoint.safetensors and solution.png. A checkpoint is written every minute; Ctrl-C, SIGTERM and
SIGHUP keep what was reached, and --resume goes on from there. The exit status is 0 where the run came to its end, 1
where it diverged, 2 for mistakes, and 128 + n after signal n.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from opdsl.commands.option_types import count, seconds, seed

if TYPE_CHECKING:
    from opdsl.training.solution import Solution


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("problem", help="a TOML file, or the name of a bundled problem (see: opdsl problems)")
    parser.add_argument("--backend", choices=("jax", "torch"), default="jax", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="results folder (default: runs/PROBLEM-BACKEND)")
    parser.add_argument("--steps", type=count, help="stop after so many steps in all")
    parser.add_argument("--seed", type=seed, help="of points, network and noise (default: the file's)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: the file's")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in the results folder")
    parser.add_argument("--force", action="store_true", help="overwrite a longer or unfinished run in the results folder")
    parser.add_argument("--save-every", type=seconds, default=60.0, metavar="SECONDS",
                        help="time between two checkpoints (default: %(default)g)")  # fmt: skip
    parser.add_argument("--threads", type=count, help="of PyTorch; one by default, which is fastest for small networks")
    parser.add_argument("--quiet", action="store_true", help="print only the result")


def run(given: argparse.Namespace) -> int:
    """Train and report."""
    from opdsl.training.problem_file import load_problem
    from opdsl.training.progress import bars
    from opdsl.training.solve import solve
    from opdsl.training.trainer import trainer_of

    problem = load_problem(given.problem)
    folder = given.out or Path("runs") / f"{problem.name}-{given.backend}"
    trainer_of(given.backend).use_threads(given.threads)
    if not given.quiet:
        print(f"{problem.title}  ({given.backend}, {given.dtype or problem.dtype})")
        if problem.choice:
            print(f"optimiser: {problem.choice}")
    with bars(problem.losses, quiet=given.quiet) as progress:
        solution = solve(
            problem, backend=given.backend, steps=given.steps, seed=given.seed, dtype=given.dtype, out=folder,
            resume=given.resume, force=given.force, save_every=given.save_every, progress=progress,
        )  # fmt: skip
    # After SIGHUP there may be nobody to print to; the results are on the disk.
    with contextlib.suppress(OSError) if solution.signal else contextlib.nullcontext():
        _print(solution)
        if solution.status == "interrupted":
            print(f"go on with: {_resume(given)}", flush=True)
    if solution.status == "interrupted":
        return 128 + (solution.signal or 2)
    return 1 if solution.status == "diverged" else 0


def _resume(given: argparse.Namespace) -> str:
    """The command that goes on from where a run was interrupted."""
    words = ["opdsl", "solve", given.problem]
    options = {"--backend": given.backend, "--out": given.out, "--steps": given.steps, "--seed": given.seed, "--dtype": given.dtype}
    for name, value in options.items():
        if value is not None and (name, value) != ("--backend", "jax"):
            words += [name, str(value)]
    return shlex.join([*words, "--resume"])


def _print(solution: Solution) -> None:
    metrics = solution.metrics
    total = sum(metrics["seconds"].values())
    by = f" by {metrics['signal']}" if metrics["signal"] and solution.status == "interrupted" else ""
    print(f"{solution.status}{by} after {solution.step} of {metrics['steps']} steps, {total:.1f} s")
    for name, error in solution.errors.items():
        print(f"relative L2 error of {name}: {100 * error:.3g} %")
    for phase in metrics["optimiser"]["phases"]:
        if phase["reason"]:
            print(f"{phase['name']} from step {phase['step']} ended early: {phase['reason']}")
    for name, values in metrics["parameters"].items():
        exact = f" (exact {values['exact']:.6g})" if values["exact"] is not None else ""
        print(f"{name} = {values['found']:.6g}{exact}")
    if solution.diverged is not None:
        where = {name: f" at {bad:,} of {count:,} points" for name, (bad, count) in solution.diverged["points"].items()}
        losses = solution.diverged["losses"]
        lost = ", ".join(name + where.get(name, "") for name, v in losses.items() if v != v or abs(v) == float("inf"))
        everywhere = solution.step == 0 and any(bad == count for bad, count in solution.diverged["points"].values())
        advice = (
            "An equation that is finite nowhere has a function outside its domain (log, sqrt, a division by zero)."
            if everywhere else "Try a smaller rate, other weights, or --dtype float64."
        )  # fmt: skip
        print(
            f"not finite at step {solution.diverged['step']}: {lost}; the results are those of step {solution.step}, the last finite ones.\n"
            f"{advice}", file=sys.stderr,
        )  # fmt: skip
    print(f"results: {solution.folder}")
