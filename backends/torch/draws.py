"""Random operators on generators of their own.

A function is run more than once while it is captured, with the same numbers each time. The generators of the process belong to
everybody: winding them back would repeat numbers in other threads. So nobody draws from them, here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from opdsl.backends.torch.modes import DispatchMode
from opdsl.errors import CaptureError


class Draws:
    """Runs operators; random ones draw the same numbers again for every new instance."""

    def __init__(self) -> None:
        self._own: dict[torch.device, torch.Generator] = {}
        self._given: dict[int, torch.Generator] = {}

    def run(self, op: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """``op(*args, **kwargs)``."""
        if torch.Tag.nondeterministic_seeded not in getattr(op, "tags", ()):
            return op(*args, **kwargs)
        given = kwargs.get("generator")
        generator = self._like(given) if given is not None else self._for(_device(args, kwargs))
        return _with_generator(op)(*args, **{**kwargs, "generator": generator})

    def _for(self, device: torch.device) -> torch.Generator:
        if device not in self._own:
            self._own[device] = torch.Generator(device).manual_seed(0)
        return self._own[device]

    def _like(self, given: torch.Generator) -> torch.Generator:
        if id(given) not in self._given:
            self._given[id(given)] = torch.Generator(given.device).set_state(given.get_state())
        return self._given[id(given)]


class Repeating(DispatchMode):
    """Inside, random operators draw the numbers of a recording again."""

    def __init__(self) -> None:
        super().__init__()
        self._draws = Draws()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._draws.run(func, args, kwargs or {})


def _device(args: Sequence[Any], kwargs: dict[str, Any]) -> torch.device:
    found = next((a.device for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), kwargs.get("device"))
    return torch.device("cpu") if found is None else torch.device(found)


def _with_generator(op: Any) -> Any:
    """The overload that takes a generator and otherwise the same."""
    wanted = [(a.name, str(a.type)) for a in op._schema.arguments if a.name != "generator"]
    packet = op.overloadpacket
    for candidate in (op, *(getattr(packet, name) for name in packet.overloads())):
        arguments = candidate._schema.arguments
        if any(a.name == "generator" for a in arguments) and wanted == [
            (a.name, str(a.type)) for a in arguments if a.name != "generator"
        ]:
            return candidate
    raise CaptureError(f"{op} draws random numbers that cannot be drawn again. Use torch.rand, torch.randn or dropout.")
