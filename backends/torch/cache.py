"""Recordings of functions, kept by structure.

The key of a function (`opdsl.backends.fingerprint`) names its tensors by their order of appearance and their shapes only. Two functions
with equal keys have the same graph, each with its own tensors as constants.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from opdsl.backends.base import Capture
from opdsl.backends.fingerprint import content, fingerprint
from opdsl.backends.guards import Followed, Guards
from opdsl.backends.identity import Identity
from opdsl.backends.torch.capture import capture
from opdsl.errors import BackendError, OpdslWarning
from opdsl.jets.graph import Graph

_MOST = 128


@dataclass(frozen=True)
class _Template:
    """A graph, and where its constants come from: the n-th tensor of the function, or a literal."""

    graph: Graph
    sources: tuple[int | Tensor, ...]
    key: Hashable | None
    asks_size: bool


# Scripted and traced code: attributes and modes are kept where nobody can compare them.
_IN_CPP = (torch.jit.ScriptModule, torch.jit.ScriptFunction, torch._C.ScriptMethod)
_templates: OrderedDict[Hashable, _Template] = OrderedDict()
_lock = threading.Lock()


def captured(function: Callable[..., Any], x: Tensor, params: Any) -> Capture:
    """`capture`, or a template filled with the tensors of this function."""
    of_points = (x.shape, x.dtype, x.device, x.requires_grad)
    if params is not None:
        leaves = [leaf for leaf in pytree.tree_leaves(params) if isinstance(leaf, Tensor)]
        for leaf in leaves:
            if (what := unusual(leaf)) is not None:
                raise BackendError(f"params= must hold ordinary tensors of numbers, got {what}.")
        return _captured(function, x, params, _structure((function, params), leaves), leaves)[0]
    known = _followed.known(function)
    assert known.found is not None
    kind = (*of_points, _ambient())
    found: Capture | None = known.made.get(kind)
    if found is None:
        structure, leaves = known.found
        found, repeats = _captured(function, x, None, structure, list(leaves))
        if repeats:
            known.made[kind] = found
    return found


def _captured(
    function: Callable[..., Any], x: Tensor, params: Any, structure: Hashable | None, leaves: list[Tensor]
) -> tuple[Capture, bool]:
    """The capture, and whether it is the same wherever the structure and its tensors are."""
    key = None if structure is None else (structure, _ambient(), x.shape, x.dtype, x.device, x.requires_grad, params is None)
    found = None if key is None else _templates.get(key)
    if found is not None:
        constants = tuple(leaves[s] if isinstance(s, int) else s for s in found.sources)
        return Capture(found.graph, constants, found.key, found.asks_size), True
    recorded = capture(function, x, params)
    if recorded.mutates:
        warnings.warn(
            "the function writes into tensors of its own (statistics, counters, power iterations). opdsl evaluates it as it "
            "stands and does not keep these changes; call .eval() where that is not meant.",
            OpdslWarning,
            stacklevel=2,
        )
    if key is not None and recorded.reusable:
        where = {id(leaf): i for i, leaf in enumerate(leaves)}
        constants = recorded.capture.constants
        if all(id(c) in where or literal for c, literal in zip(constants, recorded.literals, strict=True)):
            sources = tuple(where.get(id(c), c) for c in constants)
            _remember(_templates, key, _Template(recorded.capture.graph, sources, recorded.capture.key, recorded.capture.asks_size))
            return recorded.capture, True
    return recorded.capture, False


def _ambient() -> Hashable:
    """What recording depends on besides the function and the points."""
    return torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


def unusual(tensor: Tensor) -> str | None:
    """What kind of tensor this is, where it is none of plain numbers."""
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout is not torch.strided:
        return f"a sparse tensor ({tensor.layout})"
    if tensor.is_quantized:
        return "a quantised tensor"
    return "a tensor without numbers (on the device meta)" if tensor.is_meta else None


def tensors_of(function: Any) -> list[Tensor]:
    """The tensors a function depends on, as far as that can be told."""
    leaves: list[Tensor] = []
    _structure(function, leaves)
    return leaves


def structure_of(functions: Any) -> Hashable | None:
    """What two states of functions share whose graphs are the same and hold the same tensors; None where nobody can tell."""
    leaves: list[Tensor] = []
    structure = _structure(tuple(functions), leaves)
    return None if structure is None else (structure, _ambient(), tuple(id(t) for t in leaves))


def _structure(function: Any, leaves: list[Tensor], guards: Guards | None = None) -> Hashable | None:
    """The key with tensors by order and shape; ``leaves`` is extended by those not in it yet."""
    numbers = {id(t): i for i, t in enumerate(leaves)}

    def leaf(thing: Any) -> Hashable | None:
        if isinstance(thing, _IN_CPP):
            raise LookupError
        if isinstance(thing, Tensor):
            if type(thing) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer):
                raise LookupError
            number = numbers.get(id(thing))
            if number is None:
                number = numbers[id(thing)] = len(leaves)
                leaves.append(thing)
            return "tensor", number, thing.shape, thing.dtype, thing.device
        if isinstance(thing, torch.dtype | torch.device | torch.layout | torch.memory_format):
            return Identity(thing) if isinstance(thing, torch.layout | torch.memory_format) else thing
        if isinstance(thing, torch.Generator):
            return Identity(thing)
        if type(thing).__module__ == "numpy" and hasattr(thing, "tobytes"):
            return content(thing)
        return None

    return fingerprint(function, leaf, guards)


def _found(function: Any, guards: Guards | None) -> tuple[Hashable | None, list[Tensor]]:
    """The structure of a function and its tensors."""
    leaves: list[Tensor] = []
    structure = _structure(function, leaves, guards)
    if structure is None and guards is not None:
        guards.refuse()
    return structure, leaves


def _facts(thing: Any) -> Hashable | None:
    """What may change in a tensor or an array that stays the same object."""
    if isinstance(thing, Tensor):
        return thing.shape, thing.dtype, thing.device, thing.requires_grad
    return content(thing) if type(thing).__module__ == "numpy" and hasattr(thing, "tobytes") else None


_followed = Followed(_MOST, _found, _facts)


def _remember(cache: OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    with _lock:
        cache[key] = value
        while len(cache) > _MOST:
            cache.popitem(last=False)
