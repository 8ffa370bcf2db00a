"""Public views: the derivative space of a text, and the comparison of backends."""

from __future__ import annotations

import pytest
from engines import ENGINES
from references import network, points

import opdsl
from opdsl.errors import BackendError, BindingError, StrategyError

COUNTS = [
    ("laplace(u)", "x y z", 5),
    ("d^7/dx^7 u", "x", 8),
    ("Δ²u", "x y", 9),
    ("Δ²u", "x y z", 14),
    ("Δ³u", "x y", 16),
    ("u_xxyy", "x y", 9),
    ("u_t - nu Δu", "t x y", 4),
    ("u_t + 6 u u_x + u_xxx", "t x", 4),
    ("u_t + u_xx + u_xxxx + 1/2 u_x^2", "t x", 5),
    ("u_tx + u_xxxx + u_yy + 6 u_x^2 + 6 u u_xx", "t x y", 6),
]


@pytest.mark.parametrize(("text", "coords", "count"), COUNTS)
def test_channel_counts(text: str, coords: str, count: int) -> None:
    space = opdsl.derivative_space(text, coords=coords)
    assert space.channels == count
    assert len(space.basis) <= count
    assert str(space).count("\n") > count


def test_the_method_carries_these_channels() -> None:
    op = opdsl.operator("Δ²u", coords="x y z")
    net = ENGINES["numpy"].network(network(3))
    assert op.plan(net, points(2, 3), strategy="derivative_space").channels == 14


def test_sums_that_are_not_written_out_have_no_table() -> None:
    with pytest.raises(StrategyError, match="coordinates"):
        opdsl.derivative_space("a_ij d_i d_j u", coords="x[200]")


def test_backends_are_compared() -> None:
    op = opdsl.operator("u_t + u u_x - nu u_xx - f", coords="t x", fields="u", params="nu f")
    net, x = network(2), points(4, 2)
    networks = {name: ENGINES[name].network(net) for name in ("jax", "torch", "numpy")}
    forcing = {name: ENGINES[name].function(lambda xp, c: xp.sin(c[0])) for name in networks}
    differences = opdsl.check_backends(op, networks, x, nu=0.1, f=forcing)
    assert set(differences) == {"torch", "numpy"}
    assert max(differences.values()) < 1e-13


def test_different_networks_are_noticed() -> None:
    op, x = opdsl.operator("laplace(u)", coords="x y"), points(4, 2)
    one, two = ENGINES["jax"].network(network(2)), ENGINES["torch"].network(network(2, seed=1))
    with pytest.raises(BackendError, match="torch by"):
        opdsl.check_backends(op, {"jax": one, "torch": two}, x)
    with pytest.raises(BackendError, match="two"):
        opdsl.check_backends(op, {"jax": one}, x)
    helmholtz = opdsl.operator("laplace(u) + k u", coords="x y", fields="u", params="k")
    with pytest.raises(BindingError, match="no function for torch"):
        opdsl.check_backends(helmholtz, {"jax": one, "torch": two}, x, k={"jax": lambda p: p[0]})
