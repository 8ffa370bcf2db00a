r"""From the expression tree to components: every value as a pointwise expression, one component at a time.

A tensor is never built as an array of expressions: ``component(node, index, letters)`` computes the one component that is asked
for, remembers it, and asks its operands for theirs. A sum over an index is written out when it is short and becomes an
`IndexSum` where the space has many dimensions, so that the Laplacian in a hundred thousand dimensions is one small object.

All operators come from one covariant derivative in the orthonormal frame of the coordinates,

    (∇T)_{k i…} = (1/h_k) ∂_k T_{i…} + Σ_m G_{k m i} T_{m…} + …,
    G_{kmj} = δ_{kj} ∂_m h_k / (h_k h_m)  (m ≠ k),      G_{kkj} = −∂_j h_k / (h_k h_j)  (j ≠ k),

with scale factors h; Cartesian coordinates have h = 1 and G = 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial

from opdsl.errors import LanguageError, OpLimitError, OpRankError
from opdsl.language import tree as ex
from opdsl.language.calculus.complex_values import (
    Pair,
    Value,
    as_pair,
    imaginary,
    real,
    square_modulus,
    v_add,
    v_call,
    v_conj,
    v_divide,
    v_map,
    v_mul,
    v_negate,
    v_power,
)
from opdsl.language.calculus.differentiate import Differentiator, NeedsWritingOut
from opdsl.language.constructors import ONE, ZERO, call, divide, index_sum, mul, negate, number, where
from opdsl.language.declarations import Dim
from opdsl.language.functions import ELEMENTARY
from opdsl.language.operator_application import spans_of
from opdsl.language.residual import Axis, Compare, Coordinate, Derivative, Number, Parameter, Pointwise
from opdsl.language.structure import Coefficient
from opdsl.language.type_inference import Ranks

Index = tuple[Axis, ...]
Env = tuple[tuple[str, Axis], ...]
Tensor = Callable[[Index], Value]

MAX_WRITTEN_DIMENSION = 16
MAX_WRITTEN_TERMS = 4096


class TooLongToWriteOut(Exception):
    """A written-out sum has more terms than allowed; try again with `IndexSum`."""


class Components:
    """Computes components of desugared expressions over given coordinates.

    Args:
        ranks: types of all nodes, with the dimension known.
        lazy: sums over the space coordinates become `IndexSum` instead of being written out.
        constants: parameters whose derivatives vanish.
    """

    def __init__(self, ranks: Ranks, *, lazy: bool, constants: Collection[str] = frozenset()) -> None:
        decls = ranks.declarations
        self.ranks = ranks
        self.lazy = lazy
        self.constants = constants
        self.names = decls.columns(ranks.dimension)
        self.space: Sequence[int] = decls.space(ranks.dimension)
        self.columns = self.space if isinstance(self.space, range) else frozenset(self.space)
        self.differentiate = Differentiator(self.columns)
        self.fields = {f.name: f for f in decls.fields}
        self.memo: dict[tuple[int, Index, Env], Value] = {}
        self.labels = itertools.count()
        self.written = 0
        self.scale = self._scale_factors(decls.geometry)

    def prepare(self, names: Collection[str]) -> None:
        """Compute the definitions of these names one after the other, so that a long chain of them does not nest calls."""
        for name, node in self.ranks.definitions.items():
            type_ = self.ranks.of(node)
            sizes = [int(size) for size in type_.shape]
            if name in names and not type_.free and math.prod(sizes) <= MAX_WRITTEN_DIMENSION:
                for index in itertools.product(*(range(size) for size in sizes)):
                    # What cannot be written out, or makes no sense, matters where it is used.
                    with suppress(LanguageError, TooLongToWriteOut, NeedsWritingOut):
                        self.component(node, index, ())

    # ------------------------------------------------------------------------------ sums
    def total(self, size: Dim, body: Callable[[Axis], Value]) -> Value:
        """Σ over k = 0 … size-1 of ``body(k)``."""
        assert isinstance(size, int)
        if self.lazy and size == len(self.space) and size > 1 and self.scale is None:
            label = f"#{next(self.labels)}"
            return v_map(lambda part: index_sum(label, part), body(label))
        self.written += size
        if self.written > MAX_WRITTEN_TERMS:
            raise TooLongToWriteOut
        return v_add(*(body(k) for k in range(size)))

    def component(self, node: ex.Node, index: Index, env: Env) -> Value:
        """Return one component; ``env`` gives the value of every free letter."""
        type_ = self.ranks.of(node)
        own = tuple((letter, axis) for letter, axis in env if letter in type_.letters)
        key = (id(node), index, own)
        known = self.memo.get(key)
        if known is None:
            if not self.lazy and math.prod(int(size) for _, size in type_.sums) > MAX_WRITTEN_TERMS:
                raise TooLongToWriteOut
            known = self._summed(node, index, dict(own), list(type_.sums))
            self.memo[key] = known
        return known

    def _summed(self, node: ex.Node, index: Index, letters: dict[str, Axis], sums: list[tuple[str, Dim]]) -> Value:
        if not sums:
            return self._direct(node, index, tuple(sorted(letters.items())))
        (letter, size), rest = sums[0], sums[1:]
        return self.total(size, lambda axis: self._summed(node, index, {**letters, letter: axis}, rest))

    def tensor(self, node: ex.Node, env: Env) -> Tensor:
        """Return the expression as a function of its tensor index."""
        return lambda index: self.component(node, index, env)

    # ------------------------------------------------------------------------------ one node
    def _direct(self, node: ex.Node, index: Index, env: Env) -> Value:
        match node:
            case ex.Num(value=value):
                return Number(value)
            case ex.Const(name=name):
                return self._constant(name, index)
            case ex.Coord(name=name):
                return self._coordinate(name, index)
            case ex.Field(name=name):
                return self._field(name, index)
            case ex.Param(name=name):
                return Parameter(name, index) if name in self.constants else Coefficient(name, index)
            case ex.Ref(name=name):
                return self.component(self.ranks.definitions[name], index, env)
            case ex.Indexed(base=base, indices=indices):
                return self._indexed(base, indices, index, env)
            case ex.Add(terms=terms):
                live = [t for t in terms if not self.ranks.of(t).zero]
                return v_add(*(self.component(term, index, env) for term in live))
            case ex.Neg(operand=inner):
                return v_negate(self.component(inner, index, env))
            case ex.Mul(factors=factors):
                return self._product(list(factors), index, env)
            case ex.Div(top=top, bottom=bottom):
                below = self.component(bottom, (), env)
                if below == ZERO:
                    raise OpRankError("division by zero", code="E231", spans=spans_of(bottom))
                return v_divide(self.component(top, index, env), below)
            case ex.Pow(base=base, exponent=exponent):
                return self._power(node, base, exponent, env)
            case ex.Call(name=name, args=args):
                return self._call(node, name, args, index, env)
            case ex.Compare(operator=operator, left=left, right=right):
                return Compare(operator, real(self.component(left, (), env)), real(self.component(right, (), env)))
            case ex.Apply(operator=ex.Partial(axes=axes), operand=operand):
                return self._partials(self.component(operand, index, env), self._axes(axes, dict(env)))
            case ex.Apply(operator=ex.Nabla(name=name), operand=operand):
                return self._nabla(name, operand, index, env)
            case ex.Sum(body=body):
                return self.component(body, index, env)
        raise AssertionError(f"no component rule for {type(node).__name__}; a new node type needs one")

    def _partials(self, value: Value, axes: list[Axis]) -> Value:
        for axis in axes:
            value = v_map(partial(self.differentiate, axis=axis), value)
        return value

    def _constant(self, name: str, index: Index) -> Value:
        if name == "pi":
            return Number(math.pi)
        if name == "i":
            return Pair(ZERO, ONE)
        if name == "position":
            return Coordinate(self._column(index[0]))
        if name == "n":
            return Coefficient("n", index)
        assert name == "I", name
        return self._delta(index[0], index[1])

    def _delta(self, a: Axis, b: Axis) -> Pointwise:
        if a == b:
            return ONE
        if isinstance(a, int) and isinstance(b, int):
            return ZERO
        raise NeedsWritingOut

    def _column(self, axis: Axis) -> Axis:
        """The coordinate column of the k-th space coordinate; a label stays a label."""
        return self.space[axis] if isinstance(axis, int) else axis

    def _coordinate(self, name: str, index: Index) -> Pointwise:
        if not index:
            return Coordinate(self.names.column(name))
        if isinstance(index[0], int):
            return Coordinate(self.names.column(name, index[0]))
        if self.names.column(name) != self.space[0] or dict(self.names.groups)[name] != len(self.space):
            raise NeedsWritingOut
        return Coordinate(index[0])

    def _field(self, name: str, index: Index) -> Value:
        decl = self.fields[name]
        flat = self._flat(index, self.ranks.dims(decl.shape))
        if not decl.complex:
            return Derivative(name, flat, ())
        if not isinstance(flat, int):
            raise NeedsWritingOut
        return Pair(Derivative(name, 2 * flat, ()), Derivative(name, 2 * flat + 1, ()))

    def _flat(self, index: Index, shape: tuple[Dim, ...]) -> Axis:
        """Row-major number of a component; a label can stand for a vector's component only."""
        if len(index) == 1:
            return index[0]
        flat = 0
        for axis, size in zip(index, shape, strict=True):
            if not isinstance(axis, int) or not isinstance(size, int):
                raise NeedsWritingOut
            flat = flat * size + axis
        return flat

    def _indexed(self, base: ex.Node, indices: tuple[int | str, ...], index: Index, env: Env) -> Value:
        letters = dict(env)
        chosen: Index = tuple(i if isinstance(i, int) else letters[i] for i in indices)
        if isinstance(base, ex.Const) and base.name == "delta":
            return self._delta(chosen[0], chosen[1])
        if isinstance(base, ex.Const) and base.name == "epsilon":
            return number(_levi_civita(chosen))
        return self.component(base, chosen + index, env)

    def _axes(self, axes: tuple[tuple[str | None, int | str | None], ...], letters: dict[str, Axis]) -> list[Axis]:
        out: list[Axis] = []
        for name, which in axes:
            if name is None:
                out.append(self._column(letters[str(which)]))
            else:
                out.append(self.names.column(name, which if isinstance(which, int) else None))
        return out

    # ------------------------------------------------------------------------------ arithmetic
    def _product(self, factors: list[ex.Node], index: Index, env: Env) -> Value:
        ranks = [self.ranks.of(factor).rank for factor in factors]
        if sum(1 for rank in ranks if rank) <= 1:
            return v_mul(*(self.component(f, index if r else (), env) for f, r in zip(factors, ranks, strict=True)))
        scalars = [self.component(f, (), env) for f, r in zip(factors, ranks, strict=True) if not r]
        tensors = [f for f, r in zip(factors, ranks, strict=True) if r]
        return v_mul(*scalars, self._chain(tensors, index, env))

    def _chain(self, tensors: list[ex.Node], index: Index, env: Env) -> Value:
        """A B … v: matrix products from left to right."""
        if len(tensors) == 1:
            return self.component(tensors[0], index, env)
        size = self.ranks.of(tensors[0]).shape[1]
        rest = tensors[1:]
        return self.total(
            size, lambda k: v_mul(self.component(tensors[0], (index[0], k), env), self._chain(rest, (k, *index[1:]), env))
        )

    def _power(self, node: ex.Pow, base: ex.Node, exponent: ex.Node, env: Env) -> Value:
        shape = self.ranks.of(base).shape
        if shape:
            return self.total(shape[0], lambda k: v_power(self.component(base, (k,), env), number(2)))
        # |z|^2 of a complex or vector value needs no square root; `power` folds sqrt(s)^2 to s.
        below = self.component(base, (), env)
        above = real(self.component(exponent, (), env))
        if below == ZERO and isinstance(above, Number) and above.value <= 0:
            raise OpRankError("zero to a power that is not positive", code="E231", spans=spans_of(node))
        return v_power(below, above)

    # ------------------------------------------------------------------------------ vector calculus
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
        made = v_map(lambda part: self.differentiate(part, self._column(axis)), value)
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

        def made(index: Index) -> Value:
            k, rest = index[0], index[1:]
            value = self.along(k, tensor(rest))
            if self.scale is None:
                return value
            parts = [value]
            for slot, j in enumerate(rest):
                for m in range(len(self.space)):
                    assert isinstance(k, int)
                    assert isinstance(j, int)
                    factor = self._connection(k, m, j)
                    if factor != ZERO:
                        parts.append(v_mul(factor, tensor((*rest[:slot], m, *rest[slot + 1 :]))))
            return v_add(*parts)

        return made

    def _nabla(self, name: str, operand: ex.Node, index: Index, env: Env) -> Value:
        tensor = self.tensor(operand, env)
        once = self.covariant(tensor)
        d = len(self.space)
        match name:
            case "grad":
                return once(index)
            case "jac":
                return once((index[-1], *index[:-1]))
            case "hess":
                return self.covariant(once)(index)
            case "div":
                return self.total(d, lambda k: once((k, k, *index)))
            case "laplace":
                twice = self.covariant(once)
                return self.total(d, lambda k: twice((k, k, *index)))
            case "dn":
                return self.total(d, lambda k: v_mul(Coefficient("n", (k,)), once((k, *index))))
        assert name == "curl", name
        if d == 3:
            i = index[0]
            if not isinstance(i, int):
                raise NeedsWritingOut
            j, k = (i + 1) % 3, (i + 2) % 3
            return v_add(once((j, k)), v_negate(once((k, j))))
        if self.ranks.of(operand).shape:
            return v_add(once((0, 1)), v_negate(once((1, 0))))
        return once((1,)) if index[0] == 0 else v_negate(once((0,)))

    # ------------------------------------------------------------------------------ functions
    def _call(self, node: ex.Call, name: str, args: Sequence[ex.Node], index: Index, env: Env) -> Value:
        shapes = [self.ranks.of(arg).shape for arg in args]
        at = [self.tensor(arg, env) for arg in args]
        match name:
            case "dot":
                if not shapes[0]:
                    return v_mul(at[0](()), at[1](()))
                cut = len(shapes[0]) - 1
                return self.total(shapes[0][-1], lambda k: v_mul(at[0]((*index[:cut], k)), at[1]((k, *index[cut:]))))
            case "ddot":
                (n, m) = shapes[0]
                return self.total(n, lambda i: self.total(m, lambda j: v_mul(at[0]((i, j)), at[1]((i, j)))))
            case "cross":
                i = index[0]
                if not isinstance(i, int):
                    raise NeedsWritingOut
                j, k = (i + 1) % 3, (i + 2) % 3
                return v_add(v_mul(at[0]((j,)), at[1]((k,))), v_negate(v_mul(at[0]((k,)), at[1]((j,)))))
            case "outer":
                cut = len(shapes[0])
                return v_mul(at[0](index[:cut]), at[1](index[cut:]))
            case "convect":
                # (u·∇)T = u_k (∇T)_k…: along a general frame this includes the turning of the frame.
                once = self.covariant(at[1])
                return self.total(shapes[0][0], lambda k: v_mul(at[0]((k,)), once((k, *index))))
            case "unit":
                assert isinstance(args[0], ex.Num)
                return self._delta(index[0], int(args[0].value))
            case "tr":
                return self.total(shapes[0][0], lambda k: at[0]((k, k)))
            case "transpose":
                return at[0](index[::-1])
            case "sym" | "skew":
                sign = ONE if name == "sym" else negate(ONE)
                half = Number(Fraction(1, 2))
                return v_mul(half, v_add(at[0](index), v_mul(sign, at[0](index[::-1]))))
            case "dev":
                size = shapes[0][0]
                assert isinstance(size, int)
                trace = self.total(size, lambda k: at[0]((k, k)))
                third = mul(Number(Fraction(-1, size)), self._delta(index[0], index[1]))
                return v_add(at[0](index), v_mul(third, trace))
            case "det" | "inv":
                return self._determinant(name, at[0], shapes[0][0], index)
            case "perp":
                if not shapes[0]:
                    return v_negate(self.covariant(at[0])((1,))) if index[0] == 0 else self.covariant(at[0])((0,))
                return v_negate(at[0]((1,))) if index[0] == 0 else at[0]((0,))
            case "vec":
                position = index[0]
                if not isinstance(position, int):
                    raise NeedsWritingOut
                return at[position](())
            case "norm" | "abs":
                return self._norm(at[0], shapes[0])
            case "conj":
                return v_conj(at[0](index))
            case "re":
                return real(at[0](index))
            case "im":
                return imaginary(at[0](index))
            case "where":
                condition = real(at[0](()))
                values = [at[k](index) if not self.ranks.of(args[k]).zero else ZERO for k in (1, 2)]
                if any(isinstance(v, Pair) for v in values):
                    yes, no = as_pair(values[0]), as_pair(values[1])
                    return Pair(where(condition, yes.re, no.re), where(condition, yes.im, no.im))
                return where(condition, real(values[0]), real(values[1]))
        return self._function(node, name, [t(()) for t in at])

    def _norm(self, tensor: Tensor, shape: tuple[Dim, ...]) -> Value:
        if not shape:
            value = tensor(())
            return call("sqrt", (square_modulus(value),)) if isinstance(value, Pair) else call("abs", (value,))

        def nested(prefix: Index, left: tuple[Dim, ...]) -> Value:
            if not left:
                return square_modulus(tensor(prefix))
            return self.total(left[0], lambda k: nested((*prefix, k), left[1:]))

        return call("sqrt", (real(nested((), shape)),))

    def _determinant(self, name: str, tensor: Tensor, size: Dim, index: Index) -> Value:
        assert isinstance(size, int)

        def minor(rows: tuple[int, ...], cols: tuple[int, ...]) -> Value:
            if not rows:
                return ONE
            parts = []
            for k, col in enumerate(cols):
                term = v_mul(tensor((rows[0], col)), minor(rows[1:], cols[:k] + cols[k + 1 :]))
                parts.append(v_negate(term) if k % 2 else term)
            return v_add(*parts)

        every = tuple(range(size))
        whole = minor(every, every)
        if name == "det":
            return whole
        i, j = index
        if not isinstance(i, int) or not isinstance(j, int):
            raise NeedsWritingOut
        cofactor = minor(every[:j] + every[j + 1 :], every[:i] + every[i + 1 :])
        return v_divide(v_negate(cofactor) if (i + j) % 2 else cofactor, whole)

    def _function(self, node: ex.Call, name: str, values: list[Value]) -> Value:
        if name in ELEMENTARY and len(values) != ELEMENTARY[name]:
            raise AssertionError(f"{name} with {len(values)} arguments passed the parser")
        if name in ELEMENTARY and len(values) == 1:
            self._domain(node, name, values[0])
            return v_call(name, values[0])
        if any(isinstance(value, Pair) for value in values):
            raise OpRankError(f"{name} of a complex value is not supported", code="E225", spans=spans_of(node))
        return call(name, tuple(real(value) for value in values))

    def _domain(self, node: ex.Call, name: str, value: Value) -> None:
        if not isinstance(value, Number):
            return
        number_ = value.value
        if (name == "log" and number_ <= 0) or (name == "sqrt" and number_ < 0):
            raise OpRankError(f"{name}({number_}) is not a real number", code="E231", spans=spans_of(node))


def _levi_civita(index: Index) -> int:
    if not all(isinstance(i, int) for i in index):
        raise NeedsWritingOut
    i, j, k = (int(a) for a in index)
    return (i - j) * (j - k) * (k - i) // 2


def too_long() -> OpLimitError:
    """The error for a sum that can neither be written out nor kept as a sum."""
    return OpLimitError(
        f"this needs more than {MAX_WRITTEN_TERMS} written-out terms", code="E305",
        suggestion="lower the dimension, or write the operator with laplace, grad, div or an index sum",
    )

