"""The vocabulary: every operation the engine knows by name, with its role, its rule and its derivative at a kink.

Names are those of the array API where it has one. A backend maps its primitives to these and nothing else; the search for a
bottleneck, the count of work and the documentation ask the operation, never the framework's name.

==============  ==================================================  ==========================================
role            how it is counted                                   examples
==============  ==================================================  ==========================================
`Role.VIEW`     entries looked at                                   reshape, slice, permute_dims, broadcast_to
`Role.ARRANGE`  entries copied                                      concat, flip
`Role.GATHER`   entries copied                                      take, scatter, stack, roll
`Role.SUM`      entries read                                        sum, mean, cumulative_sum
`Role.ADD`      entries written                                     add, subtract, negative
`Role.PRODUCT`  entries written                                     multiply
`Role.MATMUL`   multiply-adds, entries read and written             matmul, tensordot, convolution
others          entries written, as elements or as functions
==============  ==================================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from opdsl.jets import composite_rules
from opdsl.jets.elementary import ELEMENTARY
from opdsl.jets.graph import (
    OTHER,
    Bilinear,
    Composed,
    Constant,
    Elementwise,
    Linear,
    Operation,
    PiecewiseLinear,
    Role,
    Rule,
    Sum,
    chooses,
    kinds_of,
)
from opdsl.jets.special_functions import SPECIAL

Entry = TypeVar("Entry", bound=Callable[..., Rule])


def _linear(role: Role, names: str) -> list[Operation]:
    return [Operation(name, role, Linear()) for name in names.split()]


def _unnamed(role: Role, names: str) -> list[Operation]:
    """Those whose rule depends on the node."""
    return [Operation(name, role) for name in names.split()]


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        *(Operation(name, Role.ELEMENTWISE, Elementwise(f)) for name, f in {**ELEMENTARY, **SPECIAL}.items()),
        *_unnamed(Role.ELEMENTWISE, "pow polygamma zeta gammainc gammaincc betainc expn elu softplus_scaled"),
        # sums and products of operands
        Operation("add", Role.ADD, Sum((1.0, 1.0))),
        Operation("subtract", Role.ADD, Sum((1.0, -1.0))),
        Operation("negative", Role.ADD, Sum((-1.0,))),
        Operation("multiply", Role.PRODUCT, Bilinear()),
        Operation("cross", Role.PRODUCT, Bilinear()),
        Operation("divide", Role.PRODUCT, Composed(composite_rules.divide)),
        *(Operation(name, Role.MATMUL, Bilinear()) for name in "matmul vecdot tensordot outer einsum convolution".split()),
        # shapes
        *_linear(
            Role.VIEW,
            "reshape permute_dims matrix_transpose moveaxis expand_dims squeeze broadcast_to slice split unstack real_view "
            "copy astype",
        ),
        *_linear(Role.ARRANGE, "concat flip clone"),
        *_linear(Role.GATHER, "take gather getitem scatter stack roll tile repeat pad diagonal tril triu"),
        *_linear(Role.SUM, "sum nansum mean cumulative_sum window_sum"),
        *_linear(Role.OTHER, "linear fft real imag conj complex"),
        # pieces
        Operation("abs", Role.SELECT, PiecewiseLinear(composite_rules.abs_tangent), "0"),
        Operation("relu", Role.SELECT, PiecewiseLinear(composite_rules.relu_tangent), "0"),
        Operation("relu6", Role.SELECT, PiecewiseLinear(composite_rules.saturated_tangent(0.0, 6.0)), "0"),
        Operation("hardtanh", Role.SELECT, PiecewiseLinear(composite_rules.saturated_tangent(-1.0, 1.0)), "0"),
        Operation("leaky_relu", Role.SELECT, Composed(composite_rules.prelu), "the slope of the negative side"),
        Operation("shrink", Role.SELECT, None, "0"),
        Operation("maximum", Role.SELECT, PiecewiseLinear(composite_rules.maximum_tangent), "the mean of both"),
        Operation("minimum", Role.SELECT, PiecewiseLinear(composite_rules.minimum_tangent), "the mean of both"),
        Operation("fmax", Role.SELECT, PiecewiseLinear(composite_rules.number_maximum_tangent), "the mean of both"),
        Operation("fmin", Role.SELECT, PiecewiseLinear(composite_rules.number_minimum_tangent), "the mean of both"),
        Operation("clip", Role.SELECT, PiecewiseLinear(composite_rules.clamp_tangent), "that of the interior"),
        Operation("copysign", Role.SELECT, Composed(composite_rules.copysign), "0"),
        Operation("remainder", Role.SELECT, None, "that of the piece"),
        Operation("where", Role.SELECT, Composed(lambda ops, mask, a, b: ops.where(mask, a, b)), "the piece that is taken"),
        Operation("max", Role.SELECT, None, "the mean over all that attain it; with an index, that one"),
        Operation("min", Role.SELECT, None, "the mean over all that attain it; with an index, that one"),
        Operation("cumulative_max", Role.SELECT, None, "the last that attains it"),
        Operation("cumulative_min", Role.SELECT, None, "the last that attains it"),
        Operation("sort", Role.SELECT, None, "the order is stable"),
        Operation("top_k", Role.SELECT, None, "the order is stable"),
        # two numbers at every entry
        Operation("atan2", Role.ELEMENTWISE, Composed(composite_rules.atan2)),
        Operation("hypot", Role.ELEMENTWISE, Composed(composite_rules.square_root_of_squares)),
        Operation("logaddexp", Role.ELEMENTWISE, Composed(composite_rules.logaddexp)),
        # along axes
        *_unnamed(Role.OTHER, "softmax log_softmax logsumexp prod cumulative_prod cumulative_logsumexp norm"),
        *_unnamed(
            Role.FACTORISATION, "solve inv det slogdet cholesky qr lu eigh svd pinv matrix_exp solve_triangular matrix_norm"
        ),
        # no derivative
        *(
            Operation(name, Role.CONSTANT, Constant(), "0")
            for name in "constant floor ceil round trunc sign argmax argmin argsort less less_equal greater greater_equal equal "
            "not_equal count_nonzero searchsorted logical_and logical_or logical_xor logical_not floor_divide isnan isinf isfinite signbit any all "
            "zeros_like ones_like full_like".split()
        ),
        *_unnamed(Role.OTHER, "loop branch custom"),
    )
}
"""By name."""


def means(name: str) -> Callable[[Entry], Entry]:
    """Say of a function of a backend's table, which chooses a rule by the operands, which operation it is."""

    def declared(entry: Entry) -> Entry:
        entry.operation = OPERATIONS[name]  # type: ignore[attr-defined]
        return entry

    return declared


def meant(name: str, entry: Rule | Callable[..., Rule]) -> Callable[..., Rule]:
    """A rule, or a function that chooses one, as an entry that says which operation it is for."""

    def choose(call: Any) -> Rule:
        return entry if isinstance(entry, Rule) else entry(call)

    return means(name)(chooses(*kinds_of(entry))(choose))


def operation_of(entry: Operation | Rule | Callable[..., Rule] | None) -> Operation:
    """The operation that an entry of a backend's table stands for."""
    return entry if isinstance(entry, Operation) else getattr(entry, "operation", OTHER)
