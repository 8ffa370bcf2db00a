"""One family of errors: what was found, where, why, and what to write instead.

Language errors carry a code and one or two spans of the text; they are raised while an operator is constructed,
several at once where several things are wrong. Call-time errors (bindings, shapes, backends, strategies) carry a code
and a message.

==========  ==========================================  =========================================
code        class                                       raised when
==========  ==========================================  =========================================
E0xx        `OpSyntaxError`                             the text does not follow the grammar
E1xx        `OpNameError`                               a name is unknown, ambiguous or misused
E20x, E21x  `OpIndexError`                              index notation does not balance
E22x, E23x  `OpRankError`                               ranks or shapes do not fit
E3xx        `OpLimitError`                              the text or its expansion is too large
E4xx        `OpConditionError`                          boundary or initial data make no sense
E5xx        `BindingError`, `ShapeError`                a call gives the wrong things
E6xx        `BackendError`, `MissingRuleError`, …       a framework cannot do what is asked
E7xx        `StrategyError`, `ReductionError`           a strategy does not apply, a network cannot be reduced
E8xx        `ProblemError`                              a problem file is wrong, a run cannot be kept
==========  ==========================================  =========================================
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "BackendError",
    "BindingError",
    "CaptureError",
    "LanguageError",
    "MissingRuleError",
    "OpConditionError",
    "OpErrors",
    "OpIndexError",
    "OpLimitError",
    "OpNameError",
    "OpRankError",
    "OpSyntaxError",
    "OpdslError",
    "OpdslWarning",
    "ProblemError",
    "ProblemErrors",
    "ReductionError",
    "RowMixingError",
    "ShapeError",
    "Span",
    "StrategyError",
    "did_you_mean",
    "shown",
    "unknown",
]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The characters ``start`` (included) to ``stop`` (excluded) of the text that was parsed."""

    start: int
    stop: int

    def join(self, other: Span | None) -> Span:
        """Return the smallest span that covers both.

        Example:
            >>> Span(2, 4).join(Span(7, 9))
            Span(start=2, stop=9)
        """
        return self if other is None else Span(min(self.start, other.start), max(self.stop, other.stop))


class OpdslWarning(UserWarning):
    """Something is accepted but may not mean what was intended; the message says how to be explicit."""


class OpdslError(Exception):
    """Base of every error that a user of opdsl can cause.

    Attributes:
        code: a stable code such as ``"E103"``.
        message: the reason, without the quoted text.
        spans: the places in the operator's text, possibly empty.
    """

    default_code = "E000"

    def __init__(self, message: str, *, code: str | None = None, spans: Sequence[Span] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.spans = tuple(spans)

    def __str__(self) -> str:
        return f"{type(self).__name__}[{self.code}]: {self.message}"


class LanguageError(OpdslError):
    """The text of an operator is wrong. ``str`` quotes the line and underlines the place.

    Args:
        message: the reason; it stands after the first underline.
        code: overrides the class's default code.
        spans: one span, or two where two places disagree (``^`` and ``~``).
        suggestion: what to write instead.
        source: the text; usually filled in by the parser when the error leaves it.
        residual: name of the equation the place belongs to.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        spans: Sequence[Span] = (),
        suggestion: str | None = None,
        source: str | None = None,
        residual: str | None = None,
    ) -> None:
        super().__init__(message, code=code, spans=spans)
        self.suggestion = suggestion
        self.source = source
        self.residual = residual

    def __str__(self) -> str:
        head = f"{type(self).__name__}[{self.code}]"
        lines = _underlined(self.source, self.spans) if self.source is not None and self.spans else []
        if not lines:
            body = f"{head}: {self.message}"
        else:
            where = f" in residual '{self.residual}'" if self.residual else ""
            number = (self.source or "").count("\n", 0, self.spans[0].start) + 1
            # A short reason fits behind the caret, the way compilers print it; a long one gets lines of its own.
            if len(self.spans) == 1 and len(lines) == 2 and len(self.message) <= 100 and "\n" not in self.message:
                lines[1] += f" {self.message}"
                body = f"{head}{where}, line {number}:\n" + "\n".join(lines)
            else:
                body = f"{head}{where}, line {number}: {self.message}\n" + "\n".join(lines)
        return body + (f"\n  {self.suggestion}" if self.suggestion else "")


class OpSyntaxError(LanguageError):
    """The text does not follow the grammar."""

    default_code = "E001"


class OpNameError(LanguageError):
    """A name is unknown, ambiguous, or used as something it is not."""

    default_code = "E101"


class OpIndexError(LanguageError):
    """Index notation does not balance.

    A letter three times, a free index missing in one term, a component out of range.
    """

    default_code = "E201"


class OpRankError(LanguageError):
    """Ranks or shapes do not fit: the divergence of a scalar, a vector added to a scalar."""

    default_code = "E220"


class OpLimitError(LanguageError):
    """The text, an order, a dimension or an expansion is larger than allowed."""

    default_code = "E301"


class OpConditionError(LanguageError):
    """A boundary or initial condition fixes no place, or two different ones."""

    default_code = "E401"


class OpErrors(LanguageError):
    """Several language errors of one text; ``errors`` lists them in the order of the text."""

    default_code = "E002"

    def __init__(self, errors: Iterable[LanguageError]) -> None:
        self.errors: tuple[LanguageError, ...] = tuple(errors)
        super().__init__(f"{len(self.errors)} errors", spans=tuple(e.spans[0] for e in self.errors if e.spans))

    def __str__(self) -> str:
        return f"{len(self.errors)} errors\n" + "\n".join(str(error) for error in self.errors)

    def __reduce__(self) -> tuple[type[OpErrors], tuple[tuple[LanguageError, ...]]]:
        return OpErrors, (self.errors,)


class BindingError(OpdslError):
    """A call leaves a name unbound, binds one that does not exist, or binds something unusable."""

    default_code = "E501"


class ShapeError(OpdslError):
    """An array has the wrong shape; nothing is broadcast to make it fit."""

    default_code = "E510"


class BackendError(OpdslError):
    """The backend is missing, contradicts the arrays, or cannot capture the function."""

    default_code = "E601"


class CaptureError(BackendError):
    """The user's function cannot be captured: it fails, branches on values, or returns something else than one array."""

    default_code = "E602"


class MissingRuleError(BackendError):
    """A primitive of the framework has no jet rule."""

    default_code = "E610"


class RowMixingError(BackendError):
    """The function mixes rows of the batch, so that a derivative per point does not exist."""

    default_code = "E620"


class StrategyError(OpdslError):
    """A forced strategy does not apply; the message lists those that do."""

    default_code = "E701"


class ReductionError(OpdslError):
    """A network cannot be reduced to a smaller one: it is of another kind, or the snapshots do not carry the rank."""

    default_code = "E710"


class ProblemError(OpdslError):
    """A problem file is incomplete or contradicts itself, or a run cannot be kept or taken up.

    Args:
        message: the reason and what to write.
        code: overrides the class's default code.
        file: the problem file, where it is about one.
        line: the line of the key, counted from 1, where it is known.
        key: the key it is about, such as ``network.width``.
    """

    default_code = "E801"

    def __init__(
        self, message: str, *, code: str | None = None, file: str | None = None, line: int | None = None, key: str = ""
    ) -> None:
        self.reason, self.file, self.line, self.key = message, file, line, key
        where = "" if file is None else file if line is None else f"{file}:{line}"
        about = ", ".join(part for part in (where, f"key '{key}'" if key else "") if part)
        super().__init__(f"{about}: {message}" if about else message, code=code)


class ProblemErrors(ProblemError):
    """Several errors of one problem file; ``errors`` lists them in the order of the file."""

    default_code = "E800"

    def __init__(self, errors: Iterable[ProblemError]) -> None:
        self.errors: tuple[ProblemError, ...] = tuple(errors)
        files = dict.fromkeys(error.file for error in self.errors if error.file is not None)
        super().__init__(f"{len(self.errors)} errors" + (f" in {', '.join(files)}" if files else ""))

    def __str__(self) -> str:
        return "\n".join([self.message, *map(str, self.errors)])

    def __reduce__(self) -> tuple[type[ProblemErrors], tuple[tuple[ProblemError, ...]]]:
        return ProblemErrors, (self.errors,)


def shown(value: object, limit: int = 60) -> str:
    """What somebody gave, for a message: its ``repr``, cut where it is long.

    Example:
        >>> shown(2.5), shown("x" * 1000, 8)
        ('2.5', "'xxxxxx…")
    """
    try:
        text = repr(value)
    except Exception:  # an integer of many thousand digits, an object of the user
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def did_you_mean(name: str, options: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``"did you mean 'nu'?"`` for the nearest option, or an empty string.

    Example:
        >>> did_you_mean("presure", ["u", "nu", "pressure"])
        "did you mean 'pressure'?"
        >>> did_you_mean("zzz", ["u"])
        ''
    """
    known = sorted(set(options))
    # Short names: a swap or one letter too many is 0.5 similar at least; long names need the stricter default.
    near = difflib.get_close_matches(name, known, n=1, cutoff=cutoff - 0.1 * (len(name) <= 3))
    if not near:
        near = [option for option in known if option.lower() == name.lower()][:1]
    return f"did you mean '{near[0]}'?" if near else ""


def unknown(what: str, name: object, options: Iterable[str], listing: str = "Known") -> str:
    """Return a whole message about a name that is not among the options: suggestion and list included.

    Example:
        >>> unknown("unknown backend", "tourch", ["jax", "torch"])
        "unknown backend 'tourch'; did you mean 'torch'? Known: jax, torch."
    """
    names = [str(option) for option in options]
    hint = did_you_mean(name, names) if isinstance(name, str) else ""
    return f"{what} {shown(name)}{f'; {hint}' if hint else '.'} {listing}: {', '.join(names) or 'none'}."


def _underlined(source: str, spans: Sequence[Span]) -> list[str]:
    """Quote each line that a span starts in, once, with carets (first span) and tildes (second span) below it."""
    marks: dict[int, list[tuple[int, int, str]]] = {}
    for span, mark in zip(spans, "^~", strict=False):
        start = min(max(span.start, 0), len(source))
        line_start = source.rfind("\n", 0, start) + 1
        line_end = source.find("\n", start)
        line_end = len(source) if line_end < 0 else line_end
        stop = max(min(span.stop, line_end), start + 1)
        marks.setdefault(line_start, []).append((start - line_start, stop - line_start, mark))
    quoted: list[str] = []
    for line_start in sorted(marks):
        line_end = source.find("\n", line_start)
        line = source[line_start : len(source) if line_end < 0 else line_end]
        # A hostile line may be a hundred thousand characters long: quote a window around the first mark.
        left = max(0, min(start for start, _, _ in marks[line_start]) - 60) if len(line) > 160 else 0
        under = [" "] * max(stop for _, stop, _ in marks[line_start])
        for start, stop, mark in marks[line_start]:
            under[start:stop] = mark * (stop - start)
        shown = "".join(char if char.isprintable() else " " for char in line[left : left + 160])
        quoted += [f"  {shown}", "  " + "".join(under[left : left + 160]).rstrip()]
    return quoted
