"""Pictures for ``docs/performance.md``, from the committed results; small PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from asv_benchmarks.benchmarks.cases import QUICK, case
from asv_benchmarks.benchmarks.scaling import AXES, DIMENSIONS, published
from asv_benchmarks.history import Commit, Machine

FOLDER = Path(__file__).parent.parent / "docs" / "plots"
_BLUE, _RED, _GREY, _GREEN, _ORANGE = "#1f5fa8", "#b8322a", "#808080", "#2f7d4f", "#c77d1e"
_NAMES = {"auto": "opdsl", "nested_ad": "nested AD"}
_COLOURS = {"auto": _BLUE, "nested_ad": _RED}
_TITLES = {
    "order": ("$d^n u/dx^n$, width 24, 256 points", "order $n$"),
    "dimension": ("$\\Delta u$, width 128, 256 points", "dimension $d$"),
    "points": ("$\\Delta u$ in 10-D, width 128", "number of points"),
}
_STYLE = {
    "font.size": 8, "axes.titlesize": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "lines.linewidth": 1.4, "lines.markersize": 3.5, "legend.frameon": False,
    "figure.constrained_layout.use": True,
}  # fmt: skip


def _save(figure: Any, name: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    # No software version in the file: it would change without a change of the picture.
    figure.savefig(path, dpi=100, metadata={"Software": None}, pil_kwargs={"optimize": True})
    plt.close(figure)
    return path


def _figure(columns: int, height: float = 2.7) -> tuple[Any, Sequence[Any]]:
    figure, axes = plt.subplots(1, columns, figsize=(3.4 * columns, height), squeeze=False, sharey=True)
    return figure, axes[0]


def _plain_numbers(panel: Any) -> None:
    """1, 2, 5, 10, 20, … along a logarithmic axis: a range of less than a decade keeps its numbers."""
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def scaling(commit: Commit, axis: str, targets: Sequence[str], folder: Path) -> Path | None:
    """Cost in plain passes against order, dimension or number of points; a panel for every target that has results."""
    first = f"{axis}={AXES[axis][0]}"
    present = [t for t in targets if any(k[0] == "scaling.Scaling.track_plain_passes" and k[1:3] == (t, first) for k in commit.values)]
    if not present:
        return None
    with plt.rc_context(_STYLE):
        figure, panels = _figure(len(present))
        for panel, target in zip(panels, present, strict=True):
            for method in ("auto", "nested_ad"):
                for goal, dash in (("evaluation", "-"), ("training", "--")):
                    line = [(n, _cost(commit, target, axis, n, method, goal)) for n in AXES[axis]]
                    known = [(n, y) for n, y in line if y is not None]
                    if known:
                        label = f"{_NAMES[method]}, {goal}"
                        panel.plot(*zip(*known, strict=True), dash, marker="o", color=_COLOURS[method], label=label)
            floor = [case(f"{axis}={n}").channels for n in AXES[axis]]
            panel.plot(AXES[axis], floor, ":", color=_GREY, label="channels (floor)")
            title, label = _TITLES[axis]
            panel.set(title=f"{target}: {title}", xlabel=label, yscale="log")
            _plain_numbers(panel)
            if axis != "order":
                panel.set_xscale("log")
            panel.set_xticks(AXES[axis], [str(n) for n in AXES[axis]])
            panel.xaxis.set_minor_locator(NullLocator())
        panels[0].set_ylabel("time, in plain passes")
        panels[0].legend(fontsize=7)
        return _save(figure, f"cost_{axis}", folder)


def _cost(commit: Commit, target: str, axis: str, n: int, method: str, goal: str) -> float | None:
    return commit.get("scaling.Scaling.track_plain_passes", target, f"{axis}={n}", method, goal)


def channels(commit: Commit, folder: Path) -> Path | None:
    """Arrays carried by the derivative space and by published methods, biharmonic operator."""
    ours = [(d, commit.get("scaling.Channels.track_carried", "biharmonic", d)) for d in DIMENSIONS]
    if any(y is None for _, y in ours):
        return None
    with plt.rc_context(_STYLE):
        figure, (panel,) = _figure(1, 3.0)
        colours = {"Taylor mode": _GREY, "collapsed Taylor mode": _RED, "forward Laplacian": _ORANGE}
        names = {"forward Laplacian": "nested forward Laplacian"}
        lines = [(names.get(m, m), [published("biharmonic", d)[m] for d in DIMENSIONS], c) for m, c in colours.items()]
        lines.append(("opdsl, derivative space", [y for _, y in ours], _BLUE))  # type: ignore[misc]
        for name, values, colour in lines:
            panel.plot(DIMENSIONS, values, "-o", color=colour, label=name)
        for d, y in ours:
            panel.annotate(f"{y:.0f}", (d, y), textcoords="offset points", xytext=(0, -11), ha="center", color=_BLUE, fontsize=7)
        panel.set(title="biharmonic operator", xlabel="dimension $d$", ylabel="arrays carried through the network", yscale="log",
                  xscale="log")  # fmt: skip
        panel.set_xticks(DIMENSIONS, [str(d) for d in DIMENSIONS])
        panel.xaxis.set_minor_locator(NullLocator())
        _plain_numbers(panel)
        panel.set_ylim(bottom=5)
        panel.legend(fontsize=7)
        return _save(figure, "channels", folder)


def commits(machine: Machine, targets: Sequence[str], folder: Path) -> Path | None:
    """Ratios to the floor over commits, of targets that were measured at most of them."""
    benchmark = "followed.Followed.track_floors"
    with_any = [c for c in machine.commits if any(k[0] == benchmark for k in c.values)]
    often = {t: sum(any(k[:2] == (benchmark, t) for k in c.values) for c in with_any) for t in targets}
    present = [t for t in targets if often[t] > len(with_any) / 2]
    if len(with_any) < 2 or not present:
        return None
    with plt.rc_context(_STYLE):
        figure, panels = _figure(len(present), 3.0)
        for panel, target in zip(panels, present, strict=True):
            for name, colour in zip(QUICK, (_GREEN, _BLUE, _RED, _ORANGE), strict=True):
                for goal, dash in (("evaluation", "-"), ("training", "--")):
                    line = [(k, c.get(benchmark, target, name, goal)) for k, c in enumerate(with_any)]
                    known = [(k, y) for k, y in line if y is not None]
                    if known:
                        panel.plot(*zip(*known, strict=True), dash, marker=".", color=colour, label=f"{name}, {goal}")
            panel.axhline(1.0, color=_GREY, linewidth=0.8, linestyle=":")
            panel.set(title=f"{target}: time / floor, over commits")
            panel.set_xticks(range(len(with_any)), [c.short for c in with_any], rotation=60, ha="right", fontsize=6)
        panels[0].set_ylim(0, 1.05 * max(y for panel in panels for line in panel.lines for y in line.get_ydata()))
        panels[-1].legend(fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.set_size_inches(3.4 * len(present) + 1.8, 3.0)
        return _save(figure, f"commits_{machine.name}", folder)
