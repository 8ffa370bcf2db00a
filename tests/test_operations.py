"""One vocabulary: the engine knows operations, no framework's names, and the backends say the same of the same function."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import array_api_compat.torch
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from opdsl import backends
from opdsl.backends.jax.primitives import FUNCTIONS
from opdsl.backends.jax.primitives import TABLE as JAX_TABLE
from opdsl.backends.registration import REGISTERED
from opdsl.backends.torch import capture as _filled  # noqa: F401  (the capture fills the table)
from opdsl.backends.torch.primitives import TABLE as TORCH_TABLE
from opdsl.backends.torch.primitives import Reading
from opdsl.jets.elementary import ELEMENTARY
from opdsl.jets.graph import (
    Bilinear,
    Composed,
    Constant,
    Elementwise,
    Graph,
    Linear,
    Operation,
    PiecewiseLinear,
    Role,
    Rule,
    Sum,
    arranged,
)
from opdsl.jets.operations import OPERATIONS, operation_of
from opdsl.jets.special_functions import SPECIAL

ROOT = Path(__file__).parent.parent / "opdsl"
FOREIGN = re.compile(
    r"\b(aten|prims|lax|jnp|dot_general|broadcast_in_dim|dynamic_slice|convert_element_type|reduce_(sum|max|min|prod)|logistic|"
    r"unsqueeze|_to_copy|_unsafe_view|addmm|mm|bmm|unbind)\b"
)


@pytest.mark.parametrize("room", ["jets", "pricing", "strategies"])
def test_the_engine_knows_no_framework_by_the_names_of_its_primitives(room: str) -> None:
    for path in (ROOT / room).glob("*.py"):
        found = [
            f"{path.name}:{k}: {line.strip()}"
            for k, line in enumerate(path.read_text("utf-8").splitlines(), 1)
            if FOREIGN.search(line)
        ]
        assert not found, found


def test_every_elementary_function_is_an_operation() -> None:
    for name in (*ELEMENTARY, *SPECIAL):
        assert OPERATIONS[name].role is Role.ELEMENTWISE


@pytest.mark.parametrize("table", [JAX_TABLE, FUNCTIONS, TORCH_TABLE], ids=["JAX", "functions of JAX", "torch"])
def test_roles_fit_the_rules(table: dict[str, Any]) -> None:
    for name, entry in table.items():
        operation = operation_of(entry)
        assert operation.name in OPERATIONS or operation.role is Role.OTHER, name
        rule = entry.rule if isinstance(entry, Operation) else entry
        if isinstance(rule, Bilinear):
            assert operation.role in (Role.PRODUCT, Role.MATMUL), name
        if isinstance(rule, Sum):
            assert operation.role is Role.ADD, name
        if operation.selects:
            assert operation.rule == Linear(), name


@pytest.mark.parametrize("table", [JAX_TABLE, FUNCTIONS, TORCH_TABLE], ids=["JAX", "functions of JAX", "torch"])
def test_every_entry_of_a_table_is_an_operation_of_the_vocabulary(table: dict[str, Any]) -> None:
    foreign = [name for name, entry in table.items() if operation_of(entry).name not in OPERATIONS and name not in REGISTERED]
    assert not foreign


def test_most_of_the_table_of_torch_is_data() -> None:
    """What is not: where arguments decide between rules, tensors among them say what is linear, and factorisations."""
    written = {operation_of(e).name for e in TORCH_TABLE.values() if not isinstance(e, Reading)}
    factors = {o.name for o in OPERATIONS.values() if o.role is Role.FACTORISATION}
    assert written - factors == {
        "divide", "log_sigmoid", "einsum", "chosen", "sort", "top_k", "cumulative_max", "cumulative_min", "take", "scatter", "pad", "astype",
        "broadcast_to", "strided",
    }  # fmt: skip


FORMS: dict[str, tuple[dict[str, Any], type[Rule]]] = {
    "pow": ({"exponent": 3}, Elementwise),
    "max": ({"axes": (1,)}, PiecewiseLinear),
    "abs": ({"complex": True}, Composed),
    "softplus": ({"beta": 2.0}, Composed),
    "add": ({"signs": (1.0, 0.5)}, Sum),
    "hardtanh": ({"low": -1.0, "high": 2.0}, PiecewiseLinear),
    "logsumexp": ({"axes": (0,), "keepdims": False}, Composed),
}


@pytest.mark.parametrize("name", FORMS)
def test_attributes_make_the_rule(name: str) -> None:
    attributes, kind = FORMS[name]
    assert type(OPERATIONS[name].given(**attributes)) is kind
    plain = OPERATIONS[name].rule
    assert plain is None or OPERATIONS[name].given() is plain


def test_operands_in_another_order_and_numbers_among_them() -> None:
    assert arranged(Sum((1.0, -2.0)), (1, 0), (None, None)) == Sum((-2.0, 1.0))
    assert arranged(Sum((1.0, -2.0)), (None, 0), (3.0, None)) == Sum((-2.0,))
    assert arranged(Bilinear(), (0, None), (None, 2.0)) == Linear()
    assert arranged(Linear((0, 2)), (1, None, 0), (None, 5, None)) == Linear((1, 0))
    rule = arranged(PiecewiseLinear(lambda xp, p, t: p[0] + 10.0 * t[2] + 0.0 * (t[0] is None)), (None, None, 0), (2.0, None, None))
    assert isinstance(rule, PiecewiseLinear)
    np.testing.assert_array_equal(rule.tangent(np, [np.ones(2)], [np.full(2, 0.5)]), [7.0, 7.0])
    composed = arranged(Composed(lambda ops, a, b, c: (a, b, c)), (1, None, 0), (None, 4, None))
    assert isinstance(composed, Composed)
    assert composed.build(None, "first", "second") == ("second", 4, "first")


W = np.linspace(-1.0, 1.0, 12).reshape(3, 4)
SAME: dict[str, Callable[[Any, Any, Any], Any]] = {
    "add": lambda xp, h, w: h + h,
    "subtract": lambda xp, h, w: h - h * h,
    "negative": lambda xp, h, w: -h,
    "multiply": lambda xp, h, w: h * xp.tanh(h),
    "divide": lambda xp, h, w: h / xp.exp(h),
    "matmul": lambda xp, h, w: h @ w,
    "pow": lambda xp, h, w: h**3,
    "concat": lambda xp, h, w: xp.concat([h, h], axis=-1),
    "flip": lambda xp, h, w: xp.flip(h, axis=-1),
    "sum": lambda xp, h, w: xp.sum(h, axis=-1),
    "maximum": lambda xp, h, w: xp.maximum(h, xp.tanh(h)),
    "minimum": lambda xp, h, w: xp.minimum(h, xp.tanh(h)),
    "where": lambda xp, h, w: xp.where(h > 0, h, xp.tanh(h)),
    "atan2": lambda xp, h, w: xp.atan2(h, xp.exp(h)),
    "max": lambda xp, h, w: xp.max(h, axis=-1),
    "less": lambda xp, h, w: xp.where(h < 0, h, xp.tanh(h)),
    **{
        name: lambda xp, h, w, name=name: getattr(xp, name)(h)
        for name in "exp expm1 log log1p sqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh abs floor ceil sign".split()
    },
}


def _graph(backend: str, function: Callable[[Any, Any, Any], Any]) -> Graph:
    x = np.linspace(0.1, 0.9, 6).reshape(2, 3)
    xp: Any = {"jax": jnp, "torch": array_api_compat.torch, "numpy": np}[backend]
    points: Any = torch.from_numpy(x) if backend == "torch" else xp.asarray(x)
    w: Any = torch.from_numpy(W) if backend == "torch" else xp.asarray(W)
    return backends.get(backend).capture(lambda p: function(xp, p, w), points).graph


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", SAME)
def test_backends_give_an_operation_one_name(name: str) -> None:
    for backend in ("jax", "torch", "numpy"):
        nodes = [n for n in _graph(backend, SAME[name]).nodes if n.operation.name == name]
        assert nodes, backend
        rule = OPERATIONS[name].rule
        # Operators of torch may hold numbers among their arguments; JAX selects by number.
        if rule is not None and backend != "torch" and (backend, name) != ("jax", "where"):
            assert all(n.rule == rule or isinstance(n.rule, Constant) for n in nodes), backend
