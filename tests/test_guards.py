"""Guards hold only where a fresh walk finds the same; the walk itself is the reference."""

from __future__ import annotations

import functools
import gc
import types
from collections import OrderedDict, UserDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pytest

from opdsl.backends.fingerprint import content, fingerprint
from opdsl.backends.guards import _TIMES, Followed, Guards

scale = 2.0
table = {"a": [1, 2], "b": {"c": 3.0}}


def leaf(thing: Any) -> Hashable | None:
    return content(thing) if isinstance(thing, np.ndarray) else None


def facts(thing: Any) -> Hashable | None:
    return content(thing)


def walked(function: Any) -> tuple[Hashable | None, Guards]:
    guards = Guards(facts, function)
    return fingerprint(function, leaf, guards), guards


class Layer:
    kind = "dense"

    def __init__(self) -> None:
        self.weight, self.hooks, self.options = np.ones(3), {}, OrderedDict(bias=True)
        self.names, self.level, self.rest = ["x"], 7, {1, 2}

    def __call__(self, x: Any) -> Any:
        return self.weight.sum() * x * scale

    def helper(self, x: Any) -> Any:
        return x


class Slotted:
    __slots__ = ("inner", "missing")

    def __init__(self) -> None:
        self.inner = Layer()

    def __call__(self, x: Any) -> Any:
        return self.inner(x)


class Other(Layer):
    pass


class Numbers(list):  # type: ignore[type-arg]
    pass


class Counting(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        return super().items()


def closure() -> tuple[Callable[[Any], Any], Callable[[Any], None]]:
    factor = 1.0

    def function(x: Any, power: int = 2, *, shift: float = 0.0) -> Any:
        return factor * x**power + shift + table["a"][0]

    def change(value: Any) -> None:
        nonlocal factor
        factor = value

    return function, change


def _set(place: Any, key: Any, value: Any) -> None:
    place[key] = value


LAYER: dict[str, Callable[[Any], Any]] = {
    "an attribute": lambda f: setattr(f, "level", 8),
    "an attribute of another kind": lambda f: setattr(f, "level", 7.0),
    "a new attribute": lambda f: setattr(f, "more", 1),
    "an attribute less": lambda f: delattr(f, "level"),
    "all attributes": lambda f: setattr(f, "__dict__", {**vars(f), "level": 9}),
    "its class": lambda f: setattr(f, "__class__", Other),
    "an array in place": lambda f: _set(f.weight, 0, 5.0),
    "an array for another": lambda f: setattr(f, "weight", np.ones(3) * 3),
    "the first entry of an empty dictionary": lambda f: _set(f.hooks, 1, 2),
    "an entry of a dictionary": lambda f: _set(f.options, "bias", False),
    "the order of a dictionary": lambda f: (_set(f.options, "last", 1), f.options.move_to_end("bias")),
    "a list": lambda f: f.names.append("y"),
    "an entry of a list": lambda f: _set(f.names, 0, "z"),
    "a set": lambda f: f.rest.add(3),
}


@pytest.mark.parametrize("name", LAYER)
@pytest.mark.parametrize("made", [Layer, Slotted, functools.partial(functools.partial, Layer())], ids=["object", "slots", "partial"])
def test_changes_in_objects(name: str, made: Callable[[], Any]) -> None:
    function = made()
    inner = getattr(function, "inner", None) or getattr(function, "func", function)
    inner.__dict__.clear()
    inner.__class__ = Layer
    inner.__init__()
    before, guards = walked(function)
    assert before is not None
    assert guards.hold(function)
    LAYER[name](inner)
    assert fingerprint(function, leaf) != before
    assert not guards.hold(function)
    after, guards = walked(function)
    assert after == fingerprint(function, leaf)
    assert guards.hold(function)


def test_changes_around_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    function, change = closure()
    changes: list[Callable[[], Any]] = [
        lambda: change(2.0),
        lambda: change([1.0]),
        lambda: setattr(function, "__defaults__", (3,)),
        lambda: function.__kwdefaults__.update(shift=1.0),
        lambda: setattr(function, "note", 1),
        lambda: table["a"].append(3),
        lambda: _set(table["b"], "c", 4.0),
        lambda: monkeypatch.setitem(function.__globals__, "table", {"a": [1]}),
        lambda: monkeypatch.delitem(function.__globals__, "table"),
        lambda: setattr(function, "__code__", closure()[0].__code__.replace(co_consts=(None, 5))),
    ]
    for number, edit in enumerate(changes):
        before, guards = walked(function)
        assert guards.hold(function), number
        edit()
        assert fingerprint(function, leaf) != before, number
        assert not guards.hold(function), number


def test_changes_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    function = Layer()
    for edit in (
        lambda: monkeypatch.setattr(Layer, "kind", "sparse"),
        lambda: monkeypatch.setattr(Layer, "__call__", lambda self, x: x),
        lambda: monkeypatch.setattr(Layer, "more", 1, raising=False),
        lambda: monkeypatch.setitem(globals(), "scale", 3.0),
    ):
        before, guards = walked(function)
        assert guards.hold(function)
        edit()
        changed = fingerprint(function, leaf) != before
        assert not guards.hold(function) or not changed
    monkeypatch.undo()


def test_an_equal_object_in_the_place_of_another_sends_one_to_the_walk() -> None:
    function = Layer()
    function.names = ["x"]
    before, guards = walked(function)
    function.names = ["x"]
    assert not guards.hold(function)
    assert fingerprint(function, leaf) == before


@pytest.mark.parametrize("held", [Numbers([1]), OrderedDict(a=1), {1}, (1, [2])], ids=lambda v: type(v).__name__)
def test_containers_of_other_classes(held: Any) -> None:
    function = Layer()
    function.names = held
    _, guards = walked(function)
    assert guards.hold(function)


@pytest.mark.parametrize("held", [Counting(a=1)], ids=lambda v: type(v).__name__)
def test_containers_that_tell_their_contents_in_a_way_of_their_own_are_never_taken_for_unchanged(held: Any) -> None:
    function = Layer()
    function.names = held
    found, guards = walked(function)
    assert found is not None
    assert not guards.hold(function)


def test_what_an_object_says_of_itself_is_asked_again() -> None:
    class Told:
        value = 1

        def __opdsl_fingerprint__(self) -> Hashable:
            return self.value

    function, told = Layer(), Told()
    function.names = told  # type: ignore[assignment]
    _, guards = walked(function)
    assert guards.hold(function)
    told.value = 2
    assert not guards.hold(function)


def test_user_dicts_by_what_they_hold() -> None:
    function = Layer()
    function.names = UserDict(a=1)  # type: ignore[assignment]
    before, guards = walked(function)
    function.names["a"] = 2  # type: ignore[call-overload]
    assert (fingerprint(function, leaf) == before) == guards.hold(function)


# ------------------------------------------------------------------------------------------------------------- followed


class Counter:
    def __init__(self) -> None:
        self.walks = self.guarded = 0

    def __call__(self, function: Any, guards: Guards | None) -> Hashable | None:
        self.walks += 1
        self.guarded += guards is not None
        return fingerprint(function, leaf, guards)


def test_a_function_is_walked_over_twice_and_then_followed() -> None:
    count = Counter()
    followed: Followed[Hashable] = Followed(4, count, facts)
    function = Layer()
    first = followed.known(function).found
    for _ in range(5):
        entry = followed.known(function)
        assert entry.found == first
        entry.made["x"] = 1
    assert (count.walks, count.guarded) == (2, 1)
    function.level = 8
    assert followed.known(function).found != first
    assert not followed.known(function).made
    assert count.walks == 3


def test_what_changes_at_every_call_is_not_guarded_for_ever() -> None:
    count = Counter()
    followed: Followed[Hashable] = Followed(4, count, facts)
    function = Layer()
    found = set()
    for level in range(3 * _TIMES):
        function.level = level
        found.add(followed.known(function).found)
    assert len(found) == count.walks == 3 * _TIMES
    assert count.guarded < _TIMES


def test_functions_are_not_kept_alive() -> None:
    followed: Followed[Hashable] = Followed(4, Counter(), facts)
    function = Layer()
    kept = types.SimpleNamespace(array=function.weight)
    for _ in range(3):
        followed.known(function)
    references = len(gc.get_referrers(kept.array))
    del function
    gc.collect()
    assert len(followed._known) == 0
    assert len(gc.get_referrers(kept.array)) < references


def test_methods_and_functions_at_an_address_used_before_are_walked_over() -> None:
    count = Counter()
    followed: Followed[Hashable] = Followed(4, count, facts)
    layer = Layer()
    for _ in range(3):
        followed.known(layer.helper)
    assert count.walks == 3
