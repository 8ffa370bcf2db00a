"""Arrays that have shapes and no numbers, and what is counted when methods run on them.

A `AbstractArray` behaves like an array of the array API as far as shapes go; every operation on it adds to a `Tally`. See
`opdsl.pricing.counting` for what is done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any

import numpy as np

from opdsl.backends.execution import Execution

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Effort:
    """Work of one call, in numbers of things; sums and multiples are efforts again.

    Attributes:
        products: multiply-adds in matrix products.
        traffic: elements read and written by matrix products.
        calls: matrix products started.
        elements: elements written by additions, multiplications, comparisons.
        reductions: elements read by sums along an axis: they end what a compiler can fuse.
        spreads: elements written where an operand is repeated along an axis: a sum in reverse.
        functions: elements written by transcendental functions.
        moves: elements copied (stacking, concatenating, gathering).
        views: elements looked at through slices, splits and reshapes: free forward, not always in reverse.
        steps: operations other than products and views started.
        windows: views started.
        memory: numbers alive at once in an evaluation.
        saved: numbers that reverse mode keeps for a training step.
        guesses: operations, or whole methods, that could not be counted and for which something like them stands.
    """

    products: float = 0.0
    traffic: float = 0.0
    calls: float = 0.0
    elements: float = 0.0
    reductions: float = 0.0
    spreads: float = 0.0
    functions: float = 0.0
    moves: float = 0.0
    views: float = 0.0
    steps: float = 0.0
    windows: float = 0.0
    memory: float = 0.0
    saved: float = 0.0
    guesses: float = 0.0

    def __add__(self, other: Effort) -> Effort:
        return Effort(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Effort)))

    def __mul__(self, factor: float) -> Effort:
        return Effort(*(getattr(self, f.name) * factor for f in fields(Effort)))


class Tally:
    """The counters of one run."""

    def __init__(self, points: int, execution: Execution) -> None:
        self.execution, self.executions = execution, execution.points.executions(points)
        self.channels = 1
        self.counts = dict.fromkeys((f.name for f in fields(Effort)), 0.0)
        self.live = 0.0

    def add(self, kind: str, amount: float, varies: bool) -> None:
        """Elements of one kind; what varies in a graph of one point is done at every point."""
        self.counts[kind] += amount * self.channels * (self.executions if varies else 1)

    def start(self, kind: str) -> None:
        """One operation."""
        self.counts[kind] += 1

    def hold(self, amount: float) -> None:
        """Allocate (or free, negative)."""
        self.live += amount
        self.counts["memory"] = max(self.counts["memory"], self.live)

    @contextmanager
    def repeated(self, times: int) -> Iterator[None]:
        """What happens inside counts as if it happened so many times."""
        with self.aside() as counted:
            yield
        once = counted()
        self.take(replace(once * float(times), memory=once.memory))

    def effort(self) -> Effort:
        """What was counted so far."""
        return Effort(**self.counts)

    @contextmanager
    def aside(self) -> Iterator[Callable[[], Effort]]:
        """Count what happens inside separately; the caller decides what becomes of it."""
        kept, live = self.counts, self.live
        self.counts, self.live = dict.fromkeys(kept, 0.0), 0.0
        inner = self.counts
        try:
            yield lambda: Effort(**inner)
        finally:
            self.counts, self.live = kept, live

    def take(self, effort: Effort) -> None:
        """Add an effort counted aside; memory of different parts is not alive at once."""
        for name in self.counts:
            if name == "memory":
                self.counts[name] = max(self.counts[name], self.live + effort.memory)
            else:
                self.counts[name] += getattr(effort, name)


class AbstractArray:
    """An array without numbers.

    Args:
        tally: where its operations count.
        shape: its shape.
        varies: whether it differs from point to point (graphs of one point).
        base: the array it is a view of.

    Attributes:
        size: numbers of memory it owns.
        kept: whether reverse mode needs it.
        fresh: whether it is a product that a sum may still take in.
    """

    __slots__ = ("base", "fresh", "kept", "shape", "size", "tally", "varies")
    base: AbstractArray | None
    dtype: Any = None
    device: Any = None

    def __init__(self, tally: Tally, shape: Shape, varies: bool, base: AbstractArray | None = None, owns: bool = False) -> None:
        self.tally, self.shape, self.varies = tally, shape, varies
        self.base = base if base is None or base.base is None else base.base
        self.kept = self.fresh = False
        self.size = 0.0
        if owns and tally.channels == 1:
            self.size = float(prod(shape) * (tally.executions if varies else 1))
            tally.hold(self.size)

    def __del__(self) -> None:
        if self.size:
            self.tally.live -= self.size

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def keep(self) -> None:
        """Reverse mode will need it."""
        owner = self.base or self
        if owner.size and not owner.kept:
            owner.kept = True
            self.tally.counts["saved"] += owner.size

    def view(self, shape: Sequence[int]) -> AbstractArray:
        """The same numbers in another shape, or some of them."""
        self.tally.add("views", prod(shape), self.varies)
        self.tally.start("windows")
        return AbstractArray(self.tally, tuple(shape), self.varies, self)

    def __getitem__(self, key: Any) -> AbstractArray:
        return self.view(_indexed(self.shape, key if isinstance(key, tuple) else (key,)))

    def _with(self, other: Any, multiplies: bool = False) -> AbstractArray:
        tally, number = self.tally, not isinstance(other, AbstractArray)
        if not tally.execution.fuses:
            return elementwise(tally, (self, other), "elements", multiplies)
        if multiplies and number and self.fresh:
            return self
        if not multiplies and not number and (self.fresh or other.fresh):
            return AbstractArray(tally, broadcast(self.shape, other.shape), self.varies or other.varies, owns=True)
        out = elementwise(tally, (self, other), "elements", multiplies)
        out.fresh = multiplies
        return out

    def __add__(self, other: Any) -> AbstractArray:
        return self._with(other)

    def __mul__(self, other: Any) -> AbstractArray:
        return self._with(other, True)

    __radd__ = __sub__ = __rsub__ = __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __add__
    __eq__ = __ne__ = __add__  # type: ignore[assignment]
    __rmul__ = __truediv__ = __rtruediv__ = __mul__
    __hash__ = None  # type: ignore[assignment]

    def __pow__(self, other: Any) -> AbstractArray:
        return elementwise(self.tally, (self, other), "functions", True)

    def __neg__(self) -> AbstractArray:
        return elementwise(self.tally, (self,), "elements")

    def __matmul__(self, other: AbstractArray) -> AbstractArray:
        left, right = self.shape, other.shape
        lead = broadcast(left[:-2], right[:-2])
        rows = left[-2:-1]
        columns = right[-1:] if len(right) > 1 else ()
        return multiply_matrices(self, other, (*lead, *rows, *columns), prod(lead) * prod(rows) * prod(right[-2:]))

    def __rmatmul__(self, other: Any) -> AbstractArray:
        return AbstractArray(self.tally, tuple(np.shape(other)), False) @ self


def _indexed(shape: Shape, key: tuple[Any, ...]) -> Shape:
    used = sum(k is not None and k is not Ellipsis for k in key)
    out: list[int] = []
    axis = 0
    for k in key:
        if k is None:
            out.append(1)
        elif k is Ellipsis:
            count = len(shape) - used
            out += shape[axis : axis + count]
            axis += count
        else:
            if isinstance(k, slice):
                out.append(len(range(*k.indices(shape[axis]))))
            axis += 1
    return (*out, *shape[axis:])


def broadcast(*shapes: Shape) -> Shape:
    """The common shape."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    return tuple(np.broadcast_shapes(*shapes))


def elementwise(tally: Tally, operands: Sequence[Any], kind: str, multiplies: bool = False) -> AbstractArray:
    """One elementwise operation with broadcasting."""
    arrays = [o for o in operands if isinstance(o, AbstractArray)]
    shape = broadcast(*(g.shape for g in arrays))
    varies = any(g.varies for g in arrays)
    out = AbstractArray(tally, shape, varies, owns=True)
    tally.add(kind, prod(shape), varies)
    tally.start("steps")
    if multiplies and any(g.varies and g.shape != shape for g in arrays):
        tally.add("spreads", prod(shape), varies)
    if kind == "functions":
        out.keep()
    elif multiplies and len(arrays) > 1:
        for g in arrays:
            g.keep()
    return out


def multiply_matrices(a: AbstractArray, b: AbstractArray, shape: Shape, products: float) -> AbstractArray:
    """One matrix product."""
    tally = a.tally
    varies = a.varies or b.varies
    tally.add("products", products, varies)
    for g in (a, b):
        tally.add("traffic", prod(g.shape), g.varies)
        g.keep()
    tally.add("traffic", prod(shape), varies)
    tally.start("calls")
    return AbstractArray(tally, shape, varies, owns=True)


class _Linalg:
    """Matrix functions: a factorisation counts as products."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def diagonal(self, a: AbstractArray) -> AbstractArray:
        return a.view(a.shape[:-1])

    def trace(self, a: AbstractArray) -> AbstractArray:
        return elementwise(self._tally, (a.view(a.shape[:-2]),), "elements")

    def solve(self, a: AbstractArray, b: AbstractArray) -> AbstractArray:
        return multiply_matrices(a, b, b.shape, prod(b.shape) * a.shape[-1] + prod(a.shape) * a.shape[-1] / 3)

    def cholesky(self, a: AbstractArray) -> AbstractArray:
        return multiply_matrices(a, a, a.shape, prod(a.shape) * a.shape[-1] / 6)

    def inv(self, a: AbstractArray) -> AbstractArray:
        return self.solve(a, a)

    def det(self, a: AbstractArray) -> AbstractArray:
        return self.solve(a, a).view(a.shape[:-2])

    def slogdet(self, a: AbstractArray) -> tuple[AbstractArray, AbstractArray]:
        return self.det(a), self.det(a)


class CountingNamespace:
    """The part of the array API that methods use, on abstract arrays. Names it lacks are taken for elementwise functions."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.linalg = _Linalg(tally)
        self.finfo = lambda _: np.finfo(np.float64)
        self.multiply = lambda a, b: a * b
        self.matmul = lambda a, b: a @ b
        self.add = self.subtract = lambda a, b: a + b
        self.where = self.maximum = self.minimum = lambda *a: elementwise(tally, a, "elements")
        self.abs = self.sign = lambda a: elementwise(tally, (a,), "elements")
        self.max = self.min = self.prod = self.sum

    def __getattr__(self, name: str) -> Callable[..., AbstractArray]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *a, **_: elementwise(self._tally, a, "functions")

    def sum(self, a: AbstractArray, axis: Any = None, keepdims: bool = False) -> AbstractArray:
        axes = range(a.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        gone = {k % a.ndim for k in axes}
        shape = tuple(1 if k in gone else s for k, s in enumerate(a.shape) if keepdims or k not in gone)
        self._tally.add("reductions", prod(a.shape), a.varies)
        self._tally.start("steps")
        return AbstractArray(self._tally, shape, a.varies, owns=True)

    def reshape(self, a: AbstractArray, shape: Sequence[int]) -> AbstractArray:
        known = prod(s for s in shape if s != -1)
        return a.view(tuple(prod(a.shape) // max(known, 1) if s == -1 else s for s in shape))

    def broadcast_to(self, a: AbstractArray, shape: Sequence[int]) -> AbstractArray:
        return AbstractArray(self._tally, tuple(shape), a.varies, a)

    def permute_dims(self, a: AbstractArray, axes: Sequence[int]) -> AbstractArray:
        return a.view([a.shape[k] for k in axes])

    def matrix_transpose(self, a: AbstractArray) -> AbstractArray:
        return a.view((*a.shape[:-2], a.shape[-1], a.shape[-2]))

    def moveaxis(self, a: AbstractArray, source: int, target: int) -> AbstractArray:
        rest = list(a.shape)
        size = rest.pop(source)
        rest.insert(target % a.ndim, size)
        return a.view(rest)

    def squeeze(self, a: AbstractArray, axis: Any) -> AbstractArray:
        gone = {k % a.ndim for k in ((axis,) if isinstance(axis, int) else axis)}
        return a.view([s for k, s in enumerate(a.shape) if k not in gone])

    def stack(self, arrays: Sequence[AbstractArray], axis: int = 0) -> AbstractArray:
        shape = list(arrays[0].shape)
        shape.insert(axis % (len(shape) + 1), len(arrays))
        return self._joined(arrays, tuple(shape))

    def concat(self, arrays: Sequence[AbstractArray], axis: int = 0) -> AbstractArray:
        shape = list(arrays[0].shape)
        shape[axis] = sum(a.shape[axis] for a in arrays)
        return self._joined(arrays, tuple(shape))

    def _joined(self, arrays: Sequence[AbstractArray], shape: Shape) -> AbstractArray:
        varies = any(a.varies for a in arrays)
        self._tally.add("moves", prod(shape), varies)
        self._tally.start("steps")
        return AbstractArray(self._tally, shape, varies, owns=True)

    def take_along_axis(self, a: AbstractArray, order: AbstractArray, axis: int = -1) -> AbstractArray:
        return self._joined((a, order), a.shape)

    def take(self, a: AbstractArray, order: AbstractArray, axis: int) -> AbstractArray:
        shape = list(a.shape)
        shape[axis] = order.shape[0]
        return self._joined((a, order), tuple(shape))

    def zeros(self, shape: Any, **_: Any) -> AbstractArray:
        return AbstractArray(self._tally, tuple(shape), False)

    def eye(self, n: int, **_: Any) -> AbstractArray:
        return AbstractArray(self._tally, (n, n), False)

    def zeros_like(self, a: AbstractArray, *_: Any, **__: Any) -> AbstractArray:
        # Full size where points are an axis, so that "thin" stays visible; no work: zeros are constants of the program.
        return AbstractArray(self._tally, a.shape, False)

    ones_like = full_like = zeros_like
