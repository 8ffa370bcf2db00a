"""Run a torch function once and write down every ATen operator it executes.

Two nested modes watch the run: `Recorder` sits below autograd and functorch, `Lifting` above. Both are modes of this thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from opdsl.backends.torch.custom_functions import custom_functions
from opdsl.backends.torch.lifting import Lifting, stand_in
from opdsl.backends.torch.recorder import Recorder
from opdsl.backends.torch.tape import Tape, up


@contextlib.contextmanager
def record_under(tape: Tape, decompose: Callable[[Any], Any], *, ambient: bool) -> Iterator[None]:
    """Record what is done inside on a tape that has its inputs already. Must run inside `isolated`."""
    recorder = Recorder(tape, decompose, allow_reads=False)
    lifting = Lifting(recorder, ambient, False)
    with custom_functions(), recorder, lifting:
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

    try:
        with custom_functions(), recorder, lifting:
            return torch.func.functionalize(run)(points) if functional else run(points)
    finally:
        with torch.no_grad():
            for tensor, before in reversed(tape.overwritten):
                tensor.copy_(before)
