"""Functions of vectors and matrices, and the shapes they take and give."""

from __future__ import annotations

from opdsl.errors import OpIndexError
from opdsl.language.declarations import Dim
from opdsl.language.function_record import Function, Given
from opdsl.language.function_shapes import describe
from opdsl.language.operator_application import spans_of
from opdsl.language.tree import Num


def _dot(given: Given) -> tuple[Dim, ...]:
    a, b = given.shapes
    if not a and not b:
        return ()
    both = f"{describe(given.types[0])} [^], {describe(given.types[1])} [~]"
    given.need(bool(a) and bool(b), f"· needs two vectors or two scalars: {both}")
    given.need(a[-1] == b[0], f"· contracts {a[-1]} with {b[0]} components")
    return a[:-1] + b[1:]


def _ddot(given: Given) -> tuple[Dim, ...]:
    a, b = given.shapes
    given.need(len(a) == 2 and a == b, "a double contraction needs two rank-2 tensors of one shape")
    return ()


def _cross(given: Given) -> tuple[Dim, ...]:
    given.need(
        given.shapes == [(3,), (3,)],
        f"the cross product needs two vectors (3): {describe(given.types[0])} [^], {describe(given.types[1])} [~]",
        suggestion="in 2-D write curl(u) or perp(v)" if (2,) in given.shapes else None,
    )
    return (3,)


def _outer(given: Given) -> tuple[Dim, ...]:
    return given.shapes[0] + given.shapes[1]


def _convect(given: Given) -> tuple[Dim, ...]:
    given.need(given.shapes[0] == (given.space,), f"u·∇ needs a vector ({given.space}), this is {describe(given.types[0])}")
    return given.shapes[1]


def _square(given: Given) -> tuple[Dim, ...]:
    shape = given.shapes[0]
    given.need(
        len(shape) == 2 and shape[0] == shape[1], f"{given.node.name} needs a square matrix, this is {describe(given.types[0])}"
    )
    return shape


def _trace(given: Given) -> tuple[Dim, ...]:
    _square(given)
    return ()


def _inverse(given: Given) -> tuple[Dim, ...]:
    shape = _square(given)
    size, name = shape[0], given.node.name
    given.need(not isinstance(size, int) or size <= 4, f"{name} is written out for at most 4×4, not {size}×{size}")
    return shape


def _determinant(given: Given) -> tuple[Dim, ...]:
    _inverse(given)
    return ()


def _transpose(given: Given) -> tuple[Dim, ...]:
    given.need(len(given.shapes[0]) == 2, f"transpose needs a matrix, this is {describe(given.types[0])}")
    return given.shapes[0][::-1]


def _perp(given: Given) -> tuple[Dim, ...]:
    given.need(given.shapes[0] in ((2,), ()), f"perp needs a vector (2), this is {describe(given.types[0])}")
    return (2,)


def _unit(given: Given) -> tuple[Dim, ...]:
    (which,) = given.node.args
    assert isinstance(which, Num)
    if isinstance(given.space, int) and which.value >= given.space:
        raise OpIndexError(
            f"component {which.value} is out of range 0 … {given.space - 1}", code="E207", spans=spans_of(given.node),
            suggestion="components are counted from 0: e_0, e_1, …",
        )
    return (given.space,)


def _vec(given: Given) -> tuple[Dim, ...]:
    given.need(not any(given.shapes), "vec(…) takes scalars")
    return (len(given.shapes),)


def _first(given: Given) -> tuple[Dim, ...]:
    return given.shapes[0]


def _where(given: Given) -> tuple[Dim, ...]:
    _, a, b = given.shapes
    given.need(a == b or given.types[1].zero or given.types[2].zero, "both branches of where need one shape")
    return b if given.types[1].zero else a


TENSOR_FUNCTIONS = (
    Function(name="dot", shape=_dot, arguments=2, partner=1, symbol="·", tensor=True, letters=True, infix=r"\cdot"),
    Function(name="cross", shape=_cross, arguments=2, partner=1, symbol="×", tensor=True, letters=True, infix=r"\times"),
    Function(name="outer", shape=_outer, arguments=2, partner=1, symbol="⊗", tensor=True, rank=2, letters=True, infix=r"\otimes"),
    Function(name="ddot", shape=_ddot, arguments=2, partner=2, tensor=True, letters=True, infix=":"),
    Function(name="tr", shape=_trace, spellings=("trace",), tensor=True, linear=True, letters=True),
    Function(name="sym", shape=_square, tensor=True, linear=True, rank=2, letters=True),
    Function(name="skew", shape=_square, tensor=True, linear=True, rank=2, letters=True),
    Function(name="dev", shape=_square, tensor=True, linear=True, rank=2, letters=True),
    Function(name="det", shape=_determinant, tensor=True, latex=r"\det"),
    Function(name="transpose", shape=_transpose, raised="T", tensor=True, linear=True, rank=2, letters=True),
    Function(name="norm", real_valued=True, tensor=True, letters=True, bracket=r"\left|{}\right|"),
    Function(name="inv", shape=_inverse, tensor=True, rank=2),
    Function(name="perp", shape=_perp, tensor=True, linear=True, letters=True),
    Function(name="conj", shape=_first, tensor=True, linear=True, letters=True),
    Function(name="re", real_valued=True, shape=_first, spellings=("Re",), only_complex=("Re",), tensor=True, linear=True, letters=True),
    Function(name="im", real_valued=True, shape=_first, spellings=("Im",), only_complex=("Im",), tensor=True, linear=True, letters=True),
    Function(name="where", shape=_where, arguments=3, tensor=True, letters=True),
    Function(name="vec", shape=_vec, arguments=0, tensor=True, letters=True),
)  # fmt: skip

INTERNAL = (
    Function(name="convect", shape=_convect, arguments=2, over_space=True, tensor=True, letters=True),
    Function(name="unit", shape=_unit, bare="e_{}", bracket="e_{{{}}}", tensor=True),
)  # fmt: skip
"""Functions of the tree that have no name in texts: ``(u·∇) v`` and ``e_0``."""
