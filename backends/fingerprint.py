"""A key of everything a user's function can depend on, so that its captured graph may be reused.

A stale capture is a silent wrong number. So the key holds the code, closure cells, defaults and the globals the code names, the
attributes of objects and the methods of their classes, all recursively; numbers by value, arrays as the backend says, containers
and objects by their contents. Whatever cannot be told gives None, and the function is captured at every call.
"""

from __future__ import annotations

import functools
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range})
# Libraries whose modules, classes and functions do not change under a running program; the standard library is another.
_STABLE = sys.stdlib_module_names | frozenset(
    ("numpy scipy torch torchgen jax jaxlib flax equinox haiku optax jaxtyping array_api_compat array_api_strict opdsl einops "
     "lineax diffrax").split()
) - {"__main__"}  # fmt: skip
_MOST = 4000
_DEEP = 60

Leaf = Callable[[Any], Hashable | None]


class Identity:
    """Equal to itself only; keeps the object alive, so that its address is not reused."""

    __slots__ = ("thing",)

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


class _Unknown(Exception):
    """The function depends on something that cannot be told apart."""


def fingerprint(function: Any, leaf: Leaf) -> Hashable | None:
    """The key of a function.

    Args:
        function: a function, method, partial, or an object with ``__call__``.
        leaf: for a framework's arrays and the like their key; None for anything else. It may raise `LookupError` for objects that
            must never be reused (tracers).

    Returns:
        A hashable key, or None where something the function depends on cannot be told.

    Example:
        >>> a = 2.0
        >>> f = lambda x: a * x
        >>> before = fingerprint(f, lambda thing: None)
        >>> before == fingerprint(f, lambda thing: None)
        True
    """
    try:
        key = _Walk(leaf).key(function, 0)
        hash(key)
    except (_Unknown, LookupError, RecursionError, TypeError):
        return None
    return key


class _Walk:
    """One traversal. ``seen`` ends cycles and tells one list under two names from two equal lists."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []

    def key(self, thing: Any, depth: int) -> Hashable:
        """What identifies ``thing``."""
        kind = thing.__class__
        if kind in _PLAIN:
            # 1, 1.0 and True are equal but not the same to a program; neither are 0.0 and −0.0.
            return (kind, repr(thing)) if kind is float and thing == 0.0 else (kind, thing)
        found = self._leaf(thing)
        if found is not None:
            return found
        number = self._seen.get(id(thing))
        if number is not None:
            return ("seen", number)
        if depth > _DEEP or len(self._seen) > _MOST:
            raise _Unknown
        self._seen[id(thing)] = len(self._seen)
        # Attributes may be made on the fly; while they are kept, their addresses stay theirs.
        self._kept.append(thing)
        depth += 1
        if isinstance(thing, dict):
            return (kind, tuple((self.key(k, depth), self.key(v, depth)) for k, v in thing.items()))
        if isinstance(thing, tuple | list):
            return (kind, tuple(self.key(v, depth) for v in thing))
        if isinstance(thing, set | frozenset):
            if not all(type(v) in _PLAIN for v in thing):
                raise _Unknown
            return (kind, frozenset((type(v), v) for v in thing))
        if isinstance(thing, slice):
            return (kind, self.key((thing.start, thing.stop, thing.step), depth))
        return self._object(thing, kind, depth)

    def _object(self, thing: Any, kind: type, depth: int) -> Hashable:
        own = getattr(kind, "__opdsl_fingerprint__", None)
        if own is not None:
            return own(thing)  # type: ignore[no-any-return]
        if kind is types.FunctionType:
            return self._function(thing, depth)
        if kind is types.MethodType:
            return ("method", self.key(thing.__func__, depth), self.key(thing.__self__, depth))
        if isinstance(thing, functools.partial):
            return ("partial", *(self.key(part, depth) for part in (thing.func, thing.args, thing.keywords)))
        if isinstance(thing, types.ModuleType):
            if not _stable(thing.__name__):
                raise _Unknown
            return Identity(thing)
        if isinstance(thing, type):
            return self._class(thing, depth)
        if isinstance(thing, staticmethod | classmethod):
            return (kind, self.key(thing.__func__, depth))
        if isinstance(thing, property):
            return (kind, *(self.key(part, depth) for part in (thing.fget, thing.fset)))
        if isinstance(thing, functools.cached_property):
            return (kind, self.key(thing.func, depth))
        if isinstance(thing, types.MethodDescriptorType | types.WrapperDescriptorType | types.ClassMethodDescriptorType):
            return Identity(thing)
        if isinstance(thing, types.BuiltinFunctionType | types.MethodWrapperType):
            return self._builtin(thing, depth)
        wrapped = getattr(thing, "__wrapped__", None)
        if wrapped is not None and callable(wrapped):
            # A jitted function: itself, and what it was made of.
            return (Identity(thing), self.key(wrapped, depth))
        attributes = self._attributes(thing, kind, depth)
        if attributes is None:
            top, _, rest = kind.__module__.partition(".")
            if top in sys.stdlib_module_names or "random" in rest or not _stable(top):
                raise _Unknown  # iterators, generators of random numbers: they have a state
            return Identity(thing)  # numpy.ufunc, torch.dtype: fixed
        return (kind if _stable(kind.__module__) else self.key(kind, depth), attributes)

    def _attributes(self, thing: Any, kind: type, depth: int) -> Hashable | None:
        attributes = getattr(thing, "__dict__", None)
        slots = _slots(kind)
        if attributes is None and not slots:
            return None
        # torch modules carry a dozen empty dictionaries of hooks each: their number stands for them.
        out: list[Hashable] = [len(attributes or ())]
        for name, value in (attributes or {}).items():
            sort = value.__class__
            if sort is bool or sort is int or value is None:
                out.append((name, sort, value))
            elif (sort is not OrderedDict and sort is not dict) or value:
                out.append((name, self.key(value, depth)))
        for name in slots:
            if hasattr(thing, name):
                out.append((name, self.key(getattr(thing, name), depth)))
        return tuple(out)

    def _builtin(self, thing: Any, depth: int) -> Hashable:
        bound = getattr(thing, "__self__", None)
        if bound is None or isinstance(bound, types.ModuleType | type):
            return Identity(thing)
        return ("bound", thing.__name__, self.key(bound, depth))

    def _function(self, function: types.FunctionType, depth: int) -> Hashable:
        fixed = _stable(function.__module__ or "")
        if fixed and function.__closure__ is None:
            return Identity(function)
        cells: list[Hashable] = []
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError as error:  # not yet assigned
                raise _Unknown from error
            cells.append(self.key(content, depth))
        parts = (function.__defaults__, function.__kwdefaults__, function.__dict__)
        key = (_code(function), tuple(cells), *(None if not part else self.key(part, depth) for part in parts))
        if fixed:
            return key
        outer = function.__globals__
        named = [(name, self.key(outer[name], depth)) for name in _names(function.__code__) if name in outer]
        return (key, tuple(named))

    def _class(self, kind: type, depth: int) -> Hashable:
        """Class attributes are data, methods may be replaced and read globals of their own."""
        if _stable(kind.__module__):
            return kind
        own = tuple(
            (name, self._member(value, depth)) for name, value in vars(kind).items() if name not in _BOOKKEEPING
        )
        return (kind, own, tuple(self.key(base, depth) for base in kind.__bases__))

    def _member(self, value: Any, depth: int) -> Hashable:
        described = types.MemberDescriptorType | types.GetSetDescriptorType | types.WrapperDescriptorType
        return Identity(value) if isinstance(value, described) else self.key(value, depth)


_BOOKKEEPING = frozenset(
    "__dict__ __weakref__ __doc__ __module__ __qualname__ __annotations__ __abstractmethods__ _abc_impl __dataclass_fields__ "
    "__dataclass_params__ __match_args__ __slots__ __parameters__ __orig_bases__ __firstlineno__ __static_attributes__".split()
)
_codes: dict[int, types.CodeType] = {}


def _code(function: types.FunctionType) -> int:
    """The identity of a function's code: hashing the code itself takes longest. Kept, to stay unique."""
    code = function.__code__
    _codes[id(code)] = code
    return id(code)


@functools.lru_cache(maxsize=4096)
def _stable(module: str) -> bool:
    return module.partition(".")[0] in _STABLE


@functools.lru_cache(maxsize=4096)
def _slots(kind: type) -> tuple[str, ...]:
    """Names of the slots of a class and its bases."""
    found: list[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found += (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Every global name the code and the functions inside it can read."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(dict.fromkeys(_names(constant)))
    return tuple(names)
