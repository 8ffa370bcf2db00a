"""The lower of the two modes that watch a run: it writes down every ATen operator that is executed.

It sits below autograd and functorch and sees plain tensors and final operators. The same recorder captures the user's function
(nodes become rules) and compiles the finished evaluator (nodes become a flat program), see `capture` and `compile`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from opdsl.backends.torch.draws import Draws
from opdsl.backends.torch.in_place import copied, functional_form
from opdsl.backends.torch.modes import DispatchMode
from opdsl.backends.torch.tape import HALVES, AtenCall, Mutation, Slot, Step, Tape, aten, stopped, stopping
from opdsl.errors import CaptureError

_READING = frozenset({"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_consecutive",
                     "_unique2", "unique_dim", "nonzero_static", "bincount", "histc", "allclose"})  # fmt: skip
_UNSAFE = frozenset({aten.unsafe_split.Tensor, aten.unsafe_split_with_sizes.default, aten.unsafe_chunk.default})


class Above(Protocol):
    """What the upper mode knows, see `lifting`."""

    def lifted(self, value: Any) -> Any:
        """Stand-ins for all foreign tensors in a nest."""

    def plain(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether no transform and no autograd is at work on these arguments."""


class Recorder(DispatchMode):
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
        self.draws = Draws()
        self.lifting: Above | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What is called here is not the user's: scripted code arrives without having passed the upper mode.
        with torch._C.DisableTorchFunction():
            return self._written(func, args, kwargs or {})

    def _written(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if self.wide:
            args, kwargs = self.widened(args), self.widened(kwargs)
        name = func.__name__.partition(".")[0]
        if func is aten.detach.default and not stopping():
            # Autograd and view operators detach for their own bookkeeping; the user's detach is announced by `Lifting`.
            result = func(*args)
            self.tape.number[id(result)] = self._number(args[0])
            self.tape.values.append(result)
            return result
        if name in _READING:
            self._read(name, args)
        if func is aten.copy.default:
            with self:
                return copied(*args, **kwargs)
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
        result = run(*args, **kwargs) if run is not None else self.draws.run(func, args, kwargs)
        if result is None or isinstance(result, bool | int | float | torch.ScriptObject):
            return result  # checks, questions about layout, marks for profilers
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
        self.tape.steps.append(Step(call, tuple(inputs), outputs, several, stopped()))
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
        functional, targets, given = functional_form(func, args, kwargs)
        if torch.Tag.inplace_view in func.tags:
            # Only this object changes (`squeeze_`, `t_`); whatever shares its memory stays as it is.
            with self:
                new = functional(*given[0], **given[1])
            func(*args, **kwargs)
            self.tape.number[id(targets[0])] = self.tape.number[id(new)]
            return targets[0]
        aliases = [self._aliases(target, str(func)) for target in targets]
        for target in targets:
            if self._number(target) in self.tape.foreign_numbers:
                self.tape.mutates_constants = True
                if any(target is live for live in self.tape.foreign):
                    # Scripted code reaches the user's own tensors: no stand-in came between.
                    self.tape.overwritten.append((target, target.detach().clone()))
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
                    self.tape.writes_views = True
                    raise Mutation(name)
                same.append(id(other))
        return same
