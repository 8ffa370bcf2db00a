"""The work of nested automatic differentiation, as the backends do it.

Forward mode over P directions and k levels is a push-forward over the algebra of k nilpotent variables (2^k − 1 channels and
the value, which all directions share); it is counted by pushing that algebra through the graph. Reverse sweeps are counted by
the cheap gradient principle: a sweep repeats every product once and costs about twice the elementwise work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from opdsl.jets.algebra import Algebra, Needed, Pairing
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.jet import Jet
from opdsl.pricing.abstract_arrays import Effort

Axes = tuple[int, ...]
_MOST_LEVELS = 7
"""Beyond, the count goes on at its rate of growth: nobody nests deeper and waits for it."""


class Nilpotent(Algebra):
    """Values, and P directions of every product of distinct ones of k nilpotent variables; for counting only."""

    def __init__(self, directions: int, levels: int) -> None:
        self.levels, self.order = levels, levels
        self.sizes = (directions,) * (2**levels - 1)

    def requires(self, needed: Needed) -> Needed:
        return frozenset(range(len(self.sizes)))

    def compose(self, ops: ArrayOps, function: Any, h: Jet, needed: Needed) -> Jet:
        c = function.expand(ops, h.primal, self.levels)
        first = h.parts[0]
        if h.is_constant or first is None:
            return Jet(c[0], h.parts, h.fixed, h.batch_axis)
        parts = []
        for mask in range(1, 2**self.levels):
            # Every level repeats the product rule of the one below: 2^j − 1 products for j levels, 3^k in all.
            with h.primal.tally.repeated(2 ** mask.bit_count() - 1):
                parts.append(first * c[0])
        return Jet(c[0], tuple(parts), tuple(False for _ in parts), h.batch_axis)

    def product(self, ops: ArrayOps, bilinear: Pairing, f: Jet, g: Jet, primal: Any, needed: Needed, batch_axis: int | None) -> Jet:
        parts: list[Any] = []
        for mask in range(1, 2**self.levels):
            own = [b for b in (_at(bilinear.left, f, mask, g), _at(bilinear.right, g, mask, f)) if b is not None]
            below = (mask - 1) & mask
            while below:
                a, b = f.parts[below - 1], g.parts[(mask ^ below) - 1]
                if a is not None and b is not None:
                    own.append(bilinear.both(a, b))
                below = (below - 1) & mask
            total = own[0] if own else None
            for term in own[1:]:
                total = total + term
            parts.append(total)
        return Jet(primal, tuple(parts), tuple(False for _ in parts), batch_axis)


def _at(apply: Any, jet: Jet, mask: int, other: Jet) -> Any:
    part = jet.parts[mask - 1]
    if part is None:
        return None
    return apply(part, other.primal) if apply.__name__ == "left" else apply(other.primal, part)


Pushed = Callable[[Nilpotent], Effort]
"""The work of pushing such an algebra through the network."""


def forward(pushed: Pushed, plain: Effort, axes: Sequence[Axes], outputs: int) -> Effort:
    """Forward mode, order by order; over one reverse sweep where that needs fewer passes."""
    wanted = list(dict.fromkeys(axes))
    stems = {a[1:] for a in wanted if a}
    reverse_pays = 3 * outputs * sum(2 ** len(s) for s in stems) < sum(2 ** len(a) for a in wanted if a)
    chains = stems if reverse_pays else set(wanted)
    total = plain
    for order in sorted({len(c) for c in chains if c}):
        # The value is the same in every group: compilers find that.
        total = total + _along(pushed, sum(len(c) == order for c in chains), order) + plain * -1.0
    return value_and_gradient(total, outputs) if reverse_pays else total


def _along(pushed: Pushed, directions: int, levels: int) -> Effort:
    if levels <= _MOST_LEVELS:
        return pushed(Nilpotent(directions, levels))
    below = _along(pushed, directions, _MOST_LEVELS)
    more = levels - _MOST_LEVELS
    return replace(below * 3.0**more, products=below.products * 2.0**more, traffic=below.traffic * 2.0**more)


def value_and_gradient(plain: Effort, outputs: int) -> Effort:
    """One evaluation and one reverse sweep for each output; what it keeps must be kept again for training."""
    return replace(sweeps(plain, outputs), memory=plain.memory + plain.saved, saved=(1 + outputs) * plain.saved)


def sweeps(plain: Effort, outputs: float) -> Effort:
    """An evaluation followed by reverse sweeps."""
    return replace(
        plain * (1.0 + 2.0 * outputs), products=plain.products * (1.0 + outputs), calls=plain.calls * (1.0 + outputs),
        traffic=plain.traffic * (1.0 + outputs), functions=plain.functions,
    )  # fmt: skip


def reverse(plain: Effort, axes: Sequence[Axes], outputs: int) -> Effort:
    """Loops of reverse sweeps: each prefix that is continued is one sweep over everything computed for it.

    A sweep over a graph of size G adds G products and 2 G elementwise operations to it, so level j costs 2^j and 2·3^j.
    """
    prefixes = {a[:k] for a in axes for k in range(len(a))}
    products = 1.0 + outputs * sum(2.0 ** len(p) for p in prefixes)
    elements = 1.0 + outputs * sum(2.0 * 3.0 ** len(p) for p in prefixes)
    return replace(
        plain * elements, products=plain.products * products, calls=plain.calls * products, traffic=plain.traffic * products,
        functions=plain.functions, memory=plain.memory + plain.saved * elements, saved=plain.saved * elements,
    )  # fmt: skip
