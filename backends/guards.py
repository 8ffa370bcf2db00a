"""Whether everything that a walk over a function has read is still the same object in the same place.

A fingerprint (`opdsl.backends.fingerprint`) is a function of what its walk reads: containers, attributes, cells, globals. So it need not
be made again while every one of these places holds what it held. The places are written down once, in flat lists, and looked at
together in a few calls into C; what is found elsewhere, equal or not, sends the next call to the walk. Nothing is compared by value
but facts that can change inside an object (the shape of a tensor, the contents of an array of NumPy).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from itertools import chain
from operator import is_
from typing import Any, Generic, TypeVar

from opdsl.backends.recent import Recent

_ABSENT = object()
T = TypeVar("T")


class Guards:
    """The places of one walk.

    Args:
        facts: of an array or the like, what may change while it stays the same object; None where nothing can.
        root: what the walk starts from; it is not kept alive from here, but handed in again to be looked at.
    """

    def __init__(self, facts: Callable[[Any], Hashable | None], root: Any) -> None:
        self._facts, self._root = facts, id(root)
        self._own: list[tuple[str, Any]] = []
        # Live views: keys and values of dictionaries, lists, sets. All of them are run through in one go.
        self._views: list[Collection[Any]] = []
        self._empty: list[Collection[Any]] = []
        self._attributes: list[tuple[Any, str, Any]] = []
        self._cells: list[Any] = []
        self._contents: list[Any] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._told: list[tuple[Callable[[Any], Hashable], Any, Hashable]] = []
        self._counts: list[int] = []
        self._held: list[Any] = []
        self._closed = True

    def refuse(self) -> None:
        """Something was read that cannot be watched."""
        self._closed = False

    def view(self, container: Collection[Any]) -> None:
        """The entries of a list or a set, in their order; keys or values of a dictionary, by its own view."""
        if len(container):
            self._views.append(container)
            self._counts.append(len(container))
            self._held += container
        else:
            self._empty.append(container)

    def mapping(self, entries: Any) -> None:
        """The names and values of a dictionary."""
        if len(entries):
            self.view(entries.keys())
            self.view(entries.values())
        else:
            self._empty.append(entries)

    def attribute(self, thing: Any, *names: str) -> None:
        """What ``getattr`` gives, or that it gives nothing."""
        if id(thing) == self._root:
            self._own += [(name, getattr(thing, name, _ABSENT)) for name in names]
        else:
            self._attributes += [(thing, name, getattr(thing, name, _ABSENT)) for name in names]

    def cell(self, cell: Any) -> None:
        """What a closure holds."""
        self._cells.append(cell)
        self._contents.append(cell.cell_contents)

    def name(self, outer: dict[str, Any], name: str) -> None:
        """A global, or that there is none of this name."""
        self._globals.append((outer, name, outer.get(name, _ABSENT)))

    def array(self, thing: Any) -> None:
        """An array, or another thing that a framework knows."""
        held = self._facts(thing)
        if held is not None:
            self._told.append((self._facts, thing, held))

    def told(self, ask: Callable[[Any], Hashable], thing: Any, held: Hashable) -> None:
        """What somebody says of a thing, compared by value."""
        self._told.append((ask, thing, held))

    def hold(self, root: Any) -> bool:
        """Whether the walk would read the same again."""
        try:
            return (
                self._closed
                and not any(map(len, self._empty))
                and list(map(len, self._views)) == self._counts
                and all(map(is_, chain.from_iterable(self._views), self._held))
                and all(getattr(root, name, _ABSENT) is held for name, held in self._own)
                and all(getattr(thing, name, _ABSENT) is held for thing, name, held in self._attributes)
                and all(map(is_, [cell.cell_contents for cell in self._cells], self._contents))
                and all(outer.get(name, _ABSENT) is held for outer, name, held in self._globals)
                and all(ask(thing) == held for ask, thing, held in self._told)
            )
        except (ValueError, RuntimeError, AttributeError, LookupError, TypeError):
            return False  # an empty cell, a dictionary that another thread writes


@dataclass
class Known(Generic[T]):
    """What the last walk over a function found, and whether that can be told to hold still.

    Attributes:
        function: the function, while it lives.
        found: what was found.
        guards: of that walk; None after the first one, for many functions are seen once.
        changed: how often the guards did not hold since they last did.
        made: what was made of ``found``, by whatever else it depends on.
    """

    function: Callable[[], Any]
    found: T | None = None
    guards: Guards | None = None
    changed: int = 0
    made: dict[Hashable, Any] = field(default_factory=dict)


_TIMES = 8
"""A function that changes at so many calls in a row is walked over without guards."""


class Followed(Generic[T]):
    """What walks found, by the function itself; kept while it lives, for the ``capacity`` functions that were called last."""

    def __init__(self, capacity: int, walk: Callable[[Any, Guards | None], T | None], facts: Callable[[Any], Hashable | None]) -> None:
        self._known = Recent(capacity)
        self._walk, self._facts = walk, facts

    def known(self, function: Any) -> Known[T]:
        """What is known of a function now."""
        number = id(function)
        entry: Known[T] | None = self._known.get(number)
        if entry is None or entry.function() is not function:
            return self._first(function, number)
        if entry.guards is not None and entry.found is not None and entry.guards.hold(function):
            entry.changed = 0
            return entry
        entry.changed += 1
        guards = Guards(self._facts, function) if entry.changed < _TIMES else None
        found = self._walk(function, guards)
        # Whatever another thread reads here belongs together.
        self._known[number] = made = Known(entry.function, found, guards, entry.changed)
        return made

    def _first(self, function: Any, number: int) -> Known[T]:
        found = self._walk(function, None)
        try:
            forget = self._known.pop
            made = Known(weakref.ref(function, lambda _, number=number: forget(number)), found)  # type: ignore[misc]
        except TypeError:
            return Known(lambda: None, found)
        self._known[number] = made
        return made
