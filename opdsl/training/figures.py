"""Pictures of a solution: prediction, reference and error of every field; losses over the steps, errors over the seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from opdsl.training.solution import Solution

Array = npt.NDArray[np.float64]


def draw(
    path: Path,
    solution: Solution,
    points: Array,
    shape: tuple[int, ...],
    predicted: Array,
    exact: Array | None,
    held: Mapping[str, float],
) -> None:
    """Write a PNG: one row per field (prediction, reference, error), one row with losses and errors.

    Args:
        path: of the picture.
        solution: what was reached.
        points: (n, d), a grid of ``shape``: a line, a plane, or a plane through a larger box.
        shape: of the grid, one or two numbers.
        predicted: fields at the points, (n, m).
        exact: the reference at the points, (n, m), or None.
        held: coordinates that are the same at all points, with their values.
    """
    # Figure itself instead of pyplot: no global state and no window system.
    from matplotlib.figure import Figure

    problem = solution.problem
    rows = len(problem.fields)
    figure = Figure(figsize=(13.0, 3.6 * rows + 3.4), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[rows, 0.9])
    top, bottom = parts
    panels = top.subplots(rows, 1 if exact is None else 3, squeeze=False)
    shown = [k for k, name in enumerate(problem.columns) if name not in held]
    for k, name in enumerate(problem.fields):
        reference = None if exact is None else exact[:, k]
        if len(shape) == 1:
            _lines(panels[k], points[:, shown[0]], problem.columns[shown[0]], name, predicted[:, k], reference)
        else:
            axes_names = (problem.columns[shown[0]], problem.columns[shown[1]])
            grid = [points[:, c].reshape(shape) for c in shown[:2]]
            _images(top, panels[k], grid, axes_names, name, predicted[:, k].reshape(shape), reference)
    where = ", ".join(f"{n}={v:g}" for n, v in list(held.items())[:4]) + (", …" if len(held) > 4 else "")
    errors = ", ".join(f"relative L2 error of {n}: {100 * e:.3g} %" for n, e in solution.errors.items())
    unfinished = "" if solution.status == "finished" else f"{solution.status} after {solution.step} of {problem.steps} steps"
    top.suptitle(" · ".join(part for part in (problem.title, unfinished, errors, f"at {where}" if where else "") if part))
    panel, timed = bottom.subplots(1, 2)
    _losses(panel, solution)
    _errors(timed, solution)
    figure.savefig(path, dpi=110)


def _lines(panels: Any, x: Array, axis: str, name: str, predicted: Array, exact: Array | None) -> None:
    panels[0].plot(x, predicted, label="prediction")
    panels[0].set(title=f"{name}, prediction", xlabel=axis)
    if exact is None:
        return
    panels[0].plot(x, exact, color="black", linestyle=":", label="reference")
    panels[0].legend(fontsize=8)
    panels[1].plot(x, exact, color="black")
    panels[1].set(title=f"{name}, reference", xlabel=axis)
    panels[2].semilogy(x, np.maximum(np.abs(predicted - exact), 1e-17), color="tab:red")
    panels[2].set(title="absolute error", xlabel=axis)


def _images(
    figure: Figure | Any,
    panels: Any,
    grid: list[Array],
    axes_names: tuple[str, str],
    name: str,
    predicted: Array,
    exact: Array | None,
) -> None:
    reference = None if exact is None else exact.reshape(predicted.shape)
    both = predicted if reference is None else np.stack([predicted, reference])
    low, high = float(np.nanmin(both)), float(np.nanmax(both))
    kinds: list[tuple[str, Array, dict[str, Any]]] = [("prediction", predicted, {"vmin": low, "vmax": high})]
    if reference is not None:
        kinds.append(("reference", reference, {"vmin": low, "vmax": high}))
        kinds.append(("absolute error", np.abs(predicted - reference), {"cmap": "magma"}))
    for panel, (title, values, options) in zip(panels, kinds, strict=True):
        mesh = panel.pcolormesh(grid[0], grid[1], values, shading="gouraud", rasterized=True, **options)
        panel.set(title=f"{name}, {title}", xlabel=axes_names[0], ylabel=axes_names[1])
        figure.colorbar(mesh, ax=panel)


def _losses(panel: Axes, solution: Solution) -> None:
    history = solution.history
    for name, values in history["losses"].items():
        if values:
            panel.semilogy(history["step"], np.maximum(values, 1e-30), label=name)
    _phases(panel, [(phase["step"], phase["name"]) for phase in history["phases"]])
    panel.set(xlabel="step", ylabel="mean squared residual")
    if history["step"]:
        panel.legend(fontsize=8)


def _errors(panel: Axes, solution: Solution) -> None:
    """Errors against seconds, or the losses where there is nothing to compare with; quantiles of the residual in the title."""
    history = solution.history
    known = history["errors"]
    for name, values in (known or history["losses"]).items():
        if values:
            panel.semilogy(history["seconds"], np.maximum(values, 1e-30), label=name)
    _phases(panel, [(phase["seconds"], phase["name"]) for phase in history["phases"]])
    panel.set(xlabel="seconds", ylabel="relative L2 error" if known else "mean squared residual")
    quantiles = solution.metrics.get("residual_quantiles", {})
    text = "  ".join(f"{name} {value:.1e}" for name, value in quantiles.items())
    panel.set_title(f"|residual| below: {text}" if text else "", fontsize=8, pad=14)
    if history["step"]:
        panel.legend(fontsize=8)


def _phases(panel: Axes, phases: list[tuple[float, str]]) -> None:
    """Mark where each phase begins; phases of one optimiser in a row are named once."""
    before = ""
    for place, name in phases:
        panel.axvline(place, color="grey", linewidth=0.8, linestyle=":")
        if name != before:
            panel.annotate(name, (place, 1.0), xycoords=("data", "axes fraction"), fontsize=8, va="bottom")
        before = name
