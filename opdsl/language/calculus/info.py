"""What a residual is: order, linearity, the derivatives it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opdsl.language.residual import (
    Add,
    Comparison,
    Composition,
    Derivative,
    IndexSum,
    Mul,
    Pointwise,
    Power,
    Residual,
    Where,
)
from opdsl.language.structure import children
from opdsl.language.traverse import fold, postorder


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about a residual; ``str`` prints them.

    Attributes:
        orders: highest derivative of each unknown field.
        kind: ``"linear"``, ``"semilinear"``, ``"quasilinear"`` or ``"nonlinear"``.
        derivatives: the derivatives needed, written ``u_xx``, fields first.
        coords, fields, parameters: names.
        coefficients: the derivatives that are needed of each coefficient that the text differentiates.
        notes: what was inferred, and readings that may surprise.
    """

    orders: dict[str, int]
    kind: str
    derivatives: tuple[str, ...]
    coords: str
    fields: tuple[str, ...]
    parameters: tuple[str, ...]
    coefficients: dict[str, tuple[str, ...]]
    equations: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def order(self) -> int:
        """The highest order of all fields."""
        return max(self.orders.values(), default=0)

    @property
    def linear(self) -> bool:
        """Linear in the unknown fields."""
        return self.kind == "linear"

    def __str__(self) -> str:
        lines = [
            f"order {self.order}, {self.kind}",
            f"coordinates: {self.coords}",
            f"fields: {', '.join(f'{name} (order {self.orders.get(name, 0)})' for name in self.fields)}",
            f"derivatives: {', '.join(self.derivatives) or 'none'}",
        ]
        if self.parameters:
            lines.append(f"parameters: {', '.join(self.parameters)}")
        if self.coefficients:
            needed = (f"{name} ({', '.join(found)})" for name, found in self.coefficients.items())
            lines.append(f"differentiated coefficients: {', '.join(needed)}")
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)


def facts(residual: Residual) -> Info:
    """Return the facts of a residual.

    Example:
        >>> from opdsl.language.calculus import expand
        >>> from opdsl.grammar import parse_system
        >>> info = facts(expand(parse_system("u_t + u u_x = nu u_xx", coords="t x")))
        >>> info.order, info.kind, info.derivatives
        (2, 'semilinear', ('u', 'u_t', 'u_x', 'u_xx'))
    """
    unknown = frozenset(f.name for f in residual.fields if not f.coefficient)
    shapes = {f.name: f.shape for f in residual.fields}
    every = [component for equation in residual.equations for component in equation.components]
    atoms = sorted(
        (n for n in postorder(every, children) if isinstance(n, Derivative)),
        key=lambda d: (d.field not in unknown, d.field, len(d.axes), str(d.component), str(d.axes))
    )
    orders = {name: 0 for name in shapes if name in unknown}
    for atom in atoms:
        if atom.field in orders:
            orders[atom.field] = max(orders[atom.field], len(atom.axes))
    return Info(
        orders=orders,
        kind=_kind(every, unknown, orders),
        derivatives=tuple(dict.fromkeys(derivative_text(a, residual) for a in atoms)),
        coords=str(residual.coords) if not isinstance(residual.coords, tuple) else " ".join(residual.coords),
        fields=tuple(f.name for f in residual.fields if not f.coefficient),
        parameters=tuple(("?" if p.trainable else "") + p.name for p in residual.parameters),
        coefficients={
            ("?" if f.trainable else "") + f.name: tuple(
                dict.fromkeys(derivative_text(a, residual) for a in atoms if a.field == f.name and a.axes)
            )
            for f in residual.fields if f.coefficient
        },
        equations=tuple(e.name for e in residual.equations),
        notes=residual.notes,
    )


def derivative_text(atom: Derivative, residual: Residual) -> str:
    """Write a derivative as in the language: ``u_xx``, ``u_0``, ``u_{0,xy}``.

    Example:
        >>> derivative_text(Derivative("u", 0, (0, 0)), Residual(("x", "y"), (0, 1), (), (), ()))
        'u_xx'
    """
    shape = next((f.shape for f in residual.fields if f.name == atom.field), ())
    names = [residual.coords[axis] if isinstance(axis, int) else str(axis) for axis in atom.axes]
    axes = "".join(names) if all(len(name) == 1 for name in names) else " ".join(names)
    component = str(atom.component) if shape else ""
    if component and axes:
        return f"{atom.field}_{{{component},{axes}}}"
    suffix = component or axes
    if not suffix:
        return atom.field
    plain = all(len(name) == 1 for name in names)
    return f"{atom.field}_{suffix}" if plain else f"{atom.field}_{{{suffix}}}"


def _kind(nodes: list[Pointwise], unknown: frozenset[str], orders: dict[str, int]) -> str:
    """Linear; semilinear (top order linear, its coefficients free of unknowns); quasilinear (top order linear); nonlinear."""

    def any_unknown(d: Derivative) -> bool:
        return d.field in unknown

    def top(d: Derivative) -> bool:
        return d.field in unknown and len(d.axes) == orders[d.field] > 0

    if max(_degrees(nodes, any_unknown), default=0) <= 1:
        return "linear"
    if any(orders.values()) and max(_degrees(nodes, top)) <= 1:
        terms = [term for node in nodes for term in (node.terms if isinstance(node, Add) else (node,))]
        leading = [term for term, degree in zip(terms, _degrees(terms, top), strict=True) if degree > 0]
        return "semilinear" if max(_degrees(leading, any_unknown), default=0) <= 1 else "quasilinear"
    return "nonlinear"


def _degrees(nodes: list[Pointwise], counts: Callable[[Derivative], bool]) -> list[int]:
    """Degrees in the chosen derivatives: 0, 1, or 2 for anything beyond affine."""

    def degree(node: Pointwise, below: tuple[int, ...]) -> int:
        match node:
            case Derivative():
                return 1 if counts(node) else 0
            case Add() | IndexSum():
                return max(below)
            case Mul():
                return min(2, sum(below))
            case Where():
                return 2 if below[0] else max(below[1:])
            case Power() | Composition() | Comparison():
                return 2 if any(below) else 0
        return 0

    return fold(nodes, children, degree)
