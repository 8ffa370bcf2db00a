"""Lexemes → terminals of the grammar: what every name means becomes a terminal and a node of the tree."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import cast

from lark import Token

from opdsl.errors import LanguageError, OpLimitError, OpNameError, OpSyntaxError, Span
from opdsl.grammar.declarations import GREEK, INDEX_LETTERS, MAX_ORDER, index_letters
from opdsl.grammar.letters import n_is_index
from opdsl.grammar.lexemes import Ident, Lexeme
from opdsl.grammar.meanings import Kind, Place, SubscriptKind
from opdsl.grammar.spellings import Subscripts
from opdsl.grammar.suspicious_names import is_word
from opdsl.grammar.unknown_names import UnknownNames
from opdsl.language import tree as ex
from opdsl.language.declarations import Declarations

_INDEXED = (Kind.PARTIAL, Kind.IDENTITY, Kind.PERMUTATION, Kind.UNIT, Kind.POSITION)


class Classified(Token):
    """A terminal with its place in the user's text, the lexeme, and what it stands for (a node, a function name, an operator)."""

    __slots__ = ("lexeme", "payload")
    lexeme: Lexeme
    payload: object

    def __new__(cls, kind: str, lexeme: Lexeme, payload: object = None) -> Classified:
        """Make one; positions are those that Lark propagates."""
        token = cast("Classified", super().__new__(cls, kind, lexeme.text, lexeme.span.start, end_pos=lexeme.span.stop))
        token.lexeme, token.payload = lexeme, payload
        return token


class Classifier(UnknownNames):
    """Turns the lexemes of one text into terminals."""

    def __init__(
        self, declarations: Declarations, *, definitions: Sequence[str] = (), ambiguous: frozenset[str] = frozenset(),
        only_before_operators: frozenset[str] = frozenset(), inferred: Collection[str] = (),
    ) -> None:
        super().__init__(declarations, definitions, inferred)
        self.ambiguous = ambiguous
        self.only_before_operators = only_before_operators
        self.errors: list[LanguageError] = []
        self.warnings: list[str] = []

    # ------------------------------------------------------------------------------ the pass
    def run(self, lexemes: Sequence[Lexeme]) -> list[Classified]:
        """Return the terminals; errors are collected in ``errors``."""
        out: list[Classified] = []
        self.n_is_index = n_is_index(lexemes, self.declared - {*self.inferred})
        for k, lexeme in enumerate(lexemes):
            try:
                self._one(lexeme, Place(lexemes, k), out)
            except LanguageError as error:
                if not error.spans:
                    error.spans = (lexeme.span,)
                if len(self.errors) < 20:
                    self.errors.append(error)
                out.append(Classified("VALUE", lexeme, ex.Num(Fraction(1), span=lexeme.span)))
        return out

    def _one(self, lexeme: Lexeme, place: Place, out: list[Classified]) -> None:
        match lexeme.kind:
            case "NAME":
                assert isinstance(lexeme.value, Ident)
                full = lexeme.value.full
                if place.before == "LET":
                    out.append(Classified("VALUE", lexeme, full))
                    return
                if place.following == "PRIME" and full in self.functions:
                    raise OpNameError(f"the derivative of the function {full!r} has no notation", code="E109",
                                      suggestion=f"declare one more function for it: functions=\"{full} …\"")
                if place.raised and len(full) > 1 and full not in self.declared and index_letters(full):
                    raise OpNameError(f"{full!r} is not declared; an upper index?", code="E102", spans=(lexeme.span,),
                                      suggestion=f"indices stand below: write a_{full}")
                kind, payload = self.name(lexeme.value, place, lexeme.span)
                out.append(Classified(kind, lexeme, payload))
            case "PARTIAL":
                assert isinstance(lexeme.value, tuple)
                operator = self.partial(lexeme.value[0], lexeme.value[1], lexeme.span)
                out.append(Classified("PREFIX", lexeme, _repeat(operator, lexeme.value[2], lexeme.span)))
            case "QUOTIENT":
                kind = "QUOTIENT_OF" if place.following == "OPEN" else "PREFIX"
                out.append(Classified(kind, lexeme, self._quotient(lexeme.value, lexeme.span)))  # type: ignore[arg-type]
            case "NABLA":
                if place.following == "SUB":
                    below = place.lexemes[place.at + 1]
                    assert isinstance(below.value, tuple)
                    out.append(Classified("PREFIX", lexeme, self.partial(below.value[0], below.value[1], below.span)))
                    return
                out.append(Classified("PREFIX", lexeme, ex.Nabla("grad", span=lexeme.span)))
            case "BOX":
                out.append(Classified("PREFIX", lexeme, self._box(lexeme.span)))
            case "SUM":
                out.append(Classified("SUM", lexeme, self._sum(lexeme)))
            case "DELTA":
                out.append(Classified("PREFIX", lexeme, ex.Nabla("laplace", span=lexeme.span)))
            case "DIV" | "CURL" | "GRAD":
                out.append(Classified("PREFIX", lexeme, ex.Nabla(lexeme.kind.lower(), span=lexeme.span)))
            case "SUB" if place.before == "NABLA":
                return
            case "SUB" if place.before == "DELTA":
                raise OpSyntaxError(
                    "Δ takes no subscript", code="E026", suggestion="write d_xx + d_yy, or declare the other coordinate as time"
                )
            case "LPAR":
                last = out[-1] if out else None
                called = last is not None and (
                    last.type in ("FUNCTION", "CLOSE")
                    or (last.type == "VALUE" and last.lexeme.kind == "NAME")
                    or (last.type == "PRIME" and len(out) > 1 and out[-2].type == "VALUE")
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
        kind, axes = self._subscript(text, braces, "d")
        if kind is SubscriptKind.COORDINATES:
            return ex.Partial(tuple((name, None) for name in axes), span=span)
        if kind is SubscriptKind.VECTOR:
            return ex.Nabla("grad", span=span)
        components = self._components(text)
        if components is not None:
            return ex.Partial(components, span=span)
        if text == "n" and not self.n_is_index:
            return self._along_the_normal(span)
        if indices := index_letters(text):
            return ex.Partial(tuple((None, letter) for letter in indices), span=span)
        if text.isdecimal():
            raise OpNameError(f"the coordinates have names ({', '.join(self.coords)}), not numbers", code="E103",
                              suggestion=f"write d_{self.coords[0]}" if self.coords else None)
        letters, known = re.sub(r"[\s,]", "", text), "".join(self.coords)
        if letters in GREEK.values() or set(letters).isdisjoint(known):
            raise self.unknown_coordinate(text)
        bad = next((c for c in letters if c not in known), letters)
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
    def name(self, ident: Ident, place: Place, span: Span) -> tuple[str, object]:
        """Return the terminal and its payload."""
        operator = "FUNCTION" if place.called else "PREFIX"
        meaning = self.meaning(ident, place)
        if meaning.kind in _INDEXED and len(meaning.rest) > 1:
            raise self.unknown_suffixed(ident, span)
        match meaning.kind:
            case Kind.TRANSPOSE:
                return "VALUE", ex.Const("T", span=span)
            case Kind.DECLARED:
                return self._declared(ident, place, span)
            case Kind.PART:
                return "VALUE", self._part_of(meaning.name, meaning.rest, span)
            case Kind.PART_OR_OPERATOR:
                raise OpNameError(
                    "d is declared, so d_… could be its derivative or the operator", code="E105", spans=(span,),
                    suggestion="write ∂_x for the operator, diff(d, x) for the derivative",
                )
            case Kind.FUNCTION | Kind.DIFF:
                return operator, meaning.name
            case Kind.NABLA if meaning.name != "dn" or place.called:
                return operator, ex.Nabla(meaning.name, span=span)
            case Kind.HESSIAN:
                return "PREFIX", ex.Nabla("hess", span=span)
            case Kind.BIHARMONIC:
                return operator, ex.Pow(ex.Nabla("laplace", span=span), ex.Num(Fraction(2)), span=span)
            case Kind.PARTIAL:
                return "PREFIX", self.partial(meaning.name, meaning.rest[0][1], span)
            case Kind.DIFFERENTIAL:
                return operator, self.partial(meaning.name, False, span)
            case Kind.CONSTANT:
                return "VALUE", ex.Const(meaning.name, span=span)
            case Kind.IDENTITY:
                return "VALUE", ex.Indexed(ex.Const("delta", span=span), tuple(meaning.name), span=span)
            case Kind.PERMUTATION:
                return "VALUE", ex.Indexed(ex.Const("epsilon", span=span), tuple(meaning.name), span=span)
            case Kind.POSITION:
                return "VALUE", ex.Indexed(ex.Const("position", span=span), (meaning.name,), span=span)
            case Kind.UNIT:
                number = _small(meaning.name) if meaning.name.isdecimal() else self._space_number(meaning.name, span)
                return "VALUE", ex.Call("unit", (ex.Num(Fraction(number)),), span=span)
        ambiguous = ident.full in self.ambiguous and not (ident.subs and is_word(ident.full))
        if ambiguous and not place.called:
            return "VALUE", ex.Num(Fraction(1), span=span)  # refused where it stands before a parenthesis
        if ambiguous or not ident.subs:
            raise self.unknown(ident.full, span, place.called)
        if ident.ambient and ident.base in self.declared:
            raise self.bad_suffix(ident.base, "inf", span)
        raise self.unknown_suffixed(ident, span)

    def _declared(self, ident: Ident, place: Place, span: Span) -> tuple[str, object]:
        name = ident.full
        if ident.base in self.fields and name not in self.definitions and len(ident.subs) == 1:
            text, braces = ident.subs[0]
            if self._subscript(text, braces)[0] is SubscriptKind.COORDINATES:
                self.warnings.append(f"{name} is the declared name, not a derivative of {ident.base}; write d_{text} {ident.base} for the derivative")
        if name in self.functions and not place.called:
            raise OpSyntaxError(f"the function {name!r} needs its argument", code="E027", spans=(span,), suggestion=f"write {name}(…)")
        return ("FUNCTION", name) if name in self.functions else ("VALUE", self._value(name, span))

    def _value(self, name: str, span: Span) -> ex.Node:
        if name in self.definitions:
            return ex.Ref(name, span=span)
        if name in self.fields:
            return ex.Field(name, span=span)
        return ex.Param(name, span=span) if name in self.params else ex.Coord(name, span=span)

    # ------------------------------------------------------------------------------ suffixes
    def _part_of(self, name: str, subscripts: Subscripts, span: Span) -> ex.Node:
        if name in self.functions:
            raise OpNameError(f"the function {name!r} takes no subscript", code="E109", spans=(span,), suggestion=f"write d_x({name}(u))")
        if name in self.vectors:
            return self._vector_component(name, subscripts, span)
        node = self._value(name, span)
        for text, braces in subscripts:
            node = self.subscripted(node, text, braces, span, name)
        return node

    def _subscript(self, text: str, braces: bool, shown: str = "u") -> tuple[SubscriptKind, tuple[str, ...]]:
        found = self.subscript(text, braces=braces)
        if found[0] is SubscriptKind.TWO_WAYS:
            raise OpNameError(f"{text!r} splits into coordinates in two ways", code="E108", suggestion=f"separate them: {shown}_{{x y}}")
        return found

    def _vector_component(self, name: str, subs: Subscripts, span: Span) -> ex.Node:
        text = subs[0][0]
        if len(subs) == 1 and text.isdecimal():
            return ex.Indexed(ex.Coord(name, span=span), (_small(text),), span=span)
        if len(subs) == 1 and len(text) == 1 and text in INDEX_LETTERS:
            return ex.Indexed(ex.Coord(name, span=span), (text,), span=span)
        raise OpNameError(f"{name}_{text} is no component of the coordinate vector {name}", code="E103", spans=(span,),
                          suggestion=f"write {name}_0 or {name}_i")

    def _space_number(self, name: str, span: Span) -> int:
        space = [c for c in self.coords if c != self.decls.time]
        if name not in space:
            raise OpNameError(f"{name} is no space coordinate", code="E103", spans=(span,))
        return space.index(name)

    def subscripted(self, node: ex.Node, text: str, braces: bool, span: Span, shown: str) -> ex.Node:
        """Apply a subscript to a value: coordinates differentiate, numbers and letters select."""
        kind, parts = self._subscript(text, braces)
        if kind is SubscriptKind.COORDINATES:
            if len(parts) > MAX_ORDER:
                raise OpLimitError(f"a derivative of order {len(parts)}; the limit is {MAX_ORDER}", code="E304", spans=(span,))
            return ex.Apply(ex.Partial(tuple((n, None) for n in parts), span=span), node, span=span)
        if kind is SubscriptKind.COMMA:
            inner = self.subscripted(node, parts[0], braces, span, shown) if parts[0] else node
            return ex.Apply(self.partial(parts[1], True, span), inner, span=span)
        if kind is SubscriptKind.VECTOR:
            raise OpNameError(f"{text} is a coordinate vector", code="E107", spans=(span,),
                              suggestion=f"write grad({shown}) or {shown}_{{{text}_0}}")
        if kind is SubscriptKind.INDICES:
            if len(parts) == 1 and self._is_matrix(node):
                parts = tuple(parts[0])
            return ex.Indexed(node, tuple(_small(part) if part.isdecimal() else part for part in parts), span=span)
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
