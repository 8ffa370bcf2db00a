"""The axis of the points: both ways to own it mean the same, and nobody else looks at it."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from opdsl.jets.points import Batched, Mapped

ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(0)
N, C, K, D, W = 4, 3, 2, 5, 6
EACH, ALL = Mapped(np), Batched(np)
X = RNG.normal(size=(N, D))


def sources() -> dict[str, ast.AST]:
    """Every file of the package above the engine."""
    inside = [p for p in (ROOT / "opdsl").rglob("*.py") if p.relative_to(ROOT / "opdsl").parts[0] not in ("jets", "backends", "grammar")]
    return {str(p.relative_to(ROOT)): ast.parse(p.read_text("utf-8")) for p in inside}


def test_questions() -> None:
    assert (EACH.lead(N), ALL.lead(N)) == ((), (N,))
    assert (EACH.axis, ALL.axis) == (None, 0)
    assert EACH.inner((7, 2)) == ALL.inner((N, 7, 2)) == (7, 2)
    assert (EACH.seen((N, 7)), ALL.seen((N, 7))) == ((7,), (N, 7))
    assert (EACH.thin((7,)), ALL.thin((N, 7))) == ((7,), (1, 7))
    assert (EACH.executions(N), ALL.executions(N)) == (N, 1)
    assert EACH.one(X[0]).shape == (D,)
    assert ALL.one(X).shape == (1, D)


def test_columns() -> None:
    for points, lead in ((EACH, ()), (ALL, (N,))):
        assert points.columns(np.ones(lead)).shape == (*lead, 1)
        assert points.columns(np.ones((*lead, 2))).shape == (*lead, 2)


@pytest.mark.parametrize("k", range(N))
def test_moves_of_a_batch_are_those_of_every_point(k: int) -> None:
    varying, same = RNG.normal(size=(C, N, W)), RNG.normal(size=(C, W))
    np.testing.assert_array_equal(ALL.in_front(varying)[k], EACH.in_front(varying[:, k]))
    np.testing.assert_array_equal(np.broadcast_to(ALL.same(same), (C, N, W))[:, k], EACH.same(same))
    np.testing.assert_array_equal(ALL.everywhere(X[0], X)[k], EACH.everywhere(X[0], X[k]))
    deep = RNG.normal(size=(C, N, 2, 3))
    np.testing.assert_array_equal(ALL.flat(deep, 6, False)[:, k], EACH.flat(deep[:, k], 6, False))
    gradients, directions = RNG.normal(size=(K, N, D)), RNG.normal(size=(C, N, D))
    np.testing.assert_allclose(ALL.along(gradients, directions, False)[:, k], EACH.along(gradients[:, k], directions[:, k], False))
    np.testing.assert_allclose(ALL.along(gradients, directions[:, 0], True)[:, k], gradients[:, k] @ directions[:, 0].T)


def test_rows_become_channels() -> None:
    row, rows, zero = RNG.normal(size=D), RNG.normal(size=(N, D)), np.asarray(0.0)
    part, fixed = ALL.stacked([row, None], zero, numbers=False)
    assert part.shape == (2, 1, D) and fixed
    part, fixed = ALL.stacked([None, rows, row], zero, numbers=False)
    assert part.shape == (3, N, D) and not fixed
    for k in range(N):
        each, unmapped = EACH.stacked([None, rows[k], row], zero, numbers=False)
        np.testing.assert_array_equal(part[:, k], each)
        assert not unmapped
    # In a graph of one point only plain numbers are known to be the same at every point.
    assert EACH.stacked([row], zero, numbers=True)[1]


def test_nobody_else_asks_who_owns_the_axis() -> None:
    """`Bindings.per_point` holds names; everything else of that name, and every branch on the axis itself, belongs to the engine."""
    found = []
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == "per_point" and not ast.unparse(node.value).endswith(("bindings", "self")):
                found.append(f"{name}: {ast.unparse(node)}")
            if isinstance(node, ast.IfExp | ast.If | ast.Compare) and "points.axis" in ast.unparse(node.test if hasattr(node, "test") else node):
                found.append(f"{name}: {ast.unparse(node)[:80]}")
            if isinstance(node, ast.Name) and node.id in ("Mapped", "Batched"):
                found.append(f"{name}: {node.id}")
    assert not found


# Where a framework is meant and not asked for by its name: trainers, versions to note down, networks and drivers of one framework
# each, defaults.
NAMED = {
    "opdsl/training/trainer.py", "opdsl/training/solve.py", "opdsl/training/versions.py", "opdsl/training/jax_trainer.py",
    "opdsl/training/torch_trainer.py", "opdsl/training/checkpoint.py", "opdsl/commands/solve.py",
    "opdsl/lowrank/driver.py", "opdsl/lowrank/jax_driver.py", "opdsl/lowrank/jax_network.py", "opdsl/lowrank/torch_network.py",
    "opdsl/lowrank/network.py", "opdsl/lowrank/meta.py",
}  # fmt: skip


def test_frameworks_are_not_told_apart_by_their_names() -> None:
    found = []
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in ("jax", "torch", "numpy") and name not in NAMED:
                found.append(f"{name}:{node.lineno}")
    assert not found


def test_names_and_messages_are_plain_english() -> None:
    words = ("ladder", "ghost", "doubt")
    found = [
        f"{path.relative_to(ROOT)}: {word}" for folder in ("opdsl", "backends", "grammar") for path in (ROOT / folder).rglob("*.py")
        for word in words if word in path.read_text("utf-8").lower()
    ]  # fmt: skip
    assert not found
