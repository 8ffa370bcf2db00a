"""A parsed text as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field

from opdsl.language.declarations import Declarations
from opdsl.language.tree import Definition, EquationNode, Node, children


@dataclass(frozen=True, slots=True)
class System:
    """A parsed text: declarations, definitions and equations. Equal where declarations and trees are equal."""

    declarations: Declarations
    definitions: tuple[Definition, ...]
    equations: tuple[EquationNode, ...]
    source: str = field(default="", compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    constants: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """Parameters of which a change of variables has used that they are the same at all points."""

    @property
    def symbolic(self) -> str | None:
        """Name of the coordinate vector whose length is not known yet, or None."""
        return self.declarations.symbolic

    @property
    def text(self) -> str:
        """The text that was parsed, or the printed one for a derived system."""
        return self.source or str(self)

    @property
    def expressions(self) -> tuple[Node, ...]:
        """The values of the definitions and the sides of the equations, in the order of the text."""
        return tuple(part for statement in (*self.definitions, *self.equations) for part in children(statement))

    def __str__(self) -> str:
        from opdsl.language.tree_text import system_text

        return system_text(self)

    def latex(self) -> str:
        """Return the equations as LaTeX, one per line of an ``aligned`` block if there are several."""
        from opdsl.language.tree_latex import system_latex

        return system_latex(self)

    def dimension_of(self, columns: int) -> int | None:
        """Return the length of the symbolic vector when points have so many columns; None if nothing is symbolic."""
        if self.symbolic is None:
            return None
        fixed = 0
        for coord in self.declarations.coords:
            if coord.size is None:
                fixed += 1
            elif isinstance(coord.size, int):
                fixed += coord.size
        return columns - fixed
