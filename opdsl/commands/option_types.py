"""Numbers on the command line: what is not one of its kind is refused with what was expected."""

from __future__ import annotations

import argparse

_LARGEST = 1e12


def count(text: str) -> int:
    """A whole number from 1 on.

    Example:
        >>> count("12")
        12
    """
    return int(_number(text, int, 1, "a whole number that is at least 1"))


def seed(text: str) -> int:
    """A whole number from 0 on."""
    return int(_number(text, int, 0, "a whole number that is at least 0"))


def seconds(text: str) -> float:
    """A time, a millisecond at least."""
    return _number(text, float, 1e-3, "a number of seconds larger than 0")


def _number(text: str, kind: type[int] | type[float], least: float, what: str) -> float:
    try:
        value: float = kind(text)
    except ValueError:
        value = -1.0
    if not least <= value < _LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value
