"""The command line, ``opdsl COMMAND …``; every command is a module of `opdsl.commands`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from opdsl.commands import NAMES
from opdsl.errors import OpdslError, OpdslWarning
from opdsl.training.versions import version


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="opdsl", description="Differential operators written as text, evaluated fast on networks."
    )
    parser.add_argument("--version", action="version", version=f"opdsl {version() or '(not installed)'}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in NAMES:
        module = import_module(f"opdsl.commands.{name}")
        text = (module.__doc__ or "").strip()
        below = commands.add_parser(
            name, help=text.splitlines()[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(below)
        below.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 where all went well, 1 where a command says it did not, 2 for mistakes of the user, 130 after Ctrl-C.
    """
    given = make_parser().parse_args(arguments)
    try:
        with _plain_warnings():
            return int(given.run(given))
    except OpdslError as error:
        print(error, file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        # The base installation is numpy and the parser only.
        print(f"{error}; install what this command needs with: pip install 'opdsl[solve]'", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 130


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print opdsl's own warnings as what they say, without the line of code that they come from."""
    before = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> str:
        return f"warning: {message}\n" if issubclass(category, OpdslWarning) else before(message, category, *where, **more)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = before


if __name__ == "__main__":
    sys.exit(main())
