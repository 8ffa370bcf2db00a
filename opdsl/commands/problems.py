"""List the bundled problems, or print one of them as a starting point for your own."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", nargs="?", help="print this problem's file instead of the list")


def run(given: argparse.Namespace) -> int:
    """Print."""
    import tomllib

    from opdsl.training.bundled import bundled_problems, bundled_source, no_such_problem

    names = bundled_problems()
    if given.name is not None:
        if given.name not in names:
            raise no_such_problem(given.name)
        print(bundled_source(given.name), end="")
        return 0
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {tomllib.loads(bundled_source(name))['title']}")
    return 0
