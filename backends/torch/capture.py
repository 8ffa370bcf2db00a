"""Turn a torch function into a `Graph`: record it for n points and for n + 1, and compare.

The graph is made by `torch_graph`, which refuses a value that depends on the points without an axis for them, for it mixes
rows; whatever structure cannot show, a numeric check on the captured graph does.

Why not `make_fx` with symbolic sizes, or `torch.export`: they drop the derivatives of custom functions, `make_fx` also
``no_grad``, and sizes that Python reads become constants of the graph. ``tests/test_torch_capture_alternatives.py`` has the cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from opdsl.backends.base import Capture

# Imported for their entries in the table of rules.
from opdsl.backends.torch import (
    primitives_composed,  # noqa: F401
    primitives_linear,  # noqa: F401
    primitives_matrix,  # noqa: F401
)
from opdsl.backends.torch.decompositions import decompose
from opdsl.backends.torch.draws import Repeating
from opdsl.backends.torch.graph import FIX, Builder
from opdsl.backends.torch.isolation import isolated, untouched
from opdsl.backends.torch.tape import HALVES, Mutation, Tape
from opdsl.backends.torch.trace import trace
from opdsl.errors import CaptureError, OpdslError, RowMixingError, ShapeError
from opdsl.jets.graph import Graph, evaluate


@dataclass(frozen=True)
class Recorded:
    """A capture, and what is needed to repeat it with other tensors.

    Args:
        capture: the capture.
        literals: for each constant whether it is a literal of the code, the same at each run.
        reusable: False where the function looked at values of its own tensors, which may have changed at the next call.
        mutates: whether the function writes into tensors of its own.
    """

    capture: Capture
    literals: tuple[bool, ...]
    reusable: bool
    mutates: bool


def capture(function: Callable[..., Any], x: Tensor, params: Any = None) -> Recorded:
    """Capture ``function`` on points x (n, d); see `Backend.capture`."""
    leaves, tree = pytree.tree_flatten(params)
    arrays = [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    def call(made: Sequence[Tensor], points: Tensor) -> Any:
        if params is None:
            return function(points)
        given = iter(made)
        return function(pytree.tree_unflatten([next(given) if isinstance(v, Tensor) else v for v in leaves], tree), points)

    with isolated() as ambient, untouched(function):
        wide = x.dtype in HALVES
        tape, output = _run(call, x, arrays, ambient, wide)
        more: Tape | None = None
        second: Any = None
        try:
            with torch.no_grad():
                wider = torch.cat([tape.values[0].detach(), tape.values[0][:1].detach()]).requires_grad_(x.requires_grad)
            more, second = _run(call, wider, arrays, ambient, wide)
        except OpdslError:
            # A function with one constant per point works for this number of points only.
            more = None
        number = _check_output(tape, output, x, second)
        builder = Builder(tape, more, (number,), x.shape[0], len(arrays))
        graph = builder.graph()
        with torch.no_grad():
            _check_rows(graph, builder, output.detach())
            if x.shape[0] == 1 and more is not None:
                # One row cannot show mixing: look at the run with two.
                pair = Builder(more, None, (more.number[id(second)],), 2, len(arrays))
                _check_rows(pair.graph(), pair, second.detach())
    constants = tuple(tape.foreign[i] for i in builder.kept)
    return Recorded(
        Capture(graph, constants, builder.key(), tape.asks_size),
        tuple(i in tape.literals for i in builder.kept),
        not tape.reads_constants,
        tape.mutates_constants,
    )


def _run(
    call: Callable[..., Any], x: Tensor, arrays: Sequence[Tensor], ambient: bool, wide: bool
) -> tuple[Tape, Any]:
    tape = Tape()
    try:
        try:
            return tape, trace(call, x, arrays, decompose, tape, ambient=ambient, wide=wide)
        except Exception:
            # Scripted code raises errors of its own in place of `Mutation`.
            if not tape.writes_views:
                raise
        tape = Tape()
        return tape, trace(call, x, arrays, decompose, tape, ambient=ambient, functional=True, wide=wide)
    except OpdslError:
        raise
    except Mutation as error:
        raise CaptureError(f"the function changes a tensor in place ({error}) in a way that cannot be followed.") from error
    except Exception as error:
        raise CaptureError(
            f"the function failed on points of shape {tuple(x.shape)} and dtype {x.dtype}: {type(error).__name__}: {error}"
            f"{_mismatch(tape, x)} On torch it takes (n, d) and returns one row per point."
        ) from error


def _mismatch(tape: Tape, x: Tensor) -> str:
    """The likely cause: parameters of another dtype or on another device."""
    floating = [t for t in tape.foreign if t.is_floating_point()]
    for t in floating:
        if t.dtype != x.dtype:
            return f". The points are {x.dtype}, the function holds {t.dtype} tensors: write x.to({t.dtype})."
        if t.device != x.device:
            return f". The points are on {x.device}, the function's tensors on {t.device}: write x.to('{t.device}')."
    return "."


def _check_output(tape: Tape, output: Any, x: Tensor, second: Any) -> int:
    if not isinstance(output, Tensor):
        raise CaptureError(f"the function must return one tensor with one row per point, got {type(output).__name__}.")
    if output.dim() not in (1, 2) or output.shape[0] != x.shape[0] or (second is not None and second.shape[0] != x.shape[0] + 1):
        raise ShapeError(
            f"the function returned shape {tuple(output.shape)} for points of shape {tuple(x.shape)}; "
            "expected (n,) or (n, m): one row per point."
        )
    if not output.is_floating_point():
        raise CaptureError(f"the function returned {output.dtype}; a field is real floating point.")
    return tape.number[id(output)]


def _check_rows(graph: Graph, builder: Builder, output: Tensor) -> None:
    """Change some rows: the others must not notice. Unchanged rows must also come out as in the run itself."""
    tape, n = builder.tape, builder.n
    seeded = [s for s in tape.steps if torch.Tag.nondeterministic_seeded in s.call.op.tags]
    if len(seeded) != sum(s in builder.steps for s in seeded):
        return  # random numbers that nobody uses: the graph cannot repeat the run
    x = tape.values[0].detach()
    constants = [tape.values[tape.foreign_numbers[i]].detach() for i in builder.kept]

    def run(points: Tensor) -> Tensor:
        with Repeating():
            return evaluate(graph, points, constants)[0]  # type: ignore[no-any-return]

    shift = 0.37 + 0.1 * torch.arange(x.shape[1], dtype=x.dtype, device=x.device)
    halves = [slice(n // 2, n), slice(0, n // 2)]
    for moved in [*halves, *([slice(n - 1, n)] if n > 2 else [])] if n > 1 else []:
        points = x.clone()
        points[moved] += shift
        still = torch.ones(n, dtype=torch.bool, device=x.device)
        still[moved] = False
        if _same(output[still], run(points)[still]):
            continue
        if _same(output, run(x)):
            raise RowMixingError(f"the points influence one another: changing some rows changes others. {FIX}")
        raise CaptureError(
            "internal: the captured graph does not reproduce the function. Please report the function that shows this."
        )


def _same(a: Tensor, b: Tensor) -> bool:
    # A few units in the last place: a matrix product may round differently, a mixed row changes by far more.
    scale = torch.nan_to_num(a.abs()).amax() if a.numel() else a.new_zeros(())
    close = (a - b).abs() <= 64 * torch.finfo(a.dtype).eps * torch.maximum(a.abs(), scale)
    return bool((close | (a == b) | (a.isnan() & b.isnan())).all())
