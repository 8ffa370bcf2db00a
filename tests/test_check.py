"""`opdsl check`, Sobolev residuals and changes of variables through the public functions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import opdsl
from opdsl.cli import main


def test_a_right_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "heat.txt"
    file.write_text("coords: t x; params: nu; heat: u_t = nu u_xx; u(t=0) = sin(pi x)\n")
    assert main(["check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: ok\n"


def test_all_errors_of_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, problem = tmp_path / "wrong.txt", tmp_path / "wrong.toml"
    text.write_text("u_t = nu u_xz; u_t = foo(u)\n")
    problem.write_text("fields = 3\n")
    assert main(["check", str(text), str(problem), str(tmp_path / "absent.txt"), "--coords", "t x", "--fields", "u", "--params", "nu"]) == 1
    said = capsys.readouterr().err
    assert "u_xz" in said
    assert "foo" in said, "the second error of the same file is reported too"
    assert "wrong.toml" in said
    assert "absent.txt: cannot be read" in said
    assert "Traceback" not in said


def test_sobolev_residuals_are_derivatives_of_the_residual() -> None:
    op = opdsl.operator("F: u_t - u u_x", coords="t x", fields="u").sobolev(1)
    x = np.random.default_rng(0).uniform(0.5, 1.5, size=(4, 2))
    r = op(lambda p: p[:, 0] ** 2 * p[:, 1] ** 3, x)
    t, y = x.T
    # u = t² y³: F = 2 t y³ − 3 t⁴ y⁵
    np.testing.assert_allclose(r["F"], 2 * t * y**3 - 3 * t**4 * y**5, rtol=1e-12)
    np.testing.assert_allclose(r["F_t"], 2 * y**3 - 12 * t**3 * y**5, rtol=1e-12)
    np.testing.assert_allclose(r["F_x"], 6 * t * y**2 - 15 * t**4 * y**4, rtol=1e-12)


def test_a_change_of_variables_evaluates_to_the_same_numbers() -> None:
    op = opdsl.operator("u_t - u_xx", coords="t x", fields="u")
    new = op.substitute("t = s; x = 2*y", coords="s y")
    old_points = np.random.default_rng(1).uniform(0.5, 1.5, size=(4, 2))
    new_points = old_points * np.array([1.0, 0.5])
    a = op(lambda p: p[:, 0] * p[:, 1] ** 3, old_points)
    b = new(lambda p: p[:, 0] * (2 * p[:, 1]) ** 3, new_points)
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_sympy_and_back() -> None:
    pytest.importorskip("sympy")
    (expression,) = opdsl.operator("laplace(u)", coords="x y").to_sympy()
    assert str(expression) == "Derivative(u(x, y), (x, 2)) + Derivative(u(x, y), (y, 2))"


def test_every_error_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "wrong.txt"
    file.write_text("coords: t x\nfields: u; params: nu\n# heat\nu_t = nu u_xz\n\nu_t = qq u\n")
    assert main(["check", str(file)]) == 1
    said = capsys.readouterr().err
    assert f"{file}:4: OpNameError[E103]" in said
    assert f"{file}:6: OpNameError[E102]" in said


def test_errors_of_the_expansion_do_not_hide_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "large.txt"
    file.write_text("coords: x y; fields: u\na: lap^8 (sin(u))\nb: u_x = 0\nc: lap^8 (cos(u))\n")
    assert main(["check", str(file)]) == 1
    said = capsys.readouterr().err
    assert said.count("E307") == 2
    assert "'a'" in said
    assert "'c'" in said


def test_an_open_dimension_can_be_checked(tmp_path: Path) -> None:
    file = tmp_path / "open.txt"
    file.write_text("coords: t x[d]; fields: u; u_t = laplace(u)\n")
    assert main(["check", str(file)]) == 0


def test_facts_of_an_open_dimension_say_so() -> None:
    info = opdsl.operator("u_t = laplace(u)", coords="t x[d]", fields="u").info()
    assert info.order == 2
    assert any("d = 3" in note for note in info.notes)


def test_missing_sympy_is_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sympy", None)
    op = opdsl.operator("laplace(u)", coords="x y")
    for convert in (op.to_sympy, lambda: opdsl.from_sympy(0, coords="x")):
        with pytest.raises(opdsl.OpdslError, match=r"opdsl\[sympy\]"):
            convert()
