"""Which letters a text uses as indices."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from opdsl.grammar.declarations import INDEX_LETTERS, index_letters
from opdsl.grammar.lexemes import Ident, Lexeme


def letters_used(lexemes: Sequence[Lexeme], names: Collection[str] = ()) -> frozenset[str]:
    """Those that stand below something that is neither a derivative nor one of the names, and those of sums."""
    found: set[str] = set()
    for lexeme in lexemes:
        if lexeme.kind == "SUM":
            found |= set(lexeme.value[0])  # type: ignore[index]
        if isinstance(lexeme.value, Ident) and lexeme.value.base not in ("d", "partial") and lexeme.value.full not in names:
            for text, _ in lexeme.value.subs:
                found |= set(index_letters(re.sub("[0-9]", "", text)))
    return frozenset(found)


def letters_of_derivatives(lexemes: Sequence[Lexeme]) -> frozenset[str]:
    """Those that a derivative is taken along: ``d_i``, ``∂/∂x_j``."""
    return frozenset("".join(text for lexeme in lexemes for text in _axes(lexeme))) & INDEX_LETTERS


def n_is_index(lexemes: Sequence[Lexeme], names: Collection[str] = ()) -> bool:
    """Say whether n is an index letter of the text and not the normal: ``u_n``, ``∂_n ∂_n u``, ``∂_mn u``."""
    if "n" in letters_used(lexemes, names):
        return True
    axes = [texts for lexeme in lexemes if lexeme.kind != "QUOTIENT" and (texts := _axes(lexeme))]
    if any("n" in index_letters(text) and text != "n" for texts in axes for text in texts):
        return True
    return axes.count(["n"]) > 1 and "n" in names


def _axes(lexeme: Lexeme) -> list[str]:
    match lexeme.kind, lexeme.value:
        case "PARTIAL", (str(text), *_):
            return [text]
        case "NAME", Ident(base="d" | "partial", subs=subs):
            return [text for text, _ in subs]
        case "QUOTIENT", axes:
            return [str(which) for name, which in axes if name is None]  # type: ignore[attr-defined]
    return []
