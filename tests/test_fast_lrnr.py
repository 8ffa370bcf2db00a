"""The example of low-rank families: its reference against closed forms, and its quick run."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.fast_lrnr.reference import solution

ROOT = Path(__file__).parent.parent
TIMES = np.linspace(0.0, 1.0, 5)


def cole_hopf(nu: float, t: float, x: Any) -> Any:
    """u = −2ν φ_x/φ of the heat equation with φ(0, x) = exp((cos x − 1)/2ν), summed as a Fourier series."""
    y = 2 * np.pi * np.arange(512) / 512
    k = np.arange(257)
    series = np.fft.rfft(np.exp((np.cos(y) - 1) / (2 * nu))) * np.exp(-nu * k**2 * t)
    phi, slope = np.fft.irfft(series, 512), np.fft.irfft(1j * k * series, 512)
    return np.interp(x, y, -2 * nu * slope / phi)


CLOSED = [
    ("convection", {"beta": 8.0}, lambda t, x: 1 + np.sin(x - 8 * t)),
    (
        "convection_diffusion_reaction", {"beta": 2.0, "nu": 1.5, "rho": 0.0},
        lambda t, x: 1 + np.exp(-1.5 * t) * np.sin(x - 2 * t),
    ),
    (
        "convection_diffusion_reaction", {"beta": 3.0, "nu": 0.0, "rho": 2.0},
        lambda t, x: (h := 1 + np.sin(x - 3 * t)) * np.exp(2 * t) / (1 - h + h * np.exp(2 * t)),
    ),
    ("burgers", {"nu": 0.06}, lambda t, x: cole_hopf(0.06, t, x)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parameters", "closed"), CLOSED, ids=[f"{c[0]}{k}" for k, c in enumerate(CLOSED)])
def test_the_reference_is_good_to_a_millionth(name: str, parameters: dict[str, float], closed: Any) -> None:
    x, u = solution(name, parameters, TIMES)
    for t, row in zip(TIMES, u, strict=True):
        assert row == pytest.approx(closed(t, x), abs=1e-6)


@pytest.mark.slow
def test_the_quick_run_writes_its_results_and_pictures(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.fast_lrnr", "--quick", "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["cases"]) == {"convection", "convection_diffusion_reaction", "burgers"}
    for case in results["cases"].values():
        for way in ("meta", "fast", "newton", "newton_full"):
            assert len(case["errors"][way]) == len(case["tests"]) and np.isfinite(case["errors"][way]).all()
    assert "second order, full network" in (tmp_path / "results.md").read_text("utf-8")
    assert {p.name for p in tmp_path.glob("*.png")} == {"solution.png", "errors.png", "coefficients.png", "points.png"}


@pytest.mark.slow
def test_the_notebook_of_the_gallery_runs() -> None:
    text = (ROOT / "docs/gallery/low_rank_networks.md").read_text("utf-8")
    cells = re.findall(r"```\{code-cell\} python\n(.*?)```", text, re.DOTALL)
    assert len(cells) == 5
    shown = io.StringIO()
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(shown):
        for cell in cells:
            exec(compile(cell, "low_rank_networks.md", "exec"), names)
    assert "spinprop" in shown.getvalue() and "second order" in shown.getvalue()
    assert names["error"](names["second_order"].net) < names["error"](names["net"])
