"""Syntax errors in words: Lark finds the example of `malformed` that its parser stops in in the same way."""

from __future__ import annotations

from functools import cache
from typing import Any

from lark import Token, UnexpectedInput, UnexpectedToken

from opdsl.errors import LanguageError, OpSyntaxError, Span
from opdsl.grammar.malformed import CONTEXT, SYNTAX, Explanation
from opdsl.grammar.symbol_table import Classified

_WORDS = {
    "SIGN": "a sign", "PRODUCT": "an operation", "POWER": "a power", "EQUALS": "'='", "RPAR": "')'", "COMMA": "','",
    "RELATION": "a comparison", "_SEP": "the end of the equation", "BAR_CLOSE": "a bar", "RBRACE": "'}'", "PRIME": "a prime",
    "SUB": "a subscript", "SUPER": "a power", "LABEL": "a name with ':'", "LET": "let",
}  # fmt: skip


def stop_of(unexpected: UnexpectedInput) -> UnexpectedToken:
    """Where a parse stopped, for `UnexpectedInput.match_examples`.

    Lark compares states by the height of their stack, too, and tokens by their text; how deep the brackets are and which name
    stands there does not matter here.
    """
    terminal = unexpected.token.type if isinstance(unexpected, UnexpectedToken) else "$END"
    return UnexpectedToken(Token(terminal, ""), set(), state=unexpected.state.position)  # type: ignore[no-untyped-call,attr-defined]


@cache
def _stop(example: str) -> UnexpectedToken:
    from opdsl.grammar.parse import stop_of_example

    stop = stop_of_example(example, CONTEXT)
    assert stop is not None, example
    return stop


@cache
def _near(terminal: str) -> list[tuple[Explanation, list[str]]]:
    """The examples that stop before a terminal."""
    return [(e, texts) for e in SYNTAX if (texts := [text for text in e.examples if _stop(text).token.type == terminal])]


def _explanation(stop: UnexpectedToken) -> Explanation | None:
    """That of the example that stops in the same state before the same terminal, else the one with most examples before it."""
    near = _near(stop.token.type)

    def parse(text: str) -> Any:
        raise _stop(text)

    return stop.match_examples(parse, near, use_accepts=False) or max(near, key=lambda pair: len(pair[1]), default=(None,))[0]


def explain(unexpected: UnexpectedInput, length: int) -> LanguageError:
    """Turn what the parser raised into an error with a place, a reason and a suggestion."""
    explanation, token = _explanation(stop_of(unexpected)), getattr(unexpected, "token", None)
    if not isinstance(token, Classified):
        end = max(length, 1)
        span = Span(end - 1, end)
        explanation = explanation or SYNTAX[0]
    else:
        span = token.lexeme.span
        if token == "==":
            return OpSyntaxError("an equation has one '='", code="E071", spans=(span,), suggestion="write u_t = …; == compares inside where(…)")
        what = _WORDS.get(token.type, repr(token[:20]))
        if explanation is None:
            return OpSyntaxError(f"{what} does not fit here", code="E007", spans=(span,),
                                 suggestion="check what stands before it")
    return OpSyntaxError(explanation.message, code=explanation.code, spans=(span,), suggestion=explanation.suggestion)
