"""The operator reference, generated from the tables of the grammar: ``python -m opdsl.grammar.reference > docs/language.md``."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from opdsl.errors import LanguageError, OpErrors
from opdsl.grammar.classify import BIHARMONIC, FUNCTIONS, NABLAS
from opdsl.grammar.malformed import CONTEXT, OTHER, SYNTAX
from opdsl.grammar.parse import parse_system

NOTATIONS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Derivatives", 'coords="t x y", fields="u"', (
        "u_xx", "d_x^2 u", "∂²u/∂x²", "d^2/dx^2 u", "diff(u, x, 2)", "d^2u/dxdy", "(u u_x)_x", "u_{2x}")),
    ("Vector calculus", 'coords="t x y", fields="u[2] p"', (
        "∇p", "∇·u", "laplace(p)", "Δ²p", "u·∇u", "hess(p)", "|∇p|²", "curl u", "d_t u + (u·∇)u")),
    ("Index notation", 'coords="t x y", fields="u", params="a_ij b_i"', (
        "a_ij d_i d_j u", "b_i d_i u", "d_i(a_ij d_j u)", "Σ_i d_i^4 u")),
    ("Operators as values", 'coords="t x", fields="u", params="nu"', (
        "(d_t - nu*lap) u", "(1 + ∇²)² u", "laplace(u^3 - u - nu*laplace(u))")),
    ("LaTeX", 'coords="t x", fields="u", params="nu"', (
        r"\partial_t u + u \partial_x u = \nu \frac{\partial^2 u}{\partial x^2}",)),
)  # fmt: skip
"""Title, declarations, and texts; the page shows how opdsl prints each one back."""


def page() -> str:
    """Return the page as Markdown; its examples are doctests."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# The operator language"
    yield ""
    yield "This page is generated from the tables of the grammar: `python -m opdsl.grammar.reference > docs/language.md`."
    yield ""
    yield "Convention: (∇u)_ij = ∂_i u_j and (∇·σ)_j = ∂_i σ_ij; vector calculus leaves out the time coordinate."
    yield ""
    yield "## Notations"
    for title, declared, texts in NOTATIONS:
        yield from ("", f"### {title}", "", "```python", ">>> from opdsl import operator")
        options = dict(part.split("=", 1) for part in declared.split(", "))
        given = {name: value.strip('"') for name, value in options.items()}
        for text in texts:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                printed = str(parse_system(text, **given)).rpartition("; ")[2]  # type: ignore[arg-type]
            quoted = f'r"{text}"' if "\\" in text else f'"{text}"'
            yield f'>>> print(str(operator({quoted}, {declared})).split("; ")[-1])'
            yield printed
        yield "```"
    yield from ("", "## Operators", "", "| written | is |", "|---|---|")
    for target in dict.fromkeys(NABLAS.values()):
        yield f"| {', '.join(f'`{name}`' for name, to in NABLAS.items() if to == target)} | {target} |"
    yield f"| {', '.join(f'`{name}`' for name in BIHARMONIC)} | laplace of laplace |"
    yield from ("", "## Functions", "", "| function | arguments | also written |", "|---|---|---|")
    for target, count in dict.fromkeys(FUNCTIONS.values()):
        others = ", ".join(f"`{name}`" for name, (to, _) in FUNCTIONS.items() if to == target and name != target)
        yield f"| `{target}` | {count or 'any number'} | {others} |"
    yield from ("", "## Errors", "", "One malformed text for each code, with the declarations", "", "```python")
    yield ", ".join(f'{kind}="{names}"' for kind, names in CONTEXT.items())
    yield "```"
    examples = {e.code: e.examples for e in SYNTAX} | OTHER
    for code in sorted(examples):
        shortest = min((t for t in examples[code] if t.isprintable() and t.strip()), key=len, default=None)
        if shortest is not None:
            shown = shortest if len(shortest) <= 60 else shortest[:57] + "…"
            yield from ("", f"### {code}", "", "```text", shown, "", *_said(shortest).splitlines(), "```")


def _said(text: str) -> str:
    """What opdsl answers, the first of several errors; long quotations are cut."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from opdsl.calculus import conditions, expand

            system = parse_system(text, **CONTEXT)  # type: ignore[arg-type]
            expand(system)
            conditions(system)
    except LanguageError as error:
        first = error.errors[0] if isinstance(error, OpErrors) else error
        return "\n".join(line if len(line) <= 120 else line[:117] + "…" for line in str(first).splitlines())
    raise AssertionError(f"the malformed example {text!r} is accepted")


if __name__ == "__main__":
    print(page(), end="")
