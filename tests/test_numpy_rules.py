"""Every rule of the NumPy backend against nested `jax.jvp` of the same function written for JAX, in double precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_corpus import DIRECTION, GROUPS, NUMPY, POINTS, REFUSED

import opdsl
from opdsl import backends
from opdsl.backends.array_api.namespace import RecordingNamespace
from opdsl.errors import CaptureError
from opdsl.jets.directional import Directional
from opdsl.jets.jet import Jet
from opdsl.jets.propagate import push_forward

BACKEND = backends.get("numpy")
TABLES = {**GROUPS, "numpy": NUMPY}
LATER = {"sort downwards", "fresh array"}
"""What NumPy itself lacks or does not hand on: written against the namespace of the points alone."""


def cases(groups: Iterable[str], slow: Iterable[str] = ("matrices",)) -> list[Any]:
    """Nested derivatives of the matrix functions take JAX a minute to compile."""
    return [
        pytest.param(group, name, marks=[pytest.mark.slow] if group in slow else [], id=f"{group}-{name}")
        for group in groups
        for name in TABLES[group]
    ]


# Third derivatives by polarisation: 6 D³[v, v, w] = D³[(v + w)³] − D³[(v − w)³] − 2 D³[w³].
X, Y, Z = np.eye(3)
LINES = np.stack([X, Y, Z, X + Y, X - Y, Y + Z, Y - Z])


def number(xp: Any, value: Any, inputs: int) -> Any:
    """One number per point: every entry counts, each differently. ``inputs``: axes of the argument, that of the points too."""
    if len(value.shape) < inputs:
        return xp.sin(value)
    return xp.sum(xp.sin(value) * xp.asarray(np.linspace(1.0, 2.0, value.shape[-1])), axis=-1)


def derivatives(function: Callable[[Any], Any], order: int) -> list[Any]:
    """At 0, by differentiating again and again."""
    out, current = [], function
    for _ in range(order + 1):
        out.append(current(0.0))
        current = _slope(current)
    return out


@cache
def along_the_direction(group: str, order: int) -> dict[str, list[Any]]:
    """Of every function of a group the derivatives along `DIRECTION` up to an order."""
    table = TABLES[group]

    def at(p: Any) -> Any:
        return derivatives(lambda t: [f(jnp, p + t * DIRECTION) * 1.0 for f in table.values()], order)

    found = jax.jit(jax.vmap(at))(jnp.asarray(POINTS))
    return {name: [np.asarray(a[k]) for a in found] for k, name in enumerate(table)}


@cache
def residuals(group: str) -> dict[str, dict[str, Any]]:
    """Of the `number` of every function of a group, by text."""
    table = TABLES[group]

    def at(p: Any, v: Any) -> Any:
        return derivatives(lambda t: jnp.stack([number(jnp, f(jnp, p + t * v) * 1.0, 1) for f in table.values()]), 3)

    lines = jax.jit(jax.vmap(jax.vmap(at, (0, None)), (None, 0)))(jnp.asarray(POINTS), jnp.asarray(LINES))
    second, third = (np.asarray(a) for a in lines[2:])
    found = {
        "laplace(u)": second[0] + second[1] + second[2],
        "u_xxy - 2 u_yyz": (third[3] - third[4] - 2 * third[1]) / 6 - (third[5] - third[6] - 2 * third[2]) / 3,
    }
    return {name: {text: a[:, k] for text, a in found.items()} for k, name in enumerate(table)}


def _slope(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda t: jax.jvp(function, (t,), (1.0,))[1]


def assert_near(found: Any, expected: Any, where: str) -> None:
    """Relative to the largest entry, or to one."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    assert found.shape == expected.shape, where
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1.0, np.abs(expected).max(initial=0.0)), err_msg=where)


@pytest.mark.family(keep=4)
@pytest.mark.parametrize("order", [3, pytest.param(4, marks=pytest.mark.slow)])
# The groups of the standard go through the public call below, to the same order.
@pytest.mark.parametrize(("group", "name"), cases(TABLES, slow=GROUPS))
def test_coefficients_along_a_direction(group: str, name: str, order: int) -> None:
    function = TABLES[group][name]
    captured = BACKEND.capture(lambda p: function(p.__array_namespace__() if name in LATER else np, p), POINTS)
    seed = Jet(POINTS, (np.broadcast_to(DIRECTION, POINTS.shape)[None], *[None] * (order - 1)), (False,) * order, 0)
    algebra = Directional([(1, order)])
    (out,) = push_forward(captured.graph, algebra, seed, captured.constants, BACKEND.ops, frozenset(range(order)))
    found = [out] + [None] * order if not isinstance(out, Jet) else [out.primal, *(p if p is None else p[0] for p in out.parts)]
    for k, (a, b) in enumerate(zip(found, along_the_direction(group, order)[name], strict=True)):
        assert_near(np.zeros(b.shape) if a is None else a, b / factorial(k), f"order {k}")


@pytest.mark.family(keep=8)
@pytest.mark.parametrize(("group", "name"), cases(GROUPS))
def test_operators_of_functions_of_the_array_api(group: str, name: str) -> None:
    """The same through the public call, the namespace that of the points."""
    function = GROUPS[group][name]

    def u(p: Any) -> Any:
        xp = p.__array_namespace__()
        assert isinstance(xp, RecordingNamespace)
        return number(xp, function(xp, p), 2)

    for text, wanted in residuals(group)[name].items():
        assert_near(opdsl.operator(text, coords="x y z", fields="u")(u, POINTS), wanted, text)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name: str) -> None:
    words, function = REFUSED[name]
    with pytest.raises(CaptureError, match=words):
        opdsl.operator("u_x", coords="x y z", fields="u")(lambda p: function(np, p), POINTS)
    with pytest.raises(CaptureError, match=words):
        opdsl.operator("u_x", coords="x y z", fields="u")(lambda p: function(p.__array_namespace__(), p), POINTS)
