"""One bounded memory for whatever may be made again: what was used longest ago is forgotten first."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import count
from threading import RLock
from typing import Any


class Recent:
    """The ``capacity`` entries that were used last; safe to share between threads.

    Example:
        >>> kept = Recent(2)
        >>> kept["a"], kept["b"] = 1, 2
        >>> kept.get("a")
        1
        >>> kept["c"] = 3
        >>> kept.get("b") is None, len(kept)
        (True, 2)
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # By key what is kept, and when it was used last. Keys are long: each is hashed once for a look.
        self._entries: dict[Hashable, tuple[Any, list[int]]] = {}
        self._clock = count()
        # Collecting garbage may call `pop` in the middle of anything that this thread does here.
        self._lock = RLock()

    def get(self, key: Hashable) -> Any:
        """The entry, which counts as used now; None where there is none."""
        found = self._entries.get(key)
        if found is None:
            return None
        found[1][0] = next(self._clock)
        return found[0]

    def __setitem__(self, key: Hashable, value: Any) -> None:
        with self._lock:
            self._entries[key] = value, [next(self._clock)]
            while len(self._entries) > self.capacity:
                oldest = min(list(self._entries.items()), key=lambda entry: entry[1][1])[0]
                self._entries.pop(oldest, None)

    def pop(self, key: Hashable) -> None:
        """Forget an entry, if it is there."""
        with self._lock:
            self._entries.pop(key, None)

    def __len__(self) -> int:
        return len(self._entries)
