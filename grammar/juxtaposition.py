"""Sums, products and runs: what a prefix acts on.

A prefix acts on the next unit with its power or call (``a_ij d_i d_j u v`` is ``(a:∂∂u) v``); an operator in parentheses acts on
the unit after it; a function without parentheses takes one unit and is refused where a second one follows, because ``sin 2 x``
has two readings.

The grammar carries sums, products, explicit sums, powers, and a prefix with its own power. Where the operand of a prefix ends it
cannot: ``d_x u(x)^2`` is d_x (u²), for u(x) is the field itself, and ``d_x u(v)^2`` is (d_x u) v², for u(v) is a product. Both are
PREFIX VALUE CALL VALUE RPAR POWER NUMBER; whether a parenthesis holds all coordinates, a place such as u(0, x), or a factor is
known from its tree and from the declarations. So a run is associated here, and operators in parentheses with it: the grammar
could tell ``(d_t - lap) u`` from ``(d_t - u) v``, but only with every rule between a sum and a factor written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from opdsl.errors import OpLimitError, OpSyntaxError, Span
from opdsl.grammar.applications import Calls
from opdsl.grammar.declarations import MAX_ORDER
from opdsl.grammar.symbol_table import Classified
from opdsl.grammar.tree_items import Argument, Item, Postfix, Prefix, differentiates, has_field, joined, span_of, spans_of_node
from opdsl.language import tree as ex
from opdsl.language.operator_application import check_operator_product, is_operator


class Runs(Calls):
    """Builds sums, products and runs."""

    # ------------------------------------------------------------------------------ sums and products
    def sum(self, span: Span, children: list[Any]) -> ex.Node:
        terms: list[ex.Node] = []
        negative, start = False, None
        for child in children:
            if isinstance(child, Classified):
                negative ^= child.lexeme.text == "-"
                start = child.lexeme.span if start is None else start
                continue
            span = child.span if start is None else start.join(child.span)
            terms.append(self.checked(ex.Neg(child, span=span)) if negative else child)
            negative, start = False, None
        if len(terms) == 1:
            return terms[0]
        self._mixed_operator_terms(terms)
        return self.checked(ex.Add(tuple(terms), span=joined(terms)))

    def _mixed_operator_terms(self, terms: Sequence[ex.Node]) -> None:
        operators = [t for t in terms if is_operator(t)]
        plain = [t for t in terms if not is_operator(t)]
        if operators and any(differentiates(t) for t in plain):
            first = next(t for t in plain if differentiates(t))
            raise OpSyntaxError("an operator [^] and a value [~] cannot be added", code="E029",
                                spans=(*spans_of_node(operators[0]), *spans_of_node(first)),
                                suggestion="write what the operator acts on after it")

    def term(self, span: Span, children: list[Any]) -> ex.Node:
        """Associate from the left. An explicit sum stands last, in the run before it if there is one."""
        if isinstance(children[-1], ex.SumOver):
            before = children[-2] if len(children) > 1 and isinstance(children[-2], list) else []
            children[-1 - bool(before) :] = [[*before, children[-1]]]
        return self._fold(children)

    def summed(self, span: Span, children: list[Any]) -> ex.Node:
        token: Classified = children[0]
        if len(children) > 1 and isinstance(children[1], Postfix):
            raise OpSyntaxError("the end of the sum, or a power of it?", code="E017", spans=(token.lexeme.span.join(children[1].span),),
                                suggestion=f"write sum_{token.payload}(…) over all space coordinates, (sum_{token.payload}(…))^2 for a power")
        if not isinstance(children[-1], ex.Node):
            raise OpSyntaxError("the sum has no body", code="E027", spans=(token.lexeme.span,), suggestion="write sum_i(...)")
        body = children[-1]
        for letter in reversed(str(token.payload)):
            body = self.checked(ex.SumOver(letter, body, span=token.lexeme.span.join(body.span)))
        return body

    def _fold(self, items: list[Any]) -> ex.Node:
        """A product stays open while it grows; one in parentheses keeps its own index sums."""
        product: list[ex.Node] = []
        operation: tuple[str, Span] | None = None
        negative = False
        last: ex.Node = ex.Num(Fraction(1))
        for item in items:
            if isinstance(item, Classified):
                if item.type == "SIGN":
                    negative ^= item == "-"
                else:
                    operation = (str(item), item.lexeme.span)
                continue
            factors = self._run(item)
            self.check_neighbours(factors)
            if operation is not None and operation[0] == "/":
                self.check_quotient(product, last, operation[1], item, factors)
            last = factors[-1]
            if negative:
                factors[0] = self.checked(ex.Neg(factors[0], span=factors[0].span))
                negative = False
            for k, factor in enumerate(factors):
                symbol = "*" if k or operation is None else operation[0]
                if product and symbol != "*":
                    product = [self._combine(symbol, self._closed(product), factor)]
                else:
                    if product:
                        check_operator_product((product[-1], factor))
                    product.append(factor)
        return self._closed(product)

    def _closed(self, product: list[ex.Node]) -> ex.Node:
        return product[0] if len(product) == 1 else self.checked(ex.Mul(tuple(product), span=joined(product)))

    def _combine(self, symbol: str, left: ex.Node, right: ex.Node) -> ex.Node:
        span = (left.span or Span(0, 0)).join(right.span)
        match symbol:
            case "/":
                if is_operator(right):
                    raise OpSyntaxError("division by an operator", code="E030", spans=spans_of_node(right))
                if isinstance(right, ex.Num) and right.value == 0:
                    raise OpSyntaxError("division by zero", code="E032", spans=spans_of_node(right))
                return self.checked(ex.Div(left, right, span=span))
            case "·":
                return self._dot(left, right, span)
            case "×":
                return self.checked(ex.Call("cross", (left, right), span=span))
            case "⊗":
                return self.checked(ex.Call("outer", (left, right), span=span))
        return self.checked(ex.Call("ddot", (left, right), span=span))

    def _dot(self, left: ex.Node, right: ex.Node, span: Span) -> ex.Node:
        if is_operator(left):
            raise OpSyntaxError("an operator stands before ·", code="E033", spans=spans_of_node(left),
                                suggestion="write ∇·(…) for a divergence")
        if is_operator(right) and not (isinstance(right, ex.Nabla) and right.name == "grad"):
            raise OpSyntaxError("· takes ∇ or a vector", code="E033", spans=spans_of_node(right), suggestion="write (u·∇)v")
        return self.checked(ex.Call("dot", (left, right), span=span))

    # ------------------------------------------------------------------------------ transposes
    def _transposed(self, node: ex.Node, at: Span) -> ex.Node:
        made = self.checked(ex.Call("transpose", (node,), span=(node.span or at).join(at)))
        self.transposed.add(id(made))
        return made

    # ------------------------------------------------------------------------------ runs
    def run(self, span: Span, children: list[Any]) -> list[Item]:
        out: list[Item] = []
        for child in children:
            if isinstance(child, list):
                out.extend(child)
            else:
                out.append(child)
        return out

    def _run(self, items: list[Item]) -> list[ex.Node]:
        factors: list[ex.Node] = []
        at = 0
        while at < len(items):
            factor, at = self._take(items, at)
            factors.append(factor)
        return factors

    def _take(self, items: list[Item], start: int) -> tuple[ex.Node, int]:
        """Return the factor that starts at ``start``; prefixes are collected and applied from the right."""
        pending: list[Prefix | ex.Node] = []
        at = start
        while at < len(items):
            item = items[at]
            at += 1
            if isinstance(item, Prefix) or is_operator(item):
                pending.append(item)
                if len(pending) > MAX_ORDER:
                    raise OpLimitError(f"more than {MAX_ORDER} operators in a row", code="E304", spans=(span_of(item),))
                continue
            return self._apply_all(pending, item, items, at), at
        # Nothing left to act on: an operator as a value, or a product of operators.
        operators = [self._operator(p) for p in pending]
        if len(operators) == 1:
            return operators[0], at
        return self.checked(ex.Mul(tuple(operators), span=joined(operators))), at

    def _apply_all(self, pending: list[Prefix | ex.Node], operand: ex.Node, items: list[Item], at: int) -> ex.Node:
        following = items[at] if at < len(items) else None
        result = operand
        innermost = True
        for prefix in reversed(pending):
            if isinstance(prefix, Prefix) and isinstance(prefix.what, str):
                result = self._function_prefix(prefix, result, following)
                continue
            operator = self._operator(prefix)
            if innermost:
                self.check_chain(prefix, operator, result, items[at:])
            innermost = False
            span = span_of(prefix).join(result.span)
            if isinstance(operator, ex.Nabla) and id(result) in self.transposed and self.has_rank(ex.children(result)[0], 1):
                # ``∇u^T`` of a vector u: a vector has no transpose, its gradient has.
                result = self._transposed(self.checked(ex.Apply(operator, ex.children(result)[0], span=span)), span)
                continue
            made = self.checked(ex.Apply(operator, result, span=span))
            if id(result) in self.bare_functions:
                self.bare_functions[id(made)] = self.bare_functions[id(result)]
            result = made
        self._warn_product(pending, operand, following)
        return result

    def _warn_product(self, pending: list[Prefix | ex.Node], operand: ex.Node, following: Item | None) -> None:
        last = pending[-1] if pending else None
        if isinstance(last, Prefix) and isinstance(last.what, ex.Node) and last.symbol and id(operand) in self.raised:
            self.warn(f"{last.symbol}(…)^n differentiates the power; write ({last.symbol} …)^n for a power of the derivative")
        if last is None or following is None or isinstance(following, Prefix) or id(operand) in self.grouped:
            return
        if isinstance(last, Prefix) and isinstance(last.what, ex.Node) and last.symbol and has_field(following):
            self.warn(f"{last.symbol} acts on the next factor only; write {last.symbol}(…) to differentiate a product")

    def _function_prefix(self, prefix: Prefix, operand: ex.Node, following: Item | None) -> ex.Node:
        if following is not None and not isinstance(following, Prefix) and id(operand) not in self.grouped:
            raise OpSyntaxError(
                f"{prefix.what} without parentheses before a product has two readings", code="E035",
                spans=(prefix.span.join(span_of(following)),), suggestion=f"write {prefix.what}(…)",
            )
        name = str(prefix.what)
        node = self._call(name, [Argument(operand)], prefix.span.join(operand.span))
        if prefix.power is not None:
            exponent = prefix.power
            if isinstance(exponent, ex.Neg) or (isinstance(exponent, ex.Num) and exponent.value < 0):
                raise OpSyntaxError(f"{name}^-1 could be the inverse function or a reciprocal", code="E036",
                                    spans=(prefix.span,), suggestion=f"write {'ar' if name[-1] == 'h' else 'arc'}{name}(…) or 1/{name}(…)")
            node = self.checked(ex.Pow(node, exponent, span=node.span))
        if id(operand) not in self.grouped:
            self.bare_functions[id(node)] = (name, self.written(prefix), self.written(operand))
        return node

    def _operator(self, item: Prefix | ex.Node) -> ex.Node:
        if isinstance(item, ex.Node):
            return item
        if isinstance(item.what, str):
            raise OpSyntaxError(f"{item.what} has no argument", code="E027", spans=(item.span,),
                                suggestion=f"write {item.what}(…)")
        assert isinstance(item.what, ex.Node)
        if item.power is None:
            return item.what
        return self._operator_power(item.what, item.power, item.symbol, item.span)

    def _operator_power(self, operator: ex.Node, power: ex.Node, symbol: str, span: Span) -> ex.Node:
        if not isinstance(power, ex.Num) or power.value.denominator != 1 or power.value < 1:
            raise OpSyntaxError("an operator can only be raised to a positive whole number", code="E024", spans=(span,))
        count = int(power.value)
        if isinstance(operator, ex.Partial):
            if count * len(operator.axes) > MAX_ORDER:
                raise OpLimitError(f"a derivative of order {count * len(operator.axes)}; the limit is {MAX_ORDER}",
                                   code="E304", spans=(span,))
            return replace(operator, axes=operator.axes * count, span=span)
        if isinstance(operator, ex.Nabla) and symbol == "∇":
            if count % 2:
                raise OpSyntaxError(f"∇^{count} is not defined: odd powers of ∇", code="E037", spans=(span,),
                                    suggestion="write grad(laplace(u)) for ∇∇²u")
            operator, count = ex.Nabla("laplace", span=span), count // 2
        elif isinstance(operator, ex.Nabla) and operator.name == "hess" and symbol == "D":
            if count != 2:
                raise OpSyntaxError(f"D^{count} is not defined", code="E038", spans=(span,), suggestion="D²u is the Hessian")
            return operator
        return operator if count == 1 else ex.Pow(operator, ex.Num(Fraction(count)), span=span)
