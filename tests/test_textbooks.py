"""Equations as textbooks print them, and what opdsl reads; each reading was checked against the book's meaning by hand."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from opdsl.errors import OpdslWarning
from opdsl.grammar import parse_system
from opdsl.language.calculus import conditions, expand

TEXTBOOKS: list[tuple[str, dict[str, Any], str]] = [
    # fluids
    ("ρ(∂u/∂t + u·∇u) = -∇p + μ∇²u + ρ g; ∇·u = 0",
     {"coords": "t x y z", "fields": "u[3] p", "params": "ρ μ g[3]"},
     "rho*(u_t + dot(u, grad(u))) = -grad(p) + mu*laplace(u) + rho*g; div(u) = 0"),
    ("∂ρ/∂t + ∇·(ρ u) = 0; ∂(ρ u)/∂t + ∇·(ρ u⊗u) + ∇p = 0",
     {"coords": "t x y", "fields": "ρ u[2] p"},
     "rho_t + div(rho*u) = 0; d_t (rho*u) + div(outer(rho*u, u)) + grad(p) = 0"),
    ("∂h/∂t + ∂(h u)/∂x = 0; ∂(h u)/∂t + ∂(h u² + ½ g h²)/∂x = 0",
     {"coords": "t x", "fields": "h u", "params": "g"},
     "h_t + d_x (h*u) = 0; d_t (h*u) + d_x (h*u^2 + 1/2*g*h^2) = 0"),
    ("u ∂u/∂x + v ∂u/∂y = ν ∂²u/∂y²; ∂u/∂x + ∂v/∂y = 0",
     {"coords": "x y", "fields": "u v", "params": "ν"},
     "u*u_x + v*u_y = nu*u_yy; u_x + v_y = 0"),
    ("f''' + ½ f f'' = 0; f(0) = 0; f'(0) = 0",
     {"coords": "η", "fields": "f"},
     "f_{eta eta eta} + 1/2*f*f_{eta eta} = 0; f(eta=0) = 0; f_{eta}(eta=0) = 0"),
    ("∇⁴ψ = 0", {"coords": "x y", "fields": "ψ"}, "laplace^2 psi = 0"),
    ("∂ω/∂t + (u·∇)ω = (ω·∇)u + ν ∇²ω; ω = ∇×u",
     {"coords": "t x y z", "fields": "u[3] ω[3]", "params": "ν"},
     "omega_t + (u·∇) omega = (omega·∇) u + nu*laplace(omega); omega = curl(u)"),
    ("q = -(k/μ) ∇p; ∇·q = 0", {"coords": "x y", "fields": "q[2] p", "params": "k μ"}, "q = -k/mu*grad(p); div(q) = 0"),
    ("S_s ∂h/∂t = ∇·(K ∇h)", {"coords": "t x y", "fields": "h", "params": "S_s K"}, "S_s*h_t = div(K*grad(h))"),
    ("∂θ/∂t = ∂/∂z [K(h) (∂h/∂z + 1)]", {"coords": "t z", "fields": "h θ", "functions": "K"}, "theta_t = d_z (K(h)*(h_z + 1))"),
    ("u_j ∂u_i/∂x_j = -1/ρ ∂p/∂x_i + ν ∂²u_i/∂x_j∂x_j; ∂u_i/∂x_i = 0",
     {"coords": "x y", "fields": "u[2] p", "params": "ρ ν"},
     "u_j*u_{i,j} = -1/rho*d_i p + nu*u_{i,jj}; u_{i,i} = 0"),
    ("u_t + u u_x + v u_y = -p_x + (u_xx + u_yy)/Re",
     {"coords": "t x y", "fields": "u v p", "params": "Re"},
     "u_t + u*u_x + v*u_y = -p_x + (u_xx + u_yy)/Re"),
    (r"\frac{\partial \mathbf{u}}{\partial t} + (\mathbf{u} \cdot \nabla) \mathbf{u} = -\frac{1}{\rho} \nabla p + \nu \nabla^2 "
     r"\mathbf{u}, \quad \nabla \cdot \mathbf{u} = 0",
     {"coords": "t x y", "fields": "u[2] p", "params": "rho nu"},
     "u_t + (u·∇) u = -1/rho*grad(p) + nu*laplace(u); div(u) = 0"),
    (r"\rho c_p \left( \frac{\partial T}{\partial t} + \mathbf{u} \cdot \nabla T \right) = k \nabla^2 T",
     {"coords": "t x y", "fields": "T", "params": "rho c_p k u[2]"},
     "rho*c_p*(T_t + dot(u, grad(T))) = k*laplace(T)"),
    # elasticity
    ("ρ ∂²u/∂t² = ∇·σ + f; σ = λ tr(ε) I + 2 μ ε; ε = ½(∇u + (∇u)ᵀ)",
     {"coords": "t x y", "fields": "u[2] σ[2,2] ε[2,2]", "params": "ρ λ μ f[2]"},
     "rho*u_tt = div(sigma) + f; sigma = lambda*tr(epsilon)*I + 2*mu*epsilon; epsilon = 1/2*(grad(u) + transpose(grad(u)))"),
    ("σ_ij,j + f_i = 0; σ_ij = λ δ_ij ε_kk + 2μ ε_ij; ε_ij = ½(u_i,j + u_j,i)",
     {"coords": "x y", "fields": "u[2] σ[2,2] ε[2,2]", "params": "λ μ f[2]"},
     "sigma_{ij,j} + f_i = 0; sigma_ij = lambda*delta_ij*epsilon_kk + 2*mu*epsilon_ij; epsilon_ij = 1/2*(u_{i,j} + u_{j,i})"),
    ("EI d⁴w/dx⁴ = q", {"coords": "x", "fields": "w", "params": "EI q"}, "EI*w_xxxx = q"),
    ("E I d⁴w/dx⁴ = q(x); w(0) = 0; w'(0) = 0; w''(L) = 0; w'''(L) = 0",
     {"coords": "x", "fields": "w", "params": "E I q L"},
     "E*I*w_xxxx = q; w(x=0) = 0; w_x(x=0) = 0; w_xx(x=L) = 0; w_xxx(x=L) = 0"),
    ("d²/dx² (E I d²w/dx²) = q", {"coords": "x", "fields": "w", "params": "E I q"}, "d_xx (E*I*w_xx) = q"),
    ("D ∇⁴w + ρ h w_tt = q", {"coords": "t x y", "fields": "w", "params": "D ρ h q"}, "D*laplace^2 w + rho*h*w_tt = q"),
    ("∂σ_xx/∂x + ∂σ_xy/∂y = 0", {"coords": "x y", "fields": "σ_xx σ_xy"}, "sigma_xx_x + sigma_xy_y = 0"),
    ("μ ∇²u + (λ + μ) ∇(∇·u) + F = 0; σ·n = t",
     {"coords": "x y z", "fields": "u[3] σ[3,3]", "params": "λ μ F[3] t[3]"},
     "mu*laplace(u) + (lambda + mu)*grad(div(u)) + F = 0; dot(sigma, n) = t"),
    (r"\nabla \cdot \boldsymbol{\sigma} + \mathbf{f} = \mathbf{0},"
     r" \quad \boldsymbol{\sigma} = \lambda \operatorname{tr}(\boldsymbol{\varepsilon}) \mathbf{I} + 2\mu \boldsymbol{\varepsilon}",
     {"coords": "x y", "fields": "sigma[2,2] epsilon[2,2]", "params": "lambda mu f[2]"},
     "div(sigma) + f = 0; sigma = lambda*tr(epsilon)*I + 2*mu*epsilon"),
    (r"\frac{1}{2}\left(\frac{\partial u_i}{\partial x_j} + \frac{\partial u_j}{\partial x_i}\right) = \varepsilon_{ij}",
     {"coords": "x y", "fields": "u[2] epsilon[2,2]"},
     "1/2*(u_{i,j} + u_{j,i}) = epsilon_ij"),
    # quantum mechanics
    ("i ħ ∂ψ/∂t = -ħ²/(2 m) ∂²ψ/∂x² + V(x) ψ",
     {"coords": "t x", "fields": "ψ:complex", "params": "ħ m V"},
     "i*hbar*psi_t = -hbar^2/(2*m)*psi_xx + V*psi"),
    ("-½ ψ'' + ½ x² ψ = E ψ", {"coords": "x", "fields": "ψ", "params": "E"}, "-1/2*psi_xx + 1/2*x^2*psi = E*psi"),
    ("-½ ∇²ψ - Z/r ψ = E ψ", {"coords": "spherical(r, θ, φ)", "fields": "ψ", "params": "E Z"}, "-1/2*laplace(psi) - Z/r*psi = E*psi"),
    ("i ∂ψ/∂t = -½ ∇²ψ + g |ψ|² ψ", {"coords": "t x y", "fields": "ψ:complex", "params": "g"}, "i*psi_t = -1/2*laplace(psi) + g*abs(psi)^2*psi"),
    ("(1/r²) d/dr (r² dR/dr) + [k² - l(l+1)/r²] R = 0",
     {"coords": "r", "fields": "R", "params": "k l"},
     "1/r^2*d_r (r^2*R_r) + (k^2 - l*(l + 1)/r^2)*R = 0"),
    ("(□ + m²) φ = 0", {"coords": "t x y z", "fields": "φ", "params": "m"}, "((d_tt - laplace) + m^2) phi = 0"),
    (r"i\hbar \frac{\partial}{\partial t} \Psi(x,t) = \left[ -\frac{\hbar^2}{2m} \frac{\partial^2}{\partial x^2} + V(x) \right] \Psi(x,t)",
     {"coords": "t x", "fields": "Psi:complex", "params": "hbar m V"},
     "i*hbar*Psi_t = (-hbar^2/(2*m)*d_xx + V) Psi"),
    (r"i\hbar\partial_t\psi = -\frac{\hbar^2}{2m}\nabla^2\psi + V\psi + g|\psi|^2\psi",
     {"coords": "t x y", "fields": "psi:complex", "params": "hbar m V g"},
     "i*hbar*psi_t = -hbar^2/(2*m)*laplace(psi) + V*psi + g*abs(psi)^2*psi"),
    ("ψ'' + 2(E - V(x))ψ = 0", {"coords": "x", "fields": "ψ", "params": "E V"}, "psi_xx + 2*(E - V)*psi = 0"),
    # electromagnetism
    ("∇·E = ρ/ε0; ∇·B = 0; ∇×E = -∂B/∂t; ∇×B = μ0 J + μ0 ε0 ∂E/∂t",
     {"coords": "t x y z", "fields": "E[3] B[3]", "params": "ρ ε0 μ0 J[3]"},
     "div(E) = rho/epsilon0; div(B) = 0; curl(E) = -B_t; curl(B) = mu0*J + mu0*epsilon0*E_t"),
    ("∇·E = ρ/ε₀; ∇·B = 0; ∇×E = -∂B/∂t; ∇×B = μ₀ (J + ε₀ ∂E/∂t)",
     {"coords": "t x y z", "fields": "E[3] B[3]", "params": "ρ ε₀ μ₀ J[3]"},
     "div(E) = rho/epsilon_0; div(B) = 0; curl(E) = -B_t; curl(B) = mu_0*(J + epsilon_0*E_t)"),
    ("∇²E - (1/c²) ∂²E/∂t² = 0", {"coords": "t x y z", "fields": "E[3]", "params": "c"}, "laplace(E) - 1/c^2*E_tt = 0"),
    ("∇²φ = -ρ/ε_0", {"coords": "x y z", "fields": "φ", "params": "ρ ε_0"}, "laplace(phi) = -rho/epsilon_0"),
    ("∂E_z/∂t = (1/ε)(∂H_y/∂x - ∂H_x/∂y)", {"coords": "t x y", "fields": "E_z H_x H_y", "params": "ε"}, "E_z_t = 1/epsilon*(H_y_x - H_x_y)"),
    ("∇×(1/μ ∇×E) - ω² ε E = 0", {"coords": "x y z", "fields": "E[3]", "params": "μ ω ε"}, "curl(1/mu*curl(E)) - omega^2*epsilon*E = 0"),
    ("n×E = 0; ∇×∇×E = k² E", {"coords": "x y z", "fields": "E[3]", "params": "k"}, "cross(n, E) = 0; curl(curl(E)) = k^2*E"),
    (r"\nabla \times \mathbf{E} = -\frac{\partial \mathbf{B}}{\partial t}", {"coords": "t x y z", "fields": "E[3] B[3]"}, "curl(E) = -B_t"),
    # finance
    ("∂V/∂t + ½ σ² S² ∂²V/∂S² + r S ∂V/∂S - r V = 0",
     {"coords": "t S", "fields": "V", "params": "σ r"},
     "V_t + 1/2*sigma^2*S^2*V_SS + r*S*V_S - r*V = 0"),
    ("∂V/∂t + ½ v S² ∂²V/∂S² + ρ σ v S ∂²V/∂S∂v + ½ σ² v ∂²V/∂v² + r S ∂V/∂S + κ(θ - v) ∂V/∂v - r V = 0",
     {"coords": "t S v", "fields": "V", "params": "ρ σ r κ θ"},
     "V_t + 1/2*v*S^2*V_SS + rho*sigma*v*S*V_Sv + 1/2*sigma^2*v*V_vv + r*S*V_S + kappa*(theta - v)*V_v - r*V = 0"),
    ("∂p/∂t = -∂(μ p)/∂x + ½ ∂²(σ² p)/∂x²", {"coords": "t x", "fields": "p", "params": "μ σ"}, "p_t = -d_x (mu*p) + 1/2*d_xx (sigma^2*p)"),
    (r"\frac{\partial V}{\partial t} + \frac{1}{2}\sigma^2 S^2 \frac{\partial^2 V}{\partial S^2} + rS\frac{\partial V}{\partial S} "
     r"- rV = 0, \quad V(T, S) = \max(S - K, 0)",
     {"coords": "t S", "fields": "V", "params": "sigma r T K"},
     "V_t + 1/2*sigma^2*S^2*V_SS + r*S*V_S - r*V = 0; V(t=T) = max(S - K, 0)"),
    ("∂p/∂t = -∂_i(μ_i p) + ½ ∂_i ∂_j (D_ij p)", {"coords": "t x y", "fields": "p"}, "p_t = -d_i (mu_i*p) + 1/2*d_i d_j (D_ij*p)"),
    # biology and oscillators
    ("dS/dt = -β S I/N; dI/dt = β S I/N - γ I; dR/dt = γ I; S(0) = S0; I(0) = I0; R(0) = 0",
     {"coords": "t", "fields": "S I R", "params": "β γ N S0 I0"},
     "S_t = -beta*S*I/N; I_t = beta*S*I/N - gamma*I; R_t = gamma*I; S(t=0) = S0; I(t=0) = I0; R(t=0) = 0"),
    ("u_t = D_u Δu + a - u + u² v; v_t = D_v Δv + b - u² v",
     {"coords": "t x y", "fields": "u v", "params": "D_u D_v a b"},
     "u_t = D_u*laplace(u) + a - u + u^2*v; v_t = D_v*laplace(v) + b - u^2*v"),
    ("∂n/∂t = D ∇²n - ∇·(χ n ∇c); ∂c/∂t = D_c ∇²c + α n - β c",
     {"coords": "t x y", "fields": "n c", "params": "D χ D_c α β"},
     "n_t = D*laplace(n) - div(chi*n*grad(c)); c_t = D_c*laplace(c) + alpha*n - beta*c"),
    ("∂u/∂t = D ∂²u/∂x² + r u (1 - u/K)", {"coords": "t x", "fields": "u", "params": "D r K"}, "u_t = D*u_xx + r*u*(1 - u/K)"),
    ("C dV/dt = I - g_Na m³ h (V - E_Na) - g_K n⁴ (V - E_K) - g_L (V - E_L); dn/dt = α_n(V) (1 - n) - β_n(V) n",
     {"coords": "t", "fields": "V n m h", "params": "C I g_Na E_Na g_K E_K g_L E_L", "functions": "α_n β_n"},
     "C*V_t = I - g_Na*m^3*h*(V - E_Na) - g_K*n^4*(V - E_K) - g_L*(V - E_L); n_t = alpha_n(V)*(1 - n) - beta_n(V)*n"),
    ("dx/dt = α x - β x y; dy/dt = δ x y - γ y",
     {"coords": "t", "fields": "x y", "params": "α β γ δ"},
     "x_t = alpha*x - beta*x*y; y_t = delta*x*y - gamma*y"),
    ("v' = v - v³/3 - w + I; w' = ε (v + a - b w)",
     {"coords": "t", "fields": "v w", "params": "I ε a b"},
     "v_t = v - v^3/3 - w + I; w_t = epsilon*(v + a - b*w)"),
    ("dx/dt = σ(y - x); dy/dt = x(ρ - z) - y; dz/dt = x y - β z",
     {"coords": "t", "fields": "x y z", "params": "σ ρ β"},
     "x_t = sigma*(y - x); y_t = x*(rho - z) - y; z_t = x*y - beta*z"),
    ("φ_t = M ∇²(f(φ) - ε² ∇²φ)",
     {"coords": "t x y", "fields": "φ", "params": "M ε", "functions": "f"},
     "phi_t = M*laplace(f(phi) - epsilon^2*laplace(phi))"),
    ("1/ξ² d/dξ (ξ² dθ/dξ) = -θ^n; θ(0) = 1; θ'(0) = 0",
     {"coords": "ξ", "fields": "θ", "params": "n"},
     "1/xi^2*d_{xi} (xi^2*theta_{xi}) = -theta^n; theta(xi=0) = 1; theta_{xi}(xi=0) = 0"),
    ("θ'' + (g/l) sin θ = 0; θ(0) = θ_0; θ'(0) = 0",
     {"coords": "t", "fields": "θ", "params": "g l θ_0"},
     "theta_tt + g/l*sin(theta) = 0; theta(t=0) = theta_0; theta_t(t=0) = 0"),
    # other
    ("m x'' + c x' + k x = F cos(ω t); x(0) = x_0; x'(0) = v_0",
     {"coords": "t", "fields": "x", "params": "m c k F ω x_0 v_0"},
     "m*x_tt + c*x_t + k*x = F*cos(omega*t); x(t=0) = x_0; x_t(t=0) = v_0"),
    ("∇²Φ = 4 π G ρ", {"coords": "x y z", "fields": "Φ", "params": "G ρ"}, "laplace(Phi) = 4*pi*G*rho"),
    ("u_tt = c² (u_rr + (1/r) u_r)", {"coords": "t r", "fields": "u", "params": "c"}, "u_tt = c^2*(u_rr + 1/r*u_r)"),
    ("∂T/∂t = α (∂²T/∂r² + (1/r) ∂T/∂r + ∂²T/∂z²)", {"coords": "t r z", "fields": "T", "params": "α"}, "T_t = alpha*(T_rr + 1/r*T_r + T_zz)"),
    ("ρ c_p ∂T/∂t = ∂/∂x(k ∂T/∂x) + Q; -k ∂T/∂x(t, 0) = h [T(t, 0) - T_inf]",
     {"coords": "t x", "fields": "T", "params": "ρ c_p k Q h T_inf"},
     "rho*c_p*T_t = d_x (k*T_x) + Q; -k*T_x(x=0) = h*(T(x=0) - T_inf)"),
    ("(1/r) ∂/∂r (r ∂u/∂r) = 0", {"coords": "r z", "fields": "u"}, "1/r*d_r (r*u_r) = 0"),
    ("x² y'' + x y' + (x² - ν²) y = 0", {"coords": "x", "fields": "y", "params": "ν"}, "x^2*y_xx + x*y_x + (x^2 - nu^2)*y = 0"),
    ("(1 - x²) y'' - 2x y' + n(n+1) y = 0", {"coords": "x", "fields": "y", "params": "n"}, "(1 - x^2)*y_xx - 2*x*y_x + n*(n + 1)*y = 0"),
    ('y" + y = 0', {"coords": "x", "fields": "y"}, "y_xx + y = 0"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "declared", "read"), TEXTBOOKS, ids=[text for text, _, _ in TEXTBOOKS])
def test_read_as_it_is_meant(text: str, declared: dict[str, Any], read: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        system = parse_system(text, **declared)
        again = parse_system(read, **declared)
        assert parse_system(str(system)) == system
    assert system == again
    assert str(again).endswith(read)
    assert len(expand(system).equations) + len(conditions(system)) == len(system.equations)
