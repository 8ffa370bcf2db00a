"""n-TangentProp: all derivatives along one coordinate, order 1 … n, n + 1 channels."""

from __future__ import annotations

from opdsl.strategies.base import Method, Refusal, Request, Strategy
from opdsl.strategies.direction_groups import Needs, build, diagonal, first_order


class NTangentProp(Strategy):
    r"""Univariate Taylor mode: the coefficients u_k = ∂_x^k u / k!, k = 0 … n, pushed through every layer.

    Elementwise functions take O(n²) products through their differential equations instead of the partition sums of Faà di
    Bruno's formula used by the paper.

    Reference: Chickering, arXiv:2412.09752; Griewank and Walther, *Evaluating Derivatives*, ch. 13.
    """

    name = "n_tangentprop"
    reference = "arXiv:2412.09752"

    def propose(self, request: Request) -> Method | Refusal:
        needs: dict[object, Needs] = {}
        directions: set[object] = set()
        for op in request.operators:
            n = needs[op] = Needs()
            if op.spread is not None or any(t.labels for t in op.terms):
                return Refusal(self.name, "derivatives along more than one coordinate are needed")
            first_order(op, n)
            if diagonal(op, n):
                return Refusal(self.name, "mixed derivatives are needed; collapsed_taylor and derivative_space take them")
            directions.update(c for _, c in n.first)
            directions.update(d for need in n.weighted for d in need.directions or ())
        if len(directions) > 1:
            return Refusal(self.name, f"derivatives along {len(directions)} coordinates are needed, it takes one")
        return build(self.name, needs, request.dimension, request.space, collapse=False)  # type: ignore[arg-type]
