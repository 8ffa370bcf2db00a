"""Progress of a training run on the terminal: a bar with the named losses, or plain lines for a log file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

_LINES = 10


@contextmanager
def bars(
    names: Sequence[str], *, quiet: bool = False
) -> Iterator[Callable[[int, int, str, dict[str, float]], None] | None]:
    """Yield a function ``progress(step, steps, phase, losses)`` that shows where a run is.

    Args:
        names: of the losses, in the order they are shown.
        quiet: yield None instead.
    """
    if quiet:
        yield None
    elif not sys.stdout.isatty():
        yield _Lines(names)
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        # In a narrow terminal the last losses are cut off, never the step.
        columns = (
            TextColumn("{task.fields[phase]}", table_column=Column(min_width=6)),
            BarColumn(bar_width=12, table_column=Column(min_width=12)),
            MofNCompleteColumn(table_column=Column(min_width=9, no_wrap=True)),
            TimeElapsedColumn(table_column=Column(min_width=7, no_wrap=True)),
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        )
        shown = Progress(*columns)
        shown.start()
        task = shown.add_task("", phase="", total=None)

        def update(step: int, steps: int, phase: str, losses: dict[str, float]) -> None:
            shown.update(task, completed=step, total=steps, phase=phase, description=_text(names, losses))

        try:
            yield update
        finally:
            with suppress(OSError):  # the terminal may be gone
                shown.stop()


class _Lines:
    """About ten lines per run, for log files."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._next = names, 0

    def __call__(self, step: int, steps: int, phase: str, losses: dict[str, float]) -> None:
        if step < self._next and step != steps:
            return
        self._next = step + max(1, steps // _LINES)
        print(f"{step:>6}/{steps}  {phase:<6}  {_text(self._names, losses)}", flush=True)


def _text(names: Sequence[str], losses: dict[str, float]) -> str:
    return "  ".join(f"{name} {losses[name]:.2e}" for name in names if name in losses)
