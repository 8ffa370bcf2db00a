"""Syntax errors in words: the state the parser stopped in is looked up among the examples of `malformed`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from lark import Token, UnexpectedInput, UnexpectedToken

from opdsl.errors import LanguageError, OpSyntaxError, Span
from opdsl.grammar.malformed import CONTEXT, SYNTAX, Explanation
from opdsl.grammar.symbol_table import Classified

_WORDS = {
    "SIGN": "a sign", "PRODUCT": "an operation", "POWER": "a power", "EQUALS": "'='", "RPAR": "')'", "COMMA": "','",
    "RELATION": "a comparison", "_SEP": "the end of the equation", "BAR_CLOSE": "a bar", "RBRACE": "'}'", "PRIME": "a prime",
    "SUB": "a subscript", "SUPER": "a power", "LABEL": "a name with ':'", "LET": "let",
}  # fmt: skip


@cache
def _known() -> tuple[dict[tuple[object, str], Explanation], dict[str, Explanation]]:
    """Parser state and terminal → explanation; terminal → explanation where the state is new."""
    from opdsl.grammar.parse import stop_of

    exact: dict[tuple[object, str], Explanation] = {}
    rough: dict[str, dict[str, int]] = {}
    by_code = {e.code: e for e in SYNTAX}
    for explanation in SYNTAX:
        for example in explanation.examples:
            stop = stop_of(example, CONTEXT)
            if stop is not None:
                exact.setdefault(stop, explanation)
                votes = rough.setdefault(stop[1], {})
                votes[explanation.code] = votes.get(explanation.code, 0) + 1
    return exact, {terminal: by_code[max(votes, key=lambda c: votes[c])] for terminal, votes in rough.items()}


def stop_key(unexpected: UnexpectedInput) -> tuple[object, str]:
    """The state and the terminal a parse stopped at."""
    terminal = unexpected.token.type if isinstance(unexpected, UnexpectedToken) else "$END"
    return getattr(getattr(unexpected, "state", None), "position", None), terminal


def explain(unexpected: UnexpectedInput, found: Token, tokens: Sequence[Classified], length: int) -> LanguageError:
    """Turn what the parser raised into an error with a place, a reason and a suggestion."""
    exact, rough = _known()
    key = stop_key(unexpected)
    explanation = exact.get(key) or rough.get(key[1])
    if found.type == "$END":
        end = max(length, 1)
        span = Span(end - 1, end)
        explanation = explanation or SYNTAX[0]
    else:
        token = tokens[found.start_pos or 0]
        span = token.lexeme.span
        if token.lexeme.text == "==":
            return OpSyntaxError("an equation has one '='", code="E071", spans=(span,), suggestion="write u_t = …; == compares inside where(…)")
        what = _WORDS.get(token.kind, repr(token.lexeme.text[:20]))
        if explanation is None:
            return OpSyntaxError(f"{what} does not fit here", code="E007", spans=(span,),
                                 suggestion="check what stands before it")
    return OpSyntaxError(explanation.message, code=explanation.code, spans=(span,), suggestion=explanation.suggestion)
