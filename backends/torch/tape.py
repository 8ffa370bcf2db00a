"""Run a torch function once and write down every ATen operator it executes.

Two nested modes watch the run. `Recorder` sits below autograd and functorch and sees plain tensors and final operators; it
makes the nodes. `Lifting` sits above and sees the user's own calls; it replaces every foreign tensor (parameters, buffers,
closed-over tensors, functorch wrappers included) by a detached stand-in, so that recording touches nothing of the user's, and
it knows what can no longer be told below: ``detach``, ``no_grad`` and custom ``autograd.Function``.

The same recorder captures the user's function (nodes become rules) and compiles the finished evaluator (nodes become a flat
program), see `torch_capture` and `torch_compile`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from opdsl.errors import CaptureError

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

_state = threading.local()


@contextmanager
def stop_gradients() -> Iterator[None]:
    """Operators executed inside have no derivative: ``detach`` is then meant, not bookkeeping."""
    before = getattr(_state, "stopping", False)
    _state.stopping = True
    try:
        yield
    finally:
        _state.stopping = before


@contextmanager
def ignoring_no_grad() -> Iterator[None]:
    """Inside, operators have derivatives although autograd is off: autograd runs a custom forward that way."""
    before = getattr(_state, "ignoring", False)
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
    reads_constants: bool = False
    mutates_constants: bool = False

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


_READING = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_consecutive",
                     "_unique2", "unique_dim", "nonzero_static", "bincount", "histc", "allclose"})  # fmt: skip
_UNSAFE = frozenset({aten.unsafe_split.Tensor, aten.unsafe_split_with_sizes.default, aten.unsafe_chunk.default})


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Writes operators on a tape.

    Args:
        tape: where to write.
        decompose: gives, for an operator and its sample arguments, a function that computes it with simpler operators, or None.
        allow_reads: whether Python may look at values of tensors that do not depend on the inputs.
        wide: whether half precision becomes single precision: casts, new tensors, and tensors of the code itself.
    """

    def __init__(
        self,
        tape: Tape,
        decompose: Callable[[Any], Callable[..., Any] | None],
        *,
        allow_reads: bool = True,
        wide: bool = False,
    ) -> None:
        super().__init__()
        self.wide = wide
        self.tape = tape
        self.decompose = decompose
        self.allow_reads = allow_reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.wide:
            args, kwargs = self.widened(args), self.widened(kwargs)
        name = func.__name__.partition(".")[0]
        if func is aten.detach.default and not getattr(_state, "stopping", False):
            # Autograd and view operators detach for their own bookkeeping; the user's detach is announced by `Lifting`.
            result = func(*args)
            self.tape.number[id(result)] = self._number(args[0])
            self.tape.values.append(result)
            return result
        if name in _READING:
            self._read(name, args)
        if func is aten.copy.default:
            with self:
                return _copied(*args, **kwargs)
        if func._schema.is_mutable:
            return self._mutate(func, args, kwargs)
        simpler = self.decompose(func) if self._depends(args, kwargs) else None
        if simpler is not None:
            with self:
                result = simpler(*args, **kwargs)
            if result is not NotImplemented:
                return result
        return self.record(func, args, kwargs)

    def record(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], run: Callable[..., Any] | None = None) -> Any:
        """Execute an operator (through ``run`` where given) and note it as one step."""
        inputs: list[int] = []

        def place(value: Any) -> Any:
            if isinstance(value, Tensor):
                inputs.append(self._number(value))
                return Slot(len(inputs) - 1)
            if isinstance(value, tuple | list):
                return tuple(place(v) for v in value)
            return value

        known = len(self.tape.foreign)
        call = AtenCall(func, tuple(place(a) for a in args), {k: place(v) for k, v in kwargs.items()})
        if func is aten.lift_fresh.default:
            # torch.tensor([…]): written in the code itself.
            self.tape.literals.update(range(known, len(self.tape.foreign)))
        result = (run or func)(*args, **kwargs)
        if result is None or isinstance(result, bool | int | float):
            return result  # checks and questions about layout
        several = not isinstance(result, Tensor)
        results = tuple(result) if several else (result,)
        if not all(isinstance(r, Tensor) for r in results):
            raise CaptureError(f"{func} returns something else than tensors, which opdsl cannot follow.")
        depends = any(i in self.tape.dependent for i in inputs)
        # Some operators hand back one of their operands (`contiguous`, `_to_copy` never): give it its own identity.
        results = tuple(r.view_as(r) if id(r) in self.tape.number else r for r in results)
        if call.op in _UNSAFE:
            # Recurrent cells write into these pieces; the operator promises that nobody looks at the whole again.
            results = tuple(r.clone() for r in results)
        outputs = tuple(self.tape.add(r, depends) for r in results)
        off = not torch.is_grad_enabled() and not getattr(_state, "ignoring", False)
        stopped = getattr(_state, "stopping", False) or off
        self.tape.steps.append(Step(call, tuple(inputs), outputs, several, stopped))
        if not several:
            return results[0]
        return type(result)(results) if type(result) in (tuple, list) else results

    def widened(self, value: Any) -> Any:
        """Half-precision tensors and dtypes in a nest, replaced by single precision."""
        if isinstance(value, Tensor) and value.dtype in HALVES:
            with _disable_current_modes():
                return self.record(aten._to_copy.default, (value,), {"dtype": torch.float32})
        if isinstance(value, torch.dtype):
            return torch.float32 if value in HALVES else value
        if type(value) in (tuple, list):
            return type(value)(self.widened(v) for v in value)
        return {k: self.widened(v) for k, v in value.items()} if type(value) is dict else value

    def rename(self, results: Any, whole: Any, args: Sequence[Any]) -> None:
        """Let the results of a custom function, and what it saved of them, stand for those recorded as one step."""
        given = {self.tape.number.get(id(a)) for a in args if isinstance(a, Tensor)}
        pairs = zip(*((r,) if isinstance(r, Tensor) else r for r in (results, whole)), strict=True)
        for result, known in pairs:
            if not isinstance(result, Tensor):
                continue
            before, after = self.tape.number.get(id(result)), self.tape.number[id(known)]
            if before is not None and before not in given:
                for name, number in self.tape.number.items():
                    if number == before:
                        self.tape.number[name] = after
            self.tape.number[id(result)] = after
            self.tape.values.append(result)

    def _depends(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        flat = [v for a in (*args, *kwargs.values()) for v in (a if isinstance(a, list | tuple) else (a,))]
        return any(isinstance(v, Tensor) and self.tape.number.get(id(v)) in self.tape.dependent for v in flat)

    def _number(self, tensor: Tensor) -> int:
        found = self.tape.number.get(id(tensor))
        # A tensor nobody has seen: a literal, or a closed-over tensor that reached us inside a functorch wrapper.
        return self.tape.add_foreign(tensor, tensor) if found is None else found

    def _read(self, name: str, args: Sequence[Any]) -> None:
        depends = any(isinstance(a, Tensor) and self._number(a) in self.tape.dependent for a in args)
        if depends or not self.allow_reads:
            raise CaptureError(
                f"the function branches on values of the points, or reads them into Python ({name}). Every point must take "
                "the same path: use torch.where(condition, a, b) in place of if and of h[mask], and tensor operations in "
                "place of .item()."
            )
        self.tape.reads_constants = True

    def _mutate(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        functional, targets, given = _functional_form(func, args, kwargs)
        if torch.Tag.inplace_view in func.tags:
            # Only this object changes (`squeeze_`, `t_`); whatever shares its memory stays as it is.
            with self:
                new = functional(*given[0], **given[1])
            func(*args, **kwargs)
            self.tape.number[id(targets[0])] = self.tape.number[id(new)]
            return targets[0]
        aliases = [self._aliases(target, str(func)) for target in targets]
        if any(self._number(target) in self.tape.foreign_numbers for target in targets):
            self.tape.mutates_constants = True
        history = not torch.is_grad_enabled() and self._has_history(targets[0])
        with self:
            result = functional(*given[0], **given[1])
            if history:
                # Written without gradients into a tensor that has some: autograd sees the new value with the old derivative.
                change = result - targets[0]
                with torch.enable_grad():
                    result = targets[0] + change
        for target, names, new in zip(targets, aliases, result if isinstance(result, tuple | list) else (result,), strict=False):
            if target.shape != new.shape:
                target.resize_(new.shape)
            target.copy_(new.detach())
            for name in names:
                self.tape.number[name] = self.tape.number[id(new)]
        return targets[0] if len(targets) == 1 else tuple(targets)

    def _has_history(self, target: Tensor) -> bool:
        number = self._number(target)
        if number in self.tape.dependent:
            return True
        return any(number in step.outputs and not step.stopped for step in self.tape.steps)

    def _aliases(self, target: Tensor, name: str) -> list[int]:
        """The objects that stand for the same value; views of it, or it being a view, is beyond simple renaming."""
        number, storage = self._number(target), target.untyped_storage().data_ptr()
        same = [id(target)]
        for other in self.tape.values:
            if other is not target and storage and other.untyped_storage().data_ptr() == storage:
                if self.tape.number[id(other)] != number:
                    raise Mutation(name)
                same.append(id(other))
        return same


def _copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """aten.copy, which autograd does not know."""
    return source.to(dtype=target.dtype, device=target.device).expand(target.shape).clone()


def _functional_form(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, list[Tensor], tuple[Any, Any]]:
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
        return _copied, targets, (args, {})
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
