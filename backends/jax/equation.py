"""One equation of a jaxpr, as the rules see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opdsl.errors import MissingRuleError
from opdsl.jets.first_derivative import Inner


@dataclass(frozen=True)
class Equation:
    """One equation.

    Args:
        primitive: the primitive's name; for a recognised function of JAX's library, that function's name.
        params: the parameters of the primitive.
        shapes: shapes of the operands.
        dtypes: dtypes of the operands.
        known: for operands all of whose elements are one literal number, that number; None for the others.
        several: whether ``apply`` returns a sequence.
        apply: the primitive on arrays.
        order: degree up to which jets of the result matter; None for all that the algebra has.
        linear: inside a program of first derivatives, which operands depend on the direction. The program is linear in
            the direction, so the equation is linear in them.
        inner: turns a program into a graph: ``inner(jaxpr, order, linear)``, the last two as here, for its inputs.
    """

    primitive: str
    params: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    known: tuple[float | None, ...]
    several: bool
    apply: Callable[..., Any]
    order: int | None
    linear: tuple[bool, ...]
    inner: Callable[[Any, int | None, Sequence[bool]], Inner]


def missing_error(primitive: str, why: str = "") -> MissingRuleError:
    """The error for a primitive that jets cannot pass."""
    return MissingRuleError(
        f"no jet rule for the JAX primitive '{primitive}'{why}. Use strategy='nested_ad', or write the function without it."
    )
