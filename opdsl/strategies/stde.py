r"""Stochastic derivative estimation: an operator on random directions that is right on average.

For v with E[v ⊗ … ⊗ v] equal to the coefficient tensor of P, E[D^K u(x)[v, …, v]] = P u(x). The directions of one call are
shared by all its points and collapsed: S samples of a second-order operator cost S + 2 channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import factorial, pi
from typing import Any, ClassVar

import numpy as np

from opdsl.errors import StrategyError, shown, unknown
from opdsl.jets.bottleneck import Cut, find_cut, unit_directions, whole_cut
from opdsl.jets.graph import Array, Graph
from opdsl.language.constructors import mul
from opdsl.language.residual import Number, Pointwise
from opdsl.pricing.counting import Effort
from opdsl.strategies.base import Method, Refusal, Request, Strategy, Surroundings
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import LinearOperator
from opdsl.strategies.restriction import (
    Block,
    NotSuitable,
    RestrictedMethod,
    direction_of,
    fewest_channels,
    flat_parts,
    padded,
    reverse_of,
    written_out,
)
from opdsl.strategies.stde_monomials import Monomials, written_terms
from opdsl.strategies.stde_terms import WEIGHTS, Distribution, Family, SampledTerms

DISTRIBUTIONS: tuple[Distribution, ...] = ("coordinates", "rademacher", "gaussian")
CHANCES = " one by one"
"""What is added to the name of drawn coordinates for the numbers in [0, 1) that draw derivatives."""
_WRITTEN = 4000


@dataclass(frozen=True)
class STDE(Strategy):
    r"""Estimate sums over coordinates from random directions; opt-in, unbiased, reproducible from its key.

    =================  =====================================================================================================
    distribution       estimates (d coordinates, S samples)
    =================  =====================================================================================================
    ``"coordinates"``  any operator: (d/S) Σ_{i∈J} ∂_i^k for J drawn without replacement; sums over several indices weigh tuples
                       of distinct coordinates by d(d−1)…/S(S−1)…; exact for S = d; known as SDGD
    ``"rademacher"``   entries ±1. Δ: (1/S) Σ_r ∂_{v_r}², known as the Hutchinson trace estimator (HTE); a_ij ∂_i ∂_j: mixed derivative
                       along v and A v; Δ²: ∂_v² ∂_w² over pairs; Σ_i ∂_i⁴: ½ (E_gauss − E_rademacher) of ∂_v⁴
    ``"gaussian"``     the same with normal entries; Δ^k: ∂_v^{2k} / (2k − 1)!!
    =================  =====================================================================================================

    Sums that are written out term by term (all are, in 16 or fewer dimensions): of each kind of derivative (the same powers) with more terms
    than samples, ``"coordinates"`` draws terms with probabilities in proportion to their coefficients; S or fewer terms are exact. Directions
    take second order, and fourth order where it is a Σ_i ∂_i⁴ + b Σ_{i<j} ∂_i² ∂_j². First-order sums b_i ∂_i and, beside sums over all
    coordinates, single ones (∂_t) are always exact. Where the network begins with a dense layer, sampled
    coordinates are gathered from its weights.

    Args:
        samples: number of directions S.
        distribution: see above.
        key: a JAX key or an integer (JAX), an integer or a ``torch.Generator`` (torch), an integer or a NumPy generator.
        two_sample: return two independent estimates in a last axis of length 2; the mean of their product is an unbiased estimate of
            the mean square, which the square of one estimate is not.

    Raises:
        StrategyError: no key, an unknown distribution, or an operator that the distribution cannot estimate.

    Example:
        >>> import numpy as np, opdsl
        >>> op = opdsl.operator("laplace(u)", coords="x[100]", fields="u")
        >>> estimate = op(lambda x: (x**2)[:, 0], np.ones((2, 100)), strategy=opdsl.STDE(samples=100, key=0))
        >>> [float(round(v, 12)) for v in estimate]
        [2.0, 2.0]

    Reference: Shi, Hu, Lin, Kawaguchi, *Stochastic Taylor Derivative Estimator*, arXiv:2412.00088, eqs. 10–24; Hu et al.,
    arXiv:2307.12306 (SDGD); Hu et al., arXiv:2312.14499 (HTE). The unbiased square: arXiv:2412.00088, app. E.
    """

    samples: int = 16
    distribution: Distribution = "coordinates"
    key: Any = field(default=None, compare=False, repr=False)
    two_sample: bool = False

    name: ClassVar[str] = "stde"
    reference: ClassVar[str] = "arXiv:2412.00088"

    def __post_init__(self) -> None:
        if not isinstance(self.distribution, str) or self.distribution not in DISTRIBUTIONS:
            raise StrategyError(unknown("unknown distribution", shown(self.distribution), DISTRIBUTIONS))
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise StrategyError(f"samples={shown(self.samples)}: give the number of directions, an integer of at least one.")
        if isinstance(self.key, bool | float | complex | str | bytes):
            raise StrategyError(f"key={shown(self.key)}: give an integer, or a key or generator of the framework.")
        if not isinstance(self.two_sample, bool):
            raise StrategyError(f"two_sample={shown(self.two_sample)}: give True or False.")

    @property
    def binding(self) -> str:
        """The name under which a call binds the random directions: (replicas, S) columns or (replicas, S, D) entries."""
        return f"@{self.distribution}{self.samples}{'twice' if self.two_sample else ''}"

    @property
    def replicas(self) -> int:
        """Independent estimates in one call."""
        return 2 if self.two_sample else 1

    def keyed(self, key: Any) -> STDE:
        return replace(self, key=key)

    def draws(self, backend: Any, x: Array, size: int) -> dict[str, Array]:
        if self.key is None:
            raise StrategyError(f"{self} needs a key: opdsl.STDE(samples={self.samples}, key=…); the same key gives the same numbers.")
        if self.distribution == "coordinates":
            pairs = backend.normal(self.key, (2, self.replicas, self.samples), x)
            turn = backend.ops.xp.atan2(pairs[0, ...], pairs[1, ...])
            found = {f"{self.binding}{CHANCES}": turn / (2 * pi) + 0.5}
            if size:
                found[self.binding] = backend.subsets(self.key, self.replicas, min(self.samples, size), size, x)
            return found
        return {self.binding: backend.normal(self.key, (self.replicas, self.samples, size), x)}

    def propose(self, request: Request) -> Method | Refusal:
        sums = any(t.labels and t.order > 1 for op in request.operators for t in op.terms)
        if not sums and not any(len(written_terms(op)) > 1 for op in request.operators):
            return Refusal(self.name, "no sum over coordinates to sample, and no sum of derivatives; every other strategy is exact")
        if any(op.spread is not None and (op.order > 1 or not request.differentiable) for op in request.operators):
            return Refusal(self.name, "derivatives are wanted one by one in every coordinate")
        try:
            return _method(request, self)
        except NotSuitable as reason:
            return Refusal(self.name, str(reason))


def HTE(samples: int = 16, key: Any = None, *, two_sample: bool = False) -> STDE:
    """The Hutchinson trace estimator: `STDE` with Rademacher vectors (Hu et al., arXiv:2312.14499)."""
    return STDE(samples, "rademacher", key, two_sample)


def SDGD(samples: int = 16, key: Any = None, *, two_sample: bool = False) -> STDE:
    """Stochastic dimension gradient descent: `STDE` with sampled coordinates (Hu et al., arXiv:2307.12306)."""
    return STDE(samples, "coordinates", key, two_sample)


@dataclass(frozen=True)
class StdeMethod(RestrictedMethod):
    """Random directions at the cut.

    Args:
        sampler: what is drawn.
        samples: S, at most the number of coordinates where coordinates are drawn.
        families: blocks of directions.
        singles, vectors: exact directions.
        weights: coefficients over sampled coordinates, (coefficient, labels), gathered for every replica.
        among: the coordinates over which index sums run.
    """

    sampler: STDE = field(default_factory=STDE)
    samples: int = 0
    families: tuple[Family, ...] = ()
    singles: tuple[int, ...] = ()
    vectors: tuple[tuple[Pointwise, str], ...] = ()
    weights: tuple[tuple[Pointwise, tuple[str, ...]], ...] = ()
    among: Sequence[int] = field(default=())
    random: frozenset[LinearOperator] = field(default=frozenset())

    @property
    def estimated(self) -> frozenset[LinearOperator]:
        return self.random

    def cut(self, graph: Graph) -> Cut:
        return find_cut(graph) or whole_cut(graph)

    def effort(self, where: Surroundings) -> Effort:
        sampler, own = self.sampler, (self.sampler.replicas, self.samples)
        drawn = {
            sampler.binding: (own if sampler.distribution == "coordinates" else (*own, len(self.among)), False),
            f"{sampler.binding}{CHANCES}": (own, False),
        }
        return super().effort(replace(where, bindings={**where.bindings, **drawn}))

    def blocks(
        self, env: Environment, cut: Cut, constants: Sequence[Array], values: Mapping[int, Array]
    ) -> tuple[list[Block], dict[str, Array]]:
        ops = env.ops
        drawn: Any = env.bindings.get(self.sampler.binding)
        out: list[Block] = []
        bindings: dict[str, Array] = {}
        derivatives: list[Array] = []
        if cut.separable:
            derivatives = cut.coordinate_derivatives(ops, env.x, constants, self.inner.order)
        if self.sampler.distribution == "coordinates":
            rows = None if any(cut.matrix(v) is None for v in cut.affine) else cut.rows(ops, env.x, constants)
            for f in self.families:
                if f.monomials is not None:
                    directions, bindings[f.weights] = self._drawn(env, f, f.monomials)
                    out += self._directions(env, cut, constants, derivatives, f.start, directions, True)
                    continue
                chosen = drawn[f.replica, ...]
                columns = chosen + self.among[0] if self.among[0] else chosen
                out += self._coordinates(env, cut, constants, rows, derivatives, f.start, columns)
                for number, (coefficient, labels) in enumerate(self.weights):
                    bindings[f"{WEIGHTS}{number}_{f.replica}"] = self._gathered(env, coefficient, labels, chosen)
        else:
            for f in self.families:
                directions, fixed = self._dense(env, f, drawn[f.replica, ...])
                out += self._directions(env, cut, constants, derivatives, f.start, directions, fixed)
        start = self.columns - len(self.singles) - len(self.vectors)
        if self.singles:
            basis = unit_directions(ops, env.x, self.singles)
            out += self._directions(env, cut, constants, derivatives, start, basis, True)
            start += len(self.singles)
        for coefficient, label in self.vectors:
            direction, fixed = direction_of(env, self.among, coefficient, label)
            out += self._directions(env, cut, constants, derivatives, start, direction, fixed)
            start += 1
        return out, bindings

    def _coordinates(
        self, env: Environment, cut: Cut, constants: Sequence[Array], rows: Array | None, derivatives: Sequence[Array], start: int,
        columns: Array,
    ) -> list[Block]:  # fmt: skip
        """Unit directions: rows of the weights, gathered; a one-hot product only behind layers that are not dense."""
        ops, xp = env.ops, env.ops.xp
        out = []
        if rows is None:
            everything = ops.asarray(np.arange(env.x.shape[-1]), env.x)[None, :]
            chosen = xp.reshape(xp.astype(columns, env.x.dtype), (-1, 1))
            one_hot = xp.where(chosen == everything, ops.asarray(1.0, env.x), ops.asarray(0.0, env.x))
            parts = cut.along(ops, env.x, constants, one_hot, True)
            out += [
                Block(v, start, flat_parts(ops, cut, v, part, True))
                for v, part in zip(cut.values, parts, strict=True) if v in cut.affine and part is not None
            ]  # fmt: skip
        else:
            gathered = xp.matrix_transpose(xp.take(rows, columns, axis=1))
            first = 0
            for v in cut.affine:
                out.append(Block(v, start, gathered[:, first : first + cut.width(v)]))
                first += cut.width(v)
        for order, found in enumerate(derivatives, start=1):
            taken = xp.take(found, columns, axis=len(found.shape) - 1)
            out += _separable_blocks(env, cut, taken * (1.0 / factorial(order)), start, order)
        return out

    def _drawn(self, env: Environment, f: Family, monomials: Monomials) -> tuple[Array, Array]:
        """The directions of the derivatives drawn, slot by slot, and their coefficients over their probabilities.

        Sample j takes the term where the probabilities, added up, first exceed j + U with U uniform in [0, 1): a term is taken as often
        on average as its probability says, and where all are 1 sample j is term j.
        """
        ops, xp = env.ops, env.ops.xp
        count, d = len(monomials.axes), env.x.shape[-1]
        above = ops.asarray(np.arange(self.samples), env.x) + env.bindings[f"{self.sampler.binding}{CHANCES}"][f.replica, ...]
        edges = np.concatenate([np.cumsum(monomials.chances)[:-1], [np.inf]])
        one, zero = ops.asarray(1.0, env.x), ops.asarray(0.0, env.x)
        # Below an edge and not below the one before: the rows of `picked` have a single 1.
        below = xp.where(above[:, None] < ops.asarray(edges, env.x)[None, :], one, zero)
        picked = xp.concat([below[:, :1], below[:, 1:] - below[:, :-1]], axis=-1)
        slots = np.zeros((count, len(monomials.powers), d))
        for k, axes in enumerate(monomials.axes):
            slots[k, np.arange(len(axes)), list(axes)] = 1.0
        units = ops.asarray(slots.transpose(1, 0, 2).reshape(len(monomials.powers), count, d), env.x)
        directions = xp.concat([picked @ units[k, ...] for k in range(len(monomials.powers))], axis=0)
        coefficients = [env(mul(Number(1.0 / p), c)) for p, c in zip(monomials.chances, monomials.coefficients, strict=True)]
        arrays = [c for c in coefficients if hasattr(c, "shape")]
        if arrays:
            shape = max((tuple(a.shape) for a in arrays), key=len)
            row = [xp.broadcast_to(c if hasattr(c, "shape") else ops.asarray(c, env.x), shape) for c in coefficients]
            table = xp.stack(row, axis=-1)
        else:
            table = ops.asarray(np.asarray(coefficients, dtype=np.float64), env.x)
        return directions, xp.sum(table[..., None, :] * picked, axis=-1)

    def _directions(
        self, env: Environment, cut: Cut, constants: Sequence[Array], derivatives: Sequence[Array], start: int, directions: Array,
        fixed: bool,
    ) -> list[Block]:  # fmt: skip
        """Dense directions (R, d), or (R, n, d) where they differ from point to point."""
        ops = env.ops
        parts = cut.along(ops, env.x, constants, directions, fixed)
        out = [
            Block(v, start, flat_parts(ops, cut, v, part, fixed), not fixed)
            for v, part in zip(cut.values, parts, strict=True) if v in cut.affine and part is not None
        ]  # fmt: skip
        power = directions
        for order, found in enumerate(derivatives, start=1):
            taken = ops.points.along(found, power, fixed)
            out += _separable_blocks(env, cut, taken * (1.0 / factorial(order)), start, order)
            power = power * directions
        return out

    def _dense(self, env: Environment, f: Family, drawn: Array) -> tuple[Array, bool]:
        """Directions over all columns of x."""
        xp = env.ops.xp
        # Normal vectors are drawn; their signs are independent of each other too.
        signs = f.kind == "sign" or (f.kind != "normal" and self.sampler.distribution == "rademacher")
        v, fixed = (xp.sign(drawn) if signs else drawn), True
        if f.kind in ("sum", "difference"):
            other, fixed = self._times(env, f, v)
            v = v if fixed else env.ops.points.same(v)
            v = v + other if f.kind == "sum" else v - other
        return padded(env, self.among, v), fixed

    def _times(self, env: Environment, f: Family, v: Array) -> tuple[Array, bool]:
        """A v for all samples: (S, D), or (S, n, D) where A differs from point to point."""
        xp = env.ops.xp
        size = len(self.among)
        if f.entries:
            return self._times_entries(env, f, v)
        value = env.array(f.coefficient, f.labels)
        if not hasattr(value, "shape"):
            value = xp.broadcast_to(env.ops.asarray(value, env.x), (size,) * len(f.labels))
        if tuple(value.shape[-len(f.labels) :]) != (size,) * len(f.labels):
            value = xp.broadcast_to(value, (*value.shape[: -len(f.labels)], *(size,) * len(f.labels)))
        same = len(value.shape) == len(f.labels)
        if len(f.labels) == 1:
            return (v * value, True) if same else (v[:, None, :] * value[None, ...], False)
        if same:
            return v @ xp.matrix_transpose(value), True
        return xp.permute_dims(v @ xp.matrix_transpose(value), (1, 0, 2)), False

    def _times_entries(self, env: Environment, f: Family, v: Array) -> tuple[Array, bool]:
        """The same for a matrix that is given entry by entry: row i of A v is Σ_j a_ij v_j."""
        xp = env.ops.xp
        zero = v[:, 0] * 0.0
        rows, same = [zero] * len(self.among), True
        for (i, j), c in f.entries:
            value, column = env(c), v[:, j - self.among[0]]
            varies = len(getattr(value, "shape", ())) > 0
            same &= not varies
            row = rows[i - self.among[0]]
            if varies or len(row.shape) > 1:
                row, column, value = _lifted(row), column[:, None], value[None, :] if varies else value
            rows[i - self.among[0]] = row + value * column
        if same:
            return xp.stack(rows, axis=-1), True
        points = env.x.shape[0]
        return xp.stack([xp.broadcast_to(_lifted(r), (v.shape[0], points)) for r in rows], axis=-1), False

    def _gathered(self, env: Environment, coefficient: Pointwise, labels: tuple[str, ...], chosen: Array) -> Array:
        """The entries of a coefficient at the drawn coordinates."""
        xp = env.ops.xp
        value = env.array(coefficient, labels)
        for k in range(len(labels)):
            axis = len(value.shape) - len(labels) + k
            if value.shape[axis] != 1:
                value = xp.take(value, chosen, axis=axis)
            else:
                shape = list(value.shape)
                shape[axis] = self.samples
                value = xp.broadcast_to(value, tuple(shape))
        return value


def _lifted(row: Array) -> Array:
    """One number for each sample, with an axis of points behind."""
    return row[:, None] if len(row.shape) == 1 else row


def _separable_blocks(env: Environment, cut: Cut, taken: Array, start: int, order: int) -> list[Block]:
    """Derivatives (k, R) or (k, n, R) of the separable entries as blocks (R, w) or (n, R, w)."""
    turned = env.ops.xp.moveaxis(taken, 0, -1)
    out, first = [], 0
    for v in cut.separable:
        out.append(Block(v, start, turned[..., first : first + cut.width(v)], True, order))
        first += cut.width(v)
    return out


def _method(request: Request, sampler: STDE) -> Method:
    """The method of a sampler for a request.

    Raises:
        NotSuitable: the distribution does not estimate one of the operators, or the network stands in the way.
    """
    terms = SampledTerms(request, sampler.samples, sampler.distribution)
    if not request.space and sampler.distribution != "coordinates":
        raise NotSuitable("no space coordinates; distribution='coordinates' draws derivatives one by one")
    cut = find_cut(request.graph) if request.graph is not None else None
    replicas = sampler.replicas
    found = [{op: terms.image(op, replica) for op in terms.plain} for replica in range(replicas)]
    inside = terms.columns
    columns = inside + len(terms.singles) + len(terms.vectors)
    images = [{op: terms.placed(image, inside) for op, image in one.items()} for one in found]
    wanted = tuple(dict.fromkeys(image for one in images for image in one.values()))
    if any(t.order > 2 and len(t.labels) > 1 for op in wanted for t in op.terms):
        if terms.samples ** max(len(t.labels) for op in wanted for t in op.terms) > _WRITTEN:
            raise NotSuitable(f"{terms.samples} samples of a sum over several indices; take fewer")
        images = [{op: written_out(image, range(terms.samples)) for op, image in one.items()} for one in images]
        wanted = tuple(dict.fromkeys(image for one in images for image in one.values()))
    mixed = any(len(set(t.axes)) > 1 for op in wanted for t in op.terms)
    if cut is not None and cut.separable:
        if not request.differentiable:
            raise NotSuitable(f"nonlinear sums over the coordinates need reverse mode, and {request.undifferentiable}")
        sums = [t for op in terms.plain for t in op.terms if t.labels]
        coupled = any(isinstance(a, int) and a in request.space for t in sums for a in t.axes)
        if coupled or any(t.order > len(t.labels) == 1 and t.axes.count(t.labels[0]) == 1 for t in sums):
            # s(x + η e_i + τ e_c) has terms in η τ where i = c, which powers of η and of τ do not hold.
            raise NotSuitable("derivatives of a sum in one of its coordinates, beside nonlinear sums over the coordinates")
        if mixed and sampler.distribution != "coordinates":
            raise NotSuitable("mixed derivatives beside nonlinear sums over the coordinates; distribution='coordinates' takes them")
    inner = fewest_channels(
        Request(wanted, columns, range(terms.samples), request.undifferentiable, outputs=request.outputs)
    )
    if isinstance(inner, Refusal):
        raise NotSuitable(inner.reason)
    kinds = [m for several in terms.drawn.values() for m in several]
    notes = (
        "as many samples as derivatives: exact" if not terms.estimated
        else f"an unbiased estimate: {terms.samples} of {' and '.join(str(len(m.axes)) for m in kinds)} derivatives by weight" if kinds
        else f"an unbiased estimate: {terms.samples} of {terms.size} coordinates" if sampler.distribution == "coordinates"
        else f"an unbiased estimate: {terms.samples} {sampler.distribution} directions in {terms.size} dimensions",
        *(("two independent estimates",) if replicas == 2 else ()),
    )  # fmt: skip
    return StdeMethod(
        sampler.name, inner, images[0], columns, range(terms.samples), notes,
        images[1] if replicas == 2 else None, reverse_of(request),
        sampler, terms.samples, tuple(terms.families.values()), tuple(terms.singles), tuple(terms.vectors),
        tuple(terms.weights), request.space, terms.estimated,
    )  # fmt: skip
