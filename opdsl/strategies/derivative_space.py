"""The derivative space: the fewest channels of any exact push-forward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from opdsl.algebra.derivative_space import DerivativeSpace, derivative_space
from opdsl.algebra.polynomial import Polynomial
from opdsl.jets.graph import Array, Graph
from opdsl.jets.jet import Jet
from opdsl.jets.propagate import push_forward
from opdsl.jets.tabular import RuntimeTop, Tabular
from opdsl.language.residual import Number, Pointwise
from opdsl.strategies.base import Delivered, Method, Refusal, Request, Strategy, columns
from opdsl.strategies.dof import substitute_known
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import LinearOperator, Term

_MOST_CHANNELS = 400
_MOST_TERMS = 2000


@dataclass(frozen=True)
class Reading:
    """How one operator is read: its members p_g with their run-time coefficients, and the entry of its top."""

    coefficients: tuple[Pointwise, ...]
    members: tuple[Polynomial, ...]
    entry: int | None


@dataclass(frozen=True)
class DerivativeSpaceMethod(Method):
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

    def seed(self, env: Environment, algebra: Tabular) -> Jet:
        """The jet of x: linear parts of the basis elements; tops take Σ_g c_g of their members."""
        import numpy as np

        ops, xp = env.ops, env.ops.xp
        matrix = np.zeros((len(self.space.basis), self.dimension))
        for column in range(self.dimension):
            for channel, value in self.space.seeds(column).items():
                matrix[channel, column] = float(value)
        parts: list[Array | None] = [None] * len(algebra.sizes)
        fixed = [True] * len(algebra.sizes)
        for part in range(len(algebra.sizes)):
            if part == algebra.top_part:
                continue
            members = [c for c in range(1, len(self.space.basis)) if algebra.place(c)[0] == part]
            if matrix[members].any():
                block = ops.asarray(matrix[members], env.x)
                parts[part] = block if ops.per_point else block[:, None, :]
        if algebra.top_part is not None:
            rows: list[Any] = []
            varying, numeric = False, True
            for top, runtime in zip(self.space.tops, algebra.tops, strict=True):
                total: Any = None
                for coefficient, seeds in zip(runtime.coefficients, top.seeds, strict=True):
                    vector = np.zeros(self.dimension)
                    for column, value in seeds:
                        vector[column] = float(value)
                    if not vector.any():
                        continue
                    row = ops.asarray(vector, env.x)
                    if hasattr(coefficient, "shape"):
                        numeric = False
                        varying |= len(coefficient.shape) == 1
                        row = coefficient[:, None] * row if len(coefficient.shape) else coefficient * row
                    else:
                        row = row * coefficient
                    total = row if total is None else total + row
                rows.append(total)
            if any(r is not None for r in rows):
                shape = (env.x.shape[0], self.dimension) if varying else (self.dimension,)
                zero = ops.asarray(0.0, env.x)
                stacked = xp.stack([xp.broadcast_to(zero if r is None else r, shape) for r in rows])
                parts[algebra.top_part] = stacked if ops.per_point or varying else stacked[:, None, :]
                fixed[algebra.top_part] = numeric if ops.per_point else not varying
        return Jet(env.inputs, tuple(parts), tuple(fixed), None if ops.per_point else 0)

    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        ops = env.ops
        algebra = self.algebra(env)
        tops = {top.entry: (k, top) for k, top in enumerate(self.space.tops)}
        reads: dict[LinearOperator, list[tuple[Pointwise, dict[int, Fraction]]]] = {}
        needed: set[int] = set() if algebra.top_part is None else {algebra.top_part}
        for op, reading in self.readings.items():
            lines: list[tuple[Pointwise, dict[int, Fraction]]] = []
            for g, (coefficient, member) in enumerate(zip(reading.coefficients, reading.members, strict=True)):
                if reading.entry in tops:
                    lines.append((coefficient, dict(tops[reading.entry][1].lower[g])))
                else:
                    found = self.space.read(member)
                    assert found is not None
                    lines.append((coefficient, found))
            reads[op] = lines
            needed.update(algebra.place(c)[0] for _, found in lines for c in found if c)
        (jet,) = push_forward(graph, algebra, self.seed(env, algebra), constants, ops, frozenset(needed))
        axis = None if ops.per_point else 0
        if not isinstance(jet, Jet):
            jet = Jet(jet, tuple(None for _ in algebra.sizes), tuple(False for _ in algebra.sizes), axis)
        value = columns(jet.primal, ops.per_point, ops)
        zero = ops.xp.zeros_like(value)

        def channel(part: int, position: int) -> Array | None:
            p = jet.parts[part]
            if p is None:
                return None
            return ops.xp.reshape(ops.xp.broadcast_to(p[position, ...], jet.primal.shape), value.shape)

        out: dict[LinearOperator, Array] = {}
        for op, reading in self.readings.items():
            total: Any = None
            if reading.entry in tops:
                assert algebra.top_part is not None
                k, top = tops[reading.entry]
                own = channel(algebra.top_part, k)
                total = None if own is None else own * float(top.unit)
            for coefficient, found in reads[op]:
                weight = env(coefficient)
                for c, w in found.items():
                    term = channel(*algebra.place(c))
                    if term is None:
                        continue
                    term = term * float(w)
                    if hasattr(weight, "shape"):
                        term = term * (weight[..., None] if len(weight.shape) else weight)
                    else:
                        term = term * weight
                    total = term if total is None else total + term
            out[op] = zero if total is None else total
        return Delivered(value, out)


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
            known = LinearOperator(tuple(Term(substitute_known(t.coefficient, request), t.axes, t.labels) for t in op.terms))
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
