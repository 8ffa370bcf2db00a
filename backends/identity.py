"""Keys that are equal to themselves only."""

from __future__ import annotations


class Identity:
    """Equal to itself only; keeps the object alive, so that its address is not reused."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)
