"""Whatever is given to a public verb, it answers or refuses in words of our own."""

from __future__ import annotations

import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import Engine
from hypothesis import given, settings
from hypothesis import strategies as st
from references import points

import opdsl
from opdsl.errors import BindingError, OpdslError

# torch warns of nested and quantised tensors where they are made.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

TEXTS = ["laplace(u)", "u_t + u u_x = nu u_xx", "where(d_i(u)<1,u,2)", "div(k grad u) = f", "u_xx; u(x=0) = g", "a_ij d_i d_j u", "u", ""]


class Loud:
    """Nobody can print it."""

    def __repr__(self) -> str:
        raise ValueError("no")


# Things that somebody might pass where a declaration, a value or an option is expected.
ODD: list[Any] = [
    3, -1, 2.5, True, None, 10**400, 2**70, float("nan"), float("inf"), 1j, b"x", "", "x y", "x x", "0", "x[", "x[0]", "x[-3]",
    "x[2.5]", "x[100000000000]", "?", "\0", "∂", "x" * 5000, "x " * 5000, [], ["x"], ["x", 3], [["x"]], ("x", "y"), {"x"}, {"x": 3},
    {}, {3: 4}, object(), Loud(), Exception, lambda: 1, lambda p: p, len, np.float32(1), np.ones(3), np.array(["a"]),
    np.array([object()]), np.array(1j), np.ones((0, 2)), np.ones((2, 2, 2)), iter([1]), range(2), slice(1), Ellipsis,
]  # fmt: skip


def attempt(work: Any) -> Any:
    """The result, or None where it was refused with a message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except OpdslError as error:
        assert len(str(error)) > 20  # noqa: PT017
        return None


odd = st.sampled_from(range(len(ODD))).map(lambda k: ODD[k])


@settings(max_examples=150)
@given(st.one_of(st.sampled_from(TEXTS), odd), st.dictionaries(
    st.sampled_from(["coords", "fields", "params", "functions", "time", "backend", "strategy"]), odd, max_size=3))  # fmt: skip
def test_declarations(text: Any, declared: dict[str, Any]) -> None:
    declared.setdefault("coords", "t x")
    op = attempt(lambda: opdsl.operator(text, **declared))
    if op is not None:
        attempt(op.info)
        attempt(op.latex)
        attempt(op.plan)
        attempt(lambda: op(lambda p: p[:, 0], np.ones((2, 2))))


def values(engine: Engine) -> list[Any]:
    own: list[Any] = [engine.array(v) for v in (1.0, np.nan, np.ones(3), np.ones((3, 1)), np.ones((2, 2)), np.ones((3, 3, 3)))]
    if engine.name == "torch":
        own += [
            torch.ones(3, dtype=torch.float64).to_sparse(), torch.ones(3, dtype=torch.complex128), torch.ones(3, dtype=torch.int64),
            torch.ones(3, device="meta"), torch.ones((), dtype=torch.float64, requires_grad=True) * 2, torch.ones(3).half(),
            torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), torch.nn.Linear(2, 1).double(), torch.nn.Linear(3, 1),
            torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        ]  # fmt: skip
        with torch.inference_mode():
            own.append(torch.ones(3, dtype=torch.float64))
    if engine.name == "jax":
        own += [jnp.ones(3, jnp.complex128), jnp.ones(3, int), jnp.ones(3, bool), jnp.ones(3, jnp.float32)]
    return [*own, *ODD]


OPERATORS = {
    "nu": opdsl.operator("u_t + u u_x = nu u_xx", coords="t x", params="nu"),
    "a": opdsl.operator("a_ij d_i d_j u", coords="x y", params="a[2,2]"),
    "k": opdsl.operator("d_x(k u_x)", coords="x y", params="k"),
    "R": opdsl.operator("u_xx + R(u)", coords="x y", functions="R"),
    "f": opdsl.expression("f + x y", coords="x y", params="f"),
    "g": opdsl.operator("u_xx; u(x=0) = g", coords="x y", params="g").conditions["eq2"],
    "L": opdsl.operator("u_xx; u(x=L) = 1", coords="x y", params="L").conditions["eq2"],
}


def wave(p: Any) -> Any:
    return p[..., 0] * p[..., 1] ** 2


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_bindings(engine: Engine, name: str) -> None:
    op, x = OPERATORS[name], engine.array(points(3, 2))
    for value in values(engine):
        if name == "f":
            attempt(lambda v=value: op(x, **{name: v}))
            attempt(lambda v=value: op.bind(x, **{name: v})(x))
            continue
        attempt(lambda v=value: op(wave, x, **{name: v}))
        step = attempt(lambda v=value: op.bind(wave, x, **{name: v}))
        if step is not None:
            attempt(lambda s=step, v=value: s(x, **{name: v}))


@pytest.mark.parametrize("name", ["u", "x", "params"])
def test_networks_and_points(engine: Engine, name: str) -> None:
    op, x = opdsl.operator("laplace(u)", coords="x y"), engine.array(points(3, 2))
    for value in values(engine):
        if name == "u":
            attempt(lambda v=value: op(v, x))
            attempt(lambda v=value: op({"u": v}, x))
            attempt(lambda v=value: op.explain(v, x))
        elif name == "x":
            attempt(lambda v=value: op(wave, v))
            attempt(lambda v=value: op.plan(wave, v))
            attempt(lambda v=value: op.bind(wave, x)(v))
        else:
            attempt(lambda v=value: op(lambda c, p: wave(p), x, params=v))
            attempt(lambda v=value: op.bind(lambda c, p: wave(p), x, params={"c": engine.array(1.0)})(v, x))


OPTIONS = ["strategy", "backend", "batched", "training", "memory", "bindings", "stratgy"]


@pytest.mark.parametrize("option", OPTIONS)
def test_options(engine: Engine, option: str) -> None:
    op, x = opdsl.operator("laplace(u)", coords="x y"), engine.array(points(3, 2))
    for value in [*ODD, "dof", {"u": "dof"}, {"v": "dof"}, {"u": 3}, "-3", "6 GiB", "1e400", 1, 0, 10**30]:
        attempt(lambda v=value: op(wave, x, **{option: v}))
        attempt(lambda v=value: op.plan(**{option: v}))
        attempt(lambda v=value: op.plan(wave, x, **{option: v}))


@pytest.mark.parametrize("argument", ["samples", "distribution", "key", "two_sample"])
def test_sampling(engine: Engine, argument: str) -> None:
    op, x = opdsl.operator("laplace(u)", coords="x y"), engine.array(points(3, 2))
    for value in [*values(engine), 0, -5, "normal", "rademacher", 10**5]:
        def sample(v: Any = value) -> Any:
            given: dict[str, Any] = {"samples": 2, "key": 0, argument: v}
            return opdsl.STDE(**given)
        strategy = attempt(sample)
        if strategy is not None:
            attempt(lambda s=strategy: op(wave, x, strategy=s))


def test_other_verbs() -> None:
    op, x = opdsl.operator("laplace(u)", coords="x y"), points(3, 2)
    for value in ODD:
        attempt(lambda v=value: op.plan(network=v))
        attempt(lambda v=value: op.plan(dimension=v))
        attempt(lambda v=value: op.sobolev(v))
        attempt(lambda v=value: op.substitute(v))
        attempt(lambda v=value: op.residual(v))
        attempt(lambda v=value: op.estimate(wave, x, strategy=v))
        attempt(lambda v=value: op.estimate(wave, x, strategy=opdsl.STDE(2, key=0), repeats=v))
        attempt(lambda v=value: op.tune(wave, x, seconds=v) if not isinstance(v, int | float) or v != v or v < 0 else None)
        attempt(lambda v=value: opdsl.expression(v, coords="x"))
        attempt(lambda v=value: opdsl.expression("x", coords="x", params=v))
        attempt(lambda v=value: opdsl.derivative_space("laplace(u)", coords=v))
        attempt(lambda v=value: opdsl.from_sympy(v, coords="x"))
        attempt(lambda v=value: opdsl.check_backends(op, v, x))
        attempt(lambda v=value: op.conditions)
        attempt(lambda v=value: opdsl.backend(v).__enter__() and None)


def test_a_misspelt_option_is_told_apart_from_a_parameter() -> None:
    op, x = OPERATORS["nu"], points(3, 2)
    for call in (lambda **g: op(wave, x, nu=0.1, **g), lambda **g: op.bind(wave, x, nu=0.1, **g), lambda **g: op.plan(wave, x, **g)):
        with pytest.raises(BindingError, match="did you mean strategy="):
            call(stratgy="dof")
    with pytest.raises(BindingError, match="did you mean 'nu'"):
        op(wave, x, nuu=0.1, nu=0.1)
    with pytest.raises(BindingError, match="bound twice"):
        op(wave, x, nu=0.1, bindings={"nu": 0.2})
