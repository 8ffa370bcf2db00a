"""One table: message → malformed examples.

The parser finds the message for a syntax error by the state it stopped in, which it shares with one of the examples. The tests
run every example and expect its code. Examples are read with the declarations `CONTEXT`.
"""

from __future__ import annotations

from dataclasses import dataclass

CONTEXT = {"coords": "t x y", "fields": "u v w[2] s[2,2] z:complex", "params": "nu k f[2]", "functions": "R"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What to say where the grammar does not fit."""

    code: str
    message: str
    suggestion: str
    examples: tuple[str, ...]


SYNTAX: tuple[Explanation, ...] = (
    Explanation(
        "E006", "the text ends where a value is expected", "complete the expression",
        ("u_t +", "u_t =", "nu *", "u_t - ", "u_t = nu u_xx +", "mom:", "u·", "1/", "u_t = -"),
    ),
    Explanation(
        "E008", "the equation ends where a value is expected", "complete it before the ';' or the line break",
        ("u_t ; u_x + ; v", "u = ; v", "mom: ; u", "let a = ; u", "u * ; v", "-; u"),
    ),
    Explanation(
        "E070", "two operations stand next to each other", "remove one of them",
        ("u * / v", "u + * v", "u / / v", "* u", "/ u", "u_t = * v", "(* u)", "sin(* u)", "u - / v", "u·*v", "max(u, *v)",
         "|*u|", "let a = * u"),
    ),
    Explanation(
        "E072", "'=' stands where a value is expected", "write both sides of the equation",
        ("= u", "u + = v", "u * = v", "u = = v", "u^ = 0", "u - = v"),
    ),
    Explanation("E073", "nothing stands between the parentheses", "write a value between them",
                ("u + ()", "()", "u * ()", "u_t = ()", "-()")),
    Explanation("E074", "a function without an argument", "write its argument between the parentheses",
                ("sin()", "u + R()", "laplace()", "u()")),
    Explanation(
        "E075", "a comma stands outside of a function", "write a product with *, or separate equations by ';'",
        ("u, v", "u_t = u, v", "(u, v)", "|u, v|", "u_t, = v", "mom: u, v"),
    ),
    Explanation(
        "E076", "a comparison is allowed in where(…) only", "write where(u > 0, a, b)",
        ("u < v", "u_t = u > 0", "|u > 0|", "mom: u >= v"),
    ),
    Explanation(
        "E077", "the bracket closes where a value is expected", "complete the expression before it",
        ("(u +)", "(u * )", "(u -)", "sin(u +)", "u^(k -)", "|u +|", "|u * |", "e^{u +}"),
    ),
    Explanation("E078", "an argument is missing", "write a value, or remove the comma",
                ("max(u,)", "max(,u)", "diff(u,,x)", "where(u > 0,,v)", "u(,x)")),
    Explanation("E079", "let takes a name, '=' and a value", "write let w = curl(u)",
                ("let = u", "let w u", "let 3 = u", "let (w) = u", "let w + u", "let w; u")),
    Explanation("E080", "an exponent is missing", "write u^2, u^(k+1) or u**2",
                ("(u^)", "u^*2", "u^^2", "u^; v", "u**/v")),
    Explanation(
        "E081", "'=' inside plain parentheses", "restrict a field as in u(x=0) or u_x(x=0); equations stand outside",
        ("(u_x)(x=0)", "(u = 0)", "|u = 0|"),
    ),
    Explanation("E082", "a subscript or prime with nothing before it", "write u_x, u' or (…)_x",
                ("_x u", "'u", "u + _x", "(_x)", "u * 'v", "d_x _x u")),
    Explanation("E083", "a power with nothing before it", "write what is raised",
                ("^2 u", "²", "u + ^2", "(^2)", "u * ^2", "** 2")),
    Explanation("E084", "the bar closes around nothing", "write |u|", ("| |", "u + | |")),
)

OTHER: dict[str, tuple[str, ...]] = {
    "E004": ("", "   ", "\n\n", "# only a comment", ";;"),
    "E005": ("let a = u",),
    "E010": ("u_t ≡ v", "u_t → v", "u > 0 ? u : v", "∛u", "∑ u", "∏ u", "⟨u⟩", "∀x u", "u ∓ v", "ū", "ü + u", "u_t = ẋ", "u ! v", "u_t = √u",
             "u @ v", "u_t % v", "∞ u", "∫ u", "u ± v",
             "w.grad(w)", "u ~ v", "\x00u", "u_t ≈ v"),
    "E011": ("(u", "u)", "[u", "(u]", "[u)", "((u)", "sin(u", "u^{k", "u}", "(u; v)"),
    "E012": ("|u", "||u|", "|u|v|", "(|u)", "|u + |v|| + |u|"),
    "E014": ("u|_{x=0} = 0", "∂u/∂x|_{x=0} = 0", "u_x|x=0 = 1"),
    "E015": ("u²⁻",),
    "E016": ("١ u",),
    "E017": ("(u v)_", "u + _", "u_{}", "(u)__", "(u v)_{}", "u + q_{}", "sum_{i=1}^3 d_i u", "∑_{i=1}^N d_i u", "sum_i^2 x_i d_i u", "u_{n+1} - u"),
    "E018": ("1.5.2 u", "u_t = 1..2 u", "10 000 u", "u.5", "2½ u", "1,5 u"),
    "E019": ("s: ∇w", "u_t = v; s:grad(w) = 0"),
    "E020": ("∂ u", "∂", "u + ∂/v", "∂x u", "∂u v/∂x", "∂^μ u"),
    "E021": ("d^2u/dx^3", "∂²u/∂x", "d^3u/dxdy", "d^2/dx u", "∂u/∂x²"),
    "E022": ("d_x", "∇", "laplace", "u + laplace", "u_t = ∇²", "|∇|", "sin(∇)", "(d_t - nu*lap)", "u·∇"),
    "E023": ("lap * u", "d_x * u", "(1 + lap)*u"),
    "E024": ("∇ᵀ w", "(d_x)^k u", "lap^(-1) u", "d_x^0 u", "lap^0.5 u"),
    "E025": ("(w·∇)² w",),
    "E026": ("Δ_x u",),
    "E027": ("sin", "u + sin", "R + u", "u_t = sin ; v"),
    "E028": ("dx u", "dt + u", "u_t = (d^2 u)/dx", "u_t = 2 u dx"),
    "E029": ("lap + u_x",),
    "E030": ("u/lap",),
    "E032": ("u/0", "u/0.0"),
    "E033": ("d_x·u", "w·d_x"),
    "E034": ("∇·k∇u", "∂_x k ∂_x u", "div k grad(u)", "∇·k² ∇u", "∂_x x² ∂_x u", "d/dx k du/dx", "Δ k Δ u", "d_x nu k d_x u",
             "∂_x R(u) ∂_x u", "∂_x u² ∂_x u", "(∂_x k ∂_x) u", "d_x 2 u", r"\partial_x k \partial_x u",
             r"\frac{\partial}{\partial x} k \frac{\partial u}{\partial x}"),
    "E035": ("sin 2 x", "sin u v", "exp k u", "cos u/2", "sin² u / 2", "d_x cos u/2", "-log u/k", r"\cos u/2"),
    "E036": ("sinh⁻¹u", "sin^-1 u", "sin^(-1)(u)", "tan⁻¹ u"),
    "E037": ("∇³ u",),
    "E038": ("D³ u",),
    "E039": ("u'", "u''", "(u v)'"),
    "E040": ("sin(u > 0)", "u(x > 0)", "max(u < v, u)"),
    "E041": ("u(x, v)", "nu(u, v)", "u(x, 0, 0)", "u(t-1, x, y)", "u(0, 1)", "nu(0, x, y)"),
    "E042": ("u(t-1)", "u(2x)", "u(0)", "k(1 - x)", "w[0]"),
    "E043": ("u^(2)",),
    "E044": ("sin(u, v)", "where(u > 0, v)", "dot(w)", "laplace(u, v)", "diff(u)", "atan2(u)"),
    "E045": ("where(u, v, 1)",),
    "E046": ("diff(u, v)", "diff(u, 2)", "diff(u, x, 0.5)", "diff(u, x, 0)"),
    "E047": ("u^k' = v", "u^2_x", "v²_x + u", "e^u'", "2^-u'"),
    "E048": ("u/2x", "u/2v", "1/2u", "-nu²/2k u_xx", "u/4pi k", "u/k(v)", "u/x²y", "1/2(u + v)", "u/-2x", "u/2|v|", "u/2sin(x)",
             r"\nu^2/2k", r"u/2\pi"),
    "E049": ("u^1/2", "u^-1/2", "k^-5/3 u", "u^1/k", "e^-x^2/2", "e^x/2", "e^-2x u", "e^-k(u - v)", "e^2x",
             r"u^1/2 + \nu"),
    "E056": ("d_x(k(u) u_x)", "∇·(k(|∇u|²) ∇u)", "(k(1 - u) u_x)_x", "let q = k(u) u_x; d_x q", "d_x(f_0(u))"),
    "E057": ("u(y, x)", "u(y, x, t)", "∂_x u(y, x)", "k(y, x) u"),
    "E060": (r"\hat u", r"\frac{u}", r"\nu u_xx", r"\frac{u}{v", r"\foo u", r"\int u", r"\sqrt[3]{u}",
             r"u_t = v, \quad x \in \partial\Omega", r"u \in \Omega", "$u_xx$"),
    "E071": ("u = v = 0", "mom: u_t = v = u", "wall: u(x=0) = u(x=1) = 0", "u(x=0) = 0 = v"),
    "E102": ("log10 u", "sup_a(u)", "max_a(u)", "xu_x", "temp_t", r"\frac{\delta F}{\delta u}",
             "partial u/partial t", "Du + v", "lim u", "int u", "4piku", "kuv_x",
             "q u", "uu", "uv_x", "D u", "i nuu", "iu", "s^{ij} d_i d_j u", "u^T", "n u", "u_t = nuu u", "lapl u", "i u_t + qq", "D_x u",
             "u_t = D_xx u",
             "u_t = d2u/dx2", "Du/Dt", "uxx + v", "u_t = Laplace u", "u_t = dudx", "u_t = v in f", r"\frac{D u}{D t} = k",
             r"u_t = v \quad \text{on } f"),
    "E103": ("5u_x6", "∂_μ u", "∂u/∂q", "∂u/∂x_1", "u_x1", "u_xz", "d_z u", "du/dq", "u_{xq}", "d_{xz} u", "u_foo", "d_0 u", "diff(u, x) + d_q u"),
    "E104": ("foo(u)", "S(1 - u)", "Laplacian(u)"),
    "E106": ("let a = b; let b = u; a", "let a = a; a"),
    "E109": ("R_x u", "R'(u)"),
    "E110": ("mom: u; mom: v", "let u = v; u", "let a = u; let a = v; a"),
    "E114": ("e u", "e + u"),
    "E201": ("s_ij d_j u + w_j", "w_i + w_j", "w_i + u", "w_i = nu"),
    "E202": ("w_i w_i w_i", "s_ii w_i", "w_i d_i d_i u", "d_i w_i d_i w_i", "s_ii d_i u"),
    "E203": ("s_iij", "u_i", "w_ij", "u_0"),
    "E205": ("sum_i(u)",),
    "E206": ("δ_ijk w_i", "ε_ijk d_j w_k"),
    "E207": ("w_2", "s_02", "e_2·∇u", "w_9"),
    "E208": ("w_i^2", "sin(w_i)"),
    "E221": ("w + u", "u + 1 + w", "w = 1", "∇u + u", "s + w", "u_t = ∇v", "w_t + ∇·w = 0"),
    "E222": ("sin(w)", "u/w", "u^w", "where(w > 0, u, v)"),
    "E224": ("w w", "w f", "w ∇u"),
    "E225": ("z^0.5", "where(z > 0, u, v)", "log(z)", "max(z, u)"),
    "E226": ("w^3", "s^2", "w^k"),
    "E228": ("div(u)", "∇·u", "hess(w)", "∇·(k u)", "curl(s)"),
    "E230": ("wᵀ", "u^⊤", "dot(u, w)", "w·u", "cross(w, w)", "tr(w)", "det(w)", "(u·∇)v", "u + s:w", "transpose(u)", "vec(w, u)"),
    "E303": ("(" * 200 + "u" + ")" * 200, "sin(" * 100 + "u"),
    "E304": ("d^99/dx^99 u", "lap^40 u", "u_{99x}", "d_x^1000 u", "u" + "'" * 100, "∂^77_x u", "diff(u, x, 60, x, 60)"),
    "E306": ("1e999 u", "1" * 400 + " u"),
    "E403": ("u(nu=0)", "u(3=0)"),
    "E404": ("u(x=0, x=1)",),
    "E405": ("u(x=v)",),
}  # fmt: skip
"""Code → texts whose error does not come from the grammar: characters, names, ranks, limits, conditions."""
