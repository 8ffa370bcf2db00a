"""The README: its examples run, its commands are those that work, its problem file is a problem."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from opdsl.cli import make_parser
from opdsl.training.problem_file import problem_from_text

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_examples_run_as_written() -> None:
    """All Python blocks, one after the other in one namespace."""
    text = "\n".join(blocks("python"))
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
    assert len(test.examples) > 10
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    result = runner.run(test, out=report.append)
    assert result.failed == 0, "".join(report)


def test_the_problem_file_is_a_problem() -> None:
    (text,) = blocks("toml")
    assert problem_from_text(text, "readme").losses == ("burgers", "initial", "wall")


def test_commands_are_understood() -> None:
    import shlex

    found = [line for block in blocks("sh") for line in block.replace("&&", "\n").splitlines() if "opdsl " in line]
    assert len(found) >= 3
    for line in found:
        words = shlex.split(line)
        if words[0].endswith("opdsl"):
            make_parser().parse_args(words[1:])


def test_two_commands_do_the_set_up() -> None:
    commands = [block.strip() for block in blocks("sh") if "-m venv" in block]
    assert len(commands) == 2
    assert all("\n" not in command for command in commands)
    solve, test = commands
    assert '".[solve]"' in solve
    assert "pip>=25.1" in test
    assert "-c constraints.txt" in test
