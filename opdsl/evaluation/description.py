"""What an operator, a condition or an expression says, apart from its numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from opdsl.evaluation.bindings import by_name
from opdsl.language.residual import Residual

STAND_IN = 3
"""The smallest length of a symbolic vector at which vector calculus has all its operators."""


class Described(ABC):
    """A text that was read: printed, expanded, changed into another.

    It does not change, so that a copy is the thing itself; what it keeps between calls is left behind by `pickle`.

    Attributes:
        system: the text as it was read.
    """

    system: Any
    _backend: str | None
    _strategy: Any

    @abstractmethod
    def residual(self, dimension: int | None = None) -> Residual:
        """The expanded residual; ``dimension`` resolves a symbolic vector of coordinates."""

    def _identity(self) -> Hashable:
        """What tells two of them apart, besides their kind."""
        return self.system  # type: ignore[no-any-return]

    @cached_property
    def _ranks(self) -> dict[str, int]:
        """What may be bound, with the number of indices of each."""
        decls = self.system.declarations
        return {"n": 1, **dict.fromkeys(decls.functions, 0), **{p.name: len(p.shape or ()) for p in decls.params}}

    def _spelled(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Bindings under the names of the text, however they are spelled."""
        return given if given.keys() <= self._ranks.keys() else by_name(given, self._ranks)

    @property
    def text(self) -> str:
        """The text as it was given."""
        return str(self.system.source or self.system)

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
        found = facts(self.residual(STAND_IN))
        length = next(c.size for c in self.system.declarations.coords if c.name == vector)
        note = f"the length {length} of {vector} is open; these are the facts for {length} = {STAND_IN}"
        return replace(found, notes=(*found.notes, note))

    def latex(self) -> str:
        """The equations in LaTeX."""
        return str(self.system.latex())

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
        from opdsl.language.to_sympy import to_sympy

        return to_sympy(self.system, dimension)

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"

    def __str__(self) -> str:
        return str(self.system)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        return self

    def __opdsl_fingerprint__(self) -> Any:
        """Inside a captured function an operator is what it says, not what it has cached."""
        return (type(self), self._identity(), self._backend, str(self._strategy))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Described) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())
