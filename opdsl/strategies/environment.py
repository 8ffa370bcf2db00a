"""Evaluate pointwise expressions on arrays.

One interpreter serves all backends. Values are Python numbers, arrays () per point, or arrays (n,) over the batch; an index
label that is bound by an `IndexSum` appears as a trailing axis, and the sum runs over that axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.elementary import ELEMENTARY, _integer_power
from opdsl.jets.graph import Array
from opdsl.language.functions import FUNCTIONS
from opdsl.language.residual import (
    Add,
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
    contiguous,
)
from opdsl.language.structure import children
from opdsl.language.traverse import postorder
from opdsl.strategies.linear_operators import OperatorValue

Labelled = tuple[Any, tuple[str, ...]]
"""A value and the labels of its trailing axes."""

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@dataclass
class Environment:
    """What the leaves of an expression stand for.

    Args:
        ops: array operations of the backend.
        x: the points, (d,) or (n, d): what coordinates in coefficients stand for.
        inputs: what the network is evaluated at, where that is not ``x``.
        space: columns over which labels range.
        bindings: parameters and coefficients by name; shape of the coefficient, after an optional point axis.
        ranks: the rank of every parameter.
        fields: values of every field: (m,) or (n, m), one column per component.
        operators: values of operators by (field, operator): (…, m), or (…, m, D) for a family over a label.
        functions: functions the user bound, by name and derivative orders.
    """

    ops: ArrayOps
    x: Array
    space: Sequence[int]
    bindings: Mapping[str, Any] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    fields: Mapping[str, Array] = field(default_factory=dict)
    operators: Mapping[tuple[str, Any], Array] = field(default_factory=dict)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    inputs: Array = None
    _memo: dict[Pointwise, Labelled] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.inputs is None:
            self.inputs = self.x

    def __call__(self, node: Pointwise) -> Any:
        """The value of an expression without free labels."""
        value, labels = self.labelled(node)
        assert not labels
        return value

    def array(self, node: Pointwise, labels: Sequence[str]) -> Any:
        """The value with its label axes in the given order, every label present."""
        value, have = self.labelled(node)
        return self._arrange(value, have, tuple(labels))

    def scaled(self, term: Array, coefficient: Any) -> Array:
        """term · coefficient: a number, or one for each point, times all columns of (…, m)."""
        return term * (coefficient[..., None] if getattr(coefficient, "shape", ()) else coefficient)

    def labelled(self, node: Pointwise) -> Labelled:
        """Value and the labels of its trailing axes; shared subexpressions are evaluated once."""
        if node not in self._memo:
            # From the inside: what is nested deeply does not nest calls.
            for each in postorder((node,), lambda n: () if n in self._memo else children(n)):
                if each not in self._memo:
                    self._memo[each] = self._evaluate(each)
        return self._memo[node]

    # ------------------------------------------------------------------------------------------------------- leaves

    def _evaluate(self, node: Pointwise) -> Labelled:
        match node:
            case Number(value):
                return float(value) if isinstance(value, Fraction) else value, ()
            case Coordinate(axis):
                return (self.x[..., axis], ()) if isinstance(axis, int) else (self.space_of(self.x), (axis,))
            case Parameter(name, index):
                return self._parameter(name, index)
            case Derivative(name, component, ()):
                return self._component(self.fields[name], component)
            case OperatorValue(name, component, operator, index):
                value = self.operators[name, operator]
                if index is None:
                    return self._component(value, component)
                assert isinstance(component, int)
                return value[..., component, :], (index,)
            case Add(terms):
                return self._fold(terms, lambda a, b: a + b)
            case Mul(factors):
                return self._fold(factors, lambda a, b: a * b)
            case Power(base, exponent):
                return self._power(base, exponent)
            case Composition(name, args, orders):
                return self._call(name, args, orders)
            case Comparison(operator, left, right):
                return self._fold((left, right), _COMPARISONS[operator])
            case Where(condition, yes, no):
                return self._where(condition, yes, no)
            case IndexSum(label, body):
                return self._sum(label, body)
        raise TypeError(f"unexpected node {type(node).__name__} in a pointwise expression")

    def space_of(self, x: Array) -> Array:
        """The columns over which labels range, of an array with all coordinates in its last axis."""
        space = self.space
        if contiguous(space):
            return x[..., space[0] : space[-1] + 1]
        return self.ops.xp.stack([x[..., c] for c in space], axis=-1)

    def _component(self, value: Array, component: int | str) -> Labelled:
        if isinstance(component, int):
            return value[..., component], ()
        return value, (component,)

    def _parameter(self, name: str, index: tuple[int | str, ...]) -> Labelled:
        value = self.bindings[name]
        labels = tuple(a for a in index if isinstance(a, str))
        if not index:
            return value, ()
        key = (..., *(slice(None) if isinstance(a, str) else a for a in index))
        value = value[key]
        if len(set(labels)) < len(labels):  # a_ii: the diagonal
            assert len(labels) == 2
            value = self.ops.xp.linalg.diagonal(value)
            labels = labels[:1]
        return value, labels

    # ---------------------------------------------------------------------------------------------------- operations

    def _fold(self, nodes: Sequence[Pointwise], combine: Callable[[Any, Any], Any]) -> Labelled:
        parts = [self.labelled(n) for n in nodes]
        labels = tuple(dict.fromkeys(label for _, have in parts for label in have))
        total: Any = None
        for value, have in parts:
            value = self._arrange(value, have, labels) if have != labels else value
            total = value if total is None else combine(total, value)
        return total, labels

    def _arrange(self, value: Any, have: tuple[str, ...], want: tuple[str, ...]) -> Any:
        """Insert axes of length 1 and permute, so that the trailing axes are those of ``want``."""
        if have == want or not hasattr(value, "shape"):
            return value
        xp = self.ops.xp
        lead = len(value.shape) - len(have)
        order = [have.index(w) for w in want if w in have]
        if order != sorted(order):
            value = xp.permute_dims(value, (*range(lead), *(lead + k for k in order)))
        shape = iter(value.shape[lead:])
        return xp.reshape(value, (*value.shape[:lead], *(next(shape) if w in have else 1 for w in want)))

    def _power(self, base: Pointwise, exponent: Pointwise) -> Labelled:
        if isinstance(exponent, Number):
            value, labels = self.labelled(base)
            power = exponent.value
            if isinstance(value, int | float):
                return value ** float(power), labels
            if power == int(power):
                return _integer_power(value, int(power)), labels
            if power == Fraction(1, 2):
                return self.ops.xp.sqrt(value), labels
            return value ** float(power), labels
        if isinstance(base, Number):
            value, labels = self.labelled(exponent)
            return self.ops.xp.exp(value * _log(float(base.value))), labels
        return self._fold((base, exponent), lambda a, b: a**b)

    def _call(self, name: str, args: tuple[Pointwise, ...], orders: tuple[int, ...]) -> Labelled:
        parts = [self.labelled(a) for a in args]
        labels = tuple(dict.fromkeys(label for _, have in parts for label in have))
        values = [self._arrange(v, have, labels) for v, have in parts]
        if name in self.functions:
            function = self.functions[name]
            return function(orders, *values), labels
        values = [self.ops.asarray(v, self.x) if isinstance(v, int | float) else v for v in values]
        return self._elementary(name, values), labels

    def _elementary(self, name: str, values: Sequence[Any]) -> Any:
        xp = self.ops.xp
        if name in ELEMENTARY:
            return ELEMENTARY[name].expand(self.ops, values[0], 0)[0]
        record = FUNCTIONS.get(name)
        if record is not None and record.values is not None:
            return record.values(xp, *values)
        raise TypeError(f"unexpected function {name}")

    def _where(self, condition: Pointwise, yes: Pointwise, no: Pointwise) -> Labelled:
        parts = [self.labelled(n) for n in (condition, yes, no)]
        labels = tuple(dict.fromkeys(label for _, have in parts for label in have))
        mask, a, b = (self._arrange(v, have, labels) for v, have in parts)
        a, b = (self.ops.asarray(v, self.x) if isinstance(v, int | float) else v for v in (a, b))
        if isinstance(mask, bool):
            return (a if mask else b), labels
        return self.ops.xp.where(mask, a, b), labels

    def _sum(self, label: str, body: Pointwise) -> Labelled:
        value, labels = self.labelled(body)
        if label not in labels:
            return value * float(len(self.space)), labels
        axis = labels.index(label) - len(labels)
        rest = tuple(w for w in labels if w != label)
        if value.shape[axis] == 1 and len(self.space) != 1:
            value = value * float(len(self.space))
        return self.ops.xp.sum(value, axis=axis), rest


def _log(base: float) -> float:
    import math

    return math.log(base)
