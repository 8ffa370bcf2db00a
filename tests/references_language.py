"""A slow, obvious evaluator of a fragment of the language, sharing no code with opdsl: recursive descent over SymPy."""

from __future__ import annotations

import re
from typing import Any

import sympy


def evaluate(text: str, names: dict[str, Any], x: Any, y: Any) -> Any:
    """Evaluate sums, products, integer powers, ``d_x (…)``, ``(…)_y``, ``laplace(…)`` and ``dot(grad(…), grad(…))``."""
    tokens = re.findall(r"d_x|_y|laplace|dot|grad|[a-z]|\d+|[-+*^(),]", text)
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take(expected: str | None = None) -> str:
        nonlocal position
        token = tokens[position]
        assert expected is None or token == expected, (token, expected, text)
        position += 1
        return token

    def expression() -> Any:
        value = term()
        while peek() in ("+", "-"):
            value = value + term() if take() == "+" else value - term()
        return value

    def term() -> Any:
        value = factor()
        while peek() == "*":
            take()
            value = value * factor()
        return value

    def factor() -> Any:
        if peek() == "d_x":
            take()
            return sympy.diff(factor(), x)
        value = atom()
        while peek() in ("^", "_y"):
            value = value ** int(take_power()) if peek() == "^" else differentiate(value)
        return value

    def take_power() -> str:
        take("^")
        return take()

    def differentiate(value: Any) -> Any:
        take("_y")
        return sympy.diff(value, y)

    def argument() -> Any:
        take("(")
        value = expression()
        take(")")
        return value

    def atom() -> Any:
        token = peek()
        if token == "(":
            return argument()
        take()
        if token == "laplace":
            value = argument()
            return sympy.diff(value, x, 2) + sympy.diff(value, y, 2)
        if token == "dot":
            take("(")
            take("grad")
            left = argument()
            take(",")
            take("grad")
            right = argument()
            take(")")
            return sympy.diff(left, x) * sympy.diff(right, x) + sympy.diff(left, y) * sympy.diff(right, y)
        return sympy.Integer(token) if token.isdigit() else names[token]

    value = expression()
    assert position == len(tokens), text
    return value
