"""The functions of the language: everything that is known about one stands in its record.

The grammar reads the spellings and the number of arguments, the calculus the derivatives and exact values, printing the LaTeX, the
exchange with SymPy its names, the evaluation what to compute. Shapes and components of tensor functions are rules over several
arguments and stand in `function_shapes` and `calculus.components`; the record says that a function is one of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function.

    Attributes:
        name: as it stands in trees, and first among its spellings.
        arguments: how many it takes; 0 means any number.
        spellings: further names in texts.
        derivative: of a function of one argument, ``(e, x) → f'(x)`` in terms of the constructors ``e`` of pointwise expressions.
        chain: of a function of several arguments, ``(e, arguments, their derivatives) → the derivative of the value``. At a kink it is what
            `opdsl.jets.operations` says of the same function of arrays.
        at_zero: the exact value at 0, where there is one.
        entire: complex arguments are taken, split into real and imaginary part.
        tensor: takes or returns vectors and matrices, or has a rule of its own for complex values.
        letters: components with free index letters may be arguments.
        linear: f(a/2) = f(a)/2.
        rank: of the value, where it is the same for all arguments and not 0.
        any_more: takes further arguments, from the left: ``min(a, b, c)`` is ``min(min(a, b), c)``.
        only_complex: those of its names that are names of the language only beside a complex field: ``Re`` is the Reynolds number.
        reciprocal_of: another function; texts with this one are read as its reciprocal.
        one_minus: another function; texts with this one are read as 1 minus that.
        latex: the head, such as ``\\sin``; by default ``\\operatorname{name}``.
        bracket: LaTeX that holds the argument in place of ``{}``, such as ``\\sqrt{{{}}}``.
        infix: LaTeX between two arguments.
        sympy: the name of SymPy's class or function.
        to_sympy: ``(sympy, *arguments)`` where SymPy has no such function.
        values: ``(xp, *arrays)``, the meaning on arrays; None where `opdsl.jets.elementary` knows the function by its name.
    """

    name: str
    arguments: int = 1
    spellings: tuple[str, ...] = ()
    derivative: Callable[[Any, Any], Any] | None = None
    chain: Callable[[Any, tuple[Any, ...], list[Any]], Any] | None = None
    at_zero: int | None = None
    entire: bool = False
    tensor: bool = False
    letters: bool = False
    linear: bool = False
    rank: int = 0
    any_more: bool = False
    only_complex: tuple[str, ...] = ()
    reciprocal_of: str = ""
    one_minus: str = ""
    latex: str = ""
    bracket: str = ""
    infix: str = ""
    sympy: str = ""
    to_sympy: Callable[..., Any] | None = None
    values: Callable[..., Any] | None = None

    @property
    def head(self) -> str:
        """LaTeX before the parenthesis."""
        return self.latex or rf"\operatorname{{{self.name}}}"


def _square(e: Any, x: Any) -> Any:
    return e.power(x, e.number(2))


def _one_minus(e: Any, x: Any) -> Any:
    return e.add(e.ONE, e.negate(x))


def _root(e: Any, x: Any) -> Any:
    return e.call("sqrt", (x,))


def _tan(e: Any, x: Any) -> Any:
    return e.add(e.ONE, _square(e, e.call("tan", (x,))))


def _asin(e: Any, x: Any) -> Any:
    return e.divide(e.ONE, _root(e, _one_minus(e, _square(e, x))))


def _sigmoid(e: Any, x: Any) -> Any:
    s = e.call("sigmoid", (x,))
    return e.mul(s, _one_minus(e, s))


def _erf(e: Any, x: Any) -> Any:
    return e.mul(e.number(2 / math.sqrt(math.pi)), e.call("exp", (e.negate(_square(e, x)),)))


def _atan2(e: Any, args: tuple[Any, ...], inner: list[Any]) -> Any:
    (y, x), (dy, dx) = args, inner
    below = e.power(e.add(_square(e, x), _square(e, y)), e.MINUS_ONE)
    return e.mul(below, e.add(e.mul(x, dy), e.negate(e.mul(y, dx))))


def _extremum(name: str, taken: str, left: str) -> Callable[[Any, tuple[Any, ...], list[Any]], Any]:
    """The derivative of the piece that is taken; of two equal ones the mean. Of nan no comparison holds: there it is the value, nan."""

    def chain(e: Any, args: tuple[Any, ...], inner: list[Any]) -> Any:
        (a, b), (da, db) = args, inner
        mean = e.mul(e.number(Fraction(1, 2)), e.add(da, db))
        equal = e.where(e.Compare("==", a, b), mean, e.call(name, args))
        return e.where(e.Compare(taken, a, b), da, e.where(e.Compare(left, a, b), db, equal))

    return chain


def _step(xp: Any, a: Any) -> Any:
    # Neither branch is taken of nan: it stays what it is.
    return xp.where(a <= 0, xp.zeros_like(a), xp.where(a > 0, xp.ones_like(a), a))


_ELEMENTARY = (
    Function(name="sin", derivative=lambda e, x: e.call("cos", (x,)), at_zero=0, entire=True, latex=r"\sin"),
    Function(name="cos", derivative=lambda e, x: e.negate(e.call("sin", (x,))), at_zero=1, entire=True, latex=r"\cos"),
    Function(name="tan", derivative=_tan, at_zero=0, latex=r"\tan"),
    Function(name="asin", spellings=("arcsin",), derivative=_asin, at_zero=0),
    Function(name="acos", spellings=("arccos",), derivative=lambda e, x: e.negate(_asin(e, x))),
    Function(name="atan", spellings=("arctan",), derivative=lambda e, x: e.divide(e.ONE, e.add(e.ONE, _square(e, x))), at_zero=0),
    Function(name="sinh", derivative=lambda e, x: e.call("cosh", (x,)), at_zero=0, entire=True, latex=r"\sinh"),
    Function(name="cosh", derivative=lambda e, x: e.call("sinh", (x,)), at_zero=1, entire=True, latex=r"\cosh"),
    Function(name="tanh", derivative=lambda e, x: _one_minus(e, _square(e, e.call("tanh", (x,)))), at_zero=0, latex=r"\tanh"),
    Function(name="asinh", spellings=("arsinh",), at_zero=0,
             derivative=lambda e, x: e.divide(e.ONE, _root(e, e.add(e.ONE, _square(e, x))))),
    Function(name="acosh", spellings=("arcosh",),
             derivative=lambda e, x: e.divide(e.ONE, _root(e, e.add(_square(e, x), e.MINUS_ONE)))),
    Function(name="atanh", spellings=("artanh",), at_zero=0,
             derivative=lambda e, x: e.divide(e.ONE, _one_minus(e, _square(e, x)))),
    Function(name="exp", derivative=lambda e, x: e.call("exp", (x,)), at_zero=1, entire=True, latex=r"\exp"),
    Function(name="log", spellings=("ln",), derivative=lambda e, x: e.divide(e.ONE, x), latex=r"\log"),
    Function(name="sqrt", at_zero=0, bracket=r"\sqrt{{{}}}",
             derivative=lambda e, x: e.divide(e.ONE, e.mul(e.number(2), _root(e, x)))),
    Function(name="abs", derivative=lambda e, x: e.call("sign", (x,)), at_zero=0, tensor=True, letters=True,
             bracket=r"\left|{}\right|", sympy="Abs", values=lambda xp, a: xp.abs(a)),
    Function(name="sign", spellings=("sgn",), derivative=lambda e, x: e.ZERO, at_zero=0, values=lambda xp, a: xp.sign(a)),
    Function(name="erf", derivative=_erf, at_zero=0),
    Function(name="sigmoid", spellings=("logistic",), derivative=_sigmoid, to_sympy=lambda s, a: 1 / (1 + s.exp(-a))),
    Function(name="softplus", derivative=lambda e, x: e.call("sigmoid", (x,)), to_sympy=lambda s, a: s.log(1 + s.exp(a))),
    Function(name="relu", derivative=lambda e, x: e.call("heaviside", (x,)), at_zero=0, to_sympy=lambda s, a: s.Max(a, 0),
             values=lambda xp, a: xp.where(a <= 0, xp.zeros_like(a), a)),
    Function(name="heaviside", derivative=lambda e, x: e.ZERO, at_zero=0, sympy="Heaviside", to_sympy=lambda s, a: s.Heaviside(a, 0),
             values=_step),
    Function(name="atan2", arguments=2, chain=_atan2, spellings=("arctan2",), values=lambda xp, a, b: xp.atan2(a, b)),
    Function(name="min", arguments=2, spellings=("minimum",), chain=_extremum("min", "<", ">"), tensor=True, letters=True,
             any_more=True, latex=r"\min", sympy="Min", values=lambda xp, a, b: xp.minimum(a, b)),
    Function(name="max", arguments=2, spellings=("maximum",), chain=_extremum("max", ">", "<"), tensor=True, letters=True,
             any_more=True, latex=r"\max", sympy="Max", values=lambda xp, a, b: xp.maximum(a, b)),
)  # fmt: skip

# No tree holds these.
_REWRITTEN = (
    Function(name="cot", reciprocal_of="tan"), Function(name="sec", reciprocal_of="cos"), Function(name="csc", reciprocal_of="sin"),
    Function(name="coth", reciprocal_of="tanh"), Function(name="sech", reciprocal_of="cosh"), Function(name="csch", reciprocal_of="sinh"),
    Function(name="erfc", one_minus="erf"),
)  # fmt: skip

_TENSORS = (
    Function(name="dot", arguments=2, tensor=True, letters=True, infix=r"\cdot"),
    Function(name="cross", arguments=2, tensor=True, letters=True, infix=r"\times"),
    Function(name="outer", arguments=2, tensor=True, rank=2, letters=True, infix=r"\otimes"),
    Function(name="ddot", arguments=2, tensor=True, letters=True, infix=":"),
    Function(name="tr", spellings=("trace",), tensor=True, linear=True, letters=True),
    Function(name="sym", tensor=True, linear=True, rank=2, letters=True),
    Function(name="skew", tensor=True, linear=True, rank=2, letters=True),
    Function(name="dev", tensor=True, linear=True, rank=2, letters=True),
    Function(name="det", tensor=True, latex=r"\det"),
    Function(name="transpose", tensor=True, linear=True, rank=2, letters=True),
    Function(name="norm", tensor=True, letters=True, bracket=r"\left|{}\right|"),
    Function(name="inv", tensor=True, rank=2),
    Function(name="perp", tensor=True, linear=True, letters=True),
    Function(name="conj", tensor=True, linear=True, letters=True),
    Function(name="re", spellings=("Re",), only_complex=("Re",), tensor=True, linear=True, letters=True),
    Function(name="im", spellings=("Im",), only_complex=("Im",), tensor=True, linear=True, letters=True),
    Function(name="where", arguments=3, tensor=True, letters=True),
    Function(name="vec", arguments=0, tensor=True, letters=True),
)

INTERNAL = (
    Function(name="convect", arguments=2, tensor=True, letters=True),
    Function(name="unit", tensor=True),
)
"""Functions of the tree that have no name in texts: ``(u·∇) v`` and ``e_0``."""

SPELT = (*_ELEMENTARY, *_REWRITTEN, *_TENSORS)
"""Functions that texts call by name."""

FUNCTIONS: dict[str, Function] = {f.name: f for f in (*_ELEMENTARY, *_TENSORS, *INTERNAL)}
"""Functions that stand in trees."""

ELEMENTARY: dict[str, int] = {f.name: f.arguments for f in _ELEMENTARY}
"""Functions of pointwise expressions, with their numbers of arguments. ``heaviside(0) = 0``, ``sign(0) = 0``. Others never occur."""
