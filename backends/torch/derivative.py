"""The first derivative of a torch operator as a recorded program; what is made of it is in `opdsl.jets.first_derivative`.

Autograd declares t ↦ Jᵀt for almost everything, custom ``autograd.Function`` s and operators of libraries included. It is
linear, and its own derivative with respect to t is J: reverse mode twice gives Df[t] = J t without asking for forward mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from opdsl.backends.torch.decompositions import decompose
from opdsl.backends.torch.isolation import isolated
from opdsl.backends.torch.lifting import stand_in
from opdsl.backends.torch.primitives import Facts, registered_name
from opdsl.backends.torch.tape import CustomFunction, Mutation, Tape
from opdsl.backends.torch.trace import record_under
from opdsl.errors import CaptureError, MissingRuleError


@dataclass(frozen=True)
class TangentProgram:
    """A recorded derivative: the first values on the tape are the operands, then the directions.

    Args:
        tape, more: for n points and for n + 1 (None where there is no axis to lengthen).
        axes: the axis of the points of every input.
        outputs: numbers of the results on the tape.
        n: the number of points.
    """

    tape: Tape
    more: Tape | None
    axes: tuple[int | None, ...]
    outputs: tuple[int, ...]
    n: int


def tangent_program(facts: Facts, primals: Sequence[Tensor], moving: Sequence[int], smooth: Sequence[int]) -> TangentProgram:
    """The program (operands, directions of the moving ones) ↦ Df, for the results ``smooth``.

    Raises:
        MissingRuleError: autograd cannot differentiate the operator, or not its backward.
    """
    with isolated() as ambient:
        operands = [stand_in(p) for p in primals]
        tape, outputs = _recorded(facts, operands, moving, smooth, ambient)
        points = [axis for i, axis in enumerate(facts.batch_axes) if i in moving]
        more, n = None, 0
        if None not in points:
            n = operands[moving[0]].shape[facts.batch_axes[moving[0]]]
            wider = [p if a is None else torch.cat([p, p.narrow(a, 0, 1)], a) for p, a in zip(operands, facts.batch_axes, strict=True)]
            try:
                more = _recorded(facts, wider, moving, smooth, ambient)[0]
            except MissingRuleError:
                more = None  # the operator's static arguments fix the number of points
    return TangentProgram(tape, more, (*facts.batch_axes, *points), outputs, n)


def _recorded(
    facts: Facts, operands: Sequence[Tensor], moving: Sequence[int], smooth: Sequence[int], ambient: bool
) -> tuple[Tape, tuple[int, ...]]:
    tape = Tape()
    points = [t.detach().requires_grad_(i in moving) for i, t in enumerate(operands)]
    directions = [torch.ones_like(operands[i]) for i in moving]
    for tensor in (*points, *directions):
        tape.add(tensor, True)
    try:
        with record_under(tape, decompose, ambient=ambient), torch.enable_grad():
            slopes = _along(facts, points, directions, moving, smooth)
    except Mutation as error:
        raise _refused(facts, f"its backward writes into a view of a tensor, {error}") from error
    except (RuntimeError, NotImplementedError, CaptureError) as error:
        raise _refused(facts, str(error).strip().split("\n", 1)[0]) from error
    return tape, tuple(tape.number[id(s)] for s in slopes)


def _along(
    facts: Facts, points: Sequence[Tensor], directions: Sequence[Tensor], moving: Sequence[int], smooth: Sequence[int]
) -> list[Tensor]:
    result = facts.call(*points)
    values = [result[i] for i in smooth] if facts.several else [result]
    live = [v for v in values if v.requires_grad]
    if not live:
        raise NotImplementedError("it has no derivative")
    weights = [torch.ones_like(v).requires_grad_(True) for v in live]
    pulled = torch.autograd.grad(live, [points[i] for i in moving], weights, create_graph=True, allow_unused=True)
    slopes: dict[int, Tensor] = {}
    for g, direction in zip(pulled, directions, strict=True):
        if g is None:
            continue
        pushed = [None] * len(live)
        if g.requires_grad:
            pushed = torch.autograd.grad(g, weights, direction, create_graph=True, allow_unused=True)
        if all(p is None for p in pushed) and not _vanishes(g):
            raise NotImplementedError("its backward has no derivative")
        for value, slope in zip(live, pushed, strict=True):
            if slope is not None:
                slopes[id(value)] = slopes[id(value)] + slope if id(value) in slopes else slope
    return [slopes[id(v)] if id(v) in slopes else torch.zeros_like(v) for v in values]


def _vanishes(g: Tensor) -> bool:
    # While costs are counted there are no values to look at.
    with _disable_current_modes():
        return g.is_meta or not bool(g.any())


def _refused(facts: Facts, reason: str) -> MissingRuleError:
    op = facts.call.op
    if isinstance(op, CustomFunction):
        remedy = "Write its forward with torch operations, or its backward so, without once_differentiable"
    else:
        remedy = f"Register one, opdsl.jet_rule('{registered_name(op)}', backend='torch', …), or its derivative (register_autograd)"
    return MissingRuleError(f"no jet rule for {op} (torch), and autograd has no second derivative of it ({reason}). {remedy}.")
