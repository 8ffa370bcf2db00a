"""The array API, recording: every function of the standard that acts on a tracer becomes a node; see `opdsl.backends.array_api.tracer`.

What an operation of the vocabulary says by itself needs no method here: any function of the framework with such a name is recorded.
The methods are those whose rule depends on their arguments, and those that are written with others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from opdsl.backends.array_api.channelwise import RULES
from opdsl.backends.array_api.linalg import RecordingLinalg
from opdsl.backends.array_api.operands import Guarded, axes_of, guarded, moves, refused, shape_of
from opdsl.jets.graph import OTHER, Bilinear, Constant, Elementwise, Linear, Operation, Rule
from opdsl.jets.operations import OPERATIONS

_OPERATORS = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv, "less": operator.lt,
    "less_equal": operator.le, "greater": operator.gt, "greater_equal": operator.ge, "equal": operator.eq, "not_equal": operator.ne,
}  # fmt: skip
"""What takes Python numbers beside arrays in every edition of the standard; functions do in the latest only."""


class RecordingNamespace:
    """The array API, recording. Anything that does not touch a tracer goes to the framework's own namespace."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._recorder.xp, name)
        if isinstance(found, ModuleType):
            return Guarded(name, found)
        # dtypes and constants: those of the framework.
        if not callable(found) or isinstance(found, type):
            return found
        known = OPERATIONS.get(name, OTHER)
        rule = known.rule
        # Of linear maps what can act on all channels at once; products of other shapes than entry by entry have methods.
        if rule is None or (isinstance(rule, Linear) and name not in RULES) or (isinstance(rule, Bilinear) and name not in _OPERATORS):
            return guarded(name, found)
        return partial(self.operation, known, found)

    @property
    def linalg(self) -> RecordingLinalg:
        """Matrix functions."""
        return RecordingLinalg(self)

    def operation(self, known: Operation, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        """An operation that says by itself how it meets jets, by this function of the framework.

        Linear maps and functions of one number act on their first argument; what follows it are shapes, axes, shifts.
        """
        rule = known.rule
        assert rule is not None
        if isinstance(rule, Linear | Elementwise):
            static, given = given[1:], given[:1]
            flexible = isinstance(rule, Elementwise)
            return self._record(known.name, rule, lambda h: function(h, *static, **options), *given, flexible=flexible)
        if known.name in _OPERATORS and any(isinstance(o, int | float) for o in given):
            function = _OPERATORS[known.name]
        elif len(given) > 1 and not isinstance(rule, Constant | Bilinear):
            given = self._wide(*given)
        flexible = len(given) == 1 or known.name in _FLEXIBLE
        apply = partial(function, **options) if options else function
        return self._record(known.name, rule, apply, *given, flexible=flexible)

    def _record(self, name: str, rule: Rule, apply: Callable[..., Any], *operands: Any, **flags: bool) -> Any:
        if not any(moves(o) for o in operands):
            return apply(*operands)
        return self._recorder.record(name, rule, apply, operands, **flags)

    def _wide(self, *operands: Any) -> tuple[Any, ...]:
        """Python numbers beside arrays become arrays, for functions that take arrays only."""
        dtype = next((o.dtype for o in operands if hasattr(o, "dtype")), None)
        return tuple(self._recorder.xp.asarray(v, dtype=dtype) if isinstance(v, int | float) else v for v in operands)

    # ------------------------------------------------------------------------------------------------- two operands

    def positive(self, a: Any) -> Any:
        return a

    def pow(self, a: Any, b: Any) -> Any:
        if isinstance(b, int | float):
            return self._record("pow", OPERATIONS["pow"].given(exponent=b), lambda x: x**b, a, flexible=True)
        return self._record("pow", OPERATIONS["pow"].given(), operator.pow, a, b, flexible=True)

    def matmul(self, a: Any, b: Any) -> Any:
        flexible = shape_of(a)[:-2] == () == shape_of(b)[:-2]
        return self._record("matmul", Bilinear(), self._recorder.xp.matmul, a, b, flexible=flexible)

    def tensordot(self, a: Any, b: Any, *, axes: Any = 2) -> Any:
        return self._record("tensordot", Bilinear(), partial(self._recorder.xp.tensordot, axes=axes), a, b)

    def vecdot(self, a: Any, b: Any, *, axis: int = -1) -> Any:
        return self.sum(self.multiply(a, b), axis=axis)

    def remainder(self, a: Any, b: Any) -> Any:
        rule = OPERATIONS["remainder"].given(rounding="floor")
        return self._record("remainder", rule, self._recorder.xp.remainder, *self._wide(a, b))

    def clip(self, a: Any, min: Any = None, max: Any = None) -> Any:
        xp = self._recorder.xp
        low, high = (-xp.inf if min is None else min), (xp.inf if max is None else max)
        operands = (self._wide(low, a)[0], a, self._wide(high, a)[0])
        return self._record("clip", OPERATIONS["clip"].given(), lambda l, h, u: xp.clip(h, l, u), *operands)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        return self._record("where", OPERATIONS["where"].given(), self._recorder.xp.where, condition, *self._wide(a, b))

    # ---------------------------------------------------------------------------------------------------- reductions

    def var(self, a: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
        centred = self.subtract(a, self.mean(a, axis=axis, keepdims=True))
        total = self.sum(self.multiply(centred, centred), axis=axis, keepdims=keepdims)
        count = _size(a, axis) - correction
        return self.divide(total, float(count))

    def std(self, a: Any, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Any:
        return self.sqrt(self.var(a, axis=axis, correction=correction, keepdims=keepdims))

    def max(self, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._extremum("max", a, axis, keepdims)

    def min(self, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return self._extremum("min", a, axis, keepdims)

    def _extremum(self, name: str, a: Any, axis: Any, keepdims: bool) -> Any:
        found = getattr(self._recorder.xp, name)
        rule = OPERATIONS[name].given(axes=axes_of(a, axis), keepdims=keepdims)
        return self._record(name, rule, lambda h: found(h, axis=axis, keepdims=keepdims), a)

    def prod(self, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        rule, found = OPERATIONS["prod"].given(axes=axes_of(a, axis), keepdims=keepdims), self._recorder.xp.prod
        return self._record("prod", rule, lambda h: found(h, axis=axis, keepdims=keepdims), a)

    def cumulative_prod(self, a: Any, axis: Any = None, include_initial: bool = False) -> Any:
        xp, where = self._recorder.xp, axes_of(a, axis)[0]
        rule = OPERATIONS["cumulative_prod"].given(axis=where)
        found = self._record("cumulative_prod", rule, lambda h: xp.cumulative_prod(h, axis=axis), a)
        if not include_initial:
            return found
        return self.concat([self.ones_like(found[(*[slice(None)] * where, slice(0, 1), ...)]), found], axis=where)

    def diff(self, a: Any, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Any:
        where = axes_of(a, axis)[0]
        ends = [part for part in (prepend, a, append) if part is not None]
        a = self.concat(ends, axis=where) if len(ends) > 1 else a
        lead = [slice(None)] * where
        for _ in range(n):
            a = self.subtract(a[(*lead, slice(1, None), ...)], a[(*lead, slice(None, -1), ...)])
        return a

    def sort(self, a: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
        xp, where = self._recorder.xp, axes_of(a, axis)[0]
        rule = OPERATIONS["sort"].given(axis=where, descending=descending, stable=stable)
        return self._record("sort", rule, lambda h: xp.sort(h, axis=where, descending=descending, stable=stable), a)

    # -------------------------------------------------------------------------------------------------------- shapes

    def concat(self, arrays: Sequence[Any], axis: Any = 0) -> Any:
        return self._record("concat", Linear(), _listed(self._recorder.xp.concat, axis), *arrays)

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        return self._record("stack", Linear(), _listed(self._recorder.xp.stack, axis), *arrays)

    def take(self, a: Any, indices: Any, axis: Any = None) -> Any:
        return self._record("take", Linear((0,)), partial(self._recorder.xp.take, axis=axis), a, indices)

    def take_along_axis(self, a: Any, indices: Any, axis: int = -1) -> Any:
        return self._record("gather", Linear((0,)), partial(self._recorder.xp.take_along_axis, axis=axis), a, indices)

    def broadcast_arrays(self, *arrays: Any) -> tuple[Any, ...]:
        shape = np.broadcast_shapes(*(shape_of(a) for a in arrays))
        return tuple(self.broadcast_to(a, shape) for a in arrays)

    def unstack(self, a: Any, axis: int = 0) -> tuple[Any, ...]:
        where = axes_of(a, axis)[0]
        return tuple(a[(*[slice(None)] * where, i, ...)] for i in range(shape_of(a)[where]))

    def asarray(self, a: Any, **options: Any) -> Any:
        if not moves(a):
            return self._recorder.xp.asarray(a, **options)
        return self.astype(a, options["dtype"]) if options.get("dtype") not in (None, a.dtype) else a

    def astype(self, a: Any, dtype: Any, *, copy: bool = True) -> Any:
        xp = self._recorder.xp
        rule: Rule = Linear() if xp.isdtype(dtype, "real floating") else Constant()
        return self._record("astype", rule, lambda h: xp.astype(h, dtype), a)


def _size(a: Any, axis: Any) -> int:
    count = 1
    for k in axes_of(a, axis):
        count *= shape_of(a)[k]
    return count


_FLEXIBLE = frozenset("add subtract multiply divide".split())
"""Of two operands, with broadcasting: a batch axis of length 1 passes."""


def _listed(function: Callable[..., Any], axis: Any) -> Callable[..., Any]:
    return lambda *arrays: function(list(arrays), axis=axis)


def _bitwise(name: str, logical: str) -> None:
    """Of truth values, which are what can depend on the points."""

    def function(self: RecordingNamespace, *operands: Any) -> Any:
        if not all(isinstance(o, bool) or self.isdtype(o.dtype, "bool") for o in operands):
            raise refused(name)
        return getattr(self, logical)(*operands)

    setattr(RecordingNamespace, name, function)


for _n in "and or xor".split():
    _bitwise(f"bitwise_{_n}", f"logical_{_n}")
_bitwise("bitwise_invert", "logical_not")


# ------------------------------------------------------------------------------- names of NumPy that the standard lacks


def _dot(self: RecordingNamespace, a: Any, b: Any) -> Any:
    return self.multiply(a, b) if not shape_of(a) or not shape_of(b) else self.tensordot(a, b, axes=(-1, max(-2, -b.ndim)))


def _inner(self: RecordingNamespace, a: Any, b: Any) -> Any:
    return self.multiply(a, b) if not shape_of(a) or not shape_of(b) else self.tensordot(a, b, axes=(-1, -1))


def _swapaxes(self: RecordingNamespace, a: Any, axis1: int, axis2: int) -> Any:
    axes = list(range(len(shape_of(a))))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return self.permute_dims(a, tuple(axes))


def _einsum(self: RecordingNamespace, subscripts: str, *operands: Any) -> Any:
    if len(operands) > 2:
        raise refused("einsum of more than two arrays")
    rule = Linear() if len(operands) == 1 else Bilinear()
    return self._record("einsum", rule, lambda *h: self._recorder.xp.einsum(subscripts, *h), *operands)


NUMPY: dict[str, Callable[..., Any]] = {"dot": _dot, "inner": _inner, "swapaxes": _swapaxes, "einsum": _einsum}
"""What NumPy's functions of these names do on tracers; the namespace itself has only those of the standard."""
