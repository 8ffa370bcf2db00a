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
from opdsl.language.declarations import Declarations

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
    (REAL, "d_x", Kind.PART_OR_OPERATOR, "d"), (SCOPE, "delta_ij", Kind.IDENTITY, "ij"), (SCOPE, "I_ij", Kind.IDENTITY, "ij"),
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
