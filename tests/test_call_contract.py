"""What a call accepts and returns, and what it refuses: every mistake is a clear `OpdslError` before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from engines import ENGINES, Engine
from references import assert_close, network, partials, points

import opdsl
from opdsl.errors import BackendError, BindingError, CaptureError, OpdslError, RowMixingError, ShapeError, StrategyError

HEAT = opdsl.operator("u_t - nu u_xx", coords="t x", params="nu")
LAPLACE = opdsl.operator("laplace(u)", coords="x y")
STOKES = opdsl.operator("mom: -mu Δu + ∇p = 0; div u = 0", coords="x y", fields="u[2] p", params="mu")
NET, X = network(2, 1, "tanh", width=3), points(4, 2)


# ------------------------------------------------------------------------------------------------------------ shapes


def test_one_number_per_point(engine: Engine) -> None:
    r = HEAT(engine.network(NET), engine.array(X), nu=0.1)
    assert tuple(r.shape) == (4,)


def test_a_single_point_has_no_leading_axis(engine: Engine) -> None:
    u = engine.network(NET)
    one, all_points = HEAT(u, engine.array(X[2]), nu=0.1), HEAT(u, engine.array(X), nu=0.1)
    assert tuple(one.shape) == ()
    assert_close(engine.read(one), engine.read(all_points)[2], 1e-14)


def test_an_empty_batch_gives_an_empty_array(engine: Engine) -> None:
    net = engine.network(network(2, 3))
    r = STOKES(net, engine.array(np.zeros((0, 2))), mu=1.0)
    assert tuple(r.mom.shape) == (0, 2)
    assert tuple(r[1].shape) == (0,)
    op = opdsl.operator("laplace(u) = f", coords="x y")
    assert tuple(op(engine.network(NET), engine.array(np.zeros((0, 2))), f=engine.array(np.zeros(0))).shape) == (0,)


@pytest.mark.parametrize("form", ["column", "vector"])
def test_a_scalar_field_may_return_a_column_or_a_vector(form: str, engine: Engine) -> None:
    u = engine.network(NET)
    wrapped = u if form == "column" else lambda p: u(p)[..., 0]
    truth = partials(NET, X, (0, 0))[:, 0] + partials(NET, X, (1, 1))[:, 0]
    assert_close(engine.read(LAPLACE(wrapped, engine.array(X))), truth, 1e-12)


def test_several_equations_make_a_record(engine: Engine) -> None:
    r = STOKES(engine.network(network(2, 3)), engine.array(X), mu=1.0)
    mom, div = r
    assert len(r) == 2
    assert tuple(mom.shape) == (4, 2)
    assert tuple(div.shape) == (4,)
    assert list(r.keys()) == ["mom", "eq2"]
    assert r.mom is mom
    assert r["eq2"] is div
    assert [n for n, _ in r.items()] == ["mom", "eq2"]
    with pytest.raises(BindingError, match="mom"):
        r["mon"]


def test_records_are_pytrees() -> None:
    r = STOKES(ENGINES["jax"].network(network(2, 3)), jnp.asarray(X), mu=1.0)
    doubled = jax.tree_util.tree_map(lambda v: 2 * v, r)
    assert isinstance(doubled, opdsl.Residuals)
    assert_close(doubled.mom, 2 * r.mom, 1e-15)
    s = STOKES(ENGINES["torch"].network(network(2, 3)), torch.tensor(X), mu=1.0)
    leaves = torch.utils._pytree.tree_leaves(s)
    assert len(leaves) == 2


def test_a_dictionary_of_networks(engine: Engine) -> None:
    """Separate networks for separate fields give what one network with all columns gives."""
    whole = network(2, 3)
    u = engine.network(whole)
    together = STOKES(u, engine.array(X), mu=0.7)
    apart = STOKES({"u": lambda p: u(p)[..., 0:2], "p": lambda p: u(p)[..., 2]}, engine.array(X), mu=0.7)
    for a, b in zip(apart, together, strict=True):
        assert_close(engine.read(a), engine.read(b), 1e-13)


def test_constant_and_linear_networks_have_zero_derivatives(engine: Engine) -> None:
    ones = engine.array(np.ones(2))
    for u in (lambda p: p @ ones, lambda p: (p @ ones) * 0.0 + 3.0):
        assert_close(engine.read(LAPLACE(u, engine.array(X))), np.zeros(4), 1e-15, scale=1.0)


def test_a_field_used_without_derivatives(engine: Engine) -> None:
    op = opdsl.operator("u^2 + x", coords="x y", fields="u")
    assert_close(engine.read(op(engine.network(NET), engine.array(X))), partials(NET, X, ())[:, 0] ** 2 + X[:, 0], 1e-14)


def test_batched_jax_functions() -> None:
    u = ENGINES["jax"].network(NET)
    assert_close(LAPLACE(u, jnp.asarray(X), batched=True), LAPLACE(u, jnp.asarray(X)), 1e-13)


def test_float32_stays_float32() -> None:
    u = ENGINES["torch"].network(NET).float()
    assert LAPLACE(u, torch.tensor(X).float()).dtype == torch.float32
    net = network(2, 1, "tanh", width=3)
    single = LAPLACE(lambda p: net.on(jnp, p, lambda w: jnp.asarray(w, jnp.float32)), jnp.asarray(X, jnp.float32))
    assert single.dtype == jnp.float32
    assert LAPLACE(lambda p: net.on(np, p, lambda w: w.astype(np.float32)), X.astype(np.float32)).dtype == np.float32


# ----------------------------------------------------------------------------------------------------------- bindings


def test_bindings_under_an_option_name(engine: Engine) -> None:
    op = opdsl.operator("u_xx + strategy u", coords="x", params="strategy")
    net, x = network(1), points(3, 1)
    found = op(engine.network(net), engine.array(x), bindings={"strategy": 2.0})
    assert_close(engine.read(found), (partials(net, x, (0, 0)) + 2 * partials(net, x, ()))[:, 0], 1e-12)


def test_a_number_bound_as_an_array_of_the_framework(engine: Engine) -> None:
    u, x = engine.network(NET), engine.array(X)
    assert_close(engine.read(HEAT(u, x, nu=engine.array(0.1))), engine.read(HEAT(u, x, nu=0.1)), 1e-15)


def test_numpy_numbers_are_numbers(engine: Engine) -> None:
    u, x = engine.network(NET), engine.array(X)
    expected = engine.read(HEAT(u, x, nu=0.5))
    for nu in (np.float32(0.5), np.float64(0.5)):
        assert_close(engine.read(HEAT(u, x, nu=nu)), expected, 1e-15)
    assert_close(engine.read(HEAT(u, x, nu=np.int64(2))), engine.read(HEAT(u, x, nu=2)), 1e-15)


def test_conditions_overwrite_the_fixed_coordinates(engine: Engine) -> None:
    """u = cos(t) sin(x): values on x = L and on t = 0, wherever the given points are."""
    op = opdsl.operator("u_tt = u_xx; u(t=0) = sin(x); u_x(x=L) = g", coords="t x", params="L g")
    at_start, at_end = op.conditions.values()

    def u(p: Any) -> Any:
        xp = engine.space(p)
        return xp.cos(p[..., 0]) * xp.sin(p[..., 1])

    x = engine.array(X)
    assert_close(engine.read(at_start(u, x)), np.zeros(4), 1e-15, scale=1.0)
    assert_close(engine.read(at_end(u, x, L=2.0, g=0.3)), np.cos(X[:, 0]) * np.cos(2.0) - 0.3, 1e-14)
    with pytest.raises(BindingError, match="L"):
        at_end(u, x, g=0.3)


def test_no_value_survives_from_an_earlier_call(engine: Engine) -> None:
    """Programs are kept between calls; their arrays are those of the call."""
    op = opdsl.operator("laplace(u) + a_ij d_i d_j u + k u", coords="x y", params="a[2,2] k")
    for seed in (0, 1, 2):
        net = network(2, 1, "tanh", width=3, seed=seed)
        a = np.random.default_rng(seed).normal(size=(2, 2))
        x = points(3 + seed // 2, 2, seed)
        found = engine.read(op(engine.network(net), engine.array(x), a=engine.array(a), k=0.5 + seed))
        second = {(i, j): partials(net, x, (i, j))[:, 0] for i in (0, 1) for j in (0, 1)}
        truth = second[0, 0] + second[1, 1] + sum(a[i, j] * h for (i, j), h in second.items())
        assert_close(found, truth + (0.5 + seed) * partials(net, x, ())[:, 0], 1e-11)


def test_a_changed_network_is_seen(engine: Engine) -> None:
    """The same module or function object with other weights: never the old numbers."""
    holder = {"w": engine.array(np.array([1.0, 2.0]))}

    def u(p: Any) -> Any:
        return engine.space(p).sin(p @ holder["w"])

    x = engine.array(X)
    first = engine.read(LAPLACE(u, x))
    holder["w"] = engine.array(np.array([-1.0, 0.5]))
    second = engine.read(LAPLACE(u, x))
    assert_close(first, -5.0 * np.sin(X @ [1.0, 2.0]), 1e-13)
    assert_close(second, -1.25 * np.sin(X @ [-1.0, 0.5]), 1e-13)


def test_closures_in_a_loop_are_different_functions(engine: Engine) -> None:
    for scale in (1.0, 2.0, 3.0):
        found = engine.read(LAPLACE(lambda p, s=scale: s * p[..., 0] * p[..., 0], engine.array(X)))
        assert_close(found, np.full(4, 2.0 * scale), 1e-14)


# ------------------------------------------------------------------------------------------------------------ mistakes

Call = Callable[[Engine], Any]


def net(engine: Engine) -> Any:
    return engine.network(NET)


def x(engine: Engine) -> Any:
    return engine.array(X)


MISTAKES: list[tuple[str, type[OpdslError], str, Call]] = [
    ("a parameter is missing", BindingError, r"nu=.*nu is a parameter", lambda e: HEAT(net(e), x(e))),
    ("a name is superfluous", BindingError, "no parameter 'mu'.*nu", lambda e: HEAT(net(e), x(e), nu=1.0, mu=2.0)),
    ("a name is misspelt", BindingError, "no parameter 'nuu'.*did you mean", lambda e: HEAT(net(e), x(e), nuu=1.0)),
    ("NaN as a number", BindingError, "nu is NaN", lambda e: HEAT(net(e), x(e), nu=float("nan"))),
    ("NaN in an array", BindingError, "nu contains NaN", lambda e: HEAT(net(e), x(e), nu=e.array([1.0, np.nan, 1.0, 1.0]))),
    ("a text as a number", BindingError, "number", lambda e: HEAT(net(e), x(e), nu="0.1")),
    ("None as a number", BindingError, "None", lambda e: HEAT(net(e), x(e), nu=None)),
    ("a column instead of a vector", ShapeError, r"\(4, 1\).*\[:, 0\]", lambda e: HEAT(net(e), x(e), nu=e.array(np.ones((4, 1))))),
    ("another number of points", ShapeError, r"\(5,\)", lambda e: HEAT(net(e), x(e), nu=e.array(np.ones(5)))),
    ("a coefficient of another rank", ShapeError, "a has shape",
     lambda e: opdsl.operator("a_ij d_i d_j u", coords="x y")(net(e), x(e), a=e.array(np.ones(2)))),
    ("a coefficient of another size", (ShapeError), "a has",
     lambda e: opdsl.operator("a_ij d_i d_j u", coords="x y")(net(e), x(e), a=e.array(np.ones((3, 3))))),
    ("a function of another shape", ShapeError, "function bound to nu",
     lambda e: HEAT(net(e), x(e), nu=lambda p: p[..., 0:2])),
    ("too few columns", ShapeError, "3 columns.*2 coordinates", lambda e: LAPLACE(net(e), e.array(np.ones((4, 3))))),
    ("a single point of another length", ShapeError, "columns", lambda e: LAPLACE(net(e), e.array(np.ones(3)))),
    ("points of three axes", ShapeError, "points", lambda e: LAPLACE(net(e), e.array(np.ones((2, 2, 2))))),
    ("a network with too many outputs", ShapeError, "returns 2 column", lambda e: LAPLACE(e.network(network(2, 2)), x(e))),
    ("a network with too few outputs", ShapeError, "expected 3", lambda e: STOKES(net(e), x(e), mu=1.0)),
    ("a network for other coordinates", CaptureError, "shape|size|dimension", lambda e: LAPLACE(e.network(network(3)), x(e))),
    ("a network that is none", BackendError, "function", lambda e: LAPLACE(3.0, x(e))),
    ("a field without a network", BindingError, "no network for p", lambda e: STOKES({"u": e.network(network(2, 2))}, x(e), mu=1.0)),
    ("a network for no field", BindingError, "no field 'q'",
     lambda e: STOKES({"u": e.network(network(2, 2)), "p": net(e), "q": net(e)}, x(e), mu=1.0)),
    ("an unknown strategy", StrategyError, "did you mean .?dof", lambda e: LAPLACE(net(e), x(e), strategy="doff")),
    ("a strategy that does not apply", StrategyError, "Applicable", lambda e: LAPLACE(net(e), x(e), strategy="n_tangentprop")),
    ("an unknown backend", BackendError, "jax", lambda e: LAPLACE(net(e), x(e), backend="jaxx")),
    ("a network that returns nothing", CaptureError, "return", lambda e: LAPLACE(lambda p: None, x(e))),
    ("a network that fails", CaptureError, "ValueError: no", lambda e: LAPLACE(_fails, x(e))),
    ("a coefficient that is no function", BindingError, "R", lambda e: opdsl.operator(
        "u_x + R(u)", coords="x y", functions="R")(net(e), x(e), R=3.0)),
    ("a coefficient function that fails", BindingError, "nu failed.*ValueError: no", lambda e: HEAT(net(e), x(e), nu=_fails)),
    ("a list of points", OpdslError, "list", lambda e: LAPLACE(net(e), [[1.0, 2.0]])),
]  # fmt: skip


def _fails(p: Any) -> Any:
    raise ValueError("no")


@pytest.mark.parametrize(("kind", "pattern", "call"), [m[1:] for m in MISTAKES], ids=[m[0].replace(" ", "-") for m in MISTAKES])
def test_mistakes(kind: type[OpdslError], pattern: str, call: Call, engine: Engine) -> None:
    with pytest.raises(kind) as caught:
        call(engine)
    message = str(caught.value)
    assert re.search(pattern, message, re.DOTALL), message
    assert len(message) > 20


def test_integer_points_are_refused(engine: Engine) -> None:
    whole = {"jax": jnp, "torch": torch, "numpy": np, "strict": engine.xp}[engine.name].asarray([[1, 2], [3, 4]])
    with pytest.raises((ShapeError, BackendError), match="float"):
        LAPLACE(net(engine), whole)


def test_mixed_frameworks_are_refused() -> None:
    with pytest.raises(BackendError, match="torch"):
        LAPLACE(ENGINES["torch"].network(NET), X)
    with pytest.raises(BackendError, match="mixed"):
        LAPLACE(ENGINES["torch"].network(NET), jnp.asarray(X))
    with pytest.raises(OpdslError, match="nu"):
        HEAT(ENGINES["torch"].network(NET), torch.tensor(X), nu=jnp.asarray(0.1))
    with pytest.raises(OpdslError, match="nu"):
        HEAT(ENGINES["jax"].network(NET), jnp.asarray(X), nu=torch.tensor(0.1))


def test_a_jax_function_on_numpy_points_says_what_to_do() -> None:
    with pytest.raises(CaptureError, match=r"backend='jax'|jnp\.asarray"):
        LAPLACE(lambda p: jnp.sin(p[..., 0]), X)


def test_dtypes_are_not_mixed_silently() -> None:
    single = torch.tensor(X).float()
    with pytest.raises(OpdslError, match="float32|Float"):
        LAPLACE(ENGINES["torch"].network(NET), single)
    with pytest.raises(ShapeError, match="dtype"):
        HEAT(ENGINES["torch"].network(NET).float(), single, nu=torch.tensor(0.1, dtype=torch.float64))
    with pytest.raises(ShapeError, match="dtype"):
        HEAT(ENGINES["numpy"].network(NET), X, nu=np.ones(4, dtype=np.float32))


def test_rows_must_not_mix() -> None:
    layers = [torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1)]
    normalised = torch.nn.Sequential(*layers).double()
    with pytest.raises(RowMixingError, match=r"eval\(\)"):
        LAPLACE(normalised, torch.tensor(X))
    assert LAPLACE(normalised.eval(), torch.tensor(X)).shape == (4,)
    with pytest.raises(RowMixingError):
        LAPLACE(lambda p: torch.sin(p[:, 0] - p[:, 0].mean()), torch.tensor(X))
    with pytest.raises(RowMixingError):
        LAPLACE(lambda p: np.sin(p[:, 0] - np.sum(p[:, 0])), X)
    with pytest.raises(RowMixingError):
        LAPLACE(lambda p: torch.sin(p[:, 0] * p.flip(0)[:, 0]), torch.tensor(X))
    # With one point no number shows it; the shapes do.
    with pytest.raises(RowMixingError):
        LAPLACE(lambda p: torch.sin(p[:, 0] - p[:, 0].mean()), torch.tensor(X[:1]))
    with pytest.raises(RowMixingError):
        LAPLACE(lambda p: np.sin(p[:, 0] - np.sum(p[:, 0])), X[:1])


def test_branches_on_values_are_refused(engine: Engine) -> None:
    def u(p: Any) -> Any:
        return p[..., 0] if bool(p[..., 0].sum() > 0) else -p[..., 0]

    if engine.name == "strict":
        pytest.skip("array-api-strict arrays have no method sum")
    with pytest.raises(OpdslError):
        LAPLACE(u, engine.array(X))


def test_primitives_without_a_rule() -> None:
    """Named, with what to do instead; nested differentiation may take them."""
    with pytest.raises(OpdslError, match="fft"):
        LAPLACE(lambda p: np.fft.fft(p)[:, 0], X)
    with pytest.raises(OpdslError, match="zeta"):
        LAPLACE(lambda p: torch.special.zeta(p[:, 0] + 3.0, p[:, 1] + 3.0), torch.tensor(X))


def test_normal_numbers_of_the_points_may_be_nan_elsewhere(engine: Engine) -> None:
    """One bad point does not spoil the others."""
    bad = X.copy()
    bad[1, 0] = np.nan
    found = engine.read(LAPLACE(engine.network(NET), engine.array(bad)))
    good = engine.read(LAPLACE(engine.network(NET), engine.array(X)))
    assert np.isnan(found[1])
    assert_close(found[[0, 2, 3]], good[[0, 2, 3]], 1e-14)
