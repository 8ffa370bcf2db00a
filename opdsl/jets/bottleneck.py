r"""Where a wide graph becomes narrow.

A network of many coordinates usually starts with a linear layer, u = g(Wx + b), perhaps beside a few sums over all
coordinates, u = g(Wx + b, |x|²). Behind these values nothing is wide any more. A `Cut` splits the captured graph there:

    x ──head──▶ y = (z, s) ──tail──▶ u        z affine in x;  s_k = Σ_i φ_ki(x_i)

Everything an operator needs of the head is then cheap: rows of W, gradients of the few s, and one-dimensional derivatives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import factorial, prod

import numpy as np

from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.directional import Directional
from opdsl.jets.graph import Array, Bilinear, Constant, Elementwise, Graph, Linear, Node, Sum, evaluate
from opdsl.jets.jet import Jet
from opdsl.jets.operations import OPERATIONS
from opdsl.jets.propagate import push_forward

_FEW = 8
_SUM, _MATMUL, _MULTIPLY = (OPERATIONS[name] for name in ("sum", "matmul", "multiply"))


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a value depends on x.

    ``affine``: it is an affine function. ``aligned``: every entry depends on one coordinate at most; equal marks say that
    entries at equal places depend on the same one. None: every entry is a sum over coordinates. ``square``: it is this multiple
    of the squares of all coordinates, or of their sum, plus constants.
    """

    affine: bool
    aligned: int | None
    square: float | None = None


@dataclass(frozen=True)
class Cut:
    """A graph in two pieces.

    Args:
        graph: the whole.
        head: x → the values at the cut.
        affine: which of them (value numbers) are affine in x.
        separable: which are sums of functions of single coordinates.
        squares: c for every separable value that is c |x|² plus a constant; None for others.
    """

    graph: Graph
    head: Graph
    affine: tuple[int, ...]
    separable: tuple[int, ...]
    squares: tuple[float | None, ...] = ()

    def width(self, value: int) -> int:
        """Entries of a value at one point."""
        v = self.graph.values[value]
        return prod(s for k, s in enumerate(v.shape) if k != v.batch_axis)

    @property
    def values(self) -> tuple[int, ...]:
        """All values at the cut, affine ones first."""
        return self.affine + self.separable

    @property
    def rank(self) -> int:
        """Number of affine entries: more directions than these never matter to them."""
        return sum(self.width(v) for v in self.affine)

    @property
    def extra(self) -> int:
        """Number of separable entries."""
        return sum(self.width(v) for v in self.separable)

    # ------------------------------------------------------------------------------------------------ what the head does

    def at(self, x: Array, constants: Sequence[Array]) -> tuple[Array, ...]:
        """The values at the cut."""
        return evaluate(self.head, x, constants)

    def along(self, ops: ArrayOps, x: Array, constants: Sequence[Array], directions: Array, fixed: bool) -> list[Array | None]:
        """First derivatives of all values at the cut along directions (R, d), or (R, n, d) where they differ by point."""
        algebra = Directional([(directions.shape[0], 1)])
        part = directions[:, None, :] if fixed and not ops.per_point else directions
        seed = Jet(x, (part,), (fixed,), None if ops.per_point else 0)
        jets = push_forward(self.head, algebra, seed, constants, ops, frozenset({0}))
        return [j.parts[0] if isinstance(j, Jet) else None for j in jets]

    def coordinatewise(
        self, ops: ArrayOps, x: Array, constants: Sequence[Array], mask: Array, order: int
    ) -> list[list[Array | None]]:
        """Σ_i mask_i^k ∂_i^k of every value at the cut, k = 1 … order: exact because no term couples two coordinates.

        Pushing forward along the sum of all coordinate directions differentiates every φ_ki along its own coordinate. ``mask`` is (d,)
        or, batched, (n, d).
        """
        algebra = Directional([(1, order)])
        fixed = ops.per_point or len(mask.shape) == 1
        part = mask[None, None, :] if fixed and not ops.per_point else mask[None, ...]
        parts: list[Array | None] = [part, *[None] * (order - 1)]
        seed = Jet(x, tuple(parts), (fixed,) * order, None if ops.per_point else 0)
        jets = push_forward(self.head, algebra, seed, constants, ops, frozenset(range(order)))
        out = []
        for j in jets:
            found = [None] * order if not isinstance(j, Jet) else [None if p is None else p[0, ...] for p in j.parts]
            out.append([None if p is None else p * float(factorial(k)) for k, p in enumerate(found, start=1)])
        return out

    def coordinate_derivatives(self, ops: ArrayOps, x: Array, constants: Sequence[Array], order: int) -> list[Array]:
        """∂_i^k of the separable entries for every i, k = 1 … order: (extra, d) per point, (extra, n, d) batched.

        Σ_i m_i^k ∂_i^k s is known for every m (`coordinatewise`); its derivative in m_i at m = 1 is k ∂_i^k s. Those of c |x|² are
        written down: 2 c x_i, 2 c, 0.
        """
        xp, factors = ops.xp, self._factors()
        if None not in factors:
            # Constants are views: in 10⁶ dimensions one array of the size of x is as much as there should be.
            c = xp.reshape(ops.asarray(np.asarray(factors), x), (-1, *(1,) * len(x.shape)))
            first = 2.0 * c * x[None, ...]
            higher = [xp.broadcast_to(factor * c, first.shape) for factor in (2.0, *(0.0,) * (order - 2))]
            return [first, *higher][:order]
        ones = xp.ones_like(x)

        def along(mask: Array, k: int) -> Array:
            rows = []
            for v, found in zip(self.values, self.coordinatewise(ops, x, constants, mask, k), strict=True):
                if v in self.separable:
                    part = found[k - 1]
                    shape = tuple(s for a, s in enumerate(self.graph.values[v].shape) if a != self.graph.values[v].batch_axis)
                    shape = shape if ops.per_point else (x.shape[0], *shape)
                    rows.append(ops.xp.broadcast_to(ops.asarray(0.0, x) if part is None else part, shape))
            return _flat(ops, self, rows, self.separable)

        return [
            ops.pull_back(partial(along, k=k), ones, self.extra, False) * (1.0 / k) for k in range(1, order + 1)
        ]

    def rows(self, ops: ArrayOps, x: Array, constants: Sequence[Array]) -> Array:
        """The Jacobian of the affine values, (rank, d): the same at every point.

        The weights of a first dense layer are these rows as they stand; other linear maps are transposed.
        """
        xp = ops.xp
        blocks = []
        for value in self.affine:
            direct = self._weights(ops, value, constants)
            blocks.append(self._transposed(ops, x, constants, value) if direct is None else direct)
        return blocks[0] if len(blocks) == 1 else xp.concat(blocks, axis=0)

    def slopes(
        self, ops: ArrayOps, x: Array, constants: Sequence[Array], values: Mapping[int, Array], space: Sequence[int]
    ) -> tuple[Array, Array, Array]:
        """What a Laplacian over the columns ``space`` needs of the separable entries s beside the affine ones z.

        Returns:
            ∇s·∇z (extra, …, rank), ∇s·∇s (extra, …, extra) and Δs (…, extra), over those columns; "…" is the batch, if any.
        """
        squares = self._factors()
        if None not in squares and x.shape[-1] - len(space) <= _FEW:
            # Columns of index sums are neighbours: what is left stands before and behind them.
            others = [*range(space[0]), *range(space[-1] + 1, x.shape[-1])]
            return self._slopes_of_squares(ops, x, constants, values, space, others, [float(c) for c in squares if c is not None])
        xp, lead = ops.xp, () if ops.per_point else (x.shape[0],)
        picked = np.zeros(x.shape[-1])
        picked[np.asarray(space)] = 1.0
        mask, zero = ops.asarray(picked, x), ops.asarray(0.0, x)
        along = dict(zip(self.values, self.along(ops, x, constants, self.gradients(ops, x, constants) * mask, False), strict=True))

        def joined(chosen: Sequence[int]) -> Array:
            found = []
            for v in chosen:
                shape = (self.extra, *lead, self.width(v))
                found.append(xp.broadcast_to(zero, shape) if along[v] is None else xp.reshape(along[v], shape))
            return found[0] if len(found) == 1 else xp.concat(found, axis=-1)

        second = []
        for v, derivatives in zip(self.values, self.coordinatewise(ops, x, constants, mask, 2), strict=True):
            if v in self.separable:
                value = self.graph.values[v]
                shape = (*lead, *(s for k, s in enumerate(value.shape) if k != value.batch_axis))
                second.append(xp.broadcast_to(zero if derivatives[1] is None else derivatives[1], shape))
        return joined(self.affine), joined(self.separable), _flat(ops, self, second, self.separable)

    def _slopes_of_squares(
        self, ops: ArrayOps, x: Array, constants: Sequence[Array], values: Mapping[int, Array], space: Sequence[int],
        others: Sequence[int], squares: Sequence[float],
    ) -> tuple[Array, Array, Array]:  # fmt: skip
        """s_k = c_k |x|²: ∇s·∇z = 2 c_k W x, which is z without its part that x does not scale: no product with W is needed."""
        xp = ops.xp
        origin = xp.zeros_like(x if ops.per_point else x[:1, ...])
        z = _flat(ops, self, [values[v] for v in self.affine], self.affine)
        offset = _flat(ops, self, evaluate(_restricted(self.head, self.affine), origin, constants), self.affine)
        z = z - (offset if ops.per_point else xp.broadcast_to(offset, z.shape))
        inside = x[..., space[0] : space[-1] + 1]
        if others:
            parts = self.along(ops, x, constants, unit_directions(ops, x, others), True)
            for k, c in enumerate(others):
                rows = [
                    xp.reshape(xp.zeros_like(values[v]) if p is None else xp.broadcast_to(p[k, ...], values[v].shape), values[v].shape)
                    for v, p in zip(self.values, parts, strict=True) if v in self.affine
                ]  # fmt: skip
                z = z - _flat(ops, self, rows, self.affine) * x[..., c : c + 1]
        norm = xp.sum(inside * inside, axis=-1)
        gamma = xp.stack([z * (2.0 * c) for c in squares])
        own = xp.stack([xp.stack([norm * (4.0 * a * b) for b in squares], axis=-1) for a in squares])
        drift = xp.stack([xp.zeros_like(norm) + 2.0 * c * len(space) for c in squares], axis=-1)
        return gamma, own, drift

    def _factors(self) -> list[float | None]:
        """c for every separable entry that is c |x|² plus a constant; None for others."""
        return [c for v, c in zip(self.separable, self.squares, strict=True) for _ in range(self.width(v))]

    def gradients(self, ops: ArrayOps, x: Array, constants: Sequence[Array]) -> Array:
        """The gradients of the separable values: (extra, d) per point, (extra, n, d) batched."""
        head = _restricted(self.head, self.separable)

        def function(point: Array) -> Array:
            return _flat(ops, self, evaluate(head, point, constants), self.separable)

        return ops.pull_back(function, x, self.extra, False)

    @property
    def transposes(self) -> bool:
        """Whether the Jacobian takes reverse mode: anything but one dense layer on x."""
        return bool(self.separable) or any(self.matrix(v) is None for v in self.affine)

    def _transposed(self, ops: ArrayOps, x: Array, constants: Sequence[Array], value: int) -> Array:
        head = _restricted(self.head, (value,))

        def function(point: Array) -> Array:
            return _flat(ops, self, evaluate(head, point, constants), (value,))

        found = ops.pull_back(function, x if ops.per_point else x[:1, ...], self.width(value), True)
        return found if ops.per_point else found[:, 0, :]

    def matrix(self, value: int) -> int | None:
        """The constant matrix A, where the value is x A (or A x) plus constants."""
        shapes = {k: v.shape for k, v in enumerate(self.graph.values)}
        made = {o: n for n in self.head.nodes for o in n.outputs}
        dependent = self.head.dependent()
        node, shape = made.get(value), shapes[value]
        while node is not None and isinstance(node.rule, Sum):
            inner = [k for k, i in enumerate(node.inputs) if i in dependent]
            if len(inner) != 1 or node.rule.signs[inner[0]] != 1.0 or shapes[node.inputs[inner[0]]] != shape:
                return None
            node = made.get(node.inputs[inner[0]])
        if node is None or not isinstance(node.rule, Bilinear) or node.operation is not _MATMUL:
            return None
        if sum(i == self.head.x for i in node.inputs) != 1 or sum(i in dependent for i in node.inputs) != 1:
            return None
        (other,) = (i for i in node.inputs if i != self.head.x)
        d, width = shapes[self.head.x][-1], self.width(value)
        # A product of (d,) with a matrix that gives (width,) contracts d, whatever the order of the operands.
        return other if d != width and sorted(shapes[other]) == sorted((d, width)) else None

    def _weights(self, ops: ArrayOps, value: int, constants: Sequence[Array]) -> Array | None:
        other = self.matrix(value)
        if other is None:
            return None
        store = dict(zip(self.head.constants, constants, strict=True))
        for n in self.head.nodes:
            if other not in store and all(i in store for i in n.inputs):
                result = n.apply(*(store[i] for i in n.inputs))
                store.update(zip(n.outputs, result if n.several else (result,), strict=True))
        matrix = store[other]
        return matrix if matrix.shape[0] == self.width(value) else ops.xp.matrix_transpose(matrix)


def unit_directions(ops: ArrayOps, x: Array, columns: Sequence[int]) -> Array:
    """The directions of single coordinates, (R, d)."""
    basis = np.zeros((len(columns), x.shape[-1]))
    basis[np.arange(len(columns)), list(columns)] = 1.0
    return ops.asarray(basis, x)


def whole_cut(graph: Graph) -> Cut:
    """The cut in front of everything: x itself."""
    return Cut(graph, Graph(graph.values, graph.x, graph.constants, (), (graph.x,)), (graph.x,), ())


def _flat(ops: ArrayOps, cut: Cut, arrays: Sequence[Array], values: Sequence[int]) -> Array:
    """All entries of some values in one row: (w,) per point or (n, w)."""
    lead = () if ops.per_point else (arrays[0].shape[0],)
    rows = [ops.xp.reshape(a, (*lead, cut.width(v))) for a, v in zip(arrays, values, strict=True)]
    return rows[0] if len(rows) == 1 else ops.xp.concat(rows, axis=-1)


def find_cut(graph: Graph, most_separable: int = 4) -> Cut | None:
    """The earliest place behind which nothing is as wide as x; None where there is no such place."""
    kinds: dict[int, _Kind] = {graph.x: _Kind(True, graph.x)}
    dependent = graph.dependent()
    size = prod(graph.values[graph.x].shape)
    for node in graph.nodes:
        if isinstance(node.rule, Constant) or not any(i in dependent for i in node.inputs):
            continue
        kind = _kind(node, graph, kinds, dependent, size)
        if kind is not None:
            # The pieces of one selection hold different coordinates at equal places: each has a mark of its own.
            own = kind.aligned is not None and kind.aligned in node.outputs
            kinds.update({o: replace(kind, aligned=o) if own else kind for o in node.outputs})
    inside = {o for n in graph.nodes for o in n.outputs if o in kinds} | {graph.x}
    read: dict[int, None] = dict.fromkeys(o for o in graph.outputs if o in kinds)
    for node in graph.nodes:
        if isinstance(node.rule, Constant) and any(i in kinds for i in node.inputs):
            # A sign or a comparison of a wide value: it has no derivative, and its operand has to exist.
            return None
        if any(o in dependent and o not in kinds for o in node.outputs):
            read.update(dict.fromkeys(i for i in node.inputs if i in kinds))
    if not read or graph.x in read:
        return None
    affine = tuple(v for v in read if kinds[v].affine)
    separable = tuple(v for v in read if not kinds[v].affine)
    batched = graph.values[graph.x].batch_axis
    nodes = _reaching(graph.nodes, read)
    if any(graph.values[v].batch_axis != batched for v in read):
        return None
    if batched is not None and not all(n.flexible for n in nodes if any(o in inside for o in n.outputs)):
        return None
    head = Graph(graph.values, graph.x, graph.constants, nodes, affine + separable)
    cut = Cut(graph, head, affine, separable, tuple(kinds[v].square for v in separable))
    if not affine or cut.rank + cut.extra >= graph.values[graph.x].shape[-1] or cut.extra > most_separable:
        return None
    return cut


def _kind(node: Node, graph: Graph, kinds: Mapping[int, _Kind], dependent: frozenset[int], size: int) -> _Kind | None:
    inputs = [i for i in node.inputs if i in dependent]
    if not all(i in kinds for i in inputs):
        return None
    have = [kinds[i] for i in inputs]
    affine = all(k.affine for k in have)
    shapes = {graph.values[v].shape for v in (*inputs, *node.outputs)}
    square = _square(node, graph, inputs, have)
    same = have[0].aligned if len({k.aligned for k in have}) == 1 and len(shapes) == 1 else None
    match node.rule:
        case Sum():
            return _Kind(affine, same, square)
        case Linear():
            selects = node.operation.selects
            return _Kind(affine, node.outputs[0] if selects and all(k.aligned is not None for k in have) else None, square)
        case Bilinear() if len(inputs) == 1:
            return _Kind(affine, same if node.operation is _MULTIPLY else None)
        case Bilinear() if node.operation is _MULTIPLY and same is not None and _wide(graph, node, size):
            return _Kind(False, same, square)
        case Bilinear() if node.operation is _MATMUL and len(have) == 2:
            vectors = all(len(graph.values[i].shape) == 1 for i in inputs)
            inner = graph.values[node.outputs[0]].shape == ()
            if vectors and inner and have[0].aligned is not None and have[0].aligned == have[1].aligned:
                return _Kind(False, None, square)
        case Elementwise() if same is not None and _wide(graph, node, size):
            return _Kind(False, same, square)
    return None


def _square(node: Node, graph: Graph, inputs: Sequence[int], have: Sequence[_Kind]) -> float | None:
    """The factor c where the node gives c x_i² for every i, or c |x|², plus constants."""
    rule, before = node.rule, have[0].square
    if isinstance(rule, Bilinear):
        return 1.0 if len(inputs) == 2 and set(inputs) == {graph.x} else None
    if isinstance(rule, Elementwise):
        return 1.0 if rule.function.name == "square" and list(inputs) == [graph.x] else None
    if before is None or len(inputs) != 1:
        return None
    entries = [_entries(graph, v) for v in (*inputs, *node.outputs)]
    if isinstance(rule, Sum):
        return before * rule.signs[node.inputs.index(inputs[0])] if len(set(entries)) == 1 else None
    moves = node.operation.selects and len(set(entries)) == 1
    sums = node.operation is _SUM and entries[1] == 1 and entries[0] > 1
    return before if moves or sums else None


def _entries(graph: Graph, value: int) -> int:
    v = graph.values[value]
    return prod(s for k, s in enumerate(v.shape) if k != v.batch_axis)


def _wide(graph: Graph, node: Node, size: int) -> bool:
    """Whether a function of single coordinates is applied to about all of them; to a few it belongs behind the cut."""
    return 2 * prod(graph.values[node.outputs[0]].shape) >= size


def _reaching(nodes: Sequence[Node], wanted: Mapping[int, None]) -> tuple[Node, ...]:
    """The nodes that some values are computed by."""
    needed = set(wanted)
    kept = []
    for node in reversed(nodes):
        if any(o in needed for o in node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return tuple(reversed(kept))


def _restricted(head: Graph, outputs: tuple[int, ...]) -> Graph:
    return Graph(head.values, head.x, head.constants, _reaching(head.nodes, dict.fromkeys(outputs)), outputs)
