"""The reference page of the language is the generated one, and its examples run."""

from __future__ import annotations

import doctest
import re
import warnings
from pathlib import Path

from docs.generate.language import page
from opdsl.grammar.malformed import OTHER, SYNTAX

PAGE = Path(__file__).parent.parent / "docs" / "language.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python -m docs.generate.language > docs/language.md"


def test_its_examples_run() -> None:
    text = "\n".join(re.findall(r"```python\n(>>>.*?)```", PAGE.read_text("utf-8"), re.S))
    test = doctest.DocTestParser().get_doctest(text, {}, "language.md", str(PAGE), 0)
    assert len(test.examples) > 20
    report: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = doctest.DocTestRunner().run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_every_code_is_shown() -> None:
    shown = set(re.findall(r"^\| (E\d+) \| `", PAGE.read_text("utf-8"), re.M))
    assert {e.code for e in SYNTAX} | set(OTHER) == shown
