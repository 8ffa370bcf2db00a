"""Compile an evaluator: record it once, keep a flat program of ATen operators.

The program is an ordinary `torch.fx.GraphModule`: nothing of opdsl runs at run time, autograd, `torch.func` and `torch.compile`
see plain operators.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.fx
from torch import Tensor

from opdsl.backends.base import Evaluator
from opdsl.backends.torch.any_size import for_any_size
from opdsl.backends.torch.custom_functions import custom_functions
from opdsl.backends.torch.decompositions import without_gaps
from opdsl.backends.torch.draws import Repeating
from opdsl.backends.torch.eager import eager
from opdsl.backends.torch.isolation import isolated
from opdsl.backends.torch.lifting import stand_in
from opdsl.backends.torch.recorder import Recorder
from opdsl.backends.torch.simplify import getitem, simplify
from opdsl.backends.torch.tape import Slot, Tape, aten, up
from opdsl.errors import BackendError

Bindings = Mapping[str, Any]


def compile_evaluator(
    evaluator: Evaluator, example: tuple[Sequence[Sequence[Tensor]], Tensor, Bindings]
) -> Callable[[Sequence[Sequence[Tensor]], Tensor, Bindings], tuple[Tensor, ...]]:
    """Record ``evaluator.call`` on stand-ins of the example; see `Backend.compile`.

    Raises:
        BackendError: the program does not repeat what the evaluator computed (an error of ours or of torch's).
    """
    constants, x, bindings = example[0], up(example[1]), example[2]
    names = sorted(bindings)
    with isolated(), torch.no_grad():
        flat = [[stand_in(c) for c in group] for group in constants]
        points, given = stand_in(x), {name: stand_in(up(_tensor(bindings[name], x))) for name in names}
        inputs = [*(c for group in flat for c in group), points, *given.values()]
        tape = Tape()
        for tensor in inputs:
            tape.add(tensor, True)
        recorder = Recorder(tape, without_gaps, allow_reads=False)
        with torch.enable_grad(), custom_functions(), recorder:
            results = tuple(evaluator.call(flat, points, given))
        if tape.custom:
            # A custom autograd.Function has a derivative of its own, which only autograd itself can use.
            return lambda c, p, b: evaluator.call(c, up(p), {name: up(_tensor(b[name], p)) for name in names})
        program = _program(tape, len(inputs), results)
        _verify(program, tape, len(inputs), results)

    return Flat(program, tuple(names))


@dataclass(frozen=True)
class Flat:
    """A recorded program: what `Backend.compile` gives, from the arrays of a call to the inputs of the program.

    Args:
        program: its inputs are all constants, the points, and the bindings in the order of ``names``.
        names: of the bindings.
    """

    program: torch.fx.GraphModule
    names: tuple[str, ...]

    def __call__(self, constants: Sequence[Sequence[Tensor]], x: Tensor, bindings: Bindings) -> tuple[Tensor, ...]:
        given = (up(_tensor(bindings[name], x)) for name in self.names)
        run = self.program if torch.compiler.is_compiling() else self._eager
        return run(*(c for group in constants for c in group), up(x), *given)  # type: ignore[no-any-return]

    @cached_property
    def _eager(self) -> Callable[..., tuple[Tensor, ...]]:
        return eager(self.program)


def joined(one: Any, more: Any, sizes: tuple[int, int], inputs: int) -> Flat | None:
    """The program for any number of points that is these at theirs; see `opdsl.backends.torch.any_size`."""
    if not (isinstance(one, Flat) and isinstance(more, Flat)):
        return None
    if one is more:
        return one
    program = for_any_size(one.program, more.program, sizes, inputs)
    return None if program is None else Flat(program, one.names)


def _tensor(value: Any, x: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=x.dtype, device=x.device)


def _program(tape: Tape, count: int, results: Sequence[Tensor]) -> torch.fx.GraphModule:
    graph = torch.fx.Graph()
    root = torch.nn.Module()
    wanted = [_number(tape, r) for r in results]
    static = _static(tape)
    live, steps = set(wanted), []
    for step in reversed(tape.steps):
        if any(o in live and o not in static for o in step.outputs):
            live.update(step.inputs)
            steps.append(step)
    nodes: dict[int, Any] = {i: graph.placeholder(f"in_{i}") for i in range(count)}
    for number in sorted(live & static):
        # What does not depend on the inputs is a number: quadrature weights, directions, seeds.
        root.register_buffer(f"number_{number}", tape.values[number].detach().clone())
        nodes[number] = graph.get_attr(f"number_{number}")
    for number, node in nodes.items():
        node.meta["val"] = _meta(tape.values[number])
    for step in reversed(steps):
        operands = [nodes[i] for i in step.inputs]
        args = tuple(_filled(a, operands) for a in step.call.args)
        kwargs = {k: _filled(v, operands) for k, v in step.call.kwargs.items()}
        if (own := kwargs.get("generator")) is not None:
            # A generator of the user's has no spelling in the code of a program.
            setattr(root, f"generator_{id(own)}", own)
            kwargs["generator"] = graph.get_attr(f"generator_{id(own)}")
        node = graph.call_function(step.call.op, args, kwargs)
        if not step.several:
            node.meta["val"] = _meta(tape.values[step.outputs[0]])
        for k, o in enumerate(step.outputs):
            out = graph.call_function(getitem, (node, k)) if step.several else node
            if step.stopped and step.call.op is not aten.detach.default:
                out = graph.call_function(aten.detach.default, (out,))
            out.meta["val"] = _meta(tape.values[o])
            nodes[o] = out
    graph.output(tuple(nodes[i] for i in wanted))
    simplify(graph)
    for node in graph.nodes:
        # Simplified operators may lay out their results in another way than those recorded: a view must be able to copy.
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default
    graph.lint()
    return torch.fx.GraphModule(root, graph)


def _static(tape: Tape) -> set[int]:
    """Values that are the same at each run."""
    known = set(tape.foreign_numbers)
    for step in tape.steps:
        if torch.Tag.nondeterministic_seeded not in step.call.op.tags and all(i in known for i in step.inputs):
            known.update(step.outputs)
    return known


def _meta(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def _number(tape: Tape, tensor: Tensor) -> int:
    found = tape.number.get(id(tensor))
    return tape.add_foreign(tensor, tensor) if found is None else found


def _filled(value: Any, operands: Sequence[Any]) -> Any:
    if isinstance(value, Slot):
        return operands[value.index]
    if isinstance(value, tuple | list):
        return [_filled(v, operands) for v in value]
    return value


def _verify(program: torch.fx.GraphModule, tape: Tape, count: int, results: Sequence[Tensor]) -> None:
    """Compare with the recording, up to rounding on the scale of the intermediate values: results may cancel to zero."""
    with Repeating():
        again = eager(program)(*tape.values[:count])
    # Torch asks tensors without contents about dtypes on its way; they carry no numbers.
    solid = [v.detach() for v in tape.values if v.numel() and not v.is_meta and (v.is_floating_point() or v.is_complex())]
    sizes = [v.abs().amax() for v in solid]
    scale = max((float(s) for s in sizes if torch.isfinite(s)), default=1.0)
    for a, b in zip(results, again, strict=True):
        same = a.shape == b.shape and a.dtype == b.dtype
        if same and a.numel():
            change = (torch.nan_to_num(a.detach()) - torch.nan_to_num(b)).abs().max()
            same = bool(change <= 1e4 * torch.finfo(a.dtype).eps * scale)
        if not same:
            raise BackendError("internal: the compiled program does not repeat its own computation. Please report this operator.")
