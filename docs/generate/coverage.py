"""The page on coverage, generated from the registries of rules: ``python -m docs.generate.coverage > docs/coverage.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from opdsl.backends.registration import REGISTERED
from opdsl.jets.graph import Bilinear, Composed, Constant, Derived, Elementwise, Linear, PiecewiseLinear, Rule, Sum, kinds_of

NATIVE: dict[type[Rule], str] = {
    Constant: "constant",
    Elementwise: "elementwise",
    Sum: "sum",
    Linear: "linear",
    Bilinear: "bilinear",
    PiecewiseLinear: "piecewise linear",
}
"""Rules that the algebra of jets carries out itself."""


KINKS: tuple[tuple[str, float], ...] = (
    ("relu(x) at 0", 0.0),
    ("relu6(x) at 0", 0.0),
    ("relu6(x) at 6", 0.0),
    ("hardtanh(x) at 1", 0.0),
    ("leaky_relu(x) at 0", 0.01),
    ("softshrink(x) at ½", 0.0),
    ("elu(x) at 0", 1.0),
    ("|x| at 0", 0.0),
    ("copysign(x, −1) at 0", 0.0),
    ("max(x, 0) at 0", 0.5),
    ("min(x, 0) at 0", 0.5),
    ("max(x, −x) at 0", 0.0),
    ("clip(x, 0, 1) at 0", 1.0),
    ("clip(x, 0, 1) at 1", 1.0),
    ("clip from below by 0, at 0", 1.0),
    ("the largest of (x, 2x) at 0, as a reduction", 1.5),
    ("the largest of (x, 2x) at 0, with its index", 1.0),
    ("max pooling of (x, 2x) at 0", 1.0),
    ("sort(x, 2x) at 0, its first entry", 1.0),
    ("cummax(x, 2x) at 0, its last entry", 2.0),
    ("floor(x) at 0", 0.0),
    ("sign(x) at 0", 0.0),
    ("x mod 1 at 1", 1.0),
    ("where(x > 0, 2x, 3x) at 0", 3.0),
)
"""Function and point; the first derivative there, on every backend that has the function."""


def registries() -> dict[str, Mapping[str, Any]]:
    """The table of every backend that has one, by its name."""
    from opdsl.backends.jax import primitives
    from opdsl.backends.torch import capture  # noqa: F401  (the capture fills the table of torch)
    from opdsl.backends.torch.primitives import TABLE

    return {"JAX": primitives.TABLE, "torch": TABLE}


def how(entry: Any) -> str:
    """What happens to a primitive: ``native (linear)``, ``composed``, ``fallback``; several where its arguments decide."""
    kinds = kinds_of(entry)
    native = [NATIVE[k] for k in NATIVE if k in kinds]
    parts = [f"native ({', '.join(native)})"] if native else []
    parts += ["composed"] if Composed in kinds else []
    parts += ["fallback"] if Derived in kinds else []
    return ", ".join(parts)


def rows() -> dict[str, dict[str, str]]:
    """Primitive → backend → `how`; overloads of a torch operator count as one."""
    found: dict[str, dict[str, list[str]]] = {}
    for backend, table in registries().items():
        for name, entry in table.items():
            if name in REGISTERED:
                continue
            plain = name.partition(".")[0] if backend == "torch" else name
            cell = found.setdefault(plain, {}).setdefault(backend, [])
            cell += [how(entry)] if how(entry) not in cell else []
    return {name: {b: " or ".join(cells) for b, cells in found[name].items()} for name in sorted(found, key=str.lower)}


def page() -> str:
    """The page as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Coverage"
    yield ""
    yield "This page is generated from the registries of rules: `python -m docs.generate.coverage > docs/coverage.md`."
    yield from _primitives()
    yield from _REGISTRATION
    yield from _KINKS
    yield from (f"| {text} | {value:g} |" for text, value in KINKS)
    yield from _LARGE
    yield from _ROWS
    yield from _HALF


def _primitives() -> Iterator[str]:
    from opdsl.backends.jax.primitives import FUNCTIONS
    from opdsl.backends.torch.decompositions import own

    yield from _LEGEND
    yield ""
    backends = list(registries())
    yield f"| primitive | {' | '.join(backends)} |"
    yield f"|---|{'---|' * len(backends)}"
    for name, cells in rows().items():
        yield f"| `{name}` | {' | '.join(cells.get(b, '') for b in backends)} |"
    yield from ("", "## Functions of JAX's library known as a whole", "")
    yield ", ".join(f"`{name}` {how(entry)}" for name, entry in sorted(FUNCTIONS.items())) + "."
    yield from ("", "## Operators of torch that are written out in those above", "")
    yield ", ".join(f"`{name}`" for name in own()) + ", and those without a rule that torch itself can decompose."


_LEGEND = """
## Primitives

An empty cell: the framework has no primitive of that name, or it is written out in those that have a rule (JAX: calls, loops of
known length up to 4; torch: see below).

- **native**: the algebra of jets carries it out itself, at any order; elementwise functions by recurrences of cost K².
- **composed**: written with native operations.
- **fallback**: through the program of its first derivative. For an operator of order K this takes up to 2^(K/2) evaluations of
  that one primitive; everything else in the network stays native. Primitives that are not in the table are treated likewise,
  with one warning that names them; so are `custom_jvp`, `custom_vjp` and `torch.autograd.Function`, without a warning: there the
  derivative that was declared is the one that is meant.
""".splitlines()

_REGISTRATION = """
## Your own primitives

One line each, with `backend="jax"` or `backend="torch"` (where a name is `"mylib::my_op"`):

```python
from opdsl import jet_rule

jet_rule("my_permutation", backend="jax", linear=True)
jet_rule("my_product", backend="jax", bilinear=True)
jet_rule("fast_tanh", backend="jax", elementwise="tanh")
jet_rule("my_tanh", backend="jax", derivative=lambda x, y: 1 - y * y)
jet_rule("my_erf", backend="jax", derivative=lambda x, y: 1.1283791670955126 * (-x * x).apply("exp"))
jet_rule("my_solver", backend="jax", derivative=True)
jet_rule("my_swish", backend="jax", composed=lambda ops, a: ops.mul(a, ops.elementwise("sigmoid", a)))
```

`derivative=lambda x, y: …` is the slope of an elementwise function y(x), in ordinary arithmetic; `derivative=True` takes the
derivative that the framework has, without the warning.
""".splitlines()

_KINKS = """
## Values at kinks

Between kinks derivatives are those of the piece. At a kink they are what the rules say, the same on every backend, at every order
and for every strategy but `nested_ad`, which takes the framework's own. The convention: an activation with a flat side takes
that side; a clip takes the interior; of several equal candidates the mean counts, unless the function also says which one it
took: then that one; where a value jumps, the derivative is that of the piece it is on. A function of a text keeps it too:
`d_x(max(u, 0))` is what `u_x` is of a network that ends with that maximum.

NaN is on no piece: the derivatives of everything that bends are NaN where its value is.

| | |
|---|---|""".splitlines()

_LARGE = """
Where a derivative does not exist at all it comes out as inf or nan, never as a number: the norm of a zero vector, the root of 0.

## Large arguments

tanh, sigmoid, softplus, log-sigmoid, erf, gelu, silu, mish, elu, softmax, logsumexp and logaddexp are finite and right at ±500
and ±10⁴ to order 5: exponentials are taken of what is at most 0.
""".splitlines()

_ROWS = """
## Rows of a batch

On JAX a function is captured at one point, so points cannot influence one another; `batched=True` checks that rows are the
function of one row. On torch a function takes a batch, and one in which a row depends on another is refused: batch normalisation
in training mode, sums, sorts or attention over the batch. Batch normalisation takes part in evaluation mode, `net.eval()`.

Dropout in training mode draws a new mask at each evaluation, the same for the value and all its derivatives, and another for
each point.
""".splitlines()

_HALF = """
## Half precision

Points in float16 or bfloat16 with a network of that precision: parameters and points are read as they are, everything between
them is done in float32, and the result is float32. Casts to half precision inside the network become casts to float32, so the
values differ from the network's own by its rounding. Gradients with respect to the parameters have the precision of the
parameters. With points in float32 or float64 nothing is changed: a cast inside the network then rounds the derivatives too.
""".splitlines()


if __name__ == "__main__":
    print(page(), end="")
