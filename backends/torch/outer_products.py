"""Join the products that make up the derivative in one weight: Σ_c g_c h_cᵀ over the channels c is one product at each point.

Reverse mode adds up one outer product (n, m, 1) (n, 1, m') for each channel of a jet. Each of them, and each sum, writes m · m' numbers
for every point, which is most of the time of a Jacobian; with the channels beside one another they are one batched product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, Node

from opdsl.backends.torch.tape import aten


def join(graph: Graph) -> None:
    """Rewrite until nothing changes; every node carries its sample tensor without contents as ``meta["val"]``."""
    changed = True
    while changed:
        changed = False
        for node in list(graph.nodes):
            if node.op == "call_function" and node.users:
                changed |= any(rewrite(graph, node) for rewrite in _REWRITES)
        graph.eliminate_dead_code(is_impure_node=lambda n: n.op in ("placeholder", "output"))


def _only(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and node.target is target and len(node.users) == 1


def _new(graph: Graph, before: Node, target: Any, args: tuple[Any, ...]) -> Node:
    with graph.inserting_before(before):
        made = graph.call_function(target, args)
    values = torch.fx.node.map_arg(args, lambda n: n.meta["val"])
    made.meta["val"] = target(*values)
    return made


def _turned(graph: Graph, node: Node) -> bool:
    """aᵀ + bᵀ = (a + b)ᵀ, and turning twice is nothing."""
    if node.target is aten.transpose.int:
        inner = node.args[0]
        if isinstance(inner, Node) and inner.target is aten.transpose.int and set(inner.args[1:]) == set(node.args[1:]):
            node.replace_all_uses_with(inner.args[0])
            return True
        return False
    if node.target is not aten.add.Tensor or node.kwargs or not all(_only(a, aten.transpose.int) for a in node.args):
        return False
    a, b = node.args
    if set(a.args[1:]) != set(b.args[1:]) or a.meta["val"].shape != b.meta["val"].shape:
        return False
    total = _new(graph, node, aten.add.Tensor, (a.args[0], b.args[0]))
    node.replace_all_uses_with(_new(graph, node, aten.transpose.int, (total, *a.args[1:])))
    return True


def _joined(graph: Graph, node: Node) -> bool:
    """a b + c d = [a c] [b; d] where the result is larger than what goes into it."""
    if node.target is not aten.add.Tensor or node.kwargs or not all(_only(a, aten.bmm.default) for a in node.args):
        return False
    (a, b), (c, d) = (product.args for product in node.args)
    m, k, p = a.meta["val"].shape[1], a.meta["val"].shape[2] + c.meta["val"].shape[2], b.meta["val"].shape[2]
    if k * (m + p) > 2 * m * p:
        return False
    left = _new(graph, node, aten.cat.default, ([*_beside(a, 2), *_beside(c, 2)], 2))
    right = _new(graph, node, aten.cat.default, ([*_beside(b, 1), *_beside(d, 1)], 1))
    node.replace_all_uses_with(_new(graph, node, aten.bmm.default, (left, right)))
    return True


def _beside(operand: Node, axis: int) -> list[Node]:
    """The pieces of an operand that has been joined before."""
    if _only(operand, aten.cat.default) and operand.args[1] == axis:
        return list(operand.args[0])
    return [operand]


_REWRITES: tuple[Callable[[Graph, Node], bool], ...] = (_turned, _joined)
