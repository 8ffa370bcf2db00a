"""Other libraries that can evaluate some of the operators: what a comparison puts beside our strategies.

A peer gets the captured function, so that it differentiates the same operations on the same arrays, and is compiled, mapped over the
points and timed in the same way. It is used as its own documentation says, and refuses what it has no way to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opdsl.algebra.polynomial import Polynomial
from opdsl.jets.graph import Array

Function = Callable[[Array], Array]
"""One point (d,) to all outputs (m,)."""


@dataclass(frozen=True)
class Peer:
    """Another way to differentiate, of another library.

    Args:
        name: what tables call it.
        module: what has to be importable.
        refusal: why it cannot evaluate these symbols p(∂) in so many coordinates; None where it can.
        values: the function and p(∂) of it for every symbol, each (m,), at one point.
    """

    name: str
    module: str
    refusal: Callable[[Sequence[Polynomial], int], str | None]
    values: Callable[[Function, Array, Sequence[Polynomial]], tuple[Array, list[Array]]]
