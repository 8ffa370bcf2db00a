"""From a residual to the operators that must be carried through the networks.

A residual is split into *operator values*, each one number per point, and the pointwise function of them that remains.
Terms that are linear in one field, with coefficients free of fields, add up to ONE operator: at a given point its
coefficients are just numbers, so ν(x) may even vary in space. What stands inside nonlinear terms is read by itself.

===========================  ====================================================================
``u_t + u u_x - nu u_xx``    operators of u: {∂_t − ν∂_xx, ∂_x}; F(P, Q) = P + u Q
===========================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from opdsl.algebra.polynomial import Monomial, Polynomial
from opdsl.errors import StrategyError
from opdsl.language.constructors import mul
from opdsl.language.interning import expression_node
from opdsl.language.residual import (
    Add,
    Axis,
    Comparison,
    Composition,
    Derivative,
    EquationResidual,
    IndexSum,
    Mul,
    Number,
    Pointwise,
    Power,
    Residual,
    Where,
)
from opdsl.language.structure import children, free_labels, is_field_free
from opdsl.language.traverse import fold

ONE = Number(Fraction(1))


@dataclass(frozen=True)
class DerivativeTerm:
    """coefficient · ∂_{axes}, summed over ``labels``.

    Without labels ``axes`` are coordinate columns. With labels the term keeps an index sum over all space coordinates
    unwritten.
    """

    coefficient: Pointwise
    axes: tuple[Axis, ...]
    labels: tuple[str, ...] = ()

    @property
    def order(self) -> int:
        """Number of derivatives."""
        return len(self.axes)

    @property
    def number(self) -> Fraction | float | None:
        """The coefficient where the text itself says it."""
        return self.coefficient.value if isinstance(self.coefficient, Number) else None


@dataclass(frozen=True)
class LinearOperator:
    """Σ of terms, acting on one component of one field; the unit of what a strategy has to deliver.

    With ``spread`` set it is a family over one index label (∂_i u for all i) and delivers one more axis.
    """

    terms: tuple[DerivativeTerm, ...]
    spread: str | None = None

    @property
    def order(self) -> int:
        """Highest order."""
        return max(t.order for t in self.terms)

    def groups(self) -> dict[Pointwise, tuple[DerivativeTerm, ...]]:
        """Terms by the run-time part of their coefficient: Σ_g c_g(x) Σ (number · ∂_axes)."""
        out: dict[Pointwise, list[DerivativeTerm]] = {}
        for t in self.terms:
            number, rest = split_number(t.coefficient)
            out.setdefault(rest, []).append(DerivativeTerm(Number(number), t.axes, t.labels))
        return {c: tuple(ts) for c, ts in out.items()}

    def polynomials(self, space: Sequence[int]) -> list[tuple[Pointwise, Polynomial]] | None:
        """The symbol as Σ_g c_g p_g with run-time c_g and exact p_g; None where a coefficient carries an index label."""
        out: list[tuple[Pointwise, Polynomial]] = []
        for coefficient, terms in self.groups().items():
            if free_labels(coefficient):
                return None
            found: list[tuple[Monomial, Fraction]] = []
            for t in terms:
                number = t.number
                assert number is not None
                found += [(m, c * Fraction(number)) for m, c in expand_labels(t.axes, t.labels, space).terms]
            out.append((coefficient, Polynomial.from_terms(found)))
        return out


def expand_labels(axes: Sequence[Axis], labels: Sequence[str], space: Sequence[int]) -> Polynomial:
    """Σ over the labels of ∂_{axes} as a polynomial."""
    total = Polynomial.from_axes([a for a in axes if isinstance(a, int)])
    for label in labels:
        power = sum(a == label for a in axes)
        total = total * Polynomial.from_terms([(((c, power),), 1) for c in space])
    return total


@expression_node
class OperatorValue(Pointwise):
    """The value of an operator on one component of a field; a leaf of the pointwise function F."""

    field: str
    component: Axis
    operator: LinearOperator
    index: str | None = None

    def axes_named(self) -> tuple[Axis, ...]:
        """The component, and the label of a family."""
        return (self.component,) if self.index is None else (self.component, self.index)


@dataclass(frozen=True)
class Split:
    """A residual as F of operator values.

    Args:
        equations: with every derivative replaced by an `OperatorValue`.
        operators: for each field the distinct operators, in order of appearance.
        merged: whether linear terms were added up.
    """

    equations: tuple[EquationResidual, ...]
    operators: Mapping[str, tuple[LinearOperator, ...]]
    merged: bool


def split_number(coefficient: Pointwise) -> tuple[Fraction | float, Pointwise]:
    """The numeric factor and the rest."""
    if isinstance(coefficient, Number):
        return coefficient.value, ONE
    if isinstance(coefficient, Mul) and isinstance(coefficient.factors[0], Number):
        return coefficient.factors[0].value, mul(*coefficient.factors[1:])
    return Fraction(1), coefficient


Reader = Callable[[str, Axis, LinearOperator, str | None], Pointwise]


def split(residual: Residual, *, merge: bool) -> Split:
    """Replace derivatives by operator values; with ``merge`` linear terms of one field component become one operator."""
    operators: dict[str, dict[LinearOperator, None]] = {}

    def value(field: str, component: Axis, operator: LinearOperator, index: str | None = None) -> Pointwise:
        operators.setdefault(field, {})[operator] = None
        return OperatorValue(field, component, operator, index)

    memo: dict[Pointwise, Pointwise] = {}

    def below(node: Pointwise) -> tuple[Pointwise, ...]:
        if node in memo:
            return ()
        found = _operator_in(node) if isinstance(node, IndexSum) else None
        return children(node) if found is None else tuple(found[0])

    def made(node: Pointwise, new: tuple[Pointwise, ...]) -> Pointwise:
        if node in memo:
            return memo[node]
        found = _operator_in(node) if isinstance(node, IndexSum) else None
        if isinstance(node, Derivative):
            memo[node] = _single(node, value)
        elif found is not None:
            # v Σ_i ∂_i² u: the sum is one operator, not a family of derivatives.
            _, derivative, term = found
            whole = value(derivative.field, derivative.component, LinearOperator((term,)))
            memo[node] = Mul((*new, whole)) if new else whole
        else:
            memo[node] = _with_children(node, new) if new else node
        return memo[node]

    def read(node: Pointwise) -> Pointwise:
        """Every derivative by itself."""
        return fold((node,), below, made)[0]

    equations = []
    for equation in residual.equations:
        parts = tuple(_collect(c, value, read, merge) for c in equation.components)
        equations.append(EquationResidual(equation.name, parts, equation.shape, equation.text))
    return Split(tuple(equations), {f: tuple(ops) for f, ops in operators.items()}, merge)


def _with_children(node: Pointwise, new: tuple[Pointwise, ...]) -> Pointwise:
    """The node over other children, as it stands: the canonical order has done its work before the split."""
    match node:
        case Add():
            return Add(new)
        case Mul():
            return Mul(new)
        case Power():
            return Power(*new)
        case Composition(function, _, orders):
            return Composition(function, new, orders)
        case Comparison(operator, _, _):
            return Comparison(operator, *new)
        case Where():
            return Where(*new)
        case IndexSum(label, _):
            return IndexSum(label, new[0])
    raise AssertionError(f"{type(node).__name__} has no children")


def _single(node: Derivative, value: Reader) -> Pointwise:
    labels = tuple(dict.fromkeys(a for a in node.axes if isinstance(a, str)))
    if not node.axes:
        return node
    if not labels:
        return value(node.field, node.component, LinearOperator((DerivativeTerm(ONE, node.axes),)), None)
    if len(labels) > 1:
        raise StrategyError(
            "a nonlinear term needs all mixed second derivatives over an unwritten index sum (too many coordinates to write out)."
        )
    return value(node.field, node.component, LinearOperator((DerivativeTerm(ONE, node.axes),), labels[0]), labels[0])


def _collect(component: Pointwise, value: Reader, read: Callable[[Pointwise], Pointwise], merge: bool) -> Pointwise:
    """One expression over operator values; without ``merge`` every linear term is an operator of its own."""
    linear: dict[tuple[str, Axis, int], list[DerivativeTerm]] = {}
    rest: list[Pointwise] = []
    for number, summand in enumerate(component.terms if isinstance(component, Add) else (component,)):
        found = _linear_term(summand, ())
        if found is None:
            rest.append(read(summand))
        else:
            derivative, term = found
            linear.setdefault((derivative.field, derivative.component, -1 if merge else number), []).append(term)
    for (field, where, _), terms in linear.items():
        first = terms[0]
        if len(terms) == 1 and not free_labels(first.coefficient) & set(first.labels):
            # One term: the coefficient stays outside, so that the same derivative elsewhere is the same operator.
            alone = LinearOperator((DerivativeTerm(ONE, first.axes, first.labels),))
            whole = value(field, where, alone, None)
            rest.append(whole if first.coefficient == ONE else Mul((first.coefficient, whole)))
        else:
            rest.append(value(field, where, LinearOperator(tuple(terms)), None))
    return rest[0] if len(rest) == 1 else Add(tuple(rest))


def _operator_in(node: IndexSum) -> tuple[list[Pointwise], Derivative, DerivativeTerm] | None:
    """A sum as factors without its labels times one linear operator; None where the sum couples several derivatives."""
    labels: list[str] = []
    body: Pointwise = node
    while isinstance(body, IndexSum):
        labels.append(body.label)
        body = body.body
    factors = body.factors if isinstance(body, Mul) else (body,)
    outer = [f for f in factors if not free_labels(f) & set(labels)]
    bound = tuple(f for f in factors if free_labels(f) & set(labels))
    if any(free_labels(f) - set(labels) for f in bound):
        return None  # a_ij ∂_i u ∂_j u: the inner sum is an operator for every value of the outer label
    found = _linear_term(bound[0] if len(bound) == 1 else Mul(bound), tuple(labels)) if bound else None
    return None if found is None else (outer, *found)


def _linear_term(node: Pointwise, labels: tuple[str, ...]) -> tuple[Derivative, DerivativeTerm] | None:
    """``node`` as coefficient · derivative, or None where it is nonlinear, free of fields, or the plain value of a field."""
    if isinstance(node, IndexSum):
        return _linear_term(node.body, (*labels, node.label))
    factors = node.factors if isinstance(node, Mul) else (node,)
    found = [f for f in factors if not is_field_free(f)]
    if len(found) != 1:
        return None
    outer = [f for f in factors if f is not found[0]]
    if isinstance(found[0], IndexSum):
        inner = _linear_term(found[0], labels)
        if inner is None:
            return None
        derivative, term = inner
        return derivative, DerivativeTerm(mul(*outer, term.coefficient), term.axes, term.labels)
    derivative_or_other = found[0]
    if not isinstance(derivative_or_other, Derivative) or not derivative_or_other.axes:
        return None
    derivative = derivative_or_other
    used = {a for a in derivative.axes if isinstance(a, str)}
    if isinstance(derivative.component, str) or set(labels) != used:
        return None
    return derivative, DerivativeTerm(mul(*outer) if outer else ONE, derivative.axes, labels)
