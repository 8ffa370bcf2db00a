"""Strategies and other libraries side by side: what is compared, what is refused, what is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import opdsl
from opdsl import backends, cli
from opdsl.algebra.polynomial import Polynomial
from opdsl.backends.jax.peers import PEERS
from opdsl.evaluation.compare import Comparison

A = np.asarray([[1.0, 0.3, 0.0], [0.3, 2.0, -0.1], [0.0, -0.1, 0.5]])
KNOWN = {p.name: p for p in PEERS}


def network(p: Any) -> Any:
    return jnp.sin(p @ jnp.asarray([0.3, -0.7, 0.2])) * jnp.exp(0.5 * p[0]) + p[1] ** 4


@pytest.fixture(scope="module")
def points() -> Any:
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 3)))


@pytest.mark.parametrize(
    ("text", "given", "agree"),
    [
        ("laplace(u) + u u_x - 2 u_y", {}, {"jax.hessian"}),
        ("a_ij d_i d_j u + c u_xy", {"a": A, "c": 0.5}, {"jax.hessian"}),
        ("u_yyyy + u u_y", {}, {"jax.experimental.jet"}),
    ],
)
def test_other_libraries_agree_with_nested_differentiation(text: str, given: dict[str, Any], agree: set[str], points: Any) -> None:
    op = opdsl.operator(text, coords="x y z", params="a_ij c" if given else None)
    bound = {k: jnp.asarray(v) for k, v in given.items()}
    found = opdsl.compare(op, network, points, strategies=["nested_ad", "auto"], peers=list(KNOWN)[::3], seconds=0, **bound)
    assert {e.name for e in found.measured if e.peer} == agree
    assert found.reference == "nested_ad"
    assert all(e.difference is not None and e.difference < 1e-12 for e in found.measured)
    refused = [e for e in found.entries if e.seconds is None]
    assert all("it has second derivatives" in e.why or "it goes along one line" in e.why for e in refused)
    assert len(refused) == 1


def test_folx_agrees_with_nested_differentiation(points: Any) -> None:
    pytest.importorskip("folx")
    x, laplacian = points[0], Polynomial.laplacian((0, 1, 2))
    symbols = [laplacian + 2 * Polynomial.variable(1), laplacian**2 - laplacian, Polynomial.constant(3)]
    assert KNOWN["folx"].refusal(symbols, 3) is None
    value, found = KNOWN["folx"].values(lambda p: network(p)[None], x, symbols)

    def lap(f: Any) -> Any:
        return lambda p: jnp.trace(jax.hessian(f)(p))

    truth = [lap(network)(x) + 2 * jax.grad(network)(x)[1], lap(lap(network))(x) - lap(network)(x), 3 * network(x)]
    np.testing.assert_allclose(np.ravel(jnp.stack(found)), truth, rtol=1e-11)
    np.testing.assert_allclose(value[0], network(x))


@pytest.mark.parametrize(
    ("peer", "symbols"),
    [
        ("folx", [Polynomial.laplacian((0, 1))]),
        ("folx", [Polynomial.from_axes((0, 0, 0))]),
        ("folx", [Polynomial.laplacian((0, 1, 2)) + Polynomial.from_axes((0, 1))]),
        ("jax.hessian", [Polynomial.from_axes((0, 0, 1))]),
        ("jax.experimental.jet", [Polynomial.from_axes((0, 0)), Polynomial.from_axes((1,))]),
    ],
)
def test_what_a_library_cannot_say_it_refuses(peer: str, symbols: Sequence[Polynomial]) -> None:
    assert KNOWN[peer].refusal(symbols, 3)


def test_a_wrong_library_is_seen(points: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(*a: Any) -> Any:
        value, found = KNOWN["jax.hessian"].values(*a)
        return value, [2 * f for f in found]

    def fails(*_: Any) -> Any:
        raise NotImplementedError("no rule for sin\nmore")

    wrong = (replace(KNOWN["jax.hessian"], name="wrong", values=twice), replace(KNOWN["jax.hessian"], name="broken", values=fails))
    monkeypatch.setattr("opdsl.backends.jax.peers.PEERS", wrong)
    op = opdsl.operator("laplace(u)", coords="x y z")
    found = opdsl.compare(op, network, points, strategies=["forward_laplacian"], seconds=0)
    assert found["wrong"].difference == pytest.approx(1.0)
    assert found["broken"].seconds is None
    assert found["broken"].why == "failed: NotImplementedError: no rule for sin"


@pytest.mark.parametrize("training", [False, True])
def test_torch_and_the_table(training: bool, tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    op = opdsl.operator("u_t + u u_x - nu u_xx", coords="t x", params="nu")
    now = [0.0]

    def clock() -> float:
        now[0] += 0.25
        return now[0]

    found = opdsl.compare(op, net, torch.rand(6, 2, dtype=torch.float64), training=training, seconds=0, clock=clock, nu=0.1)
    assert isinstance(found, Comparison)
    assert found.training is training
    assert [e.chosen for e in found.entries].count(True) == 1
    assert all(e.seconds == 0.25 for e in found.measured), "the clock that was given is the one that is read"
    assert found["reverse_gradient"].why
    table = str(found)
    assert all(e.name in table for e in found.entries)
    assert ("parameter gradient" in table) is training
    assert json.loads(found.to_json())["entries"][0]["name"] == found.entries[0].name
    found.plot(tmp_path / "times.png")
    assert (tmp_path / "times.png").read_bytes()[:4] == b"\x89PNG"


def test_estimates_have_errors_and_no_exactness() -> None:
    op = opdsl.operator("laplace(u)", coords="x[20]", fields="u")
    u, x, _ = backends.get("numpy").example((20, 8, 1), 4)
    sampled = opdsl.STDE(4, key=0)
    found = opdsl.compare(op, u, x, strategies=["forward_laplacian", sampled], seconds=0)
    assert 1e-3 < (found[repr(sampled)].difference or 0.0) < 1e3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strategies": "dof"}, "give a list of names"),
        ({"strategies": []}, "give a list of names"),
        ({"strategies": ["n_tangent"]}, "did you mean 'n_tangentprop'"),
        ({"peers": ["fol"]}, "'jax.hessian', 'folx'"),
        ({"seconds": -1}, "seconds=-1"),
    ],
)
def test_mistakes(options: dict[str, Any], words: str, points: Any) -> None:
    op = opdsl.operator("laplace(u)", coords="x y z")
    with pytest.raises(opdsl.OpdslError, match=words):
        opdsl.compare(op, network, points, **options)
    with pytest.raises(opdsl.OpdslError, match="zero points"):
        opdsl.compare(op, network, points[:0])


def test_what_does_not_apply_has_its_reason(points: Any) -> None:
    found = opdsl.compare(opdsl.operator("u_xxx", coords="x y z"), network, points, strategies=["dof"], peers=False, seconds=0)
    assert "order 3 is above 2" in found["dof"].why
    assert not found.measured
    assert "dof" in str(found)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "a_ij d_i d_j u + nu u_t", "--coords", "t x y", "--params", "nu a_ij", "--network", "8x8", "--points", "16",
             "--backend", "numpy", "--seconds", "0.05", "--json", str(tmp_path / "a.json"), "--picture", str(tmp_path / "a.png")]  # fmt: skip
    assert cli.main(words) == 0
    assert "to fastest" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text())["points"] == 16
    assert (tmp_path / "a.png").exists()
    assert cli.main([*words[:6], "--network", "8y8"]) == 2
