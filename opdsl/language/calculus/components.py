"""From the expression tree to components: every value as a pointwise expression, one component at a time.

A tensor is never built as an array of expressions: ``component(node, index, letters)`` computes the one component that is asked
for, remembers it, and asks its operands for theirs. A sum over an index is written out when it is short and becomes an
`IndexSum` where the space has many dimensions, so that the Laplacian in a hundred thousand dimensions is one small object.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import partial

from opdsl.errors import OpLimitError, OpRankError
from opdsl.language import tree as ex
from opdsl.language.calculus.complex_values import Pair, Value, real, v_add, v_call, v_divide, v_map, v_mul, v_negate, v_power
from opdsl.language.calculus.differentiate import NeedsWritingOut
from opdsl.language.calculus.tensor_functions import RULES, Arguments
from opdsl.language.calculus.vector_calculus import (
    MAX_WRITTEN_TERMS,
    Asking,
    Env,
    Index,
    Part,
    Tensor,
    TooLongToWriteOut,
    VectorCalculus,
)
from opdsl.language.constructors import ONE, ZERO, call, number
from opdsl.language.declarations import Dim
from opdsl.language.functions import ELEMENTARY, FUNCTIONS
from opdsl.language.operator_application import spans_of
from opdsl.language.residual import Axis, Comparison, Coordinate, Derivative, Number, Parameter, Pointwise
from opdsl.language.structure import Coefficient
from opdsl.language.traverse import demand
from opdsl.language.type_inference import Ranks


class Components(VectorCalculus):
    """Computes components of desugared expressions over given coordinates.

    Args:
        ranks: types of all nodes, with the dimension known.
        lazy: sums over the space coordinates become `IndexSum` instead of being written out.
        constants: parameters whose derivatives vanish.
    """

    def __init__(self, ranks: Ranks, *, lazy: bool, constants: Collection[str] = frozenset()) -> None:
        decls = ranks.declarations
        super().__init__(decls.space(ranks.dimension), decls.geometry, lazy=lazy)
        self.ranks = ranks
        self.constants = constants
        self.names = decls.columns(ranks.dimension)
        self.fields = {f.name: f for f in decls.fields}
        self.known: dict[tuple[ex.Node, Index, Env], Value] = {}

    def component(self, node: ex.Node, index: Index, env: Env) -> Value:
        """Return one component; ``env`` gives the value of every free letter."""
        return demand((node, index, env), self._component, self._key, self.known)

    def _key(self, part: Part) -> tuple[ex.Node, Index, Env]:
        node, index, env = part
        free = self.ranks.of(node).letters
        return ex.form(node), index, tuple((letter, axis) for letter, axis in env if letter in free)

    def _component(self, part: Part) -> Asking[Value]:
        node, index, env = part
        type_ = self.ranks.of(node)
        if not self.lazy and math.prod(int(size) for _, size in type_.sums) > MAX_WRITTEN_TERMS:
            raise TooLongToWriteOut
        own = {letter: axis for letter, axis in env if letter in type_.letters}
        return (yield from self._summed(node, index, own, type_.sums))

    def _summed(self, node: ex.Node, index: Index, letters: dict[str, Axis], sums: Sequence[tuple[str, Dim]]) -> Asking[Value]:
        if not sums:
            return (yield from self._direct(node, index, tuple(sorted(letters.items()))))
        (letter, size), rest = sums[0], sums[1:]
        return (yield from self.total(size, lambda axis: self._summed(node, index, {**letters, letter: axis}, rest)))

    def tensor(self, node: ex.Node, env: Env) -> Tensor:
        """Return the expression as a function of its tensor index."""

        def part(index: Index) -> Asking[Value]:
            return (yield node, index, env)

        return part

    # ------------------------------------------------------------------------------ one node
    def _direct(self, node: ex.Node, index: Index, env: Env) -> Asking[Value]:
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
                with self.ranks.inside(frozenset()):
                    return (yield self.ranks.definitions[name], index, env)
            case ex.Indexed(base=base, indices=indices):
                return (yield from self._indexed(base, indices, index, env))
            case ex.Add(terms=terms):
                return v_add(*(yield from self._each([t for t in terms if not self.ranks.of(t).zero], index, env)))
            case ex.Neg(operand=inner):
                return v_negate((yield inner, index, env))
            case ex.Mul(factors=factors):
                return (yield from self._product(factors, index, env))
            case ex.Div(top=top, bottom=bottom):
                below = yield bottom, (), env
                if below == ZERO:
                    raise OpRankError("division by zero", code="E231", spans=spans_of(bottom))
                return v_divide((yield top, index, env), below)
            case ex.Pow(base=base, exponent=exponent):
                return (yield from self._power(node, base, exponent, env))
            case ex.Call(name=name, args=args):
                return (yield from self._call(node, name, args, index, env))
            case ex.Compare(operator=operator, left=left, right=right):
                return Comparison(operator, *map(real, (yield from self._each((left, right), (), env))))
            case ex.Apply(operator=ex.Partial(axes=axes), operand=operand):
                return self._partials((yield operand, index, env), self._axes(axes, dict(env)))
            case ex.Apply(operator=ex.Nabla(name=name), operand=operand):
                scalar = not self.ranks.of(operand).shape
                return (yield from self.nabla(name, self.tensor(operand, env), index, scalar=scalar))
            case ex.SumOver(letter=letter, body=body):
                with self.ranks.inside(self.ranks.bound | {letter}):
                    return (yield body, index, env)
        raise AssertionError(f"no component rule for {type(node).__name__}; a new node type needs one")

    def _each(self, nodes: Sequence[ex.Node], index: Index, env: Env) -> Asking[list[Value]]:
        values: list[Value] = []
        for node in nodes:
            values.append((yield node, index, env))
        return values

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
            return Coordinate(self.column(index[0]))
        if name == "n":
            return Coefficient("n", index)
        assert name == "I", name
        return self.delta(index[0], index[1])

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

    def _indexed(self, base: ex.Node, indices: tuple[int | str, ...], index: Index, env: Env) -> Asking[Value]:
        letters = dict(env)
        chosen: Index = tuple(i if isinstance(i, int) else letters[i] for i in indices)
        if isinstance(base, ex.Const) and base.name == "delta":
            return self.delta(chosen[0], chosen[1])
        if isinstance(base, ex.Const) and base.name == "epsilon":
            return number(_levi_civita(chosen))
        return (yield base, chosen + index, env)

    def _axes(self, axes: tuple[tuple[str | None, int | str | None], ...], letters: dict[str, Axis]) -> list[Axis]:
        out: list[Axis] = []
        for name, which in axes:
            if name is None:
                out.append(self.column(letters[str(which)]))
            else:
                out.append(self.names.column(name, which if isinstance(which, int) else None))
        return out

    # ------------------------------------------------------------------------------ arithmetic
    def _product(self, factors: Sequence[ex.Node], index: Index, env: Env) -> Asking[Value]:
        ranks = [self.ranks.of(factor).rank for factor in factors]
        tensors = [f for f, r in zip(factors, ranks, strict=True) if r]
        if len(tensors) > 1:
            scalars = yield from self._each([f for f, r in zip(factors, ranks, strict=True) if not r], (), env)
            return v_mul(*scalars, (yield from self._chain(tensors, index, env)))
        values: list[Value] = []
        for factor, rank in zip(factors, ranks, strict=True):
            values.append((yield factor, index if rank else (), env))
        return v_mul(*values)

    def _chain(self, tensors: list[ex.Node], index: Index, env: Env) -> Asking[Value]:
        """A B … v: matrix products from left to right."""
        if len(tensors) == 1:
            return (yield tensors[0], index, env)
        size = self.ranks.of(tensors[0]).shape[1]

        def term(k: Axis) -> Asking[Value]:
            first = yield tensors[0], (index[0], k), env
            return v_mul(first, (yield from self._chain(tensors[1:], (k, *index[1:]), env)))

        return (yield from self.total(size, term))

    def _power(self, node: ex.Pow, base: ex.Node, exponent: ex.Node, env: Env) -> Asking[Value]:
        shape = self.ranks.of(base).shape
        if shape:

            def square(k: Axis) -> Asking[Value]:
                return v_power((yield base, (k,), env), number(2))

            return (yield from self.total(shape[0], square))
        # |z|^2 of a complex or vector value needs no square root; `power` folds sqrt(s)^2 to s.
        below = yield base, (), env
        above = real((yield exponent, (), env))
        if below == ZERO and isinstance(above, Number) and above.value <= 0:
            raise OpRankError("zero to a power that is not positive", code="E231", spans=spans_of(node))
        return v_power(below, above)

    # ------------------------------------------------------------------------------ functions
    def _call(self, node: ex.Call, name: str, args: tuple[ex.Node, ...], index: Index, env: Env) -> Asking[Value]:
        rule = RULES.get(name)
        if rule is None:
            return self._function(node, name, (yield from self._each(args, (), env)))
        types = [self.ranks.of(arg) for arg in args]
        given = Arguments(
            nodes=args, at=tuple(self.tensor(arg, env) for arg in args), shapes=tuple(t.shape for t in types),
            zero=tuple(t.zero for t in types),
        )  # fmt: skip
        return (yield from rule(self, given, index))

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
        domain = FUNCTIONS[name].domain
        if domain is not None and not domain(value.value):
            raise OpRankError(f"{name}({value.value}) is not a real number", code="E231", spans=spans_of(node))


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

