"""What is decided of a call, and whether the next call is that one again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from opdsl.backends.base import Backend, Capture
from opdsl.evaluation.bindings import column, is_function
from opdsl.evaluation.call import OperatorCall, prepared_points
from opdsl.evaluation.options import Options
from opdsl.planning.plan import Plan


class Keeps(Protocol):
    """What is asked of the session that keeps captures and pins."""

    pinned: int

    def capture(
        self, backend: Backend, function: Any, x: Any, params: Any = None, batched: bool = False
    ) -> tuple[Capture, Hashable | None]:
        """A captured function, and what identifies its graph."""


@dataclass(frozen=True)
class Prepared:
    """Everything decided for one kind of call: the plan and the compiled program."""

    plan: Plan
    run: Callable[[Sequence[Sequence[Any]], Any, Mapping[str, Any]], tuple[Any, ...]]

    def __call__(self, call: OperatorCall) -> tuple[Any, ...]:
        """One array per equation, on all points of the call."""
        return self.run(call.constants, call.x, call.bindings.arrays)


@dataclass(frozen=True)
class DecidedCall:
    """One call and its program.

    Args:
        call: the call.
        prepared: its program.
        open: whether that is for any number of points.
        kinds: what arrays that are bound were like, for `again`.
    """

    call: OperatorCall
    prepared: Prepared
    open: bool = False
    kinds: tuple[Any, ...] = ()

    @property
    def constants(self) -> Sequence[Sequence[Any]]:
        """The live arrays of every captured function."""
        return self.call.constants

    @property
    def program(self) -> Prepared:
        """What is run."""
        return self.prepared

    @property
    def follows_size(self) -> bool:
        """Whether nothing given holds for this number of points alone, and no function asked for it."""
        call = self.call
        alone = call.single or call.empty or call.key is None or self.prepared.plan.pieces > 1
        rows = (call.given.get(name) for name in call.bindings.per_point_names)
        return not alone and not any(c.asks_size for c in call.captures) and all(v is not None and is_function(v) for v in rows)

    @property
    def compiled(self) -> Any:
        """What the backend made of it."""
        return self.prepared.run

    def served_by(self, run: Any) -> DecidedCall:
        """The same with another program."""
        return replace(self, prepared=replace(self.prepared, run=run))

    def repeated(self, x: Any, given: Mapping[str, Any], constants: Sequence[Sequence[Any]]) -> Any:
        """The same program again, at points that the program is for, with nothing decided anew."""
        call = self.call
        points = call.x if call.empty else x[None, :] if call.single else x
        arrays = {}
        for name, array in call.bindings.arrays.items():
            value = given.get(name, array)
            bound = call.given.get(name)
            if name in given and name not in call.bindings.known:
                array = value if hasattr(value, "shape") else call.backend.ops.asarray(value, points)
            elif bound is not None and is_function(bound):
                found = call.backend.at_points(bound, points)
                array = column(found) if len(array.shape) == 1 else found
            arrays[name] = array
        return call.shaped(self.prepared.run(constants, points, arrays))

    def again(self, u: Any, x: Any, given: Mapping[str, Any], session: Keeps) -> DecidedCall | None:
        """The same at other points, where a call would find nothing but its points changed; None where it has to be made.

        Points are checked and functions are captured as by a call. What is bound is taken as it was, where a call would look at
        nothing but its kind: numbers, and arrays that somebody differentiates.
        """
        call = self.call
        if not call.backend.is_array(x):
            return None
        backend, points = prepared_points(call.backend, x)
        if (
            type(points) is not type(call.x) or len(points.shape) != 2 or points.shape[1] != call.x.shape[1]
            or points.dtype != call.x.dtype or getattr(points, "device", None) != getattr(call.x, "device", None)
            or any(given.get(name, self) is not value for name, value in call.given.items()) or len(given) != len(call.given)
            or _kinds(given) != self.kinds
        ):  # fmt: skip
            return None
        example = points
        if points.shape[0] != call.x.shape[0]:
            example = call.x
            if not self.open or points.shape[0] < 2 or _differentiated(points) != _differentiated(call.x):
                return None
        if not self._as_captured(u, example, backend, session):
            return None
        return replace(self, call=replace(call, x=points, u=u))

    def _as_captured(self, u: Any, x: Any, backend: Backend, session: Keeps) -> bool:
        """Whether the captures of the networks are the very ones of this evaluation."""
        call = self.call
        if isinstance(u, Mapping):
            networks = [u.get(names[0]) for names in call.groups] if len(u) == len(call.groups) else []
        else:
            networks = [] if u is None else [u]
        batched = call.options.batched
        return len(networks) == len(call.captures) and all(
            session.capture(backend, f, x, None, batched)[0] is c for f, c in zip(networks, call.captures, strict=True)
        )

    def example(self) -> DecidedCall | None:
        """What a later call may be told to be `again`, without the networks; None where nothing may."""
        call = self.call
        alone = call.single or call.empty or call.options.params is not None or self.prepared.plan.pieces > 1
        plain = (
            call.bindings.arrays.keys() == call.given.keys() and not call.bindings.per_point_names
            and all(type(v) in (int, float) or _is_moved(v, call) for v in call.given.values())
        )  # fmt: skip
        x = None if alone or not plain else call.backend.kept(call.x)
        return None if x is None else replace(self, call=replace(call, x=x, u=None), kinds=_kinds(call.given))

    def opened(self, other: DecidedCall) -> DecidedCall | None:
        """This one for any number of points, from that at another number of them; None where they are no one program."""
        n, m = self.call.x.shape[0], other.call.x.shape[0]
        if n == m or min(n, m) < 2 or not (self.follows_size and other.follows_size):
            return None
        mine, others = ([c for group in e.constants for c in group] for e in (self, other))
        if len(mine) != len(others) or any(a is not b for a, b in zip(mine, others, strict=True)):
            return None
        program = self.call.backend.for_any_size(self.compiled, other.compiled, (n, m), len(mine))
        return None if program is None else replace(self.served_by(program), open=True)

    def __call__(self, constants: Sequence[Sequence[Any]]) -> Any:
        """The residuals, with these arrays in the place of those."""
        return self.call.shaped(self.prepared.run(constants, self.call.x, self.call.bindings.arrays))


def _kinds(given: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple((tuple(v.shape), v.dtype, _differentiated(v)) for v in given.values() if hasattr(v, "shape"))


def _differentiated(x: Any) -> bool:
    return bool(getattr(x, "requires_grad", False))


def _is_moved(value: Any, call: OperatorCall) -> bool:
    """Whether an array is bound as it stands and never looked at: somebody differentiates it."""
    return any(value is array for array in call.bindings.arrays.values()) and call.backend.concrete(value) is None


_EXAMPLES = 4
"""Numbers of points that calls go back and forth between without being made each time."""


class Examples:
    """Decided calls of one set of networks that the next one may be told to be like, the last first."""

    def __init__(self) -> None:
        self._known: tuple[DecidedCall, ...] = ()
        self._pinned = 0
        # Pairs of programs that are no one program for any number of points; while they are held, their addresses are theirs.
        self._apart: dict[frozenset[int], tuple[Any, Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Examples, ()

    def find(self, session: Keeps, u: Any, x: Any, options: Options, given: Mapping[str, Any]) -> DecidedCall | None:
        """This call, where it is one of them at other points."""
        if self._pinned != session.pinned or options.params is not None:
            return None
        for example in self._known:
            own = example.call.options
            if (options is own or options == own) and (found := example.again(u, x, given, session)) is not None:
                return found
        return None

    def keep(self, made: DecidedCall, session: Keeps) -> None:
        """Remember a call, with an earlier one as one program for any number of points where they are."""
        known = self._known if self._pinned == session.pinned else ()
        example = made.example()
        if example is None:
            return
        self._pinned = session.pinned
        for other in known:
            pair = frozenset((id(example.compiled), id(other.compiled)))
            if not other.open and pair not in self._apart:
                if (opened := example.opened(other)) is not None:
                    self._known = (opened,)
                    return
                self._apart[pair] = example.compiled, other.compiled
                if len(self._apart) > _EXAMPLES**2:
                    self._apart.pop(next(iter(self._apart)))
        same = example.call.x.shape
        self._known = (example, *[e for e in known if e.call.x.shape != same])[:_EXAMPLES]
