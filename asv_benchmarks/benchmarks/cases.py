"""What is measured: operators on plain tanh networks, among them the rows of the papers' tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

Array = np.ndarray  # type: ignore[type-arg]


@dataclass(frozen=True)
class Case:
    """One operator, network and number of points, in float32.

    Attributes:
        text, coords: the operator.
        hidden: widths of the hidden layers.
        points: number of points.
        channels: dim C(p), the channels any exact push-forward carries: the floor of its cost. For an operator given by a
            matrix it is the rank and two.
        rank: of the constant matrix ``a`` in the text; 0 where there is none.
        folx: how many times `folx.forward_laplacian` gives this operator; 0 where it does not.
    """

    text: str
    coords: str
    hidden: tuple[int, ...]
    points: int
    channels: int
    rank: int = 0
    folx: int = 0

    @property
    def dimension(self) -> int:
        """Number of coordinates."""
        return sum(int(c[c.index("[") + 1 : -1]) if "[" in c else 1 for c in self.coords.split())

    @property
    def sizes(self) -> tuple[int, ...]:
        """Layer sizes, input and output included."""
        return (self.dimension, *self.hidden, 1)

    def matrix(self) -> Array | None:
        """The constant matrix of the given rank, positive semidefinite."""
        if not self.rank:
            return None
        factor = np.random.default_rng(2).normal(size=(self.dimension, self.rank)) / self.rank**0.5
        return np.asarray(factor @ factor.T)


_SMALL, _MEDIUM, _WIDE = (24, 24, 24), (128, 128, 128), (256, 256, 256)

CASES: dict[str, Case] = {
    # n-TangentProp (arXiv:2412.09752): its network, 256 points
    **{f"d^{n}/dx^{n}": Case(f"d^{n}/dx^{n} u", "x", _SMALL, 256, n + 1) for n in (1, 3, 6, 9)},
    # the same on so many points that arithmetic outweighs the call
    "d^6/dx^6, 4096 points": Case("d^6/dx^6 u", "x", _SMALL, 4096, 7),
    # forward Laplacian and folx
    **{f"Laplacian {d}-D": Case("laplace(u)", f"x[{d}]", _WIDE, 256, d + 2, folx=1) for d in (2, 10, 50)},
    "heat 10-D": Case("u_t = laplace(u)", "t x[10]", _MEDIUM, 256, 12),
    # collapsed Taylor mode (arXiv:2505.13644): its network, fewer points
    "Laplacian 50-D, wide": Case("laplace(u)", "x[50]", (768, 768, 512, 512), 32, 52, folx=1),
    "biharmonic 2-D": Case("laplace(laplace(u))", "x y", _WIDE, 256, 9, folx=2),
    "biharmonic 5-D": Case("laplace(laplace(u))", "x[5]", _WIDE, 128, 27, folx=2),
    # DOF (arXiv:2402.09730): elliptic and low-rank operators in 64 coordinates
    "elliptic 64-D": Case("a_ij d_i d_j u", "x[64]", _WIDE, 64, 66, rank=64),
    "low rank 64-D": Case("a_ij d_i d_j u", "x[64]", _WIDE, 64, 34, rank=32),
    # STDE (arXiv:2412.00088): its high-order residuals, on its network
    "2-D KdV": Case("u_ty + u_xxxy + 3 (u_y u_x)_x - u_xx + 2 u_yy", "t x y", _MEDIUM, 1000, 8),
    "KP": Case("(u_t + 6 u u_x + u_xxx)_x + 3 u_yy", "t x y", _MEDIUM, 1000, 6),
    "g-KdV": Case("u_t + u u_x + 1/2 u_xxx", "t x", _MEDIUM, 1000, 4),
    "Kuramoto-Sivashinsky": Case("u_t + u u_x + u_xx + u_xxxx", "t x", _MEDIUM, 256, 5),
}

QUICK = ("d^6/dx^6, 4096 points", "Laplacian 10-D", "biharmonic 2-D", "KP")
"""What is followed over commits."""

STRATEGIES: dict[str, tuple[str, ...]] = {
    "d^6/dx^6": ("n_tangentprop", "collapsed_taylor", "derivative_space", "nested_ad"),
    "Laplacian 10-D": ("forward_laplacian", "dof", "collapsed_taylor", "derivative_space", "nested_ad"),
    "Laplacian 50-D": ("forward_laplacian", "dof", "derivative_space", "nested_ad"),
    "low rank 64-D": ("dof", "derivative_space", "nested_ad"),
    "biharmonic 2-D": ("collapsed_taylor", "derivative_space", "nested_ad"),
    "biharmonic 5-D": ("collapsed_taylor", "derivative_space"),
    "KP": ("collapsed_taylor", "derivative_space", "nested_ad"),
}
"""Strategies that apply, by case; pairs that would take minutes are left out."""


def case(name: str) -> Case:
    """A case of the table, or one along an axis: ``order=6``, ``dimension=20``, ``points=1024``.

    Along ``order``: d^n/dx^n on three layers of 24. Along ``dimension``: the Laplacian on three layers of 128. Along
    ``points``: the Laplacian in 10 coordinates.
    """
    if name in CASES:
        return CASES[name]
    axis, _, value = name.partition("=")
    n = int(value)
    laplacian = Case("laplace(u)", "x[10]", _MEDIUM, 256, 12, folx=1)
    match axis:
        case "order":
            return Case(f"d^{n}/dx^{n} u", "x", _SMALL, 256, n + 1)
        case "dimension":
            return replace(laplacian, coords=f"x[{n}]", channels=n + 2)
        case "points":
            return replace(laplacian, points=n)
    raise KeyError(f"no case {name!r}; there are {', '.join(CASES)}, order=N, dimension=N and points=N")


def weights(sizes: tuple[int, ...]) -> list[tuple[Array, Array]]:
    """(W, b) of every layer, W of shape (in, out) with variance 1 / in; the same for all frameworks."""
    rng = np.random.default_rng(0)
    return [
        ((rng.normal(size=(a, b)) / a**0.5).astype(np.float32), (0.1 * rng.normal(size=b)).astype(np.float32))
        for a, b in pairwise(sizes)
    ]


def points(n: int, d: int) -> Array:
    """Random points in [-1, 1]^d, shape (n, d)."""
    return np.random.default_rng(1).uniform(-1, 1, size=(n, d)).astype(np.float32)
