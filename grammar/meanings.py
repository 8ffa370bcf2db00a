"""What a name means: the one table. The first line that fits decides.

=====================  ======================================================================================================
written                means
=====================  ======================================================================================================
``A^T``                a transpose or a power, unless T is declared: what it stands on tells
``u``, ``u_x``         what is declared, inferred or defined under this very name
``u_xx``, ``a_ij``     a subscript of the longest declared name in front; below a declared ``d`` an operator, too, where one could act
``T_inf``, ``T_∞``     a name of its own, also beside an unknown T, as long as parameters are inferred
``sin``, ``grad``      a function or an operator of the language; ``Re`` only beside a complex field
``diff``, ``dx``       an operator, before ``(``
``pi``, ``e``, ``I``   a constant; ``i`` beside a complex field
``D²``                 the Hessian, below a power
``d_x``, ``partial_i`` an operator
``δ_ij``, ``I_ij``     the identity
``ε_ijk``              the permutation symbol
``e_0``, ``e_x``       a unit vector
``x_i``                the position
anything else          unknown: inferred where that is unambiguous, refused elsewhere
=====================  ======================================================================================================

The inference asks it with the names that are declared or defined by ``let``, the classifier with the inferred ones, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from opdsl.grammar.declarations import INDEX_LETTERS, index_letters
from opdsl.grammar.lexemes import Ident, Lexeme
from opdsl.grammar.spellings import Subscripts, coordinate_suffix
from opdsl.grammar.vocabulary import BIHARMONIC, CONSTANTS, FUNCTIONS, NABLAS, ONLY_COMPLEX, RESERVED
from opdsl.language.declarations import Declarations


class Kind(Enum):
    """A line of the table."""

    TRANSPOSE = auto()
    DECLARED = auto()
    PART = auto()
    PART_OR_OPERATOR = auto()
    FUNCTION = auto()
    NABLA = auto()
    BIHARMONIC = auto()
    DIFF = auto()
    DIFFERENTIAL = auto()
    CONSTANT = auto()
    HESSIAN = auto()
    PARTIAL = auto()
    IDENTITY = auto()
    PERMUTATION = auto()
    UNIT = auto()
    POSITION = auto()
    UNKNOWN = auto()


_OPENING = ("LPAR", "LBRACE", "BAR_OPEN", "OPEN")
_CLOSING = ("RPAR", "RBRACE", "BAR_CLOSE", "CLOSE")
OPERATORS = (Kind.NABLA, Kind.BIHARMONIC, Kind.DIFF, Kind.DIFFERENTIAL, Kind.HESSIAN, Kind.PARTIAL)


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a name means: a line of the table, a name of the tree or a subscript, and the subscripts of what has some."""

    kind: Kind
    name: str = ""
    rest: Subscripts = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name stands."""

    lexemes: Sequence[Lexeme]
    at: int

    @property
    def before(self) -> str:
        """The kind of the lexeme in front."""
        return self.lexemes[self.at - 1].kind if self.at else ""

    @property
    def following(self) -> str:
        """The kind of the next lexeme."""
        return self.lexemes[self.at + 1].kind if self.at + 1 < len(self.lexemes) else ""

    @property
    def called(self) -> bool:
        """Directly before a parenthesis."""
        return self.following == "LPAR"

    @property
    def acts(self) -> bool:
        """An operator could stand here: something follows that it acts on, or a bracket holds it."""
        opened = sum(lexeme.kind in _OPENING for lexeme in self.lexemes[: self.at])
        closed = sum(lexeme.kind in _CLOSING for lexeme in self.lexemes[: self.at])
        return opened > closed or self.following not in ("", "SEP", "SIGN", "EQUALS", "PRODUCT")

    @property
    def raised(self) -> bool:
        """An exponent, in braces or not."""
        before = [lexeme.kind for lexeme in self.lexemes[max(self.at - 2, 0) : self.at]]
        return before[-1:] == ["POWER"] or before == ["POWER", "LBRACE"]


class SubscriptKind(Enum):
    """What a subscript may be."""

    COORDINATES = auto()
    TWO_WAYS = auto()
    COMMA = auto()
    VECTOR = auto()
    INDICES = auto()
    UNKNOWN = auto()


class Scope:
    """The names that a text declares, infers or defines, and what any name means beside them."""

    def __init__(self, declarations: Declarations, definitions: Collection[str] = (), inferred: Collection[str] = ()) -> None:
        self.decls = declarations
        self.coords = [c.name for c in declarations.coords if c.size is None]
        self.vectors = {c.name: c.size for c in declarations.coords if c.size is not None}
        self.fields = {f.name: f for f in declarations.fields}
        self.params = {p.name: p for p in declarations.params}
        self.functions = frozenset(declarations.functions)
        self.definitions = set(definitions)
        self.inferred = inferred
        self.has_complex = any(f.complex for f in declarations.fields)
        self.declared = declarations.names | self.definitions

    # ------------------------------------------------------------------------------ names
    def meaning(self, ident: Ident, place: Place) -> Meaning:
        """Look a name up."""
        full = ident.full
        if full == "T" and place.raised and (full not in self.declared or full in self.inferred):
            return Meaning(Kind.TRANSPOSE)
        if full in self.declared:
            return Meaning(Kind.DECLARED, full)
        if not ident.subs:
            return self._word(ident.base, place)
        return self._part(ident, place) or Meaning(*self._with_subscript(ident.base, ident.subs[0][0]), ident.subs)

    def _part(self, ident: Ident, place: Place) -> Meaning | None:
        for cut in range(len(ident.subs) - 1, -1, -1):
            known, rest = Ident(ident.base, ident.subs[:cut]).full, ident.subs[cut:]
            if ident.ambient and not cut and "params" not in self.decls.given and self.subscript("inf", braces=False)[0] is SubscriptKind.UNKNOWN:
                continue
            if known == "d" and (known in self.params or known in self.fields) and not rest[0][0].startswith(",") and (
                place.acts or known in self.inferred
            ):
                return Meaning(Kind.PART_OR_OPERATOR, known, rest)
            # A scalar coordinate has neither derivatives nor components.
            if known in self.declared and (known not in self.coords or cut):
                return Meaning(Kind.PART, known, rest)
        return None

    def _word(self, name: str, place: Place) -> Meaning:
        if name in FUNCTIONS and (self.has_complex or name not in ONLY_COMPLEX):
            return Meaning(Kind.FUNCTION, FUNCTIONS[name].name)
        if name in NABLAS:
            return Meaning(Kind.NABLA, NABLAS[name])
        if name in BIHARMONIC:
            return Meaning(Kind.BIHARMONIC)
        if place.called and name in RESERVED:
            return Meaning(Kind.DIFF, name)
        if place.called and name[0] == "d" and self.subscript(name[1:], braces=False)[0] is SubscriptKind.COORDINATES:
            return Meaning(Kind.DIFFERENTIAL, name[1:])
        if name in CONSTANTS and (name != "i" or self.has_complex):
            return Meaning(Kind.CONSTANT, name)
        if name == "D" and place.following in ("SUPER", "POWER"):
            return Meaning(Kind.HESSIAN)
        return Meaning(Kind.UNKNOWN)

    def _with_subscript(self, base: str, text: str) -> tuple[Kind, str]:
        letters = index_letters(text)
        match base, len(letters):
            case ("d" | "partial"), _:
                return Kind.PARTIAL, text
            case ("delta", count) if count:
                return Kind.IDENTITY, letters
            case "I", 2:
                return Kind.IDENTITY, letters
            case ("epsilon" | "eps"), 3:
                return Kind.PERMUTATION, letters
            case "x", 1:
                return Kind.POSITION, letters
            case "e", _ if text.isdecimal() or text in self.coords:
                return Kind.UNIT, text
        return Kind.UNKNOWN, ""

    # ------------------------------------------------------------------------------ subscripts
    def subscript(self, text: str, *, braces: bool) -> tuple[SubscriptKind, tuple[str, ...]]:
        """What a subscript of a value means: coordinates differentiate, numbers and letters select."""
        try:
            if split := coordinate_suffix(text, self.coords, repeats=braces) if self.coords else None:
                return SubscriptKind.COORDINATES, tuple(split)
        except ValueError:
            return SubscriptKind.TWO_WAYS, (text,)
        if "," in text:
            head, _, tail = text.partition(",")
            return SubscriptKind.COMMA, (head.strip(), tail.strip())
        if text in self.vectors:
            return SubscriptKind.VECTOR, (text,)
        if re.fullmatch(r"[0-9]+( [0-9]+)*", text):
            return SubscriptKind.INDICES, tuple(text.split())
        if (text.isalnum() and set(text) <= INDEX_LETTERS | set("0123456789")) or index_letters(text):
            return SubscriptKind.INDICES, tuple(text.replace(" ", ""))
        return SubscriptKind.UNKNOWN, (text,)
