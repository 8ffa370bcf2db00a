"""Slow and obvious truth, written without any of the package's engine.

Three oracles that share no code: truncated multivariate polynomials at 50 digits (`partials`), nested `jax.grad` one
component at a time (`nested_grad`), and loops of `torch.autograd.grad` (`torch_loop`). The residual of an equation is
written out by hand over a `Truth`, whose attributes are the fields: ``T.u("xx")`` is ∂_x∂_x u at every point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from math import factorial, prod
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
MultiIndex = tuple[int, ...]
Column = Callable[..., Floats]

# ---------------------------------------------------------------------------------------------------------- networks

ACTIVATIONS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
    "tanh": (lambda xp, h: xp.tanh(h), mpmath.tanh),
    "sin": (lambda xp, h: xp.sin(h), mpmath.sin),
    "sigmoid": (lambda xp, h: 1.0 / (1.0 + xp.exp(-h)), lambda h: 1 / (1 + mpmath.exp(-h))),
    "softplus": (lambda xp, h: xp.log1p(xp.exp(h)), lambda h: mpmath.log1p(mpmath.exp(h))),
    "gauss": (lambda xp, h: xp.exp(-h * h), lambda h: mpmath.exp(-h * h)),
    "rational": (lambda xp, h: h / (1.0 + h * h), lambda h: h / (1 + h * h)),
    "square": (lambda xp, h: h * h, lambda h: h * h),
    "silu": (lambda xp, h: h / (1.0 + xp.exp(-h)), lambda h: h / (1 + mpmath.exp(-h))),
}
"""name: (on arrays of any namespace, on 50-digit numbers)."""


@dataclass(frozen=True, eq=False)
class Network:
    """u(x) = W_L σ(… σ(W_1 x + b_1) …) + b_L, one definition for every framework; weights (out, in)."""

    layers: tuple[tuple[Floats, Floats], ...]
    activations: tuple[str, ...]

    @property
    def inputs(self) -> int:
        return int(self.layers[0][0].shape[1])

    @property
    def outputs(self) -> int:
        return int(self.layers[-1][0].shape[0])

    def on(self, xp: Any, points: Any, convert: Callable[[Floats], Any]) -> Any:
        """Evaluate on points (…, d) of the namespace."""
        h = points
        for k, (weight, bias) in enumerate(self.layers):
            h = h @ convert(weight.T) + convert(bias)
            if k < len(self.activations):
                h = ACTIVATIONS[self.activations[k]][0](xp, h)
        return h

    def on_numbers(self, point: Sequence[Any]) -> list[Truncated]:
        """Evaluate on truncated polynomials."""
        h = list(point)
        for k, (weight, bias) in enumerate(self.layers):
            h = [
                sum((h[j] * mpmath.mpf(float(w)) for j, w in enumerate(row)), h[0].constant(mpmath.mpf(float(b))))
                for row, b in zip(weight, bias, strict=True)
            ]
            if k < len(self.activations):
                h = [compose(ACTIVATIONS[self.activations[k]][1], entry) for entry in h]
        return h


@cache
def network(inputs: int, outputs: int = 1, activations: str = "tanh tanh", width: int = 5, seed: int = 0) -> Network:
    """A random smooth network; the same arguments give the same object."""
    random = np.random.default_rng((seed, inputs, outputs, width))
    names = tuple(activations.split())
    sizes = [inputs, *[width] * len(names), outputs]
    layers = tuple(
        (random.normal(size=(b, a)) / np.sqrt(a), 0.3 * random.normal(size=b)) for a, b in zip(sizes, sizes[1:], strict=False)
    )
    return Network(layers, names)


def points(n: int, d: int, seed: int = 1) -> Floats:
    """Points in [-1, 1]^d."""
    return np.random.default_rng((seed, n, d)).uniform(-1.0, 1.0, size=(n, d))


# ------------------------------------------------------------------------------------------------ truncated polynomials


@dataclass(frozen=True)
class Truncated:
    """A polynomial in ε_1 … ε_d, cut off above a total degree; its coefficients are ∂^α u/α!."""

    terms: Mapping[MultiIndex, Any]
    dimension: int
    order: int

    def constant(self, value: Any) -> Truncated:
        return Truncated({(0,) * self.dimension: value}, self.dimension, self.order)

    def __add__(self, other: Any) -> Truncated:
        other = other if isinstance(other, Truncated) else self.constant(other)
        total = dict(self.terms)
        for alpha, c in other.terms.items():
            total[alpha] = total.get(alpha, 0) + c
        return Truncated(total, self.dimension, self.order)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Truncated:
        if not isinstance(other, Truncated):
            return Truncated({a: c * other for a, c in self.terms.items()}, self.dimension, self.order)
        total: dict[MultiIndex, Any] = {}
        for (a, c), (b, e) in product(self.terms.items(), other.terms.items()):
            if sum(a) + sum(b) <= self.order:
                key = tuple(i + j for i, j in zip(a, b, strict=True))
                total[key] = total.get(key, 0) + c * e
        return Truncated(total, self.dimension, self.order)


def compose(function: Callable[[Any], Any], h: Truncated) -> Truncated:
    """σ(h) by mpmath's own numerical Taylor coefficients of σ and powers of h − h_0."""
    zero = (0,) * h.dimension
    h0 = h.terms.get(zero, mpmath.mpf(0))
    rest = Truncated({a: c for a, c in h.terms.items() if a != zero}, h.dimension, h.order)
    coefficients = mpmath.taylor(function, h0, h.order)
    total = h.constant(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * rest + c
    return total


@cache
def _expansion(net: Network, point: tuple[float, ...], order: int) -> tuple[Truncated, ...]:
    d = len(point)
    with mpmath.workdps(50):
        start = []
        for i, value in enumerate(point):
            unit = tuple(int(k == i) for k in range(d))
            start.append(Truncated({(0,) * d: mpmath.mpf(value), unit: mpmath.mpf(1)}, d, order))
        return tuple(net.on_numbers(start))


def partials(net: Network, x: Floats, axes: Sequence[int], order: int | None = None) -> Floats:
    """∂_{axes} of every output at every point, (n, m), correct to rounding."""
    alpha = tuple(sum(a == i for a in axes) for i in range(x.shape[1]))
    scale = prod(factorial(a) for a in alpha)
    rows = []
    for point in x:
        series = _expansion(net, tuple(float(v) for v in point), max(order or 0, len(axes)))
        rows.append([float(s.terms.get(alpha, 0) * scale) for s in series])
    return np.array(rows)


class Truth:
    """The fields of one network by name: ``T.u("xy")`` is ∂_x∂_y u at the points (n,), axes named by single letters.

    Args:
        net: the network.
        x: points (n, d).
        coords: coordinate names in the order of the columns of ``x``.
        columns: names of the outputs.
        order: highest order that will be asked for; expansions are shared.
    """

    def __init__(self, net: Network, x: Floats, coords: str, columns: str, order: int = 4) -> None:
        self._net, self._x, self._order = net, x, order
        self._coords, self._columns = coords.split(), columns.split()

    def __getattr__(self, name: str) -> Column:
        if name in self._coords:
            return lambda: self._x[:, self._coords.index(name)]
        column = self._columns.index(name)

        def derivative(axes: str = "") -> Floats:
            numbers = [self._coords.index(a) for a in axes]
            return partials(self._net, self._x, numbers, self._order)[:, column]

        return derivative


# --------------------------------------------------------------------------------------------- automatic differentiation


def nested_grad(function: Callable[[Any], Any], x: Floats, axes: Sequence[int], component: int = 0) -> Floats:
    """∂_{axes} of one component by `jax.grad` of `jax.grad` …; ``function`` takes one point."""
    import jax
    import jax.numpy as jnp

    def differentiate(f: Callable[[Any], Any], axis: int) -> Callable[[Any], Any]:
        return lambda p: jax.grad(f)(p)[axis]

    current: Callable[[Any], Any] = lambda p: jnp.reshape(function(p), (-1,))[component]  # noqa: E731
    for axis in axes:
        current = differentiate(current, axis)
    return np.asarray(jax.vmap(current)(jnp.asarray(x)))


def nested_jvp(function: Callable[[Any], Any], x: Floats, axes: Sequence[int]) -> Floats:
    """∂_{axes} of a scalar by `jax.jvp` of `jax.jvp` …; ``function`` takes one point. Modules that have no reverse mode allow it."""
    import jax
    import jax.numpy as jnp

    def differentiate(f: Callable[[Any], Any], axis: int) -> Callable[[Any], Any]:
        return lambda p: jax.jvp(f, (p,), (jnp.zeros_like(p).at[axis].set(1.0),))[1]

    current = lambda p: jnp.reshape(function(p), ())  # noqa: E731
    for axis in axes:
        current = differentiate(current, axis)
    return np.asarray([current(point) for point in jnp.asarray(x)])


def torch_loop(function: Callable[[Any], Any], x: Floats, axes: Sequence[int], component: int = 0) -> Floats:
    """∂_{axes} of one component by repeated `torch.autograd.grad`; ``function`` takes (n, d)."""
    import torch

    p = torch.tensor(x, requires_grad=True)
    value = function(p).reshape(len(x), -1)[:, component]
    for axis in axes:
        if not value.requires_grad:
            return np.zeros(len(x))
        (slope,) = torch.autograd.grad(value.sum(), p, create_graph=True, allow_unused=True)
        value = torch.zeros(len(x)) if slope is None else slope[:, axis]
    return np.asarray(value.detach())


class Derivatives:
    """u and its derivatives at the points (n, d) by JAX alone, batched: ``u`` (n,), ``grad`` (n, d), ``hessian`` (n, d, d), …

    Args:
        function: takes one point, returns a scalar.
        x: the points.
    """

    def __init__(self, function: Callable[[Any], Any], x: Floats) -> None:
        import jax.numpy as jnp

        self._function, self.x = lambda p: jnp.reshape(function(p), ()), x

    def _at(self, function: Callable[[Any], Any]) -> Floats:
        import jax
        import jax.numpy as jnp

        return np.asarray(jax.jit(jax.vmap(function))(jnp.asarray(self.x)))

    @cached_property
    def u(self) -> Floats:
        return self._at(self._function)

    @cached_property
    def grad(self) -> Floats:
        import jax

        return self._at(jax.grad(self._function))

    @cached_property
    def hessian(self) -> Floats:
        import jax

        return self._at(jax.hessian(self._function))

    @cached_property
    def third(self) -> Floats:
        import jax

        return self._at(jax.jacfwd(jax.hessian(self._function)))

    def lap(self, start: int = 0) -> Floats:
        """Σ ∂_i² over the coordinates from ``start`` on."""
        return np.einsum("nii->n", self.hessian[:, start:, start:])

    @cached_property
    def bilap(self) -> Floats:
        """Δ² over all coordinates, by a Hessian of the trace of a Hessian."""
        import jax
        import jax.numpy as jnp

        def inner(p: Any) -> Any:
            return jnp.trace(jax.hessian(self._function)(p))

        return self._at(lambda p: jnp.trace(jax.hessian(inner)(p)))

    @cached_property
    def quartic(self) -> Floats:
        """Σ ∂_i⁴ over all coordinates, one line through the point for each."""
        import jax
        import jax.numpy as jnp

        def along(p: Any, v: Any) -> Any:
            line: Callable[[Any], Any] = lambda s: self._function(p + s * v)  # noqa: E731
            for _ in range(4):
                line = jax.grad(line)
            return line(0.0)

        return self._at(lambda p: jnp.sum(jax.vmap(lambda v: along(p, v))(jnp.eye(p.shape[0]))))


# -------------------------------------------------------------------------------------------------------- comparison


def assert_close(found: Any, expected: Any, tolerance: float, scale: float | None = None) -> None:
    """|found − expected| ≤ tolerance · (largest |expected|, or ``scale`` where terms cancel)."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    size = scale if scale is not None else float(np.max(np.abs(expected), initial=1e-300))
    error = float(np.max(np.abs(found - expected), initial=0.0))
    assert np.isfinite(found).all() and error <= tolerance * size, f"relative error {error / size:.2e} > {tolerance:g}"
