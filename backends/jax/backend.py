"""JAX: functions of one point, mapped over the batch with `jax.vmap`.

Importing this module does not import JAX: `Backend.is_array` must be able to answer "no" without it. `jit`, `grad`, `vmap`,
`jvp`, sharding and `lax` control flow around an operator belong to the user; everything here composes with them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opdsl.backends.base import Backend, Capture, Evaluator, Example
from opdsl.backends.execution import Execution, device_kind
from opdsl.backends.jax.rates import RATES
from opdsl.backends.parameters import Linearised, Owned, Places
from opdsl.errors import BackendError, ShapeError
from opdsl.jets.array_ops import ArrayOps

if TYPE_CHECKING:
    from opdsl.backends.jax.cache import ParameterisedCaptures
    from opdsl.backends.peers import Peer
    from opdsl.jets.graph import Array, Graph, Rule

_FUNCTION_TYPES = {
    ("equinox._module", "Module"),
    ("equinox", "Module"),
    ("flax.linen.module", "Module"),
    ("flax.nnx.module", "Module"),
    ("flax.nnx.pytreelib", "Pytree"),
}


class JaxBackend(Backend):
    """The JAX backend.

    A field is a function of one point: ``u(point)`` with ``point`` of shape (d,), returning a scalar or (m,). Functions of a
    batch are accepted with ``batched=True`` and checked for rows that mix.
    """

    name = framework = distribution = "jax"
    title = "JAX"
    convert = "jnp.asarray(x)"
    execution = Execution()
    rates = RATES
    compiles = True

    @classmethod
    def undifferentiable(cls, graph: Graph) -> str:
        """JAX lacks derivatives of some scatters, ``x.at[i].multiply(y)`` with repeated indices among them."""
        # Scatters stand alone or inside loops, branches and functions of the user; of all else JAX is not asked, since asking takes
        # as long as tracing.
        if not any(node.operation.name in ("scatter", "loop", "branch", "custom", "other") for node in graph.nodes):
            return ""
        from opdsl.backends.jax.derivative import missing_derivative

        return missing_derivative(graph)

    @cached_property
    def _parameterised(self) -> ParameterisedCaptures:
        from opdsl.backends.jax.cache import ParameterisedCaptures

        return ParameterisedCaptures()

    @cached_property
    def ops(self) -> ArrayOps:  # type: ignore[override]
        """Array operations; importing them imports JAX."""
        from opdsl.backends.jax.array_ops import JaxOps

        return JaxOps()

    def is_array(self, value: object) -> bool:
        """Whether ``value`` is a `jax.Array` or a tracer."""
        jax = sys.modules.get("jax")
        return jax is not None and hasattr(jax, "Array") and isinstance(value, jax.Array)

    def is_function(self, value: object) -> bool:
        """Whether ``value`` is recognisably a JAX function: an Equinox or Flax module, a jitted or custom-rule function."""
        kinds = [(kind.__module__ or "", kind.__name__) for kind in type(value).__mro__]
        if any(kind in _FUNCTION_TYPES for kind in kinds):
            return True
        return callable(value) and any(module.split(".")[0] in ("jax", "jaxlib") for module, _ in kinds)

    def device_of(self, x: Any) -> str:
        """The platform of an array; JAX's default where a tracer stands for it."""
        import jax

        kind = jax.default_backend()
        # Tracers have no device; asking them raises errors of several kinds.
        with suppress(Exception):
            kind = next(iter(x.devices())).platform
        return device_kind(kind)

    def from_numpy(self, value: Any) -> Array:
        """A `jax.Array` with the same numbers; refused where JAX would cut them to single precision."""
        import jax.numpy as jnp

        array = jnp.asarray(value)
        if array.dtype != value.dtype:
            raise BackendError(
                f"x is {value.dtype}, which JAX would cut to {array.dtype}. Enable 64-bit numbers with "
                f"jax.config.update('jax_enable_x64', True), or pass x.astype('{array.dtype}')."
            )
        return array

    def register_container(
        self, kind: type[Any], take_apart: Callable[[Any], tuple[Sequence[Any], Any]], build: Callable[[Any, Sequence[Any]], Any]
    ) -> None:
        from jax import tree_util

        tree_util.register_pytree_node(kind, take_apart, build)

    def register(self, primitive: str, rule: Rule | Callable[..., Rule] | None) -> None:
        """Enter a rule into the table of primitives."""
        from opdsl.backends.jax.derivative import by_first_derivative
        from opdsl.backends.jax.primitives import TABLE

        TABLE[primitive] = by_first_derivative if rule is None else rule

    def peers(self) -> Sequence[Peer]:
        """See `Backend.peers`."""
        from opdsl.backends.jax.peers import PEERS

        return PEERS

    def timed(
        self, run: Callable[..., Any], constants: Any, x: Array, bindings: Mapping[str, Array], training: bool
    ) -> Callable[[], Any]:
        from opdsl.backends.jax.timing import timed

        return timed(run, constants, x, bindings, training)

    def capture(self, function: Callable[..., Any], x: Array, *, params: Any = None, batched: bool = False) -> Capture:
        """Trace ``function`` at one point; see `Backend.capture`."""
        from opdsl.backends.jax.capture import capture

        if params is None:
            return capture(function, x, batched=batched)
        return self._parameterised(function, x, params, batched)

    def compile(self, evaluator: Evaluator, example: Example) -> Callable[..., tuple[Array, ...]]:
        """`jax.jit` of the computation at one point, mapped over the points. Nothing is specialised to ``example``."""
        import jax
        import jax.numpy as jnp

        from opdsl.backends.jax.half_precision import up

        mapped_names = evaluator.per_point_bindings

        def points(constants: Any, x: Array, bindings: Mapping[str, Array]) -> tuple[Array, ...]:
            x, bindings = up(x), {name: up(value) for name, value in bindings.items()}

            def at_point(point: Array, here: Mapping[str, Array]) -> tuple[Array, ...]:
                return tuple(evaluator.call(constants, point, here))

            axes = {name: 0 if name in mapped_names else None for name in bindings}
            if x.shape[0]:
                return tuple(jax.vmap(at_point, in_axes=(0, axes))(x, dict(bindings)))
            # No points: only the shapes are wanted, and reductions of nothing must not be reached.
            one = jnp.zeros((1, *x.shape[1:]), x.dtype)
            filled = {
                name: jnp.zeros((1, *value.shape[1:]), value.dtype) if name in mapped_names else value
                for name, value in bindings.items()
            }
            shapes = jax.eval_shape(lambda: points(constants, one, filled))
            return tuple(jnp.zeros((0, *s.shape[1:]), s.dtype) for s in shapes)

        compiled: Callable[..., tuple[Array, ...]] = jax.jit(points)
        return compiled

    def in_pieces(
        self, run: Callable[[Array, Mapping[str, Array]], tuple[Array, ...]], x: Array, rows: Mapping[str, Array], size: int
    ) -> tuple[Array, ...]:
        import jax
        import jax.numpy as jnp

        n = x.shape[0]
        count = -(-n // size)

        def cut(a: Array) -> Array:
            filled = jnp.concatenate([a, jnp.broadcast_to(a[-1:], (count * size - n, *a.shape[1:]))])
            return jnp.reshape(filled, (count, size, *a.shape[1:]))

        mapped = jax.lax.map(jax.checkpoint(lambda piece: run(*piece)), jax.tree.map(cut, (x, dict(rows))))
        return tuple(jnp.reshape(r, (count * size, *r.shape[2:]))[:n] for r in mapped)

    def explicit(self, u: Any) -> tuple[Any, Any] | None:
        """Equinox modules and other callable pytrees."""
        from opdsl.backends.jax.jacobian import explicit

        return explicit(u)

    def owned(self, functions: Mapping[str, Any], params: Any) -> Owned:
        """The floating leaves of ``params``, in the order of `jax.flatten_util.ravel_pytree`."""
        from opdsl.backends.jax.jacobian import owned

        return owned(params)

    def per_point_jacobian(
        self, evaluator: Evaluator, one: Example, example: Example, places: Places, shapes: Sequence[Sequence[int]]
    ) -> Callable[..., tuple[Array, ...]]:
        from opdsl.backends.jax.jacobian import per_point_jacobian

        return self.compile(per_point_jacobian(evaluator, places, shapes), example)

    def linearised(self, function: Callable[[Sequence[Array]], Array], arrays: Sequence[Array]) -> Linearised:
        from opdsl.backends.jax.jacobian import linearised

        return linearised(function, arrays)

    def free_memory(self, x: Any) -> float | None:
        """As the device says, where it says."""
        from opdsl.backends.jax.jacobian import free_memory

        return free_memory(x)

    def normal(self, key: Any, shape: Sequence[int], x: Array) -> Array:
        """``key``: an integer or a key of ``jax.random``."""
        from opdsl.backends.jax.random import normal

        return normal(key, tuple(shape), x.dtype)

    def subsets(self, key: Any, count: int, size: int, of: int, x: Array) -> Array:
        from opdsl.backends.jax.random import subsets

        return subsets(key, count, size, of)

    def keys(self, key: Any, count: int) -> Sequence[Any]:
        from opdsl.backends.jax.random import keys

        return keys(key, count)

    def structure(self, params: Any) -> Hashable:
        """The tree of its containers."""
        import jax

        return jax.tree_util.tree_structure(params)  # type: ignore[no-any-return]

    def at_points(self, function: Callable[..., Any], x: Array) -> Array:
        """A coefficient function of one point, mapped over the points."""
        import jax

        return jax.vmap(function)(x)

    def number(self, value: Array, x: Array) -> Array:
        """Under `jit` and `grad` a Python number is a weakly typed tracer, in double precision where that is enabled."""
        return value.astype(x.dtype) if getattr(value, "weak_type", False) else value

    def concrete(self, value: Any) -> Any:
        """None for tracers: their values are not known while planning."""
        import jax

        return None if isinstance(value, jax.core.Tracer) else super().concrete(value)

    def prepare(self, x: Any, *, like: Any = None) -> Array:
        """The points as a floating `jax.Array` of shape (n, d) or (d,); the dtype is never changed silently."""
        import jax.numpy as jnp

        if not hasattr(x, "shape") or not hasattr(x, "dtype"):
            raise BackendError(f"points are an array of shape (n, d), not a {type(x).__name__}; write jnp.asarray(…).")
        if len(x.shape) not in (1, 2):
            raise ShapeError(f"points have shape (n, d), or (d,) for one point; got {tuple(x.shape)}.")
        if self.is_array(x):
            array = x
        elif type(x).__module__.split(".")[0] == "numpy":
            if x.dtype.kind in "OSU":
                raise ShapeError(f"points are {x.dtype}; they must be floating-point numbers.")
            array = self.from_numpy(x)
        else:
            raise BackendError(f"the jax backend takes JAX or NumPy arrays, not {type(x).__module__}.{type(x).__name__}.")
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise BackendError(f"points are {array.dtype}; derivatives need floating points: x.astype('float32').")
        return array

    def fingerprint(self, function: Any) -> Hashable | None:
        """Code, closure, arrays by identity, and JAX's settings; None where a tracer or something unknown is involved."""
        from opdsl.backends.jax.cache import identity

        return identity(function)
