"""One program for any number of points, from the programs for two numbers, where these agree.

Sizes that differ by a whole number for each point become that number times the points' length; anything
else that differs, and anything that picks rows by their place, leaves a program for one number of points.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from opdsl.backends.torch.tape import aten

_ALL = 2**62
"""A slice that ends here or later ends where the rows end."""
# Which argument names the axis along which an operator picks or joins places.
_AXIS = {
    "slice": 1, "select": 1, "unbind": 1, "narrow": 1, "index_select": 1, "gather": 1, "scatter": 1, "scatter_add": 1, "index_add": 1,
    "index_copy": 1, "sort": 1, "cumsum": 1, "flip": 1, "unfold": 1, "split": 2, "split_with_sizes": 2, "chunk": 2, "topk": 2, "roll": 2,
    "slice_scatter": 2, "select_scatter": 2,
}  # fmt: skip
_BY_INDEX = frozenset({"index", "_unsafe_index", "index_put", "_index_put_impl"})


class _Differs(Exception):
    """The programs are of their numbers of points."""


def for_any_size(one: GraphModule, more: GraphModule, sizes: tuple[int, int], points: int) -> GraphModule | None:
    """The program that is ``one`` at so many points and ``more`` at so many others.

    Args:
        one, more: recorded programs, every node with its sample as ``meta["val"]``.
        sizes: the numbers of points of the two.
        points: which input the points are.

    Returns:
        None where the two differ in more than sizes that follow the number of points.
    """
    try:
        return _Merge(one, more, sizes, points).program()
    except _Differs:
        return None


class _Merge:
    def __init__(self, one: GraphModule, more: GraphModule, sizes: tuple[int, int], points: int) -> None:
        self.one, self.more, self.sizes_of, self.points = one, more, sizes, points
        self.root, self.graph = torch.nn.Module(), Graph()
        self.partner: dict[Node, Node] = {}
        self.made: dict[Node, Node] = {}
        self.rows: Node | None = None
        self.sizes: dict[int, Any] = {}

    def program(self) -> GraphModule:
        pairs = list(zip(self.one.graph.nodes, self.more.graph.nodes, strict=False))
        if len(self.one.graph.nodes) != len(self.more.graph.nodes) or any(a.op == "call_method" for a, _ in pairs):
            raise _Differs
        # Inputs first: the length of the points is needed by whatever follows.
        inputs = [(a, b) for a, b in pairs if a.op == "placeholder"]
        for number, (a, b) in enumerate(inputs):
            self._pair(a, b)
            self.made[a] = self.graph.placeholder(a.name)
            if number == self.points:
                source = self.made[a]
        self.rows = self.graph.call_method("size", (source, 0))
        for a, b in pairs:
            if a.op != "placeholder":
                self._pair(a, b)
                self._copy(a, b)
        self.graph.lint()
        return GraphModule(self.root, self.graph)

    def _pair(self, a: Node, b: Node) -> None:
        if a.op != b.op or (a.target is not b.target and a.target != b.target):
            raise _Differs
        self.partner[a] = b

    def _copy(self, a: Node, b: Node) -> None:
        if a.op == "get_attr":
            self.made[a] = self._number(str(a.target))
            return
        args = self._merged(a.args, b.args)
        if a.op == "output":
            for value in _nodes(a.args):
                if not self._grows(value, 0):
                    raise _Differs
            self.graph.output(args[0])
            return
        self._check_picking(a, args)
        self.made[a] = self.graph.call_function(a.target, args, self._merged(a.kwargs, b.kwargs))

    def _merged(self, a: Any, b: Any) -> Any:
        if isinstance(a, Node):
            if self.partner.get(a) is not b:
                raise _Differs
            return self.made[a]
        if type(a) is not type(b):
            raise _Differs
        if isinstance(a, list | tuple):
            if len(a) != len(b):
                raise _Differs
            return type(a)(self._merged(v, w) for v, w in zip(a, b, strict=True))
        if isinstance(a, dict):
            if a.keys() != b.keys():
                raise _Differs
            return {k: self._merged(v, b[k]) for k, v in a.items()}
        if a == b or (a != a and b != b):
            return a
        n, m = self.sizes_of
        if type(a) is int and not a % n and a * m == b * n:
            return self._size(a // n)
        raise _Differs

    def _size(self, factor: int) -> Any:
        if factor not in self.sizes:
            assert self.rows is not None
            self.sizes[factor] = self.rows if factor == 1 else self.graph.call_function(operator.mul, (self.rows, factor))
        return self.sizes[factor]

    def _number(self, name: str) -> Node:
        """A number of the program; one that is the same for every point is expanded to any number of them."""
        a, b = getattr(self.one, name), getattr(self.more, name)
        if not isinstance(a, Tensor):
            if a is not b:
                raise _Differs
            setattr(self.root, name, a)
            return self.graph.get_attr(name)
        if a.dtype != b.dtype or a.device != b.device or a.dim() != b.dim():
            raise _Differs
        shape: list[Any] = [self._merged(s, t) for s, t in zip(a.shape, b.shape, strict=True)]
        for axis, size in enumerate(shape):
            if isinstance(size, Node):
                a, b = _one_for_all(a, axis), _one_for_all(b, axis)
        if not _equal(a, b):
            raise _Differs
        self.root.register_buffer(name, a.clone())
        node = self.graph.get_attr(name)
        return self.graph.call_function(aten.expand.default, (node, shape)) if any(isinstance(s, Node) for s in shape) else node

    # -------------------------------------------------------------------------------------------------- rows by place

    def _grows(self, node: Node, axis: int) -> bool:
        a, b = node.meta.get("val"), self.partner[node].meta.get("val")
        return a is not None and b is not None and bool(a.dim()) and a.shape[axis] != b.shape[axis]

    def _check_picking(self, a: Node, args: Sequence[Any]) -> None:
        """Rows picked by their place: of more points others would be there, or too few."""
        name = getattr(a.target, "__name__", "").partition(".")[0]
        whole = a.args[0] if a.args else None
        if not isinstance(whole, Node) or (name not in _AXIS and name not in _BY_INDEX):
            return
        if name in _BY_INDEX:
            if any(index is not None and self._grows(whole, axis) for axis, index in enumerate(a.args[1])):
                raise _Differs
            return
        place = _AXIS[name]
        axes = a.args[place] if len(a.args) > place else a.kwargs.get("dim", 0)
        if not any(self._grows(whole, axis) for axis in (axes if isinstance(axes, list | tuple) else (axes,))):
            return
        rest = list(args[place + 1 :])
        if name == "slice" and a.kwargs.keys() <= {"dim"}:
            defaults: tuple[Any, ...] = (None, None, 1)
            start, end, step = [*rest, *defaults[len(rest) :]]
            if step == 1 and _moves(start, 0) and (end is None or _moves(end, _ALL)):
                return
        raise _Differs


def _moves(place: Any, fixed: int) -> bool:
    """Whether a place goes with the number of points, or is its first or last."""
    return isinstance(place, Node) or place is None or (place == 0 if fixed == 0 else place >= fixed)


def _one_for_all(tensor: Tensor, axis: int) -> Tensor:
    """The one place that all others along an axis are like."""
    first = tensor.narrow(axis, 0, 1)
    if not _equal(first.expand(tensor.shape), tensor):
        raise _Differs
    return first


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _nodes(value: Any) -> list[Node]:
    if isinstance(value, Node):
        return [value]
    return [n for v in value for n in _nodes(v)] if isinstance(value, list | tuple) else []
