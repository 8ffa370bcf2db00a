"""The walks over expressions: trees of the language and pointwise expressions alike, shared parts once, without recursion.

Expressions are graphs: a definition that is used twice is one node with two parents, and 200 definitions in a row have 2²⁰⁰ paths. Every
function over expressions is therefore one of three, whose work grows with the number of distinct nodes and is counted:

* `fold`: the value of a node follows from those of all its children;
* `demand`: a rule asks for the values it needs, where they depend on more than the node or are wanted in an order of its own;
* `fill_slot`: a value that is asked for again and again is kept on the node.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, MutableMapping, Sequence
from typing import TypeVar

from opdsl.algebra.work import spend

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")
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


def preorder(roots: Iterable[T], children: Callable[[T], Sequence[T]]) -> Generator[T, None, None]:
    """Yield every distinct node at or below the roots once, parents before their children, left to right."""
    seen: set[int] = set()
    stack = list(roots)
    stack.reverse()
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            stack.extend(reversed(children(node)))


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


def demand(
    question: Q, rule: Callable[[Q], Generator[Q, V, V]], key: Callable[[Q], K], known: MutableMapping[K, V]
) -> V:
    """Answer a question by a rule that asks others, each of them once.

    Args:
        question: what is asked first.
        rule: a generator that yields questions, is sent their answers and returns its own.
        key: what tells questions apart, asked when they are put.
        known: answers by key; new ones are added.

    Example:
        >>> def fibonacci(n):
        ...     return n if n < 2 else (yield n - 1) + (yield n - 2)
        >>> demand(2000, fibonacci, int, {}) % 10**9
        516817125
    """
    place = key(question)
    if place in known:
        return known[place]
    spend(1)
    asking = [(place, rule(question))]
    answer: V | None = None
    try:
        while True:
            place, running = asking[-1]
            try:
                question = running.send(answer)  # type: ignore[arg-type]
            except StopIteration as done:
                answer = known[place] = done.value
                asking.pop()
                if not asking:
                    return known[place]
                continue
            place = key(question)
            answer = known.get(place)
            if answer is None:
                spend(1)
                asking.append((place, rule(question)))
    finally:
        for _, running in reversed(asking):
            running.close()


def fill_slot(node: T, slot: str, children: Callable[[T], Sequence[T]], value: Callable[[T], object]) -> None:
    """Put a value into a slot of the node, and of everything below it that has none yet, children first."""
    if not hasattr(node, slot):
        # What is built from below is asked about from below, too: then only the node itself is left.
        ready = all(hasattr(child, slot) for child in children(node))
        for each in (node,) if ready else postorder((node,), lambda n: () if hasattr(n, slot) else children(n)):
            if not hasattr(each, slot):
                spend(1)
                object.__setattr__(each, slot, value(each))
