"""Print how an operator would be evaluated: strategy, channels, cost, and why; needs no data and no framework."""

from __future__ import annotations

import argparse
import sys

from opdsl.backends import names


def add_declarations(parser: argparse.ArgumentParser) -> None:
    """The text, what it declares, and a plain network."""
    parser.add_argument(
        "text", help='the operator, such as "laplace(u) + a_ij d_i d_j u"; - reads it from standard input'
    )
    parser.add_argument("--coords", help='coordinates in the order of the columns, such as "t x y" or "x[100]"')
    parser.add_argument("--fields", help='unknowns, such as "u[2] p"; inferred where nothing is ambiguous')
    parser.add_argument("--params", help='parameters and coefficients, such as "nu a_ij"')
    parser.add_argument("--time", help="the coordinate that is time; t when present")
    parser.add_argument("--network", metavar="WIDTHS", default="64x64x64", help="hidden widths (default: %(default)s)")


def hidden_widths(text: str) -> tuple[int, ...]:
    """What ``--network`` says.

    Raises:
        BindingError: it is no list of widths.
    """
    from opdsl.errors import BindingError

    try:
        widths = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise BindingError(f"--network {text!r}: write hidden widths, such as 64x64x64")
    return widths


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_declarations(parser)
    parser.add_argument("--backend", choices=names(), help="plan for this backend")
    parser.add_argument("--strategy", default="auto", help="force a strategy by its name in the literature")
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(given: argparse.Namespace) -> int:
    """Plan and print."""
    from opdsl.evaluation.api import operator

    widths = hidden_widths(given.network)
    text = sys.stdin.read() if given.text == "-" else given.text
    options = {"coords": given.coords, "fields": given.fields, "params": given.params, "time": given.time}
    made = operator(text, backend=given.backend, strategy=given.strategy, **options)
    plan = made.plan(network=widths)
    print(plan.to_json() if given.json else plan)
    return 0
