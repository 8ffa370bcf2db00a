"""From tapes to a `Graph`: two recordings of one function, for n points and for n + 1, are compared.

The axis of every value that grows with the number of points is its batch axis; sizes that grow become `Rows`. A value that
depends on the points without such an axis mixes rows, which is refused.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import array_api_compat.torch as xp
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from opdsl.backends.torch.bessel import BY_OPERATOR
from opdsl.backends.torch.derivative import TangentProgram, tangent_program
from opdsl.backends.torch.primitives import Facts, named, rule_of
from opdsl.backends.torch.tape import AtenCall, Rows, Step, Stopped, Tape, aten
from opdsl.errors import RowMixingError
from opdsl.jets.first_derivative import Inner
from opdsl.jets.graph import Bilinear, Composed, Constant, Graph, Node, Rule, Value

FIX = "Every operation must act on each row by itself (no sums, sorts, attention or normalisation over the batch)."
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


POINTS: Mapping[int, int | None] = {0: 0}
"""Value 0 is the points; they count along its axis 0."""


class Builder:
    """Makes the graph from one or two tapes.

    Args:
        tape: the recording.
        more: the same for one point more.
        outputs: numbers of the results on the tape.
        n: the number of points.
        leading: how many foreign tensors stay constants of the graph, used or not.
        inputs: numbers of the values that carry jets, and their axes of points, where these are other than the points.
        order: degree up to which jets matter; None for all (see `opdsl.jets.first_derivative.Differentiable`).
        linear: those inputs that are directions of a derivative.
    """

    def __init__(
        self,
        tape: Tape,
        more: Tape | None,
        outputs: Sequence[int],
        n: int,
        leading: int,
        *,
        inputs: Mapping[int, int | None] = POINTS,
        order: int | None = None,
        linear: Sequence[int] = (),
    ) -> None:
        self.tape, self.n, self.leading, self.order = tape, n, leading, order
        self.steps, self.needed = _live(tape, outputs)
        self.inputs = inputs
        self.other = None if more is None else _pair(tape, more, inputs)
        self.more = more
        self.kept = [i for i, number in enumerate(tape.foreign_numbers) if i < leading or number in self.needed]
        numbers = [*inputs, *(tape.foreign_numbers[i] for i in self.kept), *(o for s in self.steps for o in s.outputs)]
        self.place = {number: i for i, number in enumerate(dict.fromkeys(numbers))}
        self.outputs = tuple(self.place[o] for o in outputs)
        self.linear = {self.place[i] for i in linear}
        self.signature: list[Hashable] = []

    def graph(self) -> Graph:
        values = [self._value(number) for number in self.place]
        jets = {self.place[i] for i in self.inputs}
        nodes: list[Node] = []
        for step in self.steps:
            node = self._node(step, jets, values)
            if not isinstance(node.rule, Constant) and any(i in jets for i in node.inputs):
                jets.update(node.outputs)
                if any(i in self.linear for i in node.inputs):
                    self.linear.update(node.outputs)
            nodes.append(node)
        constants = tuple(self.place[self.tape.foreign_numbers[i]] for i in self.kept)
        graph = Graph(tuple(values), 0, constants, tuple(nodes), self.outputs)
        if self.other is not None and self.inputs is POINTS:
            self._check_mixing(graph, jets)
        return graph

    def key(self) -> Hashable | None:
        """Structure, shapes and dtypes: what interchangeable captures share."""
        try:
            facts = tuple((tuple(v.shape), v.dtype, v.device) for v in (self.tape.values[n] for n in self.place))
            key = (tuple(self.signature), facts, len(self.kept), self.outputs)
            hash(key)
        except TypeError:
            return None
        return key

    # ------------------------------------------------------------------------------------------------------- values

    def _value(self, number: int) -> Value:
        tensor = self.tape.values[number]
        grown = self._grown(number)
        axis = grown[0][0] if grown and _regular(grown, tensor.shape, self.n) and grown[0][1] == 1 else None
        return Value(tuple(tensor.shape), tensor.dtype, self.inputs.get(number, axis))

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
                    f"{'no axis' if not grown else 'several axes'} of points. {FIX} Batch normalisation needs .eval()."
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
                batch_axes=tuple(values[i].batch_axis for i in inputs),
                several=step.several,
                order=self.order,
                linear=tuple(i in self.linear for i in inputs),
                differentiate=tangent_program,
                inner=inner_graph,
            )
            rule = rule_of(facts)
        if call.op in _STRIDED and not step.stopped:
            # A jet's channels need not be laid out in memory like the value itself.
            apply = AtenCall(aten.reshape.default, call.args, call.kwargs, call.rows)
        if call.op is aten.mul.Tensor and isinstance(rule, Bilinear) and not step.stopped:
            apply = xp.multiply
        if call.op in BY_OPERATOR and not step.stopped:
            apply = BY_OPERATOR[call.op]
        flexible = exact and self._flexible(step, rule, inputs, outputs, jets, values)
        self.signature.append(
            (str(call.op), call.args, tuple(sorted(call.kwargs.items())), inputs, outputs, step.stopped, flexible)
        )
        return Node(str(call.op), rule, inputs, outputs, apply, step.several, flexible, named(call.op))

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


def _live(tape: Tape, outputs: Sequence[int]) -> tuple[list[Step], set[int]]:
    """The steps that the outputs need."""
    needed, steps = {*outputs}, []
    for step in reversed(tape.steps):
        if any(o in needed for o in step.outputs):
            needed.update(step.inputs)
            steps.append(step)
    return steps[::-1], needed


def _pair(tape: Tape, more: Tape, inputs: Iterable[int]) -> dict[int, int] | None:
    """Which value of the second run is which of the first; None where the runs took different paths."""
    if len(tape.steps) != len(more.steps) or len(tape.foreign_numbers) != len(more.foreign_numbers):
        return None
    pairs = {**{i: i for i in inputs}, **dict(zip(tape.foreign_numbers, more.foreign_numbers, strict=True))}
    for a, b in zip(tape.steps, more.steps, strict=True):
        if a.call.op is not b.call.op or len(a.outputs) != len(b.outputs) or [pairs.get(i) for i in a.inputs] != list(b.inputs):
            return None
        pairs.update(zip(a.outputs, b.outputs, strict=True))
    return pairs


def inner_graph(program: TangentProgram, order: int | None, linear: Sequence[bool]) -> Inner:
    """The graph of a derivative: its leading constants are the operands and the directions, any of which may carry a jet."""
    inputs = dict(enumerate(program.axes))
    directions = [i for i, flag in zip(inputs, linear, strict=True) if flag]
    # What is decided here is no part of a recording that may be going on.
    with _disable_current_modes():
        builder = Builder(
            program.tape, program.more, program.outputs, program.n, 0, inputs=inputs, order=order, linear=directions
        )
        graph = builder.graph()
    # No single value is "the points" here; a value nobody reads stands in for them.
    values = (*graph.values, Value((), graph.values[0].dtype))
    constants = (*(builder.place[i] for i in inputs), *graph.constants)
    inner = Graph(values, len(values) - 1, constants, graph.nodes, graph.outputs)
    arrays = tuple(program.tape.foreign[i] for i in builder.kept)
    return Inner(inner, arrays, tuple(o in builder.linear for o in graph.outputs))
