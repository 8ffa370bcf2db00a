"""One record per function of the language: what it says agrees with SymPy, and everything reads it."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

import opdsl
from opdsl.grammar import parse_system
from opdsl.grammar.vocabulary import FUNCTIONS as SPELLINGS
from opdsl.language.calculus import expand
from opdsl.language.functions import ELEMENTARY, FUNCTIONS, INTERNAL, SPELT

X = sympy.Symbol("x")
ONE_ARGUMENT = [FUNCTIONS[name] for name, count in ELEMENTARY.items() if count == 1]
PLACES = {"acosh": (1.3, 2.7), "log": (0.4, 1.9), "sqrt": (0.4, 1.9)}


def in_sympy(text: str) -> sympy.Expr:
    (found,) = opdsl.expression(text, coords="x").to_sympy()
    return found


@pytest.mark.parametrize("record", ONE_ARGUMENT, ids=lambda r: r.name)
def test_value_and_derivative_agree_with_sympy(record: object) -> None:
    name = record.name  # type: ignore[attr-defined]
    function, slope = in_sympy(f"{name}(x)"), in_sympy(f"d_x {name}(x)")
    computed = opdsl.expression(f"{name}(x)", coords="x")
    for place in PLACES.get(name, (-0.7, 0.3)):
        step = sympy.Rational(1, 10**12)
        secant = (function.subs(X, sympy.Rational(str(place)) + step) - function.subs(X, sympy.Rational(str(place)) - step)).evalf(50) / (2 * step)
        assert abs(float(slope.subs(X, place)) - float(secant)) < 1e-9
        np.testing.assert_allclose(computed(np.array([[place]])), float(function.subs(X, place)), rtol=1e-13)


@pytest.mark.parametrize("record", [r for r in ONE_ARGUMENT if r.at_zero is not None], ids=lambda r: r.name)
def test_the_value_at_zero_is_exact(record: object) -> None:
    name, value = record.name, record.at_zero  # type: ignore[attr-defined]
    assert in_sympy(f"{name}(x - x)") == value == in_sympy(f"{name}(x)").subs(X, 0)


def test_every_spelling_is_read_and_printed() -> None:
    names = [name for record in SPELT for name in (record.name, *record.spellings)]
    assert set(SPELLINGS) == set(names)
    assert len(names) == len(set(names))
    for name, count in ELEMENTARY.items():
        arguments = ", ".join(["x", "y"][:count])
        op = opdsl.expression(f"{name}({arguments})", coords="x y")
        assert opdsl.parse(str(op)) == op
        for other in FUNCTIONS[name].spellings:
            assert opdsl.expression(f"{other}({arguments})", coords="x y") == op
        shown = FUNCTIONS[name].bracket.partition("{")[0] or FUNCTIONS[name].head
        assert op.latex().startswith(shown)


def test_records_that_no_text_calls_are_internal() -> None:
    assert not {record.name for record in INTERNAL} & set(SPELLINGS)


ARGUMENTS = {"perp": "w", "conj": "z", "re": "z", "im": "z", "atan2": "u, v", "min": "u, v", "max": "u, v"}
TENSORS = {"coords": "x y", "fields": "u v w[2] s[2,2] z:complex"}


@pytest.mark.parametrize("record", [r for r in SPELT if r.arguments == 1], ids=lambda r: r.name)
def test_what_is_linear_lets_a_quotient_through(record: object) -> None:
    name, tensor = record.name, record.tensor and record.name not in ("abs", "norm")  # type: ignore[attr-defined]
    argument = ARGUMENTS.get(name, "s" if tensor else "u")

    def meaning(text: str) -> object:
        return expand(parse_system(text, **TENSORS)).equations[0].components  # type: ignore[arg-type]

    assert record.linear == (meaning(f"{name}(-{argument}/3)") == meaning(f"-{name}({argument})/3"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("record", [r for r in SPELT if r.tensor and r.arguments in (1, 2)], ids=lambda r: r.name)
def test_the_rank_of_a_record_is_that_of_its_value(record: object) -> None:
    """As far as it is the same for matrices and what else is taken."""
    name, count = record.name, record.arguments  # type: ignore[attr-defined]
    ranks = set()
    for argument in ("u", "w", "s", "z"):
        try:
            ranks.add(len(expand(parse_system(f"{name}({', '.join([argument] * count)})", **TENSORS)).equations[0].shape))  # type: ignore[arg-type]
        except opdsl.OpdslError:
            continue
    always = ranks == {2} or name == "outer"
    assert (record.rank == 2) == always  # type: ignore[attr-defined]
