"""Pictures, from results.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "meta": "before (hypernetwork)", "fast": "fast phase, 5 rows (Adam)", "fast_40": "fast phase, 40 rows (Adam)",
    "newton": "second order, 5 rows", "newton_40": "second order, 40 rows",
    "newton_full": "second order, full network",
}  # fmt: skip


def draw(out: Path) -> None:
    """solution.png, errors.png, coefficients.png and points.png beside ``results.json``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    cases = results["cases"]
    for name, picture in (("solution", _solutions), ("errors", _errors), ("coefficients", _coefficients), ("points", _points)):
        figure = picture(plt, cases)
        figure.savefig(out / f"{name}.png", dpi=75 if name == "solution" else 90)
        plt.close(figure)


def _title(name: str) -> str:
    return name.replace("_", " ")


def _solutions(plt: Any, cases: Any) -> Any:
    figure, axes = plt.subplots(len(cases), 4, figsize=(13, 2.9 * len(cases)), layout="constrained", squeeze=False)
    for row, (name, case) in zip(axes, cases.items(), strict=True):
        example = case["example"]
        t, x, exact = (np.array(example[k]) for k in ("t", "x", "exact"))
        shown = [("solution", exact, {"cmap": "viridis"})]
        off = {way: np.abs(np.array(u) - exact) for way, u in example["networks"].items()}
        top = max(float(e.max()) for e in off.values())
        shown += [(f"error, {NAMES[way]}", e, {"cmap": "magma", "vmin": 0.0, "vmax": top}) for way, e in off.items()]
        for axis, (title, values, options) in zip(row, shown, strict=True):
            mesh = axis.pcolormesh(x, t, values, shading="gouraud", **options)
            axis.set_title(title, fontsize=9)
            axis.set_xlabel("x")
            if axis is row[0] or axis is row[-1]:
                figure.colorbar(mesh, ax=axis)
        given = ", ".join(f"{k} = {v:.3g}" for k, v in example["parameters"].items())
        row[0].set_ylabel(f"{_title(name)}\n{given}\nt", fontsize=9)
    return figure


def _errors(plt: Any, cases: Any) -> Any:
    figure, axes = plt.subplots(1, len(cases), figsize=(4.6 * len(cases), 4.2), layout="constrained", squeeze=False, sharey=True)
    for axis, (name, case) in zip(axes[0], cases.items(), strict=True):
        ways = [way for way in NAMES if way in case["errors"]]
        for k, way in enumerate(ways):
            values = np.array(case["errors"][way])
            axis.scatter(np.full(len(values), k), values, s=9, alpha=0.5, color=f"C{k}")
            axis.hlines(values.mean(), k - 0.3, k + 0.3, color=f"C{k}")
        axis.set_yscale("log")
        axis.set_xticks(range(len(ways)), [NAMES[w] for w in ways], rotation=35, ha="right", fontsize=8)
        axis.set_title(_title(name), fontsize=10)
        axis.grid(axis="y", which="both", alpha=0.2)
    axes[0][0].set_ylabel("relative error at the last step\n(points: test parameters, line: mean)")
    return figure


def _coefficients(plt: Any, cases: Any) -> Any:
    figure, axes = plt.subplots(1, len(cases), figsize=(4.2 * len(cases), 3.4), layout="constrained", squeeze=False, sharey=True)
    for axis, (name, case) in zip(axes[0], cases.items(), strict=True):
        for k, s in enumerate(case["example"]["coefficients"]):
            sizes = np.abs(np.array(s)) / max(np.abs(s))
            axis.semilogy(np.arange(1, len(s) + 1), np.where(sizes > 0, sizes, np.nan), "o-", ms=3, label=f"layer {k + 1}")
        axis.set_title(f"{_title(name)}: {case['rank']} columns, {', '.join(map(str, case['ranks']))} kept", fontsize=9)
        axis.set_xlabel("column")
        axis.grid(alpha=0.2)
    axes[0][0].set_ylabel("s / largest s (gaps: exactly zero)")
    axes[0][0].legend(fontsize=8)
    return figure


def _points(plt: Any, cases: Any) -> Any:
    figure, axes = plt.subplots(2, len(cases), figsize=(4.2 * len(cases), 6.6), layout="constrained", squeeze=False)
    for column, (name, case) in zip(axes.T, cases.items(), strict=True):
        example = case["example"]
        places, sampling = np.array(example["places"]), np.array(example["sampling"])
        column[0].plot(places[:, 1], places[:, 0], "o", mfc="none", label="places of conditions")
        column[0].plot(sampling[:, 1], sampling[:, 0], "k.", label="12 sampling points")
        column[0].set(title=_title(name), xlabel="x", ylabel="t", ylim=(-0.05, 1.2))
        column[0].legend(fontsize=8, loc="upper right")
        for k, (sigma, rows) in enumerate(
            zip(example["reduction"]["singular_values"], example["reduction"]["rows"], strict=True)
        ):
            column[1].semilogy(np.arange(1, len(sigma) + 1), np.maximum(sigma, 1e-17), color=f"C{k}", label=f"state {k + 1}: rows {rows}")
        column[1].axvline(5, color="grey", lw=0.8)
        column[1].set(xlabel="singular value of the snapshots", ylabel="size / largest", xlim=(0, 60), ylim=(1e-9, 2))
        column[1].legend(fontsize=7, title="interpolation points (neurons)", title_fontsize=7)
    return figure
