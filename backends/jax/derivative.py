"""The first derivative of a JAX primitive as a program; what is made of it is in `opdsl.jets.first_derivative`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from opdsl.backends.jax.equation import Equation, missing_error
from opdsl.jets import first_derivative
from opdsl.jets.graph import Array, Derived, Graph, chooses, evaluate


@chooses(Derived)
def by_first_derivative(equation: Equation) -> Derived:
    """A rule that pushes jets through the program of the first derivative."""
    return first_derivative.by_first_derivative(
        first_derivative.Differentiable(
            name=equation.primitive,
            apply=equation.apply,
            several=equation.several,
            order=equation.order,
            linear=equation.linear,
            is_smooth=lambda array: bool(jnp.issubdtype(array.dtype, jnp.inexact)),
            differentiate=lambda primals, moving, smooth: _tangent_program(equation, primals, moving, smooth),
            inner=equation.inner,
        )
    )


def missing_derivative(graph: Graph) -> str:
    """What JAX itself cannot differentiate in a captured function, in its words; empty where it can."""

    def directional(x: Array, constants: Sequence[Array]) -> Any:
        return jax.jvp(lambda point: evaluate(graph, point, constants), (x,), (x,))

    def fact(value: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(graph.values[value].shape, graph.values[value].dtype)

    try:
        jax.eval_shape(directional, fact(graph.x), [fact(value) for value in graph.constants])
    except NotImplementedError as error:
        reason = str(error).strip().split("\n", 1)[0]
        return f"JAX itself has no derivative of this function ({reason})"
    except (TypeError, ValueError):
        pass  # custom_vjp functions have no forward mode; that is told where it matters
    return ""


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
        # custom_vjp declares t ↦ Jᵀt only; it is linear, and its own derivative with respect to t, transposed, is J. That is
        # taken at t = 0: a backward that clips its cotangent is meant for long ones.
        value, pull_back = jax.vjp(function, *points)
        transposed = jax.vjp(lambda *cotangents: pull_back(list(cotangents)), *(jnp.zeros_like(v) for v in value))[1]
        return list(transposed(tuple(directions)))

    facts = [jax.ShapeDtypeStruct(p.shape, p.dtype) for p in primals]
    try:
        return jax.make_jaxpr(along)(facts, [facts[i] for i in moving])
    except (TypeError, ValueError, NotImplementedError, AssertionError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise missing_error(equation.primitive, f", and JAX cannot differentiate it ({reason})") from error
