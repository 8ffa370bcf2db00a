"""The vocabulary: every operation the engine knows by name, with its role, its rule and its derivative at a kink.

Names are those of the array API where it has one. A backend maps its primitives to these and nothing else: which argument of the
primitive is which operand, and which is an attribute (an axis, an exponent, a bound). The search for a bottleneck, the count of work and
the documentation ask the operation, never the framework's name.

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

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from opdsl.jets import composite_rules, matrix_rules, special_functions
from opdsl.jets.elementary import ELEMENTARY, Elementary, exponential, power
from opdsl.jets.graph import (
    OTHER,
    Bilinear,
    Composed,
    Constant,
    Derived,
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
Family = Callable[..., Rule]


def _linear(role: Role, names: str) -> list[Operation]:
    return [Operation(name, role, Linear()) for name in names.split()]


def _unnamed(role: Role, names: str) -> list[Operation]:
    """Those whose rule depends on the node."""
    return [Operation(name, role) for name in names.split()]


# ------------------------------------------------------------------------------------------- rules that have attributes


@chooses(Sum)
def _signed(signs: Sequence[float]) -> Rule:
    return Sum(tuple(signs))


@chooses(Elementwise, Composed)
def _power(exponent: float | None = None, base: float | None = None) -> Rule:
    """One of the two may be a number."""
    if exponent is not None:
        return Elementwise(power(exponent))
    return Composed(composite_rules.power_of) if base is None else Elementwise(exponential(base))


@chooses(PiecewiseLinear, Composed)
def _modulus(complex: bool) -> Rule:
    return Composed(composite_rules.modulus) if complex else PiecewiseLinear(composite_rules.abs_tangent)


@chooses(Elementwise, Composed)
def _softplus(beta: float) -> Rule:
    return Elementwise(ELEMENTARY["softplus"]) if beta == 1 else Composed(lambda ops, a: composite_rules.softplus(ops, a, beta))


@chooses(Elementwise)
def _gelu(approximate: bool) -> Rule:
    return Elementwise(ELEMENTARY["gelu_tanh" if approximate else "gelu"])


@chooses(Elementwise)
def _exponential_integral(n: int) -> Rule:
    return Elementwise(special_functions.exponential_integral(n))


def _parametrised(make: Callable[..., Elementary]) -> Family:
    """Elementwise in the last operand, the others parameters; ``general``: the rule where a parameter moves."""

    @chooses(Composed)
    def family(general: Composed) -> Rule:
        return Composed(composite_rules.with_parameters(make, general.build))

    return family


def _piecewise(tangent: Callable[..., composite_rules.Tangent]) -> Family:
    return chooses(PiecewiseLinear)(lambda **attributes: PiecewiseLinear(tangent(**attributes)))


def _extremum(largest: bool) -> Family:
    def tangent(axes: Sequence[int], keepdims: bool = False) -> composite_rules.Tangent:
        return composite_rules.extremum_tangent(axes, keepdims, largest)

    return _piecewise(tangent)


@chooses(Composed)
def _in_windows(choose: Callable[..., Any], rank: int) -> Rule:
    return Composed(composite_rules.largest_in_windows(choose, rank))


@chooses(Composed)
def _chosen(choose: Callable[..., Any], axis: int, keepdims: bool = True, alone: bool = False) -> Rule:
    """(values, places), or the values ``alone``."""
    build = composite_rules.entries_at(choose, axis, keepdims)
    return Composed(lambda ops, a: build(ops, a)[0]) if alone else Composed(build)


@chooses(PiecewiseLinear, Composed)
def _sort(axis: int, descending: bool = False, stable: bool = True, choose: Callable[..., Any] | None = None) -> Rule:
    if choose is not None:
        return _chosen(choose, axis)
    return PiecewiseLinear(composite_rules.sort_tangent(axis, descending, stable))


@chooses(PiecewiseLinear)
def _affine(apply: Callable[..., Any]) -> Rule:
    """Linear but for what static arguments write."""
    return PiecewiseLinear(composite_rules.affine_tangent(apply))


@chooses(Composed)
def _linear_map(apply: Callable[..., Any]) -> Rule:
    """A linear map of one operand that is another function on channels than on the value."""
    return Composed(lambda ops, a: ops.linear(apply, a))


def _composed(rule: Callable[..., Any]) -> Family:
    """``rule(ops, *operands, **attributes)``."""
    return chooses(Composed)(lambda **attributes: Composed(lambda ops, *operands: rule(ops, *operands, **attributes)))


def _running(combine: Callable[..., Any]) -> Family:
    def rule(ops: Any, a: Any, axis: int, reverse: bool = False) -> Any:
        return composite_rules.cumulative(ops, combine, a, axis, reverse)

    return _composed(rule)


def _multiplied(ops: Any, a: Any, b: Any) -> Any:
    return ops.mul(a, b)


OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        *(Operation(name, Role.ELEMENTWISE, Elementwise(f)) for name, f in {**ELEMENTARY, **SPECIAL}.items()
          if name not in ("softplus", "gelu")),
        Operation("softplus", Role.ELEMENTWISE, Elementwise(ELEMENTARY["softplus"]), family=_softplus),
        Operation("gelu", Role.ELEMENTWISE, Elementwise(ELEMENTARY["gelu"]), family=_gelu),
        Operation("pow", Role.ELEMENTWISE, family=_power),
        Operation("polygamma", Role.ELEMENTWISE, family=_parametrised(special_functions.polygamma)),
        Operation("zeta", Role.ELEMENTWISE, family=_parametrised(special_functions.hurwitz_zeta)),
        Operation("gammainc", Role.ELEMENTWISE, family=_parametrised(lambda a: special_functions.incomplete_gamma(a, upper=False))),
        Operation("gammaincc", Role.ELEMENTWISE, family=_parametrised(lambda a: special_functions.incomplete_gamma(a, upper=True))),
        Operation("betainc", Role.ELEMENTWISE, family=_parametrised(special_functions.incomplete_beta)),
        Operation("elu", Role.ELEMENTWISE, family=_composed(composite_rules.elu)),
        Operation("expn", Role.ELEMENTWISE, family=_exponential_integral),
        Operation("xlogy", Role.ELEMENTWISE, Composed(composite_rules.xlogy)),
        # sums and products of operands
        Operation("add", Role.ADD, Sum((1.0, 1.0)), family=_signed),
        Operation("subtract", Role.ADD, Sum((1.0, -1.0)), family=_signed),
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
        *_linear(Role.GATHER, "take gather getitem stack roll tile repeat diagonal tril triu"),
        Operation("scatter", Role.GATHER, Linear(), family=_affine),
        Operation("pad", Role.GATHER, Linear(), family=_affine),
        Operation("strided", Role.GATHER, family=_linear_map),
        *_linear(Role.SUM, "sum nansum mean cumulative_sum window_sum"),
        *_linear(Role.OTHER, "linear fft real imag conj complex"),
        # pieces
        Operation("abs", Role.SELECT, PiecewiseLinear(composite_rules.abs_tangent), "0", _modulus),
        Operation("relu", Role.SELECT, PiecewiseLinear(composite_rules.relu_tangent), "0"),
        Operation("relu6", Role.SELECT, PiecewiseLinear(composite_rules.saturated_tangent(0.0, 6.0)), "0"),
        Operation("hardtanh", Role.SELECT, PiecewiseLinear(composite_rules.saturated_tangent(-1.0, 1.0)), "0",
                  _piecewise(composite_rules.saturated_tangent)),
        Operation("leaky_relu", Role.SELECT, Composed(composite_rules.prelu), "the slope of the negative side",
                  _piecewise(composite_rules.leaky_tangent)),
        Operation("shrink", Role.SELECT, None, "0", _piecewise(composite_rules.shrink_tangent)),
        Operation("maximum", Role.SELECT, PiecewiseLinear(composite_rules.maximum_tangent), "the mean of both"),
        Operation("minimum", Role.SELECT, PiecewiseLinear(composite_rules.minimum_tangent), "the mean of both"),
        Operation("fmax", Role.SELECT, PiecewiseLinear(composite_rules.number_maximum_tangent), "the mean of both"),
        Operation("fmin", Role.SELECT, PiecewiseLinear(composite_rules.number_minimum_tangent), "the mean of both"),
        Operation("clip", Role.SELECT, PiecewiseLinear(composite_rules.clamp_tangent), "that of the interior"),
        Operation("copysign", Role.SELECT, Composed(composite_rules.copysign), "0"),
        Operation("remainder", Role.SELECT, None, "that of the piece", _piecewise(composite_rules.remainder_tangent)),
        Operation("frac", Role.SELECT, PiecewiseLinear(composite_rules.same_tangent), "that of the piece"),
        Operation("nan_to_num", Role.SELECT, PiecewiseLinear(composite_rules.finite_tangent), "0"),
        Operation("where", Role.SELECT, Composed(lambda ops, mask, a, b: ops.where(mask, a, b)), "the piece that is taken"),
        Operation("max", Role.SELECT, None, "the mean over all that attain it", _extremum(True)),
        Operation("min", Role.SELECT, None, "the mean over all that attain it", _extremum(False)),
        Operation("chosen", Role.SELECT, None, "the one whose index is told", _chosen),
        Operation("window_max", Role.SELECT, None, "the one whose index is told", _in_windows),
        Operation("cumulative_max", Role.SELECT, None, "the last that attains it", _chosen),
        Operation("cumulative_min", Role.SELECT, None, "the last that attains it", _chosen),
        Operation("sort", Role.SELECT, None, "the order is stable", _sort),
        Operation("top_k", Role.SELECT, None, "the order is stable", _chosen),
        # two numbers at every entry
        Operation("atan2", Role.ELEMENTWISE, Composed(composite_rules.atan2)),
        Operation("hypot", Role.ELEMENTWISE, Composed(composite_rules.square_root_of_squares)),
        Operation("logaddexp", Role.ELEMENTWISE, Composed(composite_rules.logaddexp)),
        # along axes
        Operation("softmax", Role.OTHER, family=_composed(composite_rules.softmax)),
        Operation("log_softmax", Role.OTHER, family=_composed(composite_rules.log_softmax)),
        Operation("logsumexp", Role.OTHER, family=_composed(composite_rules.logsumexp)),
        Operation("prod", Role.OTHER, family=_composed(composite_rules.product)),
        Operation("cumulative_prod", Role.OTHER, family=_running(_multiplied)),
        Operation("cumulative_logsumexp", Role.OTHER, family=_running(composite_rules.logaddexp)),
        Operation("norm", Role.OTHER, family=_composed(matrix_rules.norm)),
        Operation("distances", Role.OTHER, family=_composed(matrix_rules.distances)),
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
}  # fmt: skip
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


def reads(name: str, **attributes: Callable[[Any], Any]) -> Callable[..., Rule]:
    """An entry that only says where the attributes of an operation stand in a call: each is asked of it."""
    operation = OPERATIONS[name]

    def choose(call: Any) -> Rule:
        return operation.given(**{key: ask(call) for key, ask in attributes.items()})

    assert operation.family is not None
    kinds = (*kinds_of(operation.family), *((Derived,) if "general" in attributes else ()))
    return means(name)(chooses(*kinds)(choose))
