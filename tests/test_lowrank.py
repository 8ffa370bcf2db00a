"""Low-rank networks: values, reduction, the strategy that uses it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import opdsl
from opdsl.errors import BackendError, BindingError, ReductionError, ShapeError, StrategyError
from opdsl.lowrank.interpolation import Interpolation, greedy_rows, interpolation, pivot_rows

HEAT = opdsl.operator("u_t + beta u_x - 0.3 u_xx", coords="t x", params="beta")
RNG = np.random.default_rng(5)
POINTS = RNG.random((6, 2))
BACKENDS = {"numpy": np.asarray, "jax": jnp.asarray, "torch": torch.as_tensor}


def numbers(a: Any) -> Any:
    return np.asarray(a.detach() if isinstance(a, torch.Tensor) else a)


def small(backend: str, **changed: Any) -> Any:
    return opdsl.lowrank.network(2, **{"width": 40, "rank": 3, "depth": 2, "backend": backend, "dtype": "float64", **changed})


def dense(net: Any) -> Any:
    """The network with its matrices multiplied out, one point at a time, in JAX and by the book."""
    (first, bias), layers, (last, offset) = net.numpy().factors
    s = net.numpy().coefficients
    matrices = [v @ np.diag(scale) @ u.T for (u, v), scale in zip(layers, s, strict=True)]

    def u(point: Any) -> Any:
        z = jnp.tanh(first @ point + bias)
        for w in matrices:
            z = jnp.tanh(w @ z)
        return (last @ z + offset)[0]

    return u


def by_hand(u: Any, x: Any, beta: float) -> Any:
    gradient, hessian = jax.vmap(jax.grad(u))(x), jax.vmap(jax.hessian(u))(x)
    return np.asarray(gradient[:, 0] + beta * gradient[:, 1] - 0.3 * hessian[:, 1, 1])


# ------------------------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_derivatives_are_those_of_the_multiplied_out_network(backend: str) -> None:
    net, x = small(backend), BACKENDS[backend](POINTS)
    u = dense(net)
    assert numbers(jax.vmap(net)(x) if backend == "jax" else net(x))[:, 0] == pytest.approx(np.asarray(jax.vmap(u)(POINTS)), rel=1e-12)
    strategies = ("auto", "derivative_space") if backend == "jax" else ("auto", "forward_laplacian", "dof", "derivative_space")
    for strategy in strategies:
        assert numbers(HEAT(net, x, beta=2.0, strategy=strategy)) == pytest.approx(by_hand(u, POINTS, 2.0), rel=1e-10)


def test_the_product_of_the_factors_is_never_formed() -> None:
    net = small("jax", width=60, rank=4)
    jaxpr = jax.make_jaxpr(lambda x: HEAT(net, x, beta=1.0, strategy="forward_laplacian"))(jnp.asarray(POINTS))
    shapes = {tuple(v.aval.shape)[-2:] for e in jax.make_jaxpr(net)(POINTS[0]).eqns for v in e.outvars}
    assert (60, 60) not in shapes
    assert "60,60]" not in str(jaxpr)
    # A network narrower than its rank multiplies out, for that is less.
    assert "2,2]" in str(jax.make_jaxpr(small("jax", width=2, rank=2))(POINTS[0]))


def test_jax_networks_are_trees_and_torch_networks_have_parameters() -> None:
    net = small("jax")
    leaves, tree = jax.tree.flatten(net)
    assert len(leaves) == 4 + 3 * 2
    assert numbers(jax.tree.unflatten(tree, leaves)(POINTS[0])) == pytest.approx(numbers(net(POINTS[0])))
    names = dict(small("torch").named_parameters())
    assert sorted(names) == ["first_bias", "first_weight", "last_bias", "last_weight", "s0", "s1", "u0", "u1", "v0", "v1"]


def test_sizes_backends_and_coefficients_that_cannot_be() -> None:
    with pytest.raises(ShapeError, match="rank=9 is more than width=8"):
        opdsl.lowrank.network(2, width=8, rank=9)
    with pytest.raises(ShapeError, match="depth=0: give an integer"):
        opdsl.lowrank.network(2, depth=0)
    with pytest.raises(BackendError, match="no low-rank networks on backend.*'tensorflow'"):
        opdsl.lowrank.network(2, width=4, rank=2, backend="tensorflow")
    net = small("numpy")
    with pytest.raises(ShapeError, match=r"takes \[\(3,\), \(3,\)\]"):
        net.with_coefficients((np.ones(3), np.ones(4)))
    with pytest.raises(BindingError, match="not ArrayLRNR"):
        net.with_reduced(net)
    with pytest.raises(BindingError, match="reduce this very network"):
        net.with_reduced(opdsl.lowrank.reduce(small("numpy", rank=4), POINTS, rank=3))


# ------------------------------------------------------------------------------------------------------- interpolation


@pytest.mark.parametrize("method", ["deim", "qdeim"])
def test_interpolation_is_exact_on_the_span_and_bounded_off_it(method: str) -> None:
    snapshots = RNG.standard_normal((30, 8)) * 0.3 ** np.arange(8)
    found = interpolation(snapshots, 4, method)
    rows = list(found.rows)
    assert len(set(rows)) == 4
    inside = found.basis @ RNG.standard_normal(4)
    assert found.basis @ found.inverse @ inside[rows] == pytest.approx(inside, abs=1e-13)
    for _ in range(20):
        z = RNG.standard_normal(30)
        missed = np.linalg.norm(z - found.basis @ np.linalg.solve(found.basis[rows], z[rows]))
        projected = np.linalg.norm(z - found.basis @ (found.basis.T @ z))
        assert projected <= missed <= found.constant * projected * (1 + 1e-12)
    assert found.lost == pytest.approx(np.linalg.norm(snapshots - found.basis @ (found.basis.T @ snapshots)) / np.linalg.norm(snapshots))
    assert np.linalg.norm(found.inverse, 2) == pytest.approx(1 / np.linalg.svd(found.basis[rows])[1][-1])


def test_rows_of_a_basis_worked_out_by_hand() -> None:
    # The first column is largest in row 1. The second one interpolated there leaves (0, 0, 3/5 · …): largest in row 2.
    basis = np.array([[0.6, 0.0], [0.8, 0.0], [0.0, 1.0]])
    assert greedy_rows(basis) == (1, 2)
    assert set(pivot_rows(basis)) == {1, 2}
    # Greedy rows see what interpolation leaves: both columns are largest in row 0, and their difference is (0, −1, −1).
    basis = np.array([[2.0, 2.0], [1.0, -2.0], [2.0, -1.0]]) / 3
    assert greedy_rows(basis) == (0, 1)


def test_ranks_that_snapshots_do_not_carry_and_singular_rows_are_refused() -> None:
    flat = np.outer(RNG.standard_normal(20), np.ones(6)) + np.outer(RNG.standard_normal(20), np.arange(6.0))
    with pytest.raises(ReductionError, match="only 2 are linearly independent"):
        interpolation(flat, 3)
    with pytest.raises(ReductionError, match=r"more than there are snapshots in the snapshots \(6\)"):
        interpolation(flat, 7)
    with pytest.raises(ReductionError, match="no interpolation method.*'qdiem'.*qdeim"):
        interpolation(flat, 2, "qdiem")
    with pytest.raises(ReductionError, match="not finite"):
        interpolation(flat * np.nan, 2)
    basis = np.linalg.qr(RNG.standard_normal((6, 2)))[0]
    basis[3] = 2.0 * basis[1]
    with pytest.raises(ReductionError, match=r"rows \[1, 3\] are singular"):
        Interpolation(basis, (1, 3), np.ones(2))
    net = small("numpy")
    for given, message in (
        ({"rank": 41, "coefficients": [net.coefficients] * 2}, "rank=41 is more than there are entries"),
        ({"rank": 13, "order": 0}, "snapshots of hidden state 1"),
        ({"rank": 0}, "at least one"), ({"rank": (2, 2)}, "one for each of the 3 hidden states"), ({"order": -1}, "0 to 8"),
        ({"coefficients": []}, "at least one set"),
    ):  # fmt: skip
        with pytest.raises(ReductionError, match=message):
            opdsl.lowrank.reduce(net, POINTS, **given)
    with pytest.raises(ReductionError, match="only low-rank networks can be reduced, got function"):
        opdsl.lowrank.reduce(lambda x: x, POINTS)  # type: ignore[arg-type]
    with pytest.raises(ReductionError, match="a reduced one already"):
        opdsl.lowrank.reduce(opdsl.lowrank.reduce(net, POINTS), POINTS)
    with pytest.raises(ShapeError, match=r"takes \(n, 2\)"):
        opdsl.lowrank.reduce(net, POINTS[:, :1])


# ----------------------------------------------------------------------------------------------------------- reduction


@pytest.mark.family(keep=3)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", ["deim", "qdeim"])
def test_a_reduced_network_with_all_snapshots_has_the_derivatives_of_the_full_one(backend: str, method: str) -> None:
    # Three points, each with its Taylor coefficients to order 2 along t and x: fifteen vectors, and as many rows.
    net, x = small(backend), POINTS[:3]
    fast = opdsl.lowrank.reduce(net, BACKENDS[backend](x), rank=15, method=method)
    assert fast.width == 15 and type(fast) is type(net) and fast.ranks == net.ranks
    full, tiny = dense(net), dense(fast)
    assert np.asarray(jax.vmap(tiny)(x)) == pytest.approx(np.asarray(jax.vmap(full)(x)), rel=1e-7)
    assert by_hand(tiny, x, 2.0) == pytest.approx(by_hand(full, x, 2.0), rel=1e-6)
    elsewhere = POINTS[3:] + 1.0
    assert np.abs(by_hand(tiny, elsewhere, 2.0) - by_hand(full, elsewhere, 2.0)).max() > 1e-6
    assert numbers(HEAT(fast, BACKENDS[backend](x), beta=2.0)) == pytest.approx(by_hand(tiny, x, 2.0), rel=1e-9)


def test_without_derivatives_among_the_snapshots_values_alone_are_those_of_the_full_network() -> None:
    net = small("numpy")
    fast = opdsl.lowrank.reduce(net, POINTS, rank=6, order=0)
    assert fast(POINTS) == pytest.approx(net(POINTS), rel=1e-9)
    assert np.abs(by_hand(dense(fast), POINTS, 2.0) - by_hand(dense(net), POINTS, 2.0)).max() > 1e-3


def test_what_is_said_of_a_reduction_is_what_the_networks_do() -> None:
    net = small("numpy")
    other = tuple(1.1 * s for s in net.coefficients)
    found = opdsl.lowrank.reduce(net, POINTS, rank=4, order=1, coefficients=[net.coefficients, other])
    told, full, tiny = found.reduction, dense(net), dense(found)
    values = [np.asarray(jax.vmap(u)(POINTS)) for u in (full, tiny)]
    assert told.errors[0] == pytest.approx(np.linalg.norm(values[1] - values[0]) / np.linalg.norm(values[0]))
    along = np.array([[1, 0], [0, 1], [0.5**0.5, 0.5**0.5]])
    slopes = [np.asarray(jax.vmap(jax.grad(u))(POINTS)) @ along.T for u in (full, tiny)]
    assert told.errors[1] == pytest.approx(np.linalg.norm(slopes[1] - slopes[0]) / np.linalg.norm(slopes[0]))
    assert len(told.errors) == 2 and told.ranks == (4, 4, 4) and told.width == 40
    assert all(len(s) == 2 * 6 * 3 and s[0] == 1.0 for s in told.singular_values)
    for reach, s in zip(told.reach, net.coefficients, strict=True):
        assert reach == pytest.approx(np.maximum(0.1 * s, 0.01 * s.max()))


def test_coefficients_are_shared_with_the_full_network() -> None:
    net = small("torch")
    fast = opdsl.lowrank.reduce(net, torch.as_tensor(POINTS), rank=5)
    assert [n for n, _ in fast.named_parameters()] == ["s0", "s1"] and fast.s0 is net.s0
    before = fast(torch.as_tensor(POINTS)).detach().clone()
    with torch.no_grad():
        net.s0 *= 1.5
    assert not torch.allclose(before, fast(torch.as_tensor(POINTS)))


# ------------------------------------------------------------------------------------------------------------ strategy


@pytest.mark.parametrize("backend", BACKENDS)
def test_spinprop_evaluates_the_reduced_network(backend: str) -> None:
    x = BACKENDS[backend](POINTS)
    net = small(backend)
    fast = opdsl.lowrank.reduce(net, x, rank=4)
    both = net.with_reduced(fast)
    near = by_hand(dense(fast), POINTS, 2.0)
    assert numbers(HEAT(both, x, beta=2.0, strategy="spinprop")) == pytest.approx(near, rel=1e-9)
    exact = by_hand(dense(net), POINTS, 2.0)
    assert numbers(HEAT(both, x, beta=2.0)) == pytest.approx(exact, rel=1e-9)
    assert np.abs(near - exact).max() > 1e-3
    step = HEAT.bind(both, x, beta=2.0, strategy="spinprop")
    assert numbers(step(x)) == pytest.approx(near, rel=1e-9)
    # Where no derivative is wanted the values are those of the reduced network, too.
    value = opdsl.operator("u - x", coords="t x", fields="u")
    assert numbers(value(both, x, strategy="spinprop")) == pytest.approx(np.asarray(jax.vmap(dense(fast))(POINTS)) - POINTS[:, 1])


def test_nobody_but_the_user_chooses_spinprop() -> None:
    net = small("torch", width=500, rank=20)
    x = torch.as_tensor(POINTS)
    both = net.with_reduced(opdsl.lowrank.reduce(net, x, rank=2))
    plan = HEAT.plan(both, x)
    offered = next(c for c in plan.candidates if c.strategy == "spinprop")
    assert plan.strategy != "spinprop" and offered.opt_in and offered.cost.time(True) < plan.cost.time(True)
    assert "not exact" in offered.why
    tuned = HEAT.tune(both, x, beta=1.0, seconds=0.05)
    assert tuned.strategy != "spinprop" and next(c for c in tuned.candidates if c.strategy == "spinprop").measured is None
    assert all(c.strategy != "spinprop" for c in HEAT.plan(net, x).candidates)


def test_spinprop_is_refused_for_other_networks_with_the_reason() -> None:
    with pytest.raises(StrategyError, match=r"brings no reduced network along; fast = opdsl.lowrank.reduce"):
        HEAT(lambda p: p[:, 0] * p[:, 1], POINTS, beta=1.0, strategy="spinprop")
    with pytest.raises(StrategyError, match="brings no reduced network along"):
        HEAT(small("numpy"), POINTS, beta=1.0, strategy="spinprop")
    with pytest.raises(StrategyError, match="unknown strategy 'spinpropp'.*spinprop"):
        HEAT(small("numpy"), POINTS, beta=1.0, strategy="spinpropp")


def test_explain_shows_ranks_cost_and_the_measured_error() -> None:
    net = small("numpy")
    fast = opdsl.lowrank.reduce(net, POINTS, rank=4)
    text = str(HEAT.explain(net.with_reduced(fast), POINTS, strategy="spinprop"))
    errors = fast.reduction.errors
    assert "not exact" in text and "ranks 3; hidden states of width 40 by 4 of their entries (deim, 6 points)" in text
    assert f"values {errors[0]:.1e}, first derivatives {errors[1]:.1e}, second derivatives {errors[2]:.1e}" in text
    assert "one plain forward pass" in text and "interpolation constants" in text
    short = opdsl.lowrank.reduce(net, POINTS, rank=4, order=1)
    text = str(HEAT.explain(net.with_reduced(short), POINTS, strategy="spinprop"))
    assert f"first derivatives {short.reduction.errors[1]:.1e}; not measured: second derivatives" in text
    advection = opdsl.operator("u_t + u_x", coords="t x")
    assert "second" not in str(advection.explain(net.with_reduced(fast), POINTS, strategy="spinprop"))


def test_gradients_in_the_coefficients_are_those_of_the_reduced_network() -> None:
    x = jnp.asarray(POINTS)
    net = small("jax")
    both = net.with_reduced(opdsl.lowrank.reduce(net, x, rank=4))
    factors = both.reduced.factors

    def by_book(s: Any) -> Any:
        def u(point: Any) -> Any:
            z = jnp.tanh(factors.first[0] @ point + factors.first[1])
            for (a, b), scale in zip(factors.layers, s, strict=True):
                z = jnp.tanh(b @ (scale * (a.T @ z)))
            return (factors.last[0] @ z + factors.last[1])[0]

        gradient, hessian = jax.vmap(jax.grad(u))(x), jax.vmap(jax.hessian(u))(x)
        return jnp.sum((gradient[:, 0] + 2.0 * gradient[:, 1] - 0.3 * hessian[:, 1, 1]) ** 2)

    def ours(s: Any) -> Any:
        return jnp.sum(HEAT(both.with_coefficients(s), x, beta=2.0, strategy="spinprop") ** 2)

    expected = jax.grad(by_book)(net.coefficients)
    for a, b in zip(jax.jit(jax.grad(ours))(net.coefficients), expected, strict=True):
        assert numbers(a) == pytest.approx(numbers(b), rel=1e-9)
    torch_net = both.on("torch")
    s = [c.detach().clone().requires_grad_() for c in torch_net.coefficients]
    loss = HEAT(torch_net.with_coefficients(s), torch.as_tensor(POINTS), beta=2.0, strategy="spinprop").square().sum()
    for a, b in zip(torch.autograd.grad(loss, s), expected, strict=True):
        assert numbers(a) == pytest.approx(numbers(b), rel=1e-9)


def test_a_bound_step_follows_the_coefficients_and_a_new_reduction_is_seen() -> None:
    x = torch.as_tensor(POINTS)
    net = small("torch")
    fast = opdsl.lowrank.reduce(net, x, rank=4)
    both = net.with_reduced(fast)
    step = HEAT.bind(both, x, beta=2.0, strategy="spinprop")
    with torch.no_grad():
        net.s1 *= 0.7
    assert numbers(step(x)) == pytest.approx(by_hand(dense(fast), POINTS, 2.0), rel=1e-9)
    again = net.with_reduced(opdsl.lowrank.reduce(net, x, rank=4, method="qdeim"))
    assert "qdeim" in str(HEAT.explain(again, x, strategy="spinprop")) and "(deim" in str(HEAT.explain(both, x, strategy="spinprop"))
