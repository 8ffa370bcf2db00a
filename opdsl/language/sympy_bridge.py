"""Systems to and from SymPy (optional extra ``opdsl[sympy]``).

Nothing is parsed by SymPy: expressions are walked node by node in both directions, and text never passes through ``sympify``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from opdsl.errors import BackendError, OpNameError, OpSyntaxError
from opdsl.grammar.declarations import read_coords
from opdsl.language import tree as ex
from opdsl.language.calculus.expand import expand
from opdsl.language.constructors import rename_label
from opdsl.language.residual import (
    ELEMENTARY,
    Add,
    Call,
    Compare,
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

_TO_SYMPY = {"abs": "Abs", "min": "Min", "max": "Max", "heaviside": "Heaviside"}
_FROM_SYMPY = {"Abs": "abs", "Min": "min", "Max": "max", "Heaviside": "heaviside"}


def _sympy() -> Any:
    """SymPy itself, or what to install; it is imported on use, since this module must load without it."""
    try:
        import sympy
    except ImportError as error:
        raise BackendError("SymPy is not installed. Install it with: pip install 'opdsl[sympy]'.") from error
    return sympy


def to_sympy(system: ex.System, dimension: int | None = None) -> list[Any]:
    """Return the expanded residuals as SymPy expressions, one per component, in the order of the equations.

    Fields become applied undefined functions of the coordinates, components ``u_0``, ``u_1`` functions of their own.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> to_sympy(parse_system("laplace(u) = f", coords="x y"))
        [-f + Derivative(u(x, y), (x, 2)) + Derivative(u(x, y), (y, 2))]
    """
    residual = expand(system, dimension)
    return [pointwise_to_sympy(component, residual) for equation in residual.equations for component in equation.components]


def pointwise_to_sympy(node: Pointwise, residual: Residual) -> Any:
    """Return one pointwise expression as a SymPy expression."""
    sympy = _sympy()
    coords = [sympy.Symbol(name) for name in residual.coords]
    shapes = {f.name: f.shape for f in residual.fields}

    def convert(node: Pointwise) -> Any:
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
                applied = sympy.Function(shown)(*coords)
                return sympy.Derivative(applied, *(coords[int(a)] for a in axes)) if axes else applied
            case Add(terms):
                return sympy.Add(*map(convert, terms))
            case Mul(factors):
                return sympy.Mul(*map(convert, factors))
            case Power(base, exponent):
                return sympy.Pow(convert(base), convert(exponent))
            case Call(function, args, orders):
                return _call(sympy, function, [convert(a) for a in args], orders)
            case Where(condition, yes, no):
                return sympy.Piecewise((convert(yes), convert(condition)), (convert(no), True))
            case Compare(operator, left, right):
                made = {"<": sympy.Lt, "<=": sympy.Le, ">": sympy.Gt, ">=": sympy.Ge, "==": sympy.Eq, "!=": sympy.Ne}
                return made[operator](convert(left), convert(right))
            case IndexSum(label, body):
                return sympy.Add(*(convert(_at(body, label, k, residual)) for k in range(len(residual.space))))
        raise AssertionError(f"no SymPy form for {type(node).__name__}; a new node type needs one")

    return convert(node)


def _at(body: Pointwise, label: str, k: int, residual: Residual) -> Pointwise:
    """Put the k-th value of a label in. Columns and components count differently where time stands in front."""
    from opdsl.language.calculus.coefficients import transform
    from opdsl.language.constructors import sort_axes

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
    if function == "sigmoid":
        return 1 / (1 + sympy.exp(-args[0]))
    if function == "softplus":
        return sympy.log(1 + sympy.exp(args[0]))
    if function == "relu":
        return sympy.Max(args[0], 0)
    if function == "heaviside":
        return sympy.Heaviside(args[0], 0)
    if function in ELEMENTARY:
        return getattr(sympy, _TO_SYMPY.get(function, function))(*args)
    dummies = [sympy.Dummy(f"a{k}") for k in range(len(args))]
    made = sympy.Function(function)(*dummies)
    for dummy, count in zip(dummies, orders or (0,) * len(args), strict=True):
        if count:
            made = sympy.Derivative(made, (dummy, count))
    return sympy.Subs(made, dummies, args) if any(orders) else sympy.Function(function)(*args)


def from_sympy(expressions: Any, *, coords: str) -> ex.System:
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
    sympy = _sympy()
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
    declared = ex.Declarations(
        decls, tuple(ex.FieldDecl(n) for n in fields), tuple(ex.ParamDecl(n) for n in params), (), time, geometry,
        frozenset(("coords", "fields", "params")),
    )  # fmt: skip
    return ex.System(declared, (), tuple(equations))
