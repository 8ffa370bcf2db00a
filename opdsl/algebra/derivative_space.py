r"""The derivative space: the fewest values that must travel through a network to get p(∂)u exactly.

Expand p(ξ+η) = Σ p_i(ξ) q_i(η): this is Leibniz' rule for p(∂). The smallest space closed under that expansion is
spanned by all partial derivatives of the polynomial p. With a basis b_0 = 1, b_1, … of it and

    b_k(ξ+η) = Σ m[k,i,j] b_i(ξ) b_j(η),                                                                         (1)

the *channels* h_k = b_k(∂)h of any arrays f, g and smooth σ obey

    (fg)_k = Σ m[k,i,j] f_i g_j,    σ(h) = Σ_n σ⁽ⁿ⁾(h_0)/n! · (h − h_0)ⁿ  with the product of the first rule.        (2)

Basis elements are found as rows in echelon form: b_k has a leading monomial μ_k that no other element contains, with
coefficient 1 in divided powers ξ^β/β!. Then λ_k(q) = ∂^{μ_k} q(0) is the dual basis and (1) is simply read off,

    m[k,i,j] = ∂^{μ_i+μ_j} b_k (0),                                                                               (3)

the structure constants of the apolar algebra R[∂]/Ann(p) (Iarrobino and Kanev, Power Sums, Gorenstein Algebras, and
Determinantal Loci, ch. 1). Divided powers make channels Taylor coefficients: ξ^n gives h⁽ᵏ⁾/k!, and m = 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import combinations, product
from math import factorial

from opdsl.algebra.elimination import Combinations, RowSpace, divided
from opdsl.algebra.polynomial import Monomial, Polynomial, degree, monomial_factorial
from opdsl.algebra.quadratic_forms import sum_of_squares

Row = tuple[tuple[int, int, Fraction], ...]
"""Σ m b_i(ξ) b_j(η) as (i, j, m)."""

_MAX_ENTRIES = 12
"""Up to this many undecided collapse entries all 2^n choices are compared; beyond, only all or nothing."""


@dataclass(frozen=True)
class Top:
    """One channel T for a combination Σ_g c_g p_g whose coefficients are known at run time only.

    With the members reduced to p_g = unit · t_g + (lower part in the space), the channel carries Σ_g c_g t_g(∂)h and

        T(ξ+η) = T(ξ) + T(η) + Σ_g c_g Σ rows[g],    Σ_g c_g p_g = unit · T + Σ_g c_g Σ lower[g].

    Attributes:
        channel: its number; tops come after the basis.
        entry: which entry of ``collapse`` this is.
        members: the polynomials p_g of that entry, all of them.
        rows: per member (i, j, m), symmetric, between basis channels i, j ≥ 1; empty if p_g lies in the space.
        seeds: per member (coordinate, value): the channel's value on the input x_i is Σ_g c_g value.
        lower: per member (channel, weight): what must be read beside the top.
        unit: K! for the highest order K, so that this channel too is a Taylor coefficient.
    """

    channel: int
    entry: int
    members: tuple[Polynomial, ...]
    rows: tuple[Row, ...]
    seeds: tuple[tuple[tuple[int, Fraction], ...], ...]
    lower: tuple[tuple[tuple[int, Fraction], ...], ...]
    unit: Fraction


@dataclass(frozen=True)
class DerivativeSpace:
    """A graded basis of the derivative space, its structure constants, and the run-time tops.

    Made by `derivative_space`.

    Attributes:
        basis: b_0 = 1, then by degree; a monomial ξ^β appears as ξ^β/β!.
        degrees: degree of each basis element.
        tops: one extra channel per collapse entry that does not lie in the span; numbered after the basis.
        table: (k, i, j, m) of equation (1), symmetric in i and j, including (k, 0, k, 1) and (k, k, 0, 1).

    Example:
        >>> space = derivative_space([Polynomial.laplacian((0, 1))])
        >>> print(*space.basis, sep=", ")
        1, ξ_0, ξ_1, 1/2 ξ_0² + 1/2 ξ_1²
        >>> [(k, i, j, str(m)) for k, i, j, m in space.table if i and j]
        [(3, 1, 1, '1'), (3, 2, 2, '1')]
    """

    basis: tuple[Polynomial, ...]
    degrees: tuple[int, ...]
    tops: tuple[Top, ...]
    table: tuple[tuple[int, int, int, Fraction], ...]

    @property
    def channels(self) -> int:
        """How many arrays travel: basis elements and tops."""
        return len(self.basis) + len(self.tops)

    @property
    def order(self) -> int:
        """Highest derivative order, tops included: powers of h − h_0 above it vanish."""
        return max(*self.degrees, 0, *(p.degree() for top in self.tops for p in top.members))

    def seeds(self, coordinate: int) -> dict[int, Fraction]:
        """Value of each basis channel on the input x_i: the coefficient of ξ_i in b, channel 0 being x_i itself.

        Channels not listed are zero; tops have their own `Top.seeds`.
        """
        return dict(self._seeds.get(coordinate, {}))

    @cached_property
    def _seeds(self) -> dict[int, dict[int, Fraction]]:
        seeds: dict[int, dict[int, Fraction]] = {}
        for channel, element in enumerate(self.basis):
            for coordinate, value in _linear_part(element):
                seeds.setdefault(coordinate, {})[channel] = value
        return seeds

    def read(self, p: Polynomial) -> dict[int, Fraction] | None:
        """p as a combination {channel: weight} of basis elements, or None if it is not in the span."""
        return self._combinations.express(p)

    @cached_property
    def _combinations(self) -> Combinations:
        return Combinations(self.basis)


def derivative_space(
    operators: Iterable[Polynomial], *, collapse: Sequence[Sequence[Polynomial]] = ()
) -> DerivativeSpace:
    r"""The smallest family of channels from which the given operators can be read after any composition.

    Args:
        operators: symbols read one by one. All their derivatives are channels.
        collapse: each entry is a list of symbols p_g that are read only as one combination Σ c_g p_g with coefficients
            known at run time. Their *proper* derivatives are channels; the p_g themselves share one channel per
            entry, or become ordinary channels where that costs no more.

    Returns:
        The space L spanned by the channels above, with its structure constants, and the tops.

    Example:
        >>> t, x = Polynomial.variable(0), Polynomial.variable(1)
        >>> derivative_space([t, x, x**3]).channels                     # u_t, u_x, u_xxx one by one
        5
        >>> derivative_space([t + x**3, x]).channels                    # u_t + u_xxx as one operator
        4
        >>> derivative_space([x], collapse=[[t, x**2, x**3]]).channels  # a u_t + b u_xx + c u_xxx
        4

    Reference: Iarrobino and Kanev, ch. 1 (inverse systems); Ishii, arXiv:2106.14153 (Weil algebras).
    """
    span = RowSpace()
    span.close(Polynomial.constant(1))
    for operator in operators:
        span.close(operator)
    entries = [tuple(entry) for entry in collapse]
    for member in (member for entry in entries for member in entry):
        for coordinate in member.coordinates():
            span.close(member.diff(coordinate))
    for entry_index in _promoted(span, entries):
        for member in entries[entry_index]:
            span.close(member)
    pivots, basis = span.reduced()
    undecided = [(index, entry) for index, entry in enumerate(entries) if not all(map(span.contains, entry))]
    table = {channel: _inner_row(element, pivots) for channel, element in enumerate(basis)}
    tops = tuple(
        _top(len(basis) + place, index, entry, pivots, basis) for place, (index, entry) in enumerate(undecided)
    )
    basis, table, tops = _with_squares(basis, table, tops)
    full: list[tuple[int, int, int, Fraction]] = []
    for channel, row in table.items():
        one = Fraction(1)
        full.extend([(channel, 0, channel, one), (channel, channel, 0, one)] if channel else [(0, 0, 0, one)])
        full.extend((channel, i, j, m) for i, j, m in row)
    return DerivativeSpace(tuple(basis), tuple(element.degree() for element in basis), tops, tuple(full))


def describe(space: DerivativeSpace, coords: Sequence[str] | None = None) -> str:
    """Channels and product rule as text, ∂ with the coordinate names if given, else ξ.

    Example:
        >>> print(describe(derivative_space([Polynomial.laplacian((0, 1))]), ("x", "y")))
        4 channels, order 2
          b0 = 1
          b1 = ∂_x
          b2 = ∂_y
          b3 = 1/2 ∂_x² + 1/2 ∂_y²
        product rule
          (fg)0 = f0 g0
          (fg)1 = f0 g1 + f1 g0
          (fg)2 = f0 g2 + f2 g0
          (fg)3 = f0 g3 + f3 g0 + f1 g1 + f2 g2
    """
    lines = [f"{space.channels} channels, order {space.order}"]
    lines += [f"  b{channel} = {element.text(coords)}" for channel, element in enumerate(space.basis)]
    for top in space.tops:
        rests = [
            member - sum((weight * space.basis[k] for k, weight in lower), Polynomial())
            for member, lower in zip(top.members, top.lower, strict=True)
        ]
        combination = " + ".join(f"c{g} ({rest.text(coords)})" for g, rest in enumerate(rests) if rest)
        lines.append(f"  b{top.channel} = {1 / top.unit} ({combination})")
    lines.append("product rule")
    rows: dict[int, list[str]] = {}
    for channel, i, j, m in space.table:
        rows.setdefault(channel, []).append(_summand(i, j, m))
    for top in space.tops:
        rows[top.channel] = [_summand(0, top.channel, Fraction(1)), _summand(top.channel, 0, Fraction(1))]
        for g, row in enumerate(top.rows):
            if row:
                inner = " + ".join(_summand(i, j, m) for i, j, m in row)
                rows[top.channel].append(f"c{g} ({inner.replace('+ -', '- ')})")
    lines += [f"  (fg){channel} = {' + '.join(row).replace('+ -', '- ')}" for channel, row in rows.items()]
    return "\n".join(lines)


def _summand(i: int, j: int, m: Fraction) -> str:
    factor = {1: "", -1: "-"}.get(int(m), f"{m} ") if m.denominator == 1 else f"{m} "
    return f"{factor}f{i} g{j}"


def _linear_part(p: Polynomial) -> Iterator[tuple[int, Fraction]]:
    return ((m[0][0], c) for m, c in p.terms if degree(m) == 1)


def _splits(monomial: Monomial) -> Iterator[tuple[Monomial, Monomial]]:
    """All (β, γ) with β + γ = the monomial and both nonconstant."""
    for powers in product(*(range(power + 1) for _, power in monomial)):
        left = tuple((axis, p) for (axis, _), p in zip(monomial, powers, strict=True) if p)
        right = tuple((axis, q - p) for (axis, q), p in zip(monomial, powers, strict=True) if q > p)
        if left and right:
            yield left, right


def _inner_row(p: Polynomial, pivots: Sequence[Monomial]) -> Row:
    """Equation (3) for i, j ≥ 1."""
    channel = {pivot: k for k, pivot in enumerate(pivots)}
    entries = [
        (channel[left], channel[right], coefficient * monomial_factorial(monomial))
        for monomial, coefficient in p.terms
        for left, right in _splits(monomial)
        if left in channel and right in channel
    ]
    return tuple(sorted(entries))


def _promoted(span: RowSpace, entries: Sequence[Sequence[Polynomial]]) -> tuple[int, ...]:
    """Entries whose members had better be ordinary channels.

    An entry outside the span costs one top, and making its members channels costs their rank modulo the span; several
    entries over the same members may share. Choose the set that minimises the number of channels, larger sets on ties:
    an ordinary channel has constants in its table and may be read with any coefficients.
    """
    outside = {
        index: rest
        for index, entry in enumerate(entries)
        if (rest := [r for m in entry if (r := span.remainder(divided(m)))])
    }
    sizes = range(len(outside), -1, -1) if len(outside) <= _MAX_ENTRIES else (len(outside), 0)

    def channels(chosen: tuple[int, ...]) -> int:
        static = span.copy()
        rank = sum(static.add(row) for index in chosen for row in outside[index])
        return rank + sum(any(map(static.remainder, rest)) for rest in outside.values())

    return min((chosen for size in sizes for chosen in combinations(outside, size)), key=channels, default=())


def _top(
    channel: int, index: int, members: Sequence[Polynomial], pivots: Sequence[Monomial], basis: Sequence[Polynomial]
) -> Top:
    unit = Fraction(factorial(max(member.degree() for member in members)))
    rows: list[Row] = []
    seeds: list[tuple[tuple[int, Fraction], ...]] = []
    lowers: list[tuple[tuple[int, Fraction], ...]] = []
    for member in members:
        # Subtracting what the basis can represent leaves no pivot monomial, so equation (3) holds as it stands.
        weights = {k: member.coefficient(pivot) * monomial_factorial(pivot) for k, pivot in enumerate(pivots)}
        lowers.append(tuple((k, weight) for k, weight in weights.items() if weight))
        rest = (member - sum((basis[k] * weight for k, weight in lowers[-1]), Polynomial())) / unit
        rows.append(_inner_row(rest, pivots))
        seeds.append(tuple(_linear_part(rest)))
    return Top(channel, index, tuple(members), tuple(rows), tuple(seeds), tuple(lowers), unit)


def _with_squares(
    basis: list[Polynomial], table: dict[int, Row], tops: tuple[Top, ...]
) -> tuple[list[Polynomial], dict[int, Row], tuple[Top, ...]]:
    """Where the only products are one quadratic form, take linear channels in which it is a sum of squares.

    That is rank many products instead of one per nonzero coefficient.
    """
    rows = [row for row in (*table.values(), *(row for top in tops for row in top.rows)) if row]
    if len(rows) != 1 or any(basis[i].degree() > 1 or basis[j].degree() > 1 for i, j, _ in rows[0]):
        return basis, table, tops
    # A table row is the quadratic form in the coordinates of the linear channels.
    squares = sum_of_squares(
        Polynomial.from_terms(
            (((i, 2),) if i == j else ((i, 1), (j, 1)), m if i == j else 2 * m) for i, j, m in rows[0] if i <= j
        )
    )
    if len(squares) >= sum(i <= j for i, j, _ in rows[0]):
        return basis, table, tops
    elements, entries = list(basis), []
    for (weight, square), slot in zip(squares, _independent_slots([form for _, form in squares]), strict=True):
        elements[slot] = sum((basis[m[0][0]] * c for m, c in square.terms), Polynomial())
        entries.append((slot, slot, weight))
    new = {rows[0]: tuple(sorted(entries))}
    space = DerivativeSpace(tuple(elements), (), (), ())

    def reread(weights: tuple[tuple[int, Fraction], ...]) -> tuple[tuple[int, Fraction], ...]:
        combination = space.read(sum((basis[k] * weight for k, weight in weights), Polynomial()))
        assert combination is not None, "the linear forms span what they spanned before"
        return tuple(combination.items())

    tops = tuple(
        replace(top, rows=tuple(new.get(row, row) for row in top.rows), lower=tuple(map(reread, top.lower)))
        for top in tops
    )
    return elements, {channel: new.get(row, row) for channel, row in table.items()}, tops


def _independent_slots(forms: Sequence[Polynomial]) -> list[int]:
    """A different variable for each linear form, such that replacing those variables by the forms keeps a basis."""
    span = RowSpace()
    for form in forms:
        span.add(divided(form))
    # One lead for each form, in their order.
    return [lead[0][0] for lead in span.leads()]
