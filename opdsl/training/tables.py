"""Read tables of a TOML file with errors that name the file, the key and what to write instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from opdsl.errors import ProblemError, did_you_mean

_KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


@dataclass
class Table:
    """One table of a file. Every key that is read is remembered; `close` refuses those that nobody asked for.

    Args:
        file: the name quoted in errors.
        path: the table's own key, ``""`` for the whole file.
        values: what TOML gave.

    Example:
        >>> table = Table("burgers.toml", "network", {"widht": 32})
        >>> table.close(["layers", "width"])
        Traceback (most recent call last):
        opdsl.errors.ProblemError: ProblemError[E802]: burgers.toml, key 'network.widht': unknown key; did you mean
        'width'? Known keys: layers, width.
    """

    file: str
    path: str
    values: Mapping[str, Any]
    _seen: set[str] = field(default_factory=set)

    def key(self, name: str) -> str:
        """Return the full key, ``network.width``."""
        return f"{self.path}.{name}" if self.path else name

    def fail(self, name: str, message: str, *, code: str = "E803") -> NoReturn:
        """Raise `ProblemError` about one key (or about the table, with an empty name)."""
        place = self.key(name) if name else self.path
        where = f"{self.file}, key '{place}'" if place else self.file
        raise ProblemError(f"{where}: {message}", code=code)

    def close(self, known: Iterable[str] = ()) -> None:
        """Refuse keys that are neither known nor read."""
        options = sorted({*known, *self._seen})
        for name in self.values:
            if name not in options:
                hint = did_you_mean(name, options)
                self.fail(
                    name, f"unknown key; {hint}\nKnown keys: {', '.join(options)}.".replace("; \n", ".\n"), code="E802"
                )

    # ----------------------------------------------------------------------------------------------------- one value

    def get(self, name: str, kind: type, default: Any = None, *, required: bool = False) -> Any:
        """Return a value of the given kind; whole numbers are accepted as numbers."""
        self._seen.add(name)
        if name not in self.values:
            if required:
                self.fail(name, f"missing; give {_KINDS[kind]}", code="E804")
            return default
        value = self.values[name]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.fail(name, f"expected {_KINDS[kind]}, found {value!r}")
        return value

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        """Return a text."""
        return str(self.get(name, str, default, required=required))

    def flag(self, name: str, default: bool = False) -> bool:
        """Return true or false."""
        return bool(self.get(name, bool, default))

    def count(self, name: str, default: int, *, least: int = 1) -> int:
        """Return a whole number that is at least ``least``."""
        value = int(self.get(name, int, default))
        if value < least:
            self.fail(name, f"must be at least {least}, found {value}")
        return value

    def number(
        self, name: str, default: float | None = None, *, above: float | None = None, least: float | None = None
    ) -> float:
        """Return a finite number, strictly above ``above`` and at least ``least``."""
        value = float(self.get(name, float, default, required=default is None))
        if not math.isfinite(value):
            self.fail(name, f"must be finite, found {value}")
        if above is not None and value <= above:
            self.fail(name, f"must be larger than {above:g}, found {value:g}")
        if least is not None and value < least:
            self.fail(name, f"must be at least {least:g}, found {value:g}")
        return value

    def choice(self, name: str, default: str, options: Sequence[str]) -> str:
        """Return one of the options."""
        value = self.text(name, default)
        if value not in options:
            hint = did_you_mean(value, options)
            self.fail(name, f"{value!r} is not one of {', '.join(options)}" + (f"; {hint}" if hint else ""))
        return value

    def interval(self, name: str) -> tuple[float, float]:
        """Return ``[low, high]`` with low < high, both finite."""
        value = self.get(name, list, required=True)
        numbers = [v for v in value if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(value) != 2 or len(numbers) != 2 or not all(map(math.isfinite, numbers)):
            self.fail(name, f"expected [low, high] with two numbers, found {value!r}")
        low, high = float(numbers[0]), float(numbers[1])
        if low >= high:
            self.fail(name, f"the interval is empty: {low:g} is not below {high:g}; write [{high:g}, {low:g}]?")
        return low, high

    def counts(self, name: str) -> tuple[int, ...]:
        """Return a list of positive whole numbers, empty where the key is absent."""
        value = self.get(name, list, [])
        if any(not isinstance(v, int) or isinstance(v, bool) or v < 1 for v in value):
            self.fail(name, f"expected a list of positive whole numbers, found {value!r}")
        return tuple(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; a single text counts as a list of one."""
        value = self.values.get(name, [])
        self._seen.add(name)
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or any(not isinstance(v, str) for v in value):
            self.fail(name, f"expected a list of texts, found {value!r}")
        return tuple(value)

    # -------------------------------------------------------------------------------------------------------- tables

    def table(self, name: str, *, required: bool = False) -> Table:
        """Return the table below ``name``, empty where it is absent."""
        return Table(self.file, self.key(name), self.get(name, dict, {}, required=required))

    def tables(self, name: str) -> list[Table]:
        """Return an array of tables, ``[[name]]``."""
        value = self.get(name, list, [])
        if any(not isinstance(v, dict) for v in value):
            self.fail(name, f"expected tables, each under [[{name}]]")
        return [Table(self.file, f"{self.key(name)}[{k}]", v) for k, v in enumerate(value)]
