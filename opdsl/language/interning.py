"""Expressions of which equal ones are one object, and what follows from it: comparing, hashing, copying, writing them down.

Trees of the language and pointwise expressions are graphs of such nodes, shared, deep and used as dictionary keys. The table holds its
nodes weakly, so an expression lives as long as somebody uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from threading import RLock
from typing import Any, ClassVar, TypeVar, dataclass_transform
from weakref import WeakValueDictionary

from opdsl.language.traverse import fold

T = TypeVar("T")

_interned: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
_making = RLock()
_LONGEST = 1_000_000


def interned(key: tuple[Any, ...], make: Callable[[], T]) -> T:
    """Return the node of this key, its class and its values; it is made where there is none."""
    found = _interned.get(key)
    if found is None:
        made = make()
        # Under a lock, so that two threads never hold two nodes for one expression.
        with _making:
            found = _interned.setdefault(key, made)
    return found  # type: ignore[no-any-return]


class Expression:
    """A node of an expression; immutable."""

    __slots__ = ("__weakref__",)
    _entries: ClassVar[tuple[str, ...]] = ()
    _defaults: ClassVar[tuple[Any, ...]] = ()

    def __repr__(self) -> str:
        """``Add(terms=(…, …))`` as a dataclass writes it; parts of a million letters are left out."""

        def written(node: Expression, below: tuple[str, ...]) -> str:
            texts = iter(below)
            inside = ", ".join(f"{name}={_shown(getattr(node, name), texts)}" for name in node._entries)
            text = f"{type(node).__qualname__}({inside})"
            return text if len(text) <= _LONGEST else "…"

        return fold((self,), parts, written)[0]

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self


@dataclass_transform(frozen_default=True)
def expression_node(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots, compared and hashed as its base says. Where it stands in a text is none of its entries."""
    made: Any = dataclass(frozen=True, slots=True, eq=False, repr=False)(cls)
    entries = [entry for entry in fields(made) if entry.compare]
    made._entries = tuple(entry.name for entry in entries)
    made._defaults = tuple(entry.default for entry in entries)
    return made  # type: ignore[no-any-return]


def parts(node: Expression) -> list[Expression]:
    """Return the nodes among the values of a node, in their order."""
    found: list[Expression] = []
    for name in node._entries:
        _collect(getattr(node, name), found)
    return found


def _collect(value: Any, found: list[Expression]) -> None:
    if isinstance(value, Expression):
        found.append(value)
    elif isinstance(value, tuple):
        for each in value:
            _collect(each, found)


def _shown(value: Any, texts: Iterator[str]) -> str:
    """A value of a node; of nodes, which come in the order of `parts`, the texts are known."""
    if isinstance(value, tuple):
        inside = [_shown(each, texts) for each in value]
        return f"({', '.join(inside)}{',' * (len(inside) == 1)})"
    return next(texts) if isinstance(value, Expression) else repr(value)
