"""Operators that write into their operands, by what they would be if they did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from opdsl.backends.torch.tape import aten
from opdsl.errors import CaptureError


def copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """aten.copy, which autograd does not know."""
    return source.to(dtype=target.dtype, device=target.device).expand(target.shape).clone()


def functional_form(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, list[Tensor], tuple[Any, Any]]:
    """The out-of-place operator, the tensors that receive its results, and its arguments."""
    targets: list[Tensor] = []
    # Arguments equal to their defaults are left out by the dispatcher, but the counterpart may have other defaults.
    missing = func._schema.arguments[len(args) :]
    args = (*args, *(kwargs.get(a.name, a.default_value) for a in missing if not a.kwarg_only))
    kwargs = {k: v for k, v in kwargs.items() if any(a.name == k and a.kwarg_only for a in missing)}
    keep_kwargs = dict(kwargs)
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = kwargs.get(argument.name) if argument.name in kwargs else (args[i] if i < len(args) else None)
        if argument.is_out:
            keep_kwargs.pop(argument.name, None)
        if isinstance(value, Tensor):
            targets.append(value)
    if func is aten.copy_.default:
        return copied, targets, (args, {})
    overload = func._overloadname
    packet = func._overloadpacket.__name__
    candidates = [packet.removesuffix("_"), packet.removesuffix("_") + "_functional", packet]
    for candidate in candidates:
        found = getattr(getattr(torch.ops, func.namespace), candidate, None)
        others = found.overloads() if found is not None else []
        for o in (overload, overload.removesuffix("_out"), "default", *others):
            op = getattr(found, o, None)
            if op is not None and not op._schema.is_mutable and _takes(op, args, keep_kwargs):
                return op, targets, (args, keep_kwargs)
    raise CaptureError(
        f"{func} changes a tensor in place and has no counterpart that does not. Write the result to a new tensor."
    )


def _takes(op: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    schema = op._schema.arguments
    positional = [a for a in schema if not a.kwarg_only]
    names = {a.name for a in schema}
    if len(args) > len(positional) or not set(kwargs) <= names:
        return False
    wanted = {"Tensor", "Optional[Tensor]"}
    return all(isinstance(v, Tensor) == (str(a.type) in wanted) for a, v in zip(positional, args, strict=False) if v is not None)
