"""The LALR tables, built once on first use: ``import opdsl`` does not pay for them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token
from lark.lexer import Lexer


class _Classified(Lexer):
    """Hands Lark the tokens that were classified already."""

    def __init__(self, lexer_conf: Any) -> None:
        pass

    def lex(self, data: Any) -> Iterator[Token]:  # type: ignore[override]
        yield from data.text if hasattr(data, "text") else data


@cache
def parser() -> Lark:
    """Return the parser; the grammar is proven free of conflicts by a test (``strict`` needs an extra package)."""
    text = files("opdsl.grammar").joinpath("operators.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", lexer=_Classified, maybe_placeholders=False, propagate_positions=True)
