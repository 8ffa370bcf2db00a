"""The residual: a pointwise function of operator values, coordinates and parameters.

This is the contract between the language (which produces a `Residual`) and the engine (which evaluates it).
After expansion every derivative stands directly on a field: no operator acts on a product, a function or a sum any
more.

===================  ==========================================================
symbol               here
===================  ==========================================================
∂_x ∂_x u            ``Derivative("u", 0, (1, 1))`` when x is coordinate column 1
a_ij ∂_i ∂_j u       ``IndexSum("i", IndexSum("j", Mul((Parameter("a", ("i", "j")), Derivative("u", 0, ("i", "j"))))))``
σ'(u)                ``Call("tanh", (Derivative("u", 0, ()),), (1,))`` only for functions bound by the user
===================  ==========================================================

Sums over an index are written out when the space dimension is small; `IndexSum` remains where it is large or symbolic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def _node(cls: type[_T]) -> type[_T]:
    """A frozen dataclass with slots whose hash is computed once.

    Expressions are shared, deep and used as dictionary keys. Comparing two equal graphs field by field takes exponential
    time where subexpressions are shared, so compound nodes are compared by a 128-bit digest of their structure.
    """
    made: Any = dataclass(frozen=True, slots=True)(cls)
    fields_hash, fields_equal = made.__hash__, made.__eq__

    def __hash__(self: Any) -> int:
        try:
            return int(self._hash)
        except AttributeError:
            value = hash((cls.__name__, fields_hash(self)))
            object.__setattr__(self, "_hash", value)
            return value

    def __eq__(self: Any, other: object) -> bool:
        if self is other:
            return True
        if self.__class__ is not other.__class__ or hash(self) != hash(other):
            return False
        return bool(fields_equal(self, other)) if cls.__name__ in _LEAVES else digest(self) == digest(other)

    made.__hash__, made.__eq__ = __hash__, __eq__
    return made  # type: ignore[no-any-return]


_LEAVES = frozenset(("Number", "Coordinate", "Parameter", "Derivative", "Coefficient"))


def digest(node: Any) -> bytes:
    """Return 16 bytes that two nodes share exactly if they are equal (up to 2⁻¹²⁸); the same in every process."""
    try:
        return node._digest  # type: ignore[no-any-return]
    except AttributeError:
        parts: list[bytes] = [type(node).__name__.encode()]
        for entry in fields(node):
            value = getattr(node, entry.name)
            many = value if isinstance(value, tuple) else (value,)
            parts += [digest(v) if isinstance(v, Pointwise) else repr(_plain(v)).encode() for v in many]
            parts.append(b"|")
        made = hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()
        object.__setattr__(node, "_digest", made)
        return made


def _plain(value: Any) -> Any:
    """Equal numbers have one spelling: 2.0 and Fraction(2) are equal and hash alike."""
    if isinstance(value, float) and value.is_integer():
        return Fraction(value)
    return value


Axis = int | str
"""A coordinate column (int), or an index label (str) bound by an enclosing `IndexSum`.

A label ranges over the space coordinates, 0 … len(space)-1. On `Coordinate` and `Derivative.axes` the k-th value of a
label stands for the coordinate column ``space[k]``; on `Parameter.index` and `Derivative.component` for component k.
"""


class Pointwise:
    """A scalar expression evaluated at each point. Immutable and hashable; shared subexpressions are equal objects."""

    __slots__ = ("_digest", "_field_free", "_hash", "_key")


ELEMENTARY: dict[str, int] = {
    "sin": 1, "cos": 1, "tan": 1, "asin": 1, "acos": 1, "atan": 1, "sinh": 1, "cosh": 1, "tanh": 1, "asinh": 1,
    "acosh": 1, "atanh": 1, "exp": 1, "log": 1, "sqrt": 1, "abs": 1, "sign": 1, "erf": 1, "sigmoid": 1, "softplus": 1, "relu": 1,
    "heaviside": 1, "atan2": 2, "min": 2, "max": 2,
}  # fmt: skip
"""The fixed table of functions and their numbers of arguments. ``heaviside(0) = 0``, ``sign(0) = 0``.

Others never occur.
"""


@_node
class Number(Pointwise):
    """A literal: exact (`Fraction`) where the text is exact (``1/2``, ``6``, ``0.25``), else float (``pi``)."""

    value: Fraction | float


@_node
class Coordinate(Pointwise):
    """The value of a coordinate at the point."""

    axis: Axis


@_node
class Parameter(Pointwise):
    """One component of a parameter or coefficient that is bound at call time and is not differentiated.

    The bound thing may be a number, an array, a trainable array, or a function of the point.
    """

    name: str
    index: tuple[Axis, ...] = ()


@_node
class Derivative(Pointwise):
    """∂_{axes} of one component of a field (or of a coefficient that is differentiated). ``axes`` sorted.

    () is the value.
    """

    field: str
    component: Axis = 0
    axes: tuple[Axis, ...] = ()


@_node
class Add(Pointwise):
    """Sum of two or more terms."""

    terms: tuple[Pointwise, ...]


@_node
class Mul(Pointwise):
    """Product of two or more factors. A numeric factor, if any, stands first."""

    factors: tuple[Pointwise, ...]


@_node
class Power(Pointwise):
    """base ** exponent. Quotients are products with powers -1."""

    base: Pointwise
    exponent: Pointwise


@_node
class Call(Pointwise):
    """An elementary function of the fixed table, or a function declared by the user.

    ``orders[k]`` counts derivatives with respect to argument k; all zero (or empty) for the function itself.
    Derivatives of the functions in the fixed table are written out by the expansion, so nonzero orders occur on user
    functions only.
    """

    function: str
    args: tuple[Pointwise, ...]
    orders: tuple[int, ...] = ()


@_node
class Compare(Pointwise):
    """A comparison, ``operator`` one of < <= > >= == !=. Occurs only as the condition of `Where`."""

    operator: str
    left: Pointwise
    right: Pointwise


@_node
class Where(Pointwise):
    """``yes`` where the condition holds, ``no`` elsewhere."""

    condition: Pointwise
    yes: Pointwise
    no: Pointwise


@_node
class IndexSum(Pointwise):
    """Σ over the label, which ranges over the space coordinates, of the body."""

    label: str
    body: Pointwise


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """An unknown (or a coefficient that is differentiated): name, shape of its components, its place among the outputs.

    A complex field has a last axis of length 2 (real part, imaginary part). ``coefficient`` marks one that is bound
    by keyword and not part of ``u``; the text does not say whether it is a number or a function of the point, so its
    derivatives are kept. Where a call binds a constant, `opdsl.language.calculus.specialise` removes them (∂k = 0 and ``k``
    becomes a `Parameter`). ``trainable`` is for the trainer: it does not change what is differentiated.
    """

    name: str
    shape: tuple[int, ...] = ()
    complex: bool = False
    coefficient: bool = False
    trainable: bool = False


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """A name bound at call time. ``rank`` trailing axes.

    ``shape`` where declared or implied, with None for an unknown length. ``constant`` says why its value must be the same at
    all points, where it must; empty where functions and one value per point may be bound.
    """

    name: str
    rank: int = 0
    shape: tuple[int | None, ...] = ()
    trainable: bool = False
    constant: str = ""


@dataclass(frozen=True, slots=True)
class Equation:
    """One named equation, left side minus right side. ``components`` in row-major order of ``shape``; () is a scalar.

    An equation with complex values has a last axis of length 2: real part, imaginary part.
    """

    name: str
    components: tuple[Pointwise, ...]
    shape: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Residual:
    """All equations of one text over common coordinates.

    ``coords`` has one entry per column; for a long coordinate vector ``x[100000]`` it is a sequence that formats
    ``x_i`` on demand. A symbolic dimension (``x[d]``) is resolved before: `opdsl.language.calculus.expand` takes the number.
    ``space`` are the columns over which vector calculus and index labels range, a tuple or a ``range``.
    """

    coords: Sequence[str]
    space: Sequence[int]
    fields: tuple[FieldSpec, ...]
    parameters: tuple[ParameterSpec, ...]
    equations: tuple[Equation, ...]
    functions: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def contiguous(space: Sequence[int]) -> bool:
    """Whether columns, which are in ascending order, are neighbours; a long range is not walked through."""
    return len(space) == 0 or space[-1] - space[0] + 1 == len(space)
