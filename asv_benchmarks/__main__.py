"""Run the benchmarks, without network; one command each.

    python -m asv_benchmarks quick                 the followed benchmarks, on what is installed, nothing kept
    python -m asv_benchmarks compare main HEAD     two commits, side by side; exit status 1 where HEAD is slower
    python -m asv_benchmarks record v1..HEAD       keep results of commits under asv_benchmarks/results
    python -m asv_benchmarks publish               HTML with graphs across commits, in asv_benchmarks/html

On a machine with a GPU add ``--device cuda`` to any of them. ``--all`` takes every benchmark rather than the followed ones.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

FOLLOWED = (r"counts\.Plan\.", r"followed\.Followed\.\w+\('(jax|torch|numpy):{device}'")
"""Deterministic counts and paired ratios: what means something on a machine that is also used otherwise."""


def machine(device: str) -> str:
    """A name that says what the machine is and not whose: ``2-core-x86_64``, or that of its GPU before it."""
    own = f"{os.cpu_count()}-core-{platform.machine()}"
    if device != "cuda":
        return own
    names = ""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    if not names:
        sys.exit("jax:cuda and torch:cuda skipped: no CUDA device (nvidia-smi finds none)")
    return f"{names.splitlines()[0].strip().replace(' ', '-')}-{own}"


def describe(name: str) -> None:
    """Tell asv about the machine, so that it neither asks nor writes the name of the host."""
    from asv.machine import MachineCollection
    from asv.util import get_cpu_info

    facts = {"machine": name, "os": platform.system(), "arch": platform.machine(), "cpu": get_cpu_info(), "num_cpu": str(os.cpu_count())}
    MachineCollection.save(name, {**facts, "ram": ""})


def asv(*arguments: str) -> int:
    """Run asv on the configuration beside this file, without the rows of its tables that have no number."""
    command = [sys.executable, "-m", "asv", "--config", str(HERE / "asv.conf.json"), *arguments]
    print(" ".join(command), flush=True)
    # Set here too: asv may load NumPy before the benchmarks, which set them for themselves, are imported.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**threads, **os.environ}) as running:
        for line in running.stdout or ():
            if not line.rstrip().endswith(" n/a"):
                print(line, end="", flush=True)
    return running.returncode


def chosen(given: argparse.Namespace) -> list[str]:
    """The options of asv that choose benchmarks."""
    patterns = given.bench or ([] if given.all else [p.format(device=given.device) for p in FOLLOWED])
    return [part for pattern in patterns for part in ("--bench", pattern)]


def measured(name: str, commit: str) -> bool:
    """Whether any number is kept for a commit: asv reports success where nothing could be built, too."""
    full = subprocess.run(["git", "rev-parse", commit], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    for path in (HERE / "results" / name).glob(f"{full[:8]}-*.json"):
        results = json.loads(path.read_text())["results"].values()
        if any(isinstance(value, int | float) and value == value for found in results for value in (found or [None])[0] or ()):
            return True
    return False


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m asv_benchmarks", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("command", choices=("quick", "compare", "record", "publish"))
    parser.add_argument("commits", nargs="*", help="compare: BASE HEAD; record: a range of git, by default HEAD alone")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--machine", help="name to keep results under; by default made of its cores and its GPU")
    parser.add_argument("--bench", action="append", help="regular expression of benchmarks; may be given again")
    parser.add_argument("--all", action="store_true", help="every benchmark; takes an hour or more")
    parser.add_argument("--factor", type=float, default=1.3, help="compare: what counts as a change (default: %(default)g)")
    given = parser.parse_intermixed_args()
    if given.command == "publish":
        return asv("publish", "--no-pull")
    name = given.machine or machine(given.device)
    describe(name)
    options = ["--machine", name, "--show-stderr", *chosen(given)]
    if given.command == "quick":
        return asv("run", "-E", f"existing:{sys.executable}", *options)
    if given.command == "record":
        return asv("run", "--no-pull", "--skip-existing-successful", *options, *(given.commits or ["HEAD^!"]))
    base, head = (given.commits + ["HEAD~1", "HEAD"][len(given.commits) :])[:2]
    status = asv("continuous", "--factor", str(given.factor), "--split", *options, base, head)
    empty = [c for c in (base, head) if not measured(name, c)]
    if empty:
        print(f"nothing was measured for {', '.join(empty)}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
