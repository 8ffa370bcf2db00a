"""How a framework runs a method, and how long each kind of work takes it: facts that stand on a backend's class.

No framework is needed to know them: a plan can be made for a backend that is not installed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from opdsl.jets.points import Mapped, Points


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a backend runs a method; everything the count depends on besides shapes.

    Args:
        points: who owns the batch axis: graphs are of one point and mapped over the batch, or carry it (`ArrayOps.points`).
        stacked: one product for all channels (`ArrayOps.stacked`).
        fuses: a product that goes into a sum, and a factor that is a number, cost nothing of their own (a + x·y·2 is one
            operation).
        nesting: ``"forward"`` where nested differentiation is forward mode over at most one reverse sweep, ``"reverse"`` for
            loops of reverse sweeps.
    """

    points: type[Points] = Mapped
    stacked: bool = False
    fuses: bool = False
    nesting: str = "forward"


@dataclass(frozen=True)
class Rates:
    """Seconds for one of each; the names are those of `opdsl.pricing.abstract_arrays.Effort`, ``call`` is what every call takes."""

    products: float
    traffic: float
    calls: float
    elements: float
    reductions: float
    spreads: float
    functions: float
    moves: float
    views: float
    steps: float
    windows: float
    call: float = 0.0

    def seconds(self, effort: Any) -> float:
        """Predicted time."""
        return float(self.call + sum(getattr(self, name) * getattr(effort, name) for name in COUNTED))

    def __mul__(self, factor: float) -> Rates:
        return Rates(*(factor * getattr(self, f.name) for f in fields(Rates)))


COUNTED = tuple(f.name for f in fields(Rates) if f.name != "call")


@dataclass(frozen=True)
class Constants:
    """The rates of one framework on one device.

    Attributes:
        evaluation: of an evaluation.
        training: of value and parameter gradient.
        compile_step: seconds to compile one operation of an evaluation; 0 where nothing is compiled.
        compile_training_step: the same for a training step.
        source: where they come from, for `explain`: ``"shipped"``, ``"measured"`` or ``"guessed"``.
    """

    evaluation: Rates
    training: Rates
    compile_step: float = 0.0
    compile_training_step: float = 0.0
    source: str = "shipped"


# From data sheets and launch times of accelerators, not measured: kernels start in about 5 µs, and arithmetic is two orders of
# magnitude faster than on two processor cores. `opdsl tune` on the machine replaces them.
_GUESSED = Rates(2e-13, 4e-12, 5e-6, 4e-12, 4e-12, 4e-12, 4e-12, 4e-12, 1e-14, 5e-6, 2e-6, 3e-5)


def accelerator(launch: float = 1.0, compile_step: float = 0.0, compile_training_step: float = 0.0) -> Constants:
    """Guessed rates of a graphics processor; ``launch`` scales what it takes to start an operation (compilers fuse them)."""
    evaluation = replace(_GUESSED, steps=launch * 5e-6, windows=launch * 2e-6)
    return Constants(evaluation, evaluation * 3.0, compile_step, compile_training_step, source="guessed")


# A backend that says nothing of its own: what arithmetic takes on one core, and operations that are started one by one.
_PLAIN = Rates(3e-11, 1e-10, 5e-6, 3e-10, 1e-9, 3e-10, 1e-9, 5e-10, 1e-11, 4e-6, 1e-6, 3e-5)
UNKNOWN = Constants(_PLAIN, _PLAIN * 3.0, source="guessed")
"""Rates of a backend that brings none."""


def free_memory() -> float | None:
    """Bytes of main memory that may still be taken; None where the system does not tell."""
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def device_kind(name: str) -> str:
    """A device as prices know it: ``"cpu"``, or ``"cuda"`` for every graphics processor."""
    kind = name.partition(":")[0].lower()
    return {"gpu": "cuda", "rocm": "cuda", "mps": "cuda", "tpu": "cuda", "metal": "cuda"}.get(kind, kind)
