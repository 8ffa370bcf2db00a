"""Capture a JAX function of one point as a `Graph`, with errors that come early and are ours.

`jax.make_jaxpr` traces the function at a single point, so rows of a batch cannot mix, and whatever fails under `jit` fails
here. Arrays the function closes over become the graph's constants as live values, tracers included, so that `grad`, `vmap`
and `jit` around the operator see through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from opdsl.backends.base import Capture
from opdsl.backends.jax.half_precision import is_half, widened
from opdsl.backends.jax.program import GraphBuilder
from opdsl.errors import BackendError, CaptureError, RowMixingError
from opdsl.jets.graph import Array


def capture(function: Callable[..., Any], x: Array, *, params: Any = None, batched: bool = False) -> Capture:
    """Capture ``function`` at one point with the dtype of ``x`` (n, d); see `opdsl.backends.base.Backend.capture`."""
    dimension, dtype = int(x.shape[-1]), jnp.dtype(x.dtype)
    leaves, rebuild = split_params(params)

    def call(arrays: Sequence[Array], points: Array) -> Any:
        return function(points) if params is None else function(rebuild(arrays), points)

    def at_point(arrays: Sequence[Array], point: Array) -> Any:
        return _row(call(arrays, point[None]), dimension) if batched else call(arrays, point)

    where = f"u on a batch of shape (1, {dimension})" if batched else f"u on a point of shape ({dimension},)"
    closed, result = _trace(at_point, leaves, jax.ShapeDtypeStruct((dimension,), dtype), where, batched)
    _check_result(result, where, batched)
    if batched:
        _check_rows(closed, call, leaves, dimension, dtype)
    return _convert(closed, leaves, dtype)


def split_params(params: Any) -> tuple[tuple[Array, ...], Callable[[Sequence[Array]], Any]]:
    """The traced leaves of a pytree of parameters, and the function that puts others in their place.

    Arrays and Python floats are parameters; integers, strings and callables (Equinox keeps activations as leaves) belong to
    the structure.
    """
    flat, tree = jax.tree_util.tree_flatten(params)
    where = leaf_positions(params)

    def rebuild(arrays: Sequence[Array]) -> Any:
        filled = list(flat)
        for i, array in zip(where, arrays, strict=True):
            filled[i] = array
        return jax.tree_util.tree_unflatten(tree, filled)

    return tuple(flat[i] for i in where), rebuild


def leaf_positions(params: Any) -> tuple[int, ...]:
    """Positions of the traced leaves among all leaves of ``params``."""
    return tuple(i for i, leaf in enumerate(jax.tree_util.tree_leaves(params)) if _is_traced(leaf))


def _is_traced(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind in "biufc"  # texts and objects belong to the structure
    return isinstance(leaf, jax.Array | float | complex)


# ------------------------------------------------------------------------------------------------------- tracing


def _trace(function: Callable[..., Any], leaves: Sequence[Array], points: Any, where: str, batched: bool) -> tuple[Any, Any]:
    try:
        closed, result = jax.make_jaxpr(function, return_shape=True)(tuple(leaves), points)
        return closed, result
    except BackendError:
        raise
    # TracerBoolConversionError and TracerIntegerConversionError are kinds of ConcretizationTypeError or stand beside it,
    # depending on the release.
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerBoolConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.NonConcreteBooleanIndexError,
    ) as error:
        raise CaptureError(
            f"{where} branches on values: a Python `if`, `while`, `float()` or an index wants a number, but the function is "
            f"traced once for all points. Write jnp.where, jax.lax.cond or jax.lax.while_loop.\n  jax: {_first_line(error)}"
        ) from error
    except jax.errors.TracerArrayConversionError as error:
        raise CaptureError(
            f"{where} turns a traced value into a NumPy array. Write jnp.… (jax.numpy) instead of np.….\n"
            f"  jax: {_first_line(error)}"
        ) from error
    except Exception as error:
        other = (
            "A JAX function that takes one point (d,) needs no batched=True."
            if batched
            else "If it takes a batch (n, d), pass batched=True."
        )
        raise CaptureError(f"{where} failed: {type(error).__name__}: {_first_line(error)}\n  {other}") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def _kind(value: Any) -> str:
    if value is None:
        return "nothing (is a `return` missing?)"
    return f"shape {tuple(value.shape)}" if hasattr(value, "shape") else f"a {type(value).__name__}"


def _row(result: Any, dimension: int) -> Any:
    """The row of a batch of one."""
    if not hasattr(result, "shape") or len(result.shape) == 0 or result.shape[0] != 1:
        raise CaptureError(
            f"u on a batch of shape (1, {dimension}) returned {_kind(result)}; with batched=True it returns one row per point."
        )
    return result[0]


def _check_result(result: Any, where: str, batched: bool) -> None:
    if not isinstance(result, jax.ShapeDtypeStruct):
        raise CaptureError(f"{where} returned {_kind(result)}; it returns one array: a scalar, or (m,) with one entry per field.")
    if len(result.shape) > 1:
        hint = "" if batched else " If u takes a batch (n, d), pass batched=True."
        raise CaptureError(f"{where} returned {_kind(result)}; one point gives a scalar or (m,).{hint}")
    if jnp.issubdtype(result.dtype, jnp.complexfloating):
        raise CaptureError(
            f"{where} returned {result.dtype}. A complex field is a pair of real fields: return jnp.stack([z.real, z.imag])."
        )
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise CaptureError(f"{where} returned {result.dtype}; a field is real and floating.")


# --------------------------------------------------------------------------------------------------- row mixing


def _check_rows(closed: Any, call: Callable[..., Any], leaves: Sequence[Array], dimension: int, dtype: Any) -> None:
    """Refuse a function of batches whose rows are not the function of one row.

    Each row of three is moved while the others must keep their values, and each must equal what it gives alone.
    """
    points = jax.ShapeDtypeStruct((3, dimension), dtype)
    batch, result = _trace(call, leaves, points, f"u on a batch of shape (3, {dimension})", True)
    if not isinstance(result, jax.ShapeDtypeStruct) or not result.shape or result.shape[0] != 3:
        raise RowMixingError(f"u on a batch of shape (3, {dimension}) returned {_kind(result)}; one row per point is expected.")
    generator = np.random.default_rng(0)
    known = {id(c): _stand_in(c, generator) for c in (*closed.consts, *batch.consts, *leaves)}
    first = generator.uniform(0.1, 0.9, (3, dimension))
    rows = _evaluated(batch, known, leaves, first, dtype)
    for k in range(3):
        moved = first.copy()
        moved[k] = generator.uniform(-2.0, 2.0, dimension)
        after = _evaluated(batch, known, leaves, moved, dtype)
        # Moving a row that does not mix leaves the others' arithmetic, and so their bits, untouched.
        if not np.array_equal(np.delete(rows, k, 0), np.delete(after, k, 0), equal_nan=True):
            raise RowMixingError(
                "rows of the batch influence one another: moving one point changed the values at others (a mean, norm, sum or "
                "sort over axis 0?). Such a function has no derivative per point; compute it within each row."
            )
    for k in range(3):
        alone = _evaluated(closed, known, leaves, first[k], dtype)
        tolerance = float(jnp.finfo(dtype).eps) ** 0.5
        if not np.allclose(alone, rows[k], rtol=tolerance, atol=tolerance * float(np.abs(rows).max(initial=0)), equal_nan=True):
            raise RowMixingError(
                f"u gives other values for a row of a batch than for the same row alone (at row {k}: does it use x.shape[0], "
                "arange over rows, or random numbers per row?). Such a function has no derivative per point."
            )


def _evaluated(closed: Any, known: dict[int, Any], leaves: Sequence[Array], points: Any, dtype: Any) -> Any:
    """A traced program with stand-ins for its constants: they may be tracers of an outer transformation."""
    run = jex.jaxpr_as_fun(jex.ClosedJaxpr(closed.jaxpr, [known[id(c)] for c in closed.consts]))
    with jax.ensure_compile_time_eval():
        result = run(*(known[id(leaf)] for leaf in leaves), jnp.asarray(points, dtype))[0]
        return np.asarray(result, np.float64)


def _stand_in(value: Any, generator: np.random.Generator) -> Any:
    """The array itself, or one of the same shape and dtype where its value is not known yet."""
    if not isinstance(value, jax.core.Tracer):
        return value
    if jnp.issubdtype(value.dtype, jnp.floating):
        return np.asarray(generator.normal(size=value.shape)).astype(value.dtype)
    return np.zeros(value.shape, value.dtype)


# --------------------------------------------------------------------------------------------------- conversion


def _convert(closed: Any, leaves: Sequence[Array], dtype: Any) -> Capture:
    if is_half(dtype):
        closed, dtype = widened(closed, leaves), jnp.dtype(jnp.float32)
    jaxpr = closed.jaxpr
    program = GraphBuilder()
    parameters = [program.constant(a, v.aval) for a, v in zip(leaves, jaxpr.invars[:-1], strict=True)]
    x = program.value(jaxpr.invars[-1].aval)
    program.dependent.add(x)
    output = program.inline(closed, [*parameters, x])[0]
    if jaxpr.outvars[0].aval.weak_type and program.values[output].dtype != dtype:
        # A Python number has no precision of its own: u(x) = 1.0 follows x.
        output = program.own("convert_element_type", lambda a: jnp.asarray(a, dtype), (output,), str(dtype))
    _check_precision(program, output, dtype)
    graph, constants, key = program.finish(x, (output,), len(leaves))
    return Capture(graph, constants, key)


def _check_precision(program: GraphBuilder, output: int, dtype: Any) -> None:
    """Points and values share one dtype: nothing is promoted silently."""
    found = program.values[output].dtype
    if found == dtype:
        return
    culprits = [a for a in program.arrays if getattr(a, "dtype", None) == found]
    because = f" (a parameter of shape {tuple(culprits[0].shape)} is {found})" if culprits else ""
    raise BackendError(
        f"x is {dtype}, but u computes in {found}{because}. Give both the same dtype: x.astype('{found}'), or parameters in "
        f"{dtype}."
    )
