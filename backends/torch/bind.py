"""What `Operator.bind` returns on torch: an ordinary ``nn.Module`` that owns the networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from opdsl.backends.base import Capture
from opdsl.backends.torch.tape import HALVES

Evaluate = Callable[[Sequence[Sequence[Tensor]], Tensor, Mapping[str, Tensor]], Any]

_NEW_SHAPE = (
    "opdsl: points of a new shape or dtype inside torch.compile. Call the step once with such points outside of it first, "
    "so that it is prepared for them."
)


class Step(nn.Module):  # type: ignore[misc]
    """``step(x, **given)``: the residual of the networks it owns.

    Parameters and buffers are fetched from the networks at each call, so `torch.func.functional_call`, optimisers, ``.to()``,
    ``state_dict``, DDP and `torch.compile` see an ordinary module. Parameters that a plain function closes over
    (``lambda x: x * net(x)``) become parameters of the step too; other tensors it closes over are kept as they were.

    Other numbers of points are prepared on their first call, outside of `torch.compile`: inside there is nothing to prepare with.
    Structural changes of the networks after binding (other layers) are not followed: bind again.
    """

    def __init__(self, evaluate: Evaluate, functions: Sequence[Any], captures: Sequence[Capture]) -> None:
        super().__init__()
        self.networks = nn.ModuleList()
        owner: dict[int, tuple[str, ...]] = {}
        for function in functions:
            module = _module_of(function)
            if module is not None and not any(module is m for m in self.networks):
                self.networks.append(module)
        for path, tensor in [*self.named_parameters(remove_duplicate=False), *self.named_buffers()]:
            owner.setdefault(id(tensor), tuple(path.split(".")))
        self.closed_over = nn.ParameterList()
        for constant in (c for capture in captures for c in capture.constants):
            if isinstance(constant, nn.Parameter) and id(constant) not in owner:
                owner[id(constant)] = ("closed_over", str(len(self.closed_over)))
                self.closed_over.append(constant)
        self._evaluate = evaluate
        # Points of these shapes are prepared; what was captured tells the first.
        first = [capture.graph.values[capture.graph.x] for capture in captures[: len(functions)]]
        self._known: set[Any] = {(v.shape, v.dtype) for v in first}
        self._places: list[list[Any]] = [[owner.get(id(c), c) for c in capture.constants] for capture in captures]

    def forward(self, x: Tensor, **given: Any) -> Any:
        """Evaluate at points x, with parameters of the text given again by name."""
        key = (tuple(x.shape), torch.float32 if x.dtype in HALVES else x.dtype)
        if key not in self._known:
            if torch.compiler.is_compiling():
                # Dynamo can raise nothing but built-in exceptions with a plain text.
                raise RuntimeError(_NEW_SHAPE)
            self._known.add(key)
        return self._evaluate(self.constants(), x, given)

    def constants(self) -> list[tuple[Tensor, ...]]:
        """The tensors of every captured function, as they are now."""
        return [tuple(_fetch(self, p) if isinstance(p, tuple) else p for p in places) for places in self._places]


class StepWithParameters(nn.Module):  # type: ignore[misc]
    """``step(params, x, **given)``: the networks are functions of a nest of tensors given at each call."""

    def __init__(self, evaluate: Evaluate, functions: Sequence[Any], captures: Sequence[Capture], params: Any) -> None:
        super().__init__()
        self._step = Step(evaluate, functions, captures)
        self._networks = len(functions)
        self._spec = pytree.tree_structure(params)

    def forward(self, params: Any, x: Tensor, **given: Any) -> Any:
        """Evaluate at points x with these parameters."""
        leaves, spec = pytree.tree_flatten(params)
        if spec != self._spec:
            raise ValueError(f"params have another structure than those bound: {spec}, expected {self._spec}.")
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        constants = [
            (*tensors, *group[len(tensors) :]) if k < self._networks else group for k, group in enumerate(self._step.constants())
        ]
        return self._step._evaluate(constants, x, given)


def _module_of(function: Any) -> nn.Module | None:
    """The module a network is, or is a method of."""
    if isinstance(function, nn.Module):
        return function
    owner = getattr(function, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def _fetch(module: Any, path: Sequence[str]) -> Tensor:
    for name in path:
        module = getattr(module, name)
    return module  # type: ignore[no-any-return]
