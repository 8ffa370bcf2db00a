"""Short text of expanded expressions, for plans and messages."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from html import escape
from typing import TYPE_CHECKING

from opdsl.language.constructors import children
from opdsl.language.residual import (
    Add,
    Axis,
    Call,
    Compare,
    Coordinate,
    Derivative,
    IndexSum,
    Mul,
    Number,
    Parameter,
    Pointwise,
    Power,
    Residual,
    Where,
)
from opdsl.language.traverse import fold
from opdsl.strategies.linear_operators import DerivativeTerm, LinearOperator

if TYPE_CHECKING:
    from opdsl.planning.plan import Candidate, FieldPlan, Plan

_MOST, _SHOWN = 8, 4
_LONGEST = 2000


def number_text(value: Fraction | float) -> str:
    """3, 1/2 or 0.1."""
    return str(value) if isinstance(value, Fraction) else f"{value:g}"


def text(node: Pointwise, coords: Sequence[str]) -> str:
    """An expression as one would write it; what is very long is left out."""

    def written(node: Pointwise, below: tuple[str, ...]) -> str:
        found = _written(node, below, coords)
        return found if len(found) <= _LONGEST else "…"

    return fold((node,), children, written)[0]


def _written(node: Pointwise, below: tuple[str, ...], coords: Sequence[str]) -> str:
    match node:
        case Number(value):
            return number_text(value)
        case Coordinate(axis):
            return _axis(axis, coords) if isinstance(axis, int) else f"x_{axis}"
        case Parameter(name, index):
            return name + ("_" + "".join(str(i) for i in index) if index else "")
        case Derivative(field, component, axes):
            base = field if component == 0 else f"{field}[{component}]"
            return base if not axes else f"{derivative(axes, coords)} {base}"
        case Add():
            return " + ".join(below).replace("+ -", "- ")
        case Mul(factors):
            parts = [f"({part})" if isinstance(f, Add) else part for f, part in zip(factors, below, strict=True)]
            negative = isinstance(factors[0], Number) and factors[0].value == -1
            return "-" + " ".join(parts[1:]) if negative else " ".join(parts)
        case Power(base, exponent):
            inner = f"({below[0]})" if isinstance(base, Add | Mul | Power | Derivative) else below[0]
            plain = isinstance(exponent, Number) and exponent.value >= 0 and (
                isinstance(exponent.value, float) or exponent.value.denominator == 1
            )  # fmt: skip
            return f"{inner}^{below[1]}" if plain else f"{inner}^({below[1]})"
        case Call(name, _, orders):
            return name + "'" * sum(orders) + "(" + ", ".join(below) + ")"
        case Compare(operator):
            return f"{below[0]} {operator} {below[1]}"
        case Where():
            return f"where({', '.join(below)})"
        case IndexSum(label):
            return f"Σ_{label} {below[0]}"
    return repr(node)


def _axis(axis: Axis, coords: Sequence[str]) -> str:
    return str(coords[axis]) if isinstance(axis, int) else axis


_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def derivative(axes: Sequence[Axis], coords: Sequence[str]) -> str:
    """∂_xxy; for longer names ∂_{x_0}² ∂_{x_1}."""
    names = [_axis(a, coords) for a in axes]
    if all(len(n) == 1 for n in names) and len(names) <= 4:
        return "∂_" + "".join(names)
    return " ".join(_power("∂_{" + n + "}" if len(n) > 1 else f"∂_{n}", names.count(n)) for n in dict.fromkeys(names))


def _power(symbol: str, exponent: int) -> str:
    return symbol if exponent == 1 else symbol + str(exponent).translate(_POWERS)


def term_text(t: DerivativeTerm, coords: Sequence[str]) -> str:
    """One term of an operator."""
    coefficient = text(t.coefficient, coords)
    if isinstance(t.coefficient, Add):
        coefficient = f"({coefficient})"
    head = "" if coefficient == "1" else "-" if coefficient == "-1" else coefficient + " "
    sums = "".join(f"Σ_{label} " for label in t.labels)
    return f"{head}{sums}{derivative(t.axes, coords)}"


def operator_text(operator: LinearOperator, residual: Residual, fields: Sequence[str]) -> str:
    """A merged operator, shortened where it is long."""
    terms = operator.terms if len(operator.terms) <= _MOST else (*operator.terms[: _SHOWN - 1], None, operator.terms[-1])
    texts = ["…" if t is None else term_text(t, residual.coords) for t in terms]
    out = " + ".join(texts).replace("+ -", "- ")
    if len(operator.terms) > _MOST:
        out += f" ({len(operator.terms)} terms)"
    if operator.spread is not None:
        out += f" for every {operator.spread}"
    return out


# -------------------------------------------------------------------------------------------------------------- plans


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
