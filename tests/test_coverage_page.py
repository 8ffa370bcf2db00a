"""The page on coverage is the generated one, and what the registries declare is what captures do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from jax_corpus import GROUPS, POINT
from torch_corpus import FUNCTIONS, POINTS

from docs.generate.coverage import page, registries
from opdsl import backends
from opdsl.backends.jax.primitives import FUNCTIONS as LIBRARY
from opdsl.backends.torch.capture import capture
from opdsl.jets.graph import Constant, kinds_of

PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m docs.generate.coverage > docs/coverage.md"


def _nodes(backend: str) -> Any:
    if backend == "JAX":
        for table in GROUPS.values():
            for name, function in table.items():
                graph = backends.get("jax").capture(function, jnp.asarray(POINT)[None]).graph
                yield from ((name, node.primitive, graph, node) for node in graph.nodes)
    else:
        for name, function in FUNCTIONS.items():
            graph = capture(function, POINTS).capture.graph
            yield from ((name, node.primitive.removeprefix("aten."), graph, node) for node in graph.nodes)


@pytest.mark.parametrize("backend", ["JAX", "torch"])
def test_captures_use_the_kinds_that_the_registry_declares(backend: str) -> None:
    table = {**LIBRARY, **registries()["JAX"]} if backend == "JAX" else registries()["torch"]
    seen = set()
    for where, primitive, graph, node in _nodes(backend):
        entry = table.get(primitive) or table.get(primitive.partition(".")[0])
        # Whatever does not depend on the point is a constant.
        if entry is None or (isinstance(node.rule, Constant) and not set(node.inputs) & graph.dependent()):
            continue
        seen.add(primitive)
        if not isinstance(node.rule, Constant):
            assert type(node.rule) in kinds_of(entry), f"{primitive} in {where}: {type(node.rule).__name__}"
    assert len(seen) > 100
