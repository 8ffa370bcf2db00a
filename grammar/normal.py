"""The normal: a vector called n that nobody has declared.

Only the ranks of a text tell: in ``n·∇u = g`` and ``σ_ij n_j = f_i`` an undeclared n is the normal of the boundary, in ``u^n`` a
parameter like any other. An equation that holds the normal is a boundary condition.
"""

from __future__ import annotations

from dataclasses import replace

from opdsl.errors import OpNameError
from opdsl.language import tree as ex
from opdsl.language.system import System

NAME = "n"


def settled(system: System) -> System:
    """Make the undeclared name n the normal where it is a vector.

    Raises:
        OpNameError: it is none, and ``params=`` says that there are no other parameters.
    """
    decls = system.declarations
    decl = next(p for p in decls.params if p.name == NAME)
    if len(decl.shape or ()) != 1:
        if "params" not in decls.given:
            return system
        places = [node.span for root in _roots(system) for node in ex.walk(root) if _is_normal(node) and node.span is not None]
        others = {*(c.name for c in decls.coords), *(f.name for f in decls.fields), *(p.name for p in decls.params)} - {NAME}
        known = ", ".join(sorted(others))
        raise OpNameError(f"{NAME!r} is not declared (known: {known})", code="E102", spans=tuple(places[:1]), source=system.source,
                          suggestion="declare params=\"n\"; where a vector stands, as in n·∇u, an undeclared n is the normal")
    others_said = (note for note in system.notes if not note.startswith(f"{NAME} is "))
    notes = (*others_said, f"{NAME} is the normal, bound as {NAME}=")
    return replace(
        system,
        declarations=replace(decls, params=tuple(p for p in decls.params if p is not decl)),
        definitions=tuple(replace(d, value=_replaced(d.value)) for d in system.definitions),
        equations=tuple(
            replace(e, left=_replaced(e.left), right=None if e.right is None else _replaced(e.right)) for e in system.equations
        ),
        notes=notes,
    )  # fmt: skip


def _roots(system: System) -> list[ex.Node]:
    return [*(d.value for d in system.definitions), *(s for e in system.equations for s in (e.left, e.right) if s is not None)]


def _is_normal(node: ex.Node) -> bool:
    return isinstance(node, ex.Param) and node.name == NAME


def _replaced(node: ex.Node) -> ex.Node:
    if _is_normal(node):
        return ex.Const(NAME, span=node.span)
    below = ex.children(node)
    new = [_replaced(child) for child in below]
    return ex.with_children(node, new) if any(a is not b for a, b in zip(new, below, strict=True)) else node
