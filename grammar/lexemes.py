"""Lexemes, and what a scanner writes them with: places in the user's text, errors that are collected."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from opdsl.errors import LanguageError, OpLimitError, OpSyntaxError, Span
from opdsl.grammar.declarations import LETTER, MAX_ORDER, SUBSCRIPTS, SUPERSCRIPTS, ascii_name
from opdsl.grammar.spellings import Spellings

SUP = "".join(SUPERSCRIPTS)
SUBSCRIPT = rf"_\s?\{{(?:[^{{}}]|_\s?\{{[^{{}}]*\}})*\}}|_∞|_[{LETTER}0-9]+[₀-₉]*|[{''.join(SUBSCRIPTS)}]+"
IDENT = re.compile(rf"([{LETTER}][{LETTER}0-9]*)((?:{SUBSCRIPT})*)")


@dataclass(frozen=True, slots=True)
class Ident:
    """A name as written: base and the texts of its subscripts, braces marked."""

    base: str
    subs: tuple[tuple[str, bool], ...] = ()

    @property
    def full(self) -> str:
        """The name with its subscripts joined by underscores, the way it would be declared."""
        if not self.subs:
            return self.base
        return "_".join([self.base, *(text if text.isalnum() else re.sub(r"[\s,]", "", text) for text, _ in self.subs)])


    @property
    def ambient(self) -> bool:
        """``T_inf``, ``T_∞``: the value far away."""
        return len(self.subs) == 1 and self.subs[0][0] == "inf"


Axis = tuple[str | None, int | str | None]


@dataclass(frozen=True, slots=True)
class Lexeme:
    """One token: kind, text (folded), place in the user's text, and what was recognised."""

    kind: str
    text: str
    span: Span
    value: object = None
    tight: bool = False
    """No blank before the next token in what the user wrote."""


def subscript_text(raw: str) -> str:
    """What stands in a subscript, without its braces: ``_{x_{1} t}`` → ``x_1 t``, ``ₓₓ`` → ``xx``."""
    braced = re.match(r"_\s?\{(.*)\}", raw, re.DOTALL)
    inner = braced[1] + raw[braced.end() :] if braced else raw
    return ascii_name(re.sub(r"_\s?\{([^{}]*)\}", r"_\1 ", inner)).lstrip("_ ").strip()


class Writer:
    """A text, what is declared, and the lexemes and errors found so far."""

    def __init__(
        self, text: str, *, coords: Sequence[str] | None, vectors: frozenset[str], declared: frozenset[str], origin: Sequence[Span] | None
    ) -> None:
        self.text = text
        self.coords = coords
        self.vectors = vectors
        self.declared = declared
        self.origin = origin
        self.names = Spellings(declared, coords or (), vectors)
        self.out: list[Lexeme] = []
        self.errors: list[LanguageError] = []

    def span(self, start: int, stop: int) -> Span:
        """Map a place in the scanned text to the user's text."""
        if self.origin is None:
            return Span(start, stop)
        end = self.origin[-1].stop if self.origin else 0
        first = self.origin[start].start if start < len(self.origin) else end
        last = self.origin[stop - 1].stop if 0 < stop <= len(self.origin) else first + 1
        return Span(first, max(last, first + 1))

    def emit(self, kind: str, start: int, stop: int, value: object = None) -> None:
        """Append a lexeme."""
        next_ = stop
        if self.origin is not None and stop + 1 < len(self.text) and self.origin[stop] == self.origin[stop + 1]:
            next_ += self.text[stop].isspace()  # a blank that stands in the translation only
        tight = next_ < len(self.text) and not self.text[next_].isspace()
        self.out.append(Lexeme(kind, self.text[start:stop], self.span(start, stop), value, tight))

    def fail(self, message: str, start: int, stop: int, code: str, suggestion: str | None = None) -> None:
        """Note an error and go on, so that several are reported at once."""
        if len(self.errors) < 20:
            self.errors.append(OpSyntaxError(message, code=code, spans=(self.span(start, stop),), suggestion=suggestion))

    def too_high(self, start: int, stop: int, order: int) -> None:
        self.errors.append(
            OpLimitError(f"a derivative of order {order}; the limit is {MAX_ORDER}", code="E304", spans=(self.span(start, stop),))
        )
