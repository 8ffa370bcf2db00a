"""What training asks of a framework: arrays, maps over parameters, Adam, Jacobians."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.errors import BackendError, unknown

Tree = Any
"""Nested tuples and dictionaries of arrays."""
Loss = Callable[[Tree, Any], tuple[Any, Mapping[str, Any]]]
"""``loss(variables, batch)``: the loss, and its terms by name."""
Progress = Callable[[int, int, str, dict[str, float]], None]

_DRIVERS = {"jax": "opdsl.lowrank.jax_driver:JaxDriver", "torch": "opdsl.lowrank.torch_driver:TorchDriver"}


class Driver(ABC):
    """One framework."""

    tanh: Callable[[Any], Any]
    relu: Callable[[Any], Any]
    absolute: Callable[[Any], Any]
    """|a| with the derivative 0 where a is 0, so that coefficients that have not moved are not pushed."""

    @abstractmethod
    def array(self, a: Any, dtype: str) -> Any:
        """An array of the framework."""

    @abstractmethod
    def mapped(self, change: Callable[[Any], Any], tree: Tree) -> Tree:
        """``change`` applied to every array of a tree."""

    @abstractmethod
    def over_rows(self, function: Callable[..., Tree], *rows: Any) -> Tree:
        """``function`` of every row of some arrays; results stacked."""

    @abstractmethod
    def minimise(
        self, loss: Loss, variables: Tree, batch: Callable[[int], Any], rates: Sequence[float], shown: Callable[..., None],
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> Tree:  # fmt: skip
        """Adam, one step for every rate; ``shown(step, variables, terms)`` is called after each. What is made of a loss is kept."""

    @abstractmethod
    def with_jacobian(self, function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
        """A function that gives r(v, …), (k,), and ∂r/∂v, (k, q), as NumPy arrays; what is made of a function is kept."""


def driver(backend: str) -> Driver:
    """The driver of a framework.

    Raises:
        BackendError: the backend trains no networks.
    """
    if backend not in _DRIVERS:
        raise BackendError(unknown("no training of low-rank networks on backend", backend, _DRIVERS))
    module, _, name = _DRIVERS[backend].partition(":")
    return getattr(import_module(module), name)()  # type: ignore[no-any-return]


def detached(a: Any) -> npt.NDArray[np.float64]:
    """The numbers of an array, in double precision."""
    return np.asarray(a.detach() if hasattr(a, "detach") else a).astype(np.float64)


def cosine(rate: float, steps: int, final: float = 0.01) -> list[float]:
    """Rates that fall along half a cosine to ``final`` of the first."""
    k = np.arange(steps) / max(steps - 1, 1)
    return [float(v) for v in rate * (final + (1 - final) * 0.5 * (1 + np.cos(np.pi * k)))]
