"""Modes of one thread: nothing here is seen by another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch._guards import TracingContext, tracing
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode


class DispatchMode(TorchDispatchMode):  # type: ignore[misc]
    """A dispatch mode that only goes on the stack of this thread.

    Torch's own ``__enter__`` and ``__exit__`` also keep flags of the whole process. Where two threads overlap, these flags stay
    set for ever, and `torch.compile` then compiles nothing any more.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch would import its compiler, a second's work, to keep it away from here; whoever compiles is kept away above.
        return False

    def __enter__(self) -> Any:
        _push_mode(self)
        return self

    def __exit__(self, *_: object) -> None:
        _pop_mode()


@contextlib.contextmanager
def compiled_functions_as_written() -> Iterator[None]:
    """Functions and modules made by `torch.compile` run their Python code, in this thread.

    They do so inside of a kernel, which is what this thread claims to be in: ``torch.compiler.set_stance`` would switch every
    thread.
    """
    inside = SimpleNamespace(in_kernel_invocation=True, shape_env=None)
    with tracing(TracingContext(inside)):
        yield
