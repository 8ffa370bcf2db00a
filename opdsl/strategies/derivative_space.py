"""The derivative space: the fewest channels of any exact push-forward."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np

from opdsl.algebra.derivative_space import DerivativeSpace, derivative_space
from opdsl.algebra.polynomial import Polynomial
from opdsl.jets.elementary import Term, plus
from opdsl.jets.graph import Array
from opdsl.jets.tabular import RuntimeTop, Tabular
from opdsl.language.residual import Number, Pointwise
from opdsl.strategies.base import Method, Refusal, Request, Strategy
from opdsl.strategies.dof import substitute_known
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import DerivativeTerm, LinearOperator
from opdsl.strategies.push_forward import Floats, PushForwardMethod, ReadOut

_MOST_CHANNELS = 400
_MOST_TERMS = 2000


@dataclass(frozen=True)
class Reading:
    """How one operator is read: its members p_g with their run-time coefficients, and the entry of its top."""

    coefficients: tuple[Pointwise, ...]
    members: tuple[Polynomial, ...]
    entry: int | None


@dataclass(frozen=True)
class DerivativeSpaceMethod(PushForwardMethod[Tabular]):
    """A push-forward over a `Tabular` algebra."""

    space: DerivativeSpace
    readings: dict[LinearOperator, Reading]
    dimension: int
    strategy: str = "derivative_space"
    notes: tuple[str, ...] = field(default=())

    @property
    def channels(self) -> int:  # type: ignore[override]
        return self.space.channels

    @property
    def order(self) -> int:  # type: ignore[override]
        return self.space.order

    @property
    def compose_work(self) -> float:
        """Products per composition, for the price."""
        pairs = sum(1 for _, i, j, _ in self.space.table if i and j and i <= j)
        tops = sum(len(row) for top in self.space.tops for row in top.rows)
        return float(self.channels + (pairs + tops) * max(self.order - 1, 1) / 2)

    def details(self) -> list[str]:
        by_degree: dict[int, int] = {}
        for d in self.space.degrees[1:]:
            by_degree[d] = by_degree.get(d, 0) + 1
        lines = [f"{count} channel{'s' if count > 1 else ''} of degree {d}" for d, count in sorted(by_degree.items())]
        if self.space.tops:
            lines.append(f"{len(self.space.tops)} collapsed channel{'s' if len(self.space.tops) > 1 else ''}")
        return lines

    def algebra(self, env: Environment) -> Tabular:
        """The algebra with the weights of this evaluation."""
        rows: dict[int, list[tuple[int, int, float]]] = {}
        for k, i, j, m in self.space.table:
            if 0 < i <= j:
                rows.setdefault(k, []).append((i, j, float(m) * (1.0 if i == j else 2.0)))
        by_entry = {r.entry: r for r in self.readings.values() if r.entry is not None}
        tops = []
        for top in self.space.tops:
            reading = by_entry[top.entry]
            tops.append(
                RuntimeTop(
                    tuple(env(c) for c in reading.coefficients),
                    tuple(
                        tuple((i, j, float(m) * (1.0 if i == j else 2.0)) for i, j, m in row if i <= j) for row in top.rows
                    ),
                )
            )
        return Tabular(self.space.degrees, rows, tops, max(self.space.order, 1))

    def directions(self, algebra: Tabular) -> dict[int, Floats]:
        """Linear parts of the basis elements."""
        matrix = np.zeros((len(self.space.basis), self.dimension))
        for column in range(self.dimension):
            for channel, value in self.space.seeds(column).items():
                matrix[channel, column] = float(value)
        out: dict[int, Floats] = {}
        for part in range(len(algebra.sizes)):
            if part != algebra.top_part:
                rows = matrix[[c for c in range(1, len(self.space.basis)) if algebra.place(c)[0] == part]]
                if rows.any():
                    out[part] = rows
        return out

    def first_order(self, env: Environment, algebra: Tabular) -> tuple[list[Array | None], bool]:
        """Σ_g c_g of the linear parts of their members."""
        rows: list[Array | None] = []
        numbers = True
        for top, runtime in zip(self.space.tops, algebra.tops, strict=True):
            total: Term = None
            for coefficient, seeds in zip(runtime.coefficients, top.seeds, strict=True):
                if any(value for _, value in seeds):
                    vector = np.zeros(self.dimension)
                    for column, value in seeds:
                        vector[column] = float(value)
                    numbers &= not hasattr(coefficient, "shape")
                    total = plus(total, env.scaled(env.ops.asarray(vector, env.x), coefficient))
            rows.append(total)
        return rows, numbers

    @cached_property
    def lines(self) -> dict[LinearOperator, list[tuple[Pointwise, dict[int, Fraction]]]]:
        """How every operator is read from channels, its collapsed one left aside: coefficients, and weights by channel."""
        tops = {top.entry: top for top in self.space.tops}
        out: dict[LinearOperator, list[tuple[Pointwise, dict[int, Fraction]]]] = {}
        for op, reading in self.readings.items():
            rows = out[op] = []
            for g, (coefficient, member) in enumerate(zip(reading.coefficients, reading.members, strict=True)):
                found = dict(tops[reading.entry].lower[g]) if reading.entry in tops else self.space.read(member)
                assert found is not None
                rows.append((coefficient, found))
        return out

    def needed(self, algebra: Tabular) -> frozenset[int]:
        own = {algebra.place(c)[0] for rows in self.lines.values() for _, found in rows for c in found if c}
        return frozenset(own if algebra.top_part is None else own | {algebra.top_part})

    def read(self, env: Environment, algebra: Tabular, found: ReadOut) -> dict[LinearOperator, Array | None]:
        tops = {top.entry: (k, top) for k, top in enumerate(self.space.tops)}
        out: dict[LinearOperator, Array | None] = {}
        for op, reading in self.readings.items():
            total: Term = None
            if reading.entry in tops:
                assert algebra.top_part is not None
                k, top = tops[reading.entry]
                own = found.channel(algebra.top_part, k)
                total = None if own is None else own * float(top.unit)
            for coefficient, weights in self.lines[op]:
                value = env(coefficient)
                for c, w in weights.items():
                    channel = found.channel(*algebra.place(c))
                    if channel is not None:
                        total = plus(total, env.scaled(channel * float(w), value))
            out[op] = total
        return out


class DerivativeSpaceStrategy(Strategy):
    r"""All derivatives of the symbol: no smaller linear family is closed under the chain rule.

    p(ξ+η) = Σ p_i(ξ) q_i(η) is Leibniz' rule for p(∂); the channels are a basis of the span of all partial derivatives of
    the symbols, computed exactly. A combination whose coefficients are known at run time only is one collapsed channel.

    Reference: docs/theory; Iarrobino and Kanev, *Power Sums, Gorenstein Algebras, and Determinantal Loci*, ch. 1; Ishii,
    arXiv:2106.14153.
    """

    name = "derivative_space"
    reference = "opdsl; arXiv:2106.14153"

    def propose(self, request: Request) -> Method | Refusal:
        singles: list[Polynomial] = []
        entries: list[list[Polynomial]] = []
        readings: dict[LinearOperator, Reading] = {}
        for op in request.operators:
            if op.spread is not None:
                return Refusal(self.name, "a family over an unwritten index sum (too many coordinates to write out)")
            if any(t.labels for t in op.terms) and len(request.space) ** max(len(t.labels) for t in op.terms) > _MOST_TERMS:
                return Refusal(self.name, "an unwritten sum over too many coordinates; a directional algebra holds it")
            known = LinearOperator(tuple(DerivativeTerm(substitute_known(t.coefficient, request), t.axes, t.labels) for t in op.terms))
            symbols = known.polynomials(request.space)
            if symbols is None:
                return Refusal(self.name, "coefficients over an unwritten index sum")
            if sum(len(p.terms) for _, p in symbols) > _MOST_TERMS:
                return Refusal(self.name, f"a symbol of more than {_MOST_TERMS} terms")
            coefficients, members = zip(*symbols, strict=True)
            if len(symbols) == 1 and isinstance(coefficients[0], Number):
                singles.append(members[0])
                readings[op] = Reading(coefficients, members, None)
            else:
                readings[op] = Reading(coefficients, members, len(entries))
                entries.append(list(members))
        space = derivative_space(singles, collapse=entries)
        if space.channels > _MOST_CHANNELS:
            return Refusal(self.name, f"{space.channels} channels in a table; a directional algebra is better")
        return DerivativeSpaceMethod(space, readings, request.dimension)
