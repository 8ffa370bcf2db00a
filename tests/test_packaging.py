"""What is installed: every subpackage, the data files, and an import that is light."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "jax", "jaxlib", "scipy", "matplotlib", "optax", "rich", "sympy", "safetensors", "hypothesis")


def configuration() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8")))


def subpackages() -> set[str]:
    """Every folder with an ``__init__.py`` below the package, through the links too."""
    found = {"opdsl"}
    for folder, name in ((ROOT / "opdsl", "opdsl"), (ROOT / "backends", "opdsl.backends"), (ROOT / "grammar", "opdsl.grammar")):
        for init in folder.rglob("__init__.py"):
            inside = init.parent.relative_to(folder).parts
            found.add(".".join([name, *inside]))
    return found


def test_every_subpackage_is_listed() -> None:
    setuptools = configuration()["tool"]["setuptools"]  # type: ignore[index]
    assert sorted(setuptools["packages"]) == sorted(subpackages())


def test_grammar_and_backends_are_links_into_the_package() -> None:
    for name in ("backends", "grammar"):
        link = ROOT / "opdsl" / name
        assert link.is_symlink()
        assert link.resolve() == (ROOT / name).resolve()


def test_import_loads_no_framework() -> None:
    """What makes an import slow, the heavy modules, is checked exactly; processor time is printed, with a generous bound."""
    code = (
        "import sys, time; import numpy; began = time.process_time(); import opdsl; took = time.process_time() - began\n"
        "import opdsl.training.problem_file, opdsl.cli, json; opdsl.training.problem_file.load_problem('burgers'); opdsl.cli.make_parser()\n"
        f"print(json.dumps([took, [name for name in {HEAVY!r} if name in sys.modules]]))"
    )
    took = []
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
        seconds, loaded = json.loads(run.stdout)
        assert loaded == []
        took.append(seconds)
    print(f"import opdsl after numpy: {1000 * min(took):.0f} ms")
    assert min(took) < 0.8


def test_importing_opdsl_alone_loads_neither_parser_tables_nor_frameworks() -> None:
    code = "import sys, opdsl; print([name for name in ('lark', 'torch', 'jax', 'scipy', 'pydantic') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    assert "torch" not in run.stdout
    assert "jax" not in run.stdout
    assert "scipy" not in run.stdout
    assert "pydantic" not in run.stdout


@pytest.mark.slow
def test_the_wheel_holds_code_grammar_problems_and_licence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True, timeout=600, capture_output=True)
    (wheel,) = tmp_path.glob("opdsl-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {"opdsl/py.typed", "opdsl/training/problems/burgers.toml", "opdsl/cli.py"}
    expected |= {f"{name.replace('.', '/')}/__init__.py" for name in subpackages()}
    expected |= {f"opdsl/grammar/{path.name}" for path in (ROOT / "grammar").glob("*.lark")}
    assert expected <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "backends/", "grammar/")) for name in names)


def test_licence_and_citation_agree_with_the_version() -> None:
    project = configuration()["project"]
    assert isinstance(project, dict)
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"version: {project['version']}\n" in citation
    assert project["license"] == "MIT"
    import opdsl

    assert opdsl.__version__ == project["version"]


def test_constraints_pin_torch() -> None:
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
