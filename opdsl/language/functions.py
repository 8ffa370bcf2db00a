"""The functions of the language, by name."""

from __future__ import annotations

from opdsl.language.elementary_functions import ELEMENTARY_FUNCTIONS, REWRITTEN
from opdsl.language.function_record import Function
from opdsl.language.tensor_functions import INTERNAL, TENSOR_FUNCTIONS

__all__ = ["ELEMENTARY", "FUNCTIONS", "INTERNAL", "SPELT", "Function"]

SPELT = (*ELEMENTARY_FUNCTIONS, *REWRITTEN, *TENSOR_FUNCTIONS)
"""Functions that texts call by name."""

FUNCTIONS: dict[str, Function] = {f.name: f for f in (*ELEMENTARY_FUNCTIONS, *TENSOR_FUNCTIONS, *INTERNAL)}
"""Functions that stand in trees."""

ELEMENTARY: dict[str, int] = {f.name: f.arguments for f in ELEMENTARY_FUNCTIONS}
"""Functions of pointwise expressions, with their numbers of arguments. ``heaviside(0) = 0``, ``sign(0) = 0``. Others never occur."""
