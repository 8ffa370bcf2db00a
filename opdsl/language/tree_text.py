"""Printing: the text that parses back to the same tree.

The text is canonical: ``*`` for every product, parentheses exactly where the tree needs them, ``u_xx`` where a name stands
below the derivative. What was declared is printed in front, so that ``parse(str(op)) == op`` needs nothing else.
"""

from __future__ import annotations

from fractions import Fraction

from opdsl.language import tree as ex
from opdsl.language.declarations import Declarations
from opdsl.language.operator_application import is_operator
from opdsl.language.system import System

SUM, PRODUCT, POWER, ATOM = range(4)
"""How strongly a text binds, the weakest first."""

_SYMBOL = {"grad": "∇", "div": "∇·", "curl": "∇×", "laplace": "Δ", "hess": "D²"}


def system_text(system: System) -> str:
    """Return one line: declarations, definitions, equations."""
    return "; ".join([*_header(system.declarations), *_statements(system)])


def equations_text(system: System) -> str:
    """Return the definitions and equations without declarations."""
    return "; ".join(_statements(system))


def expression_text(node: ex.Node, system: System) -> str:
    """Return one expression of a system."""
    return _Text(system.declarations, [d.name for d in system.definitions]).show(node)


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
    printer = _Text(system.declarations, [d.name for d in system.definitions])
    out = [f"let {d.name} = {printer.show(d.value)}" for d in system.definitions]
    for equation in system.equations:
        text = printer.show(equation.left)
        if equation.right is not None:
            text += f" = {printer.show(equation.right)}"
        out.append(f"{equation.name}: {text}" if equation.named else text)
    return out


class _Text:
    def __init__(self, decls: Declarations, definitions: list[str]) -> None:
        self.declared = {
            *(c.name for c in decls.coords), *(f.name for f in decls.fields), *(p.name for p in decls.params),
            *decls.functions, *definitions,
        }  # fmt: skip

    def show(self, node: ex.Node, level: int = SUM) -> str:
        """Print with parentheses where the node binds weaker than ``level``."""
        text, binds = self._node(node)
        return text if binds >= level else f"({text})"

    def _node(self, node: ex.Node) -> tuple[str, int]:
        suffixed = self._suffix_form(node)
        if suffixed is not None:
            return suffixed, ATOM
        match node:
            case ex.Num(value=value):
                return number_text(value)
            case ex.Const(name=name):
                return name, ATOM
            case ex.Indexed(base=base, indices=indices):
                return f"{self.show(base, ATOM + 1)}{_subscript(indices)}", ATOM
            case ex.Add(terms=terms):
                return self._sum(terms), SUM
            case ex.Neg(operand=inner):
                return f"-{self.show(inner, PRODUCT)}", SUM
            case ex.Mul(factors=factors):
                head = self._left(factors[0])
                return "*".join([head, *(self.show(f, POWER) for f in factors[1:])]), PRODUCT
            case ex.Div(top=top, bottom=bottom):
                left = self.show(top, ATOM if _ends_in_first_power(top) else PRODUCT)
                return f"{left}/{self.show(bottom, POWER)}", PRODUCT
            case ex.Pow(base=base, exponent=exponent):
                return f"{self.show(base, ATOM)}^{self._exponent(exponent)}", POWER
            case ex.Call():
                return self._call(node)
            case ex.Compare(operator=operator, left=left_, right=right_):
                return f"{self.show(left_)} {operator} {self.show(right_)}", SUM
            case ex.Partial():
                return self._partial(node), ATOM
            case ex.Nabla(name=name):
                return self._nabla(name), ATOM
            case ex.Apply(operator=operator_, operand=operand):
                return self._apply(operator_, operand)
            case ex.Sum(letter=letter, body=body):
                return f"sum_{letter}({self.show(body)})", SUM
            case ex.At(operand=operand_, where=where):
                places = ", ".join(f"{name}={self.show(value)}" for name, value in where)
                return f"{self.show(operand_)}({places})", ATOM
        raise AssertionError(f"no text for {type(node).__name__}; a new node type needs one")

    def _left(self, node: ex.Node) -> str:
        """The first factor: a quotient needs no parentheses, ``a/b*c`` is read from the left."""
        return self.show(node, PRODUCT if isinstance(node, ex.Div) else POWER)

    def _sum(self, terms: tuple[ex.Node, ...]) -> str:
        out = ""
        for k, term in enumerate(terms):
            negative = isinstance(term, ex.Neg)
            text = self.show(term.operand if isinstance(term, ex.Neg) else term, PRODUCT)
            sign = "-" if negative else "+"
            out += (f"-{text}" if negative else text) if k == 0 else f" {sign} {text}"
        return out

    def _exponent(self, node: ex.Node) -> str:
        plain = isinstance(node, ex.Num) and node.value >= 0
        return self.show(node, ATOM) if plain or self._suffix_form(node) is not None else f"({self.show(node)})"

    def _call(self, node: ex.Call) -> tuple[str, int]:
        if node.name == "unit":
            return f"e_{self.show(node.args[0])}", ATOM
        if is_operator(node):
            return f"{self.show(node.args[0], POWER)}·∇", PRODUCT
        if node.name in ("dot", "cross", "outer") and node.name in self.declared:
            symbol = {"dot": "·", "cross": "×", "outer": "⊗"}[node.name]
            return f"{self.show(node.args[0], POWER)}{symbol}{self.show(node.args[1], POWER)}", PRODUCT
        return f"{node.name}({', '.join(self.show(arg) for arg in node.args)})", ATOM

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

    def _apply(self, operator: ex.Node, operand: ex.Node) -> tuple[str, int]:
        if isinstance(operator, ex.Nabla) and operator.name not in self.declared:
            return f"{operator.name}({self.show(operand)})", ATOM
        simple = isinstance(operator, (ex.Partial, ex.Nabla)) or (
            isinstance(operator, ex.Pow) and isinstance(operator.base, ex.Nabla)
        )
        head = self.show(operator) if simple else f"({self.show(operator)})"
        # Prefixes act from the right, so a chain of them needs no parentheses.
        chain = isinstance(operand, ex.Apply)
        return f"{head} {self.show(operand, POWER if chain else ATOM)}", POWER


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
