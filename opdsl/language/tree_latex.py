"""Printing in LaTeX."""

from __future__ import annotations

from opdsl.language import tree as ex
from opdsl.language.functions import FUNCTIONS, Function
from opdsl.language.operator_application import is_operator
from opdsl.language.system import System
from opdsl.language.tree_text import ATOM, POWER, PRODUCT, SUM, Written, number_text, texts_of

_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega "
    "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split()
)


def system_latex(system: System) -> str:
    """Return the equations as LaTeX."""
    texts = iter(text for text, _ in texts_of(system.expressions, _node))
    lines = [rf"{_name(d.name)} := {next(texts)}" for d in system.definitions]
    for equation in system.equations:
        left = next(texts)
        lines.append(left if equation.right is None else f"{left} = {next(texts)}")
    if len(lines) == 1:
        return lines[0]
    return "\\begin{aligned}\n" + " \\\\\n".join(f"& {line}" for line in lines) + "\n\\end{aligned}"


def _name(name: str) -> str:
    """``nu`` → ``\\nu``, ``eps0`` → ``\\mathrm{eps0}``."""
    base, *subs = name.split("_")
    shown = f"\\{base}" if base in _GREEK else base if len(base) == 1 else rf"\mathrm{{{base}}}"
    return shown + (f"_{{{' '.join(subs)}}}" if subs else "")


def _enclosed(written: Written, level: int) -> str:
    """A text, in parentheses where it binds weaker than ``level``."""
    return written[0] if written[1] >= level else rf"\left({written[0]}\right)"


def _node(node: ex.Node, below: tuple[Written, ...]) -> Written:
    """Write a node from the LaTeX of its children."""
    match node:
        case ex.Num(value=value):
            if value.denominator == 1:
                return str(value), ATOM if value >= 0 else SUM
            return number_text(value)[0], ATOM
        case ex.Const(name=name):
            return {"position": "x", "epsilon": r"\varepsilon", "delta": r"\delta"}.get(name, _name(name)), ATOM
        case ex.Field(name=name) | ex.Param(name=name) | ex.Coord(name=name) | ex.Ref(name=name):
            return _name(name), ATOM
        case ex.Indexed(indices=indices):
            return f"{_enclosed(below[0], ATOM)}_{{{' '.join(map(str, indices))}}}", ATOM
        case ex.Add(terms=terms):
            out = ""
            for k, (term, (text, binds)) in enumerate(zip(terms, below, strict=True)):
                # The text of a negative term begins with its sign.
                negative = isinstance(term, ex.Neg)
                shown = text[1:] if negative else _enclosed((text, binds), PRODUCT)
                out += ("-" if negative else "") + shown if k == 0 else f" {'-' if negative else '+'} {shown}"
            return out, SUM
        case ex.Neg():
            return f"-{_enclosed(below[0], PRODUCT)}", SUM
        case ex.Mul(factors=factors):
            shown, *others = (_enclosed(f, PRODUCT) for f in below)
            for before, part in zip(factors, others, strict=False):
                shown += (r" \cdot " if part[0].isdigit() or is_operator(before) else r" \, ") + part
            return shown, PRODUCT
        case ex.Div():
            return rf"\frac{{{below[0][0]}}}{{{below[1][0]}}}", POWER
        case ex.Pow():
            return f"{_enclosed(below[0], ATOM)}^{{{below[1][0]}}}", POWER
        case ex.Call():
            return _call(node.name, below)
        case ex.Compare(operator=operator):
            symbol = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne", "==": "="}.get(operator, operator)
            return f"{below[0][0]} {symbol} {below[1][0]}", SUM
        case ex.Partial(axes=axes):
            over = " ".join(_name(n) + (f"_{{{w}}}" if w is not None else "") if n else str(w) for n, w in axes)
            return rf"\partial_{{{over}}}", POWER
        case ex.Nabla(name=name):
            known = {"grad": r"\nabla", "div": r"\nabla\cdot", "curl": r"\nabla\times", "laplace": r"\Delta"}
            known |= {"hess": r"\nabla\nabla", "dn": r"\partial_n"}
            return known.get(name, rf"\operatorname{{{name}}}"), POWER
        case ex.Apply():
            return f"{_enclosed(below[0], POWER)} {_enclosed(below[1], ATOM)}", POWER
        case ex.SumOver(letter=letter):
            return rf"\sum_{{{letter}}} {_enclosed(below[0], PRODUCT)}", PRODUCT
        case ex.At(where=where):
            places = ", ".join(f"{_name(name)}={value}" for (name, _), (value, _) in zip(where, below[1:], strict=True))
            return rf"\left.{_enclosed(below[0], PRODUCT)}\right|_{{{places}}}", ATOM
    raise AssertionError(f"no LaTeX for {type(node).__name__}; a new node type needs one")


def _call(name: str, below: tuple[Written, ...]) -> Written:
    known = FUNCTIONS.get(name, Function(name=name))
    if known.infix:
        left, right = (_enclosed(arg, POWER) for arg in below)
        return f"{left} {known.infix} {right}", PRODUCT
    args = ", ".join(text for text, _ in below)
    if known.raised:
        return f"{_enclosed(below[0], ATOM)}^{{{known.raised}}}", POWER
    return known.bracket.format(args) if known.bracket else rf"{known.head}\left({args}\right)", ATOM
