r"""Sums over an index and the operators of vector calculus, one component at a time.

All operators come from one covariant derivative in the orthonormal frame of the coordinates,

    (∇T)_{k i…} = (1/h_k) ∂_k T_{i…} + Σ_m G_{k m i} T_{m…} + …,
    G_{kmj} = δ_{kj} ∂_m h_k / (h_k h_m)  (m ≠ k),      G_{kkj} = −∂_j h_k / (h_k h_j)  (j ≠ k),

with scale factors h; Cartesian coordinates have h = 1 and G = 0.

A component is computed by a generator that yields the components it needs and is sent their values (`opdsl.language.traverse.demand`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from opdsl.language import tree as ex
from opdsl.language.calculus.complex_values import Value, v_add, v_divide, v_map, v_mul, v_negate
from opdsl.language.calculus.differentiate import Differentiator, NeedsWritingOut
from opdsl.language.constructors import ONE, ZERO, call, divide, index_sum, mul, negate
from opdsl.language.declarations import Dim
from opdsl.language.residual import Axis, Coordinate, Pointwise
from opdsl.language.structure import Coefficient

R = TypeVar("R")
Index = tuple[Axis, ...]
Env = tuple[tuple[str, Axis], ...]
Part = tuple[ex.Node, Index, Env]
"""A component that is asked for: of which expression, its index, and the values of the free letters."""
Asking = Generator[Part, Value, R]
Tensor = Callable[[Index], Asking[Value]]

MAX_WRITTEN_DIMENSION = 16
MAX_WRITTEN_TERMS = 4096


class TooLongToWriteOut(Exception):
    """A written-out sum has more terms than allowed; try again with `IndexSum`."""


class VectorCalculus:
    """Computes over the columns of the space coordinates, in their frame.

    Args:
        space: the columns.
        geometry: cartesian, polar, cylindrical or spherical.
        lazy: sums over the space coordinates become `IndexSum` instead of being written out.
    """

    def __init__(self, space: Sequence[int], geometry: str, *, lazy: bool) -> None:
        self.lazy = lazy
        self.space = space
        self.columns = space if isinstance(space, range) else frozenset(space)
        self.differentiate = Differentiator(self.columns)
        self.labels = itertools.count()
        self.written = 0
        self.scale = self._scale_factors(geometry)

    def total(self, size: Dim, body: Callable[[Axis], Asking[Value]]) -> Asking[Value]:
        """Σ over k = 0 … size-1 of ``body(k)``."""
        assert isinstance(size, int)
        if self.lazy and size == len(self.space) and size > 1 and self.scale is None:
            label = f"#{next(self.labels)}"
            inside = yield from body(label)
            return v_map(lambda part: index_sum(label, part), inside)
        self.written += size
        if self.written > MAX_WRITTEN_TERMS:
            raise TooLongToWriteOut
        terms: list[Value] = []
        for k in range(size):
            terms.append((yield from body(k)))
        return v_add(*terms)

    def delta(self, a: Axis, b: Axis) -> Pointwise:
        """Kronecker's delta."""
        if a == b:
            return ONE
        if isinstance(a, int) and isinstance(b, int):
            return ZERO
        raise NeedsWritingOut

    def column(self, axis: Axis) -> Axis:
        """The coordinate column of the k-th space coordinate; a label stays a label."""
        return self.space[axis] if isinstance(axis, int) else axis

    # ------------------------------------------------------------------------------ the frame
    def _scale_factors(self, geometry: str) -> list[Pointwise] | None:
        if geometry == "cartesian":
            return None
        r = Coordinate(self.space[0])
        if geometry == "polar":
            return [ONE, r]
        if geometry == "cylindrical":
            return [ONE, r, ONE]
        return [ONE, r, mul(r, call("sin", (Coordinate(self.space[1]),)))]

    def along(self, axis: Axis, value: Value) -> Value:
        """(1/h_k) ∂_k."""
        made = v_map(lambda part: self.differentiate(part, self.column(axis)), value)
        if self.scale is None or not isinstance(axis, int):
            return made
        return v_divide(made, self.scale[axis])

    def _connection(self, k: int, m: int, j: int) -> Pointwise:
        """G_{kmj}, the j-th component of ∇_k e_m."""
        h = self.scale
        if h is None:
            return ZERO
        if m != k:
            other = m
            sign: Pointwise = ONE if j == k else ZERO
        else:
            other = j
            sign = negate(ONE) if j != k else ZERO
        if sign == ZERO:
            return ZERO
        return mul(sign, divide(self.differentiate(h[k], self.space[other]), mul(h[k], h[other])))

    def covariant(self, tensor: Tensor) -> Tensor:
        """∇T: one more index, in front."""

        def made(index: Index) -> Asking[Value]:
            k, rest = index[0], index[1:]
            value = self.along(k, (yield from tensor(rest)))
            if self.scale is None:
                return value
            parts = [value]
            for slot, j in enumerate(rest):
                for m in range(len(self.space)):
                    assert isinstance(k, int)
                    assert isinstance(j, int)
                    factor = self._connection(k, m, j)
                    if factor != ZERO:
                        parts.append(v_mul(factor, (yield from tensor((*rest[:slot], m, *rest[slot + 1 :])))))
            return v_add(*parts)

        return made

    def nabla(self, name: str, tensor: Tensor, index: Index, *, scalar: bool) -> Asking[Value]:
        """One component of grad, div, curl, … of a tensor, which may be a scalar."""
        once = self.covariant(tensor)
        d = len(self.space)
        match name:
            case "grad":
                return (yield from once(index))
            case "jac":
                return (yield from once((index[-1], *index[:-1])))
            case "hess":
                return (yield from self.covariant(once)(index))
            case "div":
                return (yield from self.total(d, lambda k: once((k, k, *index))))
            case "laplace":
                twice = self.covariant(once)
                return (yield from self.total(d, lambda k: twice((k, k, *index))))
            case "dn":

                def along_normal(k: Axis) -> Asking[Value]:
                    return v_mul(Coefficient("n", (k,)), (yield from once((k, *index))))

                return (yield from self.total(d, along_normal))
        assert name == "curl", name
        if d == 3:
            i = index[0]
            if not isinstance(i, int):
                raise NeedsWritingOut
            j, k = (i + 1) % 3, (i + 2) % 3
            return v_add((yield from once((j, k))), v_negate((yield from once((k, j)))))
        if not scalar:
            return v_add((yield from once((0, 1))), v_negate((yield from once((1, 0)))))
        return (yield from once((1,))) if index[0] == 0 else v_negate((yield from once((0,))))
