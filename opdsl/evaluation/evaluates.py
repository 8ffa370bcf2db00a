"""What operators and conditions share for those who evaluate them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from opdsl.evaluation.call import OperatorCall
from opdsl.evaluation.options import Options
from opdsl.evaluation.session import Session


class Evaluates(Protocol):
    """An operator, or a condition that holds one."""

    @property
    def _session(self) -> Session: ...

    def _call(self, u: Any, x: Any, options: Options, given: Mapping[str, Any]) -> OperatorCall: ...

    def _placed(self, x: Any, options: Options, given: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
        """Where it is evaluated, and what is bound there: a condition sets coordinates, and takes for itself what says where."""

    def _spelled(self, given: Mapping[str, Any]) -> Mapping[str, Any]: ...
