"""The array API, recording: every function of the standard that acts on a tracer becomes a node; see `opdsl.backends.array_api.tracer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from opdsl.backends.array_api.linalg import Linalg
from opdsl.backends.array_api.operands import Guarded, axes_of, guarded, moves, refused, shape_of
from opdsl.jets import composite_rules
from opdsl.jets.elementary import power
from opdsl.jets.graph import Bilinear, Composed, Constant, Elementwise, Linear, PiecewiseLinear, Rule
from opdsl.jets.operations import OPERATIONS


class Namespace:
    """The array API, recording. Anything that does not touch a tracer goes to the framework's own namespace."""

    def __init__(self, recorder: Any) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        # dtypes, constants, creation functions: those of the framework.
        found = getattr(self._recorder.xp, name)
        if isinstance(found, ModuleType):
            return Guarded(name, found)
        if not callable(found) or isinstance(found, type):
            return found
        return guarded(name, found)

    @property
    def linalg(self) -> Linalg:
        """Matrix functions."""
        return Linalg(self)

    def _record(self, name: str, rule: Rule, apply: Callable[..., Any], *operands: Any, **flags: bool) -> Any:
        if not any(moves(o) for o in operands):
            return apply(*operands)
        return self._recorder.record(name, rule, apply, operands, **flags)

    # ------------------------------------------------------------------------------------------------- two operands

    def add(self, a: Any, b: Any) -> Any:
        return self._record("add", _rule("add"), lambda x, y: x + y, a, b, flexible=True)

    def subtract(self, a: Any, b: Any) -> Any:
        return self._record("subtract", _rule("subtract"), lambda x, y: x - y, a, b, flexible=True)

    def negative(self, a: Any) -> Any:
        return self._record("negative", _rule("negative"), lambda x: -x, a, flexible=True)

    def positive(self, a: Any) -> Any:
        return a

    def multiply(self, a: Any, b: Any) -> Any:
        return self._record("multiply", _rule("multiply"), lambda x, y: x * y, a, b, flexible=True)

    def divide(self, a: Any, b: Any) -> Any:
        return self._record("divide", _rule("divide"), lambda x, y: x / y, a, b, flexible=True)

    def pow(self, a: Any, b: Any) -> Any:
        if isinstance(b, int | float):
            return self._record("pow", Elementwise(power(b)), lambda x: x**b, a, flexible=True)
        return self._record("pow", Composed(composite_rules.power_of), lambda x, y: x**y, a, b, flexible=True)

    def matmul(self, a: Any, b: Any) -> Any:
        return self._record("matmul", Bilinear(), lambda x, y: x @ y, a, b, flexible=shape_of(a)[:-2] == () == shape_of(b)[:-2])

    def tensordot(self, a: Any, b: Any, *, axes: Any = 2) -> Any:
        xp = self._recorder.xp
        return self._record("tensordot", Bilinear(), lambda x, y: xp.tensordot(x, y, axes=axes), a, b)

    def vecdot(self, a: Any, b: Any, *, axis: int = -1) -> Any:
        return self.sum(self.multiply(a, b), axis=axis)

    def atan2(self, a: Any, b: Any) -> Any:
        return self._record("atan2", _rule("atan2"), self._recorder.xp.atan2, a, b)

    def hypot(self, a: Any, b: Any) -> Any:
        return self._record("hypot", _rule("hypot"), self._recorder.xp.hypot, a, b)

    def logaddexp(self, a: Any, b: Any) -> Any:
        return self._record("logaddexp", _rule("logaddexp"), self._recorder.xp.logaddexp, a, b)

    def copysign(self, a: Any, b: Any) -> Any:
        return self._record("copysign", _rule("copysign"), self._recorder.xp.copysign, *self._wide(a, b))

    def remainder(self, a: Any, b: Any) -> Any:
        whole = self._record("floor_divide", Constant(), self._recorder.xp.floor_divide, a, b)
        return self.subtract(a, self.multiply(whole, b))

    def maximum(self, a: Any, b: Any) -> Any:
        xp = self._recorder.xp
        return self._record("maximum", _rule("maximum"), xp.maximum, *self._wide(a, b))

    def minimum(self, a: Any, b: Any) -> Any:
        xp = self._recorder.xp
        return self._record("minimum", _rule("minimum"), xp.minimum, *self._wide(a, b))

    def clip(self, a: Any, min: Any = None, max: Any = None) -> Any:
        xp = self._recorder.xp
        low, high = (-xp.inf if min is None else min), (xp.inf if max is None else max)
        operands = (self._wide(low, a)[0], a, self._wide(high, a)[0])
        return self._record("clip", _rule("clip"), lambda l, h, u: xp.clip(h, l, u), *operands)

    def where(self, condition: Any, a: Any, b: Any) -> Any:
        xp = self._recorder.xp
        a, b = self._wide(a, b)
        return self._record(
            "where", _rule("where"), lambda m, x, y: xp.where(m, x, y), condition, a, b
        )

    def _wide(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Python numbers beside arrays become arrays, for functions that take arrays only."""
        xp = self._recorder.xp
        like = a if hasattr(a, "dtype") else b
        dtype = getattr(like, "dtype", None)
        return tuple(xp.asarray(v, dtype=dtype) if isinstance(v, int | float) else v for v in (a, b))  # type: ignore[return-value]

    # ---------------------------------------------------------------------------------------------------- reductions

    def sum(self, a: Any, axis: Any = None, keepdims: bool = False, **options: Any) -> Any:
        xp = self._recorder.xp
        return self._record("sum", Linear(), lambda h: xp.sum(h, axis=axis, keepdims=keepdims, **options), a)

    def mean(self, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        xp = self._recorder.xp
        return self._record("mean", Linear(), lambda h: xp.mean(h, axis=axis, keepdims=keepdims), a)

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
        rule = PiecewiseLinear(composite_rules.extremum_tangent(axes_of(a, axis), keepdims, name == "max"))
        return self._record(name, rule, lambda h: found(h, axis=axis, keepdims=keepdims), a)

    def prod(self, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        xp, axes = self._recorder.xp, axes_of(a, axis)

        def build(ops: Any, h: Any) -> Any:
            for k in sorted(axes, reverse=True):
                h = composite_rules.product_over(ops, h, k, keepdims)
            return h

        return self._record("prod", Composed(build), lambda h: xp.prod(h, axis=axis, keepdims=keepdims), a)

    def cumulative_sum(self, a: Any, axis: Any = None, **options: Any) -> Any:
        xp = self._recorder.xp
        return self._record("cumulative_sum", Linear(), lambda h: xp.cumulative_sum(h, axis=axis, **options), a)

    def cumulative_prod(self, a: Any, axis: Any = None, include_initial: bool = False) -> Any:
        xp, where = self._recorder.xp, axes_of(a, axis)[0]

        def build(ops: Any, h: Any) -> Any:
            return composite_rules.cumulative(ops, lambda o, p, q: o.mul(p, q), h, where)

        found = self._record("cumulative_prod", Composed(build), lambda h: xp.cumulative_prod(h, axis=axis), a)
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

    def searchsorted(self, x1: Any, x2: Any, **options: Any) -> Any:
        xp = self._recorder.xp
        return self._record("searchsorted", Constant(), lambda a, b: xp.searchsorted(a, b, **options), x1, x2)

    def sort(self, a: Any, axis: int = -1, descending: bool = False, stable: bool = True) -> Any:
        xp, where = self._recorder.xp, axes_of(a, axis)[0]
        tangent = composite_rules.sort_tangent(where, descending, stable)
        return self._record(
            "sort", PiecewiseLinear(tangent), lambda h: xp.sort(h, axis=where, descending=descending, stable=stable), a
        )

    # -------------------------------------------------------------------------------------------------------- shapes

    def concat(self, arrays: Sequence[Any], axis: Any = 0) -> Any:
        xp = self._recorder.xp
        return self._record("concat", Linear(), lambda *h: xp.concat(list(h), axis=axis), *arrays)

    def stack(self, arrays: Sequence[Any], axis: int = 0) -> Any:
        xp = self._recorder.xp
        return self._record("stack", Linear(), lambda *h: xp.stack(list(h), axis=axis), *arrays)

    def take(self, a: Any, indices: Any, axis: Any = None) -> Any:
        xp = self._recorder.xp
        return self._record("take", Linear((0,)), lambda h, i: xp.take(h, i, axis=axis), a, indices)

    def take_along_axis(self, a: Any, indices: Any, axis: int = -1) -> Any:
        xp = self._recorder.xp
        return self._record("gather", Linear((0,)), lambda h, i: xp.take_along_axis(h, i, axis=axis), a, indices)

    def broadcast_arrays(self, *arrays: Any) -> tuple[Any, ...]:
        shape = np.broadcast_shapes(*(shape_of(a) for a in arrays))
        return tuple(self.broadcast_to(a, shape) for a in arrays)

    def unstack(self, a: Any, axis: int = 0) -> tuple[Any, ...]:
        where = axes_of(a, axis)[0]
        return tuple(a[(*[slice(None)] * where, i, ...)] for i in range(shape_of(a)[where]))

    def matrix_transpose(self, a: Any) -> Any:
        return self._record("matrix_transpose", Linear(), self._recorder.xp.matrix_transpose, a)

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


def _rule(name: str) -> Rule:
    rule = OPERATIONS[name].rule
    assert rule is not None
    return rule


def _define(name: str, rule: Rule, *, shape: bool = False, constant: bool = False) -> None:
    """A namespace function of one array (and static arguments)."""

    def function(self: Namespace, a: Any, *args: Any, **options: Any) -> Any:
        found = getattr(self._recorder.xp, name)
        return self._record(name, rule, lambda h: found(h, *args, **options), a, flexible=not shape)

    function.__name__ = name
    setattr(Namespace, name, function)


for _n in "exp expm1 log log1p log2 log10 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sqrt square reciprocal".split():
    _define(_n, _rule(_n))
for _n in "reshape permute_dims expand_dims squeeze flip roll broadcast_to moveaxis tile repeat tril triu".split():
    _define(_n, _rule(_n), shape=True)
for _n in ("sign floor ceil round trunc isnan isinf isfinite zeros_like ones_like full_like argmax argmin argsort logical_not any all "
           "signbit count_nonzero").split():  # fmt: skip
    _define(_n, _rule(_n))
_define("abs", _rule("abs"))


def _comparison(name: str) -> None:
    def function(self: Namespace, a: Any, b: Any) -> Any:
        found = {"less": lambda x, y: x < y, "less_equal": lambda x, y: x <= y, "greater": lambda x, y: x > y,
                 "greater_equal": lambda x, y: x >= y, "equal": lambda x, y: x == y,
                 "not_equal": lambda x, y: x != y}.get(name) or getattr(self._recorder.xp, name)  # fmt: skip
        return self._record(name, _rule(name), found, a, b)

    setattr(Namespace, name, function)


for _n in "less less_equal greater greater_equal equal not_equal logical_and logical_or logical_xor floor_divide".split():
    _comparison(_n)


def _bitwise(name: str, logical: str) -> None:
    """Of truth values, which are what can depend on the points."""

    def function(self: Namespace, *operands: Any) -> Any:
        if not all(isinstance(o, bool) or self._recorder.xp.isdtype(o.dtype, "bool") for o in operands):
            raise refused(name)
        return getattr(self, logical)(*operands)

    setattr(Namespace, name, function)


for _n in "and or xor".split():
    _bitwise(f"bitwise_{_n}", f"logical_{_n}")
_bitwise("bitwise_invert", "logical_not")


# ------------------------------------------------------------------------------- names of NumPy that the standard lacks


def _dot(self: Namespace, a: Any, b: Any) -> Any:
    return self.multiply(a, b) if not shape_of(a) or not shape_of(b) else self.tensordot(a, b, axes=(-1, max(-2, -b.ndim)))


def _inner(self: Namespace, a: Any, b: Any) -> Any:
    return self.multiply(a, b) if not shape_of(a) or not shape_of(b) else self.tensordot(a, b, axes=(-1, -1))


def _swapaxes(self: Namespace, a: Any, axis1: int, axis2: int) -> Any:
    axes = list(range(len(shape_of(a))))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return self.permute_dims(a, tuple(axes))


def _einsum(self: Namespace, subscripts: str, *operands: Any) -> Any:
    if len(operands) > 2:
        raise refused("einsum of more than two arrays")
    rule = Linear() if len(operands) == 1 else Bilinear()
    return self._record("einsum", rule, lambda *h: self._recorder.xp.einsum(subscripts, *h), *operands)


NUMPY: dict[str, Callable[..., Any]] = {"dot": _dot, "inner": _inner, "swapaxes": _swapaxes, "einsum": _einsum}
"""What NumPy's functions of these names do on tracers; the namespace itself has only those of the standard."""
