r"""LaTeX → plain text, character by character with its origin, so that errors point into the LaTeX.

A lossless subset: every command is either translated to the notation of the language or refused. Single letters are names and
juxtaposition is a product, as TeX sets them; longer names come as ``\mathrm{…}``. An undeclared run of letters splits, a
subscript without braces takes one character, and ``u_xx`` is refused because TeX sets it as u_x x.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from opdsl.errors import LanguageError, OpLimitError, OpSyntaxError, Span
from opdsl.grammar.declarations import GREEK
from opdsl.grammar.vocabulary import FUNCTIONS, NABLAS, RESERVED, WORDS

_SYMBOLS = {
    "partial": "∂", "nabla": "∇", "Delta": "Δ", "triangle": "Δ", "cdot": "·", "times": "×", "otimes": "⊗", "hbar": "ħ",
    "ell": "l",
    "varepsilon": "ε", "varphi": "φ", "vartheta": "θ", "varrho": "ρ", "varpi": "π", "varsigma": "σ", "varkappa": "κ",
    "sum": "∑", "Box": "□", "square": "□", "top": "⊤", "intercal": "⊤",
    "le": "<=", "leq": "<=", "ge": ">=", "geq": ">=", "ne": "!=", "neq": "!=", "lt": "<", "gt": ">",
    "vert": "|", "lvert": "|", "rvert": "|", "Vert": "‖", "lVert": "‖", "rVert": "‖", "mid": "|", "prime": "'", "ast": "*",
    "lbrace": "(", "rbrace": ")", "lbrack": "(", "rbrack": ")", "langle": "(", "rangle": ")", "div": "/",
    **{name: char for char, name in GREEK.items() if char != "ς"},
}  # fmt: skip
_SPACES = {
    "quad": ";?", "qquad": ";?", ",": " ", ";": " ", ":": " ", "!": "", " ": " ", "thinspace": " ", "nonumber": "", "notag": "",
    "displaystyle": "", "left": "", "right": "", "big": "", "Big": "", "bigl": "", "bigr": "", "Bigl": "", "Bigr": "",
    "limits": "", "nolimits": "", "bigg": "", "Bigg": "",
}  # fmt: skip
_FONTS = frozenset("mathbf boldsymbol bm vec mathcal mathbb mathsf mathfrak mathit bf it".split())
_WORDS = frozenset("mathrm text operatorname mathop textrm rm textit".split())
_PHYSICS = {"pdv": "∂", "dv": "d", "partialderivative": "∂", "derivative": "d", "diffp": "∂", "diff": "d"}
_FRACTIONS = frozenset(("frac", "dfrac", "tfrac", "cfrac"))
_COMMAND = re.compile(r"\\([A-Za-z]+\*?|.)", re.DOTALL)
_LEIBNIZ_TOP = re.compile(r"^\s*([∂d])\s*((?:\^\{\d+\})?)\s*(.*)$", re.DOTALL)
_LEIBNIZ_BOTTOM = re.compile(r"^\s*[∂d]\s*[^\s^(]")
MAX_NESTING = 60

Text = list[tuple[str, int]]


def translate(source: str, declared: Collection[str], time: str = "t", coords: Collection[str] = ()) -> tuple[str, list[Span]]:
    r"""Return plain text and, per character, what it stands for in the LaTeX source.

    Example:
        >>> translate(r"\frac{\partial^2 u}{\partial x^2} + \nu uu_{x}", {"u", "nu"})[0]
        '∂^{2} u/∂ x^{2} + nu u u_{x}'
    """
    worker = _Latex(source, frozenset(declared), time, coords)
    out = worker.without_ranges(worker.group(0, len(source), 0))
    text = "".join(char for char, _ in out)
    return text, [worker.extent(place) for _, place in out]


class _Latex:
    def __init__(self, source: str, declared: frozenset[str], time: str, coords: Collection[str]) -> None:
        self.source = source
        self.declared = declared
        self.time = time
        self.coords = coords

    def error(self, message: str, start: int, stop: int, suggestion: str | None = None) -> LanguageError:
        return OpSyntaxError(message, code="E060", spans=(Span(start, stop),), suggestion=suggestion)

    def extent(self, at: int) -> Span:
        """The character or the command that starts there; a font with its argument."""
        match = _COMMAND.match(self.source, at)
        if match is None:
            return Span(at, at + 1)
        if (match[1] in _FONTS or match[1] in _WORDS) and self.source[match.end() : match.end() + 1] == "{":
            return Span(at, self.closing(match.end(), len(self.source)))
        return Span(at, match.end())

    # ------------------------------------------------------------------------------ the loop
    def group(self, start: int, stop: int, depth: int) -> Text:
        """Translate a stretch of source."""
        if depth > MAX_NESTING:
            raise OpLimitError(f"braces are nested deeper than {MAX_NESTING}", code="E303", spans=(Span(start, start + 1),))
        out: Text = []
        at = start
        while at < stop:
            at = self.one(at, stop, out, depth)
        return out

    def without_ranges(self, out: Text) -> Text:
        """Leave out statements such as ``t > 0`` and ``0 < x < 1``, which say where the others hold."""
        kept: Text = []
        statement: Text = []
        for pair in [*out, (";", len(self.source))]:
            if pair[0] != ";":
                statement.append(pair)
                continue
            text = "".join(char for char, _ in statement)
            names = set(re.findall(r"[^\W\d]\w*", text))
            if not (kept and names and names <= {*self.coords} and re.search("[<>]", text)):
                kept += [*statement, pair]
            statement = []
        return kept[:-1]

    def put(self, out: Text, text: str, at: int) -> None:
        """Append text; names and numbers that TeX would set apart get a blank between them."""
        if text and out and _wordy(text[0]) and _wordy(out[-1][0]):
            out.append((" ", at))
        out.extend((char, at) for char in text)

    def one(self, at: int, stop: int, out: Text, depth: int) -> int:
        source = self.source
        char = source[at]
        if char == "\\":
            return self.command(at, stop, out, depth)
        if char == "%":
            end = source.find("\n", at)
            return stop if end < 0 else min(end + 1, stop)
        if char in "{":
            inner, end = self.argument(at, stop, depth)
            text = "".join(c for c, _ in inner).strip()
            # ``{u}_{t}``: braces around one name are not needed and would hide the name.
            if re.fullmatch(r"\w+", text):
                self.put(out, text, at + 1)
            else:
                out.extend([("(", at), *inner, (")", end - 1)])
            return end
        if char in "^_":
            return self.script(at, stop, out, depth)
        if char in "&$":
            return at + 1
        if char == "~" or char == "\n":
            blank = re.compile(r"\n\s*\n").match(source, at)
            out.append((";" if blank and _something(out) else " ", at))
            return min(blank.end(), stop) if blank else at + 1
        if char in "[]":
            out.append(("(" if char == "[" else ")", at))
            return at + 1
        if char in ".,;" and self.ends_here(at + 1, stop):
            return at + 1
        if char.isascii() and char.isalpha():
            return self.letters(at, stop, out)
        if char.isdigit():
            match = re.compile(r"[0-9]+(\.[0-9]+)?").match(source, at, stop)
            assert match is not None or not char.isascii()
            text = match[0] if match else char
            self.put(out, text, at)
            return at + len(text)
        self.put(out, char, at)
        return at + 1

    def ends_here(self, at: int, stop: int) -> bool:
        """Punctuation before the end, a line break, a blank or \\quad belongs to the sentence, not to the formula."""
        rest = self.source[at:stop].lstrip(" \n~&$")
        return not rest or bool(re.match(r"\\\\|\\end\b|\\q?quad\b|\\,\s*$|\\[\])]", rest)) or rest[0] in ".," or rest.startswith("%")

    def letters(self, at: int, stop: int, out: Text) -> int:
        match = re.compile(r"[A-Za-z]+").match(self.source, at, stop)
        assert match is not None
        run = match[0]
        after = self.source[match.end() : stop]
        if run == "let" and not _something(out, since=";"):
            out.extend((c, at) for c in "let ")
            return match.end()
        whole = run in self.declared or any(name.startswith(run + "_") and re.match(r"_", after) for name in self.declared)
        known = run in WORDS or run in RESERVED
        label = re.match(r"\s*:(?!=)", after) and not _something(out, since=";")
        derivative = run[0] == "d" and len(run) > 1 and re.match(r"\s*\(", after)
        digits = re.match(r"[0-9]+", after)
        if digits and run + digits[0] in self.declared:
            self.put(out, run + digits[0], at)
            return match.end() + digits.end()
        if len(run) == 1 or whole or known or label or derivative:
            self.put(out, run, at)
            return match.end()
        for k, letter in enumerate(run):
            self.put(out, letter, at + k)
        return match.end()

    # ------------------------------------------------------------------------------ arguments
    def argument(self, at: int, stop: int, depth: int) -> tuple[Text, int]:
        """Translate one argument: a brace group, a command, or one character."""
        source = self.source
        while at < stop and source[at] in " \n":
            at += 1
        if at >= stop:
            raise self.error("an argument is missing here", max(at - 1, 0), at)
        if source[at] != "{":
            out: Text = []
            if source[at].isalnum():
                self.put(out, source[at], at)
                return out, at + 1
            return out, self.one(at, stop, out, depth + 1)
        end = self.closing(at, stop)
        return self.group(at + 1, end - 1, depth + 1), end

    def closing(self, at: int, stop: int) -> int:
        depth, k = 0, at
        while k < stop:
            char = self.source[k]
            if char == "\\":
                k += 2
                continue
            depth += (char == "{") - (char == "}")
            k += 1
            if depth == 0:
                return k
        raise self.error("this brace is never closed", at, at + 1)

    def script(self, at: int, stop: int, out: Text, depth: int) -> int:
        mark = self.source[at]
        follow = at + 1
        while follow < stop and self.source[follow] == " ":
            follow += 1
        run = re.compile(r"[A-Za-z]{2,}").match(self.source, follow, stop)
        far = re.compile(r"\{\s*\\infty\s*\}|\\infty(?![A-Za-z])").match(self.source, follow, stop)
        if mark == "_" and far is not None:
            out.extend((char, at) for char in "_{inf}")
            return far.end()
        if mark == "_" and run is not None:
            raise self.error(
                f"TeX sets _{run[0]} as a subscript {run[0][0]} followed by {run[0][1:]}", at, run.end(), f"write _{{{run[0]}}}"
            )
        inner, end = self.argument(follow, stop, depth)
        text = "".join(c for c, _ in inner).strip()
        whole = re.compile(r"\{\s*([A-Za-z][A-Za-z0-9]+)\s*\}").match(self.source, follow, stop)
        if mark == "_" and whole and any(name.endswith(f"_{whole[1]}") for name in self.declared):
            inner = [(char, whole.start(1) + k) for k, char in enumerate(whole[1])]  # ``T_{in}``
        while out and out[-1][0] == " ":
            out.pop()
        if mark == "^" and re.fullmatch(r"'+", text):
            out.extend(inner)
            return end
        if mark == "_" and text.startswith("(") and text.endswith(")"):
            inner = [pair for pair in inner if pair[0] not in "()"]
        out.extend([(mark, at), ("{", at), *inner, ("}", end - 1)])
        return end

    # ------------------------------------------------------------------------------ commands
    def command(self, at: int, stop: int, out: Text, depth: int) -> int:
        match = _COMMAND.match(self.source, at, stop)
        if match is None:
            raise self.error("a backslash without a command", at, at + 1)
        name, end = match[1], match.end()
        if name == "\\":
            spacing = re.compile(r"\s*\[[^\]\n]*\]").match(self.source, end, stop)
            out.append((";" if _something(out) else " ", at))
            return spacing.end() if spacing and re.search(r"\d(pt|em|ex|mm|cm)", spacing[0]) else end
        if name in ("left", "right") and self.source[end : end + 1] == ".":
            return end + 1
        if name in _SPACES:
            spaces = _SPACES[name]
            if spaces == ";?":
                # A wide blank separates equations where one is complete, that is where an "=" has been seen.
                spaces = ";" if "=" in "".join(c for c, _ in out).rpartition(";")[2] else " "
                later = self.source[end:stop].strip()
                spaces = " " if not later else spaces
            out.extend((c, at) for c in spaces)
            return end
        if name in ("{", "}"):
            out.append(("(" if name == "{" else ")", at))
            return end
        if name == "|":
            out.append(("‖", at))
            return end
        if name in ("begin", "end", "label", "tag"):
            _, after = self.argument(end, stop, depth) if name in ("begin", "end") else (None, self.skip(end, stop))
            return after
        if name in _FRACTIONS:
            return self.fraction(at, end, stop, out, depth)
        if name.rstrip("*") in _PHYSICS and re.match(r"\s*[\[{]", self.source[end:stop]):
            return self.quotient(_PHYSICS[name.rstrip("*")], at, end, stop, out, depth)
        if name in "[]()":
            return end
        if name == "in":
            return self.domain(at, end, stop, out)
        if name == "sqrt":
            if self.source[end : end + 1] == "[":
                raise self.error("roots other than the square root are not translated", at, end + 1, "write (…)^{1/3}")
            inner, after = self.argument(end, stop, depth)
            self.put(out, "sqrt(", at)
            out.extend([*inner, (")", after - 1)])
            return after
        if name in ("dot", "ddot"):
            inner, after = self.argument(end, stop, depth)
            axes = self.time if name == "dot" else f"{self.time} {self.time}"
            out.extend((c, at) for c in f"(∂_{{{axes}}} ")
            out.extend([*inner, (")", after - 1)])
            return after
        if name in _FONTS or name in _WORDS:
            return self.font(name, at, end, stop, out, depth)
        if name in self.declared and name in _SYMBOLS:
            self.put(out, name, at)  # ``\\varepsilon`` where epsilon is something else
            return end
        if name in _SYMBOLS:
            symbol = _SYMBOLS[name]
            self.put(out, symbol, at)
            return end
        if name in FUNCTIONS or name in NABLAS:
            return self.function(name, at, end, stop, out, depth)
        raise self.error(f"the LaTeX command \\{name} is not translated", at, end, _hint(name))

    def skip(self, at: int, stop: int) -> int:
        return self.closing(at, stop) if self.source[at : at + 1] == "{" else at

    def font(self, name: str, at: int, end: int, stop: int, out: Text, depth: int) -> int:
        while end < stop and self.source[end] == " ":
            end += 1
        if name in _WORDS and self.source[end : end + 1] == "{":
            after = self.closing(end, stop)
            word = self.source[end + 1 : after - 1].strip()
            if word in ("for", "for all") and re.match(r"[\s\w(),]*\\in\b", self.source[after:stop]):
                return after
            if word == "in" and word not in self.declared and "=" in "".join(c for c, _ in out):
                out.append((";", at))
                return self.domain(at, after, stop, out)
            if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", word):
                self.put(out, word, at)
                if word in FUNCTIONS or word in NABLAS:
                    return self.braced(after, stop, out, depth)
                return after
        inner, after = self.argument(end, stop, depth)
        self.put(out, "".join(c for c, _ in inner).strip(), at)
        return after

    def function(self, name: str, at: int, end: int, stop: int, out: Text, depth: int) -> int:
        self.put(out, name, at)
        return self.braced(end, stop, out, depth)

    def braced(self, end: int, stop: int, out: Text, depth: int) -> int:
        """``\\exp{u}``: the group is the argument."""
        follow = end
        while follow < stop and self.source[follow] == " ":
            follow += 1
        if follow < stop and self.source[follow] == "{":
            inner, after = self.argument(follow, stop, depth)
            out.extend([("(", follow), *inner, (")", after - 1)])
            return after
        return end

    def fraction(self, at: int, end: int, stop: int, out: Text, depth: int) -> int:
        top, middle = self.argument(end, stop, depth)
        bottom, end = self.argument(middle, stop, depth)
        upper, lower = ("".join(c for c, _ in part) for part in (top, bottom))
        head = _LEIBNIZ_TOP.match(upper)
        if head and _LEIBNIZ_BOTTOM.match(lower) and head[1] == lower.strip()[0] and not self.is_product(head, upper):
            if out and _wordy(out[-1][0]):
                out.append((" ", at))
            split = head.start(3)
            operand = head[3].strip()
            # ``d u/dx`` with a blank is no derivative in plain text; TeX ignores blanks.
            out.extend(pair for pair in top[:split] if pair[0] != " " or head[1] == "∂")
            if operand and not re.fullmatch(r"\w+(?:_\{[^{}]*\})*'*|\(.*\)", operand, re.DOTALL):
                out.extend([("(", at), *top[split:], (")", at)])
            else:
                out.extend(pair for pair in top[split:] if pair[0] != " ")
            out.extend([("/", at), *bottom])
            return end
        out.extend([("(", at), ("(", at), *top, (")", middle - 1), ("/", middle - 1), ("(", middle), *bottom, (")", end - 1)])
        out.append((")", end - 1))
        return end

    def quotient(self, d: str, at: int, end: int, stop: int, out: Text, depth: int) -> int:
        """``\\pdv[2]{u}{x}``, ``\\pdv{u}{x}{y}``, ``\\dv{x}`` as Leibniz quotients."""
        source = self.source
        order = ""
        if source[end : end + 1] == "[":
            close = source.find("]", end, stop)
            if close < 0:
                raise self.error("this bracket is never closed", end, end + 1)
            order, end = source[end + 1 : close].strip(), close + 1
            if not order.isdecimal():
                raise self.error("the order of a derivative is a number", end - len(order) - 1, end, "write \\pdv[2]{u}{x}")
        groups: list[Text] = []
        while len(groups) < 3 and end < stop and source[end] == "{":
            inner, end = self.argument(end, stop, depth)
            groups.append(inner)
        top, below = ([], groups) if len(groups) == 1 else (groups[0], groups[1:])
        if len(below) == 1:
            below = _split_at_commas(below[0])
        power = f"^{{{order}}}" if order else ""
        total = f"^{{{len(below)}}}" if len(below) > 1 and not order else power
        if out and _wordy(out[-1][0]):
            out.append((" ", at))
        self.put(out, d + total, at)
        operand = "".join(c for c, _ in top).strip()
        if operand and not re.fullmatch(r"\w+(?:_\{[^{}]*\})*'*|\(.*\)", operand, re.DOTALL):
            top = [("(", at), *top, (")", at)]
        out.extend([*(pair for pair in top if pair[0] != " " or len(operand) > 1), ("/", at)])
        for part in below:
            out.extend([(d, at), *(pair for pair in part if pair[0] != " "), *((c, at) for c in power)])
        return end

    def domain(self, at: int, end: int, stop: int, out: Text) -> int:
        r"""``\quad x \in \Omega`` says where the equation holds and is left out; on the boundary it would be a condition."""
        text = "".join(char for char, _ in out)
        start = text.rfind(";") + 1
        rest = re.compile(r"(?:(?!\\\\|\\end\b|;|\n|\\q?quad\b).)*", re.DOTALL).match(self.source, end, stop)
        assert rest is not None
        if not start or not set(re.findall(r"\w+", text[start:])) <= {*self.coords}:
            raise self.error("a set stands after the equation and \\quad, with its points: x \\in \\Omega", at, end, "leave it out")
        if re.search(r"\\partial|\\Gamma", rest[0]):
            raise self.error("an equation on the boundary is a condition", at, end,
                             "write u(x=0) = 1 for a place, \\partial_n u = 0 with the normal")
        del out[start:]
        return rest.end()

    def is_product(self, head: re.Match[str], upper: str) -> bool:
        """A declared ``d`` over a declared ``d`` is an ordinary quotient."""
        return head[1] == "d" and "d" in self.declared


def _split_at_commas(text: Text) -> list[Text]:
    parts: list[Text] = [[]]
    for pair in text:
        if pair[0] == ",":
            parts.append([])
        else:
            parts[-1].append(pair)
    return parts


def _wordy(char: str) -> bool:
    return char.isalnum() and char not in "²³¹"


def _something(out: Text, since: str | None = None) -> bool:
    text = "".join(char for char, _ in out)
    return bool((text.rpartition(since)[2] if since else text).strip())


def _hint(name: str) -> str | None:
    return {
        "int": "integrals are not part of the language",
        "infty": "there is no infinity",
        "hat": "declare another name and write \\mathrm{…}",
        "bar": "declare another name and write \\mathrm{…}",
        "tilde": "declare another name and write \\mathrm{…}",
        "pm": "write two equations",
        "overline": "write \\mathrm{conj}(…) for the complex conjugate",
    }.get(name.rstrip("*"), "write it in plain text, or as \\mathrm{name}")
