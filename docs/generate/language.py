r"""The operator reference, generated from the tables of the grammar: ``python -m docs.generate.language > docs/language.md``.

The page is prose and doctests (`PROSE`), tables of notations with what opdsl prints back for them (`NOTATIONS`), and the tables of
operators, functions, limits and errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from docs.generate.language_text import NOTATIONS, PROSE
from opdsl.errors import LanguageError, OpErrors
from opdsl.grammar.declarations import MAX_DIMENSION, MAX_ORDER
from opdsl.grammar.malformed import CONTEXT, OTHER, SYNTAX
from opdsl.grammar.parse import MAX_EQUATIONS, MAX_NAMES, parse_system
from opdsl.grammar.scanner import MAX_DEPTH, MAX_DIGITS, MAX_NAME, MAX_TEXT
from opdsl.grammar.vocabulary import BIHARMONIC, NABLAS
from opdsl.language.calculus import conditions, expand
from opdsl.language.calculus.expand import MAX_COMPONENTS
from opdsl.language.calculus.sobolev import MAX_DERIVED
from opdsl.language.functions import SPELT
from opdsl.language.tree_text import equations_text


def page() -> str:
    """Return the page as Markdown; its examples are doctests."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for part in PROSE:
        if part not in _TABLES:
            yield from (part.strip("\n"), "")
        else:
            yield from _TABLES[part]()
            yield ""


def _notations(title: str) -> Iterator[str]:
    """Texts that print the same stand in one row."""
    declared, texts = NOTATIONS[title]
    names = dict(part.split("=", 1) for part in declared.split(", ")) if declared else {}
    given = {name: value.strip('"') for name, value in names.items()}
    rows: dict[str, list[str]] = {}
    for text in texts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            system = parse_system(text, **given)  # type: ignore[arg-type]
        printed = equations_text(system)
        rows.setdefault(printed, []).append(text)
    yield from (f"With `{declared}`:", "", "| written | is |", "|---|---|")
    for printed, many in rows.items():
        yield f"| {' · '.join(map(_code, many))} | {_code(printed)} |"


def _code(text: str) -> str:
    """Code in a table cell: a bar would end the cell, line breaks the table."""
    shown = text.replace("|", "\\|").replace("\n", "⏎")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"


def _operators() -> Iterator[str]:
    yield from ("| name | also written | takes → gives |", "|---|---|---|")
    ranks = {
        "grad": ("∇", "rank r → r+1"), "div": ("∇·", "rank r ≥ 1 → r−1"), "curl": ("∇×", "vector (3) → vector; 2-D: vector ↔ scalar"),
        "laplace": ("Δ, ∇²", "any rank"), "hess": ("D²", "scalar → rank 2"), "jac": ("", "vector → rank 2, the transpose of grad"),
        "dn": ("∂_n, ∂u/∂n", "any rank; the normal `n` is bound at call time"),
    }  # fmt: skip
    for target in dict.fromkeys(NABLAS.values()):
        symbols, rank = ranks[target]
        others = [name for name, to in NABLAS.items() if to == target and name != target]
        yield f"| `{target}` | {', '.join([*map(_code, filter(None, symbols.split(', '))), *map(_code, others)])} | {rank} |"
    yield f"| `{BIHARMONIC[0]}` | `Δ²`, `∇⁴`, {', '.join(map(_code, BIHARMONIC[1:]))} | any rank |"


def _functions() -> Iterator[str]:
    yield from ("| arguments | functions |", "|---|---|")
    for count in (1, 2, 3, 0):
        names = []
        for record in (record for record in SPELT if record.arguments == count):
            others = f" ({', '.join(map(_code, record.spellings))})" if record.spellings else ""
            names.append(_code(record.name) + others)
        yield f"| {count or 'any number'} | {', '.join(names)} |"


def _limits() -> Iterator[str]:
    rows = [
        ("E302", "characters of a text", MAX_TEXT), ("E303", "nested brackets", MAX_DEPTH), ("E304", "order of a derivative", MAX_ORDER),
        ("E305", "length of a coordinate vector", MAX_DIMENSION), ("E305", "components of one equation", MAX_COMPONENTS),
        ("E306", "digits of a number", MAX_DIGITS), ("E307", "terms of an expansion", "about half a second of work"),
        ("E309", "names", MAX_NAMES), ("E309", "equations", MAX_EQUATIONS), ("E310", "characters of a name", MAX_NAME),
        ("E311", "equations of a Sobolev residual", MAX_DERIVED),
    ]  # fmt: skip
    yield from ("| code | what | at most |", "|---|---|---|")
    yield from (f"| {code} | {what} | {most} |" for code, what, most in rows)


def _errors() -> Iterator[str]:
    yield from ("| code | such as | says | write instead |", "|---|---|---|---|")
    examples = {e.code: e.examples for e in SYNTAX} | OTHER
    for code in sorted(examples):
        shortest = min((t for t in examples[code] if t.isprintable() and t.strip()), key=len, default="")
        shown = shortest if len(shortest) <= 30 else shortest[:27] + "…"
        error = _said(shortest)
        yield f"| {code} | {_code(shown)} | {_cell(error.message)} | {_cell(error.suggestion or '')} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def _said(text: str) -> LanguageError:
    """What opdsl answers, the first of several errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            system = parse_system(text, **CONTEXT)  # type: ignore[arg-type]
            expand(system)
            conditions(system)
    except LanguageError as error:
        return error.errors[0] if isinstance(error, OpErrors) else error
    raise AssertionError(f"the malformed example {text!r} is accepted")


_TABLES = {f"<{title}>": (lambda title=title: _notations(title)) for title in NOTATIONS} | {
    "<operators>": _operators, "<functions>": _functions, "<limits>": _limits, "<errors>": _errors,
    "<context>": lambda: iter(["```text", ", ".join(f'{kind}="{names}"' for kind, names in CONTEXT.items()), "```"]),
}  # fmt: skip

if __name__ == "__main__":
    print(page(), end="")
