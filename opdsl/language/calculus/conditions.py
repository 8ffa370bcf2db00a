"""Boundary and initial data: the residual of a condition, and the place it is evaluated at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from opdsl.algebra.work import EXPANSION, SMALLER, bounded, spend
from opdsl.errors import OpConditionError
from opdsl.language import tree as ex
from opdsl.language.calculus.coefficients import settle
from opdsl.language.calculus.complex_values import real
from opdsl.language.calculus.components import Components
from opdsl.language.calculus.equations import is_condition, located, typed, whole
from opdsl.language.calculus.expand import checked_dimension, residual_of
from opdsl.language.operator_application import desugar, spans_of
from opdsl.language.residual import Pointwise, Residual
from opdsl.language.system import System
from opdsl.language.traverse import fold


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """Boundary or initial data: a residual of its own and the place it is evaluated at.

    Attributes:
        name: name of the equation.
        residual: left side minus right side, over the same coordinates and fields as the whole system.
        where: the fixed coordinates and their values, expressions of parameters and coordinates. Empty for a condition
            on the normal derivative that names no place.
        system: the condition as a system without the restriction.
        others: what holds at other places and is added: ``u(x=0) = u(x=1)`` is u at 0, plus −u at 1.
    """

    name: str
    residual: Residual
    where: Mapping[str, Pointwise]
    system: System
    others: tuple[ConditionSpec, ...] = ()


def conditions(system: System, dimension: int | None = None) -> dict[str, ConditionSpec]:
    """Return boundary and initial data by name.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> spec = conditions(parse_system("u_xx = 0; left: u(x=0) = 1", coords="x"))["left"]
        >>> dict(spec.where)
        {'x': Number(value=Fraction(0, 1))}
    """
    size = checked_dimension(system, dimension)
    found: dict[str, ConditionSpec] = {}
    with bounded(EXPANSION, SMALLER):
        for equation in system.equations:
            if is_condition(equation):
                found[equation.name] = _condition(system, equation, size)
    return found


def _condition(system: System, equation: ex.EquationNode, dimension: int | None) -> ConditionSpec:
    """Sort the terms by the place they are taken at; terms without one go with the first."""
    first: ex.At | None = None
    sides: dict[tuple[tuple[str, ex.Node], ...], list[ex.Node]] = {}
    loose: list[ex.Node] = []
    for term in _terms(whole(equation)):
        places = [node for node in ex.walk(term) if isinstance(node, ex.At)]
        for place in places[1:]:
            if place.where != places[0].where:
                raise located(
                    OpConditionError(
                        "one term of a condition is taken at one place, this at two", code="E402", spans=spans_of(places[0], place),
                        suggestion="write a sum, such as u(x=0) = u(x=1), or one condition per place",
                    ),
                    system, equation,
                )
        first = first or (places[0] if places else None)
        (sides.setdefault(places[0].where, []) if places else loose).append(_bare(term))
    if first is None:
        return _at_place(system, equation, equation, (), dimension)
    if len(sides) == 1:  # as it was written
        bare = replace(equation, left=_bare(equation.left), right=None if equation.right is None else _bare(equation.right))
        return _at_place(system, equation, bare, first.where, dimension)
    sides[first.where] += loose
    specs = []
    for where, terms in sides.items():
        bare = replace(equation, left=ex.Add(tuple(terms)) if len(terms) > 1 else terms[0], right=None)
        specs.append(_at_place(system, equation, bare, where, dimension))
    return replace(specs[0], others=tuple(specs[1:]))


def _terms(equation: ex.Node) -> Iterator[ex.Node]:
    stack = [(equation, False)]
    while stack:
        node, negative = stack.pop()
        if isinstance(node, ex.Add):
            stack.extend((term, negative) for term in reversed(node.terms))
        elif isinstance(node, ex.Neg):
            stack.append((node.operand, not negative))
        else:
            spend(1)
            yield ex.Neg(node, span=node.span) if negative else node


def _bare(node: ex.Node) -> ex.Node:
    """The expression without its restrictions."""

    def bare(each: ex.Node, new: tuple[ex.Node, ...]) -> ex.Node:
        return new[0] if isinstance(each, ex.At) else ex.with_children(each, new)

    return fold((node,), ex.children, bare)[0]


def _at_place(
    system: System, equation: ex.EquationNode, bare: ex.EquationNode, where: Sequence[tuple[str, ex.Node]], dimension: int | None
) -> ConditionSpec:
    inner = replace(system, equations=(bare,))
    ranks = typed(system, dimension)
    worker = Components(ranks, lazy=False)
    settled: dict[str, Pointwise] = {}
    for name, value in where:
        node = desugar(value)
        ranks.infer(node)
        settled[name] = settle([real(worker.component(node, (), ()))], frozenset())[0]
    return ConditionSpec(equation.name, residual_of(inner, [bare], dimension), settled, inner)
