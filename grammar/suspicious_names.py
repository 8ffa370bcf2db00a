"""Undeclared names that are not taken for parameters, because they look like something else; and what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence

from opdsl.grammar.declarations import GREEK, split_names
from opdsl.grammar.vocabulary import ONLY_COMPLEX

# Words of the sentence around an equation.
_WORDS = frozenset("in on at for if then else and or with when from to".split())
# Longer than a letter, and yet names that need no declaration: letters spelled out and the numbers of fluid mechanics.
_CUSTOMARY = frozenset([*GREEK.values(), *"Delta eps lam hbar ell".split()]) | frozenset(
    "Re Pr Ra Pe Ma We Da Bi Nu Fr Gr Kn Le Ro Sc Sh St Ta Wi Ca Bo De Ek Ec Eu Ha Ga La Rm Pm Ri Bn".split()
)
_ABSENT = {"sup": "suprema", "inf": "infima", "lim": "limits", "argmin": "minimisers", "argmax": "maximisers", "int": "integrals"}


def suspicion(
    name: str, coords: Sequence[str], fields: Collection[str], names: Collection[str], operators: Collection[str]
) -> tuple[str, str] | None:
    """Return what an undeclared name looks like and a suggestion; None where it may well be a parameter.

    Args:
        name: with its subscripts, ``D_xx``.
        coords: coordinates with names.
        fields: unknowns, declared or inferred.
        names: all names of the text that have a meaning, with coordinates and fields.
        operators: names of operators and functions of the table.

    Example:
        >>> def said(name):
        ...     found = suspicion(name, ["t", "x"], ["u"], ["t", "x", "u", "nu"], ["laplace", "sin"])
        ...     return found and found[0]
        >>> [said(name) for name in ("nu_t", "D_u", "u0", "R", "kappa")]
        [None, None, None, None, None]
        >>> [said(name) for name in ("dx", "d2u", "dudx", "D_xx")]
        ['looks like part of a derivative', 'looks like part of a derivative', 'looks like part of a derivative', 'may be a derivative']
        >>> [said(name) for name in ("uxx", "Laplace", "laplce", "sinx", "in")]
        ['may be a derivative', 'looks like an operator', 'looks like an operator', 'looks like a function', 'is a word']
    """
    plain = name.replace("_", "")
    if name in _WORDS:
        return "is a word", "write conditions as u(x=0) = 1, cases as where(x > 0, a, b)"
    if re.match(r"D_", name) and _splits(name[2:], coords):
        return "may be a derivative", f'write d_{name[2:]}, or declare params="{name}"'
    if _differential(plain, coords, names):
        return "looks like part of a derivative", f'write d^2u/dx^2, d_xx u or u_xx; or declare params="{name}"'
    for field in fields:
        if plain == name != field and name.startswith(field) and _splits(name[len(field) :], coords):
            suffix = name[len(field) :]
            return "may be a derivative", f'write {field}_{suffix} or d_{suffix} {field}; or declare params="{name}"'
    for operator in operators:
        if name.startswith(operator) and name[len(operator) :] in {*coords, *names}:
            return "looks like a function", f'write {operator}({name[len(operator) :]}), or declare params="{name}"'
    base = name.partition("_")[0]
    if base in _ABSENT and (base != "inf" or base != name):
        return f"looks like {_ABSENT[base]}, which are not part of the language", f'declare params="{name}" if it is a name'
    if base in operators and base != name and base not in ONLY_COMPLEX:
        return "looks like a function with a subscript", f'write {base}(…), or declare params="{name}"'
    if match := re.fullmatch(r"(\D+)(\d+)", name):
        function, digits = match.groups()
        if function in operators and function not in ONLY_COMPLEX:
            other = f"{function}(…)/{function}({digits})" if function in ("log", "ln") else f"{function}({digits} …)"
            return "looks like a function", f'write {other}, or declare params="{name}"'
    near = [o for o in operators if len(o) > 2 and o.lower() == name.lower()]
    near = near or difflib.get_close_matches(name, [o for o in operators if len(o) > 3], n=1, cutoff=0.85)
    if near:
        return "looks like an operator", f'write {near[0]}(…), or declare params="{name}"'
    return None


def is_word(name: str) -> bool:
    """Say whether a name is more than a letter with digits and subscripts: such a name is never inferred.

    Example:
        >>> [is_word(name) for name in ("u", "k_eff", "R0", "kappa_0", "Re", "xu", "temperature", "log10", "sup_a")]
        [False, False, False, False, False, True, True, True, True]
    """
    base = name.partition("_")[0].rstrip("0123456789")
    return len(base) > 1 and base not in _CUSTOMARY


def run_together(name: str, fields: Collection[str], names: Collection[str]) -> bool:
    """Say whether a name is another name and a field without the blank, as ``uu`` in ``uu_x``.

    Example:
        >>> run_together("uu", ["u"], ["u", "nu"]), run_together("nuu", ["u"], ["u", "nu"]), run_together("v", ["u"], ["u"])
        (True, True, False)
    """
    return any(name != f and name.endswith(f) and name[: -len(f)] in names for f in fields)


def _splits(text: str, coords: Sequence[str]) -> bool:
    try:
        return split_names(text, coords) is not None
    except ValueError:
        return True


def _differential(name: str, coords: Sequence[str], names: Collection[str]) -> bool:
    """``dx``, ``Dt``, ``dx2``, ``d2u``, ``dudx``, ``d2udx2``."""
    match = re.fullmatch(r"[dD](\d*)([A-Za-z]+)\d*", name)
    if match is None:
        return False
    order, rest = match[1], match[2]
    if _splits(rest, coords) or (order and rest in names):
        return True
    return any(rest.startswith(f"{known}d") and _splits(rest[len(known) + 1 :], coords) for known in names)
