"""Equations of a jaxpr that call another program, and how an equation is evaluated: what differs between JAX releases.

The names of the call primitives and of their inner programs stand here, and `Primitive.get_bind_params`, which returns a dict in newer
releases and a pair in older ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax

from opdsl.jets.graph import Array

CALLS: dict[str, str] = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
"""Primitives that call another program on their operands, and the parameter that holds it."""

CUSTOM_VJP = ("custom_vjp_call", "custom_vjp_call_jaxpr")

LIBRARY = "opdsl_library_"
"""Prefix of the names of calls that stand for functions of JAX's library whose source cannot be seen any more."""

_SOURCES = os.path.join(os.path.dirname(jax.__file__), "")


def bare(eqn: Any) -> bool:
    """Calls return lists; those with one result are treated as any other function of one result."""
    return eqn.primitive.name in CALLS and len(eqn.outvars) == 1


def binder(eqn: Any) -> Callable[..., Any]:
    """Evaluate one equation on arrays."""
    run = bound(eqn, eqn.params)
    return (lambda *operands: run(*operands)[0]) if bare(eqn) else run


def bound(eqn: Any, params: Mapping[str, Any]) -> Callable[..., Any]:
    """The primitive of an equation with these parameters."""
    primitive = eqn.primitive

    def apply(*operands: Array) -> Any:
        given = primitive.get_bind_params(params)
        if isinstance(given, tuple):
            functions, given = given
            return primitive.bind(*functions, *operands, **given)
        return primitive.bind(*operands, **given)

    return apply


def mentions(jaxpr: Any, *names: str) -> bool:
    """Whether a program uses one of these primitives anywhere."""
    opened = getattr(jaxpr, "jaxpr", jaxpr)
    for eqn in opened.eqns:
        if eqn.primitive.name in names:
            return True
        for value in eqn.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if (hasattr(inner, "eqns") or hasattr(inner, "jaxpr")) and mentions(inner, *names):
                    return True
    return False


def library_name(eqn: Any) -> str | None:
    """The name of the function a call was made from, if JAX itself defines it: a user's `relu` may be anything."""
    label = str(eqn.params.get("name", ""))
    if label.startswith(LIBRARY):
        return label.removeprefix(LIBRARY)
    inner = eqn.params[CALLS[eqn.primitive.name]]
    information = getattr(getattr(inner, "jaxpr", inner), "debug_info", None)
    source = str(getattr(information, "func_src_info", "") or "")
    name, _, place = source.partition(" at ")
    return name if place.startswith(_SOURCES) else None
