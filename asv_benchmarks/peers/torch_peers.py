"""opdsl beside nested automatic differentiation on torch, eager. Run: python -m asv_benchmarks.peers.torch_peers"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

import opdsl
from opdsl.evaluation.tuning import round_robin

Net = torch.nn.Module
Tensor = torch.Tensor


def mlp(sizes: list[int]) -> Net:
    """A tanh network in float32."""
    torch.manual_seed(0)
    layers: list[Net] = []
    for a, b in pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def nested_reverse(net: Net, x: Tensor, order: int) -> Tensor:
    """Loops of torch.autograd.grad, the usual way in PINN codes."""
    x = x.detach().requires_grad_(True)
    y = net(x)
    for _ in range(order):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return y[:, 0]


def nested_forward(net: Net, x: Tensor, order: int) -> Tensor:
    """Nested torch.func.jvp."""
    f: Callable[[Tensor], Tensor] = net
    for _ in range(order):
        f = (lambda g: lambda z: torch.func.jvp(g, (z,), (torch.ones_like(z),))[1])(f)
    return f(x)[:, 0]


def high_orders(cases: list[dict[str, Any]], most: int) -> None:
    """d^n/dx^n of a width-24 network: value and parameter gradient."""
    for order in (1, 2, 3, 6, 9):
        if order > most:
            continue
        net = mlp([1, 24, 24, 24, 1])
        x = torch.linspace(-1, 1, 256)[:, None]
        op = opdsl.operator(f"d^{order}/dx^{order} u", coords="x")
        step = op.bind(net, x)
        peers: dict[str, Callable[[], Tensor]] = {
            "nested reverse": lambda net=net, x=x, order=order: nested_reverse(net, x, order),
            "opdsl": lambda step=step, x=x: step(x),
        }
        if order <= 6:
            peers["nested forward"] = lambda net=net, x=x, order=order: nested_forward(net, x, order)
        values = {k: f().detach() for k, f in peers.items()}
        scale = values["opdsl"].abs().max()
        for k, v in values.items():
            assert (v - values["opdsl"]).abs().max() < 2e-3 * scale, f"{k} disagrees at order {order}"

        def train(f: Callable[[], Tensor], net: Net = net) -> Callable[[], None]:
            def run() -> None:
                net.zero_grad()
                (f() ** 2).mean().backward()

            return run

        seconds = round_robin({k: train(f) for k, f in peers.items()}, budget=60.0)
        best = min(t for k, t in seconds.items() if k != "opdsl")
        case = {
            "case": f"d^{order}/dx^{order}", "strategy": op.plan(net, x).strategy,
            "gradient": {"milliseconds": {k: round(1e3 * t, 3) for k, t in seconds.items()},
                         "ratio": round(seconds["opdsl"] / best, 4)},
        }  # fmt: skip
        print(case, flush=True)
        cases.append(case)


def laplacians(cases: list[dict[str, Any]]) -> None:
    """Laplacian and biharmonic beside nested Hessians."""
    def trace(net: Net, x: Tensor) -> Tensor:
        return torch.func.vmap(lambda z: torch.func.hessian(lambda w: net(w)[0])(z).trace())(x)

    for d in (2, 10, 50):
        net, x = mlp([d, 256, 256, 256, 1]), torch.rand(256, d) * 2 - 1
        op = opdsl.operator("laplace(u)", coords=f"x[{d}]")
        step = op.bind(net, x)
        peers = {"Hessian": lambda net=net, x=x: trace(net, x), "opdsl": lambda step=step, x=x: step(x)}
        a, b = peers["Hessian"]().detach(), peers["opdsl"]().detach()
        assert (a - b).abs().max() < 1e-3 * a.abs().max()

        def quiet(f: Callable[[], Tensor]) -> Callable[[], None]:
            def run() -> None:
                with torch.no_grad():
                    f()

            return run

        seconds = round_robin({k: quiet(f) for k, f in peers.items()}, 20.0)
        case = {
            "case": f"laplacian d={d}", "strategy": op.plan(net, x).strategy,
            "evaluation": {"milliseconds": {k: round(1e3 * t, 3) for k, t in seconds.items()},
                           "ratio": round(seconds["opdsl"] / seconds["Hessian"], 4)},
        }  # fmt: skip
        print(case, flush=True)
        cases.append(case)


def main() -> None:
    """Run all groups and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("asv_benchmarks/peers/results_torch.json"))
    parser.add_argument("--most", type=int, default=9)
    given = parser.parse_args()
    cases: list[dict[str, Any]] = []
    laplacians(cases)
    high_orders(cases, given.most)
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "dtype": "float32"}
    given.out.write_text(json.dumps({"facts": facts, "cases": cases}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
