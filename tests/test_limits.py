"""Hostile input is refused with a code and bounded work; the bounds are counters, so a slow machine does not matter."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

import opdsl
from opdsl.algebra import work
from opdsl.errors import LanguageError
from opdsl.grammar import parse_system
from opdsl.language.calculus import differentiate, expand
from opdsl.language.constructors import mul
from opdsl.language.residual import Mul
from tests.language_gallery import GALLERY

HOSTILE: list[tuple[str, dict[str, str], str]] = [
    ("laplace(" * 50 + "u" + ")" * 50, {}, "E304"),
    ("laplace(" * 50 + "u^3" + ")" * 50, {}, "E307"),
    ("(1+∇²)^1000 u", {}, "E304"),
    ("(1+∇²)^16(u^3)", {}, "E307"),
    ("lap^8 (sin(u))", {}, "E307"),
    ("d_x^30 (1/u)", {}, "E307"),
    ("d_x^6 " + "sin(" * 50 + "u" + ")" * 50, {}, "E307"),
    ("(" * 5000 + "u" + ")" * 5000, {}, "E303"),
    ("u_t + " * 166_666 + "u", {}, "E302"),
    ("laplace(u)", {"coords": "x[1000000000]", "fields": "u"}, "E305"),
    ("1e9^99 u", {}, "E306"),
    ("1e200*1e200 u + v", {"coords": "x", "fields": "u v"}, "E306"),
    ("pi*1e300*1e300 u", {"coords": "x", "fields": "u"}, "E306"),
]


@pytest.fixture
def charges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What derivatives have been charged, and the factors and terms the products really went through."""
    counted: list[tuple[int, int]] = []
    products = [0]

    def counting(*factors: object) -> object:
        products[0] += sum(len(f.factors) if isinstance(f, Mul) else 1 for f in factors)
        return mul(*factors)  # type: ignore[arg-type]

    def spend(amount: int) -> None:
        counted.append(((counted[-1][0] if counted else 0) + amount, products[0]))
        work.spend(amount)

    monkeypatch.setattr(differentiate, "mul", counting)
    monkeypatch.setattr(differentiate, "spend", spend)
    return counted


@pytest.mark.parametrize(("text", "declarations", "code"), HOSTILE, ids=[t[:24] for t, _, _ in HOSTILE])
def test_hostile_text_is_refused(text: str, declarations: dict[str, str], code: str, charges: list[tuple[int, int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(LanguageError) as caught:
            expand(parse_system(text, **(declarations or {"coords": "t x y", "fields": "u"})))
    assert caught.value.code == code
    charged, handled = charges[-1] if charges else (0, 0)
    assert charged < 2 * work.MAX_WORK
    # The charge is honest: what was really multiplied is not much more than what was charged for.
    assert handled < 4 * work.MAX_WORK / differentiate.PRICE


def test_the_equations_of_the_gallery_stay_far_below(charges: list[tuple[int, int]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for text, declarations in GALLERY:
            expand.__globals__["_expand"].cache_clear()
            before = charges[-1][0] if charges else 0
            expand(parse_system(text, **declarations))
            assert (charges[-1][0] if charges else 0) - before < work.MAX_WORK / 20
    assert charges


# ------------------------------------------------------------------------------------------------ no text becomes code
PACKAGE = Path(opdsl.__file__).parent
EVALUATORS = frozenset("eval exec compile sympify parse_expr literal_eval lambdify __import__ getoutput system popen".split())


def _calls(tree: ast.AST) -> list[str]:
    """Names of functions called by their own name, or as attributes of anything but ``re`` and a backend."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                found.append(node.func.id)
            elif isinstance(node.func, ast.Attribute) and node.func.attr != "compile":
                found.append(node.func.attr)
    return found


def test_no_source_of_the_language_evaluates_anything() -> None:
    rooms = ("", "algebra", "language", "grammar", "strategies", "planning", "evaluation")
    files = sorted({p.resolve() for room in rooms for p in (PACKAGE / room).glob("**/*.py" if room else "*.py")})
    assert len(files) > 50
    for file in files:
        assert not EVALUATORS & set(_calls(ast.parse(file.read_text("utf-8")))), file
    assert "eval" in _calls(ast.parse("eval(text)"))


def test_no_text_is_compiled_executed_or_imported() -> None:
    """Python's own audit events while texts, good, bad and nasty, are read, expanded and printed."""
    code = """
        import sys, warnings
        from opdsl.language.calculus import conditions
        from opdsl.language.calculus import expand
        from opdsl.errors import LanguageError
        from opdsl.grammar import parse_system
        from opdsl.grammar.malformed import CONTEXT, OTHER, SYNTAX
        from language_gallery import GALLERY

        warnings.simplefilter("ignore")
        nasty = ["__import__('os').system('true')", "exec('u')", "eval(u)", "u.__class__", "lambda: u", "f'{u}'", "import os"]
        texts = GALLERY + [(t, CONTEXT) for e in SYNTAX for t in e.examples] + [(t, CONTEXT) for m in OTHER.values() for t in m]
        texts += [(t, {"coords": "x", "fields": "u"}) for t in nasty]
        seen = []

        def read():
            for text, declared in texts:
                try:
                    system = parse_system(text, **declared)
                    expand(system, 3 if system.symbolic else None), conditions(system), str(system), system.latex()
                except LanguageError as error:
                    str(error)

        read()  # what is imported lazily
        sys.addaudithook(lambda event, args: seen.append(event))
        compile("1", "here", "eval")
        assert seen.pop() == "compile"
        seen.clear()
        read()
        print(sorted(set(seen) & {"compile", "exec", "import", "os.system", "subprocess.Popen", "open"}))
    """
    paths = {"PYTHONPATH": f"{PACKAGE.parent}{os.pathsep}{Path(__file__).parent}"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100, env=os.environ | paths, check=False
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
