"""Problem files changed at random: a problem or opdsl's errors, in bounded time and memory, never anything else."""

from __future__ import annotations

import resource
import time
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opdsl.errors import OpdslError, OpdslWarning, ProblemError, ProblemErrors
from opdsl.training.bundled import bundled_problems, bundled_source
from opdsl.training.problem_errors import key_lines
from opdsl.training.problem_file import load_problem, problem_from_text

HEAT = """fields = "u"
[coordinates]
t = [0, 1]
x = [0, 2]
[equations]
heat = "u_t = u_xx"
"""

VALUES = [
    "0", "-1", "1e999", "nan", "-inf", "1_000_000_000_000", "9" * 400, "9" * 5000, "0x" + "f" * 6000, "true", '""', '"u"', '"x y"', "'''\n'''",
    '"\\u0000"', '"∂"', "[]", "[[]]", "[1, 2, 3]", '["x", 1]', "{}", '{ a = 1 }', "1979-05-27", "07:32:00", "[" * 900 + "]" * 900,
    "[" * 5000 + "]" * 5000, "{a=" * 500 + "1" + "}" * 500, '{ initial = 1e308, positive = true }', '{ on = "boundary" }', '{ periodic = 3 }',
    '"' + "u+" * 5000 + 'u"', '"' + "(" * 3000 + '"', '"u_' + "x" * 500 + '"', '"__import__(\'os\')"', '"laplace(u) = 0"', '"1/0"', '"u(t=0) = 1"',
]  # fmt: skip
KEYS = ["u", "x", "t", "nu", "widht", '"x[3]"', '"x[9999999999]"', '"x[²]"', '""', '"\\u0000"', "a.b.c", "points", "name", "method", "layers", "x.y"]


def changed(data: st.DataObject, text: str) -> str:
    """The file with values replaced, keys renamed, lines moved, dropped, repeated, cut or made up."""
    lines = text.split("\n")
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(lines) - 1))
        key, equals, _ = lines[place].partition(" = ")
        kind = data.draw(st.sampled_from(["value", "value", "value", "key", "drop", "repeat", "swap", "new", "bytes"]))
        if kind == "value" and equals:
            lines[place] = f"{key} = {data.draw(st.sampled_from(VALUES))}"
        elif kind == "key" and equals:
            lines[place] = data.draw(st.sampled_from(KEYS)) + lines[place][len(key) :]
        elif kind == "drop":
            lines[place] = ""
        elif kind == "repeat":
            lines.insert(place, lines[data.draw(st.integers(0, len(lines) - 1))])
        elif kind == "swap":
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
        elif kind == "new":
            lines.insert(place, f"{data.draw(st.sampled_from(KEYS))} = {data.draw(st.sampled_from(VALUES))}")
        else:
            at = data.draw(st.integers(0, len(lines[place])))
            lines[place] = lines[place][:at] + data.draw(st.text(max_size=3)) + lines[place][at:]
    return "\n".join(lines)


def refusal(text: str) -> ProblemError | None:
    """The error of a text that is no problem."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OpdslWarning)
            problem_from_text(text, "changed")
    except ProblemError as error:
        return error
    return None


def read(text: str) -> None:
    """Read a problem; anything but a problem or opdsl's errors fails, and so does what takes long."""
    began = time.process_time()
    error = refusal(text)
    assert time.process_time() - began < 2.0
    for each in error.errors if isinstance(error, ProblemErrors) else (error,):
        assert each is None or "changed.toml" in str(each)


@given(st.sampled_from(bundled_problems()), st.data())
@settings(max_examples=120)
def test_a_changed_problem_is_read_or_refused(name: str, data: st.DataObject) -> None:
    read(changed(data, bundled_source(name)))


@pytest.mark.slow
@given(st.sampled_from(bundled_problems()), st.data())
@settings(max_examples=5000)
def test_many_changed_problems(name: str, data: st.DataObject) -> None:
    read(changed(data, bundled_source(name)))


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
@settings(max_examples=100)
def test_any_text_is_read_or_refused(text: str) -> None:
    read(text)


GIANTS = [
    ("network", "layers = 100000000"), ("network", "width = 100000000"), ("network", "layers = 900\nwidth = 90000"),
    ("network", "harmonics = 100000000"), ("network", "fourier = { features = 100000000 }"),
    ("sampling", "interior = 100000000000"), ("sampling", "boundary = 1000000000"),
    ("reference", 'u = "x"\npoints = [1000000, 1000000]'), ("data", "points = 10000000000"),
    ("training", "seed = 1" + "0" * 400), ("conditions", 'ring = { periodic = "x", order = 1000000 }'),
    ("[optimiser]", "steps = 1" + "0" * 40), ("[optimiser]", 'name = "lbfgs"\nmemory = 1000000000'),
]  # fmt: skip


@pytest.mark.parametrize(("table", "line"), GIANTS, ids=[line[:40].replace("\n", " ") for _, line in GIANTS])
def test_giant_counts_are_refused_with_a_limit(table: str, line: str) -> None:
    tracemalloc.start()
    with pytest.raises(ProblemError, match=r"at most|too many|larger than the limit|no \[reference\]"):
        problem_from_text(f"{HEAT}[{table}]\n{line}\n", "giant")
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 50e6


LARGE = {
    "deep arrays": "a = " + "[" * 100_000,
    "deep tables": "a = " + "{a = " * 50_000,
    "deep keys": "[" + "a." * 50_000 + "a]\n",
    "many deep keys": "".join(f"[{'a.' * 4900}k{k}]\n" for k in range(26)),
    "many short deep keys": "".join(f"[{'a.' * 40}k{k}]\n" for k in range(2500)),
    "many keys": "[weights]\n" + "".join(f"k{k} = 1\n" for k in range(50_000)),
    "many equations": HEAT + "".join(f'e{k} = "u_t = u_xx"\n' for k in range(5000)),
    "many phases": HEAT + "[[optimiser]]\n" * 20_000,
    "long formula": HEAT + 'other = "' + "u+" * 100_000 + 'u = 0"\n',
    "long name": HEAT + "[weights]\n" + "h" * 500_000 + " = 1\n",
    "many columns": HEAT.replace("x = [0, 2]", "".join(f'"x{k}[1000]" = [0, 1]\n' for k in range(200))),
}


@pytest.mark.parametrize("text", LARGE.values(), ids=LARGE)
def test_large_files_are_refused_quickly(text: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read(text)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


def test_a_file_of_many_megabytes_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text(HEAT + "# comment\n" * 200_000)
    with pytest.raises(ProblemError, match="bytes are more than a problem file may have"):
        load_problem(tmp_path / "large.toml")


@pytest.mark.parametrize("name", ["\0", "x" * 5000, ".", "/", "a\nb", ""])
def test_names_that_are_no_files(name: str) -> None:
    with pytest.raises(OpdslError):
        load_problem(name)


def test_all_errors_of_a_file_are_told_at_once_with_their_lines() -> None:
    text = HEAT + 'wave = "u_tt = u_zz"\n[network]\nwidht = 3\nlayers = 0\n[weights]\nheta = 2\n'
    text += "[[optimiser]]\nsteps = 1.5\n[sampling]\nadaptive = true\n"
    with pytest.raises(ProblemErrors) as caught:
        problem_from_text(text, "many")
    found = [(error.line, error.key) for error in caught.value.errors]
    assert found == [
        (7, "equations.wave"), (9, "network.widht"), (10, "network.layers"), (12, "weights.heta"),
        (14, "optimiser[0].steps"), (16, "sampling.adaptive"),
    ]  # fmt: skip
    said = str(caught.value)
    assert said.startswith("6 errors in many.toml\n")
    assert "many.toml:9, key 'network.widht': unknown key; did you mean 'width'?" in said
    assert "must be at least 1, found 0" in said
    assert "expected a whole number, found 1.5" in said


@pytest.mark.parametrize("fields", ["u u", "u, u", "u x", "x"])
def test_a_field_declared_twice(fields: str) -> None:
    with pytest.raises(ProblemError, match=r"'(u|x)' is declared as a (field|coordinate) and as a field"):
        problem_from_text(HEAT.replace('fields = "u"', f'fields = "{fields}"') + '[reference]\nu = "x"\n', "twice")


def test_every_key_of_the_bundled_problems_has_its_line() -> None:
    import tomllib

    def paths(node: Any, above: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
        if isinstance(node, dict):
            return [path for key, value in node.items() for path in [(*above, key), *paths(value, (*above, key))]]
        if isinstance(node, list) and node and isinstance(node[0], dict):
            return [path for k, value in enumerate(node) for path in paths(value, (*above, k))]
        return []

    for name in bundled_problems():
        text = bundled_source(name)
        lines = key_lines(text)
        for path in paths(tomllib.loads(text)):
            if path in lines:
                assert str(path[-1]) in text.split("\n")[lines[path] - 1]
            else:
                above = [path[:k] for k in range(len(path) - 1, 1, -1)]
                assert any(p in lines for p in above), f"{path}: only keys of inline tables have no line of their own"
