"""A run is not lost: killed processes, damaged checkpoints, folders that cannot be used, runs that must not be overwritten."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_solve import arrays, assert_same_bits, lean

from opdsl.errors import OpdslError, OpdslWarning, ProblemError
from opdsl.training import checkpoint
from opdsl.training.problem_file import problem_from_text
from opdsl.training.run import Run
from opdsl.training.solve import solve

ROOT = Path(__file__).parent.parent
BACKENDS = ("jax", "torch")

# Long enough to be killed in the middle, with new points and both kinds of optimisers.
LONG = """
fields = "u"
[coordinates]
t = [0, 1]
x = [-1, 1]
[equations]
heat = "u_t = u_xx"
[network]
layers = 1
width = 4
[sampling]
interior = 8
resample = 7
adaptive = true
[[optimiser]]
steps = 150
[[optimiser]]
name = "lbfgs"
steps = 100000
"""


def start(folder: Path, backend: str, *more: str) -> subprocess.Popen[str]:
    """``opdsl solve`` in a process of its own; it returns when training is under way."""
    (folder / "long.toml").write_text(LONG)
    command = [sys.executable, "-m", "opdsl", "solve", str(folder / "long.toml"), "--backend", backend,
               "--out", str(folder / "run"), "--save-every", "0.02", *more]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder)
    deadline = time.monotonic() + 300
    path = folder / "run" / "checkpoint.json"
    while time.monotonic() < deadline and process.poll() is None:
        if path.is_file() and json.loads(path.read_text())["step"] > 0:
            return process
        time.sleep(0.02)
    process.kill()
    pytest.fail(f"nothing was kept: {process.communicate()[0]}")


def compare_with_uninterrupted(folder: Path, backend: str) -> None:
    """Go on from what is left for a few steps: the same bits as a run that was never interrupted."""
    problem = problem_from_text(LONG, "long")
    step = checkpoint.load(folder / "run" / "checkpoint.safetensors")[1]["step"]
    assert step > 0
    options: dict[str, Any] = {"backend": backend, "steps": step + 5, "figures": False}
    with pytest.raises(ProblemError, match="would be lost"):
        solve(problem, out=folder / "run", **options)
    resumed = solve(problem, out=folder / "run", resume=True, **options)
    assert resumed.step == step + 5
    solve(problem, out=folder / "straight", **options)
    assert_same_bits(folder / "straight", folder / "run")


KILLS = [(signal.SIGKILL, "torch", 0.0), (signal.SIGHUP, "torch", 0.3), (signal.SIGTERM, "jax", 0.1)]
MANY = [(s, b, random.Random(k).uniform(0, 3)) for k, (s, b) in enumerate(
    (s, b) for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT) for b in BACKENDS for _ in range(3))]  # fmt: skip


@pytest.mark.family(keep=2)
@pytest.mark.parametrize(
    ("number", "backend", "wait"), [*KILLS, *(pytest.param(*case, marks=pytest.mark.slow) for case in MANY)]
)
def test_a_killed_process_goes_on_to_the_same_bits(number: signal.Signals, backend: str, wait: float, tmp_path: Path) -> None:
    process = start(tmp_path, backend)
    time.sleep(wait)
    process.send_signal(number)
    said = process.communicate(timeout=120)[0]
    if number is signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number, said
        assert f"interrupted by {number.name} after" in said
        assert f"go on with: opdsl solve {tmp_path / 'long.toml'}" in said
        assert "--resume" in said
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert (metrics["status"], metrics["signal"]) == ("interrupted", number.name)
        assert (tmp_path / "run" / "solution.png").is_file()
    compare_with_uninterrupted(tmp_path, backend)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a pseudo-terminal")
def test_a_terminal_that_closes_ends_the_run_and_keeps_it(tmp_path: Path) -> None:
    """The bar is drawn on a terminal that goes away while the process is at work."""
    import pty

    (tmp_path / "long.toml").write_text(LONG)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "opdsl", "solve", "long.toml", "--backend", "torch", "--out", "run", "--save-every", "0.02"]
    # A session of its own whose terminal this is: closing our end sends SIGHUP.
    code = f"import fcntl, os, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv({command[0]!r}, {command!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    path, deadline = tmp_path / "run" / "checkpoint.json", time.monotonic() + 300
    while time.monotonic() < deadline and not (path.is_file() and json.loads(path.read_text())["step"] > 0):
        os.read(ours, 1 << 16)
    os.close(ours)
    assert process.wait(timeout=120) == 128 + signal.SIGHUP
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["status"], metrics["signal"]) == ("interrupted", "SIGHUP")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """``nohup``: the end of the terminal does not end the run; asked in the process itself, which is quicker than a new one."""
    from opdsl.training.interrupts import Interrupt, interruptible

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        found = Interrupt()
        with interruptible(found):
            signal.raise_signal(signal.SIGHUP)
            assert not found
            signal.raise_signal(signal.SIGTERM)
            assert found.name == "SIGTERM"
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "the second one ends the process"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_of_a_progress_function_loses_nothing(backend: str, tmp_path: Path) -> None:
    def progress(step: int, *_: Any) -> None:
        if step == 5:
            raise RuntimeError("mistake of the caller")

    with pytest.raises(RuntimeError, match="mistake of the caller"):
        solve(lean(), backend=backend, out=tmp_path, progress=progress, figures=False)
    assert arrays(tmp_path)["/step"] == 5


def test_a_terminal_that_is_gone_does_not_end_the_run() -> None:
    def progress(step: int, *_: Any) -> None:
        raise BrokenPipeError

    assert solve(lean(), backend="torch", steps=3, progress=progress, figures=False).step == 3


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = checkpoint.save, []

    def save(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) in (2, 3):
            raise OSError(28, "No space left on device")
        real(*arguments)

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.warns(OpdslWarning, match="No space left on device; training goes on"):
        solve(lean(), backend="torch", steps=6, out=tmp_path, save_every=1e-9, figures=False)
    assert arrays(tmp_path)["/step"] == 6


# -------------------------------------------------------------------------------------------------------- the folder


@pytest.mark.parametrize("below", ["", "inside"])
def test_a_file_as_results_folder_is_found_before_training(below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("precious")
    monkeypatch.setattr(Run, "__init__", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(ProblemError, match=r"cannot be written to .*taken.*choose another folder"):
        solve(lean(), out=tmp_path / "taken" / below)
    assert (tmp_path / "taken").read_text() == "precious"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that not even the administrator can write to")
def test_a_folder_that_cannot_be_written_is_found_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "__init__", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(ProblemError, match="cannot be written to /proc/self"):
        solve(lean(), out="/proc/self/opdsl")


def test_a_full_disk_is_found_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Run, "__init__", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(ProblemError, match="No space left on device"):
        solve(lean(), out=tmp_path)


def test_a_longer_run_is_not_overwritten(tmp_path: Path) -> None:
    options: dict[str, Any] = {"backend": "torch", "out": tmp_path, "figures": False}
    solve(lean(), steps=4, **options)
    kept = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(ProblemError, match=r"holds a run of 4 steps \(stopped\).*--resume.*--force"):
        solve(lean(), steps=3, **options)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == kept
    assert solve(lean(), steps=3, force=True, **options).step == 3
    assert solve(lean(), steps=3, **options).step == 3, "one of the same length may be repeated"


# ----------------------------------------------------------------------------------------------- damaged checkpoints

TREE = {"weights": [np.arange(12.0).reshape(3, 4), np.array(0.5, dtype=np.float32)], "step": 7, "names": {0: "u", "1": None}, "pair": (1, 2.5)}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "checkpoint.safetensors"
    checkpoint.save(path, TREE, {"step": 7})
    return path.read_bytes()


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """The file cut off, with bits flipped, with bytes put in, or another file altogether."""
    kind = data.draw(st.sampled_from(["cut", "flip", "insert", "foreign", "length", "header"]))
    place = data.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        return content[:place]
    if kind == "flip":
        return content[:place] + bytes([content[place] ^ (1 << data.draw(st.integers(0, 7)))]) + content[place + 1 :]
    if kind == "insert":
        return content[:place] + data.draw(st.binary(min_size=1, max_size=20)) + content[place:]
    if kind == "foreign":
        return data.draw(st.binary(max_size=200))
    if kind == "length":
        return data.draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little") + content[8:]
    header = data.draw(st.sampled_from(["[" * 100_000, '{"a":' * 50_000, "{}", "[]", "null", '{"__metadata__": 3}', "1" * 10_000]))
    return len(header).to_bytes(8, "little") + header.encode() + content[place:]


@given(st.data())
@settings(max_examples=150)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_is_used(
    sound: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = damaged(data, sound)
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "checkpoint.safetensors"
    path.write_bytes(content)
    began = time.process_time()
    try:
        tree, _ = checkpoint.load(path)
    except ProblemError:
        (folder / "checkpoint.previous.safetensors").write_bytes(sound)
        with pytest.warns(OpdslWarning, match=r"checkpoint\.previous\.safetensors, the one before it, is used instead"):
            tree, _ = checkpoint.load(path)
    # Whatever was read is what was written: a change that matters never passes.
    assert repr(tree) == repr(TREE)
    assert time.process_time() - began < 2


def crafted(path: Path, content: str, tensors: dict[str, Any] | None = None) -> None:
    """A checkpoint whose checksum is right and whose description is anything."""
    from safetensors.numpy import save_file

    tensors = {} if tensors is None else tensors
    save_file(tensors, str(path), metadata={"opdsl": content, "sha256": checkpoint._checksum(content, tensors)})


HEADERS = [
    "", "[]", "3", "null", '{"format": 2}', '{"format": 2, "facts": {}}', '{"format": 2, "facts": {}, "tree": {}}',
    '{"format": 2, "facts": {}, "tree": {"array": "9"}}', '{"format": 2, "facts": [], "tree": {"value": 1}}',
    '{"format": 2, "facts": {}, "tree": {"dict": 3}}', '{"format": 2, "facts": {}, "tree": {"dict": [[[], {"value": 1}]]}}',
    '{"format": 2, "facts": {}, "tree": {"dict": [["a"]]}}', '{"format": 2, "facts": {}, "tree": {"call": "os.remove"}}',
    '{"format": 2, "facts": {}, "tree": {"list": [{"value": 1, "array": "0"}]}}', '{"format": 1e999}', '{"format": "2"}',
    '{"format": 2, "facts": {}, "tree": ' + '{"list": [' * 20_000 + "]}" * 20_000 + "}", '{"format": 2, "facts": {}, "tree": ' + "[" * 100_000,
    "9" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("content", HEADERS, ids=[h[:50] for h in HEADERS])
def test_a_crafted_header_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    crafted(path, content)
    with pytest.raises(ProblemError, match=r"not a checkpoint|checkpoint format"):
        checkpoint.load(path)


@pytest.fixture(scope="module", params=BACKENDS)
def taken_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Any, dict[str, Any]]:
    """A run, and the checkpoint it can be continued from."""
    folder = tmp_path_factory.mktemp("taken-up")
    solve(lean(), backend=request.param, steps=3, out=folder, figures=False)
    return Run(lean(), request.param, folder, None, 60.0), *checkpoint.load(folder / "checkpoint.safetensors")


MUTATIONS: list[tuple[str, Any]] = [
    ("step", -1), ("step", 10**30), ("step", "3"), ("step", True), ("phase", 7), ("phase", None), ("draw", 2.5), ("ended", 3), ("ended", [9]),
    ("seconds", float("nan")), ("seconds", "1"), ("points", {}), ("points", None), ("history", {}), ("history", {"step": [1], "seconds": []}),
    ("trainer", {}), ("trainer", {"theta": None, "optimiser": None}), ("trainer/optimiser", []), ("trainer/optimiser", {"state": 3}),
    ("trainer/optimiser", "adam"), ("trainer/theta", []), ("history/losses", {}), ("history/step", ["x"]), ("history/losses/burgers", [None]),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), MUTATIONS, ids=[f"{p}={str(v)[:30]}" for p, v in MUTATIONS])
def test_a_crafted_state_is_refused(place: str, value: Any, taken_up: tuple[Run, Any, dict[str, Any]]) -> None:
    run, tree, facts = taken_up

    def changed(node: dict[str, Any], keys: list[str]) -> dict[str, Any]:
        return node | {keys[0]: value if len(keys) == 1 else changed(node[keys[0]], keys[1:])}

    with pytest.raises(ProblemError, match=r"does not fit this problem.*start again"):
        run.restore(changed(tree, place.split("/")), facts)


def test_the_sound_state_is_taken(taken_up: tuple[Run, Any, dict[str, Any]]) -> None:
    run, tree, facts = taken_up
    run.restore(tree, facts)
    assert run.step == 3


@pytest.mark.parametrize("what", ["step", "optimiser"])
def test_facts_of_another_kind(what: str, taken_up: tuple[Run, Any, dict[str, Any]]) -> None:
    run, tree, _ = taken_up
    with pytest.raises(OpdslError, match="belongs to another run"):
        run.restore(tree, {what: 3})


def test_a_damaged_checkpoint_does_not_push_out_the_sound_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    for step in (1, 2):
        checkpoint.save(path, TREE, {"step": step})
    path.write_bytes(b"damaged")
    checkpoint.save(path, TREE, {"step": 3})
    assert checkpoint.load(checkpoint.previous(path))[1] == {"step": 1}
    assert checkpoint.load(path)[1] == {"step": 3}
