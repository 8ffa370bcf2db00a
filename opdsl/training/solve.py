"""Train a network on a problem: the public function.

>>> import opdsl.training.solve
>>> opdsl.training.solve.solve("burgers", steps=500).errors  # doctest: +SKIP
{'u': 0.31}
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from opdsl.errors import BackendError, ProblemError, did_you_mean
from opdsl.training import checkpoint
from opdsl.training.files import usable_folder, write_json
from opdsl.training.problem import DTYPES, Problem
from opdsl.training.problem_file import load_problem
from opdsl.training.reference_solutions import reference_values, relative_errors
from opdsl.training.results import metrics, protect
from opdsl.training.run import Progress, Run
from opdsl.training.sampling import Points, comparison_points, slice_points
from opdsl.training.solution import Solution
from opdsl.training.trainer import TRAINERS

__all__ = ["BACKENDS", "SAVE_EVERY", "Progress", "Solution", "solve"]

BACKENDS = tuple(TRAINERS)
SAVE_EVERY = 60.0  # seconds


def solve(
    problem: Problem | str | Path,
    *,
    backend: str = "jax",
    steps: int | None = None,
    seed: int | None = None,
    dtype: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    save_every: float = SAVE_EVERY,
    progress: Progress | None = None,
    figures: bool = True,
) -> Solution:
    """Train a network on a problem.

    Args:
        problem: a `Problem`, the path of a file, or the name of a bundled problem.
        backend: ``"jax"`` or ``"torch"``.
        steps: stop after so many steps in all (the phases keep their own lengths and schedules); all phases by default.
        seed: of points, network and noise; the file's by default.
        dtype: ``"float32"`` or ``"float64"``; the file's by default.
        out: folder for ``metrics.json``, ``checkpoint.safetensors`` and ``solution.png``; nothing is written by
            default.
        resume: continue from the checkpoint in ``out``, to the same bits an uninterrupted run would have reached.
        force: overwrite a longer or unfinished run in ``out``.
        save_every: seconds between two checkpoints. The last two are kept; a killed run loses no more than this.
        progress: called now and then with the losses.
        figures: whether to draw ``solution.png``.

    Returns:
        A `Solution`; also after Ctrl-C, SIGTERM and SIGHUP (``status`` is ``interrupted``, ``signal`` says which), and
        after a loss that is not finite (``status`` is ``diverged``), with what was reached.

    Raises:
        ProblemError: the file is wrong, the checkpoint belongs to another run, or ``out`` cannot be used.
        BackendError: the backend is not installed.
    """
    problem = problem if isinstance(problem, Problem) else load_problem(problem)
    if backend not in BACKENDS:
        hint = did_you_mean(backend, BACKENDS)
        raise BackendError(f"{backend!r} cannot train{'; ' + hint if hint else ''}; choose one of {', '.join(BACKENDS)}")
    if dtype is not None and dtype not in DTYPES:
        raise ProblemError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}", code="E803")
    if resume and out is None:
        raise ProblemError("resuming needs the folder of the run: out=…", code="E820")
    if not save_every > 0:
        raise ProblemError(f"save_every must be a number of seconds larger than 0, found {save_every!r}", code="E803")
    problem = replace(problem, seed=problem.seed if seed is None else seed, dtype=dtype or problem.dtype)
    last = problem.steps if steps is None else min(steps, problem.steps)
    folder = None if out is None else Path(out)
    kept = None
    # Everything that can be wrong with the folder is known before the first second of work.
    if folder is not None and resume:
        kept = checkpoint.load(checkpoint.in_folder(folder))
        usable_folder(folder)
    elif folder is not None:
        protect(folder, last, force=force)
    run = Run(problem, backend, folder, progress, save_every)
    if kept is not None:
        run.restore(*kept)
    elif folder is not None:
        run.save()
    run.train(last)
    return _finish(run, figures)


def _finish(run: Run, figures: bool) -> Solution:
    """Measure errors, write everything, and return the solution."""
    if run.folder is not None:
        run.save()  # before anything that may take time or fail
    problem, trainer = run.problem, run.trainer

    def predict(points: Points) -> Points:
        with trainer.scope():
            return trainer.predict(points)

    points, shape = comparison_points(problem)
    predicted, exact = predict(points), reference_values(problem, points)
    errors = {} if exact is None else relative_errors(problem.fields, predicted, exact)
    with trainer.scope():
        found = trainer.parameters()
    solution = Solution(
        problem=problem, backend=run.backend, status=run.status, step=run.step, errors=errors, parameters=found,
        history=run.history, predict=predict, metrics=metrics(run, errors, found), folder=run.folder,
        signal=run.interrupt.number, diverged=run.diverged,
    )  # fmt: skip
    if run.folder is None:
        return solution
    try:
        write_json(run.folder / "metrics.json", solution.metrics)
        if figures:
            from opdsl.training.figures import draw

            held: Any = {}
            if len(problem.columns) > 2:
                points, shape, held = slice_points(problem)
                predicted, exact = predict(points), reference_values(problem, points)
            draw(run.folder / "solution.png", solution, points, shape, predicted, exact, held)
    except OSError as error:
        raise ProblemError(
            f"the run is kept in {checkpoint.in_folder(run.folder)}, but its results cannot be written: {error.strerror or error}; "
            "make room and use --resume (resume=True)", code="E823",
        ) from error  # fmt: skip
    return solution
