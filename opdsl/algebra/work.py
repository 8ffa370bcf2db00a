"""Bounded work: what produces terms counts them, and whoever answers a user limits how many there may be.

Expansions, exact fractions and searches grow exponentially in the length of a text. Each of them calls `spend` where it does the
work; a public verb does its work inside `bounded`, so that it answers or is refused, on every text and on every machine alike: what
is counted are produced terms, not seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from opdsl.errors import OpLimitError

EXPANSION = "the expansion of this operator"
SMALLER = "lower the power or the order, or introduce an auxiliary field for the inner operator"

MAX_WORK = 400_000
"""Terms that one answer may produce: about a second. The equations of the test gallery need some thousands."""


class Allowance:
    """What is left of a limited amount of work."""

    __slots__ = ("left", "suggestion", "what")

    def __init__(self, what: str, suggestion: str | None, amount: int) -> None:
        self.what, self.suggestion, self.left = what, suggestion, amount


_current: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


def spend(amount: int) -> None:
    """Count so many produced terms.

    Raises:
        OpLimitError: the allowance of the surrounding `bounded` is used up.
    """
    allowance = _current.get()
    if allowance is not None:
        allowance.left -= amount
        if allowance.left < 0:
            raise OpLimitError(f"{allowance.what} is too large", code="E307", suggestion=allowance.suggestion)


@contextmanager
def bounded(what: str, suggestion: str | None = None, amount: int = MAX_WORK) -> Iterator[None]:
    """Limit the work inside; an allowance of its own also where another one surrounds it.

    Args:
        what: subject of the message, such as "the expansion of this operator".
        suggestion: what to write instead.
        amount: number of produced terms.

    Example:
        >>> with bounded("this sum", amount=3):
        ...     spend(2)
        ...     spend(2)
        Traceback (most recent call last):
        opdsl.errors.OpLimitError: OpLimitError[E307]: this sum is too large
    """
    token = _current.set(Allowance(what, suggestion, amount))
    try:
        yield
    finally:
        _current.reset(token)
