"""The strategies, by their names in the literature."""

from __future__ import annotations

from opdsl.strategies.base import Delivered, Method, Refusal, Request, Strategy
from opdsl.strategies.collapsed_taylor import CollapsedTaylor
from opdsl.strategies.derivative_space import DerivativeSpaceStrategy
from opdsl.strategies.dof import DOF
from opdsl.strategies.forward_laplacian import ForwardLaplacian
from opdsl.strategies.n_tangentprop import NTangentProp
from opdsl.strategies.nested_ad import NestedAD
from opdsl.strategies.pull_back import PullBack
from opdsl.strategies.reverse_gradient import ReverseGradient
from opdsl.strategies.spinprop import SPInProp

# In the order of preference between equal prices: the more special name first.
_ALL: tuple[Strategy, ...] = (
    NTangentProp(),
    ForwardLaplacian(),
    DOF(),
    CollapsedTaylor(),
    DerivativeSpaceStrategy(),
    PullBack(),
    ReverseGradient(),
    NestedAD(),
    SPInProp(),
)
STRATEGIES: dict[str, Strategy] = {s.name: s for s in _ALL}

__all__ = ["STRATEGIES", "Delivered", "Method", "Refusal", "Request", "Strategy"]
