"""The charter of the rooms: imports go strictly downward, and no files import one another in a circle.

Every import counts, those inside functions and those for type checkers too.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    ("opdsl", "opdsl.__main__", "opdsl.cli", "opdsl.commands"),
    ("opdsl.lowrank",),
    ("opdsl.training",),
    ("opdsl.evaluation",),
    ("opdsl.planning",),
    ("opdsl.strategies",),
    ("opdsl.pricing",),
    ("opdsl.grammar",),
    ("opdsl.backends",),
    ("opdsl.jets",),
    ("opdsl.language",),
    ("opdsl.algebra",),
    ("opdsl.errors",),
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}

# Files that need one another, and why.
CIRCLES = {
    frozenset({"opdsl.planning.plan", "opdsl.planning.plan_text"}): "a plan prints itself",
    frozenset({"opdsl.language.system", "opdsl.language.tree_latex", "opdsl.language.tree_text"}): "a system prints itself",
    frozenset({"opdsl.grammar.parse", "opdsl.grammar.syntax_errors"}): "examples of errors are found by parsing them",
    frozenset({"opdsl.evaluation.conditions", "opdsl.evaluation.operators"}): "an operator has conditions, which hold operators",
}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; the links to grammar and backends are followed once."""
    found = {}
    for folder, name in ((ROOT / "opdsl", "opdsl"), (ROOT / "backends", "opdsl.backends"), (ROOT / "grammar", "opdsl.grammar")):
        for path in sorted(folder.rglob("*.py")):
            inside = [p for p in path.relative_to(folder).with_suffix("").parts if p != "__init__"]
            if name == "opdsl" and inside and inside[0] in ("backends", "grammar"):
                continue
            found[".".join([name, *inside])] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules of the package that a module imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(modules()[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.split(".")[0] == "opdsl")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").split(".")[0] == "opdsl":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else str(node.module))
    return frozenset(found - {module})


def room(module: str) -> str:
    """The longest name on a floor that the module begins with."""
    parts = module.split(".")
    return next(name for k in range(len(parts), 0, -1) if (name := ".".join(parts[:k])) in FLOOR)


def test_imports_go_down() -> None:
    up = {
        (module, target)
        for module in modules()
        for target in imports(module)
        if room(module) != room(target) and FLOOR[room(target)] <= FLOOR[room(module)] and FLOOR[room(module)]
    }
    assert not up, sorted(up)


def circles() -> list[frozenset[str]]:
    """Groups of files each of which reaches every other one (strongly connected, Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(imports(module)):
            if target not in modules():
                continue
            if target not in index:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], index[target])
        if low[module] == index[module]:
            at = stack.index(module)
            group = frozenset(stack[at:])
            del stack[at:]
            if len(group) > 1:
                found.append(group)

    for module in modules():
        if module not in index:
            visit(module)
    return found


def test_files_do_not_import_one_another_in_circles() -> None:
    found = set(circles())
    new, done = ([sorted(group) for group in groups] for groups in (found - set(CIRCLES), set(CIRCLES) - found))
    assert not new and not done, f"new: {new}; cut, take them out of the list: {done}"


def test_nothing_stands_loose_but_the_door() -> None:
    loose = {path.stem for path in (ROOT / "opdsl").glob("*.py")}
    assert loose <= {"__init__", "__main__", "cli", "errors"}


@pytest.mark.parametrize("name", sorted({name for name in FLOOR if (ROOT / name.replace(".", "/") / "__init__.py").exists()}))
def test_every_room_says_what_it_is_for(name: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / name.replace(".", "/") / "__init__.py").read_text("utf-8")))
    assert text and len(text.splitlines()[0]) > 10


def test_files_hold_one_idea_each() -> None:
    long = {module: n for module, path in modules().items() if (n := len(path.read_text("utf-8").splitlines())) > 500}
    assert not long
