"""Shapes of vector calculus and of tensor functions, and why some have none.

Conventions: (∇u)_ij = ∂_i u_j, (∇·σ)_j = ∂_i σ_ij, jac(u)_ij = ∂_j u_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opdsl.errors import LanguageError, OpIndexError, OpRankError
from opdsl.language.declarations import Declarations, Dim
from opdsl.language.operator_application import spans_of
from opdsl.language.tree import Call, Field, Node, Num

Letters = tuple[tuple[str, Dim], ...]


@dataclass(frozen=True, slots=True)
class Type:
    """Shape, free letters with their ranges, letters summed at this very node, all summed letters below, complex, literal 0."""

    shape: tuple[Dim, ...] = ()
    free: Letters = ()
    sums: Letters = ()
    dummies: frozenset[str] = frozenset()
    complex: bool = False
    zero: bool = False

    @property
    def rank(self) -> int:
        """Number of tensor axes."""
        return len(self.shape)

    @property
    def letters(self) -> frozenset[str]:
        """The free letters."""
        return frozenset(letter for letter, _ in self.free)


SCALAR = Type()
RANK_NAMES = {0: "a scalar", 1: "a vector", 2: "a rank-2 tensor"}


def describe(type_: Type) -> str:
    """Name a shape for a message: ``a vector (3)``."""
    name = RANK_NAMES.get(type_.rank, f"a rank-{type_.rank} tensor")
    shape = f" ({', '.join(map(str, type_.shape))})" if type_.shape else ""
    letters = f" with free {', '.join(sorted(type_.letters))}" if type_.free else ""
    return name + shape + letters


class Shapes:
    """Shape rules of operators and functions; `Ranks` adds letters and arithmetic."""

    declarations: Declarations
    space: Dim

    def no_space(self, node: Node) -> LanguageError:
        """The error for vector calculus without space."""
        return OpRankError(
            "there is no space coordinate to act over", code="E227", spans=spans_of(node),
            suggestion="declare one in coords=, or write d_t",
        )

    def nabla(self, node: Node, name: str, operand: Node, type_: Type) -> Type:
        """Return the type of grad, div, curl, … of an operand of this type."""
        d = self.space
        if d == 0:
            raise self.no_space(node)
        shape = type_.shape

        def need(condition: bool, reason: str, suggestion: str | None = None) -> None:
            if not condition:
                raise OpRankError(reason, code="E228", spans=spans_of(node), suggestion=suggestion)

        undeclared = isinstance(operand, Field) and "fields" not in self.declarations.given
        hint = f'declare fields="{operand.name}[{d}]"' if undeclared and isinstance(operand, Field) else None
        match name:
            case "grad" | "jac":
                new = (d, *shape) if name == "grad" else (*shape, d)
            case "div":
                need(bool(shape), f"the divergence needs a vector, this is {describe(type_)}", hint)
                need(shape[0] == d, f"the divergence needs {d} components, one per space coordinate, not {shape[:1]}")
                new = shape[1:]
            case "curl":
                need(d in (2, 3), f"curl needs 2 or 3 space coordinates, there are {d}")
                if d == 2:
                    need(len(shape) <= 1, f"curl needs a vector or a scalar, this is {describe(type_)}")
                    need(shape in ((), (2,)), f"curl in 2-D needs 2 components, not {shape}")
                    new = () if shape else (2,)
                else:
                    need(shape == (3,), f"curl in 3-D needs a vector (3), this is {describe(type_)}", hint)
                    new = (3,)
            case "hess":
                need(not shape, f"the Hessian needs a scalar, this is {describe(type_)}", "write hess(u_0) per component")
                new = (d, d)
            case "dn" | "laplace":
                new = shape
            case "perp":
                need(d == 2 and not shape, "perp needs a scalar over two space coordinates")
                new = (2,)
            case _:
                raise AssertionError(name)
        return Type(new, type_.free, (), type_.dummies, type_.complex)

    def call_complex(self, name: str, types: Sequence[Type]) -> bool:
        """Say whether a function has complex values."""
        return name not in ("re", "im", "abs", "norm") and any(t.complex for t in types)

    def call_shape(self, node: Call, name: str, args: Sequence[Node], types: Sequence[Type]) -> tuple[Dim, ...]:
        """Return the shape of a function's value."""
        def need(condition: bool, reason: str, code: str = "E230", suggestion: str | None = None) -> None:
            if not condition:
                raise OpRankError(reason, code=code, spans=spans_of(*args)[:2] or spans_of(node), suggestion=suggestion)

        shapes = [t.shape for t in types]
        match name:
            case "dot":
                a, b = shapes
                if not a and not b:
                    return ()
                both = f"{describe(types[0])} [^], {describe(types[1])} [~]"
                need(bool(a) and bool(b), f"· needs two vectors or two scalars: {both}")
                need(a[-1] == b[0], f"· contracts {a[-1]} with {b[0]} components")
                return a[:-1] + b[1:]
            case "ddot":
                a, b = shapes
                need(len(a) == 2 and a == b, "a double contraction needs two rank-2 tensors of one shape")
                return ()
            case "cross":
                need(
                    shapes == [(3,), (3,)],
                    f"the cross product needs two vectors (3): {describe(types[0])} [^], {describe(types[1])} [~]",
                    suggestion="in 2-D write curl(u) or perp(v)" if (2,) in shapes else None,
                )
                return (3,)
            case "outer":
                return shapes[0] + shapes[1]
            case "convect":
                need(shapes[0] == (self.space,), f"u·∇ needs a vector ({self.space}), this is {describe(types[0])}")
                return shapes[1]
            case "tr" | "sym" | "skew" | "dev" | "det" | "inv":
                a = shapes[0]
                need(len(a) == 2 and a[0] == a[1], f"{name} needs a square matrix, this is {describe(types[0])}")
                if name in ("det", "inv") and isinstance(a[0], int):
                    need(a[0] <= 4, f"{name} is written out for at most 4×4, not {a[0]}×{a[0]}")
                return () if name in ("tr", "det") else a
            case "transpose":
                need(len(shapes[0]) == 2, f"transpose needs a matrix, this is {describe(types[0])}")
                return shapes[0][::-1]
            case "perp":
                need(shapes[0] in ((2,), ()), f"perp needs a vector (2), this is {describe(types[0])}")
                return (2,)
            case "norm" | "abs":
                return ()
            case "unit":
                assert isinstance(args[0], Num)
                if isinstance(self.space, int) and args[0].value >= self.space:
                    raise OpIndexError(
                        f"component {args[0].value} is out of range 0 … {self.space - 1}", code="E207", spans=spans_of(node),
                        suggestion="components are counted from 0: e_0, e_1, …",
                    )
                return (self.space,)
            case "vec":
                need(all(not shape for shape in shapes), "vec(…) takes scalars")
                return (len(args),)
            case "conj" | "re" | "im":
                return shapes[0]
            case "where":
                a, b = shapes[1], shapes[2]
                need(a == b or types[1].zero or types[2].zero, "both branches of where need one shape")
                return b if types[1].zero else a
            case "min" | "max":
                need(not shapes[0] and not shapes[1], f"{name} takes scalars")
                need(not any(t.complex for t in types), f"{name} takes real values", "E225")
                return ()
        return ()
