"""The trial function: features of the point → multilayer perceptron → hard constraints.

Written once against an array namespace: the JAX trainer calls it on one point (d,), the torch trainer on (n, d).
Initial values come from NumPy, so that the same seed starts from the same function on both.

    z = 2 (x - low) / (high - low) - 1,     h = features(z),     h ← σ(h W + b) …,     N = h W + b,
    u_k = offset_k(x) + factor_k(x) N_k
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.training.problem import Problem

Weights = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class ArrayFunctions:
    """What the network needs from a framework besides ``+``, ``*``, ``@`` and indexing."""

    activation: Callable[[Any], Any]
    sin: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    concatenate: Callable[[Sequence[Any]], Any]
    """Join along the last axis."""
    constant: Callable[[npt.NDArray[np.float64], Any], Any]
    """A fixed array with the dtype and device of its second argument."""


def sizes(problem: Problem) -> list[int]:
    """Widths of all layers: inputs after the features, hidden layers, fields."""
    spec = problem.network
    plain = len(problem.columns) - len(spec.periodic)
    return [plain + 2 * spec.harmonics * len(spec.periodic) + 2 * spec.fourier, *[spec.width] * spec.layers, len(problem.fields)]


class TrialFunction:
    """The function that is trained.

    Args:
        problem: its coordinates, fields and network specification.
        seed: of the initial weights and random features.
        constraints: for every constrained field its callables (factor, offset) of the points; None for 1 and 0.
    """

    def __init__(
        self, problem: Problem, seed: int, constraints: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]
    ) -> None:
        spec = problem.network
        low, high = np.array(problem.box).T
        self.dimension = len(low)
        self._spec, self._fields, self._constraints = spec, problem.fields, dict(constraints)
        self._middle, self._scale = 0.5 * (low + high), 2.0 / (high - low)
        self._periodic = [problem.columns.index(name) for name in spec.periodic]
        self._plain = [k for k in range(len(low)) if k not in self._periodic]
        self._sizes = sizes(problem)
        self._frequencies: npt.NDArray[np.float64] | None = None
        if spec.fourier:
            rng = np.random.default_rng([seed, 1])
            plain = self._sizes[0] - 2 * spec.fourier
            self._frequencies = np.pi * spec.fourier_scale * rng.standard_normal((plain, spec.fourier))
        self._seed = seed

    def initial(self) -> Weights:
        """Return Glorot-uniform weights and zero biases: ``w0`` (in, out), ``b0`` (out,), …"""
        rng = np.random.default_rng([self._seed, 0])
        weights: Weights = {}
        for k, (before, after) in enumerate(zip(self._sizes, self._sizes[1:], strict=False)):
            limit = math.sqrt(6.0 / (before + after))
            weights[f"w{k}"] = rng.uniform(-limit, limit, (before, after))
            weights[f"b{k}"] = np.zeros(after)
        return weights

    def __call__(self, functions: ArrayFunctions, weights: Mapping[str, Any], x: Any) -> Any:
        """Return all fields, (…, m), at points (…, d)."""
        h = self._features(functions, x)
        last = len(self._sizes) - 2
        for k in range(last):
            h = functions.activation(h @ weights[f"w{k}"] + weights[f"b{k}"])
        raw = h @ weights[f"w{last}"] + weights[f"b{last}"]
        if not self._constraints:
            return raw
        columns = []
        for k, name in enumerate(self._fields):
            column = raw[..., k : k + 1]
            if name in self._constraints:
                factor, offset = self._constraints[name]
                column = offset(x)[..., None] + factor(x)[..., None] * column
            columns.append(column)
        return columns[0] if len(columns) == 1 else functions.concatenate(columns)

    def _features(self, functions: ArrayFunctions, x: Any) -> Any:
        z = (x - functions.constant(self._middle, x)) * functions.constant(self._scale, x)
        h = z
        if self._periodic:
            parts = [z[..., k : k + 1] for k in self._plain]
            for k in self._periodic:
                for harmonic in range(1, self._spec.harmonics + 1):
                    angle = (math.pi * harmonic) * z[..., k : k + 1]  # z runs over [-1, 1]: one period is 2
                    parts += [functions.sin(angle), functions.cos(angle)]
            h = functions.concatenate(parts)
        if self._frequencies is not None:
            angle = h @ functions.constant(self._frequencies, x)
            h = functions.concatenate([h, functions.sin(angle), functions.cos(angle)])
        return h
