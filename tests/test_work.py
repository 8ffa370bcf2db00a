"""Every verb on every text answers or refuses with bounded work; expressions that share their parts are walked once.

What is asserted are produced terms, node counts and opdsl's errors. A timer of the processor (not of the wall) ends what would never
return, far above what anything takes here, so that a loaded machine changes nothing.
"""

from __future__ import annotations

import copy
import gc
import pickle
import signal
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import opdsl
from opdsl.algebra import work
from opdsl.errors import OpdslError, OpLimitError
from opdsl.language.constructors import add, call, mul, number
from opdsl.language.interning import _interned
from opdsl.language.residual import Derivative, Mul, Number, Pointwise
from opdsl.language.structure import children
from opdsl.language.traverse import fold, postorder

SECONDS = 60


@contextmanager
def guarded() -> Iterator[None]:
    """End what takes a minute of the processor; everything here takes two seconds or less."""

    def stop(*_: Any) -> None:
        raise AssertionError(f"more than {SECONDS} s of the processor")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def called(op: opdsl.Operator) -> Any:
    residual = op.residual()
    columns = sum(int(np.prod(f.shape)) for f in residual.fields if not f.coefficient)
    given = {p.name: np.full(p.shape, 0.5) for p in residual.parameters}
    given |= {f.name: 0.5 for f in residual.fields if f.coefficient and not f.shape}

    def net(p: Any) -> Any:
        xp = p.__array_namespace__() if hasattr(p, "__array_namespace__") else np
        return xp.stack([xp.sin(p[:, 0] * (k + 1.0) + 0.1 * p[:, -1]) for k in range(columns)], axis=1)

    return op(net, np.full((2, len(residual.coords)), 0.3), **given) if columns else None


VERBS: dict[str, Callable[[opdsl.Operator], Any]] = {
    "info": lambda op: str(op.info()),
    "str": str,
    "repr": lambda op: (repr(op), repr(op.system), repr(op.residual())),
    "explain": lambda op: str(op.explain()),
    "latex": lambda op: op.latex(),
    "plan": lambda op: str(op.plan()),
    "conditions": lambda op: dict(op.conditions),
    "sobolev": lambda op: op.sobolev(1).info(),
    "substitute": lambda op: str(op.substitute({"u": "v^2 + v"}, fields="v")),
    "to_sympy": lambda op: op.to_sympy(),
    "call": called,
}


def nested(count: int, body: str, last: str = "u_t = {}") -> str:
    """A chain of definitions, each of which uses the one before it several times."""
    lines = ["let a0 = u u_x + u"]
    lines += [f"let a{k} = {body.format(f'a{k - 1}')}" for k in range(1, count)]
    return "\n".join([*lines, last.format(f"a{count - 1}")])


TEXTS: list[tuple[str, dict[str, str]]] = [
    (nested(200, "{0}*{0} + {0}"), {}),
    (nested(200, "{0}*{0} + {0}", "u_t = d_x {}"), {}),
    (nested(60, "k {0} + m {0} u"), {"params": "k m"}),
    (nested(30, "(k + m u) {0} + {0}/k", "u_t = laplace({})"), {"params": "k m"}),
    ("(u_xx)^24", {"fields": "u:complex"}),
    ("biharmonic(u)", {"coords": "x[100]"}),
    ("laplace(u^2)", {"coords": "x[10000]"}),
    ("laplace(u)", {"coords": "x[1000000]"}),
    ("u" + "+u" * 999, {}),
    ("u" + " u" * 900, {}),
    ("(1+laplace)^16 u", {"coords": "x y"}),
    ("laplace(" * 20 + "u" + ")" * 20, {"coords": "x y z"}),
    ("det(hess(u)) + tr(inv(hess(u)))", {"coords": "x[4]"}),
    ("d_x(" + "sin(" * 55 + "u" + ")" * 55 + ")", {}),
    ("d_x^12 (u^3)", {}),
    ("i u_t + (1+laplace)^4 u + |u|^8 u", {"coords": "t x y", "fields": "u:complex"}),
    ("d_i d_j d_k d_l u d_i d_j d_k d_l u", {"coords": "x[16]"}),
    ("(" + "+".join(f"k_{n}" for n in range(10)) + ")^9 u", {"params": " ".join(f"k_{n}" for n in range(10))}),
    ("u_t + d_x(u_xxxx + 10 u u_xx + 5 u_x^2 + 10 u^3) + d_x^7 u", {}),
]


@pytest.mark.family(keep=3)
@pytest.mark.parametrize(("text", "options"), TEXTS, ids=[t[:32].replace("\n", " ") for t, _ in TEXTS])
def test_every_verb_answers_or_refuses(text: str, options: dict[str, str]) -> None:
    assert len(text) <= 6000
    with guarded():
        op = opdsl.operator(text, **{"coords": "t x", "fields": "u", **options})
        for name, verb in VERBS.items():
            if name != "call" or op.system.declarations.space_size() <= 16:
                with suppress(OpdslError):
                    verb(op)


@pytest.mark.parametrize("verb", ["info", "str", "repr", "latex", "plan", "explain", "conditions", "to_sympy", "call"])
@pytest.mark.parametrize("body", ["{0}*{0} + {0}", "sin({0}) + u {0}"])
def test_two_hundred_definitions_are_served(body: str, verb: str) -> None:
    """They have 2²⁰⁰ paths and some hundreds of nodes."""
    with guarded():
        op = opdsl.operator(nested(200, body), coords="t x", fields="u")
        assert len(postorder((op.residual().equations[0].components[0],), children)) < 1500
        if verb == "to_sympy" and "sin" in body:
            with suppress(OpLimitError):  # SymPy calls itself for every level of a nested function
                VERBS[verb](op)
        else:
            VERBS[verb](op)


PARTS = ["u", "u_x", "k u", "x", "3", "sin(u)", "exp(k x)", "u^5"]
PATTERNS = [
    "({0})^{1}", "laplace({0})", "d_x^{1} ({0})", "({0})*({0} + k)", "k*({0}) + x*({0})", "1/({0})", "(1 + laplace)^{1} ({0})",
    "sqrt({0})", "where(u > 0, {0}, u)", "({0})({0})({0})", "div(({0}) grad({0}))", "det(hess({0}))",
]  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Definitions and powers that grow as fast as a short text allows."""
    lines = [f"let a0 = {draw(st.sampled_from(PARTS))}"]
    for k in range(1, draw(st.integers(2, 12))):
        pattern = draw(st.sampled_from(PATTERNS))
        lines.append(f"let a{k} = {pattern.format(f'a{k - 1}', draw(st.integers(2, 16)))}")
    return "\n".join([*lines, f"u_t = a{len(lines) - 1}"])


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(text=texts(), verb=st.sampled_from([v for v in VERBS if v != "call"]))
def test_random_texts_that_grow(text: str, verb: str) -> None:
    with guarded(), suppress(OpdslError):
        VERBS[verb](opdsl.operator(text, coords="t x y", fields="u", params="k"))


@pytest.mark.family(keep=3)
@pytest.mark.parametrize(("text", "coords"), [("laplace(u^2)", "x[10000]"), ("laplace(u)", "x[1000000]"), ("biharmonic(u)", "x[100]")])
def test_plans_in_many_coordinates_need_little_memory(text: str, coords: str) -> None:
    op = opdsl.operator(text, coords=coords, fields="u")
    tracemalloc.start()
    try:
        with guarded():
            op.plan()
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()


# --------------------------------------------------------------------------------------------------------- the counter
def test_work_is_counted_where_it_is_done() -> None:
    u = Derivative("u", 0, ())
    with pytest.raises(OpLimitError, match="this is too large"), work.bounded("this", amount=100):
        add(*(mul(number(k), call("sin", (mul(u, number(k)),))) for k in range(1, 200)))
    work.spend(10**9)  # outside nothing is limited


def test_an_inner_allowance_is_its_own() -> None:
    with work.bounded("outer", amount=5):
        with work.bounded("inner", amount=1000):
            work.spend(900)
        work.spend(5)
        with pytest.raises(OpLimitError, match="outer is too large"):
            work.spend(1)


# -------------------------------------------------------------------------------------------------------- shared nodes
def test_equal_expressions_are_one_object() -> None:
    u = Derivative("u", 0, (0,))
    assert Mul((Number(Fraction(2)), u)) is Mul((Number(2.0), Derivative(field="u", axes=(0,))))
    made = mul(number(2), u, call("sin", (u,)))
    assert pickle.loads(pickle.dumps(made)) is made
    assert copy.deepcopy(made) is made
    with pytest.raises(TypeError, match="Mul takes factors"):
        Mul()  # type: ignore[call-arg]


def test_expressions_that_nobody_uses_are_forgotten() -> None:
    gc.collect()
    before = len(_interned)
    many = [mul(number(k), Derivative("forgotten", k, ())) for k in range(500)]
    assert len(_interned) >= before + 500
    del many
    gc.collect()
    assert len(_interned) <= before + 10


def test_threads_agree_on_the_object() -> None:
    def made(k: int) -> Pointwise:
        return add(*(call("sin", (Derivative("shared", j, (k % 50,)),)) for j in range(20)))

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(made, range(2000)))
    assert all(found[k] is found[k % 50] for k in range(2000))


def test_a_fold_visits_every_node_once() -> None:
    node: Pointwise = Derivative("u", 0, ())
    for _ in range(3000):
        node = Mul((node, call("sin", (node,))))
    visits = []
    (depth,) = fold((node,), children, lambda n, below: visits.append(n) or 1 + max(below, default=0))  # type: ignore[func-returns-value]
    assert depth == 6001
    assert len(visits) == 6001
