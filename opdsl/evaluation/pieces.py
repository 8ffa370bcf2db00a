"""Memory budgets: the points of a call in pieces whose predicted memory fits."""

from __future__ import annotations

import re
from math import ceil

from opdsl.errors import BindingError, shown
from opdsl.planning.plan import Plan

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def budget_in_bytes(memory: int | float | str) -> float:
    """A budget as bytes.

    Raises:
        BindingError: neither a positive number nor a size with a unit.

    Example:
        >>> budget_in_bytes("6 GiB") == 6 * 2**30
        True
    """
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", memory)
        if found is not None and found[2].lower() in _UNITS:
            memory = float(found[1]) * _UNITS[found[2].lower()]
    if isinstance(memory, bool) or not isinstance(memory, int | float) or not 0 < memory < 2**80:
        raise BindingError(f"memory={shown(memory)}: give bytes, or a size such as '6 GiB' or '500 MB'.")
    return float(memory)


def pieces(plan: Plan, memory: int | float | str, points: int) -> int:
    """In how many pieces the points are evaluated, one after the other; predicted memory grows with the points."""
    return min(max(ceil(plan.memory / budget_in_bytes(memory)), 1), max(points, 1))
