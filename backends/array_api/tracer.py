"""A tracer for functions written against the array API, or with NumPy itself.

The function is run once with a `Tracer` in place of the points. Every operation is recorded as a graph node and evaluated on
real arrays at the same time, so shapes and dtypes are those of the framework; no automatic differentiation is involved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Never

from opdsl.backends.array_api.linalg import Linalg, axes_of
from opdsl.errors import CaptureError
from opdsl.jets import composite_rules
from opdsl.jets.elementary import power
from opdsl.jets.graph import (
    OTHER,
    Bilinear,
    Composed,
    Constant,
    Elementwise,
    Graph,
    Linear,
    Node,
    PiecewiseLinear,
    Rule,
    Sum,
    Value,
)
from opdsl.jets.operations import OPERATIONS

Array = Any


class Recorder:
    """Collects the nodes of one run."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: list[int] = []
        self.arrays: list[Array] = []
        self._known: dict[int, int] = {}

    def new(self, array: Array) -> int:
        """Number a value."""
        self.values.append(Value(tuple(array.shape), array.dtype))
        return len(self.values) - 1

    def constant(self, array: Array) -> int:
        """Number an array that does not depend on the points, once."""
        if id(array) not in self._known:
            self._known[id(array)] = self.new(array)
            self.constants.append(self._known[id(array)])
            self.arrays.append(array)
        return self._known[id(array)]

    def record(
        self,
        primitive: str,
        rule: Rule,
        apply: Callable[..., Any],
        operands: Sequence[Any],
        *,
        several: bool = False,
        flexible: bool = False,
    ) -> Any:
        """Evaluate ``apply`` and note it as a node; operands are tracers, arrays or Python numbers.

        Python numbers stay in the closure, so that a node's operands are arrays only.
        """
        slots: list[Any] = []
        numbers: list[int] = []
        arrays: list[Array] = []
        for operand in operands:
            if isinstance(operand, Tracer):
                numbers.append(operand.number)
                arrays.append(operand.value)
                slots.append(None)
            elif hasattr(operand, "shape") and hasattr(operand, "dtype"):
                numbers.append(self.constant(operand))
                arrays.append(operand)
                slots.append(None)
            else:
                slots.append(operand)

        def run(*given: Array) -> Any:
            rest = iter(given)
            return apply(*(next(rest) if s is None else s for s in slots))

        if len(numbers) == len(slots):
            run = apply
        elif isinstance(rule, Sum):
            rule = Sum(tuple(s for s, slot in zip(rule.signs, slots, strict=True) if slot is None))
        elif isinstance(rule, Bilinear):
            rule = Linear()
        elif isinstance(rule, Composed | PiecewiseLinear):
            rule = _filled(rule, slots)
        result = run(*arrays)
        outputs = tuple(self.new(r) for r in (result if several else (result,)))
        operation = OPERATIONS.get(primitive, OTHER)
        self.nodes.append(Node(primitive, rule, tuple(numbers), outputs, run, several, flexible, operation))
        made = tuple(Tracer(self, n, r) for n, r in zip(outputs, result if several else (result,), strict=True))
        return made if several else made[0]

    def graph(self, x: int, output: int) -> Graph:
        """The finished graph."""
        return Graph(tuple(self.values), x, tuple(self.constants), tuple(self.nodes), (output,))


def _filled(rule: Composed | PiecewiseLinear, slots: Sequence[Any]) -> Rule:
    """Put the Python numbers among the operands back in their places."""

    def fill(given: Sequence[Any], numbers: bool) -> list[Any]:
        rest = iter(given)
        return [next(rest) if s is None else (s if numbers else None) for s in slots]

    if isinstance(rule, Composed):
        build = rule.build
        return Composed(lambda ops, *given: build(ops, *fill(given, True)))
    tangent = rule.tangent
    return PiecewiseLinear(lambda xp, primals, tangents: tangent(xp, fill(primals, True), fill(tangents, False)))


class Tracer:
    """Stands for an array that depends on the points."""

    # NumPy arrays on the left (``W @ x``) and NumPy functions (``np.tanh(x)``) come to `__array_ufunc__`.
    __slots__ = ("number", "recorder", "value")

    def __init__(self, recorder: Recorder, number: int, value: Array) -> None:
        self.recorder, self.number, self.value = recorder, number, value

    shape = property(lambda self: tuple(self.value.shape))
    ndim = property(lambda self: len(self.value.shape))
    dtype = property(lambda self: self.value.dtype)
    device = property(lambda self: getattr(self.value, "device", None))
    size = property(lambda self: self.value.size)
    T = property(lambda self: self._space.permute_dims(self, tuple(reversed(range(self.ndim)))))
    mT = property(lambda self: self._space.matrix_transpose(self))

    @property
    def _space(self) -> Namespace:
        return Namespace(self.recorder)

    def __array_namespace__(self, *, api_version: str | None = None) -> Namespace:
        return self._space

    def __len__(self) -> int:
        return int(self.value.shape[0])

    def __repr__(self) -> str:
        return f"Tracer(shape={self.shape}, dtype={self.dtype})"

    def __bool__(self) -> Never:
        raise CaptureError(
            "the function branches on values of the points. Use xp.where(condition, a, b), so that every point takes its branch."
        )

    def __array__(self, *_: Any, **__: Any) -> Never:
        raise CaptureError("the function turns the points into a plain NumPy array. Use the operations of its array namespace.")

    __float__ = __int__ = __index__ = __bool__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name = _UFUNC_NAMES.get(ufunc.__name__, ufunc.__name__)
        if method != "__call__" or options or name.startswith("_") or not hasattr(Namespace, name):
            raise CaptureError(f"numpy.{ufunc.__name__} ({method}) has no rule on the NumPy backend. {_LIST}")
        return getattr(self._space, name)(*inputs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = _FUNCTION_NAMES.get(func.__name__, func.__name__)
        if "linalg" in func.__module__:
            return getattr(self._space.linalg, name)(*args, **kwargs)
        if name.startswith("_") or not hasattr(Namespace, name):
            raise CaptureError(f"numpy.{func.__name__} has no rule on the NumPy backend. {_LIST}")
        return getattr(self._space, name)(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, Tracer) for k in keys):
            raise CaptureError("indexing with an array that depends on the points is not supported here; use xp.where.")
        return self.recorder.record("getitem", Linear(), lambda h: h[key], (self,))

    def reshape(self, *shape: Any) -> Any:
        return self._space.reshape(self, shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._space.sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._space.mean(self, axis=axis, keepdims=keepdims)

    def __neg__(self) -> Any:
        return self._space.negative(self)

    def __pos__(self) -> Tracer:
        return self

    def __abs__(self) -> Any:
        return self._space.abs(self)


_LIST = "Write the function with the operations of the array API standard (x.__array_namespace__())."
_UFUNC_NAMES = {"absolute": "abs", "power": "pow", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh",
                "arccosh": "acosh", "arctanh": "atanh", "arctan2": "atan2", "true_divide": "divide"}  # fmt: skip
_FUNCTION_NAMES = {"concatenate": "concat", "transpose": "permute_dims", "amax": "max", "amin": "min", "cumsum": "cumulative_sum"}


def _binary(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Tracer, other: Any) -> Any:
        return getattr(self._space, name)(self, other)

    def backward(self: Tracer, other: Any) -> Any:
        return getattr(self._space, name)(other, self)

    return forward, backward


for _symbol, _name in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "matmul": "matmul",
                       "mod": "remainder"}.items():  # fmt: skip
    _f, _b = _binary(_name)
    setattr(Tracer, f"__{_symbol}__", _f)
    setattr(Tracer, f"__r{_symbol}__", _b)
for _symbol, _name in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
                       "ne": "not_equal"}.items():  # fmt: skip
    setattr(Tracer, f"__{_symbol}__", _binary(_name)[0])


class Namespace:
    """The array API, recording. Anything that does not touch a tracer goes to the framework's own namespace."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        # dtypes, constants, creation functions: those of the framework.
        found = getattr(self._recorder.xp, name)
        if not callable(found) or isinstance(found, type):
            return found

        def guarded(*args: Any, **options: Any) -> Any:
            if any(isinstance(a, Tracer) for a in args):
                raise CaptureError(f"{name} has no rule on the NumPy backend. {_LIST}")
            return found(*args, **options)

        return guarded

    @property
    def linalg(self) -> Linalg:
        """Matrix functions."""
        return Linalg(self)

    def _record(self, name: str, rule: Rule, apply: Callable[..., Any], *operands: Any, **flags: bool) -> Any:
        if not any(isinstance(o, Tracer) for o in operands):
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
        return self._record("matmul", Bilinear(), lambda x, y: x @ y, a, b, flexible=_shape(a)[:-2] == () == _shape(b)[:-2])

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
        return tuple(xp.asarray(v, dtype=like.dtype) if isinstance(v, int | float) else v for v in (a, b))  # type: ignore[return-value]

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

    def cumulative_sum(self, a: Any, axis: Any = None) -> Any:
        xp = self._recorder.xp
        return self._record("cumulative_sum", Linear(), lambda h: xp.cumulative_sum(h, axis=axis), a)

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

    def unstack(self, a: Any, axis: int = 0) -> tuple[Any, ...]:
        where = axes_of(a, axis)[0]
        return tuple(a[(*[slice(None)] * where, i, ...)] for i in range(_shape(a)[where]))

    def matrix_transpose(self, a: Any) -> Any:
        return self._record("matrix_transpose", Linear(), self._recorder.xp.matrix_transpose, a)

    def asarray(self, a: Any, **options: Any) -> Any:
        if not isinstance(a, Tracer):
            return self._recorder.xp.asarray(a, **options)
        return self.astype(a, options["dtype"]) if options.get("dtype") not in (None, a.dtype) else a

    def astype(self, a: Any, dtype: Any, *, copy: bool = True) -> Any:
        xp = self._recorder.xp
        rule: Rule = Linear() if xp.isdtype(dtype, "real floating") else Constant()
        return self._record("astype", rule, lambda h: xp.astype(h, dtype), a)


def _shape(a: Any) -> tuple[int, ...]:
    return tuple(getattr(a, "shape", ()))


def _size(a: Any, axis: Any) -> int:
    count = 1
    for k in axes_of(a, axis):
        count *= _shape(a)[k]
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
for _n in "reshape permute_dims expand_dims squeeze flip roll broadcast_to take moveaxis tile repeat".split():
    _define(_n, _rule(_n), shape=True)
for _n in ("sign floor ceil round trunc isnan isinf isfinite zeros_like ones_like full_like argmax argmin argsort logical_not any all "
           "signbit").split():  # fmt: skip
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
