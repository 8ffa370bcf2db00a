"""Training with JAX: optax optimisers, one compiled function per step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from opdsl.training.formulas import constraint_functions
from opdsl.training.network import ArrayFunctions, TrialFunction
from opdsl.training.problem_tables import OptimiserSpec
from opdsl.training.trainer import Points, Setting, Trainer

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": jnp.tanh, "sin": jnp.sin, "silu": jax.nn.silu, "softplus": jax.nn.softplus, "sigmoid": jax.nn.sigmoid,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}  # fmt: skip

_LINE_SEARCH = 25  # evaluations at most

Theta = dict[str, dict[str, Any]]
"""``{"weights": …, "learned": …}``: the network and the learned parameters (logarithms of positive ones)."""


class JaxTrainer(Trainer):
    """See `Trainer`."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._dtype = setting, setting.dtype
        problem = setting.problem
        functions = ArrayFunctions(
            activation=_ACTIVATIONS[problem.network.activation], sin=jnp.sin, cos=jnp.cos,
            concatenate=lambda parts: jnp.concatenate(parts, axis=-1),
            constant=lambda value, like: jnp.asarray(value, dtype=like.dtype),
        )  # fmt: skip
        with self.scope():
            trial = TrialFunction(problem, setting.seed, constraint_functions(problem, "jax"))
            self._field = lambda weights, point: trial(functions, weights, point)
            learned = {p.name: np.log(p.value) if p.positive else p.value for p in problem.parameters if p.learn}
            self._theta: Theta = {
                "weights": {name: self._array(value) for name, value in trial.initial().items()},
                "learned": {name: self._array(np.asarray(value)) for name, value in learned.items()},
            }
            self._positive = frozenset(p.name for p in problem.parameters if p.positive)
            self.set_points(setting.points)
            self._data = None if setting.data is None else self._array(setting.data)
            self._steps = [self._bind(term) for term in setting.terms]
            self._named = jax.jit(self._named_losses)
            self._predict = jax.jit(jax.vmap(self._field, in_axes=(None, 0)))
            self._size = jax.jit(self._equation_size)
            self._update: Callable[..., Any] | None = None
            self._optimiser_state: Any = None

    def scope(self) -> AbstractContextManager[object]:
        wide = self._dtype == "float64"
        # jax.enable_x64 replaced the experimental name in 0.8.
        found = getattr(jax, "enable_x64", None)
        if found is not None and callable(found):
            return found(wide)  # type: ignore[no-any-return]
        from jax.experimental import enable_x64

        return enable_x64(wide)  # type: ignore[no-any-return]

    # -------------------------------------------------------------------------------------------------------- losses

    def _array(self, value: Any) -> Any:
        return jnp.asarray(value, dtype=self._dtype)

    def _bind(self, term: Any) -> Callable[..., Any]:
        learned = self._values(self._theta["learned"])
        given = {**self._setting.problem.constants, **learned}
        used = {name: given[name] for name in term.parameters}
        example = self._points[term.points[0]]
        step = term.operator.bind(self._field, example, params=self._theta["weights"], **used)
        again = [name for name in term.parameters if name in learned]
        return lambda weights, x, values: step(weights, x, **{name: values[name] for name in again})

    def _values(self, learned: Mapping[str, Any]) -> dict[str, Any]:
        return {name: jnp.exp(value) if name in self._positive else value for name, value in learned.items()}

    def _named_losses(self, theta: Theta, points: Mapping[str, Any]) -> dict[str, Any]:
        values = self._values(theta["learned"])
        found: dict[str, Any] = {}
        for term, step in zip(self._setting.terms, self._steps, strict=True):
            results = [term.arrays(step(theta["weights"], points[name], values)) for name in term.points]
            found |= term.losses(results, lambda r: jnp.mean(jnp.square(r)))
        if self._data is not None:
            predicted = jax.vmap(self._field, in_axes=(None, 0))(theta["weights"], points["data"])
            found["data"] = jnp.mean(jnp.square(predicted - self._data))
        return found

    def _loss(self, theta: Theta, points: Mapping[str, Any]) -> Any:
        weights = self._setting.problem.weights
        return sum(weights[name] * value for name, value in self._named_losses(theta, points).items() if weights[name])

    def _equation_size(self, theta: Theta, x: Any) -> Any:
        values = self._values(theta["learned"])
        results = self._setting.terms[0].arrays(self._steps[0](theta["weights"], x, values))
        return jnp.sqrt(sum(jnp.square(r.reshape(r.shape[0], -1)).sum(axis=1) for r in results))

    # ------------------------------------------------------------------------------------------------------ training

    def set_points(self, points: Mapping[str, Points]) -> None:
        self._points = {name: self._array(value) for name, value in points.items()}

    def start(self, phase: OptimiserSpec) -> None:
        if phase.name == "lbfgs":
            search = optax.scale_by_zoom_linesearch(max_linesearch_steps=_LINE_SEARCH, initial_guess_strategy="one")
            optimiser: Any = optax.lbfgs(memory_size=phase.memory, linesearch=search)
        else:
            makers = {
                "adam": optax.adam, "adamw": optax.adamw, "nadam": optax.nadam, "radam": optax.radam, "sgd": optax.sgd,
            }  # fmt: skip
            optimiser = makers[phase.name](_schedule(phase))
        newton = phase.name == "lbfgs"

        def update(theta: Theta, state: Any, points: Mapping[str, Any]) -> tuple[Theta, Any, Any]:
            def loss(candidate: Theta) -> Any:
                return self._loss(candidate, points)

            if newton:
                value, gradient = optax.value_and_grad_from_state(loss)(theta, state=state)
                change, state = optimiser.update(gradient, state, theta, value=value, grad=gradient, value_fn=loss)
            else:
                gradient = jax.grad(loss)(theta)
                change, state = optimiser.update(gradient, state, theta)
            new = optax.apply_updates(theta, change)
            same = [jnp.array_equal(a, b) for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(theta), strict=True)]
            return new, state, ~jnp.stack(same).all()

        self._update = jax.jit(update)
        self._optimiser_state = optimiser.init(self._theta)

    def step(self) -> bool:
        assert self._update is not None, "start() comes first"
        # One assignment: an interrupt leaves the state before or after the step, never between.
        self._theta, self._optimiser_state, moved = self._update(self._theta, self._optimiser_state, self._points)
        return bool(moved)

    def losses(self) -> dict[str, float]:
        return {name: float(value) for name, value in self._named(self._theta, self._points).items()}

    def predict(self, points: Points) -> Points:
        parts = [points[k : k + 16384] for k in range(0, len(points), 16384)]
        done = [np.asarray(self._predict(self._theta["weights"], self._array(part)), dtype=np.float64) for part in parts]
        return np.concatenate(done).reshape(len(points), -1)

    def residual(self, points: Points) -> Points:
        return np.asarray(self._size(self._theta, self._array(points)), dtype=np.float64)

    def parameters(self) -> dict[str, float]:
        return {name: float(value) for name, value in self._values(self._theta["learned"]).items()}

    # --------------------------------------------------------------------------------------------------------- state

    def state(self) -> Any:
        started = self._optimiser_state is not None
        return {
            "theta": jax.tree.map(np.asarray, self._theta),
            "optimiser": [np.asarray(leaf) for leaf in jax.tree.leaves(self._optimiser_state)] if started else None,
        }

    def load(self, state: Any) -> None:
        self._theta = jax.tree.map(jnp.asarray, state["theta"])
        if state["optimiser"] is None:  # before the first phase
            self._optimiser_state = None
        elif self._optimiser_state is not None:
            leaves, structure = jax.tree.flatten(self._optimiser_state)
            restored = [jnp.asarray(new, dtype=old.dtype) for old, new in zip(leaves, state["optimiser"], strict=True)]
            self._optimiser_state = jax.tree.unflatten(structure, restored)


def _schedule(phase: OptimiserSpec) -> Any:
    if phase.schedule == "cosine":
        return optax.cosine_decay_schedule(phase.rate, phase.steps, alpha=phase.final)
    if phase.schedule == "exponential":
        return optax.exponential_decay(phase.rate, phase.steps, phase.final)
    return phase.rate
