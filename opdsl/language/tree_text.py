"""Printing: the text that parses back to the same tree.

The text is canonical: ``*`` for every product, parentheses exactly where the tree needs them, ``u_xx`` where a name stands
below the derivative. What was declared is printed in front, so that ``parse(str(op)) == op`` needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from opdsl.algebra.work import MAX_WORK, bounded, spend
from opdsl.language import tree as ex
from opdsl.language.declarations import Declarations
from opdsl.language.functions import FUNCTIONS
from opdsl.language.operator_application import is_operator
from opdsl.language.system import System
from opdsl.language.traverse import fold

SUM, PRODUCT, POWER, ATOM = range(4)
"""How strongly a text binds, the weakest first."""

Written = tuple[str, int]
"""The text of an expression, and how strongly it binds."""

_CHARACTERS = 1024
"""Characters that count as one produced term."""

_LONGEST = 10_000_000
"""Characters of a text. What is shared doubles a text with every level: that is seen before it fills the memory."""

_SYMBOL = {"grad": "∇", "div": "∇·", "curl": "∇×", "laplace": "Δ", "hess": "D²"}


def system_text(system: System) -> str:
    """Return one line: declarations, definitions, equations.

    Raises:
        OpLimitError: parts that are shared give a text of more than ten million characters.
    """
    return "; ".join([*_header(system.declarations), *_statements(system)])


def equations_text(system: System) -> str:
    """Return the definitions and equations without declarations."""
    return "; ".join(_statements(system))


def expression_text(node: ex.Node, system: System) -> str:
    """Return one expression of a system."""
    return texts_of([node], _Text(system).node)[0][0]


def texts_of(nodes: Sequence[ex.Node], write: Callable[[ex.Node, tuple[Written, ...]], Written]) -> list[Written]:
    """Write expressions down, every distinct one once: ``write`` puts a node together from the texts of its parts."""

    def counted(node: ex.Node, below: tuple[Written, ...]) -> Written:
        made = write(node, below)
        spend(len(made[0]) // _CHARACTERS if len(made[0]) <= _LONGEST else MAX_WORK)
        return made

    with bounded("the text of this operator", "introduce names by let for parts that occur again and again"):
        return fold([ex.form(node) for node in nodes], ex.children, counted)


def enclosed(written: Written, level: int) -> str:
    """A text, in parentheses where it binds weaker than ``level``."""
    return written[0] if written[1] >= level else f"({written[0]})"


def coords_text(decls: Declarations) -> str:
    """Return the coordinates as they are declared: ``t polar(r, theta)``."""
    words = [str(c) for c in decls.coords]
    if decls.geometry != "cartesian":
        space = [str(c) for c in decls.coords if c.name != decls.time]
        grouped = f"{decls.geometry}({', '.join(space)})"
        words = [grouped if w == space[0] else w for w in words if w == space[0] or w not in space]
    return " ".join(words)


def _header(decls: Declarations) -> list[str]:
    # What was inferred is declared as well: the printed text may name it in another order or where nothing tells what it is.
    out = ["coords: " + coords_text(decls)] if decls.coords or "coords" in decls.given else []
    for kind in ("fields", "params"):
        if getattr(decls, kind) or kind in decls.given:
            out.append(f"{kind}: " + " ".join(map(str, getattr(decls, kind))))
    if decls.functions or "functions" in decls.given:
        out.append("functions: " + " ".join(decls.functions))
    if "time" in decls.given and decls.time:
        out.append(f"time: {decls.time}")
    return out


def _statements(system: System) -> list[str]:
    texts = iter(text for text, _ in texts_of(system.expressions, _Text(system).node))
    out = [f"let {d.name} = {next(texts)}" for d in system.definitions]
    for equation in system.equations:
        text = next(texts)
        if equation.right is not None:
            text += f" = {next(texts)}"
        out.append(f"{equation.name}: {text}" if equation.named else text)
    return out


class _Text:
    def __init__(self, system: System) -> None:
        decls = system.declarations
        self.declared = {
            *(c.name for c in decls.coords), *(f.name for f in decls.fields), *(p.name for p in decls.params),
            *decls.functions, *(d.name for d in system.definitions),
        }  # fmt: skip

    def node(self, node: ex.Node, below: tuple[Written, ...]) -> Written:
        """Write a node from the texts of its children, with parentheses where they bind weaker than their place."""
        suffixed = self._suffix_form(node)
        if suffixed is not None:
            return suffixed, ATOM
        match node:
            case ex.Num(value=value):
                return number_text(value)
            case ex.Const(name=name):
                return name, ATOM
            case ex.Indexed(indices=indices):
                return f"{enclosed(below[0], ATOM + 1)}{_subscript(indices)}", ATOM
            case ex.Add(terms=terms):
                return _sum(terms, below), SUM
            case ex.Neg():
                return f"-{enclosed(below[0], PRODUCT)}", SUM
            case ex.Mul(factors=factors):
                # As the first factor a quotient needs no parentheses, ``a/b*c`` is read from the left.
                head = enclosed(below[0], PRODUCT if isinstance(factors[0], ex.Div) else POWER)
                return "*".join([head, *(enclosed(f, POWER) for f in below[1:])]), PRODUCT
            case ex.Div(top=top):
                left = enclosed(below[0], ATOM if _ends_in_first_power(top) else PRODUCT)
                return f"{left}/{enclosed(below[1], POWER)}", PRODUCT
            case ex.Pow(exponent=exponent):
                return f"{enclosed(below[0], ATOM)}^{self._exponent(exponent, below[1])}", POWER
            case ex.Call():
                return self._call(node, below)
            case ex.Compare(operator=operator):
                return f"{below[0][0]} {operator} {below[1][0]}", SUM
            case ex.Partial():
                return self._partial(node), ATOM
            case ex.Nabla(name=name):
                return self._nabla(name), ATOM
            case ex.Apply(operator=operator_, operand=operand):
                return self._apply(operator_, operand, *below)
            case ex.SumOver(letter=letter):
                return f"sum_{letter}({below[0][0]})", SUM
            case ex.At(where=where):
                places = ", ".join(f"{name}={value}" for (name, _), (value, _) in zip(where, below[1:], strict=True))
                return f"{below[0][0]}({places})", ATOM
        raise AssertionError(f"no text for {type(node).__name__}; a new node type needs one")

    def _exponent(self, node: ex.Node, written: Written) -> str:
        plain = isinstance(node, ex.Num) and node.value >= 0
        return enclosed(written, ATOM) if plain or self._suffix_form(node) is not None else f"({written[0]})"

    def _call(self, node: ex.Call, below: tuple[Written, ...]) -> Written:
        known = FUNCTIONS.get(node.name)
        if known is not None and known.bare:
            return known.bare.format(below[0][0]), ATOM
        if is_operator(node):
            return f"{enclosed(below[0], POWER)}·∇", PRODUCT
        if known is not None and known.symbol and node.name in self.declared:
            return f"{enclosed(below[0], POWER)}{known.symbol}{enclosed(below[1], POWER)}", PRODUCT
        return f"{node.name}({', '.join(text for text, _ in below)})", ATOM

    # ------------------------------------------------------------------------------ derivatives
    def _suffix_form(self, node: ex.Node) -> str | None:
        """``u``, ``u_0``, ``a_ij``, ``u_xx``, ``u_{i,j}`` where the whole is a name with subscripts."""
        match node:
            case ex.Field(name=name) | ex.Param(name=name) | ex.Coord(name=name) | ex.Ref(name=name):
                return name
            case ex.Indexed(base=ex.Const(name=name), indices=indices):
                return f"{'x' if name == 'position' else name}{_subscript(indices)}"
            case ex.Indexed(base=ex.Field() | ex.Param() | ex.Coord() | ex.Ref() as base, indices=indices):
                return f"{base.name}{_subscript(indices)}"
            case ex.Apply(operator=ex.Partial(axes=axes), operand=operand) if axes:
                below = self._suffix_form(operand)
                if below is None or below == "d" or isinstance(operand, (ex.Coord, ex.Apply)):
                    return None
                if isinstance(operand, ex.Indexed) and isinstance(operand.base, (ex.Const, ex.Coord)):
                    return None
                names = [name for name, which in axes if name is not None and which is None]
                if len(names) == len(axes):
                    made = below + ("_" + "".join(names) if all(len(n) == 1 for n in names) else f"_{{{' '.join(names)}}}")
                    return None if made in self.declared else made
                letters = [str(which) for name, which in axes if name is None]
                if len(letters) == len(axes) and isinstance(operand, ex.Indexed) and "_" in below:
                    stem, _, index = below.rpartition("_")
                    return f"{stem}_{{{index.strip('{}')},{''.join(letters)}}}" if not index.startswith("{") else None
        return None

    def _partial(self, node: ex.Partial) -> str:
        d = "∂" if "d" in self.declared else "d"
        names = [name for name, which in node.axes if name is not None and which is None]
        if len(names) == len(node.axes):
            short = all(len(name) == 1 for name in names)
            return f"{d}_{''.join(names)}" if short else f"{d}_{{{' '.join(names)}}}"
        letters = [str(which) for name, which in node.axes if name is None]
        if len(letters) == len(node.axes):
            return f"{d}_{''.join(letters)}"
        if not letters:
            return f"{d}_{{{' '.join(f'{n}_{w}' if w is not None else str(n) for n, w in node.axes)}}}"
        below = "".join(f"∂x_{which}" if name is None else f"∂{name}" for name, which in node.axes)
        return f"∂^{len(node.axes)}/{below}"

    def _nabla(self, name: str) -> str:
        if name == "dn":
            return "∂_n"
        return _SYMBOL.get(name, name) if name in self.declared else name

    def _apply(self, operator: ex.Node, operand: ex.Node, acting: Written, acted_on: Written) -> Written:
        if isinstance(operator, ex.Nabla) and operator.name not in self.declared:
            return f"{operator.name}({acted_on[0]})", ATOM
        simple = isinstance(operator, (ex.Partial, ex.Nabla)) or (
            isinstance(operator, ex.Pow) and isinstance(operator.base, ex.Nabla)
        )
        head = acting[0] if simple else f"({acting[0]})"
        # Prefixes act from the right, so a chain of them needs no parentheses.
        chain = isinstance(operand, ex.Apply)
        return f"{head} {enclosed(acted_on, POWER if chain else ATOM)}", POWER


def _sum(terms: tuple[ex.Node, ...], below: tuple[Written, ...]) -> str:
    first, *others = zip(terms, below, strict=True)
    return enclosed(first[1], SUM if isinstance(first[0], ex.Neg) else PRODUCT) + "".join(
        # The text of a negative term begins with its sign.
        f" - {text[1:]}" if isinstance(term, ex.Neg) else f" + {enclosed((text, binds), PRODUCT)}"
        for term, (text, binds) in others
    )


def _ends_in_first_power(node: ex.Node) -> bool:
    """``u^1/2`` is refused, so ``(u^1)/2`` keeps its parentheses."""
    last = node.factors[-1] if isinstance(node, ex.Mul) else node
    return isinstance(last, ex.Pow) and isinstance(last.exponent, ex.Num) and last.exponent.value == 1


def number_text(value: Fraction) -> tuple[str, int]:
    """Return a number as text, and how strongly it binds."""
    if value.denominator == 1:
        return (str(value), ATOM) if value >= 0 else (str(value), SUM)
    digits, rest = 0, value.denominator
    while rest % 10 == 0 or rest % 5 == 0 or rest % 2 == 0:
        rest = rest // 10 if rest % 10 == 0 else rest // 5 if rest % 5 == 0 else rest // 2
        digits += 1
    if rest != 1 or digits > 300:
        return f"{value.numerator}/{value.denominator}", PRODUCT
    scaled = abs(value) * 10**digits
    assert scaled.denominator == 1
    text = str(scaled.numerator).rjust(digits + 1, "0")
    text = f"{text[:-digits]}.{text[-digits:]}".rstrip("0")
    return (text, ATOM) if value > 0 else (f"-{text}", SUM)


def _subscript(indices: tuple[int | str, ...]) -> str:
    if any(isinstance(i, int) and i > 9 for i in indices) and len(indices) > 1:
        return f"_{{{' '.join(map(str, indices))}}}"
    return "_" + "".join(map(str, indices))
