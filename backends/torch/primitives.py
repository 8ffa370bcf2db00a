"""ATen operators and how they meet jets: the table.

One entry per operator, found by ``name.overload`` or by ``name`` alone; an entry gets the `Facts` of one recorded call and
answers with a rule. Operators without an entry are decomposed (`torch_decompose`), so that only those stand here that have no
decomposition or a better rule than it. Linear maps are in `torch_rules_linear`, selections and reductions in
`torch_rules_composed`, linear algebra in `torch_rules_matrix`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opdsl.backends.torch.tape import AtenCall, CustomFunction, Slot
from opdsl.errors import MissingRuleError
from opdsl.jets import composite_rules, first_derivative, special_functions
from opdsl.jets.elementary import ELEMENTARY, Elementary, exponential, power
from opdsl.jets.first_derivative import Inner, announced
from opdsl.jets.graph import (
    Bilinear,
    Composed,
    Constant,
    Derived,
    Elementwise,
    Linear,
    Operation,
    PiecewiseLinear,
    Rule,
    Sum,
    chooses,
)
from opdsl.jets.operations import OPERATIONS, meant, operation_of
from opdsl.jets.propagate import JetOps


@dataclass(frozen=True)
class Facts:
    """One recorded call, for the table.

    Args:
        call: the operator and its arguments; tensors are `Slot` s.
        operands: tensors without contents (device ``meta``) like the operands, in the order of the slots.
        varies: for each operand whether it can carry a jet.
        outputs: the like for the results.
        batch_axes: the axis of the points of each operand; None where it has none.
        several: whether the call returns a tuple.
        order, linear, differentiate, inner: for derivatives, see `opdsl.jets.first_derivative.Differentiable`.
    """

    call: AtenCall
    operands: tuple[Tensor, ...]
    varies: tuple[bool, ...]
    outputs: tuple[Tensor, ...]
    batch_axes: tuple[int | None, ...]
    several: bool
    order: int | None
    linear: tuple[bool, ...]
    differentiate: Callable[..., Any]
    inner: Callable[[Any, int | None, Sequence[bool]], Inner]

    @property
    def apply(self) -> AtenCall:
        """The operator on its operands."""
        return self.call

    def __getitem__(self, name: str) -> Any:
        """The argument of this name: a `Slot`, a static value, or the default."""
        for i, argument in enumerate(self.call.op._schema.arguments):
            if argument.name == name:
                if name in self.call.kwargs:
                    return self.call.kwargs[name]
                return self.call.args[i] if i < len(self.call.args) else argument.default_value
        raise KeyError(name)

    def axis(self, name: str = "dim", of: int = 0) -> int:
        """A non-negative axis of operand ``of``."""
        axis: int = int(self[name]) % max(self.operands[of].dim(), 1)
        return axis

    def axes(self, name: str = "dim", of: int = 0) -> tuple[int, ...]:
        """Non-negative axes; all of them where none, or an empty list, is given."""
        given, ndim = self[name], self.operands[of].dim()
        if given is None or (isinstance(given, tuple | list) and not given):
            return tuple(range(ndim))
        return tuple(int(a) % max(ndim, 1) for a in (given if isinstance(given, tuple | list) else (given,)))


Entry = Callable[[Facts], Rule]
TABLE: dict[str, Entry] = {}
"""The registry: what the documentation lists and the capture looks up."""


def enter(names: str, entry: Entry | Rule | str, operation: str = "") -> None:
    """Register an operation of the vocabulary, a rule, or a function that chooses one, for operators separated by spaces.

    ``operation`` says which operation it is that such a rule is for.
    """
    for name in names.split():
        if isinstance(entry, str):
            known = OPERATIONS[entry]
            assert known.rule is not None
            TABLE[name] = meant(entry, known.rule)
        elif operation:
            TABLE[name] = meant(operation, entry)
        else:
            TABLE[name] = entry if callable(entry) else _always(entry)


def named(op: Any) -> Operation:
    """Which operation an operator is."""
    return operation_of(lookup(op))


def _always(rule: Rule) -> Entry:
    return chooses(type(rule))(lambda _facts: rule)


def lookup(op: Any) -> Entry | None:
    """The entry of an operator: its overload's, or that of all overloads."""
    name = op.__name__ if op.namespace == "aten" else f"{op.namespace}::{op.__name__}"
    return TABLE.get(name) or TABLE.get(registered_name(op))


def registered_name(op: Any) -> str:
    """The name under which a rule for all overloads of an operator is found."""
    plain: str = op.__name__.partition(".")[0]
    return plain if op.namespace == "aten" else f"{op.namespace}::{plain}"


def missing(reason: str) -> Rule:
    """A rule that complains when a jet arrives; values without derivatives pass."""

    def build(_ops: Any, *_operands: Any) -> Any:
        raise MissingRuleError(reason)

    return Composed(build)


def rule_of(facts: Facts) -> Rule:
    """The rule of a recorded call."""
    if not any(facts.varies):
        return Constant()
    if isinstance(facts.call.op, CustomFunction):
        return by_first_derivative(facts)
    if not any(o.is_floating_point() or o.is_complex() for o in facts.outputs):
        return Constant()
    entry = lookup(facts.call.op)
    if entry is None:
        return announced(by_first_derivative(facts), registered_name(facts.call.op), "torch")
    return entry(facts)


@chooses(Derived)
def by_first_derivative(facts: Facts) -> Derived:
    """A rule that pushes jets through the program of the first derivative, as autograd has it."""
    programs: dict[Any, Any] = {}

    def differentiate(primals: Sequence[Tensor], moving: Sequence[int], smooth: Sequence[int]) -> Any:
        key = (tuple(moving), tuple((p.shape, p.dtype, p.device) for p in primals))
        if key not in programs:
            programs[key] = facts.differentiate(facts, primals, moving, smooth)
        return programs[key]

    return first_derivative.by_first_derivative(
        first_derivative.Differentiable(
            name=str(facts.call.op),
            apply=facts.call,
            several=facts.several,
            order=facts.order,
            linear=facts.linear,
            is_smooth=lambda t: t.is_floating_point() or t.is_complex(),
            differentiate=differentiate,
            inner=facts.inner,
        )
    )


# ------------------------------------------------------------------------------------------------------ composed rules


def composed(rule: Callable[..., Any], *names: str) -> Entry:
    """``rule(ops, *operands, *static arguments)``: tensors and numbers in the order of ``names`` in the schema."""

    def entry(facts: Facts) -> Rule:
        given = [facts[name] for name in names]

        def build(ops: JetOps, *operands: Any) -> Any:
            return rule(ops, *(operands[g.index] if isinstance(g, Slot) else g for g in given))

        return Composed(build)

    return entry


def tangent(rule: Callable[..., Any], *names: str) -> Entry:
    """A piecewise linear operator; arguments in the order of ``names``, Python numbers become constants of the right dtype."""

    @chooses(PiecewiseLinear)
    def entry(facts: Facts) -> Rule:
        given = [facts[name] for name in names]

        def along(xp: Any, primals: Any, tangents: Any) -> Any:
            like = next(t for t in tangents if t is not None)
            filled = [
                primals[g.index] if isinstance(g, Slot) else xp.asarray(g, dtype=like.dtype, device=like.device) for g in given
            ]
            return rule(xp, filled, [tangents[g.index] if isinstance(g, Slot) else None for g in given])

        return PiecewiseLinear(along)

    return entry


# --------------------------------------------------------------------------------------------------------- arithmetic


def _signed(sign: float) -> Entry:
    """self ± alpha · other, one of them possibly a number."""

    @chooses(Sum)
    def entry(facts: Facts) -> Rule:
        signs = {"self": 1.0, "other": sign * float(facts["alpha"])}
        return Sum(tuple(s for name, s in signs.items() if isinstance(facts[name], Slot)))

    return entry


@chooses(Sum)
def _reversed_difference(facts: Facts) -> Rule:
    # rsub(self, other) = other − alpha · self
    signs = [-float(facts["alpha"])] + ([1.0] if isinstance(facts["other"], Slot) else [])
    return Sum(tuple(signs))


@chooses(Bilinear, Linear)
def _product(facts: Facts) -> Rule:
    return Bilinear() if len(facts.operands) == 2 else Linear()


@chooses(Constant, Linear, Composed)
def _quotient(facts: Facts) -> Rule:
    if facts.call.kwargs.get("rounding_mode") is not None:
        return Constant()
    if len(facts.operands) == 1 and isinstance(facts["self"], Slot):
        return Linear()
    return composed(composite_rules.divide, "self", "other")(facts)


@chooses(Elementwise, Composed)
def _power(facts: Facts) -> Rule:
    exponent = facts["exponent"]
    if not isinstance(exponent, Slot):
        return Elementwise(power(float(exponent)))
    if not isinstance(facts["self"], Slot):
        return Elementwise(exponential(float(facts["self"])))
    return Composed(composite_rules.power_of)


enter("add.Tensor add.Scalar", _signed(1.0), "add")
enter("sub.Tensor sub.Scalar", _signed(-1.0), "subtract")
enter("rsub.Tensor rsub.Scalar", _reversed_difference, "subtract")
enter("neg", "negative")
enter("mul.Tensor mul.Scalar", _product, "multiply")
enter("div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode", _quotient, "divide")
enter("pow float_power", _power, "pow")


def _remainder(facts: Facts) -> Rule:
    quotient = torch.floor if facts.call.op.__name__.startswith("remainder") else torch.trunc
    given = [facts["self"], facts["other"]]

    def build(ops: JetOps, *operands: Any) -> Any:
        a, b = (operands[g.index] if isinstance(g, Slot) else g for g in given)
        whole = quotient(torch.true_divide(ops.primal(a), ops.primal(b)))
        # The value is torch's own: a − b·⌊a/b⌋ rounds differently.
        value = facts.call(*(ops.primal(o) for o in operands))
        linear = ops.sub(a, ops.mul(b, whole))
        return ops.add(linear, value - ops.primal(linear))

    return Composed(build)


enter("fmod remainder", _remainder)

# --------------------------------------------------------------------------------------------- functions of one number

for _name in ("exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square sin cos tan asin acos atan sinh cosh tanh asinh "
              "acosh atanh sigmoid erf erfc erfinv silu sinc lgamma digamma").split():  # fmt: skip
    enter(_name, _name)
for _name in "log_ndtr ndtr ndtri erfcx spherical_bessel_j0".split():
    enter(f"special_{_name}", _name)
for _name in "erfcx ndtri lgamma digamma".split():
    enter(f"prims::{_name}", _name)
enter("polygamma", chooses(Elementwise)(lambda facts: Elementwise(special_functions.polygamma(int(facts["n"])))))
for _name in "i0e i1e bessel_j0 bessel_j1 bessel_y0 bessel_y1".split():
    enter(f"special_{_name}", f"bessel_{_name.removeprefix('bessel_')}")
enter("i0 special_modified_bessel_i0", "bessel_i0")
enter("special_i1 special_modified_bessel_i1", "bessel_i1")
for _name in "k0 k1".split():
    enter(f"special_modified_bessel_{_name}", f"bessel_{_name}")
    enter(f"special_scaled_modified_bessel_{_name}", f"bessel_{_name}e")


def _family(make: Callable[[Any], Elementary], parameter: str, variable: str) -> Entry:
    """Elementwise in one argument while the other, a parameter, is constant."""

    def entry(facts: Facts) -> Rule:
        general = by_first_derivative(facts)
        given = [facts[parameter], facts[variable]]

        def build(ops: JetOps, *operands: Any) -> Any:
            a, x = (operands[g.index] if isinstance(g, Slot) else g for g in given)
            if ops.is_jet(a):
                return general.build(ops, *operands)
            return ops.elementwise(make(a), x)

        return Composed(build)

    return entry


enter("igamma special_gammainc", _family(lambda a: special_functions.incomplete_gamma(a, upper=False), "self", "other"))
enter("igammac special_gammaincc", _family(lambda a: special_functions.incomplete_gamma(a, upper=True), "self", "other"))
enter("special_zeta", _family(special_functions.hurwitz_zeta, "self", "other"))


@chooses(PiecewiseLinear, Composed)
def _modulus(facts: Facts) -> Rule:
    if not facts.operands[0].is_complex():
        return tangent(composite_rules.abs_tangent, "self")(facts)
    return Composed(lambda ops, a: composite_rules.square_root_of_squares(ops, ops.linear(torch.real, a), ops.linear(torch.imag, a)))


enter("abs prims::abs", _modulus, "abs")


enter("relu", tangent(composite_rules.relu_tangent, "self"), "relu")
enter("frac", PiecewiseLinear(lambda xp, primals, tangents: tangents[0]))
enter("maximum", tangent(composite_rules.maximum_tangent, "self", "other"), "maximum")
enter("minimum", tangent(composite_rules.minimum_tangent, "self", "other"), "minimum")
enter("fmax", tangent(composite_rules.number_maximum_tangent, "self", "other"), "fmax")
enter("fmin", tangent(composite_rules.number_minimum_tangent, "self", "other"), "fmin")
enter("atan2", composed(composite_rules.atan2, "self", "other"), "atan2")
enter("hypot", composed(composite_rules.square_root_of_squares, "self", "other"), "hypot")
enter("logaddexp", composed(composite_rules.logaddexp, "self", "other"), "logaddexp")
for _name in "sign floor ceil round trunc zeros_like ones_like full_like floor_divide signbit isnan isinf isfinite".split():
    enter(_name, _name)
enter("sgn", "sign")
for _name, _meant in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}.items():
    enter(_name, _meant)
enter("heaviside rand_like randn_like bernoulli empty_like nextafter new_zeros new_ones new_full new_empty", "constant")


@chooses(PiecewiseLinear)
def _clamp(facts: Facts) -> Rule:
    low, high = (None if name not in _argument_names(facts) else facts[name] for name in ("min", "max"))

    def along(xp: Any, primals: Any, tangents: Any) -> Any:
        t = next(v for v in tangents if v is not None)

        def pick(bound: Any, default: float) -> tuple[Any, Any]:
            if isinstance(bound, Slot):
                return primals[bound.index], tangents[bound.index]
            return xp.asarray(default if bound is None else bound, dtype=t.dtype, device=t.device), None

        (a, da), (b, db) = pick(low, -float("inf")), pick(high, float("inf"))
        return composite_rules.clamp_tangent(xp, (a, primals[0], b), (da, tangents[0], db))

    return PiecewiseLinear(along)


def _argument_names(facts: Facts) -> set[str]:
    return {a.name for a in facts.call.op._schema.arguments}


@chooses(PiecewiseLinear)
def _hardtanh(facts: Facts) -> Rule:
    return PiecewiseLinear(composite_rules.saturated_tangent(float(facts["min_val"]), float(facts["max_val"])))


@chooses(PiecewiseLinear)
def _leaky(facts: Facts) -> Rule:
    return PiecewiseLinear(composite_rules.leaky_tangent(float(facts["negative_slope"])))


@chooses(PiecewiseLinear)
def _shrunk(facts: Facts) -> Rule:
    bound = float(facts["lambd"])
    return PiecewiseLinear(lambda xp, p, t: xp.where(xp.abs(p[0]) > bound, t[0], xp.zeros_like(t[0])))


def _softplus(facts: Facts) -> Rule:
    beta = float(facts["beta"])
    # The exact function: torch replaces it by its argument beyond the threshold, 2e-9 away from it.
    return Composed(lambda ops, a: ops.div(ops.elementwise("softplus", ops.mul(a, beta)), beta))


def _elu(facts: Facts) -> Rule:
    alpha, scale, inner = (float(facts[name]) for name in ("alpha", "scale", "input_scale"))
    return Composed(lambda ops, a: composite_rules.elu(ops, a, alpha, scale, inner))


@chooses(Elementwise, Composed)
def _gelu(facts: Facts) -> Rule:
    return Composed(composite_rules.gelu_tanh) if facts["approximate"] == "tanh" else Elementwise(ELEMENTARY["gelu"])


enter("clamp clamp_min clamp_max", _clamp, "clip")
enter("hardtanh", _hardtanh, "hardtanh")
enter("leaky_relu", _leaky, "leaky_relu")
enter("softshrink hardshrink", _shrunk, "shrink")
enter("softplus", _softplus)
enter("elu", _elu, "elu")
enter("gelu", _gelu, "gelu")
enter("log_sigmoid_forward", Composed(lambda ops, a: (ops.elementwise("log_sigmoid", a), ops.xp.zeros_like(ops.primal(a)))))
enter("_prelu_kernel", "leaky_relu")
enter("copysign", composed(composite_rules.copysign, "self", "other"), "copysign")
enter("where.self", "where")
enter("masked_fill.Scalar masked_fill.Tensor", lambda facts: Composed(
    lambda ops, a, mask, *v: ops.where(mask, v[0] if v else torch.full_like(ops.primal(a), facts["value"]), a)))  # fmt: skip
enter("_softmax softmax.int", lambda facts: Composed(lambda ops, a: composite_rules.softmax(ops, a, facts.axis())))
enter("_log_softmax log_softmax.int", lambda facts: Composed(lambda ops, a: composite_rules.log_softmax(ops, a, facts.axis())))
enter("logsumexp", lambda facts: Composed(lambda ops, a: composite_rules.logsumexp(ops, a, facts.axes(), bool(facts["keepdim"]))))
enter("tanh_backward", Composed(lambda ops, g, y: ops.mul(g, ops.sub(1.0, ops.mul(y, y)))))
enter("sigmoid_backward", Composed(lambda ops, g, y: ops.mul(g, ops.mul(y, ops.sub(1.0, y)))))

# Torch's reference decompositions end in these.
enter("prims::where", composed(lambda ops, mask, a, b: ops.where(mask, a, b), "pred", "a", "b"))
enter("prims::device_put", "linear")
for _name, _meant in {"broadcast_in_dim": "broadcast_to", "view_of": "copy", "transpose": "permute_dims", "sum": "sum"}.items():
    enter(f"prims::{_name}", _meant)

# --------------------------------------------------------------------------------------------------------- bilinear maps

enter("mm matmul", "matmul")
enter("bmm mv tensordot", "tensordot")
enter("dot vdot", "vecdot")
enter("outer ger", "outer")
enter("linalg_cross", "cross")
enter("einsum", _product, "einsum")
enter("convolution convolution_overrideable", "convolution")
