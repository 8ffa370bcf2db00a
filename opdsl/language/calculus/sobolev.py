"""Sobolev residuals: a system and all its derivatives."""

from __future__ import annotations

import itertools
from dataclasses import replace

from opdsl.errors import OpLimitError, OpSyntaxError, shown
from opdsl.language import tree as ex
from opdsl.language.calculus.equations import is_condition, whole
from opdsl.language.system import System

MAX_DERIVED = 200


def sobolev(system: System, order: int) -> System:
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
    if isinstance(order, bool) or not isinstance(order, int) or order < 0:
        raise OpSyntaxError(f"the order of a Sobolev residual is a whole number ≥ 0, not {shown(order)}", code="E051")
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
