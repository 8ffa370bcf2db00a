"""What a recording is made of: operators with their places for operands, and the tape they are written on.

See `recorder` for who writes, and `trace` for how a function is run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
HALVES = (torch.float16, torch.bfloat16)


def up(tensor: Tensor) -> Tensor:
    """Half precision as single precision; anything else as it is."""
    return tensor.float() if tensor.dtype in HALVES else tensor


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of operand number ``index`` among the arguments of an operator."""

    index: int


@dataclass(frozen=True, slots=True)
class Rows:
    """A size that follows the number of points: ``factor · n``."""

    factor: int


@dataclass(frozen=True, slots=True, eq=False)
class AtenCall:
    """An ATen operator with its static arguments; call it with the tensor operands alone.

    ``rows``, where set, is (operand, axis, factor): that axis of that operand has factor · n entries, which gives n for `Rows`.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rows: tuple[int, int, int] | None = None

    def __call__(self, *operands: Any) -> Any:
        n = None if self.rows is None else operands[self.rows[0]].shape[self.rows[1]] // self.rows[2]
        args = [_fill(a, operands, n) for a in self.args]
        return self.op(*args, **{k: _fill(v, operands, n) for k, v in self.kwargs.items()})


def _fill(value: Any, operands: Sequence[Any], n: int | None) -> Any:
    if isinstance(value, Slot):
        return operands[value.index]
    if isinstance(value, Rows):
        assert n is not None
        return value.factor * n
    if isinstance(value, tuple | list):
        return [_fill(v, operands, n) for v in value]
    return value


class CustomFunction:
    """A custom ``autograd.Function`` as an operator: kept whole, because its derivative is its own."""

    namespace = "autograd"
    tags = ()

    def __init__(self, function: Any) -> None:
        self.__name__ = function.__name__
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function.apply(*args, **kwargs)

    def __str__(self) -> str:
        return f"autograd.{self.__name__}"


class _Thread(threading.local):
    """What holds in this thread alone."""

    stopping = False
    ignoring = False


_state = _Thread()


def stopping() -> bool:
    """Whether operators executed now are meant to have no derivative."""
    return _state.stopping


def stopped() -> bool:
    """Whether they have none: meant so, or because autograd is off."""
    return _state.stopping or not (torch.is_grad_enabled() or _state.ignoring)


@contextmanager
def stop_gradients() -> Iterator[None]:
    """Operators executed inside have no derivative: ``detach`` is then meant, not bookkeeping."""
    before = _state.stopping
    _state.stopping = True
    try:
        yield
    finally:
        _state.stopping = before


@contextmanager
def ignoring_no_grad() -> Iterator[None]:
    """Inside, operators have derivatives although autograd is off: autograd runs a custom forward that way."""
    before = _state.ignoring
    _state.ignoring = True
    try:
        yield
    finally:
        _state.ignoring = before


@dataclass(frozen=True, slots=True, eq=False)
class Stopped:
    """An operator the user ran under ``no_grad`` or detached: its results carry no derivative, in parameters neither."""

    call: AtenCall

    def __call__(self, *operands: Any) -> Any:
        with stop_gradients():
            result = self.call(*operands)
            return result.detach() if isinstance(result, Tensor) else tuple(r.detach() for r in result)


@dataclass(slots=True)
class Step:
    """One recorded operator: ``call`` takes the values numbered ``inputs``.

    ``stopped``: executed without gradients.
    """

    call: AtenCall
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    several: bool
    stopped: bool = False


class Mutation(Exception):
    """A tensor with views was changed in place: record again under functionalisation."""


@dataclass(slots=True)
class Tape:
    """What was recorded: sample tensors of every value, which of them depend on the traced inputs, and the steps."""

    values: list[Tensor] = field(default_factory=list)
    dependent: set[int] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    number: dict[int, int] = field(default_factory=dict)
    foreign: list[Tensor] = field(default_factory=list)
    foreign_numbers: list[int] = field(default_factory=list)
    literals: set[int] = field(default_factory=set)
    custom: bool = False
    asks_size: bool = False
    reads_constants: bool = False
    mutates_constants: bool = False
    writes_views: bool = False
    overwritten: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, tensor: Tensor, dependent: bool) -> int:
        """Number a tensor; the list keeps it alive, so its id stays its own."""
        self.values.append(tensor)
        index = len(self.values) - 1
        self.number[id(tensor)] = index
        if dependent:
            self.dependent.add(index)
        return index

    def add_foreign(self, live: Tensor, stand_in: Tensor) -> int:
        """Number a constant; ``live`` is what later evaluations must be given."""
        self.foreign.append(live)
        self.foreign_numbers.append(self.add(stand_in, False))
        return self.foreign_numbers[-1]
