"""How a call is to be made, apart from what it binds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from opdsl.errors import BackendError, BindingError, StrategyError, shown
from opdsl.evaluation.pieces import budget_in_bytes
from opdsl.strategies.base import Strategy


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that every verb of an operator takes; see `opdsl.evaluation.operators.Operator.__call__`.

    Raises:
        StrategyError, BackendError, BindingError: an option of another kind than it can have.
    """

    strategy: Any = None
    backend: str | None = None
    params: Any = None
    batched: bool = False
    training: bool | None = None
    memory: int | float | str | None = None

    def __post_init__(self) -> None:
        one = self.strategy is None or isinstance(self.strategy, str | Strategy)
        for s in () if one else self.strategy.values() if isinstance(self.strategy, Mapping) else (object(),):
            if not isinstance(s, str | Strategy):
                raise StrategyError(
                    f"strategy={shown(s)}: give a name such as 'collapsed_taylor', an opdsl.STDE(…), or a dictionary of these "
                    "by field."
                )
        if self.backend is not None and not isinstance(self.backend, str):
            raise BackendError(f"backend={shown(self.backend)}: give its name, 'jax', 'torch' or 'numpy'.")
        if not isinstance(self.batched, bool):
            raise BindingError(f"batched={shown(self.batched)}: give True or False.")
        if self.training is not None and not isinstance(self.training, bool):
            raise BindingError(f"training={shown(self.training)}: give True or False.")
        if self.memory is not None:
            budget_in_bytes(self.memory)


NAMES = (*(f.name for f in fields(Options)), "bindings")
"""Names that a call takes for itself; a parameter of the text with such a name is bound in ``bindings={…}``."""


def bound(named: Mapping[str, Any], bindings: Any) -> dict[str, Any]:
    """Everything that a call binds: what is named, and what ``bindings=`` holds.

    Raises:
        BindingError: ``bindings`` is no dictionary by name, or binds a name a second time.
    """
    if bindings is None:
        return dict(named)
    if not isinstance(bindings, Mapping) or not all(isinstance(name, str) for name in bindings):
        raise BindingError(f"bindings={shown(bindings)}: give a dictionary of values by name, bindings={{'nu': 0.1}}.")
    twice = [name for name in bindings if name in named]
    if twice:
        raise BindingError(f"{twice[0]} is bound twice, by {twice[0]}=… and in bindings={{…}}.")
    return {**named, **bindings}
