"""Lexemes → terminals of the grammar: what every name means, given what is declared or inferred.

Binding rules of names, in this order: a declared name wins, whatever it looks like; then a derivative or component of a declared
name (``u_xx``, ``u_0``, ``a_ij``); then operators and functions of the fixed table; then constants. What is left is inferred
where that is unambiguous, or is an error with a suggestion.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from opdsl.errors import LanguageError, OpLimitError, OpNameError, OpSyntaxError, Span
from opdsl.grammar.declarations import GREEK, INDEX_LETTERS, MAX_ORDER
from opdsl.grammar.lexemes import Ident, Lexeme
from opdsl.grammar.spellings import coordinate_suffix
from opdsl.grammar.suspicious_names import is_word
from opdsl.grammar.unknown_names import Scope
from opdsl.grammar.vocabulary import BIHARMONIC, FUNCTIONS, NABLAS, ONLY_COMPLEX, RESERVED
from opdsl.language import tree as ex
from opdsl.language.declarations import Declarations


@dataclass(frozen=True, slots=True)
class Classified:
    """A terminal: its kind, the lexeme, and what it stands for (a node, a function name, an operator)."""

    kind: str
    lexeme: Lexeme
    payload: object = None


class Classifier(Scope):
    """Turns the lexemes of one text into terminals."""

    def __init__(
        self, declarations: Declarations, *, definitions: Sequence[str] = (), ambiguous: frozenset[str] = frozenset(),
        only_before_operators: frozenset[str] = frozenset(), inferred: Collection[str] = (),
    ) -> None:
        self.ambiguous = ambiguous
        self.only_before_operators = only_before_operators
        super().__init__(declarations, definitions)
        self.inferred = inferred
        self.errors: list[LanguageError] = []
        self.warnings: list[str] = []

    # ------------------------------------------------------------------------------ the pass
    def run(self, lexemes: Sequence[Lexeme]) -> list[Classified]:
        """Return the terminals; errors are collected in ``errors``."""
        out: list[Classified] = []
        self.n_is_index = n_is_index(lexemes, self.declared - {*self.inferred})
        for k, lexeme in enumerate(lexemes):
            following = lexemes[k + 1] if k + 1 < len(lexemes) else None
            before = lexemes[k - 1] if k else None
            try:
                self._one(lexeme, following, before, out)
            except LanguageError as error:
                if not error.spans:
                    error.spans = (lexeme.span,)
                if len(self.errors) < 20:
                    self.errors.append(error)
                out.append(Classified("VALUE", lexeme, ex.Num(Fraction(1), span=lexeme.span)))
        return out

    def _one(self, lexeme: Lexeme, following: Lexeme | None, before: Lexeme | None, out: list[Classified]) -> None:
        before_paren = following is not None and following.kind == "LPAR"
        match lexeme.kind:
            case "NAME":
                assert isinstance(lexeme.value, Ident)
                if before is not None and before.kind == "LET":
                    out.append(Classified("VALUE", lexeme, lexeme.value.full))
                    return
                if following is not None and following.kind == "PRIME" and lexeme.value.full in self.functions:
                    raise OpNameError(f"the derivative of the function {lexeme.value.full!r} has no notation", code="E109",
                                      suggestion=f"declare one more function for it: functions=\"{lexeme.value.full} …\"")
                if lexeme.value.full == "T" and raised(out) and ("T" not in self.declared or "T" in self.inferred):
                    # A power or the transpose: what it stands on tells.
                    out.append(Classified("VALUE", lexeme, ex.Const("T", span=lexeme.span)))
                    return
                if raised(out) and len(full := lexeme.value.full) > 1 and full not in self.declared and set(full) <= INDEX_LETTERS:
                    raise OpNameError(f"{full!r} is not declared; an upper index?", code="E102", spans=(lexeme.span,),
                                      suggestion=f"indices stand below: write a_{full}")
                kind, payload = self.name(lexeme.value, lexeme.span, before_paren)
                out.append(Classified(kind, lexeme, payload))
            case "PARTIAL":
                assert isinstance(lexeme.value, tuple)
                operator = self.partial(lexeme.value[0], lexeme.value[1], lexeme.span)
                out.append(Classified("PREFIX", lexeme, _repeat(operator, lexeme.value[2], lexeme.span)))
            case "QUOTIENT":
                kind = "QUOTIENT_OF" if following is not None and following.kind == "OPEN" else "PREFIX"
                out.append(Classified(kind, lexeme, self._quotient(lexeme.value, lexeme.span)))  # type: ignore[arg-type]
            case "NABLA":
                if following is not None and following.kind == "SUB":
                    assert isinstance(following.value, tuple)
                    text, braces = following.value
                    out.append(Classified("PREFIX", lexeme, self.partial(text, braces, following.span)))
                    return
                out.append(Classified("PREFIX", lexeme, ex.Nabla("grad", span=lexeme.span)))
            case "BOX":
                out.append(Classified("PREFIX", lexeme, self._box(lexeme.span)))
            case "SUM":
                out.append(Classified("PREFIX", lexeme, ("sum", self._sum(lexeme))))
            case "DELTA":
                out.append(Classified("PREFIX", lexeme, ex.Nabla("laplace", span=lexeme.span)))
            case "DIV" | "CURL" | "GRAD":
                out.append(Classified("PREFIX", lexeme, ex.Nabla(lexeme.kind.lower(), span=lexeme.span)))
            case "SUB" if before is not None and before.kind == "NABLA":
                return
            case "SUB" if before is not None and before.kind == "DELTA":
                raise OpSyntaxError(
                    "Δ takes no subscript", code="E026", suggestion="write d_xx + d_yy, or declare the other coordinate as time"
                )
            case "LPAR":
                last = out[-1] if out else None
                called = last is not None and (
                    last.kind in ("FUNCTION", "CLOSE")
                    or (last.kind == "VALUE" and last.lexeme.kind == "NAME")
                    or (last.kind == "PRIME" and len(out) > 1 and out[-2].kind == "VALUE")
                )
                out.append(Classified("CALL" if called else "LPAR", lexeme))
            case "SEP":
                out.append(Classified("_SEP", lexeme))
            case _:
                out.append(Classified(lexeme.kind, lexeme, lexeme.value))

    # ------------------------------------------------------------------------------ operators
    def _box(self, span: Span) -> ex.Node:
        """``□``: ∂_t² − Δ, the sign for which □u + m²u = 0 is the Klein–Gordon equation."""
        if self.decls.time is None:
            raise OpSyntaxError("□ needs a time coordinate", code="E020", spans=(span,), suggestion="declare time=, or write d_tt u - c^2 lap u")
        self.warnings.append("□ is ∂_t² − Δ, with speed 1; books with the other sign convention write −□")
        twice = ex.Partial(((self.decls.time, None),) * 2, span=span)
        return ex.Add((twice, ex.Neg(ex.Nabla("laplace", span=span), span=span)), span=span)

    def _sum(self, lexeme: Lexeme) -> str:
        """The letters of an explicit sum, which runs over all space coordinates whatever numbers are written."""
        assert isinstance(lexeme.value, tuple)
        letters, first, last = lexeme.value
        size = self.decls.space_size()
        ends = {None, "", f"{size}" if first == "1" else f"{size}-1" if isinstance(size, str) else f"{int(size) - 1}"}
        if isinstance(size, int) and "d" not in self.declared:
            ends.add("d" if first == "1" else "d-1")
        if first not in (None, "0", "1") or last not in ends:
            raise OpSyntaxError(f"a sum runs over all space coordinates, here {first} … {last}", code="E017", spans=(lexeme.span,),
                                suggestion=f"write sum_{letters}(…); there are {size} space coordinates")
        return str(letters)

    def _quotient(self, axes: tuple[tuple[str | None, int | str | None], ...], span: Span) -> ex.Node:
        """``∂/∂x`` …, or ``∂/∂n``, the normal derivative."""
        if axes == (("n", None),) and "n" not in {*self.coords, *self.vectors}:
            return self._along_the_normal(span)
        return ex.Partial(tuple(self._quotient_axis(axis) for axis in axes), span=span)

    def _along_the_normal(self, span: Span) -> ex.Node:
        """``∂_n``, ``∂/∂n``: the normal derivative where nothing else is called n."""
        if "n" in self.declared and "n" not in self.inferred:
            listed = ", ".join([*self.coords, *self.vectors])
            raise OpNameError(f"'n' is not a declared coordinate ({listed}), and not the normal either: it is declared as something else",
                              code="E103", spans=(span,), suggestion="write dn(u) for the normal derivative")
        if self.n_is_index:
            raise self.unknown_coordinate("n")
        return ex.Nabla("dn", span=span)

    def _quotient_axis(self, axis: tuple[str | None, int | str | None]) -> tuple[str | None, int | str | None]:
        name, which = axis
        if name is None:
            return axis
        if which is not None:
            if name not in self.vectors:
                raise self.unknown_coordinate(f"{name}_{which}")
            return axis
        if name in self.vectors:
            raise OpNameError(f"{name} is a coordinate vector", code="E107", suggestion=f"write d_0, d_i or ∂/∂{name}_i")
        if name not in self.coords:
            raise self.unknown_coordinate(name)
        return axis

    def partial(self, text: str, braces: bool, span: Span) -> ex.Node:
        """Resolve the subscript of ``d_…`` or ``∂_…``: coordinates, components, index letters or the normal."""
        if not text:
            raise OpSyntaxError("the derivative names no coordinate", code="E020", suggestion="write d_x")
        names = [*self.coords]
        try:
            split = coordinate_suffix(text, names, repeats=braces) if names else None
        except ValueError:
            raise OpNameError(f"{text!r} splits into coordinates in two ways", code="E108",
                              suggestion="separate them: d_{x y}") from None
        if split is not None:
            return ex.Partial(tuple((name, None) for name in split), span=span)
        if text in self.vectors:
            return ex.Nabla("grad", span=span)
        components = self._components(text)
        if components is not None:
            return ex.Partial(components, span=span)
        if text == "n" and not self.n_is_index:
            return self._along_the_normal(span)
        letters = re.sub(r"[\s,]", "", text)
        if letters and set(letters) <= INDEX_LETTERS:
            return ex.Partial(tuple((None, letter) for letter in letters), span=span)
        if text.isdecimal():
            raise OpNameError(f"the coordinates have names ({', '.join(self.coords)}), not numbers", code="E103",
                              suggestion=f"write d_{self.coords[0]}" if self.coords else None)
        if letters in GREEK.values() or set(letters).isdisjoint("".join(names)):
            raise self.unknown_coordinate(text)
        bad = next((c for c in letters if c not in "".join(names)), letters)
        raise self.unknown_coordinate(text if len(text) < 2 or bad == letters else bad)

    def _components(self, text: str) -> tuple[tuple[str | None, int | str | None], ...] | None:
        """``12`` over ``x[100]``, or ``x_3``, ``x_3 x_4``."""
        vector = next(iter(self.vectors), None)
        if vector is None:
            return None
        if text.isdecimal():
            return ((vector, _small(text)),)
        words = re.split(r"[\s,]+", text)
        out: list[tuple[str | None, int | str | None]] = []
        for word in words:
            base, _, digits = word.rpartition("_")
            if word in self.coords:
                out.append((word, None))
            elif base in self.vectors and digits.isdecimal():
                out.append((base, _small(digits)))
            elif word.isdecimal():
                out.append((vector, _small(word)))
            else:
                return None
        return tuple(out)

    # ------------------------------------------------------------------------------ names
    def name(self, ident: Ident, span: Span, before_paren: bool) -> tuple[str, object]:
        """Return the terminal and its payload."""
        full = ident.full
        if full in self.declared:
            self._warn_shadowing(ident, full)
            if full in self.functions:
                if before_paren:
                    return "FUNCTION", full
                raise OpSyntaxError(f"the function {full!r} needs its argument", code="E027", spans=(span,),
                                    suggestion=f"write {full}(…)")
            return "VALUE", self._declared(full, span)
        if not ident.subs:
            return self._plain(ident.base, span, before_paren)
        return self._suffixed(ident, span, before_paren)

    def _warn_shadowing(self, ident: Ident, full: str) -> None:
        if ident.subs and ident.base in self.fields and full not in self.definitions:
            split = self._split(ident.subs[0][0], ident.subs[0][1])
            if split and len(ident.subs) == 1:
                self.warnings.append(f"{full} is the declared name, not a derivative of {ident.base}; write d_{ident.subs[0][0]} "
                                     f"{ident.base} for the derivative")

    def _declared(self, name: str, span: Span) -> ex.Node:
        if name in self.definitions:
            return ex.Ref(name, span=span)
        if name in self.fields:
            return ex.Field(name, span=span)
        if name in self.params:
            return ex.Param(name, span=span)
        return ex.Coord(name, span=span)

    def _plain(self, name: str, span: Span, before_paren: bool) -> tuple[str, object]:
        if name in FUNCTIONS and (self.has_complex or name not in ONLY_COMPLEX):
            return ("FUNCTION" if before_paren else "PREFIX"), FUNCTIONS[name].name
        if name in NABLAS and (name != "dn" or before_paren):
            operator = ex.Nabla(NABLAS[name], span=span)
            return ("FUNCTION" if before_paren else "PREFIX"), operator
        if name in BIHARMONIC:
            operator2 = ex.Pow(ex.Nabla("laplace", span=span), ex.Num(Fraction(2)), span=span)
            return ("FUNCTION" if before_paren else "PREFIX"), operator2
        if name in RESERVED and before_paren:
            return "FUNCTION", name
        if before_paren and len(name) > 1 and name[0] == "d":
            try:
                split = coordinate_suffix(name[1:], self.coords, repeats=False)
            except ValueError:
                split = None
            if split is not None:
                return "FUNCTION", ex.Partial(tuple((n, None) for n in split), span=span)
        if name == "pi":
            return "VALUE", ex.Const("pi", span=span)
        if name == "e":
            return "VALUE", ex.Const("e", span=span)
        if name == "i" and self.has_complex:
            return "VALUE", ex.Const("i", span=span)
        if name == "I":
            return "VALUE", ex.Const("I", span=span)
        if name == "D":
            return "PREFIX", ex.Nabla("hess", span=span)
        if name in self.ambiguous and not before_paren:
            return "VALUE", ex.Num(Fraction(1), span=span)  # refused where it stands before a parenthesis
        raise self.unknown(name, span, before_paren)

    # ------------------------------------------------------------------------------ suffixes
    def _split(self, text: str, braces: bool) -> list[str] | None:
        try:
            return coordinate_suffix(text, self.coords, repeats=braces) if self.coords else None
        except ValueError:
            raise OpNameError(f"{text!r} splits into coordinates in two ways", code="E108",
                              suggestion="separate them: u_{x y}") from None

    def _suffixed(self, ident: Ident, span: Span, before_paren: bool) -> tuple[str, object]:
        base, subs = ident.base, list(ident.subs)
        for cut in range(len(subs) - 1, -1, -1):
            known = "_".join([base, *(re.sub(r"[\s,]", "", text) for text, _ in subs[:cut])])
            if known in self.vectors and cut == 0:
                return "VALUE", self._vector_component(known, subs, span)
            if known == "d" and cut == 0 and (known in self.params or known in self.fields):
                raise OpNameError(
                    "d is declared, so d_… could be its derivative or the operator", code="E105", spans=(span,),
                    suggestion="write ∂_x for the operator, diff(d, x) for the derivative",
                )
            if known in self.declared and known not in self.functions and (known not in self.coords or cut):
                node: ex.Node = self._declared(known, span)
                for text, braces in subs[cut:]:
                    node = self.subscript(node, text, braces, span, known)
                return "VALUE", node
            if known in self.functions:
                raise OpNameError(f"the function {known!r} takes no subscript", code="E109", spans=(span,),
                                  suggestion=f"write d_x({known}(u))")
        if len(subs) == 1:
            special = self._special(base, *subs[0], span, before_paren)
            if special is not None:
                return special
        if ident.full in self.ambiguous and not is_word(ident.full):
            if before_paren:
                raise self.unknown(ident.full, span, before_paren)
            return "VALUE", ex.Num(Fraction(1), span=span)
        raise self.unknown_suffixed(ident, span)

    def _vector_component(self, name: str, subs: list[tuple[str, bool]], span: Span) -> ex.Node:
        text = subs[0][0]
        if len(subs) == 1 and text.isdecimal():
            return ex.Indexed(ex.Coord(name, span=span), (_small(text),), span=span)
        if len(subs) == 1 and len(text) == 1 and text in INDEX_LETTERS:
            return ex.Indexed(ex.Coord(name, span=span), (text,), span=span)
        raise OpNameError(f"{name}_{text} is no component of the coordinate vector {name}", code="E103", spans=(span,),
                          suggestion=f"write {name}_0 or {name}_i")

    def _special(self, base: str, text: str, braces: bool, span: Span, before_paren: bool) -> tuple[str, object] | None:
        letters = re.sub(r"[\s,]", "", text)
        indices = bool(letters) and set(letters) <= INDEX_LETTERS
        if base in ("d", "partial"):
            operator = self.partial(text, braces, span)
            return "PREFIX", operator
        if base == "delta" and indices:
            return "VALUE", ex.Indexed(ex.Const("delta", span=span), tuple(letters), span=span)
        if base in ("epsilon", "eps") and indices and len(letters) == 3:
            return "VALUE", ex.Indexed(ex.Const("epsilon", span=span), tuple(letters), span=span)
        if base == "e" and (text.isdecimal() or text in self.coords):
            number = _small(text) if text.isdecimal() else self._space_number(text, span)
            return "VALUE", ex.Call("unit", (ex.Num(Fraction(number)),), span=span)
        if base == "x" and indices and len(letters) == 1:
            return "VALUE", ex.Indexed(ex.Const("position", span=span), (letters,), span=span)
        if base == "I" and indices and len(letters) == 2:
            return "VALUE", ex.Indexed(ex.Const("delta", span=span), tuple(letters), span=span)
        return None

    def _space_number(self, name: str, span: Span) -> int:
        space = [c for c in self.coords if c != self.decls.time]
        if name not in space:
            raise OpNameError(f"{name} is no space coordinate", code="E103", spans=(span,))
        return space.index(name)

    def subscript(self, node: ex.Node, text: str, braces: bool, span: Span, shown: str) -> ex.Node:
        """Apply a subscript to a value: coordinates differentiate, numbers and letters select."""
        split = self._split(text, braces)
        if split is not None:
            if len(split) > MAX_ORDER:
                raise OpLimitError(f"a derivative of order {len(split)}; the limit is {MAX_ORDER}", code="E304", spans=(span,))
            return ex.Apply(ex.Partial(tuple((n, None) for n in split), span=span), node, span=span)
        if "," in text:
            first, _, rest = text.partition(",")
            inner = self.subscript(node, first.strip(), braces, span, shown) if first.strip() else node
            return ex.Apply(self.partial(rest.strip(), True, span), inner, span=span)
        if text in self.vectors:
            raise OpNameError(f"{text} is a coordinate vector", code="E107", spans=(span,),
                              suggestion=f"write grad({shown}) or {shown}_{{{text}_0}}")
        if re.fullmatch(r"[0-9]+( [0-9]+)*", text) or (text.isalnum() and set(text) <= INDEX_LETTERS | set("0123456789")):
            indices: tuple[int | str, ...]
            if " " in text:
                indices = tuple(_small(word) for word in text.split())
            elif text.isdecimal() and not self._is_matrix(node):
                indices = (_small(text),)
            else:
                indices = tuple(int(c) if c.isdecimal() else c for c in text.replace(" ", ""))
            return ex.Indexed(node, indices, span=span)
        letters = re.sub(r"\s", "", text)
        if letters and set(letters) <= INDEX_LETTERS:
            return ex.Indexed(node, tuple(letters), span=span)
        components = self._components(text) if self.vectors else None
        if components is not None:
            return ex.Apply(ex.Partial(components, span=span), node, span=span)
        raise self.bad_suffix(shown, text, span)

    def _is_matrix(self, node: ex.Node) -> bool:
        if isinstance(node, ex.Field):
            return len(self.fields[node.name].shape) > 1
        if isinstance(node, ex.Param):
            return len(self.params[node.name].shape or ()) > 1
        return False

def raised(before: Sequence[Classified]) -> bool:
    """Say whether what follows is an exponent, in braces or not."""
    kinds = [token.kind for token in before[-2:]]
    return kinds[-1:] == ["POWER"] or kinds == ["POWER", "LBRACE"]


def _small(text: str) -> int:
    if len(text) > 8:
        raise OpLimitError(f"component {text[:12]}… is too large", code="E305")
    return int(text)


def _repeat(operator: ex.Node, order: int, span: Span) -> ex.Node:
    if order == 1:
        return operator
    if isinstance(operator, ex.Partial):
        if len(operator.axes) * order > MAX_ORDER:
            raise OpLimitError(f"a derivative of order {len(operator.axes) * order}; the limit is {MAX_ORDER}", code="E304")
        return replace(operator, axes=operator.axes * order)
    return ex.Pow(operator, ex.Num(Fraction(order)), span=span)


def _letters_used(lexemes: Sequence[Lexeme], names: Collection[str] = ()) -> frozenset[str]:
    """Index letters that occur as a subscript of something that is neither a derivative nor one of the declared names."""
    found: set[str] = set()
    for lexeme in lexemes:
        if lexeme.kind == "SUM":
            found |= set(lexeme.value[0])  # type: ignore[index]
        if lexeme.kind == "NAME" and isinstance(lexeme.value, Ident) and lexeme.value.base not in ("d", "partial"):
            if lexeme.value.full in names:
                continue
            for text, _ in lexeme.value.subs:
                letters = re.sub(r"[\s,0-9]", "", text)
                found |= set(letters) if set(letters) <= INDEX_LETTERS else set()
    return frozenset(found)


def n_is_index(lexemes: Sequence[Lexeme], names: Collection[str] = ()) -> bool:
    """Say whether n is an index letter of the text and not the normal: ``u_n``, ``∂_n ∂_n u``, ``∂_mn u``."""
    if "n" in _letters_used(lexemes, names):
        return True
    alone = 0
    for lexeme in lexemes:
        if lexeme.kind == "PARTIAL" or (lexeme.kind == "NAME" and isinstance(lexeme.value, Ident) and lexeme.value.base == "d"):
            texts = [text for text, _ in lexeme.value.subs] if isinstance(lexeme.value, Ident) else [str(lexeme.value[0])]  # type: ignore
            alone += texts == ["n"]
            if any("n" in text and text != "n" and set(re.sub(r"[\s,]", "", text)) <= INDEX_LETTERS for text in texts):
                return True
    return alone > 1 and "n" in names
