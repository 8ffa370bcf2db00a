"""Expansion of a parsed system into a `Residual`: vector calculus, index sums, exact product and chain rule."""

from opdsl.calculus.derived import sobolev, substitute, to_expression
from opdsl.calculus.expand import ConditionSpec, conditions, expand, is_condition, specialise
from opdsl.calculus.facts import Info, derivative_text, facts

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
