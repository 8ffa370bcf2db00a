"""The captured graph: what a backend hands to the engine.

A graph is a straight line of nodes over numbered values. A node says *which operation it is* (`opdsl.jets.operations`) and *how
that meets a jet* through its rule, and keeps one callable that evaluates it on the framework's own arrays. Operations and rules
never mention a framework, so they exist once; a backend only says which operation its primitives are.

=================  ==========================================================  ============================
rule               meaning for y = f(a, b, …)                                  examples
=================  ==========================================================  ============================
`Constant`         no derivative: y is a plain array                           floor, sign, comparisons, iota
`Elementwise`      y = σ(a) element by element, σ from the table of `taylor`   tanh, exp, erf
`Sum`              y = ± a ± b … with broadcasting                             add, sub, neg
`Linear`           jointly linear in some operands, the rest constant          reshape, sum, gather, concat
`Bilinear`         linear in each of two operands                              mul, matmul, convolution
`PiecewiseLinear`  linear near almost every point; tangent at the primal       max, sort, abs, clamp
`Composed`         written with the operations above                           softmax, division, power
`Derived`          pushed through the program of its first derivative          custom_jvp, what has no rule
=================  ==========================================================  ============================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from opdsl.jets.elementary import Elementary

Array = Any
"""An array of whichever framework is in use. The engine never looks inside."""
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Rule:
    """How a primitive acts on jets. One of the final subclasses below."""


@dataclass(frozen=True, slots=True)
class Constant(Rule):
    """The output has no derivative with respect to the point (piecewise constant, random, or detached)."""


@dataclass(frozen=True, slots=True)
class Elementwise(Rule):
    """y = σ(a) for one operand, element by element. ``function`` is an entry of `opdsl.jets.elementary`."""

    function: Elementary


@dataclass(frozen=True, slots=True)
class Sum(Rule):
    """y = Σ signs[i] · operand[i], broadcast to the output's shape. Constant operands touch channel 0 only."""

    signs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Linear(Rule):
    """Jointly linear (homogeneous) in the operands at ``positions`` (None: in all of them).

    Operands elsewhere are indices, masks or sizes and must not carry a jet.
    """

    positions: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Bilinear(Rule):
    """Linear in each of the two operands at ``positions``; with one of them constant it is a linear map."""

    positions: tuple[int, int] = (0, 1)


@dataclass(frozen=True, slots=True)
class PiecewiseLinear(Rule):
    """Locally linear. ``tangent(xp, primals, tangents)`` is linear in the tangents (one per operand, None for constants).

    The value at a kink is whatever ``tangent`` says there; document it where a kink is reachable.
    """

    tangent: Callable[[Any, Sequence[Array], Sequence[Array | None]], Array]


@dataclass(frozen=True, slots=True)
class Composed(Rule):
    """``build(ops, *operands)`` writes the primitive with the jet operations of ``ops`` (`propagate.JetOps`).

    Operands arrive as jets or plain arrays; the result is one of these, or a tuple for several outputs.
    """

    build: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Derived(Composed):
    """Composed of the program of the first derivative (`opdsl.jets.first_derivative`): the fallback, and declared derivatives."""


def chooses(*kinds: type[Rule]) -> Callable[[F], F]:
    """Say of a function of a registry which kinds of rules it may answer with, for the documentation; see `kinds_of`."""

    def declared(entry: F) -> F:
        entry.kinds = kinds  # type: ignore[attr-defined]
        return entry

    return declared


def kinds_of(entry: Operation | Rule | Callable[..., Rule]) -> tuple[type[Rule], ...]:
    """The kinds of rules that an entry of a registry stands for; functions that say nothing compose."""
    if isinstance(entry, Operation):
        return (type(entry.rule),) if entry.rule is not None else kinds_of(entry.family) if entry.family is not None else ()
    return (type(entry),) if isinstance(entry, Rule) else getattr(entry, "kinds", (Composed,))


def arranged(rule: Rule, order: Sequence[int | None], numbers: Sequence[Any]) -> Rule:
    """A rule whose operands come in another order, or are Python numbers in part.

    Args:
        rule: for the operands as the operation names them.
        order: which of the given operands each of these is; None where a number stands.
        numbers: the numbers, in their places.
    """
    if list(order) == list(range(len(order))):
        return rule

    def placed(given: Sequence[Any], other: Callable[[Any], Any]) -> list[Any]:
        return [other(n) if i is None else given[i] for i, n in zip(order, numbers, strict=True)]

    match rule:
        case Sum(signs):
            return Sum(tuple(sign for _, sign in sorted((i, s) for i, s in zip(order, signs, strict=True) if i is not None)))
        case Bilinear():
            return Linear() if None in order else rule
        case Linear(positions) if positions is not None:
            return Linear(tuple(i for k, i in enumerate(order) if k in positions and i is not None))
        case PiecewiseLinear(tangent):

            def along(xp: Any, primals: Sequence[Array], tangents: Sequence[Array | None]) -> Array:
                like = next(t for t in tangents if t is not None)

                def array(n: Any) -> Array | None:
                    return None if n is None else xp.asarray(n, dtype=like.dtype, device=getattr(like, "device", None))

                return tangent(xp, placed(primals, array), placed(tangents, lambda _: None))

            return PiecewiseLinear(along)
        case Composed(build):
            return Composed(lambda ops, *operands: build(ops, *placed(operands, lambda n: n)))
    return rule


class Role(Enum):
    """What an operation does with the entries of its operands: what the search for a bottleneck and the count of work ask."""

    VIEW = "view"
    """Every entry of the result is one of an operand, without a copy."""
    ARRANGE = "arrange"
    """Every entry of the operands once, in another order or joined: a copy."""
    GATHER = "gather"
    """Entries picked, repeated or written to places: a copy."""
    SUM = "sum"
    """Sums along axes."""
    ADD = "add"
    """Sums of operands, entry by entry."""
    PRODUCT = "product"
    """Products of operands, entry by entry."""
    MATMUL = "matmul"
    """Products summed over what is contracted: matrices, convolutions."""
    ELEMENTWISE = "elementwise"
    """One function of one number at every entry."""
    SELECT = "select"
    """The choice of a piece or an entry by the value: max, clip, sort."""
    FACTORISATION = "factorisation"
    """Of a matrix: solve, inv, det, cholesky, qr, lu, eigh, svd."""
    CONSTANT = "constant"
    """No derivative."""
    OTHER = "other"
    """Programs, transforms, and what a user has registered: its rule says all."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation by its name in the array API, or the plain one where that has none.

    Args:
        name: of the operation, the same on every backend.
        role: what it does with entries.
        rule: how it acts on jets; None where that depends on its attributes.
        kink: the derivative where it has none, in words; empty where it is smooth.
        family: the rule for attributes: axes, an exponent, bounds.
    """

    name: str
    role: Role
    rule: Rule | None = None
    kink: str = ""
    family: Callable[..., Rule] | None = None

    def given(self, **attributes: Any) -> Rule:
        """How it acts on jets with these attributes; what is left out has its plain value."""
        if self.rule is not None and not attributes:
            return self.rule
        assert self.family is not None, self.name
        return self.family(**attributes)

    @property
    def selects(self) -> bool:
        """Whether every entry of the result is an entry of an operand, none of them twice but by broadcasting."""
        return self.role in (Role.VIEW, Role.ARRANGE)


OTHER = Operation("other", Role.OTHER)


@dataclass(frozen=True, slots=True)
class Value:
    """Static facts of one value. ``batch_axis`` is the position of the point axis; None in graphs of one point, and for
    values that do not depend on the points."""

    shape: tuple[int, ...]
    dtype: Any
    batch_axis: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One operation on some values.

    Args:
        primitive: a label for messages: what the framework calls it.
        rule: how it acts on jets.
        inputs: value numbers of the operands, in the order ``apply`` takes them.
        outputs: value numbers of the results.
        apply: evaluates the primitive on arrays: ``apply(*operands)`` gives an array, or a tuple when ``several``.
        several: whether ``apply`` returns a tuple.
        flexible: whether ``apply`` also accepts operands whose batch axis has length 1 (no baked batch size).
        operation: which operation it is, the same whatever the framework.
    """

    primitive: str
    rule: Rule
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    apply: Callable[..., Any] = field(compare=False)
    several: bool = False
    flexible: bool = False
    operation: Operation = OTHER


class Dependence(dict[int, Any]):
    """Which coordinates the entries of values depend on, by value number (`opdsl.jets.dependence`): found once and then kept by the
    graph, and by those that count on it. Values that are missing may depend on all coordinates everywhere.

    Attributes:
        known: whether somebody has looked.
        kept: what was decided from it, by what else it was decided from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known = False
        self.kept: dict[Any, Any] = {}

    def learn(self, found: Mapping[int, Any]) -> None:
        """Enter what was found for this graph, or for another one of the same structure."""
        self.update(found)
        self.known = True
        if isinstance(found, Dependence):
            self.kept = found.kept


@dataclass(frozen=True)
class Graph:
    """A function of the point x and of constants (weights and everything else it closes over).

    Args:
        values: facts of every value, by number.
        x: the value number of the input.
        constants: value numbers of the constants, in the order in which they are supplied at each evaluation.
        nodes: in execution order.
        outputs: value numbers of the results; one for an array-valued function.
        approximation: a smaller graph that a strategy may be told to evaluate in the place of this one.
        dependence: which coordinates the entries of values depend on.
    """

    values: tuple[Value, ...]
    x: int
    constants: tuple[int, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    approximation: Approximation | None = None
    dependence: Dependence = field(default_factory=Dependence, compare=False, repr=False)

    def dependent(self) -> frozenset[int]:
        """Values that can carry a jet: those reached from x through rules other than `Constant`."""
        reached = {self.x}
        for node in self.nodes:
            if not isinstance(node.rule, Constant) and any(i in reached for i in node.inputs):
                reached.update(node.outputs)
        return frozenset(reached)

    def last_use(self) -> dict[int, int]:
        """For each value the position of the last node that reads it, so that an interpreter can drop it there."""
        last = {i: position for position, node in enumerate(self.nodes) for i in node.inputs}
        for i in self.outputs:
            last[i] = len(self.nodes)
        return last


@dataclass(frozen=True)
class Approximation:
    """A smaller graph with nearly the same values.

    Args:
        graph: with the values, the input and the constants of the graph it belongs to, and nodes of its own.
        lines: how it was made, for people.
        errors: measured relative error of the values, of first derivatives, …
    """

    graph: Graph
    lines: tuple[str, ...] = ()
    errors: tuple[float, ...] = ()


def approximated(graph: Graph, other: Graph, lines: tuple[str, ...], errors: tuple[float, ...]) -> Graph:
    """A graph with another one as its approximation: both take the constants of the first, and after them those of the other."""
    shift = len(graph.values)

    def moved(numbers: Sequence[int]) -> tuple[int, ...]:
        return tuple(graph.x if i == other.x else shift + i for i in numbers)

    values, constants = (*graph.values, *other.values), (*graph.constants, *moved(other.constants))
    nodes = tuple(replace(n, inputs=moved(n.inputs), outputs=moved(n.outputs)) for n in other.nodes)
    small = Graph(values, graph.x, constants, nodes, moved(other.outputs))
    return replace(graph, values=values, constants=constants, approximation=Approximation(small, lines, errors))


def evaluate(graph: Graph, x: Array, constants: Sequence[Array]) -> tuple[Array, ...]:
    """Evaluate the captured function itself: a plain forward pass."""
    store: dict[int, Array] = {graph.x: x, **dict(zip(graph.constants, constants, strict=True))}
    last = graph.last_use()
    for position, node in enumerate(graph.nodes):
        result = node.apply(*(store[i] for i in node.inputs))
        store.update(zip(node.outputs, result if node.several else (result,), strict=True))
        for i in node.inputs:
            if last[i] == position:
                store.pop(i, None)
    return tuple(store[i] for i in graph.outputs)
