"""What an operator keeps between calls: captured functions, plans with their compiled programs, measured choices."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from opdsl.backends.base import Backend, Capture, Evaluator, Surrogate
from opdsl.backends.recent import Recent
from opdsl.evaluation import call as calls
from opdsl.evaluation.call import OperatorCall, check_columns, components, parameter_shape
from opdsl.evaluation.decided import DecidedCall, Examples, Prepared
from opdsl.evaluation.options import Options
from opdsl.evaluation.pieces import pieces
from opdsl.evaluation.program import Program
from opdsl.jets.dependence import find_dependence
from opdsl.jets.graph import approximated
from opdsl.language.residual import Residual
from opdsl.planning.plan import Plan
from opdsl.planning.planner import Network, Settings, make_plan
from opdsl.strategies.linear_operators import Split

_R = TypeVar("_R")

_FUNCTIONS = 32
"""Networks whose last calls are kept, to tell the next one by."""
CAPACITY = 256
"""Entries of all kinds that an operator keeps; what was used longest ago is forgotten first, and made again when needed."""


class Session:
    """The memory of one operator, bounded, and the way from a call to its program.

    Args:
        system: the operator as it was read.
        expand: its residual by the length of a symbolic coordinate vector.
        text: for messages.
        backend, strategy: defaults of the operator.
    """

    def __init__(
        self, system: Any, expand: Callable[[int | None], Residual], *, text: str, backend: str | None, strategy: Any
    ) -> None:
        self.system, self.text, self.backend, self.strategy = system, text, backend, strategy
        self._expand = expand
        self._kept = Recent(CAPACITY)
        self._examples = Recent(_FUNCTIONS)
        self.pinned = 0

    def residual(self, dimension: int | None) -> Residual:
        """The expanded residual."""
        key = ("residual", dimension)
        found = self._kept.get(key)
        if found is None:
            self._kept[key] = found = self._expand(dimension)
        return found  # type: ignore[no-any-return]

    def call(self, u: Any, x: Any, options: Options, given: Mapping[str, Any], planning: bool = False) -> OperatorCall:
        """See `opdsl.evaluation.call.make`."""
        return calls.make(self, u, x, options, given, planning)

    def decided(self, examples: Examples, u: Any, x: Any, options: Options, given: Mapping[str, Any]) -> DecidedCall:
        """A call and its program: one that was made before, at these points, or a new one."""
        found = examples.find(self, u, x, options, given)
        if found is None:
            call = self.call(u, x, options, given)
            found = DecidedCall(call, self.prepared(call))
            examples.keep(found, self)
        return found

    def value(self, u: Any, x: Any, options: Options, given: Mapping[str, Any]) -> Any:
        """The result of a call as the user gets it."""
        decided = self.decided(self._examples_of(u), u, x, options, given)
        return decided(decided.constants)

    def _examples_of(self, u: Any) -> Examples:
        """Of one function, while it lives."""
        number = id(u)
        known = self._examples.get(number)
        if known is not None and known[0]() is u:
            return known[1]  # type: ignore[no-any-return]
        made = Examples()
        with suppress(TypeError):
            forget = self._examples.pop
            self._examples[number] = weakref.ref(u, lambda _: forget(number)), made
        return made

    def evaluate(self, call: OperatorCall) -> Any:
        """The result as the user gets it."""
        return call.shaped(self.prepared(call)(call))

    # ------------------------------------------------------------------------------------------------------ captures

    def capture(
        self, backend: Backend, function: Any, x: Any, params: Any = None, batched: bool = False
    ) -> tuple[Capture, Hashable | None]:
        """Capture, or reuse the capture of the same function; and what identifies its graph.

        A network that brings a smaller one along is captured with it, and identified by both.
        """
        found, identity = self._captured(backend, function, x, params, batched)
        near = getattr(function, "opdsl_surrogate", None)
        if not isinstance(near, Surrogate):
            return found, identity
        small, other = self._captured(backend, near.function, x, params, batched)
        graph = approximated(found.graph, small.graph, near.lines, near.errors)
        both = None if identity is None or other is None else (identity, other)
        size = found.asks_size or small.asks_size
        return Capture(graph, (*found.constants, *small.constants), both, size), both

    def _captured(
        self, backend: Backend, function: Any, x: Any, params: Any, batched: bool
    ) -> tuple[Capture, Hashable | None]:
        mark = backend.fingerprint(function) if params is None else None
        key = (
            None if mark is None
            else ("capture", backend.name, mark, tuple(x.shape), str(x.dtype), str(getattr(x, "device", "")), type(x), batched)
        )  # fmt: skip
        found = None if key is None else self._kept.get(key)
        if found is None:
            capture = backend.capture(function, x, params=params, batched=batched)
            self._examine(backend, capture, x)
            # The function is kept alive, so that identities in its fingerprint cannot be reused.
            found = capture, function
            if key is not None:
                self._kept[key] = found
        capture = found[0]
        # Programs are shared by structure where the backend can compare it: new weights need no new program.
        return capture, capture.key if capture.key is not None else key

    def _examine(self, backend: Backend, capture: Capture, x: Any) -> None:
        """Find what the values of a graph depend on, once for all captures of one structure."""
        own = capture.graph.dependence
        if own.known:
            return
        key = None if capture.key is None else ("dependence", backend.name, capture.key)
        found = None if key is None else self._kept.get(key)
        own.learn(find_dependence(capture.graph, backend.ops, x, backend.concrete) if found is None else found)
        if key is not None and found is None:
            self._kept[key] = own

    # -------------------------------------------------------------------------------------------------------- programs

    def prepared(self, call: OperatorCall) -> Prepared:
        """The program of a call; the one of an earlier call where nothing that it depends on differs."""
        key = call.key
        # Same structure, other arrays: the graphs are interchangeable, the constants are those of each call.
        return self.kept(None if key is None else ("program", key), lambda: self.build(call))

    def kept(self, key: Hashable | None, make: Callable[[], _R]) -> _R:
        """What was made for this key since strategies were last pinned; made anew where there is none."""
        if key is None:
            return make()
        key = (self.pinned, key)
        found = self._kept.get(key)
        if found is None:
            self._kept[key] = found = make()
        return found  # type: ignore[no-any-return]

    def build(self, call: OperatorCall) -> Prepared:
        """Decide and compile."""
        memory = call.options.memory
        plan, split = self.decide(call)
        if memory is not None and (count := pieces(plan, memory, call.x.shape[0])) > 1:
            return self._in_pieces(call, plan, -(-call.x.shape[0] // count))
        return self.compiled(call, plan, split)

    def compiled(self, call: OperatorCall, plan: Plan, split: Split) -> Prepared:
        """The program of a plan."""
        evaluator = self._evaluator(call, plan, split)
        return Prepared(plan, call.backend.compile(evaluator, (call.constants, call.x, call.bindings.arrays)))

    def _evaluator(self, call: OperatorCall, plan: Plan, split: Split) -> Evaluator:
        graphs = [c.graph for c in call.captures[: len(plan.groups)]]
        return Evaluator(Program(call.residual, split, plan, graphs, call.functions, call.backend.ops), call.bindings.per_point_names)

    def at_one_point(self, call: OperatorCall, points: int) -> tuple[Plan, Evaluator]:
        """What evaluates a call of one point, decided as for so many."""
        plan, split = self.decide(call, points)
        return plan, self._evaluator(call, plan, split)

    def _in_pieces(self, call: OperatorCall, plan: Plan, size: int) -> Prepared:
        """A program for ``size`` points at a time."""
        per_point, backend = call.bindings.per_point_names, call.backend
        given = {k: v[:size, ...] if k in per_point and hasattr(v, "shape") else v for k, v in call.given.items()}
        small = self.call(call.u, call.x[:size, ...], replace(call.options, memory=None), given)
        inner = self.prepared(small)
        sources = [_sources(a, b) for a, b in zip(call.captures, small.captures, strict=True)]

        def run(constants: Sequence[Sequence[Any]], x: Any, bindings: Mapping[str, Any]) -> tuple[Any, ...]:
            own = [
                tuple(arrays[s] if isinstance(s, int) else s for s in chosen)
                for arrays, chosen in zip(constants, sources, strict=True)
            ]
            rest = {k: v for k, v in bindings.items() if k not in per_point}
            rows = {k: v for k, v in bindings.items() if k in per_point}
            return backend.in_pieces(lambda piece, some: inner.run(own, piece, {**rest, **some}), x, rows, size)

        return Prepared(replace(plan, pieces=-(-call.x.shape[0] // size)), run)

    # ----------------------------------------------------------------------------------------------------------- plans

    def plan(self, call: OperatorCall) -> Plan:
        """What would be done for a call."""
        plan, memory = self.decide(call)[0], call.options.memory
        return plan if memory is None else replace(plan, pieces=pieces(plan, memory, call.x.shape[0]))

    def decide(self, call: OperatorCall, points: int | None = None) -> tuple[Plan, Split]:
        """The plan for a call, and the residual split accordingly; priced for so many points as it has, or as are given."""
        residual, backend = call.residual, call.backend
        specs = {f.name: f for f in residual.fields}
        networks = []
        for names, capture in zip(call.groups, call.captures, strict=False):
            count = sum(components(specs[name]) for name in names)
            check_columns(names, count, capture, backend, self.text)
            itemsize = backend.ops.itemsize(capture.graph.values[capture.graph.x])
            networks.append(Network(names, count, capture.graph, points or call.x.shape[0], backend.execution, itemsize))
        settings = Settings(
            strategy=call.options.strategy or self.strategy,
            backend=backend.name,
            device=backend.device_of(call.x),
            known=call.bindings.known,
            bindings=call.described,
            training=call.training,
            pinned=self._kept.get(("pin", call.kind)) or (),
        )
        return make_plan(residual, networks, settings, self.text)

    def abstract_plan(self, widths: Sequence[int], options: Options, dimension: int | None) -> Plan:
        """The plan for plain networks of these hidden widths."""
        residual = self.residual(dimension)
        backend = options.backend or self.backend
        specs = {f.name: f for f in residual.fields}
        groups = [tuple(f.name for f in residual.fields if not f.coefficient)]
        groups += [(f.name,) for f in residual.fields if f.coefficient]
        networks = []
        for names in filter(None, groups):
            count = sum(components(specs[name]) for name in names)
            networks.append(Network.described(names, len(residual.coords), widths, count, backend))
        settings = Settings(
            strategy=options.strategy or self.strategy,
            backend=backend,
            bindings={p.name: (parameter_shape(p, residual), False) for p in residual.parameters},
            training=bool(options.training),
        )
        return make_plan(residual, networks, settings, self.text)[0]

    def pin(self, kind: Hashable, names: Sequence[str]) -> None:
        """Take these strategies, one per network, for calls of this kind."""
        self._kept[("pin", kind)] = tuple(names)
        self.pinned += 1  # programs made before are of an older choice

    def unpin(self, kind: Hashable) -> None:
        """Let the planner choose again."""
        self._kept.pop(("pin", kind))


def _sources(first: Capture, other: Capture) -> list[Any]:
    """For every constant of another capture of the same function its place among those of the first, or the array itself.

    Another number of points may capture other constants or another order of them.
    """
    place = {id(c): k for k, c in enumerate(first.constants)}
    return [place.get(id(c), c) for c in other.constants]
