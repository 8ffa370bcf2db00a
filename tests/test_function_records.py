"""One record per function of the language: what it says agrees with SymPy, and everything reads it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import sympy
from sympy.core.function import AppliedUndef

import opdsl
from opdsl.grammar import parse_system
from opdsl.grammar.vocabulary import FUNCTIONS as SPELLINGS
from opdsl.language.calculus import expand
from opdsl.language.calculus.tensor_functions import RULES
from opdsl.language.functions import ELEMENTARY, FUNCTIONS, INTERNAL, SPELT
from opdsl.language.to_sympy import pointwise_to_sympy

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


def test_every_tensor_function_has_a_rule_for_its_components() -> None:
    assert set(RULES) == {record.name for record in FUNCTIONS.values() if record.tensor} - {"min", "max"}


@pytest.mark.parametrize("record", ONE_ARGUMENT, ids=lambda r: r.name)
def test_exact_values_squares_signs_and_domains_agree_with_sympy(record: object) -> None:
    name = record.name  # type: ignore[attr-defined]
    function = in_sympy(f"{name}(x)")
    places = [sympy.Rational(k, 4) for k in range(-16, 17)]
    values = {place: function.subs(X, place) for place in places}
    for place, value in values.items():
        found = record.exact(Fraction(int(place.p), int(place.q))) if record.exact else None  # type: ignore[attr-defined]
        assert found is None or sympy.Rational(found.numerator, found.denominator) == value
        real = value.is_finite and value.is_real
        assert record.domain is None or record.domain(Fraction(int(place.p), int(place.q))) == real  # type: ignore[attr-defined]
        if record.squared and real:  # type: ignore[attr-defined]
            assert value**2 == place**record.squared  # type: ignore[attr-defined]
    if record.nonnegative:  # type: ignore[attr-defined]
        assert all(value >= 0 for value in values.values() if value.is_real)
    if record.parts is not None:  # type: ignore[attr-defined]
        real, imaginary = (
            part.components[0] for part in expand(parse_system(f"re({name}(z)); im({name}(z))", **TENSORS)).equations
        )
        a, b = sympy.Rational(3, 10), sympy.Rational(-7, 10)
        there = complex(function.subs(X, a + sympy.I * b))
        residual = expand(parse_system("z", **TENSORS))
        for part, wanted in ((real, there.real), (imaginary, there.imag)):
            shown = pointwise_to_sympy(part, residual)
            z = dict(zip(sorted(shown.atoms(AppliedUndef), key=str), (a, b), strict=True))
            assert float(shown.subs(z)) == pytest.approx(wanted, rel=1e-14)


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
