"""Expanded residuals as SymPy expressions (optional extra ``opdsl[sympy]``), node by node."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from opdsl.algebra.work import bounded, spend
from opdsl.errors import BackendError, OpLimitError
from opdsl.language.calculus.expand import expand
from opdsl.language.constructors import rename_label, transform
from opdsl.language.functions import ELEMENTARY, FUNCTIONS
from opdsl.language.residual import (
    Add,
    Comparison,
    Composition,
    Coordinate,
    Derivative,
    IndexSum,
    Mul,
    Number,
    Parameter,
    Pointwise,
    Power,
    Residual,
    Where,
)
from opdsl.language.structure import outside_sums, sort_axes
from opdsl.language.system import System
from opdsl.language.traverse import fold


def imported() -> Any:
    """SymPy itself, or what to install; it is imported on use, since this module must load without it."""
    try:
        import sympy
    except ImportError as error:
        raise BackendError("SymPy is not installed. Install it with: pip install 'opdsl[sympy]'.") from error
    return sympy


def to_sympy(system: System, dimension: int | None = None) -> list[Any]:
    """Return the expanded residuals as SymPy expressions, one per component, in the order of the equations.

    Fields become applied undefined functions of the coordinates, components ``u_0``, ``u_1`` functions of their own.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> to_sympy(parse_system("laplace(u) = f", coords="x y"))
        [-f + Derivative(u(x, y), (x, 2)) + Derivative(u(x, y), (y, 2))]
    """
    residual = expand(system, dimension)
    try:
        with bounded("this operator as SymPy expressions", "declare a shorter coordinate vector"):
            return [pointwise_to_sympy(component, residual) for equation in residual.equations for component in equation.components]
    except RecursionError:
        raise OpLimitError("functions are nested too deeply for SymPy", code="E303") from None


def pointwise_to_sympy(node: Pointwise, residual: Residual) -> Any:
    """Return one pointwise expression as a SymPy expression."""
    sympy = imported()
    spend(len(residual.coords))
    coords = [sympy.Symbol(name) for name in residual.coords]
    shapes = {f.name: f.shape for f in residual.fields}

    def convert(node: Pointwise, below: tuple[Any, ...]) -> Any:
        match node:
            case Number(value):
                exact = isinstance(value, Fraction)
                return sympy.Rational(*value.as_integer_ratio()) if exact else sympy.Float(value, 17)
            case Coordinate(axis):
                return coords[int(axis)]
            case Parameter(name, index):
                return sympy.Symbol(name + ("_" + "_".join(map(str, index)) if index else ""))
            case Derivative(name, component, axes):
                shown = f"{name}_{component}" if shapes.get(name) else name
                spend(len(coords) + 20 * (1 + len(axes)))  # SymPy looks at every argument of every occurrence
                applied = sympy.Function(shown)(*coords)
                return sympy.Derivative(applied, *(coords[int(a)] for a in axes)) if axes else applied
            case Add():
                return sympy.Add(*below)
            case Mul():
                return sympy.Mul(*below)
            case Power():
                return sympy.Pow(*below)
            case Composition(function, _, orders):
                return _call(sympy, function, list(below), orders)
            case Where():
                return sympy.Piecewise((below[1], below[0]), (below[2], True))
            case Comparison(operator):
                made = {"<": sympy.Lt, "<=": sympy.Le, ">": sympy.Gt, ">=": sympy.Ge, "==": sympy.Eq, "!=": sympy.Ne}
                return made[operator](*below)
            case IndexSum(label, body):
                parts = fold([_at(body, label, k, residual) for k in range(len(residual.space))], outside_sums, convert)
                return sympy.Add(*parts)
        raise AssertionError(f"no SymPy form for {type(node).__name__}; a new node type needs one")

    return fold((node,), outside_sums, convert)[0]


def _at(body: Pointwise, label: str, k: int, residual: Residual) -> Pointwise:
    """Put the k-th value of a label in. Columns and components count differently where time stands in front."""

    column = residual.space[k]

    def leaf(node: Pointwise) -> Pointwise:
        match node:
            case Coordinate(axis) if axis == label:
                return Coordinate(column)
            case Derivative(name, component, axes):
                moved = sort_axes(column if a == label else a for a in axes)
                return Derivative(name, k if component == label else component, moved)
        return rename_label(node, label, k)

    return transform(body, leaf, {})


def _call(sympy: Any, function: str, args: list[Any], orders: tuple[int, ...]) -> Any:
    if function in ELEMENTARY:
        known = FUNCTIONS[function]
        return known.to_sympy(sympy, *args) if known.to_sympy else getattr(sympy, known.sympy or function)(*args)
    dummies = [sympy.Dummy(f"a{k}") for k in range(len(args))]
    made = sympy.Function(function)(*dummies)
    for dummy, count in zip(dummies, orders or (0,) * len(args), strict=True):
        if count:
            made = sympy.Derivative(made, (dummy, count))
    return sympy.Subs(made, dummies, args) if any(orders) else sympy.Function(function)(*args)
