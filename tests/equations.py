"""The equations that must work, each with networks, bindings, and its meaning written out by hand.

``T`` gives the derivatives of the unknowns (`references.Truth`), ``C`` those of coefficient networks, ``B`` the bindings as
NumPy arrays at the points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from references import Floats, Network, Truth, network, points

Meaning = Callable[[Truth, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Formula:
    """A coefficient as a function of the coordinates: ``build(xp, columns)``, nested lists for arrays."""

    build: Callable[[Any, Any], Any]


@dataclass(frozen=True)
class UserFunction:
    """A function bound to the text, of values: ``build(xp, *values)``."""

    build: Callable[..., Any]


@dataclass(frozen=True)
class Equation:
    """One text.

    Args:
        text: as typed.
        options: declarations for `opdsl.operator`.
        columns: names of the network's outputs, as ``truth`` uses them.
        truth: residuals by hand; a list of arrays for several equations; components in a last axis.
        bindings: numbers, arrays, `Formula`, `Network` (differentiated coefficients) or `UserFunction` by name.
        coords: coordinate letters for ``truth``.
        order: highest order.
    """

    text: str
    options: Mapping[str, Any]
    columns: str
    truth: Meaning
    bindings: Mapping[str, Any] = field(default_factory=dict)
    order: int = 2
    positive: bool = False

    @property
    def coords(self) -> str:
        return str(self.options["coords"])

    def network(self) -> Network:
        net = network(len(self.coords.split()), len(self.columns.split()), "tanh sin", width=4)
        if not self.positive:
            return net
        weight, bias = net.layers[-1]
        return Network((*net.layers[:-1], (weight, bias + 6.0)), net.activations)

    def settle(self) -> tuple[Network, Floats, Any]:
        """Network, points, and the truth there."""
        net, x = self.network(), points(3, len(self.coords.split()))
        columns = [x[:, i] for i in range(x.shape[1])]
        known: dict[str, Any] = {}
        for name, value in self.bindings.items():
            if isinstance(value, Formula):
                known[name] = _at(value.build(np, columns), columns[0])
            elif isinstance(value, Network):
                known[name] = Truth(value, x, self.coords, " ".join(f"c{k}" for k in range(value.outputs)), 2)
            else:
                known[name] = value.build if isinstance(value, UserFunction) else value
        return net, x, self.truth(Truth(net, x, self.coords, self.columns, self.order), known)


def _at(entries: Any, like: Floats) -> Floats:
    if isinstance(entries, list):
        return np.stack([_at(e, like) for e in entries], axis=-1 if not isinstance(entries[0], list) else 1)
    return entries + 0.0 * like


def _lap(T: Truth, name: str, over: str) -> Any:
    return sum(getattr(T, name)(a + a) for a in over)


def _stack(*parts: Any) -> Floats:
    return np.stack(parts, axis=-1)


def _navier_stokes(over: str) -> Meaning:
    names = "uvw"[: len(over)]

    def truth(T: Truth, B: Mapping[str, Any]) -> Any:
        momentum = [
            getattr(T, c)("t") + sum(getattr(T, b)() * getattr(T, c)(a) for a, b in zip(over, names, strict=True))
            + T.p(over[k]) / B["rho"] - B["nu"] * _lap(T, c, over)
            for k, c in enumerate(names)
        ]  # fmt: skip
        return [_stack(*momentum), sum(getattr(T, c)(a) for a, c in zip(over, names, strict=True))]

    return truth


def _cahn_hilliard(T: Truth, B: Mapping[str, Any]) -> Any:
    lap, grad = _lap(T, "c", "xy"), T.c("x") ** 2 + T.c("y") ** 2
    bilap = T.c("xxxx") + 2 * T.c("xxyy") + T.c("yyyy")
    return T.c("t") - (3 * T.c() ** 2 * lap + 6 * T.c() * grad - lap - B["gamma"] * bilap)


def _curl(T: Truth, x: str, y: str, z: str) -> tuple[Any, Any, Any]:
    u, v, w = (getattr(T, n) for n in (x, y, z))
    return w("y") - v("z"), u("z") - w("x"), v("x") - u("y")


def _maxwell(T: Truth, B: Mapping[str, Any]) -> Any:
    curl_b, curl_e = _curl(T, "p", "q", "r"), _curl(T, "e", "f", "g")
    first = [getattr(T, n)("t") - B["c"] ** 2 * curl_b[k] + B["J"][k] / B["eps0"] for k, n in enumerate("efg")]
    second = [getattr(T, n)("t") + curl_e[k] for k, n in enumerate("pqr")]
    return [_stack(*first), _stack(*second)]


def _diffusion_reaction(T: Truth, B: Mapping[str, Any]) -> Any:
    a, b = B["a"], B["b"]
    entry = {(0, 0): a.c0, (0, 1): a.c1, (1, 0): a.c2, (1, 1): a.c3}
    flux = sum(
        entry[i, j](x) * T.u(y) + entry[i, j]() * T.u(x + y) for i, x in enumerate("xy") for j, y in enumerate("xy")
    )
    return T.u("t") + b[:, 0] * T.u("x") + b[:, 1] * T.u("y") - flux - B["R"](np, T.u())


def _boussinesq(T: Truth, B: Mapping[str, Any]) -> Any:
    def advect(c: str) -> Any:
        return T.u() * getattr(T, c)("x") + T.v() * getattr(T, c)("y") + T.w() * getattr(T, c)("z")

    momentum = [getattr(T, c)("t") + advect(c) + T.p(a) for c, a in zip("uvw", "xyz", strict=True)]
    momentum[2] = momentum[2] - T.h()  # components count from 0: e_2 points along z
    return [_stack(*momentum), T.h("t") + advect("h")]


def _minimal_surface(T: Truth, B: Mapping[str, Any]) -> Any:
    ux, uy = T.u("x"), T.u("y")
    w = 1 + ux**2 + uy**2
    return ((1 + uy**2) * T.u("xx") - 2 * ux * uy * T.u("xy") + (1 + ux**2) * T.u("yy")) / w**1.5


def _poisson_boltzmann(T: Truth, B: Mapping[str, Any]) -> Any:
    eps = B["eps"].c0
    flux = eps("x") * T.u("x") + eps("y") * T.u("y") + eps() * _lap(T, "u", "xy")
    return -flux - B["rho"] + B["kappa"] ** 2 * np.sinh(T.u())


def _porous(T: Truth, B: Mapping[str, Any]) -> Any:
    m, u = B["m"], T.u()
    return T.u("t") - m * u ** (m - 1) * T.u("xx") - m * (m - 1) * u ** (m - 2) * T.u("x") ** 2


def _kp(T: Truth, B: Mapping[str, Any]) -> Any:
    return T.u("tx") + 6 * T.u("x") ** 2 + 6 * T.u() * T.u("xx") + T.u("xxxx") + 3 * B["sigma"] ** 2 * T.u("yy")


def _elastic(T: Truth, B: Mapping[str, Any]) -> Any:
    grad = T.u("xx") + T.v("xy"), T.u("xy") + T.v("yy")
    return _stack(*(
        (B["lam"] + B["mu"]) * grad[k] + B["mu"] * _lap(T, n, "xy") + B["f"][k] for k, n in enumerate("uv")
    ))  # fmt: skip


def _schroedinger(T: Truth, B: Mapping[str, Any]) -> Any:
    hbar, m, V = B["hbar"], B["m"], B["V"]
    return _stack(
        -hbar * T.b("t") + hbar**2 / (2 * m) * T.a("xx") - V * T.a(),
        hbar * T.a("t") + hbar**2 / (2 * m) * T.b("xx") - V * T.b(),
    )


def _cubic(T: Truth, B: Mapping[str, Any]) -> Any:
    size = T.a() ** 2 + T.b() ** 2
    return _stack(-T.b("t") + T.a("xx") + size * T.a(), T.a("t") + T.b("xx") + size * T.b())


MATRIX = np.array([[2.0, 0.5], [0.1, -1.0]])
TX, TXY, XY = {"coords": "t x"}, {"coords": "t x y"}, {"coords": "x y"}

EQUATIONS = [
    Equation("u_t + u u_x = nu u_xx", TX, "u", lambda T, B: T.u("t") + T.u() * T.u("x") - 0.1 * T.u("xx"), {"nu": 0.1}),
    Equation("-lam U + ((1+lam) y + U) U' = 0", {"coords": "y", "params": "?lam"}, "U",
             lambda T, B: -0.4 * T.U() + (1.4 * T.y() + T.U()) * T.U("y"), {"lam": 0.4}, 1),
    Equation("u_t + 6 u u_x + u_xxx = 0", TX, "u", lambda T, B: T.u("t") + 6 * T.u() * T.u("x") + T.u("xxx"), order=3),
    Equation("u_t + u u_x + alpha u_xxx - beta d^5u/dx^5 = 0", TX, "u",
             lambda T, B: T.u("t") + T.u() * T.u("x") + 0.7 * T.u("xxx") - 0.2 * T.u("xxxxx"), {"alpha": 0.7, "beta": 0.2}, 5),
    Equation("u_t + u_xx + u_xxxx + 1/2 |∇u|^2 = 0", TX, "u",
             lambda T, B: T.u("t") + T.u("xx") + T.u("xxxx") + 0.5 * T.u("x") ** 2, order=4),
    Equation("D Δ²u = q", {**XY, "params": "D q"}, "u",
             lambda T, B: 2.5 * (T.u("xxxx") + 2 * T.u("xxyy") + T.u("yyyy")) - B["q"],
             {"D": 2.5, "q": np.array([1.0, -2.0, 0.5])}, 4),
    Equation("c_t = laplace(c**3 - c - gamma*laplace(c))", TXY, "c", _cahn_hilliard, {"gamma": 0.3}, 4),
    Equation("u_t = eps^2 Δu + u - u^3", TXY, "u",
             lambda T, B: T.u("t") - 0.04 * _lap(T, "u", "xy") - T.u() + T.u() ** 3, {"eps": 0.2}),
    Equation("u_t + u·∇u = -∇p/rho + nu Δu; ∇·u = 0", {**TXY, "fields": "u[2] p"}, "u v p", _navier_stokes("xy"),
             {"rho": 1.7, "nu": 0.1}),
    Equation("u_t + u·∇u = -∇p/rho + nu Δu; ∇·u = 0", {"coords": "t x y z", "fields": "u[3] p"}, "u v w p",
             _navier_stokes("xyz"), {"rho": 1.7, "nu": 0.1}),
    Equation("w_t + u·∇w = nu Δw; w = curl u", {**TXY, "fields": "u[2] w"}, "u v w",
             lambda T, B: [T.w("t") + T.u() * T.w("x") + T.v() * T.w("y") - 0.1 * _lap(T, "w", "xy"),
                           T.w() - T.v("x") + T.u("y")], {"nu": 0.1}),
    Equation("-mu Δu + ∇p = f; div u = 0", {**XY, "fields": "u[2] p"}, "u v p",
             lambda T, B: [_stack(*(-0.9 * _lap(T, n, "xy") + T.p(a) - B["f"][k]
                                    for k, (n, a) in enumerate(zip("uv", "xy", strict=True)))),
                           T.u("x") + T.v("y")], {"mu": 0.9, "f": np.array([1.0, -3.0])}),
    Equation("(lam+mu)∇(∇·u) + mu Δu + f = 0", {**XY, "fields": "u[2]", "params": "lam mu f[2]"}, "u v", _elastic,
             {"lam": 1.3, "mu": 0.6, "f": np.array([0.2, -0.1])}),
    Equation("∂_t E = c^2 ∇×B - J/eps0; ∂_t B = -∇×E", {"coords": "t x y z", "fields": "E[3] B[3]"}, "e f g p q r", _maxwell,
             {"c": 1.5, "eps0": 0.7, "J": np.array([1.0, 2.0, -1.0])}, 1),
    Equation("i hbar ψ_t = -hbar²/(2m) Δψ + V ψ", {**TX, "fields": "ψ:complex", "params": "hbar m V"}, "a b", _schroedinger,
             {"hbar": 0.8, "m": 1.2, "V": np.array([0.3, -1.0, 2.0])}),
    Equation("i u_t + u_xx + |u|^2 u = 0", {**TX, "fields": "u:complex"}, "a b", _cubic),
    Equation("u_tt - c² Δu + m² u = 0", TXY, "u",
             lambda T, B: T.u("tt") - 2.25 * _lap(T, "u", "xy") + 0.49 * T.u(), {"c": 1.5, "m": 0.7}),
    Equation("u_tt - u_xx + sin u = 0", TX, "u", lambda T, B: T.u("tt") - T.u("xx") + np.sin(T.u())),
    Equation("Δu + k² u = f", XY, "u", lambda T, B: _lap(T, "u", "xy") + 4 * T.u() - B["f"],
             {"k": 2.0, "f": Formula(lambda xp, c: xp.sin(c[0]) * c[1])}),
    Equation("∂²u/∂t² = c² ∇²u", TXY, "u", lambda T, B: T.u("tt") - 2.25 * _lap(T, "u", "xy"), {"c": 1.5}),
    Equation("u_t + b·∇u = d_i(a_ij d_j u) + R(u)", {**TXY, "functions": "R"}, "u", _diffusion_reaction,
             {"b": Formula(lambda xp, c: [c[2], -c[1]]), "a": network(3, 4, "tanh", width=3),
              "R": UserFunction(lambda xp, v: v * (1.0 - v))}),
    Equation("laplace(u) + a_ij d_i d_j u", XY, "u",
             lambda T, B: 3 * T.u("xx") + 0.6 * T.u("xy") + 0 * T.u("yy"), {"a": MATRIX}),
    Equation("(u_t + 6 u u_x + u_xxx)_x + 3 sigma² u_yy = 0", TXY, "u", _kp, {"sigma": 0.6}, 4),
    Equation("u_tt = u_xx + (u²)_xx + u_xxxx", TX, "u",
             lambda T, B: T.u("tt") - T.u("xx") - 2 * T.u("x") ** 2 - 2 * T.u() * T.u("xx") - T.u("xxxx"), order=4),
    Equation("u_t + u·∇u = -∇p + theta e_2; theta_t + u·∇theta = 0", {"coords": "t x y z", "fields": "u[3] p theta"},
             "u v w p h", _boussinesq, order=1),
    Equation("∇·(∇u/sqrt(1+|∇u|²)) = 0", XY, "u", _minimal_surface),
    Equation("det(D²u) = f", XY, "u", lambda T, B: T.u("xx") * T.u("yy") - T.u("xy") ** 2 - 0.3, {"f": 0.3}),
    Equation("|∇u| = 1/c(x)", {**XY, "functions": "c"}, "u",
             lambda T, B: np.hypot(T.u("x"), T.u("y")) - 1 / B["c"](np, T.x()),
             {"c": UserFunction(lambda xp, v: 2.0 + xp.sin(v))}, 1),
    Equation("|∇u| = 1/c(x)", {"coords": "x"}, "u", lambda T, B: np.abs(T.u("x")) - 1 / B["c"],
             {"c": Formula(lambda xp, c: 2.0 + xp.sin(c[0]))}, 1),
    Equation("-∇·(eps ∇φ) = rho - kappa² sinh φ", XY, "u", _poisson_boltzmann,
             {"eps": network(2, 1, "sin", width=3), "rho": 0.4, "kappa": 1.1}),
    Equation("u_t = Δ(u^m)", TX, "u", _porous, {"m": 2.5}, positive=True),
    Equation("d^4/dx^4 u", {"coords": "x"}, "u", lambda T, B: T.u("xxxx"), order=4),
    Equation("laplace(u) + a_ij d_i d_j u", {"coords": "x y z"}, "u",
             lambda T, B: _lap(T, "u", "xyz") + sum(B["a"][i, j] * T.u(x + y) for i, x in enumerate("xyz") for j, y in enumerate("xyz")),
             {"a": np.array([[2.0, 0.5, 0.0], [0.1, -1.0, 0.3], [0.0, 0.2, 0.7]])}),
]  # fmt: skip
"""All of the list but the one in 101 dimensions, which has a test of its own."""
