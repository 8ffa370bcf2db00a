"""`expand`: a parsed system → a `Residual`; conditions; coefficients once it is known what is differentiated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from opdsl.algebra.work import bounded
from opdsl.errors import LanguageError, OpConditionError, OpLimitError, OpNameError
from opdsl.language import tree as ex
from opdsl.language.calculus.coefficients import CHANGE_OF_VARIABLES, LONG_SUM, NeedsConstant, coefficients_of, settle
from opdsl.language.calculus.complex_values import as_pair, real
from opdsl.language.calculus.components import MAX_WRITTEN_DIMENSION, Components, TooLongToWriteOut, too_long
from opdsl.language.calculus.differentiate import EXPANSION, SMALLER, NeedsWritingOut
from opdsl.language.declarations import Dim
from opdsl.language.operator_application import desugar, spans_of
from opdsl.language.residual import Equation, FieldSpec, ParameterSpec, Pointwise, Residual
from opdsl.language.system import System
from opdsl.language.type_inference import Ranks

MAX_COMPONENTS = 4096


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """Boundary or initial data: a residual of its own and the place it is evaluated at.

    Attributes:
        name: name of the equation.
        residual: left side minus right side, over the same coordinates and fields as the whole system.
        where: the fixed coordinates and their values, expressions of parameters and coordinates. Empty for a condition
            on the normal derivative that names no place.
        system: the condition as a system without the restriction.
        others: what holds at other places and is added: ``u(x=0) = u(x=1)`` is u at 0, plus −u at 1.
    """

    name: str
    residual: Residual
    where: Mapping[str, Pointwise]
    system: System
    others: tuple[ConditionSpec, ...] = ()


def is_condition(equation: ex.EquationNode) -> bool:
    """Say whether an equation is boundary or initial data: it has a restriction ``u(x=0)``, a normal derivative or the normal."""
    sides = [equation.left] + ([equation.right] if equation.right is not None else [])
    return any(isinstance(node, ex.At) or _has_normal(node) for side in sides for node in ex.walk(side))


def _has_normal(node: ex.Node) -> bool:
    return (isinstance(node, ex.Nabla) and node.name == "dn") or (isinstance(node, ex.Const) and node.name == "n")


def expand(system: System, dimension: int | None = None) -> Residual:
    """Expand a system into pointwise expressions of derivatives of fields.

    Args:
        system: the parsed text.
        dimension: length of the symbolic coordinate vector ``x[d]``; needed exactly if there is one.

    Returns:
        The residual of the equations; boundary and initial data are in `conditions`.

    Raises:
        OpLimitError: the expansion is too large, or the dimension is missing.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> expand(parse_system("laplace(u)", coords="x y")).equations[0].components[0]
        Add(terms=(Derivative(field='u', component=0, axes=(0, 0)), Derivative(field='u', component=0, axes=(1, 1))))
    """
    try:
        known = _expand(system, _checked_dimension(system, dimension), system.constants)
        # Equal systems may have been written differently: with other words, or with names declared instead of inferred.
        sources = [e for e in system.equations if not is_condition(e)]
        texts = [replace(e, text=_text(system, s)) for e, s in zip(known.equations, sources, strict=True)]
        return replace(known, equations=tuple(texts), notes=system.notes)
    except RecursionError:
        raise OpLimitError("the expansion is nested too deeply", code="E303") from None


def _checked_dimension(system: System, dimension: int | None) -> int | None:
    if system.symbolic is None:
        return None
    if dimension is None:
        raise OpLimitError(
            f"the length of the coordinate vector {system.symbolic!r} is not known yet", code="E308",
            suggestion="pass dimension=, or declare it as in coords=\"x[3]\"",
        )
    if not 1 <= dimension <= 10_000_000:
        raise OpLimitError(f"dimension {dimension} is not between 1 and 10000000", code="E305")
    return dimension


@lru_cache(maxsize=256)
def _expand(system: System, dimension: int | None, constants: frozenset[str]) -> Residual:
    # The constants are an argument because equal systems may differ in them.
    with bounded(EXPANSION, SMALLER):
        return _residual(system, [e for e in system.equations if not is_condition(e)], dimension)


def conditions(system: System, dimension: int | None = None) -> dict[str, ConditionSpec]:
    """Return boundary and initial data by name.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> spec = conditions(parse_system("u_xx = 0; left: u(x=0) = 1", coords="x"))["left"]
        >>> dict(spec.where)
        {'x': Number(value=Fraction(0, 1))}
    """
    size = _checked_dimension(system, dimension)
    found: dict[str, ConditionSpec] = {}
    with bounded(EXPANSION, SMALLER):
        for equation in system.equations:
            if is_condition(equation):
                found[equation.name] = _condition(system, equation, size)
    return found


def _condition(system: System, equation: ex.EquationNode, dimension: int | None) -> ConditionSpec:
    """Sort the terms by the place they are taken at; terms without one go with the first."""
    first: ex.At | None = None
    sides: dict[tuple[tuple[str, ex.Node], ...], list[ex.Node]] = {}
    loose: list[ex.Node] = []
    for term in _terms(whole(equation)):
        places = [node for node in ex.walk(term) if isinstance(node, ex.At)]
        for place in places[1:]:
            if place.where != places[0].where:
                raise _located(
                    OpConditionError(
                        "one term of a condition is taken at one place, this at two", code="E402", spans=spans_of(places[0], place),
                        suggestion="write a sum, such as u(x=0) = u(x=1), or one condition per place",
                    ),
                    system, equation,
                )
        first = first or (places[0] if places else None)
        (sides.setdefault(places[0].where, []) if places else loose).append(_bare(term))
    if first is None:
        return _at_place(system, equation, equation, (), dimension)
    if len(sides) == 1:  # as it was written
        bare = replace(equation, left=_bare(equation.left), right=None if equation.right is None else _bare(equation.right))
        return _at_place(system, equation, bare, first.where, dimension)
    sides[first.where] += loose
    specs = []
    for where, terms in sides.items():
        bare = replace(equation, left=ex.Add(tuple(terms)) if len(terms) > 1 else terms[0], right=None)
        specs.append(_at_place(system, equation, bare, where, dimension))
    return replace(specs[0], others=tuple(specs[1:]))


def _terms(node: ex.Node, negative: bool = False) -> Iterator[ex.Node]:
    match node:
        case ex.Add(terms=terms):
            for term in terms:
                yield from _terms(term, negative)
        case ex.Neg(operand=inner):
            yield from _terms(inner, not negative)
        case _:
            yield ex.Neg(node, span=node.span) if negative else node


def _bare(node: ex.Node) -> ex.Node:
    """The expression without its restrictions."""
    if isinstance(node, ex.At):
        return _bare(node.operand)
    below = ex.children(node)
    return ex.with_children(node, [_bare(child) for child in below]) if below else node


def _at_place(
    system: System, equation: ex.EquationNode, bare: ex.EquationNode, where: Sequence[tuple[str, ex.Node]], dimension: int | None
) -> ConditionSpec:
    inner = replace(system, equations=(bare,))
    ranks = _ranks(system, dimension)
    worker = Components(ranks, lazy=False)
    settled: dict[str, Pointwise] = {}
    for name, value in where:
        node = desugar(value)
        ranks.infer(node)
        settled[name] = settle([real(worker.component(node, (), ()))], frozenset())[0]
    return ConditionSpec(equation.name, _residual(inner, [bare], dimension), settled, inner)


# --------------------------------------------------------------------------------------------- the residual
def _ranks(system: System, dimension: int | None) -> Ranks:
    ranks = Ranks(system.declarations, dimension)
    for definition in system.definitions:
        node = desugar(definition.value)
        ranks.definitions[definition.name] = node
        ranks.infer(node)
    return ranks


def whole(equation: ex.EquationNode) -> ex.Node:
    """Left side minus right side."""
    if equation.right is None:
        return equation.left
    if isinstance(equation.right, ex.Num) and equation.right.value == 0:
        return equation.left
    return ex.Add((equation.left, ex.Neg(equation.right, span=equation.right.span)), span=equation.span)


def _located(error: LanguageError, system: System, equation: ex.EquationNode) -> LanguageError:
    error.source = error.source or system.source or None
    error.residual = error.residual or equation.name
    if not error.spans and equation.span is not None:
        error.spans = (equation.span,)
    return error


def _residual(system: System, equations: list[ex.EquationNode], dimension: int | None) -> Residual:
    constants = dict.fromkeys(system.constants, CHANGE_OF_VARIABLES)
    while True:
        try:
            return _residual_with(system, equations, dimension, constants)
        except NeedsConstant as needed:
            constants[needed.name] = LONG_SUM


def _residual_with(
    system: System, equations: list[ex.EquationNode], dimension: int | None, constants: Mapping[str, str]
) -> Residual:
    decls = system.declarations
    ranks = _ranks(system, dimension)
    raw: list[Equation] = []
    used, normal = _names_used(system, equations)
    size = len(decls.space(dimension))
    for equation in equations:
        try:
            # Desugared inside: a definition may have adapted a parameter before.
            node = desugar(whole(equation))
            ranks.infer(node)
            raw.append(_equation(ranks, node, equation, system, lazy=size > MAX_WRITTEN_DIMENSION, constants=constants, used=used))
        except LanguageError as error:
            raise _located(error, system, equation) from None
    every = [c for e in raw for c in e.components]
    differentiated = frozenset(c.name for c in coefficients_of(every) if c.axes)
    settled: list[Equation] = []
    shapes = {p.name: ranks.dims(p.shape or ()) for p in ranks.params.values()}
    if normal:
        shapes.setdefault("n", (size,))
        if "n" in differentiated and any(f.name == "n" for f in decls.fields):
            raise OpNameError("the normal is differentiated here, and a field is called n", code="E110",
                              suggestion="give the field another name")
    for e in raw:
        settled.append(replace(e, components=settle(e.components, differentiated, shapes)))
    trainable = {p.name for p in ranks.params.values() if p.trainable}
    fields = [
        FieldSpec(f.name, (*_ints(ranks.dims(f.shape)), *((2,) if f.complex else ())), complex=f.complex) for f in decls.fields
    ]
    fields += [
        FieldSpec(name, _ints(shapes[name]), coefficient=True, trainable=name in trainable)
        for name in _order(shapes, differentiated)
    ]
    parameters = []
    for decl in ranks.params.values():
        if decl.name in used and decl.name not in differentiated:
            shape = _ints(shapes[decl.name])
            parameters.append(ParameterSpec(decl.name, len(shape), shape, decl.trainable, constants.get(decl.name, "")))
    if normal and "n" not in ranks.params and "n" not in differentiated:
        parameters.append(ParameterSpec("n", 1, (size,)))
    functions = tuple(name for name in decls.functions if name in used)
    return Residual(
        coords=decls.columns(dimension) if len(decls.columns(dimension)) > 64 else tuple(decls.columns(dimension)),
        space=decls.space(dimension),
        fields=tuple(fields),
        parameters=tuple(parameters),
        equations=tuple(settled),
        functions=functions,
        notes=system.notes,
    )


def _order(shapes: Mapping[str, object], names: Collection[str]) -> list[str]:
    return [name for name in shapes if name in names]


def _ints(shape: Iterable[Dim]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape)


def _names_used(system: System, equations: list[ex.EquationNode]) -> tuple[set[str], bool]:
    """Names that occur in the equations, also through definitions; and whether the normal does."""
    used: set[str] = set()
    normal = False
    definitions = {d.name: d.value for d in system.definitions}
    todo: list[ex.Node] = [whole(e) for e in equations]
    while todo:
        for node in ex.walk(todo.pop()):
            if isinstance(node, (ex.Param, ex.Field, ex.Call)):
                used.add(node.name)
            elif _has_normal(node):
                normal = True
            elif isinstance(node, ex.Ref) and node.name in definitions:
                used.add(node.name)
                todo.append(definitions.pop(node.name))
    if normal and any(p.name == "n" for p in system.declarations.params):
        used.add("n")
    return used, normal


def _equation(
    ranks: Ranks, node: ex.Node, equation: ex.EquationNode, system: System, *, lazy: bool, constants: Collection[str],
    used: Collection[str],
) -> Equation:  # fmt: skip
    type_ = ranks.of(node)
    letters = [(letter, int(size)) for letter, size in type_.free]
    shape = tuple(size for _, size in letters) + _ints(type_.shape)
    count = 1
    for size in shape:
        count *= size
    if count > MAX_COMPONENTS:
        raise OpLimitError(
            f"this equation has {count} components; the limit is {MAX_COMPONENTS}", code="E305", spans=spans_of(equation.left)
        )
    indices = list(itertools.product(*(range(size) for size in shape)))

    def attempt(lazy: bool) -> list[object]:
        worker = Components(ranks, lazy=lazy, constants=constants)
        worker.prepare(used)
        out: list[object] = []
        for index in indices:
            env = tuple((letter, value) for (letter, _), value in zip(letters, index, strict=False))
            out.append(worker.component(node, index[len(letters) :], env))
        return out

    values = _first_that_works(attempt, [lazy, not lazy] if lazy else [False, True])
    if type_.complex:
        pairs = [as_pair(value) for value in values]  # type: ignore[arg-type]
        components = tuple(part for pair in pairs for part in (pair.re, pair.im))
        shape = (*shape, 2)
    else:
        components = tuple(real(value) for value in values)  # type: ignore[arg-type]
    return Equation(equation.name, components, shape, _text(system, equation))


def _first_that_works(attempt: Callable[[bool], list[object]], modes: list[bool]) -> list[object]:
    for mode in modes:
        try:
            return attempt(mode)
        except (TooLongToWriteOut, NeedsWritingOut):
            continue
    raise too_long()


def _text(system: System, equation: ex.EquationNode) -> str:
    if system.source and equation.span is not None:
        return system.source[equation.span.start : equation.span.stop].strip()
    return ""
