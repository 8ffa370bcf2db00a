"""Systems made from systems: Sobolev residuals and changes of variables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from opdsl import expr as ex
from opdsl.calculus.components import Components
from opdsl.calculus.differentiate import Differentiator
from opdsl.calculus.expand import expand, is_condition, transform, whole
from opdsl.errors import OpdslError, OpLimitError, OpNameError, OpSyntaxError
from opdsl.operators import desugar
from opdsl.ranks import Ranks
from opdsl.residual import (
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
from opdsl.simplify import ONE, ZERO, add, divide, mul, negate

MAX_DERIVED = 200


def sobolev(system: ex.System, order: int) -> ex.System:
    r"""Add all derivatives of every residual up to an order: the residual of a Sobolev loss.

    For each equation F and each multi-index α with |α| ≤ m the result holds ∂^α F, named ``F``, ``F_x``, ``F_xx``, …; its
    squared sum is the squared H^m norm of the residual, point by point.

    Args:
        system: the parsed text; conditions are kept as they are.
        order: m ≥ 0.

    Raises:
        OpLimitError: more than 200 equations would arise.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> print(sobolev(parse_system("F: u_t = u_xx", coords="t x", fields="u"), 1))
        coords: t x; fields: u; F: u_t - u_xx; F_t: d_t (u_t - u_xx); F_x: d_x (u_t - u_xx)

    Reference: Son, Jang, Han, Hwang, Sobolev training for physics-informed neural networks, arXiv:2101.08932.
    """
    if order < 0:
        raise OpSyntaxError(f"the order of a Sobolev residual is a whole number ≥ 0, not {order}", code="E051")
    names = [(c.name, None) for c in system.declarations.coords if c.size is None]
    if len(names) != len(system.declarations.coords):
        raise OpLimitError("Sobolev residuals need coordinates with names, not a coordinate vector", code="E311")
    equations: list[ex.EquationNode] = []
    for equation in system.equations:
        if is_condition(equation):
            equations.append(equation)
            continue
        body = whole(equation)
        for degree in range(order + 1):
            for axes in itertools.combinations_with_replacement(names, degree):
                if len(equations) >= MAX_DERIVED:
                    raise OpLimitError(f"this gives more than {MAX_DERIVED} equations", code="E311")
                suffix = "".join(name for name, _ in axes)
                node = ex.Apply(ex.Partial(tuple(axes)), body) if axes else body
                name = f"{equation.name}_{suffix}" if suffix else equation.name
                equations.append(ex.EquationNode(name, node, named=equation.named or bool(suffix)))
    return replace(system, equations=tuple(equations), source="")


def substitute(system: ex.System, text: str, *, coords: str, fields: str | None = None) -> ex.System:
    r"""Change variables: old coordinates, and fields if wanted, as expressions of the new ones.

    With old coordinates x = X(ξ) the derivatives become ∂/∂x_a = Σ_b (J⁻¹)_ba ∂/∂ξ_b, J_ab = ∂X_a/∂ξ_b, applied exactly
    and in any order. A field line ``u = s^(-1/2)*U`` replaces u by an expression of new fields of the new coordinates.

    Args:
        system: the system over the old coordinates.
        text: one line for every old coordinate, ``t = s; x = xi*sqrt(s)``, and for the fields that change.
        coords: the new coordinates, one name per column.
        fields: the new fields, where field lines introduce any; scalars.

    Raises:
        OpdslError: a coordinate has no line, or the change of variables is singular.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> heat = parse_system("u_t = u_xx", coords="t x", fields="u")
        >>> print(substitute(heat, "t = s; x = 2*y", coords="s y"))
        coords: s y; fields: u; u_s - 0.25*u_yy
    """
    from opdsl.grammar import parse_system

    old = expand(system)
    lines, reader = _lines(system, text, coords, fields, parse_system)
    missing = [name for name in old.coords if name not in lines]
    if missing:
        raise OpNameError(f"the old coordinate {missing[0]!r} has no line", code="E115", suggestion=f"write {missing[0]} = …")
    names = list(reader.declarations.columns())
    d = Differentiator(frozenset(range(len(names))))
    jacobian = [[d(lines[name], b) for b in range(len(names))] for name in old.coords]
    if len(names) != len(old.coords):
        raise OpSyntaxError(f"{len(old.coords)} old coordinates need as many new ones, not {len(names)}", code="E052")
    inverse = _inverse(jacobian)

    def leaf(node: Pointwise) -> Pointwise:
        match node:
            case Coordinate(axis):
                assert isinstance(axis, int)
                return lines[old.coords[axis]]
            case Derivative(name, component, axes):
                value = lines.get(name, Derivative(name, component, ()))
                for a in axes:
                    assert isinstance(a, int)
                    value = add(*(mul(inverse[b][a], d(value, b)) for b in range(len(names))))
                return value
        return node

    memo: dict[Pointwise, Pointwise] = {}
    made = tuple(replace(e, components=tuple(transform(c, leaf, memo) for c in e.components)) for e in old.equations)
    if any(len(e.components) != 1 for e in made):
        raise OpSyntaxError("substitute takes scalar equations", code="E052", suggestion="write the components out")
    kept = [f for f in system.declarations.fields if f.name not in lines]
    used = [f for f in reader.declarations.fields if f.name not in {k.name for k in kept}]
    decls = replace(
        reader.declarations, fields=(*kept, *used), params=system.declarations.params, functions=system.declarations.functions,
        given=frozenset(("coords", "fields")) | (system.declarations.given - {"time"}),
    )  # fmt: skip
    residual = replace(old, coords=tuple(names), equations=made)
    equations = tuple(
        ex.EquationNode(e.name, to_expression(e.components[0], residual), named=source.named)
        for e, source in zip(made, [e for e in system.equations if not is_condition(e)], strict=True)
    )
    return ex.System(decls, (), equations)


def _lines(
    system: ex.System, text: str, coords: str, fields: str | None, parse: Callable[..., ex.System]
) -> tuple[dict[str, Pointwise], ex.System]:
    """Read ``x = xi*sqrt(s); u = U/s`` one by one: the left side is an old name, the right side an expression of new ones."""
    lines: dict[str, Pointwise] = {}
    known = {*system.declarations.columns(), *(f.name for f in system.declarations.fields)}
    params = " ".join(p.name for p in system.declarations.params)
    reader: ex.System | None = None
    for line in filter(None, (part.strip() for part in text.replace("\n", ";").split(";"))):
        left, equals, right = line.partition("=")
        name = left.strip()
        if not equals or name not in known:
            raise OpNameError(f"{line!r} does not start with an old name", code="E115", suggestion="write x = …; u = …")
        reader = parse(right, coords=coords, fields=fields or "", params=params)
        ranks = Ranks(reader.declarations)
        node = desugar(whole(reader.equations[0]))
        ranks.infer(node)
        value = Components(ranks, lazy=False).component(node, (), ())
        assert isinstance(value, Pointwise)
        lines[name] = transform(value, _as_parameter, {})
    if reader is None:
        raise OpSyntaxError("no substitution is given", code="E004")
    return lines, reader


def _as_parameter(node: Pointwise) -> Pointwise:
    from opdsl.simplify import Coefficient

    return Parameter(node.name, node.index) if isinstance(node, Coefficient) else node


def _inverse(matrix: list[list[Pointwise]]) -> list[list[Pointwise]]:
    """Invert exactly by cofactors; a change of variables has few coordinates."""
    size = len(matrix)

    def determinant(rows: Sequence[int], cols: Sequence[int]) -> Pointwise:
        if not rows:
            return ONE
        parts = []
        for k, col in enumerate(cols):
            term = mul(matrix[rows[0]][col], determinant(rows[1:], [c for c in cols if c != col]))
            parts.append(negate(term) if k % 2 else term)
        return add(*parts)

    every = list(range(size))
    whole_ = determinant(every, every)
    if whole_ == ZERO:
        raise OpSyntaxError("the change of variables is singular", code="E053", suggestion="every new coordinate must occur")

    def cofactor(i: int, j: int) -> Pointwise:
        minor = determinant([r for r in every if r != j], [c for c in every if c != i])
        return divide(minor if (i + j) % 2 == 0 else negate(minor), whole_)

    return [[cofactor(i, j) for j in every] for i in every]


# --------------------------------------------------------------------------------------------- back to the language
def to_expression(node: Pointwise, residual: Residual) -> ex.Node:
    """Write a pointwise expression of scalar fields as an expression tree, so that it prints and parses again."""
    coords = residual.coords
    shapes: Mapping[str, tuple[int, ...]] = {f.name: f.shape for f in residual.fields}

    def axis_name(axis: int | str) -> tuple[str | None, int | str | None]:
        return (coords[axis], None) if isinstance(axis, int) else (None, axis)

    def one(node: Pointwise) -> ex.Node:
        match node:
            case Number(value):
                return _number(Fraction(value))
            case Coordinate(axis):
                return ex.Coord(coords[axis]) if isinstance(axis, int) else ex.Indexed(ex.Const("position"), (axis,))
            case Parameter(name, index):
                return ex.Indexed(ex.Param(name), index) if index else ex.Param(name)
            case Derivative(name, component, axes):
                base: ex.Node = ex.Field(name)
                if shapes.get(name):
                    base = ex.Indexed(base, (component,))
                return ex.Apply(ex.Partial(tuple(axis_name(a) for a in axes)), base) if axes else base
            case Add(terms):
                return ex.Add(tuple(one(term) for term in terms))
            case Mul(factors):
                if isinstance(factors[0], Number) and factors[0].value < 0:
                    rest = mul(Number(-factors[0].value), *factors[1:])
                    return ex.Neg(one(rest))
                return ex.Mul(tuple(one(factor) for factor in factors))
            case Power(base=below, exponent=Number(value)) if value == -1:
                return ex.Div(ex.Num(Fraction(1)), one(below))
            case Power(base=below, exponent=exponent):
                return ex.Pow(one(below), one(exponent))
            case Call(function, args, orders) if not any(orders):
                return ex.Call(function, tuple(one(arg) for arg in args))
            case Where(condition, yes, no):
                return ex.Call("where", (one(condition), one(yes), one(no)))
            case Compare(operator, left, right):
                return ex.Compare(operator, one(left), one(right))
            case IndexSum(label, body):
                return ex.Sum(label, one(body))
        raise OpdslError(f"{type(node).__name__} of a user function's derivative cannot be written as text", code="E054")

    return one(node)


def _number(value: Fraction) -> ex.Node:
    if value < 0:
        return ex.Neg(_number(-value))
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest == 1:
        return ex.Num(value)
    return ex.Div(ex.Num(Fraction(value.numerator)), ex.Num(Fraction(value.denominator)))
