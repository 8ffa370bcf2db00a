"""What a method costs: counted work times the rates of a machine.

`opdsl.pricing.counting` says how many multiply-adds, elements, copies and operations one evaluation makes; `Rates` say what each of
them takes. One set of rates is for an evaluation, another for a training step (value and parameter gradient), because reverse
mode pays differently for the same operations: a slice is free forward and a padded addition backward. Rates come from
`opdsl.pricing.rates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from opdsl.backends.execution import COUNTED, Constants, Rates
from opdsl.pricing.abstract_arrays import Effort

Matrix = np.ndarray  # type: ignore[type-arg]


CALLS = 20_000
"""A program is compiled once and called about this often: the length of a training run."""


@dataclass(frozen=True)
class Cost:
    """Predicted cost of one method on one network.

    Attributes:
        relative: time of one evaluation in plain forward passes of the same network.
        gradient: time of a training step (value and parameter gradient), likewise.
        seconds: of one evaluation.
        training_seconds: of one training step.
        memory: bytes alive at once in an evaluation.
        training_memory: bytes that a training step keeps for reverse mode.
        operations: operations started by one evaluation.
        compile_seconds: to compile an evaluation, once; 0 where nothing is compiled.
        compile_training_seconds: to compile a training step.
    """

    relative: float
    gradient: float
    seconds: float
    training_seconds: float
    memory: float
    training_memory: float
    operations: float
    compile_seconds: float
    compile_training_seconds: float
    effort: Effort = field(repr=False)

    def time(self, training: bool) -> float:
        """Seconds of one evaluation or training step."""
        return self.training_seconds if training else self.seconds

    def compiling(self, training: bool) -> float:
        """Seconds to compile it, once."""
        return self.compile_training_seconds if training else self.compile_seconds

    def share(self, training: bool) -> float:
        """What choices compare: the time of one call, with its share of the compilation."""
        return self.time(training) + self.compiling(training) / CALLS


def price(effort: Effort, plain: Effort, constants: Constants, itemsize: int = 4) -> Cost:
    """Price an effort; ``plain`` is that of one plain forward pass, ``itemsize`` the bytes of a number."""
    base = constants.evaluation.seconds(plain)
    seconds, training = constants.evaluation.seconds(effort), constants.training.seconds(effort)
    operations = effort.calls + effort.steps
    return Cost(
        seconds / base, training / base, seconds, training, effort.memory * itemsize, (effort.saved + effort.memory) * itemsize,
        operations, operations * constants.compile_step, operations * constants.compile_training_step, effort,
    )  # fmt: skip


def fit(samples: Sequence[tuple[Effort, float]], prior: Rates, strength: float = 0.01) -> Rates:
    """Rates from measured times: non-negative least squares on relative errors, drawn weakly to ``prior``.

    Minimises Σ_i (Σ_j r_j e_ij / t_i − 1)² + (strength · N / J) Σ_j (r_j/p_j − 1)², r ≥ 0, over N samples and J rates (needs
    SciPy). A few rounds of reweighting make it a least-absolute-deviation fit, which
    forgives a disturbed measurement.
    """
    p = np.array([max(getattr(prior, name), 1e-15) for name in (*COUNTED, "call")])
    a = np.array([[*(getattr(e, name) for name in COUNTED), 1.0] for e, _ in samples])
    a = a * p / np.array([t for _, t in samples])[:, None]
    weights = np.ones(len(samples))
    r = np.ones(len(p))
    for _ in range(6):
        r = _non_negative(a * weights[:, None], weights, strength * len(samples) / len(p))
        weights = 1.0 / np.sqrt(np.maximum(np.abs(a @ r - 1.0), 0.05))
    return Rates(*(r * p).tolist())


def adapt(samples: Sequence[tuple[Effort, float]], prior: Rates) -> Rates:
    """Rates of another machine from a few measurements.

    A handful of operators cannot tell a dozen rates apart. So ``prior`` is first scaled as a whole to the median of measured to
    predicted times; what the measurements then say clearly moves single rates, by a factor of ten at most.
    """
    if not samples:
        return prior
    ratio = float(np.median([t / prior.seconds(e) for e, t in samples]))
    scaled = {name: ratio * getattr(prior, name) for name in (*COUNTED, "call")}
    found = fit(samples, Rates(**scaled), 1.0)
    return Rates(**{name: min(max(getattr(found, name), p / 10), 10 * p) for name, p in scaled.items()})


def _non_negative(a: Matrix, b: Matrix, ridge: float) -> Matrix:
    """argmin |a r − b|² + ridge |r − 1|², r ≥ 0."""
    from scipy.optimize import nnls

    drawn = np.sqrt(ridge)
    return np.asarray(nnls(np.vstack([a, drawn * np.eye(a.shape[1])]), np.concatenate([b, np.full(a.shape[1], drawn)]))[0])
