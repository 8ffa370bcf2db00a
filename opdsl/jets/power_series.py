"""Truncated power series with Python's arithmetic, to write a derivative in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opdsl.jets.elementary import ELEMENTARY, Elementary, Functions, Series, Term, add, integrate, linear, power, product


@dataclass(frozen=True)
class PowerSeries:
    """Σ terms[k] t^k, in the scaled coefficients of `taylor`; numbers and other series may stand on either side."""

    functions: Functions
    terms: Series

    def apply(self, name: str) -> PowerSeries:
        """An elementary function of it, by its name in `opdsl.jets.elementary.ELEMENTARY`."""
        return self._of(ELEMENTARY[name])

    def _of(self, function: Elementary) -> PowerSeries:
        if function.series is not None:
            return PowerSeries(self.functions, function.series(self.functions, self.terms))
        c = function.expand(self.functions, self.terms[0], len(self.terms) - 1)
        # Horner's rule in the part without constant term.
        rest: Series = [None, *self.terms[1:]]
        total: Series = [c[-1], *[None] * (len(rest) - 1)]
        for coefficient in reversed(c[:-1]):
            total = product(total, rest)
            total[0] = coefficient
        return PowerSeries(self.functions, total)

    def _lift(self, other: Any) -> Series:
        if isinstance(other, PowerSeries):
            return other.terms
        return [self.functions.xp.full_like(self.terms[0], other), *[None] * (len(self.terms) - 1)]

    def __add__(self, other: Any) -> PowerSeries:
        return PowerSeries(self.functions, add(self.terms, self._lift(other)))

    def __neg__(self) -> PowerSeries:
        return PowerSeries(self.functions, linear(self.terms, -1.0))

    def __sub__(self, other: Any) -> PowerSeries:
        return self.__add__(-other)

    def __rsub__(self, other: Any) -> PowerSeries:
        return self.__neg__().__add__(other)

    def __mul__(self, other: Any) -> PowerSeries:
        if isinstance(other, int | float):
            return PowerSeries(self.functions, linear(self.terms, float(other)))
        return PowerSeries(self.functions, product(self.terms, self._lift(other)))

    def __truediv__(self, other: Any) -> PowerSeries:
        return self * (1.0 / other if isinstance(other, int | float) else other.apply("reciprocal"))

    def __rtruediv__(self, other: Any) -> PowerSeries:
        return self.apply("reciprocal").__mul__(other)

    def __pow__(self, exponent: float) -> PowerSeries:
        return self._of(power(exponent))

    __radd__, __rmul__ = __add__, __mul__


def from_slope(name: str, value: Callable[[Any], Any], slope: Callable[[PowerSeries, PowerSeries], Any]) -> Elementary:
    """The function y(x) with y' = slope(x, y); its values are given. The series of y and of its slope grow together."""

    def series(f: Functions, h: Series) -> Series:
        def rate(y: Series, k: int) -> Term:
            found = slope(PowerSeries(f, h[: k + 1]), PowerSeries(f, y))
            return found.terms[k] if isinstance(found, PowerSeries) else (found if k == 0 else None)

        return integrate(value(h[0]), h, rate)

    return Elementary(name, series)
