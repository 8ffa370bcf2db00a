"""Types of expressions, and the shapes of vector calculus.

Conventions: (∇u)_ij = ∂_i u_j, (∇·σ)_j = ∂_i σ_ij, jac(u)_ij = ∂_j u_i.
"""

from __future__ import annotations

from dataclasses import dataclass

from opdsl.errors import LanguageError, OpRankError
from opdsl.language.declarations import Declarations, Dim
from opdsl.language.operator_application import spans_of
from opdsl.language.tree import Field, Node

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
    """Shape rules of operators; `Ranks` adds functions, letters and arithmetic."""

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
