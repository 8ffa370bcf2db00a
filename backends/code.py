"""What the code of a function reads from outside of itself: globals, modules, and things that nobody can tell in advance."""

from __future__ import annotations

import dis
import functools
import sys
import types
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from opdsl.backends.identity import Identity
from opdsl.backends.recent import Recent

# Libraries whose modules, classes and functions do not change under a running program; the standard library is another.
_STABLE = sys.stdlib_module_names | frozenset(
    ("numpy scipy torch torchgen jax jaxlib flax equinox haiku optax jaxtyping array_api_compat array_api_strict opdsl einops "
     "lineax diffrax").split()
) - {"__main__"}  # fmt: skip
# Of the standard library these give the same whenever they are asked, or nothing that a network computes with.
_PURE = frozenset(
    ("math cmath operator functools itertools collections fractions decimal numbers typing types dataclasses enum abc contextlib "
     "copy copyreg string re warnings builtins bisect heapq logging inspect textwrap pprint statistics traceback keyword "
     "annotationlib").split()
)  # fmt: skip
# Parts of stable modules that are not.
_PARTS = {"numpy": frozenset({"random"})}
_known = Recent(4096)


@functools.lru_cache(maxsize=4096)
def stable(module: str) -> bool:
    """Whether what a module holds does not change under a running program."""
    return module.partition(".")[0] in _STABLE


@functools.lru_cache(maxsize=4096)
def outside(module: str) -> bool:
    """Whether the functions of a stable module may give something else at the next call: the time, random numbers, files."""
    top, _, rest = module.partition(".")
    if rest.partition(".")[0] in _PARTS.get(top, ()):
        return True
    return top in sys.stdlib_module_names and top.lstrip("_") not in _PURE


def outside_of(kind: type) -> bool:
    """Whether a class belongs to such a module."""
    return outside(kind.__module__ or "")


@dataclass(frozen=True)
class Facts:
    """What a code object reads, with the functions inside it.

    Args:
        identity: of the code; equal to itself only.
        globals: names of globals.
        mentioned: all names and all texts that may be names.
        outside: whether it imports something whose contents may change.
    """

    identity: Hashable
    globals: tuple[str, ...]
    mentioned: frozenset[str]
    outside: bool

    def reaches_outside(self, module: types.ModuleType) -> bool:
        """Whether the code reads a part of the module that may give something else at the next call: ``np.random``."""
        return not self.mentioned.isdisjoint(_PARTS.get(module.__name__, ()))


def facts(code: types.CodeType) -> Facts:
    """What is known of a code object; it is looked at once."""
    # Hashing a code object itself takes longest; its facts keep it alive, so that its address stays its own.
    found = _known.get(id(code))
    if found is None:
        _known[id(code)] = found = _read(code)
    return found  # type: ignore[no-any-return]


def _read(code: types.CodeType) -> Facts:
    names: dict[str, None] = {}
    mentioned: set[str] = set()
    imports: list[str] = []
    for part in _all(code):
        for step in dis.get_instructions(part):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                names[step.argval] = None
            elif step.opname == "IMPORT_NAME":
                imports.append(step.argval)
        mentioned.update(part.co_names)
        mentioned.update(c for c in part.co_consts if isinstance(c, str) and c.isidentifier())
    foreign = any(not stable(name) or outside(name) for name in imports)
    foreign |= any(not mentioned.isdisjoint(_PARTS.get(name, ())) for name in imports)
    return Facts(Identity(code), tuple(names), frozenset(mentioned), foreign)


def _all(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _all(constant)
