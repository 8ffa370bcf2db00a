"""The structure of pointwise expressions: children, canonical order, and what occurs in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opdsl.language.interning import expression_node
from opdsl.language.residual import (
    Add,
    Axis,
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
    Where,
    digest,
)
from opdsl.language.traverse import fill_slot, postorder

_NONE: frozenset[str] = frozenset()


@expression_node
class Coefficient(Pointwise):
    """A coefficient while it is not known yet whether anything differentiates it.

    Occurs during an expansion only: afterwards it is a `Parameter`, or a `Derivative` of a coefficient field.
    """

    name: str
    index: tuple[Axis, ...] = ()
    axes: tuple[Axis, ...] = ()

    def axes_named(self) -> tuple[Axis, ...]:
        """Its indices and what it is differentiated by."""
        return (*self.index, *self.axes)


def children(node: Pointwise) -> tuple[Pointwise, ...]:
    """Return the direct subexpressions, left to right."""
    match node:
        case Add(terms):
            return terms
        case Mul(factors):
            return factors
        case Power(base, exponent):
            return (base, exponent)
        case Composition(_, args, _):
            return args
        case Comparison(_, left, right):
            return (left, right)
        case Where(condition, yes, no):
            return (condition, yes, no)
        case IndexSum(_, body):
            return (body,)
    return ()


def _axis_key(axis: Axis) -> tuple[int, int, str]:
    return (0, axis, "") if isinstance(axis, int) else (1, 0, axis)


def sort_axes(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Sort coordinate columns first, then index labels: partial derivatives commute."""
    return tuple(sorted(axes, key=_axis_key))


def key(node: Pointwise) -> tuple[Any, ...]:
    """Return a structural sort key: equal expressions have equal keys, on every machine and in every process."""
    try:
        return node._key  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        made = _key(node)
        object.__setattr__(node, "_key", made)
        return made


def _key(node: Pointwise) -> tuple[Any, ...]:
    match node:
        case Number(value):
            return (0, float(value), str(value))
        case Coefficient(name, index, axes):
            return (1, name, tuple(_axis_key(a) for a in index), tuple(_axis_key(a) for a in axes))
        case Parameter(name, index):
            return (1, name, tuple(_axis_key(a) for a in index), ())
        case Coordinate(axis):
            return (2, _axis_key(axis))
        case Derivative(field, component, axes):
            return (3, len(axes), field, _axis_key(component), tuple(_axis_key(a) for a in axes))
    # Below the first level a digest decides: comparing nested keys would walk shared subexpressions again and again.
    return (*_shallow(node), tuple(_shallow(child) for child in children(node)), digest(node))


_RANK = {Power: 4, Composition: 5, Mul: 6, Add: 7, IndexSum: 8, Where: 9, Comparison: 10}


def _shallow(node: Pointwise) -> tuple[Any, ...]:
    rank = _RANK.get(type(node))
    if rank is None:
        return key(node)
    name = node.function if isinstance(node, Composition) else node.label if isinstance(node, IndexSum) else ""
    return (rank, len(children(node)), name)


def is_field_free(node: Pointwise) -> bool:
    """Say whether no field (unknown or differentiated coefficient) occurs in the expression."""
    fill_slot(node, "_field_free", children, _field_free)
    return node._field_free


def _field_free(node: Pointwise) -> bool:
    return not isinstance(node, Derivative) and all(child._field_free for child in children(node))


def free_labels(node: Pointwise) -> frozenset[str]:
    """Index labels that occur in an expression and are not bound by a sum inside it."""
    fill_slot(node, "_labels", children, _labels)
    return node._labels


def _labels(node: Pointwise) -> frozenset[str]:
    found = _NONE.union(*(child._labels for child in children(node)), (a for a in node.axes_named() if isinstance(a, str)))
    return (found - {node.label} if isinstance(node, IndexSum) else found) or _NONE


def outside_sums(node: Pointwise) -> tuple[Pointwise, ...]:
    """The children of a node; what a sum binds is left out."""
    return () if isinstance(node, IndexSum) else children(node)


def has_index_sum(node: Pointwise) -> bool:
    """Say whether a sum over an index is left in the expression."""
    return any(isinstance(each, IndexSum) for each in postorder((node,), children))
