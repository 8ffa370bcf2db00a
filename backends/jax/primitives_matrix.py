"""Matrix primitives of JAX; the mathematics is in `opdsl.jets.matrix_rules`.

Complex matrices, and forms that the shared rules do not cover, go by their first derivative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax

from opdsl.backends.jax.derivative import by_first_derivative
from opdsl.backends.jax.equation import Equation
from opdsl.jets import matrix_rules
from opdsl.jets.graph import Composed, Derived, Rule, chooses
from opdsl.jets.operations import meant
from opdsl.jets.propagate import JetOps

Operand = Any
Build = Callable[..., Mapping[int, Operand]]
"""``build(ops, equation, plain results, *operands)``: jets for some results."""


def _real(equation: Equation) -> bool:
    return all(jnp.issubdtype(d, jnp.floating) for d in equation.dtypes)


def _outputs(build: Build, fits: Callable[[Equation], bool] = lambda _: True) -> Callable[[Equation], Rule]:
    @chooses(Composed, Derived)
    def entry(equation: Equation) -> Rule:
        if not (_real(equation) and fits(equation)):
            return by_first_derivative(equation)

        def results(ops: JetOps, *operands: Operand) -> Any:
            plain = equation.apply(*(ops.primal(o) for o in operands))
            return matrix_rules.outputs(ops, plain, build(ops, equation, plain, *operands))

        return Composed(results)

    return entry


def _cholesky(ops: JetOps, equation: Equation, plain: Any, a: Operand) -> dict[int, Operand]:
    return {0: matrix_rules.cholesky(ops, a, jnp.tril(plain))}


def _eigh(ops: JetOps, equation: Equation, plain: Any, a: Operand) -> dict[int, Operand]:
    values, vectors = matrix_rules.eigh(ops, a, plain[1], plain[0])
    return {0: vectors, 1: values}


def _qr(ops: JetOps, equation: Equation, plain: Any, a: Operand) -> dict[int, Operand]:
    return dict(enumerate(matrix_rules.qr(ops, a, plain[1])))


def _lu(ops: JetOps, equation: Equation, plain: Any, a: Operand) -> dict[int, Operand]:
    """The packed factors L + U − I of a square matrix, its rows in pivot order."""
    packed, _, order = plain
    eye = jnp.eye(packed.shape[-1], dtype=packed.dtype)
    rows = ops.linear(lambda h: jnp.take_along_axis(h, order[..., None], axis=-2), a)
    lower, upper = matrix_rules.lu(ops, rows, jnp.tril(packed, -1) + eye, jnp.triu(packed))
    return {0: ops.add(ops.linear(lambda h: jnp.tril(h, -1), lower), upper)}


def _triangular(ops: JetOps, equation: Equation, plain: Any, a: Operand, b: Operand) -> dict[int, Operand]:
    params = equation.params
    turned = bool(params["transpose_a"])
    offset = (1 if params["lower"] is False else -1) if params["unit_diagonal"] else 0
    part = (lambda h: jnp.tril(h, offset)) if params["lower"] else (lambda h: jnp.triu(h, offset))
    a = ops.linear(part, a)
    if params["unit_diagonal"]:
        a = ops.add(a, jnp.eye(ops.primal(a).shape[-1], dtype=ops.primal(a).dtype))
    a = matrix_rules.transpose(ops, a) if turned else a

    def apply(a0: Any, h: Any) -> Any:
        lower = params["lower"] != turned
        return lax.linalg.triangular_solve(
            a0, h, left_side=params["left_side"], lower=lower, unit_diagonal=params["unit_diagonal"]
        )

    return {0: matrix_rules.solve(ops, a, b, apply, bool(params["left_side"]))}


def _solve(ops: JetOps, equation: Equation, plain: Any, a: Operand, b: Operand) -> dict[int, Operand]:
    vector = len(ops.primal(b).shape) == 1
    b = ops.linear(lambda h: h[..., None], b) if vector else b
    x = matrix_rules.solve(ops, a, b)
    return {0: ops.linear(lambda h: h[..., 0], x) if vector else x}


def _square(equation: Equation) -> bool:
    return equation.shapes[0][-1] == equation.shapes[0][-2]


PRIMITIVES = {
    "cholesky": meant("cholesky", _outputs(_cholesky)),
    "eigh": meant("eigh", _outputs(_eigh, lambda e: e.params.get("subset_by_index") is None)),
    "qr": meant("qr", _outputs(_qr, lambda e: e.shapes[0][-2] >= e.shapes[0][-1] and not e.params.get("full_matrices")
                               and not e.params.get("pivoting"))),
    "lu": meant("lu", _outputs(_lu, _square)),
    "triangular_solve": meant(
        "solve_triangular", _outputs(_triangular, lambda e: not e.params["conjugate_a"] and len(e.shapes[0]) == len(e.shapes[1]))
    ),
}  # fmt: skip
"""Entries of the table of primitives."""

FUNCTIONS = {
    "solve": meant("solve", _outputs(_solve, lambda e: len(e.shapes[1]) in (1, len(e.shapes[0])))),
    "inv": meant("inv", _outputs(lambda ops, equation, plain, a: {0: matrix_rules.inverse(ops, a)})),
}
"""Functions of the library that arrive as one call."""
