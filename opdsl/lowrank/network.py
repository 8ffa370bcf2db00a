"""Low-rank networks as networks of every framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Self

import numpy as np

from opdsl.backends.base import Surrogate
from opdsl.errors import BackendError, BindingError, ShapeError, unknown
from opdsl.lowrank.factors import Array, Coefficients, Factors, hidden_states, initial, value
from opdsl.lowrank.record import Reduction

_CLASSES = {
    "jax": "opdsl.lowrank.jax_network:JaxLRNR",
    "torch": "opdsl.lowrank.torch_network:TorchLRNR",
    "numpy": "opdsl.lowrank.network:ArrayLRNR",
}


class LRNR(ABC):
    r"""A low-rank network u(x) = a z_L + c with z_{ℓ+1} = tanh(V_ℓ diag(s_ℓ) U_ℓᵀ z_ℓ); made by `network`.

    Called like every network of its framework: JAX at one point (d,), torch and NumPy at points (n, d); gives (…, m). The bases U
    and V are meant to be shared by a family of problems, and the few coefficients s to be found anew for each.

    Attributes:
        factors: everything but the coefficients.
        coefficients: s_ℓ, (r_ℓ,) each.
        reduced: the small network that ``strategy="spinprop"`` evaluates in the place of this one; see `with_reduced`.
        reduction: how a reduced network was made; None for any other.

    Reference: Cho et al., arXiv:2410.04001, §2.
    """

    backend: str
    factors: Factors
    coefficients: Coefficients
    reduced: LRNR | None
    reduction: Reduction | None

    @abstractmethod
    def rebuilt(
        self, factors: Factors, coefficients: Sequence[Array], reduced: LRNR | None = None, reduction: Reduction | None = None
    ) -> Self:
        """A network of this kind of other parts; arrays are taken as they are."""

    @classmethod
    @abstractmethod
    def array(cls, a: Any, dtype: str, trainable: bool) -> Array:
        """An array of the framework with the numbers of a NumPy array; one that optimisers see, or a constant."""

    @abstractmethod
    def __call__(self, x: Array) -> Array:
        """The values, (…, m)."""

    @property
    def width(self) -> int:
        """The largest number of entries of a hidden state."""
        return max(self.factors.widths)

    @property
    def ranks(self) -> tuple[int, ...]:
        """r_ℓ."""
        return self.factors.ranks

    def with_coefficients(self, coefficients: Sequence[Array]) -> Self:
        """The same bases with other coefficients, here and in the reduced network.

        Raises:
            ShapeError: not one array (r_ℓ,) for each layer.
        """
        found = [tuple(s.shape) for s in coefficients]
        if found != [(r,) for r in self.ranks]:
            raise ShapeError(f"coefficients have shapes {found}; a network of ranks {self.ranks} takes {[(r,) for r in self.ranks]}.")
        reduced = None if self.reduced is None else self.reduced.with_coefficients(coefficients)
        return self.rebuilt(self.factors, tuple(coefficients), reduced, self.reduction)

    def with_reduced(self, reduced: LRNR) -> Self:
        """The same network, with the one that ``strategy="spinprop"`` evaluates in its place.

        Raises:
            BindingError: no reduced network (`opdsl.lowrank.reduce`) of these ranks and of this framework.
        """
        if not isinstance(reduced, LRNR) or reduced.reduction is None:
            raise BindingError(f"with_reduced takes what opdsl.lowrank.reduce(net, points, rank=…) gives, not {type(reduced).__name__}.")
        if reduced.ranks != self.ranks or reduced.backend != self.backend:
            raise BindingError(
                f"the reduced network has ranks {reduced.ranks} on {reduced.backend}, this one {self.ranks} on {self.backend}: "
                "reduce this very network."
            )
        return self.rebuilt(self.factors, self.coefficients, reduced.with_coefficients(self.coefficients), self.reduction)

    @property
    def opdsl_surrogate(self) -> Surrogate | None:
        """See `opdsl.backends.base.Surrogate`."""
        if self.reduced is None or self.reduced.reduction is None:
            return None
        return Surrogate(self.reduced, self.reduced.reduction.lines, self.reduced.reduction.errors)

    def numpy(self, dtype: Any = np.float64) -> ArrayLRNR:
        """A copy in NumPy arrays, float64 unless said otherwise."""
        from opdsl import backends

        backend = backends.get(self.backend)

        def copy(a: Array) -> Array:
            return np.array(backend.to_numpy(a), dtype=dtype)

        reduced = None if self.reduced is None else self.reduced.numpy(dtype)
        return ArrayLRNR(self.factors.mapped(copy), tuple(copy(s) for s in self.coefficients), reduced, self.reduction)

    def on(self, backend: str, dtype: str = "float64") -> LRNR:
        """A copy for another framework, or in another precision."""
        return made(self.numpy(), backend, dtype)


class ArrayLRNR(LRNR):
    """On NumPy and whatever follows the array API; without training."""

    backend = "numpy"

    def __init__(
        self, factors: Factors, coefficients: Sequence[Array], reduced: LRNR | None = None, reduction: Reduction | None = None
    ) -> None:
        self.factors, self.coefficients, self.reduced, self.reduction = factors, tuple(coefficients), reduced, reduction

    def rebuilt(
        self, factors: Factors, coefficients: Sequence[Array], reduced: LRNR | None = None, reduction: Reduction | None = None
    ) -> ArrayLRNR:
        return ArrayLRNR(factors, coefficients, reduced, reduction)

    @classmethod
    def array(cls, a: Any, dtype: str, trainable: bool) -> Any:
        return np.asarray(a, dtype=dtype)

    def __call__(self, x: Array) -> Array:
        return value(self.factors, self.coefficients, x, _tanh)

    def states(self, x: Array) -> Array:
        """All hidden states side by side, (…, ΣM)."""
        found = hidden_states(self.factors, self.coefficients, x, _tanh)
        return found[0].__array_namespace__().concat(found, axis=-1)


def _tanh(a: Array) -> Array:
    return a.__array_namespace__().tanh(a)


def network(
    dimension: int,
    *,
    width: int = 4000,
    rank: int = 100,
    depth: int = 3,
    outputs: int = 1,
    backend: str = "jax",
    dtype: str = "float32",
    seed: int = 0,
) -> LRNR:
    """A low-rank network with random bases.

    Args:
        dimension: number of coordinates d.
        width: entries M of every hidden state.
        rank: columns r of the factors.
        depth: number of low-rank layers; there are ``depth + 1`` hidden states.
        outputs: number of output columns m.
        backend: ``"jax"``, ``"torch"`` or ``"numpy"``.
        dtype: ``"float32"`` or ``"float64"``.
        seed: of the random numbers; the same on every backend.

    Raises:
        ShapeError: a size below one, or a rank above the width.
        BackendError: unknown backend.

    Example:
        >>> import numpy as np, opdsl
        >>> net = network(2, width=50, rank=4, backend="numpy", dtype="float64")
        >>> opdsl.operator("u_t - u_xx", coords="t x")(net, np.zeros((3, 2))).shape
        (3,)
    """
    sizes = {"dimension": dimension, "width": width, "rank": rank, "depth": depth, "outputs": outputs}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ShapeError(f"{name}={size!r}: give an integer of at least one.")
    if rank > width:
        raise ShapeError(f"rank={rank} is more than width={width}: a basis of {rank} columns needs as many rows.")
    factors, coefficients = initial(dimension, width, rank, depth, outputs, seed)
    return made(ArrayLRNR(factors, coefficients), backend, dtype)


def made(net: ArrayLRNR, backend: str, dtype: str) -> LRNR:
    """A network of NumPy arrays as one of a framework."""
    if backend not in _CLASSES:
        raise BackendError(unknown("no low-rank networks on backend", backend, _CLASSES))
    module, _, name = _CLASSES[backend].partition(":")
    kind = getattr(import_module(module), name)

    def build(part: LRNR | None) -> Any:
        if part is None:
            return None
        # Of a reduced network nothing but the coefficients is there to be trained.
        factors = part.factors.mapped(lambda a: kind.array(a, dtype, part.reduction is None))
        return kind(factors, tuple(kind.array(s, dtype, True) for s in part.coefficients), build(part.reduced), part.reduction)

    found: LRNR = build(net)
    return found if found.reduced is None else found.with_reduced(found.reduced)
