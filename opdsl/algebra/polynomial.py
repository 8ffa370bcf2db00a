r"""Symbols: constant-coefficient linear operators as exact polynomials.

Replace every ∂_i by an indeterminate ξ_i; sums, products and powers of operators become those of polynomials.

===================  ===============================================
operator             here
===================  ===============================================
∂_x ∂_x u            ``Polynomial.from_axes((0, 0))``, ξ_0²
Δu in columns 0, 1   ``Polynomial.laplacian((0, 1))``, ξ_0² + ξ_1²
Δ²u                  ``Polynomial.laplacian((0, 1)) ** 2``
p(∂) applied to f    ``p.apply(f)`` for a polynomial f in x
===================  ===============================================

Coefficients are `fractions.Fraction`, so equality is ``==`` and never a tolerance. Monomials are sparse: an operator in
a thousand variables costs as much as it has terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import factorial, isfinite, perm, prod

from opdsl.algebra.work import spend

Monomial = tuple[tuple[int, int], ...]
"""ξ^β as sorted pairs (coordinate, power ≥ 1); () is the constant 1."""

Scalar = int | Fraction | float
"""A coefficient. A float stands for the binary fraction it is: 0.1 is not 1/10."""

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def as_fraction(value: Scalar) -> Fraction:
    """The exact value of a number; refuses inf and nan.

    Raises:
        ValueError: if the number is not finite.

    Example:
        >>> as_fraction(0.25)
        Fraction(1, 4)
    """
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"a coefficient must be finite, got {value}")
    return value if isinstance(value, Fraction) else Fraction(value)


def degree(monomial: Monomial) -> int:
    """|β|."""
    return sum(power for _, power in monomial)


def monomial_factorial(monomial: Monomial) -> int:
    """β! = Π β_i!."""
    return prod(factorial(power) for _, power in monomial)


def monomial_product(left: Monomial, right: Monomial) -> Monomial:
    """ξ^β ξ^γ."""
    if not left:
        return right
    if not right:
        return left
    if left[-1][0] < right[0][0]:
        return left + right
    powers = dict(left)
    for coordinate, power in right:
        powers[coordinate] = powers.get(coordinate, 0) + power
    return tuple(sorted(powers.items()))


def lower(monomial: Monomial, coordinate: int) -> Monomial:
    """ξ^(β − e_i); the coordinate must occur."""
    return tuple((c, p - (c == coordinate)) for c, p in monomial if c != coordinate or p > 1)


def graded_key(monomial: Monomial) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Sorts as people write polynomials: high degree first, then ξ_0² before ξ_0 ξ_1 before ξ_1²."""
    return -degree(monomial), tuple((coordinate, -power) for coordinate, power in monomial)


@dataclass(frozen=True)
class Polynomial:
    """An exact polynomial in ξ_0, ξ_1, …, immutable and hashable.

    ``terms`` are (monomial, nonzero coefficient) pairs in the order of `graded_key`; build one through the constructors
    and the arithmetic, which keep that form. ``+ - *`` take polynomials and numbers, ``**`` natural numbers,
    ``/`` numbers.

    Example:
        >>> x, y = Polynomial.variable(0), Polynomial.variable(1)
        >>> print((x + y) ** 2 - 3 * y)
        ξ_0² + 2 ξ_0 ξ_1 + ξ_1² - 3 ξ_1
    """

    terms: tuple[tuple[Monomial, Fraction], ...] = ()

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_terms(cls, terms: Mapping[Monomial, Scalar] | Iterable[tuple[Monomial, Scalar]]) -> Polynomial:
        """Sum of coefficient · monomial; repeated monomials add up and zeros vanish.

        Raises:
            ValueError: if a monomial is not sorted by coordinate, or has a negative coordinate or a power below 1.
        """
        total: dict[Monomial, Fraction] = {}
        for monomial, coefficient in terms.items() if isinstance(terms, Mapping) else terms:
            coordinates = [coordinate for coordinate, _ in monomial]
            if sorted(set(coordinates)) != coordinates or any(c < 0 or p < 1 for c, p in monomial):
                raise ValueError(
                    f"a monomial is a tuple of (coordinate ≥ 0, power ≥ 1) sorted by coordinate, got {monomial!r}"
                )
            total[monomial] = total.get(monomial, Fraction(0)) + as_fraction(coefficient)
        return cls._from_dict(total)

    @classmethod
    def _from_dict(cls, total: Mapping[Monomial, Fraction]) -> Polynomial:
        spend(len(total))
        kept = [(monomial, coefficient) for monomial, coefficient in total.items() if coefficient]
        kept.sort(key=lambda term: graded_key(term[0]))
        return cls(tuple(kept))

    @classmethod
    def total(cls, polynomials: Iterable[Polynomial]) -> Polynomial:
        """The sum of many: each term is added once, and the whole is sorted once."""
        total: dict[Monomial, Fraction] = {}
        for polynomial in polynomials:
            spend(len(polynomial.terms))
            for monomial, coefficient in polynomial.terms:
                total[monomial] = total[monomial] + coefficient if monomial in total else coefficient
        return cls._from_dict(total)

    @classmethod
    def constant(cls, value: Scalar) -> Polynomial:
        """The operator "multiply by a number"."""
        return cls._from_dict({(): as_fraction(value)})

    @classmethod
    def variable(cls, coordinate: int) -> Polynomial:
        """ξ_i, the operator ∂_i."""
        return cls.from_axes((coordinate,))

    @classmethod
    def from_axes(cls, axes: Sequence[int]) -> Polynomial:
        """∂ along each listed coordinate column in turn; () is the identity.

        Example:
            >>> print(Polynomial.from_axes((1, 1, 0)))
            ξ_0 ξ_1²
        """
        powers: dict[int, int] = {}
        for axis in axes:
            powers[axis] = powers.get(axis, 0) + 1
        return cls.from_terms({tuple(sorted(powers.items())): 1})

    @classmethod
    def laplacian(cls, space: Iterable[int]) -> Polynomial:
        """Σ ξ_i² over the given coordinate columns."""
        return cls.from_terms((((coordinate, 2),), 1) for coordinate in space)

    @classmethod
    def linear(cls, coefficients: Mapping[int, Scalar] | Sequence[Scalar]) -> Polynomial:
        """v·ξ, from {coordinate: coefficient} or from the full vector v."""
        pairs = coefficients.items() if isinstance(coefficients, Mapping) else enumerate(coefficients)
        return cls.from_terms((((coordinate, 1),), coefficient) for coordinate, coefficient in pairs)

    # ------------------------------------------------------------------ looking inside

    @cached_property
    def _by_monomial(self) -> dict[Monomial, Fraction]:
        return dict(self.terms)

    def coefficient(self, monomial: Monomial) -> Fraction:
        """Coefficient of ξ^β."""
        return self._by_monomial.get(monomial, Fraction(0))

    def degree(self) -> int:
        """Order of the operator; −1 for the zero polynomial."""
        return degree(self.terms[0][0]) if self.terms else -1

    def order_parts(self) -> dict[int, Polynomial]:
        """Homogeneous parts by degree, highest first; empty for zero."""
        parts: dict[int, list[tuple[Monomial, Fraction]]] = {}
        for monomial, coefficient in self.terms:
            parts.setdefault(degree(monomial), []).append((monomial, coefficient))
        return {order: Polynomial(tuple(terms)) for order, terms in parts.items()}

    def is_homogeneous(self) -> bool:
        """Whether all terms have one degree; true for zero."""
        return not self.terms or degree(self.terms[-1][0]) == self.degree()

    def coordinates(self) -> tuple[int, ...]:
        """The coordinate columns that occur, sorted."""
        return tuple(sorted({coordinate for monomial, _ in self.terms for coordinate, _ in monomial}))

    def __bool__(self) -> bool:
        return bool(self.terms)

    # ------------------------------------------------------------------ arithmetic

    def __add__(self, other: Polynomial | Scalar) -> Polynomial:
        if not isinstance(other, Polynomial):
            other = Polynomial.constant(other)
        if not other.terms or not self.terms:
            return self if self.terms else other
        total = dict(self.terms)
        for monomial, coefficient in other.terms:
            total[monomial] = total[monomial] + coefficient if monomial in total else coefficient
        return self._from_dict(total)

    __radd__ = __add__

    def __neg__(self) -> Polynomial:
        return Polynomial(tuple((monomial, -coefficient) for monomial, coefficient in self.terms))

    def __sub__(self, other: Polynomial | Scalar) -> Polynomial:
        return self + (-other)

    def __rsub__(self, other: Scalar) -> Polynomial:
        return -self + other

    def __mul__(self, other: Polynomial | Scalar) -> Polynomial:
        if not isinstance(other, Polynomial):
            factor = as_fraction(other)
            return Polynomial(tuple((m, c * factor) for m, c in self.terms)) if factor else Polynomial()
        spend(len(self.terms) * len(other.terms))
        total: dict[Monomial, Fraction] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                monomial = monomial_product(left, right)
                total[monomial] = total[monomial] + a * b if monomial in total else a * b
        return self._from_dict(total)

    __rmul__ = __mul__

    def __truediv__(self, other: Scalar) -> Polynomial:
        return self * (1 / as_fraction(other))

    def __pow__(self, exponent: int) -> Polynomial:
        if exponent < 0:
            raise ValueError(f"an operator has only natural powers, got exponent {exponent}")
        result, square = Polynomial.constant(1), self
        while exponent:
            if exponent & 1:
                result = result * square
            exponent >>= 1
            if exponent:
                square = square * square
        return result

    # ------------------------------------------------------------------ calculus

    def diff(self, coordinate: int) -> Polynomial:
        """∂p/∂ξ_i. Also the exact derivative of a polynomial in x."""
        return self._from_dict(
            {lower(m, coordinate): c * power for m, c in self.terms for axis, power in m if axis == coordinate}
        )

    def apply(self, function: Polynomial) -> Polynomial:
        """p(∂) f for a polynomial f in x_0, x_1, …, exactly.

        Example:
            >>> x, y = Polynomial.variable(0), Polynomial.variable(1)
            >>> print(Polynomial.laplacian((0, 1)).apply(x**3 * y))
            6 ξ_0 ξ_1
        """
        total: dict[Monomial, Fraction] = {}
        for axes, weight in self.terms:
            for monomial, coefficient in function.terms:
                powers = dict(monomial)
                scale = 1
                for coordinate, order in axes:
                    power = powers.get(coordinate, 0)
                    scale *= perm(power, order)
                    if power > order:
                        powers[coordinate] = power - order
                    else:
                        powers.pop(coordinate, None)
                if scale:
                    key = tuple(sorted(powers.items()))
                    total[key] = total.get(key, Fraction(0)) + weight * coefficient * scale
        return self._from_dict(total)

    def __call__(self, point: Mapping[int, Scalar] | Sequence[Scalar]) -> Fraction:
        """Value at a point, exactly. p(∂) e^{w·x} = p(w) e^{w·x}, the universal test of an operator."""
        return sum(
            (c * prod(as_fraction(point[axis]) ** power for axis, power in m) for m, c in self.terms), Fraction(0)
        )

    # ------------------------------------------------------------------ printing

    def text(self, names: Sequence[str] | None = None) -> str:
        """Readable form: ``ξ_0² + 2 ξ_0 ξ_1``, or with coordinate names ``∂_x² + 2 ∂_x ∂_y``."""
        return self._text(lambda coordinate: f"ξ_{coordinate}" if names is None else f"∂_{names[coordinate]}")

    def _text(self, name: Callable[[int], str]) -> str:
        if not self.terms:
            return "0"
        pieces: list[str] = []
        for monomial, coefficient in self.terms:
            factors = [name(c) + (str(p).translate(_SUPERSCRIPTS) if p > 1 else "") for c, p in monomial]
            size = abs(coefficient)
            body = " ".join(factors if size == 1 and factors else [str(size), *factors])
            sign = "-" if coefficient < 0 else "+"
            pieces.append(f" {sign} {body}" if pieces else body if sign == "+" else f"-{body}")
        return "".join(pieces)

    def __str__(self) -> str:
        return self.text()
