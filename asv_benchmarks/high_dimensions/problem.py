r"""Two-body Allen–Cahn on the unit ball: Δu + u − u³ = g with a known solution (arXiv:2412.00088, §5.1).

u(x) = (1 − |x|²) f(x),  f(x) = Σ_i c_i sin(a_i),  a_i = x_i + cos x_{i+1} + x_{i+1} cos x_i,  c_i ~ N(0, 1) scaled to |c| = 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

EQUATION = "laplace(u) + u - u^3"
WIDTH, LAYERS, POINTS, SAMPLES = 128, 4, 100, 16


def exact(d: int) -> str:
    """The exact strategy: there is nothing to pull back where the first layer is wider than the input."""
    return "pull_back" if d > WIDTH + 1 else "forward_laplacian"


def coefficients(d: int, seed: int = 0) -> Any:
    """c, shape (d − 1,)."""
    c = np.random.default_rng([seed, d]).normal(size=d - 1)
    return c / np.linalg.norm(c)


def ball(d: int, n: int, seed: int = 1) -> Any:
    """n points r·v, r uniform in [0, 1], v uniform on the sphere: (n, d) float32."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((n, d), dtype=np.float32)
    return v * (rng.random((n, 1), dtype=np.float32) / np.linalg.norm(v, axis=1, keepdims=True))


def weights(d: int, seed: int = 2) -> list[tuple[Any, Any]]:
    """(W, b) of an MLP d → 128 → … → 128 → 1, LAYERS tanh layers, float32."""
    rng = np.random.default_rng(seed)
    sizes = [d, *[WIDTH] * LAYERS, 1]
    return [
        (rng.standard_normal((a, b), dtype=np.float32) * np.float32(a**-0.5), np.zeros(b, np.float32)) for a, b in pairwise(sizes)
    ]


def solution(xp: Any, x: Any, c: Any) -> Any:
    """u at x (n, d): (n,). ``xp`` is NumPy, jax.numpy or torch."""
    p, s = x[..., :-1], x[..., 1:]
    return (1.0 - (x * x).sum(-1)) * (c * xp.sin(p + xp.cos(s) + s * xp.cos(p))).sum(-1)


def forcing(xp: Any, x: Any, c: Any) -> Any:
    r"""g = Δu + u − u³ at x (n, d), exactly, with O(d) work: (n,).

    With q = 1 − |x|²: Δ(q f) = q Δf − 4 x·∇f − 2 d f, and, p = x_i, s = x_{i+1}, every term of f gives

        Δ sin a = cos(a) (a_pp + a_ss) − sin(a) (a_p² + a_s²),   x·∇ sin a = cos(a) (p a_p + s a_s).
    """
    p, s = x[..., :-1], x[..., 1:]
    sp, cp, ss, cs = xp.sin(p), xp.cos(p), xp.sin(s), xp.cos(s)
    a = p + cs + s * cp
    sa, ca = xp.sin(a), xp.cos(a)
    along_p, along_s = 1.0 - s * sp, cp - ss
    f = (c * sa).sum(-1)
    laplacian = (c * (sa * (along_p**2 + along_s**2) + ca * (s * cp + cs))).sum(-1)  # −Δf
    slope = (c * ca * (p * along_p + s * along_s)).sum(-1)
    q = 1.0 - (x * x).sum(-1)
    u = q * f
    return -q * laplacian - 4.0 * slope - 2.0 * x.shape[-1] * f + u - u**3


def constant_fit(x: Any, u: Any) -> float:
    """Relative L2 error of the best k (1 − |x|²): what a result has to be compared with."""
    q = 1.0 - (x.astype(np.float64) ** 2).sum(-1)
    return float(np.linalg.norm(q * (q @ u) / (q @ q) - u) / np.linalg.norm(u))
