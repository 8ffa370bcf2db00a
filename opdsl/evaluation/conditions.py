"""What holds an operator: boundary and initial conditions, and formulas without unknowns."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from opdsl import backends
from opdsl.backends.compilers import as_it_stands
from opdsl.backends.recent import Recent
from opdsl.errors import BindingError, ShapeError
from opdsl.evaluation.bindings import number, required
from opdsl.evaluation.call import OperatorCall, prepared_points
from opdsl.evaluation.description import Described
from opdsl.evaluation.jacobian import jacobian
from opdsl.evaluation.operators import Operator
from opdsl.evaluation.options import NAMES, Options, bound
from opdsl.evaluation.session import Session
from opdsl.evaluation.step import bind
from opdsl.language.calculus import ConditionSpec, conditions
from opdsl.language.residual import Parameter, Residual
from opdsl.language.structure import children
from opdsl.language.traverse import postorder
from opdsl.planning.plan import Plan
from opdsl.strategies.environment import Environment

_R = TypeVar("_R")

_LENGTHS = 16  # of a symbolic coordinate vector that are remembered


class _Conditions:
    """The conditions of a system by the length of its symbolic coordinate vector; ``stand_in`` where none is given."""

    def __init__(self, system: Any, stand_in: int | None) -> None:
        self._system, self._stand_in = system, stand_in
        self._known = Recent(_LENGTHS)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Conditions, (self._system, self._stand_in)

    def __call__(self, dimension: int | None) -> Mapping[str, ConditionSpec]:
        dimension = dimension or self._stand_in
        found = self._known.get(dimension)
        if found is None:
            self._known[dimension] = found = conditions(self._system, dimension)
        return found  # type: ignore[no-any-return]


def conditions_of(system: Any, stand_in: int | None, backend: str | None) -> dict[str, Condition]:
    """All conditions of a system by name."""
    known = _Conditions(system, stand_in)
    return {name: Condition(known, name, backend) for name in known(None)}


class Condition(Described):
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

    def __init__(
        self,
        known: Callable[[int | None], Mapping[str, ConditionSpec]],
        name: str,
        backend: str | None = None,
        part: int | None = None,
    ) -> None:
        self.name, self._known, self._part = name, known, part
        first = self._at(None)
        self.system, self.where = first.system, dict(first.where)
        self._backend, self._strategy = backend, "auto"
        self._operator = Operator(self.system, backend=backend, expand=self._expanded)
        whole = part is None and bool(first.others)
        self.parts = tuple(Condition(known, name, backend, k) for k in range(1 + len(first.others))) if whole else (self,)

    def __reduce__(self) -> tuple[Any, ...]:
        return Condition, (self._known, self.name, self._backend, self._part)

    def _identity(self) -> Hashable:
        return self.name, self.system, tuple(self.where.items()), self._part

    def _at(self, dimension: int | None) -> ConditionSpec:
        """What holds at the place of this part, over so many coordinates."""
        spec = self._known(dimension)[self.name]
        return spec.others[self._part - 1] if self._part else spec

    def _expanded(self, dimension: int | None) -> Residual:
        return self._at(dimension).residual

    def residual(self, dimension: int | None = None) -> Residual:
        """The expanded residual of the condition."""
        return self._operator.residual(dimension)

    def sobolev(self, order: int) -> Operator:
        """See `Operator.sobolev`."""
        return self._operator.sobolev(order)

    def substitute(self, lines: str | Mapping[str, str], **declared: str | None) -> Operator | Expression:
        """See `Operator.substitute`."""
        return self._operator.substitute(lines, **declared)

    # --------------------------------------------------------------------------------------------------- evaluation

    @as_it_stands
    def __call__(self, u: Any, x: Any, **given: Any) -> Any:
        """The residual of the condition at the points, their fixed coordinates overwritten; see `Operator.__call__`."""
        if len(self.parts) > 1:
            options = {k: v for k, v in given.items() if k in NAMES and k != "bindings"}
            values = self._spelled(bound({k: v for k, v in given.items() if k not in NAMES}, given.get("bindings")))
            first, *others = (part(u, x, **options, bindings=part._own(values, self.parts)) for part in self.parts)
            return sum(others, start=first)
        return self._session.evaluate(self._call(u, x, *self._operator._options(**given)))

    @as_it_stands
    def jacobian(self, u: Any, x: Any, *, form: str = "flat", value: bool = False, **given: Any) -> Any:
        """As `Operator.jacobian`, at the place where the condition holds; several places add up."""
        options, named = self._operator._options(**given)
        values = self._spelled(named)
        parts = [(part, part._own(values, self.parts) if len(self.parts) > 1 else values) for part in self.parts]
        return jacobian(parts, u, x, options, form=form, value=value)

    @as_it_stands
    def bind(self, u: Any, x: Any, **given: Any) -> Any:
        """As `Operator.bind`; the step fixes the coordinates of the points it is given."""
        if len(self.parts) > 1:
            raise BindingError(
                f"condition '{self.name}' compares {len(self.parts)} places: call it, or bind each of its parts "
                "and add what they return."
            )
        return bind(self, u, x, *self._operator._options(**given))

    @as_it_stands
    def plan(self, u: Any = None, x: Any = None, **given: Any) -> Plan:
        """See `Operator.plan`."""
        return self._there(self._operator.plan, u, x, given)

    @as_it_stands
    def explain(self, u: Any = None, x: Any = None, **given: Any) -> Plan:
        """See `Operator.explain`."""
        return self._there(self._operator.explain, u, x, given)

    @as_it_stands
    def tune(self, u: Any, x: Any, **given: Any) -> Plan:
        """See `Operator.tune`."""
        return self._there(self._operator.tune, u, x, given)

    @as_it_stands
    def estimate(self, u: Any, x: Any, **given: Any) -> Any:
        """See `Operator.estimate`."""
        return self._there(self._operator.estimate, u, x, given)

    @as_it_stands
    def place(self, x: Any, **given: Any) -> Any:
        """The points with the fixed coordinates set; values that are parameters are taken from the bindings.

        Raises:
            BindingError: a value needs a parameter that is not bound.
        """
        options, named = self._operator._options(**given)
        values = self._spelled(named)
        backend = backends.choose(options.backend or self._backend, [x], [])
        backend, x = prepared_points(backend, x)
        spec = self._at(self.system.dimension_of(x.shape[-1]))
        if x.shape[-1] != len(spec.residual.coords):
            raise ShapeError(f"points have {x.shape[-1]} columns, condition '{self.name}' has {len(spec.residual.coords)} coordinates.")
        single = len(x.shape) == 1
        points = x[None, :] if single else x
        xp = backend.ops.xp
        columns = [points[:, k] for k in range(points.shape[1])]
        for name, value in spec.where.items():
            needed = _parameters(value)
            for p in needed:
                if p not in values:
                    raise BindingError(f"condition '{self.name}' holds at {name} = {p}: bind {p}=….")
            numbers = {p: number(p, values[p], points, backend, self.text) for p in needed}
            k = spec.residual.coords.index(name)
            columns[k] = xp.zeros_like(columns[k]) + Environment(backend.ops, points, (), numbers)(value)
        placed = xp.stack(columns, axis=-1)
        return placed[0, ...] if single else placed

    @property
    def _session(self) -> Session:
        return self._operator._session

    def _placed(self, x: Any, options: Options, given: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
        given = self._spelled(given)
        placed = self.place(x, backend=options.backend, bindings=given)
        return self._operator._placed(placed, options, {k: v for k, v in given.items() if k not in self._only_where()})

    def _call(self, u: Any, x: Any, options: Options, given: Mapping[str, Any]) -> OperatorCall:
        x, given = self._placed(x, options, given)
        return self._session.call(u, x, options, given)

    def _there(self, verb: Callable[..., _R], u: Any, x: Any, given: Mapping[str, Any]) -> _R:
        """A verb of the operator, at the points where the condition holds."""
        if x is None:
            return verb(u, x, **given)
        values = self._spelled(bound({k: v for k, v in given.items() if k not in NAMES}, given.get("bindings")))
        own = self._only_where()
        placed = self.place(x, backend=given.get("backend"), bindings=values)
        # What stays under its own name may be an option of the verb; values go by their names in the text.
        rest = {k: v for k, v in given.items() if k != "bindings" and (k in NAMES or k in values) and k not in self._names()}
        return verb(u, placed, **rest, bindings={k: v for k, v in values.items() if k not in own and k not in rest})

    def _own(self, given: Mapping[str, Any], parts: Sequence[Condition]) -> dict[str, Any]:
        """What this part takes; names that no part takes go to the first, which refuses them."""
        others = {name for part in parts if part is not self for name in part._names()} - self._names()
        others |= set() if self is parts[0] else set(given) - self._names() - {*NAMES}
        return {k: v for k, v in given.items() if k not in others}

    def _names(self) -> set[str]:
        return {*required(self.residual()), *(p for value in self.where.values() for p in _parameters(value))}

    def _only_where(self) -> frozenset[str]:
        """Parameters that say where the condition holds and nothing else."""
        return frozenset(self._names() - set(required(self.residual())))


def _parameters(node: Any) -> list[str]:
    return [each.name for each in postorder((node,), children) if isinstance(each, Parameter)]


class Expression(Described):
    """A formula of coordinates and parameters, without unknowns; called as ``f(x, **bindings)``.

    Example:
        >>> import numpy as np, opdsl
        >>> f = opdsl.expression("a x^2", coords="x", params="a")
        >>> f(np.array([[3.0]]), a=2.0)
        array([18.])
    """

    def __init__(self, system: Any, *, backend: str | None = None) -> None:
        self.system = system
        self._backend, self._strategy = backend, "auto"
        self._operator = Operator(system, backend=backend)

    def __reduce__(self) -> tuple[Any, ...]:
        return _expression, (self.system, self._backend)

    def residual(self, dimension: int | None = None) -> Residual:
        """The formula, expanded."""
        return self._operator.residual(dimension)

    def sobolev(self, order: int) -> Operator:
        """See `Operator.sobolev`."""
        return self._operator.sobolev(order)

    def substitute(self, lines: str | Mapping[str, str], **declared: str | None) -> Operator | Expression:
        """See `Operator.substitute`."""
        return self._operator.substitute(lines, **declared)

    @as_it_stands
    def __call__(self, x: Any, **given: Any) -> Any:
        """The values at the points (n, d), or at one point (d,)."""
        return self._operator(None, x, **given)

    @as_it_stands
    def bind(self, x: Any, **given: Any) -> Any:
        """As `Operator.bind`: a function ``step(x)`` of the points."""
        return self._operator.bind(None, x, **given)


def _expression(system: Any, backend: str | None) -> Expression:
    return Expression(system, backend=backend)
