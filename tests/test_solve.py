"""Training: named losses against independent derivatives, resuming to the last bit, interrupts, results, pictures."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opdsl.errors import BackendError, ProblemError
from opdsl.training import checkpoint, files
from opdsl.training.problem import Problem
from opdsl.training.problem_file import bundled_problems, load_problem, problem_from_text
from opdsl.training.problem_tables import OptimiserSpec
from opdsl.training.run import Run
from opdsl.training.solve import Solution, solve
from opdsl.training.trainer import learning_rate

BACKENDS = ["torch", "jax"]

SMALL = """
fields = "u"
[coordinates]
t = [0, 1]
x = [-1, 1]
[parameters]
nu = { initial = 0.2, exact = 0.05, positive = true }
c = 2
[equations]
burgers = "u_t + u u_x = nu u_xx"
[conditions]
initial = "u(t=0) = -sin(pi x)"
ring = { periodic = "x", order = 1 }
wall = { on = "boundary", equation = "u = 0" }
[reference]
u = "-sin(pi x) exp(-t) / c"
[data]
points = 16
noise = 0.01
[network]
layers = 2
width = 6
[sampling]
interior = 32
boundary = 8
resample = 3
adaptive = true
[weights]
initial = 5
[[optimiser]]
name = "adam"
steps = 12
rate = 1e-2
schedule = "cosine"
[[optimiser]]
name = "lbfgs"
steps = 8
memory = 4
"""


def small(**changes: str) -> Problem:
    """The small problem, with texts replaced."""
    text = SMALL
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return problem_from_text(text, "small")


def arrays(folder: Path) -> dict[str, Any]:
    """Every array of a checkpoint, by its place in the tree, and the plain values beside them; the clock left out."""
    tree, _ = checkpoint.load(folder / "checkpoint.safetensors")
    flat: dict[str, Any] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                visit(f"{name}/{key}", value)
        elif isinstance(node, list | tuple):
            for k, value in enumerate(node):
                visit(f"{name}/{k}", value)
        else:
            flat[name] = node

    visit("", {key: tree[key] for key in ("trainer", "points", "step", "phase", "draw", "ended")})
    return flat


def assert_same_bits(one: Path, other: Path) -> None:
    """Two checkpoints hold the same run."""
    first, second = arrays(one), arrays(other)
    assert first.keys() == second.keys()
    assert any(isinstance(value, np.ndarray) for value in first.values())
    for name, value in first.items():
        if isinstance(value, np.ndarray):
            assert value.dtype == second[name].dtype, name
            assert value.tobytes() == second[name].tobytes(), name
        else:
            assert value == second[name], name


# ------------------------------------------------------------------------------------------------------------ resuming


def lean() -> Problem:
    """The small problem without the losses that make compiling long; still resampled, adaptive, and with a parameter to learn."""
    return small(**{'ring = { periodic = "x", order = 1 }': "", 'wall = { on = "boundary", equation = "u = 0" }': ""})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, Solution]]:
    """A run from beginning to end, made once for each backend and precision."""
    done: dict[tuple[str, str], tuple[Path, Solution]] = {}

    def run(backend: str, dtype: str) -> tuple[Path, Solution]:
        if (backend, dtype) not in done:
            folder = tmp_path_factory.mktemp(f"{backend}-{dtype}")
            done[backend, dtype] = folder, solve(lean(), backend=backend, dtype=dtype, out=folder, figures=False)
        return done[backend, dtype]

    return run


@pytest.mark.family(keep=6)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("halfway", "dtype"), [(7, "float32"), (12, "float64"), (15, "float64")])
def test_resuming_reaches_the_same_bits(
    backend: str, dtype: str, halfway: int, uninterrupted: Callable[..., tuple[Path, Solution]], tmp_path: Path
) -> None:
    """Twenty steps at once are ``halfway`` steps and the rest: in Adam, between the phases, in L-BFGS."""
    folder, straight = uninterrupted(backend, dtype)
    options: dict[str, Any] = {"backend": backend, "dtype": dtype, "figures": False, "out": tmp_path}
    solve(lean(), steps=halfway, **options)
    resumed = solve(lean(), resume=True, **options)
    assert straight.status == resumed.status == "finished"
    assert straight.step == resumed.step == 20
    assert_same_bits(folder, tmp_path)
    assert straight.errors == resumed.errors
    assert straight.parameters == resumed.parameters


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("backend", BACKENDS)
def test_other_seeds_give_other_bits(backend: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        solve(lean(), backend=backend, steps=2, seed=seed, out=tmp_path / str(seed), figures=False)
    first, second = (arrays(tmp_path / str(seed)) for seed in (0, 1))
    assert any(not np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.family(keep=3)
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 3}, "seed"),
        ({"dtype": "float64"}, "dtype"),
        ({"backend": "torch"}, "backend"),
        ({"problem": "initial = 5"}, "has changed since"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change: dict[str, Any], word: str, tmp_path: Path) -> None:
    solve(lean(), steps=1, out=tmp_path, figures=False)
    options = dict(change)
    problem = small(**{options.pop("problem"): "initial = 6"}) if "problem" in options else lean()
    with pytest.raises(ProblemError, match=word):
        solve(problem, out=tmp_path, resume=True, **options)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="without --resume first"):
        solve(small(), out=tmp_path, resume=True)
    with pytest.raises(ProblemError, match="out="):
        solve(small(), resume=True)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_broken_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(ProblemError, match=r"not a checkpoint|checkpoint format"):
        solve(small(), out=tmp_path, resume=True)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from([np.zeros(()), np.arange(6.0).reshape(2, 3), np.float32(0.1), np.array([], dtype=np.int64)]),
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.integers() | st.text(max_size=3), inner, max_size=3)
)


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_packing_keeps_every_bit(tree: Any) -> None:
    packed, description = checkpoint.pack(tree)
    again = checkpoint.unpack(packed, json.loads(json.dumps(description)))
    assert _text(again) == _text(tree)


def _text(tree: Any) -> Any:
    if isinstance(tree, dict):
        return [(key, _text(value)) for key, value in tree.items()]
    if isinstance(tree, list):
        return [_text(value) for value in tree]
    if isinstance(tree, np.ndarray | np.generic):
        return (str(tree.dtype), np.shape(tree), tree.tobytes())
    return (type(tree).__name__, repr(tree))


# ---------------------------------------------------------------------------------------------------------- interrupts


def interrupting(step: int, how: Callable[[], None]) -> Callable[..., None]:
    """A progress function that interrupts the run."""

    def progress(now: int, *_: Any) -> None:
        if now == step:
            how()

    return progress


def _raise() -> None:
    raise KeyboardInterrupt


@pytest.mark.family(keep=4)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("how", [lambda: os.kill(os.getpid(), signal.SIGINT), _raise], ids=["signal", "exception"])
def test_ctrl_c_keeps_what_was_reached(
    backend: str, how: Callable[[], None], uninterrupted: Callable[..., tuple[Path, Solution]], tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    options: dict[str, Any] = {"backend": backend, "out": tmp_path, "figures": False}
    stopped = solve(lean(), progress=interrupting(9, how), **options)
    assert signal.getsignal(signal.SIGINT) is before
    assert stopped.status == "interrupted"
    assert stopped.step == 9
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["status"] == "interrupted"
    assert np.isfinite(metrics["relative_l2_error"]["u"])
    solve(lean(), steps=12, resume=True, **options)
    if how is not _raise:
        solve(lean(), resume=True, **options)
        assert_same_bits(uninterrupted(backend, "float32")[0], tmp_path)


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_full_disk_at_the_end_leaves_the_checkpoint_before(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"backend": backend, "out": tmp_path, "figures": False}
    solve(lean(), steps=2, **options)
    kept = (tmp_path / "checkpoint.safetensors").read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(ProblemError, match="No space left on device"):
        solve(lean(), steps=4, resume=True, **options)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == kept
    assert not list(tmp_path.glob("*.part"))


# -------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("name", bundled_problems())
def test_both_backends_see_the_same_losses(name: str) -> None:
    """The same seed gives the same network and points, so that all losses agree before the first step."""
    problem = load_problem(name)
    sampling = replace(problem.sampling, interior=64, boundary=32)
    problem = replace(problem, dtype="float64", sampling=sampling)
    found = []
    for backend in BACKENDS:
        run = Run(problem, backend, None, None, 60.0)
        with run.trainer.scope():
            found.append(run.trainer.losses())
    assert found[0].keys() == found[1].keys() == set(problem.losses)
    for loss, value in found[0].items():
        assert found[1][loss] == pytest.approx(value, rel=1e-10), loss


def test_losses_agree_with_nested_differentiation() -> None:
    import jax
    import jax.numpy as jnp

    run = Run(replace(small(), dtype="float64"), "jax", None, None, 60.0)
    trainer: Any = run.trainer
    with trainer.scope():
        weights = trainer._theta["weights"]

        def u(point: Any) -> Any:
            return trainer._field(weights, point)[0]

        def burgers(point: Any) -> Any:
            slope, curvature = jax.grad(u)(point), jax.hessian(u)(point)
            return slope[0] + u(point) * slope[1] - 0.2 * curvature[1, 1]

        points = {name: jnp.asarray(value) for name, value in run._points.items()}
        slope = jax.vmap(jax.grad(u))
        values = jax.vmap(u)
        low, high = points["ring"], points["ring+"]
        expected = {
            "burgers": jnp.mean(jax.vmap(burgers)(points["interior"]) ** 2),
            "initial": jnp.mean((values(points["initial"]) + jnp.sin(jnp.pi * points["initial"][:, 1])) ** 2),
            "ring": jnp.mean((values(low) - values(high)) ** 2) + jnp.mean((slope(low) - slope(high))[:, 1] ** 2),
            "wall": jnp.mean(values(points["wall"]) ** 2),
            "data": jnp.mean((values(points["data"])[:, None] - run._terms[-1].observed) ** 2),
        }
        found = trainer.losses()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-12), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_adam_takes_the_textbook_step(backend: str) -> None:
    """One step of Adam moves every weight by the rate against the sign of its gradient."""
    problem = replace(small(), dtype="float64", optimisers=(OptimiserSpec("adam", 5, 1e-3),))
    run = Run(problem, backend, None, None, 60.0)
    with run.trainer.scope():
        before = run.trainer.state()["theta"]
        start = sum(problem.weights[n] * v for n, v in run.trainer.losses().items())
        run.trainer.start(problem.optimisers[0])
        assert run.trainer.step()
        after = run.trainer.state()["theta"]
        end = sum(problem.weights[n] * v for n, v in run.trainer.losses().items())
    flat = [np.ravel(b) - np.ravel(a) for a, b in zip(_leaves(before), _leaves(after), strict=True)]
    moved = np.abs(np.concatenate(flat))
    assert np.median(moved) == pytest.approx(1e-3, rel=1e-3)
    assert moved.max() <= 1e-3 * (1 + 1e-9)
    assert end < start


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in _leaves(tree[key])]
    if isinstance(tree, list):
        return [leaf for value in tree for leaf in _leaves(value)]
    return [tree]


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("backend", BACKENDS)
def test_lbfgs_goes_down_and_keeps_going(backend: str) -> None:
    """No step goes up, none is a standstill, and sixty of them take the loss down by far (both backends: to 1.6 %)."""
    problem = load_problem("poisson2d")
    problem = replace(
        problem,
        sampling=replace(problem.sampling, interior=64, boundary=32),
        network=replace(problem.network, layers=2, width=8),
        optimisers=(OptimiserSpec("lbfgs", 60),),
        dtype="float64",
    )
    solution = solve(problem, backend=backend, figures=False)
    total = np.array([problem.weights[n] * np.array(v) for n, v in solution.history["losses"].items()]).sum(axis=0)
    assert len(total) == 61
    assert (np.diff(total) < 0).all()
    assert total[-1] < 0.02 * total[0]


def test_a_phase_ends_where_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line search that finds nothing would find nothing again: the next phase begins at once."""
    from opdsl.training.torch_trainer import TorchTrainer

    calls: list[str] = []

    def step(trainer: TorchTrainer) -> bool:
        calls.append(trainer._phase.name)
        return trainer._phase.name != "adam" or len(calls) < 3

    monkeypatch.setattr(TorchTrainer, "step", step)
    solution = solve(lean(), backend="torch", figures=False)
    assert calls == ["adam"] * 3 + ["lbfgs"] * 8
    assert solution.status == "finished"
    assert solution.step == 20


@pytest.mark.parametrize("schedule", ["constant", "cosine", "exponential"])
def test_schedules_are_those_of_optax(schedule: str) -> None:
    from opdsl.training.jax_trainer import _schedule

    phase = OptimiserSpec("adam", 40, 2e-3, schedule, 0.05)
    theirs = _schedule(phase)
    for step in (0, 1, 17, 40):
        value = float(theirs(step)) if callable(theirs) else theirs
        assert phase.rate * learning_rate(phase, step) == pytest.approx(value, rel=1e-5)


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("backend", BACKENDS)
def test_hard_constraints_hold_exactly_and_periodic_features_repeat(backend: str) -> None:
    text = SMALL.replace("width = 6", 'width = 6\nperiodic = "x"\nharmonics = 2\nfourier = { features = 3 }\n'
                         'u = { factor = "t", offset = "-sin(pi x)" }')  # fmt: skip
    solution = solve(problem_from_text(text, "small"), backend=backend, steps=3, dtype="float64", figures=False)
    x = np.linspace(-1, 1, 9)
    start = np.stack([np.zeros(9), x], axis=1)
    np.testing.assert_allclose(solution.predict(start)[:, 0], -np.sin(np.pi * x), atol=1e-15)
    ends = solution.predict(np.array([[0.7, -1.0], [0.7, 1.0]]))
    assert ends[0, 0] == pytest.approx(ends[1, 0], abs=1e-13)


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_diverging_run_says_so(backend: str, tmp_path: Path) -> None:
    """Metrics, checkpoint and prediction are those of the last finite losses; nothing written is not JSON."""
    text = SMALL.replace('name = "adam"', 'name = "sgd"').replace("rate = 1e-2", "rate = 1e30")
    solution = solve(problem_from_text(text, "small"), backend=backend, out=tmp_path, figures=False)
    assert solution.status == "diverged"
    assert solution.diverged is not None
    assert solution.step < solution.diverged["step"] < 20
    for name in ("metrics.json", "checkpoint.json"):
        read = json.loads((tmp_path / name).read_text(), parse_constant=pytest.fail)
        assert (read["status"], read["step"]) == ("diverged", solution.step)
    assert None in json.loads((tmp_path / "metrics.json").read_text())["diverged"]["losses"].values()
    assert np.isfinite(solution.errors["u"])
    assert all(np.isfinite(value).all() for value in arrays(tmp_path).values() if isinstance(value, np.ndarray))


@pytest.mark.family(keep=2)
@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_that_are_never_finite(backend: str, tmp_path: Path) -> None:
    text = SMALL.replace('burgers = "u_t + u u_x = nu u_xx"', 'burgers = "u_t + u u_x = nu u_xx + log(x - 5)"')
    solution = solve(problem_from_text(text, "small"), backend=backend, out=tmp_path)
    assert (solution.status, solution.step) == ("diverged", 0)
    assert png_size(tmp_path / "solution.png") > (800, 600)
    assert solution.diverged is not None
    assert np.isnan(solution.diverged["losses"]["burgers"])


@pytest.mark.thorough
def test_several_fields_and_named_equations(tmp_path: Path) -> None:
    text = """
    fields = "u v"
    [coordinates]
    x = [0, 1]
    [equations]
    first = "u_x = v"
    second = "v_x = -u"
    [conditions]
    sine = "u(x=0) = 0"
    cosine = "v(x=0) = 1"
    [reference]
    u = "sin(x)"
    v = "cos(x)"
    [network]
    layers = 1
    width = 16
    [sampling]
    interior = 32
    boundary = 1
    [[optimiser]]
    name = "adam"
    steps = 200
    rate = 1e-2
    [[optimiser]]
    name = "lbfgs"
    steps = 100
    """
    for backend in BACKENDS:
        solution = solve(problem_from_text(text, "ode"), backend=backend, dtype="float64", out=tmp_path / backend)
        assert set(solution.history["losses"]) == {"first", "second", "sine", "cosine"}
        assert max(solution.errors.values()) < 1e-3
        assert png_size(tmp_path / backend / "solution.png") > (800, 600)


# -------------------------------------------------------------------------------------------------------------- results


def png_size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


@pytest.mark.family(keep=3)
@pytest.mark.parametrize("name", ["poisson2d", "poisson10d", "inverse_burgers"])
def test_results_are_written(name: str, tmp_path: Path) -> None:
    problem = load_problem(name)
    problem = replace(problem, sampling=replace(problem.sampling, interior=32, boundary=32))
    solution = solve(problem, steps=2, out=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint.json", "checkpoint.previous.safetensors", "checkpoint.safetensors", "metrics.json", "solution.png",
    }  # fmt: skip
    assert png_size(tmp_path / "solution.png") > (800, 600)
    metrics = json.loads((tmp_path / "metrics.json").read_text("utf-8"))
    assert metrics["relative_l2_error"] == solution.errors
    assert set(metrics["losses"]) == set(problem.losses)
    assert metrics["status"] == "stopped"
    assert metrics["step"] == 2
    assert len(metrics["history"]["step"]) == len(metrics["history"]["losses"][problem.losses[0]])
    assert {"opdsl", "jax", "numpy"} <= set(metrics["versions"])
    if name == "inverse_burgers":
        nu = metrics["parameters"]["nu"]
        assert nu["relative_error"] == pytest.approx(abs(nu["found"] / 0.05 - 1))


def test_errors_are_relative_to_the_reference() -> None:
    """The error of the zero function is one; scaling the solution by 1.5 gives one half."""
    problem = replace(load_problem("poisson2d"), optimisers=(OptimiserSpec("adam", 1, 1e-12),))
    for factor, expected in (("0", 1.0), ("1.5", 0.5)):
        offset = f"{factor} * sin(pi x) sin(2 pi y)"
        network = replace(problem.network, constraints={"u": ("0", offset)})
        solution = solve(replace(problem, network=network, dtype="float64"), steps=1, figures=False)
        assert solution.errors["u"] == pytest.approx(expected, rel=1e-12)


def test_a_problem_without_reference_has_a_picture_and_no_error(tmp_path: Path) -> None:
    text = SMALL.replace('u = "-sin(pi x) exp(-t) / c"', "").replace("points = 16\nnoise = 0.01", "")
    text = text.replace("nu = { initial = 0.2, exact = 0.05, positive = true }", "nu = 0.1")
    solution: Solution = solve(problem_from_text(text, "small"), steps=2, out=tmp_path)
    assert solution.errors == {}
    assert png_size(tmp_path / "solution.png") > (800, 600)


def test_unknown_backends_and_types_are_refused() -> None:
    with pytest.raises(BackendError, match="did you mean 'torch'"):
        solve("heat1d", backend="pytorch")
    with pytest.raises(BackendError, match="jax, torch"):
        solve("heat1d", backend="numpy")
    with pytest.raises(ProblemError, match="float32, float64"):
        solve("heat1d", dtype="float16")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["burgers", "poisson2d"])
def test_the_two_first_problems_are_solved_below_one_percent(name: str, backend: str) -> None:
    solution = solve(name, backend=backend, figures=False)
    print(name, backend, solution.errors, solution.metrics["seconds"])
    assert solution.status == "finished"
    assert solution.errors["u"] < 0.01
