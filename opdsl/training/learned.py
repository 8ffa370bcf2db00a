"""Learned parameters of the equations: the number that is trained, and the value it stands for.

positive: value = exp(s);    between low and high: value = low + (high - low) / (1 + exp(-s));    else value = s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from opdsl.training.problem_tables import ParameterValue


def trained_number(parameter: ParameterValue) -> float:
    """The number s at the parameter's first value.

    Example:
        >>> trained_number(ParameterValue("c", 0.5, True, between=(0.0, 1.0)))
        0.0
    """
    if parameter.between is not None:
        low, high = parameter.between
        return math.log((parameter.value - low) / (high - parameter.value))
    return math.log(parameter.value) if parameter.positive else parameter.value


def value_of(parameter: ParameterValue, s: Any, exp: Callable[[Any], Any]) -> Any:
    """The value at a number s, with a framework's exponential."""
    if parameter.between is not None:
        low, high = parameter.between
        return low + (high - low) / (1.0 + exp(-s))
    return exp(s) if parameter.positive else s


def slope(parameter: ParameterValue, value: Any) -> Any:
    """d value / d s where the parameter has a value."""
    if parameter.between is not None:
        low, high = parameter.between
        return (value - low) * (high - value) / (high - low)
    return value if parameter.positive else 1.0
