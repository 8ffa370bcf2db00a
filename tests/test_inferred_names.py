"""What is inferred, what is not, and that the printed text says all of it."""

from __future__ import annotations

import random
import warnings

import pytest

from opdsl.errors import LanguageError, OpdslWarning, OpNameError
from opdsl.grammar import parse_system
from opdsl.language.system import System

FIELDS = "u v w_0 phi w_1 T theta c_p n x1".split()
OTHERS = "k nu R0 k_eff b_i a_ij w_0 w_1 T_in eps hbar Re c_p D lambda b_0 kappa_1".split()


def parsed(text: str, **declarations: str) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        return parse_system(text, **declarations)


def _text(rng: random.Random, coords: str) -> str:
    """Terms in any order, so that the order of names differs between what is written and what is printed."""
    space = coords.split()
    axes = ["".join(rng.choices([c for c in space if len(c) == 1], k=rng.randint(1, 2))) for _ in range(2)]

    def factor() -> str:
        u, k, axis = rng.choice(FIELDS), rng.choice(OTHERS), rng.choice(axes)
        forms = [
            f"{u}_{axis}", f"d_{axis}({u})", f"d_{axis} {u}", f"∂_{axis} {u}", f"laplace({u})", f"Δ{u}", f"d/d{space[-1]} {u}", f"d_i({u})",
            f"({u} {k})_{axis}", f"d_{axis}({k} {u}_{axis})", f"sin({k} {u})", f"{u}^2", k, k, u, "a_ij d_i d_j u", "b_i d_i v", f"d_i {u} d_i {u}",
            f"e^(-{k})", f"{k}/{u}", f"(d_{space[-1]} - {k}) {u}", f"|{u}|", f"-{k}", "2", f"d{u}/d{space[-1]}",
            f"{u}_{{{' '.join(space[-1:] * 2)}}}",
        ]  # fmt: skip
        return rng.choice(forms)

    terms = [" ".join(factor() for _ in range(rng.randint(1, 3))) for _ in range(rng.randint(1, 4))]
    return rng.choice([" + ", " - "]).join(terms) + rng.choice(["", " = 0", f" = {rng.choice(OTHERS)}", "; let q = u; q_t"])


@pytest.mark.parametrize("coords", ["t x y", "t x", "x y theta", "", "q"])
def test_the_printed_text_declares_all(coords: str) -> None:
    """The same system with the same columns, also where the order in the printed text is another one."""
    rng = random.Random(len(coords))
    accepted = 0
    for _ in range(400):
        text = _text(rng, coords or "x")
        declared = {"coords": coords} if coords else {}
        try:
            system = parsed(text, **declared)
        except LanguageError:
            continue
        accepted += 1
        again = parsed(str(system))
        assert again == system, (text, str(system))
        assert str(again) == str(system), text
        assert {"coords", "fields"} <= again.declarations.given
    assert accepted > 60


@pytest.mark.parametrize(("text", "fields"), [("w_0 u_x + d_x(w_0)", "w_0 u"), ("k v_x + u_x", "v u"), ("u_x + d_x(w_0) w_1", "u w_0")])
def test_columns_are_kept(text: str, fields: str) -> None:
    system = parsed(text, coords="t x")
    assert f"fields: {fields};" in str(system)
    assert parsed(str(system)).declarations == system.declarations


@pytest.mark.parametrize(("text", "said"), [
    ("u_t = sup_a(a u_xx)", "suprema"), ("u_t = max_a(a u_xx)", "max(…)"), ("u_t = log10 u", "log(…)/log(10)"), ("u_t = log_10 u", "log"),
    (r"u_{t} = \frac{\delta F}{\delta u}", "functional derivatives"), ("u_t = δ F/δ u", "functional derivatives"), ("u_t + xu_x", "x u_x"),
    ("xu_x = 1", "x u_x"), ("u_t = foo u_xx", 'params="foo"'), ("temp_t = temp_xx", 'fields="temp"'), ("u_t = c_p(u - 1)", 'functions="c_p"'),
    ("u_t = inf", 'params="inf"'), (r"u_{t} = \max_a u", "max(…)"), (r"u_{t} = \log_{10} u", "log(…)"), ("u_t = δF/δu", 'params="deltaF"'),
])  # fmt: skip
def test_words_are_not_inferred(text: str, said: str) -> None:
    with pytest.raises(LanguageError) as caught:
        parsed(text, coords="t x")
    first = getattr(caught.value, "errors", [caught.value])[0]
    assert isinstance(first, OpNameError)
    assert first.code in ("E102", "E104")
    assert said in f"{first.message} {first.suggestion}"


@pytest.mark.parametrize("name", "k R0 k_eff eps eps0 hbar Re kappa_1 Gamma D_u c_p T_a lambda ψ ν_0 k1".split())
def test_letters_and_greek_names_are(name: str) -> None:
    system = parsed(f"u_t = {name} u_xx", coords="t x")
    assert len(system.declarations.params) == 1
    assert parsed(str(system)) == system


@pytest.mark.parametrize("name", ["foo", "log10", "sup_a", "max_a", "temp", "inf"])
def test_declared_words_are_names(name: str) -> None:
    assert parsed(f"u_t = {name} u_xx", coords="t x", params=name).declarations.params[0].name == name
    assert parsed(f"{name}_t = 1", coords="t x", fields=name).declarations.fields[0].name == name
