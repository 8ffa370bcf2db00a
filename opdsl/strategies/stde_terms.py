r"""Operators over sampled directions: what every term becomes, and which directions it takes.

A `SampledTerms` collects families of directions while terms are rewritten over them; the expectation of what is written equals
the operator. `opdsl.strategies.stde` draws the directions and evaluates the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import factorial, prod
from typing import Literal

from opdsl.language.constructors import mul
from opdsl.language.residual import Number, Parameter, Pointwise, contiguous
from opdsl.language.structure import free_labels
from opdsl.strategies.base import Request
from opdsl.strategies.linear_operators import ONE, DerivativeTerm, LinearOperator
from opdsl.strategies.restriction import NotSuitable, written_out
from opdsl.strategies.stde_monomials import Entries, Monomials, as_forms, drawn_kinds, powers_of, written_terms

Distribution = Literal["coordinates", "rademacher", "gaussian"]
WEIGHTS = "@weights"
"""Coefficients over sampled coordinates are bound under this name, with their number and replica."""
DRAWN = "@drawn"
"""Coefficients of derivatives that are drawn, over their probabilities, likewise."""


@dataclass(frozen=True)
class Family:
    """Consecutive columns of η: S sampled directions, their signs, or sums of them with A times them; S for each coordinate of a
    derivative that is drawn.

    Args:
        kind: ``"draw"`` as the distribution says, ``"normal"``, ``"sign"``; ``"sum"`` and ``"difference"`` for v ± A v;
            ``"monomials"`` for derivatives drawn one by one.
        start: first column.
        replica: which of the independent samples.
        coefficient: A, with its labels, for ``sum`` and ``difference``.
        entries: A entry by entry, where it has no labels.
        monomials: what is drawn.
        number: of the monomials, for the name of their weights.
    """

    kind: str
    start: int
    replica: int
    coefficient: Pointwise = ONE
    labels: tuple[str, ...] = ()
    entries: tuple[tuple[tuple[int, int], Pointwise], ...] = ()
    monomials: Monomials | None = None
    number: int = 0

    @property
    def weights(self) -> str:
        """The name under which the coefficients of drawn derivatives are bound."""
        return f"{DRAWN}{self.number}_{self.replica}"


class SampledTerms:
    """The operators of a request over random directions.

    Args:
        request: what is wanted.
        samples: number of directions asked for.
        distribution: what they are drawn from.
    """

    def __init__(self, request: Request, samples: int, distribution: Distribution) -> None:
        self.distribution, self.size, self.space = distribution, len(request.space), request.space
        self.plain = [op for op in request.operators if op.spread is None]
        written = {op: written_terms(op) for op in self.plain}
        if not contiguous(request.space) and (distribution != "coordinates" or any(t.labels for op in self.plain for t in op.terms)):
            raise NotSuitable("space coordinates that do not stand side by side")
        labelled = any(t.labels and t.order > 1 for op in self.plain for t in op.terms)
        self.samples = min(samples, self.size) if distribution == "coordinates" and labelled else samples
        self.drawn: dict[LinearOperator, list[Monomials]] = {}
        self.forms: dict[LinearOperator, list[DerivativeTerm | Entries]] = {}
        apart: dict[LinearOperator, set[DerivativeTerm]] = {}
        for op, several in written.items():
            if distribution == "coordinates":
                self.drawn[op] = drawn_kinds(op, self.samples)
                powers = {m.powers for m in self.drawn[op]}
                apart[op] = {t for t in several if powers_of(t) in powers}
            else:
                self.forms[op] = list(as_forms(op, request.space))
                apart[op] = {t for t in several if set(t.axes) <= set(request.space)}
        self.exact = {op: [t for t in op.terms if t not in apart[op]] for op in self.plain}
        self.columns = 0
        self.families: dict[tuple[object, ...], Family] = {}
        self.weights: dict[tuple[Pointwise, tuple[str, ...]], int] = {}
        terms = [t for left in self.exact.values() for t in left]
        self.singles = {c: k for k, c in enumerate(sorted({a for t in terms for a in t.axes if isinstance(a, int)}))}
        self.vectors: dict[tuple[Pointwise, str], int] = {}

    # Columns of singles and vectors are not known before all families are: they are negative until `placed`.

    def placed(self, op: LinearOperator, inside: int) -> LinearOperator:
        return LinearOperator(tuple(
            DerivativeTerm(t.coefficient, tuple(a if isinstance(a, str) or a >= 0 else inside - a - 1 for a in t.axes), t.labels) for t in op.terms
        ))  # fmt: skip

    def single(self, column: int) -> int:
        return -1 - self.singles[column]

    def family(
        self, kind: str, replica: int, coefficient: Pointwise = ONE, labels: tuple[str, ...] = (), entries: Entries | None = None,
        monomials: Monomials | None = None,
    ) -> Family:  # fmt: skip
        """A family of directions."""
        own = tuple(entries.items()) if entries else ()
        key = (kind, replica, coefficient, labels, own, monomials)
        if key not in self.families:
            number = len({f.monomials for f in self.families.values() if f.replica == replica})
            self.families[key] = Family(kind, self.columns, replica, coefficient, labels, own, monomials, number)
            self.columns += self.samples * (1 if monomials is None else len(monomials.powers))
        return self.families[key]

    @property
    def estimated(self) -> frozenset[LinearOperator]:
        """The operators that are not exact."""
        return frozenset(
            op for op in self.plain
            if self.drawn.get(op) or self.forms.get(op) or any(t.labels and t.order > 1 for t in op.terms)
        )  # fmt: skip

    def image(self, op: LinearOperator, replica: int) -> LinearOperator:
        terms = [n for t in self.exact[op] for n in self.term(t, replica)]
        for monomials in self.drawn.get(op, ()):
            terms += self.one_by_one(monomials, replica)
        for form in self.forms.get(op, ()):
            terms += self.matrix(form, replica) if isinstance(form, dict) else self.term(form, replica)
        return LinearOperator(tuple(terms))

    def one_by_one(self, monomials: Monomials, replica: int) -> list[DerivativeTerm]:
        """Σ_j (c / π)_j ∂^{powers} in the columns of sample j: one column for each coordinate."""
        family = self.family("monomials", replica, monomials=monomials)
        return [
            DerivativeTerm(
                Parameter(family.weights, (j,)),
                tuple(family.start + k * self.samples + j for k, p in enumerate(monomials.powers) for _ in range(p)),
            )
            for j in range(self.samples)
        ]

    def matrix(self, entries: Entries, replica: int) -> Iterator[DerivativeTerm]:
        """Σ a_ij ∂_i ∂_j as E[∂_v ∂_{Av}], with ∂_v ∂_w = ¼ (∂_{v+w}² − ∂_{v−w}²)."""
        for kind, sign in (("sum", 1), ("difference", -1)):
            start = self.family(kind, replica, entries=entries).start
            for r in range(self.samples):
                yield DerivativeTerm(Number(Fraction(sign, 4 * self.samples)), (start + r, start + r))

    def term(self, t: DerivativeTerm, replica: int) -> list[DerivativeTerm]:
        others = tuple(self.single(a) for a in t.axes if isinstance(a, int))
        if not t.labels:
            return [DerivativeTerm(t.coefficient, others)]
        counts = {label: sum(a == label for a in t.axes) for label in t.labels}
        if list(counts.values()) == [1]:
            # A first-order sum is one direction, exactly.
            (label,) = counts
            place = self.vectors.setdefault((t.coefficient, label), len(self.vectors))
            return [DerivativeTerm(ONE, (*others, -1 - len(self.singles) - place))]
        if self.distribution == "coordinates":
            return self.coordinates(t, replica)
        return list(self.dense(t, counts, others, replica))

    # ---------------------------------------------------------------------------------------------------- coordinates

    def coordinates(self, t: DerivativeTerm, replica: int) -> list[DerivativeTerm]:
        r"""Tuples of m distinct coordinates weigh N_m = Π_{k<m} (D − k)/(S − k); sums over equal ones by Möbius inversion.

        Σ over all tuples splits by which labels coincide (partitions π): Σ = Σ_π D_π, and D_π = Σ_{σ≥π} μ(π, σ) T_σ in the plain sums
        T_σ, so that the estimate is Σ_σ T_σ Σ_{π≤σ} N_|π| μ(π, σ).
        """
        if len(t.labels) > self.samples:
            raise NotSuitable(f"a sum over {len(t.labels)} indices needs as many samples")
        start = self.family("draw", replica).start
        have = free_labels(t.coefficient)
        if have and not set(have) <= set(t.labels):
            raise NotSuitable("a coefficient over other indices than its derivative")
        out = []
        for sigma in _partitions(t.labels):
            weight = Fraction(0)
            for pi in _partitions(t.labels):
                inside = [sum(set(b) <= set(block) for b in pi) for block in sigma]
                if sum(inside) != len(pi):
                    continue
                n = prod((Fraction(self.size - k, self.samples - k) for k in range(len(pi))), start=Fraction(1))
                weight += n * prod((-1) ** (m - 1) * factorial(m - 1) for m in inside)
            if not weight:
                continue
            merged = {label: block[0] for block in sigma for label in block}
            axes = tuple(self.single(a) if isinstance(a, int) else merged[a] for a in t.axes)
            labels = tuple(dict.fromkeys(merged[label] for label in t.labels))
            coefficient = t.coefficient
            if have:
                order = tuple(label for label in t.labels if label in have)
                number = self.weights.setdefault((t.coefficient, order), len(self.weights))
                coefficient = Parameter(f"{WEIGHTS}{number}_{replica}", tuple(merged[label] for label in order))
            out.append(DerivativeTerm(mul(Number(weight), coefficient), axes, labels))
        # Index sums run over the first S columns; those of the second sample are written out.
        return list(written_out(LinearOperator(tuple(out)), range(self.samples), start).terms) if start else out

    # ---------------------------------------------------------------------------------------------------------- dense

    def dense(self, t: DerivativeTerm, counts: dict[str, int], others: tuple[int, ...], replica: int) -> Iterator[DerivativeTerm]:
        """Isotropic directions v with independent entries of mean 0 and variance 1."""
        s = self.samples
        have = free_labels(t.coefficient)
        powers = sorted(counts.values())

        def pure(kind: str, order: int, weight: Fraction) -> Iterator[DerivativeTerm]:
            start = self.family(kind, replica).start
            for r in range(s):
                yield DerivativeTerm(mul(Number(weight / s), t.coefficient), (*others, *(start + r,) * order))

        if not have and powers == [2]:
            yield from pure("draw", 2, Fraction(1))
        elif have and powers in ([2], [1, 1]):
            order = tuple(dict.fromkeys(a for a in t.axes if isinstance(a, str)))
            if set(have) != set(order):
                raise NotSuitable("a coefficient over some of the indices only; distribution='coordinates' takes it")
            # E[v ⊗ A v] = A, and ∂_v ∂_w = ¼ (∂_{v+w}² − ∂_{v−w}²).
            for kind, sign in (("sum", 1), ("difference", -1)):
                start = self.family(kind, replica, t.coefficient, order).start
                for r in range(s):
                    yield DerivativeTerm(Number(Fraction(sign, 4 * s)), (*others, start + r, start + r))
        elif not have and powers == [4]:
            # E_gauss ∂_v⁴ = 3 Δ² and E_rademacher ∂_v⁴ = 3 Δ² − 2 Σ ∂_i⁴ (arXiv:2412.00088, app. D).
            yield from pure("normal", 4, Fraction(1, 2))
            yield from pure("sign", 4, Fraction(-1, 2))
        elif not have and all(p == 2 for p in powers) and self.distribution == "gaussian":
            k = len(powers)
            yield from pure("draw", 2 * k, Fraction(1, prod(range(1, 2 * k, 2))))
        elif not have and powers == [2, 2]:
            if s < 2:
                raise NotSuitable("Δ² from Rademacher directions needs two samples")
            start = self.family("draw", replica).start
            for r in range(s):
                for q in range(r):
                    weight = mul(Number(Fraction(2, s * (s - 1))), t.coefficient)
                    yield DerivativeTerm(weight, (*others, start + q, start + q, start + r, start + r))
        else:
            raise NotSuitable(
                f"{self.distribution} directions estimate Laplacians and their powers, a_ij ∂_i ∂_j and Σ ∂_i⁴; "
                "distribution='coordinates' takes any operator"
            )


def _partitions(labels: Sequence[str]) -> Iterator[list[list[str]]]:
    """All ways to put labels into blocks."""
    if not labels:
        yield []
        return
    first, rest = labels[0], labels[1:]
    for blocks in _partitions(rest):
        yield [[first], *blocks]
        for k in range(len(blocks)):
            yield [*blocks[:k], [first, *blocks[k]], *blocks[k + 1 :]]
