"""Custom ``autograd.Function`` s are kept whole, because their derivative is their own.

No mode of torch is told of them: ``MyFunction.apply`` goes to C++, which calls ``forward`` with autograd switched off, and
afterwards cannot be told from operators under ``no_grad``. ``f = MyFunction.apply`` may have been bound long ago, so the method
that every ``apply`` calls in the end is replaced while something is recorded, and put back after it. The replacement asks whether
a recorder is on the stack of its own thread, and is otherwise what it replaces.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.autograd.function import _SingleLevelFunction
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack

from opdsl.backends.torch.draws import Repeating
from opdsl.backends.torch.recorder import Recorder
from opdsl.backends.torch.tape import CustomFunction, ignoring_no_grad
from opdsl.errors import CaptureError

_lock = threading.Lock()
_recordings = 0
_before: Any = None


@contextlib.contextmanager
def custom_functions() -> Iterator[None]:
    """Recorders of this thread learn of custom functions inside."""
    global _recordings, _before
    with _lock:
        if _recordings == 0:
            _before = _SingleLevelFunction.__dict__.get("apply")
            _SingleLevelFunction.apply = classmethod(_apply)
        _recordings += 1
    try:
        yield
    finally:
        with _lock:
            _recordings -= 1
            if _recordings == 0 and _before is None:
                del _SingleLevelFunction.apply
            elif _recordings == 0:
                _SingleLevelFunction.apply = _before


def _apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    recorder = next((m for m in reversed(_get_current_dispatch_mode_stack()) if isinstance(m, Recorder)), None)
    return _run(cls, *args, **kwargs) if recorder is None else _recorded(recorder, cls, args, kwargs)


def _run(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What torch itself does for ``function.apply``."""
    return super(_SingleLevelFunction, function).apply(*args, **kwargs)  # type: ignore[misc]


def _recorded(recorder: Recorder, cls: Any, args: Any, kwargs: Any) -> Any:
    """One step of the tape, where the user's function is recorded; say on the tape that there was one.

    Where autograd itself is at work (a derivative inside the function, or the program of a derivative), it runs the function as
    always, so that the declared backward is recorded; its results are those of the whole.
    """
    from torch.utils.checkpoint import CheckpointFunction

    if cls is CheckpointFunction:
        function, _preserve, *rest = args
        return function(*rest)
    if cls.__module__ == "torch._library.autograd":
        # An operator of a library: it arrives at the recorder as such.
        with ignoring_no_grad():
            return _run(cls, *args, **kwargs)
    recorder.tape.custom = True
    lifting = recorder.lifting
    if lifting is None:
        return _run(cls, *args, **kwargs)
    args, kwargs = lifting.lifted(args), {k: lifting.lifted(v) for k, v in kwargs.items()}
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise CaptureError(
            f"the custom autograd.Function {cls.__name__} is used inside a torch.func transform within the function; its "
            "derivative cannot be followed there. Use torch.autograd.grad in place of the transform, or write its forward "
            "with torch operations."
        )
    with _disable_current_modes(), Repeating(), ignoring_no_grad():
        whole = recorder.record(CustomFunction(cls), args, kwargs, partial(_run, cls))
    if lifting.plain(args, kwargs):
        return whole
    with ignoring_no_grad():
        results = _run(cls, *args, **kwargs)
    recorder.rename(results, whole, args)
    return results
