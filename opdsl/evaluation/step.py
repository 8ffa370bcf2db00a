"""An operator bound to networks and values: every evaluation of it is the call it was bound from, at other points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opdsl import backends
from opdsl.backends.base import Backend
from opdsl.errors import BindingError, unknown
from opdsl.evaluation.bindings import is_function
from opdsl.evaluation.decided import DecidedCall, Examples
from opdsl.evaluation.evaluates import Evaluates
from opdsl.evaluation.jacobian import jacobian
from opdsl.evaluation.options import Options
from opdsl.strategies.base import Strategy


class BoundOperator:
    """What `Operator.bind` fixes: the functions, the values and the options; see `opdsl.backends.step.Bound`.

    There is no second way to evaluate beside the call: captures and programs are found by what they depend on, so that a step
    follows whatever a call would follow.
    """

    def __init__(
        self, operator: Evaluates, u: Any, backend: Backend, options: Options, given: Mapping[str, Any]
    ) -> None:
        self.operator, self.u, self.given = operator, u, dict(given)
        self.options = replace(options, backend=backend.name)
        self._structure = None if options.params is None else backend.structure(options.params)
        networks = list(u.values()) if isinstance(u, Mapping) else [] if u is None else [u]
        self.functions = (*networks, *(v for v in given.values() if is_function(v)))
        self.values = {name: v for name, v in given.items() if not is_function(v)}
        self.params = options.params
        self._examples = Examples()

    def run(self, x: Any, given: Mapping[str, Any], params: Any = None) -> DecidedCall:
        """What a call at these points would do, with some values of the text given anew.

        Raises:
            BindingError: a value is given for a name that the text does not have.
        """
        options, given = self._renewed(given, params)
        x, given = self.operator._placed(x, options, given)
        return self.operator._session.decided(self._examples, self.u, x, options, given)

    def jacobian(self, x: Any, given: Mapping[str, Any], params: Any, **wanted: Any) -> Any:
        """The derivatives of what `run` evaluates; see `opdsl.evaluation.operators.Operator.jacobian`."""
        options, given = self._renewed(given, params)
        return jacobian([(self.operator, given)], self.u, x, options, **wanted)

    def _renewed(self, given: Mapping[str, Any], params: Any) -> tuple[Options, Mapping[str, Any]]:
        """Options and values, with what is given anew in the place of what was bound."""
        options, given = self._keyed(given)
        given = self.operator._spelled(given)
        for name in given:
            if name not in self.given:
                raise BindingError(unknown("step has no parameter", name, self.given, "It takes"))
        if params is not None:
            options = replace(options, params=params)
            found = backends.get(str(options.backend)).structure(params)
            if found != self._structure:
                raise BindingError(f"step was bound to parameters of structure {self._structure}, not {found}; bind it again.")
        return options, {**self.given, **given}

    def _sampling(self) -> dict[Any, Strategy]:
        """The strategies that take random numbers, by field; under "" where one serves all."""
        strategy = self.options.strategy or self.operator._session.strategy
        several = strategy if isinstance(strategy, Mapping) else {"": strategy}
        return {k: s for k, s in several.items() if isinstance(s, Strategy) and getattr(s, "key", None) is not None}

    @property
    def draws(self) -> bool:
        """Whether every evaluation takes new random numbers."""
        return bool(self._sampling())

    def _keyed(self, given: Mapping[str, Any]) -> tuple[Options, Mapping[str, Any]]:
        """A step that draws random numbers takes a key at every call: the same numbers again would be no estimate."""
        sampling = self._sampling()
        if not sampling:
            return self.options, given
        key = given.get("key")
        if key is None:
            if any(isinstance(s.key, int) or hasattr(s.key, "dtype") for s in sampling.values()):  # type: ignore[attr-defined]
                raise BindingError("step draws random directions: give it a key at every call, step(…, key=…).")
            return self.options, given
        keyed = {k: s.keyed(key) for k, s in sampling.items()}
        rest = {name: value for name, value in given.items() if name != "key"}
        strategy = self.options.strategy or self.operator._session.strategy
        return replace(self.options, strategy={**strategy, **keyed} if isinstance(strategy, Mapping) else keyed[""]), rest


def bind(operator: Evaluates, u: Any, x: Any, options: Options, given: Mapping[str, Any]) -> Any:
    """See `opdsl.evaluation.operators.Operator.bind`."""
    given = operator._spelled(given)
    call = operator._call(u, x, options, given)
    first = DecidedCall(call, operator._session.prepared(call))
    return call.backend.bind(BoundOperator(operator, u, call.backend, options, given), first, x)
