"""Parsing, expansion and planning of equations as they stand in papers; nothing is evaluated."""

from __future__ import annotations

import tracemalloc
import warnings
from typing import Any

import opdsl
from opdsl.grammar import parse_system
from opdsl.language.calculus import expand

from .timing import measured_in

EQUATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "burgers": ("u_t + u u_x = nu u_xx", {"coords": "t x"}),
    "self_similar": ("-lam U + ((1+lam) y + U) U' = 0", {"coords": "y", "params": "?lam"}),
    "kdv": ("u_t + 6 u u_x + u_xxx = 0", {"coords": "t x"}),
    "kp": ("(u_t + 6 u u_x + u_xxx)_x + 3 sigma² u_yy = 0", {"coords": "t x y"}),
    "kuramoto": ("u_t + u_xx + u_xxxx + 1/2 |∇u|^2 = 0", {"coords": "t x"}),
    "plate": ("D Δ²u = q", {"coords": "x y", "params": "D q"}),
    "cahn_hilliard": ("c_t = laplace(c**3 - c - gamma*laplace(c))", {"coords": "t x y"}),
    "navier_stokes": ("u_t + u·∇u = -∇p/rho + nu Δu; ∇·u = 0", {"coords": "t x y z", "fields": "u[3] p"}),
    "vorticity": ("w_t + u·∇w = nu Δw; w = curl u", {"coords": "t x y", "fields": "u[2] w"}),
    "elasticity": ("(lam+mu)∇(∇·u) + mu Δu + f = 0", {"coords": "x y", "fields": "u[2]", "params": "lam mu f[2]"}),
    "maxwell": ("∂_t E = c^2 ∇×B - J/eps0; ∂_t B = -∇×E", {"coords": "t x y z", "fields": "E[3] B[3]"}),
    "schroedinger": ("i u_t + u_xx + |u|^2 u = 0", {"coords": "t x", "fields": "u:complex"}),
    "hamilton_jacobi": ("u_t + Δu - |∇u|² = 0", {"coords": "t x[100]"}),
    "diffusion": ("laplace(u) + a_ij d_i d_j u", {"coords": "x y z"}),
    "minimal_surface": ("∇·(∇u/sqrt(1+|∇u|²)) = 0", {"coords": "x y"}),
    "monge_ampere": ("det(D²u) = f", {"coords": "x y"}),
    "power": ("(1+∇²)^6 (u^2)", {"coords": "x y", "fields": "u"}),
}

PLANNED = tuple(name for name in EQUATIONS if name not in ("schroedinger", "power"))
"""Complex fields are several columns to the caller, and the twelfth order of a square is a matter of expansion, not of planning."""


class Language:
    """One equation at a time."""

    params = (tuple(EQUATIONS),)
    param_names = ("equation",)

    def setup(self, equation: str) -> None:
        warnings.simplefilter("ignore")
        self.text, self.declarations = EQUATIONS[equation]
        self.system = self._parse()

    def _parse(self) -> Any:
        return parse_system(self.text, **self.declarations)

    def _expand(self) -> Any:
        # Expansions are cached; what is measured is the first one.
        expand.__globals__["_expand"].cache_clear()
        return expand(self.system)

    def time_parse(self, equation: str) -> None:
        self._parse()

    def time_expand(self, equation: str) -> None:
        self._expand()

    @measured_in("bytes")
    def track_memory(self, equation: str) -> int:
        """Peak of what parsing and expansion allocate."""
        tracemalloc.start()
        self._parse()
        self._expand()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak


class Planning:
    """From the text to the plan, for a network of which only the widths are known."""

    params = (PLANNED,)
    param_names = ("equation",)

    def setup(self, equation: str) -> None:
        warnings.simplefilter("ignore")
        self.text, self.declarations = EQUATIONS[equation]
        self.time_text_to_plan(equation)

    def time_text_to_plan(self, equation: str) -> None:
        op = opdsl.operator(self.text, **self.declarations)
        expand.__globals__["_expand"].cache_clear()
        op.plan(network=(64, 64, 64), backend="jax")


class LongText:
    """A hundred kilobytes of one sum: parsing is linear in the length."""

    params = ((10_000, 100_000),)
    param_names = ("characters",)

    def setup(self, characters: int) -> None:
        self.text = "u_t + " * (characters // 6) + "u"
        parse_system("u_t", coords="t x", fields="u")

    def time_parse(self, characters: int) -> None:
        parse_system(self.text, coords="t x", fields="u")

    def peakmem_parse(self, characters: int) -> None:
        parse_system(self.text, coords="t x", fields="u")
