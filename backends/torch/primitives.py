"""ATen operators and how they meet jets: the table.

One entry per operator, found by ``name.overload`` or by ``name`` alone: a `Reading` of its arguments as an operation of the
vocabulary, or a function that gets the `Facts` of one recorded call and answers with a rule. Operators without an entry are
decomposed (`decompositions`), so that only those stand here that have no decomposition or a better rule than it. Linear maps are in
`primitives_linear`, selections and reductions in `primitives_composed`, linear algebra in `primitives_matrix`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from opdsl.backends.torch.tape import AtenCall, CustomFunction, Slot
from opdsl.errors import MissingRuleError
from opdsl.jets import first_derivative
from opdsl.jets.first_derivative import Inner, announced
from opdsl.jets.graph import Bilinear, Composed, Constant, Derived, Linear, Operation, Rule, arranged, chooses, kinds_of
from opdsl.jets.operations import OPERATIONS, means, operation_of


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

    def takes(self, name: str) -> bool:
        """Whether the operator has an argument of this name."""
        return any(argument.name == name for argument in self.call.op._schema.arguments)

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


@dataclass(frozen=True)
class Reading:
    """How the arguments of an operator are read as an operation of the vocabulary: nothing but data.

    Args:
        operation: which one it is.
        operands: the arguments that are its operands, in its order; any of them may be a Python number, or None for a bound that is
            absent. Without names: the tensors as they come.
        attributes: for each attribute of the operation the argument of that name, or what a function makes of the call.
    """

    operation: Operation
    operands: tuple[str, ...]
    attributes: Mapping[str, str | Callable[[Facts], Any]]

    @property
    def kinds(self) -> tuple[type[Rule], ...]:
        """For the documentation."""
        family = self.operation.family
        kinds = kinds_of(family) if self.attributes and family is not None else kinds_of(self.operation)
        # With a number in the place of an operand a product is linear.
        more: tuple[type[Rule], ...] = (Linear,) if Bilinear in kinds and self.operands else ()
        return (*kinds, *more, Derived) if "general" in self.attributes else (*kinds, *more)

    def __call__(self, facts: Facts) -> Rule:
        given = {key: facts[ask] if isinstance(ask, str) else ask(facts) for key, ask in self.attributes.items()}
        rule = self.operation.given(**given)
        if not self.operands:
            return rule
        places = [facts[name] if facts.takes(name) else None for name in self.operands]
        return arranged(rule, [p.index if isinstance(p, Slot) else None for p in places], places)


def enter(names: str, entry: Entry | Rule | str, operands: str = "", **attributes: str | Callable[[Facts], Any]) -> None:
    """Register operators separated by spaces: as an operation read by `Reading`, by a rule, or by a function that chooses one."""
    if isinstance(entry, str):
        entry = Reading(OPERATIONS[entry], tuple(operands.split()), attributes)
    for name in names.split():
        TABLE[name] = _always(entry) if isinstance(entry, Rule) else entry


def axis_of(facts: Facts) -> int:
    return facts.axis()


def axes_of(facts: Facts) -> tuple[int, ...]:
    return facts.axes() if facts.takes("dim") else tuple(range(facts.operands[0].dim()))


def keeps_axes(facts: Facts) -> bool:
    return bool(facts["keepdim"]) if facts.takes("keepdim") else False


def call_of(facts: Facts) -> AtenCall:
    return facts.call


def _number(name: str) -> Callable[[Facts], float]:
    return lambda facts: float(facts[name])


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


# --------------------------------------------------------------------------------------------------------- arithmetic


@chooses(Constant, Linear, Composed)
def _quotient(facts: Facts) -> Rule:
    if facts.call.kwargs.get("rounding_mode") is not None:
        return Constant()
    # A number is divided by as torch does it, not multiplied with its reciprocal.
    return Linear() if not isinstance(facts["other"], Slot) else _DIVIDE(facts)


_DIVIDE = Reading(OPERATIONS["divide"], ("self", "other"), {})


def _unless_tensor(name: str) -> Callable[[Facts], float | None]:
    return lambda facts: None if isinstance(facts[name], Slot) else float(facts[name])


def _rounding(facts: Facts) -> str:
    return "floor" if facts.call.op.__name__.startswith("remainder") else "trunc"


enter("add.Tensor add.Scalar", "add", "self other", signs=lambda facts: (1.0, float(facts["alpha"])))
enter("sub.Tensor sub.Scalar", "subtract", "self other", signs=lambda facts: (1.0, -float(facts["alpha"])))
# rsub(self, other) = other − alpha · self
enter("rsub.Tensor rsub.Scalar", "subtract", "other self", signs=lambda facts: (1.0, -float(facts["alpha"])))
enter("neg", "negative")
enter("mul.Tensor mul.Scalar", "multiply", "self other")
enter("div.Tensor div.Scalar div.Tensor_mode div.Scalar_mode", means("divide")(_quotient))
enter("pow float_power", "pow", exponent=_unless_tensor("exponent"), base=_unless_tensor("self"))
enter("fmod remainder", "remainder", "self other", rounding=_rounding)
enter("frac", "frac")

# --------------------------------------------------------------------------------------------- functions of one number

for _name in ("exp exp2 expm1 log log2 log10 log1p sqrt rsqrt reciprocal square sin cos tan asin acos atan sinh cosh tanh asinh "
              "acosh atanh sigmoid erf erfc erfinv silu sinc lgamma digamma").split():  # fmt: skip
    enter(_name, _name)
for _name in "log_ndtr ndtr ndtri erfcx spherical_bessel_j0".split():
    enter(f"special_{_name}", _name)
for _name in "erfcx ndtri lgamma digamma".split():
    enter(f"prims::{_name}", _name)
for _name in "i0e i1e bessel_j0 bessel_j1 bessel_y0 bessel_y1".split():
    enter(f"special_{_name}", f"bessel_{_name.removeprefix('bessel_')}")
enter("i0 special_modified_bessel_i0", "bessel_i0")
enter("special_i1 special_modified_bessel_i1", "bessel_i1")
for _name in "k0 k1".split():
    enter(f"special_modified_bessel_{_name}", f"bessel_{_name}")
    enter(f"special_scaled_modified_bessel_{_name}", f"bessel_{_name}e")
enter("polygamma", "polygamma", "n self", general=by_first_derivative)
enter("igamma special_gammainc", "gammainc", "self other", general=by_first_derivative)
enter("igammac special_gammaincc", "gammaincc", "self other", general=by_first_derivative)
enter("special_zeta", "zeta", "self other", general=by_first_derivative)
enter("abs prims::abs", "abs", complex=lambda facts: facts.operands[0].is_complex())
enter("relu", "relu")
enter("maximum", "maximum", "self other")
enter("minimum", "minimum", "self other")
enter("fmax", "fmax", "self other")
enter("fmin", "fmin", "self other")
enter("atan2", "atan2", "self other")
enter("hypot", "hypot", "self other")
enter("logaddexp", "logaddexp", "self other")
for _name in "sign floor ceil round trunc zeros_like ones_like full_like floor_divide signbit isnan isinf isfinite".split():
    enter(_name, _name)
enter("sgn", "sign")
for _name, _meant in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}.items():
    enter(_name, _meant)
enter("heaviside rand_like randn_like bernoulli empty_like nextafter new_zeros new_ones new_full new_empty", "constant")
enter("nan_to_num", "nan_to_num")

# -------------------------------------------------------------------------------------------------------- activations

enter("clamp clamp_min clamp_max", "clip", "min self max")
enter("hardtanh", "hardtanh", low=_number("min_val"), high=_number("max_val"))
enter("leaky_relu", "leaky_relu", slope=_number("negative_slope"))
enter("softshrink hardshrink", "shrink", bound=_number("lambd"))
# The exact function: torch replaces it by its argument beyond the threshold, 2e-9 away from it.
enter("softplus", "softplus", beta=_number("beta"))
enter("elu", "elu", alpha=_number("alpha"), scale=_number("scale"), input_scale=_number("input_scale"))
enter("gelu", "gelu", approximate=lambda facts: facts["approximate"] == "tanh")
enter("_prelu_kernel", "leaky_relu")
enter("copysign", "copysign", "self other")
enter("where.self", "where")
enter("masked_fill.Scalar masked_fill.Tensor", "where", "mask value self")
enter("_softmax softmax.int", "softmax", axis=axis_of)
enter("_log_softmax log_softmax.int", "log_softmax", axis=axis_of)
enter("logsumexp", "logsumexp", axes=axes_of, keepdims=keeps_axes)


@means("log_sigmoid")
@chooses(Composed)
def _log_sigmoid(facts: Facts) -> Rule:
    """With a buffer beside it that its derivative would read."""
    return Composed(lambda ops, a: (ops.elementwise("log_sigmoid", a), facts.call(ops.primal(a))[1]))


enter("log_sigmoid_forward", _log_sigmoid)

# Torch's reference decompositions end in these.
enter("prims::where", "where", "pred a b")
enter("prims::device_put", "linear")
for _name, _meant in {"broadcast_in_dim": "broadcast_to", "view_of": "copy", "transpose": "permute_dims", "sum": "sum"}.items():
    enter(f"prims::{_name}", _meant)

# --------------------------------------------------------------------------------------------------------- bilinear maps

enter("mm matmul", "matmul")
enter("bmm mv tensordot", "tensordot")
enter("dot vdot", "vecdot")
enter("outer ger", "outer")
enter("linalg_cross", "cross")
enter("einsum", means("einsum")(chooses(Bilinear, Linear)(lambda facts: Bilinear() if len(facts.operands) == 2 else Linear())))
enter("convolution convolution_overrideable", "convolution")
