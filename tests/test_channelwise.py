"""Functions of the array API on all channels at once: each against the same function on one channel after another."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat.numpy
import array_api_strict
import numpy as np
import pytest
from numpy_corpus import DIRECTION, GROUPS, NUMPY, POINTS

from opdsl.backends.array_api import channelwise
from opdsl.backends.array_api.backend import NumpyBackend
from opdsl.backends.array_api.channelwise import RULES, ChannelNamespace, over_channels
from opdsl.jets.directional import Directional
from opdsl.jets.jet import Jet
from opdsl.jets.propagate import push_forward

XP = {"numpy": array_api_compat.numpy, "strict": array_api_strict}
CHANNELS = 3
Apply = Callable[..., Any]

# Text of an expression in xp and its operands, the shapes of one channel. Every choice of operands with channels is tried, unless
# the first ones alone may have them.
CASES: tuple[tuple[str, Sequence[tuple[int, ...]], int], ...] = (
    ("a + b", ((4, 2), (2,)), 2),
    ("b - a", ((4, 2), (2,)), 2),
    ("a * b / (3.0 + b)", ((2,), (4, 1)), 2),
    ("2.0 - a", ((4,),), 1),
    ("-abs(a) ** 2.0", ((4,),), 1),
    ("xp.where((a > b) & (a >= 0.0) | (a < -0.5), a, b)", ((2, 3), (3,)), 2),
    ("xp.where((a == a) & (a != b), a, xp.zeros_like(a)) * (a <= 1.0)", ((2, 3), (3,)), 1),
    ("xp.atan2(a, b)", ((3,), (2, 3)), 2),
    ("xp.maximum(xp.tanh(a), b)", ((3,), (2, 1)), 2),
    ("a.mT[..., 0]", ((2, 3),), 1),
    ("a[..., 1:, None]", ((2, 3),), 1),
    ("a[0, ...]", ((2, 3),), 1),
    ("a @ b", ((4, 2), (2, 3)), 2),
    ("a @ b", ((2,), (2, 3)), 2),
    ("a @ b", ((4, 2), (2,)), 2),
    ("a @ b", ((2,), (2,)), 2),
    ("a @ b", ((5, 4, 2), (2, 3)), 2),
    ("a @ b", ((4, 2), (5, 2, 3)), 2),
    ("a @ b", ((2,), (5, 2, 3)), 2),
    ("a @ b", ((5, 4, 2), (2,)), 2),
    ("a @ b", ((6, 1, 4, 2), (5, 2, 3)), 2),
    ("xp.matmul(a, b)", ((4, 2), (2, 3)), 2),
    ("xp.tensordot(a, b, axes=1)", ((5, 4, 2), (2, 3)), 2),
    ("xp.tensordot(a, b, axes=((0, -1), (1, 0)))", ((5, 4, 2), (2, 5, 3)), 2),
    ("xp.tensordot(a, b, axes=0)", ((2,), (3,)), 2),
    ("xp.sum(a)", ((4, 2),), 1),
    ("xp.sum(a, axis=-2, keepdims=True)", ((4, 2),), 1),
    ("xp.mean(a, axis=(0, -1))", ((4, 2, 3),), 1),
    ("xp.max(a, axis=0) + xp.min(a) * xp.prod(a, axis=-1)", ((2, 2),), 1),
    ("xp.cumulative_sum(a, axis=-1)", ((4, 2),), 1),
    ("xp.cumulative_sum(a, include_initial=True)", ((4,),), 1),
    ("xp.sort(a, axis=0) + xp.sort(a)", ((4, 2),), 1),
    ("xp.take_along_axis(a, xp.argsort(a, axis=0), axis=0)", ((4, 2),), 1),
    ("xp.take_along_axis(a, xp.argsort(b, axis=0), axis=0)", ((4, 2), (4, 2)), 2),
    ("xp.take(a, index, axis=-1)", ((4, 3),), 1),
    ("xp.take(a, index)", ((4,),), 1),
    ("xp.take(a, index, axis=0)", ((4, 3),), 1),
    ("xp.roll(a, 1, axis=-1)", ((4, 2),), 1),
    ("xp.roll(a, (1, 2), axis=(0, 1))", ((4, 3),), 1),
    ("xp.roll(a, 3)", ((4, 3),), 1),
    ("xp.repeat(a, 2, axis=-2)", ((4, 2),), 1),
    ("xp.tile(a, (2, 1))", ((4, 2),), 1),
    ("xp.tile(a, (3, 1, 2))", ((4, 2),), 1),
    ("xp.tile(a, (2,))", ((4, 2),), 1),
    ("xp.flip(a)", ((4, 2),), 1),
    ("xp.flip(a, axis=0)", ((4, 2),), 1),
    ("xp.reshape(a, (2, -1))", ((4, 3),), 1),
    ("xp.permute_dims(a, (2, 0, 1))", ((4, 3, 2),), 1),
    ("xp.matrix_transpose(a)", ((5, 4, 3),), 1),
    ("xp.moveaxis(a, 0, -1)", ((4, 3, 2),), 1),
    ("xp.moveaxis(a, (0, 1), (2, 0))", ((4, 3, 2),), 1),
    ("xp.broadcast_to(a, (5, 4, 3))", ((4, 1),), 1),
    ("xp.expand_dims(a, axis=-1) + xp.expand_dims(a, axis=0)", ((3,),), 1),
    ("xp.squeeze(a, axis=0)", ((1, 3),), 1),
    ("xp.squeeze(a, axis=(0, -1))", ((1, 3, 1),), 1),
    ("xp.concat([a, b], axis=-1)", ((4, 1), (4, 2)), 2),
    ("xp.concat([a, b], axis=0)", ((4, 1), (2, 1)), 2),
    ("xp.concat([a, b], axis=None)", ((4, 1), (2, 2)), 2),
    ("xp.stack([a, b], axis=1)", ((4, 2), (4, 2)), 2),
    ("xp.stack([a, b], axis=-1)", ((4, 2), (4, 2)), 2),
    ("xp.tril(a, k=-1) + xp.triu(a)", ((3, 3),), 1),
    ("xp.astype(xp.astype(a, xp.float32), xp.float64)", ((3,),), 1),
    ("xp.linalg.trace(a) + xp.linalg.diagonal(a)[..., 0]", ((5, 3, 3),), 1),
    ("xp.linalg.cross(a, b)", ((4, 3), (4, 3)), 2),
    ("xp.linalg.solve(a + 3.0 * xp.eye(3), b)", ((3, 3), (3, 2)), 2),
    ("xp.linalg.solve(a + 3.0 * xp.eye(3), b)", ((5, 3, 3), (5, 3, 2)), 2),
    ("xp.linalg.solve(a + 3.0 * xp.eye(3), b)", ((3, 3), (5, 3, 2)), 2),
    ("xp.linalg.solve(a + 3.0 * xp.eye(3), b)", ((5, 3, 3), (3,)), 2),
    ("xp.linalg.inv(a + 3.0 * xp.eye(3)) * xp.linalg.det(a)[..., None, None]", ((5, 3, 3),), 1),
)  # fmt: skip
NUMPY_ONLY: tuple[tuple[str, Sequence[tuple[int, ...]], int], ...] = (
    ("xp.einsum('ij,jk->ik', a, b)", ((4, 2), (2, 3)), 2),
    ("xp.einsum('ij,jk', a, b)", ((4, 2), (2, 3)), 2),
    ("xp.einsum('...i,...j->...ij', a, b)", ((4, 2), (3,)), 2),
    ("xp.einsum('...ii->...i', a)", ((4, 2, 2),), 1),
    ("xp.einsum('...i,i', a, b)", ((5, 4, 2), (2,)), 2),
    ("xp.squeeze(a)", ((1, 3, 1),), 1),
    ("a[:, [2, 0]]", ((4, 3),), 1),
    ("a[[1, 2], :, [0, 1]]", ((4, 3, 2),), 1),
    ("a[0, :, [0, 1]]", ((4, 3, 2),), 1),
    ("a[index > 0]", ((3,),), 1),
)


def _cases() -> list[Any]:
    both = [(name, *case) for name in XP for case in CASES]
    return [pytest.param(*c, id=f"{c[0]}-{c[1]}-{c[2]}") for c in (*both, *(("numpy", *case) for case in NUMPY_ONLY))]


@pytest.mark.parametrize(("library", "text", "shapes", "movable"), _cases())
def test_one_call_is_the_calls_for_every_channel(
    library: str, text: str, shapes: Sequence[tuple[int, ...]], movable: int
) -> None:
    xp = XP[library]
    random = np.random.default_rng(0)
    space, index = ChannelNamespace(xp), xp.asarray([2, 0, 1])

    def apply(namespace: Any) -> Apply:
        return lambda *operands: eval(text, {"xp": namespace, "index": index, "abs": abs, **dict(zip("ab", operands, strict=False))})

    for choice in range(1, 2**movable):
        mapped = [bool(choice >> k & 1) for k in range(len(shapes))]
        # The standard leaves open what an array does with a stranger on its right: rules write such products as functions.
        if library == "strict" and len(set(mapped)) > 1 and re.search(r"[ab] [^ ,]+ [ab]", text):
            continue
        plain = [random.normal(size=(CHANNELS, *s) if m else s) for s, m in zip(shapes, mapped, strict=True)]
        arrays = [xp.asarray(p) for p in plain]
        found = over_channels(xp, apply(space), arrays, mapped)
        rows = [apply(xp)(*(a[c, ...] if m else a for a, m in zip(arrays, mapped, strict=True))) for c in range(CHANNELS)]
        expected = np.stack([np.asarray(r) for r in rows])
        assert np.asarray(found).shape == expected.shape
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-12)


def test_every_rule_of_the_table_stands_above() -> None:
    written = " ".join(text for text, _, _ in (*CASES, *NUMPY_ONLY))
    assert [name for name, rule in RULES.items() if rule is not channelwise._pointwise and f"xp.{name}(" not in written] == [
        "all", "any", "count_nonzero", "cumulative_prod",
    ]  # fmt: skip


def test_what_is_the_same_for_every_channel_comes_back_for_each() -> None:
    found = over_channels(np, lambda a: (a, np.ones(2)), [np.zeros((3, 5))], [True])
    assert [p.shape for p in found] == [(3, 5), (3, 2)]


@pytest.mark.parametrize("text", ["np.sum(a)", "np.tanh(a)", "np.asarray(a)", "np.ones(3) + np.sum(a)"])
def test_functions_of_the_framework_itself_never_see_channels(text: str) -> None:
    with pytest.raises(TypeError):
        over_channels(np, lambda a: eval(text, {"np": np, "a": a}), [np.zeros((3, 5))], [True])


TABLES = {**GROUPS, "numpy": NUMPY}


@pytest.mark.parametrize("group", TABLES)
def test_no_function_of_the_corpus_is_called_channel_by_channel(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("channel by channel")

    monkeypatch.setattr(channelwise, "one_by_one", refuse)
    backend = NumpyBackend()
    algebra = Directional([(2, 2)])
    seed = Jet(POINTS, (np.stack([np.broadcast_to(d, POINTS.shape) for d in (DIRECTION, DIRECTION[::-1])]), None), (False, False), 0)
    for name, function in TABLES[group].items():
        own = name in {"sort downwards", "fresh array"}
        captured = backend.capture(lambda p, f=function, own=own: f(p.__array_namespace__() if own else np, p), POINTS)
        with np.errstate(all="ignore"):
            push_forward(captured.graph, algebra, seed, captured.constants, backend.ops, frozenset(range(2)))
