"""ATen operators that select or reduce along axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opdsl.backends.torch.primitives import Entry, Facts, Reading, axes_of, axis_of, call_of, enter, keeps_axes
from opdsl.jets.graph import Linear, Rule, chooses
from opdsl.jets.operations import OPERATIONS, means

# ---------------------------------------------------------------------------------------------------------- selection



def _unless_number(operation: str, **attributes: Callable[[Facts], Any]) -> Entry:
    """(values, places) along an axis; a number alone is the entry that is chosen."""
    reading = Reading(OPERATIONS[operation], (), {"choose": call_of, "axis": axis_of, **attributes})

    @means(operation)
    @chooses(*reading.kinds, Linear)
    def entry(facts: Facts) -> Rule:
        return reading(facts) if facts.operands[0].dim() else Linear()

    return entry


# The axis is removed unless ``keepdim``, or the result has the same rank.
enter("max.dim min.dim median.dim nanmedian.dim kthvalue mode", _unless_number("chosen", keepdims=keeps_axes))
for _name, _meant in {"sort": "sort", "topk": "top_k", "cummax": "cumulative_max", "cummin": "cumulative_min"}.items():
    enter(_name, _unless_number(_meant))
enter("max.default amax", "max", axes=axes_of, keepdims=keeps_axes)
enter("min.default amin", "min", axes=axes_of, keepdims=keeps_axes)


def _rank(facts: Facts) -> int:
    """The rank stands in the name."""
    return next(rank for rank in (1, 2, 3) if f"pool{rank}d" in facts.call.op.__name__)


enter("max_pool1d_with_indices adaptive_max_pool1d max_pool2d_with_indices adaptive_max_pool2d max_pool3d_with_indices "
      "adaptive_max_pool3d", "window_max", choose=call_of, rank=_rank)  # fmt: skip

# --------------------------------------------------------------------------------------------------------- reductions


def _one_axis(facts: Facts) -> tuple[int, ...] | None:
    return (facts.axis(),) if facts.takes("dim") else None


def _order(facts: Facts) -> float:
    order = facts["ord" if facts.takes("ord") else "p"]
    return 2.0 if order is None else float(order)


enter("prod", "prod", axes=_one_axis, keepdims=keeps_axes)
enter("cumprod", "cumulative_prod", axis=axis_of)
enter("linalg_vector_norm norm", "norm", order=_order, axes=axes_of, keepdims=keeps_axes)
enter("_cdist_forward cdist", "distances", order=lambda facts: float(facts["p"]))
enter("_euclidean_dist", "distances", order=lambda _: 2.0)
