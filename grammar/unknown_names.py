"""Errors for names without a meaning: what was probably meant, and what to write instead."""

from __future__ import annotations

from opdsl.errors import LanguageError, OpNameError, OpSyntaxError, Span, did_you_mean
from opdsl.grammar.declarations import GREEK, split_names
from opdsl.grammar.lexemes import Ident
from opdsl.grammar.meanings import Scope
from opdsl.grammar.suspicious_names import is_word, suspicion
from opdsl.grammar.vocabulary import ONLY_COMPLEX, WORDS

_HINTS = {
    "partial": "write ∂u/∂t or d_t u", "in": "leave out where the equation holds",
}  # fmt: skip


class UnknownNames(Scope):
    """The errors for names without a meaning."""

    def unknown_coordinate(self, name: str) -> OpNameError:
        """The error for a name that is no coordinate."""
        known = [*self.coords, *self.vectors]
        listed = f" ({', '.join(known)})" if known else "; declare coords="
        hint = did_you_mean(name, known)
        if not hint and name in GREEK.values():
            hint = "index letters are i … n, and range over space: write d_i"
        return OpNameError(f"{name!r} is not a declared coordinate{listed}", code="E103", suggestion=hint or None)

    def unknown(self, name: str, span: Span, before_paren: bool = False) -> LanguageError:
        """The error for a name that nobody has declared."""
        if name == "D":
            return OpNameError("'D' is not declared", code="E102", spans=(span,),
                               suggestion="declare params=\"D\"; write D²u for the Hessian, u_t + u·∇u for a material derivative")
        if name in _HINTS or (len(name) > 1 and name[0] == "D" and name[1:] in self.fields):
            hint = _HINTS.get(name, "write d_t u + v·∇u for a material derivative")
            return OpNameError(f"{name!r} is not declared", code="E102", spans=(span,), suggestion=hint)
        if before_paren:
            return OpNameError(
                f"{name!r} is not declared: a function call {name}(…) or a product {name}*(…)?", code="E104", spans=(span,),
                suggestion=(did_you_mean(name, WORDS, cutoff=0.8) if name not in ONLY_COMPLEX else "")
                or f"declare functions=\"{name}\" or params=\"{name}\"",
            )
        if len(name) > 1 and name[0] == "d" and (name[1:] in self.coords or name[1:] in self.vectors):
            return OpSyntaxError(f"{name} is an operator only directly before a parenthesis", code="E028", spans=(span,),
                                 suggestion=f"write {name}(u) or d_{name[1:]} u")
        if len(name) > 1 and name[0] == "d" and name[1:] in {*self.fields, *self.params}:
            listed = ", ".join([*self.coords, *self.vectors]) or "none declared"
            return OpNameError(f"{name} over something that is not a declared coordinate ({listed})", code="E103", spans=(span,),
                               suggestion=f"write d{name[1:]}/d{self.coords[0]}" if self.coords else None)
        if suspicious := self._suspicious(name, span):
            return suspicious
        known = sorted(self.declared)
        hint = " ".join(filter(None, (did_you_mean(name, known), self._run_together(name))))
        if not hint and len(name) > 1:
            parts = [n for n in known if name.startswith(n) and name[len(n) :]]
            for first in parts:
                rest = Ident(name[len(first) :])
                if rest.base in self.declared or any(c.isdigit() for c in rest.base[:1]):
                    hint = f"names are never split; write {first} {rest.base} for a product"
        if not hint and name == "delta":
            hint = "functional derivatives are written out, or by a declared name; elsewhere declare params=\"delta\""
        if not hint and is_word(name):
            hint = f"declare params=\"{name}\"; only letters and Greek names are taken for parameters by themselves"
        if not hint and name == "i":
            hint = "i is the imaginary unit where a complex field is declared: fields=\"u:complex\""
        listed = f" (known: {', '.join(known[:12])})" if known else ""
        return OpNameError(f"{name!r} is not declared{listed}", code="E102", spans=(span,), suggestion=hint or None)

    def _run_together(self, name: str) -> str:
        """``iħ``, ``uv``: declared names without a blank between them."""
        try:
            parts = split_names(name, [*self.declared, *(["i"] if self.has_complex else []), *({"pi"} - self.declared)]) or []
        except ValueError:
            return ""
        return f"Names are never split; write {' '.join(parts)} for a product" if len(parts) > 1 else ""

    def _suspicious(self, name: str, span: Span) -> OpNameError | None:
        found = suspicion(name, self.coords, self.fields, self.declared, WORDS)
        if found is None:
            return None
        return OpNameError(f"{name!r} is not declared and {found[0]}", code="E102", spans=(span,), suggestion=found[1])

    def bad_suffix(self, base: str, text: str, span: Span) -> OpNameError:
        """The error for a subscript that is neither coordinates nor indices."""
        rest = text
        for name in sorted(self.coords, key=len, reverse=True):
            rest = rest.replace(name, "")
        bad = rest.strip() or text
        known = [*self.coords, *self.vectors]
        near = "".join(c for c in text if c in known)
        if len(near) < len(text) and near:
            near += near[-1] * (len(text) - len(near))
        suggestion = f"did you mean {base}_{near}?" if near and len(text) < 8 else None
        if text == "inf":
            suggestion = f'declare params="{base}_inf"'
        listed = f" ({', '.join(known)})" if known else "; declare coords="
        return OpNameError(f"{bad[:20]!r} is not a declared coordinate{listed}", code="E103", spans=(span,),
                           suggestion=suggestion)

    def _split_off(self, ident: Ident) -> str:
        """``xu_x``: a known name in front."""
        suffix = ident.full[len(ident.base) :]
        for name in sorted(self.declared, key=len, reverse=True):
            rest = ident.base[len(name) :]
            if rest and ident.base.startswith(name) and not is_word(rest):
                return f"names are never split; write {name} {rest}{suffix} for a product"
        return ""

    def unknown_suffixed(self, ident: Ident, span: Span) -> OpNameError:
        """The error for a name with a subscript, neither of which is known."""
        known = sorted(self.declared)
        if suspicious := self._suspicious(ident.full, span):
            return suspicious
        hint = self._run_together(ident.base).replace(" for a product", f"{ident.full[len(ident.base):]} for a product")
        if not hint and not (is_word(ident.full) and "fields" not in self.decls.given):
            hint = did_you_mean(ident.full, known)
        hint = hint or self._split_off(ident) or did_you_mean(ident.base, known)
        return OpNameError(f"neither {ident.full!r} nor {ident.base!r} is declared", code="E102", spans=(span,),
                           suggestion=hint or f"declare fields=\"{ident.base}\" or params=\"{ident.full}\"")
