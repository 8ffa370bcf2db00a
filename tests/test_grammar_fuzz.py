"""Any text whatsoever gives a system or an `OpdslError`, quickly; whatever parses prints back."""

from __future__ import annotations

import random
import time
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.lark import from_lark
from lark import Lark

from opdsl.errors import LanguageError
from opdsl.grammar import parse_system
from opdsl.grammar.lark_parser import parser
from opdsl.grammar.malformed import CONTEXT, OTHER, SYNTAX
from opdsl.language.calculus import expand
from tests.language_gallery import GALLERY

# What each terminal of the grammar may look like in the text.
TERMINALS = {
    "_SEP": ["; ", "\n"], "LET": ["let "], "LABEL": ["mom: "], "NUMBER": ["2", "0.5", "1e-3 ", "1"],
    "VALUE": ["u ", "v ", "w ", "s ", "z ", "nu ", "k ", "f ", "u_x ", "u_tt ", "w_0 ", "w_i ", "s_ij ", "x ", "pi ", "e", "i ",
              "I ", "q"],
    "PREFIX": ["d_x ", "∂²_y ", "d_i ", "∇", "Δ", "laplace ", "∇·", "∇×", "sin ", "D²", "∂/∂x "],
    "SUM": ["Σ_i ", "sum_j "], "FUNCTION": ["sin", "R", "dot", "grad", "div", "curl", "where", "max", "diff", "det", "hess", "dx", "norm"],
    "CALL": ["("], "SIGN": [" + ", " - "], "PRODUCT": ["*", "/", "·", " × ", "⊗"], "POWER": ["^", "**"],
    "SUPER": ["²", "³", "⁻¹"],
    "SUB": ["_x", "_i", "_{xy}", "_0"], "PRIME": ["'"], "EQUALS": [" = "], "RELATION": [" < ", " >= "], "COMMA": [", "],
    "LPAR": ["("], "RPAR": [")"], "LBRACE": ["{"], "RBRACE": ["}"], "BAR_OPEN": ["|"], "BAR_CLOSE": ["|"],
    "QUOTIENT_OF": ["∂"], "OPEN": [""], "CLOSE": ["/∂x "],
}  # fmt: skip


def survives(text: str, **declarations: str) -> bool:
    """Parse and expand; True if the text is accepted."""
    start = time.process_time()
    accepted = _accepts(text, **declarations)
    if time.process_time() - start > 1:  # once more: the collection of somebody else's garbage does not count
        start = time.process_time()
        assert _accepts(text, **declarations) == accepted
        assert time.process_time() - start < 1, text
    return accepted


def _accepts(text: str, **declarations: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            system = parse_system(text, **declarations)
            expand(system, 3 if system.symbolic else None)
            system.latex()
            assert parse_system(str(system)) == system, (text, str(system))
        accepted, shown = True, "accepted"
    except LanguageError as error:
        accepted, shown = False, str(error)
    assert shown
    return accepted


def _grammar() -> st.SearchStrategy[str]:
    source = "\n".join(line for line in parser().source_grammar.splitlines() if not line.startswith("%declare"))
    declared = "\n".join(line for line in parser().source_grammar.splitlines() if line.startswith("%declare"))
    return from_lark(
        Lark(source + "\n" + declared, parser="lalr"), explicit={name: st.sampled_from(many) for name, many in TERMINALS.items()}
    )


RELAXED = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=150, database=None, derandomize=True)


@settings(RELAXED, max_examples=60)
@given(_grammar())
def test_texts_from_the_grammar(text: str) -> None:
    survives(text[:400], **CONTEXT)


@RELAXED
@given(st.text(max_size=40))
def test_random_text(text: str) -> None:
    survives(text, **CONTEXT)


@RELAXED
@given(st.binary(max_size=60))
def test_random_bytes(data: bytes) -> None:
    survives(data.decode("latin-1"), **CONTEXT)
    survives(data.decode("utf-8", errors="replace"))


@RELAXED
@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_random_declarations(coords: str, fields: str, params: str) -> None:
    survives("u_t = u_xx", coords=coords, fields=fields, params=params)


def _mutants(count: int, seed: int) -> list[tuple[str, dict[str, str]]]:
    """Good texts with a few characters deleted, doubled, swapped or spliced in from other texts."""
    rng = random.Random(seed)
    good = [(text, dict(declarations)) for text, declarations in GALLERY]
    pool = [(text, dict(CONTEXT)) for e in SYNTAX for text in e.examples]
    pool += [(text, dict(CONTEXT)) for many in OTHER.values() for text in many if len(text) < 60]
    pool += [(r"\frac{\partial^2 u}{\partial x^2} + \nu \left(u\cdot\nabla\right)u = \sqrt{u}, \\ u_{t} = 0", dict(CONTEXT))]
    pieces = [piece for text, _ in good + pool for piece in text.split()]
    out = []
    for _ in range(count):
        text, declarations = rng.choice(good if rng.random() < 0.7 else pool)
        chars = list(text)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(chars) + 1)
            match rng.randrange(4):
                case 0:
                    del chars[at : at + rng.randint(1, 3)]
                case 1:
                    chars[at:at] = chars[max(0, at - 3) : at]
                case 2:
                    chars[at:at] = rng.choice(pieces)
                case 3:
                    chars[at:at] = rng.choice("()^_|'=;,·∇Δ∂²{}\\ \n.0e#:")
        out.append(("".join(chars), declarations))
    return out


def test_mutated_texts() -> None:
    accepted = sum(survives(text, **declarations) for text, declarations in _mutants(1500, seed=1))
    assert accepted > 100  # the mutations are mild enough to reach the calculus


@pytest.mark.slow
def test_a_hundred_thousand_mutated_texts() -> None:
    for text, declarations in _mutants(100_000, seed=2):
        survives(text, **declarations)
