"""`parse_system`: one text and its declarations → a `System`, or every error of the text at once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from lark import UnexpectedInput, UnexpectedToken

from opdsl.algebra.work import EXPANSION, SMALLER, bounded
from opdsl.errors import LanguageError, OpdslWarning, OpErrors, OpLimitError, OpNameError, OpSyntaxError, Span
from opdsl.grammar import declarations, normal
from opdsl.grammar.inference import infer, infer_coords
from opdsl.grammar.lark_parser import parser
from opdsl.grammar.latex import translate
from opdsl.grammar.letters import letters_of_derivatives, letters_used, n_is_index
from opdsl.grammar.lexemes import Ident, Lexeme
from opdsl.grammar.scanner import Scanner
from opdsl.grammar.symbol_table import Classified, Classifier
from opdsl.grammar.syntax_errors import explain, stop_of
from opdsl.grammar.transformer import Builder
from opdsl.language import tree as ex
from opdsl.language.declarations import CoordinateDecl, Declarations
from opdsl.language.operator_application import desugar
from opdsl.language.system import System
from opdsl.language.type_inference import Ranks

MAX_NAMES = 500
MAX_EQUATIONS = 1000
Names = str | Sequence[str] | None

_DECLARATION = re.compile(r"\s*(coords|fields|params|functions|time)\s*:(?!=)([^;\n]*)(?:[;\n]|$)")

_DEFINED = re.compile(rf"\blet\s+([{declarations.LETTER}][{declarations.LETTER}0-9_]*)")

_READERS: dict[str, Callable[[Names], object]] = {
    "coords": declarations.read_coords,
    "fields": declarations.read_fields,
    "params": declarations.read_params,
    "functions": declarations.read_functions,
    "time": lambda text: declarations.ascii_name(declarations.fold(str(text))).strip(),
}


def parse_system(
    text: str,
    *,
    coords: Names = None,
    fields: Names = None,
    params: Names = None,
    functions: Names = None,
    time: str | None = None,
) -> System:
    """Parse equations as they stand in a paper.

    Args:
        text: the equations, separated by ``;`` or newlines; Unicode, ASCII or LaTeX. Declarations may stand in front as
            ``coords: t x; params: nu; …``, which is how ``str`` prints them.
        coords: names of the columns of x in their order: ``"t x y"``, ``"t x[100]"``, ``"x[d]"``, ``"polar(r, theta)"``.
        fields: the unknowns: ``"u[3] p sigma[3,3] psi:complex"``.
        params: names bound at call time: ``"nu ?lam b[2] a_ij"``; ``?`` marks a trainable one.
        functions: names of bound callables: ``"R c"``.
        time: the coordinate that is not space; ``t`` where it is a coordinate.

    Returns:
        The system: declarations, definitions, equations with resolved names and spans.

    Raises:
        OpdslError: with every place that is wrong.

    Example:
        >>> system = parse_system("u_t + u u_x = nu u_xx", coords="t x", params="nu")
        >>> print(system)
        coords: t x; fields: u; params: nu; u_t + u*u_x = nu*u_xx
        >>> parse_system(str(system)) == system
        True
    """
    if not isinstance(text, str):
        raise OpSyntaxError(f"an operator is a text, not {type(text).__name__}", code="E003")
    given = {"coords": coords, "fields": fields, "params": params, "functions": functions, "time": time}
    body = _leading_declarations(text, given)
    try:
        with bounded(EXPANSION, SMALLER):
            return _Parse(text, body, given).run()
    except RecursionError:
        raise OpLimitError("the expression is nested too deeply", code="E303") from None
    except LanguageError as error:
        for each in error.errors if isinstance(error, OpErrors) else (error,):
            each.source = each.source if each.source is not None else text
        raise


def _leading_declarations(text: str, given: dict[str, Names]) -> int:
    """Read ``coords: t x; …`` in front of the equations; return where the equations start."""
    start = 0
    while match := _DECLARATION.match(text, start):
        kind, value = match[1], match[2].strip()
        place = Span(match.start(1), max(match.end(2), match.start(1) + 1))
        present = given[kind]
        if present is not None and _READERS[kind](present) != _READERS[kind](value):
            raise OpNameError(f"{kind} is declared in the text and by {kind}=, differently", code="E110", spans=(place,),
                              source=text)
        given[kind] = value
        start = match.end()
    return start


class _Parse:
    def __init__(self, text: str, start: int, given: dict[str, Names]) -> None:
        self.text = text
        self.start = start
        self.given = given
        self.errors: list[LanguageError] = []

    def run(self) -> System:
        decls = self._declared()
        body = declarations.fold(self.text[self.start :])
        origin: Sequence[Span] | None = [Span(k, k + 1) for k in range(self.start, len(self.text))] if self.start else None
        if re.search(r"\\[A-Za-z(\[,;:!{}|\\]|^\s*\$.*\$[\s.,;]*\Z", body, re.DOTALL):
            try:
                body, places = translate(body, decls.names, decls.time or "t", [c.name for c in decls.coords])
            except LanguageError as error:
                error.spans = tuple(Span(s.start + self.start, s.stop + self.start) for s in error.spans)
                raise
            origin = [Span(self.start + place.start, self.start + place.stop) for place in places]
        lexemes, decls = self._lexemes(body, origin, decls)
        if not any(lexeme.kind != "SEP" for lexeme in lexemes):
            raise self._all(OpSyntaxError("the text is empty", code="E004", suggestion="write an operator such as laplace(u)"))
        definitions = _definitions(lexemes)
        declared = decls.names
        own = {p.name for p in decls.params}
        others = [x for x in lexemes if not (isinstance(x.value, Ident) and x.value.full in own)]
        letters = letters_used(others) | letters_of_derivatives(lexemes)
        decls = replace(decls, params=declarations.index_suffixes(decls.params, letters))
        inference = infer(decls, lexemes, definitions, n_is_index=n_is_index(lexemes, {*decls.names, *definitions}))
        decls = inference.declarations
        declarations.check_distinct(decls)
        if len(decls.fields) + len(decls.params) > MAX_NAMES:
            raise OpLimitError(f"more than {MAX_NAMES} names", code="E309")
        classifier = Classifier(
            decls, definitions=definitions, ambiguous=inference.ambiguous, only_before_operators=inference.only_before_operators,
            inferred=decls.names - declared,
        )  # fmt: skip
        tokens = classifier.run(lexemes)
        self.errors += classifier.errors
        statements, builder = self._statements(tokens, classifier)
        notes = [*inference.notes, *classifier.warnings, *builder.warnings]
        system = self._system(decls, statements, notes)
        if any(p.name == "n" for p in decls.params) and "n" not in declared:
            system = normal.settled(system)
        if "T" not in declared:
            system = _without_unused(system, "T")
        for message in [*classifier.warnings, *builder.warnings]:
            warnings.warn(message, OpdslWarning, stacklevel=4)
        return system

    # ------------------------------------------------------------------------------ steps
    def _declared(self) -> Declarations:
        given = self.given
        coords, geometry = declarations.read_coords(given.get("coords"))
        time = given.get("time")
        if time is not None and not isinstance(time, str):
            raise OpSyntaxError("time= takes one coordinate name", code="E050")
        if time:
            time = declarations.ascii_name(declarations.fold(time.strip()))
        known = [c.name for c in coords]
        if time and known and time not in known:
            raise OpNameError(f"time={time!r} is not among the coordinates ({', '.join(known)})", code="E103")
        if not time:
            time = "t" if "t" in known and next(c for c in coords if c.name == "t").size is None else None
        decls = Declarations(
            coords=coords, geometry=geometry, time=time or None,
            fields=declarations.read_fields(given.get("fields")), params=declarations.read_params(given.get("params")),
            functions=declarations.read_functions(given.get("functions")),
            given=frozenset(kind for kind, value in given.items() if value is not None),
        )  # fmt: skip
        declarations.check_distinct(decls)
        return decls

    def _lexemes(
        self, body: str, origin: Sequence[Span] | None, decls: Declarations
    ) -> tuple[list[Lexeme], Declarations]:
        known = [c.name for c in decls.coords] if "coords" in decls.given else None
        tensors = frozenset(
            [f.name for f in decls.fields if len(f.shape) == 2] + [p.name for p in decls.params if len(p.shape or ()) == 2]
        )
        scanner = Scanner(
            body, tensors=tensors, coords=known, vectors=frozenset(c.name for c in decls.coords if c.size is not None),
            declared=decls.names | frozenset(map(declarations.ascii_name, _DEFINED.findall(body))), origin=origin,
        )  # fmt: skip
        lexemes = scanner.scan()
        self.errors += scanner.errors
        if known is None and any(lexeme.kind != "SEP" for lexeme in lexemes):
            try:
                only = infer_coords(lexemes)
            except OpNameError as error:
                raise self._all(error) from None
            decls = replace(decls, coords=(CoordinateDecl(only),), time=only if only == "t" else None)
        return lexemes, decls

    def _all(self, error: LanguageError) -> LanguageError:
        return _joined([*self.errors, error])

    def _statements(self, tokens: list[Classified], classifier: Classifier) -> tuple[list[ex.Node], Builder]:
        builder = Builder(tokens, classifier, self.text)
        if self.errors:
            # What the scanner or the names have refused stands in the tokens as a place-holder; look for more errors only
            # where the shape of the text is intact.
            try:
                builder.transform(parser().parse(tokens))  # type: ignore[arg-type]
                self.errors += builder.errors
            except (UnexpectedInput, LanguageError):
                pass
            raise _joined(self.errors)
        try:
            tree = parser().parse(tokens)  # type: ignore[arg-type]
        except UnexpectedInput as unexpected:
            raise explain(unexpected, len(self.text.rstrip())) from None
        statements = builder.transform(tree)
        if errors := builder.chains[:1] or builder.errors:
            raise _joined(errors)
        return statements, builder

    def _system(self, decls: Declarations, statements: list[ex.Node], notes: list[str]) -> System:
        definitions = [s for s in statements if isinstance(s, ex.Definition)]
        equations: list[ex.EquationNode] = []
        for statement in statements:
            if isinstance(statement, ex.EquationNode):
                name = statement.name or f"eq{len(equations) + 1}"
                equations.append(replace(statement, name=name))
        if len(equations) > MAX_EQUATIONS:
            raise OpLimitError(f"{len(equations)} equations; the limit is {MAX_EQUATIONS}", code="E309")
        if not equations:
            raise OpSyntaxError("the text defines names but has no equation", code="E005",
                                suggestion="add one after the definitions")
        seen: dict[str, ex.EquationNode] = {}
        for equation in equations:
            if equation.name in seen:
                raise OpNameError(f"two equations are named {equation.name!r}", code="E110",
                                  spans=tuple(e.span for e in (seen[equation.name], equation) if e.span))
            seen[equation.name] = equation
        self._check_definitions(definitions, decls)
        _check_comparisons([*(d.value for d in definitions), *(s for e in equations for s in (e.left, e.right) if s)])
        decls = self._check_ranks(decls, definitions, equations)
        if not decls.fields and "fields" not in decls.given:
            raise OpNameError("no name is differentiated, so there is no unknown field", code="E113",
                              suggestion="declare fields=\"u\"")
        return System(decls, tuple(definitions), tuple(equations), self.text, tuple(notes))

    def _check_definitions(self, definitions: list[ex.Definition], decls: Declarations) -> None:
        known: set[str] = set()
        taken = decls.names
        for definition in definitions:
            for node in ex.walk(definition.value):
                if isinstance(node, ex.Ref) and node.name not in known:
                    what = "uses itself" if node.name == definition.name else f"uses {node.name}, which is defined further below"
                    raise OpNameError(f"the definition of {definition.name} {what}", code="E106",
                                      spans=(node.span,) if node.span else ())
            if definition.name in known or definition.name in taken:
                raise OpNameError(f"{definition.name!r} is defined twice", code="E110",
                                  spans=(definition.span,) if definition.span else ())
            known.add(definition.name)

    def _check_ranks(
        self, decls: Declarations, definitions: list[ex.Definition], equations: list[ex.EquationNode]
    ) -> Declarations:
        from opdsl.language.calculus.equations import whole

        ranks = Ranks(decls)
        errors: list[LanguageError] = []
        for _ in range(2):  # a later equation may tell the rank of a parameter of an earlier one
            errors = []
            for definition in definitions:
                try:
                    node = desugar(definition.value)
                    ranks.definitions[definition.name] = node
                    ranks.infer(node)
                except LanguageError as error:
                    raise error from None
            for equation in equations:
                try:
                    ranks.infer(desugar(whole(equation)))
                except LanguageError as error:
                    error.residual = equation.name
                    errors.append(error)
            if not errors:
                break
        if errors:
            raise _joined(errors)
        return ranks.adapted()


def _without_unused(system: System, name: str) -> System:
    """Drop an inferred parameter that turned out to be none: the T of a transpose."""
    decls = system.declarations
    roots = [*(d.value for d in system.definitions), *(s for e in system.equations for s in (e.left, e.right) if s is not None)]
    if any(isinstance(node, ex.Param) and node.name == name for root in roots for node in ex.walk(root)):
        return system
    kept = tuple(p for p in decls.params if p.name != name)
    notes = tuple(note for note in system.notes if not note.startswith(f"{name} is "))
    return replace(system, declarations=replace(decls, params=kept), notes=notes)


def stop_of_example(text: str, context: Mapping[str, str]) -> UnexpectedToken | None:
    """Return where the parser stops in a malformed example, None if it does not get that far or fits the grammar."""
    worker = _Parse(text, 0, dict(context))
    decls = worker._declared()
    lexemes, decls = worker._lexemes(declarations.fold(text), None, decls)
    tokens = Classifier(decls, definitions=_definitions(lexemes)).run(lexemes)
    try:
        parser().parse(tokens)  # type: ignore[arg-type]
    except UnexpectedInput as unexpected:
        return stop_of(unexpected)
    return None


def _check_comparisons(roots: Sequence[ex.Node]) -> None:
    """A comparison is the condition of a ``where`` and has no value of its own, however many parentheses surround it."""
    found = [root for root in roots if isinstance(root, ex.Compare)]
    for node in (node for root in roots for node in ex.walk(root)):
        below = ex.children(node)
        if isinstance(node, ex.Call) and node.name == "where":
            below = below[1:]
        found += [child for child in below if isinstance(child, ex.Compare)]
    if found:
        raise _joined([
            OpSyntaxError("a comparison is allowed in where(…) only", code="E076", spans=(node.span,) if node.span else (),
                          suggestion="write where(u > 0, a, b)")
            for node in found
        ])  # fmt: skip


def _joined(errors: Sequence[LanguageError]) -> LanguageError:
    unique: list[LanguageError] = []
    for error in sorted(errors, key=lambda e: e.spans[0].start if e.spans else 0):
        if not any(error.message == other.message and error.spans == other.spans for other in unique):
            unique.append(error)
    return unique[0] if len(unique) == 1 else OpErrors(unique)


def _definitions(lexemes: Sequence[Lexeme]) -> list[str]:
    return [
        following.value.full
        for lexeme, following in pairwise(lexemes)
        if lexeme.kind == "LET" and isinstance(following.value, Ident)
    ]
