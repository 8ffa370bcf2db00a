"""Registering one's own primitive: one line for each of the rule kinds of `opdsl.jets.graph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opdsl.errors import BackendError, unknown
from opdsl.jets.graph import Bilinear, Composed, Elementwise, Linear, Rule
from opdsl.jets.taylor import ELEMENTARY


def jet_rule(
    primitive: str,
    *,
    backend: str,
    linear: bool = False,
    bilinear: bool = False,
    elementwise: str | None = None,
    composed: Callable[..., Any] | None = None,
) -> None:
    """Tell how a primitive of a framework acts on jets; captures made afterwards use it.

    Exactly one of the kinds is given.

    Args:
        primitive: its name: a JAX primitive (``"my_op"``), a torch operator (``"mylib::my_op"``, or an ATen name).
        backend: ``"jax"`` or ``"torch"``.
        linear: jointly linear in all array operands.
        bilinear: linear in each of two operands.
        elementwise: the name of a function of `opdsl.jets.taylor.ELEMENTARY`.
        composed: ``composed(ops, *operands)`` writes it with the jet operations ``ops.add``, ``ops.mul``,
            ``ops.elementwise("exp", a)``, … (`opdsl.jets.propagate.JetOps`).

    Raises:
        BackendError: not exactly one kind, or an unknown name.

    Example:
        >>> jet_rule("swish_of_mine", backend="jax", composed=lambda ops, a: ops.mul(a, ops.elementwise("sigmoid", a)))
    """
    given = [linear, bilinear, elementwise is not None, composed is not None]
    if sum(given) != 1:
        kinds = "linear, bilinear, elementwise, composed"
        raise BackendError(f"jet_rule({primitive!r}) takes exactly one of {kinds}; got {sum(given)}.")
    if elementwise is not None and elementwise not in ELEMENTARY:
        raise BackendError(unknown("no elementary function", elementwise, ELEMENTARY))
    rule: Rule = Linear() if linear else Bilinear()
    if elementwise is not None:
        rule = Elementwise(ELEMENTARY[elementwise])
    elif composed is not None:
        rule = Composed(composed)
    if backend == "jax":
        from opdsl.backends.jax_rules import TABLE

        TABLE[primitive] = rule
    elif backend == "torch":
        from opdsl.backends.torch_rules import enter

        enter(primitive, rule)
    else:
        raise BackendError(unknown("jet_rule knows no backend", backend, ("jax", "torch")))
