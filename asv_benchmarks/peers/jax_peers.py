"""opdsl beside its peers on JAX: folx, nested forward mode, nested reverse mode. Run: python -m asv_benchmarks.peers.jax_peers"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import opdsl
from opdsl.evaluation.tuning import round_robin

Params = list[tuple[Any, Any]]
Function = Callable[[Params, Any], Any]


def network(sizes: list[int], seed: int = 0) -> Params:
    """A tanh network in float32."""
    rng = np.random.default_rng(seed)
    return [
        (jnp.asarray(rng.normal(size=(a, b)) / np.sqrt(a), jnp.float32), jnp.asarray(0.1 * rng.normal(size=b), jnp.float32))
        for a, b in pairwise(sizes)
    ]


def u(params: Params, x: Any) -> Any:
    """One output per point."""
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b)
    w, b = params[-1]
    return (x @ w + b)[0]


def points(n: int, d: int) -> Any:
    """Random points in [-1, 1]^d."""
    return jnp.asarray(np.random.default_rng(1).uniform(-1, 1, size=(n, d)), jnp.float32)


def compare(name: str, peers: dict[str, Function], ours: str, params: Params, x: Any, *, gradient: bool) -> dict[str, Any]:
    """Time evaluation (and value with parameter gradient) of all, check that they agree."""
    out: dict[str, Any] = {"case": name}
    reference = None
    for what in ("evaluation", "gradient") if gradient else ("evaluation",):
        compiled: dict[str, Callable[[], object]] = {}
        compile_seconds = {}
        for peer, f in peers.items():
            body = f if what == "evaluation" else jax.value_and_grad(lambda p, x, f=f: jnp.mean(f(p, x) ** 2))
            g = jax.jit(body)
            start = time.perf_counter()
            value = jax.block_until_ready(g(params, x))
            compile_seconds[peer] = time.perf_counter() - start
            compiled[peer] = lambda g=g: jax.block_until_ready(g(params, x))
            if what == "evaluation":
                reference = value if reference is None else reference
                scale = float(jnp.abs(reference).max())
                assert float(jnp.abs(value - reference).max()) < 2e-3 * scale, f"{peer} disagrees on {name}"
        seconds = round_robin(compiled, 20.0)
        best = min((t for p, t in seconds.items() if p not in (ours, "plain")), default=float("nan"))
        fastest_compile = min(t for p, t in compile_seconds.items() if p not in (ours, "plain"))
        out[what] = {
            "milliseconds": {p: round(1e3 * t, 3) for p, t in seconds.items()},
            "ratio": round(seconds[ours] / best, 3),
            "compile_ratio": round(compile_seconds[ours] / fastest_compile, 3),
        }
        print(f"{name:<28} {what:<10} ratio {out[what]['ratio']:<7} compile {out[what]['compile_ratio']:<7} {out[what]['milliseconds']}",
              flush=True)  # fmt: skip
    return out


def bound(text: str, coords: str, params: Params, x: Any, **given: Any) -> tuple[Function, str]:
    """Our function, the strategy chosen by the planner, and its name."""
    op = opdsl.operator(text, coords=coords)
    plan = op.plan(u, x, params=params, **given)
    return op.bind(u, x, params=params, **given), plan.strategy


def laplacians(cases: list[dict[str, Any]]) -> None:
    """Second and fourth order beside folx."""
    import folx

    def lap(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda z: folx.forward_laplacian(f)(z).laplacian

    for d in (2, 10, 50):
        params, x = network([d, 256, 256, 256, 1]), points(256, d)
        ours, name = bound("laplace(u)", f"x[{d}]", params, x)
        peers: dict[str, Function] = {
            "folx": lambda p, x: jax.vmap(lap(lambda z: u(p, z)))(x),
            "opdsl": ours,
            "plain": lambda p, x: jax.vmap(lambda z: u(p, z))(x),
        }
        del peers["plain"]
        cases.append({**compare(f"laplacian d={d}", peers, "opdsl", params, x, gradient=True), "strategy": name})
    for d in (2, 5):
        params, x = network([d, 256, 256, 256, 1]), points(256, d)
        ours, name = bound("bilap(u)", f"x[{d}]", params, x)
        peers = {"folx∘folx": lambda p, x: jax.vmap(lap(lap(lambda z: u(p, z))))(x), "opdsl": ours}
        cases.append({**compare(f"biharmonic d={d}", peers, "opdsl", params, x, gradient=True), "strategy": name})


def nested(order: int, mode: str) -> Function:
    """d^n/dx^n by nested forward or reverse mode."""
    def start(p: Params, t: Any) -> Any:
        return u(p, t[None])

    f: Function = start
    for _ in range(order):
        if mode == "reverse":
            f = jax.grad(f, argnums=1)
        else:
            f = (lambda g: lambda p, t: jax.jvp(lambda s: g(p, s), (t,), (jnp.ones_like(t),))[1])(f)
    return lambda p, x: jax.vmap(lambda t: f(p, t))(x[:, 0])


def high_orders(cases: list[dict[str, Any]], most: int) -> None:
    """d^n/dx^n of a width-24 network."""
    for order in (1, 2, 3, 6, 9):
        if order > most:
            continue
        params, x = network([1, 24, 24, 24, 1]), points(256, 1)
        ours, name = bound(f"d^{order}/dx^{order} u", "x", params, x, training=True)
        peers = {"nested forward": nested(order, "forward"), "opdsl": ours}
        if order <= 6:  # nested reverse mode of order 9 takes many minutes to compile and is the slower one from order 2 on
            peers["nested reverse"] = nested(order, "reverse")
        cases.append({**compare(f"d^{order}/dx^{order}", peers, "opdsl", params, x, gradient=True), "strategy": name})


def partial(f: Function, *axes: int) -> Function:
    """Nested reverse mode along coordinates."""
    for a in axes:
        f = (lambda g, a: lambda p, z: jax.grad(g, argnums=1)(p, z)[a])(f, a)  # noqa: B023
    return f


def residuals(cases: list[dict[str, Any]]) -> None:
    """The high-order residuals of the STDE paper beside nested reverse mode."""
    d = partial

    def kdv(p: Params, z: Any) -> Any:
        # u_ty + u_xxxy + 3 (u_y u_x)_x − u_xx + 2 u_yy with coordinates t, x, y
        return (
            d(u, 0, 2)(p, z) + d(u, 1, 1, 1, 2)(p, z)
            + 3 * (d(u, 1, 2)(p, z) * d(u, 1)(p, z) + d(u, 2)(p, z) * d(u, 1, 1)(p, z))
            - d(u, 1, 1)(p, z) + 2 * d(u, 2, 2)(p, z)
        )  # fmt: skip

    def kp(p: Params, z: Any) -> Any:
        # (u_t + 6 u u_x + u_xxx)_x + 3 u_yy
        ux = d(u, 1)(p, z)
        return d(u, 0, 1)(p, z) + 6 * (ux * ux + u(p, z) * d(u, 1, 1)(p, z)) + d(u, 1, 1, 1, 1)(p, z) + 3 * d(u, 2, 2)(p, z)

    def gkdv(p: Params, z: Any) -> Any:
        return d(u, 0)(p, z) + u(p, z) * d(u, 1)(p, z) + 0.5 * d(u, 1, 1, 1)(p, z)

    for name, text, coords, by_hand in (
        ("2-D KdV", "u_ty + u_xxxy + 3 (u_y u_x)_x - u_xx + 2 u_yy", "t x y", kdv),
        ("KP", "(u_t + 6 u u_x + u_xxx)_x + 3 u_yy", "t x y", kp),
        ("g-KdV", "u_t + u u_x + 1/2 u_xxx", "t x", gkdv),
    ):
        n = len(coords.split())
        params, x = network([n, 128, 128, 128, 1]), points(1000, n)
        ours, strategy = bound(text, coords, params, x)
        peers = {"nested reverse": lambda p, x, f=by_hand: jax.vmap(lambda z: f(p, z))(x), "opdsl": ours}
        cases.append({**compare(name, peers, "opdsl", params, x, gradient=True), "strategy": strategy})


def main() -> None:
    """Run all groups and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("asv_benchmarks/peers/results_jax.json"))
    parser.add_argument("--most", type=int, default=9, help="highest order of d^n/dx^n (order 9 compiles for minutes)")
    given = parser.parse_args()
    cases: list[dict[str, Any]] = []
    laplacians(cases)
    residuals(cases)
    high_orders(cases, given.most)
    facts = {"jax": jax.__version__, "device": jax.devices()[0].platform, "dtype": "float32"}
    given.out.write_text(json.dumps({"facts": facts, "cases": cases}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
