"""The fixed words of the language: functions, operators and what they are called."""

from __future__ import annotations

from opdsl.language.functions import SPELT, Function

FUNCTIONS: dict[str, Function] = {name: record for record in SPELT for name in (record.name, *record.spellings)}
"""Name in the text → record."""
ONLY_COMPLEX = frozenset(name for record in SPELT for name in record.only_complex)

NABLAS = {
    "grad": "grad", "gradient": "grad", "div": "div", "divergence": "div", "curl": "curl", "rot": "curl",
    "laplace": "laplace", "lap": "laplace", "laplacian": "laplace", "hess": "hess", "hessian": "hess", "jac": "jac",
    "jacobian": "jac", "dn": "dn",
}  # fmt: skip
BIHARMONIC = ("bilap", "biharmonic", "bilaplacian", "bilaplace")
RESERVED = ("diff",)
CONSTANTS = ("pi", "e", "i", "I")
WORDS = (*NABLAS, *BIHARMONIC, *FUNCTIONS)
