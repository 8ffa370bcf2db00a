r"""Sums that are written out, term by term: derivatives drawn by weight, and forms along random directions.

Where an operator names its derivatives one by one (all do in 16 or fewer dimensions), its terms of one kind, Σ_k c_k ∂^{α_k} with
the same powers in α_k, are drawn themselves: term k with probability π_k ∝ |c_k| (at most 1), and divided by π_k. Directions instead need
a form: second order is a matrix, fourth order the sums Σ_i ∂_i⁴ and Σ_{i<j} ∂_i² ∂_j².
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from opdsl.language.constructors import add
from opdsl.language.residual import Number, Pointwise
from opdsl.strategies.linear_operators import DerivativeTerm, LinearOperator, split_number
from opdsl.strategies.restriction import NotSuitable

Powers = tuple[int, ...]
Entries = dict[tuple[int, int], Pointwise]
"""A matrix, as far as it is not zero."""


@dataclass(frozen=True)
class Monomials:
    """Derivatives of one kind: the same powers, of other coordinates.

    Args:
        powers: of the coordinates of each, highest first.
        axes: the coordinates of each.
        coefficients: of each.
        chances: the probabilities to be drawn; they add up to the number of samples.
    """

    powers: Powers
    axes: tuple[tuple[int, ...], ...]
    coefficients: tuple[Pointwise, ...]
    chances: tuple[float, ...]


def written_terms(op: LinearOperator) -> tuple[DerivativeTerm, ...]:
    """The terms of an operator that are drawn one by one: none where it has index sums, which are drawn by coordinate."""
    if op.spread is not None or any(t.labels and t.order > 1 for t in op.terms):
        return ()
    return tuple(t for t in op.terms if t.order > 1 and not t.labels)


def kinds(op: LinearOperator) -> dict[Powers, list[tuple[tuple[int, ...], Pointwise]]]:
    """The written terms by their powers: (coordinates, coefficient)."""
    found: dict[Powers, list[tuple[tuple[int, ...], Pointwise]]] = {}
    for t in written_terms(op):
        powers = _powers(t)
        found.setdefault(tuple(p for _, p in powers), []).append((tuple(a for a, _ in powers), t.coefficient))
    return found


def powers_of(t: DerivativeTerm) -> Powers:
    """The powers of the coordinates of a derivative, highest first."""
    return tuple(p for _, p in _powers(t))


def _powers(t: DerivativeTerm) -> list[tuple[int, int]]:
    """(coordinate, power), highest power first."""
    axes = [a for a in t.axes if isinstance(a, int)]
    return sorted(((a, axes.count(a)) for a in set(axes)), key=lambda pair: (-pair[1], pair[0]))


def drawn_kinds(op: LinearOperator, samples: int) -> list[Monomials]:
    """The kinds with more terms than samples; all others are exact."""
    out = []
    for powers, terms in kinds(op).items():
        if len(terms) > samples:
            chances = inclusion([abs(float(split_number(c)[0])) for _, c in terms], samples)
            out.append(Monomials(powers, tuple(a for a, _ in terms), tuple(c for _, c in terms), chances))
    return out


def inclusion(weights: Sequence[float], samples: int) -> tuple[float, ...]:
    """Probabilities in proportion to weights, at most 1, that add up to the number of samples.

    Example:
        >>> inclusion([1.0, 1.0, 2.0, 4.0], 2)
        (0.25, 0.25, 0.5, 1.0)
    """
    certain: set[int] = set()
    while True:
        rest = sum(w for k, w in enumerate(weights) if k not in certain)
        left = samples - len(certain)
        chances = [1.0 if k in certain else left * w / rest for k, w in enumerate(weights)]
        more = {k for k, p in enumerate(chances) if p >= 1.0} - certain
        if not more:
            return tuple(chances)
        certain |= more


# ---------------------------------------------------------------------------------------------------------- directions


def as_forms(op: LinearOperator, space: Sequence[int]) -> Iterator[DerivativeTerm | Entries]:
    """The written terms over space coordinates as index sums, or as the entries of a matrix.

    Raises:
        NotSuitable: neither.
    """
    inside = set(space)
    found = {
        powers: [(axes, c) for axes, c in terms if set(axes) <= inside] for powers, terms in kinds(op).items()
    }  # fmt: skip
    second = {(p[0], p[-1]): c for powers in ((2,), (1, 1)) for p, c in _matrix(found.pop(powers, []))}
    everywhere = _same_everywhere([((a,), second[a, a]) for a in space if (a, a) in second], len(space))
    if everywhere is not None and len(second) == len(space):
        yield DerivativeTerm(everywhere, ("i", "i"), ("i",))
    elif second:
        yield second
    fourth, pairs = found.pop((4,), []), found.pop((2, 2), [])
    if any(found.values()):
        powers = next(p for p, terms in found.items() if terms)
        raise NotSuitable(
            f"derivatives of powers {powers} are no form that random directions estimate; distribution='coordinates' takes any sum"
        )
    if not fourth and not pairs:
        return
    zero: Pointwise = Number(Fraction(0))
    one = _same_everywhere(fourth, len(space)) if fourth else zero
    two = _same_everywhere(pairs, len(list(combinations(space, 2)))) if pairs else zero
    if one is None or two is None or not (isinstance(one, Number) and isinstance(two, Number)):
        raise NotSuitable("fourth derivatives with coefficients of their own; distribution='coordinates' takes any sum")
    # Σ_{i<j} ∂_i² ∂_j² = ½ (Δ² − Σ_i ∂_i⁴).
    half = Fraction(two.value) / 2
    if half:
        yield DerivativeTerm(Number(half), ("i", "i", "j", "j"), ("i", "j"))
    if Fraction(one.value) - half:
        yield DerivativeTerm(Number(Fraction(one.value) - half), ("i", "i", "i", "i"), ("i",))


def _matrix(terms: Sequence[tuple[tuple[int, ...], Pointwise]]) -> Iterator[tuple[tuple[int, ...], Pointwise]]:
    """The terms with one coefficient for each pair."""
    found: dict[tuple[int, ...], list[Pointwise]] = {}
    for axes, c in terms:
        found.setdefault(axes, []).append(c)
    for axes, several in found.items():
        yield axes, several[0] if len(several) == 1 else add(*several)


def _same_everywhere(terms: Sequence[tuple[tuple[int, ...], Pointwise]], count: int) -> Pointwise | None:
    """The coefficient that all have, where every one of so many is there once."""
    coefficients = {c for _, c in terms}
    whole = len(terms) == count == len({axes for axes, _ in terms})
    return coefficients.pop() if whole and len(coefficients) == 1 else None
