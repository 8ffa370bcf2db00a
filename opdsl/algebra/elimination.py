r"""Spans of polynomials in exact echelon form.

Rows are integer multiples of polynomials in divided powers ξ^β/β!: there differentiation only shifts β, no coefficient
changes, and elimination is fraction-free.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import gcd, lcm
from typing import TypeVar

from opdsl.algebra.polynomial import Monomial, Polynomial, degree, graded_key, lower, monomial_factorial

Divided = dict[Monomial, int]
"""A polynomial up to a factor: coefficients of ξ^β/β!."""

PivotKey = tuple[int, tuple[int, ...], tuple[tuple[int, int], ...]]

TrackedRow = tuple[dict[Monomial, Fraction], dict[int, Fraction]]
"""A polynomial with leading coefficient 1, and the combination of numbered elements it is."""

_Key = TypeVar("_Key")


def pivot_key(monomial: Monomial) -> PivotKey:
    """Leading monomials: the highest degree first (so that the basis is graded), then pure powers, then low columns."""
    # Pure powers as leads keep symmetric operators symmetric: ξ_i|ξ|² and not a triangular mixture of them.
    return (
        degree(monomial),
        tuple(sorted((power for _, power in monomial), reverse=True)),
        tuple((-coordinate, power) for coordinate, power in monomial),
    )


def divided(p: Polynomial) -> Divided:
    """The integer row of a polynomial."""
    denominator = lcm(*(coefficient.denominator for _, coefficient in p.terms))
    return {m: int(c * denominator) * monomial_factorial(m) for m, c in p.terms}


def _primitive(row: Divided) -> Divided:
    common = gcd(*row.values())
    return row if common <= 1 else {m: c // common for m, c in row.items()}


class Span:
    """A span of polynomials in echelon form over the integers, fraction-free."""

    def __init__(self) -> None:
        self.rows: dict[Monomial, Divided] = {}
        self._keys: dict[Monomial, PivotKey] = {}

    def _key(self, monomial: Monomial) -> PivotKey:
        key = self._keys.get(monomial)
        if key is None:
            key = self._keys[monomial] = pivot_key(monomial)
        return key

    def _cancel(self, row: Divided, lead: Monomial) -> Divided:
        """Row with its term at ``lead`` cancelled by the row of that lead, up to a factor."""
        other = self.rows[lead]
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

    def remainder(self, row: Divided) -> Divided:
        """What is left of a row, up to a factor; empty if it is in the span."""
        while row and (lead := max(row, key=self._key)) in self.rows:
            row = _primitive(self._cancel(row, lead))
        return row

    def contains(self, p: Polynomial) -> bool:
        """Whether p is in the span."""
        return not self.remainder(divided(p))

    def copy(self) -> Span:
        """An independent span; rows are never changed in place, so they are shared."""
        span = Span()
        span.rows = dict(self.rows)
        span._keys = self._keys
        return span

    def add(self, row: Divided) -> bool:
        """Extend the span by a row; False if it is in there already."""
        row = self.remainder(row)
        if row:
            self.rows[max(row, key=self._key)] = _primitive(row)
        return bool(row)

    def close(self, p: Polynomial) -> None:
        """Add p and all its derivatives."""
        pending = [divided(p)]
        while pending:
            row = self.remainder(pending.pop())
            # A row in the span brings nothing new: its derivatives are combinations of derivatives pushed before.
            if row and self.add(row):
                coordinates = {coordinate for monomial in row for coordinate, _ in monomial}
                pending.extend(_shift(row, coordinate) for coordinate in sorted(coordinates, reverse=True))

    def reduced(self) -> tuple[list[Monomial], list[Polynomial]]:
        """Leads and basis elements, in graded order: no element contains another one's lead, each its own as ξ^μ/μ!."""
        for lead in sorted(self.rows, key=self._key):
            row = self.rows[lead]
            for other in [m for m in row if m != lead and m in self.rows]:
                row = self._cancel(row, other)
            self.rows[lead] = _primitive(row)
        leads = sorted(self.rows, key=lambda m: (degree(m), graded_key(m)))
        basis = [
            Polynomial.from_terms(
                (m, Fraction(c, self.rows[lead][lead] * monomial_factorial(m))) for m, c in self.rows[lead].items()
            )
            for lead in leads
        ]
        return leads, basis


def _shift(row: Divided, coordinate: int) -> Divided:
    return {lower(m, coordinate): c for m, c in row.items() if any(axis == coordinate for axis, _ in m)}


def reduce_tracked(
    p: Polynomial, echelon: Mapping[Monomial, TrackedRow]
) -> tuple[dict[Monomial, Fraction], dict[int, Fraction]]:
    """Remainder of p, and the combination of channels that was subtracted."""
    rest = dict(p.terms)
    weights: dict[int, Fraction] = {}
    while rest and (lead := max(rest, key=pivot_key)) in echelon:
        row, combination = echelon[lead]
        factor = rest[lead]
        accumulate(rest, row.items(), -factor)
        accumulate(weights, combination.items(), factor)
    return rest, weights


def accumulate(total: dict[_Key, Fraction], terms: Iterable[tuple[_Key, Fraction]], factor: Fraction) -> None:
    """total += factor · terms, keeping no zeros."""
    for key, value in terms:
        new = total.get(key, Fraction(0)) + factor * value
        if new:
            total[key] = new
        else:
            total.pop(key, None)
