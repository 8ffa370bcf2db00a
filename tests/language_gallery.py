"""The equations that must work, with the declarations each needs. Shared by several test files."""

from __future__ import annotations

from typing import Any

GALLERY: list[tuple[str, dict[str, Any]]] = [
    ("u_t + u u_x = nu u_xx", {"coords": "t x"}),
    ("-lam U + ((1+lam) y + U) U' = 0", {"coords": "y", "params": "?lam"}),
    ("u_t + 6 u u_x + u_xxx = 0", {"coords": "t x"}),
    ("u_t + u u_x + alpha u_xxx - beta d^5u/dx^5 = 0", {"coords": "t x"}),
    ("u_t + u_xx + u_xxxx + 1/2 |∇u|^2 = 0", {"coords": "t x"}),
    ("D Δ²u = q", {"coords": "x y", "params": "D q"}),
    ("c_t = laplace(c**3 - c - gamma*laplace(c))", {"coords": "t x y"}),
    ("u_t = eps^2 Δu + u - u^3", {"coords": "t x y"}),
    ("u_t + u·∇u = -∇p/rho + nu Δu; ∇·u = 0", {"coords": "t x y", "fields": "u[2] p"}),
    ("u_t + u·∇u = -∇p/rho + nu Δu; ∇·u = 0", {"coords": "t x y z", "fields": "u[3] p"}),
    ("w_t + u·∇w = nu Δw; w = curl u", {"coords": "t x y", "fields": "u[2] w"}),
    ("-mu Δu + ∇p = f; div u = 0", {"coords": "x y", "fields": "u[2] p"}),
    ("(lam+mu)∇(∇·u) + mu Δu + f = 0", {"coords": "x y", "fields": "u[2]", "params": "lam mu f[2]"}),
    ("∂_t E = c^2 ∇×B - J/eps0; ∂_t B = -∇×E", {"coords": "t x y z", "fields": "E[3] B[3]"}),
    ("i hbar ψ_t = -hbar²/(2m) Δψ + V ψ", {"coords": "t x", "fields": "ψ:complex", "params": "hbar m V"}),
    ("i u_t + u_xx + |u|^2 u = 0", {"coords": "t x", "fields": "u:complex"}),
    ("u_tt - c² Δu + m² u = 0", {"coords": "t x y"}),
    ("u_tt - u_xx + sin u = 0", {"coords": "t x"}),
    ("u_t + Δu - |∇u|² = 0", {"coords": "t x[100]"}),
    ("Δu + k² u = f", {"coords": "x y"}),
    ("∂²u/∂t² = c² ∇²u", {"coords": "t x y"}),
    ("u_t + b·∇u = d_i(a_ij d_j u) + R(u)", {"coords": "t x y", "functions": "R"}),
    ("laplace(u) + a_ij d_i d_j u", {"coords": "x y"}),
    ("(u_t + 6 u u_x + u_xxx)_x + 3 sigma² u_yy = 0", {"coords": "t x y"}),
    ("u_tt = u_xx + (u²)_xx + u_xxxx", {"coords": "t x"}),
    ("u_t + u·∇u = -∇p + theta e_2; theta_t + u·∇theta = 0", {"coords": "t x y z", "fields": "u[3] p theta"}),
    ("∇·(∇u/sqrt(1+|∇u|²)) = 0", {"coords": "x y"}),
    ("det(D²u) = f", {"coords": "x y"}),
    ("|∇u| = 1/c(x)", {"coords": "x y", "functions": "c"}),
    ("|∇u| = 1/c(x)", {"coords": "x"}),
    ("-∇·(eps ∇φ) = rho - kappa² sinh φ", {"coords": "x y"}),
    ("u_t = Δ(u^m)", {"coords": "t x"}),
    ("d^4/dx^4 u", {}),
    ("laplace(u) + a_ij d_i d_j u", {"coords": "x y z"}),
]
