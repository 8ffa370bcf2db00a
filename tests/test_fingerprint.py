"""A stale capture is a silent wrong number: whatever a function depends on must show in its fingerprint."""

from __future__ import annotations

import functools
import math
import os
import random
import time
import types
from datetime import datetime
from os import environ
from random import uniform
from time import time as clock

import numpy as np
import pytest

from opdsl.backends.fingerprint import content, fingerprint
from opdsl.backends.identity import Identity

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


class Counted(float):
    """A number of one's own class."""


class Table(dict):
    """A dictionary with an attribute."""


def test_numbers_and_containers_of_ones_own_class_count_by_their_contents():
    def make(value):
        return lambda x: value * x

    assert key(make(Counted(1.0))) == key(make(Counted(1.0)))
    assert key(make(Counted(1.0))) != key(make(Counted(2.0)))
    first, second = Table(a=1.0), Table(a=1.0)
    assert key(make(first)) == key(make(second))
    second.scale = 2.0
    assert key(make(first)) != key(make(second))


def imports_inside(x):
    import random

    return random.random() * x


def imports_numbers_inside(x):
    from numpy.random import normal

    return normal() * x  # noqa: NPY002


GENERATOR, HIDDEN = np.random.default_rng(0), random.Random(0)
OUTSIDE = {
    "random.random": lambda x: random.random() * x,
    "a method of random": lambda x: uniform(0.0, 1.0) * x,
    "time.time": lambda x: time.time() * x,
    "time": lambda x: clock() * x,
    "os.environ": lambda x: float(os.environ.get("SCALE", "1")) * x,
    "environ": lambda x: float(environ.get("SCALE", "1")) * x if environ else x,
    "getenv": lambda x: float(os.getenv("SCALE", "1")) * x,
    "datetime": lambda x: datetime.now().second * x,
    "np.random": lambda x: np.random.normal() * x,  # noqa: NPY002
    "a generator": lambda x: GENERATOR.normal() * x,
    "a state that does not show": lambda x: HIDDEN.random() * x,
    "globals()": lambda x: globals()["SCALE"] * x,
    "eval": lambda x: eval("SCALE") * x,
    "a file": lambda x: float(*open("scale")) * x,  # noqa: SIM115
    "an import inside": imports_inside,
    "another import inside": imports_numbers_inside,
}


@pytest.mark.parametrize("name", sorted(set(OUTSIDE) - {"environ"}))
def test_what_reads_the_world_outside_is_never_reused(name):
    assert key(OUTSIDE[name]) is None


def test_the_environment_counts_by_its_contents(monkeypatch):
    before = key(OUTSIDE["environ"])
    monkeypatch.setenv("SCALE", "3")
    assert before is None or key(OUTSIDE["environ"]) != before


class Trained:
    """A class with methods that no evaluation reaches."""

    def __init__(self):
        self.started = time.time()
        self.weight = np.ones(2)

    def __call__(self, x):
        return self.inner(x)

    def inner(self, x):
        return x @ self.weight

    def fit(self):
        return time.time() - self.started, np.random.normal()  # noqa: NPY002


class Wandering(Trained):
    def inner(self, x):
        return x @ self.weight * self.drift()

    def drift(self):
        return random.random()


def test_only_methods_that_are_reached_count():
    found = Trained()
    before = key(found)
    assert before is not None
    fit, inner = Trained.fit, Trained.inner
    try:
        Trained.fit = lambda self: None
        assert key(found) == before
        Trained.inner = lambda self, x: x
        assert key(found) != before
    finally:
        Trained.fit, Trained.inner = fit, inner
    assert key(Wandering()) is None


def test_arrays_count_by_their_contents():
    small, large = np.ones(3), np.ones(10000)
    for array in (small, large):
        before = content(array)
        assert content(array) == before
        array[-1] = 2.0
        assert content(array) != before
        array[-1] = 1.0
        assert content(array) == before
        assert content(array.copy()) != before, "another array may be edited without this one"
    with pytest.raises(LookupError):
        content(np.array([object()]))
