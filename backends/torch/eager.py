"""A flat program as it is run when nobody compiles it: by torch's own functions.

``torch.ops.aten.mul.Tensor(a, b)`` packs its arguments by its schema and takes about twice as long as ``torch.mul(a, b)``, which ends in the
same kernel with the same derivative; on small networks that is what a step takes. Programs keep their ATen operators, by which
they are compared and compiled; here they get another text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule

from opdsl.backends.torch.tape import aten

_FUNCTIONS: dict[Any, Any] = {
    **{
        getattr(aten, name).default: getattr(torch, name)
        for name in (
            "abs acos acosh addcdiv addcmul addmm asin asinh atan atan2 atanh baddbmm bmm cat clone cos cosh dot erf erfc exp exp2 expm1 "
            "flip lgamma log log10 log1p log2 matmul maximum minimum mm mv neg permute reciprocal relu reshape rsqrt sigmoid sign sin sinh "
            "sqrt square stack sum t tan tanh tril triu unsqueeze"
        ).split()
    },
    **{getattr(aten, name).Tensor: getattr(torch, name) for name in "add sub mul div rsub".split()},
    **{getattr(aten, name).Scalar: getattr(torch, name) for name in "add sub mul div rsub".split()},
    aten.pow.Tensor_Scalar: torch.pow, aten.pow.Tensor_Tensor: torch.pow, aten.sum.dim_IntList: torch.sum, aten.mean.dim: torch.mean,
    aten.select.int: torch.select, aten.transpose.int: torch.transpose, aten.squeeze.dim: torch.squeeze, aten.where.self: torch.where,
    aten.index_select.default: torch.index_select, aten.gather.default: torch.gather,
    aten.unbind.int: torch.unbind,
}  # fmt: skip
_METHODS = {aten.view.default: "view", aten.expand.default: "expand"}


def eager(program: GraphModule) -> Callable[..., tuple[Tensor, ...]]:
    """The same program; the order of the arguments of these functions is that of the operators."""
    graph = Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if (method := _METHODS.get(node.target)) is not None:
            node.op, node.target = "call_method", method
        else:
            node.target = _FUNCTIONS.get(node.target, node.target)
    run: Callable[..., tuple[Tensor, ...]] = GraphModule(program, graph).forward
    return run
