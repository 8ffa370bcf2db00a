"""All losses of a problem as one vector of residuals, and its Jacobian: rows of the terms below one another, scaled alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import array_api_compat
import numpy as np

from opdsl.training.losses import LossTerm


def stacked(
    terms: Sequence[LossTerm], weights: Mapping[str, float], of: Callable[[int, str], Any], *, observed: bool
) -> Any:
    """Return the rows of all terms, (n, k, …) each, as one array (Σ n k, …).

    Args:
        terms: terms of weight zero are left out.
        weights: of the losses by name.
        of: (number of a term, name of a set of points) → its residuals (n, k), or their derivatives (n, k, P).
        observed: whether observations are subtracted: from residuals, not from derivatives.
    """
    rows = []
    for number, term in enumerate(terms):
        if not any(weights[name] for name in term.names):
            continue
        first = of(number, term.points[0])
        for other in term.points[1:]:
            first = first - of(number, other)
        xp = array_api_compat.array_namespace(first)
        place = {"dtype": first.dtype, "device": array_api_compat.device(first)}
        if observed and term.observed is not None:
            first = first - xp.asarray(term.observed, **place)
        scales = xp.asarray(term.scales(weights, first.shape[0]), **place)
        scaled = first * xp.reshape(scales, (-1,) + (1,) * (first.ndim - 2))
        rows.append(xp.reshape(scaled, (-1, *first.shape[2:])))
    return xp.concat(rows, axis=0)


def columns(arrays: Sequence[Any]) -> Any:
    """All components of all equations beside one another: (n, …) each → (n, k)."""
    xp = array_api_compat.array_namespace(arrays[0])
    return xp.concat([xp.reshape(a, (a.shape[0], -1)) for a in arrays], axis=1)


def with_learned(jacobian: Any, own: Sequence[str], learned: Mapping[str, Any]) -> Any:
    """Derivatives (n, k, W + len(own)) in weights and in the parameters a term has, as derivatives in all that are learned.

    Args:
        jacobian: columns of the weights, then of ``own``.
        own: the learned parameters of this term, in the order of its text.
        learned: for every learned parameter, in order, what its derivative is multiplied by (its value where its logarithm
            is trained).

    Returns:
        (n, k, W + len(learned)).
    """
    xp = array_api_compat.array_namespace(jacobian)
    weights = jacobian.shape[-1] - len(own)
    parts = [jacobian[..., :weights]]
    for name, factor in learned.items():
        if name in own:
            parts.append(jacobian[..., weights + own.index(name)][..., None] * factor)
        else:
            parts.append(xp.zeros_like(jacobian[..., :1]))
    return xp.concat(parts, axis=-1)


def transposed(
    terms: Sequence[LossTerm], weights: Mapping[str, float], w: Any, shape: Callable[[int, str], tuple[int, int]],
    pull: Callable[[int, str, Any], Any],
) -> Any:
    """Return Jᵀ w for the stacked rows, (P,).

    Args:
        terms, weights: as for `stacked`.
        w: one number for each row.
        shape: (number of a term, name of a set of points) → (n, k).
        pull: (number of a term, name of a set of points, weights (n, k)) → the sum of its weighted derivatives, (P,).
    """
    start, total = 0, None
    for number, term in enumerate(terms):
        if not any(weights[name] for name in term.names):
            continue
        n, k = shape(number, term.points[0])
        xp = array_api_compat.array_namespace(w)
        scales = xp.asarray(term.scales(weights, n), dtype=w.dtype, device=array_api_compat.device(w))
        own = xp.reshape(w[start : start + n * k], (n, k)) * scales
        start += n * k
        for sign, name in zip((1.0, -1.0), term.points, strict=False):
            found = pull(number, name, sign * own)
            total = found if total is None else total + found
    return total


def not_finite(terms: Sequence[LossTerm], of: Callable[[int, str], Any]) -> dict[str, tuple[int, int]]:
    """Of every loss with residuals that are not finite: at how many of its points.

    Args:
        terms: all terms.
        of: (number of a term, name of a set of points) → its residuals, (n, k).
    """
    found: dict[str, tuple[int, int]] = {}
    for number, term in enumerate(terms):
        values = np.stack([np.asarray(of(number, name), dtype=np.float64) for name in term.points])
        start = 0
        for name, _, components in term.parts():
            bad = np.logical_not(np.isfinite(values[:, :, start : start + components])).any(axis=(0, 2))
            start += components
            if bad.any():
                found[name] = (max(int(bad.sum()), found.get(name, (0, 0))[0]), values.shape[1])
    return found
