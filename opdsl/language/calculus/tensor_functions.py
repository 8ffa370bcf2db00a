"""Components of the functions that take or return tensors, one rule per function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from opdsl.language import tree as ex
from opdsl.language.calculus.complex_values import (
    Pair,
    Value,
    as_pair,
    imaginary,
    real,
    square_modulus,
    v_add,
    v_conj,
    v_divide,
    v_mul,
    v_negate,
)
from opdsl.language.calculus.differentiate import NeedsWritingOut
from opdsl.language.calculus.vector_calculus import Asking, Index, Tensor, VectorCalculus
from opdsl.language.constructors import ONE, ZERO, call, mul, negate, where
from opdsl.language.declarations import Dim
from opdsl.language.residual import Axis, Number

HALF = Number(Fraction(1, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The arguments of a call: their components, shapes, and which of them are a literal zero of any shape."""

    nodes: tuple[ex.Node, ...]
    at: tuple[Tensor, ...]
    shapes: tuple[tuple[Dim, ...], ...]
    zero: tuple[bool, ...]


Rule = Callable[[VectorCalculus, Arguments, Index], Asking[Value]]


def _dot(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    a, b = given.at
    if not given.shapes[0]:
        return v_mul((yield from a(())), (yield from b(())))
    cut = len(given.shapes[0]) - 1

    def term(k: Axis) -> Asking[Value]:
        return v_mul((yield from a((*index[:cut], k))), (yield from b((k, *index[cut:]))))

    return (yield from calculus.total(given.shapes[0][-1], term))


def _ddot(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    a, b = given.at
    rows, columns = given.shapes[0]

    def row(i: Axis) -> Asking[Value]:
        def term(j: Axis) -> Asking[Value]:
            return v_mul((yield from a((i, j))), (yield from b((i, j))))

        return (yield from calculus.total(columns, term))

    return (yield from calculus.total(rows, row))


def _cross(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    a, b = given.at
    i = _number(index[0])
    j, k = (i + 1) % 3, (i + 2) % 3
    plus = v_mul((yield from a((j,))), (yield from b((k,))))
    return v_add(plus, v_negate(v_mul((yield from a((k,))), (yield from b((j,))))))


def _outer(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    a, b = given.at
    cut = len(given.shapes[0])
    return v_mul((yield from a(index[:cut])), (yield from b(index[cut:])))


def _convect(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    # (u·∇)T = u_k (∇T)_k…: along a general frame this includes the turning of the frame.
    velocity, once = given.at[0], calculus.covariant(given.at[1])

    def term(k: Axis) -> Asking[Value]:
        return v_mul((yield from velocity((k,))), (yield from once((k, *index))))

    return (yield from calculus.total(given.shapes[0][0], term))


def _unit(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    which = given.nodes[0]
    assert isinstance(which, ex.Num)
    yield from ()
    return calculus.delta(index[0], int(which.value))


def _trace(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    return (yield from calculus.total(given.shapes[0][0], lambda k: given.at[0]((k, k))))


def _transpose(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    return (yield from given.at[0](index[::-1]))


def _symmetric(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    return v_mul(HALF, v_add((yield from given.at[0](index)), (yield from given.at[0](index[::-1]))))


def _skew(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    return v_mul(HALF, v_add((yield from given.at[0](index)), v_mul(negate(ONE), (yield from given.at[0](index[::-1])))))


def _deviator(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    size = given.shapes[0][0]
    assert isinstance(size, int)
    trace = yield from _trace(calculus, given, ())
    part = mul(Number(Fraction(-1, size)), calculus.delta(index[0], index[1]))
    return v_add((yield from given.at[0](index)), v_mul(part, trace))


def _determinant(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    every = _every(given)
    return (yield from _minor(given.at[0], every, every))


def _inverse(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    every = _every(given)
    whole = yield from _minor(given.at[0], every, every)
    i, j = _number(index[0]), _number(index[1])
    cofactor = yield from _minor(given.at[0], every[:j] + every[j + 1 :], every[:i] + every[i + 1 :])
    return v_divide(v_negate(cofactor) if (i + j) % 2 else cofactor, whole)


def _every(given: Arguments) -> tuple[int, ...]:
    size = given.shapes[0][0]
    assert isinstance(size, int)
    return tuple(range(size))


def _minor(tensor: Tensor, rows: tuple[int, ...], columns: tuple[int, ...]) -> Asking[Value]:
    """The determinant of some rows and columns of a matrix of at most four."""
    if not rows:
        return ONE
    terms: list[Value] = []
    for k, column in enumerate(columns):
        first = yield from tensor((rows[0], column))
        term = v_mul(first, (yield from _minor(tensor, rows[1:], columns[:k] + columns[k + 1 :])))
        terms.append(v_negate(term) if k % 2 else term)
    return v_add(*terms)


def _perp(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    if given.shapes[0]:
        return v_negate((yield from given.at[0]((1,)))) if index[0] == 0 else (yield from given.at[0]((0,)))
    gradient = calculus.covariant(given.at[0])
    return v_negate((yield from gradient((1,)))) if index[0] == 0 else (yield from gradient((0,)))


def _vec(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    return (yield from given.at[_number(index[0])](()))


def _norm(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    tensor, shape = given.at[0], given.shapes[0]
    if not shape:
        value = yield from tensor(())
        return call("sqrt", (square_modulus(value),)) if isinstance(value, Pair) else call("abs", (value,))

    def squares(prefix: Index, left: tuple[Dim, ...]) -> Asking[Value]:
        if not left:
            return square_modulus((yield from tensor(prefix)))
        return (yield from calculus.total(left[0], lambda k: squares((*prefix, k), left[1:])))

    return call("sqrt", (real((yield from squares((), shape))),))


def _conjugate(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    return v_conj((yield from given.at[0](index)))


def _real(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    return real((yield from given.at[0](index)))


def _imaginary(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    return imaginary((yield from given.at[0](index)))


def _where(calculus: VectorCalculus, given: Arguments, index: Index) -> Asking[Value]:
    condition = real((yield from given.at[0](())))
    branches: list[Value] = []
    for k in (1, 2):
        branches.append(ZERO if given.zero[k] else (yield from given.at[k](index)))
    if any(isinstance(branch, Pair) for branch in branches):
        yes, no = as_pair(branches[0]), as_pair(branches[1])
        return Pair(where(condition, yes.re, no.re), where(condition, yes.im, no.im))
    return where(condition, real(branches[0]), real(branches[1]))


def _number(axis: Axis) -> int:
    """The number of a component; of a label no one component is known."""
    if not isinstance(axis, int):
        raise NeedsWritingOut
    return axis


RULES: dict[str, Rule] = {
    "dot": _dot, "ddot": _ddot, "cross": _cross, "outer": _outer, "convect": _convect, "unit": _unit, "tr": _trace,
    "transpose": _transpose, "sym": _symmetric, "skew": _skew, "dev": _deviator, "det": _determinant, "inv": _inverse,
    "perp": _perp, "vec": _vec, "norm": _norm, "abs": _norm, "conj": _conjugate, "re": _real, "im": _imaginary, "where": _where,
}  # fmt: skip
"""The rule of each function whose record says ``tensor``, but for ``min`` and ``max``, which take scalars."""
