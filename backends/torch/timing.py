"""One call of a program for a clock: it ends when its results exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def timed(
    run: Callable[..., Any], constants: Sequence[Sequence[Tensor]], x: Tensor, bindings: Mapping[str, Tensor], training: bool
) -> Callable[[], Any]:
    """See `opdsl.backends.base.Backend.timed`."""
    wait = torch.cuda.synchronize if x.device.type == "cuda" else (lambda: None)
    if not training:

        def evaluate() -> Any:
            with torch.no_grad():
                result = run(constants, x, bindings)
            wait()
            return result

        return evaluate
    if not any(a.requires_grad for group in constants for a in group):
        constants = [[a.detach().clone().requires_grad_(a.is_floating_point()) for a in group] for group in constants]
    trained = [a for group in constants for a in group if a.requires_grad]

    def step() -> Any:
        with torch.enable_grad():
            loss = sum(r.square().mean() for r in run(constants, x, bindings))
            result = torch.autograd.grad(loss, trained, allow_unused=True)
        wait()
        return result

    return step
