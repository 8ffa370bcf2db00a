"""What `Operator.bind` returns: a function of points, on JAX and NumPy as it stands here, on torch inside an ``nn.Module``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from opdsl.backends.compilers import as_it_stands
from opdsl.jets.graph import Array


class Run(Protocol):
    """One evaluation that is ready to be carried out."""

    @property
    def constants(self) -> Sequence[Sequence[Array]]:
        """The live arrays of every captured function."""

    @property
    def program(self) -> object:
        """What is run; the same object where nothing but arrays differs."""

    @property
    def follows_size(self) -> bool:
        """Whether nothing in it holds for its number of points alone, as far as can be told without looking at the program."""

    @property
    def compiled(self) -> object:
        """What `Backend.compile` gave, where it is run as it is."""

    def served_by(self, run: Any) -> Run:
        """The same with another program."""

    def repeated(self, x: Array, given: Mapping[str, Any], constants: Sequence[Sequence[Array]]) -> Any:
        """The same program again, with nothing decided anew, at points of the same shape (inside a compiler)."""

    def __call__(self, constants: Sequence[Sequence[Array]]) -> Any:
        """The residuals, with these arrays in the place of those."""


class Bound(Protocol):
    """An operator with networks, bindings and options.

    Attributes:
        functions: networks, coefficient functions and functions of the text.
        values: everything else that is bound, by name.
        params: parameters of the networks given when binding; None where the networks have their own.
        draws: whether every evaluation takes new random numbers.
    """

    @property
    def functions(self) -> Sequence[Any]: ...

    @property
    def values(self) -> Mapping[str, Any]: ...

    @property
    def params(self) -> Any: ...

    @property
    def draws(self) -> bool: ...

    def run(self, x: Array, given: Mapping[str, Any], params: Any = None) -> Run:
        """What a call at these points would do, with some values of the text given anew."""

    def jacobian(
        self, x: Array, given: Mapping[str, Any], params: Any, *, form: str, value: bool, current: Callable[..., Any] | None = None
    ) -> Any:
        """The derivatives of that call in its parameters; ``current`` puts arrays in the place of those of captured functions."""


class Step:
    """``step(x, **given)``: what the call would give that it was bound from, at other points."""

    __name__ = "step"

    def __init__(self, bound: Bound) -> None:
        self._bound = bound

    def __call__(self, x: Array, /, **given: Any) -> Any:
        """Evaluate at points x, with parameters of the text given again by name."""
        run = self._bound.run(x, given)
        return run(run.constants)

    @as_it_stands
    def jacobian(self, x: Array, /, *, form: str = "flat", value: bool = False, **given: Any) -> Any:
        """The derivatives of the residuals in the parameters, at points x; see `Operator.jacobian`."""
        return self._bound.jacobian(x, given, None, form=form, value=value)


class StepWithParameters:
    """``step(params, x, **given)``: the networks are functions of parameters that are given at each call."""

    __name__ = "step"

    def __init__(self, bound: Bound) -> None:
        self._bound = bound

    def __call__(self, params: Any, x: Array, /, **given: Any) -> Any:
        """Evaluate at points x with these parameters."""
        run = self._bound.run(x, given, params)
        return run(run.constants)

    @as_it_stands
    def jacobian(self, params: Any, x: Array, /, *, form: str = "flat", value: bool = False, **given: Any) -> Any:
        """The derivatives of the residuals in these parameters, at points x; see `Operator.jacobian`."""
        return self._bound.jacobian(x, given, params, form=form, value=value)
