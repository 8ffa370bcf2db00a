"""Time strategies and other installed libraries side by side on a plain network, and compare their values.

Parameters are given the value 0.5, square matrices that of 1 on the diagonal and 0.1 elsewhere; points are uniform in the unit cube.
Medians of one process, in turns; on a machine that others use only the ratios mean anything.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opdsl.backends import names
from opdsl.commands.explain import add_declarations, hidden_widths
from opdsl.commands.option_types import count, seconds

if TYPE_CHECKING:
    from opdsl.language.residual import Residual


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_declarations(parser)
    parser.add_argument("--points", type=count, default=256, help="number of points (default: %(default)s)")
    parser.add_argument("--backend", choices=names(), help="default: the first that is installed")
    parser.add_argument("--strategies", metavar="NAMES", help="with commas; default: all exact ones that apply")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="other libraries too")
    parser.add_argument("--training", action="store_true", help="time the value with its parameter gradient")
    parser.add_argument("--seconds", type=seconds, default=10.0, help="for timing, compilation not counted (default: %(default)g)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the medians (PNG, SVG, PDF)")


def run(given: argparse.Namespace) -> int:
    """Measure, print, write."""
    from opdsl import backends
    from opdsl.evaluation.api import operator
    from opdsl.evaluation.compare import compare
    from opdsl.pricing.rates import framework_version

    widths = hidden_widths(given.network)
    text = sys.stdin.read() if given.text == "-" else given.text
    backend = backends.get(given.backend or next(b for b in names() if framework_version(b)))
    options = {"coords": given.coords, "fields": given.fields, "params": given.params, "time": given.time}
    op = operator(text, backend=backend.name, **options)
    residual = op.residual()
    outputs = sum(max(1, _size(f.shape)) for f in residual.fields)
    u, x, _ = backend.example((len(residual.coords), *widths, outputs), given.points)
    wanted = given.strategies.split(",") if given.strategies else None
    found = compare(
        op, u, x, strategies=wanted, peers=given.peers, training=given.training, seconds=given.seconds,
        bindings=_values(residual, backend),
    )  # fmt: skip
    print(found)
    if given.json:
        given.json.write_text(found.to_json() + "\n", encoding="utf-8")
    if given.picture:
        found.plot(given.picture)
    return 0


def _size(shape: Any) -> int:
    out = 1
    for n in shape:
        out *= n
    return out


def _values(residual: Residual, backend: Any) -> dict[str, Any]:
    """Something for every parameter."""
    import numpy as np

    from opdsl.evaluation.call import parameter_shape

    found: dict[str, Any] = {}
    for p in residual.parameters:
        shape = parameter_shape(p, residual)
        square = len(shape) == 2 and shape[0] == shape[1]
        values = np.eye(shape[0]) * 0.9 + 0.1 if square else np.full(shape, 0.5)
        found[p.name] = backend.from_numpy(values.astype(np.float32)) if shape else 0.5
    return found
