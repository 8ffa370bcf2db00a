"""Solutions good to 1e-6: Fourier series in space, SciPy's Runge–Kutta method of order 8 in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from opdsl.lowrank.family import Floats

Parameters = Mapping[str, float]


def _convection(u: Any, slope: Callable[[Any, int], Any], p: Parameters) -> Any:
    return -p["beta"] * slope(u, 1)


def _convection_diffusion_reaction(u: Any, slope: Callable[[Any, int], Any], p: Parameters) -> Any:
    return -p["beta"] * slope(u, 1) + p["nu"] * slope(u, 2) + p["rho"] * u * (1 - u)


def _burgers(u: Any, slope: Callable[[Any, int], Any], p: Parameters) -> Any:
    return -slope(0.5 * u * u, 1) + p["nu"] * slope(u, 2)


RIGHT: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "convection": (_convection, lambda x: 1 + np.sin(x)),
    "convection_diffusion_reaction": (_convection_diffusion_reaction, lambda x: 1 + np.sin(x)),
    "burgers": (_burgers, np.sin),
}
"""u_t by case, and u(0, x)."""


def solution(name: str, parameters: Parameters, times: Floats, modes: int = 128) -> tuple[Floats, Floats]:
    """x (modes,) and u (times, modes) of a case; periodic in [0, 2π)."""
    right, start = RIGHT[name]
    x = 2 * np.pi * np.arange(modes) / modes
    k = np.arange(modes // 2 + 1)
    powers = {1: 1j * k, 2: -(k.astype(float) ** 2)}
    powers[1][-1] = 0.0  # the highest mode has no sine, and so no slope

    def slope(u: Any, order: int) -> Any:
        return np.fft.irfft(powers[order] * np.fft.rfft(u), modes)

    found = solve_ivp(
        lambda _, u: right(u, slope, parameters), (0.0, float(times[-1])), start(x), method="DOP853", t_eval=times, rtol=1e-9, atol=1e-10
    )
    assert found.success, found.message
    return x, found.y.T
