"""Functions, and what a parenthesis after a name means: evaluation, restriction, or a product."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from opdsl.errors import OpLimitError, OpNameError, OpSyntaxError, Span
from opdsl.grammar.declarations import MAX_ORDER
from opdsl.grammar.symbol_table import Classified
from opdsl.grammar.tree_items import Argument, Group, Postfix, calls_user, has_field, shown, spans_of_node
from opdsl.grammar.two_readings import TwoReadings
from opdsl.grammar.vocabulary import FUNCTIONS
from opdsl.language import tree as ex
from opdsl.language.functions import Function
from opdsl.language.operator_application import is_operator

Where = tuple[tuple[str, ex.Node], ...]
"""Coordinates and the values they are fixed at."""


class Calls(TwoReadings):
    """Builds calls, restrictions and ``diff``."""

    # ------------------------------------------------------------------------------ a name before a parenthesis
    def _application(self, node: ex.Node, op: Postfix) -> ex.Node | Group:
        arguments: list[Argument] = op.value
        span = (node.span or op.span).join(op.span)
        if any(a.relation == "=" for a in arguments):
            return self._restriction(node, arguments, span)
        if any(a.relation for a in arguments):
            raise OpSyntaxError("a comparison stands here", code="E040", spans=(op.span,), suggestion="write where(u > 0, a, b)")
        values = [a.left for a in arguments]
        names = [v.name for v in values if isinstance(v, ex.Coord)]
        evaluable = not isinstance(node, (ex.Num, ex.Coord, ex.Const))
        quotient = id(node) in self.quotients
        everywhere = len(names) == len(values) and len(set(names)) == len(names)
        if everywhere and evaluable and (not quotient or len(names) == len(self.names.decls.coords)):
            self._declared_order(node, names, span)
            if quotient and len(names) == 1:
                self.warn(f"∂u/∂{names[0]} ({names[0]}) is the derivative at {names[0]}; write {names[0]}*∂u/∂{names[0]} for the product")
            return node
        if evaluable and (where := self._positions(node, values, span)):
            return self._at(node, where, span)
        if len(values) > 1:
            raise self._no_function(node, values, span)
        only = values[0]
        bare = not any(isinstance(n, (ex.Field, ex.Param, ex.Ref)) or calls_user(n, self.names) for n in ex.walk(only))
        if evaluable and bare and not quotient:
            name = shown(node)
            if isinstance(only, ex.Num) and (self.has_rank(node, 2) or self.has_rank(node, 1)):
                raise OpSyntaxError(f"{name}(…): a component, or a product?", code="E042", spans=(span,), suggestion=f"write {name}_{only.value}")
            first = self.names.decls.coords[0].name
            raise OpSyntaxError(
                f"{name}(…): a delay, a value at a point, or a product?", code="E042", spans=(span,),
                suggestion=f"write {name}*(…) for a product, {name}({first}=0) for a value; delays are not supported",
            )
        self.note_call(node, only, op.span)
        return Group(only, "(", op.span)

    def _declared_order(self, node: ex.Node, names: list[str], span: Span) -> None:
        """``u(x, t)`` is u over ``t x``, too; ``u(y, x)`` over ``x y`` is another function."""
        decls = self.names.decls
        order = [c.name for c in decls.coords if c.name != decls.time and c.name in names]
        if [name for name in names if name != decls.time] != order:
            shown_, listed = shown(node), " ".join(str(c) for c in decls.coords)
            raise OpSyntaxError(
                f"{shown_}({', '.join(names)}): the coordinates are declared in the order {listed}", code="E057", spans=(span,),
                suggestion=f"write {shown_}({', '.join(order)}) for {shown_} itself; exchanging its arguments is not supported",
            )

    def _positions(self, node: ex.Node, values: list[ex.Node], span: Span) -> Where:
        """``u(0, x)``, ``y(0)``: values in the places of coordinates; none where this is no such list."""
        coords = [c.name for c in self.names.decls.coords]
        given = [v for v in values if not isinstance(v, ex.Coord)]
        if len(values) != len(coords) or not given or not has_field(node) or not all(map(_is_place, given)):
            return ()
        if len(coords) == 1 and any(isinstance(n, ex.Add) for n in ex.walk(given[0])) and any(isinstance(n, ex.Param) for n in ex.walk(given[0])):
            return ()  # ``u(a - b)`` is a product
        named = [v.name for v in values if isinstance(v, ex.Coord)]
        missing = [name for name in coords if name not in named]
        if len(missing) != len(given):
            return ()
        in_order = all(v.name == name for v, name in zip(values, coords, strict=True) if isinstance(v, ex.Coord))
        if len(given) > 1 and not in_order:
            return ()
        return tuple(zip(missing, given, strict=True))

    def _no_function(self, node: ex.Node, values: list[ex.Node], span: Span) -> OpSyntaxError:
        name = getattr(node, "name", "u")
        coords = [c.name for c in self.names.decls.coords]
        hint = "declare functions=… for a function, or write a product with *"
        if has_field(node) and all(isinstance(v, ex.Coord) or _is_place(v) for v in values):
            hint = f"write {name}({', '.join(coords)}) for the field, {name}({coords[0]}=0) for its value at a place"
        return OpSyntaxError(f"{shown(node)} is no function; a list of arguments must be coordinates", code="E041", spans=(span,),
                             suggestion=hint)

    def _restriction(self, node: ex.Node, arguments: list[Argument], span: Span) -> ex.Node:
        where: list[tuple[str, ex.Node]] = []
        for argument in arguments:
            left = argument.left
            name = left.name if isinstance(left, ex.Coord) else None
            if isinstance(left, ex.Indexed) and isinstance(left.base, ex.Coord) and isinstance(left.indices[0], int):
                name = f"{left.base.name}_{left.indices[0]}"
            if argument.relation not in (None, "="):
                raise OpSyntaxError("a comparison stands here", code="E040", spans=(span,))
            if name is None:
                raise OpNameError("only coordinates can be fixed", code="E403", spans=spans_of_node(left) or (span,),
                                  suggestion="write u(x=0)")
            if name in [n for n, _ in where]:
                raise OpSyntaxError(f"{name} is fixed twice", code="E404", spans=(span,))
            if argument.right is not None:
                if any(isinstance(n, (ex.Field, ex.At)) for n in ex.walk(argument.right)):
                    raise OpSyntaxError("the value of a coordinate cannot depend on a field", code="E405",
                                        spans=spans_of_node(argument.right))
                where.append((name, argument.right))
        return self._at(node, tuple(where), span)

    def _at(self, node: ex.Node, where: Where, span: Span) -> ex.Node:
        if any(isinstance(n, ex.At) for n in ex.walk(node)):
            raise OpSyntaxError("a restriction of a restriction", code="E404", spans=(span,))
        for name, _ in where:
            if name in self.names.vectors:
                raise OpNameError(f"{name} is a coordinate vector", code="E107", spans=(span,), suggestion=f"fix its components: u({name}_0=0)")
        return self.checked(ex.At(node, where, span=span))

    def _warn_loose_terms(self, sides: list[ex.Node]) -> None:
        """In ``u_xx = u(x=0)`` the first term is taken at x = 0 too, as is everything in a condition that names no place."""
        terms = [term for side in sides for term in _terms(side)]
        places = [n for term in terms for n in ex.walk(term) if isinstance(n, ex.At)]
        loose = [t for t in terms if has_field(t) and not any(isinstance(n, ex.At) for n in ex.walk(t))]
        if places and loose:
            where = ", ".join(name for name, _ in places[0].where)
            self.warn(f"a term without a place is taken at the same {where} as the others; write u({where}=…) in each to be explicit")

    # ------------------------------------------------------------------------------ functions
    def function(self, span: Span, children: list[Any]) -> ex.Node:
        token: Classified = children[0]
        arguments: list[Argument] = children[2]
        if isinstance(token.payload, ex.Node):
            if len(arguments) != 1 or arguments[0].relation:
                raise OpSyntaxError(f"{token.lexeme.text} takes one argument", code="E044", spans=(span,))
            return self._apply(token.payload, arguments[0].left, span)
        return self._call(str(token.payload), arguments, span)

    def _apply(self, operator: ex.Node, operand: ex.Node, span: Span) -> ex.Node:
        if is_operator(operand):
            return self.checked(ex.Mul((operator, operand), span=span))
        node = self.checked(ex.Apply(operator, operand, span=span))
        self.derivatives.add(id(node))
        return node

    def _call(self, name: str, arguments: list[Argument], span: Span) -> ex.Node:
        if name == "diff":
            return self._diff(arguments, span)
        if name in self.names.functions:
            return self.checked(ex.Call(name, tuple(self._plain(a, name, span) for a in arguments), span=span))
        record = FUNCTIONS[name]
        wanted = record.arguments
        if wanted and len(arguments) != wanted and not (record.any_more and len(arguments) > wanted):
            raise OpSyntaxError(f"{name} takes {wanted} argument{'s' * (wanted > 1)}, not {len(arguments)}", code="E044",
                                spans=(span,))
        if name == "where":
            condition = arguments[0]
            test = condition.left
            if condition.relation not in (None, "="):
                assert condition.right is not None
                test = ex.Compare(condition.relation, condition.left, condition.right, span=span)
            if not isinstance(test, ex.Compare):
                raise OpSyntaxError("where needs a comparison first", code="E045", spans=(span,),
                                    suggestion="write where(u > 0, a, b)")
            rest = tuple(self._plain(a, name, span) for a in arguments[1:])
            return self.checked(ex.Call("where", (self.checked(test), *rest), span=span))
        values = [self._plain(a, name, span) for a in arguments]
        if name == "dot" and isinstance(values[1], ex.Nabla):
            raise OpSyntaxError("∇ has nothing to act on", code="E022", spans=(span,), suggestion="write (u·∇)v")
        return self.checked(_written_out(record, values, span))

    def _plain(self, argument: Argument, name: str, span: Span) -> ex.Node:
        if argument.relation:
            raise OpSyntaxError(f"{name} takes values, not comparisons", code="E040", spans=(span,))
        if is_operator(argument.left) and not (name == "dot" and isinstance(argument.left, ex.Nabla)):
            raise OpSyntaxError("this operator has nothing to act on", code="E022", spans=spans_of_node(argument.left),
                                suggestion="write what it acts on after it")
        return argument.left

    def _diff(self, arguments: list[Argument], span: Span) -> ex.Node:
        axes: list[tuple[str | None, int | str | None]] = []
        if len(arguments) < 2:
            raise OpSyntaxError("diff takes a value and coordinates", code="E044", spans=(span,),
                                suggestion="write diff(u, x, 2)")
        for argument in arguments[1:]:
            match argument.left:
                case ex.Coord(name=name):
                    axes.append((name, None))
                case ex.Indexed(base=ex.Coord(name=name), indices=(which,)):
                    axes.append((name, which) if isinstance(which, int) else (None, which))
                case ex.Num(value=value) if axes and value.denominator == 1 and 0 < value <= MAX_ORDER:
                    axes += [axes[-1]] * (int(value) - 1)
                case other:
                    raise OpSyntaxError("diff takes coordinates and orders after the value", code="E046",
                                        spans=spans_of_node(other) or (span,), suggestion="write diff(u, x, 2)")
        if len(axes) > MAX_ORDER:
            raise OpLimitError(f"a derivative of order {len(axes)}; the limit is {MAX_ORDER}", code="E304", spans=(span,))
        return self._apply(ex.Partial(tuple(axes), span=span), arguments[0].left, span)


def _is_place(node: ex.Node) -> bool:
    """A number or parameters, without coordinates and unknowns."""
    return not any(isinstance(n, (ex.Field, ex.Coord, ex.Ref, ex.At, ex.Apply, ex.Indexed)) or is_operator(n) for n in ex.walk(node))


def _terms(node: ex.Node) -> list[ex.Node]:
    if isinstance(node, ex.Add):
        return [term for part in node.terms for term in _terms(part)]
    return _terms(node.operand) if isinstance(node, ex.Neg) else [node]


def _written_out(record: Function, values: list[ex.Node], span: Span) -> ex.Node:
    """The value of a function, of which some are short for others."""
    one = ex.Num(Fraction(1), span=span)
    if record.reciprocal_of:
        return ex.Div(one, ex.Call(record.reciprocal_of, (values[0],), span=span), span=span)
    if record.one_minus:
        return ex.Add((one, ex.Neg(ex.Call(record.one_minus, (values[0],), span=span), span=span)), span=span)
    while record.any_more and len(values) > record.arguments:
        first, rest = values[: record.arguments], values[record.arguments :]
        values = [ex.Call(record.name, tuple(first), span=span), *rest]
    return ex.Call(record.name, tuple(values), span=span)
