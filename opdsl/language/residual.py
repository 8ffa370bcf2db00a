"""The residual: a pointwise function of operator values, coordinates and parameters.

This is the contract between the language (which produces a `Residual`) and the engine (which evaluates it).
After expansion every derivative stands directly on a field: no operator acts on a product, a function or a sum any
more.

===================  ==========================================================
symbol               here
===================  ==========================================================
∂_x ∂_x u            ``Derivative("u", 0, (1, 1))`` when x is coordinate column 1
a_ij ∂_i ∂_j u       ``IndexSum("i", IndexSum("j", Mul((Parameter("a", ("i", "j")), Derivative("u", 0, ("i", "j"))))))``
σ'(u)                ``Composition("tanh", (Derivative("u", 0, ()),), (1,))`` only for functions bound by the user
===================  ==========================================================

Sums over an index are written out when the space dimension is small; `IndexSum` remains where it is large or symbolic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

from opdsl.language.interning import Expression, expression_node, interned, parts
from opdsl.language.traverse import fill_slot


class _Interning(type):
    """Gives the node that exists instead of an equal new one."""

    def __call__(cls, *args: Any, **named: Any) -> Any:
        values = args if len(args) == len(cls._entries) else cls._filled(args, named)  # type: ignore[attr-defined]
        values = cls._canonical(*values)  # type: ignore[attr-defined]
        return interned((cls, *values), lambda: super(_Interning, cls).__call__(*values))


def digest(node: Pointwise) -> bytes:
    """Return 16 bytes that two nodes share exactly if they are equal (up to 2⁻¹²⁸); the same in every process."""
    fill_slot(node, "_digest", _pointwise_parts, _digest_of)
    return node._digest


def _pointwise_parts(node: Pointwise) -> list[Pointwise]:
    return [part for part in parts(node) if isinstance(part, Pointwise)]


def _digest_of(node: Pointwise) -> bytes:
    written: list[bytes] = [(node.kind or type(node).__name__).encode()]
    for name in node._entries:
        value = getattr(node, name)
        many = value if isinstance(value, tuple) else (value,)
        written += [v._digest if isinstance(v, Pointwise) else repr(v).encode() for v in many]
        written.append(b"|")
    return hashlib.blake2b(b"\0".join(written), digest_size=16).digest()


Axis = int | str
"""A coordinate column (int), or an index label (str) bound by an enclosing `IndexSum`.

A label ranges over the space coordinates, 0 … len(space)-1. On `Coordinate` and `Derivative.axes` the k-th value of a
label stands for the coordinate column ``space[k]``; on `Parameter.index` and `Derivative.component` for component k.
"""


class Pointwise(Expression, metaclass=_Interning):
    """A scalar expression evaluated at each point. Immutable; equal expressions are one object."""

    __slots__ = ("_digest", "_field_free", "_key", "_labels")
    kind: ClassVar[str] = ""
    """What digests call the class, where not by its name. They decide the order of terms that look alike, so they outlive names."""
    _digest: bytes
    _field_free: bool
    _labels: frozenset[str]

    @classmethod
    def _filled(cls, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        """All values, from arguments in any order and defaults."""
        rest = tuple(named.pop(n, d) for n, d in zip(cls._entries[len(args) :], cls._defaults[len(args) :], strict=True))
        if named or len(args) > len(cls._entries) or any(value is MISSING for value in rest):
            raise TypeError(f"{cls.__name__} takes {', '.join(cls._entries)}")
        return (*args, *rest)

    @classmethod
    def _canonical(cls, *values: Any) -> tuple[Any, ...]:
        """The same values in the one form that is kept."""
        return values

    def axes_named(self) -> tuple[Axis, ...]:
        """The columns and index labels that stand at this very node."""
        return ()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, name) for name in self._entries)


@expression_node
class Number(Pointwise):
    """A literal: exact (`Fraction`) where the text is exact (``1/2``, ``6``, ``0.25``), else float (``pi``)."""

    value: Fraction | float

    @classmethod
    def _canonical(cls, *values: Any) -> tuple[Any, ...]:
        (value,) = values
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return (Fraction(value) if whole else value,)


@expression_node
class Coordinate(Pointwise):
    """The value of a coordinate at the point."""

    axis: Axis

    def axes_named(self) -> tuple[Axis, ...]:
        """The column or label."""
        return (self.axis,)


@expression_node
class Parameter(Pointwise):
    """One component of a parameter or coefficient that is bound at call time and is not differentiated.

    The bound thing may be a number, an array, a trainable array, or a function of the point.
    """

    name: str
    index: tuple[Axis, ...] = ()

    def axes_named(self) -> tuple[Axis, ...]:
        """The indices."""
        return self.index


@expression_node
class Derivative(Pointwise):
    """∂_{axes} of one component of a field (or of a coefficient that is differentiated). ``axes`` sorted.

    () is the value.
    """

    field: str
    component: Axis = 0
    axes: tuple[Axis, ...] = ()

    def axes_named(self) -> tuple[Axis, ...]:
        """The component and what it is differentiated by."""
        return (self.component, *self.axes)


@expression_node
class Add(Pointwise):
    """Sum of two or more terms."""

    terms: tuple[Pointwise, ...]


@expression_node
class Mul(Pointwise):
    """Product of two or more factors. A numeric factor, if any, stands first."""

    factors: tuple[Pointwise, ...]


@expression_node
class Power(Pointwise):
    """base ** exponent. Quotients are products with powers -1."""

    base: Pointwise
    exponent: Pointwise


@expression_node
class Composition(Pointwise):
    """An elementary function of the fixed table, or a function declared by the user.

    ``orders[k]`` counts derivatives with respect to argument k; all zero (or empty) for the function itself.
    Derivatives of the functions in the fixed table are written out by the expansion, so nonzero orders occur on user
    functions only.
    """

    kind: ClassVar[str] = "Call"
    function: str
    args: tuple[Pointwise, ...]
    orders: tuple[int, ...] = ()


@expression_node
class Comparison(Pointwise):
    """A comparison, ``operator`` one of < <= > >= == !=. Occurs only as the condition of `Where`."""

    kind: ClassVar[str] = "Compare"
    operator: str
    left: Pointwise
    right: Pointwise


@expression_node
class Where(Pointwise):
    """``yes`` where the condition holds, ``no`` elsewhere."""

    condition: Pointwise
    yes: Pointwise
    no: Pointwise


@expression_node
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
class EquationResidual:
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
    equations: tuple[EquationResidual, ...]
    functions: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def contiguous(space: Sequence[int]) -> bool:
    """Whether columns, which are in ascending order, are neighbours; a long range is not walked through."""
    return len(space) == 0 or space[-1] - space[0] + 1 == len(space)
