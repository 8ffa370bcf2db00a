r"""From operators to a directional algebra: shared by all strategies that push forward along directions.

A homogeneous operator of order j is Σ_r w_r (v_r·∂)^j; on scaled Taylor coefficients it is the linear form
Σ_r j! w_r h_{j,r}. A `Layout` says which directions are carried, up to which order, and how each operator is read: from the
coefficients that are kept anyway, or as a collapsed top of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import factorial
from typing import Any

import numpy as np

from opdsl.errors import StrategyError
from opdsl.jets.directional import Directional, Reduction, Top
from opdsl.jets.elementary import Term, plus
from opdsl.jets.graph import Array
from opdsl.language.residual import Number, Pointwise
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import LinearOperator
from opdsl.strategies.push_forward import Floats, PushForwardMethod, ReadOut, UnitRows

MOST_ENTRIES = 2**28


@dataclass(frozen=True)
class Group:
    """Directions carried together: coordinate axes ``along`` (columns), or general ``vectors`` (R, d); orders 1 … ``kept``."""

    kept: int
    along: tuple[int, ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()

    @property
    def size(self) -> int:
        """Number of directions R."""
        return len(self.along) or len(self.vectors)

    def matrix(self, dimension: int) -> Floats | UnitRows:
        """Directions as rows (R, d), of which unit rows are not written out before an array is made of them.

        Raises:
            StrategyError: the matrix would not fit into memory.
        """
        if self.size * dimension > MOST_ENTRIES:
            raise StrategyError(
                f"{self.size} directions in {dimension} dimensions are {self.size * dimension:.3g} numbers before the first layer; "
                "an exact push-forward along all coordinates does not reach so far."
            )
        if self.vectors:
            return np.array(self.vectors, dtype=np.float64)
        return UnitRows((self.size, dimension), tuple(self.along))


@dataclass(frozen=True)
class Weight:
    """coefficient · Σ_r static_r (…)_r on one order of one group; j! is in ``static``.

    ``static`` None means ``factor`` for every direction. ``label`` marks a coefficient that is a vector over the directions.
    """

    group: int
    order: int
    coefficient: Pointwise
    static: tuple[float, ...] | None = None
    factor: float = 1.0
    label: str | None = None


@dataclass(frozen=True)
class Quadratic:
    """Σ_rs a_rs over a group of coordinate axes, order 2: entries known at run time.

    ``entries``: (r, s, coefficient); ``arrays``: (coefficient with two labels, label of r, label of s).
    """

    group: int
    entries: tuple[tuple[int, int, Pointwise], ...] = ()
    arrays: tuple[tuple[Pointwise, str, str], ...] = ()


@dataclass(frozen=True)
class Form:
    """One operator as a linear form.

    Args:
        weights: on the coefficients of directions, orders ≥ 2 (and order 1 where read from levels).
        first: first-order part as (coefficient, column); a top takes it through its seed.
        vectors: first-order part Σ_i b_i ∂_i with an unwritten index: (coefficient, label), over all of space.
        quadratic: run-time second-order matrices.
        top: whether the operator is a collapsed channel of its own.
        spread: for a family over a label: (group, order).
    """

    weights: tuple[Weight, ...] = ()
    first: tuple[tuple[Pointwise, int], ...] = ()
    vectors: tuple[tuple[Pointwise, str], ...] = ()
    quadratic: tuple[Quadratic, ...] = ()
    top: bool = True
    spread: tuple[int, int] | None = None


@dataclass(frozen=True)
class DirectionalMethod(PushForwardMethod[Directional]):
    """A push-forward over a `Directional` algebra."""

    strategy: str
    groups: tuple[Group, ...]
    forms: dict[LinearOperator, Form]
    dimension: int
    space: Sequence[int]
    notes: tuple[str, ...] = field(default=())

    @property
    def tops(self) -> tuple[LinearOperator, ...]:
        """Operators that are channels of their own."""
        return tuple(op for op, form in self.forms.items() if form.top)

    @property
    def channels(self) -> int:  # type: ignore[override]
        return 1 + sum(g.size * g.kept for g in self.groups) + len(self.tops)

    @property
    def order(self) -> int:  # type: ignore[override]
        return max(op.order for op in self.forms)

    def details(self) -> list[str]:
        lines = []
        for g in self.groups:
            what = ("coordinate direction" if g.along else "direction") + ("s" if g.size > 1 else "")
            lines.append(f"{g.size} {what}, orders 1 … {g.kept}" if g.kept > 1 else f"{g.size} {what}, order 1")
        if self.tops:
            lines.append(f"{len(self.tops)} collapsed channel{'s' if len(self.tops) > 1 else ''}")
        return [*lines, *self.notes]

    # --------------------------------------------------------------------------------------------------- evaluation

    def algebra(self, env: Environment) -> Directional:
        """The algebra with the weights of this evaluation."""
        tops = []
        for op in self.tops:
            form = self.forms[op]
            by_group: list[dict[int, Reduction]] = [{} for _ in self.groups]
            for g in range(len(self.groups)):
                for j in sorted({w.order for w in form.weights if w.group == g and w.order > 1}):
                    chosen = [w for w in form.weights if w.group == g and w.order == j]
                    by_group[g][j] = reduction(env, chosen, self.groups[g].size)
            for q in form.quadratic:
                matrix = self._matrix(env, q, by_group[q.group].get(2))
                by_group[q.group][2] = Reduction(matrix=matrix)
            tops.append(Top(tuple(by_group)))
        return Directional([(g.size, g.kept) for g in self.groups], tops)

    def _matrix(self, env: Environment, quadratic: Quadratic, diagonal: Reduction | None) -> Array:
        """A + Aᵀ of all second-order run-time terms (the form of order-2 coefficients carries 2! = 2)."""
        ops, xp = env.ops, env.ops.xp
        size = self.groups[quadratic.group].size
        zero = ops.asarray(0.0, env.x)
        total: Any = None
        if quadratic.entries or diagonal is not None:
            rows: list[list[Any]] = [[zero] * size for _ in range(size)]
            for r, s, coefficient in quadratic.entries:
                value = _as_array(env, env(coefficient))
                rows[r][s] = rows[r][s] + value
                rows[s][r] = rows[s][r] + value
            if diagonal is not None:
                for r in range(size):
                    rows[r][r] = rows[r][r] + _entry(diagonal, r)
            flat = [e for row in rows for e in row]
            if any(len(e.shape) for e in flat):
                points = next(tuple(e.shape) for e in flat if len(e.shape))
                flat = [xp.broadcast_to(e, points) for e in flat]
            total = xp.stack(flat)
            total = xp.reshape(total, (size, size, *total.shape[1:]))
        for coefficient, first, second in quadratic.arrays:
            a = env.array(coefficient, (first, second))
            if len(a.shape) == 3:
                a = xp.permute_dims(a, (1, 2, 0))
            swapped = xp.permute_dims(a, (1, 0, *range(2, len(a.shape))))
            a = a + swapped
            if total is not None and len(total.shape) != len(a.shape):
                total, a = ((t[..., None] if len(t.shape) == 2 else t) for t in (total, a))
            total = a if total is None else total + a
        return total

    def directions(self, algebra: Directional) -> dict[int, Floats | UnitRows]:
        return {algebra.part(g, 1): group.matrix(self.dimension) for g, group in enumerate(self.groups)}

    def first_order(self, env: Environment, algebra: Directional) -> tuple[list[Array | None], bool]:
        forms = [self.forms[op] for op in self.tops]
        numbers = not any(form.vectors for form in forms) and all(isinstance(c, Number) for form in forms for c, _ in form.first)
        return [self._first(env, form) for form in forms], numbers

    def _first(self, env: Environment, form: Form) -> Array | None:
        """Coefficients of the first-order part over all columns: (d,) or (n, d); None where there is none."""
        if not form.first and not form.vectors:
            return None
        ops, xp = env.ops, env.ops.xp
        entries: list[Any] = [ops.asarray(0.0, env.x)] * self.dimension if self.dimension <= 64 or form.first else []
        for coefficient, column in form.first:
            entries[column] = entries[column] + _as_array(env, env(coefficient))
        total: Any = None
        if form.first:
            if any(len(e.shape) for e in entries):
                entries = [xp.broadcast_to(e, (env.x.shape[0],)) for e in entries]
            total = xp.stack(entries, axis=-1)
        for coefficient, label in form.vectors:
            vector = env.array(coefficient, (label,))
            if not hasattr(vector, "shape"):
                vector = ops.asarray([vector] * len(self.space), env.x)
            if vector.shape[-1] == 1 and len(self.space) > 1:
                vector = xp.broadcast_to(vector, (*vector.shape[:-1], len(self.space)))
            if len(self.space) != self.dimension:
                before, after = self.space[0], self.dimension - self.space[-1] - 1
                lead = vector.shape[:-1]
                pad = ops.asarray(0.0, env.x)
                vector = xp.concat(
                    [xp.broadcast_to(pad, (*lead, before)), vector, xp.broadcast_to(pad, (*lead, after))], axis=-1
                )
            total = vector if total is None else total + vector
        return total

    def needed(self, algebra: Directional) -> frozenset[int]:
        out: set[int] = {algebra.top_part} if algebra.tops else set()
        for form in self.forms.values():
            if not form.top:
                out.update(algebra.part(w.group, w.order) for w in form.weights)
                if form.spread is not None:
                    out.add(algebra.part(*form.spread))
        return frozenset(out)

    def read(self, env: Environment, algebra: Directional, found: ReadOut) -> dict[LinearOperator, Array | None]:
        ops = env.ops
        out: dict[LinearOperator, Array | None] = {}
        for op, form in self.forms.items():
            if form.top:
                part = found.part(algebra.top_part)
                out[op] = None if part is None else part[self.tops.index(op), ...]
            elif form.spread is not None:
                part = found.part(algebra.part(*form.spread))
                out[op] = None if part is None else ops.xp.moveaxis(part, 0, -1) * float(factorial(form.spread[1]))
            else:
                total: Term = None
                for w in form.weights:
                    part = found.part(algebra.part(w.group, w.order))
                    if part is not None:
                        total = plus(total, reduction(env, [w], self.groups[w.group].size)(ops, part, ops.points.axis))
                out[op] = total
        return out


def _as_array(env: Environment, value: Any) -> Array:
    return value if hasattr(value, "shape") else env.ops.asarray(value, env.x)


def _entry(diagonal: Reduction, r: int) -> Any:
    if diagonal.runtime is not None:
        return diagonal.runtime[r, ...]
    static = 1.0 if diagonal.static is None else float(diagonal.static[r])
    return static * diagonal.scale


def reduction(env: Environment, weights: Sequence[Weight], size: int) -> Reduction:
    """Σ of several weights on the same coefficients as one linear form."""
    static = np.zeros(size)
    uniform = True
    runtime: list[tuple[Any, Weight]] = []
    for w in weights:
        if w.label is None and isinstance(w.coefficient, Number):
            number = float(w.coefficient.value)
            uniform &= w.static is None
            static += number * (w.factor if w.static is None else np.array(w.static))
        elif w.label is not None:
            runtime.append((env.array(w.coefficient, (w.label,)), w))
        else:
            runtime.append((env(w.coefficient), w))
    if not runtime:
        if uniform:
            return Reduction(scale=float(static[0]))
        return Reduction(static=static)
    if len(runtime) == 1 and not static.any() and runtime[0][1].label is None:
        value, w = runtime[0]
        if w.static is None:
            return Reduction(scale=value if w.factor == 1.0 else value * w.factor)
        return Reduction(scale=value, static=np.array(w.static))
    ops, xp = env.ops, env.ops.xp
    total: Any = ops.asarray(static, env.x)
    for value, w in runtime:
        vector = ops.asarray(np.full(size, w.factor) if w.static is None else np.array(w.static), env.x)
        if w.label is not None:
            term = value * w.factor
            if len(term.shape) == 2:
                term = xp.permute_dims(term, (1, 0))
        elif hasattr(value, "shape") and len(value.shape) == 1:
            term = vector[:, None] * value[None, :]
        else:
            term = vector * value
        if len(total.shape) != len(term.shape):
            total, term = (t[:, None] if len(t.shape) == 1 else t for t in (total, term))
        total = total + term
    return Reduction(runtime=total)


def fraction_vector(values: Sequence[Fraction | float]) -> tuple[float, ...]:
    """Exact weights as floats, rounded once."""
    return tuple(float(v) for v in values)
