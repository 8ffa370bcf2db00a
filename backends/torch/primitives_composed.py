"""ATen operators that select, reduce or factorise: rules composed of the elementary ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from opdsl.backends.torch.primitives import Entry, Facts, enter
from opdsl.jets import composite_rules, matrix_rules
from opdsl.jets.graph import Composed, Linear, PiecewiseLinear, Rule, chooses
from opdsl.jets.propagate import JetOps

# ---------------------------------------------------------------------------------------------------------- selection


@chooses(Composed, Linear)
def _along_axis(facts: Facts) -> Rule:
    """(values, indices) along one axis, the axis removed unless ``keepdim``: max, min, median, kthvalue, mode."""
    axis, keep = facts.axis(), bool(facts["keepdim"])

    def build(ops: JetOps, a: Any) -> Any:
        index = facts.call(ops.primal(a))[1]
        wide = index if keep else index.unsqueeze(axis)
        picked = ops.linear(lambda h: _squeeze(torch.gather(h, axis, wide), axis, keep), a)
        return picked, index

    return Composed(build) if facts.operands[0].dim() else Linear()


def _squeeze(h: Any, axis: int, keep: bool) -> Any:
    return h if keep else h.squeeze(axis)


@chooses(Composed, Linear)
def _reordered(facts: Facts) -> Rule:
    """(values, indices) of the same rank: sort, topk, cummax, cummin."""
    axis = facts.axis()

    def build(ops: JetOps, a: Any) -> Any:
        index = facts.call(ops.primal(a))[1]
        return ops.linear(lambda h: torch.gather(h, axis, index), a), index

    return Composed(build) if facts.operands[0].dim() else Linear()


enter("max.dim min.dim median.dim nanmedian.dim kthvalue mode", _along_axis, "max")
for _name, _meant in {"sort": "sort", "topk": "top_k", "cummax": "cumulative_max", "cummin": "cumulative_min"}.items():
    enter(_name, _reordered, _meant)


def _whole(largest: bool) -> Entry:
    @chooses(PiecewiseLinear)
    def entry(facts: Facts) -> Rule:
        return PiecewiseLinear(composite_rules.extremum_tangent(range(facts.operands[0].dim()), False, largest))

    return entry


def _extremum(largest: bool) -> Entry:
    @chooses(PiecewiseLinear)
    def entry(facts: Facts) -> Rule:
        return PiecewiseLinear(composite_rules.extremum_tangent(facts.axes(), bool(facts["keepdim"]), largest))

    return entry


enter("max.default", _whole(True), "max")
enter("min.default", _whole(False), "min")
enter("amax", _extremum(True), "max")
enter("amin", _extremum(False), "min")


def _pooled(rank: int) -> Entry:
    """(values, flat indices) of a maximum over windows of the last ``rank`` axes."""

    def entry(facts: Facts) -> Rule:
        def build(ops: JetOps, a: Any) -> Any:
            index = facts.call(ops.primal(a))[1]
            flat = index.flatten(-rank)
            shape = tuple(index.shape[-rank:])
            return ops.linear(lambda h: torch.gather(h.flatten(-rank), -1, flat).unflatten(-1, shape), a), index

        return Composed(build)

    return entry


enter("max_pool2d_with_indices adaptive_max_pool2d", _pooled(2))
enter("max_pool3d_with_indices adaptive_max_pool3d", _pooled(3))
enter("max_pool1d_with_indices adaptive_max_pool1d", _pooled(1))

# --------------------------------------------------------------------------------------------------------- reductions


def _product(facts: Facts) -> Rule:
    if "dim" not in {a.name for a in facts.call.op._schema.arguments}:
        return Composed(lambda ops, a: composite_rules.product_over(ops, ops.linear(lambda h: h.flatten(), a), 0, False))
    axis, keep = facts.axis(), bool(facts["keepdim"])
    return Composed(lambda ops, a: composite_rules.product_over(ops, a, axis, keep))


def _running(combine: Callable[[Any, Any, Any], Any]) -> Entry:
    return lambda facts: Composed(lambda ops, a: composite_rules.cumulative(ops, combine, a, facts.axis()))


enter("prod", _product, "prod")
enter("cumprod", _running(lambda ops, a, b: ops.mul(a, b)))


def _norm(facts: Facts) -> Rule:
    """p-norms; the Euclidean one is scaled by the largest entry, so that squares do not overflow."""
    names = {a.name for a in facts.call.op._schema.arguments}
    order = facts["ord"] if "ord" in names else facts["p"]
    order = 2.0 if order is None else float(order)
    axes = facts.axes() if "dim" in names else tuple(range(facts.operands[0].dim()))
    keep = bool(facts["keepdim"]) if "keepdim" in names else False

    def build(ops: JetOps, a: Any) -> Any:
        return matrix_rules.norm(ops, a, order, axes, keep)

    return Composed(build)


enter("linalg_vector_norm norm", _norm)


def _distances(facts: Facts) -> Rule:
    order = float(facts["p"]) if facts.call.op.__name__.startswith(("_cdist", "cdist")) else 2.0

    def build(ops: JetOps, a: Any, b: Any) -> Any:
        difference = ops.sub(ops.linear(lambda h: h.unsqueeze(-2), a), ops.linear(lambda h: h.unsqueeze(-3), b))
        return matrix_rules.norm(ops, difference, order, (ops.primal(difference).dim() - 1,), False)

    return Composed(build)


enter("_cdist_forward cdist _euclidean_dist", _distances)
enter("nan_to_num", PiecewiseLinear(lambda xp, p, t: torch.where(torch.isfinite(p[0]), t[0], torch.zeros_like(t[0]))))
