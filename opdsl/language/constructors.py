"""Smart constructors of pointwise expressions: exact folding, like terms, one canonical order.

Cancellations must be exact (``u_xy - u_yx`` is 0, not a small number), so numbers stay `Fraction` as long as the text
is exact, sums collect like terms, products collect equal bases, and both are sorted by a structural key. Products of
sums are *not* multiplied out, with one exception: a factor without unknowns distributes over a sum, so that the
engine sees ``nu*(u_xx + u_yy)`` as two linear terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import count, islice
from typing import Any

from opdsl.algebra.work import spend
from opdsl.errors import OpLimitError
from opdsl.language.functions import FUNCTIONS
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
)
from opdsl.language.structure import (
    Coefficient,
    children,
    free_labels,
    has_index_sum,
    is_field_free,
    key,
    outside_sums,
    sort_axes,
)
from opdsl.language.traverse import fold

Scalar = Fraction | float


ZERO = Number(Fraction(0))
ONE = Number(Fraction(1))
MINUS_ONE = Number(Fraction(-1))
LABELS = "ijklmn"
# Exact integers beyond this are refused rather than computed: ``2^(10^9)`` must not eat the memory.
MAX_EXACT_BITS = 4096


def number(value: int | Fraction | float) -> Number:
    """Wrap a number; integers become exact fractions."""
    return Number(Fraction(value) if isinstance(value, int) else value)


# --------------------------------------------------------------------------------------------- structure
def rebuild(node: Pointwise, new: tuple[Pointwise, ...]) -> Pointwise:
    """Put new subexpressions into a node, through the smart constructors."""
    match node:
        case Add():
            return add(*new)
        case Mul():
            return mul(*new)
        case Power():
            return power(new[0], new[1])
        case Composition(function, _, orders):
            return call(function, new, orders)
        case Comparison(operator, _, _):
            return Comparison(operator, new[0], new[1])
        case Where():
            return where(new[0], new[1], new[2])
        case IndexSum(label, _):
            return index_sum(label, new[0])
    return node


def _representable(value: Scalar) -> Scalar:
    """Refuse what no floating-point number holds, before anything tries to evaluate it."""
    if isinstance(value, Fraction):
        fits = value.numerator.bit_length() - value.denominator.bit_length() < 1020
    else:
        fits = math.isfinite(value)
    if not fits:
        raise OpLimitError("a number of the expansion is larger than 1e300", code="E306")
    return value


# --------------------------------------------------------------------------------------------- sums
def _coefficient(term: Pointwise) -> tuple[Scalar, Pointwise]:
    if isinstance(term, Number):
        return term.value, ONE
    if isinstance(term, Mul) and isinstance(term.factors[0], Number):
        rest = term.factors[1:]
        return term.factors[0].value, rest[0] if len(rest) == 1 else Mul(rest)
    return Fraction(1), term


def _scaled(value: Scalar, rest: Pointwise) -> Pointwise:
    _representable(value)
    if rest == ONE:
        return Number(value)
    if value == 1:
        return rest
    factors = rest.factors if isinstance(rest, Mul) else (rest,)
    return Mul((Number(value), *factors))


def add(*terms: Pointwise) -> Pointwise:
    """Return the sum, flattened, with like terms combined: ``u + 2*u`` is ``3*u`` and ``u - u`` is exactly 0."""
    collected: dict[Pointwise, Scalar] = {}
    stack = list(reversed(terms))
    while stack:
        term = stack.pop()
        if isinstance(term, Add):
            stack.extend(reversed(term.terms))
            continue
        value, rest = _coefficient(term)
        if value == 0:
            continue
        spend(1)
        collected[rest] = collected[rest] + value if rest in collected else value
    kept = [_scaled(value, rest) for rest, value in collected.items() if value != 0]
    if not kept:
        return ZERO
    if len(kept) == 1:
        return kept[0]
    return Add(tuple(sorted(kept, key=_term_key)))


def _term_key(term: Pointwise) -> tuple[Any, ...]:
    value, rest = _coefficient(term)
    return (key(rest), float(value))


# --------------------------------------------------------------------------------------------- products
def mul(*factors: Pointwise) -> Pointwise:
    """Return the product, flattened, with equal bases collected (``u * u^2`` is ``u^3``).

    A factor without fields distributes over a sum with fields; sums with fields are not multiplied with each other.
    """
    value: Scalar = Fraction(1)
    powers: dict[Pointwise, list[Pointwise]] = {}
    stack = list(reversed(factors))
    while stack:
        factor = stack.pop()
        match factor:
            case Mul(inner):
                stack.extend(reversed(inner))
            case Number(0):
                return ZERO
            case Number():
                value = value * factor.value
            case Power(base, exponent):
                powers.setdefault(base, []).append(exponent)
            case _:
                powers.setdefault(factor, []).append(ONE)
    spend(len(powers))
    kept: list[Pointwise] = []
    again = False
    for base, exponents in powers.items():
        if len(exponents) == 1:
            single = base if exponents[0] == ONE else Power(base, exponents[0])
            kept.append(single)
            continue
        made = power(base, add(*exponents))
        # ``sqrt(s)*sqrt(s)`` folds to ``s``, which may meet another ``s`` in the same product.
        again = again or isinstance(made, (Mul, Number))
        again = again or (isinstance(base, Composition) and made != Power(base, add(*exponents)))
        kept.append(made)
    _representable(value)
    if again:
        return mul(Number(value), *kept)
    if value == 0:
        return ZERO
    if not kept:
        return Number(value)
    sums = [k for k in kept if isinstance(k, Add)]
    if len(sums) == 1 and (len(kept) > 1 or value != 1):
        rest = [k for k in kept if k is not sums[0]]
        if all(is_field_free(k) for k in rest) and (not rest or not is_field_free(sums[0])):
            return add(*(mul(Number(value), *rest, term) for term in sums[0].terms))
    elif len(sums) > 1:
        live = [k for k in sums if not is_field_free(k)]
        if len(live) == 1 and all(is_field_free(k) for k in kept if k is not live[0]):
            rest = [k for k in kept if k is not live[0]]
            return add(*(mul(Number(value), *rest, term) for term in live[0].terms))
    kept.sort(key=key)
    if value != 1:
        kept.insert(0, Number(value))
    return kept[0] if len(kept) == 1 else Mul(tuple(kept))


def negate(node: Pointwise) -> Pointwise:
    """Return ``-node``."""
    return mul(MINUS_ONE, node)


def divide(top: Pointwise, bottom: Pointwise) -> Pointwise:
    """Return ``top / bottom`` as a product with a power -1. The caller has excluded a literal zero."""
    return mul(top, power(bottom, MINUS_ONE))


# --------------------------------------------------------------------------------------------- powers
def power(base: Pointwise, exponent: Pointwise) -> Pointwise:
    """Return ``base ** exponent`` with exact folding of rational powers of numbers and of nested integer powers."""
    if isinstance(exponent, Number):
        e = exponent.value
        if e == 0:
            return ONE
        if e == 1:
            return base
        if isinstance(base, Number):
            folded = _number_power(base.value, e)
            if folded is not None:
                return Number(_representable(folded))
        whole = isinstance(e, Fraction) and e.denominator == 1
        if whole:
            n = int(e)
            if isinstance(base, Power) and _is_integer(base.exponent):
                return power(base.base, mul(base.exponent, exponent))
            # √s and |s| are defined for s ≥ 0 and real s: an even power removes them.
            if isinstance(base, Composition) and n % 2 == 0 and base.function in FUNCTIONS and FUNCTIONS[base.function].squared:
                return power(base.args[0], number(FUNCTIONS[base.function].squared * n // 2))
            if isinstance(base, Mul):
                return mul(*(power(factor, exponent) for factor in base.factors))
        elif e == Fraction(1, 2):
            return call("sqrt", (base,))
    return Power(base, exponent)


def _is_integer(node: Pointwise) -> bool:
    return isinstance(node, Number) and isinstance(node.value, Fraction) and node.value.denominator == 1


def _number_power(base: Scalar, exponent: Scalar) -> Scalar | None:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        n = int(exponent)
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if base == 0 and n < 0:
            return None
        if bits * abs(n) <= MAX_EXACT_BITS:
            power_: Fraction = base**n
            return power_
        return None
    if float(base) > 0:
        try:
            return math.pow(base, exponent)
        except OverflowError:
            return None
    return None


# --------------------------------------------------------------------------------------------- functions, index sums


def call(function: str, args: tuple[Pointwise, ...], orders: tuple[int, ...] = ()) -> Pointwise:
    """Apply a function of the table or of the user.

    A few exact values are folded (``sin(0)``, ``sqrt(4)``, ``exp(0)``).
    """
    known = FUNCTIONS.get(function)
    if known is not None and len(args) == 1:
        (inner,) = args
        if isinstance(inner, Number):
            if inner.value == 0 and known.at_zero is not None:
                return number(known.at_zero)
            exact = None if known.exact is None else known.exact(inner.value)
            if exact is not None:
                return Number(exact)
        if function == "abs":
            if isinstance(inner, Composition) and inner.function in FUNCTIONS and FUNCTIONS[inner.function].nonnegative:
                return inner
            if isinstance(inner, Mul) and isinstance(inner.factors[0], Number):
                size = inner.factors[0].value
                return mul(Number(size if size >= 0 else -size), call("abs", (mul(*inner.factors[1:]),)))
    return Composition(function, args, orders if any(orders) else ())


def where(condition: Pointwise, yes: Pointwise, no: Pointwise) -> Pointwise:
    """Return ``yes`` where the condition holds and ``no`` elsewhere; equal branches need no condition."""
    return yes if yes == no else Where(condition, yes, no)


def index_sum(label: str, body: Pointwise) -> Pointwise:
    """Sum ``body`` over ``label``. Factors and terms that do not depend on the label stay where they are.

    The bound label is renamed by nesting depth (outermost ``i``), so that sums that differ only in their letters are
    equal and cancel exactly. Zero stays zero; a sum distributes over an `Add`, so that its parts can cancel.
    """
    if body == ZERO:
        return ZERO
    if isinstance(body, Add):
        return add(*(index_sum(label, term) for term in body.terms))
    value, rest = _coefficient(body)
    if value != 1 and rest != ONE:
        return _scaled(value, index_sum(label, rest))
    # Labels of enclosing sums that are free here keep their names: a bound label must not coincide with one of them.
    taken = free_labels(body) - {label}
    hidden = rename_label(body, label, _hidden(0))
    name = _names(taken)(0)
    return IndexSum(name, rename_label(relabel_bound(hidden, 1, taken), _hidden(0), name))


def level_label(level: int) -> str:
    """Return the canonical label at a nesting level: i, j, k, l, m, n, i1, j1, …"""
    turn, letter = divmod(level, len(LABELS))
    return LABELS[letter] + (str(turn) if turn else "")


def _names(taken: frozenset[str]) -> Callable[[int], str]:
    """Canonical labels by nesting level, without those already taken."""
    if not taken:
        return level_label

    def name(level: int) -> str:
        return next(islice((n for n in map(level_label, count()) if n not in taken), level, None))

    return name


def _hidden(level: int) -> str:
    # Neither a canonical label nor one of the fresh labels "#0", "#1", … of the expansion.
    return f"@{level}"


def relabel_bound(node: Pointwise, level: int, taken: frozenset[str] = frozenset()) -> Pointwise:
    """Rename every bound label to the canonical one when the expression itself stands at nesting depth ``level``.

    ``taken`` are labels that stay free.
    """
    if not has_index_sum(node):
        return node

    def value(each: Pointwise, new: tuple[Pointwise, ...]) -> Pointwise:
        if not isinstance(each, IndexSum):
            return each if new == children(each) else rebuild_raw(each, new)
        body = relabel_bound(rename_label(each.body, each.label, _hidden(level)), level + 1, taken)
        name = _names(taken)(level)
        return IndexSum(name, rename_label(body, _hidden(level), name))

    return fold((node,), outside_sums, value)[0]


def rebuild_raw(node: Pointwise, new: tuple[Pointwise, ...]) -> Pointwise:
    """Like `rebuild` for a mere renaming of labels: sums inside are kept, only the order is made canonical again."""
    if isinstance(node, IndexSum):
        return IndexSum(node.label, new[0])
    return rebuild(node, new)


def rename_label(node: Pointwise, old: str, new: Axis) -> Pointwise:
    """Replace a free label by another label or by a value 0, 1, … of `Parameter.index` and `Derivative` entries."""

    def swap(axis: Axis) -> Axis:
        return new if axis == old else axis

    def inside(each: Pointwise) -> tuple[Pointwise, ...]:
        return children(each) if old in free_labels(each) else ()

    def value(each: Pointwise, fresh: tuple[Pointwise, ...]) -> Pointwise:
        if old not in free_labels(each):
            return each
        match each:
            case Coordinate(axis):
                return Coordinate(swap(axis))
            case Parameter(name, index):
                return Parameter(name, tuple(swap(a) for a in index))
            case Coefficient(name, index, axes):
                return Coefficient(name, tuple(swap(a) for a in index), sort_axes(swap(a) for a in axes))
            case Derivative(name, component, axes):
                return Derivative(name, swap(component), sort_axes(swap(a) for a in axes))
        return rebuild_raw(each, fresh)

    return fold((node,), inside, value)[0]


def transform(node: Pointwise, leaf: Callable[[Pointwise], Pointwise], memo: dict[Pointwise, Pointwise]) -> Pointwise:
    """Replace leaves and rebuild everything above them through the smart constructors."""

    def value(each: Pointwise, new: tuple[Pointwise, ...]) -> Pointwise:
        if each not in memo:
            below = children(each)
            memo[each] = leaf(each) if not below else each if new == below else rebuild(each, new)
        return memo[each]

    return fold((node,), children, value)[0]
