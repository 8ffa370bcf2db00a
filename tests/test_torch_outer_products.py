"""Sums of outer products become one product at each point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from opdsl.backends.torch.outer_products import join


def joined(function: Callable[..., Any], *given: torch.Tensor) -> tuple[Any, int]:
    """What the rewritten function gives, and how many batched products it takes."""
    program = make_fx(function)(*given)
    for node in program.graph.nodes:
        if isinstance(node.meta.get("val"), torch.Tensor):
            node.meta["val"] = torch.empty_strided(node.meta["val"].shape, node.meta["val"].stride(), device="meta")
    join(program.graph)
    program.recompile()
    return program(*given), sum(node.target is torch.ops.aten.bmm.default for node in program.graph.nodes)


@pytest.mark.parametrize(("inner", "products"), [(1, 1), (2, 1), (9, 2)])
def test_sums_of_products_are_one_where_the_result_is_large(inner: int, products: int) -> None:
    """Long products are left alone: putting their operands beside one another would cost what it saves."""
    torch.manual_seed(0)
    a, c = torch.rand(3, 4, inner), torch.rand(3, 4, inner)
    b, d = torch.rand(3, inner, 5), torch.rand(3, inner, 5)
    found, count = joined(lambda a, b, c, d: torch.bmm(a, b) + torch.bmm(c, d), a, b, c, d)
    torch.testing.assert_close(found, a @ b + c @ d)
    assert count == products


def test_turned_products_and_several_of_them() -> None:
    torch.manual_seed(0)
    given = [torch.rand(3, 1, 6) for _ in range(6)]

    def total(a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
        parts = [torch.bmm(p.transpose(1, 2), q).transpose(1, 2) for p, q in ((a, b), (c, d), (e, f))]
        return (parts[0] + parts[1] + parts[2]).transpose(1, 2)

    found, count = joined(total, *given)
    torch.testing.assert_close(found, total(*given))
    assert count == 1


def test_what_is_used_elsewhere_stays() -> None:
    torch.manual_seed(0)
    a, b, c = torch.rand(3, 4, 1), torch.rand(3, 1, 4), torch.rand(3, 4, 1)

    def both(a: Any, b: Any, c: Any) -> Any:
        first = torch.bmm(a, b)
        return first + torch.bmm(c, b), first

    (found, first), count = joined(both, a, b, c)
    torch.testing.assert_close(found, a @ b + c @ b)
    torch.testing.assert_close(first, a @ b)
    assert count == 2
