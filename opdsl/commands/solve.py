"""Train a network on a problem file, or on a bundled problem by name.

Writes metrics.json, checkpoint.safetensors and solution.png. Ctrl-C keeps what was reached; --resume goes on from
there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opdsl.training.solve import Solution


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("problem", help="a TOML file, or the name of a bundled problem (see: opdsl problems)")
    parser.add_argument("--backend", choices=("jax", "torch"), default="jax", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="results folder (default: runs/PROBLEM-BACKEND)")
    parser.add_argument("--steps", type=_count, help="stop after so many steps in all")
    parser.add_argument("--seed", type=int, help="of points, network and noise (default: the file's)")
    parser.add_argument("--dtype", choices=("float32", "float64"), help="default: the file's")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in the results folder")
    parser.add_argument("--threads", type=_count, help="of PyTorch; one by default, which is fastest for small networks")
    parser.add_argument("--quiet", action="store_true", help="print only the result")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def run(given: argparse.Namespace) -> int:
    """Train and report."""
    from opdsl.training.problem import load_problem
    from opdsl.training.progress import bars
    from opdsl.training.solve import solve

    problem = load_problem(given.problem)
    folder = given.out or Path("runs") / f"{problem.name}-{given.backend}"
    if given.backend == "torch":
        import torch

        # Arrays of some thousand points are too small to share; two threads only wait for each other.
        torch.set_num_threads(given.threads or 1)
    if not given.quiet:
        print(f"{problem.title}  ({given.backend}, {given.dtype or problem.dtype})")
    with bars(problem.losses, quiet=given.quiet) as progress:
        solution = solve(
            problem, backend=given.backend, steps=given.steps, seed=given.seed, dtype=given.dtype, out=folder,
            resume=given.resume, progress=progress,
        )  # fmt: skip
    _print(solution)
    if solution.status == "interrupted":
        return 130
    return 1 if solution.status == "diverged" else 0


def _print(solution: Solution) -> None:
    metrics = solution.metrics
    seconds = metrics["seconds"]
    total = seconds["setup"] + seconds["training"]
    print(f"{solution.status} after {solution.step} of {metrics['steps']} steps, {total:.1f} s")
    for name, error in solution.errors.items():
        print(f"relative L2 error of {name}: {100 * error:.3g} %")
    for name, values in metrics["parameters"].items():
        exact = f" (exact {values['exact']:.6g})" if values["exact"] is not None else ""
        print(f"{name} = {values['found']:.6g}{exact}")
    if solution.status == "diverged":
        print("a loss is not finite: try a smaller rate, other weights, or --dtype float64", file=sys.stderr)
    print(f"results: {solution.folder}")
