"""Changes of variables, exactly: other coordinates, or fields as expressions of new ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from opdsl.algebra.work import bounded
from opdsl.errors import OpIndexError, OpLimitError, OpNameError, OpRankError, OpSyntaxError, shown, unknown
from opdsl.language import tree as ex
from opdsl.language.calculus.coefficients import as_field
from opdsl.language.calculus.complex_values import Value, imaginary, real, v_map
from opdsl.language.calculus.components import Components
from opdsl.language.calculus.differentiate import Differentiator
from opdsl.language.calculus.equations import is_condition
from opdsl.language.calculus.expand import expand
from opdsl.language.calculus.residual_to_tree import to_expression
from opdsl.language.constructors import ONE, ZERO, add, divide, mul, negate, transform
from opdsl.language.declarations import Declarations
from opdsl.language.function_shapes import Type, describe
from opdsl.language.operator_application import desugar
from opdsl.language.residual import Coordinate, Derivative, EquationResidual, FieldSpec, Parameter, Pointwise, Residual
from opdsl.language.structure import Coefficient, has_index_sum
from opdsl.language.system import System
from opdsl.language.tree_text import coords_text
from opdsl.language.type_inference import Ranks


@bounded("this change of variables", "give simpler lines, or lower the power or the order")
def substitute(
    system: System,
    lines: str | Mapping[str, str],
    parse: Callable[..., System],
    *,
    coords: str | None = None,
    fields: str | None = None,
    params: str | None = None,
) -> System:
    r"""Change variables: old coordinates, and fields if wanted, as expressions of the new ones.

    With old coordinates x = X(ξ) the derivatives become ∂/∂x_a = Σ_b (J⁻¹)_ba ∂/∂ξ_b, J_ab = ∂X_a/∂ξ_b, applied exactly
    and in any order. A field line ``u = s^(-1/2)*U`` replaces u by an expression of new fields of the new coordinates;
    ``u = vec(sin(x), 0)`` or ``u_0 = sin(x); u_1 = 0`` a vector field, an expression with ``i`` a complex one. Where every
    field is replaced by a formula, what is left is a formula too: the forcing of a manufactured solution. Parameters in the
    lines are constants, and a call refuses functions for them; a coefficient that the system differentiates is differentiated
    in the lines too.

    Args:
        system: the system over the old coordinates; boundary and initial data are left out of the result.
        lines: ``"t = s; x = xi*sqrt(s)"``, or a mapping of names to expressions; every old coordinate that is not a new one
            needs a line.
        parse: reads the right side of a line: `opdsl.grammar.parse_system`, which stands above this module.
        coords: the new coordinates, one name per column; the old ones by default.
        fields: the new fields, where field lines introduce any; real.
        params: names bound at call time that the lines add.

    Raises:
        OpdslError: a coordinate has no line, a field gets an expression of another rank, the change of variables is singular, or
            the result is too large.

    Example:
        >>> from opdsl.grammar import parse_system
        >>> heat = parse_system("u_t = u_xx", coords="t x", fields="u")
        >>> print(substitute(heat, "t = s; x = 2*y", parse_system, coords="s y"))
        coords: s y; fields: u; u_s - 0.25*u_yy
        >>> print(substitute(heat, {"u": "exp(-t) sin(x)"}, parse_system))
        coords: t x; fields: ; 0
        >>> print(substitute(heat, {"u": "x^2"}, parse_system))
        coords: t x; fields: ; -2
    """
    old = expand(system)
    if any(has_index_sum(c) for e in old.equations for c in e.components):
        raise OpLimitError("substitute needs few space coordinates", code="E311", suggestion="write the components out")
    reader = _Reader(system, old, parse, coords, fields or "", params)
    for name, text in _split(lines):
        reader.read(name, text)
    reader.complete()
    gradient = reader.gradient()

    def leaf(node: Pointwise) -> Pointwise:
        match node:
            case Coordinate(axis):
                assert isinstance(axis, int)
                return reader.coordinate(old.coords[axis])
            case Derivative(name, component, axes):
                assert isinstance(component, int)
                value = reader.values.get((name, component), Derivative(name, component, ()))
                for a in axes:
                    assert isinstance(a, int)
                    value = gradient(value, a)
                return value
        return node

    memo: dict[Pointwise, Pointwise] = {}
    made = [replace(e, components=tuple(transform(c, leaf, memo) for c in e.components)) for e in old.equations]
    declarations = reader.declarations()
    residual = replace(old, coords=declarations.columns(), fields=_specs(old, declarations), equations=tuple(made))
    sources = [e for e in system.equations if not is_condition(e)]
    nodes = [node for e, source in zip(made, sources, strict=True) for node in _equations(e, residual, source.named)]
    # A name that does not follow from the place of the equation any more is printed.
    nodes = [replace(node, named=node.named or node.name != f"eq{k}") for k, node in enumerate(nodes, 1)]
    notes = [f"{name} is a constant of the change of variables" for name in sorted(reader.constants)]
    return System(declarations, (), tuple(nodes), "", tuple(notes), frozenset(reader.constants))


def _specs(old: Residual, declarations: Declarations) -> tuple[FieldSpec, ...]:
    """Fields and differentiated coefficients of the result; new fields are as they are declared."""
    known = {f.name: f for f in old.fields}
    size = declarations.space_size()
    fresh = [
        FieldSpec(f.name, (*(d if isinstance(d, int) else int(size) for d in f.shape), *((2,) if f.complex else ())), f.complex)
        for f in declarations.fields
    ]
    kept = {f.name for f in declarations.fields}
    return (*(known.get(f.name, f) if f.name in known else f for f in fresh), *(f for f in old.fields if f.name not in kept))


def _split(lines: str | Mapping[str, str]) -> list[tuple[str, str]]:
    if not isinstance(lines, str):
        if not isinstance(lines, Mapping) or not all(isinstance(part, str) for line in lines.items() for part in line):
            raise OpSyntaxError(
                f"replacements are a text or a dictionary of texts, not {shown(lines)}", code="E115",
                suggestion='write "x = 2*y; u = …" or {"u": "exp(-t)"}',
            )
        return [(name.strip(), text) for name, text in lines.items()]
    out = []
    for line in filter(None, (part.strip() for part in lines.replace("\n", ";").split(";"))):
        left, equals, right = line.partition("=")
        if not equals:
            raise OpSyntaxError(f"{line!r} is no replacement", code="E115", suggestion="write x = …; u = …")
        out.append((left.strip(), right))
    if not out:
        raise OpSyntaxError("no substitution is given", code="E004")
    return out


class _Reader:
    """Reads the lines: what every old coordinate and every component of an old field is in the new variables."""

    def __init__(
        self, system: System, old: Residual, parse: Callable[..., System], coords: str | None, fields: str, params: str | None
    ) -> None:
        self.old, self.system, self.parse = old, system, parse
        self.coordinates: dict[str, Pointwise] = {}
        self.constants: set[str] = set(system.constants)
        self.values: dict[tuple[str, int], Pointwise] = {}
        self.fields = {f.name: f for f in old.fields if not f.coefficient}
        self.coefficients = {f.name: f for f in old.fields if f.coefficient}
        self.complex = {f.name: f for f in system.declarations.fields if f.complex}
        own = system.declarations
        self.fresh = fields
        self.given = {
            "coords": coords_text(own) if coords is None else coords,
            "params": " ".join([*map(str, own.params), params or ""]),
            "functions": " ".join(own.functions),
            "time": own.time if coords is None else None,
        }
        self.new = self._parse("0", fields).declarations
        self.names = list(self.new.columns())

    def _parse(self, text: str, fields: str) -> System:
        return self.parse(text, fields=fields, **self.given)

    def read(self, name: str, text: str) -> None:
        """Read one line; ``u_1`` is a component of the vector field u."""
        base, _, digits = name.rpartition("_")
        if name in self.old.coords:
            self.coordinates[name] = real(self._components(name, text, ())[0])
        elif name in self.fields:
            shape = self.fields[name].shape[: -1 if name in self.complex else None]
            self._store(name, 0, self._components(name, text, shape))
        elif base in self.fields and digits.isdecimal() and len(self.fields[base].shape) == 1 + (base in self.complex):
            if int(digits) >= self.fields[base].shape[0]:
                raise OpIndexError(f"component {digits} of {base} is out of range 0 … {self.fields[base].shape[0] - 1}", code="E207")
            self._store(base, int(digits), self._components(base, text, ()))
        else:
            raise OpNameError(unknown("there is no old coordinate or field", name, [*self.old.coords, *self.fields]), code="E115")

    def _store(self, name: str, first: int, values: list[Value]) -> None:
        for k, value in enumerate(values, first):
            if name in self.complex:
                self.values[name, 2 * k], self.values[name, 2 * k + 1] = real(value), imaginary(value)
            else:
                self.values[name, k] = real(value)

    def _components(self, name: str, text: str, shape: tuple[int, ...]) -> list[Value]:
        extra = name in self.complex and name not in {f.name for f in self.new.fields}
        # While a complex field is read its own name is declared, so that i is the imaginary unit.
        reader = self._parse(text, f"{self.fresh} {name}:complex" if extra else self.fresh)
        if len(reader.equations) != 1 or reader.equations[0].right is not None or is_condition(reader.equations[0]):
            raise OpSyntaxError(f"the line of {name} is no formula", code="E115", suggestion=f"write {name} = …", source=text)
        ranks = Ranks(reader.declarations)
        node = desugar(reader.equations[0].left)
        if extra and any(isinstance(n, ex.Field) and n.name == name for n in ex.walk(node)):
            raise OpNameError(f"{name} is replaced by a formula of itself", code="E106", source=text)
        found = ranks.infer(node)
        if ranks.dims(found.shape) != shape or found.free or (found.complex and name not in self.complex):
            wanted = describe(Type(shape)) if shape else "a scalar"
            what = "a complex value" if found.complex and ranks.dims(found.shape) == shape else describe(found)
            raise OpRankError(f"{name} is {wanted}, its line is {what}", code="E116", source=text,
                              suggestion="write vec(…, …) for a vector" if len(shape) == 1 else None)
        worker = Components(ranks, lazy=False)
        indices = itertools.product(*(range(size) for size in shape))
        return [v_map(self._settled, worker.component(node, index, ())) for index in indices]

    def _settled(self, node: Pointwise) -> Pointwise:
        """A coefficient that the system differentiates is a function here too; other parameters are constants, and are noted."""

        def leaf(node: Pointwise) -> Pointwise:
            if not isinstance(node, Coefficient):
                return node
            spec = self.coefficients.get(node.name)
            if spec is None:
                self.constants.add(node.name)
                return Parameter(node.name, node.index)
            return as_field(node, spec.shape)

        return transform(node, leaf, {})

    def complete(self) -> None:
        """Refuse fields of which only some components are replaced."""
        for name, spec in self.fields.items():
            absent = [k for k in range(math.prod(spec.shape)) if (name, k) not in self.values]
            if absent and len(absent) < math.prod(spec.shape):
                raise OpNameError(f"component {absent[0]} of {name} has no line", code="E115", suggestion=f"write {name} = vec(…)")

    def declarations(self) -> Declarations:
        """The new variables, and the fields that stay."""
        own = self.system.declarations
        kept = [f for f in own.fields if not any(name == f.name for name, _ in self.values)]
        fresh = [f for f in self.new.fields if f.name not in {k.name for k in kept}]
        given = {"coords", "fields", *own.given} - (set() if self.new.coords == own.coords else {"time"})
        if self.new.params:
            given.add("params")
        return replace(self.new, fields=(*kept, *fresh), functions=own.functions, given=frozenset(given))

    def gradient(self) -> Callable[[Pointwise, int], Pointwise]:
        """∂/∂x_a of an expression of the new coordinates."""
        d = Differentiator(frozenset(range(len(self.names))))
        old = list(self.old.coords)
        missing = [name for name in old if name not in self.coordinates and name not in self.names]
        if missing:
            raise OpNameError(f"the old coordinate {missing[0]!r} has no line", code="E115", suggestion=f"write {missing[0]} = …")
        if len(self.names) != len(old):
            raise OpSyntaxError(f"{len(old)} old coordinates need as many new ones, not {len(self.names)}", code="E052")
        if not self.coordinates and old == self.names:
            return d
        inverse = _inverse([[d(self.coordinate(name), b) for b in range(len(old))] for name in old])
        return lambda value, a: add(*(mul(inverse[b][a], d(value, b)) for b in range(len(old))))

    def coordinate(self, name: str) -> Pointwise:
        """An old coordinate in the new ones."""
        return self.coordinates[name] if name in self.coordinates else Coordinate(self.names.index(name))


def _equations(made: EquationResidual, residual: Residual, named: bool) -> Iterator[ex.EquationNode]:
    """A vector of formulas is written ``vec(…)``; of a matrix every component becomes an equation."""
    nodes = [to_expression(c, residual) for c in made.components]
    if len(made.shape) < 2:
        yield ex.EquationNode(made.name, ex.Call("vec", tuple(nodes)) if made.shape else nodes[0], named=named)
        return
    for index, node in zip(itertools.product(*(range(size) for size in made.shape)), nodes, strict=True):
        yield ex.EquationNode(f"{made.name}_{''.join(map(str, index))}", node, named=True)


def _inverse(matrix: list[list[Pointwise]]) -> list[list[Pointwise]]:
    """Invert exactly by cofactors; a change of variables has few coordinates."""
    size = len(matrix)

    def determinant(rows: Sequence[int], cols: Sequence[int]) -> Pointwise:
        if not rows:
            return ONE
        parts = []
        for k, col in enumerate(cols):
            term = mul(matrix[rows[0]][col], determinant(rows[1:], [c for c in cols if c != col]))
            parts.append(negate(term) if k % 2 else term)
        return add(*parts)

    every = list(range(size))
    whole_ = determinant(every, every)
    if whole_ == ZERO:
        raise OpSyntaxError("the change of variables is singular", code="E053", suggestion="every new coordinate must occur")

    def cofactor(i: int, j: int) -> Pointwise:
        minor = determinant([r for r in every if r != j], [c for c in every if c != i])
        return divide(minor if (i + j) % 2 == 0 else negate(minor), whole_)

    return [[cofactor(i, j) for j in every] for i in every]
