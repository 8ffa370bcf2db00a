"""What users call: evaluate, explain, plan, tune, bind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

from opdsl import backends
from opdsl.backends.base import Capture, Evaluator
from opdsl.errors import BindingError, StrategyError, unknown
from opdsl.evaluation.bindings import by_name, required
from opdsl.evaluation.call import OPTIONS, Call, check_columns, components, described, drawn, parameter_shape, shape_key
from opdsl.evaluation.pieces import pieces
from opdsl.evaluation.program import Program
from opdsl.evaluation.results import Estimate, Residuals
from opdsl.language.constructors import children
from opdsl.language.residual import Parameter, Residual
from opdsl.planning.plan import Plan
from opdsl.planning.planner import Network, Settings, make_plan
from opdsl.strategies.base import Strategy
from opdsl.strategies.environment import Environment
from opdsl.strategies.linear_operators import Split

if TYPE_CHECKING:
    from opdsl.language.calculus import ConditionSpec

_STAND_IN = 3  # the smallest length at which vector calculus has all its operators


@dataclass
class Prepared:
    """Everything decided for one kind of call: the plan and the compiled program."""

    plan: Plan
    residual: Residual
    captures: tuple[Capture, ...]
    run: Any


class Operator:
    """A differential operator or residual, parsed and expanded; evaluates on any network of any backend.

    Made by `operator` or `parse`. Calling it gives one number per point and equation:

        ``op(u, x, **bindings)``  with x of shape (n, d), columns in the order of ``coords``.

    JAX functions take one point (d,); torch and NumPy functions take (n, d). One scalar equation gives (n,), a vector
    equation (n, k), several equations a `Residuals` record. A single point (d,) gives results without the leading axis.
    """

    def __init__(self, system: Any, *, backend: str | None = None, strategy: Any = "auto") -> None:
        self.system = system
        self._backend, self._strategy = backend, strategy
        self._prepared: dict[Any, Prepared] = {}
        self._captures: dict[Any, tuple[Any, Capture]] = {}
        self._residuals: dict[int | None, Residual] = {}
        self._pins: dict[Any, tuple[str, ...]] = {}

    # ----------------------------------------------------------------------------------------------------- language

    @property
    def text(self) -> str:
        """The text as it was given."""
        return str(self.system.source or self.system)

    def residual(self, dimension: int | None = None) -> Residual:
        """The expanded residual; ``dimension`` resolves a symbolic vector of coordinates."""
        if dimension not in self._residuals:
            from opdsl.language.calculus import expand

            self._residuals[dimension] = expand(self.system, dimension)
        return self._residuals[dimension]

    @cached_property
    def conditions(self) -> Mapping[str, Condition]:
        """Boundary and initial conditions by name: operators of their own with ``.where``."""
        from opdsl.language.calculus import conditions

        stand_in = None if self.system.symbolic is None else _STAND_IN

        @cache
        def known(dimension: int | None) -> Mapping[str, ConditionSpec]:
            return conditions(self.system, dimension)

        def find(name: str, dimension: int | None) -> ConditionSpec:
            return known(dimension or stand_in)[name]

        return {name: Condition(partial(find, name), self._backend) for name in known(stand_in)}

    def info(self) -> Any:
        """Order, linearity, derivatives needed, and what was inferred.

        With a symbolic dimension (``x[d]``) the facts are those for d = 3, and a note says so.

        Example:
            >>> import opdsl
            >>> print(opdsl.operator("u_t = laplace(u)", coords="t x[d]", fields="u").info())
            order 2, linear
            coordinates: t x_0 x_1 x_2
            fields: u (order 2)
            derivatives: u_t, u_{x_0 x_0}, u_{x_1 x_1}, u_{x_2 x_2}
            note: the length d of x is open; these are the facts for d = 3
        """
        from opdsl.language.calculus import facts

        vector = self.system.symbolic
        if vector is None:
            return facts(self.residual(None))
        found = facts(self.residual(_STAND_IN))
        length = next(c.size for c in self.system.declarations.coords if c.name == vector)
        note = f"the length {length} of {vector} is open; these are the facts for {length} = {_STAND_IN}"
        return replace(found, notes=(*found.notes, note))

    def latex(self) -> str:
        """The equations in LaTeX."""
        return str(self.system.latex())

    def sobolev(self, order: int) -> Operator:
        """The residuals and all their derivatives up to ``order``, one equation each: a Sobolev loss.

        Example:
            >>> import opdsl
            >>> opdsl.operator("F: u_t = u_xx", coords="t x", fields="u").sobolev(1)
            Operator('coords: t x; fields: u; F: u_t - u_xx; F_t: d_t (u_t - u_xx); F_x: d_x (u_t - u_xx)')
        """
        from opdsl.language.calculus import sobolev

        return Operator(sobolev(self.system, order), backend=self._backend, strategy=self._strategy)

    def substitute(
        self, lines: str | Mapping[str, str], *, coords: str | None = None, fields: str | None = None, params: str | None = None
    ) -> Operator:
        """Change variables: old coordinates (and fields) as expressions of new ones, exactly and in any order.

        Where every field is replaced by a formula the result is an `Expression` of the coordinates and parameters: the forcing
        of a manufactured solution. ``params=`` declares names that the lines add.

        Example:
            >>> import opdsl
            >>> op = opdsl.operator("u_t = u_xx", coords="t x", fields="u")
            >>> op.substitute("t = s; x = 2*y", coords="s y")
            Operator('coords: s y; fields: u; u_s - 0.25*u_yy')
            >>> op.substitute({"u": "exp(-t) sin(2 x)"})
            Expression('coords: t x; fields: ; 3*exp(-t)*sin(2*x)')
        """
        from opdsl.language.calculus import substitute

        changed = substitute(self.system, lines, coords=coords, fields=fields, params=params)
        if not changed.declarations.fields:
            return Expression(changed, backend=self._backend)
        return Operator(changed, backend=self._backend, strategy=self._strategy)

    def to_sympy(self, dimension: int | None = None) -> list[Any]:
        """The expanded residuals as SymPy expressions, one per component (needs SymPy).

        Args:
            dimension: length of a symbolic coordinate vector ``x[d]``.

        Raises:
            BackendError: SymPy is not installed.

        Example:
            >>> import opdsl
            >>> opdsl.operator("laplace(u)", coords="x y").to_sympy()
            [Derivative(u(x, y), (x, 2)) + Derivative(u(x, y), (y, 2))]
        """
        from opdsl.language.sympy_bridge import to_sympy

        return to_sympy(self.system, dimension)

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"

    def __str__(self) -> str:
        return str(self.system)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __opdsl_fingerprint__(self) -> Any:
        """Inside a captured function an operator is what it says, not what it has cached."""
        return (type(self), self.system, self._backend, str(self._strategy))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operator) and self.system == other.system

    def __hash__(self) -> int:
        return hash(self.system)

    # --------------------------------------------------------------------------------------------------- evaluation

    def __call__(self, u: Any, x: Any, **given: Any) -> Any:
        """Evaluate on the field(s) ``u`` at the points ``x``.

        Args:
            u: a torch module, a JAX, Equinox or Flax function, an array-API function; a dictionary by field name for
                separate networks.
            x: points, (n, d) or (d,).
            **given: parameters and coefficients by name, and the options ``strategy=`` (a literature name, default
                ``"auto"``; by field name where there are several networks), ``backend=``, ``params=`` (then u is called as
                ``u(params, point)``), ``batched=True`` (JAX functions of (n, d)), ``training=`` (choose the strategy for a
                training step; by default on torch where parameters require gradients), ``memory=`` (bytes, or "6 GiB": the
                points are evaluated in pieces of that predicted size, and computed anew in reverse mode), ``bindings={…}``
                for names that clash with an option.

        Raises:
            BindingError, ShapeError, BackendError, StrategyError: each says what was found and what to write instead.
        """
        call = self._call(u, x, given)
        prepared = self._prepare(call)
        constants = [c.constants for c in call.captures]
        return call.shaped(self._record(prepared, prepared.run(constants, call.x, call.bindings.arrays)))

    def estimate(self, u: Any, x: Any, *, strategy: Strategy, repeats: int = 8, **given: Any) -> Any:
        """Mean and standard error of a stochastic strategy over independent keys.

        Args:
            u, x, **given: as for a call.
            strategy: an `opdsl.STDE` with its key, from which the keys of the repeats are made.
            repeats: number of estimates, at least 2.

        Returns:
            An `Estimate`; for several equations `Residuals` of them.

        Example:
            >>> import numpy as np, opdsl
            >>> op = opdsl.operator("laplace(u)", coords="x[50]", fields="u")
            >>> u = lambda x: (x**4).sum(axis=-1)
            >>> found = op.estimate(u, np.ones((1, 50)), strategy=opdsl.STDE(samples=5, key=0), repeats=4)
            >>> float(found.value[0]), float(found.standard_error[0])
            (600.0, 0.0)
        """
        if repeats < 2:
            raise StrategyError(f"repeats={repeats}: a standard error needs at least two estimates.")
        if getattr(strategy, "key", None) is None:
            raise StrategyError("estimate needs a stochastic strategy with its key: strategy=opdsl.STDE(samples=16, key=…).")
        backend = self._call(u, x, {**given, "strategy": strategy}).backend
        found = [self(u, x, strategy=strategy.keyed(k), **given) for k in backend.keys(strategy.key, repeats)]  # type: ignore[attr-defined]
        xp = backend.ops.xp

        def over(values: Sequence[Any]) -> Estimate:
            stacked = xp.stack(values)
            mean = xp.mean(stacked, axis=0)
            variance = xp.sum((stacked - mean[None, ...]) ** 2, axis=0) / (repeats - 1)
            return Estimate(mean, xp.sqrt(variance / repeats), repeats)

        if isinstance(found[0], Residuals):
            names = found[0].keys()
            return Residuals(names, tuple(over([f[name] for f in found]) for name in names))
        return over(found)

    def plan(self, u: Any = None, x: Any = None, *, network: Sequence[int] | None = None, **given: Any) -> Plan:
        """What would be done for this call, without doing it; see `Plan`.

        Without ``u`` and ``x`` the plan is made for a plain network: ``network=(64, 64, 64)`` are its hidden widths.
        """
        if u is None:
            return self._abstract_plan(network or (64, 64, 64), given)
        call = Call.make(self, u, x, given, planning=True)
        found = self._decide(call)[0]
        return replace(found, pieces=pieces(found, call.options["memory"], call.x.shape[0])) if "memory" in call.options else found

    def explain(
        self, u: Any = None, x: Any = None, *, network: Sequence[int] | None = None, measure: bool = False, **given: Any
    ) -> Plan:
        """The plan; print it to read what is carried, why, and what the alternatives cost.

        ``measure=True`` runs every candidate on ``u`` and ``x`` and puts measured times beside the predictions.
        """
        if not measure:
            return self.plan(u, x, network=network, **given)
        if u is None:
            raise BindingError("explain(measure=True) needs a network and points to run: op.explain(u, x, measure=True, …).")
        from opdsl.evaluation.tuning import measured_plan

        return measured_plan(self, u, x, given, 20.0)

    def tune(self, u: Any, x: Any, *, seconds: float = 20.0, **given: Any) -> Plan:
        """Measure every candidate on this call and pin the fastest for calls like it.

        Like it are calls with the same kind of networks, shapes, dtypes and options; ``strategy="auto"`` then takes the pinned
        strategies, also in `bind`. Pins live as long as this operator.

        Args:
            u, x, **given: as for a call; ``training=True`` measures value and parameter gradient of the mean square, as does
                torch by default where parameters require gradients.
            seconds: for timing, compilation not counted.

        Returns:
            The plan with measured times.
        """
        from opdsl.evaluation.tuning import tune

        return tune(self, u, x, given, seconds)

    def bind(self, u: Any, x: Any, **given: Any) -> Any:
        """Decide everything ahead for networks and points like these.

        Returns:
            torch: an ``nn.Module`` that owns ``u``, called as ``step(x)``; JAX: a function ``step(x)``, or with ``params=`` a
            function ``step(params, x)``. Parameters of the text may be given again at each call: ``step(x, nu=…)``.
        """
        given = self._spelled(given)
        call = self._call(u, x, given)
        first = self._prepare(call)
        mode = call.backend.mode
        # A program, and where each of its constants comes from (None: just as they are handed over).
        programs: dict[Any, tuple[Prepared, list[list[Any]] | None]] = {
            (mode(call.networks), shape_key(call.x, call.bindings.arrays)): (first, None)
        }

        def evaluate(constants: Sequence[Sequence[Any]], points: Any, again: Mapping[str, Any]) -> Any:
            single = len(points.shape) == 1
            again = self._spelled(again)
            points = self._placed(points[None, :] if single else points, {**given, **again})
            again = {k: v for k, v in again.items() if k not in self._only_where()}
            bound = dict(call.bindings.arrays)
            again = dict(again)
            bound.update(_drawn_again(call, again, points))
            for name, value in call.given.items():
                if name in bound and callable(value) and not hasattr(value, "shape"):
                    bound[name] = call.backend.at_points(value, points)
            for name, value in again.items():
                if name not in bound:
                    raise BindingError(unknown("step has no parameter", name, bound, "It takes"))
                bound[name] = value if hasattr(value, "shape") else call.backend.ops.asarray(value, points)
            key = (mode(call.networks), shape_key(points, bound))
            # A matrix that was factored while planning and is given again needs a plan of its own.
            factored = any(name in call.bindings.known for name in again)
            found = None if factored else programs.get(key)
            if found is None:
                other = self._call(u, points, {**given, **again})
                found = self._prepare(other), _sources(call.captures, other.captures)
                if not factored:
                    programs[key] = found
            prepared, sources = found
            if sources is not None:
                constants = _chosen(constants, sources)
            values = prepared.run(constants, points, bound)
            values = tuple(v[0, ...] for v in values) if single else values
            return self._record(prepared, values)

        return call.backend.bind(evaluate, call.networks, call.captures, call.options.get("params"))

    # ------------------------------------------------------------------------------------------------------ internals

    def _call(self, u: Any, x: Any, given: Mapping[str, Any]) -> Call:
        given = self._spelled(given)
        own = self._only_where()
        return Call.make(self, u, self._placed(x, given), {k: v for k, v in given.items() if k not in own})

    def _spelled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a call gives, bindings under the names of the text."""
        decls = self.system.declarations
        ranks = {"n": 1, **dict.fromkeys(decls.functions, 0), **{p.name: len(p.shape or ()) for p in decls.params}}
        options = {k: v for k, v in given.items() if k in OPTIONS}
        if isinstance(options.get("bindings"), Mapping):
            options["bindings"] = by_name(options["bindings"], ranks)
        return {**options, **by_name({k: v for k, v in given.items() if k not in OPTIONS}, ranks)}

    def _placed(self, x: Any, given: Mapping[str, Any]) -> Any:
        """The points at which the residual is evaluated; a condition fixes some of their coordinates."""
        return x

    def _only_where(self) -> frozenset[str]:
        """Parameters that say where a condition holds and nothing else."""
        return frozenset()

    def _prepare(self, call: Call) -> Prepared:
        key = call.key()
        if key is not None and key in self._prepared:
            # Same structure, other arrays: the graphs are interchangeable, the constants are those of this call.
            return self._prepared[key]
        prepared = self._build(call)
        if key is not None:
            if len(self._prepared) > 256:
                self._prepared.clear()
            self._prepared[key] = prepared
        return prepared

    def _decide(self, call: Call) -> tuple[Plan, Split]:
        """The plan for a call, and the residual split accordingly."""
        residual, backend = call.residual, call.backend
        specs = {f.name: f for f in residual.fields}
        networks = []
        n = call.x.shape[0]
        for names, capture in zip(call.groups, call.captures, strict=False):
            count = sum(components(specs[name]) for name in names)
            check_columns(names, count, capture, backend, self.text)
            networks.append(Network(names, count, capture.graph, n, backend.execution, backend.ops.itemsize(capture.graph.values[capture.graph.x])))
        settings = Settings(
            strategy=call.options.get("strategy", self._strategy),
            backend=backend.name,
            device=backend.device_of(call.x),
            known=call.bindings.known,
            bindings=described(call),
            training=call.training,
            pinned=self._pins.get(call.pin_key(), ()),
        )
        return make_plan(residual, networks, settings, self.text)

    def _build(self, call: Call) -> Prepared:
        residual, backend = call.residual, call.backend
        plan, split = self._decide(call)
        if "memory" in call.options and (count := pieces(plan, call.options["memory"], call.x.shape[0])) > 1:
            return self._in_pieces(call, plan, -(-call.x.shape[0] // count))
        graphs = [c.graph for c in call.captures[: len(plan.groups)]]
        program = Program(residual, split, plan, graphs, call.functions, backend.ops)
        evaluator = Evaluator(program, call.bindings.per_point)
        constants = [c.constants for c in call.captures]
        run = backend.compile(evaluator, (constants, call.x, call.bindings.arrays))
        return Prepared(plan, residual, tuple(call.captures), run)

    def _in_pieces(self, call: Call, plan: Plan, size: int) -> Prepared:
        """A program for ``size`` points at a time."""
        per_point, backend = call.bindings.per_point, call.backend
        given = {k: v[:size, ...] if k in per_point and hasattr(v, "shape") else v for k, v in call.given.items()}
        options = {k: v for k, v in call.options.items() if k != "memory"}
        small = Call.make(self, call.networks_given, call.x[:size, ...], {**options, "bindings": given})
        inner = self._prepare(small)
        sources = _sources(call.captures, small.captures)

        def run(constants: Sequence[Sequence[Any]], x: Any, bindings: Mapping[str, Any]) -> tuple[Any, ...]:
            own = _chosen(constants, sources)
            rest = {k: v for k, v in bindings.items() if k not in per_point}
            rows = {k: v for k, v in bindings.items() if k in per_point}
            return backend.in_pieces(lambda piece, some: inner.run(own, piece, {**rest, **some}), x, rows, size)

        return Prepared(replace(plan, pieces=-(-call.x.shape[0] // size)), call.residual, tuple(call.captures), run)

    def _abstract_plan(self, widths: Sequence[int], given: Mapping[str, Any]) -> Plan:
        residual = self.residual(given.get("dimension"))
        backend = given.get("backend", self._backend)
        groups = [tuple(f.name for f in residual.fields if not f.coefficient)]
        groups += [(f.name,) for f in residual.fields if f.coefficient]
        specs = {f.name: f for f in residual.fields}
        networks = []
        for names in groups:
            if names:
                count = sum(components(specs[name]) for name in names)
                networks.append(Network.described(names, len(residual.coords), widths, count, backend))
        settings = Settings(
            strategy=given.get("strategy", self._strategy),
            backend=backend,
            bindings={p.name: (parameter_shape(p, residual), False) for p in residual.parameters},
            training=bool(given.get("training", False)),
        )
        return make_plan(residual, networks, settings, self.text)[0]

    def _record(self, prepared: Prepared, values: tuple[Any, ...]) -> Any:
        if len(values) == 1:
            return values[0]
        return Residuals(tuple(e.name for e in prepared.residual.equations), tuple(values))


def _chosen(constants: Sequence[Sequence[Any]], sources: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Constants in the order of another capture, see `_sources`."""
    return [tuple(own[s] if isinstance(s, int) else s for s in chosen) for own, chosen in zip(constants, sources, strict=True)]


def _drawn_again(call: Call, again: dict[str, Any], x: Any) -> dict[str, Any]:
    """New random arrays at every call of a bound step; its ``key=`` is taken out of ``again``."""
    strategy = call.options.get("strategy")
    single = strategy if isinstance(strategy, Mapping) else {"": strategy}
    sampling = {k: s for k, s in single.items() if isinstance(s, Strategy) and getattr(s, "key", None) is not None}
    if not sampling:
        return {}
    key = again.pop("key", None)
    if key is None:
        if any(isinstance(s.key, int) or hasattr(s.key, "dtype") for s in sampling.values()):  # type: ignore[attr-defined]
            raise BindingError("step draws random directions: give it a key at every call, step(…, key=…).")
        return drawn(strategy, call.backend, x, call.residual)
    return drawn({k: s.keyed(key) for k, s in sampling.items()}, call.backend, x, call.residual)


def _sources(first: Sequence[Capture], other: Sequence[Capture]) -> list[list[Any]]:
    """For every constant of another capture of the same functions its place among those of the first, or the array itself.

    Another number of points, or another mode, may capture other constants or another order of them.
    """
    out: list[list[Any]] = []
    for a, b in zip(first, other, strict=True):
        place = {id(c): k for k, c in enumerate(a.constants)}
        out.append([place.get(id(c), c) for c in b.constants])
    return out


class Condition(Operator):
    """Boundary or initial data: an operator together with the place where it holds.

    Attributes:
        where: coordinate name to the expression of its fixed value (empty for a condition with a normal derivative only).
        parts: one condition for each place; several where places are compared, as in ``u(x=0) = u(x=1)``. Their values add up.

    Called like an operator, at points of the full dimension: opdsl sets the fixed coordinates itself.

    Example:
        >>> import numpy as np
        >>> import opdsl
        >>> op = opdsl.operator("u_t + c u_x = 0; periodic: u(x=0) = u(x=2)", coords="t x")
        >>> op.conditions["periodic"](lambda p: p[:, 0] * p[:, 1], np.array([[3.0, 0.5]]))
        array([-6.])
    """

    def __init__(self, spec: Callable[[int | None], ConditionSpec], backend: str | None = None, part: int | None = None) -> None:
        self._spec, self._part = spec, part
        first = self._at(None)
        super().__init__(first.system, backend=backend)
        self.name, self.where = first.name, dict(first.where)
        whole = part is None and bool(first.others)
        self.parts = tuple(Condition(spec, backend, k) for k in range(1 + len(first.others))) if whole else (self,)

    def _at(self, dimension: int | None) -> ConditionSpec:
        """What holds at the place of this part, over so many coordinates."""
        spec = self._spec(dimension)
        return spec.others[self._part - 1] if self._part else spec

    def __call__(self, u: Any, x: Any, **given: Any) -> Any:
        """The residual of the condition at the points, their fixed coordinates overwritten; see `Operator.__call__`."""
        if len(self.parts) == 1:
            return super().__call__(u, x, **given)
        given = self._spelled(given)
        first, *others = (part(u, x, **part._own(given, self.parts)) for part in self.parts)
        return sum(others, start=first)

    def bind(self, u: Any, x: Any, **given: Any) -> Any:
        """As `Operator.bind`; the step fixes the coordinates of the points it is given."""
        if len(self.parts) > 1:
            raise BindingError(f"condition '{self.name}' compares {len(self.parts)} places: call it, or bind each of its parts "
                               "and add what they return.")
        return super().bind(u, x, **given)

    def _own(self, given: Mapping[str, Any], parts: Sequence[Condition]) -> dict[str, Any]:
        """What this part takes; names that no part takes go to the first, which refuses them."""
        others = {name for part in parts if part is not self for name in part._names()} - self._names()
        others |= set() if self is parts[0] else set(given) - self._names() - {*OPTIONS}
        return {k: v for k, v in given.items() if k not in others}

    def _names(self) -> set[str]:
        return {*required(self.residual()), *(p for value in self.where.values() for p in _parameters(value))}

    def _only_where(self) -> frozenset[str]:
        return frozenset(self._names() - set(required(self.residual())))

    def _placed(self, x: Any, given: Mapping[str, Any]) -> Any:
        return self.place(x, **given)

    def place(self, x: Any, **given: Any) -> Any:
        """The points with the fixed coordinates set; values that are parameters are taken from the bindings.

        Raises:
            BindingError: a value needs a parameter that is not bound.
        """
        backend = backends.choose(given.get("backend", self._backend), [x], [])
        xp = backend.ops.xp
        values = {k: v for k, v in self._spelled(given).items() if k not in OPTIONS}
        columns = [x[..., k] for k in range(x.shape[-1])]
        spec = self._at(self.system.dimension_of(x.shape[-1]))
        for name, value in spec.where.items():
            missing = [p for p in _parameters(value) if p not in values]
            if missing:
                raise BindingError(f"condition '{self.name}' holds at {name} = {missing[0]}: bind {missing[0]}=….")
            k = spec.residual.coords.index(name)
            number = Environment(backend.ops, x, (), values)(value)
            columns[k] = xp.zeros_like(columns[k]) + number
        return xp.stack(columns, axis=-1)

    def residual(self, dimension: int | None = None) -> Residual:
        """The expanded residual of the condition."""
        return self._at(dimension).residual


def _parameters(node: Any) -> list[str]:
    own = [node.name] if isinstance(node, Parameter) else []
    return own + [p for c in children(node) for p in _parameters(c)]


class Expression(Operator):
    """A formula of coordinates and parameters, without unknowns; called as ``f(x, **bindings)``."""

    def __call__(self, x: Any, **given: Any) -> Any:  # type: ignore[override]
        """The values at the points (n, d), or at one point (d,)."""
        return super().__call__(None, x, **given)
