"""Training on PyTorch: torch.optim on functions of tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from opdsl.lowrank.driver import Driver, Loss, Tree


class TorchDriver(Driver):
    """See `Driver`."""

    tanh = staticmethod(torch.tanh)
    relu = staticmethod(torch.relu)
    absolute = staticmethod(torch.abs)

    def array(self, a: Any, dtype: str) -> Any:
        return torch.as_tensor(np.asarray(a, dtype=dtype))

    def mapped(self, change: Callable[[Any], Any], tree: Tree) -> Tree:
        return pytree.tree_map(change, tree)

    def over_rows(self, function: Callable[..., Tree], *rows: Any) -> Tree:
        return torch.vmap(function)(*rows)

    def minimise(
        self, loss: Loss, variables: Tree, batch: Callable[[int], Any], rates: Sequence[float], shown: Callable[..., None],
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> Tree:  # fmt: skip
        variables = pytree.tree_map(lambda a: a.detach().clone().requires_grad_(), variables)
        optimiser = torch.optim.Adam(pytree.tree_leaves(variables), lr=0.0, betas=betas)
        for step, rate in enumerate(rates):
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad()
            total, terms = loss(variables, batch(step))
            total.backward()
            optimiser.step()
            shown(step + 1, variables, terms)
        return pytree.tree_map(lambda a: a.detach(), variables)

    def with_jacobian(self, function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
        def both(v: Any, *given: Any) -> tuple[Any, Any]:
            v = v.detach().requires_grad_()
            value = function(v, *given)
            rows = [torch.autograd.grad(r, v, retain_graph=True)[0] for r in value]
            return value.detach().double().numpy(), torch.stack(rows).double().numpy()

        return both
