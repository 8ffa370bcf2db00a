"""All channels in one call: arrays with an axis of channels in front that behave like arrays without it.

The standard has no transformation that maps a function over an axis. What is applied to channels is written for one of them, with
the operations of the array API; here the same text acts on all of them. A `ChannelArray` holds (C, …) and shows (…); the functions of
a `ChannelNamespace` take such arrays beside plain ones, shift the axes that they are given behind that of the channels, and call the
framework once. A function without an entry in `RULES` is called once for each channel: right, and slow.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from math import prod
from string import ascii_letters
from types import ModuleType
from typing import Any, Never

Array = Any
Rule = Callable[..., Any]
"""``rule(xp, function, *operands, **options)`` with the framework's own namespace and function."""


class ChannelArray:
    """An array for each channel, as if there were one."""

    __slots__ = ("array", "xp")
    # Operators of NumPy's arrays leave what stands on their right to this class.
    __array_ufunc__ = None

    def __init__(self, xp: Any, array: Array) -> None:
        self.xp, self.array = xp, array

    shape = property(lambda self: tuple(self.array.shape[1:]))
    ndim = property(lambda self: len(self.array.shape) - 1)
    dtype = property(lambda self: self.array.dtype)
    device = property(lambda self: getattr(self.array, "device", None))
    mT = property(lambda self: ChannelArray(self.xp, self.xp.matrix_transpose(self.array)))

    def __array__(self, *_: Any, **__: Any) -> Never:
        raise TypeError("channels are no plain array.")

    def __getitem__(self, key: Any) -> ChannelArray:
        keys = key if isinstance(key, tuple) else (key,)
        # Several indices by arrays that are not neighbours would move in front of the channels.
        places = [i for i, k in enumerate(keys) if isinstance(k, list | int) or hasattr(k, "shape")]
        if any(not isinstance(keys[i], int) for i in places) and places[-1] - places[0] >= len(places):
            found: ChannelArray = one_by_one(self.xp, lambda h: h[key], self)
            return found
        return ChannelArray(self.xp, self.array[(slice(None), *keys)])

    def __neg__(self) -> ChannelArray:
        return ChannelArray(self.xp, -self.array)

    def __abs__(self) -> ChannelArray:
        return ChannelArray(self.xp, abs(self.array))

    def __matmul__(self, other: Any) -> Any:
        return _matmul(self.xp, operator.matmul, self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _matmul(self.xp, operator.matmul, other, self)


def _operators(names: str) -> None:
    def define(name: str) -> None:
        plain = getattr(operator, f"{name}_" if name in ("and", "or") else name)

        def forward(self: ChannelArray, other: Any) -> Any:
            return _pointwise(self.xp, plain, self, other)

        def backward(self: ChannelArray, other: Any) -> Any:
            return _pointwise(self.xp, plain, other, self)

        setattr(ChannelArray, f"__{name}__", forward)
        if name not in _COMPARISONS:
            setattr(ChannelArray, f"__r{name}__", backward)

    for name in names.split():
        define(name)


_COMPARISONS = "lt le gt ge eq ne".split()
_operators("add sub mul truediv pow and or lt le gt ge eq ne")


class ChannelNamespace:
    """The array API of a framework that takes `ChannelArray` s too."""

    def __init__(self, xp: Any, module: Any = None, prefix: str = "") -> None:
        self._xp, self._module, self._prefix = xp, xp if module is None else module, prefix

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self._module, name)
        if name == "linalg":
            found = ChannelNamespace(self._xp, found, "linalg.")
        elif callable(found) and not isinstance(found, type | ModuleType):
            found = _mapped(self._xp, found, RULES.get(self._prefix + name, one_by_one))
        # Asked for once: every operation of the engine comes through here.
        setattr(self, name, found)
        return found


def _mapped(xp: Any, function: Callable[..., Any], rule: Rule) -> Callable[..., Any]:
    def call(*operands: Any, **options: Any) -> Any:
        for o in operands:
            if type(o) is ChannelArray or (isinstance(o, list | tuple) and any(type(p) is ChannelArray for p in o)):
                return rule(xp, function, *operands, **options)
        return function(*operands, **options)

    return call


def over_channels(xp: Any, apply: Callable[..., Any], arrays: Sequence[Array], mapped: Sequence[bool]) -> Any:
    """``apply`` on every channel of the arrays flagged in ``mapped``; the results have the channel axis in front."""
    count = next(a.shape[0] for a, m in zip(arrays, mapped, strict=True) if m)
    found = apply(*(ChannelArray(xp, a) if m else a for a, m in zip(arrays, mapped, strict=True)))

    def outside(part: Any) -> Array:
        return _spread(xp, part, count)

    return tuple(outside(part) for part in found) if isinstance(found, tuple | list) else outside(found)


def one_by_one(xp: Any, function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """One call for each channel."""

    def channel(o: Any, i: int) -> Any:
        if isinstance(o, list | tuple):
            return type(o)(channel(p, i) for p in o)
        return o.array[i, ...] if type(o) is ChannelArray else o

    count = _count(operands)
    rows = [function(*(channel(o, i) for o in operands), **options) for i in range(count)]
    if isinstance(rows[0], tuple | list):
        return tuple(ChannelArray(xp, xp.stack([r[j] for r in rows], axis=0)) for j in range(len(rows[0])))
    return ChannelArray(xp, xp.stack(rows, axis=0))


# --------------------------------------------------------------------------------------------------------------- rules


def _count(operands: Iterable[Any]) -> int:
    for o in operands:
        if type(o) is ChannelArray:
            return int(o.array.shape[0])
        if isinstance(o, list | tuple) and any(type(p) is ChannelArray for p in o):
            return _count(o)
    raise AssertionError("no channels")


def _spread(xp: Any, o: Any, count: int) -> Array:
    """The array behind, (C, …); what is the same for every channel is repeated."""
    return o.array if type(o) is ChannelArray else xp.broadcast_to(o, (count, *o.shape))


def _raised(xp: Any, o: ChannelArray, rank: int) -> Array:
    """(C, *S) with axes of length 1 behind that of the channels, so that it broadcasts like an array of this rank."""
    missing = rank - o.ndim
    return o.array if missing <= 0 else xp.reshape(o.array, (o.array.shape[0], *[1] * missing, *o.shape))


def _pointwise(xp: Any, f: Callable[..., Any], *operands: Any, **options: Any) -> ChannelArray:
    """Entry by entry, with broadcasting."""
    rank = max(len(getattr(o, "shape", ())) for o in operands)
    return ChannelArray(xp, f(*(_raised(xp, o, rank) if type(o) is ChannelArray else o for o in operands), **options))


def _trailing(xp: Any, f: Callable[..., Any], a: ChannelArray, *rest: Any, **options: Any) -> ChannelArray:
    """Of one array, acting on its last axes, or on no axis at all."""
    return ChannelArray(xp, f(a.array, *rest, **options))


def _shifted(axis: Any, ndim: int) -> Any:
    """Behind the channels; all axes for None."""
    if axis is None:
        return tuple(range(1, ndim + 1))
    return tuple(k % ndim + 1 for k in axis) if isinstance(axis, tuple | list) else axis % ndim + 1


def _along(xp: Any, f: Callable[..., Any], a: ChannelArray, axis: Any = None, **options: Any) -> ChannelArray:
    """Along one or several axes; all of them for None."""
    return ChannelArray(xp, f(a.array, axis=_shifted(axis, a.ndim), **options))


def _last(xp: Any, f: Callable[..., Any], a: ChannelArray, axis: int = -1, **options: Any) -> ChannelArray:
    """Along one axis, by default the last."""
    return _along(xp, f, a, axis, **options)


def _running(xp: Any, f: Callable[..., Any], a: ChannelArray, axis: int | None = None, **options: Any) -> ChannelArray:
    """Along the only axis, where none is named."""
    return ChannelArray(xp, f(a.array, axis=_shifted(0 if axis is None else axis, a.ndim), **options))


def _with_static(xp: Any, f: Callable[..., Any], a: ChannelArray, static: Any, axis: Any = None, **options: Any) -> Any:
    """``f(a, static, axis=…)``; without an axis the array is flattened, and comes back in its shape where that is one of `roll`."""
    if axis is None:
        return one_by_one(xp, f, a, static, **options)
    return ChannelArray(xp, f(a.array, static, axis=_shifted(axis, a.ndim), **options))


def _squeeze(xp: Any, f: Callable[..., Any], a: ChannelArray, axis: Any = None) -> ChannelArray:
    axes = tuple(k for k, n in enumerate(a.shape) if n == 1) if axis is None else axis
    return ChannelArray(xp, f(a.array, axis=_shifted(axes, a.ndim)))


def _expand_dims(xp: Any, f: Callable[..., Any], a: ChannelArray, axis: Any = 0) -> ChannelArray:
    more = len(axis) if isinstance(axis, tuple | list) else 1
    return ChannelArray(xp, f(a.array, axis=_shifted(axis, a.ndim + more)))


def _reshape(xp: Any, f: Callable[..., Any], a: ChannelArray, shape: Any, **options: Any) -> ChannelArray:
    given = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    known = prod(n for n in given if n != -1)
    # Spelt out: of no channels at all no length could be inferred.
    full = tuple(prod(a.shape) // max(known, 1) if n == -1 else n for n in given)
    return ChannelArray(xp, f(a.array, (a.array.shape[0], *full), **options))


def _permute_dims(xp: Any, f: Callable[..., Any], a: ChannelArray, axes: Sequence[int]) -> ChannelArray:
    return ChannelArray(xp, f(a.array, (0, *_shifted(tuple(axes), a.ndim))))


def _moveaxis(xp: Any, f: Callable[..., Any], a: ChannelArray, source: Any, target: Any) -> ChannelArray:
    return ChannelArray(xp, f(a.array, _shifted(source, a.ndim), _shifted(target, a.ndim)))


def _broadcast_to(xp: Any, f: Callable[..., Any], a: ChannelArray, shape: Sequence[int]) -> ChannelArray:
    return ChannelArray(xp, f(_raised(xp, a, len(shape)), (a.array.shape[0], *shape)))


def _tile(xp: Any, f: Callable[..., Any], a: ChannelArray, repetitions: Sequence[int]) -> ChannelArray:
    rank = max(a.ndim, len(repetitions))
    return ChannelArray(xp, f(_raised(xp, a, rank), (1, *[1] * (rank - len(repetitions)), *repetitions)))


def _take(xp: Any, f: Callable[..., Any], a: Any, indices: Any, axis: int | None = None, **options: Any) -> Any:
    if type(indices) is ChannelArray or (axis is None and a.ndim != 1):
        return one_by_one(xp, f, a, indices, axis=axis, **options)
    return ChannelArray(xp, f(a.array, indices, axis=_shifted(axis or 0, a.ndim), **options))


def _take_along_axis(xp: Any, f: Callable[..., Any], a: Any, indices: Any, axis: int = -1) -> ChannelArray:
    count, axis = _count((a, indices)), _shifted(axis, len(a.shape))
    return ChannelArray(xp, f(_spread(xp, a, count), _spread(xp, indices, count), axis=axis))


def _joined(more: int) -> Rule:
    """Of a list of arrays, along an axis of what has so many axes more than they."""

    def rule(xp: Any, f: Callable[..., Any], arrays: Sequence[Any], axis: int | None = 0) -> ChannelArray:
        if axis is None:
            found: ChannelArray = one_by_one(xp, f, arrays, axis=None)
            return found
        count = _count(arrays)
        return ChannelArray(xp, f([_spread(xp, a, count) for a in arrays], axis=_shifted(axis, len(arrays[0].shape) + more)))

    return rule


def _matmul(xp: Any, f: Callable[..., Any], a: Any, b: Any) -> ChannelArray:
    left, right = len(a.shape), len(b.shape)
    if type(a) is not ChannelArray:
        # One vector for each channel stands as a column; of matrices the channels lead.
        if right == 1:
            if left == 1:
                return ChannelArray(xp, f(b.array, a))
            return ChannelArray(xp, f(a, _raised(xp, ChannelArray(xp, b.array[..., None]), left))[..., 0])
        return ChannelArray(xp, f(a, _raised(xp, b, max(left, 2))))
    if type(b) is not ChannelArray:
        if right == 2 and left > 1:
            # (C, …, m) @ (m, k): all rows of all channels in one product.
            rows = xp.reshape(a.array, (prod(a.array.shape[:-1]), a.shape[-1]))
            return ChannelArray(xp, xp.reshape(f(rows, b), (*a.array.shape[:-1], b.shape[-1])))
        if left == 1 and right > 2:
            return ChannelArray(xp, f(xp.reshape(a.array, (a.array.shape[0], *[1] * (right - 1), a.shape[0])), b)[..., 0, :])
        return ChannelArray(xp, f(_raised(xp, a, right), b) if left > 1 else f(a.array, b))
    rank = max(left, right, 2)
    rows = a.array[:, None, :] if left == 1 else a.array
    columns = b.array[..., None] if right == 1 else b.array
    out = f(_raised(xp, ChannelArray(xp, rows), rank), _raised(xp, ChannelArray(xp, columns), rank))
    out = out[..., 0, :] if left == 1 and right > 1 else out[..., 0] if right == 1 else out
    return ChannelArray(xp, out[..., 0] if left == right == 1 else out)


def _tensordot(xp: Any, f: Callable[..., Any], a: Any, b: Any, axes: Any = 2) -> ChannelArray:
    """Contract some axes: one side as it is, or both as matrices with the channels in front."""
    left, right = len(a.shape), len(b.shape)
    if isinstance(axes, int):
        over_a, over_b = tuple(range(left - axes, left)), tuple(range(axes))
    else:
        over_a, over_b = (tuple(k % n for k in ((side,) if isinstance(side, int) else side)) for side, n in zip(axes, (left, right), strict=True))
    if type(b) is not ChannelArray:
        return ChannelArray(xp, f(a.array, b, axes=(tuple(k + 1 for k in over_a), over_b)))
    if type(a) is not ChannelArray:
        return ChannelArray(xp, xp.moveaxis(f(a, b.array, axes=(over_a, tuple(k + 1 for k in over_b))), left - len(over_a), 0))
    free_a, free_b = ([k for k in range(n) if k not in over] for n, over in ((left, over_a), (right, over_b)))
    shape = (*(a.shape[k] for k in free_a), *(b.shape[k] for k in free_b))
    count, inner = a.array.shape[0], prod(a.shape[k] for k in over_a)
    rows = xp.permute_dims(a.array, (0, *(k + 1 for k in (*free_a, *over_a))))
    columns = xp.permute_dims(b.array, (0, *(k + 1 for k in (*over_b, *free_b))))
    rows = xp.reshape(rows, (count, prod(a.shape[k] for k in free_a), inner))
    columns = xp.reshape(columns, (count, inner, prod(b.shape[k] for k in free_b)))
    return ChannelArray(xp, xp.reshape(xp.matmul(rows, columns), (count, *shape)))


def _einsum(xp: Any, f: Callable[..., Any], subscripts: str, *operands: Any) -> ChannelArray:
    """One letter more, in front of what has channels and of the result."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow:
        letters = sorted({c for c in inputs if c.isalpha() and inputs.count(c) == 1})
        output = ("..." if "..." in inputs else "") + "".join(letters)
    channel = next(c for c in ascii_letters if c not in inputs)
    terms = [channel + t if type(o) is ChannelArray else t for t, o in zip(terms, operands, strict=True)]
    # An ellipsis may stand for axes that only one operand has: it stays in its place behind the channels.
    given = [o.array if type(o) is ChannelArray else o for o in operands]
    return ChannelArray(xp, f(f"{','.join(terms)}->{channel}{output}", *given))


def _solve(xp: Any, f: Callable[..., Any], a: Any, b: Any) -> Any:
    """One factorisation for all right-hand sides, where only these have channels."""
    if len(b.shape) == 1:
        column = ChannelArray(xp, b.array[..., None]) if type(b) is ChannelArray else b[..., None]
        return ChannelArray(xp, _solve(xp, f, a, column).array[..., 0])
    if type(a) is ChannelArray:
        rank = max(len(a.shape), len(b.shape))
        return ChannelArray(xp, f(_raised(xp, a, rank), _raised(xp, b, rank) if type(b) is ChannelArray else b))
    count, columns = b.array.shape[0], b.shape[-1]
    # (C, …, m, k) → (…, m, C k)
    behind = xp.moveaxis(b.array, 0, -2)
    found = f(a, xp.reshape(behind, (*b.shape[:-1], count * columns)))
    return ChannelArray(xp, xp.moveaxis(xp.reshape(found, (*found.shape[:-1], count, columns)), -2, 0))


def _cross(xp: Any, f: Callable[..., Any], a: Any, b: Any, axis: int = -1) -> ChannelArray:
    rank = max(len(a.shape), len(b.shape))
    return _pointwise(xp, f, a, b, axis=axis if axis < 0 else axis - rank)


_POINTWISE = (
    "abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_or bitwise_xor bitwise_invert ceil clip copysign cos cosh divide equal exp "
    "expm1 floor floor_divide full_like greater greater_equal hypot isfinite isinf isnan less less_equal log log10 log1p log2 logaddexp "
    "logical_and logical_not logical_or logical_xor maximum minimum multiply negative not_equal ones_like positive pow reciprocal remainder "
    "round sign signbit sin sinh sqrt square subtract tan tanh trunc where zeros_like"
).split()

RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    **dict.fromkeys("astype matrix_transpose tril triu linalg.trace linalg.diagonal linalg.inv linalg.det".split(), _trailing),
    **dict.fromkeys("sum mean prod max min all any count_nonzero flip".split(), _along),
    **dict.fromkeys("sort argsort".split(), _last),
    **dict.fromkeys("cumulative_sum cumulative_prod".split(), _running),
    **dict.fromkeys("roll repeat".split(), _with_static),
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "reshape": _reshape,
    "permute_dims": _permute_dims,
    "moveaxis": _moveaxis,
    "broadcast_to": _broadcast_to,
    "tile": _tile,
    "take": _take,
    "take_along_axis": _take_along_axis,
    "concat": _joined(0),
    "stack": _joined(1),
    "matmul": _matmul,
    "tensordot": _tensordot,
    "einsum": _einsum,
    "linalg.solve": _solve,
    "linalg.cross": _cross,
}
"""By the function's name in the standard."""
