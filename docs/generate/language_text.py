r"""What the reference page says in words; `reference` sets the tables in between."""

from __future__ import annotations

NOTATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "derivatives": ('coords="t x y", fields="u"', (
        "u_x", "d_x u", "∂_x u", "∂ₓu", "∂u/∂x", "du/dx", "d/dx u", "dx(u)", "diff(u, x)",
        "u_xx", "u_{2x}", "d_x^2 u", "d_xx u", "∂²u/∂x²", "d^2/dx^2 u", "6d^2u/dx^2", "diff(u, x, 2)",
        "u_xxt", "u_{x x t}", "d^3u/dx^2dt", "∂_t ∂_xx u", "(u u_x)_x", "∂(u u_x)/∂x", "d_x(u u_x)")),
    "names with numbers": ('coords="x1 x2", fields="u v_1", params="ν"', (
        "u_x1", "u_{x_1}", "∂u/∂x₁", r"\frac{\partial u}{\partial x_1}", "u_{x1 x2}", "u_{x_1 x_2}", "v1", "v₁", "ν u", r"\nu u")),
    "conditions": ('coords="t x", fields="u", params="g k h a"', (
        "u(t=0) = sin(x)", "u(0, x) = sin(x)", "u_x(t, 0) = g", "∂u/∂x(x=0) = g", "u(t, -1) = u(t, 1)", "u(0, 0) = 1", "∂_n u = g", "∂u/∂n = g",
        "dn(u) = g", "n·∇u = g", "k ∂u/∂n + h (u - a) = 0")),
    "conditions of one coordinate": ('coords="x", fields="y", params="L"', ("y(0) = 1", "y'(0) = 0", "dy/dx(0) = 0", "y(L) = 0", "y(0) = y(2 L)")),
    "further notations": ('coords="t x y", fields="u w[2] s[2,2]", params="k a[2,2]"', (
        "s_ij,j = w_i", "u,tt = k² u,xx", "∂u²/∂x", "∂u(t,x,y)/∂t", "½ [u² + k]_x", "□u + k² u", "s - s^T", "s - sᵀ", "∇w + (∇w)ᵀ",
        "sum_ij a_ij d_i d_j u", "∑_{i,j=1}^2 a_ij d_i d_j u")),
    "primes": ('coords="x", fields="u", params="k"', ("u''", "(k u')'", "u^{(4)}")),
    "vector": ('coords="t x y", fields="u[2] p s[2,2]", params="f[2] nu"', (
        "∇p", "grad p", "nabla p", "∇·u", "div u", "∇·s", "curl u", "∇×u", "Δp", "∇²p", "laplace(p)", "Δ²p", "∇⁴p", "biharmonic p",
        "u·∇u", "dot(u, grad(u))", "(u·∇)u", "|∇p|²", "∇p·∇p", "D²p", "det(D²p)", "p s:∇u", "u⊗f", "tr(s) I", "u_0", "s_01", "e_1·∇p")),
    "index": ('coords="t x y", fields="u v[2]", params="a_ij b_i C_ijkl"', (
        "a_ij d_i d_j u", "b_i d_i u", "d_i(a_ij d_j u)", "d_j(C_ijkl d_l v_k)", "v_{i,j} v_{j,i}", "δ_ij d_i d_j u",
        "Σ_i d_i^4 u", "sum_i(x_i^2 d_i d_i u)", "v_i d_i v_j = d_j u")),
    "operators as values": ('coords="t x", fields="u", params="nu"', (
        "(d_t - nu*lap) u", "(1 + ∇²)² u", "laplace(u^3 - u - nu*laplace(u))")),
    "binding": ('coords="t x y", fields="u v w[2]", params="nu k a_ij", functions="R"', (
        "a_ij d_i d_j u v", "d_x u v", "d_x(u v)", "Δ²u", "(Δu)²", "∇²u", "u_x^2", "1/2 u", "nu/k u", "sin u + 1", "sin²u", "u(t,x,y)", "u(x,y,t)",
        "u(1-u)", "k(1-u)", "R(1-u)", "-u^2", "2^-u^2", "2^3^k", "u/(2 v)", "u^(1/2)", "e^{-u}/2", "d_i u d_i v", "u v_x w_1")),
    "LaTeX": ('coords="t x", fields="u", params="nu"', (
        r"\partial_t u + u\,\partial_x u = \nu \frac{\partial^2 u}{\partial x^2}", r"\dot{u} = \nu u_{xx}", r"\nabla^2 u",
        r"6uu_{x} + \nu u", r"\frac12 \left|\nabla u\right|^2", r"$u_t = \nu u_{xx}$", r"\[ u_t = \nu u_{xx}, \quad x \in \Omega. \]",
        r"\pdv{u}{t} = \nu \pdv[2]{u}{x}", r"\frac{\partial u}{\partial t}(t,x) = u", r"\sum_{i=1}^d \partial_i^2 u")),
}  # fmt: skip
"""Title → declarations, texts."""

PROSE: tuple[str, ...] = (
    r"""
# The operator language

Write the equation as it stands in the paper; it means what the paper means, or it is refused with the place, the reason and what
to write instead. Nothing of a text is ever evaluated as code. This page is generated:
`python -m docs.generate.language > docs/language.md`.

```python
>>> import numpy as np
>>> import opdsl
>>> op = opdsl.operator("u_t + u u_x = nu u_xx", coords="t x", params="nu")
>>> op(lambda p: p[:, 0] * p[:, 1] ** 2, np.array([[1.0, 3.0]]), nu=0.5)   # left side minus right side
array([62.])
>>> print(op.info())
order 2, semilinear
coordinates: t x
fields: u (order 2)
derivatives: u, u_t, u_x, u_xx
parameters: nu
note: u is a field: it is differentiated
>>> opdsl.operator(str(op)) == op
True
>>> print(op.latex())
\partial_{t} u + u \, \partial_{x} u = \nu \, \partial_{x x} u

```

## Names

| declaration | says |
|---|---|
| `coords="t x y"` | one name for each column of x, in their order |
| `coords="t x[100]"`, `"t x[d]"` | a vector of coordinates, its length given or open until the call; components `x_0`, `x_1`, … |
| `coords="t polar(r, theta)"` | also `cylindrical(r, theta, z)`, `spherical(r, theta, phi)`, θ from the pole; in the orthonormal frame |
| `fields="u[2] p s[2,2] psi:complex"` | the unknowns, in the order of the network's output columns; a complex one takes two columns |
| `params="nu ?lam f[2] a_ij"` | names bound at call time; `?` marks a trainable one; `a_ij` is bound as `a=` |
| `functions="R"` | a function bound at call time, of values: `R(u)` |
| `time="tau"` | the coordinate that vector calculus leaves out; `t` by default |

A declared name always wins: `E`, `I`, `S`, `beta`, `d`, `e`, `lambda` are ordinary names once declared. Greek letters and their
names are one (`ν`, `nu`, `\nu`). As soon as `fields=` or `params=` is given, that list is complete. What is not declared is inferred
where nothing is ambiguous: a differentiated name is a field, an indexed one a coefficient, any other a parameter; `op.info()` lists
what was inferred. Only letters and Greek names are, with digits and subscripts (`k`, `R0`, `c_p`, `kappa_0`), and customary ones (`eps`,
`hbar`, `Re`); any other word must be declared. Declarations may also stand in front of the text, which is how `str` prints them, with
what was inferred: `coords: t x; fields: u; params: nu; u_t = nu*u_xx`.

Undeclared, `pi` is π, `e` is Euler's number as the base of a power, `I` the identity tensor, `i` the imaginary unit where a field is
complex, `δ_ij` and `ε_ijk` are Kronecker's and Levi-Civita's symbols, `e_0` a unit vector, `n` the normal in `∂_n`.

A name is the same name under all its spellings, in the text and in a call: `ν` and `nu`; `x1`, `x_1` and `x₁`; `ε`, `epsilon` and
`varepsilon`, as long as only one of them is declared. Coordinates with numbers stand in subscripts:
""", "<names with numbers>", r"""
Values are bound under the name as it was written or under its plain name: after `params="ν a_ij"` the calls `op(u, x, ν=0.1, a_ij=A)` and
`op(u, x, nu=0.1, a=A)` are one. A matrix may be bound to a function or network that returns (d, d) at a point, (n, d, d) at points.

```python
>>> op = opdsl.operator("u_t = ν u_xx", coords="t x", fields="u", params="ν")
>>> op(lambda p: p[:, 1] ** 2, np.array([[0.0, 1.0]]), ν=0.5), op(lambda p: p[:, 1] ** 2, np.array([[0.0, 1.0]]), nu=0.5)
(array([-1.]), array([-1.]))

```

An undeclared `n` is the normal where a vector stands (`n·∇u`, `σ_ij n_j`) and in `∂_n`; it is bound as `n=`. A declared `n` is what it is
declared as; then `dn(u)` is the normal derivative. An undeclared `T` in an exponent transposes a matrix.

A coefficient may be bound to a number, a constant array, an array of one value per point, a function of the point or a network.
Where the text differentiates it, as in `d_x(k u_x)`, what is bound decides: a function or a network is differentiated exactly, with
the same engine; the derivatives of a number or a constant array are zero; values at the points do not tell their derivatives and are
refused. `?` says that a parameter is trainable and nothing else. `op.info()` lists the derivatives of coefficients that are needed.

## Derivatives
""", "<derivatives>", r"""
Any order and mixture. Primes take the only coordinate:
""", "<primes>", r"""
Notations of textbooks that are read as they are meant; `□` is ∂_t² − Δ and warns, because books differ in its sign:
""", "<further notations>", r"""
## Vector calculus

Over the space coordinates only. Ranks are checked. The convention is (∇u)_ij = ∂_i u_j and (∇·σ)_j = ∂_i σ_ij, so that `u·∇u`,
`dot(u, grad(u))` and `(u·∇)u` are one; `jac(u)` is ∂_j u_i. Components are counted from 0.
""", "<operators>", "<vector>", r"""
`A v` of a rank-2 and a vector is the matrix–vector product, `:` contracts twice, `·` between scalars multiplies. Two juxtaposed
vectors are refused: `dot` or `outer`? `dev` subtracts tr/d · I.

## Index notation

The letters i … n range over the space coordinates whatever these are called. A letter that occurs twice in a term is summed; three
times is refused unless `sum_i(…)` says so. Letters that stand alone must agree in all terms and give as many equations.
""", "<index>", r"""
## Operators as values

An operator in parentheses acts on what follows; a power repeats it; 1 is the identity. Products and functions inside are expanded
by the exact product and chain rule.
""", "<operators as values>", r"""
## What binds to what

Juxtaposition multiplies, with a blank between names (`uu_x` is one unknown name). A prefix operator acts on the next factor with its
power or call, not on the product. Powers are taken from the right, and a sign in an exponent takes the whole exponent: `2^-x^2` is
2^(−(x²)), `-x^2` is −(x²). Products and quotients are taken from the left. A field before a list of coordinates is the field itself;
the list may name some of them, and time at any place, the others in their declared order. Readings that may surprise warn.
""", "<binding>", r"""
Refused, because both readings are common: `u(t-1)` (delay or product?), `u^(2)` (power or derivative?), `∇·k∇u`, `sin 2 x`, `tan⁻¹ u`,
`u^n'`, nested bars, a function name without argument; a product glued to a slash, `u/2x` (`1/2 u` and `u/(2x)` stand); a slash or a
factor that may belong to an exponent or to the argument of a function, `u^1/2`, `e^-x/2`, `e^-2x`, `cos u/2`; the derivative of
anything but a field before another derivative, `∂_x k ∂_x u`; a parameter before a parenthesis where it is differentiated,
`d_x(k(u) u_x)` (declare `functions="k"`, or write `k*u`); exchanged coordinates, `u(y, x)`.

## Functions
""", "<functions>", r"""
`a < b` and the like stand in `where(a < b, yes, no)` only. `^` and `**` are powers, `²` and `⁻¹` too.
At a kink the derivative is the one that [coverage.md](coverage.md#values-at-kinks) states for the same function in a network: that of
`max(u, 0)` at u = 0 is the mean u_x/2, those of `relu(u)` and `|u|` are 0.

Functions of one's own are declared and bound; their derivatives come from the framework:

```python
>>> op = opdsl.operator("d_x(R(u) u_x)", coords="x", fields="u", functions="R")
>>> op(lambda p: p[:, 0] ** 2, np.array([[3.0]]), R=lambda u: u ** 2)     # (x⁴ · 2x)_x = 10 x⁴
array([810.])

```

## Several equations, definitions, conditions

Equations are separated by `;` or line breaks, `name:` names them, `let w = …` defines, `#` comments. A restriction makes boundary or
initial data, which are not part of `op(u, x)` but operators of their own that set the fixed coordinates themselves; several terms
may be taken at several places.

```python
>>> op = opdsl.operator('''
...     let flux = -k u_x            # Fourier's law
...     heat: u_t + (flux)_x = 0
...     init: u(t=0) = sin(pi x)
...     left: u_x(x=0) = g
...     ring: u(x=0) = u(x=2)
... ''', coords="t x", fields="u", params="?k g")
>>> list(op.conditions)
['init', 'left', 'ring']
>>> u = lambda p: p[:, 0] + p[:, 1] ** 2
>>> x = np.array([[1.0, 0.5]])
>>> op.conditions["left"](u, x, g=3.0), op.conditions["ring"](u, x)
(array([-3.]), array([-4.]))
>>> both = opdsl.operator("mom: u_t = v_x; v = u_x", coords="t x", fields="u v")
>>> result = both(lambda p: p, np.array([[1.0, 2.0]]))
>>> result.mom, result["eq2"]
(array([0.]), array([2.]))

```

A place is given by name, `u(t=0)`, or by position among all coordinates, `u(0, x)`; a coordinate that stands there by its name
is free. An equation with the normal or its derivative is a condition, too.
""", "<conditions>", "<conditions of one coordinate>", r"""
In an equation that names a place all terms are taken there, also those that name none; that warns. `u(t-1, x)` is refused, and so are
`u|_{x=0}` and `u = 0 on ∂Ω`: write `u(x=0) = 0`.

## Complex fields

A complex field is a pair of columns, a complex equation gives a last axis of length 2: real part, imaginary part.

```python
>>> op = opdsl.operator("i u_t + u_xx + |u|^2 u = 0", coords="t x", fields="u:complex")
>>> soliton = lambda p: np.stack([np.cos(p[:, 0]), np.sin(p[:, 0])], -1) * (2 ** 0.5 / np.cosh(p[:, 1:]))
>>> bool(abs(op(soliton, np.array([[0.3, 0.7], [1.0, -2.0]]))).max() < 1e-14)
True

```

## LaTeX

A backslash command makes a text LaTeX. There single letters are names and juxtaposition is a product; longer names are written
`\mathrm{…}`. Fonts, spacing, `\left`, `\right`, `&`, `\\`, `align`, `$…$`, `\[…\]`, trailing punctuation and the set after `\quad x \in`
are read over.
""", "<LaTeX>", r"""
## What can be made from an operator

`sobolev(m)` adds all derivatives of the residuals up to order m; `substitute` changes variables, or puts formulas in place of
fields, which gives the forcing of a manufactured solution; `to_sympy()` and `opdsl.from_sympy` go to SymPy and back.

```python
>>> heat = opdsl.operator("F: u_t = u_xx", coords="t x", fields="u")
>>> print(heat.sobolev(1))
coords: t x; fields: u; F: u_t - u_xx; F_t: d_t (u_t - u_xx); F_x: d_x (u_t - u_xx)
>>> print(heat.substitute("t = s; x = xi*sqrt(s)", coords="s xi"))
coords: s xi; fields: u; F: u_s - u_{xi xi}*(1/s) - 0.5*xi*u_{xi}*(1/s)
>>> forcing = heat.substitute({"u": "exp(-t) sin(2 x)"})
>>> print(forcing)
coords: t x; fields: ; F: 3*exp(-t)*sin(2*x)
>>> forcing(np.array([[0.0, 0.0]]))
array([0.])

```

## Limits

Texts from anywhere may be parsed: work and memory are bounded.
""", "<limits>", r"""
## Errors

All errors of a text come at once, at construction, each with a code, the place underlined, the reason and what to write instead.
`opdsl check FILE` prints those of a file.

```python
>>> try:
...     opdsl.operator("mom: u_t + u*u_x = nu*u_xz", coords="t x", params="nu")
... except opdsl.OpdslError as error:
...     print(error)
OpNameError[E103], line 1:
  mom: u_t + u*u_x = nu*u_xz
                        ^^^^ 'z' is not a declared coordinate (t, x)
  did you mean u_xx?

```

One malformed text for each code, with
""", "<context>", "<errors>",
)
"""The page in order; ``<title>`` stands for a table."""
