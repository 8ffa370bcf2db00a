"""Forward Laplacian: all first derivatives and one collapsed second-order sum, d + 2 channels."""

from __future__ import annotations

from opdsl.strategies.base import Method, Refusal, Request, Strategy
from opdsl.strategies.direction_groups import Needs, build, diagonal, first_order, spread_of


class ForwardLaplacian(Strategy):
    r"""Second order without mixed derivatives: Σ_i w_i ∂_i² + b·∂ with any weights, known or not.

    For y = σ(h): ∂_i y = σ' ∂_i h and Ly = σ' Lh + σ'' Σ_i w_i (∂_i h)²; first-order terms ride along in the seed of L.

    Reference: Li, Ye, Zhang et al., *A computational framework for neural network-based variational Monte Carlo with Forward
    Laplacian*, arXiv:2307.08214, eqs. 5–7.
    """

    name = "forward_laplacian"
    reference = "arXiv:2307.08214"

    def propose(self, request: Request) -> Method | Refusal:
        needs: dict[object, Needs] = {}
        for op in request.operators:
            n = needs[op] = Needs()
            if op.spread is not None:
                n.spread = spread_of(op)
                if n.spread is None or n.spread > 2:
                    return Refusal(self.name, "a family of derivatives that is not of second order, or has mixed terms")
                continue
            if op.order > 2:
                return Refusal(self.name, f"order {op.order} is above 2")
            if not first_order(op, n) or diagonal(op, n):
                return Refusal(self.name, "mixed second derivatives occur; dof takes any second-order operator")
        return build(self.name, needs, request.dimension, request.space)  # type: ignore[arg-type]
