"""Train a network on a problem: a thin loop around the trainers, with named losses, checkpoints and an honest report.

>>> import opdsl.training.solve
>>> opdsl.training.solve.solve("burgers", steps=500).errors  # doctest: +SKIP
{'u': 0.31}
"""

from __future__ import annotations

import json
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.errors import BackendError, ProblemError, did_you_mean
from opdsl.training import checkpoint
from opdsl.training.losses import observations, place, reference_values, terms
from opdsl.training.problem import DTYPES, Problem, load_problem
from opdsl.training.sampling import INTERIOR, Points, Sampler, comparison_points, slice_points
from opdsl.training.trainer import TRAINERS, Setting, Trainer, make_trainer

__all__ = ["BACKENDS", "Progress", "Solution", "solve"]

BACKENDS = tuple(TRAINERS)
_LIBRARIES = ("numpy", "scipy", "jax", "optax", "torch", "safetensors")

Progress = Callable[[int, int, str, dict[str, float]], None]
"""Called as ``progress(step, steps, phase, losses)``."""


@dataclass
class Solution:
    """What was reached.

    Attributes:
        status: ``finished`` (all phases), ``stopped`` (at the ``steps`` asked for), ``interrupted`` or ``diverged``.
        step: steps done.
        errors: relative L2 error ‖u - reference‖ / ‖reference‖ of every field over the comparison points; empty
        without a
            reference.
        parameters: learned parameters.
        history: ``step``, ``seconds``, and ``losses`` by name, one entry per time they were looked at.
        predict: all fields at points, (n, d) → (n, m).
        metrics: everything above and more, as written to ``metrics.json``.
    """

    problem: Problem
    backend: str
    status: str
    step: int
    errors: dict[str, float]
    parameters: dict[str, float]
    history: dict[str, Any]
    predict: Callable[[Points], Points]
    metrics: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None


def solve(
    problem: Problem | str | Path,
    *,
    backend: str = "jax",
    steps: int | None = None,
    seed: int | None = None,
    dtype: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
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
        progress: called now and then with the losses.
        figures: whether to draw ``solution.png``.

    Returns:
        A `Solution`; also after Ctrl-C, with what was reached.

    Raises:
        ProblemError: the file is wrong, or the checkpoint belongs to another run.
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
    problem = replace(problem, seed=problem.seed if seed is None else seed, dtype=dtype or problem.dtype)
    run = _Run(problem, backend, None if out is None else Path(out), progress)
    if resume:
        run.restore()
    run.train(problem.steps if steps is None else min(steps, problem.steps))
    return run.finish(figures)


class _Run:
    """The state of one run: where it is in the phases, and what it has seen."""

    def __init__(self, problem: Problem, backend: str, folder: Path | None, progress: Progress | None) -> None:
        self._started = time.perf_counter()
        self.problem, self.backend, self.folder, self._progress = problem, backend, folder, progress
        observed = observations(problem, problem.seed)
        self._sampler = Sampler(problem, problem.seed, None if observed is None else observed[0])
        self._terms = terms(problem, backend)
        self._draw = 0
        self._points = place(problem, self._terms, self._sampler.draw(0))
        setting = Setting(
            problem, self._terms, problem.seed, problem.dtype, self._points, None if observed is None else observed[1]
        )
        self.trainer: Trainer = make_trainer(backend, setting)
        self.step, self.status = 0, "stopped"
        self._phase = -1
        self._ended: set[int] = set()
        self._seconds_before = 0.0
        self._training = 0.0
        self.history: dict[str, Any] = {"step": [], "seconds": [], "losses": {name: [] for name in problem.losses}}
        self._setup = time.perf_counter() - self._started

    # ------------------------------------------------------------------------------------------------------ training

    def train(self, last: int) -> None:
        """Go on to step ``last`` or the end of all phases."""
        stop = threading.Event()
        begin = time.perf_counter()
        self.status = "stopped"
        starts = np.cumsum([0, *(o.steps for o in self.problem.optimisers)])
        try:
            with self.trainer.scope(), _interruptible(stop):
                self._look(begin, last)
                while self.step < last and self.status == "stopped":
                    phase = int(np.searchsorted(starts, self.step, side="right")) - 1
                    if phase in self._ended:
                        # Nothing moves any more: the rest of the phase would repeat the same point.
                        self.step = int(starts[phase + 1])
                        continue
                    if phase != self._phase:
                        self._enter(phase)
                    self._resample(self.step - int(starts[phase]))
                    if not self.trainer.step():
                        self._ended.add(phase)
                    self.step += 1
                    if self._due(last) and not self._look(begin, last):
                        self.status = "diverged"
                    if stop.is_set():
                        self.status = "interrupted"
        except KeyboardInterrupt:
            self.status = "interrupted"
        self._training += time.perf_counter() - begin
        if self.status == "stopped" and self.step >= self.problem.steps:
            self.status = "finished"

    def _enter(self, phase: int) -> None:
        self.trainer.start(self.problem.optimisers[phase])
        self._phase = phase

    def _resample(self, done: int) -> None:
        """Draw new points where it is time to. L-BFGS keeps its points: its curvature belongs to them."""
        sampling, phase = self.problem.sampling, self.problem.optimisers[self._phase]
        if not sampling.resample or phase.name == "lbfgs" or not done or done % sampling.resample:
            return
        self._draw += 1
        self._points = place(self.problem, self._terms, self._sampler.draw(self._draw))
        if sampling.adaptive:
            self._points[INTERIOR] = self._sampler.adapt(self._draw, self.trainer.residual)
        self.trainer.set_points(self._points)

    def _due(self, last: int) -> bool:
        every = max(1, self.problem.steps // 200)
        return self.step % every == 0 or self.step == last

    def _look(self, begin: float, last: int) -> bool:
        """Note the losses; False where one of them is not finite."""
        if self.history["step"] and self.history["step"][-1] == self.step:
            return True
        losses = self.trainer.losses()
        self.history["step"].append(self.step)
        self.history["seconds"].append(round(self._seconds_before + time.perf_counter() - begin, 4))
        for name, value in losses.items():
            self.history["losses"][name].append(value)
        phase = self.problem.optimisers[max(self._phase, 0)].name
        if self._progress is not None:
            self._progress(self.step, last, phase, losses)
        return all(np.isfinite(value) for value in losses.values())

    # --------------------------------------------------------------------------------------------------- checkpoints

    def _identity(self) -> dict[str, Any]:
        return {
            "problem": self.problem.name,
            "backend": self.backend,
            "dtype": self.problem.dtype,
            "seed": self.problem.seed,
            "source": self.problem.source,
        }

    def save(self) -> None:
        """Write the checkpoint."""
        assert self.folder is not None
        with self.trainer.scope():
            tree = {
                "trainer": self.trainer.state(),
                "points": dict(self._points),
                "step": self.step,
                "phase": self._phase,
                "draw": self._draw,
                "ended": sorted(self._ended),
                "history": self.history,
                "seconds": self._seconds(),
            }
        facts = self._identity() | {"step": self.step, "status": self.status, "versions": _versions()}
        checkpoint.save(self.folder / "checkpoint.safetensors", tree, facts)

    def restore(self) -> None:
        """Continue from the checkpoint of the same run."""
        assert self.folder is not None
        path = self.folder / "checkpoint.safetensors"
        tree, facts = checkpoint.load(path)
        for key, value in self._identity().items():
            if facts.get(key) != value:
                what = "the text of the problem" if key == "source" else f"{key} {facts.get(key)!r}"
                now = "it has changed since" if key == "source" else f"this run has {value!r}"
                raise ProblemError(f"{path} belongs to another run: it was made with {what}, {now}", code="E822")
        self.step, self._draw, self._ended = tree["step"], tree["draw"], set(tree["ended"])
        self.history, self._seconds_before = tree["history"], tree["seconds"]
        self._points = tree["points"]
        with self.trainer.scope():
            if tree["phase"] >= 0:
                self._enter(tree["phase"])
            self.trainer.set_points(self._points)
            self.trainer.load(tree["trainer"])

    def _seconds(self) -> float:
        return self._seconds_before + self._training

    # --------------------------------------------------------------------------------------------------------- finish

    def finish(self, figures: bool) -> Solution:
        """Measure errors, write everything, and return the solution."""

        def predict(points: Points) -> Points:
            with self.trainer.scope():
                return self.trainer.predict(points)

        points, shape = comparison_points(self.problem)
        predicted, exact = predict(points), reference_values(self.problem, points)
        errors = {} if exact is None else _relative_errors(self.problem.fields, predicted, exact)
        found = self.trainer.parameters()
        solution = Solution(
            self.problem, self.backend, self.status, self.step, errors, found, self.history, predict, folder=self.folder
        )
        solution.metrics = self._metrics(solution)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.save()
            (self.folder / "metrics.json").write_text(json.dumps(solution.metrics, indent=2, ensure_ascii=False) + "\n", "utf-8")
            if figures:
                from opdsl.training.figures import draw

                if len(self.problem.columns) > 2:
                    points, shape, held = slice_points(self.problem)
                    predicted, exact = predict(points), reference_values(self.problem, points)
                else:
                    held = {}
                draw(self.folder / "solution.png", solution, points, shape, predicted, exact, held)
        return solution

    def _metrics(self, solution: Solution) -> dict[str, Any]:
        exact = {p.name: p.exact for p in self.problem.parameters if p.learn}
        learned = {
            name: {"found": value, "exact": exact[name]}
            | ({} if not exact[name] else {"relative_error": abs(value / exact[name] - 1.0)})  # type: ignore[operator]
            for name, value in solution.parameters.items()
        }
        losses = {name: values[-1] for name, values in self.history["losses"].items() if values}
        return {
            "problem": self.problem.name,
            "title": self.problem.title,
            "backend": self.backend,
            "dtype": self.problem.dtype,
            "seed": self.problem.seed,
            "status": self.status,
            "step": self.step,
            "steps": self.problem.steps,
            "relative_l2_error": solution.errors,
            "parameters": learned,
            "losses": losses,
            "seconds": {"setup": round(self._setup, 3), "training": round(self._seconds(), 3)},
            "history": self.history,
            "versions": _versions(),
            "platform": platform.platform(),
        }


def _relative_errors(
    fields: tuple[str, ...], predicted: npt.NDArray[np.float64], exact: npt.NDArray[np.float64]
) -> dict[str, float]:
    """Return ‖u - v‖₂ / ‖v‖₂ of every field; the absolute error where the reference vanishes."""
    out = {}
    for k, name in enumerate(fields):
        scale = float(np.linalg.norm(exact[:, k]))
        out[name] = float(np.linalg.norm(predicted[:, k] - exact[:, k])) / (scale or 1.0)
    return out


def _versions() -> dict[str, str]:
    from opdsl import __version__

    found = {"opdsl": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def _interruptible(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C end the loop after the present step, the second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        del number, frame
        stop.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
