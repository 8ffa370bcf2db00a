"""A backend from outside of the package: found by an entry point, and as right as the shipped ones on the same corpora."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest
import test_propagate
from engines import ENGINES, Engine
from equations import EQUATIONS, Equation
from numpy_corpus import GROUPS, POINTS
from references import assert_close
from test_backends_agree import IDS, evaluate
from test_numpy_rules import assert_near, cases, number, residuals
from test_strategies import CASES, Case, settle
from test_strategies import evaluate as evaluate_case

import opdsl
from opdsl import backends
from opdsl.backends.base import Backend
from opdsl.backends.execution import UNKNOWN
from opdsl.errors import BackendError, OpdslWarning
from opdsl.jets.points import Batched, Mapped
from opdsl.pricing.rates import constants
from opdsl.strategies import STRATEGIES

STRICT = Engine("strict", "strict", array_api_strict)
LOOKUPS = (backends._classes, backends.facts, backends.get, backends._complain)


def announce(folder: Path, name: str, where: str) -> None:
    """What installing a package with such an entry point leaves behind."""
    info = folder / f"{name}_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-backend\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[{backends.GROUP}]\n{name} = {where}\n", "utf-8")


def forget() -> None:
    for lookup in LOOKUPS:
        lookup.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def further(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("site")
    announce(folder, "strict", "strict_backend:StrictBackend")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        forget()
        yield
    forget()


def test_it_is_found_by_its_name_and_by_its_arrays() -> None:
    assert backends.names() == ("jax", "torch", "numpy", "strict")
    assert type(backends.get("strict")).__module__ == "strict_backend"
    chosen = backends.choose(None, [STRICT.array([[1.0, 2.0]])], [])
    assert chosen is backends.get("strict")
    assert isinstance(chosen.ops.points, Mapped)
    assert backends.choose(None, [np.ones((2, 2))], []).name == "numpy"
    with opdsl.backend("strict"):
        assert backends.choose(None, [], []) is chosen


def test_plans_name_it_and_mark_its_prices_as_guessed() -> None:
    assert constants("strict") == UNKNOWN
    assert constants("strict", "cuda").source == "guessed"
    op = opdsl.operator("laplace(u)", coords="x y", fields="u", backend="strict")
    text = str(op.plan(network=(16, 16)))
    assert "strict on cpu" in text
    assert "rates guessed, not measured" in text
    assert "nested_ad does not apply: the array-api-strict backend has no automatic differentiation" in text


def test_what_it_lacks_is_said_in_its_name() -> None:
    with pytest.raises(BackendError, match="'strict' has no primitives"):
        opdsl.jet_rule("anything", backend="strict", linear=True)
    with pytest.raises(BackendError, match="array-api-strict and torch|torch and array-api-strict"):
        opdsl.operator("u_x", coords="x")(ENGINES["torch"].network(settle(CASES[0])[0]), STRICT.array([[1.0]]))


@pytest.mark.parametrize("equation", EQUATIONS, ids=IDS)
def test_equations(equation: Equation) -> None:
    truth = equation.settle()[2]
    for a, b in zip(evaluate(equation, STRICT), truth if isinstance(truth, list) else [truth], strict=True):
        assert_close(a, b, 1e-11)


@pytest.mark.parametrize("case", [
    pytest.param(c, marks=[pytest.mark.slow] if c.order > 3 else [], id=c.text.replace(" ", "")) for c in CASES
])  # fmt: skip
def test_operators_by_every_strategy(case: Case) -> None:
    net, x, truth = settle(case)
    for strategy in STRATEGIES:
        if strategy in ("nested_ad", "reverse_gradient"):
            with pytest.raises(opdsl.errors.StrategyError, match=strategy):
                evaluate_case(case, STRICT, strategy, net, x)
        elif strategy in case.strategies.split():
            assert_close(evaluate_case(case, STRICT, strategy, net, x), truth, case.tolerance)


@pytest.mark.family(keep=4)
@pytest.mark.parametrize("name", list(test_propagate.PROGRAMS))
def test_networks(name: str) -> None:
    program = test_propagate.PROGRAMS[name]
    found = opdsl.operator(test_propagate.TEXT, coords="x y")(
        lambda p: program(STRICT.space(p), p, STRICT.array), STRICT.array(test_propagate.X)
    )
    for equation in test_propagate.TERMS:
        expected, scale = test_propagate.truth(name, equation)
        assert_close(STRICT.read(found[equation]), expected, 1e-12, scale=scale)


@pytest.mark.family(keep=15)
@pytest.mark.parametrize(("group", "name"), cases(GROUPS))
def test_functions_of_the_array_api(group: str, name: str) -> None:
    function = GROUPS[group][name]

    def u(p: Any) -> Any:
        xp = p.__array_namespace__()
        return number(xp, function(xp, p), 1)

    for text, wanted in residuals(group)[name].items():
        found = opdsl.operator(text, coords="x y z", fields="u")(u, STRICT.array(POINTS))
        assert_near(STRICT.read(found), wanted, text)


def test_bound_steps_samples_and_pieces() -> None:
    op = opdsl.operator("u_t - laplace(u)", coords="t x[30]", fields="u")
    w, x = np.random.default_rng(0).normal(size=(2, 5, 31))

    def u(p: Any) -> Any:
        return STRICT.space(p).sin(p @ STRICT.array(w[:2].T))[..., 0]

    truth = w[0, 0] * np.cos(x @ w[0]) + (w[0, 1:] ** 2).sum() * np.sin(x @ w[0])
    points = STRICT.array(x)
    assert_close(STRICT.read(op(u, points)), truth, 1e-12)
    assert_close(STRICT.read(op.bind(u, points)(points)), truth, 1e-12)
    assert_close(STRICT.read(op(u, points, memory=op.plan(u, points).memory / 2)), truth, 1e-12)
    assert_close(STRICT.read(op(u, points, strategy=opdsl.STDE(samples=30, key=0))), truth, 1e-12)


# ----------------------------------------------------------------------------------------------------------- looking up


@pytest.mark.parametrize("name", list(backends.SHIPPED))
def test_facts_and_arrays_of_a_backend_agree(name: str) -> None:
    found = backends.get(name)
    assert type(found.ops.points) is found.execution.points
    assert found.ops.stacked == found.execution.stacked
    assert found.ops.points.axis == (None if name == "jax" else 0)
    assert (found.execution.points is Batched) == (name != "jax")
    u, x, given = found.example((2, 8, 1), 16, {"a": 2})
    assert found.is_array(x)
    assert found.device_of(x) == "cpu"
    assert found.to_numpy(given["a"]).shape == (2, 2)
    prepared = found.timed(lambda *_: (x,), [c.constants for c in [found.capture(u, x)]], x, {}, False)
    assert prepared()[0] is x


def test_a_package_that_does_not_load_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(tmp_path, "broken", "no_such_module_anywhere:Backend")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    try:
        with pytest.raises(BackendError, match="'broken' stands in no_such_module_anywhere:Backend"):
            backends.get("broken")
        with pytest.warns(OpdslWarning, match="no_such_module_anywhere"):
            backends.choose(None, [np.ones(2)], [])
        assert backends.choose(None, [np.ones(2)], []).name == "numpy"
    finally:
        forget()


def test_a_shipped_name_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(tmp_path, "numpy", "strict_backend:StrictBackend")
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    assert backends.facts("numpy").__name__ == "NumpyBackend"
    forget()


def test_looking_up_facts_imports_no_framework() -> None:
    code = (
        "import sys, opdsl\nfrom opdsl import backends\n"
        "print([backends.facts(n).rates['cpu'].source for n in backends.SHIPPED], [m for m in ('torch', 'jax') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120,
                         cwd=Path(__file__).parent.parent)  # fmt: skip
    assert run.stdout.strip() == "['shipped', 'shipped', 'shipped'] []"


def test_abstract_methods_say_what_a_backend_has_to_bring() -> None:
    wanted = {"is_array", "is_function", "capture", "compile", "in_pieces", "normal", "subsets", "keys"}
    assert Backend.__abstractmethods__ == wanted
