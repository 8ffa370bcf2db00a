"""From a jaxpr to a `Graph`.

Calls (`jit`, `custom_jvp`, `remat`, …) that depend on the point are inlined; others stay whole, with their own derivative
rules. Every remaining equation becomes one node whose rule `opdsl.backends.jax.primitives` looks up by name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from opdsl.backends.jax.calls import CALLS, bare, binder, library_name
from opdsl.backends.jax.equation import Equation
from opdsl.backends.jax.primitives import INLINED, known_function, named, rule_for
from opdsl.backends.jax.structural_key import NoKeyError, StructuralKey, array_key, equation_key
from opdsl.jets.first_derivative import Inner
from opdsl.jets.graph import Array, Constant, Graph, Linear, Node, Rule, Value
from opdsl.jets.operations import OPERATIONS

_OWN = {"literal": OPERATIONS["constant"], "take": OPERATIONS["take"], "stack": OPERATIONS["stack"]}
"""Nodes of our own making."""

UNROLL = 4
"""Scans up to this length are written out: the graph stays a straight line and nothing is stacked."""

_PRODUCTS = frozenset({"mul", "dot_general"})
_PASSING = frozenset({"neg", "div", "broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "convert_element_type",
                      "reduce_sum", "copy", "rev", "slice", "conj"})  # fmt: skip


class GraphBuilder:
    """A graph under construction, and what is needed to tell it from another.

    Args:
        order: degree up to which jets matter in it; None for all (see `Equation.order`).
    """

    def __init__(self, order: int | None = None) -> None:
        self.order = order
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: list[int] = []
        self.arrays: list[Array] = []
        self.dependent: set[int] = set()
        self.linear: set[int] = set()
        self.known: dict[int, float] = {}
        self._keys: list[Callable[[], Hashable]] = []

    # ------------------------------------------------------------------------------------------------------ values

    def value(self, aval: Any) -> int:
        """A new value with the shape and dtype of ``aval``."""
        self.values.append(Value(tuple(aval.shape), aval.dtype))
        return len(self.values) - 1

    def constant(self, array: Array, aval: Any) -> int:
        """A value supplied at every evaluation."""
        number = self.value(aval)
        self.constants.append(number)
        self.arrays.append(array)
        return number

    def _literal(self, atom: Any) -> int:
        number = self.value(atom.aval)
        array = np.asarray(atom.val, atom.aval.dtype)
        self._emit("literal", Constant(), (), (number,), lambda: array, False, lambda: array_key(array))
        if array.ndim == 0 and array.dtype.kind in "fiu":
            self.known[number] = float(array)
        return number

    def _emit(
        self,
        name: str,
        rule: Rule,
        inputs: Sequence[int],
        outputs: Sequence[int],
        apply: Callable[..., Any],
        several: bool,
        key: Callable[[], Hashable],
    ) -> None:
        operation = _OWN[name] if name in _OWN else named(name)
        node = Node(name, rule, tuple(inputs), tuple(outputs), apply, several=several, operation=operation)
        self.nodes.append(node)
        self._keys.append(lambda: (name, node.inputs, node.outputs, key()))
        if not isinstance(rule, Constant) and any(i in self.dependent for i in inputs):
            self.dependent.update(outputs)
            if any(i in self.linear for i in inputs):
                self.linear.update(outputs)

    # --------------------------------------------------------------------------------------------------- equations

    def inline(self, jaxpr: Any, arguments: Sequence[int]) -> list[int]:
        """Walk a program (closed or open) whose arguments are values that exist already."""
        numbers: dict[Any, int] = {}
        if hasattr(jaxpr, "consts"):
            numbers = {v: self.constant(c, v.aval) for v, c in zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True)}
            jaxpr = jaxpr.jaxpr
        numbers.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> int:
            return self._literal(atom) if isinstance(atom, jex.Literal) else numbers[atom]

        for eqn in jaxpr.eqns:
            numbers.update(zip(eqn.outvars, self._equation(eqn, [read(a) for a in eqn.invars]), strict=True))
        return [read(a) for a in jaxpr.outvars]

    def _equation(self, eqn: Any, inputs: list[int]) -> list[int]:
        folded = self._vanishing(eqn, inputs) if self.order is not None else None
        if folded is not None:
            return [folded]
        name, touched = eqn.primitive.name, any(i in self.dependent for i in inputs)
        described = self._describe(eqn, inputs)
        rule: Rule = Constant()
        if touched and name in CALLS:
            library = library_name(eqn)
            known = known_function(library, described)
            if known is not None:
                name, rule = str(library), known
            elif name.startswith("custom") and library not in INLINED:
                # The derivative that comes with the function may differ from that of its body, and is the one meant.
                rule = rule_for(described)
            else:
                return self.inline(eqn.params[CALLS[name]], inputs)
        elif touched and name == "scan" and eqn.params["length"] <= UNROLL:
            return self._unroll(eqn.params, inputs)
        elif touched:
            rule = rule_for(described)
        outputs = [self.value(v.aval) for v in eqn.outvars]
        apply = described.apply
        if name == "dot_general" and [i in self.dependent for i in inputs] == [False, True] and _vector(eqn):
            apply, inputs = _swapped(eqn), inputs[::-1]
        self._emit(name, rule, inputs, outputs, apply, described.several, lambda: equation_key(eqn))
        if name in ("broadcast_in_dim", "convert_element_type", "copy", "reshape") and inputs[0] in self.known:
            self.known[outputs[0]] = self.known[inputs[0]]
        return outputs

    def _vanishing(self, eqn: Any, inputs: list[int]) -> int | None:
        """The value of an equation that only passes on, or multiplies by, zero; None for all others.

        Rules of custom functions get zeros as tangents of what does not move. With the products that these enter, the program
        would seem to depend on operands on which it does not.
        """
        name, zero = eqn.primitive.name, [self.known.get(i) == 0.0 for i in inputs]
        if not any(zero):
            return None
        aval = eqn.outvars[0].aval
        if name in ("add", "add_any", "sub"):
            other = inputs[0] if zero[1] else inputs[1]
            same = self.values[other].shape == aval.shape and self.values[other].dtype == aval.dtype
            return other if same and (zero[1] or name != "sub") else None
        selected = name == "select_n" and all(zero[1:])
        if not (selected or name in _PRODUCTS or (name in _PASSING and zero[0])):
            return None
        number, array = self.value(aval), np.zeros(aval.shape, aval.dtype)
        self._emit("literal", Constant(), (), (number,), lambda: array, False, lambda: (array.shape, str(array.dtype)))
        self.known[number] = 0.0
        return number

    def _describe(self, eqn: Any, inputs: Sequence[int]) -> Equation:
        return Equation(
            primitive=eqn.primitive.name,
            params=eqn.params,
            shapes=tuple(self.values[i].shape for i in inputs),
            dtypes=tuple(self.values[i].dtype for i in inputs),
            known=tuple(self.known.get(i) for i in inputs),
            several=bool(eqn.primitive.multiple_results) and not bare(eqn),
            apply=binder(eqn),
            order=self.order,
            linear=tuple(i in self.linear for i in inputs),
            inner=inner_graph,
        )

    def _unroll(self, params: Any, inputs: list[int]) -> list[int]:
        """Write a short scan out, step by step."""
        fixed, carried, length = params["num_consts"], params["num_carry"], params["length"]
        consts, carry, sequences = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
        rows: dict[int, list[int]] = {}
        for step in range(length - 1, -1, -1) if params["reverse"] else range(length):
            items = [self.own("take", lambda a, step=step: a[step], (s,), step) for s in sequences]
            out = self.inline(params["jaxpr"], [*consts, *carry, *items])
            carry, rows[step] = out[:carried], out[carried:]
        stacked = []
        for position, aval in enumerate(params["jaxpr"].out_avals[carried:]):
            members = [rows[step][position] for step in range(length)]
            stacked.append(self.own("stack", lambda *a, aval=aval: _stack(a, aval), members, (aval.shape, str(aval.dtype))))
        return [*carry, *stacked]

    def own(self, name: str, apply: Callable[..., Any], inputs: Sequence[int], key: Hashable) -> int:
        """A linear node of our own making."""
        facts = [jax.ShapeDtypeStruct(self.values[i].shape, self.values[i].dtype) for i in inputs]
        number = self.value(jax.eval_shape(apply, *facts))
        rule = Linear() if any(i in self.dependent for i in inputs) else Constant()
        self._emit(name, rule, inputs, (number,), apply, False, lambda: key)
        return number

    # ------------------------------------------------------------------------------------------------------ result

    def finish(self, x: int, outputs: Sequence[int], leading: int) -> tuple[Graph, tuple[Array, ...], Hashable | None]:
        """The graph without dead nodes and unused constants (the first ``leading`` constants stay), its arrays, its key."""
        alive = set(outputs)
        kept: list[int] = []
        for position in range(len(self.nodes) - 1, -1, -1):
            if not alive.isdisjoint(self.nodes[position].outputs):
                kept.append(position)
                alive.update(self.nodes[position].inputs)
        kept.reverse()
        pairs = [
            (number, array)
            for position, (number, array) in enumerate(zip(self.constants, self.arrays, strict=True))
            if position < leading or number in alive
        ]
        graph = Graph(
            values=tuple(self.values),
            x=x,
            constants=tuple(number for number, _ in pairs),
            nodes=tuple(self.nodes[i] for i in kept),
            outputs=tuple(outputs),
        )
        key: Hashable | None
        try:
            key = StructuralKey(
                (
                    tuple(self._keys[i]() for i in kept),
                    x,
                    graph.constants,
                    graph.outputs,
                    tuple((v.shape, str(v.dtype)) for v in self.values),
                )
            )
        except NoKeyError:
            key = None
        return graph, tuple(array for _, array in pairs), key


def _stack(rows: Sequence[Array], aval: Any) -> Array:
    return jnp.stack(rows) if rows else jnp.zeros((0, *aval.shape), aval.dtype)


def inner_graph(jaxpr: Any, order: int | None, linear: Sequence[bool]) -> Inner:
    """The graph of a loop's body, a branch or a derivative: all its inputs are constants, and any of them may carry a jet."""
    program = GraphBuilder(order)
    opened = jaxpr.jaxpr if hasattr(jaxpr, "consts") else jaxpr
    inputs = [program.constant(None, v.aval) for v in opened.invars]
    program.dependent.update(inputs)
    program.linear.update(i for i, flag in zip(inputs, linear, strict=True) if flag)
    # No single value is "the point" here; a value nobody reads stands in for it.
    unused = program.value(jax.ShapeDtypeStruct((), np.dtype(np.float32)))
    outputs = program.inline(jaxpr, inputs)
    graph, arrays, _ = program.finish(unused, outputs, len(inputs))
    return Inner(graph, arrays[len(inputs) :], tuple(i in program.linear for i in outputs))


def _vector(eqn: Any) -> bool:
    """Whether the right operand of a product has no axis besides contracted and batch axes."""
    (_, contracted), (_, batch) = eqn.params["dimension_numbers"]
    return len(contracted) + len(batch) == len(eqn.invars[1].aval.shape)


def _swapped(eqn: Any) -> Callable[..., Any]:
    """``W @ h`` as ``h @ Wᵀ``. Mapped over channels and points the varying operand's axes then stand in front, where every
    other operation has them; XLA on CPU otherwise transposes each layer's result (1.8 times the time of a Laplacian)."""
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    precision = eqn.params.get("precision")
    changed = {
        "dimension_numbers": ((right, left), (right_batch, left_batch)),
        "precision": precision[::-1] if isinstance(precision, tuple) else precision,
    }
    return lambda h, weight: eqn.primitive.bind(h, weight, **{**eqn.params, **changed})
