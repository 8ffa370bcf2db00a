"""Keep a recording and its surroundings apart: ambient transforms and modes, and what a function leaves in its modules."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.overrides import _get_current_function_mode_stack, _pop_mode_temporarily
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

from opdsl.backends.torch.modes import compiled_functions_as_written
from opdsl.backends.torch.recorder import Recorder


@contextlib.contextmanager
def untouched(function: Any) -> Iterator[None]:
    """Put back what a function assigns to attributes of its modules: stored activations, counters, replaced buffers."""
    # Scripted modules keep their state in C++; what they write into tensors is put back by `trace`.
    found = [m for module in modules_of(function) for m in module.modules() if not isinstance(m, torch.jit.ScriptModule)]
    kept = [(m, dict(m.__dict__), dict(m._buffers), dict(m._parameters)) for m in found]
    try:
        yield
    finally:
        for module, *before in kept:
            for place, entries in zip((module.__dict__, module._buffers, module._parameters), before, strict=True):
                _put_back(place, entries)


def _put_back(place: dict[str, Any], before: dict[str, Any]) -> None:
    # What has not changed is not touched: other threads may be reading it.
    now = dict(place)
    for name in now.keys() - before.keys():
        del place[name]
    for name, value in before.items():
        if now.get(name, place) is not value:
            place[name] = value
    if [n for n in now if n in before] != [n for n in before if n in now] or before.keys() - now.keys():
        place.clear()  # the order counts too
        place.update(before)


def modules_of(function: Any) -> list[torch.nn.Module]:
    """The modules a function is, is a method of, or closes over."""
    if isinstance(function, torch.nn.Module):
        return [function]
    parts = [getattr(function, "__self__", None)]
    if isinstance(function, functools.partial):
        parts += [function.func, *function.args, *function.keywords.values()]
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # not assigned yet
            parts.append(cell.cell_contents)
    return [p for p in parts if isinstance(p, torch.nn.Module)]


@contextlib.contextmanager
def isolated() -> Iterator[bool]:
    """Outside of every ambient transform and with gradients on. All of it holds in this thread alone.

    Yields whether there was an ambient functorch transform.
    """
    with (
        contextlib.ExitStack() as stack,
        temporarily_clear_interpreter_stack() as ambient,
        torch.inference_mode(False),
        torch.enable_grad(),
        compiled_functions_as_written(),
    ):
        if any(isinstance(mode, Recorder) for mode in _get_current_dispatch_mode_stack()):
            # A captured function that calls an operator itself: what that operator decides is no part of the outer graph.
            stack.enter_context(_disable_current_modes())
            for _ in _get_current_function_mode_stack():
                stack.enter_context(_pop_mode_temporarily())
        yield bool(ambient)
