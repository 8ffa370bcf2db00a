"""The fixed words of the language: functions, operators and what they are called."""

from __future__ import annotations

from opdsl.language.functions import SPELT

FUNCTIONS: dict[str, tuple[str, int]] = {
    **{record.name: (record.name, record.arguments) for record in SPELT},
    **{name: (record.name, record.arguments) for record in SPELT for name in record.spellings},
}
"""Name in the text → (name in the tree, number of arguments; 0 means any)."""

NABLAS = {
    "grad": "grad", "gradient": "grad", "div": "div", "divergence": "div", "curl": "curl", "rot": "curl",
    "laplace": "laplace", "lap": "laplace", "laplacian": "laplace", "hess": "hess", "hessian": "hess", "jac": "jac",
    "jacobian": "jac", "dn": "dn",
}  # fmt: skip
BIHARMONIC = ("bilap", "biharmonic", "bilaplacian", "bilaplace")
RESERVED = ("diff",)
# Without a complex field Re is the Reynolds number.
REAL_PART = ("Re", "Im")
OPERATORS = (*NABLAS, *BIHARMONIC, *FUNCTIONS)
