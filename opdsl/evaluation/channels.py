"""The derivative space of a text: the channels any exact push-forward has to carry, printable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from opdsl.algebra.derivative_space import DerivativeSpace, describe
from opdsl.algebra.polynomial import Polynomial
from opdsl.errors import StrategyError
from opdsl.evaluation.api import operator
from opdsl.strategies.base import Refusal, Request
from opdsl.strategies.derivative_space import DerivativeSpaceStrategy
from opdsl.strategies.linear_operators import split
from opdsl.strategies.operator_text import operator_text


@dataclass(frozen=True)
class Channels:
    """What must travel through a network that computes all fields of a text.

    Attributes:
        space: basis, structure constants, seeds, read-out and run-time combinations.
        coords: names of the columns.
        operators: the operators that are read, as text.
    """

    space: DerivativeSpace
    coords: tuple[str, ...]
    operators: tuple[str, ...]

    @property
    def channels(self) -> int:
        """How many arrays travel, the value included."""
        return self.space.channels

    @property
    def basis(self) -> tuple[Polynomial, ...]:
        """b_0 = 1, b_1, … by degree; a monomial ξ^β appears as ξ^β/β!."""
        return self.space.basis

    @property
    def table(self) -> tuple[tuple[int, int, int, Fraction], ...]:
        """(k, i, j, m) of the product rule (fg)_k = Σ m f_i g_j."""
        return self.space.table

    @property
    def order(self) -> int:
        """Highest order of differentiation."""
        return self.space.order

    def __str__(self) -> str:
        return "\n".join([f"operators: {'; '.join(self.operators)}", describe(self.space, self.coords)])


def derivative_space(text: str, *, coords: Any, dimension: int | None = None, **declarations: Any) -> Channels:
    r"""The smallest family of derivatives that is closed under the chain rule and contains an operator.

    C(p) is the span of all partial derivatives of the symbol p(ξ); dim C(p) is the number of arrays that any exact
    push-forward of p(∂)u carries at least. Terms that are linear with coefficients free of fields count as one operator
    where that is fewer.

    Args:
        text: as for `opdsl.operator`.
        coords: names of the columns.
        dimension: the number of coordinates where the text leaves it open (``x[d]``).
        **declarations: ``fields``, ``params``, ``functions``, ``time`` as for `opdsl.operator`.

    Returns:
        ``.channels``, ``.basis``, ``.table``, ``.order``; ``print`` shows the product rule.

    Raises:
        StrategyError: a sum over too many coordinates to tabulate.
        OpdslError: the text is refused.

    Example:
        >>> import opdsl
        >>> opdsl.derivative_space("Δ²u", coords="x y").channels
        9
        >>> print(*opdsl.derivative_space("laplace(u)", coords="x y").basis, sep=", ")
        1, ξ_0, ξ_1, 1/2 ξ_0² + 1/2 ξ_1²

    Reference: Iarrobino and Kanev, *Power Sums, Gorenstein Algebras, and Determinantal Loci*, ch. 1.
    """
    residual = operator(text, coords=coords, **declarations).residual(dimension)
    names = tuple(f.name for f in residual.fields)
    found: list[Channels] = []
    reason = "no derivatives are needed"
    for merge in (True, False):
        reading = split(residual, merge=merge)
        wanted = tuple(dict.fromkeys(op for name in names for op in reading.operators.get(name, ())))
        if not wanted:
            continue
        method = DerivativeSpaceStrategy().propose(Request(wanted, len(residual.coords), tuple(residual.space)))
        if isinstance(method, Refusal):
            reason = method.reason
            continue
        texts = tuple(operator_text(op, residual, names) for op in wanted)
        found.append(Channels(method.space, _names(residual.coords), texts))  # type: ignore[attr-defined]
    if not found:
        raise StrategyError(f"'{text}' has no tabulated derivative space: {reason}.")
    return min(found, key=lambda c: c.channels)


def _names(coords: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(c) for c in coords)
