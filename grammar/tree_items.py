"""The pieces a tree is built from, and what all stages of the builder share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lark import Token
from lark.visitors import Transformer_NonRecursive

from opdsl.errors import LanguageError, OpLimitError, Span
from opdsl.grammar.symbol_table import Classified, Classifier
from opdsl.language import tree as ex
from opdsl.language.functions import FUNCTIONS
from opdsl.language.operator_application import is_operator

MAX_TREE_DEPTH = 150


@dataclass(frozen=True, slots=True)
class Prefix:
    """An operator or a function before its operand, with its powers."""

    what: object
    span: Span
    power: ex.Node | None = None
    symbol: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Something in brackets: ``(``, ``{`` or bars."""

    node: ex.Node
    bracket: str
    span: Span


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a call: ``x``, ``x = 0``, or a comparison."""

    left: ex.Node
    relation: str | None = None
    right: ex.Node | None = None


@dataclass(frozen=True, slots=True)
class Postfix:
    """A power, a subscript, primes or a call after an atom."""

    kind: str
    value: Any
    span: Span
    open: bool = False
    """An exponent that no bracket closes, so that what follows may belong to it."""
    chained: bool = False
    """A power with another one on it."""


Item = Prefix | ex.Node
BROKEN = object()


@dataclass(frozen=True, slots=True)
class PrimeOrder(ex.Node):
    """The order in ``y^{(8)}``; never leaves the builder."""

    order: int


class Stage(Transformer_NonRecursive[Token, Any]):
    """State of one build: tokens, names, errors, warnings, depths."""

    def __init__(self, tokens: Sequence[Classified], classifier: Classifier) -> None:
        super().__init__(visit_tokens=False)
        self.tokens = tokens
        self.names = classifier
        self.errors: list[LanguageError] = []
        self.chains: list[LanguageError] = []
        """Chains of equations that are no conditions; told where the text is intact, for a place-holder may have made them."""
        self.warnings: list[str] = []
        # Keyed by identity: `kept` holds every node, so that no identity is used twice.
        self.depths: dict[int, int] = {}
        self.grouped: set[int] = set()
        self.raised: set[int] = set()
        self.quotients: set[int] = set()
        self.transposed: set[int] = set()
        self.kept: list[ex.Node] = []

    def checked(self, node: ex.Node) -> ex.Node:
        """Refuse trees that are too deep for the walks that follow."""
        depth = 1 + max((self.depths.get(id(child), 1) for child in ex.children(node)), default=0)
        if depth > MAX_TREE_DEPTH:
            raise OpLimitError(f"the expression is nested deeper than {MAX_TREE_DEPTH}", code="E303", spans=spans_of_node(node))
        self.depths[id(node)] = depth
        self.kept.append(node)
        return node

    def has_rank(self, node: ex.Node, rank: int) -> bool:
        """Say whether the text shows that a value is a vector (1) or a matrix (2), before ranks are inferred."""
        match node:
            case ex.Field(name=name):
                return len(self.names.fields[name].shape) == rank
            case ex.Param(name=name):
                return len(self.names.params[name].shape or ()) == rank
            case ex.Apply(operator=ex.Nabla(name=name), operand=operand):
                shift = {"grad": 1, "jac": 1, "hess": 2, "div": -1}.get(name, 0)
                return (rank > shift and self.has_rank(operand, rank - shift)) or (name == "hess" and rank == 2)
            case ex.Call(name=name):
                return name in FUNCTIONS and FUNCTIONS[name].rank == rank
            case ex.Add() | ex.Mul() | ex.Neg() | ex.Div():
                return any(self.has_rank(child, rank) for child in ex.children(node))
        return False

    def warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)


def spans_of_node(node: ex.Node) -> tuple[Span, ...]:
    return (node.span,) if node.span is not None else ()


def span_of(item: Any) -> Span:
    return item.span if item.span is not None else Span(0, 1)


def joined(nodes: Sequence[ex.Node]) -> Span | None:
    span: Span | None = None
    for node in nodes:
        if node.span is not None:
            span = node.span.join(span)
    return span


def shown(node: ex.Node) -> str:
    return str(getattr(node, "name", "this"))


def has_field(node: ex.Node) -> bool:
    return any(isinstance(n, (ex.Field, ex.Ref)) for n in ex.walk(node))


def differentiates(node: ex.Node) -> bool:
    return any(isinstance(n, ex.Apply) for n in ex.walk(node)) and not is_operator(node)


def calls_user(node: ex.Node, names: Classifier) -> bool:
    return isinstance(node, ex.Call) and node.name in names.functions

