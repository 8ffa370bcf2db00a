"""A family of problems: one text with parameters, the box of its coordinates, the ranges of its parameters."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl import backends
from opdsl.errors import BindingError, OpdslWarning, shown, unknown
from opdsl.evaluation.api import Operator, operator
from opdsl.evaluation.description import Described
from opdsl.evaluation.results import Residuals
from opdsl.language.residual import Parameter
from opdsl.language.structure import children
from opdsl.language.traverse import postorder

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Family:
    """Equations and conditions in the language of operators, for all values of some parameters.

    Args:
        text: named equations and conditions with places: ``"pde: u_t + beta u_x = 0; initial: u(t=0) = 1 + sin(x)"``.
        box: the interval of every coordinate, in the order of the columns.
        ranges: the interval of every parameter.
        fields: unknowns; without it differentiated names are fields.

    Raises:
        OpdslError: the text is refused.
        BindingError: an interval is none, or a parameter has none.

    Example:
        >>> family = Family(
        ...     "pde: u_t + beta u_x = 0; initial: u(t=0) = 1 + sin(x); sides: u(x=0) = u(x=2 pi)",
        ...     box={"t": (0, 1), "x": (0, 2 * np.pi)}, ranges={"beta": (1, 20)},
        ... )
        >>> family.names, family.grid((2, 2)).shape
        (('pde', 'initial', 'sides'), (4, 2))
    """

    text: str
    box: Mapping[str, Interval]
    ranges: Mapping[str, Interval]
    fields: str | None = field(default=None)

    def __post_init__(self) -> None:
        for what, intervals in (("box", self.box), ("ranges", self.ranges)):
            for name, interval in intervals.items():
                numbers = isinstance(interval, Sequence) and len(interval) == 2 and all(isinstance(v, int | float) for v in interval)
                if not numbers or not interval[0] < interval[1]:
                    raise BindingError(f"{what}[{name!r}] = {shown(interval)}: give two numbers, the lower one first.")
        _ = self.operator

    @cached_property
    def operator(self) -> Operator:
        """The equations, and with them the conditions."""
        return operator(self.text, coords=" ".join(self.box), fields=self.fields, params=" ".join(self.ranges))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names, in the order of the columns of parameter points."""
        return tuple(self.ranges)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of all losses: equations, then conditions."""
        return (*(e.name for e in self.operator.residual().equations), *self.operator.conditions)

    def residuals(self, net: Any, x: Any, given: Mapping[str, Any], *, fewer: int = 1, **options: Any) -> dict[str, Any]:
        """Every equation and condition at the points x, each by its name, where conditions move the points to their places.

        Conditions are looked at on every ``fewer``-th point: their places have a dimension less.
        """
        out: dict[str, Any] = {}
        parts: list[Any] = [self.operator] if self.operator.residual().equations else []
        for part in (*parts, *self.operator.conditions.values()):
            found = part(net, x if part is self.operator else x[::fewer], **options, **{name: given[name] for name in _used(part) if name in given})
            names = tuple(e.name for e in part.residual().equations) if part is self.operator else (part.name,)
            out.update(zip(names, found if isinstance(found, Residuals) else (found,), strict=True))
        return out

    def places(self, x: Floats, given: Mapping[str, float] | None = None) -> Floats:
        """Points (n, d) and where the conditions move them, without repetition: all that the residuals at ``x`` look at."""
        found = [np.asarray(x, dtype=np.float64)]
        for condition in self.operator.conditions.values():
            for part in condition.parts:
                values = {name: float((given or {})[name]) for name in _used(part) if name in (given or {})}
                found.append(np.asarray(part.place(found[0], backend=backends.HOST, bindings=values)))
        return np.unique(np.concatenate(found), axis=0)

    def points(self, count: int, rng: np.random.Generator) -> Floats:
        """Uniform random points of the box, (count, d)."""
        low, high = np.array(list(self.box.values()), dtype=np.float64).T
        return rng.uniform(low, high, (count, len(low)))

    def grid(self, counts: Sequence[int], *, faces: bool = True) -> Floats:
        """A grid of the box, (Π counts, d): with its faces, or of the middles of equal cells."""
        axes = []
        for (low, high), n in zip(self.box.values(), counts, strict=True):
            axes.append(np.linspace(low, high, n) if faces else low + (high - low) * (np.arange(n) + 0.5) / n)
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        """Uniform random values of the parameters, (count, p)."""
        low, high = np.array(list(self.ranges.values()), dtype=np.float64).T
        return rng.uniform(low, high, (count, len(low)))

    def row(self, given: Mapping[str, float], stacklevel: int = 3) -> Floats:
        """Values by name as a row (p,), with a warning where one lies outside of its range.

        Raises:
            BindingError: a value is missing, or no number.
        """
        for name in given:
            if name not in self.ranges:
                raise BindingError(unknown("the family has no parameter", name, self.ranges, "It has"))
        row = []
        for name, (low, high) in self.ranges.items():
            if name not in given:
                raise BindingError(f"give a value for {name}: the family has the parameters {', '.join(self.ranges)}.")
            value: Any = given[name]
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
                raise BindingError(f"{name}={shown(value)}: give a finite number.")
            distance = max(low - value, value - high)
            if distance > 0:
                warnings.warn(
                    f"{name} = {value:g} lies {distance:g} outside of the trained range [{low:g}, {high:g}] "
                    f"({distance / (high - low):.2g} of its width): the hypernetwork extrapolates.",
                    OpdslWarning,
                    stacklevel=stacklevel,
                )
            row.append(float(value))
        return np.array(row)


def _used(part: Described) -> tuple[str, ...]:
    """Names of the parameters that an operator or a condition takes."""
    places = [n.name for v in getattr(part, "where", {}).values() for n in postorder((v,), children) if isinstance(n, Parameter)]
    return (*(spec.name for spec in part.residual().parameters), *places)
