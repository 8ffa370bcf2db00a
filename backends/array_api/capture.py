"""Capture a function of points (n, d) by running it on a tracer: see `opdsl.backends.array_api.tracer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import array_api_compat

from opdsl.backends.array_api.tracer import Recorder, Tracer
from opdsl.errors import CaptureError, RowMixingError, ShapeError
from opdsl.jets.graph import Array, Graph, Node, Value, evaluate


def capture_batch(function: Callable[..., Any], x: Array, xp: Any) -> tuple[Graph, tuple[Array, ...]]:
    """The graph of a function that treats every row by itself, and its constants.

    Raises:
        CaptureError: the function fails, or does something that cannot be recorded.
        RowMixingError: rows influence one another.
        ShapeError: not one row per point.
    """
    graph, arrays, output = trace(function, x, xp)
    # A second run with one more row: in every shape, the axis that grew is the axis of the points. Inside another
    # capture it uses plain arrays, so that it leaves no trace there.
    plain = x
    while isinstance(plain, Tracer):
        plain = plain.value
    own = array_api_compat.array_namespace(plain)
    more, _, second = trace(function, own.concat([plain, plain[:1, ...]], axis=0), own)
    graph = _with_batch_axes(graph, more)
    _check_output(output, x, second)
    _check_rows(graph, x, arrays, xp)
    return graph, tuple(arrays)


def trace(function: Callable[..., Any], x: Array, xp: Any) -> tuple[Graph, list[Array], Array]:
    """Run the function once on a tracer of x, of whatever shape: the graph, the arrays for its constants, and the result."""
    recorder = Recorder(xp)
    number = recorder.new(x)
    try:
        output = function(Tracer(recorder, number, x))
    except CaptureError:
        raise
    except Exception as error:
        raise CaptureError(
            f"the function failed on points of shape {tuple(x.shape)}: {type(error).__name__}: {error}. "
            "On the NumPy backend it takes an array (n, d) and is written against the array API or NumPy."
        ) from error
    if isinstance(output, Tracer):
        return recorder.graph(number, output.number), recorder.arrays, output.value
    if not hasattr(output, "__array_namespace__"):
        raise CaptureError(f"the function must return an array with one row per point, got {type(output).__name__}.")
    return recorder.graph(number, recorder.constant(output)), recorder.arrays, output


def _with_batch_axes(graph: Graph, more: Graph) -> Graph:
    if [n.primitive for n in graph.nodes] != [n.primitive for n in more.nodes]:
        raise CaptureError("the function does different things for different numbers of points; it must treat each point alike.")
    dependent = graph.dependent()
    values = []
    for i, (a, b) in enumerate(zip(graph.values, more.values, strict=True)):
        grown = [k for k, (s, t) in enumerate(zip(a.shape, b.shape, strict=True)) if s != t]
        if i in dependent and len(grown) != 1:
            raise RowMixingError(
                f"the points influence one another: an intermediate of shape {a.shape} has "
                f"{'no axis' if not grown else 'several axes'} of points. Every operation must act on each row by itself."
            )
        values.append(Value(a.shape, a.dtype, grown[0] if grown else None))
    flexible = tuple(_thin_ok(n, values) for n in graph.nodes)
    return Graph(tuple(values), graph.x, graph.constants, flexible, graph.outputs)


def _thin_ok(node: Node, values: Sequence[Value]) -> Node:
    """Whether a batch axis of length 1 passes: the points stay where they are, and no constant has a row per point."""
    ok = node.flexible and all(values[i].batch_axis == 0 for i in node.outputs)
    return node if ok == node.flexible else replace(node, flexible=ok)


def _check_output(output: Array, x: Array, second: Array) -> None:
    if len(output.shape) not in (1, 2) or output.shape[0] != x.shape[0] or second.shape[0] != x.shape[0] + 1:
        raise ShapeError(
            f"the function returned shape {tuple(output.shape)} for points of shape {tuple(x.shape)}; "
            "expected (n,) or (n, m): one row per point."
        )


def _check_rows(graph: Graph, x: Array, constants: Sequence[Array], xp: Any) -> None:
    """Change one row: the others must not notice."""
    if x.shape[0] < 2 or isinstance(x, Tracer):  # inside another capture, which checks its own rows
        return
    moved = xp.concat([x[:-1, ...], x[-1:, ...] + 0.5], axis=0)
    before, after = evaluate(graph, x, constants)[0], evaluate(graph, moved, constants)[0]
    a, b = before[:-1, ...], after[:-1, ...]
    # A few ulps: a matrix product may round differently, a mixed row changes by far more.
    close = xp.abs(a - b) <= (xp.abs(a) + 1e-30) * (64 * xp.finfo(x.dtype).eps)
    if not bool(xp.all(close | (a == b) | (xp.isnan(a) & xp.isnan(b)))):
        raise RowMixingError(
            "the points influence one another: changing the last row changes other rows. "
            "Every operation must act on each row by itself (no sums, sorts or normalisation over the batch)."
        )
