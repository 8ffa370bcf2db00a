"""A program in half precision, carried out in single precision.

Derivatives of a function rounded to eight or eleven bits at each step are noise. The program is walked through once more with
its inputs in float32: casts to half precision become casts to float32, parameters stay half-precision arrays and are read as
what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from opdsl.backends.jax.calls import CALLS, CUSTOM_VJP, LIBRARY, bound, library_name
from opdsl.jets.graph import Array

_HALVES = (jnp.dtype(jnp.float16), jnp.dtype(jnp.bfloat16))
def is_half(dtype: Any) -> bool:
    """Whether numbers of this dtype have 16 bits."""
    try:
        return jnp.dtype(dtype) in _HALVES
    except TypeError:
        return False


def up(array: Any) -> Any:
    """Half precision as float32; anything else as it is."""
    return jnp.asarray(array, jnp.float32) if is_half(array.dtype) else array


def widened(closed: Any, leaves: Sequence[Array]) -> Any:
    """The program with its last input, the point, in float32; the other inputs stay as they are."""

    def run(leaves: Sequence[Array], point: Array) -> Any:
        return _evaluate(closed, [*(up(leaf) for leaf in leaves), point])[0]

    point = closed.jaxpr.invars[-1].aval
    return jax.make_jaxpr(run)(tuple(leaves), jax.ShapeDtypeStruct(point.shape, jnp.float32))


def _evaluate(program: Any, arguments: Sequence[Any]) -> list[Any]:
    """Run a program (closed or open) on widened arguments."""
    jaxpr = getattr(program, "jaxpr", program)
    constants = getattr(program, "consts", ())
    store: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*map(up, constants), *arguments], strict=True))

    def read(atom: Any) -> Any:
        return up(np.asarray(atom.val, atom.aval.dtype)) if isinstance(atom, jex.Literal) else store[atom]

    for eqn in jaxpr.eqns:
        results = _equation(eqn, [read(a) for a in eqn.invars])
        store.update(zip(eqn.outvars, map(up, results), strict=True))
    return [read(a) for a in jaxpr.outvars]


def _equation(eqn: Any, operands: list[Any]) -> Sequence[Any]:
    name = eqn.primitive.name
    if name in CALLS:
        inner, library = eqn.params[CALLS[name]], library_name(eqn)
        if library is not None:
            return _named(library, inner)(*operands)  # type: ignore[no-any-return]
        if name in CUSTOM_VJP:
            return _custom_vjp(eqn, inner)(*operands)  # type: ignore[no-any-return]
        if name == "custom_jvp_call":
            return _custom_jvp(eqn, inner)(*operands)  # type: ignore[no-any-return]
        return _evaluate(inner, operands)
    if name == "bitcast_convert_type" or not any(jnp.issubdtype(a.aval.dtype, jnp.floating) for a in eqn.invars):
        # Bits are bits; and what is made of integers alone (random numbers) is made as it was written.
        operands = [jnp.asarray(o, a.aval.dtype) for o, a in zip(operands, eqn.invars, strict=True)]
        result = bound(eqn, eqn.params)(*operands)
    else:
        result = bound(eqn, {key: _parameter(value) for key, value in eqn.params.items()})(*operands)
    return result if eqn.primitive.multiple_results else [result]


def _parameter(value: Any) -> Any:
    if hasattr(value, "jaxpr") and hasattr(value, "consts"):
        facts = [_fact(v.aval) for v in value.jaxpr.invars]
        return jax.make_jaxpr(lambda *arguments: _evaluate(value, arguments))(*facts)
    if isinstance(value, tuple):
        members = [_parameter(v) for v in value]
        return type(value)(*members) if hasattr(value, "_fields") else tuple(members)
    return jnp.dtype(jnp.float32) if isinstance(value, np.dtype | type) and is_half(value) else value


def _fact(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape, jnp.float32 if is_half(aval.dtype) else aval.dtype)


def _named(library: str, inner: Any) -> Callable[..., Any]:
    def function(*operands: Any) -> Any:
        return _evaluate(inner, operands)

    function.__name__ = LIBRARY + library
    return jax.jit(function)  # type: ignore[no-any-return]


def _narrow(eqn: Any) -> Callable[..., Any]:
    return bound(eqn, eqn.params)


def _custom_jvp(eqn: Any, inner: Any) -> Any:
    """The same with the declared derivative, widened too."""
    function = jax.custom_jvp(lambda *operands: _evaluate(inner, operands))

    def rule(primals: Any, tangents: Any) -> Any:
        facts = tuple(jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars)
        program = jax.make_jaxpr(lambda p, t: jax.jvp(_narrow(eqn), p, t)[1])(facts, facts)
        return function(*primals), _evaluate(program, [*primals, *tangents])

    function.defjvp(rule)
    return function


def _custom_vjp(eqn: Any, inner: Any) -> Any:
    function = jax.custom_vjp(lambda *operands: _evaluate(inner, operands))

    def backward(operands: Any, weights: Any) -> Any:
        facts = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in (*eqn.invars, *eqn.outvars)]
        count = len(eqn.invars)
        program = jax.make_jaxpr(lambda p, w: jax.vjp(_narrow(eqn), *p)[1](w))(facts[:count], facts[count:])
        return tuple(_evaluate(program, [*operands, *weights]))

    function.defvjp(lambda *operands: (function(*operands), operands), backward)
    return function
