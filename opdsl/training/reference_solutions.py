"""Known solutions to compare with: formulas of the problem file, and named methods computed by quadrature."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from opdsl.training.formulas import formula_values
from opdsl.training.problem import Problem

Array = npt.NDArray[np.float64]


def reference_values(problem: Problem, points: Array) -> Array | None:
    """Return the known solution at points, (n, d) → (n, m), or None where there is none."""
    reference = problem.reference
    if not reference.active:
        return None
    if reference.method == "cole_hopf":
        t, x = (points[:, problem.columns.index(name)] for name in "tx")
        return cole_hopf(t, x, problem.exact_constants["nu"])[:, None]
    return np.stack([formula_values(problem, reference.formulas[name], points) for name in problem.fields], axis=-1)


def cole_hopf(t: Array, x: Array, nu: float, *, nodes_per_width: int = 40) -> Array:
    r"""Solution of u_t + u u_x = ν u_xx on the line with u(0, x) = -sin(πx), which is 2-periodic and zero at x = ±1.

    u = -∫ sin(π(x-η)) f(x-η) e^{-η²/4νt} dη / ∫ f(x-η) e^{-η²/4νt} dη,    f(y) = exp(-cos(πy) / 2πν).

    The trapezium rule converges exponentially here: the integrands are entire and decay like a Gaussian. Exponents are
    shifted by their maximum, so that small ν neither overflows nor underflows.

    Args:
        t: times ≥ 0, (n,).
        x: places, (n,).
        nu: viscosity > 0.
        nodes_per_width: quadrature nodes per unit of η / 2√(νt).

    Reference: Basdevant et al., Computers & Fluids 14 (1986) 23–41.

    Example:
        >>> u = cole_hopf(np.array([0.0, 0.5]), np.array([0.5, 1.0]), 0.01)
        >>> bool(abs(u[0] + 1) < 1e-12 and abs(u[1]) < 1e-12)
        True
    """
    reach = np.sqrt(1.0 / (np.pi * nu)) + 7.0  # beyond this the Gaussian is below the other factor's whole range
    s = np.linspace(-reach, reach, 2 * int(np.ceil(reach * nodes_per_width)) + 1)
    u = np.empty_like(x)
    for start in range(0, len(x), 2048):
        part = slice(start, start + 2048)
        y = x[part, None] - 2.0 * np.sqrt(nu * t[part, None]) * s
        exponent = -np.cos(np.pi * y) / (2.0 * np.pi * nu) - s**2
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        u[part] = -(np.sin(np.pi * y) * weight).sum(axis=1) / weight.sum(axis=1)
    return u
