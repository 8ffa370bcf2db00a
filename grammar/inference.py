"""What a call does not declare, where nothing is ambiguous.

A differentiated name is a field, an indexed name a coefficient, any other name a parameter. ``fields=`` and ``params=``
close their list. Coordinates are inferred only if there is exactly one: with several, their order is the order of the columns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from opdsl.errors import OpNameError
from opdsl.grammar.declarations import INDEX_LETTERS, index_letters
from opdsl.grammar.lexemes import Ident, Lexeme
from opdsl.grammar.meanings import OPERATORS, Kind, Meaning, Place, Scope, SubscriptKind
from opdsl.grammar.suspicious_names import is_word, run_together, suspicion
from opdsl.grammar.vocabulary import RESERVED, WORDS
from opdsl.language.declarations import USUAL_COORDINATES, Declarations, FieldDecl, ParamDecl

_PREFIXES = ("PARTIAL", "QUOTIENT", "NABLA", "DELTA", "BOX", "DIV", "CURL", "GRAD")
_ENDS_A_PRODUCT = ("SEP", "SIGN", "PRODUCT", "EQUALS", "RELATION", "COMMA", "RPAR", "RBRACE", "BAR_CLOSE", "CLOSE")
# What is differentiated is no constant: ``dI/dt = β S I − γ I``.
_CONSTANTS = ("pi", "I")


@dataclass(slots=True)
class Found:
    """How an undeclared name is used."""

    first: int
    differentiated: bool = False
    rank: int = 0
    called: bool = False
    firm: bool = False
    """Differentiated by more than ``∂_x k ∂_x u``, which has two readings."""


@dataclass(slots=True)
class Inference:
    """The outcome: complete declarations and a line per inferred name."""

    declarations: Declarations
    notes: list[str] = field(default_factory=list)
    ambiguous: frozenset[str] = frozenset()
    """Names that stand before a parenthesis somewhere: a call or a product."""
    only_before_operators: frozenset[str] = frozenset()
    """Fields because of ``∂_x k ∂_x u`` alone."""


def infer_coords(lexemes: Sequence[Lexeme]) -> str:
    """Return the only coordinate of a text without ``coords=``.

    Raises:
        OpNameError: there is none, or several.
    """
    found: set[str] = set()
    for lexeme in lexemes:
        if lexeme.kind == "QUOTIENT":
            found |= {name for name, _ in lexeme.value if name}  # type: ignore[attr-defined]
        elif lexeme.kind == "PARTIAL":
            text = lexeme.value[0]  # type: ignore[index]
            found |= set(re.sub(r"[\s,]", "", text)) - INDEX_LETTERS if len(text) < 8 else _one_word(text)
        elif lexeme.kind == "NAME" and isinstance(lexeme.value, Ident) and lexeme.value.subs:
            text = re.sub(r"[\s,]", "", lexeme.value.subs[-1][0])
            if lexeme.value.base in ("d", "partial"):
                found |= _one_word(text) if len(text) > 4 else set(text) - INDEX_LETTERS
            elif text and set(text) <= USUAL_COORDINATES:
                found |= set(text)
    if len(found) == 1:
        return found.pop()
    listed = " ".join(sorted(found, key=lambda name: (name != "t", name)))
    raise OpNameError(
        "the coordinates are not declared", code="E111",
        suggestion=f"write coords=\"{listed or 't x'}\": one name per column of x, in the order of the columns",
    )


def _one_word(text: str) -> set[str]:
    """A long suffix is a name of its own, unless it is one letter repeated: that is a derivative of high order."""
    return set(text) if len(set(text)) == 1 else {text}


def infer(
    declarations: Declarations, lexemes: Sequence[Lexeme], definitions: Sequence[str], *, n_is_index: bool = False
) -> Inference:
    """Add fields and parameters for the names that are not declared.

    An undeclared n that is no index letter may turn out to be the normal, so it is a parameter here also where ``params=`` is given.
    """
    worker = _Worker(declarations, definitions)
    found = worker.collect(lexemes)
    fields, params, notes = list(declarations.fields), list(declarations.params), []
    ambiguous: set[str] = set()
    refused = {name for name, found_ in (("D", _material(lexemes, worker.names.coords)), ("delta", _functional(lexemes))) if found_}
    known = {*worker.names.declared, *(n for n, use in found.items() if use.differentiated or not use.called)}
    unknowns = [f.name for f in declarations.fields] + [n for n, use in found.items() if use.differentiated]
    for name, use in found.items():
        if use.differentiated:
            if "fields" in declarations.given or is_word(name) or run_together(name, unknowns, known):
                continue
            decl = FieldDecl(name, ("d",) * use.rank)
            fields.append(decl)
            notes.append(f"{decl} is a field: it is differentiated")
        elif use.called:
            ambiguous.add(name)
        elif name in refused or is_word(name) or run_together(name, unknowns, known):
            continue  # the classifier says why
        elif suspicion(name, worker.names.coords, unknowns, known, WORDS):
            continue
        elif "params" not in declarations.given or (name == "n" and not n_is_index):
            shape = ("d",) * use.rank if use.rank else None
            param = ParamDecl(name, shape)
            params.append(param)
            what = "a coefficient: it has indices" if use.rank else "a parameter, to be bound at call time"
            notes.append(f"{param} is {what}")
    # Declared parameters take their rank from their indices in the text.
    params = [
        replace(p, shape=("d",) * worker.ranks[p.name]) if p.shape is None and worker.ranks.get(p.name) else p for p in params
    ]
    chained = frozenset(name for name, use in found.items() if use.differentiated and not use.firm)
    return Inference(replace(declarations, fields=tuple(fields), params=tuple(params)), notes, frozenset(ambiguous), chained)


def _material(lexemes: Sequence[Lexeme], coords: Sequence[str]) -> bool:
    """``D u/D t``, ``(D u)/(D t)``: what looks like a material derivative is no quotient of parameters."""
    for k, lexeme in enumerate(lexemes[:-1]):
        if lexeme.kind == "NAME" and lexeme.text == "D" and lexemes[k + 1].text in coords:
            before = lexemes[k - 2 : k] if k and lexemes[k - 1].kind == "LPAR" else lexemes[k - 1 : k]
            if before and before[0].text == "/":
                return True
    return False


def _functional(lexemes: Sequence[Lexeme]) -> bool:
    """``δF/δu``: what looks like a functional derivative is no quotient of parameters."""
    above = False
    for k, lexeme in enumerate(lexemes[:-1]):
        if lexeme.kind in ("SEP", "SIGN", "EQUALS"):
            above = False
        if isinstance(lexeme.value, Ident) and lexeme.value.full == "delta" and lexemes[k + 1].kind == "NAME":
            before = lexemes[k - 2 : k] if k and lexemes[k - 1].kind == "LPAR" else lexemes[max(k - 1, 0) : k]
            if above and before and before[0].text == "/":
                return True
            above = True
    return False


def _opening(lexemes: Sequence[Lexeme], k: int) -> int:
    """Number of the parenthesis that the one at ``k`` closes; 0 where there is none but the first."""
    depth = 0
    for at in range(k, -1, -1):
        depth += (lexemes[at].kind == "RPAR") - (lexemes[at].kind == "LPAR")
        if depth == 0:
            return at
    return 0


class _Worker:
    def __init__(self, declarations: Declarations, definitions: Sequence[str]) -> None:
        self.names = Scope(declarations, definitions)
        self.found: dict[str, Found] = {}
        self.ranks: dict[str, int] = {}
        self.meanings: list[Meaning | None] = []
        self.at = 0
        self.chained: set[int] = set()

    def collect(self, lexemes: Sequence[Lexeme]) -> dict[str, Found]:
        self.meanings = [
            self.names.meaning(lexeme.value, Place(lexemes, k)) if isinstance(lexeme.value, Ident) else None
            for k, lexeme in enumerate(lexemes)
        ]
        direct = self._directly_differentiated(lexemes)
        later: list[tuple[Ident, int]] = []
        for k, lexeme in enumerate(lexemes):
            meaning = self.meanings[k]
            if meaning is None or not isinstance(lexeme.value, Ident):
                continue
            ident, self.at = lexeme.value, k
            if k and lexemes[k - 1].kind == "LET":
                continue
            if self._is_known(ident, meaning, k in direct):
                continue
            if not ident.subs:
                self._use(ident.base, differentiated=k in direct, called=self._is_call(lexemes, k))
            elif not self._suffixed(ident, k in direct):
                later.append((ident, k))
        for ident, k in later:
            if (ident.base in self.found or ident.base in self.names.declared) and not ident.ambient:
                continue  # the classifier explains the suffix
            self.at = k
            self._use(ident.full, differentiated=k in direct, called=self._is_call(lexemes, k))
        # Fields are columns of the network in the order in which they stand in the text.
        return dict(sorted(self.found.items(), key=lambda item: item[1].first))

    def _use(self, name: str, *, differentiated: bool = False, rank: int = 0, called: bool = False) -> None:
        use = self.found.setdefault(name, Found(self.at))
        use.differentiated |= differentiated
        use.firm |= differentiated and self.at not in self.chained
        use.rank = max(use.rank, rank)
        use.called |= called

    def _is_known(self, ident: Ident, meaning: Meaning, direct: bool) -> bool:
        if meaning.kind in (Kind.PART, Kind.PART_OR_OPERATOR) and meaning.name in self.names.params:
            letters = re.sub(r"[\s,]", "", meaning.rest[0][0].partition(",")[0])
            if letters and set(letters) <= INDEX_LETTERS | set("0123456789"):
                self.ranks[meaning.name] = max(self.ranks.get(meaning.name, 0), 1 if letters.isdecimal() else len(letters))
        if meaning.kind is Kind.CONSTANT and meaning.name in _CONSTANTS:
            return not direct
        if meaning.kind is Kind.UNKNOWN:
            return (ident.base in self.names.declared and not ident.ambient) or ident.full in RESERVED
        return meaning.kind is not Kind.TRANSPOSE

    def _suffixed(self, ident: Ident, direct: bool) -> bool:
        """Note a name with a suffix; False if only its whole can be a name."""
        text, braces = ident.subs[0]
        if self._differentiates(text, braces):
            # D_x u may be a derivative, D_x u_xx a diffusivity: neither is inferred.
            if ident.base != "D":
                self._use(ident.base, differentiated=True)
            return True
        head, comma, tail = text.partition(",")
        if letters := index_letters(head):
            differentiated = direct or bool(comma and tail) or any(self._differentiates(t, b) for t, b in ident.subs[1:])
            self._use(ident.base, differentiated=differentiated, rank=len(letters))
            return True
        if comma and not head.strip():
            self._use(ident.base, differentiated=True)
            return True
        if len(ident.subs) > 1 and self._differentiates(*ident.subs[-1]):
            # ``w_in2_x``: the name itself has a subscript that is neither a coordinate nor an index.
            self._use(Ident(ident.base, ident.subs[:-1]).full, differentiated=True)
            return True
        return False

    def _differentiates(self, text: str, braces: bool) -> bool:
        return self.names.subscript(text, braces=braces)[0] in (SubscriptKind.COORDINATES, SubscriptKind.TWO_WAYS)

    def _is_call(self, lexemes: Sequence[Lexeme], k: int) -> bool:
        """``name (`` with anything but a list of coordinates or a restriction."""
        if k + 1 >= len(lexemes) or lexemes[k + 1].kind != "LPAR":
            return False
        at = k + 2
        coordinates = {*self.names.coords, *self.names.vectors}
        while at < len(lexemes) and lexemes[at].kind in ("NAME", "COMMA"):
            value = lexemes[at].value
            if lexemes[at].kind == "NAME" and not (isinstance(value, Ident) and value.full in coordinates):
                return True
            at += 1
        return at >= len(lexemes) or lexemes[at].kind not in ("RPAR", "EQUALS")

    def _directly_differentiated(self, lexemes: Sequence[Lexeme]) -> set[int]:
        """Numbers of the names that an operator stands directly before, or primes directly behind."""
        out: set[int] = set()
        for k, lexeme in enumerate(lexemes):
            if lexeme.kind == "PRIME" and k and lexemes[k - 1].kind == "NAME":
                out.add(k - 1)
            if lexeme.kind in ("PRIME", "SUB") and k > 2 and lexemes[k - 1].kind == "RPAR":
                opened = _opening(lexemes, k - 1)
                if opened and lexemes[opened - 1].kind == "NAME" and not self._is_call(lexemes, opened - 1):
                    out.add(opened - 1)  # u(x)' and u(x=0)_x
                elif opened == k - 3 and lexemes[k - 2].kind == "NAME":
                    out.add(k - 2)
            if not self._is_prefix(lexemes, k) and not (lexeme.kind == "RPAR" and self._closes_operator(lexemes, k)):
                continue
            at = k + 1
            while at < len(lexemes) and lexemes[at].kind in ("POWER", "SUPER", "OPEN", "SUB"):
                braced = [item.kind for item in lexemes[at + 1 : at + 4]] == ["LBRACE", "NUMBER", "RBRACE"]
                at += 4 if lexemes[at].kind == "POWER" and braced else 2 if lexemes[at].kind == "POWER" else 1
            opened = at < len(lexemes) and lexemes[at].kind == "LPAR"
            at += opened
            if at >= len(lexemes) or lexemes[at].kind != "NAME":
                continue
            end = at + 1
            if end < len(lexemes) and lexemes[end].kind == "LPAR" and not self._is_call(lexemes, at):
                # u(t, x) and u(x=0) are the field itself.
                end = next((k for k in range(end, len(lexemes)) if lexemes[k].kind == "RPAR"), len(lexemes)) + 1
            after = lexemes[end].kind if end < len(lexemes) else ""
            # ``Δ u²`` differentiates the square; the text does not say that u itself is an unknown.
            if after in ("RPAR", "COMMA") if opened else after not in ("POWER", "SUPER"):
                out.add(at)
                if not opened and self._operator_follows(lexemes, end):
                    self.chained.add(at)
        return out

    def _operator_follows(self, lexemes: Sequence[Lexeme], at: int) -> bool:
        """Another operator in the same product: ``∂_x k ∂_x u``, ``∂_x ρ c ∂_x T``."""
        depth = 0
        while at < len(lexemes) and (depth or lexemes[at].kind not in _ENDS_A_PRODUCT):
            if not depth and self._is_prefix(lexemes, at):
                return True
            depth += (lexemes[at].kind == "LPAR") - (lexemes[at].kind == "RPAR")
            at += 1
        return False

    def _closes_operator(self, lexemes: Sequence[Lexeme], k: int) -> bool:
        """``(1 + ∇²)`` and ``(d_t - nu*lap)``: a bracket with an operator that has nothing to act on inside."""
        depth, at = 0, k
        while at >= 0:
            kind = lexemes[at].kind
            depth += (kind == "RPAR") - (kind == "LPAR")
            if depth == 0:
                return False
            if self._is_prefix(lexemes, at):
                after = at + 1
                while lexemes[after].kind in ("POWER", "SUPER", "SUB", "LBRACE", "RBRACE") or (
                    lexemes[after].kind == "NUMBER" and lexemes[after - 1].kind in ("POWER", "LBRACE")
                ):
                    after += 1
                if lexemes[after].kind in ("RPAR", "SIGN", "PRODUCT"):
                    return True
            at -= 1
        return False

    def _is_prefix(self, lexemes: Sequence[Lexeme], k: int) -> bool:
        meaning = self.meanings[k]
        return lexemes[k].kind in _PREFIXES if meaning is None else meaning.kind in OPERATORS
