"""Printing in LaTeX."""

from __future__ import annotations

from opdsl.language import tree as ex
from opdsl.language.functions import FUNCTIONS, Function
from opdsl.language.operator_application import is_operator
from opdsl.language.system import System
from opdsl.language.tree_text import ATOM, POWER, PRODUCT, SUM, number_text

_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split()
)


def system_latex(system: System) -> str:
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

    def show(self, node: ex.Node, level: int = SUM) -> str:
        """Print with parentheses where the node binds weaker than ``level``."""
        text, binds = self._node(node)
        return text if binds >= level else rf"\left({text}\right)"

    def _node(self, node: ex.Node) -> tuple[str, int]:
        match node:
            case ex.Num(value=value):
                if value.denominator == 1:
                    return str(value), ATOM if value >= 0 else SUM
                return number_text(value)[0], ATOM
            case ex.Const(name=name):
                return {"position": "x", "epsilon": r"\varepsilon", "delta": r"\delta"}.get(name, self.name(name)), ATOM
            case ex.Field(name=name) | ex.Param(name=name) | ex.Coord(name=name) | ex.Ref(name=name):
                return self.name(name), ATOM
            case ex.Indexed(base=base, indices=indices):
                return f"{self.show(base, ATOM)}_{{{' '.join(map(str, indices))}}}", ATOM
            case ex.Add(terms=terms):
                out = ""
                for k, term in enumerate(terms):
                    negative = isinstance(term, ex.Neg)
                    text = self.show(term.operand if isinstance(term, ex.Neg) else term, PRODUCT)
                    out += ("-" if negative else "") + text if k == 0 else f" {'-' if negative else '+'} {text}"
                return out, SUM
            case ex.Neg(operand=inner):
                return f"-{self.show(inner, PRODUCT)}", SUM
            case ex.Mul(factors=factors):
                parts = [self.show(f, PRODUCT) for f in factors]
                joined = parts[0]
                for before, part in zip(factors, parts[1:], strict=False):
                    dot = r" \cdot " if part[0].isdigit() or is_operator(before) else r" \, "
                    joined += dot + part
                return joined, PRODUCT
            case ex.Div(top=top, bottom=bottom):
                return rf"\frac{{{self.show(top)}}}{{{self.show(bottom)}}}", POWER
            case ex.Pow(base=base, exponent=exponent):
                return f"{self.show(base, ATOM)}^{{{self.show(exponent)}}}", POWER
            case ex.Call():
                return self._call(node)
            case ex.Compare(operator=operator, left=left, right=right):
                symbol = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne", "==": "="}.get(operator, operator)
                return f"{self.show(left)} {symbol} {self.show(right)}", SUM
            case ex.Partial(axes=axes):
                below = " ".join(self.name(n) + (f"_{{{w}}}" if w is not None else "") if n else str(w) for n, w in axes)
                return rf"\partial_{{{below}}}", POWER
            case ex.Nabla(name=name):
                known = {"grad": r"\nabla", "div": r"\nabla\cdot", "curl": r"\nabla\times", "laplace": r"\Delta"}
                known |= {"hess": r"\nabla\nabla", "dn": r"\partial_n"}
                return known.get(name, rf"\operatorname{{{name}}}"), POWER
            case ex.Apply(operator=operator_, operand=operand):
                return f"{self.show(operator_, POWER)} {self.show(operand, ATOM)}", POWER
            case ex.Sum(letter=letter, body=body):
                return rf"\sum_{{{letter}}} {self.show(body, PRODUCT)}", PRODUCT
            case ex.At(operand=operand_, where=where):
                places = ", ".join(f"{self.name(name)}={self.show(value)}" for name, value in where)
                return rf"\left.{self.show(operand_, PRODUCT)}\right|_{{{places}}}", ATOM
        raise AssertionError(f"no LaTeX for {type(node).__name__}; a new node type needs one")

    def _call(self, node: ex.Call) -> tuple[str, int]:
        known = FUNCTIONS.get(node.name, Function(name=node.name))
        if known.infix:
            left, right = (self.show(arg, POWER) for arg in node.args)
            return f"{left} {known.infix} {right}", PRODUCT
        args = ", ".join(self.show(arg) for arg in node.args)
        if node.name == "unit":
            return f"e_{{{args}}}", ATOM
        if node.name == "transpose":
            return f"{self.show(node.args[0], ATOM)}^{{T}}", POWER
        return known.bracket.format(args) if known.bracket else rf"{known.head}\left({args}\right)", ATOM
