"""How good are the planner's choices on the measured grid, and which rates fit it?

``python report.py`` prints, for the shipped rates, in how many cells the choice is within 1.15 × of the fastest candidate, and
the misses. ``python report.py --fit`` fits rates to the grid, prints them, and checks them by leaving operators out: every
operator is predicted with rates that were fitted without it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

from cases import Case, cases

from opdsl.backends.execution import COUNTED, Constants, Rates
from opdsl.evaluation.api import operator
from opdsl.planning.planner import Network, Settings, choose, make_plan
from opdsl.pricing.cost import fit, price
from opdsl.pricing.counting import Effort
from opdsl.pricing.rates import shipped
from opdsl.strategies import STRATEGIES

HERE = Path(__file__).parent
WITHIN = 1.15


@dataclass(frozen=True)
class Cell:
    """One measured cell: seconds and effort by candidate."""

    case: Case
    seconds: dict[str, float]
    efforts: dict[str, Effort]

    def choice(self, constants: Constants) -> str:
        """What the planner takes with these rates."""
        plain = next(iter(self.efforts.values()))
        return choose({n: price(e, plain, constants).share(self.case.training) for n, e in self.efforts.items()})

    def loss(self, constants: Constants) -> float:
        """Time of the choice as a multiple of the fastest; infinite where the choice was not measured."""
        return self.seconds.get(self.choice(constants), float("inf")) / min(self.seconds.values())


@cache
def _efforts(text: str, coords: str, width: int, points: int, outputs: int, params: str, backend: str) -> dict[str, Effort]:
    op = operator(text, coords=coords, params=params or None)
    residual = op.residual()
    d = len(residual.coords)
    names = tuple(f.name for f in residual.fields)
    network = Network.described(names, d, (width, width, width), outputs, backend, points)
    bindings = {p.name: ((d, d), False) for p in residual.parameters}
    known = {p.name: _matrix(d) for p in residual.parameters}
    settings = Settings(backend=backend, bindings=bindings, known=known)
    plan = make_plan(residual, [network], settings, text)[0]
    found = {c.strategy: c.cost.effort for c in plan.groups[0].candidates if c.cost is not None}
    return {name: found[name] for name in STRATEGIES if name in found}


def _matrix(d: int):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.eye(d) + 0.1


def cells(backend: str) -> Iterator[Cell]:
    """All measured cells of one backend."""
    path = HERE / f"measured_{backend}.json"
    measured = json.loads(path.read_text())["cells"] if path.exists() else {}
    for case in cases(backend):
        if case.key in measured:
            efforts = _efforts(case.text, case.coords, case.width, case.points, case.outputs, case.params, case.backend)
            seconds = {name: v["seconds"] for name, v in measured[case.key].items() if name in efforts}
            yield Cell(case, _pooled(seconds, efforts), efforts)


def _pooled(seconds: dict[str, float], efforts: dict[str, Effort]) -> dict[str, float]:
    """Candidates that are one computation under several names have one time: the median over the names."""
    return {name: median(t for other, t in seconds.items() if efforts[other] == efforts[name]) for name in seconds}


def fitted(some: list[Cell], prior: Constants) -> Constants:
    """Rates for the cells."""
    out = {}
    for training, before in ((False, prior.evaluation), (True, prior.training)):
        samples = [(c.efforts[n], t) for c in some if c.case.training == training for n, t in c.seconds.items() if n in c.efforts]
        out[training] = fit(samples, before, 0.01) if samples else before
    return replace(prior, evaluation=out[False], training=out[True])


def hits(some: list[Cell], constants: Callable[[Cell], Constants]) -> tuple[int, list[tuple[Cell, float]]]:
    """Number of good choices, and the others."""
    losses = [(c, c.loss(constants(c))) for c in some]
    misses = [(c, loss) for c, loss in losses if loss > WITHIN]
    return len(some) - len(misses), misses


def main(fitting: bool) -> None:
    """Print the report."""
    total = good = 0
    for backend in ("jax", "torch", "numpy"):
        some = list(cells(backend))
        if not some:
            continue
        prior = shipped(backend, "cpu")
        constants = fitted(some, prior) if fitting else prior
        if fitting:
            for mode in ("evaluation", "training"):
                rates: Rates = getattr(constants, mode)
                print(f"{backend} {mode}: Rates({', '.join(f'{getattr(rates, k):.2e}' for k in (*COUNTED, 'call'))})")
            texts = list(dict.fromkeys(c.case.text for c in some))
            without = {t: fitted([c for c in some if c.case.text != t], prior) for t in texts}
            number, _ = hits(some, lambda c, w=without: w[c.case.text])
            print(f"{backend}: {number} of {len(some)} with the operator left out of the fit")
        number, misses = hits(some, lambda _, k=constants: k)
        total, good = total + len(some), good + number
        print(f"{backend}: {number} of {len(some)} choices within {WITHIN} × of the fastest")
        for cell, loss in misses:
            rates = constants.training if cell.case.training else constants.evaluation
            what = ", ".join(
                f"{n} {1e3 * t:.3g} ms (predicted {1e3 * rates.seconds(cell.efforts[n]):.3g})" for n, t in cell.seconds.items()
            )
            print(f"  {loss:.2f} × {cell.case.key}: chose {cell.choice(constants)}; {what}")
    print(f"together: {good} of {total}, {100 * good / max(total, 1):.0f} %")


if __name__ == "__main__":
    main("--fit" in sys.argv[1:])
