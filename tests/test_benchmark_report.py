"""The generated part of docs/performance.md, from synthetic results and from the committed ones."""

from __future__ import annotations

import json
from pathlib import Path

from asv_benchmarks.benchmarks.cases import QUICK
from asv_benchmarks.benchmarks.scaling import AXES, DIMENSIONS, published
from asv_benchmarks.history import RESULTS, machines
from asv_benchmarks.report import BEGIN, END, PAGE, page


def write(folder: Path, digits: str, date: int, results: dict[str, list[object]]) -> None:
    """One result file as asv writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "machine.json").write_text(json.dumps({"machine": folder.name, "cpu": "abacus", "version": 1}))
    data = {"commit_hash": digits * 5, "date": date, "results": results}
    (folder / f"{digits}-overlay-py3.11.json").write_text(json.dumps(data))


def ratios(values: list[float]) -> list[object]:
    return [values, [["'jax:cpu'"], [repr(QUICK[0]), repr(QUICK[1])], ["'floor'"], ["'training'"]], "1"]


def test_results_are_read_by_parameters_and_in_the_order_of_dates(tmp_path: Path) -> None:
    name = "ratios.Ratios.track_ratio"
    write(tmp_path / "toy", "bbbbbbbb", 2, {name: ratios([3.0, float("nan")])})
    write(tmp_path / "toy", "aaaaaaaa", 1, {name: ratios([2.0, 1.5]), "counts.Plan.track_channels": [None]})
    (machine,) = machines(tmp_path)
    assert [c.short for c in machine.commits] == ["aaaaaaa", "bbbbbbb"]
    old, new = machine.commits
    assert old.get(name, "jax:cpu", QUICK[1], "floor", "training") == 1.5
    assert new.values == {(name, "jax:cpu", QUICK[0], "floor", "training"): 3.0}  # what was skipped is missing
    newest = machine.newest("ratios.")
    assert newest is not None
    assert newest.short == "bbbbbbb, aaaaaaa"
    assert [v for _, v in sorted(newest.values.items())] == [1.5, 3.0]  # the newest of each
    assert machine.newest("scaling.") is None


def test_the_page_shows_what_there_is_and_names_what_there_is_not(tmp_path: Path) -> None:
    plain = [[4.0, 5.0], [["'jax:cpu'"], [repr(QUICK[0])], ["'plain'"], ["'evaluation'", "'training'"]], "1"]
    carried = [[9.0], [["'biharmonic'"], ["2"]], "1"]
    write(tmp_path / "toy", "aaaaaaaa", 1, {"ratios.Ratios.track_ratio": plain, "scaling.Channels.track_carried": carried})
    (tmp_path / "toy" / "NOTE.md").write_text("Its beads were worn.\n")
    text = "\n".join(page(machines(tmp_path), tmp_path / "plots"))
    assert "abacus; 1 commits. Its beads were worn." in text
    assert f"| `jax:cpu` | {QUICK[0]} | 4 / 5 |" in text
    assert "| biharmonic | 2 | 9 | 19 | 16 | 21 |" in text
    assert "No results are recorded for `torch:cpu`" in text
    assert "`jax:cuda`" in text
    assert ".png" not in text  # neither several commits nor all dimensions


def test_pictures_are_drawn_where_there_are_results(tmp_path: Path) -> None:
    dimensions = [[float(d) for d in DIMENSIONS], [["'biharmonic'"], [str(d) for d in DIMENSIONS]], "1"]
    orders = [[float(n) for n in AXES["order"]], [["'jax:cpu'"], [f"'order={n}'" for n in AXES["order"]], ["'auto'"], ["'training'"]]]
    floors = [[1.0, 2.0], [["'jax:cpu'"], [repr(QUICK[0]), repr(QUICK[1])], ["'training'"]], "1"]
    several = {"scaling.Channels.track_carried": dimensions, "scaling.Scaling.track_plain_passes": orders}
    for k, digits in enumerate(("aaaaaaaa", "bbbbbbbb")):
        write(tmp_path / "toy", digits, k, {**several, "followed.Followed.track_floors": floors})
    list(page(machines(tmp_path), tmp_path / "plots"))
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == ["channels.png", "commits_toy.png", "cost_order.png"]


def test_published_counts() -> None:
    """Vectors that collapsed Taylor mode and nested forward Laplacians carry for the biharmonic operator."""
    found = {d: (p["collapsed Taylor mode"], p["forward Laplacian"]) for d in DIMENSIONS if (p := published("biharmonic", d))}
    assert found == {2: (19, 16), 3: (40, 25), 5: (109, 49), 10: (439, 144)}


def test_the_committed_page_is_what_the_committed_results_say(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    committed = text[text.index(BEGIN) : text.index(END)]
    assert committed == "\n".join([BEGIN, "", *page(machines(), tmp_path), ""])
    for path in tmp_path.iterdir():
        assert (PAGE.parent / "plots" / path.name).exists()


def test_results_name_no_host() -> None:
    import platform

    for path in RESULTS.glob("**/*.json"):
        assert platform.node() not in path.parts
        found = json.loads(path.read_text("utf-8"))
        for facts in found if isinstance(found, list) else [found]:
            named = {k: facts.get(k) for k in ("machine", "params", "env_name", "env_vars", "platform")}
            assert platform.node() not in json.dumps(named).split('"')
