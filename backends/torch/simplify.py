"""Make a recorded program shorter without changing what it computes.

What remains after a recording are many small operators: reshapes from mapping over channels, numbers multiplied one after the
other, sums that could take a product along. Each pass replaces a pattern by fewer operators that torch can differentiate just
as well; `torch_compile` compares the result with the recording.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from opdsl.backends.torch.tape import aten

_RESHAPES = frozenset({aten.view.default, aten._unsafe_view.default, aten.unsqueeze.default, aten.squeeze.dims, aten.squeeze.dim,
                       aten.alias.default, aten.reshape.default, aten._reshape_alias.default})  # fmt: skip
_ADD, _MUL = aten.add.Tensor, aten.mul.Tensor


def simplify(graph: Graph) -> None:
    """Run all passes; every node carries its sample tensor without contents as ``meta["val"]``."""
    # Numbers first find their way to the end of each product, then sums take products along.
    for rewrites in (_REWRITES, _FUSIONS):
        changed = True
        while changed:
            changed = False
            for node in list(graph.nodes):
                if node.op == "call_function" and node.users:
                    changed |= any(rewrite(graph, node) for rewrite in rewrites)
            _share(graph)
            _prune(graph)
    _unbind(graph)


def _prune(graph: Graph) -> None:
    """Nodes that nobody reads; `torch.fx.Graph.eliminate_dead_code` would import torch's compiler."""
    for node in reversed(graph.nodes):
        if node.op not in ("placeholder", "output") and not node.users:
            graph.erase_node(node)


def getitem(values: Sequence[Any], index: int) -> Any:
    """One of several results."""
    return values[index]


def _value(node: Any) -> Tensor:
    return node.meta["val"]


def _replace(node: Node, by: Node) -> bool:
    node.replace_all_uses_with(by)
    return True


def _insert(graph: Graph, node: Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> bool:
    with graph.inserting_before(node):
        new = graph.call_function(target, args, kwargs or {})
    new.meta["val"] = _value(node)
    return _replace(node, new)


def _is(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and node.target is target and node.op == "call_function"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same_kind(*nodes: Any) -> bool:
    values = [_value(n) for n in nodes]
    return all(v.dtype == values[0].dtype and v.is_floating_point() for v in values)


# ------------------------------------------------------------------------------------------------------------ rewrites


def _reshape(graph: Graph, node: Node) -> bool:
    """Chains of reshapes of a contiguous tensor are one view, or none."""
    if node.target not in _RESHAPES:
        return False
    source = node.args[0]
    assert isinstance(source, Node)
    shape = _value(node).shape
    if not (_value(source).is_contiguous() and _value(node).is_contiguous()):
        return False
    if _value(source).shape == shape:
        return _replace(node, source)
    while source.target in _RESHAPES and isinstance(source.args[0], Node) and _value(source.args[0]).is_contiguous():
        source = source.args[0]
    if _value(source).shape == shape:
        return _replace(node, source)
    if source is node.args[0] and node.target is aten.view.default:
        return False
    return _insert(graph, node, aten.view.default, (source, list(shape)))


def _expand(graph: Graph, node: Node) -> bool:
    """Expanding to the shape one has."""
    if node.target is aten.alias.default or (
        node.target is aten.expand.default and _value(node.args[0]).shape == _value(node).shape
    ):
        assert isinstance(node.args[0], Node)
        return _replace(node, node.args[0])
    return False


def _turned(graph: Graph, node: Node) -> bool:
    """A matrix that is transposed twice."""
    if _is(node, aten.t.default) and _is(node.args[0], aten.t.default):
        return _replace(node, node.args[0].args[0])  # type: ignore[union-attr,arg-type]
    return False


def _thin_select(graph: Graph, node: Node) -> bool:
    """An axis of length 1 goes before an entry of another axis is picked, not after."""
    inner = node.args[0] if node.target is aten.select.int else None
    if not _is(inner, aten.select.int):
        return False
    assert isinstance(inner, Node)
    source, along, place = inner.args[0], inner.args[1] % _value(inner.args[0]).dim(), inner.args[2]
    axis = node.args[1] % _value(inner).dim()
    if _value(inner).shape[axis] != 1 or not _value(source).is_contiguous():
        return False
    gone = axis + (axis >= along)
    shape = [n for k, n in enumerate(_value(source).shape) if k != gone]
    with graph.inserting_before(node):
        thin = graph.call_function(aten.view.default, (source, shape))
    thin.meta["val"] = _value(source).reshape(shape)
    return _insert(graph, node, aten.select.int, (thin, along - (gone < along), place))


def _unbind(graph: Graph) -> None:
    """All entries along an axis are picked at once: their derivatives are then stacked, where each alone would be padded."""
    picked: dict[tuple[Node, int], dict[int, Node]] = {}
    for node in graph.nodes:
        if node.target is aten.select.int:
            source, axis, place = node.args
            axis %= _value(source).dim()
            picked.setdefault((source, axis), {})[place % _value(source).shape[axis]] = node
    for (first, axis), entries in picked.items():
        if 1 < len(entries) == _value(first).shape[axis]:
            source = entries[0].args[0]  # what stands there now, where that was picked itself
            assert isinstance(source, Node)
            with graph.inserting_after(source):
                whole = graph.call_function(aten.unbind.int, (source, axis))
            whole.meta["val"] = [_value(entries[k]) for k in range(len(entries))]
            with graph.inserting_after(whole):
                for k, node in entries.items():
                    one = graph.call_function(getitem, (whole, k))
                    one.meta["val"] = _value(node)
                    node.replace_all_uses_with(one)
                    graph.erase_node(node)


def _pick(graph: Graph, node: Node) -> bool:
    """Picking the only entry of an axis is a reshape, also out of `unbind`; stacking one tensor too."""
    if node.target is getitem and _is(node.args[0], aten.unbind.int):
        whole, axis = node.args[0].args[0], (*node.args[0].args[1:], 0)[0]
        return _insert(graph, node, aten.select.int, (whole, axis, node.args[1]))
    if node.target is aten.select.int and isinstance(node.args[0], Node):
        value = _value(node.args[0])
        if value.is_contiguous() and value.shape[node.args[1]] == 1:
            return _insert(graph, node, aten.view.default, (node.args[0], list(_value(node).shape)))
    if node.target in (aten.stack.default, aten.cat.default) and len(node.args[0]) == 1:
        only = node.args[0][0]
        if _value(only).is_contiguous():
            return _insert(graph, node, aten.view.default, (only, list(_value(node).shape)))
    return False


def _factors(graph: Graph, node: Node) -> bool:
    """(x · a) · b = x · (a b) for numbers, and x · 1 = x."""
    if node.target is not _MUL or not isinstance(node.args[0], Node) or not _number(node.args[1]):
        return False
    inner, factor = node.args
    if factor == 1.0 and _value(inner).dtype == _value(node).dtype:
        return _replace(node, inner)
    if _is(inner, _MUL) and _number(inner.args[1]) and _same_kind(inner, node):
        return _insert(graph, node, _MUL, (inner.args[0], inner.args[1] * factor))
    return False


def _difference(graph: Graph, node: Node) -> bool:
    """−x + c = c − x."""
    if node.target is _ADD and len(node.args) == 2 and not node.kwargs and _number(node.args[1]):
        inner = node.args[0]
        if _is(inner, _MUL) and len(inner.args) == 2 and inner.args[1] == -1.0 and _number(inner.args[1]) and _same_kind(inner):
            return _insert(graph, node, aten.rsub.Scalar, (inner.args[0], node.args[1]))
    return False


def _product_and_sum(graph: Graph, node: Node) -> bool:
    """a + b·c in one pass over memory, where the product is used nowhere else."""
    if node.target is not _ADD or node.kwargs or not all(isinstance(a, Node) for a in node.args):
        return False
    for a, product in (node.args, node.args[::-1]):
        if not (_is(product, _MUL) and len(product.users) == 1 and _same_kind(a, product)):
            continue
        left, right = product.args
        if _number(right):
            inner = left.args if _is(left, _MUL) and len(left.users) == 1 else ()
            if len(inner) == 2 and _worth_fusing(a, *inner):
                return _insert(graph, node, aten.addcmul.default, (a, *inner), {"value": right})
            if _same_kind(left, node):
                return _insert(graph, node, _ADD, (a, left), {"alpha": right})
        elif _worth_fusing(a, left, right):
            return _insert(graph, node, aten.addcmul.default, (a, left, right))
    return False


def _worth_fusing(a: Any, left: Any, right: Any) -> bool:
    # A product with a number in tensor form stays as it is: addcmul would broadcast it slowly.
    if not (isinstance(left, Node) and isinstance(right, Node) and _same_kind(a, left, right)):
        return False
    return bool(math.prod(_value(left).shape) > 1 < math.prod(_value(right).shape))


def _outward(graph: Graph, node: Node) -> bool:
    """(x · a) y = (x y) · a for numbers a: at the end of a product they join others, or a sum takes them along."""
    if node.target is not _MUL or not all(isinstance(a, Node) for a in node.args):
        return False
    for scaled, other in (node.args, node.args[::-1]):
        if not (_is(scaled, _MUL) and _number(scaled.args[1]) and len(scaled.users) == 1 and scaled is not other):
            continue
        x, factor = scaled.args
        if _same_kind(x, other, node) and _value(x).shape == _value(node).shape:
            with graph.inserting_before(node):
                product = graph.call_function(_MUL, (x, other))
            product.meta["val"] = _value(node)
            return _insert(graph, node, _MUL, (product, factor))
    return False


def _affine(graph: Graph, node: Node) -> bool:
    """x W + b is one operator."""
    if node.target is not _ADD or node.kwargs or not all(isinstance(a, Node) for a in node.args):
        return False
    product, bias = node.args
    if _is(product, aten.mm.default) and len(product.users) == 1 and _same_kind(product, bias):
        shape = _value(bias).shape
        if len(shape) == 1 and shape[0] == _value(product).shape[1]:
            return _insert(graph, node, aten.addmm.default, (bias, *product.args))
    return False


def _thinner(graph: Graph, node: Node) -> bool:
    """A leading axis of length 1 (one channel) is put on after an elementwise operator, not on its operands before."""
    shape: Sequence[int] = _value(node).shape if node.target in _ELEMENTWISE else ()
    if len(shape) < 2 or shape[0] != 1:
        return False
    operands = [a for a in node.args if isinstance(a, Node)]
    full = [a for a in operands if _value(a).dim() == len(shape)]
    if not all(_value(a).is_contiguous() for a in operands):
        return False
    if not any(_is(a, aten.view.default) and _value(a.args[0]).shape == _value(a).shape[1:] for a in full):
        return False
    args: list[Any] = []
    for a in node.args:
        if a in full:
            with graph.inserting_before(node):
                a_thin = graph.call_function(aten.view.default, (a, list(_value(a).shape[1:])))
            a_thin.meta["val"] = _value(a)[0]
            a = a_thin
        args.append(a)
    with graph.inserting_before(node):
        thin = graph.call_function(node.target, tuple(args), node.kwargs)
    thin.meta["val"] = torch.empty(shape[1:], dtype=_value(node).dtype, device="meta")
    return _insert(graph, node, aten.view.default, (thin, list(shape)))


_ELEMENTWISE = frozenset({_ADD, _MUL, aten.sub.Tensor, aten.rsub.Scalar, aten.neg.default})
_REWRITES: tuple[Callable[[Graph, Node], bool], ...] = (
    _expand, _turned, _reshape, _thin_select, _pick, _factors, _difference, _thinner, _outward,
)  # fmt: skip
_FUSIONS = (_affine, _product_and_sum)


def _share(graph: Graph) -> None:
    """Equal operators on equal operands are computed once; random ones are not equal.

    Torch's own pass (`torch.fx.passes.dialect.common.cse_pass`) takes 1 and 1.0 for equal and knows some random operators only.
    """
    known: dict[Any, Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            continue
        key = _hashable((node.target, node.args, node.kwargs))
        if key is None:
            continue
        first = known.setdefault(key, node)
        if first is not node:
            node.replace_all_uses_with(first)


def _hashable(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(_hashable(v) for v in value)
    if isinstance(value, dict):
        return tuple((k, _hashable(v)) for k, v in value.items())
    # 1, 1.0 and True compare equal.
    return (type(value), value)
