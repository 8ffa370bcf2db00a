"""results.md: what results.json holds, as tables to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from examples.fast_lrnr.pictures import NAMES

_PUBLISHED = (
    "The published size (width 4000, 100 columns, 20000 steps, beta up to 20 for convection) is `--size paper`; it needs more than two "
    "processor cores."
)


def write(out: Path) -> None:
    """results.md beside ``results.json``."""
    results = json.loads((out / "results.json").read_text())
    lines = ["# Low-rank networks for families of equations", ""]
    lines += [f"Made by `python -m examples.fast_lrnr`, size `{results['size']}`. {_PUBLISHED}", ""]
    for name, case in results["cases"].items():
        lines += [*_case(name, case), ""]
    if "step" in results:
        lines += _step(results["step"])
    (out / "results.md").write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def _case(name: str, case: Any) -> list[str]:
    ranges = ", ".join(f"{p} in [{low:g}, {high:g}]" for p, (low, high) in case["ranges"].items())
    lines = [
        f"## {name.replace('_', ' ')}", "", f"`{case['text']}`", "",
        f"Width {case['width']}, {case['rank']} columns of which {', '.join(map(str, case['ranks']))} are kept; {case['steps']} steps of the "
        f"meta phase over {ranges}. Relative error (mean square over t and x) at the last step, over {len(case['tests'])} test parameters:", "",
        "| | mean | worst | seconds for one |", "|---|---|---|---|",
    ]  # fmt: skip
    for way, title in NAMES.items():
        if way in case["summary"]:
            v, spent = case["summary"][way], case["seconds"].get(way)
            lines.append(f"| {title} | {v['mean']:.2%} | {v['worst']:.2%} | {'' if spent is None else f'{spent:.2g}'} |")
    for rank in sorted({r["rank"] for r in case["reductions"]}):
        found = [r["errors"] for r in case["reductions"] if r["rank"] == rank]
        mean = [sum(e[k] for e in found) / len(found) for k in range(len(found[0]))]
        what = ("values", "first", "second derivatives")
        lines += ["", f"Reduced network with {rank} rows, relative error at the sampling points in the mean: "
                  + ", ".join(f"{w} {e:.2g}" for w, e in zip(what, mean, strict=False)) + "."]  # fmt: skip
    return lines


def _step(step: Any) -> list[str]:
    lines = [
        "## One step of the fast phase", "",
        f"Width {step['width']}, rank {step['rank']}, {step['reduced']} rows, 12 points, single precision, JAX on one core: processor time "
        "(medians, in turns in one process) and temporary memory as the compiler counts it. "
        f"Making the reduced network once takes {step['making']:.2g} s.", "",
        "| through | time | × reduced | memory |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, seconds in step["seconds"].items():
        lines.append(f"| the {name} network | {seconds * 1e3:.3g} ms | {step['ratio'][name]:.3g} | {step['bytes'][name] / 1e6:.3g} MB |")
    return lines
