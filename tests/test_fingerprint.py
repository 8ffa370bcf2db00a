"""A stale capture is a silent wrong number: whatever a function depends on must show in its fingerprint."""

from __future__ import annotations

import functools
import math
import types

import numpy as np
import pytest

from opdsl.backends.fingerprint import Identity, fingerprint

SCALE = 1.0
TABLE = {"a": [1.0, 2.0]}


def leaf(thing):
    return Identity(thing) if isinstance(thing, np.ndarray) else None


def key(function):
    return fingerprint(function, leaf)


class Holder:
    factor = 2.0

    def __init__(self):
        self.weight, self.options = np.ones(2), {"bias": True}

    def __call__(self, x):
        return self.factor * SCALE * x @ self.weight


def reads_global(x):
    return SCALE * x


def reads_inside(x):
    return (lambda y: SCALE * y)(x)


def reads_table(x):
    return TABLE["a"][0] * x


def test_the_same_function_has_the_same_key():
    h = Holder()
    assert key(h) == key(h)
    assert hash(key(h)) == hash(key(h))
    assert key(reads_global) == key(reads_global)


@pytest.mark.parametrize("function", [reads_global, reads_inside, Holder()])
def test_a_global_that_changes_changes_the_key(function, monkeypatch):
    before = key(function)
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert before is not None
    assert key(function) != before


def test_an_entry_deep_in_a_global_container_changes_the_key():
    before = key(reads_table)
    TABLE["a"][0] += 1.0
    try:
        assert key(reads_table) != before
    finally:
        TABLE["a"][0] -= 1.0


def change_attribute(h):
    h.options["bias"] = False


def change_class_attribute(h):
    type(h).factor = 5.0


def replace_array(h):
    h.weight = h.weight.copy()


@pytest.mark.parametrize("change", [change_attribute, change_class_attribute, replace_array])
def test_anything_inside_an_object_changes_the_key(change):
    h = Holder()
    before = key(h)
    change(h)
    try:
        assert key(h) != before
    finally:
        Holder.factor = 2.0


def test_closure_cells_defaults_and_partials():
    def make(a):
        return lambda x, b=1.0: a * b * x

    assert key(make(1.0)) == key(make(1.0))
    assert key(make(1.0)) != key(make(2.0))
    assert key(make(1)) != key(make(1.0)), "1 and 1.0 give different dtypes"
    assert key(functools.partial(pow, 2)) != key(functools.partial(pow, 3))
    assert key(math.sin) != key(math.cos)


def test_what_cannot_be_told_is_never_reused():
    module = types.ModuleType("settings_of_the_user")
    module.scale = 1.0
    generator = (i for i in range(3))
    assert key(lambda x: module.scale * x) is None
    assert key(lambda x: next(generator) * x) is None


def test_cycles_end():
    a: list[object] = [1]
    a.append(a)
    assert key(lambda x: a[0] * x) is not None
