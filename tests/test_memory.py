"""Inference on 10⁵ points: the peak is a few arrays of channels × batch × width of one layer, whatever the depth."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import opdsl

N, D, WIDTH = 100_000, 3, 16
LAPLACE = opdsl.operator("laplace(u)", coords="x y z")
CHANNELS = D + 2


def weights(depth: int) -> list[Any]:
    random = np.random.default_rng(0)
    sizes = [D, *[WIDTH] * depth, 1]
    return [random.normal(size=(a, b)) / np.sqrt(a) for a, b in zip(sizes, sizes[1:], strict=False)]


def numpy_net(depth: int) -> Any:
    layers = weights(depth)

    def u(p: Any) -> Any:
        for w in layers[:-1]:
            p = np.tanh(p @ w)
        return p @ layers[-1]

    return u


def numpy_peak(depth: int, n: int) -> float:
    """Peak of Python and NumPy allocations while an operator is evaluated, in arrays of (channels, n, width)."""
    x, u = np.random.default_rng(1).uniform(size=(n, D)), numpy_net(depth)
    step = LAPLACE.bind(u, x, strategy="forward_laplacian")
    step(x)
    gc.collect()
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    step(x)
    peak = tracemalloc.get_traced_memory()[1] - base
    tracemalloc.stop()
    return peak / (8.0 * n * WIDTH * CHANNELS)


class Ledger(TorchDispatchMode):
    """Bytes of tensor storages alive, counted at every operator: what an allocator would hold at most."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, Any] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for t in torch.utils._pytree.tree_leaves(out):
            if isinstance(t, torch.Tensor):
                storage = t.untyped_storage()
                self.alive[storage._cdata] = torch.multiprocessing.reductions.StorageWeakRef(storage)
        self.alive = {k: ref for k, ref in self.alive.items() if not ref.expired()}
        sizes = (torch.UntypedStorage._new_with_weak_ptr(ref.cdata) for ref in self.alive.values())
        self.peak = max(self.peak, sum(s.nbytes() for s in sizes if s is not None))
        return out


def torch_peak(depth: int, n: int) -> float:
    layers = [torch.tensor(w) for w in weights(depth)]

    def u(p: Any) -> Any:
        for w in layers[:-1]:
            p = torch.tanh(p @ w)
        return p @ layers[-1]

    x = torch.rand(n, D, dtype=torch.float64)
    with torch.no_grad():
        step = LAPLACE.bind(u, x, strategy="forward_laplacian")
        step(x)
        with Ledger() as ledger:
            step(x)
    return ledger.peak / (8.0 * n * WIDTH * CHANNELS)


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("peak", [numpy_peak, pytest.param(torch_peak, marks=pytest.mark.slow)], ids=["numpy", "torch"])
def test_peak_is_a_few_layers_and_does_not_grow_with_depth(peak: Any) -> None:
    """Depth 6 has 6 layers of activations; inference keeps the one it works on."""
    shallow, deep = peak(3, N), peak(6, N)
    assert deep < 1.05 * shallow, (shallow, deep)
    assert deep < 4.0, deep


@pytest.mark.parametrize("peak", [numpy_peak, torch_peak], ids=["numpy", "torch"])
def test_peak_is_proportional_to_the_batch(peak: Any) -> None:
    small, large = peak(3, N // 10), peak(3, N)
    assert abs(large / small - 1) < 0.25, (small, large)


def test_first_layer_channels_are_not_spread_over_the_batch() -> None:
    """An identity-Hessian operator on a linear map: no array of directions × batch is ever made."""
    n, d = 10_000, 200
    w, x = np.ones((d, 4)), np.ones((n, d))
    op = opdsl.operator("laplace(u)", coords=f"x[{d}]")
    step = op.bind(lambda p: np.tanh(p @ w) @ np.ones(4), x, strategy="forward_laplacian")
    step(x)
    tracemalloc.start()
    step(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seeds_over_batch = 8.0 * d * n * d
    hidden = 8.0 * d * n * 4
    assert peak < 3.0 * hidden < seeds_over_batch / 10, (peak, hidden, seeds_over_batch)
