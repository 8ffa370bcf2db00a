"""Ranks and index letters: what shape every expression has, which letters are free, which are summed, and what does not fit.

Checked when the text is parsed. Conventions: (∇u)_ij = ∂_i u_j, (∇·σ)_j = ∂_i σ_ij, jac(u)_ij = ∂_j u_i. What letters do is in
`index_letters`, what functions do in their records.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from opdsl.errors import OpIndexError, OpNameError, OpRankError
from opdsl.language.declarations import Declarations, Dim, ParamDecl
from opdsl.language.function_record import Function, Given
from opdsl.language.function_shapes import RANK_NAMES, SCALAR, Shapes, Type, describe
from opdsl.language.functions import FUNCTIONS
from opdsl.language.index_letters import contract, free_mismatch, occurrences, refuse_shared_dummies
from opdsl.language.operator_application import spans_of
from opdsl.language.traverse import demand, preorder
from opdsl.language.tree import (
    Add,
    Apply,
    At,
    Call,
    Compare,
    Const,
    Coord,
    Div,
    Field,
    Indexed,
    Mul,
    Nabla,
    Neg,
    Node,
    Num,
    Param,
    Partial,
    Pow,
    Ref,
    SumOver,
    form,
    walk,
)

R = TypeVar("R")
Asking = Generator[Node, Type, R]
"""A rule that yields the nodes whose types it needs."""


class _Adapt(Exception):
    """A parameter without declared rank must have this shape; start again with it."""

    def __init__(self, name: str, shape: tuple[Dim, ...]) -> None:
        super().__init__(name)
        self.name = name
        self.shape = shape


class Ranks(Shapes):
    """Infers the type of every node of a desugared expression; one instance per system."""

    def __init__(self, declarations: Declarations, dimension: int | None = None) -> None:
        self.declarations = declarations
        self.space: Dim = declarations.space_size(dimension)
        self.dimension = dimension
        self.definitions: dict[str, Node] = {}
        self.types: dict[tuple[Node, frozenset[str]], Type] = {}
        self.fields = {f.name: f for f in declarations.fields}
        self.params = {p.name: p for p in declarations.params}
        self.coords = {c.name: c for c in declarations.coords}
        # The letters of the explicit sums around what is looked at.
        self.bound: frozenset[str] = frozenset()

    # ------------------------------------------------------------------------------ entry points
    def dims(self, shape: Iterable[Dim]) -> tuple[Dim, ...]:
        """Resolve named lengths: any name stands for the number of space coordinates."""
        return tuple(self.space if isinstance(dim, str) else dim for dim in shape)

    def infer(self, node: Node) -> Type:
        """Return the type; parameters without declared rank adapt to the place they stand in."""
        for _ in range(len(self.params) + 2):
            try:
                return self.of(node)
            except _Adapt as adapt:
                decl = self.params[adapt.name]
                self.params[adapt.name] = ParamDecl(adapt.name, adapt.shape, decl.trainable)
                self.types.clear()
        raise AssertionError("a parameter adapted twice")

    def adapted(self) -> Declarations:
        """Return the declarations with the shapes that were found."""
        return replace(self.declarations, params=tuple(self.params[p.name] for p in self.declarations.params))

    def of(self, node: Node) -> Type:
        """Return the type of a node, where it stands inside the explicit sums over `bound`."""
        return demand(node, self._infer, self._key, self.types)

    def _key(self, node: Node) -> tuple[Node, frozenset[str]]:
        # A letter bound by an explicit sum is not counted below it.
        return form(node), self.bound

    @contextmanager
    def inside(self, bound: frozenset[str]) -> Iterator[None]:
        """Look at what stands inside explicit sums over these letters."""
        before, self.bound = self.bound, bound
        try:
            yield
        finally:
            self.bound = before

    # ------------------------------------------------------------------------------ one node
    def _infer(self, node: Node) -> Asking[Type]:
        match node:
            case Num():
                return Type(zero=node.value == 0)
            case Const(name=name):
                return self._constant(node, name)
            case Coord(name=name):
                size = self.coords[name].size
                if isinstance(size, str):
                    size = size if self.dimension is None else self.dimension
                return SCALAR if size is None else Type((size,))
            case Field(name=name):
                field = self.fields[name]
                return Type(self.dims(field.shape), complex=field.complex)
            case Param(name=name):
                return Type(self.dims(self.params[name].shape or ()))
            case Ref(name=name):
                with self.inside(frozenset()):
                    return (yield self.definitions[name])
            case Indexed():
                return (yield from self._indexed(node))
            case Add(terms=terms):
                return self._sum(terms, (yield from _each(terms)))
            case Neg(operand=inner):
                return replace((yield inner), sums=())
            case Mul(factors=factors):
                return self._product(node, factors, (yield from _each(factors)))
            case Div(top=top, bottom=bottom):
                return self._quotient(node, (top, bottom), (yield from _each((top, bottom))))
            case Pow(base=power_base, exponent=exponent):
                return self._power(node, power_base, exponent, *(yield from _each((power_base, exponent))))
            case Call(name=name, args=args):
                return (yield from self._call(node, name, args))
            case Compare(left=left, right=right):
                for side in (left, right):
                    type_ = _scalar(side, (yield side), "a comparison")
                    if type_.complex:
                        raise OpRankError("complex values cannot be compared", code="E225", spans=spans_of(side))
                    if type_.free:
                        raise OpIndexError(
                            f"a component with the free index {type_.free[0][0]} is compared", code="E208",
                            spans=spans_of(side), suggestion="write out the component, or compare a sum over it",
                        )
                return SCALAR
            case Apply(operator=Partial() as operator, operand=operand):
                return self._partial(node, operator, operand, (yield operand))
            case Apply(operator=Nabla(name=name), operand=operand):
                if name == "dn" and "n" in self.params:
                    self._declared_normal(node)
                return self.nabla(node, name, operand, (yield operand))
            case SumOver(letter=letter, body=body):
                return (yield from self._explicit_sum(node, letter, body))
            case At(operand=operand, where=where):
                for _, value in where:
                    _scalar(value, (yield value), "the value of a coordinate")
                return replace((yield operand), sums=())
        raise AssertionError(f"no rank rule for {type(node).__name__}; a new node type needs one")

    def _constant(self, node: Node, name: str) -> Type:
        if name == "i":
            return Type(complex=True)
        if name == "I":
            return Type((self.space, self.space))
        if name in ("position", "n"):
            return Type((self.space,))
        if name == "e":
            raise OpNameError("e is Euler's number only as the base of a power", code="E114", spans=spans_of(node),
                              suggestion="write e^(…) or exp(…), or declare e")
        return SCALAR

    def _declared_normal(self, node: Node) -> None:
        """A vector that is declared as n is the normal of ``dn(u)``."""
        shape = self.params["n"].shape
        if shape is None:
            raise _Adapt("n", (self.space,))
        if len(shape) != 1:
            raise OpRankError("the normal of dn(…) is bound as n, which is no vector here", code="E228", spans=spans_of(node),
                              suggestion="give the other n another name")

    def _explicit_sum(self, node: Node, letter: str, body: Node) -> Asking[Type]:
        with self.inside(self.bound | {letter}):
            inner = yield body
        size = dict(inner.free).get(letter)
        if size is None:
            raise OpIndexError(f"sum_{letter} has no {letter} in its body", code="E205", spans=spans_of(node))
        free = tuple((name, dim) for name, dim in inner.free if name != letter)
        return replace(inner, free=free, sums=((letter, size),), dummies=inner.dummies | {letter})

    def _indexed(self, node: Indexed) -> Asking[Type]:
        base, indices = node.base, node.indices
        if isinstance(base, Const) and base.name in ("delta", "epsilon"):
            wanted = 2 if base.name == "delta" else 3
            if len(indices) != wanted:
                raise OpIndexError(f"{base.name} takes {wanted} indices", code="E206", spans=spans_of(node))
            if base.name == "epsilon" and self.space != 3:
                raise OpIndexError("ε_ijk needs three space coordinates", code="E206", spans=spans_of(node))
            shape: tuple[Dim, ...] = (self.space,) * wanted
            inner = SCALAR
        else:
            if isinstance(base, Param) and self.params[base.name].shape is None:
                raise _Adapt(base.name, (self.space,) * len(indices))
            inner = yield base
            shape = inner.shape
        if len(indices) > len(shape):
            what = describe(replace(inner, free=()))
            raise OpIndexError(
                f"{'an index' if len(indices) == 1 else f'{len(indices)} indices'} on {what}", code="E203", spans=spans_of(node),
                suggestion=_declare_rank(base, len(indices)),
            )
        for index, size in zip(indices, shape, strict=False):
            if isinstance(index, int) and isinstance(size, int) and index >= size:
                raise OpIndexError(
                    f"component {index} is out of range 0 … {size - 1}", code="E207", spans=spans_of(node),
                    suggestion="components are counted from 0",
                )
        found = [(index, size, node) for index, size in zip(indices, shape, strict=False) if isinstance(index, str)]
        made = contract(node, [*found, *((a, b, node) for a, b in inner.free)], [inner], self.bound)
        return replace(made, shape=shape[len(indices) :])

    # ------------------------------------------------------------------------------ arithmetic
    def _sum(self, terms: Sequence[Node], types: Sequence[Type]) -> Type:
        lead = next((k for k, t in enumerate(types) if not t.zero and (t.shape or t.free)), None)
        if lead is None:
            lead = next((k for k, t in enumerate(types) if not t.zero), 0)
        first = types[lead]
        for term, type_ in zip(terms, types, strict=True):
            if type_.zero:
                continue
            if type_.shape != first.shape:
                if not type_.shape and not type_.free:
                    self._adapt(term, first.shape)
                raise OpRankError(
                    f"{describe(first)} [^] and {describe(type_)} [~] cannot be added", code="E221",
                    spans=spans_of(terms[lead], term), suggestion=_sum_hint(first, type_, (terms[lead], term)),
                )
            if type_.letters != first.letters:
                raise free_mismatch(terms[lead], first, term, type_)
        dummies = frozenset[str]().union(*(t.dummies for t in types))
        zero = all(t.zero for t in types)
        return Type(first.shape, first.free, (), dummies, any(t.complex for t in types), zero)

    def _adapt(self, node: Node, shape: tuple[Dim, ...]) -> None:
        """Give the only parameter of undeclared rank in a scalar term the shape its place needs."""
        for part in preorder((node,), self._adaptable):
            if isinstance(part, Param) and self.params[part.name].shape is None:
                raise _Adapt(part.name, shape)

    def _adaptable(self, node: Node) -> tuple[Node, ...]:
        """The parts of a node that have its shape, as far as this is clear."""
        match node:
            case Neg(operand=inner) | Div(top=inner) | At(operand=inner) | Apply(operator=Partial(), operand=inner):
                return (inner,)
            case Mul(factors=factors):
                open_ = [f for f in factors if isinstance(f, Param) and self.params[f.name].shape is None]
                # ``k n·∇u``: of several, n is the vector.
                chosen = open_ if len(open_) == 1 else [f for f in open_ if f.name == "n"]
                return tuple(chosen) if len(chosen) == 1 else ()
            case Add(terms=terms):
                return terms
        return ()

    def _product(self, node: Node, factors: Sequence[Node], types: Sequence[Type]) -> Type:
        refuse_shared_dummies(factors, types)
        made = contract(node, occurrences(factors, types), types, self.bound)
        shape = types[0].shape
        for before, factor, type_ in zip(factors, factors[1:], types[1:], strict=False):
            shape = _times(before, shape, factor, type_.shape)
        return replace(made, shape=shape, zero=any(t.zero for t in types))

    def _quotient(self, node: Node, both: Sequence[Node], types: Sequence[Type]) -> Type:
        _scalar(both[1], types[1], "a denominator")
        refuse_shared_dummies(both, types)
        made = contract(node, occurrences(both, types), types, self.bound)
        return replace(made, shape=types[0].shape, zero=types[0].zero)

    def _power(self, node: Node, base: Node, exponent: Node, type_: Type, exponent_type: Type) -> Type:
        _scalar(exponent, exponent_type, "an exponent")
        if any(letter not in self.bound for letter in type_.letters):
            raise OpIndexError(
                "a power of a component with a free index is ambiguous", code="E208", spans=spans_of(node),
                suggestion="write u_i u_i for the sum of squares, or an explicit sum_i(u_i^2)",
            )
        if exponent_type.complex:
            raise OpRankError("an exponent must be real", code="E225", spans=spans_of(exponent))
        if type_.complex and not (isinstance(exponent, Num) and exponent.value.denominator == 1):
            raise OpRankError("a complex base takes whole exponents only", code="E225", spans=spans_of(node))
        if type_.shape:
            if type_.rank != 1 or not (isinstance(exponent, Num) and exponent.value == 2):
                raise OpRankError(
                    f"{describe(type_)} has no such power", code="E226", spans=spans_of(node),
                    suggestion="v^2 is the squared norm of a vector; write dot(A, A) for a matrix product",
                )
            return replace(type_, shape=(), sums=(), complex=type_.complex)
        made = contract(node, occurrences((base, exponent), (type_, exponent_type)), [type_, exponent_type], self.bound)
        return replace(made, zero=type_.zero)

    # ------------------------------------------------------------------------------ derivatives
    def _partial(self, node: Node, operator: Partial, operand: Node, type_: Type) -> Type:
        own = [(str(index), self.space, node) for name, index in operator.axes if name is None]
        if own and self.declarations.geometry != "cartesian":
            raise OpIndexError(
                f"index derivatives are not defined over {self.declarations.geometry} coordinates", code="E209",
                spans=spans_of(node), suggestion="write grad, div, curl, laplace, or d_r by name",
            )
        for name, index in operator.axes:
            size = self.coords[name].size if name is not None else None
            if isinstance(index, int) and isinstance(size, int) and index >= size:
                raise OpIndexError(
                    f"{name}_{index} is out of range 0 … {size - 1}", code="E207", spans=spans_of(node),
                    suggestion="components are counted from 0",
                )
        if own and self.space == 0:
            raise self.no_space(node)
        made = contract(node, own + occurrences((operand,), (type_,)), [type_], self.bound)
        return replace(made, shape=type_.shape)

    # ------------------------------------------------------------------------------ functions
    def _call(self, node: Call, name: str, args: Sequence[Node]) -> Asking[Type]:
        known = FUNCTIONS.get(name, Function(name=name, parts=lambda e, a, b: (a, b)))
        if known.over_space and isinstance(args[0], Param) and self.params[args[0].name].shape is None:
            raise _Adapt(args[0].name, (self.space,))
        if known.partner:
            for one, other in ((args[0], args[1]), (args[1], args[0])):
                shape = (yield other).shape
                if len(shape) >= known.partner and not (yield one).shape:
                    self._adapt(one, (shape[0],) * known.partner)
        types = yield from _each(args)
        if not known.tensor:
            for arg, type_ in zip(args, types, strict=True):
                _scalar(arg, type_, f"{name}(…)")
            if known.parts is None and any(t.complex for t in types):
                raise OpRankError(f"{name} of a complex value is not supported", code="E225", spans=spans_of(node))
        if not known.letters and any(letter not in self.bound for t in types for letter in t.letters):
            raise OpIndexError(
                f"{name}(…) of a component with a free index", code="E208", spans=spans_of(node),
                suggestion="write out the component, or sum_i(...)",
            )
        made = contract(node, occurrences(args, types), types, self.bound)
        shape = known.shape(Given(node=node, types=types, space=self.space)) if known.shape else ()
        return replace(made, shape=shape, complex=not known.real_valued and any(t.complex for t in types))


def _each(nodes: Sequence[Node]) -> Asking[list[Type]]:
    types: list[Type] = []
    for node in nodes:
        types.append((yield node))
    return types


def _scalar(node: Node, type_: Type, what: str) -> Type:
    if type_.shape:
        raise OpRankError(f"{what} needs a scalar, this is {describe(type_)}", code="E222", spans=spans_of(node))
    return type_


def _declare_rank(base: Node, rank: int) -> str | None:
    if isinstance(base, Field):
        return f'declare fields="{base.name}[{",".join("d" * rank)}]"'
    if isinstance(base, Param):
        return f'declare params="{base.name}[{",".join("d" * rank)}]"'
    return None


def _times(left: Node, a: tuple[Dim, ...], right: Node, b: tuple[Dim, ...]) -> tuple[Dim, ...]:
    if not a or not b:
        return a or b
    if len(a) == 2 and len(b) in (1, 2):
        if a[1] != b[0]:
            raise OpRankError(f"a matrix with {a[1]} columns times {b[0]} rows", code="E223", spans=spans_of(left, right))
        return (a[0], *b[1:])
    raise OpRankError(
        f"a product of {RANK_NAMES.get(len(a), 'a tensor')} [^] and {RANK_NAMES.get(len(b), 'a tensor')} [~] is ambiguous",
        code="E224", spans=spans_of(left, right), suggestion="did you mean dot(a, b) or outer(a, b)?",
    )


def _sum_hint(first: Type, other: Type, terms: tuple[Node, ...]) -> str | None:
    if {first.rank, other.rank} == {0, 2}:
        if any(isinstance(n, Const) and n.name == "I" for term in terms for n in walk(term)):
            return 'I is the identity tensor; declare fields="I" or params="I" for another meaning'
        return "write the scalar times I, the identity tensor"
    if not other.shape and first.shape:
        return "declare the rank of a vector parameter: params=\"f[2]\""
    return None
