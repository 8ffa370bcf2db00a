"""Trees of the language: equal nodes have one form, and every verb looks at every distinct node once, at any depth.

Trees are built by the constructors here, deeper than a text may be; what they mean is known in closed form.
"""

from __future__ import annotations

import copy
import gc
import math
import pickle
from collections.abc import Callable, Generator
from contextlib import suppress
from fractions import Fraction

import pytest

import opdsl
from opdsl.errors import OpdslError, OpLimitError, Span
from opdsl.grammar import parse_system
from opdsl.language import tree as ex
from opdsl.language.calculus import conditions, expand, facts
from opdsl.language.declarations import CoordinateDecl, Declarations, FieldDecl
from opdsl.language.interning import _interned
from opdsl.language.operator_application import desugar, is_operator
from opdsl.language.residual import Add, Comparison, Coordinate, Derivative, Mul, Number, Pointwise, Power, Where
from opdsl.language.structure import children
from opdsl.language.system import System
from opdsl.language.traverse import demand, fold
from tests.test_work import VERBS, guarded

DEEP = 5000
PLANE = Declarations(coords=(CoordinateDecl("x"), CoordinateDecl("y")), fields=(FieldDecl("u"),))
U, X, ONE, TWO = ex.Field("u"), ex.Coord("x"), ex.Num(Fraction(1)), ex.Num(Fraction(2))
LAPLACE = ex.Nabla("laplace")


def chain(count: int, step: Callable[[ex.Node], ex.Node], start: ex.Node = U) -> ex.Node:
    for _ in range(count):
        start = step(start)
    return start


def system(node: ex.Node) -> System:
    return System(PLANE, (), (ex.EquationNode("eq1", node),))


u = math.sin(0.3) * math.cos(0.7)
TREES: dict[str, tuple[Callable[[int], ex.Node], Callable[[int], float]]] = {
    "sums": (lambda n: chain(n, lambda e: ex.Add((e, ONE))), lambda n: u + n),
    "sums to the right": (lambda n: chain(n, lambda e: ex.Add((ONE, e))), lambda n: u + n),
    "products": (lambda n: chain(n, lambda e: ex.Mul((X, ex.Div(e, X)))), lambda n: u),
    "signs": (lambda n: chain(n, ex.Neg), lambda n: u),
    "quotients": (lambda n: chain(n, lambda e: ex.Div(e, ex.Num(Fraction(-1)))), lambda n: (-1) ** n * u),
    "powers": (lambda n: chain(n, lambda e: ex.Pow(e, ONE)), lambda n: u),
    "operators": (lambda n: ex.Apply(chain(n, lambda e: ex.Add((e, ONE)), LAPLACE), U), lambda n: (n - 2) * u),
    "products of operators": (lambda n: ex.Apply(chain(n, lambda e: ex.Mul((ONE, e)), LAPLACE), U), lambda n: -2 * u),
    "traces": (lambda n: chain(n // 4, lambda e: ex.Call("tr", (ex.Mul((ex.Div(e, TWO), ex.Const("I"))),))), lambda n: u),
    "branches": (lambda n: chain(n, lambda e: ex.Call("where", (ex.Compare("<", U, ONE), e, U))), lambda n: u),
    "gradients": (lambda n: ex.Apply(ex.Nabla("div"), chain(n, lambda e: ex.Add((e, ex.Apply(ex.Nabla("grad"), U))), ex.Apply(ex.Nabla("grad"), U))),
                  lambda n: -2 * (n + 1) * u),
    "shared sums": (lambda n: chain(200, lambda e: ex.Add((e, e))), lambda n: 2.0**200 * u),
    "shared operators": (lambda n: ex.Apply(chain(200, lambda e: ex.Add((e, e)), LAPLACE), U), lambda n: -2 * 2.0**200 * u),
}  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- depth
@pytest.mark.parametrize(("build", "value"), TREES.values(), ids=TREES)
def test_values_of_deep_trees(build: Callable[[int], ex.Node], value: Callable[[int], float]) -> None:
    with guarded():
        tree = build(DEEP)
        residual = expand(system(tree))
        (component,) = residual.equations[0].components
        assert evaluated(component) == pytest.approx(value(DEEP), rel=1e-9)
        assert facts(residual).order == (2 if any(isinstance(node, ex.Nabla) for node in ex.walk(tree)) else 0)


def evaluated(component: Pointwise) -> float:
    """At (0.3, 0.7) for u = sin x cos y, every node once, by the fractions and floats of Python."""
    derivatives = {(): u, (0, 0): -u, (1, 1): -u}

    def value(node: Pointwise, below: tuple[float, ...]) -> float:
        match node:
            case Number(number):
                return float(number)
            case Coordinate(axis):
                return (0.3, 0.7)[int(axis)]
            case Derivative(_, _, axes):
                return derivatives[axes]  # type: ignore[index]
            case Power():
                return below[0] ** below[1]
            case Add():
                return sum(below)
            case Mul():
                return math.prod(below)
            case Comparison(operator):
                assert operator == "<"
                return below[0] < below[1]
            case Where():
                return below[1] if below[0] else below[2]
        raise AssertionError(node)

    return fold((component,), children, value)[0]


@pytest.mark.parametrize("build", [build for build, _ in TREES.values()], ids=TREES)
def test_every_verb_on_a_deep_tree(build: Callable[[int], ex.Node]) -> None:
    """Answers, or says in our words that the text or the expansion is too large; never a RecursionError."""
    whole, again = system(build(1500)), system(build(1500))
    with guarded():
        assert whole == again
        assert hash(whole) == hash(again)
        assert len(repr(whole)) < 3_000_000
        for verb in (str, System.latex, conditions):
            with suppress(OpLimitError):
                verb(whole)
        with suppress(OpLimitError):
            op = opdsl.Operator(whole)
            for name in ("info", "plan", "sobolev", "substitute", "to_sympy", "call"):
                with suppress(OpdslError):
                    VERBS[name](op)


def test_what_is_shared_is_written_in_bounded_work() -> None:
    """Two hundred doublings have a text of 2²⁰⁰ letters."""
    shared = TREES["shared sums"][0](1)
    with guarded():
        for written in (str, System.latex):
            with pytest.raises(OpLimitError, match="the text of this operator is too large"):
                written(system(shared))
        assert "…" in repr(shared)
        assert "…" in repr(expand(system(chain(60, lambda e: ex.Call("sin", (ex.Mul((e, ex.Add((e, ONE)))),))))))


def test_an_explicit_power_of_powers_is_refused_while_it_is_read() -> None:
    text = "(" * 12 + "laplace" + ")^16" * 12 + " u"
    with guarded(), pytest.raises(OpLimitError, match="too large"):
        parse_system(text, coords="x y", fields="u")


# ------------------------------------------------------------------------------------------------------------ equality
def test_equal_nodes_have_one_form() -> None:
    here, there = ex.Add((ex.Field("u", span=Span(0, 1)), ONE), span=Span(0, 5)), ex.Add((U, ex.Num(Fraction(1), span=Span(3, 4))))
    assert here == there
    assert hash(here) == hash(there)
    assert ex.form(here) is ex.form(there)
    assert ex.form(here).span is None
    assert ex.form(ex.form(here)) is ex.form(here)
    assert here != ex.Add((ONE, U))
    assert here != "u + 1"
    assert {here: 1}[there] == 1
    assert here.span == Span(0, 5)
    assert here.terms[0].span == Span(0, 1)
    assert pickle.loads(pickle.dumps(here)) == here
    assert copy.deepcopy(here) is here


def test_every_kind_of_node_is_told_apart() -> None:
    kinds = [
        ONE, TWO, U, X, ex.Const("u"), ex.Param("u"), ex.Ref("u"), ex.Indexed(U, (0,)), ex.Indexed(U, ("i",)), ex.Add((U, X)), ex.Neg(U),
        ex.Mul((U, X)), ex.Div(U, X), ex.Div(X, U), ex.Pow(U, X), ex.Call("sin", (U,)), ex.Call("cos", (U,)), ex.Compare("<", U, X),
        ex.Compare(">", U, X), ex.Partial((("x", None),)), ex.Partial((("x", 0),)), ex.Nabla("grad"), LAPLACE, ex.Apply(LAPLACE, U),
        ex.SumOver("i", U), ex.SumOver("j", U), ex.At(U, (("x", ONE),)), ex.At(U, (("y", ONE),)), ex.At(U, (("x", TWO),)),
        ex.Definition("u", U), ex.EquationNode("u", U), ex.EquationNode("u", U, X), ex.EquationNode("u", U, X, named=True),
    ]  # fmt: skip
    assert len(set(kinds)) == len({ex.form(kind) for kind in kinds}) == len(kinds)
    for kind in kinds:
        below = ex.children(kind)
        assert ex.with_children(kind, below) == kind
        if below:
            assert ex.children(ex.with_children(kind, [LAPLACE] * len(below))) == (LAPLACE,) * len(below)
        assert repr(kind) == repr(ex.form(kind))
        assert eval(repr(kind), {**vars(ex), "Fraction": Fraction}) == kind


def test_forms_that_nobody_uses_are_forgotten() -> None:
    gc.collect()
    before = len(_interned)
    many = [ex.Add((ex.Field(f"forgotten{k}"), ONE)) for k in range(300)]
    assert len({*many}) == 300
    assert len(_interned) >= before + 600
    del many
    gc.collect()
    assert len(_interned) <= before + 10


# ------------------------------------------------------------------------------------------------------------- meaning
def test_a_letter_is_bound_by_the_sum_around_it() -> None:
    """``u_i v_i`` is one form inside and outside of ``sum_i``; what the letter means is told by the place."""
    text = "sum_i(u_i v_i) + u_i v_i + sum_i(w (u_i v_i) u_i)"
    inside, outside = "u_0 v_0 + u_1 v_1", "w u_0^2 v_0 + w u_1^2 v_1"
    declared = {"coords": "x y", "fields": "u[2] v[2] w"}
    assert components(text, declared) == components(f"2 ({inside}) + {outside}", declared)
    defined = "let a = u_i\nsum_i((a a) v_i) + a a"
    assert components(defined, declared) == components("u_0^2 v_0 + u_1^2 v_1 + u_0^2 + u_1^2", declared)


def components(text: str, declared: dict[str, str]) -> tuple[Pointwise, ...]:
    return expand(parse_system(text, **declared)).equations[0].components


def test_errors_point_at_the_place_and_not_at_an_equal_node() -> None:
    """``v`` is right where it stands first and wrong where it stands second."""
    text = "div(v) + u + v"
    with pytest.raises(OpdslError) as caught:
        parse_system(text, coords="x y", fields="u v[2]")
    assert [text[span.start : span.stop] for span in caught.value.spans] == ["v", "div(v)"]
    assert caught.value.spans[0].start == text.rindex("v")


def test_an_operator_is_told_from_a_value_at_any_depth() -> None:
    assert is_operator(chain(DEEP, lambda e: ex.Add((e, ONE)), LAPLACE))
    assert not is_operator(chain(DEEP, lambda e: ex.Add((e, ONE))))
    applied = ex.Apply(ex.Pow(ex.Add((ONE, LAPLACE)), TWO), U)
    once = ex.Add((U, ex.Apply(LAPLACE, U)))
    assert desugar(applied) == ex.Add((once, ex.Apply(LAPLACE, once)))


def test_a_rule_is_asked_once_and_closed_when_something_is_wrong() -> None:
    asked: list[int] = []
    closed: list[int] = []

    def rule(n: int) -> Generator[int, int, int]:
        asked.append(n)
        try:
            if n == 7:
                raise ValueError(n)
            return n if n < 2 else (yield n - 1) + (yield n - 2)
        finally:
            closed.append(n)

    known = {3: 2}
    assert demand(6, rule, int, known) == 8
    assert asked == [6, 5, 4, 2, 1, 0]
    assert known == {0: 0, 1: 1, 2: 1, 3: 2, 4: 3, 5: 5, 6: 8}
    with pytest.raises(ValueError, match="7") as caught:
        demand(9, rule, int, known)
    # While the error is looked at its traceback keeps the rules, so that nothing but `demand` can have closed them.
    assert closed[-3:] == [7, 8, 9]
    assert caught.value.args == (7,)
