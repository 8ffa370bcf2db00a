"""The report of a plan: what is carried, what it costs, and what lost; as text and for notebooks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opdsl.planning.plan import Candidate, FieldPlan, Plan


def seconds_text(value: float) -> str:
    """1.23 ms."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def bytes_text(value: float) -> str:
    """1.2 MB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def times(value: float) -> str:
    """0.41 ×, 3.9 ×, 120 ×."""
    return f"{value:.2g} ×" if value < 10 else f"{value:.0f} ×"


def plan_text(plan: Plan) -> str:
    """The report that ``print(op.explain(u, x))`` shows."""
    lines = [" ; ".join(part.strip() for part in plan.text.strip().splitlines() if part.strip()), f"  {_setting(plan)}"]
    for g in plan.groups:
        lines += ["", *_group_lines(plan, g)]
    return "\n".join(lines)


_SOURCES = {"measured": "rates measured on this machine", "guessed": "rates guessed, not measured"}


def _setting(plan: Plan) -> str:
    where = "no backend in particular" if plan.backend is None else f"{plan.backend} on {plan.device}"
    goal = "a training step" if plan.training else "an evaluation"
    source = _SOURCES.get(plan.rates, "shipped rates")
    points = f"{plan.points} points" + (f" in {plan.pieces} pieces" if plan.pieces > 1 else "")
    return f"{plan.over}; {points}; {where}; chosen for {goal} by {source}"


def _group_lines(plan: Plan, g: FieldPlan) -> list[str]:
    channels = f"{g.channels} channel{'s' if g.channels > 1 else ''}"
    lines = [f"network of {', '.join(g.fields)}: {g.strategy}, {channels}"]
    rows: list[tuple[str, str]] = [("operators" if k == 0 else "", text) for k, text in enumerate(g.operators)]
    rows += [("carries" if k == 0 else "", text) for k, text in enumerate(g.details)]
    rows.append(("why", g.why))
    cost = g.cost
    for name, own, training in (("evaluation", cost.relative, False), ("training", cost.gradient, True)):
        nested = g.versus("nested_ad", training=training)
        line = f"{times(own)} one plain forward pass"
        if nested is not None and g.strategy != "nested_ad":
            line += f", {times(nested)} nested_ad"
        if g.measured is not None and training == plan.training:
            line += f"; measured {seconds_text(g.measured)}"
        rows.append((name, line))
    if cost.effort.guesses > 0:
        rows.append(("guessed", "some of the work cannot be counted: the costs above are guesses in part"))
    memory = f"{bytes_text(cost.memory)}, {bytes_text(cost.training_memory)} while training"
    if cost.compiling(plan.training):
        memory += f"; compiles in about {seconds_text(cost.compiling(plan.training))}"
    rows.append(("memory", memory))
    lines += [f"  {label:<11}{text}" for label, text in rows]
    return lines + _table_lines(g)


def _cells(c: Candidate) -> tuple[str, ...]:
    measured = "" if c.measured is None else seconds_text(c.measured)
    if c.cost is None or c.channels is None:
        return c.strategy, "", "", "", "", measured, c.why
    why = f"{c.why} (guessed)" if c.cost.effort.guesses > 0 else c.why
    return (
        c.strategy, str(c.channels), times(c.cost.relative), times(c.cost.gradient), bytes_text(c.cost.memory), measured, why,
    )  # fmt: skip


_HEAD = ("candidate", "channels", "evaluation", "training", "memory", "measured", "")


def _table_lines(g: FieldPlan) -> list[str]:
    """Candidates that apply as a table, then those that do not with their reasons."""
    rows = [_cells(c) for c in g.candidates if c.cost is not None]
    if len(rows) < 2:
        rows = []
    head = list(_HEAD)
    if all(not r[5] for r in rows):  # nothing was measured
        head.pop(5)
        rows = [(*r[:5], r[6]) for r in rows]
    lines = []
    if rows:
        widths = [max(len(r[k]) for r in (head, *rows)) for k in range(len(head))]
        for row in (head, *rows):
            cells = [
                f"{cell:<{w}}" if k in (0, len(row) - 1) else f"{cell:>{w}}"
                for k, (cell, w) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append(("  " + "  ".join(cells)).rstrip())
    lines += [f"  {c.strategy} {c.why}" for c in g.candidates if c.cost is None]
    return lines


def plan_html(plan: Plan) -> str:
    """The same for notebooks."""
    out = [f"<p><code>{escape(plan.text.strip())}</code><br><small>{escape(_setting(plan))}</small></p>"]
    for g in plan.groups:
        lines = "<br>".join(escape(t) for t in g.operators)
        nested = g.versus("nested_ad", training=plan.training)
        own = g.cost.gradient if plan.training else g.cost.relative
        price = f"{times(own)} one plain forward pass" + ("" if nested is None else f", {times(nested)} nested_ad")
        out.append(
            f"<p><b>{escape(', '.join(g.fields))}</b>: <b>{escape(g.strategy)}</b>, {g.channels} channels, {escape(price)}<br>"
            f"{escape(g.why)}<br><small>{lines}</small></p>"
        )
        if not g.candidates:
            continue
        rows = []
        for c in g.candidates:
            tag = "b" if c.strategy == g.strategy else "span"
            rows.append("<tr>" + "".join(f"<td><{tag}>{escape(cell)}</{tag}></td>" for cell in _cells(c)) + "</tr>")
        head = "".join(f"<th>{h}</th>" for h in _HEAD)
        out.append(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
    return "".join(out)
