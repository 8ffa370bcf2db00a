"""The grid on which the planner's choices are checked: operator × dimension × width × points × backend × goal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One cell: an operator on a plain tanh network with three hidden layers.

    Args:
        text, coords, params: the operator.
        width: of the hidden layers.
        points: number of points.
        outputs: columns of the network.
        backend: ``"jax"``, ``"torch"`` or ``"numpy"``.
        training: value and parameter gradient rather than an evaluation.
    """

    text: str
    coords: str
    width: int
    points: int
    outputs: int
    params: str
    backend: str
    training: bool

    @property
    def key(self) -> str:
        """What results are kept under."""
        goal = "training" if self.training else "evaluation"
        return f"{self.backend} | {goal} | {self.text} | {self.coords} | {self.width} | {self.points}"


_OPERATORS: tuple[tuple[str, str, int, int, int, str], ...] = (
    ("d_x u", "x", 32, 100, 1, ""),
    ("u_xx", "x", 24, 256, 1, ""),
    ("u_xxx", "x", 24, 256, 1, ""),
    ("u_xxxxxx", "x", 24, 256, 1, ""),
    ("d_x^9 u", "x", 24, 256, 1, ""),
    ("u_t + 2 u_x", "t x", 64, 1000, 1, ""),
    ("d_i u d_i u - 1", "x[10]", 64, 256, 1, ""),
    ("d_i u d_i u - 1", "x[50]", 64, 256, 1, ""),
    ("laplace(u)", "x y", 32, 100, 1, ""),
    ("laplace(u)", "x y", 128, 1000, 1, ""),
    ("laplace(u)", "x[10]", 128, 256, 1, ""),
    ("laplace(u)", "x[50]", 64, 256, 1, ""),
    ("laplace(u)", "x[100]", 128, 100, 1, ""),
    ("u_t - u_xx + u^3 - u", "t x", 32, 256, 1, ""),
    ("u_t = laplace(u)", "t x y z", 128, 500, 1, ""),
    ("a_ij d_i d_j u", "x[5]", 64, 256, 1, "a_ij"),
    ("u_xx u_yy - u_xy^2", "x y", 64, 500, 1, ""),
    ("u_xxyy", "x y", 64, 256, 1, ""),
    ("u_xxxx + u_yyyy + u_zzzz", "x y z", 64, 256, 1, ""),
    ("u_t + u u_x + u_xxx", "t x", 64, 1000, 1, ""),
    ("u_t + u u_x + u_xxx + u_xyy", "t x y", 128, 500, 1, ""),
    ("u_tx + 6 u_x^2 + 6 u u_xx + u_xxxx + 3 u_yy", "t x y", 64, 500, 1, ""),
    ("u_t + u u_x + u_xx + u_xxxx", "t x", 64, 500, 1, ""),
    ("u_t = laplace(u^3 - u - laplace(u))", "t x y", 64, 256, 1, ""),
    ("laplace(laplace(u))", "x y", 64, 256, 1, ""),
    ("laplace(laplace(u))", "x y", 256, 256, 1, ""),
    ("laplace(laplace(u))", "x y z", 64, 256, 1, ""),
    ("laplace(laplace(u))", "x[5]", 128, 128, 1, ""),
    ("u u_x + v u_y + p_x - laplace(u); u v_x + v v_y + p_y - laplace(v); u_x + v_y", "x y", 64, 500, 3, ""),
)
_ON_NUMPY = (1, 3, 5, 9, 10, 11, 16, 19, 21, 24, 25, 26)


def cases(backend: str) -> Iterator[Case]:
    """All cells of one backend; NumPy has no parameter gradients."""
    for number, (text, coords, width, points, outputs, params) in enumerate(_OPERATORS):
        if backend == "numpy" and number not in _ON_NUMPY:
            continue
        for training in (False,) if backend == "numpy" else (False, True):
            yield Case(text, coords, width, points, outputs, params, backend, training)
