"""One step of the fast phase: through the reduced network, the factored full one, and one whose matrices are multiplied out.

All three give the residual and the conditions of convection at 12 points and their gradient in the coefficients, and take a step of
Adam. They run in turns in one process; what is told are medians of processor time, and temporary memory as the compiler counts it.
"""

from __future__ import annotations

import gc
from statistics import median
from time import process_time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples.fast_lrnr.cases import CASES
from examples.fast_lrnr.run import SAMPLING
from opdsl import lowrank

GIVEN = {"beta": 6.0}


def measured(width: int, rank: int, reduced: int = 5, rounds: int = 7) -> dict[str, Any]:
    """Times in seconds and bytes by kind of step, float32."""
    family = CASES["convection"].family("paper")
    sampling = family.grid(SAMPLING, faces=False).astype(np.float32)
    net = lowrank.network(2, width=width, rank=rank, dtype="float32")
    start = process_time()
    fast = lowrank.reduce(net, family.places(sampling).astype(np.float32), rank=reduced, order=1)
    making = process_time() - start
    x = jnp.asarray(sampling)

    def multiplied_out(s: Any) -> Any:
        (first, bias), layers, (last, offset) = net.factors
        matrices = [(v * scale) @ u.T for (u, v), scale in zip(layers, s, strict=True)]

        def u(point: Any) -> Any:
            z = jnp.tanh(first @ point + bias)
            for w in matrices:
                z = jnp.tanh(w @ z)
            return last @ z + offset

        return u

    kinds = {"reduced": fast.with_coefficients, "factored": net.with_coefficients, "multiplied out": multiplied_out}
    optimiser = optax.adam(2.5e-5)
    steps: dict[str, Any] = {}
    found: dict[str, Any] = {"width": width, "rank": rank, "reduced": reduced, "making": making, "seconds": {}, "bytes": {}}
    for name, build in kinds.items():

        def loss(s: Any, build: Any = build) -> Any:
            terms = family.residuals(build(s), x, GIVEN)
            near = sum(jnp.abs(a - b).sum() for a, b in zip(s, net.coefficients, strict=True))
            return sum(jnp.abs(r).sum() for r in terms.values()) + 1e-3 * near

        def step(s: Any, state: Any, loss: Any = loss) -> Any:
            change, state = optimiser.update(jax.grad(loss)(s), state, s)
            return optax.apply_updates(s, change), state

        state = optimiser.init(net.coefficients)
        compiled = jax.jit(step).lower(net.coefficients, state).compile()
        memory = compiled.memory_analysis()
        found["bytes"][name] = int(memory.temp_size_in_bytes)
        steps[name] = (compiled, state, 200 if name == "reduced" else 3 if name == "factored" else 1)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, (compiled, state, repeats) in steps.items():
            gc.collect()
            start = process_time()
            for _ in range(repeats):
                jax.block_until_ready(compiled(net.coefficients, state))
            times[name].append((process_time() - start) / repeats)
    found["seconds"] = {name: median(values[1:]) for name, values in times.items()}
    found["ratio"] = {name: found["seconds"][name] / found["seconds"]["reduced"] for name in times}
    return found
