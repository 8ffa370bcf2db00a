"""Measure every candidate of every cell: ``python measure.py BACKEND [PASSES]``.

One process per framework, one thread, processor time (the machine may be shared), candidates timed in turns, medians. Every
pass measures all cells afresh; the least median of a candidate over the passes is kept, for disturbances only ever add. Cells
that have had their passes are skipped, so an interrupted run goes on. Candidates predicted to take more than eight
times the least are left out; they are not the fastest.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from pathlib import Path
from time import process_time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
# Rates of this machine must not steer what is measured.
os.environ["OPDSL_CACHE_DIR"] = ""

sys.path.insert(0, str(Path(__file__).parent))
# As in the benchmarks: otherwise every large array of NumPy pays for its pages anew, and the smaller ones of another method do not.
if sys.platform == "linux":
    ctypes.CDLL(None).mallopt(-3, 32 << 20)
    ctypes.CDLL(None).mallopt(-1, 1 << 30)

from cases import Case, cases

from opdsl.backends import get
from opdsl.evaluation.api import operator
from opdsl.evaluation.options import Options
from opdsl.evaluation.tuning import measure
from opdsl.pricing.rates import framework_version

HERE = Path(__file__).parent


def measured(case: Case, budget: float = 4.0) -> dict[str, dict[str, float]]:
    """Seconds by candidate."""
    op = operator(case.text, coords=case.coords, params=case.params or None, backend=case.backend)
    d = len(op.residual().coords)
    sizes = (d, case.width, case.width, case.width, case.outputs)
    u, x, given = get(case.backend).example(sizes, case.points, {"a": d} if case.params else {})
    timings, _ = measure(op._session, u, x, Options(training=case.training), given, budget, hopeless=8.0, clock=process_time)
    return {name: {"seconds": t.seconds, "first": t.first} for (_, name), t in timings.items()}


def merged(old: dict[str, dict[str, float]], new: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The lesser times."""
    both = {}
    for name in {**old, **new}:
        found = [r[name] for r in (old, new) if name in r]
        both[name] = {key: min(f[key] for f in found) for key in ("seconds", "first")}
    return both


def main(backend: str, passes: int) -> None:
    """Fill the results file."""
    path = HERE / f"measured_{backend}.json"
    results = json.loads(path.read_text()) if path.exists() else {"about": {}, "passes": {}, "cells": {}}
    if backend == "torch":
        import torch

        torch.set_num_threads(1)
    results["about"] = {
        "framework": f"{backend} {framework_version(backend)}",
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, one thread, processor time",
        "dtype": "float32",
    }
    for number in range(1, passes + 1):
        for case in cases(backend):
            if results["passes"].get(case.key, 0) >= number:
                continue
            found = merged(results["cells"].get(case.key, {}), measured(case))
            results["cells"][case.key], results["passes"][case.key] = found, number
            print(case.key, {k: f"{1e3 * v['seconds']:.3f} ms" for k, v in found.items()}, flush=True)
            path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1)
