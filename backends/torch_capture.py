"""Turn a torch function into a `Graph`: record it for n points and for n + 1, and compare.

The axis of every value that grows with the number of points is its batch axis; sizes that grow become `Rows`. A value that
depends on the points without such an axis mixes rows, which is refused here; whatever structure cannot show, a numeric check
on the captured graph does.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import array_api_compat.torch as xp
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

# Imported for their entries in the table of rules.
from opdsl.backends import torch_rules_composed, torch_rules_linear, torch_rules_matrix  # noqa: F401
from opdsl.backends.base import Capture
from opdsl.backends.torch_decompose import decompose
from opdsl.backends.torch_lift import isolated, trace, untouched
from opdsl.backends.torch_record import AtenCall, Mutation, Rows, Step, Stopped, Tape, aten
from opdsl.backends.torch_rules import Facts, rule_of
from opdsl.errors import CaptureError, OpdslError, RowMixingError, ShapeError
from opdsl.jets.graph import Bilinear, Composed, Constant, Graph, Node, Rule, Value, evaluate

_FIX = "Every operation must act on each row by itself (no sums, sorts, attention or normalisation over the batch)."
# Operators that broadcast a batch axis of length 1 against a full one.
_BROADCASTING = frozenset(
    {"add", "sub", "rsub", "mul", "div", "where", "matmul", "maximum", "minimum", "atan2", "hypot", "logaddexp"}
)
# Compositions that touch no axis of the points.
_THIN_COMPOSED = frozenset({"_softmax", "_log_softmax", "logsumexp", "elu", "gelu", "softplus", "log_sigmoid_forward", "pow",
                            "linalg_vector_norm", "norm", "fmod", "remainder"})  # fmt: skip
_JOINING = frozenset({"cat", "stack"})
_STRIDED = frozenset({aten.view.default, aten._unsafe_view.default, aten._reshape_alias.default})
# Operators that pick rows.
_SELECTING = frozenset("slice select split split_with_sizes unsafe_split unbind index index_select gather narrow chunk".split())


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

    with isolated(x) as ambient, untouched(function):
        random = _Random(x)
        tape, output = _run(call, x, arrays, ambient)
        more: Tape | None = None
        second: Any = None
        try:
            with torch.no_grad():
                wider = torch.cat([tape.values[0].detach(), tape.values[0][:1].detach()]).requires_grad_(x.requires_grad)
            random.restore()
            more, second = _run(call, wider, arrays, ambient)
        except OpdslError:
            # A function with one constant per point works for this number of points only.
            more = None
        number = _check_output(tape, output, x, second)
        builder = _Builder(tape, more, number, x.shape[0], len(arrays))
        graph = builder.graph()
        with torch.no_grad():
            _check_rows(graph, builder, output.detach(), random)
            if x.shape[0] == 1 and more is not None:
                # One row cannot show mixing: look at the run with two.
                pair = _Builder(more, None, more.number[id(second)], 2, len(arrays))
                _check_rows(pair.graph(), pair, second.detach(), random)
    constants = tuple(tape.foreign[i] for i in builder.kept)
    return Recorded(
        Capture(graph, constants, builder.key()),
        tuple(i in tape.literals for i in builder.kept),
        not tape.reads_constants,
        tape.mutates_constants,
    )


class _Random:
    """The random state, to repeat a run with the same dropout masks."""

    def __init__(self, x: Tensor) -> None:
        self.device = x.device if x.device.type == "cuda" else None
        self.state = torch.random.get_rng_state()
        self.cuda = None if self.device is None else torch.cuda.get_rng_state(self.device)

    def restore(self) -> None:
        torch.random.set_rng_state(self.state)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


def _run(call: Callable[..., Any], x: Tensor, arrays: Sequence[Tensor], ambient: bool) -> tuple[Tape, Any]:
    tape = Tape()
    try:
        try:
            return tape, trace(call, x, arrays, decompose, tape, ambient=ambient)
        except Mutation:
            tape = Tape()
            return tape, trace(call, x, arrays, decompose, tape, ambient=ambient, functional=True)
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


class _Builder:
    """Makes the graph from one or two tapes."""

    def __init__(self, tape: Tape, more: Tape | None, output: int, n: int, leading: int) -> None:
        self.tape, self.n, self.leading = tape, n, leading
        self.steps, self.needed = _live(tape, output)
        self.other = None if more is None else _pair(tape, more)
        self.more = more
        self.kept = [i for i, number in enumerate(tape.foreign_numbers) if i < leading or number in self.needed]
        order = [0, *(tape.foreign_numbers[i] for i in self.kept), *(o for s in self.steps for o in s.outputs)]
        self.place = {number: i for i, number in enumerate(dict.fromkeys(order))}
        self.output = self.place[output]
        self.signature: list[Hashable] = []

    def graph(self) -> Graph:
        values = [self._value(number) for number in self.place]
        # Jets flow through everything but constants: the first pass finds where, the second chooses rules with it.
        jets = {0}
        nodes: list[Node] = []
        for step in self.steps:
            node = self._node(step, jets, values)
            if not isinstance(node.rule, Constant) and any(i in jets for i in node.inputs):
                jets.update(node.outputs)
            nodes.append(node)
        constants = tuple(self.place[self.tape.foreign_numbers[i]] for i in self.kept)
        graph = Graph(tuple(values), 0, constants, tuple(nodes), (self.output,))
        if self.other is not None:
            self._check_mixing(graph, jets)
        return graph

    def key(self) -> Hashable | None:
        """Structure, shapes and dtypes: what interchangeable captures share."""
        try:
            facts = tuple((tuple(v.shape), v.dtype, v.device) for v in (self.tape.values[n] for n in self.place))
            key = (tuple(self.signature), facts, len(self.kept), self.output)
            hash(key)
        except TypeError:
            return None
        return key

    # ------------------------------------------------------------------------------------------------------- values

    def _value(self, number: int) -> Value:
        tensor = self.tape.values[number]
        grown = self._grown(number)
        axis = grown[0][0] if grown and _regular(grown, tensor.shape, self.n) and grown[0][1] == 1 else None
        return Value(tuple(tensor.shape), tensor.dtype, 0 if number == 0 else axis)

    def _grown(self, number: int) -> list[tuple[int, int]] | None:
        """(axis, factor) of every axis of length factor · n; None where the two runs differ."""
        if self.other is None or self.more is None or number not in self.other:
            return None
        a, b = self.tape.values[number].shape, self.more.values[self.other[number]].shape
        if len(a) != len(b):
            return None
        return [(k, t - s) for k, (s, t) in enumerate(zip(a, b, strict=True)) if s != t]

    def _meta(self, number: int) -> Tensor:
        # Rules outlive the capture: they must not keep activations in memory.
        tensor = self.tape.values[number]
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

    def _check_mixing(self, graph: Graph, jets: set[int]) -> None:
        numbers = list(self.place)
        partial: set[int] = set()
        # Only where jets go on to the output: `ones_like` of a sum over the batch asks for its shape.
        going = {*graph.outputs}
        for node in reversed(graph.nodes):
            if not isinstance(node.rule, Constant) and any(i in going for i in node.outputs):
                going.update(node.inputs)
        for node in graph.nodes:
            for i in node.outputs:
                grown = self._grown(numbers[i])
                if i not in jets or i not in going or grown is None or _regular(grown, graph.values[i].shape, self.n):
                    continue
                if any(j in partial for j in node.inputs) or node.primitive.split(".")[1] in _SELECTING:
                    # Some of the rows, perhaps to treat them in turns: whether that mixes them is left to the numeric check.
                    partial.update(node.outputs)
                    continue
                raise RowMixingError(
                    f"the points influence one another: {node.primitive} gives shape {graph.values[i].shape} with "
                    f"{'no axis' if not grown else 'several axes'} of points. {_FIX} Batch normalisation needs .eval()."
                )

    # -------------------------------------------------------------------------------------------------------- nodes

    def _node(self, step: Step, jets: set[int], values: Sequence[Value]) -> Node:
        inputs = tuple(self.place[i] for i in step.inputs)
        outputs = tuple(self.place[o] for o in step.outputs)
        call, exact = self._sized(step)
        apply: Any = call
        if step.stopped:
            rule: Any = Constant()
            apply = Stopped(call)
        else:
            facts = Facts(
                call,
                tuple(self._meta(i) for i in step.inputs),
                tuple(i in jets for i in inputs),
                tuple(self._meta(o) for o in step.outputs),
            )
            rule = rule_of(facts)
        if call.op in _STRIDED and not step.stopped:
            # A jet's channels need not be laid out in memory like the value itself.
            apply = AtenCall(aten.reshape.default, call.args, call.kwargs, call.rows)
        if call.op is aten.mul.Tensor and isinstance(rule, Bilinear) and not step.stopped:
            apply = xp.multiply
        flexible = exact and self._flexible(step, rule, inputs, outputs, jets, values)
        self.signature.append(
            (str(call.op), call.args, tuple(sorted(call.kwargs.items())), inputs, outputs, step.stopped, flexible)
        )
        return Node(str(call.op), rule, inputs, outputs, apply, step.several, flexible)

    def _sized(self, step: Step) -> tuple[AtenCall, bool]:
        """The call with its sizes made to follow the number of points; and whether all of them do."""
        twin = None if self.other is None else self.twins.get(id(step))
        if twin is None:
            return step.call, False
        grows = [False]
        exact = [True]

        def merge(a: Any, b: Any) -> Any:
            if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
                return tuple(merge(v, w) for v, w in zip(a, b, strict=True))
            if type(a) is int and type(b) is int and a != b:
                if b - a > 0 and a == (b - a) * self.n:
                    grows[0] = True
                    return Rows(b - a)
                exact[0] = False
            elif a != b:
                exact[0] = False
            return a

        args = merge(step.call.args, twin.call.args)
        kwargs = {k: merge(v, twin.call.kwargs.get(k)) for k, v in step.call.kwargs.items()}
        if not grows[0]:
            return step.call, exact[0]
        for slot, number in enumerate(step.inputs):
            grown = self._grown(number)
            if grown and _regular(grown, self.tape.values[number].shape, self.n):
                return AtenCall(step.call.op, args, kwargs, (slot, *grown[0])), exact[0]
        return step.call, False

    @property
    def twins(self) -> dict[int, Step]:
        assert self.more is not None
        if not hasattr(self, "_twins"):
            self._twins = {id(a): b for a, b in zip(self.tape.steps, self.more.steps, strict=True)}
        return self._twins

    def _flexible(
        self, step: Step, rule: Rule, inputs: Sequence[int], outputs: Sequence[int], jets: set[int], values: Sequence[Value]
    ) -> bool:
        name = step.call.op.__name__.partition(".")[0]
        if isinstance(rule, Composed) and name not in _THIN_COMPOSED | _BROADCASTING:
            return False
        if any(values[o].batch_axis is None for o in outputs) or any(i in jets and values[i].batch_axis is None for i in inputs):
            return False
        rows = [i for i, number in zip(inputs, step.inputs, strict=True) if self._grown(number)]
        if len(rows) == 1:
            return rows[0] in jets
        return name in _BROADCASTING or (name in _JOINING and all(i in jets for i in rows))


def _regular(grown: Sequence[tuple[int, int]], shape: Sequence[int], n: int) -> bool:
    """Exactly one axis grows, and it has a whole number of places for each point."""
    return len(grown) == 1 and shape[grown[0][0]] == grown[0][1] * n


def _live(tape: Tape, output: int) -> tuple[list[Step], set[int]]:
    """The steps that the output needs."""
    needed, steps = {output}, []
    for step in reversed(tape.steps):
        if any(o in needed for o in step.outputs):
            needed.update(step.inputs)
            steps.append(step)
    return steps[::-1], needed


def _pair(tape: Tape, more: Tape) -> dict[int, int] | None:
    """Which value of the second run is which of the first; None where the runs took different paths."""
    if len(tape.steps) != len(more.steps) or len(tape.foreign_numbers) != len(more.foreign_numbers):
        return None
    pairs = {0: 0, **dict(zip(tape.foreign_numbers, more.foreign_numbers, strict=True))}
    for a, b in zip(tape.steps, more.steps, strict=True):
        if a.call.op is not b.call.op or len(a.outputs) != len(b.outputs) or [pairs.get(i) for i in a.inputs] != list(b.inputs):
            return None
        pairs.update(zip(a.outputs, b.outputs, strict=True))
    return pairs


def _check_rows(graph: Graph, builder: _Builder, output: Tensor, random: _Random) -> None:
    """Change some rows: the others must not notice. Unchanged rows must also come out as in the run itself."""
    tape, n = builder.tape, builder.n
    seeded = [s for s in tape.steps if torch.Tag.nondeterministic_seeded in s.call.op.tags]
    if len(seeded) != sum(s in builder.steps for s in seeded):
        return  # random numbers that nobody uses: the graph cannot repeat the run
    x = tape.values[0].detach()
    constants = [tape.values[tape.foreign_numbers[i]].detach() for i in builder.kept]

    def run(points: Tensor) -> Tensor:
        random.restore()
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
            raise RowMixingError(f"the points influence one another: changing some rows changes others. {_FIX}")
        raise CaptureError(
            "internal: the captured graph does not reproduce the function. Please report the function that shows this."
        )


def _same(a: Tensor, b: Tensor) -> bool:
    # A few units in the last place: a matrix product may round differently, a mixed row changes by far more.
    scale = torch.nan_to_num(a.abs()).amax() if a.numel() else a.new_zeros(())
    close = (a - b).abs() <= 64 * torch.finfo(a.dtype).eps * torch.maximum(a.abs(), scale)
    return bool((close | (a == b) | (a.isnan() & b.isnan())).all())
