r"""Spans of polynomials in exact echelon form: the one elimination of this package.

Rows are integer multiples of polynomials in divided powers ξ^β/β!: there differentiation only shifts β, no coefficient
changes, and elimination is fraction-free. A row may carry further columns that say which combination of numbered elements
it is; they come after all monomials, so that they are carried along and never eliminated.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from math import gcd, lcm

from opdsl.algebra.polynomial import Monomial, Polynomial, degree, graded_key, lower, monomial_factorial
from opdsl.algebra.work import spend

Column = Monomial | int
"""A monomial, or the number of an element."""

Row = dict[Column, int]
"""A polynomial up to a factor, coefficients of ξ^β/β!; and the elements it is a combination of."""

PivotKey = tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]]

_ITSELF = -1
"""The column of the polynomial that is being expressed."""


def pivot_key(column: Column) -> PivotKey:
    """Leading monomials: the highest degree first (so that the basis is graded), then pure powers, then low columns."""
    if isinstance(column, int):
        return (-1, (), ((column, 0),))
    # Pure powers as leads keep symmetric operators symmetric: ξ_i|ξ|² and not a triangular mixture of them.
    return (
        degree(column),
        tuple(sorted((power for _, power in column), reverse=True)),
        tuple((-coordinate, power) for coordinate, power in column),
    )


def divided(p: Polynomial) -> Row:
    """The integer row of a polynomial."""
    return _row(p)[0]


def _row(p: Polynomial) -> tuple[Row, int]:
    """The integer row of a multiple of p, and the multiple."""
    denominator = lcm(*(coefficient.denominator for _, coefficient in p.terms))
    return {m: int(c * denominator) * monomial_factorial(m) for m, c in p.terms}, denominator


def _primitive(row: Row) -> Row:
    common = gcd(*row.values())
    return row if common <= 1 else {m: c // common for m, c in row.items()}


class RowSpace:
    """A span of polynomials in echelon form over the integers, fraction-free."""

    def __init__(self) -> None:
        self.rows: dict[Column, Row] = {}
        self._keys: dict[Column, PivotKey] = {}

    def _key(self, column: Column) -> PivotKey:
        key = self._keys.get(column)
        if key is None:
            key = self._keys[column] = pivot_key(column)
        return key

    def _cancel(self, row: Row, lead: Column) -> Row:
        """Row with its term at ``lead`` cancelled by the row of that lead, up to a factor."""
        other = self.rows[lead]
        spend(len(other))
        common = gcd(row[lead], other[lead])
        a, b = other[lead] // common, row[lead] // common
        result = {m: c * a for m, c in row.items()} if a != 1 else dict(row)
        for m, c in other.items():
            value = result.get(m, 0) - b * c
            if value:
                result[m] = value
            else:
                del result[m]
        return result

    def remainder(self, row: Row) -> Row:
        """What is left of a row, up to a factor; empty if it is in the span."""
        while row and (lead := max(row, key=self._key)) in self.rows:
            row = _primitive(self._cancel(row, lead))
        return row

    def contains(self, p: Polynomial) -> bool:
        """Whether p is in the span."""
        return not self.remainder(divided(p))

    def copy(self) -> RowSpace:
        """An independent span; rows are never changed in place, so they are shared."""
        span = RowSpace()
        span.rows = dict(self.rows)
        span._keys = self._keys
        return span

    def add(self, row: Row) -> bool:
        """Extend the span by a row; False if it is in there already."""
        row = self.remainder(row)
        if row:
            self.rows[max(row, key=self._key)] = _primitive(row)
        return bool(row)

    def leads(self) -> list[Monomial]:
        """The leading monomials, in the order in which the rows came."""
        return _monomials(self.rows)

    def close(self, p: Polynomial) -> None:
        """Add p and all its derivatives."""
        pending = [divided(p)]
        while pending:
            row = self.remainder(pending.pop())
            # A row in the span brings nothing new: its derivatives are combinations of derivatives pushed before.
            if row and self.add(row):
                coordinates = {coordinate for monomial in _monomials(row) for coordinate, _ in monomial}
                pending.extend(_shift(row, coordinate) for coordinate in sorted(coordinates, reverse=True))

    def reduced(self) -> tuple[list[Monomial], list[Polynomial]]:
        """Leads and basis elements, in graded order: no element contains another one's lead, each its own as ξ^μ/μ!."""
        for lead in sorted(self.rows, key=self._key):
            row = self.rows[lead]
            for other in [m for m in row if m != lead and m in self.rows]:
                row = self._cancel(row, other)
            self.rows[lead] = _primitive(row)
        leads = sorted(self.leads(), key=lambda m: (degree(m), graded_key(m)))
        basis = [
            Polynomial.from_terms(
                (m, Fraction(row[m], row[lead] * monomial_factorial(m))) for row in (self.rows[lead],) for m in _monomials(row)
            )
            for lead in leads
        ]
        return leads, basis


class Combinations:
    """Polynomials as combinations of numbered elements; those listed first are used first.

    Example:
        >>> x, y = Polynomial.variable(0), Polynomial.variable(1)
        >>> known = Combinations([x + y, 2 * x + 2 * y, x - y])
        >>> known.express(x)
        {0: Fraction(1, 2), 2: Fraction(1, 2)}
        >>> known.express(x * y) is None
        True
    """

    def __init__(self, elements: Iterable[Polynomial]) -> None:
        self._span = RowSpace()
        for number, element in enumerate(elements):
            row, multiple = _row(element)
            row = self._span.remainder({**row, number: multiple})
            # What depends on earlier elements leaves a relation among numbers and is never needed.
            if _monomials(row):
                self._span.add(row)

    def express(self, p: Polynomial) -> dict[int, Fraction] | None:
        """{number: weight} with p = Σ weight · element, nonzero weights in order; None if p is no combination."""
        row, multiple = _row(p)
        rest = self._span.remainder({**row, _ITSELF: multiple})
        if _monomials(rest):
            return None
        own = rest.pop(_ITSELF)
        return {number: Fraction(-rest[number], own) for number in sorted(k for k in rest if isinstance(k, int))}


def _monomials(row: Iterable[Column]) -> list[Monomial]:
    return [column for column in row if not isinstance(column, int)]


def _shift(row: Row, coordinate: int) -> Row:
    return {lower(m, coordinate): row[m] for m in _monomials(row) if any(axis == coordinate for axis, _ in m)}
