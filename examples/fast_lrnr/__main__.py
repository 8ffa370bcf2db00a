"""`python -m examples.fast_lrnr [--quick] [--out DIR]`: train, adapt, compare, measure; writes results.json, results.md and pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax

from examples.fast_lrnr.cases import CASES, SIZES

jax.config.update("jax_enable_x64", True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.fast_lrnr", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny networks, for a check that everything runs")
    parser.add_argument("--size", choices=[s for s in SIZES if s != "quick"], default="cpu", help="'paper' needs a GPU, or days")
    parser.add_argument("--only", choices=list(CASES), action="append", help="one family (may be repeated); others stay")
    parser.add_argument("--out", type=Path, default=Path("runs/fast_lrnr"), help="folder of results; finished meta phases are reused")
    parser.add_argument("--part", choices=["errors", "times"], help="only one half of the results; the other half stays")
    given = parser.parse_args()
    from examples.fast_lrnr.pictures import draw
    from examples.fast_lrnr.run import everything
    from examples.fast_lrnr.table import write
    from examples.fast_lrnr.timing import measured

    name = "quick" if given.quick else given.size
    path = given.out / "results.json"
    results = {"size": name, "cases": {}} | (json.loads(path.read_text()) if path.is_file() else {})
    if results["size"] != name:
        parser.error(f"{path} holds results of size {results['size']}: give another --out")
    if given.part != "times":
        results["cases"] |= everything(name, given.out, tuple(given.only or CASES))
    if given.part != "errors":
        results["step"] = measured(width=200, rank=20) if given.quick else measured(width=4000, rank=100)
    given.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results))
    if results["cases"]:
        draw(given.out)
    write(given.out)
    print((given.out / "results.md").read_text("utf-8"))


if __name__ == "__main__":
    main()
