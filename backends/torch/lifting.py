"""The upper of the two modes that watch a run: it sees the calls that the user's code makes.

It replaces every foreign tensor (parameters, buffers, closed-over tensors, functorch wrappers included) by a detached stand-in,
so that recording touches nothing of the user's, and it knows what can no longer be told below: ``detach``, ``no_grad``, and
layers that torch would carry out by one fused kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from opdsl.backends.torch.layers import RECURRENT, attention, attention_layer, circular_pad, recurrent, without_overrides
from opdsl.backends.torch.recorder import Recorder
from opdsl.backends.torch.tape import aten, stop_gradients
from opdsl.errors import CaptureError

_functorch = torch._C._functorch

_TO_PYTHON = {Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.data_ptr, Tensor.untyped_storage, Tensor.__dlpack__}
_DETACHING = {Tensor.detach, Tensor.detach_, torch.detach, torch.detach_, Tensor.data.__get__}  # type: ignore[attr-defined]
_SIZES = {Tensor.__len__, Tensor.size, Tensor.shape.__get__, Tensor.numel, Tensor.nelement, torch.numel, Tensor.stride,  # type: ignore[attr-defined]
          Tensor.nbytes.__get__, Tensor.__iter__}  # type: ignore[attr-defined]  # fmt: skip
_MATMUL = {torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.linalg.matmul}


def stand_in(tensor: Tensor) -> Tensor:
    """A plain tensor of the same shape and values: functorch wrappers removed (one member of a `vmap`), no autograd history."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        inner = _functorch.get_unwrapped(tensor)
        if _functorch.is_batchedtensor(tensor):
            inner = inner.select(_functorch.maybe_get_bdim(tensor), 0)
        tensor = inner
    # A copy, so that a function that writes into its buffers writes into ours.
    return tensor.detach().clone()


class Lifting(TorchFunctionMode):  # type: ignore[misc]
    """Replaces foreign tensors by stand-ins in every call of the user's code, and announces what the recorder cannot see."""

    def __init__(self, recorder: Recorder, ambient: bool, functional: bool) -> None:
        super().__init__()
        self.functional = functional
        self.recorder = recorder
        recorder.lifting = self
        self.tape = recorder.tape
        self.ambient = ambient
        self.stand_ins: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _SIZES and self._may_grow(args[0]):
            self.tape.asks_size = True
        if func is Tensor.__len__ or getattr(func, "__name__", "") in ("dim", "size", "is_floating_point"):
            return func(*args, **(kwargs or {}))
        args, kwargs = self.lifted(args), {k: self.lifted(v) for k, v in (kwargs or {}).items()}
        if func is torch.eye and not kwargs.get("requires_grad"):
            # It writes its diagonal in place; as a constant it is simpler.
            with _disable_current_modes():
                return func(*args, **kwargs)
        if func in _TO_PYTHON:
            self._refuse(func, args)
        if func in _DETACHING:
            with stop_gradients():
                return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            # Its body would otherwise run out of our sight, with fused kernels in it.
            with self:
                return attention_layer(without_overrides(func), *args, **kwargs)
        if func is F.pad and (args[2] if len(args) > 2 else kwargs.get("mode")) == "circular":
            with self:
                return circular_pad(args[0], args[1] if len(args) > 1 else kwargs["pad"])
        if func in RECURRENT:
            with self:
                return recurrent(func, *args, **kwargs)
        if self.plain(args, kwargs):
            if func is F.linear and args[0].dim() > 2:
                return self._linear(*args, **kwargs)
            if func in _MATMUL and max(a.dim() for a in args) > 2 and not kwargs:
                return self._whole(aten.matmul.default, *args)
            if func is torch.einsum and len(args) == 3 and isinstance(args[1], Tensor):
                return self._whole(aten.einsum.default, args[0], [args[1], args[2]])
        if func is F.scaled_dot_product_attention:
            with self:
                return attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _may_grow(self, tensor: Tensor) -> bool:
        """Whether it depends on the points, or is inside a transform, where that cannot be told."""
        number = self.tape.number.get(id(tensor))
        return _functorch.is_functorch_wrapped_tensor(tensor) if number is None else number in self.tape.dependent

    def lifted(self, value: Any) -> Any:
        """Stand-ins for all foreign tensors in a nest of lists, tuples and dicts."""
        if isinstance(value, Tensor):
            return self._lift(value)
        if type(value) in (list, tuple, torch.Size):
            return type(value)(self.lifted(v) for v in value)
        if type(value) is dict:
            return {k: self.lifted(v) for k, v in value.items()}
        return value

    def _lift(self, tensor: Tensor) -> Tensor:
        if id(tensor) in self.tape.number:
            return tensor
        if id(tensor) in self.stand_ins:
            return self.stand_ins[id(tensor)]
        if torch.nn.parameter.is_lazy(tensor):
            raise CaptureError("the function has lazy parameters that have no shape yet. Call it once before.")
        if _functorch.is_functorch_wrapped_tensor(tensor) and not (self.ambient and _functorch.peek_interpreter_stack() is None):
            # Made by a transform inside the function; the recorder sees the plain tensor within.
            return tensor
        with _disable_current_modes(), temporarily_clear_interpreter_stack():
            made = stand_in(tensor)
        self.tape.add_foreign(tensor, made)
        self.stand_ins[id(tensor)] = self.wrapped(made)
        return self.stand_ins[id(tensor)]

    def wrapped(self, made: Tensor) -> Tensor:
        """As the function sees it: in single precision for half; under functionalisation one that takes part, or writing into
        it goes unnoticed."""
        if self.recorder.wide:
            with temporarily_clear_interpreter_stack():
                made = self.recorder.widened(made)
        return _functorch._wrap_functional_tensor(made, 1) if self.functional else made  # type: ignore[no-any-return]

    def plain(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether no transform and no autograd is at work on these arguments, so that an operator may be recorded whole."""
        flat = [v for a in (*args, *kwargs.values()) for v in (a if isinstance(a, list | tuple) else (a,))]
        tensors = [v for v in flat if isinstance(v, Tensor)]
        return (
            _functorch.peek_interpreter_stack() is None
            and bool(tensors)
            and all(type(t) is Tensor and not t.requires_grad and id(t) in self.tape.number for t in tensors)
        )

    def _whole(self, op: Any, *args: Any) -> Tensor:
        # ATen would merge the axis of the points with others before a plain matrix product.
        with _disable_current_modes():
            return self.recorder.record(op, args, {})  # type: ignore[no-any-return]

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = self._whole(aten.matmul.default, input, weight.t())
        return product if bias is None else product + bias

    def _refuse(self, func: Any, args: Sequence[Any]) -> None:
        number = self.tape.number.get(id(args[0]))
        if number in self.tape.dependent:
            raise CaptureError(
                f"the function takes the points out of torch (Tensor.{func.__name__}); derivatives cannot follow. "
                "Use torch operations."
            )
        self.tape.reads_constants = True
