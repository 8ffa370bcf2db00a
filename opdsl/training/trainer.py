"""What the training loop needs from a framework."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.training.least_squares import LeastSquares, Report
from opdsl.training.losses import LossTerm
from opdsl.training.problem import Problem
from opdsl.training.problem_tables import OptimiserSpec

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """Everything a trainer is made from.

    Args:
        problem: what to solve.
        terms: the losses as operators of the trainer's backend.
        seed: of the initial network.
        dtype: ``float32`` or ``float64``.
        points: first points of every loss.
    """

    problem: Problem
    terms: tuple[LossTerm, ...]
    seed: int
    dtype: str
    points: Mapping[str, Points]


class Trainer(ABC):
    """A network, its losses and an optimiser in one framework.

    The loop calls `start` at the beginning of each phase, then `step`. All numbers that leave a trainer are NumPy's.
    """

    @abstractmethod
    def __init__(self, setting: Setting) -> None:
        """Make the network, the losses and everything they need."""

    @staticmethod
    def use_threads(count: int | None) -> None:
        """Let the framework use so many threads, where it can be told; None asks for what suits small networks."""
        return

    @staticmethod
    def missing(optimiser: str) -> str:
        """Return why an optimiser of the language of problem files is not there; empty where it is."""
        return ""

    @abstractmethod
    def scope(self) -> AbstractContextManager[object]:
        """Return what has to surround every other call (precision settings of the framework)."""

    @abstractmethod
    def set_points(self, points: Mapping[str, Points]) -> None:
        """Evaluate the losses at these points from now on; shapes never change."""

    @abstractmethod
    def start(self, phase: OptimiserSpec) -> None:
        """Begin a phase with a fresh optimiser."""

    @abstractmethod
    def step(self) -> bool:
        """Do one step; False where nothing changed (a line search that found no better point)."""

    @property
    @abstractmethod
    def report(self) -> Report | None:
        """What the last step of an optimiser for residuals did; None for others."""

    @abstractmethod
    def least_squares(self) -> LeastSquares:
        """Return all residuals at the present points as a function of flat parameters, over NumPy arrays."""

    @abstractmethod
    def losses(self) -> dict[str, float]:
        """Return the mean square of every named residual, without weights."""

    @abstractmethod
    def not_finite(self) -> dict[str, tuple[int, int]]:
        """Return, for every loss with residuals that are not finite, at how many of how many points."""

    @abstractmethod
    def predict(self, points: Points) -> Points:
        """Return all fields at points: (n, d) → (n, m)."""

    @abstractmethod
    def residual(self, points: Points) -> Points:
        """Return the root of the sum of squared equation residuals: (n, d) → (n,)."""

    @abstractmethod
    def parameters(self) -> dict[str, float]:
        """Return the learned parameters of the equations."""

    @abstractmethod
    def state(self) -> Any:
        """Return weights, parameters and optimiser as a tree that `opdsl.training.checkpoint` can store."""

    @abstractmethod
    def load(self, state: Any) -> None:
        """Continue from `state`; `start` of the same phase was called before."""


def learning_rate(phase: OptimiserSpec, step: int) -> float:
    """Return the learning rate of one step of a phase, relative to ``phase.rate``.

    constant: 1;  cosine: f + (1-f)(1+cos(πk/n))/2;  exponential: f^{k/n}, with f the final factor.

    Example:
        >>> learning_rate(OptimiserSpec(schedule="exponential", final=0.01, steps=100), 50)
        0.1
    """
    done = min(step / phase.steps, 1.0)
    if phase.schedule == "cosine":
        return phase.final + (1.0 - phase.final) * 0.5 * (1.0 + math.cos(math.pi * done))
    if phase.schedule == "exponential":
        return float(phase.final**done)
    return 1.0


TRAINERS = {"jax": "opdsl.training.jax_trainer:JaxTrainer", "torch": "opdsl.training.torch_trainer:TorchTrainer"}
"""The trainer of each backend that has one, as ``module:Class``."""


def trainer_of(backend: str) -> type[Trainer]:
    """Return the class that trains on a backend; this imports its framework."""
    module, _, name = TRAINERS[backend].partition(":")
    found: type[Trainer] = getattr(import_module(module), name)
    return found


def make_trainer(backend: str, setting: Setting) -> Trainer:
    """Return the trainer of a backend."""
    return trainer_of(backend)(setting)
