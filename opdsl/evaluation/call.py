"""One call, checked and captured: points, networks, bindings, and the key of the program that serves it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from opdsl import backends
from opdsl.backends.base import Backend, Capture
from opdsl.errors import BackendError, BindingError, CaptureError, OpdslError, ShapeError, StrategyError, shown, unknown
from opdsl.evaluation.bindings import Bindings, check, is_function
from opdsl.evaluation.bound_functions import BoundFunction, bind_functions
from opdsl.evaluation.options import Options
from opdsl.evaluation.results import Residuals
from opdsl.language.residual import FieldSpec, Residual
from opdsl.strategies.base import Strategy


class Keeper(Protocol):
    """What a call asks of the operator that makes it; see `opdsl.evaluation.session.Session`."""

    system: Any
    text: str
    backend: str | None
    strategy: Any

    def residual(self, dimension: int | None) -> Residual:
        """The expanded residual."""

    def capture(
        self, backend: Backend, function: Any, x: Any, params: Any = None, batched: bool = False
    ) -> tuple[Capture, Hashable | None]:
        """A captured function, and what identifies its graph."""


@dataclass(frozen=True, kw_only=True)
class OperatorCall:
    """One call, checked and captured: plain data.

    Args:
        text: of the operator, for messages.
        backend: that evaluates it.
        residual: of the text, for these points and bindings.
        x: points (n, d).
        single: whether one point (d,) was given.
        empty: whether no point was given; one stands in.
        groups: names of the fields of every network.
        captures: of the networks, and after them of the functions of the text.
        identity: what identifies the graph of every capture; None where that cannot be told.
        bindings: checked.
        functions: of the text, bound.
        u, given, options: as they were given.
    """

    text: str
    backend: Backend
    residual: Residual
    x: Any
    single: bool
    empty: bool
    groups: tuple[tuple[str, ...], ...]
    captures: tuple[Capture, ...]
    identity: tuple[Hashable | None, ...]
    bindings: Bindings
    functions: dict[str, BoundFunction]
    u: Any
    given: Mapping[str, Any]
    options: Options

    @property
    def constants(self) -> list[Sequence[Any]]:
        """The live arrays of every capture."""
        return [c.constants for c in self.captures]

    @property
    def key(self) -> Hashable | None:
        """What the compiled program depends on; None where that cannot be told."""
        if any(i is None for i in self.identity):
            return None
        strategy = self.options.strategy
        if isinstance(strategy, Mapping):
            strategy = tuple(sorted(strategy.items(), key=lambda item: str(item[0])))
        x = self.x
        return (
            self.backend.name, self.identity, tuple(x.shape), str(x.dtype), str(getattr(x, "device", "")), type(x).__module__,
            self.bindings.signature(), strategy, self.groups, self.training, self.options.memory,
        )  # fmt: skip

    @property
    def training(self) -> bool:
        """Whether to choose for a training step: as asked, or where somebody is going to differentiate in the networks."""
        if self.options.training is not None:
            return self.options.training
        return self.backend.trains(self.constants)

    @property
    def kind(self) -> Hashable:
        """What calls like this one share, for strategies that were measured: kinds of networks, points and bindings."""
        graphs = tuple(
            tuple((n.primitive, *(c.graph.values[o].shape for o in n.outputs)) for n in c.graph.nodes) for c in self.captures
        )
        shapes = tuple(sorted((name, tuple(a.shape)) for name, a in self.bindings.arrays.items()))
        return (
            self.backend.name, self.backend.device_of(self.x), tuple(self.x.shape), str(self.x.dtype), self.groups, shapes,
            tuple(sorted(self.bindings.known)), graphs, self.training,
        )  # fmt: skip

    @property
    def described(self) -> dict[str, tuple[tuple[int, ...], bool]]:
        """Shapes of bound arrays as methods see them: without the point axis where graphs are of one point."""
        out, points = {}, self.backend.ops.points
        for name, array in self.bindings.arrays.items():
            varies = name in self.bindings.per_point_names
            out[name] = (points.seen(array.shape) if varies else tuple(array.shape), varies)
        return out

    def shaped(self, values: tuple[Any, ...]) -> Any:
        """One array, or a record of several; for a single point without the leading axis."""
        if self.single or self.empty:
            key: Any = (slice(0), ...) if self.empty else (0, ...)
            values = tuple(v[key] for v in values)
        if len(values) == 1:
            return values[0]
        return Residuals(tuple(e.name for e in self.residual.equations), tuple(values))


def make(session: Keeper, u: Any, x: Any, options: Options, given: Mapping[str, Any], planning: bool = False) -> OperatorCall:
    """Check everything that is given, and capture the functions.

    Args:
        session: the operator's, which knows its residual and keeps captures.
        u, x, options, given: the call.
        planning: nothing will be computed, so that bindings may be missing.

    Raises:
        OpdslError: with what was found and what to write instead.
    """
    values = dict(given)
    backend = backends.choose(options.backend or session.backend, [x], list(u.values()) if isinstance(u, Mapping) else [u])
    backend, x = prepared_points(backend, x)
    single = len(x.shape) == 1
    x = x[None, :] if single else x
    residual = session.residual(session.system.dimension_of(x.shape[1]))
    if x.shape[1] != len(residual.coords):
        names = ", ".join(str(c) for c in residual.coords[:8]) + (", …" if len(residual.coords) > 8 else "")
        raise ShapeError(
            f"points have {x.shape[1]} columns, the operator has {len(residual.coords)} coordinates ({names}); "
            "one column per coordinate, in this order."
        )
    empty = x.shape[0] == 0
    if empty:
        values = {k: _one_row(v, backend) for k, v in values.items()}
        x = backend.ops.asarray([[0.5] * x.shape[1]], x)
    if planning:
        values = {**_stand_ins(residual, backend, x), **values}
    residual = _constant_coefficients(residual, values)
    bindings = check(residual, values, x, backend, session.text)
    bindings.arrays.update(drawn(options.strategy or session.strategy, backend, x, residual, planning))
    groups, networks = _groups(u, residual)
    captures, identity = [], []
    for group, function in zip(groups, networks, strict=True):
        if not callable(function):
            raise BackendError(
                f"the field{'s' if len(group) > 1 else ''} {', '.join(group)} must be a function, got {type(function).__name__}."
            )
    for k, function in enumerate([*networks, *bindings.networks.values()]):
        try:
            capture, mark = session.capture(backend, function, x, options.params if k < len(networks) else None, options.batched)
        except CaptureError as error:
            hint = _other_framework(backend, options.backend or session.backend)
            if not hint:
                raise
            raise CaptureError(f"{error.message} {hint}") from error
        captures.append(capture)
        identity.append(mark)
    functions, marks = bind_functions(residual, bindings.functions, x, backend, session.capture)
    captures += [f.capture for f in functions.values()]
    identity += marks
    return OperatorCall(
        text=session.text, backend=backend, residual=residual, x=x, single=single, empty=empty,
        groups=(*groups, *((name,) for name in bindings.networks)), captures=tuple(captures), identity=tuple(identity),
        bindings=bindings, functions=functions, u=u, given=values, options=options,
    )  # fmt: skip


def prepared_points(backend: Backend, x: Any) -> tuple[Backend, Any]:
    """The backend of these very arrays, and the points (n, d) or (d,) as it takes them."""
    if backend.is_array(x) and (what := backend.unusual(x)) is not None:
        raise BackendError(f"points must be an ordinary array of numbers, got {what}.")
    if not hasattr(x, "shape") or len(x.shape) not in (1, 2):
        shape = tuple(getattr(x, "shape", ()))
        raise ShapeError(f"points must be an array (n, d) or one point (d,), got {type(x).__name__} of shape {shape}.")
    backend = backend.for_array(x)
    return backend, backend.prepare(x)


def drawn(strategy: Any, backend: Backend, x: Any, residual: Residual, planning: bool = False) -> dict[str, Any]:
    """Random arrays that sampling strategies of a call need."""
    found: dict[str, Any] = {}
    for s in strategy.values() if isinstance(strategy, Mapping) else (strategy,):
        if isinstance(s, Strategy):
            try:
                found.update((s.keyed(0) if planning else s).draws(backend, x, len(residual.space)))
            except OpdslError:
                raise
            except Exception as error:
                key = shown(getattr(s, "key", None))
                raise StrategyError(f"{backend.title} draws no random numbers from key={key}: {error}") from error
    return found


def _groups(u: Any, residual: Residual) -> tuple[list[tuple[str, ...]], list[Any]]:
    names = tuple(f.name for f in residual.fields if not f.coefficient)
    if not isinstance(u, Mapping):
        return ([names], [u]) if names else ([], [])
    missing = [n for n in names if n not in u]
    extra = [n for n in u if n not in names]
    if extra:
        raise BindingError(unknown("no field", extra[0], names, "Fields"))
    if missing:
        raise BindingError(f"no network for {', '.join(missing)}. Fields: {', '.join(names)}.")
    return [(n,) for n in names], [u[n] for n in names]


def _stand_ins(residual: Residual, backend: Backend, x: Any) -> dict[str, Any]:
    """Values for parameters and functions that a plan does not depend on, so that planning needs no bindings."""
    out: dict[str, Any] = {}
    for p in residual.parameters:
        if p.rank and not p.constant:
            # A function of the point: nobody knows its values while planning, so it is a run-time weight.
            out[p.name] = partial(_half, shape=parameter_shape(p, residual), backend=backend)
        else:
            out[p.name] = backend.ops.xp.zeros(parameter_shape(p, residual) if p.rank else (), dtype=x.dtype) + 0.5
    for name in residual.functions:
        out[name] = lambda *arguments: sum(arguments[1:], arguments[0])
    return out


def parameter_shape(p: Any, residual: Residual) -> tuple[int, ...]:
    return tuple(s or len(residual.space) for s in (p.shape or (None,) * p.rank))


def _half(point: Any, *, shape: tuple[int, ...], backend: Backend) -> Any:
    return backend.ops.xp.broadcast_to(backend.ops.asarray(0.5, point), (*point.shape[:-1], *shape))


def _constant_coefficients(residual: Residual, values: Mapping[str, Any]) -> Residual:
    """What is bound decides what is differentiated: a function is, of anything else the derivatives vanish.

    One value per point is refused where the bindings are checked.
    """
    from opdsl.language.calculus import specialise

    constants = [f.name for f in residual.fields if f.coefficient and f.name in values and not is_function(values[f.name])]
    return specialise(residual, constants) if constants else residual


def components(f: FieldSpec) -> int:
    out = 1
    for s in f.shape:
        out *= s
    return out


def check_columns(names: Sequence[str], count: int, capture: Capture, backend: Backend, text: str) -> None:
    shape = capture.graph.values[capture.graph.outputs[0]].shape
    columns = backend.ops.points.inner(shape)
    have = columns[0] if columns else 1
    if len(columns) > 1 or have != count:
        raise ShapeError(
            f"in '{text}': the network of {', '.join(names)} returns {have if len(columns) <= 1 else tuple(columns)} "
            f"column{'s' if have != 1 else ''} per point, expected {count}: one per component, in the order of the fields."
        )


def _other_framework(backend: Backend, chosen: str | None) -> str:
    """A JAX function on NumPy points is taken for an array-API function: say so where another framework is in use."""
    others = [b.convert for b in backends.loaded() if not b.general]
    if not backend.general or chosen is not None or not others:
        return ""
    return (
        f"The points are {backend.title} arrays, so the {backend.title} backend was chosen; for a function of another framework give "
        f"points of that framework: {' or '.join(others)}."
    )


def _one_row(value: Any, backend: Backend) -> Any:
    """A stand-in row for a binding that has one row per point of an empty batch."""
    if hasattr(value, "shape") and len(value.shape) and value.shape[0] == 0:
        return backend.ops.asarray(np.full((1, *value.shape[1:]), 0.5), value)
    return value
