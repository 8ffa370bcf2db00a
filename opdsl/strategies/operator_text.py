"""Operators as they are shown in plans: merged, in short."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.language.residual import Add, Residual
from opdsl.language.residual_text import derivative_text, expression_text
from opdsl.strategies.linear_operators import DerivativeTerm, LinearOperator

_MOST, _SHOWN = 8, 4


def term_text(t: DerivativeTerm, coords: Sequence[str]) -> str:
    """One term of an operator."""
    coefficient = expression_text(t.coefficient, coords)
    if isinstance(t.coefficient, Add):
        coefficient = f"({coefficient})"
    head = "" if coefficient == "1" else "-" if coefficient == "-1" else coefficient + " "
    sums = "".join(f"Σ_{label} " for label in t.labels)
    return f"{head}{sums}{derivative_text(t.axes, coords)}"


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
