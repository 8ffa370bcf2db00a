"""Families, hypernetworks, the meta phase, adaptation: losses by hand, both frameworks, what is kept on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import opdsl
from opdsl.errors import BackendError, BindingError, OpdslWarning, OpNameError, ProblemError, ReductionError
from opdsl.lowrank import adaptation, meta
from opdsl.lowrank.family import Family

TEXT = "pde: u_t + beta u_x - nu u_xx = 0; initial: u(t=0) = 1 + sin(x); sides: u(x=0) = u(x=2)"
RANGES = {"beta": (1.0, 3.0), "nu": (0.1, 0.5)}
FAMILY = Family(TEXT, box={"t": (0.0, 1.0), "x": (0.0, 2.0)}, ranges=RANGES)
GIVEN = {"beta": 2.0, "nu": 0.3}
SIZES: dict[str, Any] = {"width": 12, "rank": 3, "depth": 2}


def numbers(a: Any) -> Any:
    return np.asarray(a.detach() if isinstance(a, torch.Tensor) else a)


def derivatives(u: Any) -> tuple[Any, Any, Any]:
    """Value, gradient and Hessian of a torch function of one point at points, in NumPy."""
    found = u, torch.func.grad(u), torch.func.jacrev(torch.func.grad(u))
    return tuple(lambda x, f=f: numbers(torch.vmap(f)(torch.as_tensor(np.asarray(x)))) for f in found)  # type: ignore[return-value]


def plain(factors: Any, s: Any) -> Any:
    """A network as a torch function of one point, its matrices multiplied out."""
    t = torch.as_tensor
    matrices = [t(v) @ torch.diag(t(scale)) @ t(u).T for (u, v), scale in zip(factors.layers, s, strict=True)]

    def u(p: Any) -> Any:
        z = torch.tanh(t(factors.first[0]) @ p + t(factors.first[1]))
        for w in matrices:
            z = torch.tanh(w @ z)
        return (t(factors.last[0]) @ z + t(factors.last[1]))[0]

    return u


@pytest.fixture(scope="module")
def model() -> meta.MetaModel:
    return meta.initial(FAMILY, **SIZES)


# --------------------------------------------------------------------------------------------------------------- family


def test_a_family_reads_one_text_for_all_parameters(model: meta.MetaModel) -> None:
    assert FAMILY.names == ("pde", "initial", "sides") and FAMILY.parameters == ("beta", "nu")
    net = model.at(**GIVEN, backend="torch")
    x = FAMILY.grid((2, 3), faces=False)
    found = FAMILY.residuals(net, torch.as_tensor(x), GIVEN)
    values, slope, bend = derivatives(lambda p: net(p[None])[0, 0])
    assert numbers(found["pde"]) == pytest.approx(slope(x)[:, 0] + 2 * slope(x)[:, 1] - 0.3 * bend(x)[:, 1, 1], rel=1e-9)
    begin, left, right = (np.array(x) for _ in range(3))
    begin[:, 0], left[:, 1], right[:, 1] = 0.0, 0.0, 2.0
    assert numbers(found["initial"]) == pytest.approx(values(begin) - 1 - np.sin(x[:, 1]), rel=1e-9)
    assert numbers(found["sides"]) == pytest.approx(values(left) - values(right), rel=1e-9)
    places = {tuple(p) for p in FAMILY.places(x)}
    assert places == {tuple(p) for p in np.concatenate([x, begin, left, right])}
    assert len(FAMILY.residuals(net, torch.as_tensor(x), GIVEN, fewer=3)["sides"]) == 2


def test_parameters_outside_of_the_trained_range_are_told_with_their_distance(model: meta.MetaModel) -> None:
    with pytest.warns(OpdslWarning, match=r"beta = 4 lies 1 outside of the trained range \[1, 3\] \(0.5 of its width\)"):
        model.at(beta=4.0, nu=0.3)
    with pytest.warns(OpdslWarning, match=r"nu = 0.06 lies 0.04 outside"):
        adaptation.newton(FAMILY, model.at(**GIVEN, backend="torch"), FAMILY.grid((2, 2)), {"beta": 1.0, "nu": 0.06}, full=True, steps=1)
    model.at(beta=3.0, nu=0.1)


def test_families_and_parameters_that_cannot_be(model: meta.MetaModel) -> None:
    with pytest.raises(BindingError, match="ranges\\['beta'\\] = .*: give two numbers, the lower one first"):
        Family(TEXT, box=FAMILY.box, ranges={"beta": (3.0, 1.0), "nu": (0.0, 1.0)})
    with pytest.raises(OpNameError):
        Family("u_t = widget u_xx", box=FAMILY.box, ranges={"beta": (0.0, 1.0)})
    with pytest.raises(BindingError, match="give a value for nu"):
        model.at(beta=2.0)
    with pytest.raises(BindingError, match="no parameter 'gamma'"):
        model.at(**GIVEN, gamma=1.0)
    with pytest.raises(BindingError, match="nu=nan: give a finite number"):
        model.at(beta=2.0, nu=float("nan"))
    with pytest.raises(BackendError, match="no training of low-rank networks on backend.*'numpy'"):
        meta.train(model, steps=1, backend="numpy")


# ----------------------------------------------------------------------------------------------------------- meta phase


def loss_by_hand(model: meta.MetaModel, rng: np.random.Generator, count: int, points: int) -> dict[str, float]:
    """The first step's terms, from dense matrices and torch.func, in the order in which numbers are drawn."""
    low, high = np.array(list(RANGES.values())).T
    rows, x = rng.uniform(low, high, (count, 2)), rng.uniform([0, 0], [1, 2], (points, 2))
    sums: dict[str, list[float]] = {}
    for row in rows:
        h = 2 * (row - low) / (high - low) - 1
        for w, b in model.hyper.layers:
            h = np.tanh(w @ h + b)
        s = [12**0.5 * np.maximum(w @ h + b, 0) for w, b in model.hyper.heads]
        value, slope, bend = derivatives(plain(model.factors, s))
        beside = x[::4]
        begin, left, right = (np.array(beside) for _ in range(3))
        begin[:, 0], left[:, 1], right[:, 1] = 0.0, 0.0, 2.0
        terms = {
            "pde": np.mean((slope(x)[:, 0] + row[0] * slope(x)[:, 1] - row[1] * bend(x)[:, 1, 1]) ** 2),
            "initial": np.mean((value(begin) - 1 - np.sin(beside[:, 1])) ** 2),
            "sides": np.mean((value(left) - value(right)) ** 2),
            "decay": sum(np.linalg.norm(np.maximum(1.25 * a[1:] - a[:-1], 0)) / 12**0.5 for a in s),
        }
        for name, v in terms.items():
            sums.setdefault(name, []).append(float(v))
    bases = [a for layer in model.factors.layers for a in layer]
    return {name: float(np.mean(v)) for name, v in sums.items()} | {
        "orthogonality": float(sum(np.linalg.norm(a.T @ a - np.eye(3)) for a in bases)) / 9
    }


def test_the_meta_phase_minimises_what_it_says_alike_on_both_frameworks(model: meta.MetaModel) -> None:
    bent = meta.MetaModel(FAMILY, model.factors.mapped(lambda a: 1.1 * a), model.hyper.mapped(lambda a: 1.2 * a))
    expected = loss_by_hand(bent, np.random.default_rng(3), 2, 8)
    trained, told = {}, {}
    for backend in ("jax", "torch"):
        seen: list[dict[str, float]] = []
        trained[backend] = meta.train(
            bent, steps=3, parameters=2, points=8, backend=backend, dtype="float64", seed=3, weights={"initial": 2.0}, decay=0.1,
            progress=lambda *facts, seen=seen: seen.append(facts[3]),
        )  # fmt: skip
        told[backend] = seen
        assert seen[0] == pytest.approx(expected, rel=1e-6)
    assert told["jax"][-1] == pytest.approx(told["torch"][-1], rel=1e-8)
    for a, b in zip(*(jax.tree.leaves((tuple(m.factors), tuple(m.hyper))) for m in trained.values()), strict=True):
        assert a == pytest.approx(b, rel=1e-8, abs=1e-12)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(tuple(bent.factors)), jax.tree.leaves(tuple(trained["jax"].factors)), strict=True))


def test_truncation_drops_what_is_zero_and_nothing_else(model: meta.MetaModel) -> None:
    (w, b), other = model.hyper.heads
    closed = b.copy()
    closed[1] = -100.0
    half = meta.MetaModel(FAMILY, model.factors, model.hyper._replace(heads=((w, closed), other)))
    rows = FAMILY.draw(20, np.random.default_rng(0))
    less = half.truncated(rows, 0.0)
    assert less.factors.ranks == (2, 3)
    x = FAMILY.grid((3, 3))
    assert less.at(**GIVEN, backend="numpy")(x) == pytest.approx(half.at(**GIVEN, backend="numpy")(x), rel=1e-12)
    dead = meta.MetaModel(FAMILY, model.factors, model.hyper._replace(heads=((w, closed - 100.0), other)))
    with pytest.raises(ReductionError, match="all coefficients of a layer are zero"):
        dead.truncated(rows)


def test_a_model_is_kept_and_found_again(model: meta.MetaModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    found = meta.train(model, steps=2, parameters=2, points=8, backend="torch", keep=path)
    again = meta.MetaModel.load(path)
    x = FAMILY.grid((3, 3))
    assert again.family.text == TEXT and again.family.ranges == RANGES
    assert again.at(**GIVEN, backend="numpy")(x) == pytest.approx(found.at(**GIVEN, backend="numpy")(x), rel=1e-12)
    assert json.loads(path.with_suffix(".json").read_text())["step"] == 2
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(path.read_bytes()[:-9] + b"123456789")
    with pytest.raises(ProblemError, match="damaged"):
        meta.MetaModel.load(damaged)
    with pytest.raises(ProblemError, match="no longer finite: take a smaller rate"):
        meta.train(model, steps=3, rate=float("inf"), parameters=2, points=8, backend="torch")


# ----------------------------------------------------------------------------------------------------------- adaptation


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_the_fast_phase_is_adam_on_the_reduced_network_and_goes_back(model: meta.MetaModel, backend: str) -> None:
    net = model.at(**GIVEN, backend=backend)
    x = FAMILY.grid((2, 3), faces=False)
    both = net.with_reduced(opdsl.lowrank.reduce(net, FAMILY.places(x), rank=6))
    seen: list[dict[str, float]] = []
    found = adaptation.adam(FAMILY, both, x, GIVEN, steps=2, rate=1e-3, progress=lambda *facts: seen.append(facts[3]))
    start, reach = (np.concatenate(p) for p in (net.numpy().coefficients, both.reduced.reduction.reach))
    first = sum(found.losses[0].values())
    factors, ranks = both.reduced.numpy().factors, net.ranks

    def loss(s: Any) -> Any:
        u = plain(factors, (s[: ranks[0]], s[ranks[0] :]))
        points = torch.as_tensor(x)
        slope, bend = torch.vmap(torch.func.grad(u))(points), torch.vmap(torch.func.jacrev(torch.func.grad(u)))(points)
        placed = []
        for k, v in ((0, 0.0), (1, 0.0), (1, 2.0)):
            moved = points.clone()
            moved[:, k] = v
            placed.append(torch.vmap(u)(moved))
        terms = slope[:, 0] + 2 * slope[:, 1] - 0.3 * bend[:, 1, 1], placed[0] - 1 - torch.sin(points[:, 1]), placed[1] - placed[2]
        near = ((s - torch.as_tensor(start)).abs() * torch.as_tensor(first / (len(start) * reach))).sum()
        return sum(r.abs().sum() for r in terms), near

    def gradient(s: Any, with_locality: bool) -> Any:
        s = torch.as_tensor(s).requires_grad_()
        terms, near = loss(s)
        return numbers(torch.autograd.grad(terms + near if with_locality else terms, s)[0])

    assert first == pytest.approx(float(loss(torch.as_tensor(start))[0]), rel=1e-9)
    # Adam's first step is the rate times the sign; its second one by the book, with the subgradient 0 of |s − s⁰| at the start.
    g1 = gradient(start, False)
    s1 = start - 1e-3 * g1 / (np.abs(g1) + 1e-8)
    g2 = gradient(s1, True)
    m, v = 0.9 * 0.1 * g1 + 0.1 * g2, 0.99 * 0.01 * g1**2 + 0.01 * g2**2
    s2 = s1 - 1e-3 * (m / (1 - 0.9**2)) / (np.sqrt(v / (1 - 0.99**2)) + 1e-8)
    after = np.concatenate(found.net.numpy().coefficients)
    assert after == pytest.approx(s2, rel=1e-9)
    assert np.concatenate(found.net.reduced.numpy().coefficients) == pytest.approx(after)
    assert sum(found.losses[1].values()) == pytest.approx(float(loss(torch.as_tensor(s2))[0]), rel=1e-9)
    assert seen[-1]["locality"] == pytest.approx(float(loss(torch.as_tensor(s1))[1]), rel=1e-6)
    assert found.net.factors.widths == net.factors.widths


@pytest.mark.family(keep=2)
@pytest.mark.parametrize(("backend", "full"), [("jax", False), ("torch", False), ("torch", True)])
def test_second_order_steps_end_where_the_gradient_vanishes(model: meta.MetaModel, backend: str, full: bool) -> None:
    net = model.at(**GIVEN, backend=backend)
    x = FAMILY.grid((3, 3), faces=False)
    both = net if full else net.with_reduced(opdsl.lowrank.reduce(net, FAMILY.places(x), rank=6))
    found = adaptation.newton(FAMILY, both, x, GIVEN, full=full, steps=200)
    used = (net if full else both.reduced).on("torch")
    start = np.concatenate(net.numpy().coefficients)
    reach = np.concatenate([np.full(3, max(s)) for s in net.numpy().coefficients] if full else both.reduced.reduction.reach)
    price = sum(found.losses[0].values()) / (len(start) * reach**2)

    def loss(s: Any) -> Any:
        terms = FAMILY.residuals(used.with_coefficients((s[:3], s[3:])), torch.as_tensor(x), GIVEN)
        return sum((r**2).sum() for r in terms.values()) + (torch.as_tensor(price) * (s - torch.as_tensor(start)) ** 2).sum()

    ends = [torch.as_tensor(s).requires_grad_() for s in (start, np.concatenate(found.net.numpy().coefficients))]
    values = [loss(s) for s in ends]
    slopes = [np.abs(numbers(torch.autograd.grad(v, s)[0])) * reach for v, s in zip(values, ends, strict=True)]
    assert slopes[1].max() < 1e-5 * slopes[0].max() and values[1] < values[0]
    assert sum(found.losses[1].values()) < sum(found.losses[0].values())


def test_the_fast_phase_needs_a_reduced_network(model: meta.MetaModel) -> None:
    net = model.at(**GIVEN, backend="torch")
    for adapt in (adaptation.adam, adaptation.newton):
        with pytest.raises(ReductionError, match=r"needs the reduced network: net = net.with_reduced.*full=True"):
            adapt(FAMILY, net, FAMILY.grid((2, 2)), GIVEN)
