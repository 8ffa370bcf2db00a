"""ATen operators of linear algebra; the mathematics is in `opdsl.jets.matrix_rules`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from opdsl.backends.torch.primitives import Facts, by_first_derivative, enter
from opdsl.jets import matrix_rules
from opdsl.jets.graph import Composed, Derived, Rule, chooses
from opdsl.jets.operations import meant
from opdsl.jets.propagate import JetOps


def _outputs(build: Callable[..., dict[int, Any]]) -> Callable[[Facts], Rule]:
    """``build(ops, facts, plain results, *operands)`` gives jets for some results; pivots, flags and factors stay plain."""

    def entry(facts: Facts) -> Rule:
        def several(ops: JetOps, *operands: Any) -> Any:
            plain = facts.call(*(ops.primal(o) for o in operands))
            results = (plain,) if isinstance(plain, torch.Tensor) else tuple(plain)
            return matrix_rules.outputs(ops, plain, build(ops, facts, results, *operands))

        return Composed(several)

    return entry


def _solve(ops: JetOps, facts: Facts, plain: Any, a: Any, b: Any) -> dict[int, Any]:
    vector = ops.primal(b).dim() == 1 or ops.primal(b).shape == ops.primal(a).shape[:-1]
    if vector:
        b = ops.linear(lambda h: h.unsqueeze(-1), b)
    x = matrix_rules.solve(ops, a, b, left=bool(facts["left"]))
    return {0: ops.linear(lambda h: h.squeeze(-1), x) if vector else x}


def _triangular(ops: JetOps, facts: Facts, plain: Any, a: Any, b: Any) -> dict[int, Any]:
    upper, left, unit = bool(facts["upper"]), bool(facts["left"]), bool(facts["unitriangular"])
    offset = (1 if upper else -1) if unit else 0
    part = (lambda h: torch.triu(h, offset)) if upper else (lambda h: torch.tril(h, offset))
    shape = ops.primal(a)
    if unit:
        a = ops.add(ops.linear(part, a), torch.eye(shape.shape[-1], dtype=shape.dtype, device=shape.device))
    else:
        a = ops.linear(part, a)

    def apply(a0: Any, h: Any) -> Any:
        return torch.linalg.solve_triangular(a0, h, upper=upper, left=left, unitriangular=unit)

    return {0: matrix_rules.solve(ops, a, b, apply, left)}


def _cholesky(ops: JetOps, facts: Facts, plain: Any, a: Any) -> dict[int, Any]:
    upper = bool(facts["upper"])
    lower = matrix_rules.cholesky(ops, a, plain[0].mT if upper else plain[0])
    return {0: matrix_rules.transpose(ops, lower) if upper else lower}


def _eigh(ops: JetOps, facts: Facts, plain: Any, a: Any) -> dict[int, Any]:
    vectors = plain[1] if facts["compute_v"] else torch.linalg.eigh(ops.primal(a))[1]
    values, turned = matrix_rules.eigh(ops, a, plain[0], vectors)
    return {0: values, 1: turned} if facts["compute_v"] else {0: values}


def _svd(ops: JetOps, facts: Facts, plain: Any, a: Any) -> dict[int, Any]:
    factors = plain if facts["compute_uv"] else torch.linalg.svd(ops.primal(a), full_matrices=False)
    return dict(enumerate(matrix_rules.svd(ops, a, *factors))) if facts["compute_uv"] else {1: matrix_rules.svd(ops, a, *factors)[1]}


def _lu(ops: JetOps, facts: Facts, plain: Any, a: Any) -> dict[int, Any]:
    """The packed factors L + U − I of a square matrix."""
    permutation, lower, upper = torch.lu_unpack(plain[0], plain[1])
    left, right = matrix_rules.lu(ops, ops.linear(lambda h: permutation.mT @ h, a), lower, upper)
    return {0: ops.add(ops.linear(lambda h: torch.tril(h, -1), left), right)}


def _lu_apart(ops: JetOps, facts: Facts, plain: Any, a: Any) -> dict[int, Any]:
    permutation, lower, upper = plain
    return dict(enumerate(matrix_rules.lu(ops, ops.linear(lambda h: permutation.mT @ h, a), lower, upper), start=1))


def _lu_unpacked(ops: JetOps, facts: Facts, plain: Any, packed: Any, pivots: Any) -> dict[int, Any]:
    return {1: ops.linear(lambda h: torch.tril(h, -1), packed), 2: ops.linear(torch.triu, packed)}


def _lu_solve(ops: JetOps, facts: Facts, plain: Any, packed: Any, pivots: Any, b: Any) -> dict[int, Any]:
    permutation, lower, _ = torch.lu_unpack(ops.primal(packed), pivots)
    eye = torch.eye(lower.shape[-1], dtype=lower.dtype, device=lower.device)
    left = ops.add(ops.linear(lambda h: torch.tril(h, -1), packed), eye)
    right = ops.linear(torch.triu, packed)
    y = matrix_rules.solve(ops, left, ops.linear(lambda h: permutation.mT @ h, b))
    return {0: matrix_rules.solve(ops, right, y)}


def _square(build: Callable[..., dict[int, Any]]) -> Callable[[Facts], Rule]:
    """A rule for square matrices with pivots; the others go by their first derivative."""
    return _where(lambda facts: facts.operands[0].shape[-1] == facts.operands[0].shape[-2] and facts["pivot"], build)


def _where(fits: Callable[[Facts], bool], build: Callable[..., dict[int, Any]]) -> Callable[[Facts], Rule]:
    rule = _outputs(build)
    return chooses(Composed, Derived)(lambda facts: rule(facts) if fits(facts) else by_first_derivative(facts))


enter("_linalg_det", meant("det", _outputs(lambda ops, facts, plain, a: {0: matrix_rules.determinant(ops, a)})))
enter("_linalg_slogdet", meant("slogdet", _outputs(lambda ops, facts, plain, a: {1: matrix_rules.log_determinant(ops, a)})))
enter("linalg_inv_ex", meant("inv", _outputs(lambda ops, facts, plain, a: {0: matrix_rules.inverse(ops, a)})))
enter("_linalg_solve_ex", meant("solve", _outputs(_solve)))
enter("linalg_solve_triangular", meant("solve_triangular", _outputs(_triangular)))
enter("linalg_cholesky_ex", meant("cholesky", _outputs(_cholesky)))
enter("_linalg_eigh", meant("eigh", _outputs(_eigh)))
enter("_linalg_svd", meant("svd", _outputs(_svd)))
enter("linalg_qr", meant("qr", _outputs(lambda ops, facts, plain, a: dict(enumerate(matrix_rules.qr(ops, a, plain[1]))))))
enter("linalg_lu_factor_ex", meant("lu", _square(_lu)))
enter("linalg_lu", meant("lu", _square(_lu_apart)))
enter("lu_unpack", meant("lu", _outputs(_lu_unpacked)))
enter("linalg_lu_solve", meant("solve", _where(lambda facts: facts["left"] and not facts["adjoint"], _lu_solve)))
enter("linalg_matrix_exp", meant("matrix_exp", _outputs(lambda ops, facts, plain, a: {0: matrix_rules.matrix_exponential(ops, a)})))
enter("linalg_pinv", meant("pinv", _outputs(lambda ops, facts, plain, a, *_: {0: matrix_rules.pseudo_inverse(ops, a)})))
