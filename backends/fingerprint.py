"""A key of everything a user's function can depend on, so that its captured graph may be reused.

A stale capture is a silent wrong number. So the key holds the code, closure cells, defaults and the globals the code names, the
attributes of objects and those methods of their classes that the code can reach, all recursively; numbers by value, arrays as the
backend says, containers and objects by their contents. Whatever cannot be told (the time, random numbers, the environment, files,
modules of the user, objects with a hidden state) gives None, and the function is captured at every call.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from opdsl.backends.code import facts, outside, outside_of, stable
from opdsl.backends.guards import Guards
from opdsl.backends.identity import Identity

_PLAIN = frozenset({bool, int, float, complex, str, bytes, type(None), type(Ellipsis), range})
_MOST = 4000
_DEEP = 60
_SMALL = 1024  # bytes up to which an array stands for itself

Leaf = Callable[[Any], Hashable | None]


class _Unknown(Exception):
    """The function depends on something that cannot be told apart."""


def fingerprint(function: Any, leaf: Leaf, guards: Guards | None = None) -> Hashable | None:
    """The key of a function.

    Args:
        function: a function, method, partial, or an object with ``__call__``.
        leaf: for a framework's arrays and the like their key; None for anything else. It may raise `LookupError` for objects that
            must never be reused (tracers).
        guards: where to write down the places that are read; while these hold what they held, the key is the same.

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
        walk = _Walk(leaf, guards)
        key = (walk.key(function, 0), walk.methods())
        hash(key)
    except (_Unknown, LookupError, RecursionError, TypeError):
        return None
    return key


def content(array: Any) -> Hashable:
    """What a NumPy array is and holds now: it may be edited in place, and what a function makes of it once is kept.

    Raises:
        LookupError: objects.
    """
    import numpy as np

    host = np.asarray(array)
    if host.dtype.hasobject:
        raise LookupError
    held = host.tobytes() if host.nbytes <= _SMALL else hashlib.blake2b(np.ascontiguousarray(host).data).digest()
    return Identity(array), host.shape, host.dtype.str, held


class _Walk:
    """One traversal. ``seen`` ends cycles and tells one list under two names from two equal lists."""

    def __init__(self, leaf: Leaf, guards: Guards | None) -> None:
        self._leaf, self._guards = leaf, guards
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []
        # Every name that the code, or a text beside it, mentions; and methods that nothing has mentioned yet.
        self._mentioned: set[str] = set()
        self._waiting: list[tuple[type, str, Any]] = []

    def key(self, thing: Any, depth: int) -> Hashable:
        """What identifies ``thing``."""
        kind = thing.__class__
        if kind in _PLAIN:
            if kind is str:
                self._mentioned.add(thing)
            # 1, 1.0 and True are equal but not the same to a program; neither are 0.0 and −0.0.
            return (kind, repr(thing)) if kind is float and thing == 0.0 else (kind, thing)
        if kind not in _OUR_OWN:
            found = self._leaf(thing)
            if found is not None:
                if self._guards is not None:
                    self._guards.array(thing)
                return found
        number = self._seen.get(id(thing))
        if number is not None:
            return ("seen", number)
        if depth > _DEEP or len(self._seen) > _MOST:
            raise _Unknown
        self._seen[id(thing)] = len(self._seen)
        # Attributes may be made on the fly; while they are kept, their addresses stay theirs.
        self._kept.append(thing)
        return getattr(self, _sort(kind))(thing, depth + 1)  # type: ignore[no-any-return]

    # ----------------------------------------------------------------------------------------- numbers and containers

    def _mapping(self, thing: Any, depth: int) -> Hashable:
        if self._guards is not None:
            self._guards.mapping(thing) if _plainly(thing, dict, "items", "keys", "values") else self._guards.refuse()
        return self._with(thing, depth, tuple([(self.key(k, depth), self.key(v, depth)) for k, v in thing.items()]))

    def _sequence(self, thing: Any, depth: int) -> Hashable:
        if self._guards is not None:
            if not _plainly(thing, list, "__iter__") and not _plainly(thing, tuple, "__iter__"):
                self._guards.refuse()
            elif isinstance(thing, list):
                self._guards.view(thing)
        return self._with(thing, depth, tuple([self.key(v, depth) for v in thing]))

    def _set(self, thing: Any, depth: int) -> Hashable:
        if not all(type(v) in _PLAIN for v in thing):
            raise _Unknown
        if self._guards is not None and not isinstance(thing, frozenset):
            self._guards.view(thing) if _plainly(thing, set, "__iter__") else self._guards.refuse()
        return self._with(thing, depth, frozenset([(type(v), v) for v in thing]))

    def _slice(self, thing: Any, depth: int) -> Hashable:
        return (slice, self.key((thing.start, thing.stop, thing.step), depth))

    def _number(self, thing: Any, depth: int) -> Hashable:
        base: Any = next(b for b in _NUMBERS if isinstance(thing, b))
        return self._with(thing, depth, self.key(base(thing), depth))

    def _with(self, thing: Any, depth: int, held: Hashable) -> Hashable:
        """What it holds, and what it is besides where its class is none of Python's."""
        kind = thing.__class__
        return (kind, held) if kind in _OUR_OWN else (self._kind(kind, depth), held, self._attributes(thing, kind, depth))

    # ------------------------------------------------------------------------------------------ classes and objects

    def _kind(self, kind: type, depth: int) -> Hashable:
        """The class of an object, which exists already: how it is made does not matter."""
        if stable(kind.__module__):
            return kind
        number = self._seen.get(id(kind))
        if number is not None:
            return ("seen", number)
        self._seen[id(kind)] = len(self._seen)
        self._kept.append(kind)
        return self._class(kind, depth + 1)

    def methods(self) -> Hashable:
        """The methods that what has been seen can reach; to be asked for last."""
        out: list[Hashable] = []
        while self._waiting:
            everything = not self._mentioned.isdisjoint(_DYNAMIC)
            reached: list[tuple[type, str, Any]] = []
            later: list[tuple[type, str, Any]] = []
            for method in self._waiting:
                kind, name, _ = method
                (reached if everything or name in self._mentioned or implicit(kind, name) else later).append(method)
            self._waiting = later
            if not reached:
                break
            out += [(kind.__qualname__, name, self._member(value, 0)) for kind, name, value in reached]
        return tuple(out)

    def _told(self, thing: Any, depth: int) -> Hashable:
        found: Hashable = thing.__opdsl_fingerprint__()
        if self._guards is not None:
            self._guards.told(_ask, thing, found)
        return found

    def _partial(self, thing: Any, depth: int) -> Hashable:
        self._watch(thing, "func", "args", "keywords")
        return ("partial", *(self.key(part, depth) for part in (thing.func, thing.args, thing.keywords)))

    def _module(self, thing: Any, depth: int) -> Hashable:
        if not stable(thing.__name__) or outside(thing.__name__):
            raise _Unknown
        return Identity(thing)

    def _type(self, thing: Any, depth: int) -> Hashable:
        self._mentioned |= _MAKING
        return self._class(thing, depth)

    def _method(self, thing: Any, depth: int) -> Hashable:
        return ("method", self.key(thing.__func__, depth), self.key(thing.__self__, depth))

    def _wrapper(self, thing: Any, depth: int) -> Hashable:
        return (thing.__class__, self.key(thing.__func__, depth))

    def _property(self, thing: Any, depth: int) -> Hashable:
        return (thing.__class__, *(self.key(part, depth) for part in (thing.fget, thing.fset)))

    def _cached(self, thing: Any, depth: int) -> Hashable:
        self._watch(thing, "func")
        return (thing.__class__, self.key(thing.func, depth))

    def _fixed(self, thing: Any, depth: int) -> Hashable:
        return Identity(thing)

    def _object(self, thing: Any, depth: int) -> Hashable:
        kind = thing.__class__
        own = getattr(thing, "__dict__", None)
        # Asking every object would run the `__getattr__` of torch modules.
        if own is None or "__wrapped__" in own or hasattr(kind, "__wrapped__"):
            wrapped = getattr(thing, "__wrapped__", None)
            if wrapped is not None and callable(wrapped):
                self._watch(thing, "__class__", "__wrapped__")
                # A jitted function: itself, and what it was made of.
                return (Identity(thing), self.key(wrapped, depth))
        attributes = self._attributes(thing, kind, depth)
        fixed, hidden = _nature(kind)
        if attributes is None:
            # Iterators, generators of random numbers have a state; numpy.ufunc, torch.dtype are fixed.
            if not fixed or kind.__module__ == "builtins":
                raise _Unknown
            return Identity(thing)
        if hidden and not fixed:
            raise _Unknown
        return (self._kind(kind, depth), attributes)

    def _attributes(self, thing: Any, kind: type, depth: int) -> Hashable | None:
        attributes = getattr(thing, "__dict__", None)
        slots = _slots(kind)
        if attributes is None and not slots:
            return None
        if self._guards is not None:
            self._guards.attribute(thing, "__class__", "__dict__", *slots)
            self._guards.mapping(attributes or {})
        # torch modules carry a dozen empty dictionaries of hooks each: their number stands for them.
        out: list[Hashable] = [len(attributes or ())]
        for name, value in (attributes or {}).items():
            sort = value.__class__
            if sort is bool or sort is int or value is None:
                out.append((name, sort, value))
            elif (sort is not OrderedDict and sort is not dict) or value:
                out.append((name, self.key(value, depth)))
            elif self._guards is not None:
                self._guards.mapping(value)
        for name in slots:
            if hasattr(thing, name):
                out.append((name, self.key(getattr(thing, name), depth)))
        return tuple(out)

    def _builtin(self, thing: Any, depth: int) -> Hashable:
        bound = getattr(thing, "__self__", None)
        if bound is None or isinstance(bound, types.ModuleType | type):
            if outside(getattr(bound, "__name__", "") if isinstance(bound, types.ModuleType) else thing.__module__ or ""):
                raise _Unknown
            if isinstance(bound, type) and outside_of(bound):
                raise _Unknown
            return Identity(thing)
        return ("bound", thing.__name__, self.key(bound, depth))

    def _function(self, function: types.FunctionType, depth: int) -> Hashable:
        fixed = stable(function.__module__ or "")
        if fixed and outside(function.__module__ or ""):
            raise _Unknown
        if fixed and function.__closure__ is None:
            return Identity(function)
        cells: list[Hashable] = []
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError as error:  # not yet assigned
                raise _Unknown from error
            if self._guards is not None:
                self._guards.cell(cell)
            cells.append(self.key(content, depth))
        self._watch(function, "__code__", "__defaults__", "__kwdefaults__", "__closure__", "__dict__")
        parts = (function.__defaults__, function.__kwdefaults__, function.__dict__)
        if self._guards is not None and not function.__dict__:
            self._guards.mapping(function.__dict__)
        code = facts(function.__code__)
        key = (code.identity, tuple(cells), *(None if not part else self.key(part, depth) for part in parts))
        if fixed:
            return key
        if code.outside:
            raise _Unknown
        self._mentioned |= code.mentioned
        outer, named = function.__globals__, []
        for name in code.globals:
            if self._guards is not None:
                self._guards.name(outer, name)
            if name in outer:
                value = outer[name]
                if isinstance(value, types.ModuleType) and code.reaches_outside(value):
                    raise _Unknown
                named.append((name, self.key(value, depth)))
            elif name in _BUILTINS_OUTSIDE:
                raise _Unknown
        return (key, tuple(named))

    def _class(self, kind: type, depth: int) -> Hashable:
        """Class attributes are data, methods may be replaced and read globals of their own."""
        if stable(kind.__module__):
            if outside_of(kind):
                raise _Unknown
            return kind
        own = []
        if self._guards is not None:
            self._guards.mapping(vars(kind))
            self._guards.attribute(kind, "__bases__")
        for name, value in vars(kind).items():
            if name in _BOOKKEEPING:
                continue
            if isinstance(value, _METHODS):
                self._waiting.append((kind, name, value))
            else:
                own.append((name, self._member(value, depth)))
        return (kind, tuple(own), tuple(self._kind(base, depth) for base in kind.__bases__))

    def _watch(self, thing: Any, *names: str) -> None:
        if self._guards is not None:
            self._guards.attribute(thing, *names)

    def _member(self, value: Any, depth: int) -> Hashable:
        described = types.MemberDescriptorType | types.GetSetDescriptorType | types.WrapperDescriptorType
        return Identity(value) if isinstance(value, described) else self.key(value, depth)


def _plainly(thing: Any, base: type, *methods: str) -> bool:
    """Whether something is such a container, and tells what it holds as these do."""
    return isinstance(thing, base) and all(
        getattr(type(thing), name) is getattr(own, name) for own in (_BASES.get(type(thing), base),) for name in methods
    )


def _ask(thing: Any) -> Hashable:
    return thing.__opdsl_fingerprint__()  # type: ignore[no-any-return]


_BASES: dict[type, type] = {OrderedDict: OrderedDict}
_OUR_OWN = frozenset({dict, OrderedDict, tuple, list, set, frozenset, slice, types.FunctionType, types.MethodType})
_NUMBERS = (int, float, complex, str, bytes)
_SORTS: tuple[tuple[Any, str], ...] = (
    (dict, "_mapping"), ((tuple, list), "_sequence"), ((set, frozenset), "_set"), (slice, "_slice"), (_NUMBERS, "_number"),
    (types.FunctionType, "_function"), (types.MethodType, "_method"), (functools.partial, "_partial"),
    (types.ModuleType, "_module"), (type, "_type"), ((staticmethod, classmethod), "_wrapper"), (property, "_property"),
    (functools.cached_property, "_cached"),
    ((types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType), "_fixed"),
    ((types.BuiltinFunctionType, types.MethodWrapperType), "_builtin"),
)  # fmt: skip
_METHODS = (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)
# With one of these, code reaches methods under names that it does not mention.
_DYNAMIC = frozenset({"getattr", "attrgetter", "methodcaller", "__getattribute__", "__dict__", "vars", "getmembers"})
_BUILTINS_OUTSIDE = frozenset({"globals", "locals", "eval", "exec", "open", "input", "__import__"})
# Methods that run where an object is made, and those that only show, compare or copy it.
_MAKING = frozenset({"__init__", "__new__", "__post_init__"})
_ASIDE = _MAKING | frozenset(
    "__init_subclass__ __repr__ __str__ __del__ __reduce__ __reduce_ex__ __getstate__ __setstate__ __copy__ __deepcopy__ "
    "__eq__ __hash__ __dir__ __doc__ __sizeof__ __format__ __class_getitem__ __set_name__".split()
)
_BOOKKEEPING = frozenset(
    "__dict__ __weakref__ __doc__ __module__ __qualname__ __annotations__ __abstractmethods__ _abc_impl __dataclass_fields__ "
    "__dataclass_params__ __match_args__ __slots__ __parameters__ __orig_bases__ __firstlineno__ __static_attributes__".split()
)


@functools.lru_cache(maxsize=4096)
def _sort(kind: type) -> str:
    """Which part of the walk tells what identifies things of a class."""
    if hasattr(kind, "__opdsl_fingerprint__"):
        return "_told"
    return next((name for bases, name in _SORTS if issubclass(kind, bases)), "_object")


@functools.lru_cache(maxsize=4096)
def _nature(kind: type) -> tuple[bool, bool]:
    """Whether things of a class never change, and whether they hold more than they show."""
    return stable(kind.__module__) and not outside(kind.__module__), hides(kind)


@functools.lru_cache(maxsize=4096)
def implicit(kind: type, name: str) -> bool:
    """Whether a method runs without being mentioned: Python or a library above calls it."""
    if name in _ASIDE:
        return False
    if name.startswith("__") and name.endswith("__"):
        return True
    return any(stable(base.__module__) and hasattr(base, name) for base in kind.__mro__[1:])


@functools.lru_cache(maxsize=4096)
def hides(kind: type) -> bool:
    """Whether instances hold more than attributes: a state that Python does not show."""
    places = [f"p{k}" for k in range(len(_slots(kind)))]
    places += [name for name, offset in (("__dict__", kind.__dictoffset__), ("__weakref__", kind.__weakrefoffset__)) if offset]
    plain = type("Plain", (), {"__slots__": tuple(places)})
    return kind.__basicsize__ > plain.__basicsize__


@functools.lru_cache(maxsize=4096)
def _slots(kind: type) -> tuple[str, ...]:
    """Names of the slots of a class and its bases."""
    found: list[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        found += (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))
