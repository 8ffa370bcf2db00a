"""Equations of a text: their sides as one expression, which of them are conditions, the names they use, where they stand."""

from __future__ import annotations

from opdsl.errors import LanguageError
from opdsl.language import tree as ex
from opdsl.language.operator_application import desugar
from opdsl.language.system import System
from opdsl.language.type_inference import Ranks


def whole(equation: ex.EquationNode) -> ex.Node:
    """Left side minus right side."""
    if equation.right is None:
        return equation.left
    if isinstance(equation.right, ex.Num) and equation.right.value == 0:
        return equation.left
    return ex.Add((equation.left, ex.Neg(equation.right, span=equation.right.span)), span=equation.span)


def is_condition(equation: ex.EquationNode) -> bool:
    """Say whether an equation is boundary or initial data: it has a restriction ``u(x=0)``, a normal derivative or the normal."""
    return any(isinstance(node, ex.At) or _has_normal(node) for node in ex.walk(equation))


def _has_normal(node: ex.Node) -> bool:
    return (isinstance(node, ex.Nabla) and node.name == "dn") or (isinstance(node, ex.Const) and node.name == "n")


def names_used(system: System, equations: list[ex.EquationNode]) -> tuple[set[str], bool]:
    """Names that occur in the equations, also through definitions; and whether the normal does."""
    used: set[str] = set()
    normal = False
    definitions = {d.name: d.value for d in system.definitions}
    todo: list[ex.Node] = [*equations]
    while todo:
        for node in ex.walk(todo.pop()):
            if isinstance(node, (ex.Param, ex.Field, ex.Call)):
                used.add(node.name)
            elif _has_normal(node):
                normal = True
            elif isinstance(node, ex.Ref) and node.name in definitions:
                used.add(node.name)
                todo.append(definitions.pop(node.name))
    if normal and any(p.name == "n" for p in system.declarations.params):
        used.add("n")
    return used, normal


def typed(system: System, dimension: int | None) -> Ranks:
    """Return the types of a system, with those of its definitions found."""
    ranks = Ranks(system.declarations, dimension)
    for definition in system.definitions:
        node = desugar(definition.value)
        ranks.definitions[definition.name] = node
        ranks.infer(node)
    return ranks


def text_of(system: System, equation: ex.EquationNode) -> str:
    """Return an equation as the user wrote it; empty for a derived one."""
    if system.source and equation.span is not None:
        return system.source[equation.span.start : equation.span.stop].strip()
    return ""


def located(error: LanguageError, system: System, equation: ex.EquationNode) -> LanguageError:
    """Tell an error of the expansion which equation it is in."""
    error.source = error.source or system.source or None
    error.residual = error.residual or equation.name
    if not error.spans and equation.span is not None:
        error.spans = (equation.span,)
    return error
