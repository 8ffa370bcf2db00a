"""Expansion of a parsed system into a `Residual`: vector calculus, index sums, exact product and chain rule."""

from opdsl.calculus.change import substitute
from opdsl.calculus.derived import sobolev
from opdsl.calculus.expand import ConditionSpec, conditions, expand, is_condition, specialise
from opdsl.calculus.facts import Info, derivative_text, facts
from opdsl.calculus.written import to_expression

__all__ = [
    "ConditionSpec",
    "Info",
    "conditions",
    "derivative_text",
    "expand",
    "facts",
    "is_condition",
    "sobolev",
    "specialise",
    "substitute",
    "to_expression",
]
