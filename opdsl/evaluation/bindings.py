"""Check what a call binds: names, ranks, shapes, dtypes, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from opdsl.backends.base import Backend
from opdsl.errors import BindingError, OpdslError, ShapeError, did_you_mean, shown
from opdsl.evaluation.options import NAMES
from opdsl.grammar.declarations import INDEX_LETTERS
from opdsl.grammar.spellings import Spellings
from opdsl.language.calculus.coefficients import DIFFERENTIATED
from opdsl.language.residual import ParameterSpec, Residual


@dataclass(frozen=True, kw_only=True)
class Bindings:
    """Checked bindings of one call.

    Args:
        arrays: parameters and coefficients by name, as arrays of the backend.
        per_point_names: names whose arrays carry a leading point axis.
        networks: coefficients that are differentiated, by name: functions.
        functions: user functions.
        known: constant arrays whose values may be used while planning.
    """

    arrays: dict[str, Any]
    per_point_names: frozenset[str]
    networks: dict[str, Any]
    functions: dict[str, Any]
    known: dict[str, npt.NDArray[np.floating[Any]]]

    def signature(self) -> tuple[Any, ...]:
        """What a compiled program depends on."""
        arrays = tuple((k, tuple(v.shape), str(v.dtype), k in self.per_point_names) for k, v in sorted(self.arrays.items()))
        return arrays, tuple((k, v.tobytes()) for k, v in sorted(self.known.items()))


def required(residual: Residual) -> dict[str, str]:
    """Names to be bound, with what they are."""
    out = {p.name: "a trainable parameter" if p.trainable else "a parameter" for p in residual.parameters}
    what = "a coefficient that is differentiated: a function or network, or a constant"
    out.update({f.name: what for f in residual.fields if f.coefficient})
    out.update(dict.fromkeys(residual.functions, "a function"))
    return out


def by_name(given: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, Any]:
    """Bindings under the names of the text, however these are spelled: ``ν`` is ``nu``, ``a_ij`` is ``a``, ``x1`` is ``x_1``.

    Args:
        given: what a call binds.
        ranks: the names of the text, with their numbers of indices.

    Raises:
        BindingError: one name is bound under two spellings.

    Example:
        >>> by_name({"ν": 0.1, "a_ij": 2.0, "kk": 3.0}, {"nu": 0, "a": 2})
        {'nu': 0.1, 'a': 2.0, 'kk': 3.0}
    """
    spellings = Spellings(ranks)
    out: dict[str, Any] = {}
    for spelled, value in given.items():
        base, _, letters = spelled.rpartition("_")
        indexed = spellings.find(base) if base and set(letters) <= INDEX_LETTERS else None
        name = spellings.find(spelled) or (indexed if indexed and ranks[indexed] == len(letters) else spelled)
        if name in out:
            raise BindingError(f"{name} is bound twice, once as {spelled}.")
        out[name] = value
    return out


def check_names(residual: Residual, given: Mapping[str, Any], text: str) -> dict[str, str]:
    """The names the text needs.

    Raises:
        BindingError: something is given under another name; what is meant may also be an option.
    """
    names = required(residual)
    extra = [n for n in given if n not in names]
    if extra:
        meant = did_you_mean(extra[0], [*names, *NAMES])
        for option in NAMES:
            meant = meant.replace(f"'{option}'", f"{option}=")
        raise BindingError(
            f"'{text}' has no parameter {extra[0]!r}{f'; {meant}' if meant else '.'} It takes: {', '.join(names) or 'none'}; "
            f"options are {', '.join(f'{option}=' for option in NAMES)}."
        )
    return names


def is_function(value: Any) -> bool:
    """Whether a function of the point is bound, rather than a number or an array."""
    return callable(value) and not hasattr(value, "shape")


def column(array: Any) -> Any:
    """What a function of the points gives for a scalar: (n,), or a column (n, 1), as a network does."""
    return array[..., 0] if len(array.shape) == 2 and array.shape[1] == 1 else array


def number(name: str, value: Any, x: Any, backend: Backend, text: str) -> Any:
    """A scalar parameter as an array: one number, or one for every point; see `check`."""
    return _parameter(ParameterSpec(name), value, x, backend, text)[0]


def check(residual: Residual, given: Mapping[str, Any], x: Any, backend: Backend, text: str) -> Bindings:
    """Sort and check everything bound by keyword.

    Raises:
        BindingError: missing or superfluous names, not-a-number values.
        ShapeError: a shape that does not fit the rank the text gives.
    """
    names = check_names(residual, given, text)
    missing = [n for n in names if n not in given]
    if missing:
        what = "; ".join(f"{n} is {names[n]}" for n in missing)
        raise BindingError(f"'{text}' needs {', '.join(f'{n}=…' for n in missing)}: {what}.")
    arrays: dict[str, Any] = {}
    per_point_names: set[str] = set()
    known_arrays: dict[str, npt.NDArray[np.floating[Any]]] = {}
    for spec in residual.parameters:
        if spec.constant and is_function(given[spec.name]):
            raise BindingError(_not_constant(spec, "a function", text))
        value, points = _parameter(spec, given[spec.name], x, backend, text)
        if spec.constant and points:
            raise ShapeError(_not_constant(spec, f"an array {tuple(value.shape)} of one value per point", text))
        arrays[spec.name] = value
        if points:
            per_point_names.add(spec.name)
        elif spec.rank == 2 and not spec.trainable:
            concrete = backend.concrete(given[spec.name])
            if concrete is not None:
                known_arrays[spec.name] = concrete
    networks = {
        f.name: partial(_columns, given[f.name]) if len(f.shape) > 1 and callable(given[f.name]) else given[f.name]
        for f in residual.fields
        if f.coefficient
    }
    functions = {name: given[name] for name in residual.functions}
    return Bindings(
        arrays=arrays, per_point_names=frozenset(per_point_names), networks=networks, functions=functions, known=known_arrays
    )  # fmt: skip


def _not_constant(spec: ParameterSpec, what: str, text: str) -> str:
    """Why a value that differs from point to point is refused."""
    instead = "Bind a number or a constant array."
    if spec.constant == DIFFERENTIATED:
        instead = (
            "Values at the points do not tell its derivatives: bind a function of the point or a network, which is differentiated "
            "exactly, or a constant."
        )
    return f"in '{text}': {spec.name} {spec.constant}, and {what} is bound to it. {instead}"


def _columns(function: Any, point: Any) -> Any:
    """The entries of a matrix side by side, as a network gives them: (d, d) at a point, (n, d, d) at points."""
    value = function(point)
    if not hasattr(value, "shape"):
        return value
    shape = (*point.shape[:-1], -1)
    return value.__array_namespace__().reshape(value, shape) if hasattr(value, "__array_namespace__") else value.reshape(shape)


def _parameter(spec: ParameterSpec, value: Any, x: Any, backend: Backend, text: str) -> tuple[Any, bool]:
    """(array, whether it has a point axis)."""
    n = x.shape[0]
    if is_function(value):
        array = _evaluated(spec, value, x, backend, text)
        array = column(array) if spec.rank == 0 else array
        if len(array.shape) != spec.rank + 1 or array.shape[0] != n:
            raise ShapeError(
                f"in '{text}': the function bound to {spec.name} gives shape {tuple(array.shape)} on {n} points; "
                f"expected ({_shape(n, spec)})."
            )
        _lengths(spec, array.shape[1:], text)
        return array, True
    if isinstance(value, np.generic):
        value = value.item()  # a NumPy number is a number: it takes the dtype of the points
    if value is None or isinstance(value, bool | str | bytes):
        raise BindingError(f"in '{text}': {spec.name} must be a number, an array or a function, got {shown(value)}.")
    if isinstance(value, float) and math.isnan(value):
        raise BindingError(f"in '{text}': {spec.name} is NaN.")
    if backend.is_array(value):
        if (what := backend.unusual(value)) is not None:
            raise BindingError(f"in '{text}': {spec.name} must be an ordinary array of numbers, got {what}.")
        value = backend.number(value, x)
    if not backend.is_array(value):
        if hasattr(value, "shape") and not isinstance(value, np.ndarray | np.generic):
            raise BindingError(
                f"in '{text}': {spec.name} is a {type(value).__module__}.{type(value).__name__}, the points belong to "
                f"{backend.name}. Arrays are not moved between frameworks silently; convert one of them."
            )
        host = _numbers(spec, value, text)
        if np.isnan(host).any():
            raise BindingError(f"in '{text}': {spec.name} contains NaN.")
        value = backend.ops.asarray(host, x)
    elif str(value.dtype) != str(x.dtype):
        raise ShapeError(
            f"in '{text}': {spec.name} has dtype {value.dtype}, the points have {x.dtype}. "
            "Nothing is converted silently; convert one of them."
        )
    elif (host := backend.concrete(value)) is not None and np.isnan(host).any():
        raise BindingError(f"in '{text}': {spec.name} contains NaN.")
    ndim = len(value.shape)
    if ndim == spec.rank:
        _lengths(spec, value.shape, text)
        return value, False
    if ndim == spec.rank + 1 and value.shape[0] == n:
        _lengths(spec, value.shape[1:], text)
        return value, True
    is_column = tuple(value.shape) == (n, 1) and spec.rank == 0
    hint = f" A column (n, 1) is not broadcast: pass {spec.name}[:, 0]." if is_column else ""
    raise ShapeError(
        f"in '{text}': {spec.name} has shape {tuple(value.shape)}; expected ({_shape(None, spec)}) or, one per point, "
        f"({_shape(n, spec)}).{hint}"
    )


def _numbers(spec: ParameterSpec, value: Any, text: str) -> npt.NDArray[np.float64]:
    """Python numbers, in lists or alone, and arrays of NumPy."""
    reason = f"got {type(value).__name__}"
    try:
        host = np.asarray(value)
        if host.dtype.kind in "iuf":
            return host.astype(np.float64)
        if host.dtype.kind == "c":
            reason = "got a complex number; a complex value is a pair of real ones"
        elif host.dtype.kind == "O" and isinstance(value, int):
            return np.asarray(float(value))
    except (TypeError, ValueError, OverflowError) as error:
        reason = f"got {shown(value)} ({error})"
    raise BindingError(f"in '{text}': {spec.name} must be a number, an array or a function, {reason}.")


def _evaluated(spec: ParameterSpec, function: Any, x: Any, backend: Backend, text: str) -> Any:
    """A coefficient function at the points."""
    where = f"in '{text}': the function bound to {spec.name}"
    try:
        array = backend.at_points(function, x)
    except OpdslError:
        raise
    except Exception as error:
        raise BindingError(f"{where} failed on points of shape {tuple(x.shape)}: {type(error).__name__}: {error}.") from error
    if not hasattr(array, "shape"):
        raise BindingError(f"{where} returned {type(array).__name__}; expected an array ({_shape(x.shape[0], spec)}).")
    if str(array.dtype) != str(x.dtype):
        raise ShapeError(f"{where} gives dtype {array.dtype}, the points have {x.dtype}. Nothing is converted silently.")
    return array


def _shape(n: int | None, spec: ParameterSpec) -> str:
    sizes: Sequence[int | None] = spec.shape or (None,) * spec.rank
    parts = ([str(n)] if n is not None else []) + ["·" if s is None else str(s) for s in sizes]
    return ", ".join(parts) + ("," if len(parts) == 1 else "")


def _lengths(spec: ParameterSpec, shape: Sequence[int], text: str) -> None:
    for have, want in zip(shape, spec.shape, strict=False):
        if want is not None and have != want:
            raise ShapeError(f"in '{text}': {spec.name} has components {tuple(shape)}, the text needs {tuple(spec.shape)}.")
