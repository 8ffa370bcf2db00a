"""Which strategy is chosen, why, and that measuring overrules predicting."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opdsl.evaluation.calibrate
import opdsl.evaluation.tuning
from opdsl.backends import get
from opdsl.backends.execution import Constants, Rates
from opdsl.cli import main
from opdsl.errors import BindingError, StrategyError
from opdsl.evaluation.api import operator
from opdsl.evaluation.calibrate import calibrate, predictions
from opdsl.evaluation.tuning import round_robin
from opdsl.planning.plan import Plan
from opdsl.planning.planner import choose
from opdsl.pricing import rates
from opdsl.pricing.rates import constants, save, shipped


@pytest.fixture(autouse=True)
def shipped_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans must not depend on what somebody measured on this machine."""
    monkeypatch.setenv("OPDSL_CACHE_DIR", "")


def plan(text: str, coords: str, **given: Any) -> Plan:
    options = {k: given.pop(k) for k in ("params", "fields") if k in given}
    return operator(text, coords=coords, **options).plan(**{"network": (64, 64, 64), **given})


# ---------------------------------------------------------------------------------------------------------------- choice


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", None])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("text", "coords", "strategy"),
    [
        ("u_xxxxxx", "x", "n_tangentprop"),
        ("u_xxyy", "x y", "derivative_space"),
        ("laplace(laplace(u))", "x[10]", "derivative_space"),
    ],
)
def test_the_expected_strategy_is_chosen(backend: str, training: bool, text: str, coords: str, strategy: str) -> None:
    found = plan(text, coords, backend=backend, training=training)
    assert found.strategy == strategy, str(found)
    assert found.training is training


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_laplacian_of_many_coordinates_is_a_forward_laplacian(backend: str) -> None:
    # (On JAX a table wins: XLA fuses its sums into the products, where it stops at a sum along an axis.)
    assert plan("u_t = laplace(u)", "t x[20]", backend=backend).strategy == "forward_laplacian"


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_first_derivatives_in_many_dimensions_are_one_reverse_sweep(backend: str) -> None:
    assert plan("d_i u d_i u - 1", "x[100]", backend=backend).strategy == "reverse_gradient"


def test_the_choice_depends_on_the_backend_only_where_it_must() -> None:
    assert plan("d_i u d_i u - 1", "x[100]", backend="numpy").strategy == "forward_laplacian"


def test_equal_costs_go_to_the_more_special_name() -> None:
    assert choose({"forward_laplacian": 1.0, "dof": 1.0, "nested_ad": 1.0}) == "forward_laplacian"
    assert choose({"forward_laplacian": 1.04, "derivative_space": 1.0}) == "forward_laplacian"
    assert choose({"forward_laplacian": 1.06, "derivative_space": 1.0}) == "derivative_space"


def test_a_plan_keeps_the_losers_with_their_reasons() -> None:
    found = plan("laplace(u)", "x y z", backend="torch")
    by_name = {c.strategy: c for c in found.candidates}
    assert by_name["forward_laplacian"].why == "chosen"
    assert by_name["dof"].why == "predicted to cost the same"
    assert "×" in by_name["nested_ad"].why
    assert by_name["nested_ad"].cost.relative > found.cost.relative
    assert by_name["reverse_gradient"].why == "does not apply: order 2 is above 1"
    assert by_name["reverse_gradient"].cost is None
    assert "forward_laplacian" not in found.why
    assert "cost the same" in found.why


def test_costs_are_relative_to_a_plain_pass_and_to_nested_ad() -> None:
    found = plan("laplace(laplace(u))", "x[5]", backend="jax")
    group = found.groups[0]
    nested = next(c.cost for c in group.candidates if c.strategy == "nested_ad")
    assert group.versus() == pytest.approx(group.cost.seconds / nested.seconds)
    assert group.versus(training=True) == pytest.approx(group.cost.training_seconds / nested.training_seconds)
    assert group.versus("forward_laplacian") is None
    assert group.cost.gradient > group.cost.relative > 1
    assert group.cost.training_memory > group.cost.memory


def test_networks_are_weighed_by_their_size() -> None:
    op = operator("laplace(u) + v", coords="x y", fields="u v")
    big, x, _ = get("numpy").example((2, 256, 256, 1), 256)
    small, _, _ = get("numpy").example((2, 4, 1), 256)
    found = op.plan({"u": big, "v": small}, x)
    assert found.fields["v"].strategy == "evaluation"
    assert found.fields["u"].cost.seconds > 10 * found.fields["v"].cost.seconds


def test_a_strategy_can_be_given_for_each_field() -> None:
    op = operator("laplace(u) + laplace(v)", coords="x y", fields="u v")
    u, x, _ = get("numpy").example((2, 8, 1), 16)
    given = {"u": "derivative_space", "v": "dof"}
    found = op.plan({"u": u, "v": u}, x, strategy=given)
    assert {k: f.strategy for k, f in found.fields.items()} == given
    assert np.allclose(op({"u": u, "v": u}, x, strategy=given), op({"u": u, "v": u}, x), rtol=1e-4)
    with pytest.raises(StrategyError, match=r"'w'.*Fields: u, v"):
        op.plan({"u": u, "v": u}, x, strategy={"w": "dof"})


def test_a_forced_strategy_that_does_not_apply_lists_those_that_do() -> None:
    with pytest.raises(StrategyError, match=r"forward_laplacian.*order 4 is above 2.*Applicable: .*derivative_space"):
        plan("laplace(laplace(u))", "x y", strategy="forward_laplacian")
    with pytest.raises(StrategyError, match=r"unknown strategy 'forward_laplacain'.*forward_laplacian"):
        plan("laplace(u)", "x y", strategy="forward_laplacain")


@pytest.mark.parametrize("params", [{}, {"training": True}])
def test_coefficient_matrices_are_priced(params: dict[str, Any]) -> None:
    # A run-time matrix costs d² products per number of the width; for d above the width that shows.
    plain = plan("laplace(u)", "x[80]", **params)
    matrix = plan("a_ij d_i d_j u", "x[80]", params="a_ij", **params)
    assert matrix.cost.effort.products > 1.5 * plain.cost.effort.products


def test_pricing_never_keeps_an_operator_from_being_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    from opdsl.strategies.directional import DirectionalMethod

    def broken(self: Any, where: Any) -> Any:
        raise TypeError("a strategy that cannot be counted")

    monkeypatch.setattr(DirectionalMethod, "effort", broken)
    u, x, _ = get("numpy").example((2, 8, 1), 16)
    op = operator("laplace(u)", coords="x y")
    assert op(u, x, strategy="forward_laplacian").shape == (16,)
    shown = op.explain(u, x, strategy="forward_laplacian")
    assert "guessed    some of the work cannot be counted" in str(shown)
    marked = {c.strategy: c.cost.effort.guesses > 0 for c in shown.candidates if c.cost is not None}
    assert marked == {"forward_laplacian": True, "dof": True, "collapsed_taylor": True, "derivative_space": False}


def test_networks_whose_work_cannot_be_counted_are_marked() -> None:
    """A loop of unknown length has no work that shapes could tell."""
    jnp, jax = pytest.importorskip("jax.numpy"), pytest.importorskip("jax")

    def u(p: Any) -> Any:
        return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, p[0] * p[1]))[1]

    op = operator("u_xx", coords="x y", fields="u")
    assert op.plan(u, jnp.ones((2, 2)), strategy="n_tangentprop").cost.effort.guesses > 0
    assert op.plan(lambda p: jnp.sin(p[0] * p[1]), jnp.ones((2, 2))).cost.effort.guesses == 0


# ----------------------------------------------------------------------------------------------------------------- grid


@pytest.fixture(scope="module")
def report() -> Any:
    """The module that judges choices on the measured grid."""
    path = Path(__file__).parent.parent / "asv_benchmarks" / "planner_grid" / "report.py"
    spec = importlib.util.spec_from_file_location("planner_grid_report", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_choices_on_the_measured_grid_are_good(report: Any) -> None:
    """No time is measured here: the committed times are compared with what the planner would choose today."""
    total = good = 0
    for backend in ("jax", "torch", "numpy"):
        cells = list(report.cells(backend))
        number, misses = report.hits(cells, lambda _, b=backend: shipped(b, "cpu"))
        total, good = total + len(cells), good + number
        assert all(loss < 2.0 for _, loss in misses), [(c.case.key, loss) for c, loss in misses]
    assert total >= 60
    assert good >= 0.9 * total


def test_the_grid_would_notice_bad_rates(report: Any) -> None:
    """Rates for which only channels count fail on the same grid."""
    zero = dict.fromkeys(Rates.__dataclass_fields__, 0.0)
    blind = Constants(Rates(**{**zero, "products": 1.0}), Rates(**{**zero, "products": 1.0}))
    cells = [c for b in ("jax", "torch") for c in report.cells(b)]
    number, _ = report.hits(cells, lambda _: blind)
    assert number < 0.9 * len(cells)


# ------------------------------------------------------------------------------------------------------------- training


def test_torch_plans_for_training_where_parameters_require_gradients() -> None:
    op = operator("laplace(u)", coords="x y")
    u, x, _ = get("torch").example((2, 8, 1), 16)
    assert op.plan(u, x).training
    assert not op.plan(u, x, training=False).training
    assert not op.plan(u.requires_grad_(False), x).training


def test_jax_plans_for_evaluation_unless_asked() -> None:
    op = operator("laplace(u)", coords="x y")
    u, x, _ = get("jax").example((2, 8, 1), 16)
    assert not op.plan(u, x).training
    assert op.plan(u, x, training=True).training


def test_bind_takes_the_goal() -> None:
    op = operator("laplace(u)", coords="x y")
    u, x, _ = get("jax").example((2, 8, 1), 16)
    assert np.allclose(op.bind(u, x, training=True)(x), op(u, x), rtol=1e-4)


# --------------------------------------------------------------------------------------------------------------- tuning


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Times that a test decides: strategy name → seconds."""
    seconds: dict[str, float] = {}

    def pretend(runners: Any, budget: float, **_: Any) -> Any:
        return {key: seconds.get(key[1], 9.0) for key in runners}

    monkeypatch.setattr(opdsl.evaluation.tuning, "round_robin", pretend)
    return seconds


@pytest.mark.parametrize("backend", ["numpy", "jax", "torch"])
def test_tune_pins_the_fastest_for_calls_like_it(clockwork: dict[str, float], backend: str) -> None:
    clockwork.update(forward_laplacian=2.0, derivative_space=1.0)
    op = operator("laplace(u)", coords="x y", backend=backend)
    u, x, _ = get(backend).example((2, 8, 1), 16)
    before = op(u, x)
    found = op.tune(u, x)
    assert found.strategy == "derivative_space"
    assert found.why == "measured to be the fastest for calls like this"
    assert {c.strategy: c.measured for c in found.candidates if c.measured}["forward_laplacian"] == 2.0
    # auto honours the pin, for the same kind of network and points only.
    other, _, _ = get(backend).example((2, 8, 1), 16, seed=1)
    assert op.plan(other, x).strategy == "derivative_space"
    assert op.plan(u, x[:8]).strategy == "forward_laplacian"
    assert op.plan(u, x, strategy="dof").strategy == "dof"
    wider, _, _ = get(backend).example((2, 9, 1), 16)
    assert op.plan(wider, x).strategy == "forward_laplacian"
    after = op(u, x)
    assert np.allclose(*(a.detach().numpy() if backend == "torch" else a for a in (before, after)), rtol=1e-4)
    assert "measured" in str(found)


def test_training_and_evaluation_are_tuned_apart(clockwork: dict[str, float]) -> None:
    clockwork.update(derivative_space=1.0)
    op = operator("laplace(u)", coords="x y")
    u, x, _ = get("jax").example((2, 8, 1), 16)
    op.tune(u, x, training=True)
    assert op.plan(u, x, training=True).strategy == "derivative_space"
    assert op.plan(u, x).strategy == "forward_laplacian"


def test_every_network_is_tuned(clockwork: dict[str, float]) -> None:
    clockwork.update(derivative_space=1.0)
    op = operator("laplace(u) + u_x v_y; v_x", coords="x y", fields="u v")
    u, x, _ = get("numpy").example((2, 8, 1), 16)
    found = op.tune({"u": u, "v": u}, x)
    assert [g.strategy for g in found.groups] == ["derivative_space", "derivative_space"]
    assert all(g.measured == 1.0 for g in found.groups)


def test_explain_with_measurements_pins_nothing(clockwork: dict[str, float]) -> None:
    clockwork.update(derivative_space=1.0)
    op = operator("laplace(u)", coords="x y")
    u, x, _ = get("numpy").example((2, 8, 1), 16)
    found = op.explain(u, x, measure=True)
    assert found.strategy == op.plan(u, x).strategy == "forward_laplacian"
    assert next(c.measured for c in found.candidates if c.strategy == "derivative_space") == 1.0
    with pytest.raises(BindingError, match="needs a network"):
        op.explain(measure=True)


def test_there_is_nothing_to_measure_on_no_points() -> None:
    u, x, _ = get("numpy").example((2, 8, 1), 16)
    with pytest.raises(StrategyError, match="zero points"):
        operator("laplace(u)", coords="x y").tune(u, x[:0])


def test_candidates_are_timed_in_turns() -> None:
    order: list[str] = []
    now = [0.0]

    def make(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            now[0] += seconds

        return run

    found = round_robin({"a": make("a", 0.5), "b": make("b", 1.0)}, budget=100.0, most=3, clock=lambda: now[0])
    assert found == {"a": 0.5, "b": 1.0}
    # Two calls to warm up; then in turns, each beginning another round, each after one call that is not timed.
    assert "".join(order) == "aabb" + "aabb" + "bbaa" + "aabb"


# ----------------------------------------------------------------------------------------------------------- calibration

OWN = Constants(Rates(*[1e-9] * 12), Rates(*[2e-9] * 12), 0.5, 0.7, source="measured")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPDSL_CACHE_DIR", str(tmp_path))
    return tmp_path / "calibration.json"


def test_measured_rates_are_kept_and_used(cache: Path) -> None:
    assert constants("jax", "cpu") == shipped("jax", "cpu")
    assert save("jax", "cpu", OWN) == cache
    assert constants("jax", "cpu") == OWN
    assert constants("torch", "cpu") == shipped("torch", "cpu")
    save("torch", "cpu", OWN)
    assert constants("jax", "cpu") == OWN
    assert plan("laplace(u)", "x y", backend="jax").rates == "measured"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(version=0),
        lambda d: d["entries"]["jax-cpu"].update(framework="0.0.1"),
        lambda d: d["entries"]["jax-cpu"]["training"].pop("moves"),
        lambda d: d["entries"]["jax-cpu"].update(evaluation=None),
        lambda d: d.update(entries=[]),
    ],
)
def test_rates_of_other_versions_are_ignored(cache: Path, change: Any) -> None:
    save("jax", "cpu", OWN)
    found = json.loads(cache.read_text())
    change(found)
    cache.write_text(json.dumps(found))
    rates._measured.cache_clear()
    assert constants("jax", "cpu") == shipped("jax", "cpu")


def test_a_broken_file_is_as_good_as_none(cache: Path) -> None:
    cache.write_text("{")
    assert constants("jax", "cpu") == shipped("jax", "cpu")
    save("jax", "cpu", OWN)
    assert constants("jax", "cpu") == OWN


def test_the_file_can_be_switched_off() -> None:
    assert save("jax", "cpu", OWN) is None
    assert constants("jax", "cpu") == shipped("jax", "cpu")


def test_rates_of_accelerators_are_labelled_as_guesses() -> None:
    assert {shipped(b, "cuda").source for b in ("jax", "torch")} == {"guessed"}
    assert constants("jax", "cuda").source == "guessed"


def test_calibration_measures_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opdsl.evaluation.calibrate, "_CASES", (("laplace(u)", "x y", "", 16, 32), ("u_xxx", "x", "", 16, 32)))
    said: list[str] = []
    found, device = calibrate("numpy", budget=20.0, progress=said.append)
    assert device == "cpu"
    assert found.source == "measured"
    assert len(said) == 2
    op = operator("laplace(u)", coords="x y")
    u, x, _ = get("numpy").example((2, 16, 16, 16, 1), 32)
    cost = op.plan(u, x).cost
    # A fit to this machine cannot be off by orders of magnitude on the very operator it was fitted to.
    seconds = round_robin({"own": lambda: op(u, x)}, 1.0)["own"]
    assert found.evaluation.seconds(cost.effort) < 20 * seconds
    assert list(predictions("numpy", device, found)) == ["a plain pass", "a Laplacian"]


def test_the_command_measures_prints_and_keeps(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(opdsl.evaluation.calibrate, "_CASES", (("u_xx", "x", "", 8, 16),))
    assert main(["tune", "--backend", "numpy", "--dry-run"]) == 0
    assert not cache.exists()
    assert main(["tune", "--backend", "numpy"]) == 0
    assert "a Laplacian" in capsys.readouterr().out
    assert constants("numpy", "cpu").source == "measured"
