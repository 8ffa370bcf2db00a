"""One face for every array framework: make arrays, networks and coefficient functions, read results back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import array_api_compat.torch
import array_api_strict
import jax.numpy as jnp
import numpy as np
import torch
from references import Floats, Network


class TorchNetwork(torch.nn.Module):
    """A `Network` whose weights are parameters."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = net
        self.weights = torch.nn.ParameterList(torch.tensor(w) for layer in net.layers for w in layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parameters = iter(self.weights)
        return self.net.on(torch, x, lambda value: next(parameters).T if value.ndim == 2 else next(parameters))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Engine:
    """A framework.

    Args:
        name: for messages; ``backend`` is the package's name of it.
        xp: its array namespace.
    """

    name: str
    backend: str
    xp: Any

    def array(self, value: Any) -> Any:
        """A double-precision array."""
        value = np.asarray(value, dtype=np.float64)
        return torch.from_numpy(value.copy()) if self.name == "torch" else self.xp.asarray(value)

    def read(self, value: Any) -> Floats:
        """Back to NumPy."""
        if self.name == "torch":
            return value.detach().numpy()  # type: ignore[no-any-return]
        return np.asarray(value)

    def network(self, net: Network) -> Any:
        """The network as a user of this framework would write it."""
        if self.name == "torch":
            return TorchNetwork(net)
        return lambda p: net.on(self.space(p), p, self.xp.asarray)

    def space(self, p: Any) -> Any:
        """The namespace a function of ``p`` is written in: array-API functions ask the array itself."""
        return p.__array_namespace__() if self.name == "strict" else self.xp

    def function(self, formula: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        """``formula(xp, columns)``, with ``columns[i]`` the i-th coordinate, in this framework's convention."""

        def call(p: Any) -> Any:
            return formula(self.space(p), [p[..., i] for i in range(p.shape[-1])])

        return call

    def stacked(self, formula: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        """A formula that returns nested lists of entries, stacked into trailing axes."""

        def stack(entries: Any, like: Any) -> Any:
            if not isinstance(entries, list):
                return entries + 0.0 * like
            return self.space(like).stack([stack(e, like) for e in entries], axis=len(like.shape))

        def call(p: Any) -> Any:
            columns = [p[..., i] for i in range(p.shape[-1])]
            return stack(formula(self.space(p), columns), columns[0])

        return call


ENGINES = {
    "jax": Engine("jax", "jax", jnp),
    "torch": Engine("torch", "torch", array_api_compat.torch),
    "numpy": Engine("numpy", "numpy", np),
    "strict": Engine("strict", "numpy", array_api_strict),
}
