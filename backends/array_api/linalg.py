"""The extension ``linalg`` of the array API, recording; the mathematics is in `opdsl.jets.matrix_rules`."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any

from opdsl.backends.array_api.operands import axes_of, guarded
from opdsl.errors import CaptureError
from opdsl.jets import matrix_rules
from opdsl.jets.graph import Bilinear, Composed, Linear
from opdsl.jets.operations import OPERATIONS
from opdsl.jets.propagate import JetOps

Operand = Any
EighResult = namedtuple("EighResult", "eigenvalues eigenvectors")
QRResult = namedtuple("QRResult", "Q R")
SlogdetResult = namedtuple("SlogdetResult", "sign logabsdet")
SVDResult = namedtuple("SVDResult", "U S Vh")


class RecordingLinalg:
    """Matrix functions of stacks (…, m, n), recording."""

    def __init__(self, space: Any) -> None:
        self._space = space
        self._linalg = space._recorder.xp.linalg

    def __getattr__(self, name: str) -> Any:
        return guarded(f"linalg.{name}", getattr(self._linalg, name))

    def _record(
        self,
        name: str,
        build: Callable[..., Mapping[int, Operand]],
        apply: Callable[..., Any],
        *operands: Any,
        several: bool = False,
    ) -> Any:
        def results(ops: JetOps, *given: Operand) -> Any:
            plain = apply(*(ops.primal(g) for g in given))
            return matrix_rules.outputs(ops, plain, build(ops, plain, *given))

        return self._space._record(name, Composed(results), apply, *operands, several=several)

    def solve(self, a: Any, b: Any) -> Any:
        if len(b.shape) == 1:
            return self._space.squeeze(self.solve(a, b[:, None]), axis=-1)
        return self._record("solve", lambda ops, plain, p, q: {0: matrix_rules.solve(ops, p, q)}, self._linalg.solve, a, b)

    def inv(self, a: Any) -> Any:
        return self._record("inv", lambda ops, plain, p: {0: matrix_rules.inverse(ops, p)}, self._linalg.inv, a)

    def det(self, a: Any) -> Any:
        return self._record("det", lambda ops, plain, p: {0: matrix_rules.determinant(ops, p)}, self._linalg.det, a)

    def slogdet(self, a: Any) -> Any:
        def build(ops: JetOps, plain: Any, p: Operand) -> dict[int, Operand]:
            return {1: matrix_rules.log_determinant(ops, p)}

        return SlogdetResult(*self._record("slogdet", build, lambda h: tuple(self._linalg.slogdet(h)), a, several=True))

    def cholesky(self, a: Any, *, upper: bool = False) -> Any:
        def build(ops: JetOps, plain: Any, p: Operand) -> dict[int, Operand]:
            return {0: matrix_rules.cholesky(ops, p, plain)}

        lower = self._record("cholesky", build, self._linalg.cholesky, a)
        return self._space.matrix_transpose(lower) if upper else lower

    def eigh(self, a: Any) -> Any:
        def build(ops: JetOps, plain: Any, p: Operand) -> dict[int, Operand]:
            return dict(enumerate(matrix_rules.eigh(ops, p, *plain)))

        return EighResult(*self._record("eigh", build, lambda h: tuple(self._linalg.eigh(h)), a, several=True))

    def eigvalsh(self, a: Any) -> Any:
        return self.eigh(a).eigenvalues

    def qr(self, a: Any, *, mode: str = "reduced") -> Any:
        if mode != "reduced" or a.shape[-2] < a.shape[-1]:
            raise CaptureError(
                "linalg.qr has a rule on the NumPy backend for mode='reduced' and at least as many rows as columns."
            )

        def build(ops: JetOps, plain: Any, p: Operand) -> dict[int, Operand]:
            return dict(enumerate(matrix_rules.qr(ops, p, plain[1])))

        return QRResult(*self._record("qr", build, lambda h: tuple(self._linalg.qr(h)), a, several=True))

    def svd(self, a: Any, *, full_matrices: bool = True) -> Any:
        if full_matrices and a.shape[-1] != a.shape[-2]:
            raise CaptureError("linalg.svd of a rectangular matrix has a rule on the NumPy backend for full_matrices=False.")

        def build(ops: JetOps, plain: Any, p: Operand) -> dict[int, Operand]:
            return dict(enumerate(matrix_rules.svd(ops, p, *plain)))

        return SVDResult(
            *self._record("svd", build, lambda h: tuple(self._linalg.svd(h, full_matrices=False)), a, several=True)
        )

    def svdvals(self, a: Any) -> Any:
        return self.svd(a, full_matrices=False).S

    def pinv(self, a: Any) -> Any:
        return self._record("pinv", lambda ops, plain, p: {0: matrix_rules.pseudo_inverse(ops, p)}, self._linalg.pinv, a)

    def trace(self, a: Any) -> Any:
        return self._space._record("trace", Linear(), self._linalg.trace, a)

    def diagonal(self, a: Any) -> Any:
        return self._space._record("diagonal", Linear(), self._linalg.diagonal, a)

    def vector_norm(self, a: Any, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Any:
        axes = axes_of(a, axis)

        def apply(h: Any) -> Any:
            return self._linalg.vector_norm(h, axis=axis, keepdims=keepdims, ord=ord)

        rule = OPERATIONS["norm"].given(order=float(ord), axes=axes, keepdims=keepdims)
        return self._space._record("norm", rule, apply, a)

    def matrix_norm(self, a: Any, *, keepdims: bool = False, ord: Any = "fro") -> Any:
        space = self._space
        if ord == "fro":
            return self.vector_norm(a, axis=(-2, -1), keepdims=keepdims)
        if ord in (2, -2, "nuc"):
            values = self.svdvals(a)
            found = space.sum(values, axis=-1) if ord == "nuc" else (space.max if ord > 0 else space.min)(values, axis=-1)
            return found[..., None, None] if keepdims else found
        axis = -2 if abs(ord) == 1 else -1
        sums = space.sum(space.abs(a), axis=axis, keepdims=True)
        return (space.max if ord > 0 else space.min)(sums, axis=(-2, -1), keepdims=keepdims)

    def matrix_power(self, a: Any, n: int) -> Any:
        if n < 0:
            return self.matrix_power(self.inv(a), -n)
        if n == 0:
            return self._space.add(self._space.multiply(a, 0.0), self._space.eye(a.shape[-1], dtype=a.dtype))
        half = self.matrix_power(a, n // 2) if n > 1 else None
        square = None if half is None else self.matmul(half, half)
        return a if square is None else self.matmul(square, a) if n % 2 else square

    def cross(self, a: Any, b: Any, *, axis: int = -1) -> Any:
        return self._space._record("cross", Bilinear(), lambda x, y: self._linalg.cross(x, y, axis=axis), a, b)

    def outer(self, a: Any, b: Any) -> Any:
        return self._space.multiply(a[:, None], b[None, :])

    def norm(self, a: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
        """NumPy's own name, of vectors."""
        if (axis is None and len(a.shape) != 1) or not isinstance(axis, int | None):
            raise CaptureError("numpy.linalg.norm has a rule for vectors along one axis; of others take linalg.vector_norm.")
        return self.vector_norm(a, axis=axis, keepdims=keepdims, ord=2 if ord is None else ord)

    def matmul(self, a: Any, b: Any) -> Any:
        return self._space.matmul(a, b)

    def matrix_transpose(self, a: Any) -> Any:
        return self._space.matrix_transpose(a)

    def vecdot(self, a: Any, b: Any, *, axis: int = -1) -> Any:
        return self._space.vecdot(a, b, axis=axis)

    def tensordot(self, a: Any, b: Any, *, axes: Any = 2) -> Any:
        return self._space.tensordot(a, b, axes=axes)
