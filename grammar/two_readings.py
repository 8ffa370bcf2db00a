"""Places that a mathematician could read in two ways; they are refused, and the message shows both readings.

``u/2x`` may be u/(2x) or (u/2)x, ``cos u/2`` cos(u/2) or cos(u)/2, ``∂_x k ∂_x u`` ∂_x(k ∂_x u) or (∂_x k)(∂_x u), ``u^1/2`` a root
or a half. A blank, a bracket or a star tells which is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from opdsl.errors import OpSyntaxError, Span
from opdsl.grammar.symbol_table import Classified, Classifier
from opdsl.grammar.tree_items import Item, Postfix, Prefix, Stage, calls_user, has_field, span_of
from opdsl.grammar.vocabulary import FUNCTIONS
from opdsl.language import tree as ex
from opdsl.language.functions import ELEMENTARY
from opdsl.language.operator_application import is_operator

_SHOWN = 40


class TwoReadings(Stage):
    """What a builder remembers of the text, and the checks that need it."""

    def __init__(self, tokens: Sequence[Classified], classifier: Classifier, source: str) -> None:
        super().__init__(tokens, classifier)
        self.source = source
        # Sets of identities, as `grouped`: see `Stage.kept`.
        self.bare_functions: dict[int, tuple[str, str, str]] = {}
        self.open_exponentials: set[int] = set()
        self.open_negative: set[int] = set()
        self.named_exponents: set[int] = set()
        self.derivatives: set[int] = set()
        self.called_parameters: dict[int, OpSyntaxError] = {}
        self._first: dict[int, int] = {}
        for number, token in enumerate(tokens):
            self._first.setdefault(token.lexeme.span.start, number)

    # ------------------------------------------------------------------------------ the text
    def written(self, *items: ex.Node | Item) -> str:
        """What the user wrote from the first to the last of these items."""
        return self.text(span_of(items[0]).start, span_of(items[-1]).stop)

    def text(self, start: int, stop: int) -> str:
        """A piece of the user's text, if it is short and can be read by itself."""
        text = " ".join(self.source[start:stop].split())
        whole = all(text.count(a) == text.count(b) for a, b in ("()", "{}"))
        return text if whole and len(text) <= _SHOWN else "…"

    def glued(self, start: int) -> bool:
        """Say whether what starts there follows without a blank."""
        number = self._first.get(start, 0)
        return number > 0 and self.tokens[number - 1].lexeme.tight

    # ------------------------------------------------------------------------------ powers
    def note_exponent(self, node: ex.Node, exponent: ex.Node, power: Postfix, *, natural: bool) -> None:
        """Remember how an exponent ends."""
        while isinstance(exponent, ex.Neg | ex.Pow):
            exponent = exponent.operand if isinstance(exponent, ex.Neg) else exponent.exponent
        if isinstance(exponent, ex.Field | ex.Param | ex.Ref | ex.Coord):
            self.named_exponents.add(id(node))
        if power.open and natural:
            self.open_exponentials.add(id(node))
        if power.open and isinstance(power.value, ex.Neg) and isinstance(power.value.operand, ex.Num):
            self.open_negative.add(id(node))

    def _exponential_goes_on(self, factor: ex.Node, following: ex.Node) -> None:
        """``e^-2x``, ``e^-k(u-1)``."""
        if id(factor) in self.open_exponentials and self.glued(span_of(following).start):
            power, rest = self.written(factor), self.written(following)
            head, _, exponent = power.partition("^") if "^" in power else power.partition("**")
            raise OpSyntaxError(
                "it is not clear where the exponent ends", code="E049", spans=(span_of(factor).join(span_of(following)),),
                suggestion=f"write {head}^({exponent.lstrip('*')} {rest}) or {power} * {rest}",
            )

    def _power_before_slash(self, top: ex.Node, slash: Span, bottom: ex.Node) -> None:
        """``u^1/2``, ``k^-5/3``, ``e^-x^2/2``."""
        if id(top) in self.grouped:
            return
        glued = self.glued(slash.start) and self.glued(span_of(bottom).start)
        root = isinstance(top, ex.Pow) and isinstance(top.exponent, ex.Num) and top.exponent.value == 1
        negative = id(top) in self.open_negative and isinstance(bottom, ex.Num) and glued
        negative = negative and not (isinstance(top, ex.Pow) and isinstance(top.base, ex.Num))
        if root or negative or (id(top) in self.open_exponentials and glued):
            power, below = self.written(top), self.written(bottom)
            head, _, exponent = power.replace("**", "^").partition("^")
            raise OpSyntaxError(
                "it is not clear whether the slash belongs to the exponent", code="E049",
                spans=(span_of(top).join(span_of(bottom)),), suggestion=f"write {head}^({exponent}/{below}) or ({power})/{below}",
            )

    # ------------------------------------------------------------------------------ quotients
    def check_quotient(
        self, product: Sequence[ex.Node], top: ex.Node, slash: Span, items: Sequence[Item], factors: Sequence[ex.Node]
    ) -> None:
        """A product, ending with ``top``, before a slash, and the run of ``items`` that gave ``factors`` behind it."""
        bottom = factors[0]
        self._power_before_slash(top, slash, bottom)
        name, head, argument = self.bare_functions.get(id(top), ("", "", ""))
        # A quotient by a number is the same inside and outside of a linear function.
        if name and (not FUNCTIONS[name].linear or has_field(bottom)):
            below = self.written(bottom)
            raise OpSyntaxError(
                f"{name} without parentheses before a quotient has two readings", code="E035",
                spans=(span_of(top).join(span_of(bottom)),),
                suggestion=f"write {head}({argument}/{below}) or {head}({argument})/{below}",
            )
        if len(factors) == 1 or id(bottom) in self.grouped:
            return
        following = factors[1]
        start = span_of(following).start
        acts = id(following) in self.derivatives or any(
            span_of(item).start == start for item in items if isinstance(item, Prefix) and isinstance(item.what, ex.Node)
        )
        if self.glued(start) and not acts:
            above, first, rest = self.written(*product), self.text(slash.stop, span_of(bottom).stop), self.written(following)
            raise OpSyntaxError(
                "a product after a slash has two readings", code="E048", spans=(slash.join(span_of(following)),),
                suggestion=f"write {above}/({first} {rest}) or ({above}/{first}) {rest}",
            )
        if not isinstance(bottom, ex.Num):
            self.warn("a/b c is read from left to right as (a/b) c; write parentheses to be explicit")

    def _is_literal(self, node: ex.Node) -> bool:
        number = self._first.get(span_of(node).start, 0)
        return isinstance(node, ex.Num) and self.tokens[number].type == "NUMBER"

    def check_neighbours(self, factors: Sequence[ex.Node]) -> None:
        """Factors side by side: ``e^-2x``, ``10 000 u``."""
        for left, right in pairwise(factors):
            self._exponential_goes_on(left, right)
            if self._is_literal(left) and self._is_literal(right):
                raise OpSyntaxError("two numbers stand next to each other", code="E018", spans=(span_of(left).join(span_of(right)),),
                                    suggestion="write one number without blanks, or * between two")

    # ------------------------------------------------------------------------------ operators
    def check_chain(self, prefix: Prefix | ex.Node, operator: ex.Node, operand: ex.Node, rest: Sequence[Item]) -> None:
        """``∇·k∇u``, ``∂_x k ∂_x u``, ``∂_r r² ∂_r u``: the derivative of a product, or a product of derivatives?

        A field alone is an operand, as in ``d_i u_j d_j u_i``.
        """
        number = next((number for number, item in enumerate(rest) if self._differentiates(item)), None)
        if id(operand) in self.grouped:
            return
        if self._is_literal(operand) and rest:
            raise OpSyntaxError("the derivative of a number", code="E034", spans=(span_of(prefix).join(span_of(operand)),),
                                suggestion=f"write {self.written(prefix)}(…) around what it acts on")
        divergence = isinstance(operator, ex.Nabla) and operator.name == "div"
        if number is None or (self._is_tensor(operand) if divergence else self._is_unknown(operand)):
            return
        end = span_of(rest[min(number + isinstance(rest[number], Prefix), len(rest) - 1)]).stop
        head, inner = self.written(prefix), self.text(span_of(operand).start, span_of(rest[number]).start)
        last = self.text(span_of(rest[number]).start, end)
        if "…" in (head, inner, last):
            head, inner, last = "∂_x", "k", "∂_x u"
        other = "" if divergence else f" or ({head} {inner}) {last}"
        raise OpSyntaxError(
            "the derivative of a product, or a product of derivatives?", code="E034", spans=(Span(span_of(prefix).start, end),),
            suggestion=f"write {head}({inner} {last}){other}",
        )

    # ------------------------------------------------------------------------------ parameters before a parenthesis
    def note_call(self, node: ex.Node, argument: ex.Node, parenthesis: Span) -> None:
        """``k(u)`` of a parameter is a product, unless it is differentiated or primed: then k' is missing, or meant."""
        base = node
        while isinstance(base, ex.Indexed | ex.Apply):
            base = base.base if isinstance(base, ex.Indexed) else base.operand
        if not isinstance(base, ex.Param) or not has_field(argument) or not self.glued(parenthesis.start) or _has_flux(argument):
            return
        inside = self.text(parenthesis.start + 1, parenthesis.stop - 1)
        factor = inside if isinstance(argument, ex.Field | ex.Ref) else f"({inside})"
        error = OpSyntaxError(
            f"{self.written(node)}({inside}): a function of {inside}, or a product?", code="E056",
            spans=(span_of(node).join(parenthesis),),
            suggestion=f'declare functions="{base.name}" for a function, or write {self.written(node)}*{factor} for a product',
        )
        if isinstance(node, ex.Apply):
            raise error
        self.called_parameters[id(node)] = error

    def check_called_parameters(self, statements: Sequence[ex.Node]) -> None:
        """Refuse them where they are differentiated, in the text or by way of a definition."""
        if not self.called_parameters:
            return
        defined = {s.name: s.value for s in statements if isinstance(s, ex.Definition)}
        stack: list[tuple[ex.Node, bool]] = [(value, False) for value in defined.values()]
        for statement in statements:
            if isinstance(statement, ex.EquationNode):
                stack += [(side, False) for side in (statement.left, statement.right) if side is not None]
        seen: set[tuple[int, bool]] = set()
        while stack:
            node, differentiated = stack.pop()
            if (id(node), differentiated) in seen:
                continue
            seen.add((id(node), differentiated))
            if differentiated and id(node) in self.called_parameters:
                raise self.called_parameters[id(node)]
            if isinstance(node, ex.Ref) and differentiated and node.name in defined:
                stack.append((defined[node.name], True))
            operand = node.operand if isinstance(node, ex.Apply) else None
            stack += [(child, differentiated or child is operand) for child in ex.children(node)]

    def _differentiates(self, item: Item) -> bool:
        if isinstance(item, Prefix):
            return isinstance(item.what, ex.Node)
        return id(item) in self.derivatives or is_operator(item)

    def _is_unknown(self, node: ex.Node) -> bool:
        """A field, a component or a derivative of one, or a name that stands for something defined."""
        while isinstance(node, ex.Indexed | ex.Apply | ex.At):
            node = node.base if isinstance(node, ex.Indexed) else node.operand
        return isinstance(node, ex.Ref) or (isinstance(node, ex.Field) and node.name not in self.names.only_before_operators)

    def _is_tensor(self, node: ex.Node) -> bool:
        """Something with a divergence of its own, as far as the text tells."""
        while isinstance(node, ex.Apply | ex.At):
            if not isinstance(node, ex.At) and isinstance(node.operator, ex.Nabla):
                return True
            node = node.operand
        match node:
            case ex.Field(name=name):
                return bool(self.names.fields[name].shape)
            case ex.Param(name=name):
                return bool(self.names.params[name].shape)
            case ex.Call(name=name):
                return name not in ELEMENTARY and not calls_user(node, self.names)
        return not isinstance(node, (ex.Num, ex.Coord, ex.Pow))


def _has_flux(node: ex.Node) -> bool:
    """A sum with a derivative among its terms, as in ``mu(∇u + transpose(∇u))``: nobody evaluates a function there."""
    return isinstance(node, ex.Add) and any(_is_flux(term) for term in node.terms)


def _is_flux(node: ex.Node) -> bool:
    match node:
        case ex.Apply():
            return True
        case ex.Neg(operand=inner) | ex.Div(top=inner):
            return _is_flux(inner)
        case ex.Mul(factors=many):
            return any(_is_flux(factor) for factor in many)
        case ex.Call(name=name, args=args):
            return name in FUNCTIONS and FUNCTIONS[name].linear and _is_flux(args[0])
    return False
