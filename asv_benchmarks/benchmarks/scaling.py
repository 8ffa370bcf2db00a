"""Cost against order, dimension and number of points, as a multiple of the plain pass; and channels against published methods."""

from __future__ import annotations

from math import comb

from .cases import case
from .targets import GOALS, TARGETS, Absent, clock_of, driver
from .timing import measured_in, paired

AXES: dict[str, tuple[int, ...]] = {
    "order": (1, 2, 3, 4, 6, 9),
    "dimension": (2, 5, 10, 20, 50, 100),
    "points": (16, 64, 256, 1024, 4096),
}
METHODS = ("auto", "nested_ad")
# Nested differentiation triples with every order; beyond this it compiles for minutes.
_NESTED_ORDERS = 6


class Scaling:
    """opdsl and nested automatic differentiation, in plain passes (with parameter gradient for ``training``)."""

    params = (TARGETS, tuple(f"{axis}={n}" for axis, values in AXES.items() for n in values), METHODS, GOALS)
    param_names = ("target", "case", "method", "goal")
    timeout = 600
    version = "2"

    def setup(self, target: str, name: str, method: str, goal: str) -> None:
        axis, _, value = name.partition("=")
        if method == "nested_ad" and axis == "order" and int(value) > _NESTED_ORDERS:
            raise Absent(f"nested differentiation of order {value} skipped: it takes minutes")
        there = driver(target)
        self.plain = there.plain(case(name), goal).run
        self.run = there.operator(case(name), goal, method).run

    @measured_in("×")
    def track_plain_passes(self, target: str, name: str, method: str, goal: str) -> float:
        return paired(self.run, self.plain, clock=clock_of(target))


OPERATORS: dict[str, str] = {"Laplacian": "laplace(u)", "biharmonic": "laplace(laplace(u))"}
DIMENSIONS = (2, 3, 5, 10)


def published(operator: str, d: int) -> dict[str, int]:
    """Arrays that published methods carry: collapsed Taylor mode (arXiv:2505.13644), forward Laplacians, nested for order 4, and
    Taylor mode without collapsing.

    R directions of order K cost 1 + (K−1)R and one more for every family that is collapsed. The biharmonic operator has three
    families there: d coordinates, d(d−1) ordered pairs of them, and d(d−1)/2 unordered ones.
    """
    if operator == "Laplacian":
        return {"collapsed Taylor mode": d + 2, "forward Laplacian": d + 2, "Taylor mode": 1 + 2 * d}
    directions = d + d * (d - 1) + comb(d, 2)
    return {
        "collapsed Taylor mode": 1 + 3 * directions + 3,
        "forward Laplacian": (d + 2) ** 2,
        "Taylor mode": 1 + 4 * directions,
    }


class Channels:
    """Arrays carried through the network by the derivative space."""

    params = (tuple(OPERATORS), DIMENSIONS)
    param_names = ("operator", "dimension")
    version = "1"

    @measured_in("channels")
    def track_carried(self, operator: str, dimension: int) -> int:
        import opdsl

        op = opdsl.operator(OPERATORS[operator], coords=f"x[{dimension}]")
        return int(op.plan(network=(64, 64, 64), strategy="derivative_space").channels)
