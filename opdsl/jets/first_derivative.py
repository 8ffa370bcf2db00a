"""Primitives and functions known by their first derivative only.

A framework can differentiate almost everything once: by a primitive's own rule, or by the rule that a user's function brings.
`opdsl.jets.composite_rules.from_derivative` makes a jet rule of that, so nothing needs nested differentiation of the whole network, and
the derivative a user has declared is the one that is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opdsl.errors import MissingRuleError, OpdslWarning
from opdsl.jets import composite_rules
from opdsl.jets.graph import Array, Derived, Graph, evaluate
from opdsl.jets.propagate import JetOps, push_forward

Operand = Any
_NO_SEED: Any = None


@dataclass(frozen=True)
class Inner:
    """A program inside another: the body of a loop, a branch, a first derivative.

    Args:
        graph: its leading constants are the program's inputs; any of them may carry a jet.
        arrays: for the remaining constants.
        linear: which outputs depend on inputs that were flagged as directions.
    """

    graph: Graph
    arrays: tuple[Array, ...]
    linear: tuple[bool, ...]


@dataclass(frozen=True)
class Differentiable:
    """A primitive as far as its first derivative is concerned.

    Args:
        name: for messages.
        apply: the primitive on arrays.
        several: whether ``apply`` returns a sequence.
        order: degree up to which jets of the result matter; None for all that the algebra has.
        linear: inside a program of first derivatives, which operands depend on the direction. The program is linear in
            the direction, so the primitive is linear in them.
        is_smooth: whether an array holds numbers that can be differentiated.
        differentiate: ``differentiate(primals, moving, smooth)``: the program (operands, directions of the moving ones) ↦ Df,
            for the results ``smooth``; raises `MissingRuleError` where the framework has no derivative.
        inner: turns that program into a graph: ``inner(program, order, linear)``, the last two as here, for its inputs.
    """

    name: str
    apply: Callable[..., Any]
    several: bool
    order: int | None
    linear: tuple[bool, ...]
    is_smooth: Callable[[Array], bool]
    differentiate: Callable[[Sequence[Array], Sequence[int], Sequence[int]], Any]
    inner: Callable[[Any, int | None, Sequence[bool]], Inner]


def by_first_derivative(primitive: Differentiable) -> Derived:
    """A rule that pushes jets through the program of the first derivative.

    Inside such a program a primitive is linear in the operands that depend on the direction (L) and arbitrary in the others
    (N). With n the nilpotent part of the latter,

        f(N, L) = f(N_0, L) + ∫_0^1 D_N f(N_0 + s n, L)[n] ds,

    where `Differentiable.order`, the degree up to which N matters, already accounts for the factor that L contributes.
    Linearity is not taken on trust: it is read off the program of the derivative.
    """

    def build(ops: JetOps, *operands: Operand) -> Any:
        order = ops.algebra.order if primitive.order is None else min(primitive.order, ops.algebra.order)
        moving = [i for i, o in enumerate(operands) if ops.is_jet(o)]
        result = _Push(primitive, ops, operands).go(moving, order)
        return tuple(result) if primitive.several else result[0]

    return Derived(build)


def announced(rule: Derived, name: str, framework: str) -> Derived:
    """The same rule for a primitive that has none: it warns once, when a jet first gets there."""

    def build(ops: JetOps, *operands: Operand) -> Any:
        result = rule.build(ops, *operands)
        if (framework, name) not in _announced:
            _announced.add((framework, name))
            warnings.warn(
                f"the {framework} primitive '{name}' has no jet rule of its own; its first derivative is used, which costs up to "
                f"2^(K/2) evaluations for an operator of order K. Give it a rule: opdsl.jet_rule('{name}', "
                f"backend='{framework.lower()}', …).",
                OpdslWarning,
                stacklevel=2,
            )
        return result

    return Derived(build)


_announced: set[tuple[str, str]] = set()


class _Push:
    """One primitive on one set of operands."""

    def __init__(self, primitive: Differentiable, ops: JetOps, operands: Sequence[Operand]) -> None:
        self.primitive, self.ops, self.operands = primitive, ops, operands
        self.primals = [ops.primal(o) for o in operands]
        value = primitive.apply(*self.primals)
        self.values = list(value) if primitive.several else [value]
        self.smooth = [i for i, v in enumerate(self.values) if primitive.is_smooth(v)]
        self._programs: dict[tuple[int, ...], Any] = {}

    def go(self, moving: list[int], order: int) -> list[Operand]:
        linear = [i for i in moving if self.primitive.linear[i]]
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
        if len(linear) == 2 and all(self._affine_in([i]) for i in linear) and not self.primitive.several:
            return [self._bilinear(linear)]
        raise self._refused()

    def _refused(self) -> Exception:
        return MissingRuleError(
            f"no jet rule for '{self.primitive.name}', and its first derivative is not of a form that can be used. "
            "Use strategy='nested_ad', or give it a rule with opdsl.jet_rule."
        )

    def _merge(self, jets: Sequence[Operand]) -> list[Operand]:
        values = list(self.values)
        for i, jet in zip(self.smooth, jets, strict=True):
            values[i] = jet
        return values

    def _integral(self, base: Sequence[Operand], others: list[int], order: int) -> Sequence[Operand]:
        program = self._program(others)
        flags = [*self.primitive.linear, *(True for _ in others)]
        inner = self.primitive.inner(program, order - 1, flags)

        def tangent(points: Sequence[Operand], directions: Sequence[Operand]) -> tuple[Operand, ...]:
            full = list(self.operands)
            for i, point in zip(others, points, strict=True):
                full[i] = point
            inputs = [*full, *directions, *inner.arrays]
            return push_forward(inner.graph, self.ops.algebra, _NO_SEED, inputs, self.ops.ops, self.ops.needed)

        return composite_rules.from_derivative(self.ops, base, tangent, [self.operands[i] for i in others], order)

    # ------------------------------------------------------------------------------------------------ linear operands

    def _at_primals(self, positions: list[int]) -> Inner:
        return self.primitive.inner(self._program(positions), 0, [False] * (len(self.operands) + len(positions)))

    def _affine_in(self, positions: list[int]) -> bool:
        """Whether the derivative with respect to these operands does not depend on them."""
        graph = self._at_primals(positions).graph
        read = {i for node in graph.nodes for i in node.inputs} | set(graph.outputs)
        return not any(graph.constants[i] in read for i in positions)

    def _affine(self, positions: list[int]) -> list[Operand]:
        """Value at the primals, every channel through the derivative; other operands enter by their primals."""
        inner = self._at_primals(positions)

        def channels(*directions: Array) -> Any:
            return evaluate(inner.graph, None, [*self.primals, *directions, *inner.arrays])

        jets = [self.operands[i] for i in positions]
        zeros_like = self.ops.xp.zeros_like
        slopes = self.ops.linear(channels, *(replace(j, primal=zeros_like(j.primal)) for j in jets), several=True)
        return self._merge([self.ops.add(s, self.values[i]) for s, i in zip(slopes, self.smooth, strict=True)])

    def _bilinear(self, positions: list[int]) -> Operand:
        def apply(a: Array, b: Array) -> Array:
            full = list(self.primals)
            full[positions[0]], full[positions[1]] = a, b
            return self.primitive.apply(*full)

        return self.ops.bilinear(apply, *(self.operands[i] for i in positions))

    def _program(self, moving: Sequence[int]) -> Any:
        key = tuple(moving)
        if key not in self._programs:
            self._programs[key] = self.primitive.differentiate(self.primals, moving, self.smooth)
        return self._programs[key]
