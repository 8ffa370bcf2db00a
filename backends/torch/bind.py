"""What `Operator.bind` returns on torch: an ordinary ``nn.Module`` that owns the networks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from opdsl.backends.compilers import as_it_stands
from opdsl.backends.step import Bound, Run
from opdsl.backends.torch.cache import structure_of, tensors_of
from opdsl.backends.torch.compile import joined
from opdsl.backends.torch.isolation import modules_of
from opdsl.backends.torch.tape import HALVES
from opdsl.errors import BackendError, OpdslError

_NEW_KIND = (
    "opdsl: points of a new dtype inside torch.compile, one point in place of several, or networks in another mode. Call the step "
    "once with such points outside of it first, so that it is prepared for them."
)
_F = TypeVar("_F", bound=Callable[..., Any])
_MOST = 64  # kinds of points that a step is prepared for inside torch.compile


@dataclass(frozen=True)
class _Ready:
    """An evaluation as `torch.compile` may repeat it: its program, where each of its constants comes from, and of what it is."""

    run: Run
    places: list[list[Any]]
    x: Tensor
    given: Mapping[str, Any]
    params: Any
    functions: Hashable | None

    def changed(self, since: _Ready) -> bool:
        """Whether the functions are others than they were, as far as can be told."""
        return self.functions is None or self.functions != since.functions

    def still(self, run: Run) -> bool:
        """Whether another evaluation is this one with other tensors in the same places."""
        return self.run.program is run.program and all(
            a is b
            for group, constants in zip(self.places, run.constants, strict=True)
            for a, b in zip(group, constants, strict=True)
            if isinstance(a, Tensor)
        )


class _Owner(nn.Module):  # type: ignore[misc]
    """A module that owns everything trainable in what is bound, and evaluates it.

    ``networks`` are the modules among the functions, and those that plain functions close over (``lambda x: x * net(x)``);
    ``bound`` holds the tensors that are bound by name, parameters as parameters and others as buffers that are no part of the
    state; ``closed_over`` the remaining parameters that functions close over. So `torch.func.functional_call`, optimisers,
    ``.to()``, ``state_dict``, DDP and `torch.compile` see an ordinary module.
    """

    def __init__(self, bound: Bound, first: Run) -> None:
        super().__init__()
        self._bound = bound
        self._draws = bound.draws
        modules = [m for function in bound.functions for m in modules_of(function)]
        self.networks = nn.ModuleList({id(m): m for m in modules}.values())
        self.bound = _Values({name: v for name, v in bound.values.items() if isinstance(v, Tensor)})
        owned = {id(t) for t in self.parameters()}
        constants = (c for group in first.constants for c in group)
        found = {id(c): c for c in constants if isinstance(c, nn.Parameter) and id(c) not in owned}
        self.closed_over = nn.ParameterList(found.values())
        self._originals = list(found.values())
        self._ready: dict[Any, _Ready] = {}
        self._any_size: dict[Any, _Ready | None] = {}
        self._quiet: tuple[Any, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        for function in self._bound.functions:
            if any(True for part in _plain(function) for _ in tensors_of(part) or self._originals):
                raise BackendError(
                    "a step of a plain function that closes over tensors cannot be copied or pickled: the copy would go on using "
                    "the tensors of the original. Write the function as an nn.Module that owns them."
                )
        return {**self.__dict__, "_ready": {}, "_any_size": {}, "_quiet": None}

    def _evaluated(self, x: Tensor, given: Mapping[str, Any], params: Any = None) -> Any:
        given = {**self.bound.values(), **given}
        if torch.compiler.is_compiling():
            if not self._draws:
                return self._repeated(x, given, params)
            # A step that draws has another program at every call. (Imported here: the module brings torch's compiler.)
            from opdsl.backends.torch.outside import outside

            return outside(self._decided, x, given, params)
        return self._decided(x, given, params)

    def _decided(self, x: Tensor, given: Mapping[str, Any], params: Any) -> Any:
        run = self._bound.run(x, given, params)
        self._remember(x, given, params, run)
        return run(self._current(run.constants))

    def _jacobian(self, x: Tensor, given: Mapping[str, Any], params: Any, form: str, value: bool) -> Any:
        given = {**self.bound.values(), **given}
        return self._bound.jacobian(x, given, params, form=form, value=value, current=self._current)

    def _current(self, constants: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
        """With the tensors that `functional_call` or ``load_state_dict(assign=True)`` put in the place of those closed over."""
        moved = {id(a): b for a, b in zip(self._originals, self.closed_over, strict=True) if a is not b}
        return [tuple(moved.get(id(c), c) for c in group) for group in constants] if moved else constants

    # ------------------------------------------------------------------------------------------ inside torch.compile

    def _kind(self, x: Tensor, params: Any) -> Any:
        """Whatever a program depends on, but for the number of points."""
        numbers = tuple(leaf for leaf in pytree.tree_leaves(params) if not isinstance(leaf, Tensor)) if params is not None else ()
        modes = tuple(m.training for m in self.networks.modules())
        return x.dim(), _fixed(x.shape[-1]), torch.float32 if x.dtype in HALVES else x.dtype, modes, numbers

    def _remember(self, x: Tensor, given: Mapping[str, Any], params: Any, run: Run) -> None:
        now = (run.program, x.shape, x.dtype, *(c for c in run.constants), *given.keys(), *given.values())
        if params is None and self._quiet is not None and len(now) == len(self._quiet) and all(
            a is b or (isinstance(a, torch.Size | str) and a == b) for a, b in zip(now, self._quiet, strict=True)
        ):
            return  # the very captures of the last evaluation: functions, and with them modes, are as they were
        kind = self._kind(x, params)
        known = self._ready.get((kind, len(x)))
        if known is not None and known.still(run):
            self._quiet = now
            return
        made = self._placed(x, given, params, run)
        # Of functions that have changed since, nothing is kept.
        for key in [key for key, ready in self._ready.items() if key[0] == kind and made.changed(ready)]:
            del self._ready[key]
        served = self._any_size.get(kind)
        if known is not None or (served is not None and made.changed(served)):
            self._any_size.pop(kind, None)
        self._keep(kind, made)

    def _keep(self, kind: Any, ready: _Ready) -> None:
        self._ready[kind, len(ready.x)] = ready
        self._quiet = None
        while len(self._ready) > _MOST:
            self._ready.pop(next(iter(self._ready)))

    def _placed(self, x: Tensor, given: Mapping[str, Any], params: Any, run: Run) -> _Ready:
        leaves = {id(t) for t in pytree.tree_leaves(params)} if params is not None else ()
        owner: dict[int, Any] = {}
        for path, tensor in [*self.named_parameters(remove_duplicate=False), *self.named_buffers()]:
            owner.setdefault(id(tensor), tuple(path.split(".")))
        for number, tensor in enumerate(self._originals):
            owner.setdefault(id(tensor), ("closed_over", str(number)))
        if leaves:
            tensors = (t for t in pytree.tree_leaves(params) if isinstance(t, Tensor))
            owner.update((id(t), number) for number, t in enumerate(tensors))
        places = [[owner.get(id(c), c) for c in group] for group in run.constants]
        return _Ready(run, places, x.detach(), dict(given), params, structure_of(self._bound.functions))

    def _prepare(self, kind: Any) -> None:
        """Find the program for any number of points like those that the step was last called with."""
        known = [ready for (other, _), ready in self._ready.items() if other == kind]
        if kind in self._any_size or not known:
            return
        self._any_size[kind] = None
        last = known[-1]
        n = max(len(last.x), 2)  # a single row is like an axis of length 1
        one, more = (self._at(last, rows) for rows in (n, n + 1))
        if one is None or more is None or one.functions is None or not (one.run.follows_size and more.run.follows_size):
            return
        program = joined(one.run.compiled, more.run.compiled, (n, n + 1), sum(len(group) for group in one.places))
        if program is not None and _same_places(one.places, more.places):
            self._any_size[kind] = replace(one, run=one.run.served_by(program))

    def _prepare_for(self, kind: Any, rows: int) -> None:
        """Find the program for so many points like those that the step was last called with."""
        known = [ready for (other, _), ready in self._ready.items() if other == kind]
        if known and (kind, rows) not in self._ready and (made := self._at(known[-1], rows)) is not None:
            self._keep(kind, made)

    def _at(self, like: _Ready, rows: int) -> _Ready | None:
        """An evaluation at so many points, those of another one again and again; None where it cannot be one."""
        if like.x.dim() != 2 or not len(like.x):
            return None
        x = like.x if rows == len(like.x) else like.x[torch.arange(rows, device=like.x.device) % len(like.x)]
        try:
            return self._placed(x, like.given, like.params, self._bound.run(x, like.given, like.params))
        except OpdslError:
            return None  # something given has one value for each point

    def _repeated(self, x: Tensor, given: Mapping[str, Any], params: Any) -> Any:
        kind = self._kind(x, params)
        ready = None
        if torch.compiler.is_dynamo_compiling() and x.dim() == 2:
            _prepare(self, kind)
            if x.shape[0] > 1:
                ready = self._any_size.get(kind)
            if ready is None:
                _prepare_for(self, kind, _fixed(x.shape[0]))
        if ready is None:
            ready = self._ready.get((kind, x.shape[0]))
        if ready is None:
            # Dynamo can raise nothing but built-in exceptions with a plain text.
            raise RuntimeError(_NEW_KIND)
        leaves = [leaf for leaf in pytree.tree_leaves(params) if isinstance(leaf, Tensor)] if params is not None else []
        constants = [tuple(self._fetched(p, leaves) for p in group) for group in ready.places]
        return ready.run.repeated(x, given, constants)

    def _fetched(self, place: Any, leaves: Sequence[Tensor]) -> Tensor:
        if isinstance(place, int):
            return leaves[place]
        if not isinstance(place, tuple):
            return place  # type: ignore[no-any-return]
        found: Any = self
        for name in place:
            found = getattr(found, name)
        return found  # type: ignore[no-any-return]


# Carried out while `torch.compile` follows the step, before it looks at what is ready.


def _constant(function: _F) -> _F:
    """What `torch.compiler.assume_constant_result` says, without importing the compiler where nobody compiles."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant
def _prepare(owner: _Owner, kind: Any) -> bool:
    owner._prepare(kind)
    return True


@_constant
def _prepare_for(owner: _Owner, kind: Any, rows: int) -> bool:
    owner._prepare_for(kind, rows)
    return True


def _fixed(size: int) -> int:
    """A size as the number it is, where it may be a symbol of `torch.compile`: a range has no symbolic length there."""
    return len(range(size))


def _same_places(one: list[list[Any]], more: list[list[Any]]) -> bool:
    """Whether every constant comes from the same place."""
    return [len(g) for g in one] == [len(g) for g in more] and all(
        a is b if isinstance(a, Tensor) or isinstance(b, Tensor) else a == b
        for g, h in zip(one, more, strict=True)
        for a, b in zip(g, h, strict=True)
    )


class Step(_Owner):
    """``step(x, **given)``: what the call would give that it was bound from, at other points; see `Operator.bind`."""

    def __init__(self, bound: Bound, first: Run, x: Tensor) -> None:
        super().__init__(bound, first)
        self._remember(x, self.bound.values(), None, first)

    def forward(self, x: Tensor, **given: Any) -> Any:
        """Evaluate at points x, with parameters of the text given again by name."""
        return self._evaluated(x, given)

    @as_it_stands
    def jacobian(self, x: Tensor, /, *, form: str = "flat", value: bool = False, **given: Any) -> Any:
        """The derivatives of the residuals in the parameters, at points x; see `Operator.jacobian`."""
        return self._jacobian(x, given, None, form, value)


class StepWithParameters(_Owner):
    """``step(params, x, **given)``: the networks are functions of a nest of tensors given at each call."""

    def __init__(self, bound: Bound, first: Run, x: Tensor) -> None:
        super().__init__(bound, first)
        self._remember(x, self.bound.values(), bound.params, first)

    def forward(self, params: Any, x: Tensor, **given: Any) -> Any:
        """Evaluate at points x with these parameters."""
        return self._evaluated(x, given, params)

    @as_it_stands
    def jacobian(self, params: Any, x: Tensor, /, *, form: str = "flat", value: bool = False, **given: Any) -> Any:
        """The derivatives of the residuals in these parameters, at points x; see `Operator.jacobian`."""
        return self._jacobian(x, given, params, form, value)


class _Values(nn.Module):  # type: ignore[misc]
    """Tensors by the names they are bound under."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._places: dict[str, str] = {}
        for name, tensor in tensors.items():
            # A parameter of the text may be called like a method of modules: type, half, forward.
            self._places[name] = place = f"{name}_" if hasattr(self, name) else name
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(place, tensor)
            else:
                self.register_buffer(place, tensor, persistent=False)

    def values(self) -> dict[str, Tensor]:
        """The tensors as they are now."""
        return {name: getattr(self, place) for name, place in self._places.items()}


def _plain(function: Any) -> Iterator[FunctionType]:
    """The plain functions in what is called: copying leaves these as they are."""
    if isinstance(function, partial):
        for part in (function.func, *function.args, *function.keywords.values()):
            yield from _plain(part)
    elif isinstance(function, FunctionType):
        yield function
