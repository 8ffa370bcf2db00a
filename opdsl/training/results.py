"""What is left of a run: errors against the reference, ``metrics.json``; and the folder they stand in."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np

from opdsl.errors import ProblemError
from opdsl.training import checkpoint
from opdsl.training.files import usable_folder
from opdsl.training.run import Run
from opdsl.training.versions import versions


def protect(folder: Path, last: int, *, force: bool) -> None:
    """Refuse a folder that cannot be written to, or whose run is longer than the new one or was cut short.

    Args:
        folder: for results.
        last: steps of the new run.
        force: overwrite whatever is there.

    Raises:
        ProblemError: with what is there and what to do.
    """
    usable_folder(folder)
    there = None if force else checkpoint.facts(checkpoint.in_folder(folder))
    if there is None:
        return
    step, status = there.get("step"), there.get("status")
    if not isinstance(step, int) or step == 0 or (step <= last and status not in ("running", "interrupted")):
        return
    raise ProblemError(
        f"{folder} holds a run of {step} steps ({'cut short' if status == 'running' else status}), which would be lost; "
        "go on from there (--resume, resume=True), choose another folder (--out, out=), or overwrite it (--force, force=True)",
        code="E824",
    )


_QUANTILES = {"50%": 0.5, "90%": 0.9, "99%": 0.99, "100%": 1.0}


def residual_quantiles(run: Run) -> dict[str, float]:
    """How large the residual of the equations is at points that training has not seen."""
    count = max(run.problem.sampling.interior, 1024)
    with run.trainer.scope():
        size = run.trainer.residual(run.sampler.box("unseen", count, 0))
    return {name: float(np.quantile(size, share)) for name, share in _QUANTILES.items()}


def metrics(run: Run, errors: dict[str, float], found: dict[str, float]) -> dict[str, Any]:
    """Everything about a run that is a number or a name."""
    problem = run.problem
    exact = {p.name: p.exact for p in problem.parameters if p.learn}
    learned = {
        name: {"found": value, "exact": exact[name]}
        | ({} if not exact[name] else {"relative_error": abs(value / exact[name] - 1.0)})  # type: ignore[operator]
        for name, value in found.items()
    }
    return {
        "problem": problem.name,
        "title": problem.title,
        "backend": run.backend,
        "dtype": problem.dtype,
        "seed": problem.seed,
        "status": run.status,
        "step": run.step,
        "steps": problem.steps,
        "relative_l2_error": errors,
        "residual_quantiles": residual_quantiles(run),
        "optimiser": {"chosen": problem.choice, "phases": run.history["phases"]},
        "parameters": learned,
        "losses": {name: values[-1] for name, values in run.history["losses"].items() if values},
        "diverged": run.diverged,
        "signal": run.interrupt.name,
        "seconds": {"setup": round(run.setup_seconds, 3), "training": round(run.seconds, 3)},
        "history": run.history,
        "versions": versions(),
        "platform": platform.platform(),
    }
