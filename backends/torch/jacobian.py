"""Derivatives of residuals in parameters, on torch; see `opdsl.backends.base.Backend.per_point_jacobian`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from opdsl.backends.base import Evaluator, Example
from opdsl.backends.parameters import Linearised, Owned, Places, replaced, taken
from opdsl.backends.torch.cache import tensors_of
from opdsl.backends.torch.compile import Flat, compile_evaluator
from opdsl.backends.torch.isolation import modules_of
from opdsl.backends.torch.outer_products import join

_functorch = torch._C._functorch


def owned(functions: Mapping[str, Any]) -> Owned:
    """What the functions train: parameters of their modules by name, and tensors they close over that require gradients.

    Names are those of the modules where one function has parameters, and begin with the field's where several do.
    """
    found: dict[str, dict[str, Tensor]] = {}
    seen: set[int] = set()
    for field, function in functions.items():
        own: dict[str, Tensor] = {}
        modules = modules_of(function)
        for k, module in enumerate(modules):
            for name, tensor in module.named_parameters():
                frozen = isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad
                if not frozen and tensor.is_floating_point() and id(tensor) not in seen:
                    own[name if k == 0 else f"{k}.{name}"] = tensor
                seen.add(id(tensor))
        for tensor in tensors_of(function):
            if tensor.requires_grad and tensor.is_floating_point() and id(tensor) not in seen:
                own[f"closed_over.{len(own)}"] = tensor
                seen.add(id(tensor))
        if own:
            found[field] = own
    several = len(found) > 1
    named = {f"{field}.{name}" if several else name: t for field, own in found.items() for name, t in own.items()}
    names = tuple(named)
    return Owned(
        tuple(named.values()), None, lambda arrays: dict(zip(names, arrays, strict=True)), lambda nest: [nest[n] for n in names]
    )


def owned_in(params: Any) -> Owned:
    """The floating tensors in a nest of parameters."""
    leaves, tree = pytree.tree_flatten(params)
    tensors = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    chosen = [(place, i) for place, i in enumerate(tensors) if leaves[i].is_floating_point()]

    def rebuild(arrays: Sequence[Any]) -> Any:
        filled = list(leaves)
        for (_, i), array in zip(chosen, arrays, strict=True):
            filled[i] = array
        return pytree.tree_unflatten(filled, tree)

    def of(nest: Any) -> Sequence[Any]:
        found = pytree.tree_leaves(nest)
        return [found[i] for _, i in chosen]

    return Owned(tuple(leaves[i] for _, i in chosen), tuple(place for place, _ in chosen), rebuild, of)


def without_history(tensor: Any) -> Any:
    """A plain tensor as a constant to autograd; what a transform of `torch.func` looks at stays as it is."""
    if not isinstance(tensor, Tensor) or _functorch.is_functorch_wrapped_tensor(tensor):
        return tensor
    return tensor.detach()


def per_point_jacobian(
    evaluator: Evaluator, one: Example, example: Example, places: Places, shapes: Sequence[Sequence[int]]
) -> Callable[..., tuple[Tensor, ...]]:
    """See `opdsl.backends.base.Backend.per_point_jacobian`.

    The evaluator of one point is made a flat program first, whatever derivatives it takes itself, and this one is pulled back and
    mapped by `torch.func`, recorded in its turn: when it runs, none of this is at work any more.
    """
    mapped, program = evaluator.per_point_bindings, compile_evaluator(evaluator, one)

    def call(constants: Sequence[Sequence[Tensor]], x: Tensor, bindings: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        def at_point(point: Tensor, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
            def residuals(arrays: Sequence[Tensor]) -> Tensor:
                here = {name: value[None] if name in mapped else value for name, value in {**bindings, **rows}.items()}
                own, given = replaced(places, constants, here, arrays)
                return torch.cat([v.reshape(-1) for v in program(own, point[None], given)])

            values, pull = torch.func.vjp(residuals, taken(places, constants, bindings))
            k = len(values)
            if k == 1:
                (rows_of,) = pull(torch.ones_like(values))
                rows_of = [r[None] for r in rows_of]
            else:
                (rows_of,) = torch.func.vmap(pull)(torch.eye(k, dtype=values.dtype, device=values.device))
            found = iter(rows_of)
            parts = [
                next(found).reshape(k, prod(shape)) if place else values.new_zeros((k, prod(shape)))
                for place, shape in zip(places, shapes, strict=True)
            ]
            return values, torch.cat(parts, dim=1)

        rows = {name: value for name, value in bindings.items() if name in mapped}
        return torch.func.vmap(at_point, randomness="different")(x, rows)  # type: ignore[no-any-return]

    run = compile_evaluator(Evaluator(call, mapped), example)
    if isinstance(run, Flat):
        join(run.program.graph)
        run.program.recompile()
    return run


def linearised(function: Callable[[Sequence[Tensor]], Tensor], arrays: Sequence[Tensor]) -> Linearised:
    """See `opdsl.backends.base.Backend.linearised`.

    Σ w_i ∂r_i/∂θ is linear in w, and its derivative in w along is J v: both products are reverse sweeps over one kept graph.
    """
    if any(_functorch.is_functorch_wrapped_tensor(a) for a in arrays):
        given = list(arrays)
        values, pull = torch.func.vjp(function, given)
        return Linearised(
            values, lambda tangents: torch.func.jvp(function, (given,), (list(tangents),))[1], lambda weights: pull(weights)[0]
        )
    with torch.enable_grad():
        leaves = [a.detach().requires_grad_() for a in arrays]
        values = function(leaves)
    return Linearised(values.detach(), _Forward(values, leaves), lambda weights: _pulled(values, leaves, weights))


def _pulled(values: Tensor, leaves: Sequence[Tensor], weights: Tensor) -> Sequence[Tensor]:
    return torch.autograd.grad(  # type: ignore[no-any-return]
        values, leaves, weights, retain_graph=True, allow_unused=True, materialize_grads=True
    )


class _Forward:
    """J v by two reverse sweeps, the first of which is kept.

    Forward mode would do without the first, but runs operator by operator through torch's Python decompositions.
    """

    def __init__(self, values: Tensor, leaves: Sequence[Tensor]) -> None:
        self._values, self._leaves = values, leaves
        self._weights: Tensor | None = None
        self._pulled: list[Tensor | None] = []

    def __call__(self, tangents: Sequence[Tensor]) -> Tensor:
        if self._weights is None:
            with torch.enable_grad():
                self._weights = torch.zeros_like(self._values).requires_grad_()
                self._pulled = list(
                    torch.autograd.grad(self._values, self._leaves, self._weights, create_graph=True, allow_unused=True)
                )
        pairs = [(p, t) for p, t in zip(self._pulled, tangents, strict=True) if p is not None and p.requires_grad]
        if not pairs:
            return torch.zeros_like(self._weights)
        (found,) = torch.autograd.grad([p for p, _ in pairs], self._weights, [t for _, t in pairs], retain_graph=True)
        return found  # type: ignore[no-any-return]
