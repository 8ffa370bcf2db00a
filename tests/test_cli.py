"""The command line: what it prints, what it returns, and that mistakes are messages, not tracebacks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from opdsl.cli import _plain_warnings, main, make_parser
from opdsl.commands import NAMES
from opdsl.errors import OpdslWarning
from opdsl.training.problem_file import bundled_problems, load_problem

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: opdsl {name}" in capsys.readouterr().out


def test_python_m_opdsl_is_the_command_line() -> None:
    run = subprocess.run([sys.executable, "-m", "opdsl", "problems"], cwd=ROOT, check=True, timeout=120, capture_output=True, text=True)
    assert "burgers" in run.stdout


def test_problems_and_checks_of_texts_need_no_pydantic(tmp_path: Path) -> None:
    """The base installation lists problems and checks equations."""
    (tmp_path / "heat.txt").write_text("coords: t x; fields: u; u_t = u_xx")
    code = (
        "import sys; sys.modules['pydantic'] = None; from opdsl.cli import main\n"
        f"assert main(['problems']) == main(['problems', 'kdv']) == main(['check', {str(tmp_path / 'heat.txt')!r}]) == 0\n"
        "assert main(['check', 'x.toml']) == 2"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120, capture_output=True, text=True)
    assert "pip install 'opdsl[solve]'" in run.stderr


def test_warnings_are_lines_without_code() -> None:
    before = warnings.formatwarning
    with _plain_warnings():
        assert warnings.formatwarning("mind the gap", OpdslWarning, "file.py", 3) == "warning: mind the gap\n"
        assert "file.py:3" in warnings.formatwarning("others stay", UserWarning, "file.py", 3)
    assert warnings.formatwarning is before


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("opdsl 0.")


def test_no_command_is_a_mistake() -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args([])
    assert caught.value.code == 2


# ------------------------------------------------------------------------------------------------------------- explain


def test_explain_needs_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "laplace(u) + a_ij d_i d_j u", "--coords", "x y z"]) == 0
    out = capsys.readouterr().out
    assert "laplace(u) + a_ij d_i d_j u" in out
    assert "channels" in out
    assert "dof" in out
    assert "nested_ad" in out


def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    text = "u_t + u u_x = nu u_xx"
    assert main(["explain", text, "--coords", "t x", "--params", "nu", "--network", "16x16", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["text"] == text
    assert plan["networks"][0]["fields"] == ["u"]
    assert plan["networks"][0]["channels"] >= 3


def test_explain_forces_a_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "laplace(u)", "--coords", "x y", "--strategy", "nested_ad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["networks"][0]["strategy"] == "nested_ad"


def test_explain_imports_no_framework() -> None:
    code = (
        "import sys; from opdsl.cli import main; main(['explain', 'laplace(u)', '--coords', 'x y'])\n"
        "assert not {'torch', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain", "laplace(u) +", "--coords", "x y"], ["OpSyntaxError"]),
        (["explain", "u_xz", "--coords", "x y", "--fields", "u"], ["OpNameError", "^"]),
        (["explain", "laplace(u)", "--coords", "x y", "--network", "64,64"], ["64x64x64"]),
        (["explain", "laplace(u)", "--coords", "x y", "--strategy", "nested"], ["StrategyError", "nested_ad"]),
        (["problems", "burger"], ["did you mean 'burgers'"]),
        (["solve", "nothing.toml"], ["no file 'nothing.toml'", "Bundled problems"]),
        (["solve", "burgers", "--resume", "--out", "/nonexistent/x"], ["nothing to resume"]),
    ],
)
def test_mistakes_are_messages(arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    for word in words:
        assert word in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    "arguments", [["solve", "burgers", "--steps", "0"], ["solve", "burgers", "--backend", "numpy"], ["sovle"],
                  ["solve", "burgers", "--seed", "-1"], ["solve", "burgers", "--save-every", "0"], ["tune", "--seconds", "-3"]]
)
def test_unusable_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ problems


def test_problems_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(bundled_problems())


def test_a_problem_is_printed_to_start_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["problems", "kdv"]) == 0
    assert capsys.readouterr().out == load_problem("kdv").source


# --------------------------------------------------------------------------------------------------------------- solve


def test_solve_writes_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["solve", "heat1d", "--steps", "3", "--out", out, "--seed", "4"]) == 0
    printed = capsys.readouterr().out
    assert "stopped after 3 of" in printed
    assert "relative L2 error of u:" in printed
    assert "heat " in printed
    assert "initial " in printed
    assert (
        main(["solve", "heat1d", "--steps", "5", "--out", out, "--seed", "4", "--resume", "--quiet"]) == 0
    )
    assert "stopped after 5 of" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert (metrics["step"], metrics["dtype"], metrics["seed"], metrics["backend"]) == (5, "float64", 4, "jax")


def test_results_go_into_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["solve", "heat1d", "--steps", "1", "--quiet"]) == 0
    assert (tmp_path / "runs" / "heat1d-jax" / "solution.png").is_file()


@pytest.mark.thorough
def test_ctrl_c_on_the_command_line_keeps_the_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opdsl.cli", "solve", "heat1d", "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().startswith("0/"):
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "interrupted by SIGINT after" in rest
    assert "go on with: opdsl solve heat1d" in rest
    assert json.loads((tmp_path / "metrics.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "checkpoint.safetensors").is_file()
