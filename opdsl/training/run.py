"""One run: where it is in the phases of training, what it has seen, and how it is kept and taken up again."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from opdsl.backends.execution import free_memory
from opdsl.errors import OpdslWarning, ProblemError
from opdsl.training import checkpoint
from opdsl.training.choose_optimiser import check_memory, parameter_count
from opdsl.training.error_probe import ErrorProbe
from opdsl.training.history import History, check_history
from opdsl.training.interrupts import Interrupt, interruptible
from opdsl.training.losses import LossTerm, place, terms
from opdsl.training.observations import observations
from opdsl.training.problem import Problem
from opdsl.training.sampling import INTERIOR, Sampler
from opdsl.training.trainer import Setting, Trainer, make_trainer, trainer_of
from opdsl.training.versions import versions

Progress = Callable[[int, int, str, dict[str, float]], None]
"""Called as ``progress(step, steps, phase, losses)``; a phase of an optimiser for residuals says what its last step did, too."""

_LOOKS = 200  # at the losses, in a whole run


class Run:
    """The state of one run.

    Args:
        problem: with the seed and the precision of this run.
        backend: ``"jax"`` or ``"torch"``.
        folder: for results; None keeps nothing.
        progress: called now and then with the losses.
        save_every: seconds between two checkpoints.

    Attributes:
        status: ``running``, then ``finished``, ``stopped``, ``interrupted`` or ``diverged``.
        step: steps done.
        interrupt: the signal that ended the run, if one did.
        diverged: for a run that has diverged, the step and the losses at which that was seen.
    """

    def __init__(self, problem: Problem, backend: str, folder: Path | None, progress: Progress | None, save_every: float) -> None:
        self._clock = _Clock()
        self.problem, self.backend, self.folder, self._progress = problem, backend, folder, progress
        self._save_every = save_every
        self._every = max(1, problem.steps // _LOOKS)
        observed = observations(problem, problem.seed)
        self.sampler = Sampler(problem, problem.seed, None if observed is None else observed[0])
        self._terms = terms(problem, backend, None if observed is None else observed[1])
        self._draw = 0
        self._points = place(problem, self._terms, self.sampler.draw(0))
        setting = Setting(problem, self._terms, problem.seed, problem.dtype, self._points)
        _check_phases(problem, backend, self._terms, self._points)
        self.trainer: Trainer = make_trainer(backend, setting)
        self._probe = ErrorProbe(problem)
        self.step, self.status = 0, "running"
        self._phase = -1
        self._ended: set[int] = set()
        self.interrupt = Interrupt()
        self.diverged: dict[str, Any] | None = None
        self._history = History(problem)
        self.setup_seconds = self._clock.elapsed()
        self._clock = _Clock(stopped=True)
        # The last state whose losses were finite: what is kept where a later one is not, or where a step is cut short.
        self._sound = self._tree()

    # ------------------------------------------------------------------------------------------------------ training

    def train(self, last: int) -> None:
        """Go on to step ``last`` or the end of all phases."""
        self._clock.start()
        saved = time.monotonic()
        between = True
        try:
            with self.trainer.scope(), interruptible(self.interrupt):
                self._look(last)
                while self.step < last and self.status == "running" and not self.interrupt:
                    phase = self._phase_at(self.step)
                    if phase in self._ended:
                        # Nothing moves any more: the rest of the phase would repeat the same point.
                        self.step = self._starts()[phase + 1]
                        continue
                    between = False
                    self._advance(phase)
                    between = True
                    if self._due(last):
                        self._look(last)
                    if self.folder is not None and time.monotonic() - saved >= self._save_every:
                        self._save_while_running()
                        saved = time.monotonic()
        except KeyboardInterrupt:
            self.status = "interrupted"
        except Exception:
            # Whatever went wrong, in a progress function for instance: what was reached is kept.
            self.status = "interrupted"
            self._settle(between)
            self._save_while_running()
            raise
        finally:
            self._clock.stop()
        if self.interrupt and self.step < last:
            self.status = "interrupted"
        self._settle(between)
        if self.status == "running":
            self.status = "finished" if self.step >= self.problem.steps else "stopped"

    def _settle(self, between: bool) -> None:
        """Leave the trainer in a state that may be kept: between two steps, with finite losses."""
        if not between:
            self._put(self._sound)
        elif self.status != "diverged":
            with self.trainer.scope():
                self._is_sound(self.trainer.losses())

    def _starts(self) -> list[int]:
        starts = [0]
        for phase in self.problem.optimisers:
            starts.append(starts[-1] + phase.steps)
        return starts

    def _phase_at(self, step: int) -> int:
        return max(k for k, start in enumerate(self._starts()[:-1]) if start <= step)

    def _advance(self, phase: int) -> None:
        if phase != self._phase:
            self._enter(phase)
            self._history.begin(self.problem.optimisers[phase].name, self.step, self.seconds)
        self._resample(self.step - self._starts()[phase])
        if not self.trainer.step():
            self._ended.add(phase)
            report = self.trainer.report
            self._history.end("nothing moves any more" if report is None else report.reason)
        self.step += 1

    def _enter(self, phase: int) -> None:
        self.trainer.start(self.problem.optimisers[phase])
        self._phase = phase

    def _resample(self, done: int) -> None:
        """Draw new points where it is time to: between two phases, or now and then within one whose method can bear it.

        L-BFGS and Levenberg-Marquardt keep theirs: the curvature they learn, or the damping they have found, belongs to them.
        """
        sampling, phase = self.problem.sampling, self.problem.optimisers[self._phase]
        if not done:
            due, adaptive = sampling.refine and self._phase > 0, True
        else:
            due = bool(sampling.resample) and not phase.keeps_points and not done % sampling.resample
            adaptive = sampling.adaptive
        if not due:
            return
        self._draw += 1
        self._points = place(self.problem, self._terms, self.sampler.draw(self._draw))
        if adaptive:
            self._points[INTERIOR] = self.sampler.adapt(self._draw, self.trainer.residual)
        self.trainer.set_points(self._points)

    # ------------------------------------------------------------------------------------------------------- looking

    def _due(self, last: int) -> bool:
        return self.step % self._every == 0 or self.step == last

    def _look(self, last: int) -> None:
        """Note the losses, and the state where they are finite."""
        if self._history.last == self.step:
            return
        losses = self.trainer.losses()
        if not self._is_sound(losses):
            return
        self._history.look(self.step, self.seconds, losses, self._probe.errors(self.trainer.predict))
        self._sound = self._tree()
        if self._progress is None:
            return
        phase, report = self.problem.optimisers[max(self._phase, 0)].name, self.trainer.report
        try:
            self._progress(self.step, last, phase if report is None else f"{phase}: {report}", losses)
        except OSError:
            self._progress = None  # the terminal or the pipe is gone; the run goes on

    def _is_sound(self, losses: dict[str, float]) -> bool:
        """Whether all losses are finite; where one is not, the run has diverged and goes back to where they were."""
        if all(np.isfinite(value) for value in losses.values()):
            return True
        self.status = "diverged"
        self.diverged = {"step": self.step, "losses": losses, "points": self.trainer.not_finite()}
        self._put(self._sound)
        return False

    # --------------------------------------------------------------------------------------------------- checkpoints

    @property
    def path(self) -> Path:
        """Of the checkpoint."""
        assert self.folder is not None
        return checkpoint.in_folder(self.folder)

    @property
    def seconds(self) -> float:
        """Time spent on training, that of earlier parts of the run included."""
        return self._clock.elapsed()

    @property
    def history(self) -> dict[str, Any]:
        """What was seen so far; see `History`."""
        return self._history.record

    def _identity(self) -> dict[str, Any]:
        return {
            "problem": self.problem.name,
            "backend": self.backend,
            "dtype": self.problem.dtype,
            "seed": self.problem.seed,
            "source": self.problem.source,
        }

    def _tree(self) -> dict[str, Any]:
        with self.trainer.scope():
            return {
                "trainer": self.trainer.state(),
                "points": dict(self._points),
                "step": self.step,
                "phase": self._phase,
                "draw": self._draw,
                "ended": sorted(self._ended),
                "history": self._history.tree(),
                "seconds": self.seconds,
            }

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            ProblemError: it cannot be written, now that the run is over.
        """
        facts = self._identity() | {"step": self.step, "status": self.status, "versions": versions()}
        try:
            checkpoint.save(self.path, self._tree(), facts)
        except OSError as error:
            raise ProblemError(f"the checkpoint cannot be written to {self.folder}: {error.strerror or error}", code="E823") from error

    def _save_while_running(self) -> None:
        """Write the checkpoint of a finite state; a disk that is full now may not be so the next time."""
        if self.folder is None:
            return
        with self.trainer.scope():
            if self.status == "running" and not self._is_sound(self.trainer.losses()):
                return
        try:
            self.save()
        except ProblemError as error:
            warnings.warn(f"{error.message}; training goes on, the checkpoint before it is kept", OpdslWarning, stacklevel=2)

    def restore(self, tree: Any, facts: dict[str, Any]) -> None:
        """Continue from a checkpoint of the same run.

        Raises:
            ProblemError: it belongs to another run, or it does not fit the problem.
        """
        for key, value in self._identity().items():
            if facts.get(key) != value:
                what = "the text of the problem" if key == "source" else f"{key} {facts.get(key)!r}"
                now = "it has changed since" if key == "source" else f"this run has {value!r}"
                raise ProblemError(f"{self.path} belongs to another run: it was made with {what}, {now}", code="E822")
        try:
            _check_tree(tree, self)
            self._put(tree)
            self._clock.before = tree["seconds"]
            if self._phase >= 0:
                # Frameworks accept states that their optimisers cannot use: one step tells, and is taken back.
                with self.trainer.scope():
                    self.trainer.step()
                self._put(tree)
        except Exception as error:
            raise ProblemError(f"{self.path} does not fit this problem: {str(error)[:200]}; start again", code="E821") from error
        self._sound = self._tree()

    def _put(self, tree: dict[str, Any]) -> None:
        self.step, self._draw, self._ended = tree["step"], tree["draw"], set(tree["ended"])
        self._history.put(tree["history"])
        self._points = dict(tree["points"])
        with self.trainer.scope():
            if tree["phase"] not in (-1, self._phase):
                self._enter(tree["phase"])
            self._phase = tree["phase"]
            self.trainer.set_points(self._points)
            self.trainer.load(tree["trainer"])


class _Clock:
    """Seconds of work, those of earlier parts included."""

    def __init__(self, *, stopped: bool = False) -> None:
        self.before = 0.0
        self._began = None if stopped else time.perf_counter()

    def start(self) -> None:
        self._began = time.perf_counter()

    def stop(self) -> None:
        self.before, self._began = self.elapsed(), None

    def elapsed(self) -> float:
        return self.before + (0.0 if self._began is None else time.perf_counter() - self._began)


def _check_phases(problem: Problem, backend: str, found: Sequence[LossTerm], points: Mapping[str, Any]) -> None:
    """Refuse a phase that cannot be run, before the first step of any; say what single precision does to the others.

    Raises:
        ProblemError: its optimiser is missing, or its Jacobian does not fit in memory; with the sizes and what fits.
    """
    for phase in problem.optimisers:
        if why := trainer_of(backend).missing(phase.name):
            raise ProblemError(f"{phase.name} on {backend}: {why}", code="E831")
    phases = [phase for phase in problem.optimisers if phase.for_residuals]
    residuals = sum(len(points[t.points[0]]) * sum(k for _, _, k in t.parts()) for t in found)
    itemsize = 8 if problem.dtype == "float64" else 4
    for phase in phases:
        check_memory(phase, residuals, parameter_count(problem), itemsize, free_memory())
    if phases and itemsize == 4:
        warnings.warn(
            f"{phases[0].name} in float32: residuals have seven digits and their Jacobian's normal equations half of them, so that "
            "errors stay near 1e-3 to 1e-4 where float64 reaches 1e-6 and less; leave dtype out, or give float64",
            OpdslWarning, stacklevel=4,
        )  # fmt: skip


def _check_tree(tree: Any, run: Run) -> None:
    """Raise `ValueError` where a checkpoint holds something else than a state of this run."""

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(what)

    def is_count(value: Any, most: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most

    fresh, problem = run._tree(), run.problem
    need(isinstance(tree, dict) and tree.keys() == fresh.keys(), "it lacks parts of a run")
    need(is_count(tree["step"], problem.steps) and is_count(tree["draw"], problem.steps), "its step is none of this run")
    last = len(problem.optimisers) - 1
    need(tree["phase"] == -1 or is_count(tree["phase"], last), "its phase of training does not exist")
    need(isinstance(tree["ended"], list) and all(is_count(k, last) for k in tree["ended"]), "its phases of training do not exist")
    need(isinstance(tree["seconds"], float) and 0.0 <= tree["seconds"] < float("inf"), "its clock is wrong")
    for part, what in ((tree["points"], "points"), (tree["trainer"]["theta"], "weights")):
        expected = fresh["points"] if what == "points" else fresh["trainer"]["theta"]
        need(_shapes(part) == _shapes(expected), f"its {what} have other shapes")
    wrong = check_history(tree["history"], problem)
    need(not wrong, wrong)


def _shapes(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _shapes(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_shapes(value) for value in node]
    return np.shape(node), np.asarray(node).dtype.str
