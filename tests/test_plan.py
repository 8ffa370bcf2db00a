"""What a plan says: text, HTML, JSON."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from opdsl.backends import get
from opdsl.evaluation.api import operator
from opdsl.planning.plan import Plan
from opdsl.planning.plan_text import bytes_text, seconds_text, times
from opdsl.strategies.linear_operators import split
from opdsl.strategies.operator_text import operator_text

CASES: dict[str, dict[str, Any]] = {
    "laplace(u)": {"coords": "x[100]"},
    "u_t + u u_x + u_xxx": {"coords": "t x"},
    "laplace(laplace(u))": {"coords": "x y"},
    "u_t = nu u_xx": {"coords": "t x", "params": "nu"},
    "a_ij d_i d_j u": {"coords": "x[5]", "params": "a_ij"},
    "div(k grad(u))": {"coords": "x y", "params": "k"},
    "u_x + v_y; u v": {"coords": "x y", "fields": "u v"},
    "u": {"coords": "x", "fields": "u"},
}


@pytest.fixture(autouse=True)
def shipped_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPDSL_CACHE_DIR", "")


def explain(text: str, **options: Any) -> Plan:
    return operator(text, **CASES[text]).explain(network=(32, 32), **options)


def test_the_report_reads_like_this() -> None:
    lines = str(explain("laplace(laplace(u))", backend="jax", strategy="derivative_space")).splitlines()
    assert lines[:11] == [
        "laplace(laplace(u))",
        "  space over x, y; 256 points; jax on cpu; chosen for an evaluation by shipped rates",
        "",
        "network of u: derivative_space, 9 channels",
        "  operators  ∂_xxxx + 2 ∂_xxyy + ∂_yyyy",
        "  carries    2 channels of degree 1",
        "             3 channels of degree 2",
        "             2 channels of degree 3",
        "             1 channel of degree 4",
        "  why        asked for",
        lines[10],
    ]
    assert lines[10].startswith("  evaluation ")
    assert lines[10].endswith("nested_ad")
    assert "  forward_laplacian does not apply: order 4 is above 2" in lines
    head = next(line for line in lines if line.startswith("  candidate"))
    assert head.split() == ["candidate", "channels", "evaluation", "training", "memory"]
    row = next(line for line in lines if line.startswith("  derivative_space "))
    assert row.split()[1] == "9"
    assert row.endswith("chosen")


@pytest.mark.parametrize("text", CASES)
@pytest.mark.parametrize("backend", [None, "jax", "torch", "numpy"])
def test_every_plan_can_be_printed_and_read_back(text: str, backend: str | None) -> None:
    found = explain(text, backend=backend)
    printed = str(found)
    assert max(map(len, printed.splitlines())) < 200
    assert "None" not in printed
    data = json.loads(found.to_json())
    assert data == json.loads(json.dumps(found.to_dict()))
    assert data["optimised_for"] == "evaluation"
    for group, network in zip(found.groups, data["networks"], strict=True):
        assert network["strategy"] == group.strategy
        assert network["cost"]["relative"] == group.cost.relative
        assert [c["strategy"] for c in network["candidates"]] == [c.strategy for c in group.candidates]
    checker = _Tags()
    checker.feed(found._repr_html_())
    assert not checker.open
    assert found.text in checker.text


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_escapes_the_text() -> None:
    found = operator("where(x < 0, u_x, u)", coords="x").explain()
    assert "x < 0" not in found._repr_html_()
    assert "x &lt; 0" in found._repr_html_()


def test_attributes_of_the_only_network_stand_on_the_plan() -> None:
    found = explain("laplace(u)")
    assert (found.strategy, found.channels, found.why) == (found.fields["u"].strategy, 34, found.groups[0].why)
    assert found.cost is found.groups[0].cost
    two = explain("div(k grad(u))")
    with pytest.raises(AttributeError, match=r"2 networks; ask plan\.fields\[name\] for one of u, k"):
        _ = two.strategy


def test_long_operators_are_shortened() -> None:
    op = operator("laplace(laplace(u))", coords="x[5]")
    (wanted,) = split(op.residual(), merge=True).operators["u"]
    text = operator_text(wanted, op.residual(), ("u",))
    assert text == "∂_{x_0}⁴ + 2 ∂_{x_0}² ∂_{x_1}² + 2 ∂_{x_0}² ∂_{x_2}² + … + ∂_{x_4}⁴ (15 terms)"


def test_plans_of_captured_networks_use_their_shapes() -> None:
    op = operator("laplace(u)", coords="x y")
    narrow, x, _ = get("numpy").example((2, 8, 1), 64)
    wide, _, _ = get("numpy").example((2, 80, 1), 64)
    a, b = (op.plan(u, x).cost for u in (narrow, wide))
    assert b.effort.products == pytest.approx(10 * a.effort.products, rel=0.05)
    assert op.plan(wide, x[:32]).points == 32


@pytest.mark.parametrize(
    ("value", "text"), [(1.5, "1.5 s"), (0.99999, "1 s"), (0.0123, "12.3 ms"), (4.2e-5, "42 µs"), (0.0, "0 µs")]
)
def test_seconds(value: float, text: str) -> None:
    assert seconds_text(value) == text


def test_sizes() -> None:
    assert [bytes_text(v) for v in (12, 1500, 2.34e6, 5e9)] == ["12 B", "1.5 kB", "2.34 MB", "5 GB"]
    assert [times(v) for v in (0.412, 3.96, 42.4)] == ["0.41 ×", "4 ×", "42 ×"]
