"""Does one text give the same numbers on every framework?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from opdsl import backends
from opdsl.errors import BackendError, BindingError
from opdsl.evaluation.operators import Operator
from opdsl.evaluation.results import Residuals


def check_backends(
    op: Operator, u_by_backend: Mapping[str, Any], x: Any, *, tolerance: float = 1e-12, **bindings: Any
) -> dict[str, float]:
    """Evaluate an operator on several frameworks and compare.

    Args:
        op: the operator.
        u_by_backend: the same network written for each framework: ``{"jax": f, "torch": module, "numpy": g}``.
        x: points (n, d), a NumPy array in double precision.
        tolerance: largest difference allowed, relative to the largest value.
        **bindings: as for the call; where a binding is a function, a dictionary of functions by backend.

    Returns:
        For every backend after the first the largest relative difference from the first.

    Raises:
        BackendError: two of them differ by more than ``tolerance``, or fewer than two are given.

    Example:
        >>> import numpy as np, opdsl
        >>> op = opdsl.operator("laplace(u)", coords="x y")
        >>> f = lambda p: np.sin(p[:, 0]) * p[:, 1]
        >>> opdsl.check_backends(op, {"numpy": f, "torch": lambda p: p[:, 0].sin() * p[:, 1]}, np.ones((2, 2)))
        {'torch': 0.0}
    """
    if not isinstance(u_by_backend, Mapping) or len(u_by_backend) < 2:
        raise BackendError("give the network for at least two backends, e.g. {'jax': f, 'torch': module}.")
    values = {name: _evaluate(op, name, u, x, bindings) for name, u in u_by_backend.items()}
    first, *others = values
    differences = {name: _difference(values[first], values[name]) for name in others}
    wrong = {name: d for name, d in differences.items() if not d <= tolerance}
    if wrong:
        listed = ", ".join(f"{name} by {d:.2e}" for name, d in wrong.items())
        raise BackendError(f"'{op.text}' differs from {first}: {listed} (allowed: {tolerance:g}). Are the networks the same?")
    return differences


def _evaluate(op: Operator, name: str, u: Any, x: Any, bindings: Mapping[str, Any]) -> list[Any]:
    own: dict[str, Any] = {}
    for key, value in bindings.items():
        if isinstance(value, Mapping):
            if name not in value:
                raise BindingError(f"{key} has no function for {name}; given: {', '.join(value)}.")
            value = value[name]
        own[key] = value
    backend = backends.get(name)
    result = op(u, backend.from_numpy(np.asarray(x)), backend=name, **own)
    return [backend.to_numpy(p) for p in (result if isinstance(result, Residuals) else [result])]


def _difference(a: list[Any], b: list[Any]) -> float:
    """Largest difference relative to the largest value, over all equations; NaN counts as different."""
    worst = 0.0
    for p, q in zip(a, b, strict=True):
        size = float(np.max(np.abs(p), initial=0.0)) or 1.0
        worst = max(worst, float(np.max(np.abs(p - q), initial=0.0)) / size) if not np.isnan(p - q).any() else np.inf
    return worst
