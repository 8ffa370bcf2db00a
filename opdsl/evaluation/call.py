"""One call, checked and captured: points, networks, bindings, and the key of the program that serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl import backends
from opdsl.backends.base import Backend, Capture
from opdsl.errors import BackendError, BindingError, CaptureError, ShapeError, unknown
from opdsl.evaluation.bindings import Bindings, check, is_function
from opdsl.evaluation.bound_functions import BoundFunction, bind_functions
from opdsl.evaluation.results import Residuals
from opdsl.language.residual import FieldSpec, Residual
from opdsl.strategies.base import Strategy

if TYPE_CHECKING:
    from opdsl.evaluation.operators import Operator

OPTIONS = ("strategy", "backend", "params", "batched", "bindings", "training", "memory")


@dataclass
class Call:
    """One call, checked and captured."""

    backend: Backend
    residual: Residual
    x: Any
    single: bool
    empty: bool
    groups: tuple[tuple[str, ...], ...]
    networks: tuple[Any, ...]
    captures: list[Capture]
    bindings: Bindings
    functions: dict[str, BoundFunction]
    given: dict[str, Any]
    options: dict[str, Any]
    identity: Any
    networks_given: Any = None

    @classmethod
    def make(cls, op: Operator, u: Any, x: Any, given: Mapping[str, Any], planning: bool = False) -> Call:
        options = {k: given[k] for k in OPTIONS if k in given}
        values = {k: v for k, v in given.items() if k not in OPTIONS}
        values.update(options.pop("bindings", None) or {})
        networks = list(u.values()) if isinstance(u, Mapping) else [u]
        backend = backends.choose(options.get("backend", op._backend), [x], networks)
        if not hasattr(x, "shape") or len(x.shape) not in (1, 2):
            shape = tuple(getattr(x, "shape", ()))
            raise ShapeError(f"points must be an array (n, d) or one point (d,), got {type(x).__name__} of shape {shape}.")
        backend = backend.for_array(x)
        x = backend.prepare(x)
        single = len(x.shape) == 1
        x = x[None, :] if single else x
        residual = op.residual(_dimension(op, x))
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
        bindings = check(residual, values, x, backend, op.text)
        bindings.arrays.update(drawn(options.get("strategy", op._strategy), backend, x, residual, planning))
        groups, functions_of = _groups(u, residual)
        groups += [(name,) for name in bindings.networks]
        functions_of += list(bindings.networks.values())
        captures: list[Capture] = []
        identity: list[Any] = []
        params = options.get("params")
        for k, function in enumerate(functions_of):
            if not callable(function):
                raise BackendError(f"the field{'s' if len(groups[k]) > 1 else ''} {', '.join(groups[k])} must be a function, "
                                   f"got {type(function).__name__}.")  # fmt: skip
            own = params if k < len(functions_of) - len(bindings.networks) else None
            try:
                capture, ident = _captured(op, backend, function, x, own, bool(options.get("batched", False)))
            except CaptureError as error:
                hint = _other_framework(backend, options.get("backend", op._backend))
                if not hint:
                    raise
                raise CaptureError(f"{error.message} {hint}") from error
            captures.append(capture)
            identity.append(ident)
        functions = bind_functions(residual, bindings.functions, x, backend)
        captures += [f.capture for f in functions.values()]
        identity += [f.capture.key for f in functions.values()]
        return cls(
            backend, residual, x, single, empty, tuple(groups), tuple(functions_of), captures, bindings, functions, values,
            options, tuple(identity), u,
        )  # fmt: skip

    def key(self) -> Any:
        """What the compiled program depends on; None where that cannot be told."""
        if any(i is None for i in self.identity):
            return None
        strategy = self.options.get("strategy", "auto")
        if isinstance(strategy, Mapping):
            strategy = tuple(sorted(strategy.items(), key=lambda item: str(item[0])))
        return (
            self.backend.name, self.identity, tuple(self.x.shape), str(self.x.dtype), str(getattr(self.x, "device", "")),
            self.bindings.signature(), strategy, self.groups,
            type(self.x).__module__, self.training, self.options.get("memory"),
        )  # fmt: skip

    @property
    def training(self) -> bool:
        """Whether to choose for a training step: as asked, or where somebody is going to differentiate in the networks."""
        if "training" in self.options:
            return bool(self.options["training"])
        return self.backend.trains([c.constants for c in self.captures])

    def pin_key(self) -> Any:
        """Calls like this one, for strategies that were measured: the same kind of networks, points and bindings."""
        graphs = tuple(
            tuple((n.primitive, *(c.graph.values[o].shape for o in n.outputs)) for n in c.graph.nodes) for c in self.captures
        )
        shapes = tuple(sorted((name, tuple(a.shape)) for name, a in self.bindings.arrays.items()))
        return (
            self.backend.name, self.backend.device_of(self.x), tuple(self.x.shape), str(self.x.dtype), self.groups, shapes,
            tuple(sorted(self.bindings.known)), graphs, self.training,
        )  # fmt: skip

    def shaped(self, result: Any) -> Any:
        """Results for a single point or an empty batch."""
        if not (self.single or self.empty):
            return result
        key = (slice(0), ...) if self.empty else (0, ...)
        return result.map(lambda v: v[key]) if isinstance(result, Residuals) else result[key]


def drawn(strategy: Any, backend: Backend, x: Any, residual: Residual, planning: bool = False) -> dict[str, Any]:
    """Random arrays that sampling strategies of a call need."""
    found: dict[str, Any] = {}
    for s in strategy.values() if isinstance(strategy, Mapping) else (strategy,):
        if isinstance(s, Strategy):
            found.update((s.keyed(0) if planning else s).draws(backend, x, len(residual.space)))
    return found


def described(call: Call) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shapes of bound arrays as methods see them: without the point axis where graphs are of one point."""
    out, points = {}, call.backend.ops.points
    for name, array in call.bindings.arrays.items():
        varies = name in call.bindings.per_point
        out[name] = (points.seen(array.shape) if varies else tuple(array.shape), varies)
    return out


def _captured(op: Operator, backend: Backend, function: Any, x: Any, params: Any, batched: bool) -> tuple[Capture, Any]:
    """Capture, or reuse the capture of the same function; and what identifies its graph."""
    mark = backend.fingerprint(function) if params is None else None
    key = None if mark is None else (backend.name, mark, tuple(x.shape), str(x.dtype), str(getattr(x, "device", "")), batched)
    if key is not None and key in op._captures:
        known = op._captures[key][1]
        return known, known.key if known.key is not None else key
    capture = backend.capture(function, x, params=params, batched=batched)
    if key is not None:
        if len(op._captures) > 64:
            op._captures.clear()
        # The function is kept alive, so that identities in its fingerprint cannot be reused.
        op._captures[key] = function, capture
    # Programs are shared by structure where the backend can compare it: new weights need no new program.
    return capture, capture.key if capture.key is not None else key


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


def _dimension(op: Operator, x: Any) -> int | None:
    """The length of a symbolic coordinate vector, from the number of columns."""
    dimension: int | None = op.system.dimension_of(x.shape[1])
    return dimension


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


def shape_key(x: Any, bound: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(x.shape), str(x.dtype), tuple((k, tuple(v.shape)) for k, v in bound.items())
