"""Runs with optimisers for residuals: stacked residuals, resuming, what `auto` chooses, points, refusals, what is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_solve import BACKENDS, assert_same_bits, interrupting, lean, small

from opdsl.cli import main
from opdsl.errors import OpdslWarning, ProblemError
from opdsl.training import checkpoint, run
from opdsl.training.choose_optimiser import parameter_count, residual_count
from opdsl.training.learned import slope, trained_number, value_of
from opdsl.training.losses import terms
from opdsl.training.problem import Problem
from opdsl.training.problem_file import problem_from_text
from opdsl.training.problem_tables import OptimiserSpec, ParameterValue
from opdsl.training.run import Run
from opdsl.training.solve import Solution, solve
from opdsl.training.stacking import not_finite

ADAM = OptimiserSpec("adam", 6, 1e-2)
MARQUARDT = OptimiserSpec("levenberg_marquardt", 6)
NATURAL = OptimiserSpec("natural_gradient", 8)


def second_order(*phases: OptimiserSpec) -> Problem:
    """A lean problem in double precision; new points between its phases."""
    problem = lean()
    sampling = replace(problem.sampling, resample=0, adaptive=False, refine=True, interior=48)
    return replace(problem, dtype="float64", sampling=sampling, optimisers=phases)


@pytest.mark.parametrize("backend", BACKENDS)
def test_stacked_residuals_are_the_losses_and_their_jacobian_is_exact(backend: str) -> None:
    """Equation, condition, periodic condition, boundary and observations, with a positive parameter to learn."""
    problem = replace(small(), dtype="float64")
    made = Run(problem, backend, None, None, 60.0)
    trainer: Any = made.trainer
    with trainer.scope():
        system = trainer.least_squares()
        theta = np.array(trainer._flat() if backend == "torch" else trainer._flat(trainer._theta))
        assert len(theta) == parameter_count(problem)
        r, j = system.residual(theta), system.jacobian(theta)
        assert r @ r == pytest.approx(sum(problem.weights[n] * v for n, v in trainer.losses().items()), rel=1e-12)
        assert len(r) == residual_count(problem)
        rng, h = np.random.default_rng(0), 1e-4
        times, transposed = system.products(theta)
        for v in (rng.normal(size=len(theta)), np.eye(len(theta))[-1]):  # the last is the logarithm of nu
            f = [system.residual(theta + k * h * v) for k in (-2, -1, 1, 2)]
            slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)  # of fourth order
            np.testing.assert_allclose(j @ v, slope, rtol=1e-8, atol=1e-8 * np.abs(slope).max())
            np.testing.assert_allclose(times(v), j @ v, rtol=1e-10, atol=1e-12)
        w = rng.normal(size=len(r))
        np.testing.assert_allclose(transposed(w), j.T @ w, rtol=1e-10, atol=1e-12)


def test_points_without_a_number_are_counted_once() -> None:
    """Of two components, or of the two sets of a periodic condition, one that is no number is enough."""
    text = HEAT.replace('heat = "u_t = u_xx"', 'slopes = "d_i u = 0"').replace("t = [0, 1]", "t = [0, 1]\ny = [0, 1]")
    found = terms(problem_from_text(text.replace("[network]", 'ring = { periodic = "x", order = 0 }\n[network]'), "heat"), None)
    values = {"interior": np.ones((5, 2)), "initial": np.ones((4, 1)), "ring": np.ones((3, 1)), "ring+": np.ones((3, 1))}
    values["interior"][1, 0], values["interior"][1, 1], values["interior"][3, 1] = np.nan, np.inf, np.nan
    values["ring"][0], values["ring+"][2] = np.nan, -np.inf
    assert not_finite(found, lambda number, name: values[name]) == {"slopes": (2, 5), "ring": (2, 3)}


@pytest.mark.parametrize(
    "parameter", [ParameterValue("c", 0.3, True), ParameterValue("c", 0.3, True, positive=True), ParameterValue("c", 0.3, True, between=(-1, 0.5))]
)
def test_learned_parameters_go_there_and_back(parameter: ParameterValue) -> None:
    s, h = trained_number(parameter), 1e-5
    assert value_of(parameter, s, np.exp) == pytest.approx(0.3, rel=1e-14)
    numeric = (value_of(parameter, s + h, np.exp) - value_of(parameter, s - h, np.exp)) / (2 * h)
    assert slope(parameter, 0.3) == pytest.approx(numeric, rel=1e-8)


def test_rows_of_vector_equations_are_scaled_by_their_number() -> None:
    """The loss of an equation with several components is the mean over all of them, of a condition with several equations the sum."""
    text = HEAT.replace('heat = "u_t = u_xx"', 'slopes = "d_i u = 0"\nheat = "u_t = u_xx"').replace("t = [0, 1]", "t = [0, 1]\ny = [0, 1]")
    text = text.replace("[network]", 'ring = { periodic = "x", order = 2 }\n[weights]\nslopes = 3\nring = 5\n[network]')
    problem = problem_from_text(text, "heat")
    system, initial, ring = terms(problem, None)
    assert [(name, components) for name, _, components in system.parts()] == [("slopes", 2), ("heat", 1)]
    np.testing.assert_allclose(system.scales(problem.weights, 10) ** 2, [3 / 20, 3 / 20, 1 / 10], rtol=1e-15)
    np.testing.assert_allclose(initial.scales(problem.weights, 10) ** 2, [1 / 10], rtol=1e-15)
    np.testing.assert_allclose(ring.scales(problem.weights, 10) ** 2, [1 / 2, 1 / 2, 1 / 2], rtol=1e-15)


# -------------------------------------------------------------------------------------------------------- runs, resuming


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Solution]]:
    """A run of Adam, two rounds of Levenberg-Marquardt and a natural gradient, made once for each backend."""
    done: dict[str, tuple[Path, Solution]] = {}

    def made(backend: str) -> tuple[Path, Solution]:
        if backend not in done:
            folder = tmp_path_factory.mktemp(backend)
            problem = second_order(ADAM, MARQUARDT, MARQUARDT, NATURAL)
            done[backend] = folder, solve(problem, backend=backend, out=folder)
        return done[backend]

    return made


@pytest.mark.family(keep=4)
@pytest.mark.parametrize(("backend", "halfway"), [("torch", 9), ("torch", 12), ("torch", 21), ("jax", 21)])
def test_resuming_a_second_order_phase_reaches_the_same_bits(
    backend: str, halfway: int, straight: Callable[[str], tuple[Path, Solution]], tmp_path: Path
) -> None:
    """In a phase (9), between two of one optimiser with new points (12), and with momentum (21)."""
    folder, whole = straight(backend)
    problem = second_order(ADAM, MARQUARDT, MARQUARDT, NATURAL)
    options: dict[str, Any] = {"backend": backend, "figures": False, "out": tmp_path}
    stopped = solve(problem, progress=interrupting(halfway, _interrupt), **options)
    assert (stopped.status, stopped.step) == ("interrupted", halfway)
    resumed = solve(problem, resume=True, **options)
    assert whole.status == resumed.status == "finished"
    assert_same_bits(folder, tmp_path)
    assert whole.errors == resumed.errors
    assert [p["name"] for p in resumed.history["phases"]] == [p.name for p in problem.optimisers]


def _interrupt() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_second_order_phase_goes_down_and_its_record_is_kept(backend: str, straight: Callable[[str], tuple[Path, Solution]]) -> None:
    folder, solution = straight(backend)
    history = solution.history
    total = np.array([solution.problem.weights[n] * np.array(v) for n, v in history["losses"].items()]).sum(axis=0)
    for start, stop in ((6, 12), (12, 18), (18, 26)):
        # The loss at ``start`` was still that of the points before.
        assert (np.diff(total[start + 1 : stop + 1]) <= 0).all()
    assert total[26] < 0.1 * total[6]
    assert len(history["errors"]["u"]) == len(history["step"]) == 27
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [p["step"] for p in metrics["optimiser"]["phases"]] == [0, 6, 12, 18]
    assert history["errors"]["u"][-1] == pytest.approx(metrics["relative_l2_error"]["u"], rel=0.1)
    quantiles = list(metrics["residual_quantiles"].values())
    assert quantiles == sorted(quantiles)
    assert quantiles[0] > 0
    assert (folder / "solution.png").is_file()


def test_both_backends_take_the_same_second_order_steps(straight: Callable[[str], tuple[Path, Solution]]) -> None:
    one, other = (straight(backend)[1].history["losses"]["burgers"] for backend in BACKENDS)
    np.testing.assert_allclose(one[:13], other[:13], rtol=1e-6)


def test_points_stay_within_a_phase_and_are_refined_between(monkeypatch: pytest.MonkeyPatch) -> None:
    from opdsl.training.torch_trainer import TorchTrainer

    seen: list[np.ndarray[Any, Any]] = []
    sizes: list[np.ndarray[Any, Any]] = []
    plain, residual = TorchTrainer.step, TorchTrainer.residual

    def step(trainer: TorchTrainer) -> bool:
        seen.append(trainer._points["interior"].numpy().copy())
        return plain(trainer)

    def watched(trainer: TorchTrainer, points: Any) -> Any:
        sizes.append(residual(trainer, points))
        return sizes[-1]

    monkeypatch.setattr(TorchTrainer, "step", step)
    monkeypatch.setattr(TorchTrainer, "residual", watched)
    problem = second_order(ADAM, MARQUARDT, MARQUARDT, replace(NATURAL, steps=4))
    problem = replace(problem, sampling=replace(problem.sampling, resample=2, floor=0.0, power=4.0))
    made = Run(problem, "torch", None, None, 60.0)
    made.train(22)
    same = [bool((a == b).all()) for a, b in zip(seen, seen[1:], strict=False)]
    assert [k + 1 for k, equal in enumerate(same) if not equal] == [2, 4, 6, 12, 18, 20]  # Adam's draws, the phases, the last one's
    # At 6 and 12 they are drawn where the residual is large: chosen from a pool of four times as many, which was looked at.
    assert [len(size) for size in sizes[:2]] == [4 * 48] * 2


@pytest.mark.thorough
def test_matrix_free_steps_are_the_same_steps() -> None:
    found = []
    for matrix_free in (False, True):
        phases = (replace(MARQUARDT, matrix_free=matrix_free, steps=2),)
        found.append(solve(second_order(*phases), backend="torch", figures=False).history["losses"]["burgers"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ what a file says

HEAT = """
fields = "u"
optimiser = "auto"
[coordinates]
t = [0, 1]
x = [0, 1]
[equations]
heat = "u_t = u_xx"
[conditions]
initial = "u(t=0) = sin(pi x)"
[network]
layers = 2
width = 8
[sampling]
interior = 256
boundary = 16
"""


def test_auto_chooses_by_the_sizes_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_from_text(HEAT, "heat")
    assert {p.name for p in problem.optimisers[1:]} == {"levenberg_marquardt"}
    assert problem.optimisers[0].name == "adam"
    assert problem.dtype == "float64"
    assert "105 parameters and 272 residuals" in problem.choice
    wide = problem_from_text(HEAT.replace("width = 8", "width = 40"), "heat")
    assert wide.optimisers[1].name == "natural_gradient"
    assert "more parameters than residuals" in wide.choice
    huge = problem_from_text(HEAT.replace("width = 8", "width = 2000").replace("layers = 2", "layers = 4"), "heat")
    assert huge.optimisers[1].matrix_free
    assert "products" in huge.choice
    named = problem_from_text(HEAT.replace('"auto"', '"levenberg_marquardt"'), "heat")
    assert [p.name for p in named.optimisers] == ["levenberg_marquardt"]
    assert named.choice == ""
    rounds = problem_from_text(HEAT.replace('"auto"', '[{ name = "levenberg_marquardt", steps = 7, rounds = 3 }]'), "heat")
    assert [(p.name, p.steps) for p in rounds.optimisers] == [("levenberg_marquardt", 7)] * 3
    narrow = problem_from_text(HEAT + '[training]\ndtype = "float32"\n', "heat")
    assert narrow.dtype == "float32"
    assert problem_from_text(HEAT.replace('"auto"', '"adam"'), "heat").dtype == "float32"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"auto"', '"levenberg"', ["optimiser[0].name", "did you mean 'levenberg_marquardt'"]),
        ('"auto"', "3", ["optimiser", "a list"]),
        ('optimiser = "auto"', 'optimiser = [{ name = "natural_gradient", momentum = 1.0 }]', ["smaller than 1"]),
        ('optimiser = "auto"', 'optimiser = [{ name = "levenberg_marquardt", rate = 1.0 }]', ["unknown key", "geodesic, matrix_free, name, rounds"]),
        ('optimiser = "auto"', 'optimiser = [{ name = "levenberg_marquardt", damping = 0 }]', ["larger than 0"]),
        ("boundary = 16", "boundary = 16\nrefine = 1", ["sampling.refine", "true or false"]),
    ],
)
def test_what_a_file_cannot_mean_is_refused(old: str, new: str, words: list[str]) -> None:
    with pytest.raises(ProblemError) as caught:
        problem_from_text(HEAT.replace(old, new), "heat")
    for word in words:
        assert word in str(caught.value)


def test_a_jacobian_that_does_not_fit_is_refused_with_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "free_memory", lambda: 1e5)
    problem = problem_from_text(HEAT.replace('"auto"', '"levenberg_marquardt"'), "heat")
    with pytest.raises(ProblemError, match=r"272 residuals in 105 parameters.*matrix_free = true.*about 59 residuals"):
        solve(problem, backend="torch")
    free = replace(problem, optimisers=(replace(problem.optimisers[0], matrix_free=True),))
    assert solve(free, backend="torch", steps=1, figures=False).step == 1


def test_single_precision_is_warned_of_and_survived() -> None:
    with pytest.warns(OpdslWarning, match="levenberg_marquardt in float32.*1e-3"):
        solution = solve(second_order(MARQUARDT), backend="torch", dtype="float32", figures=False)
    assert solution.status == "finished"
    assert np.isfinite(solution.errors["u"])


def test_soap_comes_from_a_library_or_is_refused() -> None:
    soap = OptimiserSpec("soap", 8, 1e-2)
    with pytest.raises(ProblemError, match="optax .* has no SOAP; train on torch"):
        solve(second_order(soap), backend="jax")
    solution = solve(second_order(soap), backend="torch", figures=False)
    total = np.array([solution.problem.weights[n] * np.array(v) for n, v in solution.history["losses"].items()]).sum(axis=0)
    assert total[-1] < total[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_residual_that_is_no_number_is_named_with_its_points(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = HEAT.replace("u_t = u_xx", "u_t = u_xx + sqrt(x - 1/2)").replace('"auto"', '"levenberg_marquardt"')
    (tmp_path / "heat.toml").write_text(text)
    assert main(["solve", str(tmp_path / "heat.toml"), "--backend", backend, "--out", str(tmp_path / "run"), "--quiet"]) == 1
    said = capsys.readouterr().err
    assert "not finite at step 0: heat at 128 of 256 points" in said
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["diverged"]["points"] == {"heat": [128, 256]}


def test_choice_state_and_reason_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = HEAT.replace("layers = 2\nwidth = 8", "layers = 1\nwidth = 2").replace("heat = \"u_t = u_xx\"", "heat = \"u = 0\"")
    text = text.replace("sin(pi x)", "0").replace("interior = 256", "interior = 16").replace("boundary = 16", "boundary = 4")
    (tmp_path / "zero.toml").write_text(text)
    assert main(["solve", str(tmp_path / "zero.toml"), "--backend", "torch", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "optimiser: adam, then levenberg_marquardt (9 parameters and 20 residuals" in said
    assert "levenberg_marquardt: damping" in said
    assert "ended early: " in said


def test_a_damaged_history_is_refused(tmp_path: Path) -> None:
    solve(second_order(MARQUARDT), backend="torch", steps=2, out=tmp_path, figures=False)
    path = tmp_path / "checkpoint.safetensors"
    for part, value in (("errors", {}), ("phases", [{"name": 3}]), ("phases", None)):
        tree, facts = checkpoint.load(path)
        tree["history"][part] = value
        checkpoint.save(tmp_path / "bad" / "checkpoint.safetensors", tree, facts)
        with pytest.raises(ProblemError, match="does not fit this problem"):
            solve(second_order(MARQUARDT), backend="torch", out=tmp_path / "bad", resume=True)
