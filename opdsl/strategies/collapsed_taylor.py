"""Collapsed Taylor mode: any linear operator through exact interpolation into directional derivatives."""

from __future__ import annotations

from opdsl.algebra.directions import spread_over_directions
from opdsl.algebra.polynomial import Polynomial
from opdsl.language.residual import Pointwise
from opdsl.language.structure import free_labels
from opdsl.strategies.base import Method, Refusal, Request, Strategy
from opdsl.strategies.direction_groups import Direction, Need, Needs, build, diagonal, first_order, spread_of
from opdsl.strategies.dof import substitute_known
from opdsl.strategies.linear_operators import LinearOperator

_MOST_TERMS = 3000


class CollapsedTaylor(Strategy):
    r"""p(∂) = Σ_r w_r (v_r·∂)^K: Taylor coefficients along R directions, the highest order summed, R(K−1) + 2 channels.

    The top coefficient of σ∘h is linear in that of h, so Σ_r w_r h_{K,r} is carried instead of R coefficients. Mixed partial
    derivatives are interpolated exactly, with fewer directions than the published sets where better ones are known
    (`opdsl.algebra.directions`). Lower orders reuse directions of higher ones; coefficients may be known at run time only.

    Reference: Dangel, Siebert, Zeinhofer, Walther, *Collapsing Taylor Mode Automatic Differentiation*, arXiv:2505.13644,
    eqs. 6–9; Griewank, Utke, Walther, Math. Comp. 69 (2000) 1117–1130.
    """

    name = "collapsed_taylor"
    reference = "arXiv:2505.13644"

    def propose(self, request: Request) -> Method | Refusal:
        needs: dict[LinearOperator, Needs] = {}
        parts: list[tuple[Needs, Pointwise, int, Polynomial]] = []
        for op in request.operators:
            n = needs[op] = Needs()
            if op.spread is not None:
                n.spread = spread_of(op)
                if n.spread is None:
                    return Refusal(self.name, "a family of mixed derivatives over an unwritten index")
                continue
            if not first_order(op, n):
                return Refusal(self.name, "a first-order term has coefficients over several indices")
            if any(t.labels and t.order > 1 for t in op.terms):
                # Sums over very many coordinates stay unwritten: pure powers only.
                if diagonal(op, n) or any(free_labels(t.coefficient) and len(t.labels) > 1 for t in op.terms):
                    return Refusal(self.name, "mixed derivatives over an unwritten index sum (too many coordinates to write out)")
                continue
            op = LinearOperator(
                tuple(type(t)(substitute_known(t.coefficient, request), t.axes, t.labels) for t in op.terms if t.order > 1)
            )
            if not op.terms:
                continue
            symbols = op.polynomials(request.space)
            assert symbols is not None
            if sum(len(p.terms) for _, p in symbols) > _MOST_TERMS:
                return Refusal(self.name, f"more than {_MOST_TERMS} terms to interpolate")
            for coefficient, p in symbols:
                parts += [(n, coefficient, order, q) for order, q in p.order_parts().items() if order > 1]
        if all(len(monomial) == 1 for *_, q in parts for monomial, _ in q.terms):
            # Pure powers are directional derivatives as they stand; searching for fewer directions finds none.
            for n, coefficient, order, q in parts:
                n.weighted.append(Need(order, coefficient, {monomial[0][0]: float(c) for monomial, c in q.terms}))
            return build(self.name, needs, request.dimension, request.space)
        found = spread_over_directions([q for *_, q in parts], dimension=request.dimension)
        for (n, coefficient, order, _), weights in zip(parts, found, strict=True):
            directions: dict[Direction, float] = {}
            for vector, w in weights.items():
                key, scale = _direction(vector, order)
                directions[key] = directions.get(key, 0.0) + float(w) * scale
            n.weighted.append(Need(order, coefficient, directions))
        return build(self.name, needs, request.dimension, request.space)


def _direction(vector: tuple[object, ...], order: int) -> tuple[Direction, float]:
    """A coordinate axis as its column (with the length taken into the weight), anything else as floats."""
    values = [float(v) for v in vector]  # type: ignore[arg-type]
    where = [i for i, v in enumerate(values) if v]
    if len(where) == 1:
        return where[0], values[where[0]] ** order
    return tuple(values), 1.0
