"""Loops and branches: jets pass through `scan`, `while` and `cond` as ordinary carried values.

A jet crosses the boundary of an inner program as a tuple of arrays: its value and those parts that are not exactly zero. Which
parts these are is static; for a loop it is the smallest pattern that the body maps into itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from opdsl.backends.jax.equation import Equation
from opdsl.jets.first_derivative import Inner
from opdsl.jets.graph import Array, Composed, Rule, evaluate
from opdsl.jets.jet import Jet
from opdsl.jets.propagate import JetOps, push_forward

Operand = Any
Pattern = tuple[bool, ...] | None
"""For a jet which parts are present; None for a plain array."""
Packed = tuple[Array, ...]
_NO_SEED: Any = None


# ------------------------------------------------------------------------------------------------------- packing


def pattern_of(operand: Operand) -> Pattern:
    """Which parts of an operand are present."""
    return tuple(p is not None for p in operand.parts) if isinstance(operand, Jet) else None


def join(a: Pattern, b: Pattern) -> Pattern:
    """The smallest pattern that holds both."""
    if a is None or b is None:
        return b if a is None else a
    return tuple(p or q for p, q in zip(a, b, strict=True))


def pack(operand: Operand, pattern: Pattern, sizes: Sequence[int]) -> Packed:
    """The arrays of an operand, with zeros for parts that the pattern has in excess."""
    if pattern is None:
        assert not isinstance(operand, Jet)
        return (jnp.asarray(operand),)
    value = jnp.asarray(operand.primal if isinstance(operand, Jet) else operand)
    parts = operand.parts if isinstance(operand, Jet) else (None,) * len(sizes)
    arrays = [value]
    for part, present, size in zip(parts, pattern, sizes, strict=True):
        if present:
            shape = (size, *value.shape)
            zero = jnp.zeros(shape, value.dtype)
            arrays.append(zero if part is None else jnp.broadcast_to(part, shape).astype(value.dtype))
    return tuple(arrays)


def unpack(arrays: Packed, pattern: Pattern) -> Operand:
    """The inverse of `pack`."""
    if pattern is None:
        return arrays[0]
    rest = iter(arrays[1:])
    return Jet(arrays[0], tuple(next(rest) if present else None for present in pattern), (False,) * len(pattern))


def _pack_all(operands: Sequence[Operand], patterns: Sequence[Pattern], sizes: Sequence[int]) -> list[Packed]:
    return [pack(o, p, sizes) for o, p in zip(operands, patterns, strict=True)]


def _unpack_all(arrays: Sequence[Packed], patterns: Sequence[Pattern]) -> list[Operand]:
    return [unpack(a, p) for a, p in zip(arrays, patterns, strict=True)]


def _patterns(function: Callable[..., Sequence[Operand]], *arrays: Any) -> list[Pattern]:
    """Patterns of what ``function`` returns, found without computing anything."""
    found: list[Pattern] = []

    def watch(*inputs: Any) -> None:
        found.extend(pattern_of(o) for o in function(*inputs))

    jax.eval_shape(watch, *arrays)
    return found


def _runner(ops: JetOps, inner: Inner) -> Callable[[Sequence[Operand]], tuple[Operand, ...]]:
    """The inner program on jets."""

    def run(operands: Sequence[Operand]) -> tuple[Operand, ...]:
        return push_forward(inner.graph, ops.algebra, _NO_SEED, [*operands, *inner.arrays], ops.ops, ops.needed)

    return run


def _body(equation: Equation, jaxpr: Any, constants: Sequence[bool], carry: Sequence[bool], rows: Sequence[bool]) -> Inner:
    """The body of a loop; a carried value that once depends on a direction does so from then on."""
    while True:
        inner = equation.inner(jaxpr, equation.order, [*constants, *carry, *rows])
        after = [p or q for p, q in zip(carry, inner.linear, strict=False)]
        if list(carry) == after:
            return inner
        carry = after


def _steady(
    step: Callable[[list[Packed], list[Pattern]], Sequence[Pattern]], start: Sequence[Operand], sizes: Sequence[int]
) -> list[Pattern]:
    """The smallest patterns of the carried values that the body maps into themselves."""
    patterns = [pattern_of(o) for o in start]
    while True:
        after = step(_pack_all(start, patterns, sizes), patterns)
        grown = [join(p, q) for p, q in zip(patterns, after, strict=True)]
        if grown == patterns:
            return patterns
        patterns = grown


# --------------------------------------------------------------------------------------------------------- rules


def cond(equation: Equation) -> Rule:
    """`lax.cond` and `lax.switch`: the branch is chosen by the value of the index; its jets are those of the branch taken."""

    def build(ops: JetOps, index: Operand, *operands: Operand) -> tuple[Operand, ...]:
        sizes = ops.algebra.sizes
        bodies = [equation.inner(branch, equation.order, equation.linear[1:]) for branch in equation.params["branches"]]
        runs = [_runner(ops, body) for body in bodies]
        inputs = [pattern_of(o) for o in operands]
        packed = _pack_all(operands, inputs, sizes)
        outputs: list[Pattern] | None = None
        for run in runs:
            here = _patterns(lambda arrays, run=run: run(_unpack_all(arrays, inputs)), packed)
            outputs = here if outputs is None else [join(p, q) for p, q in zip(outputs, here, strict=True)]
        assert outputs is not None
        final = outputs

        def branch(run: Callable[[Sequence[Operand]], tuple[Operand, ...]]) -> Callable[..., list[Packed]]:
            return lambda arrays: _pack_all(run(_unpack_all(arrays, inputs)), final, sizes)

        result = lax.switch(ops.primal(index), [branch(run) for run in runs], packed)
        return tuple(_unpack_all(result, final))

    return Composed(build)


def scan(equation: Equation) -> Rule:
    """`lax.scan` (and `fori_loop`, `map`): the jets of carried and scanned values are carried and scanned along."""
    params = equation.params
    fixed, carried = params["num_consts"], params["num_carry"]

    def build(ops: JetOps, *operands: Operand) -> tuple[Operand, ...]:
        sizes = ops.algebra.sizes
        linear = equation.linear
        run = _runner(
            ops,
            _body(equation, params["jaxpr"], linear[:fixed], linear[fixed : fixed + carried], linear[fixed + carried :]),
        )
        constants, start, rows = operands[:fixed], operands[fixed : fixed + carried], operands[fixed + carried :]
        row_patterns = [pattern_of(o) for o in rows]
        sequences = [_channels_inside(pack(o, p, sizes)) for o, p in zip(rows, row_patterns, strict=True)]
        first = [tuple(jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in s) for s in sequences]

        def step(carry: Sequence[Packed], row: Sequence[Packed], patterns: Sequence[Pattern]) -> tuple[Operand, ...]:
            return run([*constants, *_unpack_all(carry, patterns), *_unpack_all(row, row_patterns)])

        def after(carry: list[Packed], patterns: list[Pattern]) -> Sequence[Pattern]:
            return _patterns(lambda c, r: step(c, r, patterns), carry, first)[:carried]

        patterns = _steady(after, start, sizes)
        begin = _pack_all(start, patterns, sizes)
        outputs = _patterns(lambda c, r: step(c, r, patterns), begin, first)[carried:]

        def body(carry: list[Packed], row: list[Packed]) -> tuple[list[Packed], list[Packed]]:
            result = step(carry, row, patterns)
            return _pack_all(result[:carried], patterns, sizes), _pack_all(result[carried:], outputs, sizes)

        end, stacked = lax.scan(
            body, begin, sequences, length=params["length"], reverse=params["reverse"], unroll=params.get("unroll", 1)
        )
        results = [unpack(_channels_outside(s), p) for s, p in zip(stacked, outputs, strict=True)]
        return (*_unpack_all(end, patterns), *results)

    return Composed(build)


def _channels_inside(arrays: Packed) -> Packed:
    """(C, length, *S) → (length, C, *S) for every part."""
    return (arrays[0], *(jnp.moveaxis(a, 0, 1) for a in arrays[1:]))


def _channels_outside(arrays: Packed) -> Packed:
    return (arrays[0], *(jnp.moveaxis(a, 1, 0) for a in arrays[1:]))


def while_loop(equation: Equation) -> Rule:
    """`lax.while_loop`: the condition sees values only, so the number of steps is that of the plain function."""
    params = equation.params
    conditions, bodies = params["cond_nconsts"], params["body_nconsts"]

    def build(ops: JetOps, *operands: Operand) -> tuple[Operand, ...]:
        sizes = ops.algebra.sizes
        linear = equation.linear[conditions:]
        run = _runner(ops, _body(equation, params["body_jaxpr"], linear[:bodies], linear[bodies:], ()))
        test = equation.inner(params["cond_jaxpr"], 0, [False] * (len(operands) - bodies))
        tested = [ops.primal(o) for o in operands[:conditions]]
        constants, start = operands[conditions : conditions + bodies], operands[conditions + bodies :]

        def step(carry: Sequence[Packed], patterns: Sequence[Pattern]) -> tuple[Operand, ...]:
            return run([*constants, *_unpack_all(carry, patterns)])

        patterns = _steady(lambda carry, now: _patterns(lambda c: step(c, now), carry), start, sizes)

        def proceed(carry: list[Packed]) -> Array:
            return evaluate(test.graph, None, [*tested, *(c[0] for c in carry), *test.arrays])[0]

        end = lax.while_loop(
            proceed, lambda carry: _pack_all(step(carry, patterns), patterns, sizes), _pack_all(start, patterns, sizes)
        )
        return tuple(_unpack_all(end, patterns))

    return Composed(build)
