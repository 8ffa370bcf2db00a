"""What a name means is decided in one table; the inference and the terminals of the grammar follow it."""

from __future__ import annotations

import warnings

import pytest

from opdsl.errors import LanguageError, OpdslWarning
from opdsl.grammar import parse_system
from opdsl.grammar.declarations import read_coords, read_fields, read_functions, read_params
from opdsl.grammar.lexemes import Ident, Lexeme
from opdsl.grammar.meanings import Kind, Place, Scope
from opdsl.grammar.scanner import Scanner
from opdsl.language.calculus import conditions, expand
from opdsl.language.declarations import Declarations
from opdsl.language.system import System

DECLARED = {"coords": "t x y", "fields": "u w[2] psi:complex", "params": "nu a_b u_x", "functions": "R"}
SCOPE = Scope(Declarations(
    read_coords(DECLARED["coords"])[0], read_fields(DECLARED["fields"]), read_params(DECLARED["params"]), read_functions(DECLARED["functions"])
))  # fmt: skip
REAL = Scope(Declarations(read_coords("t x n")[0], read_fields("u"), read_params("d e T")))


def lexemes_of(text: str) -> list[Lexeme]:
    return Scanner(text, coords=["t", "x", "y"], declared=SCOPE.declared).scan()


@pytest.mark.parametrize(("scope", "text", "kind", "name"), [
    (SCOPE, "u", Kind.DECLARED, "u"), (SCOPE, "R", Kind.DECLARED, "R"), (SCOPE, "u_x", Kind.DECLARED, "u_x"), (SCOPE, "u_xx", Kind.PART, "u"),
    (SCOPE, "a_b_i", Kind.PART, "a_b"), (SCOPE, "w_0", Kind.PART, "w"), (SCOPE, "R_x", Kind.PART, "R"), (SCOPE, "x_t", Kind.UNKNOWN, ""),
    (SCOPE, "sin", Kind.FUNCTION, "sin"), (SCOPE, "ln", Kind.FUNCTION, "log"), (SCOPE, "Re", Kind.FUNCTION, "re"), (REAL, "Re", Kind.UNKNOWN, ""),
    (SCOPE, "divergence", Kind.NABLA, "div"), (SCOPE, "bilap", Kind.BIHARMONIC, ""), (SCOPE, "diff(u)", Kind.DIFF, "diff"),
    (SCOPE, "diff", Kind.UNKNOWN, ""), (SCOPE, "dxy(u)", Kind.DIFFERENTIAL, "xy"), (SCOPE, "dxy", Kind.UNKNOWN, ""),
    (SCOPE, "dq(u)", Kind.UNKNOWN, ""),
    (SCOPE, "pi", Kind.CONSTANT, "pi"), (SCOPE, "i", Kind.CONSTANT, "i"), (REAL, "i", Kind.UNKNOWN, ""), (REAL, "e", Kind.DECLARED, "e"),
    (SCOPE, "D^2", Kind.HESSIAN, ""), (SCOPE, "D", Kind.UNKNOWN, ""), (SCOPE, "d_xx", Kind.PARTIAL, "xx"), (SCOPE, "partial_i", Kind.PARTIAL, "i"),
    (REAL, "d_x u", Kind.PART_OR_OPERATOR, "d"), (REAL, "d_x", Kind.PART, "d"),
    (SCOPE, "delta_ij", Kind.IDENTITY, "ij"), (SCOPE, "I_ij", Kind.IDENTITY, "ij"),
    (SCOPE, "I_x", Kind.UNKNOWN, ""), (SCOPE, "eps_ijk", Kind.PERMUTATION, "ijk"), (SCOPE, "eps_ij", Kind.UNKNOWN, ""),
    (SCOPE, "x_i", Kind.POSITION, "i"),
    (SCOPE, "e_0", Kind.UNIT, "0"), (SCOPE, "e_y", Kind.UNIT, "y"), (SCOPE, "e_q", Kind.UNKNOWN, ""), (SCOPE, "q", Kind.UNKNOWN, ""),
])  # fmt: skip
def test_the_table(scope: Scope, text: str, kind: Kind, name: str) -> None:
    lexemes = Scanner(text, coords=scope.coords, declared=scope.declared).scan()
    assert isinstance(lexemes[0].value, Ident)
    meaning = scope.meaning(lexemes[0].value, Place(lexemes, 0))
    assert (meaning.kind, meaning.name) == (kind, name)


@pytest.mark.parametrize("text", ["u^T", "w^{T}"])
def test_an_exponent_t_is_a_transpose_or_a_power(text: str) -> None:
    lexemes = lexemes_of(text)
    at = next(k for k, lexeme in enumerate(lexemes) if isinstance(lexeme.value, Ident) and lexeme.value.full == "T")
    assert SCOPE.meaning(lexemes[at].value, Place(lexemes, at)).kind is Kind.TRANSPOSE  # type: ignore[arg-type]
    assert REAL.meaning(lexemes[at].value, Place(lexemes, at)).kind is Kind.DECLARED  # type: ignore[arg-type]


NAMES = "q u w u_x u_t k sin grad pi e i I D T Re diff dx d_x d_i delta delta_ij eps eps_ijk x_i e_0 I_ij R nu a_b phi_q kappa lap dn".split()


@pytest.mark.parametrize("declared", [{"coords": "t x"}, {"coords": "d t x"}, {"coords": "t x", "fields": "u:complex v"}], ids=str)
@pytest.mark.parametrize("form", ["v_x + {}", "v_x + {}(v)", "v_x + {}^2 v", "v_x + {} v", "v_x^{}"])
def test_only_names_without_a_meaning_are_inferred(form: str, declared: dict[str, str]) -> None:
    coords = read_coords(declared["coords"])[0]
    for name in NAMES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OpdslWarning)
            try:
                system = parse_system(form.format(name), **declared)
            except LanguageError:
                continue
        scope = Scope(Declarations(coords, read_fields(declared.get("fields", "v"))))
        lexemes = Scanner(form.format(name), coords=scope.coords, declared=scope.declared).scan()
        for at, lexeme in enumerate(lexemes):
            if isinstance(lexeme.value, Ident) and lexeme.value.full == name:
                kind = scope.meaning(lexeme.value, Place(lexemes, at)).kind
                assert (name in system.declarations.names - scope.declared) <= (kind in (Kind.UNKNOWN, Kind.TRANSPOSE)), (name, kind)


@pytest.mark.parametrize("text", ["d_x u", "d_x(u) + d", "k_i d_i u", "∂_t v + d_x u"])
def test_the_operator_beside_a_coordinate_d(text: str) -> None:
    """What it acts on is a field, as beside any other coordinate."""
    assert "u" in [f.name for f in parse_system(text, coords="d t x").declarations.fields]


def quietly(text: str, **declared: str) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        return parse_system(text, **declared)


@pytest.mark.parametrize(("text", "same"), [
    ("d_x + d", "f_x + f"), ("d_t = d_xx + u d_x", "f_t = f_xx + u f_x"), ("d_x * u = 0", "f_x * u = 0"), ("d_{,x} + d_{,t}(t, x) u", "f_x + f_t u"),
    ("d_{t} = 2 \\, d_{x x}", "f_t = 2 f_xx"), ("-d_x/2 + u", "-f_x/2 + u"),
])  # fmt: skip
@pytest.mark.parametrize("role", ["fields", "params"])
def test_the_derivative_of_d_where_no_operator_could_act(text: str, same: str, role: str) -> None:
    others = {"fields": "u", "params": ""}
    names = {kind: f"{others[kind]} {{}}" if kind == role else others[kind] for kind in others}
    ours = expand(quietly(text, coords="t x", **{kind: many.format("d") for kind, many in names.items()}))
    theirs = expand(quietly(same, coords="t x", **{kind: many.format("f") for kind, many in names.items()}))
    assert str([e.components for e in ours.equations]).replace("'d'", "'f'") == str([e.components for e in theirs.equations])


@pytest.mark.parametrize("text", ["d_x u = 0", "u_t = d_x(d u_x)", "(d_x + 1) u", "d_x^2 u", "d_x d = 0", "sin(d_x) u", "u d_x d_x = 1"])
def test_both_readings_of_d_are_named(text: str) -> None:
    with pytest.raises(LanguageError, match="write ∂_x for the operator, diff\\(d, x\\) for the derivative") as caught:
        quietly(text, coords="t x", fields="u d")
    assert getattr(caught.value, "errors", [caught.value])[0].code == "E105"


@pytest.mark.parametrize("written", ["T_inf", "T_∞", "T_{∞}"])
@pytest.mark.parametrize("params", ["k b T_inf", "k b T_∞", None])
def test_the_value_far_away_is_a_name(written: str, params: str | None) -> None:
    text = f"k ∂T/∂n + b*(T - {written}) = 0; T_xx = 0"
    declared = {} if params is None else {"params": params}
    system = quietly(text, coords="x", **declared)
    assert {p.name for p in system.declarations.params} == {"k", "b", "T_inf"}
    assert quietly(str(system)) == system
    latex = quietly(r"k \partial_n T + b*(T - T_\infty) = 0; T_{xx} = 0", coords="x", **declared)
    assert latex.equations == system.equations


def test_a_list_of_parameters_without_the_value_far_away() -> None:
    with pytest.raises(LanguageError, match='declare params="T_inf"'):
        quietly("T_xx = T_inf", coords="x", fields="T", params="k")


@pytest.mark.parametrize(("chain", "apart"), [
    ("u(t,-1) = u(t,1) = 0", "u(t,-1) = 0; u(t,1) = 0"), ("u(x=0) = v(x=1) = u(t=0) = g", "u(x=0) = g; v(x=1) = g; u(t=0) = g"),
])  # fmt: skip
def test_a_chain_of_conditions(chain: str, apart: str) -> None:
    declared = {"coords": "t x", "fields": "u v", "params": "g"}
    together, one_by_one = (quietly(f"u_t = u_xx; v_t = v_xx; {text}", **declared) for text in (chain, apart))
    assert together.equations == one_by_one.equations
    assert list(conditions(together)) == list(conditions(one_by_one))
    assert quietly(str(together)) == together
