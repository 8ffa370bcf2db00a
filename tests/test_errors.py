"""Errors that teach: every malformed example has its code, a place in the text, a reason and a suggestion where one exists."""

from __future__ import annotations

import pickle
import re
import time
import warnings

import pytest

from opdsl import errors
from opdsl.errors import LanguageError, OpdslError, OpErrors, OpLimitError, OpNameError, Span, did_you_mean
from opdsl.grammar import parse_system
from opdsl.grammar.malformed import CONTEXT, OTHER, SYNTAX
from opdsl.grammar.scanner import MAX_TEXT
from opdsl.language.calculus import expand

CASES = [(e.code, text) for e in SYNTAX for text in e.examples] + [(code, text) for code, many in OTHER.items() for text in many]


def refused(text: str, **declarations: str) -> LanguageError:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(LanguageError) as caught:
            parse_system(text, **declarations)
    return caught.value


def test_there_are_enough_examples() -> None:
    assert len(CASES) >= 80
    assert len({text for _, text in CASES}) == len(CASES)


@pytest.mark.parametrize(("code", "text"), CASES, ids=[f"{c}-{t[:20]!r}" for c, t in CASES])
def test_malformed_text_is_explained(code: str, text: str) -> None:
    error = refused(text, **CONTEXT)
    found = error.errors if isinstance(error, OpErrors) else (error,)
    assert code in [e.code for e in found]
    for each in found:
        assert each.message
        assert all(0 <= span.start < span.stop <= max(len(text), 1) for span in each.spans), each.spans
        shown = str(each)
        assert shown.startswith(f"{type(each).__name__}[{each.code}]")
        # Nothing of the parser, of Python or of our inside may surface.
        assert not re.search(r"Traceback|Unexpected token|lark|NoneType|KeyError|object at 0x", shown)


def test_syntax_explanations_are_unambiguous() -> None:
    """No two explanations claim the same place of the parser."""
    from opdsl.grammar.parse import stop_of_example

    claimed: dict[tuple[object, str], str] = {}
    for explanation in SYNTAX:
        assert explanation.suggestion
        for example in explanation.examples:
            stop = stop_of_example(example, CONTEXT)
            assert stop is not None, example
            assert claimed.setdefault((stop.state, stop.token.type), explanation.code) == explanation.code, example


def test_the_error_of_the_specification() -> None:
    error = refused("mom: u_t + u*u_x = nu*u_xz", coords="t x", fields="u", params="nu")
    assert str(error) == (
        "OpNameError[E103], line 1:\n"
        "  mom: u_t + u*u_x = nu*u_xz\n"
        "                        ^^^^ 'z' is not a declared coordinate (t, x)\n"
        "  did you mean u_xx?"
    )


def test_two_places_that_disagree() -> None:
    error = refused("a_ij d_j u + w_j", coords="t x", fields="u w[d]")
    assert str(error) == (
        "OpIndexError[E201] in residual 'eq1', line 1: index i of the first term [^] is missing in the second term [~]\n"
        "  a_ij d_j u + w_j\n"
        "  ^^^^^^^^^^   ~~~"
    )


def test_several_errors_at_once_in_the_order_of_the_text() -> None:
    error = refused("u_q + foo u\nv_t = u_z $ 2", coords="t x", fields="u v", params="nu")
    assert isinstance(error, OpErrors)
    assert [e.code for e in error.errors] == ["E103", "E102", "E103", "E010"]
    assert "4 errors" in str(error)
    assert "line 2" in str(error)


def test_rank_errors_of_all_equations_are_reported() -> None:
    error = refused("a: div(u) = 0; b: w + u = 0; c: u_t = 0", coords="t x y", fields="u w[2]")
    assert isinstance(error, OpErrors)
    assert [e.residual for e in error.errors] == ["a", "b"]


def test_did_you_mean() -> None:
    assert did_you_mean("nuu", ["nu", "u"]) == "did you mean 'nu'?"
    assert did_you_mean("NU", ["nu"]) == "did you mean 'nu'?"
    assert did_you_mean("something", ["nu"]) == ""
    assert "did you mean 'nu'?" in str(refused("u_t = nuu u_xx", coords="t x", params="nu"))


def test_declarations_are_checked() -> None:
    for declarations in (
        {"coords": "t x t"}, {"coords": "t x[0]"}, {"coords": "t x[3"}, {"coords": "t ?x"}, {"coords": "x[d] y[e]"},
        {"coords": "t x", "fields": "u x"}, {"coords": "t x", "fields": "u:imaginary"}, {"coords": "t x", "fields": "?u"},
        {"coords": "t x", "params": "nu:real"}, {"coords": "t x", "params": "3"}, {"coords": "polar(r)"},
        {"coords": "t x", "time": "z"}, {"coords": "t x[99999999999]"}, {"coords": "t x", "fields": "u[2.5]"},
        {"coords": "t x", "fields": "u[2] u"}, {"coords": "1x"}, {"coords": "t; x"},
    ):  # fmt: skip
        refused("u_t", **declarations)


def test_errors_survive_pickling() -> None:
    error = refused("u_q + v_q", coords="t x", fields="u v")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_every_public_error_is_in_the_family() -> None:
    for name in errors.__all__:
        thing = getattr(errors, name)
        if isinstance(thing, type) and issubclass(thing, Exception) and not issubclass(thing, Warning):
            assert issubclass(thing, OpdslError)
    assert Span(1, 3).join(None) == Span(1, 3)
    assert issubclass(OpNameError, LanguageError)


# --------------------------------------------------------------------------------------------- hostile input
HOSTILE = [
    ("laplace(" * 50 + "u" + ")" * 50, {"coords": "x y"}),
    ("laplace laplace " * 30 + "u", {"coords": "x y"}),
    ("(1+∇²)^1000 u", {"coords": "x y", "fields": "u"}),
    ("(1+∇²)^16 (u^3)", {"coords": "x y z", "fields": "u"}),
    ("laplace(u)", {"coords": "x[1000000000]"}),
    ("grad(u)", {"coords": "x[100000]"}),
    ("a_ijkl d_i d_j d_k d_l (u^4)", {"coords": "a0 a1 a2 a3 a4 a5 a6 a7 a8 a9", "fields": "u"}),
    ("u^" * 3000 + "u", {"coords": "x", "fields": "u"}),
    ("-" * 100000 + "u", {"coords": "x", "fields": "u"}),
    ("(" * 100000, {"coords": "x", "fields": "u"}),
    ("u" + "_x" * 5000, {"coords": "x", "fields": "u"}),
    ("u + " * 300000 + "u", {"coords": "x", "fields": "u"}),
    ("1e99999 u", {"coords": "x", "fields": "u"}),
    ("9" * 100000 + " u", {"coords": "x", "fields": "u"}),
    ("2^(2^(2^(2^(2^(2*9))))) u", {"coords": "x", "fields": "u"}),
    ("999^999^999 u_x", {"coords": "x", "fields": "u"}),
    (" ".join(f"q{k}" for k in range(5000)) + " u_x", {"coords": "x"}),
    (
        "; ".join(f"let a{k} = a{k - 1}*a{k - 1} + a{k - 1}" if k else "let a0 = u" for k in range(40)) + "; d_x a39 + a39",
        {"coords": "x", "fields": "u"},
    ),
    (r"\frac{" * 5000, {"coords": "x", "fields": "u"}),
    ("{" * 3000 + r"\nu", {"coords": "x", "fields": "u"}),
    ("u;" * 3000, {"coords": "x", "fields": "u"}),
    ("det(hess(u))", {"coords": "a b c d e f g h", "fields": "u"}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "declarations"), HOSTILE, ids=[f"{t[:16]}-{len(t)}" for t, _ in HOSTILE])
def test_hostile_input_is_refused_or_handled_quickly(text: str, declarations: dict[str, str]) -> None:
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = ""
        try:
            expand(parse_system(text, **declarations))
        except LanguageError as error:
            shown = str(error)
    assert len(shown) < 20_000
    assert time.process_time() - start < 5


def test_limits_have_their_own_error() -> None:
    for text, declarations in HOSTILE[:3]:
        with pytest.raises(OpLimitError):
            expand(parse_system(text, **declarations))


def test_parsing_is_linear() -> None:
    """As much text as is allowed in well under two seconds on an idle machine; the bound leaves room for a busy one."""
    line = "u_t + u u_x - nu u_xx + sin(u) d_x u + 3 a_ij d_i d_j u = 0\n"
    text = line * (MAX_TEXT // len(line) - 1)
    parse_system(line, coords="t x", fields="u")
    start = time.process_time()
    parse_system(text, coords="t x", fields="u")
    assert time.process_time() - start < 4


@pytest.mark.parametrize("text", ["u + (u < v)", "Δ(u < v)", "(u < v) = 0", "d_x (u > 0)", "let a = (u < v); a", "where(u < v, (u < v), 1)"])
def test_a_comparison_has_no_value(text: str) -> None:
    with pytest.raises(LanguageError) as caught:
        parse_system(text, coords="t x", fields="u v")
    errors = getattr(caught.value, "errors", (caught.value,))
    assert {e.code for e in errors} == {"E076"}
