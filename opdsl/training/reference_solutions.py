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
    if reference.method == "self_similar_burgers":
        return self_similar_burgers(points[:, 0], problem.exact_constants["lam"])[:, None]
    return np.stack([formula_values(problem, reference.formulas[name], points) for name in problem.fields], axis=-1)


def relative_errors(fields: tuple[str, ...], predicted: Array, exact: Array) -> dict[str, float]:
    """Return ‖u - v‖₂ / ‖v‖₂ of every field; the absolute error where the reference vanishes."""
    out = {}
    for k, name in enumerate(fields):
        scale = float(np.linalg.norm(exact[:, k]))
        out[name] = float(np.linalg.norm(predicted[:, k] - exact[:, k])) / (scale or 1.0)
    return out


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


def self_similar_burgers(x: Array, lam: float) -> Array:
    r"""Self-similar profile of the inviscid Burgers equation near its shock: X = -U - U |U|^{1/λ}, so that U(∓2) = ±1.

    -λ U + ((1 + λ) X + U) U' = 0; smooth for λ = 1/(2k), k = 1, 2, …

    Args:
        x: places X, (n,).
        lam: λ > 0.

    Reference: Chickering, arXiv:2412.09752, eqs. 15–17.

    Example:
        >>> self_similar_burgers(np.array([-2.0, 0.0, 2.0]), 0.25)
        array([ 1., -0., -1.])
    """
    size, low, high = np.abs(x), np.zeros_like(x), np.abs(x)
    for _ in range(60):  # v + v^(1 + 1/λ) = |X| has one root in [0, |X|]
        middle = 0.5 * (low + high)
        above = middle + middle ** (1.0 + 1.0 / lam) > size
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    root = 0.5 * (low + high)
    for _ in range(2):
        root = root - (root + root ** (1.0 + 1.0 / lam) - size) / (1.0 + (1.0 + 1.0 / lam) * root ** (1.0 / lam))
    return -np.sign(x) * root
