"""Printing: the text that parses back to the same tree, and LaTeX.

The text is canonical: ``*`` for every product, parentheses exactly where the tree needs them, ``u_xx`` where a name stands
below the derivative. What was declared is printed in front, so that ``parse(str(op)) == op`` needs nothing else.
"""

from __future__ import annotations

from fractions import Fraction

from opdsl.language import tree as ex
from opdsl.language.functions import FUNCTIONS, Function
from opdsl.language.operator_application import is_operator

_SUM, _PRODUCT, _POWER, _ATOM = range(4)
_SYMBOL = {"grad": "∇", "div": "∇·", "curl": "∇×", "laplace": "Δ", "hess": "D²"}
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split()
)


def system_text(system: ex.System) -> str:
    """Return one line: declarations, definitions, equations."""
    return "; ".join([*_header(system.declarations), *_statements(system)])


def equations_text(system: ex.System) -> str:
    """Return the definitions and equations without declarations."""
    return "; ".join(_statements(system))


def expression_text(node: ex.Node, system: ex.System) -> str:
    """Return one expression of a system."""
    return _Text(system.declarations, [d.name for d in system.definitions]).show(node)


def coords_text(decls: ex.Declarations) -> str:
    """Return the coordinates as they are declared: ``t polar(r, theta)``."""
    words = [str(c) for c in decls.coords]
    if decls.geometry != "cartesian":
        space = [str(c) for c in decls.coords if c.name != decls.time]
        grouped = f"{decls.geometry}({', '.join(space)})"
        words = [grouped if w == space[0] else w for w in words if w == space[0] or w not in space]
    return " ".join(words)


def _header(decls: ex.Declarations) -> list[str]:
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


def _statements(system: ex.System) -> list[str]:
    printer = _Text(system.declarations, [d.name for d in system.definitions])
    out = [f"let {d.name} = {printer.show(d.value)}" for d in system.definitions]
    for equation in system.equations:
        text = printer.show(equation.left)
        if equation.right is not None:
            text += f" = {printer.show(equation.right)}"
        out.append(f"{equation.name}: {text}" if equation.named else text)
    return out


class _Text:
    def __init__(self, decls: ex.Declarations, definitions: list[str]) -> None:
        self.declared = {
            *(c.name for c in decls.coords), *(f.name for f in decls.fields), *(p.name for p in decls.params),
            *decls.functions, *definitions,
        }  # fmt: skip

    def show(self, node: ex.Node, level: int = _SUM) -> str:
        """Print with parentheses where the node binds weaker than ``level``."""
        text, binds = self._node(node)
        return text if binds >= level else f"({text})"

    def _node(self, node: ex.Node) -> tuple[str, int]:
        suffixed = self._suffix_form(node)
        if suffixed is not None:
            return suffixed, _ATOM
        match node:
            case ex.Num(value=value):
                return _number(value)
            case ex.Const(name=name):
                return name, _ATOM
            case ex.Indexed(base=base, indices=indices):
                return f"{self.show(base, _ATOM + 1)}{_subscript(indices)}", _ATOM
            case ex.Add(terms=terms):
                return self._sum(terms), _SUM
            case ex.Neg(operand=inner):
                return f"-{self.show(inner, _PRODUCT)}", _SUM
            case ex.Mul(factors=factors):
                head = self._left(factors[0])
                return "*".join([head, *(self.show(f, _POWER) for f in factors[1:])]), _PRODUCT
            case ex.Div(top=top, bottom=bottom):
                left = self.show(top, _ATOM if _ends_in_first_power(top) else _PRODUCT)
                return f"{left}/{self.show(bottom, _POWER)}", _PRODUCT
            case ex.Pow(base=base, exponent=exponent):
                return f"{self.show(base, _ATOM)}^{self._exponent(exponent)}", _POWER
            case ex.Call():
                return self._call(node)
            case ex.Compare(operator=operator, left=left_, right=right_):
                return f"{self.show(left_)} {operator} {self.show(right_)}", _SUM
            case ex.Partial():
                return self._partial(node), _ATOM
            case ex.Nabla(name=name):
                return self._nabla(name), _ATOM
            case ex.Apply(operator=operator_, operand=operand):
                return self._apply(operator_, operand)
            case ex.Sum(letter=letter, body=body):
                return f"sum_{letter}({self.show(body)})", _SUM
            case ex.At(operand=operand_, where=where):
                places = ", ".join(f"{name}={self.show(value)}" for name, value in where)
                return f"{self.show(operand_)}({places})", _ATOM
        raise AssertionError(f"no text for {type(node).__name__}; a new node type needs one")

    def _left(self, node: ex.Node) -> str:
        """The first factor: a quotient needs no parentheses, ``a/b*c`` is read from the left."""
        return self.show(node, _PRODUCT if isinstance(node, ex.Div) else _POWER)

    def _sum(self, terms: tuple[ex.Node, ...]) -> str:
        out = ""
        for k, term in enumerate(terms):
            negative = isinstance(term, ex.Neg)
            text = self.show(term.operand if isinstance(term, ex.Neg) else term, _PRODUCT)
            sign = "-" if negative else "+"
            out += (f"-{text}" if negative else text) if k == 0 else f" {sign} {text}"
        return out

    def _exponent(self, node: ex.Node) -> str:
        plain = isinstance(node, ex.Num) and node.value >= 0
        return self.show(node, _ATOM) if plain or self._suffix_form(node) is not None else f"({self.show(node)})"

    def _call(self, node: ex.Call) -> tuple[str, int]:
        if node.name == "unit":
            return f"e_{self.show(node.args[0])}", _ATOM
        if is_operator(node):
            return f"{self.show(node.args[0], _POWER)}·∇", _PRODUCT
        if node.name in ("dot", "cross", "outer") and node.name in self.declared:
            symbol = {"dot": "·", "cross": "×", "outer": "⊗"}[node.name]
            return f"{self.show(node.args[0], _POWER)}{symbol}{self.show(node.args[1], _POWER)}", _PRODUCT
        return f"{node.name}({', '.join(self.show(arg) for arg in node.args)})", _ATOM

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
            return f"{operator.name}({self.show(operand)})", _ATOM
        simple = isinstance(operator, (ex.Partial, ex.Nabla)) or (
            isinstance(operator, ex.Pow) and isinstance(operator.base, ex.Nabla)
        )
        head = self.show(operator) if simple else f"({self.show(operator)})"
        # Prefixes act from the right, so a chain of them needs no parentheses.
        chain = isinstance(operand, ex.Apply)
        return f"{head} {self.show(operand, _POWER if chain else _ATOM)}", _POWER


def _ends_in_first_power(node: ex.Node) -> bool:
    """``u^1/2`` is refused, so ``(u^1)/2`` keeps its parentheses."""
    last = node.factors[-1] if isinstance(node, ex.Mul) else node
    return isinstance(last, ex.Pow) and isinstance(last.exponent, ex.Num) and last.exponent.value == 1


def _number(value: Fraction) -> tuple[str, int]:
    if value.denominator == 1:
        return (str(value), _ATOM) if value >= 0 else (str(value), _SUM)
    digits, rest = 0, value.denominator
    while rest % 10 == 0 or rest % 5 == 0 or rest % 2 == 0:
        rest = rest // 10 if rest % 10 == 0 else rest // 5 if rest % 5 == 0 else rest // 2
        digits += 1
    if rest != 1 or digits > 300:
        return f"{value.numerator}/{value.denominator}", _PRODUCT
    scaled = abs(value) * 10**digits
    assert scaled.denominator == 1
    text = str(scaled.numerator).rjust(digits + 1, "0")
    text = f"{text[:-digits]}.{text[-digits:]}".rstrip("0")
    return (text, _ATOM) if value > 0 else (f"-{text}", _SUM)


def _subscript(indices: tuple[int | str, ...]) -> str:
    if any(isinstance(i, int) and i > 9 for i in indices) and len(indices) > 1:
        return f"_{{{' '.join(map(str, indices))}}}"
    return "_" + "".join(map(str, indices))


# --------------------------------------------------------------------------------------------- LaTeX
def system_latex(system: ex.System) -> str:
    """Return the equations as LaTeX."""
    printer = _Latex()
    lines = [rf"{printer.name(d.name)} := {printer.show(d.value)}" for d in system.definitions]
    for equation in system.equations:
        right = "" if equation.right is None else f" = {printer.show(equation.right)}"
        lines.append(printer.show(equation.left) + right)
    if len(lines) == 1:
        return lines[0]
    return "\\begin{aligned}\n" + " \\\\\n".join(f"& {line}" for line in lines) + "\n\\end{aligned}"


class _Latex:
    def name(self, name: str) -> str:
        """``nu`` → ``\\nu``, ``eps0`` → ``\\mathrm{eps0}``."""
        base, *subs = name.split("_")
        shown = f"\\{base}" if base in _GREEK else base if len(base) == 1 else rf"\mathrm{{{base}}}"
        return shown + (f"_{{{' '.join(subs)}}}" if subs else "")

    def show(self, node: ex.Node, level: int = _SUM) -> str:
        """Print with parentheses where the node binds weaker than ``level``."""
        text, binds = self._node(node)
        return text if binds >= level else rf"\left({text}\right)"

    def _node(self, node: ex.Node) -> tuple[str, int]:
        match node:
            case ex.Num(value=value):
                if value.denominator == 1:
                    return str(value), _ATOM if value >= 0 else _SUM
                return _number(value)[0], _ATOM
            case ex.Const(name=name):
                return {"position": "x", "epsilon": r"\varepsilon", "delta": r"\delta"}.get(name, self.name(name)), _ATOM
            case ex.Field(name=name) | ex.Param(name=name) | ex.Coord(name=name) | ex.Ref(name=name):
                return self.name(name), _ATOM
            case ex.Indexed(base=base, indices=indices):
                return f"{self.show(base, _ATOM)}_{{{' '.join(map(str, indices))}}}", _ATOM
            case ex.Add(terms=terms):
                out = ""
                for k, term in enumerate(terms):
                    negative = isinstance(term, ex.Neg)
                    text = self.show(term.operand if isinstance(term, ex.Neg) else term, _PRODUCT)
                    out += ("-" if negative else "") + text if k == 0 else f" {'-' if negative else '+'} {text}"
                return out, _SUM
            case ex.Neg(operand=inner):
                return f"-{self.show(inner, _PRODUCT)}", _SUM
            case ex.Mul(factors=factors):
                parts = [self.show(f, _PRODUCT) for f in factors]
                joined = parts[0]
                for before, part in zip(factors, parts[1:], strict=False):
                    dot = r" \cdot " if part[0].isdigit() or is_operator(before) else r" \, "
                    joined += dot + part
                return joined, _PRODUCT
            case ex.Div(top=top, bottom=bottom):
                return rf"\frac{{{self.show(top)}}}{{{self.show(bottom)}}}", _POWER
            case ex.Pow(base=base, exponent=exponent):
                return f"{self.show(base, _ATOM)}^{{{self.show(exponent)}}}", _POWER
            case ex.Call():
                return self._call(node)
            case ex.Compare(operator=operator, left=left, right=right):
                symbol = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne", "==": "="}.get(operator, operator)
                return f"{self.show(left)} {symbol} {self.show(right)}", _SUM
            case ex.Partial(axes=axes):
                below = " ".join(self.name(n) + (f"_{{{w}}}" if w is not None else "") if n else str(w) for n, w in axes)
                return rf"\partial_{{{below}}}", _POWER
            case ex.Nabla(name=name):
                known = {"grad": r"\nabla", "div": r"\nabla\cdot", "curl": r"\nabla\times", "laplace": r"\Delta"}
                known |= {"hess": r"\nabla\nabla", "dn": r"\partial_n"}
                return known.get(name, rf"\operatorname{{{name}}}"), _POWER
            case ex.Apply(operator=operator_, operand=operand):
                return f"{self.show(operator_, _POWER)} {self.show(operand, _ATOM)}", _POWER
            case ex.Sum(letter=letter, body=body):
                return rf"\sum_{{{letter}}} {self.show(body, _PRODUCT)}", _PRODUCT
            case ex.At(operand=operand_, where=where):
                places = ", ".join(f"{self.name(name)}={self.show(value)}" for name, value in where)
                return rf"\left.{self.show(operand_, _PRODUCT)}\right|_{{{places}}}", _ATOM
        raise AssertionError(f"no LaTeX for {type(node).__name__}; a new node type needs one")

    def _call(self, node: ex.Call) -> tuple[str, int]:
        known = FUNCTIONS.get(node.name, Function(name=node.name))
        if known.infix:
            left, right = (self.show(arg, _POWER) for arg in node.args)
            return f"{left} {known.infix} {right}", _PRODUCT
        args = ", ".join(self.show(arg) for arg in node.args)
        if node.name == "unit":
            return f"e_{{{args}}}", _ATOM
        if node.name == "transpose":
            return f"{self.show(node.args[0], _ATOM)}^{{T}}", _POWER
        return known.bracket.format(args) if known.bracket else rf"{known.head}\left({args}\right)", _ATOM
