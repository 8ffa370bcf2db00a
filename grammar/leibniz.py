"""``d/dx``, ``d^2u/dxdy``, ``∂(u v)/∂x``, ``∂_x``: what is one operator before a slash is a division."""

from __future__ import annotations

import re
from collections.abc import Sequence

from opdsl.errors import OpNameError, Span, did_you_mean
from opdsl.grammar.declarations import GREEK, LETTER, MAX_ORDER, SUPERSCRIPTS, ascii_name
from opdsl.grammar.lexemes import IDENT, SUBSCRIPT, SUP, Axis, Writer, subscript_text
from opdsl.grammar.spellings import pattern

_POWER = rf"(?:\^\s*\{{\s*(\d+)\s*\}}|\^\s*(\d+)|\*\*\s*(\d+)|([{SUP}]+))"
_PARTIAL = re.compile(rf"(∂|d(?=\s*(?:{_POWER})\s*_))\s*{_POWER}?\s*((?:{SUBSCRIPT})(?:_[0-9]+)?)")
_D_HEAD = re.compile(rf"(∂|d)\s*{_POWER}?\s*")
_UNREAD = re.compile(
    rf"∂\s*(?:{_POWER})?\s*(?P<above>(?:[^/=+;\n∂()-]|\([^()]*\)){{1,100}}?)\s*/\s*∂\s*(?P<below>[{LETTER}][{LETTER}0-9]*)"
    rf"(?P<index>(?:{SUBSCRIPT})?)"
)
_RAISED = re.compile(rf"\s*{_POWER}(?!\s*[(^])")
_SLASH = re.compile(r"\s*/\s*")


def _order(match: re.Match[str], first: int) -> int | None:
    """Read an order such as ^2, ^{2}, **2 or ² from four consecutive groups; None if there is none."""
    digits = next((g for g in match.groups()[first : first + 4] if g), None)
    if digits is None:
        return None
    plain = "".join(SUPERSCRIPTS.get(char, char) for char in digits)
    return int(plain) if plain.isdecimal() and len(plain) < 6 else 10**6


class Leibniz(Writer):
    """Recognises derivatives; ``coords`` are needed to split ``dxdy``."""

    def __init__(
        self, text: str, *, coords: Sequence[str] | None, vectors: frozenset[str], declared: frozenset[str], origin: Sequence[Span] | None
    ) -> None:
        super().__init__(text, coords=coords, vectors=vectors, declared=declared, origin=origin)
        self.name_until = 0
        names = sorted(coords, key=len, reverse=True) if coords is not None else []
        coordinate = "|".join(map(pattern, names)) if coords is not None else f"[{LETTER}]"
        if coords is not None and not names:
            coordinate = "(?!)"
        # ∂u/∂n, with n the normal; the classifier refuses it where n is something else.
        coordinate += "|n(?![A-Za-z0-9_])"
        one = rf"(?:∂|d)\s*(?:{coordinate}|x(?=_))(?:_\{{?(?:[i-n]|\d+)\}}?)?\s*(?:{_POWER})?"
        # A power ends a coordinate, so that ``d^4/dx^4u`` needs no blank; otherwise a letter would make it another name.
        self._denominators = re.compile(rf"(?:{one}\s*)+(?:(?<=[0-9}}{SUP}])(?!\d)|(?![{LETTER}0-9_^]|\*\*))")
        self._denominator = re.compile(rf"(?:∂|d)\s*({coordinate}|x(?=_))(?:_\{{?([i-n]|\d+)\}}?)?\s*{_POWER}?\s*")

    def next_lexeme(self, at: int) -> int:
        """Read one lexeme; return where it ends."""
        raise NotImplementedError

    def partial(self, at: int) -> int | None:
        """``∂_x``, ``∂ₓ``, ``∂²_x``, ``d^2_x``: an operator whose order may stand before the subscript."""
        match = _PARTIAL.match(self.text, at)
        if match is None or (match[1] == "d" and "d" in self.declared):
            return None
        # Groups: 1 symbol; 2-5 power inside the look-ahead; 6-9 power; 10 subscript.
        power = _order(match, 5) or 1
        if power > MAX_ORDER:
            self.too_high(at, match.end(), power)
            power = 1
        raw = match[10]
        self.emit("PARTIAL", at, match.end(), (subscript_text(raw), "{" in raw, power))
        return match.end()

    def bad_partial(self, at: int) -> int:
        """``∂`` without a subscript, and not the head of a quotient that can be read."""
        text = self.text
        quotient = _UNREAD.match(text, at)
        if quotient and self.coords is not None:
            below = ascii_name(quotient["below"])
            if self.names.find(below) not in self.coords:
                self.errors.append(OpNameError(
                    f"{below!r} is not a declared coordinate ({', '.join(self.coords) or 'none'})", code="E103",
                    spans=(self.span(*quotient.span("below")),), suggestion=did_you_mean(below, self.coords) or None,
                ))  # fmt: skip
            else:
                operand = quotient["above"].strip()
                self.fail(f"∂ acts on one name here, this is {operand!r}", at, quotient.end(), "E020",
                          f"write ∂({operand})/∂{quotient['below']}{quotient['index']}")
            return quotient.end()
        upper = re.compile(r"∂\s*\^\s*\{?\s*([^\W\d_]+)").match(text, at)
        if upper:
            self.fail("an upper index", at, upper.end(), "E020", f"indices stand below: write ∂_i, with a letter i … n, not ∂^{upper[1]}")
            return upper.end()
        self.fail("∂ needs a coordinate", at, at + 1, "E020", "write ∂_x u, ∂u/∂x or d_x u")
        return at + 1

    def leibniz(self, at: int) -> int | None:
        """``d/dx``, ``d^2u/dxdy``, ``∂²u/∂x∂y``, ``∂(u v)/∂x``."""
        text = self.text
        # ``6d²u/dx²`` and ``c²d²u/dx²`` are products with a derivative; a letter before belongs to a name.
        if at and (text[at - 1].isalpha() or text[at - 1] == "_") and text[at] == "d":
            return None
        if at < self.name_until:
            return None
        head = _D_HEAD.match(text, at)
        assert head is not None
        order = _order(head, 1)
        inside = head.end()
        if text.startswith("/", inside):
            return self._quotient(at, order, inside, None)
        if text.startswith("(", inside):
            if head[1] == "d" and order is None and "d" in self.declared:
                return None
            close = _matching(text, inside)
            return None if close is None else self._quotient(at, order, close, (inside, close))
        name = IDENT.match(text, inside)
        if name is None:
            return None
        if head[1] == "d" and order is None:
            # ``du/dx`` without blank; ``delta/dx`` stays a quotient of names.
            whole = IDENT.match(text, at)
            if head.end() != at + 1 or whole is None or ascii_name(whole[0]) in self.declared:
                return None
            # ``dtheta/dt`` is a derivative; of ``dfoo/dt`` with an undeclared foo that is not sure.
            if len(name[1]) > 1 and name[1] not in self.declared and name[1] not in GREEK.values():
                return None
        end = name.end()
        while end < len(text) and text[end] == "'":
            end += 1
        # ``∂u(x,t)/∂t`` and ``∂u²/∂x``; ``dx(u)`` is the operator.
        if text.startswith("(", end) and ascii_name(name[0]) not in (self.coords or ()):
            end = _matching(text, end) or end
        if power := _RAISED.match(text, end):
            end = power.end()
        return self._quotient(at, order, end, (inside, end))

    def _quotient(self, at: int, order: int | None, slash: int, operand: tuple[int, int] | None) -> int | None:
        match = _SLASH.match(self.text, slash)
        if match is None:
            return None
        start = match.end()
        boxed = self.text.startswith("(", start)
        below = self._denominators.match(self.text, start + 1 if boxed else start)
        if below is None:
            return None
        end = below.end()
        first = re.match(rf"d[{LETTER}0-9_]+", below[0])
        if first and ascii_name(first[0]) in self.declared:
            return None
        if boxed:
            if not self.text.startswith(")", end):
                return None
            end += 1
        axes: list[Axis] = []
        total = 0
        for part in self._denominator.finditer(below[0].strip()):
            power = _order(part, 2) or 1
            total += power
            name = ascii_name(re.sub(r"[\s{}]", "", part[1]))
            name = self.names.find(name) or name
            axis: Axis = (name, None)
            if part[2] is not None:
                axis = (name, int(part[2])) if part[2].isdecimal() else (None, part[2])
            axes += [axis] * min(power, MAX_ORDER + 1)
        while self.text[end - 1] == " ":
            end -= 1
        if total > MAX_ORDER:
            self.too_high(at, end, total)
            axes = axes[:1]
        elif total != (order or 1):
            symbol = self.text[at]
            above = symbol if total == 1 else f"{symbol}^{total}"
            self.fail(f"the order above is {order or 1}, the order below is {total}", at, end, "E021",
                      f"write {above}u/{below[0].strip()}")
        if operand is None:
            self.emit("QUOTIENT", at, end, tuple(axes))
            return end
        self.emit("QUOTIENT", at, operand[0], tuple(axes))
        # The operand is scanned as usual, then the denominator is skipped; it acts on this operand alone.
        self.emit("OPEN", operand[0], operand[0] + 1)
        position = operand[0]
        if not self.text.startswith("(", position):
            self.name_until = operand[1]  # the d of ``∂²d/∂x²`` is a name
        while position < operand[1]:
            position = self.next_lexeme(position)
        self.emit("CLOSE", operand[1] - 1, end)
        return end


def _matching(text: str, at: int) -> int | None:
    depth = 0
    for position in range(at, min(len(text), at + 4000)):
        if text[position] == "(":
            depth += 1
        elif text[position] == ")":
            depth -= 1
            if depth == 0:
                return position + 1
        elif text[position] == "\n" and depth == 0:
            return None
    return None
