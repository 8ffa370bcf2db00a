"""A least-squares problem as the optimisers for residuals see it, and what one of their steps says of itself.

All residuals of a problem — equations, conditions, observations — stand below one another, each with the root of its
weight, so that the loss is their sum of squares:

    F(θ) = ‖r(θ)‖² = Σ_terms w_t mean(r_t²),     r (n,),  θ (P,),  J = ∂r/∂θ (n, P)

Arrays may come from NumPy, torch, JAX or any other library of the array API; every step stays with the library and the
device of θ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

Array = Any
Vector = Callable[[Array], Array]
State = dict[str, Any]
"""Plain numbers and arrays of an optimiser between two steps: what has to be kept to go on to the same bits."""


@dataclass(frozen=True)
class LeastSquares:
    """min ‖r(θ)‖² over flat parameters θ.

    Args:
        residual: θ (P,) → r (n,), each term scaled by √(weight / its number of residuals).
        jacobian: θ → J (n, P), rows scaled as those of r; None where only products are used.
        products: θ → (v ↦ J v, w ↦ Jᵀ w), for the methods that never form J; None where only J is used.

    Example:
        >>> import numpy as np
        >>> rosenbrock = LeastSquares(
        ...     residual=lambda t: np.array([1.0 - t[0], 10.0 * (t[1] - t[0] ** 2)]),
        ...     jacobian=lambda t: np.array([[-1.0, 0.0], [-20.0 * t[0], 10.0]]),
        ... )
        >>> float(rosenbrock.loss(np.array([0.0, 0.0])))
        1.0
    """

    residual: Vector
    jacobian: Vector | None = None
    products: Callable[[Array], tuple[Vector, Vector]] | None = None

    def loss(self, theta: Array) -> Array:
        """F(θ) = ‖r(θ)‖²."""
        r = self.residual(theta)
        return r @ r


@dataclass(frozen=True)
class Report:
    """What one step did.

    Attributes:
        loss: ‖r‖² after the step.
        damping: λ of the accepted trial.
        trials: how many dampings or step lengths were tried.
        gain: the decrease of ‖r‖² as a multiple of what the linearised residual promises; 1 for a linear problem.
        length: of the step, relative to the direction that was found (line searches), else 1.
        reason: why another step would change nothing; empty where it may.
    """

    loss: float
    damping: float
    trials: int
    gain: float = float("nan")
    length: float = 1.0
    reason: str = ""

    def __str__(self) -> str:
        parts = [f"damping {self.damping:.1e}"]
        if self.gain == self.gain:
            parts.append(f"gain {self.gain:.2f}")
        if self.length != 1.0:
            parts.append(f"length {self.length:.3g}")
        if self.trials > 1:
            parts.append(f"{self.trials} trials")
        return ", ".join(parts)


class ResidualOptimiser(Protocol):
    """An optimiser for residuals: `LevenbergMarquardt` or `NaturalGradient`.

    Its options are fixed when it is made; everything that changes is in the state, so that a run can be kept and taken up
    again.
    """

    def start(self, theta: Array) -> State:
        """The state before the first step."""

    def step(self, problem: LeastSquares, theta: Array, state: State) -> tuple[Array, State, Report]:
        """One step: new parameters, the new state, and what was done. A step that finds nothing better returns θ itself."""
