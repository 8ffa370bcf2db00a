"""Any ordinary name as unknown, coordinate, time or parameter, in any notation: the same equation, the same numbers.

The equation is u_t = k u_xx + u. A name that the language itself uses may be refused in some notation, with a message; it may
never mean anything else.
"""

from __future__ import annotations

import contextlib
import re
import string
import warnings
from typing import Any

import numpy as np
import pytest
from engines import ENGINES, Engine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from references import assert_close

import opdsl
from opdsl.errors import OpdslError
from opdsl.grammar import parse_system
from opdsl.grammar.declarations import GREEK
from opdsl.language.calculus import expand
from opdsl.language.constructors import add, mul, negate
from opdsl.language.residual import Derivative, Parameter

LETTER_OF = {name: char for char, name in GREEK.items() if char != "ς"}
ORDINARY = [*string.ascii_letters, *LETTER_OF, *"u1 u_2 x1 x_1 x_10 q2 T_in rho_0 theta1 hbar varepsilon lambda pi T_inf phi_t Re Im".split()]
RESERVED = "sin exp lap grad div curl diff where sum max del det tr norm vec dn dx d2 inv e_1 abs hess sym nabla Delta sum_i u_x uu".split()
NOTATIONS = (
    "{u}_{{{t}}} = {k} {u}_{{{x} {x}}} + {u}", "d_{{{t}}} {u} = {k} d_{{{x}}}^2 {u} + {u}", "∂_{{{t}}} {u} = {k} ∂_{{{x}}}² {u} + {u}",
    "∂{u}/∂{t} = {k} ∂²{u}/∂{x}² + {u}", "∂/∂{t} {u} = {k} ∂²/∂{x}² {u} + {u}", "d{u}/d{t} = {k} d^2{u}/d{x}^2 + {u}",
    "diff({u}, {t}) = {k} diff({u}, {x}, 2) + {u}", "{u}_{{,{t}}} = {k} {u}_{{,{x} {x}}} + {u}", "∂_{{{t}}} {u} = {k} Δ{u} + {u}",
    "∂{u}({t}, {x})/∂{t} = {k} ∂²{u}/∂{x}²({t}, {x}) + {u}({t}, {x})", "({u})_{{{t}}} = {k}*[{u}_{{{x}}}]_{{{x}}} + {u}",
)
LATEX = (
    r"\frac{{\partial {u}}}{{\partial {t}}} = {k} \frac{{\partial^2 {u}}}{{\partial {x}^2}} + {u}",
    r"\partial_{{{t}}} {u} = {k} \, \partial_{{{x} {x}}} {u} + {u}", r"\pdv{{{u}}}{{{t}}} = {k} \, \pdv[2]{{{u}}}{{{x}}} + {u}",
    r"{u}_{{{t}}} = {k} \, {u}_{{{x} {x}}} + {u}",
)  # fmt: skip
OTHERS = {"u": "w", "t": "s", "x": "y", "k": "a"}


def latex(name: str) -> str:
    base, _, below = name.partition("_")
    if digits := re.fullmatch(r"([A-Za-z]+?)(\d+)", base):
        base, below = digits[1], digits[2]
    greek = base in LETTER_OF or base in ("hbar", "varepsilon")
    return (base if len(base) == 1 else f"\\{base}" if greek else rf"\mathrm{{{base}}}") + (f"_{{{below}}}" if below else "")


def unicode(name: str) -> str:
    base, _, below = name.partition("_")
    return LETTER_OF.get(base, base) + (f"_{below}" if below else "")


def equation(name: str, role: str, notation: str, *, greek: bool = False) -> tuple[str, dict[str, str], dict[str, str]]:
    """Text, declarations, and the names by role."""
    names = {r: OTHERS[r] if usual == name else usual for r, usual in zip("utxk", "utxk", strict=True)} | {role: name}
    spelled = {r: unicode(n) if greek else n for r, n in names.items()}
    declared = {"coords": f"{spelled['t']} {spelled['x']}", "fields": spelled["u"], "params": spelled["k"], "time": spelled["t"]}
    return notation.format(**({r: latex(n) for r, n in names.items()} if notation in LATEX else spelled)), declared, names


def quietly(text: str, declared: dict[str, str]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parse_system(text, **declared)  # type: ignore[arg-type]


def check(text: str, declared: dict[str, str], names: dict[str, str]) -> None:
    system = quietly(text, declared)
    u, k = names["u"], Parameter(names["k"])
    meaning = add(Derivative(u, 0, (0,)), negate(mul(k, Derivative(u, 0, (1, 1)))), negate(Derivative(u)))
    assert expand(system).equations[0].components == (meaning,), text
    assert quietly(str(system), {}) == system
    assert quietly(str(system), declared) == system


QUICK = settings(deadline=None, max_examples=300, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(st.sampled_from(ORDINARY), st.sampled_from("utxk"), st.sampled_from(NOTATIONS + LATEX), st.booleans())
def test_every_ordinary_name_in_every_role_and_notation(name: str, role: str, notation: str, greek: bool) -> None:
    text, declared, names = equation(name, role, notation, greek=greek)
    if name == "d" and role in "uk" and re.search(r"d_\{\w\}(\^2)? \w|\[d_", text):  # refused: the operator or the derivative of d?
        with pytest.raises(OpdslError, match="d is declared"):
            quietly(text, declared)
        return
    if name == "j" and "jj" in text:
        return
    check(text, declared, names)


@settings(QUICK, max_examples=200)
@given(st.sampled_from(RESERVED), st.sampled_from("utxk"), st.sampled_from(NOTATIONS + LATEX))
def test_a_name_of_the_language_means_itself_or_is_refused(name: str, role: str, notation: str) -> None:
    text, declared, names = equation(name, role, notation)
    with contextlib.suppress(OpdslError):
        check(text, declared, names)


@pytest.mark.parametrize("letter", "nedTIDikxλπ")
def test_unbraced_letters(letter: str) -> None:
    for role in "utxk":
        text, declared, names = equation(letter if letter.isascii() else GREEK[letter], role, "∂_{t} {u} = {k} ∂_{x}{x} {u} + {u}", greek=True)
        check(text, declared, names)


@pytest.mark.parametrize("name", ["n", "u_2", "x1", "theta1", "lambda", "T_in", "varepsilon", "I", "D", "Re"])
@pytest.mark.parametrize("role", "utxk")
def test_numbers(name: str, role: str, engine: Engine) -> None:
    """t x³ + x at points; on every engine a few, on NumPy all."""
    if engine is not ENGINES["numpy"] and (len(name) + ord(role)) % 4:
        return
    text, declared, names = equation(name, role, NOTATIONS[(len(name) + ord(role)) % len(NOTATIONS)])
    op = opdsl.operator(text, **declared)  # type: ignore[arg-type]
    points = np.array([[0.3, 0.7], [1.2, -0.4]])
    t, x = points.T
    net = engine.function(lambda xp, c: c[0] * c[1] ** 3 + c[1])
    found = engine.read(op(net, engine.array(points), bindings={names["k"]: 0.5}))
    assert_close(found, x**3 - 0.5 * 6 * t * x - (t * x**3 + x), 1e-12)
