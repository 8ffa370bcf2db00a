"""`expand`: a parsed system → a `Residual`, with coefficients once it is known what is differentiated."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from opdsl.algebra.work import EXPANSION, MAX_WORK, SMALLER, bounded
from opdsl.errors import LanguageError, OpLimitError, OpNameError
from opdsl.language import tree as ex
from opdsl.language.calculus.coefficients import CHANGE_OF_VARIABLES, LONG_SUM, NeedsConstant, coefficients_of, settle
from opdsl.language.calculus.complex_values import as_pair, real
from opdsl.language.calculus.components import Components, too_long
from opdsl.language.calculus.differentiate import NeedsWritingOut
from opdsl.language.calculus.equations import is_condition, located, names_used, text_of, typed, whole
from opdsl.language.calculus.vector_calculus import MAX_WRITTEN_DIMENSION, TooLongToWriteOut
from opdsl.language.declarations import Dim
from opdsl.language.operator_application import desugar, spans_of
from opdsl.language.residual import EquationResidual, FieldSpec, ParameterSpec, Residual
from opdsl.language.system import System
from opdsl.language.type_inference import Ranks

MAX_COMPONENTS = 4096


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
        known = _expand(system, checked_dimension(system, dimension), system.constants)
        # Equal systems may have been written differently: with other words, or with names declared instead of inferred.
        sources = [e for e in system.equations if not is_condition(e)]
        texts = [replace(e, text=text_of(system, s)) for e, s in zip(known.equations, sources, strict=True)]
        return replace(known, equations=tuple(texts), notes=system.notes)
    except RecursionError:
        raise OpLimitError("the expansion is nested too deeply", code="E303") from None


def checked_dimension(system: System, dimension: int | None) -> int | None:
    """Return the length of the symbolic coordinate vector; None where there is none."""
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
    equations = [e for e in system.equations if not is_condition(e)]
    # An allowance for every equation of a small system, all of them together.
    with bounded(EXPANSION, SMALLER, MAX_WORK * max(1, min(len(equations), 10))):
        return residual_of(system, equations, dimension)


def residual_of(system: System, equations: list[ex.EquationNode], dimension: int | None) -> Residual:
    """Expand some equations of a system."""
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
    ranks = typed(system, dimension)
    raw: list[EquationResidual] = []
    used, normal = names_used(system, equations)
    size = len(decls.space(dimension))
    for equation in equations:
        try:
            # Desugared inside: a definition may have adapted a parameter before.
            node = desugar(whole(equation))
            ranks.infer(node)
            raw.append(_equation(ranks, node, equation, system, lazy=size > MAX_WRITTEN_DIMENSION, constants=constants))
        except LanguageError as error:
            raise located(error, system, equation) from None
    every = [c for e in raw for c in e.components]
    differentiated = frozenset(c.name for c in coefficients_of(every) if c.axes)
    settled: list[EquationResidual] = []
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


def _equation(
    ranks: Ranks, node: ex.Node, equation: ex.EquationNode, system: System, *, lazy: bool, constants: Collection[str]
) -> EquationResidual:
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
    return EquationResidual(equation.name, components, shape, text_of(system, equation))


def _first_that_works(attempt: Callable[[bool], list[object]], modes: list[bool]) -> list[object]:
    for mode in modes:
        try:
            return attempt(mode)
        except (TooLongToWriteOut, NeedsWritingOut):
            continue
    raise too_long()
