"""Frameworks in double precision on one thread, derandomised property tests, and one fixture per array framework."""

from __future__ import annotations

import gc
import os
from collections import Counter

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# Programs here are compiled once and run once: spend nothing on optimising them. What the environment says comes last and wins.
_FLAGS = "--xla_backend_optimization_level=0 --xla_cpu_multi_thread_eigen=false"
os.environ["XLA_FLAGS"] = f"{_FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()

import jax
import pytest
import torch
from engines import ENGINES, Engine
from hypothesis import HealthCheck, settings

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)

settings.register_profile(
    "opdsl", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("opdsl")


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each array framework in turn: JAX, torch, NumPy, and the strict array-API implementation."""
    return ENGINES[request.param]


@pytest.fixture(params=["jax", "torch"])
def differentiable(request: pytest.FixtureRequest) -> Engine:
    """The frameworks with automatic differentiation."""
    return ENGINES[request.param]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a family of like cases the first and every ``keep``-th belong to the quick run, the others to the thorough one."""
    seen: Counter[str] = Counter()
    for item in items:
        family = item.get_closest_marker("family")
        if family is not None and item.get_closest_marker("slow") is None:
            name = item.nodeid.partition("[")[0]
            if seen[name] % family.kwargs["keep"]:
                item.add_marker("thorough")
            seen[name] += 1


def pytest_collection_finish() -> None:
    """The frameworks are hundreds of thousands of objects that stay: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
