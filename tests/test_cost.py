"""Work is counted as it is executed; rates turn it into seconds."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from opdsl.backends import facts, get
from opdsl.backends.execution import COUNTED, Constants, Rates
from opdsl.language.residual import Number
from opdsl.pricing.abstract_arrays import AbstractArray, Effort, Execution
from opdsl.pricing.cost import adapt, fit, price
from opdsl.pricing.counting import CountingOps, layers, plain_effort
from opdsl.strategies import STRATEGIES, Method, Request
from opdsl.strategies.base import Surroundings
from opdsl.strategies.linear_operators import DerivativeTerm, LinearOperator

JAX, TORCH = facts("jax").execution, facts("torch").execution


def partial(*axes: int) -> LinearOperator:
    return LinearOperator((DerivativeTerm(Number(Fraction(1)), axes),))


def laplacian(d: int) -> LinearOperator:
    return LinearOperator(tuple(DerivativeTerm(Number(Fraction(1)), (i, i)) for i in range(d)))


def effort(strategy: str, operators: tuple[LinearOperator, ...], d: int, execution: Execution, points: int = 100) -> Effort:
    method = STRATEGIES[strategy].propose(Request(operators, d, tuple(range(d))))
    assert isinstance(method, Method), method
    return method.effort(Surroundings(layers(d, (32, 32), 1, points, execution), points, execution, tuple(range(d))))


@pytest.mark.parametrize("execution", [JAX, TORCH], ids=["per point", "batched"])
def test_a_plain_pass_is_counted_exactly(execution: Execution) -> None:
    got = plain_effort(layers(3, (32, 32), 1, 100, execution), 100, execution)
    assert got.products == 100 * (3 * 32 + 32 * 32 + 32)
    assert got.functions == 100 * 64  # tanh
    assert got.elements == 100 * 65  # biases
    assert got.calls == 3
    assert got.steps == 5
    assert got.windows == got.moves == 0


@pytest.mark.parametrize("execution", [JAX, TORCH], ids=["per point", "batched"])
@pytest.mark.parametrize("d", [2, 7])
def test_products_of_a_push_forward_are_channels_times_a_pass_without_the_first_layer(execution: Execution, d: int) -> None:
    # First layer: the value at every point, the d directions (rows of W, the same at every point) once.
    first = 100 * d * 32 + d * d * 32
    # Second layer: value, d directions, the collapsed channel. Last layer: only what is read.
    second, last = 100 * (d + 2) * 32 * 32, 100 * 2 * 32
    assert effort("forward_laplacian", (laplacian(d),), d, execution).products == first + second + last


def test_the_same_computation_under_two_names_costs_the_same() -> None:
    a, b = (effort(s, (laplacian(5),), 5, JAX) for s in ("forward_laplacian", "collapsed_taylor"))
    assert a == b


def test_tables_and_recurrences_are_counted_as_they_run() -> None:
    few, many = (effort("derivative_space", (partial(*[0] * k),), 1, TORCH) for k in (2, 8))
    # 9 instead of 3 channels: three times the products, far more than three times the elementwise work.
    assert many.products < 3.1 * few.products
    assert many.elements > 6 * few.elements
    assert many.windows > few.windows > 0


def test_nested_derivatives_grow_exponentially() -> None:
    for execution in (JAX, TORCH):
        work = [effort("nested_ad", (partial(*[0] * k),), 1, execution) for k in range(1, 6)]
        ratios = [b.products / a.products for a, b in pairwise(work)]
        assert all(1.4 < r < 2.2 for r in ratios), ratios
        elements = [b.elements / a.elements for a, b in pairwise(work)]
        assert all(e > r for e, r in zip(elements[1:], ratios[1:], strict=True)), elements


def test_reverse_mode_does_not_depend_on_the_number_of_coordinates() -> None:
    gradients = tuple(partial(i) for i in range(40))
    plain = plain_effort(layers(40, (32, 32), 1, 100, TORCH), 100, TORCH)
    reverse, forward = (effort(s, gradients, 40, TORCH) for s in ("reverse_gradient", "forward_laplacian"))
    assert reverse.products < 2.5 * plain.products
    assert forward.products > 9 * reverse.products


def test_channels_go_through_one_product_on_numpy_too() -> None:
    numpy = effort("forward_laplacian", (laplacian(10),), 10, facts("numpy").execution)
    torch = effort("forward_laplacian", (laplacian(10),), 10, TORCH)
    assert (numpy.products, numpy.calls) == (torch.products, torch.calls)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_product_of_two_square_matrices_is_a_product(name: str) -> None:
    """Points (16, 16) times weights (16, 16): the shapes alone could be a product entry by entry."""
    execution = facts(name).execution
    found = plain_effort(layers(16, (16,), 16, 16, execution), 16, execution)
    assert found.products == 2 * 16**3
    assert found.calls == 2


def test_memory_is_what_lives_at_once_and_training_keeps_more() -> None:
    deep = [layers(2, (64,) * k, 1, 100, TORCH) for k in (2, 8)]
    shallow, tall = (plain_effort(g, 100, TORCH) for g in deep)
    assert shallow.memory == tall.memory == 2 * 100 * 64
    # Reverse mode needs the result of every tanh (which is also the next product's operand).
    assert tall.saved == 8 * 100 * 64


def test_saved_memory_is_what_torch_saves() -> None:
    torch = pytest.importorskip("torch")
    from opdsl.evaluation.api import operator

    op = operator("laplace(u)", coords="x[6]")
    u, x, _ = get("torch").example((6, 48, 48, 48, 1), 100)
    predicted = op.plan(u, x, strategy="forward_laplacian").cost
    seen: dict[int, int] = {}

    def pack(t: object) -> object:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()  # type: ignore[attr-defined]
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        kept = op(u, x, strategy="forward_laplacian")
    weights = sum(p.untyped_storage().nbytes() for p in u.parameters())
    assert kept.requires_grad
    assert predicted.effort.saved * 4 == pytest.approx(sum(seen.values()) - weights, rel=0.35)


def test_indices_views_and_broadcasting_of_ghosts() -> None:
    ops = CountingOps(layers(2, (4,), 1, 10, TORCH), 10, TORCH)
    a = AbstractArray(ops.tally, (5, 1, 7), True)
    reference = np.zeros((5, 1, 7))
    for key in [(0,), (..., 0), (None, ..., slice(2, 6)), (slice(1, 4), 0, None)]:
        assert a[key].shape == reference[key].shape
    assert (a * AbstractArray(ops.tally, (10, 1), True)).shape == (5, 10, 7)
    assert ops.xp.moveaxis(a, 0, -1).shape == np.moveaxis(reference, 0, -1).shape
    assert ops.xp.sum(a, axis=(0, 2)).shape == (1,)
    assert ops.xp.stack([a, a], axis=1).shape == (5, 2, 1, 7)


# ---------------------------------------------------------------------------------------------------------------- rates

RATES = Rates(2e-11, 1e-10, 1e-6, 3e-10, 5e-10, 2e-10, 2e-9, 4e-10, 1e-11, 3e-6, 1e-6, 1e-5)


def samples(noise: float, count: int = 60) -> list[tuple[Effort, float]]:
    rng = np.random.default_rng(0)
    out = []
    for _ in range(count):
        decades = [(4, 7)] * 2 + [(0, 2)] + [(3, 6)] * 6 + [(0, 3)] * 2
        e = Effort(*(10.0 ** rng.uniform(low, high) for low, high in decades))
        out.append((e, RATES.seconds(e) * float(np.exp(noise * rng.standard_normal()))))
    return out


def test_rates_are_recovered_from_times() -> None:
    prior = Rates(*(3 * getattr(RATES, k) for k in (*COUNTED, "call")))
    found = fit(samples(0.0), prior, 1e-9)
    for name in COUNTED:
        assert getattr(found, name) == pytest.approx(getattr(RATES, name), rel=0.02), name


def test_disturbed_measurements_do_not_spoil_the_fit() -> None:
    disturbed = [(e, t * (5.0 if k % 10 == 0 else 1.0)) for k, (e, t) in enumerate(samples(0.05))]
    found = fit(disturbed, RATES, 1e-3)
    errors = [found.seconds(e) / t for e, t in samples(0.0)]
    assert np.median(np.abs(np.log(errors))) < 0.1


def test_what_was_not_measured_keeps_its_prior() -> None:
    only = [(Effort(products=e.products), 3e-11 * e.products + 1e-5) for e, _ in samples(0.0)]
    found = fit(only, RATES, 1e-4)
    assert found.products == pytest.approx(3e-11, rel=0.05)
    assert found.windows == pytest.approx(RATES.windows, rel=0.05)


def test_a_few_measurements_scale_all_rates_and_move_none_far() -> None:
    four = [(e, 7 * t) for e, t in samples(0.0, 4)]
    found = adapt(four, RATES)
    for name in (*COUNTED, "call"):
        assert getattr(found, name) == pytest.approx(7 * getattr(RATES, name), rel=1e-3)
    wild = adapt([(e, t * (100.0 if k else 1.0)) for k, (e, t) in enumerate(samples(0.0, 4))], RATES)
    for name in (*COUNTED, "call"):
        assert 9.9 < getattr(wild, name) / getattr(RATES, name) < 1001
    assert adapt([], RATES) == RATES


def test_rates_are_never_negative() -> None:
    assert all(getattr(fit(samples(1.0), RATES, 1e-6), k) >= 0 for k in (*COUNTED, "call"))


def test_prices_are_relative_to_one_plain_pass() -> None:
    plain = Effort(products=1e6, steps=10, memory=50, saved=200)
    constants = Constants(RATES, RATES, compile_step=1e-3)
    cost = price(plain, plain, constants, itemsize=8)
    assert cost.relative == cost.gradient == 1.0
    assert cost.memory == 400
    assert cost.training_memory == 2000
    assert cost.compile_seconds == pytest.approx(1e-2)
    assert price(plain * 2.0, plain, constants).seconds < 2 * cost.seconds  # the call itself is paid once
