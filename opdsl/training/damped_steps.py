r"""The linear algebra of damped Gauss–Newton steps: one linearisation, solved for many dampings and right-hand sides.

    δ(w) = argmin ‖J δ + w‖² + λ‖δ‖² = -(JᵀJ + λI)⁻¹ Jᵀ w      (P ≤ n: Cholesky of P × P)
                                     = -Jᵀ (JJᵀ + λI)⁻¹ w       (n < P: the same by Woodbury's identity, Cholesky of n × n)

or, where neither matrix fits in memory, by LSMR on products with J and Jᵀ (Fong, Saunders, SIAM J. Sci. Comput. 33 (2011)
2950–2971), as SciPy has it. JᵀJ or JJᵀ is formed once; another damping costs one factorisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import array_api_compat
import numpy as np

from opdsl.training.least_squares import Array, LeastSquares, Vector

_INNER = 1e-10  # the tolerance of LSMR: a step is exact to rounding where the damping lets it be


class Linearisation(Protocol):
    """r(θ + δ) ≈ r + J δ at one θ."""

    residual: Array

    def times(self, v: Array) -> Array:
        """J v."""

    def transposed(self, w: Array) -> Array:
        """Jᵀ w."""

    def damped(self, damping: float) -> Vector | None:
        """w ↦ argmin ‖J δ + w‖² + damping · ‖δ‖²; None where the damped matrix is singular to rounding."""


def linearise(problem: LeastSquares, theta: Array, *, matrix_free: bool) -> Linearisation:
    """Linearise the residuals.

    Args:
        problem: with ``jacobian``, or with ``products`` where nothing of size n × P may be formed.
        theta: (P,).
        matrix_free: use products.
    """
    residual = problem.residual(theta)
    if matrix_free:
        assert problem.products is not None, "a matrix-free method needs products with the Jacobian"
        return _Products(residual, theta, *problem.products(theta))
    assert problem.jacobian is not None, "a method with a Jacobian needs one"
    return _Dense(residual, problem.jacobian(theta))


class _Dense:
    def __init__(self, residual: Array, jacobian: Array) -> None:
        self.residual, self._jacobian = residual, jacobian
        n, parameters = jacobian.shape
        self._wide = n < parameters
        # NumPy sees that both factors are one array and does half the work (syrk).
        self._gram = jacobian @ jacobian.T if self._wide else jacobian.T @ jacobian
        self._xp = array_api_compat.array_namespace(residual)
        self._one = self._xp.eye(min(n, parameters), dtype=residual.dtype, device=array_api_compat.device(residual))

    def times(self, v: Array) -> Array:
        return self._jacobian @ v

    def transposed(self, w: Array) -> Array:
        return self._jacobian.T @ w

    def damped(self, damping: float) -> Vector | None:
        solve = cholesky_solver(self._gram + damping * self._one)
        if solve is None:
            return None
        if self._wide:
            return lambda w: -self.transposed(solve(w))
        return lambda w: -solve(self.transposed(w))


class _Products:
    def __init__(self, residual: Array, theta: Array, times: Vector, transposed: Vector) -> None:
        self.residual, self.times, self.transposed = residual, times, transposed
        self._theta = theta

    def damped(self, damping: float) -> Vector | None:
        from scipy.sparse.linalg import LinearOperator, lsmr

        theta, residual = self._theta, self.residual
        xp = array_api_compat.array_namespace(theta)

        def there(vector: Any, like: Array) -> Array:
            return xp.asarray(np.asarray(vector).reshape(-1), dtype=like.dtype, device=array_api_compat.device(like))

        shape = (residual.shape[0], theta.shape[0])
        operator = LinearOperator(
            shape, matvec=lambda v: _host(self.times(there(v, theta))), rmatvec=lambda w: _host(self.transposed(there(w, residual))),
            dtype=np.float64,
        )  # fmt: skip

        def solve(w: Array) -> Array:
            limit = 2 * min(shape)
            found = lsmr(operator, -_host(w), damp=math.sqrt(damping), atol=_INNER, btol=_INNER, conlim=0.0, maxiter=limit)[0]
            return there(found, theta)

        return solve


def _host(array: Array) -> np.ndarray[Any, Any]:
    return np.asarray(array, dtype=np.float64)


def cholesky_solver(matrix: Array) -> Callable[[Array], Array] | None:
    """Solve with a symmetric positive definite matrix; None where it is not positive definite to rounding.

    The array API has no triangular solves, so each library's own are used where they are known.

    Example:
        >>> cholesky_solver(np.array([[4.0, 0.0], [0.0, 1.0]]))(np.array([2.0, 1.0]))
        array([0.5, 1. ])
        >>> cholesky_solver(np.array([[1.0, 2.0], [2.0, 1.0]])) is None
        True
    """
    if array_api_compat.is_torch_array(matrix):
        import torch

        factor, failed = torch.linalg.cholesky_ex(matrix)
        return None if int(failed) else lambda b: torch.cholesky_solve(b[:, None], factor)[:, 0]
    if array_api_compat.is_jax_array(matrix):
        import jax.numpy as jnp
        from jax.scipy.linalg import cho_solve

        lower = jnp.linalg.cholesky(matrix)
        return None if bool(jnp.isnan(lower[-1, -1])) else lambda b: cho_solve((lower, True), b)
    if array_api_compat.is_numpy_array(matrix):
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        try:
            found = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        return lambda b: cho_solve(found, b, check_finite=False)
    xp = array_api_compat.array_namespace(matrix)
    return lambda b: xp.linalg.solve(matrix, b)
