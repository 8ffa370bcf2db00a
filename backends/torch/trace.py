"""Run the user's function under the recorder: lift what it closes over, isolate everything else.

See `torch_record` for the two modes. `trace` is the only entry.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.autograd.function import _SingleLevelFunction
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode_temporarily
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

from opdsl.backends.torch.tape import CustomFunction, Recorder, Tape, aten, ignoring_no_grad, stop_gradients, up
from opdsl.errors import CaptureError

_functorch = torch._C._functorch
_LOCK = threading.RLock()

_TO_PYTHON = {Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.data_ptr, Tensor.untyped_storage, Tensor.__dlpack__}
_DETACHING = {Tensor.detach, Tensor.detach_, torch.detach, torch.detach_, Tensor.data.__get__}  # type: ignore[attr-defined]
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
        self.tape = recorder.tape
        self.ambient = ambient
        self.stand_ins: dict[int, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
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
                return _attention_layer(_without_overrides(func), *args, **kwargs)
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


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q Kᵀ · scale + mask) V: what `scaled_dot_product_attention` computes, in differentiable steps."""
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scale is None else scale), key.transpose(-2, -1))
    if is_causal:
        allowed = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        scores = torch.where(allowed, scores, -torch.inf)
    if attn_mask is not None:
        scores = torch.where(attn_mask, scores, -torch.inf) if attn_mask.dtype is torch.bool else scores + attn_mask
    weights = torch.softmax(scores, -1)
    return torch.matmul(F.dropout(weights, dropout_p) if dropout_p else weights, value)


def _attention_layer(forward: Any, *args: Any, **kwargs: Any) -> Any:
    """Output and weights by separate computations: the one with weights merges points and heads into one axis, and its output
    is the same. Weights that nobody uses leave the graph again."""
    given = inspect.signature(forward).bind(*args, **kwargs)
    given.apply_defaults()
    values = given.arguments
    if not values["need_weights"] or (values["training"] and values["dropout_p"] > 0):
        return forward(**values)
    _, weights = forward(**values)
    output, _ = forward(**{**values, "need_weights": False})
    return output, weights


_CLONES: dict[Any, Any] = {}


def _without_overrides(function: Any) -> Any:
    """A function of `torch.nn.functional` without its override check, which would come back to us for ever."""
    if function not in _CLONES:
        names = dict(function.__globals__)
        names |= dict.fromkeys(
            ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), lambda *_: False
        )
        clone = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
        clone.__kwdefaults__ = function.__kwdefaults__
        _CLONES[function] = clone
    return _CLONES[function]


def _run(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What torch itself does for ``function.apply``."""
    return super(_SingleLevelFunction, function).apply(*args, **kwargs)  # type: ignore[misc]


@contextlib.contextmanager
def custom_functions(recorder: Recorder, lifting: Lifting | None = None) -> Iterator[None]:
    """Keep custom ``autograd.Function`` s whole, where ``lifting`` is at work; say on the tape that there was one.

    Where autograd itself is at work (a derivative inside the function, or the program of a derivative), it runs the function as
    always, so that the declared backward is recorded; its results are those of the whole.
    """
    from torch.utils.checkpoint import CheckpointFunction

    # `f = MyFunction.apply` may have been bound long ago: the method that every `apply` calls in the end is replaced.
    before = _SingleLevelFunction.__dict__.get("apply")

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        if cls is CheckpointFunction:
            function, _preserve, *rest = args
            return function(*rest)
        if cls.__module__ == "torch._library.autograd":
            # An operator of a library: it arrives at the recorder as such.
            with ignoring_no_grad():
                return _run(cls, *args, **kwargs)
        recorder.tape.custom = True
        if lifting is None:
            return _run(cls, *args, **kwargs)
        args, kwargs = lifting.lifted(args), {k: lifting.lifted(v) for k, v in kwargs.items()}
        if _functorch.peek_interpreter_stack() is not None:
            raise CaptureError(
                f"the custom autograd.Function {cls.__name__} is used inside a torch.func transform within the function; its "
                "derivative cannot be followed there. Use torch.autograd.grad in place of the transform, or write its forward "
                "with torch operations."
            )
        with _disable_current_modes(), ignoring_no_grad():
            whole = recorder.record(CustomFunction(cls), args, kwargs, partial(_run, cls))
        if lifting.plain(args, kwargs):
            return whole
        with ignoring_no_grad():
            results = _run(cls, *args, **kwargs)
        recorder.rename(results, whole, args)
        return results

    _SingleLevelFunction.apply = classmethod(apply)
    try:
        yield
    finally:
        if before is None:
            del _SingleLevelFunction.apply
        else:
            _SingleLevelFunction.apply = before


@contextlib.contextmanager
def untouched(function: Any) -> Iterator[None]:
    """Put back what a function assigns to attributes of its modules: stored activations, counters, replaced buffers."""
    found = [m for module in modules_of(function) for m in module.modules()]
    kept = [(m, dict(m.__dict__), dict(m._buffers), dict(m._parameters)) for m in found]
    try:
        yield
    finally:
        for module, attributes, buffers, parameters in kept:
            if _differs(module.__dict__, attributes):
                module.__dict__.clear()
                module.__dict__.update(attributes)
            for place, before in ((module._buffers, buffers), (module._parameters, parameters)):
                if _differs(place, before):
                    place.clear()
                    place.update(before)


def _differs(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return now.keys() != before.keys() or any(now[k] is not v for k, v in before.items())


def modules_of(function: Any) -> list[torch.nn.Module]:
    """The modules a function is, is a method of, or closes over."""
    if isinstance(function, torch.nn.Module):
        return [function]
    parts = [getattr(function, "__self__", None), getattr(function, "func", None), *(getattr(function, "args", None) or ())]
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # not assigned yet
            parts.append(cell.cell_contents)
    return [p for p in parts if isinstance(p, torch.nn.Module)]


@contextlib.contextmanager
def isolated(x: Tensor) -> Iterator[bool]:
    """Outside of every ambient transform, with gradients on, the random state kept, and fused kernels off.

    Yields whether there was an ambient functorch transform.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with (
        contextlib.ExitStack() as stack,
        temporarily_clear_interpreter_stack() as ambient,
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=devices),
        sdpa_kernel(SDPBackend.MATH),
    ):
        if any(isinstance(mode, Recorder) for mode in _get_current_dispatch_mode_stack()):
            # A captured function that calls an operator itself: what that operator decides is no part of the outer graph.
            stack.enter_context(_disable_current_modes())
            for _ in _get_current_function_mode_stack():
                stack.enter_context(_pop_mode_temporarily())
        stack.callback(torch._C._set_mkldnn_enabled, torch._C._get_mkldnn_enabled())
        torch._C._set_mkldnn_enabled(False)
        if x.device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        yield bool(ambient)


@contextlib.contextmanager
def record_under(tape: Tape, decompose: Callable[[Any], Any], *, ambient: bool) -> Iterator[None]:
    """Record what is done inside on a tape that has its inputs already. Must run inside `isolated`."""
    recorder = Recorder(tape, decompose, allow_reads=False)
    lifting = Lifting(recorder, ambient, False)
    with _LOCK, custom_functions(recorder, lifting), recorder, lifting:
        yield


def trace(
    function: Callable[..., Any],
    x: Tensor,
    leading: Sequence[Tensor],
    decompose: Callable[[Any], Any],
    tape: Tape,
    *,
    ambient: bool,
    functional: bool = False,
    wide: bool = False,
) -> Any:
    """Record ``function(stand-ins of leading, stand-in of x)``.

    Must run inside `isolated`, which gives ``ambient``. ``functional``: under functionalisation, for functions that write into
    views; slower, and less is recorded as a whole. ``wide``: the function is one of half precision, carried out in single
    precision: derivatives of numbers rounded to 8 or 11 bits at every step are noise. Returns the function's result; on the
    tape value 0 is x, and the first foreign tensors are ``leading``.
    """
    recorder = Recorder(tape, decompose, wide=wide)
    with torch.no_grad():
        points = up(stand_in(x))
        made = [stand_in(t) for t in leading]
    points.requires_grad_(x.requires_grad)
    tape.add(points, True)
    lifting = Lifting(recorder, ambient, functional)
    for live, copy in zip(leading, made, strict=True):
        tape.add_foreign(live, copy)

    def run(points: Tensor) -> Any:
        given = [lifting.wrapped(copy) for copy in made]
        lifting.stand_ins.update((id(live), copy) for live, copy in zip(leading, given, strict=True))
        return lifting.lifted(function(given, points))

    with _LOCK, custom_functions(recorder, lifting), recorder, lifting:
        return torch.func.functionalize(run)(points) if functional else run(points)
