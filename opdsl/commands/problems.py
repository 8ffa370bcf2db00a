"""List the bundled problems, or print one of them as a starting point for your own."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("name", nargs="?", help="print this problem's file instead of the list")


def run(given: argparse.Namespace) -> int:
    """Print."""
    from opdsl.training.problem import bundled_problems, load_problem

    if given.name:
        print(load_problem(given.name).source, end="")
        return 0
    names = bundled_problems()
    width = max(map(len, names))
    for name in names:
        print(f"{name:<{width}}  {load_problem(name).title}")
    return 0
