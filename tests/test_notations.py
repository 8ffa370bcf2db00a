"""Notations of textbooks: each means what the plain text beside it means, and prints back."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from opdsl.errors import OpdslError, OpdslWarning
from opdsl.grammar import parse_system
from opdsl.grammar.spellings import coordinate_suffix
from opdsl.language.calculus import conditions, expand
from opdsl.language.tree import System

Meaning = tuple[Any, ...]


def parsed(text: str, **declarations: Any) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        return parse_system(text, **declarations)


def meaning(system: System) -> Meaning:
    """Components of all equations, and of all conditions with their places."""
    equations = tuple(e.components for e in expand(system).equations)
    found = []
    for spec in conditions(system).values():
        for part in (spec, *spec.others):
            found.append((dict(part.where), part.residual.equations[0].components))
    return (*equations, *found)


XY: dict[str, Any] = {"coords": "t x y", "fields": "u v", "params": "k g"}
NUMBERED = [{"coords": names, "fields": "u"} for names in ("x1 x2", "x_1 x_2", "x₁ x₂")]
TEXTS_OF_NUMBERED = [
    ("d_x1 u", ["u_x1", "u_x_1", "u_{x_1}", "u_{x_{1}}", "u_x₁", "uₓ₁", "∂u/∂x₁", "∂u/∂x_1", "∂u/∂x1", "du/dx_1", "∂_x1 u", "∂_{x_1} u", "∂_x₁ u",
                "d/dx1 u", "dx1(u)", "dx_1(u)", "diff(u, x_1)", r"\partial_{x_1} u", r"\frac{\partial u}{\partial x_1}", "∂_x_1 u"]),
    ("d_x1 d_x1 u", ["u_x1x1", "u_{x1 x1}", "u_{x_1 x_1}", "u_{2x_1}", "∂²u/∂x₁²", "d^2u/dx_1^2", "∂²u/∂x1²", "d_x1^2 u", "diff(u, x1, 2)",
                     r"\frac{\partial^2 u}{\partial x_1^2}", r"u_{x_1x_1}", r"\partial_{x_1}^2 u", r"\partial_{x_1}\partial_{x_1} u"]),
    ("x1 d_x1 d_x2 u", ["x_1 u_{x_1 x_2}", "x₁ ∂²u/∂x₁∂x₂", r"x_1 \frac{\partial^2 u}{\partial x_1 \partial x_2}", "x1 u_{x_{1}x_{2}}"]),
    ("laplace(u) + u", ["d_i d_i u + u(x1, x2)", "u_{x_1 x_1} + u_{x_2 x_2} + u(x_1, x_2)"]),
]  # fmt: skip

SAME: list[tuple[dict[str, Any], str, list[str]]] = [
    *((declared, plain, texts) for declared in NUMBERED for plain, texts in TEXTS_OF_NUMBERED),
    ({"coords": "q1 q2", "fields": "u1 u_2"}, "d_q1 u1 + d_q2 u_2", [
        "u_{1,q1} + u_{2,q2}", "∂u₁/∂q₁ + ∂u₂/∂q₂", r"\frac{\partial u_1}{\partial q_1} + \frac{\partial u_2}{\partial q_2}", "u1_q1 + u2_q2"]),
    ({"coords": "t theta_0", "fields": "u"}, "d_{theta_0} u", ["u_{θ_0}", "∂u/∂θ₀", r"\partial_{\theta_0} u", "u_{theta0}"]),
]  # fmt: skip
CASES = [(declared, plain, text) for declared, plain, texts in SAME for text in texts]


@pytest.mark.parametrize(("declared", "plain", "text"), CASES, ids=[f"{d['coords']}: {t}" for d, _, t in CASES])
def test_means_what_the_plain_text_means(declared: dict[str, Any], plain: str, text: str) -> None:
    system = parsed(text, **declared)
    assert meaning(system) == meaning(parsed(plain, **declared))
    assert parsed(str(system)) == system
    assert parsed(str(system), **declared) == system


def test_a_name_with_a_number_is_not_another_one() -> None:
    assert coordinate_suffix("x12", ["x1", "x12"], repeats=True) == ["x12"]
    with pytest.raises(ValueError, match="x12x"):
        coordinate_suffix("x12x", ["x", "x1", "x12"], repeats=True)
    for text, declared in [("∂u/∂x_3", NUMBERED[1]), ("u_x3", NUMBERED[0]), ("∂u/∂x_1", XY)]:
        with pytest.raises(OpdslError, match="is not a declared coordinate"):
            parsed(text, **declared)
    both = parsed("x_1 x1", coords="x1", fields="u", params="x_1")
    assert str(both).endswith("x_1*x1")


def test_components_and_unit_vectors_stay_what_they_are() -> None:
    assert str(parsed("u_0 + u_1", coords="x y", fields="u[2] u1")).endswith("u_0 + u_1")
    assert str(parsed("u_0 + e_1·u", coords="x y", fields="u[2] e1")).endswith("u_0 + dot(e_1, u)")
