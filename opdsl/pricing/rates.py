"""Rates for every backend and device: shipped ones, and those `opdsl tune` measured on this machine.

Measured rates are kept in one small JSON file in the user's cache folder (``OPDSL_CACHE_DIR`` overrides it; set to nothing, it
switches the file off). An entry counts only for the version of opdsl's counting and the framework it was measured with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from opdsl.pricing.cost import Constants, Rates

VERSION = 1
"""Of the file, and of what `opdsl.pricing.counting` counts: rates fitted to other counts mean nothing."""

SHIPPED: dict[tuple[str, str], Constants] = {
    ("jax", "cpu"): Constants(
        Rates(
            products=1.17e-11, traffic=8.54e-11, calls=2.12e-06, elements=4.78e-11, reductions=5.07e-10, spreads=6.03e-11,
            functions=7.19e-10, moves=1.42e-10, views=8.36e-12, steps=1.72e-07, windows=6.59e-08, call=2.24e-05,
        ),
        Rates(
            products=6.31e-11, traffic=1.30e-09, calls=1.50e-06, elements=1.05e-10, reductions=1.87e-09, spreads=2.15e-09,
            functions=5.26e-10, moves=9.00e-11, views=2.57e-10, steps=1.38e-06, windows=5.27e-07, call=6.00e-06,
        ),
        compile_step=2e-3,
        compile_training_step=1e-2,
    ),
    ("torch", "cpu"): Constants(
        Rates(
            products=9.48e-12, traffic=1.00e-11, calls=1.22e-06, elements=3.19e-10, reductions=2.63e-10, spreads=3.44e-10,
            functions=7.29e-10, moves=5.56e-10, views=1.11e-11, steps=1.38e-06, windows=2.85e-06, call=3.57e-05,
        ),
        Rates(
            products=2.56e-11, traffic=3.00e-11, calls=1.80e-05, elements=1.55e-09, reductions=1.34e-09, spreads=4.60e-10,
            functions=1.44e-09, moves=2.32e-09, views=4.43e-10, steps=5.39e-06, windows=1.63e-05, call=1.43e-04,
        ),
    ),
    # NumPy has no gradients: three times an evaluation stands in where a plan shows a training step.
    ("numpy", "cpu"): Constants(
        Rates(
            products=3.49e-11, traffic=4.09e-10, calls=1.51e-05, elements=1.50e-11, reductions=1.03e-09, spreads=9.47e-11,
            functions=8.38e-10, moves=2.62e-10, views=1.44e-11, steps=3.92e-06, windows=6.04e-07, call=3.28e-05,
        ),
        Rates(
            products=1.05e-10, traffic=1.23e-09, calls=4.53e-05, elements=4.50e-11, reductions=3.09e-09, spreads=2.84e-10,
            functions=2.51e-09, moves=7.86e-10, views=4.32e-11, steps=1.18e-05, windows=1.81e-06, call=9.84e-05,
        ),
    ),
}
"""Fitted to the grid in ``asv_benchmarks/planner_grid`` (one thread, float32), by ``report.py --fit``. Where the grid cannot tell
a rate from zero, a tenth of a plain guess stands instead, so that no kind of work is free on other shapes."""


# Not measured: guesses from data sheets and launch times. Kernels start in about 5 µs from torch, are fused by XLA, and
# arithmetic is two orders of magnitude faster than on two CPU cores. `opdsl tune` on the machine replaces them.
_GUESSED_RATES = Rates(2e-13, 4e-12, 5e-6, 4e-12, 4e-12, 4e-12, 4e-12, 4e-12, 1e-14, 5e-6, 2e-6, 3e-5)
for _name, _factor in (("torch", 1.0), ("jax", 0.2)):
    _base = replace(_GUESSED_RATES, steps=_factor * 5e-6, windows=_factor * 2e-6)
    _train = Rates(*(3 * getattr(_base, f) for f in Rates.__dataclass_fields__))
    _compile = (2e-3, 1e-2) if _name == "jax" else (0.0, 0.0)
    SHIPPED[_name, "cuda"] = Constants(_base, _train, *_compile, source="guessed")

_ALIASES = {"gpu": "cuda", "rocm": "cuda", "mps": "cuda", "tpu": "cuda", "metal": "cuda"}


def device_of(backend: str | None, x: Any = None) -> str:
    """The kind of device of an array: ``"cpu"``, ``"cuda"``; of the framework's default where the array does not tell."""
    kind = "cpu"
    if backend == "torch" and x is not None:
        kind = str(x.device.type)
    elif backend == "jax" and "jax" in sys.modules:
        kind = str(sys.modules["jax"].default_backend())
        # Tracers have no device; asking them raises errors of several kinds.
        with suppress(Exception):
            kind = str(next(iter(x.devices())).platform)
    return _ALIASES.get(kind, kind)


def constants(backend: str | None, device: str = "cpu") -> Constants:
    """The rates to plan with: measured on this machine where there are any, else shipped ones."""
    name = backend or "jax"
    measured = _measured(str(cache_file() or ""), _stamp()).get(f"{name}-{device}")
    if measured is not None:
        return measured
    return SHIPPED.get((name, device)) or SHIPPED.get((name, "cuda")) or SHIPPED["jax", "cpu"]


# --------------------------------------------------------------------------------------------------------------- file


def cache_file() -> Path | None:
    """Where measured rates are kept; None where that is switched off."""
    given = os.environ.get("OPDSL_CACHE_DIR")
    if given is not None:
        return Path(given) / "calibration.json" if given else None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "opdsl" / "calibration.json"


def framework_version(backend: str) -> str:
    """The installed version of the backend's framework; empty where it is not installed."""
    try:
        return metadata.version(backend)
    except metadata.PackageNotFoundError:
        return ""


def save(backend: str, device: str, found: Constants) -> Path | None:
    """Keep measured rates for this machine; other backends and devices in the file stay."""
    path = cache_file()
    if path is None:
        return None
    entries = dict(_read(path))
    entries[f"{backend}-{device}"] = {
        "framework": framework_version(backend),
        "evaluation": asdict(found.evaluation),
        "training": asdict(found.training),
        "compile_step": found.compile_step,
        "compile_training_step": found.compile_training_step,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.tmp")
    part.write_text(json.dumps({"version": VERSION, "entries": entries}, indent=1), encoding="utf-8")
    part.replace(path)
    return path


def _stamp() -> float:
    path = cache_file()
    try:
        return path.stat().st_mtime if path is not None else 0.0
    except OSError:
        return 0.0


def _read(path: Path) -> Mapping[str, Any]:
    """Entries of a file of this version; an unreadable file is as good as none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.get("version") != VERSION or not isinstance(found.get("entries"), dict):
        return {}
    return found["entries"]  # type: ignore[no-any-return]


@cache
def _measured(path: str, stamp: float) -> dict[str, Constants]:
    """Usable entries of a file at one time of modification."""
    out: dict[str, Constants] = {}
    for key, entry in _read(Path(path)).items() if path and stamp else ():
        try:
            if entry["framework"] != framework_version(key.partition("-")[0]):
                continue
            evaluation, training = (
                Rates(**{k: float(v) for k, v in entry[mode].items()}) for mode in ("evaluation", "training")
            )
            steps = float(entry["compile_step"]), float(entry["compile_training_step"])
            out[key] = Constants(evaluation, training, *steps, source="measured")
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return out
