"""One family: meta phase, then every test parameter adapted in several ways, with errors against the reference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from examples.fast_lrnr.cases import CASES, SIZES, Case, Size
from examples.fast_lrnr.reference import solution
from opdsl.errors import ProblemError
from opdsl.lowrank import LRNR, adaptation, meta, reduce
from opdsl.lowrank.family import Floats
from opdsl.lowrank.meta import MetaModel
from opdsl.training.progress import bars

TIMES = np.linspace(0.0, 1.0, 33)
DROPPED = 1e-3
"""Columns whose coefficients are nowhere above this part of the largest one are dropped after the meta phase."""
NEIGHBOURS = 0.02
"""How far the parameters go whose hidden states are sampled, as a part of their ranges."""
SAMPLING, DENSE = (3, 4), (8, 16)
"""Grids of middles of cells: the published 12 points, and those of second-order steps through the full network."""

Way = Callable[[Any, LRNR, LRNR, Mapping[str, float]], LRNR]


def trained(case: Case, name: str, size: Size, out: Path, quiet: bool) -> tuple[MetaModel, float]:
    """The model after the meta phase, from its checkpoint where one of a finished phase is there, and the seconds it took."""
    family, steps, kept = case.family(name), case.steps[name], out / f"{case.name}.safetensors"
    if kept.is_file() and json.loads(kept.with_suffix(".json").read_text()).get("step") == steps:
        try:
            found = MetaModel.load(kept)
        except ProblemError:
            found = None
        if found is not None and found.family.text == family.text and found.factors.widths[0] == size.width:
            return found, float("nan")
    start = process_time()
    with bars((*family.names, "decay", "orthogonality"), quiet=quiet) as progress:
        model = meta.train(
            meta.initial(family, width=size.width, rank=size.rank), steps=steps, rate=size.rate, weights=case.weights,
            parameters=size.parameters, points=size.points, progress=progress, keep=kept,
        )  # fmt: skip
    return model, process_time() - start


def errors_of(net: LRNR, x: Floats, exact: Floats) -> float:
    """Relative error in the mean square over the reference's grid."""
    points = np.stack(np.meshgrid(TIMES, x, indexing="ij"), axis=-1).reshape(-1, 2)
    found = net.numpy()(points)[:, 0].reshape(exact.shape)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def neighbours(model: MetaModel, row: Floats) -> list[Any]:
    """Coefficients at the parameters, and a little to each side of them inside the ranges."""
    low, high = np.array(list(model.family.ranges.values())).T
    rows = [row]
    for k in range(len(row)):
        for side in (-1.0, 1.0):
            moved = row.copy()
            moved[k] += side * NEIGHBOURS * (high - low)[k]
            rows.append(np.clip(moved, low, high))
    return [model.coefficients(r) for r in rows]


def run(case: Case, name: str, out: Path, quiet: bool = False) -> dict[str, Any]:
    """Everything that is told of one family; plain data."""
    size = SIZES[name]
    whole, seconds = trained(case, name, size, out, quiet)
    family, tests = whole.family, case.tests(size.tests)
    model = whole.truncated(np.concatenate([tests, family.draw(200, np.random.default_rng(1))]), DROPPED)
    order = 1 if case.name == "convection" else 2
    sampling, dense = family.grid(SAMPLING, faces=False), family.grid(DENSE, faces=False)
    places = family.places(sampling)
    errors: dict[str, list[float]] = {}
    spent: dict[str, list[float]] = {}
    residuals: dict[str, list[float]] = {}
    reductions: list[dict[str, Any]] = []
    example: dict[str, Any] = {}
    for number, row in enumerate(tests):
        given = dict(zip(family.parameters, (float(v) for v in row), strict=True))
        x, exact = solution(case.name, given, TIMES)
        net = model.at(**given)
        kept = {"meta": net}
        sets = [tuple(type(net).array(s, "float64", False) for s in found) for found in neighbours(model, row)]
        for rank in (5,) if name == "quick" else (5, 40):
            suffix = "" if rank == 5 else f"_{rank}"
            both = net.with_reduced(reduce(net, places, rank=rank, coefficients=sets, order=order))
            assert both.reduced is not None
            told = both.reduced.reduction
            assert told is not None
            reductions.append({"rank": rank, "errors": told.errors, "constants": told.constants, "lost": told.lost})
            errors.setdefault(f"reduced{suffix}", []).append(errors_of(both.reduced, x, exact))
            for way, adapt in (("fast", adaptation.adam), ("newton", adaptation.newton)):
                steps = {"steps": size.fast} if way == "fast" else {}
                start = process_time()
                done = adapt(family, both, sampling, given, **steps)
                spent.setdefault(f"{way}{suffix}", []).append(process_time() - start)
                kept[f"{way}{suffix}"] = done.net
                residuals.setdefault(f"{way}{suffix}", []).append(sum(done.losses[1].values()) / sum(done.losses[0].values()))
            if rank == 5 and number == len(tests) // 2:
                example["reduction"] = {"singular_values": told.singular_values, "rows": told.rows}
        start = process_time()
        kept["newton_full"] = adaptation.newton(family, net, dense, given, full=True, locality=0.1).net
        spent.setdefault("newton_full", []).append(process_time() - start)
        for way, found in kept.items():
            errors.setdefault(way, []).append(errors_of(found, x, exact))
        if number == len(tests) // 2:
            points = np.stack(np.meshgrid(TIMES[::2], x[::4], indexing="ij"), axis=-1).reshape(-1, 2)
            example |= {
                "parameters": given, "t": TIMES[::2].tolist(), "x": x[::4].tolist(), "exact": _plain(exact[::2, ::4]),
                "networks": {w: _plain(kept[w].numpy()(points)[:, 0].reshape(17, -1)) for w in ("meta", "fast", "newton_full")},
                "coefficients": [_plain(s) for s in whole.coefficients(row)],
                "sampling": _plain(sampling), "places": _plain(places),
            }  # fmt: skip
    return {
        "text": case.text, "ranges": dict(family.ranges), "parameters": list(family.parameters), "tests": _plain(tests),
        "width": size.width, "rank": size.rank, "ranks": list(model.factors.ranks), "steps": case.steps[name],
        "meta_seconds": None if np.isnan(seconds) else seconds, "errors": errors, "residual_ratio": residuals,
        "summary": {way: {"mean": float(np.mean(v)), "worst": float(np.max(v))} for way, v in errors.items()},
        "seconds": {way: float(np.median(v)) for way, v in spent.items()}, "reductions": reductions, "example": example,
    }  # fmt: skip


def _plain(a: Any) -> Any:
    return np.round(np.asarray(a, dtype=np.float64), 6).tolist()


def everything(name: str, out: Path, chosen: tuple[str, ...] = tuple(CASES), quiet: bool = False) -> dict[str, Any]:
    """All families."""
    out.mkdir(parents=True, exist_ok=True)
    return {case: run(CASES[case], name, out, quiet) for case in chosen}
