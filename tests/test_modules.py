"""Modules of the libraries people build networks with: as they come, against nested differentiation."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from references import nested_jvp, torch_loop
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import opdsl

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import equinox as eqx
    from flax import linen, nnx

POINTS = np.array([[0.3, -0.6], [0.8, 0.1]])
MEANING: dict[str, list[tuple[float, tuple[int, ...]]]] = {
    "laplace(u)": [(1, (0, 0)), (1, (1, 1))],
    "laplace(laplace(u))": [(1, (0, 0, 0, 0)), (2, (0, 0, 1, 1)), (1, (1, 1, 1, 1))],
    "u_xxxxx": [(1, (0, 0, 0, 0, 0))],
}
"""Each text as a sum of weights times partial derivatives, for loops of the framework's own reverse mode."""
TEXTS = [pytest.param(text, marks=[] if text == "laplace(u)" else pytest.mark.slow) for text in MEANING]
"""The reference costs more than the thing itself from order 4 on."""
KEYS = jax.random.split(jax.random.key(0), 4)


def equinox_attention() -> Callable[[Any], Any]:
    first = eqx.nn.Linear(2, 12, key=KEYS[0])
    attention = eqx.nn.MultiheadAttention(2, 4, key=KEYS[1])
    norm = eqx.nn.LayerNorm(4)

    def network(p: Any) -> Any:
        h = first(p).reshape(3, 4)
        return jnp.sum(jax.vmap(norm)(attention(h, h, h)) * h)

    return network


def equinox_recurrent() -> Callable[[Any], Any]:
    cell = eqx.nn.GRUCell(1, 4, key=KEYS[0])

    def network(p: Any) -> Any:
        end, _ = jax.lax.scan(lambda h, x: (cell(x[None], h), None), jnp.zeros(4), jnp.tile(p, 3))
        return jnp.sum(end)

    return network


def equinox_norms() -> Callable[[Any], Any]:
    first, last = eqx.nn.WeightNorm(eqx.nn.Linear(2, 8, key=KEYS[0])), eqx.nn.MLP(8, "scalar", 6, 2, jax.nn.silu, key=KEYS[1])
    group, rms = eqx.nn.GroupNorm(2, 8), eqx.nn.RMSNorm(8)
    return lambda p: last(rms(group(first(p))))


class LinenAttention(linen.Module):
    @linen.compact
    def __call__(self, p: Any) -> Any:
        h = linen.Dense(12, param_dtype=jnp.float64)(p).reshape(3, 4)
        h = h + linen.MultiHeadDotProductAttention(2, param_dtype=jnp.float64)(linen.LayerNorm(param_dtype=jnp.float64)(h))
        return linen.BatchNorm(use_running_average=True, param_dtype=jnp.float64)(linen.gelu(h)).sum()


def flax_linen() -> Callable[[Any], Any]:
    module = LinenAttention()
    # The statistics of the batch norm come in single precision, and XLA rounds their square root as it likes.
    variables = jax.tree.map(lambda a: a.astype(jnp.float64), module.init(KEYS[0], jnp.asarray(POINTS[0])))
    return lambda p: module.apply(variables, p)


def flax_nnx() -> Callable[[Any], Any]:
    rngs = nnx.Rngs(0)
    first = nnx.Linear(2, 12, param_dtype=jnp.float64, rngs=rngs)
    attention = nnx.MultiHeadAttention(2, 4, param_dtype=jnp.float64, decode=False, rngs=rngs)
    norm = nnx.LayerNorm(4, param_dtype=jnp.float64, rngs=rngs)

    def network(p: Any) -> Any:
        h = first(p).reshape(3, 4)
        return jnp.sum(norm(attention(h)) * h)

    return network


def haiku() -> Callable[[Any], Any]:
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")

    def forward(p: Any) -> Any:
        h = hk.nets.MLP([6, 6], activation=jnp.tanh)(p)
        return jnp.sum(hk.LayerNorm(-1, True, True)(h) * h)

    network = hk.without_apply_rng(hk.transform(forward))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parameters = network.init(KEYS[0], jnp.asarray(POINTS[0]))
    return lambda p: network.apply(parameters, p)


def sharded() -> Callable[[Any], Any]:
    mesh = jax.make_mesh((1,), ("features",))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "features"))
    weight = jax.device_put(jnp.asarray(np.random.default_rng(0).normal(size=(2, 6))), place)
    return lambda p: jnp.tanh(p @ weight).prod()


JAX = {f.__name__: f for f in (equinox_attention, equinox_recurrent, equinox_norms, flax_linen, flax_nnx, haiku, sharded)}


@pytest.mark.family(keep=5)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", JAX)
def test_jax(name: str, text: str) -> None:
    network, x = JAX[name](), jnp.asarray(POINTS)
    op = opdsl.operator(text, coords="x y")
    truth = sum(weight * nested_jvp(network, POINTS, axes) for weight, axes in MEANING[text])
    found = op(network, x, strategy="n_tangentprop" if text == "u_xxxxx" else "collapsed_taylor")
    # The attention of nnx casts its scores to float32, which derivatives of higher order magnify.
    tolerance = 1e-9 if name != "flax_nnx" else 1e-5 if text == "laplace(u)" else 1e-2
    np.testing.assert_allclose(found, truth, rtol=tolerance, atol=tolerance)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 12)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0), 2)

    def forward(self, x: Any) -> Any:
        return (self.encoder(self.first(x).reshape(-1, 3, 4)) * self.first(x).reshape(-1, 3, 4)).sum((1, 2))


class Gelu(Encoder):
    """Norm first, smooth."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0, norm_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.body, self.reentrant = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)), reentrant

    def forward(self, x: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(self.body, x, use_reentrant=self.reentrant)


class Siren(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 6), nn.Linear(6, 6), nn.Linear(6, 1)])

    def forward(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = torch.sin(3.0 * layer(x))
        return self.layers[-1](x)


class Symmetric(nn.Module):
    """A parametrisation of one's own."""

    def forward(self, w: Any) -> Any:
        return w.triu() + w.triu(1).mT


def parametrised() -> nn.Module:
    middle = nn.Linear(6, 6)
    nn.utils.parametrize.register_parametrization(middle, "weight", Symmetric())
    return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), middle, nn.Sigmoid(), nn.Linear(6, 1))


def spectral() -> nn.Module:
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 6)), nn.Tanh(), nn.Linear(6, 1))
    net(torch.zeros(1, 2))
    return net.eval()


def batch_norm() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.Softplus(), nn.Linear(6, 1))
    net(torch.randn(16, 2))
    return net.eval()


TORCH: dict[str, Callable[[], nn.Module]] = {
    "transformer encoder": Encoder,
    "transformer encoder, norm first": Gelu,
    "checkpoint": lambda: Checkpointed(False),
    "checkpoint, reentrant": lambda: Checkpointed(True),
    "siren": Siren,
    "parametrisation": parametrised,
    "spectral norm": spectral,
    "batch norm in evaluation": batch_norm,
    "convolution on unflattened features": lambda: nn.Sequential(
        nn.Linear(2, 6), nn.Tanh(), nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 2, 2), nn.Flatten()
    ),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", TORCH)
def test_torch(name: str, text: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = copy.deepcopy(TORCH[name]()).double()
    x = torch.tensor(POINTS)

    def function(p: Any) -> Any:
        return network(p).reshape(len(p), -1).sum(1)

    op = opdsl.operator(text, coords="x y")
    def plain(p: Any) -> Any:
        # Fused attention has no second derivative on torch, and a reentrant checkpoint none at all: the same without them.
        again = copy.deepcopy(network)
        for module in again.modules():
            if isinstance(module, Checkpointed):
                module.reentrant = False
        return again(p).reshape(len(p), -1).sum(1)

    with sdpa_kernel(SDPBackend.MATH):
        truth = sum(weight * torch_loop(plain, POINTS, axes) for weight, axes in MEANING[text])
    found = op(function, x, strategy="n_tangentprop" if text == "u_xxxxx" else "collapsed_taylor")
    np.testing.assert_allclose(found.detach().numpy(), truth, rtol=1e-9, atol=1e-9)
