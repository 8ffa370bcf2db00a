"""Primitives and functions known by their first derivative only.

JAX can differentiate almost everything once: by a primitive's own rule, or by the rule that a `custom_jvp` or `custom_vjp`
function brings. `opdsl.jets.rules.from_derivative` makes a jet rule of that, so nothing needs nested differentiation, and the
derivative a user has declared is the one that is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

from opdsl.backends.jax_equation import Equation, missing_error
from opdsl.jets import rules
from opdsl.jets.graph import Array, Composed, Rule
from opdsl.jets.propagate import push_forward

Operand = Any
_NO_SEED: Any = None


def by_first_derivative(equation: Equation) -> Rule:
    """A rule that pushes jets through the program of the first derivative.

    Inside such a program an equation is linear in the operands that depend on the direction (L) and arbitrary in the others
    (N). With n the nilpotent part of the latter,

        f(N, L) = f(N_0, L) + ∫_0^1 D_N f(N_0 + s n, L)[n] ds,

    where `Equation.order`, the degree up to which N matters, already accounts for the factor that L contributes. Linearity is
    not taken on trust: it is read off the program of the derivative.
    """

    def build(ops: Any, *operands: Operand) -> Any:
        order = ops.algebra.order if equation.order is None else min(equation.order, ops.algebra.order)
        moving = [i for i, o in enumerate(operands) if ops.is_jet(o)]
        result = _Push(equation, ops, operands).go(moving, order)
        return tuple(result) if equation.several else result[0]

    return Composed(build)


class _Push:
    """One equation on one set of operands."""

    def __init__(self, equation: Equation, ops: Any, operands: Sequence[Operand]) -> None:
        self.equation, self.ops, self.operands = equation, ops, operands
        self.primals = [ops.primal(o) for o in operands]
        value = equation.apply(*self.primals)
        self.values = list(value) if equation.several else [value]
        self.smooth = [i for i, v in enumerate(self.values) if jnp.issubdtype(v.dtype, jnp.inexact)]
        self._programs: dict[tuple[int, ...], Any] = {}

    def go(self, moving: list[int], order: int) -> list[Operand]:
        linear = [i for i in moving if self.equation.linear[i]]
        others = [i for i in moving if i not in linear] if order else []
        if not self.smooth or not linear + others:
            return self.values
        if self._affine_in(linear + others):
            return self._affine(linear + others)
        if not linear:
            return self._merge(self._integral([self.values[i] for i in self.smooth], others, order))
        if self._affine_in(linear):
            base = self._affine(linear)
            return self._merge(self._integral([base[i] for i in self.smooth], others, order))
        if others:
            raise self._refused()
        if len(linear) == 2 and all(self._affine_in([i]) for i in linear) and not self.equation.several:
            return [self._bilinear(linear)]
        raise self._refused()

    def _refused(self) -> Exception:
        return missing_error(self.equation.primitive, " (its first derivative is not of a form that can be used)")

    def _merge(self, jets: Sequence[Operand]) -> list[Operand]:
        values = list(self.values)
        for i, jet in zip(self.smooth, jets, strict=True):
            values[i] = jet
        return values

    def _integral(self, base: Sequence[Operand], others: list[int], order: int) -> Sequence[Operand]:
        program = self._program(others)
        flags = [*self.equation.linear, *(True for _ in others)]
        inner = self.equation.inner(program, order - 1, flags)

        def tangent(points: Sequence[Operand], directions: Sequence[Operand]) -> tuple[Operand, ...]:
            full = list(self.operands)
            for i, point in zip(others, points, strict=True):
                full[i] = point
            inputs = [*full, *directions, *inner.arrays]
            return push_forward(inner.graph, self.ops.algebra, _NO_SEED, inputs, self.ops.ops, self.ops.needed)

        return rules.from_derivative(self.ops, base, tangent, [self.operands[i] for i in others], order)

    # ------------------------------------------------------------------------------------------------ linear operands

    def _affine_in(self, positions: list[int]) -> bool:
        """Whether the derivative with respect to these operands does not depend on them."""
        graph = self.equation.inner(self._program(positions), 0, [False] * (len(self.operands) + len(positions))).graph
        read = {i for node in graph.nodes for i in node.inputs} | set(graph.outputs)
        return not any(graph.constants[i] in read for i in positions)

    def _affine(self, positions: list[int]) -> list[Operand]:
        """Value at the primals, every channel through the derivative; other operands enter by their primals."""
        run = jax.extend.core.jaxpr_as_fun(self._program(positions))

        def channels(*directions: Array) -> Any:
            return tuple(run(*self.primals, *directions))

        jets = [self.operands[i] for i in positions]
        slopes = self.ops.linear(channels, *(replace(j, primal=jnp.zeros_like(j.primal)) for j in jets), several=True)
        return self._merge([self.ops.add(s, self.values[i]) for s, i in zip(slopes, self.smooth, strict=True)])

    def _bilinear(self, positions: list[int]) -> Operand:
        def apply(a: Array, b: Array) -> Array:
            full = list(self.primals)
            full[positions[0]], full[positions[1]] = a, b
            return self.equation.apply(*full)

        return self.ops.bilinear(apply, *(self.operands[i] for i in positions))

    def _program(self, moving: Sequence[int]) -> Any:
        key = tuple(moving)
        if key not in self._programs:
            self._programs[key] = _tangent_program(self.equation, self.primals, moving, self.smooth)
        return self._programs[key]


def _tangent_program(equation: Equation, primals: Sequence[Array], moving: Sequence[int], smooth: Sequence[int]) -> Any:
    """The jaxpr of (operands, directions of the moving ones) ↦ Df, for the floating results."""

    def along(operands: Sequence[Array], directions: Sequence[Array]) -> list[Array]:
        def function(*inputs: Array) -> list[Array]:
            full = list(operands)
            for i, value in zip(moving, inputs, strict=True):
                full[i] = value
            result = equation.apply(*full)
            return [result[i] for i in smooth] if equation.several else [result]

        points = [operands[i] for i in moving]
        if not equation.primitive.startswith("custom_vjp"):
            slopes: list[Array] = jax.jvp(function, tuple(points), tuple(directions))[1]
            return slopes
        # custom_vjp declares t ↦ Jᵀt only; it is linear, and the transpose of it is J.
        value, pull_back = jax.vjp(function, *points)
        push = jax.linear_transpose(lambda *cotangents: pull_back(list(cotangents)), *value)
        return list(push(tuple(directions)))

    facts = [jax.ShapeDtypeStruct(p.shape, p.dtype) for p in primals]
    try:
        return jax.make_jaxpr(along)(facts, [facts[i] for i in moving])
    except (TypeError, ValueError, NotImplementedError, AssertionError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise missing_error(equation.primitive, f", and JAX cannot differentiate it ({reason})") from error
