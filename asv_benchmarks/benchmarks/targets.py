"""Backend and device as one parameter, ``"jax:cpu"``; the ones that are absent are skipped by name.

A `Driver` turns an operator, or the plain network, into `Work` on its framework: compiled, warmed up, and waiting for its own
result, so that what is timed is what is measured. Benchmarks know no framework beyond this.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from .cases import Case
from .timing import Clock

TARGETS = ("jax:cpu", "torch:cpu", "torch-compiled:cpu", "numpy:cpu", "jax:cuda", "torch:cuda", "torch-compiled:cuda")
GOALS = ("evaluation", "training")


class Absent(NotImplementedError):
    """This cannot be measured here; asv takes a ``NotImplementedError`` in ``setup`` for a skip."""


@dataclass(frozen=True)
class Work:
    """A computation that has run once.

    Attributes:
        run: does it again and waits for the result.
        first: seconds until the first result: planning, capture and compilation included.
        count: deterministic counts; what the framework cannot tell is missing.
    """

    run: Callable[[], Any]
    first: float
    count: Callable[[], dict[str, float]]


class Driver(ABC):
    """One framework on one device."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.compiled = target.startswith("torch-compiled")

    @abstractmethod
    def operator(self, case: Case, goal: str, strategy: str = "auto") -> Work:
        """opdsl's operator; ``goal`` is ``"evaluation"`` or ``"training"`` (value and parameter gradient of the mean square)."""

    @abstractmethod
    def plain(self, case: Case, goal: str, channels: int = 1) -> Work:
        """The network itself on ``channels`` × points rows; with dim C(p) channels this is the floor of a push-forward."""

    def folx(self, case: Case, goal: str) -> Work:
        """The same operator by folx."""
        raise Absent(f"{self.target} skipped: folx is a JAX library")

    def memory(self, work: Work) -> float:
        """Bytes of device memory that one run takes beyond what is there before it; GPUs only."""
        raise Absent(f"{self.target} skipped: device memory is measured on GPUs")

    def reference(self, name: str, case: Case, goal: str) -> Work:
        """What a ratio is taken to: ``"plain"``, ``"floor"``, ``"nested_ad"`` or ``"folx"``."""
        match name:
            case "plain":
                return self.plain(case, goal)
            case "floor":
                return self.plain(case, goal, case.channels)
            case "folx":
                return self.folx(case, goal)
        return self.operator(case, goal, name)


def missing(target: str) -> str:
    """Why a target cannot be used here, in a few words; empty where it can."""
    framework, device = framework_of(target), target.partition(":")[2]
    if importlib.util.find_spec(framework) is None:
        return f"{framework} is not installed"
    # Asking a framework takes seconds, and there is a process for every cell.
    if device == "cuda" and not (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()):
        return "no CUDA device"
    return ""


def framework_of(target: str) -> str:
    """``"torch"`` for ``"torch-compiled:cpu"``."""
    return target.partition(":")[0].removesuffix("-compiled")


def require(target: str) -> None:
    """Raise what `driver` raises for a target that is absent, without importing its framework."""
    if target not in TARGETS:
        raise KeyError(f"no target {target!r}; there are {', '.join(TARGETS)}")
    reason = missing(target)
    if reason:
        raise Absent(f"{target} skipped: {reason}")


def driver(target: str) -> Driver:
    """The driver of a target.

    Raises:
        Absent: framework or device is not here; the message names the target and the reason.
        KeyError: there is no such target.
    """
    require(target)
    name = framework_of(target)
    module = importlib.import_module(f".{name}_driver", __package__)
    made: Driver = module.make(target)
    return made


def clock_of(target: str) -> Clock:
    """Processor time on a CPU, which does not see who else uses the machine; a GPU's work is not in it."""
    return process_time if target.endswith(":cpu") else perf_counter


def first_run(make: Callable[[], Callable[[], Any]], count: Callable[[], dict[str, float]]) -> Work:
    """Make and run once, with the seconds this took."""
    start = perf_counter()
    run = make()
    run()
    return Work(run, perf_counter() - start, count)
