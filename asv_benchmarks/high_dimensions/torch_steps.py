"""Training steps on torch: exact, sampled by opdsl, sampled as published, and plain forward and backward for scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import opdsl
from asv_benchmarks.high_dimensions import problem
from opdsl import backends


class Network(torch.nn.Module):
    """(1 − |x|²) v(x), the same initial weights as on JAX."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList()
        for w, b in problem.weights(d):
            layer = torch.nn.Linear(*w.shape, device="meta")
            layer.weight = torch.nn.Parameter(torch.from_numpy(w).T.contiguous())
            layer.bias = torch.nn.Parameter(torch.from_numpy(b))
            self.layers.append(layer)

    def forward(self, x: Any) -> Any:
        h = x
        for layer in self.layers[:-1]:  # type: ignore[index]
            h = torch.tanh(layer(h))
        return (1.0 - (x * x).sum(-1)) * self.layers[-1](h)[..., 0]


def published(net: Network, x: Any, number: int) -> Any:
    """Forward mode twice per direction along dense one-hots; one draw for all points."""
    d = x.shape[-1]
    chosen = backends.get("torch").subsets(number, 1, problem.SAMPLES, d, x)[0]
    drawn = torch.nn.functional.one_hot(chosen, d).to(x.dtype)

    def along(point: Any, v: Any) -> Any:
        return torch.func.jvp(lambda y: torch.func.jvp(net, (y,), (v,)), (point,), (v,))

    inside = torch.func.vmap(along, in_dims=(None, 0))
    (values, _), (_, second) = torch.func.vmap(inside, in_dims=(0, None))(x, drawn)
    return values[:, 0] - values[:, 0] ** 3 + d / problem.SAMPLES * second.sum(-1)


class Training:
    """A network and Adam, shared by all variants so that only one of each lives in memory."""

    def __init__(self, d: int) -> None:
        self.d, self.net = d, Network(d)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def step(self, variant: str) -> Callable[..., float]:
        """One Adam step on (points, forcing, number); returns the loss when it is done."""
        op = opdsl.operator(problem.EQUATION, coords=f"x[{self.d}]", fields="u")
        like = torch.zeros(problem.POINTS, self.d)
        if variant == "exact":
            exact = op.bind(self.net, like, strategy=problem.exact(self.d), training=True)
            residual: Callable[[Any, int], Any] = lambda x, number: exact(x)  # noqa: E731
        elif variant == "stde":
            sampled = op.bind(self.net, like, strategy=opdsl.STDE(problem.SAMPLES, key=0), training=True)
            residual = lambda x, number: sampled(x, key=number)  # noqa: E731
        elif variant == "published":
            residual = lambda x, number: published(self.net, x, number)  # noqa: E731
        else:
            residual = lambda x, number: self.net(x)  # noqa: E731

        def run(x: Any, g: Any, number: int) -> float:
            self.optimizer.zero_grad(set_to_none=True)
            loss = ((residual(x, number) - g) ** 2).mean()
            loss.backward()
            self.optimizer.step()
            return float(loss.detach())

        return run

    def arrays(self, x: Any, g: Any) -> tuple[Any, Any]:
        """Points and forcing as tensors."""
        return torch.from_numpy(x), torch.from_numpy(g)


def facts() -> dict[str, str]:
    """What was measured on."""
    return {"torch": torch.__version__, "threads": str(torch.get_num_threads()), "dtype": "float32"}


def precision(d: int, x: Any) -> float:
    """Relative error of the exact residual in float32 against float64 on the same numbers."""
    op = opdsl.operator(problem.EQUATION, coords=f"x[{d}]", fields="u")
    net, found = Network(d).requires_grad_(False), []
    for dtype in (torch.float32, torch.float64):
        net = net.to(dtype)
        found.append(op(net, torch.from_numpy(x).to(dtype), strategy="pull_back").double())
    return float((found[0] - found[1]).norm() / found[1].norm())
