"""How each JAX primitive meets a jet: one table, by the primitive's name.

An entry is a rule, or a function from the `Equation` to a rule where its parameters or dtypes matter. Primitives that are
not in the table get a rule that raises `MissingRuleError` when a jet reaches them. Composed rules that other backends need too
live in `opdsl.jets.composite_rules`; here are only those whose definition is a JAX primitive's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from opdsl.backends.jax import control_flow, primitives_matrix
from opdsl.backends.jax.derivative import by_first_derivative
from opdsl.backends.jax.equation import Equation
from opdsl.jets.first_derivative import announced
from opdsl.jets.graph import (
    Array,
    Composed,
    Constant,
    Derived,
    Elementwise,
    Linear,
    Operation,
    PiecewiseLinear,
    Rule,
    arranged,
    chooses,
)
from opdsl.jets.operations import OPERATIONS, means, meant, operation_of, reads
from opdsl.jets.propagate import JetOps

Operand = Any


Entry = Operation | Rule | Callable[[Equation], Rule]


def rule_for(equation: Equation) -> Rule:
    """The rule of a primitive. One that is not in the table goes by its first derivative, with a warning."""
    return _rule(TABLE.get(equation.primitive, _unlisted), equation)


def _rule(entry: Entry, equation: Equation) -> Rule:
    found = entry.rule if isinstance(entry, Operation) else entry if isinstance(entry, Rule) else entry(equation)
    assert found is not None
    return found


def named(primitive: str) -> Operation:
    """Which operation a primitive, or a function of JAX's library, is."""
    return operation_of(TABLE.get(primitive) or FUNCTIONS.get(primitive))


@chooses(Derived)
def _unlisted(equation: Equation) -> Rule:
    return announced(by_first_derivative(equation), equation.primitive, "JAX")


# ----------------------------------------------------------------------------------------- where attributes are found


def _parameter(name: str) -> Callable[[Equation], Any]:
    return lambda equation: equation.params[name]


def _is_complex(equation: Equation) -> bool:
    return bool(jnp.issubdtype(equation.dtypes[0], jnp.complexfloating))


@means("slice")
@chooses(Linear)
def _dynamic_slice(_equation: Equation) -> Rule:
    return Linear((0,))


@means("astype")
@chooses(Linear, Constant)
def _convert(equation: Equation) -> Rule:
    return Linear() if jnp.issubdtype(equation.params["new_dtype"], jnp.inexact) else Constant()


# --------------------------------------------------------------------------------------------------- selection


@means("where")
@chooses(Linear)
def _select_n(equation: Equation) -> Rule:
    return Linear(tuple(range(1, len(equation.shapes))))


def linear_at(*positions: int) -> Callable[[Equation], Rule]:
    """Linear in some operands, locally constant in the others (which are read through their primal)."""

    def entry(equation: Equation) -> Rule:
        def build(ops: JetOps, *operands: Operand) -> Operand:
            rest = [ops.primal(o) for o in operands]

            def apply(*moving: Array) -> Any:
                full = list(rest)
                for i, value in zip(positions, moving, strict=True):
                    full[i] = value
                return equation.apply(*full)

            return ops.linear(apply, *(operands[i] for i in positions), several=equation.several)

        return Composed(build)

    return entry


def linear_or_derivative(*positions: int) -> Callable[[Equation], Rule]:
    """Linear while only the operands at ``positions`` carry jets; by its first derivative otherwise."""
    return lambda equation: _linear_or_derivative(equation, positions)


def _linear_or_derivative(equation: Equation, positions: Sequence[int]) -> Rule:
    general = by_first_derivative(equation)

    def build(ops: JetOps, *operands: Operand) -> Any:
        moving = [i for i, o in enumerate(operands) if ops.is_jet(o)]
        if not set(moving) <= set(positions):
            return general.build(ops, *operands)

        def apply(*values: Array) -> Any:
            full = list(operands)
            for i, value in zip(positions, values, strict=True):
                full[i] = value
            return equation.apply(*full)

        return ops.linear(apply, *(operands[i] for i in positions), several=equation.several)

    return Composed(build)


def _linear_solve(equation: Equation) -> Rule:
    """custom_linear_solve: the operands after the programs' constants are right-hand sides."""
    first = sum(equation.params["const_lengths"])
    return _linear_or_derivative(equation, range(first, len(equation.shapes)))


@chooses(PiecewiseLinear)
def _tangent_by_jvp(equation: Equation) -> Rule:
    """A locally linear primitive whose tangent JAX knows better than any formula in ``xp``."""

    def tangent(_xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
        moving = [i for i, t in enumerate(tangents) if t is not None]

        def along(*values: Array) -> Array:
            full = list(primals)
            for i, value in zip(moving, values, strict=True):
                full[i] = value
            return equation.apply(*full)

        return jax.jvp(along, tuple(primals[i] for i in moving), tuple(tangents[i] for i in moving))[1]

    return PiecewiseLinear(tangent)


def _running_extremum(compare: Callable[..., Array]) -> Callable[[Equation], Callable[[Array], tuple[Array, Array]]]:
    """cummax and cummin, with the position where the running extremum was attained last."""

    def attribute(equation: Equation) -> Callable[[Array], tuple[Array, Array]]:
        axis, reverse = equation.params["axis"], equation.params["reverse"]

        def choose(x: Array) -> tuple[Array, Array]:
            places = lax.broadcasted_iota(jnp.int32, x.shape, axis)
            value = compare(x, axis=axis, reverse=reverse)
            if reverse:
                return value, lax.cummin(jnp.where(x == value, places, x.shape[axis] - 1), axis=axis, reverse=True)
            return value, lax.cummax(jnp.where(x == value, places, 0), axis=axis)

        return choose

    return attribute


def _sort(equation: Equation) -> Rule:
    axis = equation.params["dimension"]

    def build(ops: JetOps, *operands: Operand) -> tuple[Operand, ...]:
        keys = [ops.primal(o) for o in operands]
        places = lax.broadcasted_iota(jnp.int32, keys[0].shape, axis)
        order = lax.sort((*keys, places), dimension=axis, is_stable=True, num_keys=equation.params["num_keys"])[-1]
        return tuple(ops.linear(lambda h: jnp.take_along_axis(h, order, axis=axis), o) for o in operands)

    return Composed(build)


def _scatter_mul(equation: Equation) -> Rule:
    """x.at[i].multiply(c): linear in x; in c a product of all that goes to one place, for indices may repeat."""
    params = equation.params
    windows = params["dimension_numbers"].update_window_dims

    def build(ops: JetOps, operand: Operand, indices: Array, updates: Operand) -> Operand:
        if not ops.is_jet(updates):
            return ops.linear(lambda h: equation.apply(h, indices, updates), operand)
        indices, shape, like = ops.primal(indices), ops.primal(updates).shape, ops.primal(operand)
        lead = [n for k, n in enumerate(shape) if k not in windows]
        count = 1 if params["unique_indices"] else math.prod(lead)
        # One factor for each update, apart from the others: (count, *updates).
        number = jnp.arange(math.prod(lead)).reshape([1 if k in windows else n for k, n in enumerate(shape)])
        apart = [jnp.broadcast_to((number == j) | (count == 1), shape) for j in range(count)]

        def placed(h: Array) -> Array:
            given = {k: params[k] for k in ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")}
            return lax.scatter_add(jnp.zeros_like(like), indices, h, **given)

        factors = []
        for mine in apart:
            value = ops.linear(lambda h, mine=mine: placed(jnp.where(mine, h, 0)), updates)
            factors.append(ops.where(placed(mine.astype(like.dtype)) > 0, value, jnp.ones_like(like)))
        while len(factors) > 1:
            pairs = [ops.mul(a, b) for a, b in zip(factors[::2], factors[1::2], strict=False)]
            factors = pairs + factors[2 * len(pairs) :]
        return ops.mul(operand, factors[0]) if factors else operand

    return Composed(build)


# ---------------------------------------------------------------------------------------------------- the table

_SAME = (
    "exp exp2 expm1 log log1p sqrt rsqrt cbrt square sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc "
    "lgamma digamma bessel_i0e bessel_i1e atan2 floor ceil round sign argmax argmin reshape squeeze expand_dims slice split copy "
    "stack tile pad fft real imag conj complex"
).split()
"""Primitives with the name of their operation."""

_NAMES = {
    "logistic": "sigmoid", "erf_inv": "erfinv", "add": "add", "add_any": "add", "sub": "subtract", "neg": "negative",
    "mul": "multiply", "div": "divide", "dot_general": "matmul", "ragged_dot": "tensordot", "ragged_dot_general": "tensordot",
    "conv_general_dilated": "convolution", "max": "maximum", "min": "minimum", "clamp": "clip",
    "broadcast_in_dim": "broadcast_to", "transpose": "permute_dims", "copy_p": "copy", "pbroadcast": "copy", "rev": "flip",
    "concatenate": "concat", "unstack": "linear", "reduce_sum": "sum", "cumsum": "cumulative_sum",
    "reduce_window_sum": "window_sum", "psum": "window_sum", "psum_invariant": "window_sum", "is_finite": "isfinite",
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
"""The operation of a primitive with a name of its own."""

_CONSTANT = (
    "nextafter", "eq_to", "lt_to",
    "le_to", "and", "or", "xor", "not", "shift_left", "shift_right_logical", "shift_right_arithmetic", "population_count",
    "clz", "reduce_and", "reduce_or", "reduce_xor", "iota", "stop_gradient", "bitcast_convert_type",
    "random_bits", "random_seed", "random_split", "random_fold_in", "random_wrap", "random_unwrap", "random_clone",
    "threefry2x32", "rng_bit_generator", "rng_uniform", "axis_index", "create_token", "after_all", "empty", "empty2",
)  # fmt: skip

_LINEAR = (
    "reduce_precision", "device_put", "optimization_barrier", "sharding_constraint", "name", "all_gather", "all_to_all",
    "ppermute", "pvary", "reduce_scatter",
)  # fmt: skip

_BY_DERIVATIVE = (
    "geqrf", "householder_product", "eig", "svd", "schur", "igamma_grad_a",
    "random_gamma_grad", "lu_pivots_to_permutation", "scatter-max", "scatter-min", "reduce_window", "reduce",
    "custom_linear_call", "linear_call", "ragged_all_to_all", "shard_map",
)  # fmt: skip

TABLE: dict[str, Entry] = {
    **{name: OPERATIONS[name] for name in _SAME},
    **{name: OPERATIONS[meant] for name, meant in _NAMES.items()},
    **dict.fromkeys(_CONSTANT, OPERATIONS["constant"]),
    **dict.fromkeys(_LINEAR, OPERATIONS["linear"]),
    "pow": reads("pow", exponent=lambda equation: equation.known[1]),
    "integer_pow": reads("pow", exponent=_parameter("y")),
    "abs": reads("abs", complex=_is_complex),
    "rem": reads("remainder", rounding=lambda _: "trunc"),
    "convert_element_type": _convert,
    "select_n": _select_n,
    "gather": meant("take", Linear((0,))),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": meant("scatter", Linear((0, 1))),
    "scatter": meant("scatter", Linear((0, 2))),
    "scatter-add": meant("scatter", Linear((0, 2))),
    "scatter_add": meant("scatter", Linear((0, 2))),
    "scatter-sub": meant("scatter", Linear((0, 2))),
    "scatter-mul": meant("scatter", _scatter_mul),
    "scatter_mul": meant("scatter", _scatter_mul),
    "sort": meant("sort", _sort),
    "top_k": reads("top_k", choose=lambda equation: equation.apply, axis=lambda equation: equation.params.get("axis", -1)),
    "reduce_max": reads("max", axes=_parameter("axes")),
    "reduce_min": reads("min", axes=_parameter("axes")),
    "reduce_prod": reads("prod", axes=_parameter("axes"), keepdims=lambda _: False),
    "cumprod": reads("cumulative_prod", axis=_parameter("axis"), reverse=_parameter("reverse")),
    "cumlogsumexp": reads("cumulative_logsumexp", axis=_parameter("axis"), reverse=_parameter("reverse")),
    "cummax": reads("cumulative_max", choose=_running_extremum(lax.cummax), axis=_parameter("axis"), alone=lambda _: True),
    "cummin": reads("cumulative_min", choose=_running_extremum(lax.cummin), axis=_parameter("axis"), alone=lambda _: True),
    "reduce_window_max": meant("max", _tangent_by_jvp),
    "reduce_window_min": meant("min", _tangent_by_jvp),
    "select_and_scatter_add": meant("scatter", linear_at(0)),
    "select_and_gather_add": meant("gather", linear_at(0)),
    "polygamma": reads("polygamma", general=by_first_derivative),
    "igamma": reads("gammainc", general=by_first_derivative),
    "igammac": reads("gammaincc", general=by_first_derivative),
    "regularized_incomplete_beta": reads("betainc", general=by_first_derivative),
    "zeta": reads("zeta", general=by_first_derivative),
    "scan": meant("loop", control_flow.scan),
    "while": meant("loop", control_flow.while_loop),
    "cond": meant("branch", control_flow.cond),
    "custom_linear_solve": meant("solve", _linear_solve),
    "linear_solve": meant("solve", _linear_solve),
    "tridiagonal_solve": meant("solve", linear_or_derivative(3)),
    "custom_jvp_call": meant("custom", by_first_derivative),
    "custom_vjp_call": meant("custom", by_first_derivative),
    "custom_vjp_call_jaxpr": meant("custom", by_first_derivative),
    **dict.fromkeys(_BY_DERIVATIVE, meant("custom", by_first_derivative)),
    **primitives_matrix.PRIMITIVES,
}


# ---------------------------------------------------------------------------------------------- library functions



def _by_tanh(equation: Equation) -> bool:
    """Which of the two forms of `jax.nn.gelu` it is shows in its body only."""
    return not any(e.primitive.name in ("erf", "erfc") for e in equation.params["jaxpr"].jaxpr.eqns)


@means("expn")
@chooses(Elementwise, Derived)
def _expn(equation: Equation) -> Rule:
    """`jax.scipy.special.expn` and `exp1`: the number stands in the body, and JAX's own derivative cannot be traced twice."""
    number = getattr((equation.params.get("call_jaxpr") or equation.params["jaxpr"]).jaxpr.eqns[0].invars[0], "val", None)
    return by_first_derivative(equation) if number is None else OPERATIONS["expn"].given(n=int(number))


@means("leaky_relu")
@chooses(PiecewiseLinear, Composed)
def _leaky(equation: Equation) -> Rule:
    """`jax.nn.leaky_relu`: the slope is an operand, or stands in the body."""
    if len(equation.shapes) == 2:
        return OPERATIONS["leaky_relu"].given()
    body = equation.params["jaxpr"].jaxpr
    (slope,) = (v.val for e in body.eqns if e.primitive.name == "mul" for v in e.invars if hasattr(v, "val"))
    return OPERATIONS["leaky_relu"].given(slope=slope)


@means("clip")
@chooses(PiecewiseLinear)
def _clip(equation: Equation) -> Rule:
    """`jnp.clip`: (array, low, high), or (array, bound) where the body tells which."""
    low = {e.primitive.name: True for e in equation.params["jaxpr"].jaxpr.eqns}.get("max", False)
    order = (1, 0, 2) if len(equation.shapes) == 3 else (1, 0, None) if low else (None, 0, 1)
    return arranged(OPERATIONS["clip"].given(), order, (None, None, None))


_ARITY = {"logaddexp": (2,), "xlogy": (2,), "clip": (2, 3), "leaky_relu": (1, 2), "solve": (2,)}
"""How many operands a function of the library has here, where it is not one; calls with others are inlined."""

FUNCTIONS: dict[str, Entry] = {
    "expn": _expn,
    "gelu": reads("gelu", approximate=_by_tanh),
    "relu": OPERATIONS["relu"],
    "relu6": OPERATIONS["relu6"],
    "hard_tanh": OPERATIONS["hardtanh"],
    "leaky_relu": _leaky,
    "clip": _clip,
    "log_ndtr": OPERATIONS["log_ndtr"],
    **{name: OPERATIONS[name] for name in ("silu", "softplus", "log_sigmoid", "sinc", "logaddexp")},
    "xlogy": OPERATIONS["xlogy"],
    **primitives_matrix.FUNCTIONS,
}
"""Functions of JAX's own library that arrive as one call. Inlining them would be right almost everywhere but loses the
removable singularities for which the library gave them derivatives of their own (sinc at 0, softplus at 0, xlogy at 0)."""


INLINED = frozenset({"_softmax", "_sinc_maclaurin", "softmax", "logsumexp"})
"""Functions of JAX's library whose own derivative rule only saves work: their bodies are as good."""


def known_function(name: str | None, equation: Equation) -> Rule | None:
    """The rule of one of JAX's own functions, called by its usual arguments; None for every other call."""
    entry = FUNCTIONS.get(name or "")
    if entry is None or equation.several or len(equation.shapes) not in _ARITY.get(name or "", (1,)):
        return None
    return _rule(entry, equation)
