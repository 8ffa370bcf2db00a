"""Signals that end a run between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP is not on Windows


class Interrupt:
    """Whether a signal has asked the run to end, and which one."""

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None

    @property
    def name(self) -> str | None:
        """``"SIGTERM"``; None where no signal came."""
        return None if self.number is None else signal.Signals(self.number).name


@contextmanager
def interruptible(found: Interrupt) -> Iterator[None]:
    """Note the first signal in ``found``; the second one does what it would have done without this.

    A signal that is ignored stays ignored (``nohup``, jobs in the background). Only the main thread may handle signals:
    elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    # A handler that was not installed by Python is None: it could not be put back.
    before = {n: handler for n in numbers if (handler := signal.getsignal(n)) not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: Any) -> None:
        del frame
        found.number = number
        restore()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
