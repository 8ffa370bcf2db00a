"""Parse tree → expression tree: statements, atoms and what follows them. Runs are in `runs`, calls in `calls`."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from lark import Token, Tree

from opdsl.errors import LanguageError, OpLimitError, OpSyntaxError, Span
from opdsl.grammar.declarations import MAX_ORDER
from opdsl.grammar.juxtaposition import Runs
from opdsl.grammar.symbol_table import Classified
from opdsl.grammar.tree_items import BROKEN, Argument, Group, Postfix, Prefix, PrimeOrder, span_of, spans_of_node
from opdsl.language import tree as ex
from opdsl.language.operator_application import is_operator


class Builder(Runs):
    """Builds the statements of one text."""

    def _call_userfunc(self, tree: Tree[Token], new_children: list[Any] | None = None) -> Any:
        """Call the method of a rule with its place and its children.

        Where something below is wrong and reported, go on with its neighbours, so that all errors are found.
        """
        children = new_children or []
        if tree.data != "start" and any(child is BROKEN for child in children):
            return BROKEN
        try:
            return getattr(self, tree.data)(Span(tree.meta.start_pos, tree.meta.end_pos), children)
        except LanguageError as error:
            if len(self.errors) < 20:
                self.errors.append(error)
            return BROKEN

    # ------------------------------------------------------------------------------ statements
    def start(self, span: Span, children: list[Any]) -> list[ex.Node]:
        statements: list[ex.Node] = [each for child in children if isinstance(child, list) for each in child]
        self.check_called_parameters(statements)
        return statements

    def definition(self, span: Span, children: list[Any]) -> list[ex.Node]:
        _, name, _, value = children
        assert isinstance(name, Classified)
        if not isinstance(name.payload, str):
            raise OpSyntaxError("let takes a new name", code="E031", spans=(name.lexeme.span,))
        return [ex.Definition(name.payload, value, span=name.lexeme.span.join(value.span))]

    def equation(self, span: Span, children: list[Any]) -> list[ex.Node]:
        """One equation, or the conditions of a chain such as ``u(x=-1) = u(x=1) = 0``."""
        label = children.pop(0) if isinstance(children[0], Classified) else None
        sides: list[ex.Node] = children[::2]
        *lefts, last = sides
        if len(lefts) > 1 and (label is not None or not all(any(isinstance(n, ex.At) for n in ex.walk(side)) for side in lefts)):
            self.chains.append(OpSyntaxError("an equation has one '='", code="E071", spans=(children[3].lexeme.span,),
                                             suggestion="separate equations by ';' or a line break"))
        for side in sides:
            if is_operator(side):
                raise OpSyntaxError("this operator has nothing to act on", code="E022", spans=spans_of_node(side),
                                    suggestion="write what it acts on after it, as in laplace(u)")
        self._warn_loose_terms(sides)
        name = str(label.payload) if label is not None else ""
        if not lefts:
            return [ex.EquationNode(name, last, None, named=label is not None, span=last.span)]
        return [ex.EquationNode(name, left, last, named=label is not None, span=span_of(left).join(last.span)) for left in lefts]

    # ------------------------------------------------------------------------------ units
    def prefix(self, span: Span, children: list[Any]) -> Prefix:
        token: Classified = children[0]
        powers: list[Postfix] = children[1:]
        span = token.lexeme.span
        if powers and powers[0].chained:
            raise OpSyntaxError("two powers on one operator", code="E024", spans=(powers[0].span,))
        symbol = token.lexeme.text if isinstance(token.payload, ex.Node) else ""
        power = powers[0].value if powers else None
        if powers and (powers[0].kind == "transpose" or (isinstance(power, ex.Const) and power.name == "T")):
            raise OpSyntaxError("an operator has no transpose", code="E024", spans=(powers[0].span,), suggestion="write (∇u)^T")
        return Prefix(token.payload, span.join(powers[0].span) if powers else span, power, symbol)

    def factor(self, span: Span, children: list[Any]) -> list[ex.Node]:
        """An atom and what follows it. A field before a parenthesis may turn out to be a product: then two factors."""
        atom, ops = children[0], children[1:]
        if isinstance(atom, Classified):
            atom = self._leaf(atom)
        if isinstance(atom, Group):
            node = self.checked(replace(atom.node, span=atom.span))
            if not ops and atom.bracket == "(":
                self.grouped.add(id(node))
        else:
            node = atom
        opened = {id(node)}
        before = ""
        while ops:
            op = ops.pop(0)
            if isinstance(op, Classified):
                op = Postfix(op.type.lower(), op.payload, op.lexeme.span)
            after_power, before = before == "power", op.kind
            if op.kind == "power":
                bare = isinstance(atom, Group) and atom.bracket == "(" and id(node) in opened
                node = self._power(node, op)
                if bare:
                    self.raised.add(id(node))
            elif op.kind == "transpose":
                node = self._transposed(node, op.span)
            elif op.kind == "sub":
                if after_power:
                    raise OpSyntaxError("a subscript after a power has two readings", code="E047", spans=(op.span,),
                                        suggestion="write u_x^2 for the square of the derivative, (u^2)_x for the derivative of the square")
                node = self.names.subscripted(node, op.value[0], op.value[1], (node.span or op.span).join(op.span), "u")
            elif op.kind == "prime":
                if after_power and id(node) in self.named_exponents:
                    raise OpSyntaxError("a prime after an exponent has two readings", code="E047", spans=(op.span,),
                                        suggestion="write (u^v)' or u^(v')")
                node = self._prime(node, op)
            else:
                made = self._application(node, op)
                if isinstance(made, ex.Node):
                    node = made
                    continue
                # A product: what follows binds to the parenthesis, not to the name.
                return [node, *self.factor(span, [made, *ops])]
        return [self.checked(node)]

    def _power(self, base: ex.Node, power: Postfix) -> ex.Node:
        exponent = power.value
        if isinstance(exponent, PrimeOrder):
            return self._derivative_of_only_coordinate(base, exponent.order, power.span)
        if isinstance(exponent, ex.Const) and exponent.name == "T":
            simple = isinstance(base, (ex.Field, ex.Param, ex.Coord, ex.Num, ex.Indexed))
            if self.has_rank(base, 2) or self.has_rank(base, 1) or ("T" not in self.names.params and not simple):
                return self._transposed(base, power.span)
            if "T" not in self.names.params:
                raise self.names.unknown("T", exponent.span or power.span)
            exponent = self.checked(ex.Param("T", span=exponent.span))
        if is_operator(exponent):
            raise OpSyntaxError("an operator cannot be an exponent", code="E024", spans=spans_of_node(exponent))
        span = (base.span or power.span).join(power.span)
        if is_operator(base):
            if isinstance(base, ex.Call):
                raise OpSyntaxError("(u·∇)^n is not supported", code="E025", spans=(span,),
                                    suggestion="write (u·∇)((u·∇)u)")
            return self._operator_power(base, exponent, "", span)
        natural = isinstance(base, ex.Const) and base.name == "e"
        node = self.checked(ex.Call("exp", (exponent,), span=span) if natural else ex.Pow(base, exponent, span=span))
        self.note_exponent(node, exponent, power, natural=natural)
        return node

    def _prime(self, node: ex.Node, op: Postfix) -> ex.Node:
        return self._derivative_of_only_coordinate(node, op.value, op.span)

    def _derivative_of_only_coordinate(self, node: ex.Node, order: int, at: Span) -> ex.Node:
        coords = self.names.decls.coords
        if len(coords) != 1 or coords[0].size is not None:
            known = ", ".join(str(c) for c in coords) or "none declared"
            raise OpSyntaxError(f"a prime needs exactly one coordinate, there are: {known}", code="E039", spans=(at,),
                                suggestion="write u_x or d_x u")
        if order > MAX_ORDER:
            raise OpLimitError(f"a derivative of order {order}; the limit is {MAX_ORDER}", code="E304", spans=(at,))
        operator = ex.Partial(((coords[0].name, None),) * order, span=at)
        return self.checked(ex.Apply(operator, node, span=(node.span or at).join(at)))

    # ------------------------------------------------------------------------------ postfixes and atoms
    def application(self, span: Span, children: list[Any]) -> Postfix:
        return Postfix("call", children[1], span)

    def power(self, span: Span, children: list[Any]) -> Postfix:
        first: Classified = children[0]
        above: Postfix | None = children.pop() if isinstance(children[-1], Postfix) else None
        if first.payload == "T":
            if above is not None:
                raise OpSyntaxError("a power of a transpose has two readings", code="E047", spans=(above.span,), suggestion="write (A^T)^2")
            return Postfix("transpose", None, first.lexeme.span)
        if first.type == "SUPER":
            size: ex.Node = ex.Num(Fraction(abs(int(str(first.payload)))), span=first.lexeme.span)
            raised = ex.Neg(size, span=size.span) if int(str(first.payload)) < 0 else size
            return self._raised(self.checked(raised), False, above, first.lexeme.span, open_=False)
        atom = self._leaf(children[-1]) if isinstance(children[-1], Classified) else children[-1]
        if any(c.lexeme.text == "+" for c in children[1:-1]):
            raise OpSyntaxError("an exponent is missing", code="E080", spans=(first.lexeme.span,),
                                suggestion="write u^2, u^(k+1) or u**2")
        negative = sum(1 for c in children[1:-1] if c.lexeme.text == "-") % 2 == 1
        span = first.lexeme.span.join(span_of(atom))
        open_ = not isinstance(atom, Group)
        if isinstance(atom, Group):
            if atom.bracket == "(" and isinstance(atom.node, ex.Num) and atom.node.value.denominator == 1 and not negative:
                raise OpSyntaxError(
                    f"u^({atom.node.value}) could be a power or a derivative", code="E043", spans=(span,),
                    suggestion=f"write u^{atom.node.value} for the power, d^{atom.node.value}u/dx^{atom.node.value} for the "
                    "derivative",
                )
            inner = atom.node
            if atom.bracket == "{" and id(inner) in self.grouped and isinstance(inner, ex.Num) and inner.value >= 1:
                if above is not None or negative:
                    raise OpSyntaxError("the order of a derivative takes no power", code="E043", spans=(span,),
                                        suggestion="write u^{…} for a power")
                return Postfix("power", PrimeOrder(int(inner.value), span=span), span)
            atom = inner
        return self._raised(atom, negative, above, span, open_=open_)

    def _raised(self, value: ex.Node, negative: bool, above: Postfix | None, span: Span, *, open_: bool) -> Postfix:
        """An exponent with the power that stands on it; the sign in front takes both."""
        if above is not None:
            if above.kind == "transpose":
                raise OpSyntaxError("an exponent has no transpose", code="E024", spans=(above.span,), suggestion="write (u^v)^T")
            if isinstance(above.value, PrimeOrder):
                raise OpSyntaxError("a derivative in an exponent is written out", code="E043", spans=(above.span,),
                                    suggestion="write u^(d^2v/dx^2)")
            span = span.join(above.span)
            value = self._power(value, above)
        if negative:
            value = self.checked(ex.Neg(value, span=span))
        return Postfix("power", value, span, open=open_ or (above is not None and above.open), chained=above is not None)

    def _leaf(self, token: Classified) -> ex.Node:
        if isinstance(token.payload, Fraction):
            return ex.Num(token.payload, span=token.lexeme.span)
        if not isinstance(token.payload, ex.Node):
            raise OpSyntaxError("a name is expected here", code="E031", spans=(token.lexeme.span,))
        return self.checked(token.payload)

    def group(self, span: Span, children: list[Any]) -> Group:
        node = children[1]
        if len(children) == 5:
            node = ex.Compare(children[2].lexeme.value, children[1], children[3], span=span)
        return Group(self.checked(node), str(children[0]), span)

    def bars(self, span: Span, children: list[Any]) -> ex.Node:
        name = "norm" if children[0].payload == "‖" else "abs"
        if is_operator(children[1]):
            raise OpSyntaxError("an operator stands between bars", code="E022", spans=(span,), suggestion="write |∇u|")
        return self.checked(ex.Call(name, (children[1],), span=span))

    def quotient(self, span: Span, children: list[Any]) -> ex.Node:
        token: Classified = children[0]
        operand = children[2]
        if len(operand) != 1 or not isinstance(token.payload, ex.Node):
            raise OpSyntaxError("a Leibniz quotient takes one operand", code="E020", spans=(token.lexeme.span,))
        node = self.checked(ex.Apply(token.payload, operand[0], span=span))
        self.derivatives.add(id(node))
        self.quotients.add(id(node))
        return node

    def argument(self, span: Span, children: list[Any]) -> Argument:
        if len(children) == 1:
            return Argument(children[0])
        return Argument(children[0], str(children[1].lexeme.value), children[2])

    def arguments(self, span: Span, children: list[Any]) -> list[Argument]:
        return [child for child in children if isinstance(child, Argument)]
