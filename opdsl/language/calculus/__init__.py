"""Expansion of a parsed system into a `Residual`: vector calculus, index sums, exact product and chain rule."""

from opdsl.language.calculus.coefficients import specialise
from opdsl.language.calculus.conditions import ConditionSpec, conditions
from opdsl.language.calculus.equations import is_condition
from opdsl.language.calculus.expand import expand
from opdsl.language.calculus.info import Info, derivative_text, facts
from opdsl.language.calculus.residual_to_tree import to_expression
from opdsl.language.calculus.sobolev import sobolev
from opdsl.language.calculus.substitution import substitute

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
