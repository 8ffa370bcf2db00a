"""Characters → lexemes. Knows the alphabet, Leibniz quotients and where a statement ends; knows nothing of precedence.

Two things are decided here because no grammar can: ``d^2u/dxdy`` is one operator before ``/`` is a division, and a bar opens or
closes. A lexeme keeps its place in the text the user wrote, also when that text was LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from opdsl.errors import OpLimitError, Span
from opdsl.grammar.character_hints import character_hint
from opdsl.grammar.declarations import INDEX_LETTERS, LETTER, MAX_ORDER, SUBSCRIPTS, SUPERSCRIPTS, ascii_name
from opdsl.grammar.leibniz import Leibniz
from opdsl.grammar.lexemes import IDENT, SUBSCRIPT, SUP, Ident, Lexeme, subscript_text
from opdsl.grammar.spellings import coordinate_suffix
from opdsl.language.declarations import USUAL_COORDINATES

# Some two seconds of parsing; a paper has a few hundred characters of equations.
MAX_TEXT = 40_000
MAX_DEPTH = 60
MAX_DIGITS = 300
MAX_NAME = 200

_SUB = re.compile(SUBSCRIPT)
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_SUPER = re.compile(f"[{SUP}]+")
_PLACE = re.compile(rf"\s*(?:_\s*\{{?\s*)?[{LETTER}]+\s*=(?!=)")
_LABEL = re.compile(rf"[{LETTER}][{LETTER}0-9_]*\s*:(?!\s*=)")
_FRACTIONS = {
    char: (top, bottom)
    for char, top, bottom in zip("½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞", map(int, "112131234151357"), map(int, "233445555668888"), strict=True)
}  # fmt: skip
_TRANSPOSED = re.compile(r"ᵀ|\^\s*\{?\s*⊤\s*\}?")
_SUM = re.compile(
    rf"(?P<word>∑|Σ|sum(?![{LETTER}0-9]))\s*(?P<below>{SUBSCRIPT})(?:\s*(?P<above>\^\s*(?:\{{[^{{}}]*\}}|[{LETTER}0-9]+)))?"
)
_COMMA = re.compile(rf",([{LETTER}][{LETTER}0-9]*(?:_[0-9]+)?)(?![{LETTER}0-9_(])")
_SYMBOLS = {
    "**": "POWER", "^": "POWER", "+": "SIGN", "-": "SIGN", "±": "BAD", "*": "PRODUCT", "/": "PRODUCT", "·": "PRODUCT",
    "×": "PRODUCT", "⊗": "PRODUCT", ":": "PRODUCT", "(": "LPAR", ")": "RPAR", "[": "LPAR", "]": "RPAR", "{": "LBRACE", "}": "RBRACE", ",": "COMMA",
    "==": "RELATION", "<=": "RELATION", ">=": "RELATION", "!=": "RELATION", "≤": "RELATION", "≥": "RELATION",
    "≠": "RELATION", "<": "RELATION", ">": "RELATION", "=": "EQUALS", ";": "SEP", "∇": "NABLA", "Δ": "DELTA",
}  # fmt: skip
# Operators spelled out, unless such a name is declared; Greek letters and their names are one.
_WORDS = {"nabla": "∇", "del": "∇", "Delta": "Δ"}
_VALUES = ("NAME", "RPAR", "PRIME", "SUB", "CLOSE")
_RELATIONS = {"≤": "<=", "≥": ">=", "≠": "!="}


class Scanner(Leibniz):
    """Scans one text. ``coords`` and ``declared`` are needed to recognise ``d^2u/dxdy`` and ``dx(u)``."""

    def __init__(
        self,
        text: str,
        *,
        coords: Sequence[str] | None,
        vectors: frozenset[str] = frozenset(),
        declared: frozenset[str] = frozenset(),
        tensors: frozenset[str] = frozenset(),
        origin: Sequence[Span] | None = None,
    ) -> None:
        super().__init__(text, coords=coords, vectors=vectors, declared=declared, origin=origin)
        self.tensors = tensors
        self.brackets: list[tuple[str, int]] = []
        self.lists: set[int] = set()
        """Brackets that may hold a list of arguments, where a comma separates."""

    # ---------------------------------------------------------------------------------- the loop
    def scan(self) -> list[Lexeme]:
        """Return all lexemes; errors are collected in ``errors``."""
        text = self.text
        if len(text) > MAX_TEXT:
            raise OpLimitError(f"the text has {len(text)} characters; the limit is {MAX_TEXT}", code="E302")
        position = 0
        while position < len(text):
            position = self.next_lexeme(position)
        for symbol, start in reversed(self.brackets):
            what = {"(": "parenthesis", "[": "bracket", "{": "brace"}.get(symbol, "bar")
            self.fail(f"this {what} is never closed", start, start + 1, "E012" if what == "bar" else "E011",
                      "write norm(...) or abs(...) where bars would be nested" if what == "bar" else "add the closing one")
        return self.out

    def next_lexeme(self, at: int) -> int:
        text = self.text
        char = text[at]
        if char == "\n":
            if not self.brackets and not (self.out and self.out[-1].kind in ("PRODUCT", "SIGN", "EQUALS", "POWER")):
                self.emit("SEP", at, at + 1)
            return at + 1
        if char.isspace():
            return at + 1
        if char in _FRACTIONS:
            return self._fraction(at)
        if char == "□":
            self.emit("BOX", at, at + 1)
            return at + 1
        if match := _TRANSPOSED.match(text, at):
            self.emit("SUPER", at, match.end(), "T")
            return match.end()
        if (match := _SUM.match(text, at)) and (stop := self._sum(match)):
            return stop
        if char == "#":
            end = text.find("\n", at)
            return len(text) if end < 0 else end
        if char.isdecimal() or (char == "." and text[at + 1 : at + 2].isdecimal()):
            return self._number(at)
        if char in "∂d":
            stop = self.leibniz(at) or self.partial(at)
            if stop:
                return stop
        if char == "∂":
            return self.bad_partial(at)
        if match := IDENT.match(text, at):
            return self._ident(match)
        if match := _SUPER.match(text, at):
            digits = "".join(SUPERSCRIPTS[c] for c in match[0])
            if not re.fullmatch(r"[-+]?\d{1,4}", digits):
                self.fail("this superscript is no whole number", at, match.end(), "E015", "write ^( ... )")
                digits = "1"
            self.emit("SUPER", at, match.end(), int(digits))
            return match.end()
        if char in "'\"‴":
            return self._primes(at)
        if char == "_" or char in SUBSCRIPTS:
            return self._subscript(at)
        if char in "|‖":
            return self._bar(at)
        return self._symbol(at)

    # ---------------------------------------------------------------------------------- pieces
    def _number(self, at: int) -> int:
        match = _NUMBER.match(self.text, at)
        assert match is not None
        literal = match[0]
        mantissa, _, exponent = literal.lower().partition("e")
        if len(mantissa) > MAX_DIGITS or len(exponent) > 5 or abs(int(exponent or 0)) > 300:
            self.errors.append(
                OpLimitError(f"a number may have {MAX_DIGITS} digits and an exponent up to 300", code="E306",
                             spans=(self.span(at, match.end()),))
            )
            literal = "1"
        if not literal.isascii():
            self.fail("write numbers with the digits 0-9", at, match.end(), "E016")
            literal = "1"
        before = self.out[-1] if self.out and self.out[-1].tight else None
        if before is not None and (before.kind == "NUMBER" or (before.kind in _VALUES and literal.startswith("."))):
            what = "a number has one decimal point" if before.kind == "NUMBER" else "a decimal point stands between two factors"
            self.fail(what, at, match.end(), "E018", "write * between two factors")
        if re.match(r",\d", self.text[match.end() : match.end() + 2]) and not any(start in self.lists for _, start in self.brackets):
            self.fail("a decimal comma?", at, match.end() + 2, "E018", f"write {literal}.{self.text[match.end() + 1]} with a point")
            return match.end() + 2
        self.emit("NUMBER", at, match.end(), Fraction(literal.rstrip(".") if literal.endswith(".") else literal))
        return match.end()

    def _fraction(self, at: int) -> int:
        """``½`` is (1/2)."""
        if self.out and self.out[-1].kind == "NUMBER" and self.out[-1].tight:
            self.fail("a number and a fraction next to each other: a sum or a product?", at, at + 1, "E018",
                      "write 2.5 for the sum, 2*½ for the product")
        top, bottom = _FRACTIONS[self.text[at]]
        for kind, value in (("LBRACE", "{"), ("NUMBER", Fraction(top)), ("PRODUCT", "/"), ("NUMBER", Fraction(bottom)), ("RBRACE", "}")):
            self.emit(kind, at, at + 1, value)
            self.out[-1] = replace(self.out[-1], text=str(value))
        return at + 1

    def _sum(self, match: re.Match[str]) -> int | None:
        """``sum_i``, ``sum_ij``, ``∑_{i=1}^d``: letters, the first value and the last one if they are given."""
        word, letters = match["word"], re.sub(r"[\s,]", "", subscript_text(match["below"]))
        letters, _, first = letters.partition("=")
        if not letters or not set(letters) <= INDEX_LETTERS or ascii_name(word) in self.declared:
            return None
        if (word == "Σ" and len(letters) > 1 and not first) or f"{ascii_name(word)}_{letters}" in self.declared:
            return None  # a matrix Σ_ij
        last = re.sub(r"[\s{}^]", "", match["above"] or "") if first else None
        stop = match.end() if first else match.end("below")
        self.emit("SUM", match.start(), stop, (letters, first or None, last))
        return stop

    def _ident(self, match: re.Match[str]) -> int:
        start, end = match.span()
        base = ascii_name(match[1])
        # ``u_x'`` and ``x_i`` end where the regular expression ends; a dangling underscore is reported by _subscript.
        if self._at_statement_start():
            label = _LABEL.match(self.text, start)
            if label and not self.brackets:
                name = ascii_name(label[0][:-1].strip())
                if name in self.tensors:
                    self.fail(f"{name}: names the equation, or contracts twice?", start, label.end(), "E019",
                              f"write ddot({name}, …), or give the equation another name")
                self.emit("LABEL", start, label.end(), name)
                return label.end()
            if match[0] == "let":
                self.emit("LET", start, end)
                return end
        if base in _WORDS and base not in self.declared and ascii_name(match[0]) not in self.declared:
            return self._nabla(start, match.end(1)) if _WORDS[base] == "∇" else self._word("DELTA", start, match.end(1), "Δ")
        subs: list[tuple[str, bool]] = []
        if end - start > MAX_NAME:
            self.errors.append(OpLimitError(f"a name of {end - start} characters; the limit is {MAX_NAME}", code="E310",
                                            spans=(self.span(start, end),)))
            return end
        for sub in _SUB.finditer(match[2]):
            braces = "{" in sub[0]
            inner = subscript_text(sub[0])
            if self._is_subscript(inner, start, end, "a sum runs over all space coordinates: write sum_i(…)"
                                  if base in ("sum", "Sigma") else None):
                subs.append((inner, braces))
        if (comma := _COMMA.match(self.text, end)) and self._is_comma_derivative(ascii_name(comma[1])):
            before = subs.pop()[0] if subs else ""
            subs.append((f"{before},{ascii_name(comma[1])}", True))
            end = comma.end()
        self.emit("NAME", start, end, Ident(*self.names.respelled(base, tuple(subs))))
        return end

    def _is_comma_derivative(self, suffix: str) -> bool:
        """``σ_ij,j`` and ``φ,tt``, but not where commas separate arguments."""
        if any(start in self.lists for _, start in self.brackets):
            return False
        if set(suffix) <= INDEX_LETTERS:
            return True
        try:
            known = self.coords if self.coords is not None else sorted(USUAL_COORDINATES)
            return coordinate_suffix(suffix, known, repeats=False) is not None
        except ValueError:
            return False

    def _is_subscript(self, inner: str, start: int, end: int, suggestion: str | None = None) -> bool:
        if not inner.strip():
            self.fail("an empty subscript", start, end, "E017")
        elif not re.fullmatch(r"[\w\s,]+", inner):
            self.fail("a subscript holds coordinates, indices or numbers", start, end, "E017",
                      suggestion or "declare a plain name for anything else")
        else:
            return True
        return False

    def _word(self, kind: str, start: int, stop: int, symbol: str) -> int:
        """An operator that is spelled out stands in the tokens as its symbol."""
        self.emit(kind, start, stop, symbol)
        self.out[-1] = replace(self.out[-1], text=symbol)
        return stop

    def _nabla(self, start: int, stop: int) -> int:
        """``∇``, or ``∇·``, ``∇×``, ``∇⊗`` as one."""
        follow = re.compile(r"\s*([·×⊗])").match(self.text, stop)
        if follow and self._nabla_takes(follow.end()):
            return self._word({"·": "DIV", "×": "CURL", "⊗": "GRAD"}[follow[1]], start, follow.end(), f"∇{follow[1]}")
        return self._word("NABLA", start, stop, "∇")

    def _at_statement_start(self) -> bool:
        return not self.out or self.out[-1].kind == "SEP"

    def _primes(self, at: int) -> int:
        end, count = at, 0
        while end < len(self.text) and self.text[end] in "'\"‴":
            count += {"'": 1, '"': 2, "‴": 3}[self.text[end]]
            end += 1
        if count > MAX_ORDER:
            self.errors.append(OpLimitError(f"{count} primes; the limit is order {MAX_ORDER}", code="E304",
                                            spans=(self.span(at, end),)))
            count = 1
        self.emit("PRIME", at, end, count)
        return end

    def _subscript(self, at: int) -> int:
        match = _SUB.match(self.text, at)
        if match is None:
            self.fail("an underscore needs a subscript", at, at + 1, "E017", "write u_x, a_ij or (…)_x")
            return at + 1
        if not self.text[at - 1 : at].strip():
            self.fail("a subscript or prime with nothing before it", at, match.end(), "E082", "write u_x, u' or (…)_x")
        inner = subscript_text(match[0])
        if not self._is_subscript(inner, at, match.end()):
            return match.end()
        self.emit("SUB", at, match.end(), (inner, "{" in match[0]))
        return match.end()

    def _bar(self, at: int) -> int:
        text = self.text
        double = text[at] == "‖" or text.startswith("||", at)
        symbol = "‖" if double else "|"
        end = at + (2 if text.startswith("||", at) else 1)
        if self.brackets and self.brackets[-1][0] == symbol:
            self.brackets.pop()
            self.emit("BAR_CLOSE", at, end, symbol)
        elif any(b == symbol for b, _ in self.brackets):
            self.fail("nested bars cannot be told apart", at, end, "E012", "write norm(...) or abs(...) for the inner one")
        elif self.out and self.out[-1].tight and self.out[-1].kind in _VALUES and (place := _PLACE.match(text, end)):
            self.fail("a bar stands before a place", at, end, "E014", "write u(x=0) for the value at x = 0")
            return max(text.find("}", place.end()) + 1, place.end()) if "{" in place[0] else end
        else:
            self.brackets.append((symbol, at))
            self.emit("BAR_OPEN", at, end, symbol)
        return end

    def _symbol(self, at: int) -> int:
        text = self.text
        if text[at : at + 2] in (":=", "->", "=>"):
            self.fail(f"{text[at : at + 2]!r} stands where an equation has '='", at, at + 2, "E071", "write u_t = …")
            self.emit("EQUALS", at, at + 2, "=")
            return at + 2
        symbol = text[at : at + 2] if text[at : at + 2] in _SYMBOLS else text[at]
        end = at + len(symbol)
        kind = _SYMBOLS.get(symbol)
        if kind is None or kind == "BAD":
            self.fail(f"the character {symbol!r} has no meaning here", at, end, "E010", character_hint(symbol))
            return end
        if kind in ("LPAR", "LBRACE"):
            self.brackets.append((symbol, at))
            if symbol != "{" and self.out and self.out[-1].kind in ("NAME", "PRIME", "CLOSE"):
                self.lists.add(at)
            if len(self.brackets) > MAX_DEPTH:
                raise OpLimitError(f"brackets are nested deeper than {MAX_DEPTH}", code="E303", spans=(self.span(at, end),))
        elif kind in ("RPAR", "RBRACE"):
            wanted = {")": "(", "]": "[", "}": "{"}[symbol]
            if not self.brackets or self.brackets[-1][0] != wanted:
                if self.brackets and self.brackets[-1][0] in "|‖":
                    self.fail("this bar is not closed before the parenthesis", self.brackets[-1][1], at, "E012",
                              "write norm(...) or abs(...) where bars would be nested")
                    self.brackets.pop()
                else:
                    self.fail(f"nothing is opened for this {symbol!r}", at, end, "E011", "remove it, or open it before")
                    return end
            if self.brackets:
                self.brackets.pop()
        elif kind == "SEP" and self.brackets:
            self.fail("';' inside brackets", at, end, "E011", "close the bracket first")
            return end
        elif kind == "NABLA":
            return self._nabla(at, end)
        self.emit(kind, at, end, _RELATIONS.get(symbol, symbol))
        if symbol in "[]":
            self.out[-1] = replace(self.out[-1], text="(" if symbol == "[" else ")")
        return end

    def _nabla_takes(self, at: int) -> bool:
        """``∇·`` is the divergence, unless nothing follows that it could act on."""
        rest = self.text[at:].lstrip(" ")
        return bool(rest) and rest[0] not in ")=;,\n"
