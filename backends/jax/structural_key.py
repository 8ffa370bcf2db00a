"""Keys of programs: equal where two of them compute the same, so that what was built for one serves the other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from opdsl.backends.jax.calls import CALLS, library_name


class NoKeyError(Exception):
    """Part of a program cannot be compared with another."""


class StructuralKey:
    """A large key that is hashed once."""

    __slots__ = ("_hash", "_value")

    def __init__(self, value: Hashable) -> None:
        self._value, self._hash = value, hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, StructuralKey) and self._hash == other._hash and self._value == other._value


def equation_key(eqn: Any) -> Hashable:
    """Equal for equations that compute the same function of their operands."""
    if eqn.primitive.name.startswith("custom_") and eqn.primitive.name in CALLS:
        if library_name(eqn) is None:
            raise NoKeyError
        # JAX's own functions: the derivative rule belongs to the program and need not be compared.
        return _key(eqn.params[CALLS[eqn.primitive.name]])
    return tuple((name, _key(value)) for name, value in sorted(eqn.params.items()) if name not in _IRRELEVANT)


_IRRELEVANT = frozenset({"name", "keep_unused", "inline", "compiler_options_kvs", "ctx_mesh"})


def _key(value: Any) -> Hashable:
    if hasattr(value, "eqns"):
        return _jaxpr_key(value, ())
    if hasattr(value, "jaxpr") and hasattr(value, "consts"):
        return _jaxpr_key(value.jaxpr, value.consts)
    if isinstance(value, (tuple, list)):
        return type(value).__name__, tuple(_key(v) for v in value)
    if isinstance(value, dict):
        return tuple((str(k), _key(v)) for k, v in sorted(value.items(), key=lambda item: str(item[0])))
    if isinstance(value, (np.ndarray, jax.Array)):
        return array_key(value)
    if callable(value) and not isinstance(value, type):
        raise NoKeyError
    try:
        hash(value)
    except TypeError:
        raise NoKeyError from None
    return type(value).__name__, value


def array_key(value: Any) -> Hashable:
    """Contents of a small array that is part of a program."""
    if isinstance(value, jax.core.Tracer) or value.size > 1024:
        raise NoKeyError
    array = np.asarray(value)
    return array.shape, str(array.dtype), array.tobytes()


def _jaxpr_key(jaxpr: Any, consts: Sequence[Any]) -> Hashable:
    numbers: dict[Any, int] = {}

    def number(variable: Any) -> Hashable:
        if isinstance(variable, jex.Literal):
            return array_key(np.asarray(variable.val, variable.aval.dtype))
        return numbers.setdefault(variable, len(numbers)), tuple(variable.aval.shape), str(variable.aval.dtype)

    heads = tuple(number(v) for v in (*jaxpr.constvars, *jaxpr.invars))
    body = tuple(
        (e.primitive.name, tuple(number(v) for v in e.invars), equation_key(e), tuple(number(v) for v in e.outvars))
        for e in jaxpr.eqns
    )
    return heads, body, tuple(number(v) for v in jaxpr.outvars), tuple(_key(c) for c in consts)
