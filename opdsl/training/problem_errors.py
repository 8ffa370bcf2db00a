"""What is wrong with a problem file: pydantic's findings and ours in the same words, with key and line."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, Tag, ValidationError

from opdsl.errors import ProblemError, ProblemErrors, did_you_mean

Path = tuple[str | int, ...]

_KINDS = {
    "string_type": "a text", "bool_type": "true or false", "int_type": "a whole number", "float_type": "a number",
    "list_type": "a list", "dict_type": "a table", "model_type": "a table", "model_attributes_type": "a table",
}  # fmt: skip
_EMPTY = {
    "coordinates": "give at least one coordinate, such as x = [0, 1]",
    "equations": 'give at least one equation, such as heat = "u_t = u_xx"',
}

_DEEPEST = 6  # a key of a problem file; others are unknown keys in one of its tables
_KEY = r"""(?:"[^"\n]*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]")
_PAIR = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=")


class Findings:
    """The errors of one file, gathered so that all are told at once.

    Args:
        file: what errors call it.
        text: its content, for the lines.
    """

    def __init__(self, file: str, text: str) -> None:
        self._file, self._lines = file, key_lines(text)
        self._found: list[ProblemError] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, path: Path | str, message: str, code: str = "E803") -> None:
        """Note an error about a key; ``""`` is the whole file, ``"network.width"`` a path of plain names."""
        parts: Path = tuple(path.split(".")) if isinstance(path, str) and path else tuple(path)
        line = next((self._lines[parts[:n]] for n in range(min(len(parts), _DEEPEST), 0, -1) if parts[:n] in self._lines), None)
        self._found.append(ProblemError(message, code=code, file=self._file, line=line, key=key_text(parts)))

    def unknown_key(self, path: Path, known: Iterable[str]) -> None:
        """Note a key that has no meaning."""
        options = sorted(known)
        hint = did_you_mean(str(path[-1]), options)
        self.add(path, f"unknown key{'; ' + hint if hint else '.'}\nKnown keys: {', '.join(options) or 'none'}.", "E802")

    def raise_if_any(self) -> None:
        """Raise what was found, in the order of the file."""
        found = sorted(self._found, key=lambda error: error.line or 0)
        if len(found) == 1:
            raise found[0]
        if found:
            raise ProblemErrors(found)


def key_text(parts: Sequence[str | int]) -> str:
    """Write a path the way it is spoken of.

    Example:
        >>> key_text(("optimiser", 0, "name"))
        'optimiser[0].name'
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
    return text if len(text) <= 100 else f"{text[:100]}…"


def key_lines(text: str) -> dict[Path, int]:
    """Return the line of every key of a TOML text, counted from 1.

    Only for messages: what the file means is decided by the TOML parser. Keys inside inline tables have no line of
    their own; the first place counts where the text only looks like a key (inside texts of several lines).

    Example:
        >>> key_lines('a = 1\\n[b."c d"]\\ne.f = 2\\n[[g]]\\nh = 3')[("g", 0, "h")]
        5
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    counts: dict[Path, int] = {}
    quoted = ""
    for number, line in enumerate(text.split("\n"), 1):
        if quoted:
            quoted = "" if quoted in line else quoted
            continue
        if header := _HEADER.match(line):
            table = tuple(_parts(header[2]))
            if header[1] == "[[":
                lines.setdefault(table, number)
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines.setdefault(table, number)
        elif pair := _PAIR.match(line):
            lines.setdefault((*table, *_parts(pair[1])), number)
        quoted = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), "")
    return lines


def _parts(dotted: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(_KEY, dotted)]


def short(value: Any) -> str:
    """Write a value of the file, however large or deep it is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a very large number"


# ------------------------------------------------------------------------------------------------- pydantic's findings


def translate(error: ValidationError, model: type[BaseModel], findings: Findings) -> list[Path]:
    """Note everything pydantic found; return the paths of what it found fault with."""
    paths: list[Path] = []
    for each in error.errors(include_url=False):
        path = tuple(part for part in each["loc"] if not str(part).startswith("#"))
        paths.append(path)
        kind, value, context = each["type"], each["input"], each.get("ctx", {})
        owner = _model_at(model, each["loc"][:-1])
        if kind == "extra_forbidden":
            findings.unknown_key(path, owner.model_fields if owner else ())
        elif kind == "missing":
            annotation: Any = owner.model_fields[str(path[-1])].annotation if owner else None
            what = "a text" if annotation is str else "a number" if annotation is float else "a table"
            findings.add(path, f"missing; give {what}", "E804")
        else:
            findings.add(path, _words(kind, value, context, path, str(each["msg"])))
    return paths


def _words(kind: str, value: Any, context: Mapping[str, Any], path: Path, message: str) -> str:
    found = short(value)
    match kind:
        case "value_error":
            return str(context["error"]).replace("{found}", found)
        case "finite_number":
            return f"must be finite, found {found}"
        case "greater_than":
            return f"must be larger than {context['gt']:g}, found {found}"
        case "greater_than_equal":
            return f"must be at least {context['ge']:g}, found {found}"
        case "less_than":
            return f"must be smaller than {context['lt']:g}, found {found}"
        case "less_than_equal":
            return f"must be at most {context['le']:,}, found {found}"
        case "too_short":
            return _EMPTY.get(str(path[-1]), "must not be empty")
        case "literal_error":
            options = re.findall(r"'([^']*)'", context["expected"])
            hint = did_you_mean(value, options) if isinstance(value, str) else ""
            return f"{found} is not one of {', '.join(options)}" + (f"; {hint}" if hint else "")
    return f"expected {_KINDS[kind]}, found {found}" if kind in _KINDS else f"{message.lower()}, found {found}"


def _model_at(model: type[BaseModel] | None, location: Sequence[str | int]) -> type[BaseModel] | None:
    """The model a location inside another one belongs to."""
    annotation: Any = model
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            known = annotation.model_fields.get(str(part))
            # Other keys of an open table all have the one type that it declares for them.
            others = get_args(get_type_hints(annotation).get("__pydantic_extra__"))
            annotation = known.annotation if known is not None else others[-1] if others else None
        elif str(part).startswith("#"):
            annotation = _tagged(annotation, str(part))
        elif get_origin(annotation) in (dict, list):
            annotation = get_args(annotation)[-1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _tagged(annotation: Any, tag: str) -> Any:
    """The alternative of a union that carries a tag."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    for option in get_args(annotation):
        inner, *marks = get_args(option)
        if any(isinstance(mark, Tag) and mark.tag == tag for mark in marks):
            return inner
    return None
