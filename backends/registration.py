"""Registering one's own primitive: one line for each of the rule kinds of `opdsl.jets.graph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opdsl import backends
from opdsl.errors import BackendError, unknown
from opdsl.jets.elementary import ELEMENTARY
from opdsl.jets.graph import Bilinear, Composed, Elementwise, Linear, Rule, chooses
from opdsl.jets.power_series import from_slope

REGISTERED: set[str] = set()
"""Primitives that got a rule here: they are the user's, not part of the documentation."""


def jet_rule(
    primitive: str,
    *,
    backend: str,
    linear: bool = False,
    bilinear: bool = False,
    elementwise: str | None = None,
    derivative: bool | Callable[..., Any] = False,
    composed: Callable[..., Any] | None = None,
) -> None:
    """Tell how a primitive of a framework acts on jets; captures made afterwards use it.

    Exactly one of the kinds is given.

    Args:
        primitive: its name: a JAX primitive (``"my_op"``), a torch operator (``"mylib::my_op"``, or an ATen name).
        backend: ``"jax"``, ``"torch"``, or another whose functions are captured primitive by primitive.
        linear: jointly linear in all array operands.
        bilinear: linear in each of two operands.
        elementwise: the name of a function of `opdsl.jets.elementary.ELEMENTARY`.
        derivative: ``slope(x, y)`` of an elementwise function y(x), written with the arithmetic of
            `opdsl.jets.power_series.PowerSeries`, ``x.apply("exp")`` for functions; or True for the derivative that the framework
            has, of whatever shape (up to 2^(K/2) evaluations for an operator of order K).
        composed: ``composed(ops, *operands)`` writes it with the jet operations ``ops.add``, ``ops.mul``,
            ``ops.elementwise("exp", a)``, … (`opdsl.jets.propagate.JetOps`).

    Raises:
        BackendError: not exactly one kind, an unknown name, or a backend without primitives of its own.

    Example:
        >>> jet_rule("my_permutation", backend="jax", linear=True)
        >>> jet_rule("my_product", backend="jax", bilinear=True)
        >>> jet_rule("fast_tanh", backend="jax", elementwise="tanh")
        >>> jet_rule("my_tanh", backend="jax", derivative=lambda x, y: 1 - y * y)
        >>> jet_rule("my_solver", backend="jax", derivative=True)
        >>> jet_rule("swish_of_mine", backend="jax", composed=lambda ops, a: ops.mul(a, ops.elementwise("sigmoid", a)))
    """
    given = [linear, bilinear, elementwise is not None, derivative is not False, composed is not None]
    if sum(given) != 1:
        kinds = "linear, bilinear, elementwise, derivative, composed"
        raise BackendError(f"jet_rule({primitive!r}) takes exactly one of {kinds}; got {sum(given)}.")
    if elementwise is not None and elementwise not in ELEMENTARY:
        raise BackendError(unknown("no elementary function", elementwise, ELEMENTARY))
    rule: Rule | Callable[..., Rule] = Linear() if linear else Bilinear()
    if elementwise is not None:
        rule = Elementwise(ELEMENTARY[elementwise])
    elif composed is not None:
        rule = Composed(composed)
    elif callable(derivative):
        rule = _by_slope(primitive, derivative)
    backends.get(backend).register(primitive, None if derivative is True else rule)
    REGISTERED.add(primitive)


def _by_slope(primitive: str, slope: Callable[..., Any]) -> Callable[..., Rule]:
    @chooses(Elementwise)
    def entry(call: Any) -> Rule:
        # An equation of JAX, or the facts of a call of torch: the value is the primitive's own.
        return Elementwise(from_slope(primitive, call.apply, slope))

    return entry
