"""One name, several spellings: ``x1``, ``x_1`` and ``x₁``; ``ε``, ``epsilon`` and ``varepsilon``.

A name is known under the spelling it was declared with. Another spelling of it means the same name as long as nothing else is
declared that could be meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from opdsl.errors import OpLimitError
from opdsl.grammar.declarations import GREEK, MAX_ORDER, SUBSCRIPTS, ascii_name, fold

_VARIANT = re.compile(r"\bvar(?=epsilon|phi|theta|rho|pi|sigma|kappa)")
_DIGITS = re.compile(r"(.*[^0-9_])_?([0-9]+)", re.DOTALL)

# ``d_1 u`` is a derivative and ``e_1`` a unit vector, also beside a parameter d1.
_OPERATORS = ("d", "partial", "e")

Subscripts = tuple[tuple[str, bool], ...]
"""Texts of the subscripts of a name, and whether they stand in braces."""


@lru_cache(maxsize=4096)
def plain(name: str) -> str:
    """What all spellings of a name share: Greek spelled out, digits without underscore.

    Example:
        >>> [plain(name) for name in ("x_1", "x₁", "ν", "varepsilon", "T_inf", "u_x2")]
        ['x1', 'x1', 'nu', 'epsilon', 'T_inf', 'u_x2']
    """
    spelled = _VARIANT.sub("", ascii_name(fold(name)))
    digits = _DIGITS.fullmatch(spelled)
    return f"{digits[1]}{digits[2]}" if digits and "_" not in digits[1] else spelled


class Spellings:
    """The declared names of one text under all their spellings.

    Example:
        >>> names = Spellings(["x1", "x_2", "u", "ν"])
        >>> [names.find(name) for name in ("x_1", "x2", "nu", "x3")]
        ['x1', 'x_2', 'ν', None]
        >>> Spellings(["x1", "x_1"]).find("x₁") is None
        True
    """

    def __init__(self, declared: Collection[str], coords: Sequence[str] = (), vectors: Collection[str] = ()) -> None:
        self.declared = declared
        self.coords = coords
        self.vectors = vectors
        self.same: dict[str, list[str]] = {}
        for name in declared:
            self.same.setdefault(plain(name), []).append(name)

    def find(self, name: str) -> str | None:
        """Return the declared name that is meant; None where there is none, or where two would do."""
        if name in self.declared:
            return name
        same = self.same.get(plain(name), ())
        return same[0] if len(same) == 1 else None

    def respelled(self, base: str, subscripts: Subscripts) -> tuple[str, Subscripts]:
        """Write a name with its subscripts as it was declared: ``u_1`` is ``u1``, ``u_x_1`` is ``u_{x_1}``.

        Example:
            >>> Spellings(["u1", "x_1"], ["x_1"]).respelled("u", (("1,x1", True),))
            ('u1', ((',x1', True),))
        """
        subs = self._with_their_digits(subscripts)
        if base in _OPERATORS:
            return base, subs
        # Beside a declared base a number is a component, unless the whole is declared, too; a scalar coordinate has no components.
        components = base in self.declared and (base not in self.coords or base in self.vectors)
        for cut in range(len(subs), -1, -1):
            head, comma, tail = subs[cut - 1][0].partition(",") if cut else ("", "", "")
            name = "_".join([base, *(text for text, _ in subs[: max(cut - 1, 0)]), *([head] if cut else [])])
            known = self.find(name) if not components or name in self.declared else None
            if known == name and not comma:
                return base, subs
            if known is not None:
                first, *rest = known.split("_")
                derived = ((f",{tail}", True),) if comma else ()
                return first, (*((text, False) for text in rest), *derived, *subs[cut:])
        if base[0] == "d" and subs and subs[0][0].isdecimal() and self._is_coordinate(f"{base[1:]}_{subs[0][0]}"):
            return f"{base}_{subs[0][0]}", subs[1:]  # ``dx_1(u)``
        return base, subs

    def _with_their_digits(self, subs: Subscripts) -> Subscripts:
        """``u_x_1`` over x_1: the number belongs to the coordinate."""
        out: list[tuple[str, bool]] = []
        for text, braces in subs:
            before = out[-1][0] if out else ""
            if text.isdecimal() and before and not self._is_coordinate(before) and self._is_coordinate(f"{before}_{text}"):
                out[-1] = (f"{before}_{text}", True)
            else:
                out.append((text, braces))
        return tuple(out)

    def _is_coordinate(self, text: str) -> bool:
        try:
            return bool(self.coords) and coordinate_suffix(text, self.coords, repeats=False) is not None
        except ValueError:
            return True


def pattern(name: str) -> str:
    """Return a regular expression for all spellings of a declared name, also with the digits in braces.

    Example:
        >>> bool(re.fullmatch(pattern("theta1"), "θ_{1}")), bool(re.match(pattern("x1"), "x12"))
        (True, False)
    """
    digits = _DIGITS.fullmatch(name)
    if digits is not None and "_" not in digits[1]:
        below = "".join(char for figure in digits[2] for char, known in SUBSCRIPTS.items() if known == figure)
        return rf"(?:{_letters(digits[1])})(?:_?{digits[2]}(?!\d)|_\s*\{{\s*{digits[2]}\s*\}}|{below})"
    head, _, tail = name.partition("_")
    return rf"(?:{_letters(head)})" + (rf"(?:_{tail}|_\s*\{{\s*{tail}\s*\}})" if tail else "")


def _letters(name: str) -> str:
    """A name or its Greek letter."""
    return "|".join([re.escape(name), *(char for char, spelled in GREEK.items() if spelled == name)])


# --------------------------------------------------------------------------------------------- subscripts
def coordinate_suffix(text: str, coords: Sequence[str], *, repeats: bool) -> list[str] | None:
    """Split a subscript into coordinates: ``xxt``, ``theta theta``, ``x,y``, ``x1x_2``; with ``repeats`` also ``5x``.

    Returns:
        The coordinates as they are declared, or None where the text is no list of coordinates.

    Raises:
        ValueError: there are two ways to split it.

    Example:
        >>> coordinate_suffix("theta theta", ["t", "theta"], repeats=True)
        ['theta', 'theta']
        >>> coordinate_suffix("5x", ["t", "x"], repeats=True)
        ['x', 'x', 'x', 'x', 'x']
        >>> coordinate_suffix("x1x_2", ["x1", "x2"], repeats=False), coordinate_suffix("x", ["x1", "x2"], repeats=False)
        (['x1', 'x2'], None)
    """
    spelled = _spelled(tuple(coords))
    parts: list[str] = []
    for word in re.split(r"[\s,]+", text.strip()):
        split = _split(word, spelled, repeats) if len(word) <= 256 else None
        if split is None:
            return None
        for count, name in split:
            if count > MAX_ORDER:
                raise OpLimitError(f"a derivative of order {count}; the limit is {MAX_ORDER}", code="E304")
            parts += [spelled[name]] * count
    return parts or None


@lru_cache(maxsize=64)
def _spelled(coords: tuple[str, ...]) -> dict[str, str]:
    """Every spelling of a coordinate → its name."""
    out = {name: name for name in coords}
    known = Spellings(coords)
    for name in coords:
        digits = _DIGITS.fullmatch(name)
        others = [plain(name), *([f"{digits[1]}_{digits[2]}"] if digits and "_" not in digits[1] else [])]
        for other in others:
            if known.find(other) == name:
                out[other] = name
    return out


def _split(word: str, names: Iterable[str], repeats: bool) -> list[tuple[int, str]] | None:
    """Split into (number of repetitions, spelling); all ways are counted."""
    # ways[k]: number of ways to reach position k, and the last piece of one of them with the place where it starts.
    ways: list[tuple[int, int, int, str]] = [(0, 0, 0, "")] * (len(word) + 1)
    ways[0] = (1, 0, 0, "")
    ends = {match.start(): match.end() for match in re.finditer("[0-9]+", word)}
    for start in range(len(word)):
        if not ways[start][0]:
            continue
        starts = [(start, 1)]
        if repeats and start in ends:
            # ``5x`` repeats the coordinate right after the number: ``2xy`` is xxy.
            starts.append((ends[start], max(int(word[start : ends[start]][:6]), 1)))
        for at, count in starts:
            for name in names:
                if word.startswith(name, at):
                    end = at + len(name)
                    ways[end] = (ways[end][0] + ways[start][0], start, count, name)
    if not ways[-1][0]:
        return None
    if ways[-1][0] > 1:
        raise ValueError(word)
    parts: list[tuple[int, str]] = []
    end = len(word)
    while end:
        _, start, count, name = ways[end]
        parts.append((count, name))
        end = start
    return parts[::-1]
