"""Index letters: which are free, which are summed, and what does not fit.

Free letters stand in alphabetical order before the tensor axes, as in implicit `einsum`.
"""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.errors import LanguageError, OpIndexError
from opdsl.language.declarations import Dim
from opdsl.language.function_shapes import Type
from opdsl.language.operator_application import spans_of
from opdsl.language.tree import Add, Call, Mul, Node, Pow, Ref, SumOver


def occurrences(nodes: Sequence[Node], types: Sequence[Type]) -> list[tuple[str, Dim, Node]]:
    """Return the free letters of some nodes with their ranges, as often as they occur."""
    return [(letter, size, node) for node, type_ in zip(nodes, types, strict=True) for letter, size in type_.free]


def contract(
    node: Node, found: Sequence[tuple[str, Dim, Node]], parts: Sequence[Type], bound: frozenset[str]
) -> Type:
    """Sum letters that occur twice, keep those that occur once, refuse the rest."""
    count: dict[str, list[tuple[Dim, Node]]] = {}
    for letter, size, where in found:
        count.setdefault(letter, []).append((size, where))
    free: list[tuple[str, Dim]] = []
    sums: list[tuple[str, Dim]] = []
    dummies = frozenset[str]().union(*(part.dummies for part in parts))
    for letter, places in count.items():
        sizes = {size for size, _ in places}
        if len(sizes) > 1:
            raise OpIndexError(
                f"index {letter} ranges over {' and '.join(map(str, sorted(sizes, key=str)))} components",
                code="E204", spans=spans_of(*(where for _, where in places))[:2],
            )
        if letter in bound:
            free.append((letter, places[0][0]))
            continue
        if len(places) > 2 or letter in dummies:
            raise OpIndexError(
                f"index {letter} occurs more than twice in one term", code="E202", spans=spans_of(node),
                suggestion=f"rename one pair, or write sum_{letter}(...) for an explicit sum",
            )
        (sums if len(places) == 2 else free).append((letter, places[0][0]))
    return Type(
        free=tuple(sorted(free)), sums=tuple(sorted(sums)), dummies=dummies | {letter for letter, _ in sums},
        complex=any(part.complex for part in parts),
    )


def free_mismatch(one: Node, first: Type, other: Node, second: Type) -> LanguageError:
    """The error for two terms with different free letters."""
    missing = sorted(first.letters - second.letters)
    if missing:
        text = f"index {', '.join(missing)} of the first term [^] is missing in the second term [~]"
    else:
        extra = ", ".join(sorted(second.letters - first.letters))
        text = f"index {extra} of the second term [~] is missing in the first term [^]"
    return OpIndexError(text, code="E201", spans=spans_of(one, other))


def refuse_shared_dummies(factors: Sequence[Node], types: Sequence[Type]) -> None:
    """Refuse a letter that two factors of a product sum over."""
    seen: dict[str, Node] = {}
    for factor, type_ in zip(factors, types, strict=True):
        if isinstance(factor, (Mul, Add, Call, Pow, SumOver, Ref)):
            continue  # a bracket of its own keeps its summed letters to itself
        for letter in sorted(type_.dummies):
            if letter in seen:
                raise OpIndexError(
                    f"index {letter} occurs more than twice in one term", code="E202",
                    spans=spans_of(seen[letter], factor), suggestion="rename one pair, or put each in parentheses",
                )
            seen[letter] = factor
