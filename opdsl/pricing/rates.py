"""Rates to plan with: those that stand on the backends, and those `opdsl tune` measured on this machine.

Measured rates are kept in one small JSON file in the user's cache folder (``OPDSL_CACHE_DIR`` overrides it; set to nothing, it
switches the file off). An entry counts only for the version of opdsl's counting and the framework it was measured with.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from opdsl.backends import facts
from opdsl.backends.execution import UNKNOWN, Constants, Rates
from opdsl.errors import BackendError

VERSION = 1
"""Of the file, and of what `opdsl.pricing.counting` counts: rates fitted to other counts mean nothing."""


def constants(backend: str | None, device: str = "cpu") -> Constants:
    """The rates to plan with: measured on this machine where there are any, else those of the backend.

    A device of which nothing is known counts as a graphics processor, or else as what is known; both are marked as guessed.
    """
    measured = _measured(str(cache_file() or ""), _stamp()).get(f"{facts(backend).name}-{device}")
    return shipped(backend, device) if measured is None else measured


def shipped(backend: str | None, device: str = "cpu") -> Constants:
    """The rates that come with a backend."""
    known = facts(backend).rates
    found = known.get(device)
    return replace(known.get("cuda") or known.get("cpu") or UNKNOWN, source="guessed") if found is None else found


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
    """The installed version of the backend's framework; empty where it is not installed, or the backend is unknown."""
    try:
        return metadata.version(facts(backend).distribution)
    except (metadata.PackageNotFoundError, BackendError):
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
