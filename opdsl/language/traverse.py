"""The walks over expressions: trees of the language and pointwise expressions alike, shared parts once, without recursion.

Expressions are graphs: a definition that is used twice is one node with two parents, and 200 definitions in a row have 2²⁰⁰ paths. Every
function over expressions is therefore a fold, whose work grows with the number of distinct nodes, or refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from opdsl.algebra.work import spend

T = TypeVar("T")
V = TypeVar("V")


def postorder(roots: Iterable[T], children: Callable[[T], Sequence[T]]) -> list[T]:
    """Return every distinct node at or below the roots once, children before their parents, left to right."""
    seen: set[int] = set()
    order: list[T] = []
    stack: list[tuple[T, bool]] = [(root, False) for root in roots]
    stack.reverse()
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(children(node)) if id(child) not in seen)
    return order


def fold(roots: Sequence[T], children: Callable[[T], Sequence[T]], value: Callable[[T, tuple[V, ...]], V]) -> list[V]:
    """Compute a value for every distinct node from the values of its children; return those of the roots.

    Example:
        >>> size = {1: (2, 2), 2: (3,), 3: ()}
        >>> fold([1], lambda n: size[n], lambda n, below: 1 + sum(below))
        [5]
    """
    order = postorder(roots, children)
    spend(len(order))
    found: dict[int, V] = {}
    for node in order:
        found[id(node)] = value(node, tuple(found[id(child)] for child in children(node)))
    return [found[id(root)] for root in roots]


def fill_slot(node: T, slot: str, children: Callable[[T], Sequence[T]], value: Callable[[T], object]) -> None:
    """Put a value into a slot of the node, and of everything below it that has none yet, children first."""
    if not hasattr(node, slot):
        for each in postorder((node,), lambda n: () if hasattr(n, slot) else children(n)):
            if not hasattr(each, slot):
                object.__setattr__(each, slot, value(each))
