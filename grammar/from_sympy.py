"""Systems from SymPy (optional extra ``opdsl[sympy]``).

Nothing is parsed by SymPy: expressions are walked node by node, and text never passes through ``sympify``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from opdsl.errors import OpNameError, OpSyntaxError
from opdsl.grammar.declarations import read_coords
from opdsl.language import tree as ex
from opdsl.language.declarations import Declarations, FieldDecl, ParamDecl
from opdsl.language.functions import ELEMENTARY, FUNCTIONS
from opdsl.language.system import System
from opdsl.language.to_sympy import imported

_FROM_SYMPY = {record.sympy: name for name, record in FUNCTIONS.items() if record.sympy}


def from_sympy(expressions: Any, *, coords: str) -> System:
    """Make a system from SymPy expressions or equations in applied functions of the coordinates.

    Args:
        expressions: one expression or ``Eq``, or a sequence of them.
        coords: names of the columns in their order.

    Raises:
        OpSyntaxError: something that has no place in the language.
        OpNameError: no unknown function occurs.

    Example:
        >>> import sympy
        >>> t, x, nu = sympy.symbols("t x nu")
        >>> u = sympy.Function("u")(t, x)
        >>> print(from_sympy(sympy.Eq(u.diff(t), nu*u.diff(x, 2)), coords="t x"))
        coords: t x; fields: u; params: nu; u_t = nu*u_xx
    """
    sympy = imported()
    decls, geometry = read_coords(coords)
    names = [c.name for c in decls]
    several = expressions if isinstance(expressions, Sequence) else [expressions]
    fields: dict[str, None] = {}
    params: dict[str, None] = {}

    def convert(node: Any) -> ex.Node:
        if isinstance(node, sympy.Symbol):
            if node.name in names:
                return ex.Coord(node.name)
            params.setdefault(node.name)
            return ex.Param(node.name)
        if isinstance(node, sympy.Rational):
            top: ex.Node = ex.Num(Fraction(abs(int(node.p))))
            made = top if node.q == 1 else ex.Div(top, ex.Num(Fraction(int(node.q))))
            return ex.Neg(made) if node.p < 0 else made
        if isinstance(node, sympy.Float):
            value = Fraction(str(node))
            return ex.Neg(ex.Num(-value)) if value < 0 else ex.Num(value)
        if node is sympy.pi:
            return ex.Const("pi")
        if node is sympy.E:
            return ex.Call("exp", (ex.Num(Fraction(1)),))
        if isinstance(node, sympy.Add):
            return ex.Add(tuple(convert(arg) for arg in node.as_ordered_terms()))
        if isinstance(node, sympy.Mul):
            if node.as_coeff_Mul()[0].is_negative:
                return ex.Neg(convert(-node))
            return ex.Mul(tuple(convert(arg) for arg in node.as_ordered_factors()))
        if isinstance(node, sympy.exp):
            return ex.Call("exp", (convert(node.args[0]),))
        if isinstance(node, sympy.Pow):
            if node.exp == -1:
                return ex.Div(ex.Num(Fraction(1)), convert(node.base))
            if node.exp == sympy.Rational(1, 2):
                return ex.Call("sqrt", (convert(node.base),))
            return ex.Pow(convert(node.base), convert(node.exp))
        if isinstance(node, sympy.core.function.AppliedUndef):
            given = [str(arg) for arg in node.args]
            if sorted(given) != sorted(names):
                raise OpSyntaxError(f"{node} is not a function of the coordinates ({', '.join(names)})", code="E055")
            fields.setdefault(node.func.__name__)
            return ex.Field(node.func.__name__)
        if isinstance(node, sympy.Derivative):
            axes: list[tuple[str | None, int | str | None]] = []
            for variable, count in node.variable_count:
                if str(variable) not in names:
                    raise OpNameError(f"{variable} is no coordinate", code="E103")
                axes += [(str(variable), None)] * int(count)
            return ex.Apply(ex.Partial(tuple(axes)), convert(node.expr))
        name = _FROM_SYMPY.get(type(node).__name__, type(node).__name__)
        if name in ELEMENTARY and len(node.args) == ELEMENTARY[name]:
            return ex.Call(name, tuple(convert(arg) for arg in node.args))
        raise OpSyntaxError(f"{type(node).__name__} has no place in the language: {node}", code="E055")

    equations = []
    for k, expression in enumerate(several, 1):
        if isinstance(expression, sympy.Equality):
            equations.append(ex.EquationNode(f"eq{k}", convert(expression.lhs), convert(expression.rhs)))
        else:
            equations.append(ex.EquationNode(f"eq{k}", convert(expression)))
    if not fields:
        raise OpNameError("no function of the coordinates occurs, so there is no unknown field", code="E113")
    time = "t" if "t" in names else None
    declared = Declarations(
        decls, tuple(FieldDecl(n) for n in fields), tuple(ParamDecl(n) for n in params), (), time, geometry,
        frozenset(("coords", "fields", "params")),
    )  # fmt: skip
    return System(declared, (), tuple(equations))
