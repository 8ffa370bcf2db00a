"""Measure how fast this machine is at each kind of work, so that plans fit it; takes about a minute for each backend.

The rates are kept in the user's cache folder (OPDSL_CACHE_DIR overrides it) until opdsl or the framework changes.
"""

from __future__ import annotations

import argparse
import sys

from opdsl.backends import names
from opdsl.commands.option_types import seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--backend", choices=names(), action="append", help="default: all that are installed")
    parser.add_argument("--seconds", type=seconds, default=50.0, help="for each backend, at most (default: %(default)g)")
    parser.add_argument("--dry-run", action="store_true", help="measure and print, keep nothing")


def run(given: argparse.Namespace) -> int:
    """Measure, print, keep."""
    from opdsl.evaluation.calibrate import calibrate, predictions
    from opdsl.planning.plan_text import seconds_text
    from opdsl.pricing import rates

    chosen = given.backend or [b for b in names() if rates.framework_version(b)]
    for name in chosen:
        print(f"{name} {rates.framework_version(name)}")
        found, device = calibrate(name, budget=given.seconds, progress=lambda text: print(f"  {text}", file=sys.stderr))
        print(f"  a network 128x128x128 on 1024 points, {device}:")
        for what, predicted in predictions(name, device, found).items():
            print(f"    {what}: {seconds_text(predicted)}")
        if not given.dry_run:
            path = rates.save(name, device, found)
            print("  not kept: OPDSL_CACHE_DIR is empty" if path is None else f"  kept in {path}")
    return 0
