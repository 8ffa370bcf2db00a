"""The rates of this machine: a few operators on plain networks, measured and fitted."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

from opdsl import backends
from opdsl.backends.execution import Constants
from opdsl.evaluation.api import operator
from opdsl.evaluation.options import Options
from opdsl.evaluation.tuning import measure
from opdsl.planning.planner import Network, Settings, make_plan
from opdsl.pricing import rates
from opdsl.pricing.abstract_arrays import Effort
from opdsl.pricing.cost import adapt

_CASES: tuple[tuple[str, str, str, int, int], ...] = (
    # text, coords, params, width, points: every kind of work in different mixtures
    ("laplace(u)", "x y", "", 128, 512),
    ("u_t + u u_x + u_xxx", "t x", "", 64, 1024),
    ("laplace(u)", "x[20]", "", 64, 256),
    ("d_x u", "x", "", 32, 256),
    ("laplace(laplace(u))", "x y", "", 128, 256),
    ("u_xxxxxx", "x", "", 24, 256),
    ("a_ij d_i d_j u", "x y z", "a_ij", 64, 256),
    ("u_x + u_y", "x y", "", 16, 64),
)


def calibrate(backend: str, *, budget: float = 50.0, progress: Callable[[str], None] = lambda _: None) -> tuple[Constants, str]:
    """Measure a few operators on plain networks and fit the rates of this machine; see ``opdsl tune``.

    Args:
        backend: the name of a backend.
        budget: seconds in all; no new case is begun later.
        progress: is told what is measured.

    Returns:
        The rates, and the device they are of.

    Raises:
        BackendError: the framework is not installed.
    """
    framework = backends.get(backend)
    modes = (False, True) if framework.differentiable else (False,)
    samples: dict[bool, list[tuple[Effort, float]]] = {mode: [] for mode in modes}
    compiling: dict[bool, list[float]] = {mode: [] if framework.compiles else [0.0] for mode in (False, True)}
    begin = perf_counter()
    device = "cpu"
    for text, coords, params, width, points in _CASES:
        op = operator(text, coords=coords, params=params or None, backend=backend)
        dimension = len(op.residual().coords)
        u, x, bound = framework.example((dimension, width, width, width, 1), points, {"a": dimension} if params else {})
        device = framework.device_of(x)
        for training in modes:
            if perf_counter() - begin > budget:
                break
            progress(f"{text} on {points} points, width {width}" + (", training" if training else ""))
            timings, _ = measure(op._session, u, x, Options(training=training), bound, budget / 100, hopeless=5.0)
            samples[training] += [(t.effort, t.seconds) for t in timings.values()]
            if framework.compiles:
                compiling[training] += [t.first / max(t.effort.calls + t.effort.steps, 1.0) for t in timings.values()]
    prior = rates.shipped(backend, device)
    evaluation = adapt(samples[False], prior.evaluation)
    # Without gradients three times an evaluation stands in.
    training_rates = adapt(samples[True] if True in modes else [(e, 3 * t) for e, t in samples[False]], prior.training)
    step = median(compiling[False]) if compiling[False] else prior.compile_step
    training_step = median(compiling[True]) if compiling[True] else prior.compile_training_step
    return Constants(evaluation, training_rates, step, training_step, source="measured"), device


def predictions(backend: str, device: str, found: Constants) -> dict[str, float]:
    """What rates say about a reference, in words and seconds: a plain pass, a Laplacian, and a training step on it."""
    residual = operator("laplace(u)", coords="x y").residual()
    network = Network.described(("u",), 2, (128, 128, 128), 1, backend, 1024)
    settings = Settings(strategy="forward_laplacian", backend=backend, device=device)
    effort = make_plan(residual, [network], settings, "laplace(u)")[0].groups[0].cost.effort
    out = {"a plain pass": found.evaluation.seconds(network.plain), "a Laplacian": found.evaluation.seconds(effort)}
    if backends.facts(backend).differentiable:
        out["a training step on a Laplacian"] = found.training.seconds(effort)
    return out
