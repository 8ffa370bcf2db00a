"""Strategies and other libraries side by side on one call: one process, in turns, synchronised, the values compared."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from opdsl.algebra.polynomial import Polynomial
from opdsl.backends.base import Backend
from opdsl.backends.peers import Peer
from opdsl.errors import BindingError, OpdslError, StrategyError, shown
from opdsl.evaluation.call import OperatorCall
from opdsl.evaluation.decided import Prepared
from opdsl.evaluation.operators import Operator
from opdsl.evaluation.options import Options, bound
from opdsl.evaluation.session import Session
from opdsl.evaluation.tuning import HOPELESS, Runner, round_robin, runner
from opdsl.jets.graph import Array, Graph, evaluate
from opdsl.planning.plan import Plan
from opdsl.planning.plan_text import seconds_text
from opdsl.planning.planner import resolve
from opdsl.pricing.rates import framework_version
from opdsl.strategies.base import Delivered, Method, Strategy
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import LinearOperator, Split
from opdsl.strategies.nested_ad import Axes, combine, wanted_axes


@dataclass(frozen=True)
class Entry:
    """One way to evaluate, and what was measured of it.

    Attributes:
        name: of the strategy or library.
        peer: whether it is another library.
        chosen: whether it is what ``strategy="auto"`` takes.
        seconds: median of one evaluation (or of one value with parameter gradient); None where it does not apply.
        first: seconds of the first call, compilation included.
        channels: arrays carried through the network; None for other libraries.
        difference: largest difference from the values of the reference, relative to their largest.
        why: why there is no time.
    """

    name: str
    peer: bool = False
    chosen: bool = False
    seconds: float | None = None
    first: float | None = None
    channels: int | None = None
    difference: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; prints as a table, ``to_json()`` and ``plot(path)`` for everything else.

    Attributes:
        text: the operator.
        points, dimension: number of points, and of coordinates.
        training: whether value and parameter gradient were timed.
        facts: framework, device, dtype, Python.
        reference: whose values the others are compared with.
        entries: the fastest first; those without a time last.
    """

    text: str
    points: int
    dimension: int
    training: bool
    facts: Mapping[str, str]
    reference: str
    entries: tuple[Entry, ...]

    @property
    def measured(self) -> tuple[Entry, ...]:
        """Entries with a time, the fastest first."""
        return tuple(e for e in self.entries if e.seconds is not None)

    @property
    def _facts(self) -> str:
        return ", ".join(f"{k} {v}" for k, v in self.facts.items())

    def __getitem__(self, name: str) -> Entry:
        return next(e for e in self.entries if e.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {**asdict(self), "facts": dict(self.facts)}

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    def __str__(self) -> str:
        what = "value and parameter gradient of the mean square" if self.training else "evaluation"
        lines = [f"{self.text}", f"  {what}, {self.points} points, {self.dimension} coordinates; {self._facts}", ""]
        head = ("", "median", "to fastest", "first call", "channels", "difference", "")
        rows = [head, *(self._row(e) for e in self.entries)]
        widths = [max(len(r[k]) for r in rows) for k in range(6)]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:6], widths[1:], strict=True))]
            lines.append(("  " + "  ".join(cells) + "  " + row[6]).rstrip())
        return "\n".join([*lines, "", f"  * what strategy=\"auto\" takes; differences are from {self.reference}"])

    def _row(self, e: Entry) -> tuple[str, ...]:
        name = f"{'*' if e.chosen else ' '} {e.name}"
        if e.seconds is None:
            return name, "", "", "", "", "", e.why
        fastest = self.measured[0].seconds or 1.0
        return (
            name, seconds_text(e.seconds), f"{e.seconds / fastest:.2f}", "" if e.first is None else seconds_text(e.first),
            "" if e.channels is None else str(e.channels), "" if e.difference is None else f"{e.difference:.1e}", e.why,
        )  # fmt: skip

    def plot(self, path: str | Path | None = None) -> Any:
        """Bars of the medians on a logarithmic axis; written to ``path``, or returned as a matplotlib figure."""
        from matplotlib.figure import Figure

        found = self.measured[::-1]
        figure = Figure(figsize=(7, 1.2 + 0.32 * len(found)), layout="constrained")
        axes = figure.add_subplot()
        colours = ["#8a8a8a" if e.peer else "#d1495b" if e.chosen else "#2e6f95" for e in found]
        bars = axes.barh([e.name for e in found], [1e3 * (e.seconds or 0.0) for e in found], color=colours)
        axes.bar_label(bars, [seconds_text(e.seconds or 0.0) for e in found], padding=3, fontsize=8)
        axes.set_xscale("log")
        axes.margins(x=0.2)
        axes.set_xlabel("milliseconds " + ("per value and gradient" if self.training else "per evaluation"))
        axes.set_title(f"{self.text}   ({self.points} points, {self._facts})", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        if path is None:
            return figure
        figure.savefig(path, dpi=150)
        return None


def compare(
    op: Operator,
    u: Any,
    x: Any,
    *,
    strategies: Sequence[Any] | None = None,
    peers: bool | Sequence[str] = True,
    training: bool = False,
    seconds: float = 20.0,
    clock: Callable[[], float] = perf_counter,
    bindings: Mapping[str, Any] | None = None,
    **given: Any,
) -> Comparison:
    """Time strategies, and other libraries that are installed, on one call: value by value, in one process, in turns.

    Every way is compiled and called once, its values are compared, then all are timed in turns, warm, each until its results exist;
    medians are reported. Machines are shared and noisy: what counts is the ratio.

    Args:
        op: the operator.
        u, x: network and points, as for a call.
        strategies: names, or instances such as ``opdsl.STDE(16, key=0)``, whose difference is then the error of an estimate. By default
            all exact ones that apply and are not predicted to take 25 times the least.
        peers: also other libraries on this framework (on JAX: jax.hessian, folx, jax.experimental.jet); or the names of some.
        training: time the value with its parameter gradient, of the mean square of the residuals.
        seconds: for timing, compilation not counted.
        clock: `time.process_time` where a machine is shared and one thread is used.
        bindings, **given: as for a call.

    Returns:
        A `Comparison`: a table when printed, ``to_json()``, ``plot("picture.png")``.

    Raises:
        StrategyError: an unknown strategy or library, or no points.
        BindingError: as for a call.

    Example:
        >>> import numpy as np, opdsl
        >>> op = opdsl.operator("laplace(u) + u_xy", coords="x y")
        >>> found = opdsl.compare(op, lambda p: np.sin(p[:, 0]) * p[:, 1], np.ones((8, 2)), seconds=0.1)
        >>> sorted(e.name for e in found.measured)[:2]
        ['collapsed_taylor', 'derivative_space']
        >>> all(e.difference < 1e-12 for e in found.measured)
        True
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise BindingError(f"seconds={shown(seconds)}: give the seconds to spend on timing.")
    own = {name: given.pop(name) for name in ("backend", "params", "batched") if name in given}
    options, given = Options(strategy="auto", training=training, **own), bound(given, bindings)
    session = op._session
    call = session.call(u, x, options, given)
    if call.empty:
        raise StrategyError("there is nothing to measure on zero points.")
    plan, split = session.decide(call)
    entries: dict[str, Entry] = {}
    ready: dict[str, tuple[Prepared, OperatorCall]] = {}
    for name, strategy in _wanted(plan, strategies, training):
        if isinstance(strategy, Entry):
            entries[name] = strategy
            continue
        _attempt(name, partial(_strategy, session, u, x, options, given, strategy), entries, ready)
    for peer in _peers(call.backend, peers):
        _attempt(peer.name, partial(_peer, session, call, plan, split, peer), entries, ready, peer=True)
    return _measured(op, call, plan, entries, ready, seconds, clock)


def _wanted(plan: Plan, strategies: Sequence[Any] | None, training: bool) -> list[tuple[str, Any]]:
    """Names, each with what is forced; or with an entry that says why it is left out."""
    if strategies is not None:
        if isinstance(strategies, str) or not strategies or not all(isinstance(s, str | Strategy) for s in strategies):
            raise StrategyError(f"strategies={shown(strategies)}: give a list of names, or of instances such as opdsl.STDE(16, key=0).")
        for s in strategies:
            resolve(s)
        return [(s if isinstance(s, str) else repr(s), s) for s in strategies]
    if len(plan.groups) > 1:
        return [("auto", "auto"), *((c, c) for c in _everywhere(plan))]
    found: list[tuple[str, Any]] = []
    candidates = [c for c in plan.groups[0].candidates if not c.opt_in]
    times = {c.strategy: c.cost.time(training) for c in candidates if c.cost is not None}
    least = min(times.values(), default=0.0)
    for c in candidates:
        if c.strategy not in times:
            found.append((c.strategy, Entry(c.strategy, why=c.why)))
        elif times[c.strategy] > HOPELESS * least:
            why = f"predicted to take {times[c.strategy] / least:.0f} times the least; name it in strategies= to run it"
            found.append((c.strategy, Entry(c.strategy, channels=c.channels, why=why)))
        else:
            found.append((c.strategy, c.strategy))
    return found


def _everywhere(plan: Plan) -> list[str]:
    """Strategies that apply to every network of the plan."""
    sets = [{c.strategy for c in g.candidates if c.cost is not None and not c.opt_in} for g in plan.groups]
    return [c.strategy for c in plan.groups[0].candidates if all(c.strategy in s for s in sets)]


def _peers(backend: Backend, wanted: bool | Sequence[str]) -> list[Peer]:
    known = {p.name: p for p in backend.peers()}
    if isinstance(wanted, bool):
        return [p for p in known.values() if wanted and find_spec(p.module) is not None]
    for name in wanted:
        if name not in known:
            raise StrategyError(f"peers={shown(wanted)}: {backend.title} has {', '.join(map(repr, known)) or 'none'}.")
    return [known[name] for name in wanted]


def _attempt(
    name: str,
    make: Callable[[], tuple[Prepared, OperatorCall]],
    entries: dict[str, Entry],
    ready: dict[str, tuple[Prepared, OperatorCall]],
    peer: bool = False,
) -> None:
    """Build and call once; what fails is told in the table."""
    start = perf_counter()
    try:
        prepared, call = make()
        channels = None if peer else sum(g.channels for g in prepared.plan.groups)
        call.backend.timed(prepared.run, call.constants, call.x, call.bindings.arrays, False)()
    except OpdslError as error:
        entries[name] = Entry(name, peer, why=str(error.message if hasattr(error, "message") else error).splitlines()[0])
    except Exception as error:
        if not peer:
            raise
        # Another library may fail in any way; that it does is a result.
        entries[name] = Entry(name, peer, why=f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}")
    else:
        entries[name] = Entry(name, peer, first=perf_counter() - start, channels=channels)
        ready[name] = prepared, call


def _strategy(
    session: Session, u: Any, x: Any, options: Options, given: Mapping[str, Any], strategy: Any
) -> tuple[Prepared, OperatorCall]:
    call = session.call(u, x, replace(options, strategy=strategy), given)
    return session.prepared(call), call


def _measured(
    op: Operator,
    call: OperatorCall,
    plan: Plan,
    entries: dict[str, Entry],
    ready: Mapping[str, tuple[Prepared, OperatorCall]],
    seconds: float,
    clock: Callable[[], float],
) -> Comparison:
    values = {name: [call.backend.to_numpy(r) for r in prepared(own)] for name, (prepared, own) in ready.items()}
    reference = "nested_ad" if "nested_ad" in values else next(iter(values), "")
    runners: dict[str, Runner] = {name: runner(prepared, own) for name, (prepared, own) in ready.items()}
    medians = round_robin(runners, seconds, clock=clock)
    chosen = {g.strategy for g in plan.groups}
    for name, median in medians.items():
        entries[name] = replace(
            entries[name],
            seconds=median,
            difference=_difference(values[reference], values[name]),
            chosen=chosen == {name} or name == "auto",
        )
    ordered = sorted(entries.values(), key=lambda e: (e.seconds is None, e.seconds or 0.0))
    facts = {
        call.backend.name: framework_version(call.backend.name) or "",
        "device": call.backend.device_of(call.x),
        "dtype": str(call.x.dtype).removeprefix("torch."),
        "Python": platform.python_version(),
    }
    points, dimension = call.x.shape
    return Comparison(op.text, points, dimension, call.training, facts, reference, tuple(ordered))


def _difference(a: Sequence[Any], b: Sequence[Any]) -> float:
    """Largest difference relative to the largest value, over all equations."""
    worst = 0.0
    for p, q in zip(a, b, strict=True):
        q = q[..., 0] if q.ndim > p.ndim else q  # two samples: the first
        worst = max(worst, float(np.abs(p - q).max(initial=0.0) / (np.abs(p).max(initial=0.0) or 1.0)))
    return worst


# --------------------------------------------------------------------------------------------------------------- peers


@dataclass(frozen=True)
class PeerMethod(Method):
    """What another library delivers, in the place of a strategy's method."""

    peer: Peer
    operators: tuple[LinearOperator, ...]
    space: Sequence[int]
    strategy: str = "peer"
    channels: int = 0
    order: int = 0

    def details(self) -> list[str]:
        return [self.peer.name]

    def symbols(self) -> list[Polynomial]:
        """What the peer is asked for: the symbols of the operators, and single derivatives where weights are arrays of the run."""
        found: dict[Polynomial, None] = {}
        for op in self.operators:
            known = self._known(op)
            for p in [p for _, p in known] if known is not None else [Polynomial.from_axes(a) for a in self._axes(op)]:
                found[p] = None
        return list(found)

    def _known(self, op: LinearOperator) -> Any:
        return None if op.spread is not None else op.polynomials(self.space)

    def _axes(self, op: LinearOperator) -> list[Axes]:
        return wanted_axes([op], self.space)

    def evaluate(self, env: Environment, graph: Graph, constants: Sequence[Array]) -> Delivered:
        ops, symbols = env.ops, self.symbols()

        def function(x: Array) -> Array:
            return ops.points.columns(evaluate(graph, x, constants)[0])

        value, found = self.peer.values(function, env.inputs, symbols)
        by_symbol = dict(zip(symbols, found, strict=True))
        delivered: dict[LinearOperator, Array] = {}
        for op in self.operators:
            known = self._known(op)
            if known is None:
                delivered[op] = combine(env, op, {a: by_symbol[Polynomial.from_axes(a)] for a in self._axes(op)})
            else:
                delivered[op] = sum((env.scaled(by_symbol[p], env(c)) for c, p in known), start=0.0 * value)
        return Delivered(value, delivered)


def _peer(session: Session, call: OperatorCall, plan: Plan, split: Split, peer: Peer) -> tuple[Prepared, OperatorCall]:
    groups = []
    for group in plan.groups:
        method = PeerMethod(peer, group.wanted, call.residual.space)
        reason = peer.refusal(method.symbols(), len(call.residual.coords))
        if reason is not None:
            raise StrategyError(reason)
        groups.append(replace(group, method=method))
    return session.compiled(call, replace(plan, groups=tuple(groups)), split), call
