"""What is known about a function of the language: one record each, which everything reads.

The grammar reads the spellings and the number of arguments, the types the shapes, the calculus the derivatives and exact values, printing
the text and the LaTeX, the exchange with SymPy its names, the evaluation what to compute. Only the components of tensor functions stand
elsewhere, in `calculus.tensor_functions`: they are written with the calculus.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from opdsl.errors import OpRankError
from opdsl.language.declarations import Dim
from opdsl.language.function_shapes import Type
from opdsl.language.operator_application import spans_of
from opdsl.language.tree import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a rule for shapes looks at: the call, the types of its arguments, the number of space coordinates."""

    node: Call
    types: Sequence[Type]
    space: Dim

    @property
    def shapes(self) -> list[tuple[Dim, ...]]:
        """The shapes of the arguments."""
        return [type_.shape for type_ in self.types]

    def need(self, condition: bool, reason: str, code: str = "E230", suggestion: str | None = None) -> None:
        """Refuse the call where the condition does not hold."""
        if not condition:
            spans = spans_of(*self.node.args)[:2] or spans_of(self.node)
            raise OpRankError(reason, code=code, spans=spans, suggestion=suggestion)


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
        exact: value at an exact number → the exact value there, or None; `at_zero` need not be repeated.
        domain: whether there is a real value at a number; everywhere where this is None.
        nonnegative: has no negative values, so that ``|f|`` is f.
        squared: k where f(x)² = x^k.
        parts: ``(e, a, b)``: real and imaginary part of the value at a + i b; None where complex arguments are not taken.
        tensor: takes or returns vectors and matrices, or has a rule of its own for complex values.
        real_valued: of complex arguments too.
        shape: of the value, ``(given) → shape``, from the types of the arguments; () where this is None.
        partner: rank that a parameter of undeclared rank takes as one argument beside another argument of that rank or more.
        over_space: the first argument is a vector with one component per space coordinate.
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
        raised: LaTeX that stands above the argument.
        symbol: text between two arguments where the name means something else in a text.
        bare: text that holds the argument in place of ``{}``, where it is not the name and a parenthesis.
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
    exact: Callable[[Fraction | float], Fraction | float | None] | None = None
    domain: Callable[[Fraction | float], bool] | None = None
    nonnegative: bool = False
    squared: int = 0
    parts: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None
    tensor: bool = False
    real_valued: bool = False
    shape: Callable[[Given], tuple[Dim, ...]] | None = None
    partner: int = 0
    over_space: bool = False
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
    raised: str = ""
    symbol: str = ""
    bare: str = ""
    sympy: str = ""
    to_sympy: Callable[..., Any] | None = None
    values: Callable[..., Any] | None = None

    @property
    def head(self) -> str:
        """LaTeX before the parenthesis."""
        return self.latex or rf"\operatorname{{{self.name}}}"
