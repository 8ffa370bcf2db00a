"""Coefficients: what stands for them once it is known what is differentiated, and what a constant one makes vanish.

One rule: what may be differentiated is decided by what is bound. A text says where a coefficient is differentiated; a function or
network is then differentiated exactly, of a constant the derivatives vanish, and one value per point is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from opdsl.errors import OpNameError
from opdsl.language.constructors import ZERO, transform
from opdsl.language.declarations import Dim
from opdsl.language.residual import Axis, Derivative, Parameter, ParameterSpec, Pointwise, Residual
from opdsl.language.structure import Coefficient, children
from opdsl.language.traverse import postorder

# Why the value of a parameter must be the same at all points; each ends a sentence that begins with the name.
CHANGE_OF_VARIABLES = "was taken for a constant when the change of variables was made"
LONG_SUM = "has a derivative of more components than are written out"
DIFFERENTIATED = "is differentiated"


class NeedsConstant(Exception):
    """The derivatives of a coefficient cannot be components of a field: too many coordinates for its rank."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def coefficients_of(nodes: Iterable[Pointwise]) -> Iterable[Coefficient]:
    """Return the coefficients that occur, each with what differentiates it."""
    return (node for node in postorder(nodes, children) if isinstance(node, Coefficient))


def as_field(node: Coefficient, shape: Sequence[Dim]) -> Derivative:
    """A coefficient as a derivative of a field of this shape, its components in row-major order.

    Raises:
        NeedsConstant: labels of a sum stand for several indices, for which there is no one component.
    """
    if len(node.index) == 1:
        return Derivative(node.name, node.index[0], node.axes)
    flat = 0
    for axis, size in zip(node.index, shape, strict=True):
        if not isinstance(axis, int):
            raise NeedsConstant(node.name)
        flat = flat * int(size) + axis
    return Derivative(node.name, flat, node.axes)


def component_index(component: Axis, shape: Sequence[int]) -> tuple[Axis, ...]:
    """The index of a component from its row-major number; a label stays what it is."""
    if not isinstance(component, int):
        return (component,)
    index: list[Axis] = []
    for size in reversed(shape):
        component, part = divmod(component, size)
        index.insert(0, part)
    return tuple(index)


def settle(
    nodes: Iterable[Pointwise], differentiated: frozenset[str], shapes: Mapping[str, tuple[Dim, ...]] | None = None
) -> tuple[Pointwise, ...]:
    """Make every `Coefficient` a parameter, or a derivative of a coefficient field if anything differentiates it."""

    def leaf(node: Pointwise) -> Pointwise:
        if not isinstance(node, Coefficient):
            return node
        if node.name not in differentiated:
            return Parameter(node.name, node.index)
        return as_field(node, (shapes or {}).get(node.name, ()))

    memo: dict[Pointwise, Pointwise] = {}
    return tuple(transform(node, leaf, memo) for node in nodes)


def specialise(residual: Residual, constants: Collection[str]) -> Residual:
    """Tell that some coefficients do not depend on the point: their derivatives vanish and they become parameters.

    ``laplace(c^3 - gamma*laplace(c))`` differentiates ``gamma``; where a call binds a constant to it, all terms with its
    derivatives drop out exactly, also ``log(u)`` of ``laplace(u^m)``. One value per point is no constant: `ParameterSpec.constant`
    tells the check of the bindings to refuse it.

    Raises:
        OpNameError: a name is no coefficient of the residual.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> from opdsl.language.calculus import expand
        >>> specialise(expand(parse_system("d_x(k u_x)", coords="x")), ["k"]).equations[0].components[0]
        Mul(factors=(Parameter(name='k', index=()), Derivative(field='u', component=0, axes=(0, 0))))
    """
    chosen = frozenset(constants)
    specs = {f.name: f for f in residual.fields if f.coefficient}
    unknown = sorted(chosen - set(specs))
    if unknown:
        raise OpNameError(f"{unknown[0]!r} is no differentiated coefficient of this residual", code="E112")

    def leaf(node: Pointwise) -> Pointwise:
        if not isinstance(node, Derivative) or node.field not in chosen:
            return node
        if node.axes:
            return ZERO
        return Parameter(node.field, component_index(node.component, specs[node.field].shape))

    memo: dict[Pointwise, Pointwise] = {}
    equations = tuple(
        replace(e, components=tuple(transform(c, leaf, memo) for c in e.components)) for e in residual.equations
    )
    moved = tuple(
        ParameterSpec(name, len(s.shape), s.shape, s.trainable, DIFFERENTIATED) for name, s in specs.items() if name in chosen
    )
    return replace(
        residual,
        equations=equations,
        fields=tuple(f for f in residual.fields if f.name not in chosen),
        parameters=residual.parameters + moved,
    )
