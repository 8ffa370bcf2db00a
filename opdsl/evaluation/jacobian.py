"""The derivatives of residuals in the parameters, point by point: least squares, natural gradients, sensitivities.

A point's residuals depend on that point alone. So one push-forward for the whole batch and one reverse sweep through it, which
keeps the points apart where it meets the weights, give every point's derivatives; nothing is swept P or n times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

import numpy as np

from opdsl import backends
from opdsl.backends.parameters import Owned, Place, Places, replaced, rows_of, taken
from opdsl.errors import BackendError, BindingError, CaptureError, RowMixingError, ShapeError, StrategyError, shown
from opdsl.evaluation.bindings import is_function
from opdsl.evaluation.call import OperatorCall
from opdsl.evaluation.evaluates import Evaluates
from opdsl.evaluation.options import Options
from opdsl.evaluation.pieces import budget_in_bytes
from opdsl.strategies.base import Strategy

FORMS = ("flat", "named", "products")


@dataclass(frozen=True)
class Parameters:
    """What is differentiated in: the columns of a Jacobian, in order.

    Args:
        owned: parameters of the networks.
        coefficients: trainable parameters of the text by name, as they are bound; they come last.
    """

    owned: Owned
    coefficients: Mapping[str, Any]

    @property
    def arrays(self) -> tuple[Any, ...]:
        """All of them."""
        return (*self.owned.arrays, *self.coefficients.values())

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Their shapes."""
        return tuple(tuple(getattr(a, "shape", ())) for a in self.arrays)

    @property
    def count(self) -> int:
        """P, the number of columns."""
        return sum(prod(s) for s in self.shapes)

    def places(self, call: OperatorCall) -> Places:
        """Where each of them enters the program of a call."""
        networks = len(call.groups) - len(call.bindings.networks)
        found: list[tuple[Place, ...]] = []
        for k, array in enumerate(self.owned.arrays):
            if self.owned.positions is not None:
                found.append(tuple((group, self.owned.positions[k]) for group in range(networks)))
            else:
                found.append(
                    tuple((g, i) for g, c in enumerate(call.captures) for i, own in enumerate(c.constants) if own is array)
                )
        arrays = call.bindings.arrays
        return (*found, *((name,) if name in arrays else () for name in self.coefficients))

    def split(self, flat: Any) -> list[Any]:
        """An array (…, P) as one array (…, *shape) for each parameter."""
        lead, out, start = tuple(flat.shape[:-1]), [], 0
        for shape in self.shapes:
            stop = start + prod(shape)
            out.append(flat[..., start:stop].reshape((*lead, *shape)))
            start = stop
        return out

    def named(self, arrays: Sequence[Any]) -> dict[str, Any]:
        """Arrays under the names of the parameters."""
        count = len(self.owned.arrays)
        return {
            "params": self.owned.rebuild(arrays[:count]),
            "coefficients": dict(zip(self.coefficients, arrays[count:], strict=True)),
        }

    def listed(self, v: Any) -> list[Any]:
        """A vector of parameters, flat (P,) or named, as one array for each."""
        if isinstance(v, Mapping):
            if set(v) != {"params", "coefficients"} or set(v["coefficients"]) != set(self.coefficients):
                raise BindingError(
                    f"a named vector of parameters has the keys 'params' and 'coefficients' ({', '.join(self.coefficients) or 'empty'}), "
                    f"as form='named' gives them; got {shown(v)}."
                )
            arrays = [*self.owned.leaves(v["params"]), *(v["coefficients"][name] for name in self.coefficients)]
        else:
            if tuple(getattr(v, "shape", ())) != (self.count,):
                raise ShapeError(f"a vector of parameters has shape ({self.count},), got {tuple(getattr(v, 'shape', ()))}.")
            arrays = self.split(v)
        for array, shape in zip(arrays, self.shapes, strict=True):
            if tuple(array.shape) != shape:
                raise ShapeError(f"in a named vector of parameters shape {tuple(array.shape)} stands in the place of {shape}.")
        return arrays


def _same(constants: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    return constants


@dataclass(frozen=True)
class Summand:
    """One call; the residuals of several add up (a condition that compares places).

    Args:
        operator: whose session evaluates it.
        call: the call.
        current: the arrays of captured functions as they are now, in the place of those they were captured with.
    """

    operator: Evaluates
    call: OperatorCall
    current: Callable[[Sequence[Sequence[Any]]], Sequence[Sequence[Any]]] = _same

    def arrays(self, call: OperatorCall) -> tuple[list[tuple[Any, ...]], Any, dict[str, Any]]:
        """Constants, points and bindings of a call, as constants to derivatives that nobody asks for."""
        keep = self.call.backend.without_history
        constants = [tuple(keep(c) for c in group) for group in self.current(call.constants)]
        return constants, keep(self.call.x), {name: keep(v) for name, v in self.call.bindings.arrays.items()}


class Products:
    """The Jacobian J of residuals in parameters as a linear map: products with it, without J itself.

    ``products.jvp(v)`` is J v by one forward sweep, ``products.vjp(w)`` is Jᵀ w by one reverse sweep, over all points at once,
    or in pieces where ``memory=`` says so. Nothing of the size n · P is ever kept.

    Attributes:
        value: the residuals, (n, k): all components of all equations beside one another.
        shape: (n, k, P).
    """

    def __init__(self, terms: Sequence[Summand], parameters: Parameters) -> None:
        call = terms[0].call
        self._call, self._parameters = call, parameters
        parts = [_Part(term, parameters.places(term.call)) for term in terms]
        arrays = {k: a for part in parts for k, a in part.arrays.items()}
        self._used = sorted(arrays)

        def residuals(given: Sequence[Any]) -> Any:
            by_number = dict(zip(self._used, given, strict=True))
            first, *others = (part.residuals(by_number) for part in parts)
            return sum(others, start=first)

        self._linear = call.backend.linearised(residuals, [arrays[k] for k in self._used])
        self.value = _for_user(call, self._linear.values)
        self.shape = (*self.value.shape, parameters.count)

    def jvp(self, v: Any) -> Any:
        """J v, of the shape of ``value``; v flat (P,), or named as ``form="named"`` names parameters."""
        listed = self._parameters.listed(v)
        return _for_user(self._call, self._linear.push([listed[k] for k in self._used]))

    def vjp(self, w: Any) -> Any:
        """Jᵀ w, (P,); w of the shape of ``value``."""
        xp = self._call.backend.ops.xp
        if tuple(getattr(w, "shape", ())) != tuple(self.value.shape):
            raise ShapeError(
                f"weights of residuals have their shape {tuple(self.value.shape)}, got {tuple(getattr(w, 'shape', ()))}."
            )
        rows = self._linear.values
        found = self._linear.pull(xp.zeros_like(rows) if self._call.empty else xp.reshape(w, tuple(rows.shape)))
        by_number = dict(zip(self._used, found, strict=True))
        zero = xp.zeros_like(rows[:1, 0])
        parts = [
            xp.reshape(by_number[k], (-1,)) if k in by_number else xp.broadcast_to(zero, (prod(s),))
            for k, s in enumerate(self._parameters.shapes)
        ]
        return xp.concat(parts, axis=0)

    def named(self, flat: Any) -> dict[str, Any]:
        """A vector (P,), or rows (…, P), under the names of the parameters."""
        return self._parameters.named(self._parameters.split(flat))


class _Part:
    """The residuals of one term as a function of the parameters that enter it, by their numbers."""

    def __init__(self, term: Summand, places: Places) -> None:
        self._places, self._xp = places, term.call.backend.ops.xp
        self._run = term.operator._session.prepared(term.call).run
        self._constants, self._x, self._bindings = term.arrays(term.call)
        used = [k for k, p in enumerate(places) if p]
        asarray = term.call.backend.ops.asarray
        found = taken(places, self._constants, self._bindings)
        self.arrays = {k: a if hasattr(a, "shape") else asarray(a, self._x) for k, a in zip(used, found, strict=True)}

    def residuals(self, by_number: Mapping[int, Any]) -> Any:
        """(n, k)."""
        constants, bindings = replaced(self._places, self._constants, self._bindings, [by_number[k] for k in self.arrays])
        return rows_of(self._run(constants, self._x, bindings), self._xp, self._x.shape[0])


def jacobian(
    operators: Sequence[tuple[Evaluates, Mapping[str, Any]]],
    u: Any,
    x: Any,
    options: Options,
    *,
    form: str,
    value: bool,
    current: Callable[[Sequence[Sequence[Any]]], Sequence[Sequence[Any]]] | None = None,
) -> Any:
    """See `opdsl.evaluation.operators.Operator.jacobian`.

    Args:
        operators: what is differentiated, each with what it binds: the sum of their residuals.
        u, x, options: the call.
        form, value: what is wanted.
        current: see `Summand`.
    """
    if form not in FORMS:
        raise BindingError(f"form={shown(form)}: give one of {', '.join(repr(f) for f in FORMS)}.")
    session = operators[0][0]._session
    backend = backends.choose(options.backend or session.backend, [x], list(u.values()) if isinstance(u, Mapping) else [u])
    if not backend.differentiable:
        raise BackendError(
            f"{backend.title} has no automatic differentiation, so there is no Jacobian in parameters. Give points and network of "
            "JAX or torch: op.jacobian(u, jnp.asarray(x), params=…), op.jacobian(module, torch.as_tensor(x))."
        )
    _fixed_draws(options.strategy or session.strategy)
    if options.params is None and (explicit := backend.explicit(u)) is not None:
        u, params = explicit
        options = replace(options, params=params)
    options = replace(options, training=True if options.training is None else options.training)
    keep = {} if current is None else {"current": current}
    terms = [Summand(operator, operator._call(u, x, options, given), **keep) for operator, given in operators]
    parameters, call = _parameters([t.call for t in terms]), terms[0].call
    if form == "products":
        return Products(terms, parameters)
    budget = _budget(call, parameters)
    results = [_evaluated(term, parameters, budget) for term in terms]
    values, rows = (_for_user(call, sum(others, start=first)) for first, *others in zip(*results, strict=True))
    found = parameters.named(parameters.split(rows)) if form == "named" else rows
    return (values, found) if value else found


def _for_user(call: OperatorCall, values: Any) -> Any:
    """Without the stand-in of an empty batch, or the axis of a single point."""
    return values[:0, ...] if call.empty else values[0, ...] if call.single else values


def _fixed_draws(strategy: Any) -> None:
    """Refuse random numbers that differ from one evaluation to the next: there is no function to differentiate."""
    for s in strategy.values() if isinstance(strategy, Mapping) else (strategy,):
        key = getattr(s, "key", None) if isinstance(s, Strategy) else None
        if key is not None and not isinstance(key, int) and not hasattr(key, "dtype"):
            raise StrategyError(
                f"a Jacobian needs random directions that stay: key={shown(key)} gives others at every evaluation, so that residual and "
                "Jacobian would belong to different functions. Give an integer (or a JAX key) that you change between steps."
            )


def _parameters(calls: Sequence[OperatorCall]) -> Parameters:
    first, functions, coefficients = calls[0], dict[str, Any](), dict[str, Any]()
    for call in calls:
        names = [p.name for p in call.residual.parameters if p.trainable]
        varying = [n for n in names if n in call.bindings.per_point_names]
        if varying:
            raise BindingError(
                f"in '{call.text}': {varying[0]} is trainable and has one value for each point, so that it is no parameter of the "
                "residuals. Bind a number or an array of its components; a field of the points is part of u."
            )
        networks = list(call.u.values()) if isinstance(call.u, Mapping) else [] if call.u is None else [call.u]
        functions |= dict(zip(map(", ".join, call.groups), networks, strict=False))
        functions |= {name: v for name, v in call.given.items() if name in call.bindings.networks or name in call.functions}
        _no_parameters_at_points(call)
        coefficients |= {n: call.bindings.arrays[n] for n in names}
    found = Parameters(first.backend.owned(functions, first.options.params), coefficients)
    if not found.arrays:
        raise BindingError(
            f"there is nothing to differentiate '{first.text}' in. On JAX give the parameters, u(params, point) and params=…, or an "
            "Equinox module; on torch a module with parameters that require gradients; or mark parameters of the text: params='?nu'."
        )
    return found


def _no_parameters_at_points(call: OperatorCall) -> None:
    """Refuse a coefficient function with parameters that is evaluated at the points before anything is differentiated."""
    evaluated = {n: v for n, v in call.given.items() if n in call.bindings.per_point_names and is_function(v)}
    if call.options.params is None and evaluated and call.backend.owned(evaluated, None).arrays:
        raise BindingError(
            f"in '{call.text}': {', '.join(evaluated)} is a network with parameters that the text does not differentiate, so that its values "
            "at the points are data here and would have no columns. Make it a field of u, u={'u': …, 'k': …}, with fields='u k'."
        )


# --------------------------------------------------------------------------------------------------------- J itself


def _evaluated(term: Summand, parameters: Parameters, budget: float | None) -> tuple[Any, Any]:
    """Residuals (n, k) and Jacobian (n, k, P)."""
    call, session = term.call, term.operator._session
    backend, n = call.backend, call.x.shape[0]
    small = _at_one_point(term)
    places, shapes = parameters.places(small), parameters.shapes
    known = call.key is not None and small.key is not None
    plan, evaluator = session.kept(("one point", small.key, n) if known else None, lambda: session.at_one_point(small, n))
    constants, x, bindings = term.arrays(small)
    mapped = call.bindings.per_point_names
    rows = {name: v for name, v in bindings.items() if name in mapped}
    rest = {name: v for name, v in bindings.items() if name not in mapped}
    size = n
    if budget is not None:
        # What one push-forward keeps, and the derivatives by parameter before they are joined.
        working = plan.memory + n * parameters.count * backend.ops.itemsize(x)
        size = -(-n // min(max(ceil(working / budget), 1), n))

    def build() -> Any:
        one = (small.constants, small.x, small.bindings.arrays)
        many = (constants, x[:size, ...], {**rest, **{name: v[:size, ...] for name, v in rows.items()}})
        return backend.per_point_jacobian(replace(evaluator, per_point_bindings=mapped), one, many, places, shapes)

    run = session.kept(("jacobian", call.key, small.key, places, shapes, size) if known else None, build)
    if size == n:
        values, found = run(constants, x, bindings)
    else:
        values, found = backend.in_pieces(lambda part, some: run(constants, part, {**rest, **some}), x, rows, size)
    if any(c.asks_size for c in small.captures):
        _same_values(term, values)
    return values, found


def _same_values(term: Summand, values: Any) -> None:
    """Refuse a function that asked how many points there are and is another one for a single point."""
    call, backend = term.call, term.call.backend
    rows = rows_of(term.operator._session.prepared(call)(call), backend.ops.xp, call.x.shape[0])
    whole, alone = backend.concrete(backend.without_history(rows)), backend.concrete(values)
    if whole is None or alone is None:
        return
    close = float(np.sqrt(np.finfo(np.float32 if backend.ops.itemsize(call.x) <= 4 else np.float64).eps))
    if not np.allclose(whole, alone, rtol=close, atol=close * float(np.abs(whole).max(initial=0.0)), equal_nan=True):
        raise CaptureError(
            f"in '{call.text}': a function asks for the number of points and gives another value for a point among others than for "
            "the same point alone, where a Jacobian evaluates it. form='products' needs the whole batch only."
        )


def _at_one_point(term: Summand) -> OperatorCall:
    """The same call at its first point alone."""
    call = term.call
    mapped = call.bindings.per_point_names
    given = {k: v[:1, ...] if k in mapped and hasattr(v, "shape") else v for k, v in call.given.items()}
    try:
        return term.operator._session.call(call.u, call.x[:1, ...], replace(call.options, memory=None), given)
    except (CaptureError, RowMixingError, ShapeError) as error:
        raise CaptureError(
            f"{error.message} A Jacobian evaluates the function at single points, (1, {call.x.shape[1]}); one that holds something "
            "for every row of one batch cannot be evaluated there: form='products' needs the whole batch only."
        ) from error


def _budget(call: OperatorCall, parameters: Parameters) -> float | None:
    """What ``memory=`` leaves beside the Jacobian, which has to fit; None for no limit."""
    n, k = call.x.shape[0], sum(prod(e.shape) for e in call.residual.equations)
    row = k * parameters.count * call.backend.ops.itemsize(call.x)
    memory = call.options.memory
    there = call.backend.free_memory(call.x) if memory is None else budget_in_bytes(memory)
    if there is not None and n * row > there:
        fits = int(there // row)
        raise BackendError(
            f"the Jacobian of {n} points × {k} residual{'s' if k > 1 else ''} × {parameters.count} parameters in {call.x.dtype} takes "
            f"{_bytes(n * row)}, and {f'there are {_bytes(there)}' if memory is None else f'memory={memory!r} allows {_bytes(there)}'}. "
            "form='products' gives J v and Jᵀ w without it"
            + (f"; or take at most {fits} points at a time." if fits else "; not even the rows of one point fit.")
        )
    return None if memory is None or there is None else max(there - n * row, 1.0)


def _bytes(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
