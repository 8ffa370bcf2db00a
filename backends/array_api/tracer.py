"""A tracer for functions written against the array API, or with NumPy itself.

The function is run once with a `Tracer` in place of the points. Every operation is recorded as a graph node and evaluated on
real arrays at the same time, so shapes and dtypes are those of the framework; no automatic differentiation is involved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Never

from opdsl.backends.array_api.namespace import NUMPY, RecordingNamespace
from opdsl.backends.array_api.operands import refused
from opdsl.errors import CaptureError
from opdsl.jets.graph import OTHER, Elementwise, Graph, Linear, Node, PiecewiseLinear, Rule, Value, arranged
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
        else:
            places = iter(range(len(numbers)))
            rule = arranged(rule, [next(places) if s is None else None for s in slots], slots)
        result = run(*arrays)
        outputs = tuple(self.new(r) for r in (result if several else (result,)))
        operation = OPERATIONS.get(primitive, OTHER)
        self.nodes.append(Node(primitive, rule, tuple(numbers), outputs, run, several, flexible, operation))
        made = tuple(Tracer(self, n, r) for n, r in zip(outputs, result if several else (result,), strict=True))
        return made if several else made[0]

    def graph(self, x: int, output: int) -> Graph:
        """The finished graph."""
        return Graph(tuple(self.values), x, tuple(self.constants), tuple(self.nodes), (output,))


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
    def _space(self) -> RecordingNamespace:
        return RecordingNamespace(self.recorder)

    def __array_namespace__(self, *, api_version: str | None = None) -> RecordingNamespace:
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
        name = _NAMES.get(ufunc.__name__, ufunc.__name__)
        if method != "__call__" or set(options) - {"axis"}:
            raise refused(f"numpy.{ufunc.__name__} ({method})")
        return self._named(name, ufunc)(*inputs, **options)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        name = _NAMES.get(func.__name__, func.__name__)
        if "linalg" in func.__module__:
            return getattr(self._space.linalg, name)(*args, **kwargs)
        return self._named(name, func)(*args, **kwargs)

    def _named(self, name: str, function: Any) -> Callable[..., Any]:
        """A function of NumPy (or a ufunc of SciPy): that of the namespace, or one the vocabulary knows."""
        if name in NUMPY:
            return partial(NUMPY[name], self._space)
        found = getattr(self._space, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
        known = OPERATIONS.get(name, OTHER)
        if not isinstance(known.rule, Elementwise | PiecewiseLinear):
            raise refused(f"numpy.{function.__name__}")
        return partial(self._space.operation, known, function)

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if any(isinstance(k, Tracer) for k in keys):
            raise CaptureError("indexing with an array that depends on the points is not supported here; use xp.where.")
        return self.recorder.record("getitem", Linear(), lambda h: h[key], (self,))

    def reshape(self, *shape: Any) -> Any:
        return self._space.reshape(self, shape[0] if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape)

    def __setitem__(self, key: Any, value: Any) -> Never:
        raise CaptureError("the function writes into the points or into what depends on them. Use xp.where or xp.concat.")

    def __neg__(self) -> Any:
        return self._space.negative(self)

    def __pos__(self) -> Tracer:
        return self

    def __abs__(self) -> Any:
        return self._space.abs(self)

    def __invert__(self) -> Any:
        return self._space.bitwise_invert(self)


_NAMES = {
    "absolute": "abs", "fabs": "abs", "power": "pow", "float_power": "pow", "true_divide": "divide", "mod": "remainder", "rint": "round",
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh", "arctan2": "atan2",
    "invert": "bitwise_invert", "conjugate": "conj", "concatenate": "concat", "transpose": "permute_dims", "amax": "max", "amin": "min",
    "cumsum": "cumulative_sum", "cumprod": "cumulative_prod",
}  # fmt: skip
"""NumPy's older names, and those of the standard."""


def _binary(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Tracer, other: Any) -> Any:
        return getattr(self._space, name)(self, other)

    def backward(self: Tracer, other: Any) -> Any:
        return getattr(self._space, name)(other, self)

    return forward, backward


for _symbol, _name in {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "matmul": "matmul",
                       "mod": "remainder", "floordiv": "floor_divide", "and": "bitwise_and", "or": "bitwise_or",
                       "xor": "bitwise_xor"}.items():  # fmt: skip
    _f, _b = _binary(_name)
    setattr(Tracer, f"__{_symbol}__", _f)
    setattr(Tracer, f"__r{_symbol}__", _b)
for _symbol, _name in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
                       "ne": "not_equal"}.items():  # fmt: skip
    setattr(Tracer, f"__{_symbol}__", _binary(_name)[0])


def _method(name: str) -> Callable[..., Any]:
    def method(self: Tracer, *args: Any, **options: Any) -> Any:
        return self._named(_NAMES.get(name, name), method)(self, *args, **options)

    method.__name__ = name
    return method


for _name in "sum mean var std max min prod cumsum cumprod clip squeeze swapaxes dot astype argmax argmin all any".split():
    setattr(Tracer, _name, _method(_name))
