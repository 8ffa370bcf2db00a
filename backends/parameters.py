"""Which arrays of a call are its parameters, and where they enter its program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opdsl.jets.graph import Array

Place = tuple[int, int] | str
"""A constant of a captured function (its number, the constant's number), or a binding by its name."""

Places = tuple[tuple[Place, ...], ...]
"""For every parameter all places where it enters; none where the residuals do not depend on it."""


@dataclass(frozen=True)
class Owned:
    """The parameters of networks, in the order of the columns of a Jacobian.

    Args:
        arrays: one for each parameter.
        positions: its place among the leading constants of every captured network; None where it is known by identity.
        rebuild: what the user calls the parameters, a pytree or a dictionary by name, with other arrays in their places.
        leaves: the arrays of such a nest, in the order of ``arrays``.
    """

    arrays: tuple[Array, ...]
    positions: tuple[int, ...] | None
    rebuild: Callable[[Sequence[Any]], Any]
    leaves: Callable[[Any], Sequence[Any]]


@dataclass(frozen=True)
class Linearised:
    """A function of parameters near one place.

    Args:
        values: there.
        push: a change of the parameters to the change of the values: forward.
        pull: weights of the values to Σ weight · derivative: reverse.
    """

    values: Array
    push: Callable[[Sequence[Array]], Array]
    pull: Callable[[Array], Sequence[Array]]


Constants = Sequence[Sequence[Array]]
Bindings = Mapping[str, Array]


def taken(places: Places, constants: Constants, bindings: Bindings) -> list[Array]:
    """The parameters that enter somewhere, out of the arrays of a call."""
    first = [p[0] for p in places if p]
    return [bindings[p] if isinstance(p, str) else constants[p[0]][p[1]] for p in first]


def replaced(places: Places, constants: Constants, bindings: Bindings, arrays: Sequence[Array]) -> tuple[Constants, Bindings]:
    """The arrays of a call with others in the place of its parameters; see `taken`."""
    new = {place: array for several, array in zip([p for p in places if p], arrays, strict=True) for place in several}
    own = [tuple(new.get((g, i), c) for i, c in enumerate(group)) for g, group in enumerate(constants)]
    return own, {name: new.get(name, value) for name, value in bindings.items()}


def rows_of(values: Sequence[Array], xp: Any, n: int) -> Array:
    """All components of all equations beside one another: (n, k)."""
    parts = [xp.reshape(v, (n, -1)) for v in values]
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=1)
