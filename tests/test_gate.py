"""The performance gate on a synthetic benchmark; no time of opdsl is asserted anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from asv_benchmarks.benchmarks.cases import CASES, case
from asv_benchmarks.benchmarks.counts import planned
from asv_benchmarks.benchmarks.targets import TARGETS, Absent, driver
from asv_benchmarks.benchmarks.timing import paired
from asv_benchmarks.gate import Subject, Verdict, judge, record, report, settled
from opdsl import operator

VERSIONS = {"toy": "toy 1.0"}


def work(amount: int) -> int:
    return sum(i * i for i in range(amount))


def synthetic(amount: int = 40_000, nodes: float = 100.0) -> Subject:
    """The work of a benchmark, as a ratio to the same reference."""
    def ratio() -> float:
        return paired(lambda: work(amount), lambda: work(20_000), rounds=9, clock=time.process_time)

    return Subject("synthetic", "toy", lambda: {"nodes": nodes}, ratio)


def sequence(*values: float) -> Callable[[], float]:
    left = list(values)
    return lambda: left.pop(0)


BASELINE = record(judge([synthetic()], {}, VERSIONS), VERSIONS)


def test_identical_work_passes_five_times_in_a_row() -> None:
    for _ in range(5):
        assert report(judge([synthetic()], BASELINE, VERSIONS)) == 0


def test_twice_the_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(judge([synthetic(amount=80_000)], BASELINE, VERSIONS)) == 1
    said = capsys.readouterr().out
    assert "worse: synthetic: time / floor" in said
    assert "measured again" in said


@pytest.mark.parametrize(("ratios", "outcome"), [((3.0, 1.0), "ok"), ((3.0, 3.0), "worse"), ((1.4,), "ok"), ((0.5,), "better")])
def test_a_large_ratio_is_confirmed_before_it_counts(ratios: tuple[float, ...], outcome: str) -> None:
    baseline = {"versions": VERSIONS, "subjects": {"s": {"counts": {}, "ratio": 1.0}}}
    (verdict,) = judge([Subject("s", "toy", dict, sequence(*ratios))], baseline, VERSIONS)
    assert verdict.outcome == outcome


@pytest.mark.parametrize(("nodes", "outcome"), [(101.9, "ok"), (102.1, "worse"), (99.0, "ok"), (97.0, "better")])
def test_counts_may_grow_by_two_per_cent(nodes: float, outcome: str) -> None:
    baseline = {"versions": VERSIONS, "subjects": {"s": {"counts": {"nodes": 100.0}}}}
    (verdict,) = judge([Subject("s", "toy", lambda: {"nodes": nodes})], baseline, VERSIONS)
    assert verdict.outcome == outcome


def test_counts_of_another_version_are_shown_and_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    baseline = {"versions": VERSIONS, "subjects": {"s": {"counts": {"nodes": 100.0}}}}
    assert report(judge([Subject("s", "toy", lambda: {"nodes": 200.0})], baseline, {"toy": "toy 1.1"})) == 0
    assert "counts not compared: toy 1.1 here, toy 1.0 in the baseline" in capsys.readouterr().out


def test_counts_that_need_no_framework_are_always_compared() -> None:
    baseline = {"versions": VERSIONS, "subjects": {"s": {"counts": {"channels": 9.0}}}}
    assert report(judge([Subject("s", "", lambda: {"channels": 10.0})], baseline, {"toy": "toy 1.1"})) == 1


def test_what_the_baseline_does_not_know_fails() -> None:
    assert report(judge([Subject("s", "toy", lambda: {"nodes": 1.0})], {}, VERSIONS)) == 1


def test_measuring_nothing_fails() -> None:
    assert report([]) == 1


def test_a_recorded_baseline_is_met_by_what_it_was_recorded_from() -> None:
    found = [Verdict("s", "nodes", 7.0, None, "new"), Verdict("s", "time / floor", 1.2, None, "new")]
    assert record(found, VERSIONS)["subjects"] == {"s": {"counts": {"nodes": 7.0}, "ratio": 1.2}}


def test_a_baseline_is_the_median_of_three_measurements() -> None:
    subject = settled(Subject("s", "toy", dict, sequence(0.7, 1.2, 1.1)))
    assert record(judge([subject], {}, VERSIONS), VERSIONS)["subjects"]["s"]["ratio"] == 1.1


# -------------------------------------------------------------------------------------------------- what is measured


@pytest.mark.parametrize("name", CASES)
def test_the_floor_of_a_case_is_the_dimension_of_its_derivative_space(name: str) -> None:
    what = case(name)
    if what.rank:
        assert what.channels == what.rank + 2
    else:
        assert planned(name)["channels"] == what.channels


def test_the_dimension_of_a_case_is_its_number_of_coordinates() -> None:
    for what in CASES.values():
        assert what.dimension == len(operator(what.text, coords=what.coords).residual().coords)


@pytest.mark.parametrize("axis", ["order=4", "dimension=7", "points=32"])
def test_cases_along_an_axis(axis: str) -> None:
    assert planned(axis)["channels"] == case(axis).channels


@pytest.mark.parametrize("target", TARGETS)
def test_absent_targets_are_skipped_by_name(target: str) -> None:
    found = ""
    try:
        assert driver(target).target == target
    except Absent as absent:
        found = str(absent)
    assert not found or found.startswith(f"{target} skipped: ")


def test_unknown_targets_are_refused() -> None:
    with pytest.raises(KeyError, match="jax:abacus"):
        driver("jax:abacus")


@pytest.mark.parametrize("target", ["jax:cpu", "torch:cpu", "numpy:cpu"])
def test_counts_are_deterministic_and_grow_with_the_work(target: str) -> None:
    pytest.importorskip(target.partition(":")[0])
    small, again, large = (driver(target).operator(case(f"points={n}"), "evaluation").count() for n in (16, 16, 64))
    assert again == pytest.approx(small, rel=0.01)  # of NumPy's bytes some are Python's own
    assert large["temporaries"] > 3 * small["temporaries"] * 0.9


def test_ratios_belong_to_a_kind_of_processor() -> None:
    baseline = {"versions": {"jax": "jax 1 on another processor"}, "subjects": {"s": {"counts": {}, "ratio": 1.0}}}
    (verdict,) = judge([Subject("s", "jax", dict, lambda: 100.0)], baseline, {"jax": "jax 1 on this processor"})
    assert verdict.outcome == "not compared"
    assert verdict.note == "this processor here, another processor in the baseline"
