"""A line is read as a mathematician reads it, or refused: numbers against a reader that knows nothing of the grammar."""

from __future__ import annotations

import math
import random
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from opdsl.errors import LanguageError, OpdslWarning, OpErrors
from opdsl.grammar import parse_system
from opdsl.language import tree as ex
from opdsl.language.system import System

NAMES = {"x": 0.7, "y": 1.3, "a": 0.4, "b": 1.9}
DECLARED = {"coords": "x y", "fields": "u", "params": "a b"}
FUNCTIONS: dict[str, Callable[[float], float]] = {"sin": math.sin, "cos": math.cos, "tanh": math.tanh, "log": math.log}
SUPERSCRIPT = {"²": 2, "³": 3}


# --------------------------------------------------------------------------------------------- the other reader
@dataclass
class Factor:
    """A value, and what of its spelling decides whether the text around it has two readings."""

    value: float
    start: int
    literal: bool = False
    """A number and nothing else."""
    grouped: bool = False
    bare: bool = False
    """A function without parentheses."""
    first_power: bool = False
    open_exponential: bool = False
    open_negative: bool = False


class Reader:
    """Precedence by hand: powers from the right, products and quotients from the left, juxtaposition as a product.

    ``doubtful`` tells that the text has two readings: then it has to be refused.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.doubtful = False
        self.tokens = [(m.start(), m[0]) for m in re.finditer(r"\d+|[a-z]+|\*\*|\S", text)]
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def glued(self) -> bool:
        """Nothing stands between the last token and the next one."""
        return self.at < len(self.tokens) and not self.text[self.tokens[self.at][0] - 1].isspace()

    def signs(self) -> int:
        sign = 1
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        return sign

    def sum(self) -> float:
        total = self.signs() * self.term()
        while self.peek() in ("+", "-"):
            total += self.signs() * self.term()
        return total

    def term(self) -> float:
        last = self.factor()
        value, divided = last.value, None
        while self.peek() and self.peek() not in "+-)":
            if self.peek() in ("*", "/"):
                before = self.glued()
                operation, divided = self.take(), None
                slashed = before and self.glued()
                sign = self.signs()
                factor = self.factor()
                value = value * sign * factor.value if operation == "*" else value / (sign * factor.value)
                if operation == "/":
                    divided = factor
                    self.doubtful |= last.bare or last.first_power or (last.open_exponential and slashed)
                    self.doubtful |= last.open_negative and slashed and factor.literal
            else:
                glued = self.glued()
                factor = self.factor()
                value *= factor.value
                self.doubtful |= (last.bare and not factor.bare) or (last.literal and factor.literal)
                self.doubtful |= last.open_exponential and glued
                self.doubtful |= divided is not None and glued and not divided.grouped
                divided = None
            last = factor
        return value

    def factor(self) -> Factor:
        start = self.tokens[self.at][0]
        word = self.take()
        if word in FUNCTIONS:
            if self.peek() == "(":
                inner = self.group()
                return self.powers(Factor(FUNCTIONS[word](inner), start))
            exponent: float = 1
            if self.peek() in ("^", "**", *SUPERSCRIPT):
                made = self.exponent()
                exponent = made.value
                self.doubtful |= exponent < 0
            operand = self.factor()
            return Factor(raised(FUNCTIONS[word](operand.value), exponent), start, bare=not operand.grouped)
        if word == "(":
            self.at -= 1
            return self.powers(Factor(self.group(), start, grouped=True))
        if word == "e":
            made = self.exponent()
            return self.powers(Factor(math.exp(made.value), start, open_exponential=not made.grouped))
        if word.isdigit():
            return self.powers(Factor(int(word), start, literal=True))
        return self.powers(Factor(NAMES[word], start))

    def group(self) -> float:
        assert self.take() == "("
        value = self.sum()
        assert self.take() == ")"
        return value

    def powers(self, base: Factor) -> Factor:
        if self.peek() not in ("^", "**", *SUPERSCRIPT):
            return base
        made = self.exponent()
        return Factor(
            raised(base.value, made.value), base.start, first_power=made.literal and made.value == 1,
            open_negative=not base.literal and made.open_negative and not made.grouped,
        )  # fmt: skip

    def exponent(self) -> Factor:
        """What stands above, with a sign in front of all of it."""
        start = self.tokens[self.at][0]
        if self.peek() in SUPERSCRIPT:
            value: float = SUPERSCRIPT[self.take()]
            closed, literal = True, True
            sign = 1
        else:
            self.take()
            sign = self.signs()
            closed = self.peek() == "("
            literal = self.peek().isdigit()
            bracket = self.at
            value = self.group() if closed else self.number()
            self.doubtful |= closed and sign > 0 and self.at == bracket + 3 and self.tokens[bracket + 1][1].isdigit()
        if self.peek() in ("^", "**", *SUPERSCRIPT):
            above = self.exponent()
            value = raised(value, above.value)
            closed = closed and above.grouped
            literal = False
        return Factor(sign * value, start, literal=literal and sign > 0, grouped=closed, open_negative=literal and sign < 0)

    def number(self) -> float:
        word = self.take()
        return int(word) if word.isdigit() else NAMES[word]


def raised(base: float, exponent: float) -> float:
    value: float | complex = base**exponent
    if isinstance(value, complex):
        raise ValueError("a root of a negative number")
    return value


def read(text: str) -> tuple[float, bool]:
    reader = Reader(text)
    value = reader.sum()
    assert reader.at == len(reader.tokens), text
    return value, reader.doubtful


# --------------------------------------------------------------------------------------------- random texts
class Writer:
    """Random arithmetic, as plain text and as LaTeX with the same meaning."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, *many: Any) -> Any:
        return self.random.choice(many)

    def sum(self, depth: int = 0) -> tuple[str, str]:
        plain = latex = self.pick("", "", "", "-")
        for number in range(self.pick(1, 1, 2)):
            sign = self.pick(" + ", " - ", "-", "+", " - -") if number else ""
            one, other = self.term(depth)
            plain, latex = plain + sign + one, latex + sign + other
        return plain, latex

    def term(self, depth: int) -> tuple[str, str]:
        plain, latex = self.factor(depth)
        for _ in range(self.pick(0, 1, 1, 2, 3)):
            one, other = self.factor(depth)
            how = self.pick("*", " * ", "/", " / ", "/", "/-", " ", " ", "")
            merges = one[0].isalnum() and (plain[-1].isalpha() or (plain[-1].isdigit() and one[0].isdigit()))
            if not how and merges:
                how = " "
            if not how.strip() and one[0] == "(" and plain[-1].isalpha():
                how = "*"  # a name before a parenthesis is not arithmetic
            if not how.strip() and one[0].isalpha() and one[0] == "e" and plain[-1].isdigit():
                how = " "
            plain += how + one
            latex += how.replace("*", r"\cdot ") + other
        return plain, latex

    def factor(self, depth: int) -> tuple[str, str]:
        if self.random.random() < 0.2:
            name = self.pick(*FUNCTIONS)
            if self.random.random() < 0.5 or depth > 1:
                power = self.pick("", "", "^2", "²")
                one, other = self.base(depth + 1, grouped=False)
                up, high = self.powers(depth) if self.random.random() < 0.3 else ("", "")
                return f"{name}{power} {one}{up}", rf"\{name}{power} {other}{high}"
            one, other = self.sum(depth + 1)
            return f"{name}({one})", rf"\{name}\left({other}\right)"
        if self.random.random() < 0.15:
            up, high = self.powers(depth, natural=True)
            return f"e{up}", f"e{high}"
        one, other = self.base(depth)
        if self.random.random() < 0.4:
            up, high = self.powers(depth)
            return one + up, other + high
        return one, other

    def base(self, depth: int, *, grouped: bool = True) -> tuple[str, str]:
        if grouped and depth < 2 and self.random.random() < 0.3:
            one, other = self.sum(depth + 1)
            return f"({one})", self.pick(f"({other})", rf"\left({other}\right)", rf"\left[{other}\right]")
        word = self.pick(*NAMES, *NAMES, "1", "2", "3", "5")
        return word, word

    def powers(self, depth: int, *, natural: bool = False) -> tuple[str, str]:
        if not natural and self.random.random() < 0.2:
            sign = self.pick("²", "³")
            return sign, sign
        one, other = self.base(depth + 1)
        sign = self.pick("", "", "", "-")
        up, high = self.powers(depth + 1) if self.random.random() < 0.25 else ("", "")
        return f"{self.pick('^', '^', '**')}{sign}{one}{up}", f"^{{{sign}{other}{high}}}"


# --------------------------------------------------------------------------------------------- the comparison
def number(node: ex.Node) -> float:
    """The value of an expression tree."""
    match node:
        case ex.Num(value=value):
            return float(value)
        case ex.Coord(name=name) | ex.Param(name=name):
            return NAMES[name]
        case ex.Neg(operand=inner):
            return -number(inner)
        case ex.Add(terms=many):
            return sum(map(number, many))
        case ex.Mul(factors=many):
            product: float = 1
            for factor in many:
                product *= number(factor)
            return product
        case ex.Div(top=top, bottom=bottom):
            return number(top) / number(bottom)
        case ex.Pow(base=base, exponent=exponent):
            return raised(number(base), number(exponent))
        case ex.Call(name="exp", args=(inner,)):
            return math.exp(number(inner))
        case ex.Call(name="dot", args=(left, right)):
            return number(left) * number(right)
        case ex.Call(name=name, args=(inner,)):
            return FUNCTIONS[name](number(inner))
    raise AssertionError(type(node))


def parsed(text: str, **declarations: str) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        return parse_system(text, **declarations)


def reading(text: str) -> System | None:
    """What opdsl reads; None where it refuses."""
    try:
        return parsed(text, **DECLARED)
    except LanguageError as error:
        codes = {e.code for e in (error.errors if isinstance(error, OpErrors) else (error,))}
        return parsed("0", **DECLARED) if codes == {"E032"} else None  # a quotient by the number 0


def test_numbers_agree_with_another_reader() -> None:
    """What is accepted has the value that precedence by hand gives; what has two readings is refused, and nothing else is."""
    accepted = doubtful = 0
    for seed in range(600):
        text, latex = Writer(seed).sum()
        try:
            expected, two_readings = read(text)
        except (OverflowError, ZeroDivisionError, ValueError):
            continue
        system = reading(text)
        assert (system is None) == two_readings, text
        doubtful += two_readings
        if system is not None:
            assert math.isclose(number(system.equations[0].left), expected, rel_tol=1e-9, abs_tol=1e-12), (text, str(system))
            assert parsed(str(system)) == system, text
            accepted += 1
        # What stands above is in braces there, and less is doubtful.
        system = reading(r"\displaystyle " + latex)
        assert system is not None or two_readings, latex
        if system is not None:
            assert math.isclose(number(system.equations[0].left), expected, rel_tol=1e-9, abs_tol=1e-12), (latex, str(system))
    assert accepted > 250
    assert doubtful > 100


@pytest.mark.parametrize(("text", "value"), [
    ("e^-x^2", math.exp(-(0.7**2))), ("10^-3^2", 1e-9), ("2^-x^2", 2 ** -(0.7**2)), ("x**-2**2", 0.7**-4), ("-x^2", -(0.7**2)),
    ("2^-2^2", 1 / 16), ("2^-x²", 2 ** -(0.7**2)), ("2^3^2", 512), ("2^-3^-x", 2 ** -(3**-0.7)), ("e^-x^2 y", 1.3 * math.exp(-(0.7**2))),
    ("1/2 x", 0.35), ("x/2", 0.35), ("a²/(2b) x", 0.4**2 / 3.8 * 0.7), ("x/(2)y", 0.7 / 2 * 1.3), ("(x^1)/2", 0.35), ("cos(x)/2", math.cos(0.7) / 2),
])  # fmt: skip
def test_powers_and_quotients(text: str, value: float) -> None:
    assert math.isclose(number(parsed(text, **DECLARED).equations[0].left), value, rel_tol=1e-12)


@pytest.mark.parametrize(("text", "readings"), [
    ("u/2x", ["u/(2 x)", "(u/2) x"]), ("-b²/2a u_xx", ["b²/(2 a)", "(b²/2) a"]), ("u^1/2", ["u^(1/2)", "(u^1)/2"]),
    ("cos u/2", ["cos(u/2)", "cos(u)/2"]), ("∂_x a ∂_x u", ["∂_x(a ∂_x u)", "(∂_x a) ∂_x u"]), ("d_x(a(u) u_x)", ['functions="a"', "a*u"]),
    ("e^-2x u", ["e^(-2 x)", "e^-2 * x"]), ("e^-x^2/2", ["e^(-x^2/2)", "(e^-x^2)/2"]), (r"\sin u/b", [r"\sin(u/b)", r"\sin(u)/b"]),
])  # fmt: skip
def test_a_refusal_shows_both_readings(text: str, readings: list[str]) -> None:
    with pytest.raises(LanguageError) as caught:
        parsed(text, **DECLARED)
    for reading in readings:
        assert reading in (caught.value.suggestion or "")
        if "=" not in reading:
            parsed(reading, **DECLARED)


@pytest.mark.parametrize("text", [
    "d_x(a u_x)", "d_x(a*u u_x)", "a(u) u_x", "a(1 - u) u", "d_x(a (u + u_x))", "div(a(grad(u) + grad(u^2)))", "d_i u d_i u", "∂_x u ∂_y u",
    "(∂_x a) ∂_x u", "∂_x(a) ∂_y u", "1/2∇²u", "1/2laplace(u)", "1/2d²u/dx²", "u(x, y)", "tr hess(u)/2", "sin u * a", "u^2/2", "e^{-x}/2 u",
])  # fmt: skip
def test_plain_texts_stand(text: str) -> None:
    system = parsed(text, **DECLARED)
    assert parsed(str(system)) == system


@pytest.mark.parametrize("text", ["u(t, x)", "u(x, t)", "u(x, y, t)", "u(t, x, y)", "u(x)", "u(y, t)"])
def test_time_may_stand_before_or_behind(text: str) -> None:
    assert parsed(text, coords="t x y", fields="u") == parsed("u", coords="t x y", fields="u")


@pytest.mark.parametrize("text", ["u/b y", "2/b u", "u/y^2 x"])
def test_a_quotient_before_a_product_warns(text: str) -> None:
    with pytest.warns(OpdslWarning, match="from left to right"):
        parse_system(text, **DECLARED)
