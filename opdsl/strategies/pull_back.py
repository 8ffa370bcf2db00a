r"""Exact operators in very many coordinates: pulled back through the first linear layers.

For u = g(Wx + b), P(∂_x) u = [P(Wᵀ∂_z) g](z): a wide input is no wider than what the first layer keeps of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.bottleneck import Cut, find_cut, unit_directions
from opdsl.jets.graph import Array, Graph
from opdsl.language.constructors import mul
from opdsl.language.residual import Number, Parameter, Pointwise, contiguous
from opdsl.language.structure import free_labels
from opdsl.strategies.base import Method, Refusal, Request, Strategy
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import ONE, DerivativeTerm, LinearOperator
from opdsl.strategies.restriction import (
    Block,
    NotSuitable,
    RestrictedMethod,
    direction_of,
    fewest_channels,
    flat_parts,
    reverse_of,
    written_out,
)

_GRAM, _SCHUR, _DRIFT = "@gram", "@schur", "@drift"


@dataclass(frozen=True)
class PullBackMethod(RestrictedMethod):
    """Directions: a factor of W A Wᵀ, one for each separable entry, then single coordinates and coefficient vectors.

    Args:
        rank: affine entries h at the cut.
        extra: separable entries k at the cut.
        singles: coordinate columns that are differentiated by themselves.
        vectors: first-order coefficients over all coordinates, (coefficient, label).
        grams: coefficient and labels of every second-order matrix; () where one factor of W Wᵀ does.
        among: the coordinates over which index sums run.
    """

    rank: int = 0
    extra: int = 0
    singles: tuple[int, ...] = ()
    vectors: tuple[tuple[Pointwise, str], ...] = ()
    grams: tuple[tuple[Pointwise, tuple[str, ...]], ...] = ()
    among: Sequence[int] = field(default=())

    def cut(self, graph: Graph) -> Cut:
        found = find_cut(graph)
        assert found is not None, "proposed for a network with a cut"
        return found

    def blocks(
        self, env: Environment, cut: Cut, constants: Sequence[Array], values: Mapping[int, Array]
    ) -> tuple[list[Block], dict[str, Array]]:
        ops, xp = env.ops, env.ops.xp
        out: list[Block] = []
        bindings: dict[str, Array] = {}
        if len(self.space):
            rows = self._in_space(cut.rows(ops, env.x, constants))
            if self.grams:
                for number, (coefficient, labels) in enumerate(self.grams):
                    bindings[f"{_GRAM}{number}"] = _gram(env, rows, coefficient, labels)
                factor = ops.asarray(np.eye(self.rank), env.x)
            else:
                factor = _factor(ops, ops.gram(rows))
            start = 0
            for v in cut.affine:
                stop = start + cut.width(v)
                out.append(Block(v, 0, xp.matrix_transpose(factor[start:stop, ...])))
                start = stop
            if self.extra:
                more, found = self._separable(env, cut, constants, values, factor)
                out += more
                bindings.update(found)
        start = (self.rank + self.extra) if len(self.space) else 0
        if self.singles:
            out += self._along(env, cut, constants, unit_directions(ops, env.x, self.singles), True, start)
            start += len(self.singles)
        for coefficient, label in self.vectors:
            vector, fixed = direction_of(env, self.among, coefficient, label)
            out += self._along(env, cut, constants, vector, fixed, start)
            start += 1
        return out, bindings

    def _in_space(self, a: Array) -> Array:
        """The columns over which index sums run."""
        return a if len(self.among) == a.shape[-1] else a[..., self.among[0] : self.among[-1] + 1]

    def _separable(
        self, env: Environment, cut: Cut, constants: Sequence[Array], values: Mapping[int, Array], factor: Array
    ) -> tuple[list[Block], dict[str, Array]]:
        """A separable s has the direction of its gradient and its own second derivative.

        With M = W Wᵀ = C Cᵀ, γ = W∇s and Γ = ∇s·∇s: the matrix [[M, γ], [γᵀ, Γ]] is that of the rows (C, 0) and (cᵀ, 1) with
        C c = γ, where the last direction has the weight Γ − c·c (which needs no root, so nothing is singular where it vanishes).
        """
        ops, xp = env.ops, env.ops.xp
        gamma, own, drift = cut.slopes(ops, env.x, constants, values, self.among)
        flat = xp.reshape(gamma, (-1, self.rank))
        c = xp.reshape(xp.matrix_transpose(xp.linalg.solve(factor, xp.matrix_transpose(flat))), gamma.shape)
        c, own = ops.points.in_front(c), ops.points.in_front(own)
        schur = own - c @ xp.matrix_transpose(c)
        bindings = {_SCHUR: schur, _DRIFT: drift}
        unit = ops.asarray(np.eye(self.extra), env.x)
        out, start = [], 0
        for v in cut.separable:
            stop = start + cut.width(v)
            out.append(Block(v, 0, xp.matrix_transpose(c[..., start:stop, :]), True))
            out.append(Block(v, self.rank, unit[:, start:stop]))
            start = stop
        return out, bindings

    def _along(
        self, env: Environment, cut: Cut, constants: Sequence[Array], directions: Array, fixed: bool, start: int
    ) -> list[Block]:
        out = []
        for v, part in zip(cut.values, cut.along(env.ops, env.x, constants, directions, fixed), strict=True):
            if part is not None:
                same = fixed and v in cut.affine
                out.append(Block(v, start, flat_parts(env.ops, cut, v, part, same), not same))
        return out


def _gram(env: Environment, rows: Array, coefficient: Pointwise, labels: tuple[str, ...]) -> Array:
    """W A Wᵀ: (h, h), or (n, h, h) where A differs from point to point."""
    xp = env.ops.xp
    across = xp.matrix_transpose(rows)
    if not labels:
        return env.ops.gram(rows)
    weights = env.array(coefficient, labels)
    if not hasattr(weights, "shape"):
        return (rows * weights) @ across
    if len(labels) == 1:
        return (rows * (weights[..., None, :] if len(weights.shape) > 1 else weights)) @ across
    size = rows.shape[-1]
    if tuple(weights.shape[-2:]) != (size, size):
        weights = xp.broadcast_to(weights, (*weights.shape[:-2], size, size))
    return rows @ weights @ across


def _factor(ops: ArrayOps, gram: Array) -> Array:
    """C with C Cᵀ = M: Cholesky, differentiable to any order.

    A few units in the last place are added to the diagonal, no more than the product W Wᵀ itself is rounded by, so that dependent
    rows of W do not stop the factorisation.
    """
    xp = ops.xp
    size = gram.shape[-1]
    diagonal = xp.linalg.diagonal(gram)
    shift = xp.max(diagonal) * (8.0 * float(xp.finfo(gram.dtype).eps)) + 1e-30
    return xp.linalg.cholesky(gram + shift * ops.asarray(np.eye(size), gram))


class PullBack(Strategy):
    r"""P(∂_x) g(Wx + b) = [P(Wᵀ∂_z) g](z), exactly, whatever d is.

    Second order: with M = W A Wᵀ = C Cᵀ, tr(A ∇²u) = Σ_r ∂²/∂η_r² g(z + Cη), a forward Laplacian in h = width(z) coordinates
    after one h × d × h product. Separable sums beside the linear layer, such as |x|² of a hard constraint (1 − |x|²) v, take one
    more direction each. Sums of higher order that do not change under rotations (Δ², ∂_t Δ) become the same sums over η. Where A is
    bound at run time, indefinite, or different from point to point, W A Wᵀ is kept as it is (`dof`).

    Reference: chain rule for affine maps; Shi et al., arXiv:2412.00088, §5 (the problems it makes exact).
    """

    name = "pull_back"
    reference = "opdsl"

    def propose(self, request: Request) -> Method | Refusal:
        if request.graph is None or not len(request.space):
            return Refusal(self.name, "no space coordinates")
        if not any(t.labels for op in request.operators for t in op.terms):
            return Refusal(self.name, "no sum over all coordinates")
        if not request.differentiable and any(op.spread is not None for op in request.operators):
            return Refusal(self.name, "first derivatives one by one need reverse mode, and " + request.undifferentiable)
        cut = find_cut(request.graph)
        if cut is None:
            return Refusal(self.name, "the network does not begin with linear maps that keep fewer numbers than there are coordinates")
        if cut.rank + cut.extra >= len(request.space):
            return Refusal(self.name, f"the first layers keep {cut.rank + cut.extra} numbers of {len(request.space)} coordinates")
        if cut.transposes and not request.differentiable:
            return Refusal(self.name, "these first layers need reverse mode, and " + request.undifferentiable)
        try:
            return _Pulled(request, cut).method()
        except NotSuitable as reason:
            return Refusal(self.name, str(reason))


class _Pulled:
    """The operators over the new coordinates: η (h), ζ (k), single coordinates, vectors."""

    def __init__(self, request: Request, cut: Cut) -> None:
        self.request, self.cut = request, cut
        terms = [t for op in request.operators for t in op.terms]
        if not contiguous(request.space):
            raise NotSuitable("space coordinates that do not stand side by side")
        if any(op.spread is not None and op.order > 1 for op in request.operators):
            raise NotSuitable("all second derivatives are wanted one by one")
        self.plain = [op for op in request.operators if op.spread is None]
        # First-order sums are single directions; only sums of higher order need all directions.
        self.whole = any(t.labels and t.order > 1 for t in terms)
        self.matrices = any(t.order > 1 and free_labels(t.coefficient) for t in terms)
        self.high = any(t.order > 2 for t in terms)
        self.rank, self.extra = (cut.rank, cut.extra) if self.whole else (0, 0)
        if cut.extra and (self.high or any(t.order > 1 and len(t.labels) < len(set(t.axes)) for t in terms)):
            raise NotSuitable(
                "beside its linear layers the network reads sums of nonlinear functions of the coordinates; those are pulled back for "
                "Laplacians and first derivatives"
            )
        if self.matrices and (self.high or cut.extra):
            raise NotSuitable("coefficients over an unwritten index sum beside terms of higher order or nonlinear sums of coordinates")
        self.grams: dict[tuple[Pointwise, tuple[str, ...]], int] = {}
        self.singles = {c: k for k, c in enumerate(sorted({a for t in terms for a in t.axes if isinstance(a, int)}))}
        self.vectors: dict[tuple[Pointwise, str], int] = {}

    def method(self) -> Method:
        images = {op: LinearOperator(tuple(n for t in op.terms for n in self.term(t))) for op in self.plain}
        if self.high:
            images = {op: written_out(image, range(self.rank)) for op, image in images.items()}
        columns = self.rank + self.extra + len(self.singles) + len(self.vectors)
        space = range(self.rank)
        inner_request = Request(
            tuple(dict.fromkeys(images.values())), columns, space, self.request.undifferentiable, outputs=self.request.outputs
        )
        inner = fewest_channels(inner_request)
        if isinstance(inner, Refusal):
            raise NotSuitable(inner.reason)
        notes = [f"{self.request.dimension} coordinates enter through {self.cut.rank} linear forms"]
        if self.cut.extra:
            notes[0] += f" and {self.cut.extra} separable sum{'s' if self.cut.extra > 1 else ''}"
        if self.whole:
            notes.append("W A Wᵀ at every nonlinearity" if self.grams else "a factor of W Wᵀ as directions")
        return PullBackMethod(
            PullBack.name, inner, images, columns, space, tuple(notes), None, reverse_of(self.request), self.rank, self.extra, tuple(self.singles),
            tuple(self.vectors), tuple(self.grams), self.request.space,
        )  # fmt: skip

    def single(self, column: int) -> int:
        return self.rank + self.extra + self.singles[column]

    def term(self, t: DerivativeTerm) -> list[DerivativeTerm]:
        if not t.labels:
            return [DerivativeTerm(t.coefficient, tuple(sorted(self.single(int(a)) for a in t.axes)))]
        if t.order == 1:
            place = self.vectors.setdefault((t.coefficient, str(t.axes[0])), len(self.vectors))
            return [DerivativeTerm(ONE, (self.rank + self.extra + len(self.singles) + place,))]
        if self.matrices:
            return [self.matrix(t)]
        if any(sum(a == label for a in t.axes) != 2 for label in t.labels):
            raise NotSuitable("a sum over coordinates that is not a power of the Laplacian; only those keep their form")
        axes = tuple(a if isinstance(a, str) else self.single(a) for a in t.axes)
        out = [DerivativeTerm(t.coefficient, axes, t.labels)]
        first = self.rank
        for a in range(self.extra):
            for b in range(a, self.extra):
                weight = mul(Number(Fraction(1 if a == b else 2)), t.coefficient, Parameter(_SCHUR, (a, b)))
                out.append(DerivativeTerm(weight, (first + a, first + b)))
            out.append(DerivativeTerm(mul(t.coefficient, Parameter(_DRIFT, (a,))), (first + a,)))
        return out

    def matrix(self, t: DerivativeTerm) -> DerivativeTerm:
        """Σ_rs (W A Wᵀ)_rs ∂_r ∂_s over the entries of z themselves."""
        if t.order != 2 or any(isinstance(a, int) for a in t.axes):
            raise NotSuitable("an index sum that is coupled to a single coordinate")
        first, second = (str(a) for a in t.axes)
        have = free_labels(t.coefficient)
        if not have and first != second:
            raise NotSuitable("a sum of all mixed derivatives")
        labels = tuple(dict.fromkeys((first, second))) if have else ()
        coefficient = t.coefficient if have else ONE
        number = self.grams.setdefault((coefficient, labels), len(self.grams))
        outer = ONE if have else t.coefficient
        return DerivativeTerm(mul(outer, Parameter(f"{_GRAM}{number}", ("i", "j"))), ("i", "j"), ("i", "j"))


