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
from opdsl.training.learned import slope, trained_number, value_of
from opdsl.training.least_squares import LeastSquares, Report
from opdsl.training.network import ArrayFunctions, TrialFunction
from opdsl.training.problem_tables import OptimiserSpec
from opdsl.training.residual_phase import ResidualPhase
from opdsl.training.stacking import columns, not_finite, stacked, with_learned
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
            learned = {p.name: trained_number(p) for p in problem.parameters if p.learn}
            self._theta: Theta = {
                "weights": {name: self._array(value) for name, value in trial.initial().items()},
                "learned": {name: self._array(np.asarray(value)) for name, value in learned.items()},
            }
            self._parameters = {p.name: p for p in problem.parameters if p.learn}
            self.set_points(setting.points)
            self._steps = [self._bind(term) for term in setting.terms]
            self._named = jax.jit(self._named_losses)
            self._predict = jax.jit(jax.vmap(self._field, in_axes=(None, 0)))
            self._size = jax.jit(self._equation_size)
            self._rows = jax.jit(self._residuals)
            self._derivatives = jax.jit(self._jacobian)
            self._update: Callable[..., Any] | None = None
            self._optimiser_state: Any = None
            self._phase: ResidualPhase | None = None

    @staticmethod
    def missing(optimiser: str) -> str:
        if optimiser == "soap" and not hasattr(optax.contrib, "soap"):
            return f"optax {optax.__version__} has no SOAP; train on torch with the package pytorch-optimizer, or take levenberg_marquardt"
        return ""

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

    def _bind(self, term: Any) -> Any:
        learned = self._values(self._theta["learned"])
        given = {**self._setting.problem.constants, **learned}
        used = {name: given[name] for name in term.parameters}
        return term.operator.bind(self._field, self._points[term.points[0]], params=self._theta["weights"], **used)

    def _values(self, learned: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value_of(self._parameters[name], s, jnp.exp) for name, s in learned.items()}

    def _learned_in(self, number: int, theta: Theta) -> dict[str, Any]:
        values = self._values(theta["learned"])
        return {name: values[name] for name in self._setting.terms[number].parameters if name in values}

    def _arrays(self, number: int, theta: Theta, x: Any) -> tuple[Any, ...]:
        found = self._steps[number](theta["weights"], x, **self._learned_in(number, theta))
        return self._setting.terms[number].arrays(found)

    def _named_losses(self, theta: Theta, points: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number, term in enumerate(self._setting.terms):
            results = [self._arrays(number, theta, points[name]) for name in term.points]
            found |= term.losses(results, lambda r: jnp.mean(jnp.square(r)))
        return found

    def _loss(self, theta: Theta, points: Mapping[str, Any]) -> Any:
        weights = self._setting.problem.weights
        return sum(weights[name] * value for name, value in self._named_losses(theta, points).items() if weights[name])

    def _equation_size(self, theta: Theta, x: Any) -> Any:
        return jnp.linalg.norm(columns(self._arrays(0, theta, x)), axis=1)

    # ----------------------------------------------------------------------------------------------------- residuals

    def _flat(self, theta: Theta) -> Any:
        """Weights in the order of JAX's leaves, then learned parameters: (P,)."""
        leaves = [*jax.tree.leaves(theta["weights"]), *theta["learned"].values()]
        return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])

    def _unflat(self, flat: Any) -> Theta:
        leaves, structure = jax.tree.flatten(self._theta["weights"])
        sizes = np.cumsum([leaf.size for leaf in leaves] + [1] * len(self._theta["learned"]))[:-1]
        parts = jnp.split(flat, sizes) if len(sizes) else [flat]
        weights = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=False)]
        learned = {name: part[0] for name, part in zip(self._theta["learned"], parts[len(leaves) :], strict=True)}
        return {"weights": jax.tree.unflatten(structure, weights), "learned": learned}

    def _residuals(self, flat: Any, points: Mapping[str, Any]) -> Any:
        theta = self._unflat(flat)
        return self._stacked(lambda number, name: columns(self._arrays(number, theta, points[name])), observed=True)

    def _jacobian(self, flat: Any, points: Mapping[str, Any]) -> Any:
        theta = self._unflat(flat)
        factors = {n: slope(self._parameters[n], v) for n, v in self._values(theta["learned"]).items()}

        def of(number: int, name: str) -> Any:
            own = self._learned_in(number, theta)
            found = self._steps[number].jacobian(theta["weights"], points[name], **own)
            return with_learned(found, tuple(own), factors)

        return self._stacked(of, observed=False)

    def _stacked(self, of: Callable[[int, str], Any], *, observed: bool) -> Any:
        return stacked(self._setting.terms, self._setting.problem.weights, of, observed=observed)

    def least_squares(self) -> LeastSquares:
        points = self._points

        def products(theta: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
            _, times = jax.linearize(lambda flat: self._rows(flat, points), self._array(theta))
            transposed = jax.linear_transpose(times, self._array(theta))
            forward, backward = jax.jit(times), jax.jit(lambda w: transposed(w)[0])
            return lambda v: np.asarray(forward(self._array(v))), lambda w: np.asarray(backward(self._array(w)))

        return LeastSquares(
            residual=lambda theta: np.asarray(self._rows(self._array(theta), points)),
            jacobian=lambda theta: np.asarray(self._derivatives(self._array(theta), points)),
            products=products,
        )

    @property
    def report(self) -> Report | None:
        return None if self._phase is None else self._phase.report

    # ------------------------------------------------------------------------------------------------------ training

    def set_points(self, points: Mapping[str, Points]) -> None:
        self._points = {name: self._array(value) for name, value in points.items()}

    def start(self, phase: OptimiserSpec) -> None:
        self._phase = None
        if phase.for_residuals:
            self._phase = ResidualPhase(phase, np.asarray(self._flat(self._theta)))
            return
        if phase.name == "lbfgs":
            search = optax.scale_by_zoom_linesearch(max_linesearch_steps=_LINE_SEARCH, initial_guess_strategy="one")
            optimiser: Any = optax.lbfgs(memory_size=phase.memory, linesearch=search)
        else:
            library = optax.contrib if phase.name == "soap" else optax
            optimiser = getattr(library, phase.name)(_schedule(phase))
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
        if self._phase is not None:
            flat, moved = self._phase.step(self.least_squares(), np.asarray(self._flat(self._theta)))
            self._theta = self._unflat(self._array(flat))
            return moved
        assert self._update is not None, "start() comes first"
        # One assignment: an interrupt leaves the state before or after the step, never between.
        self._theta, self._optimiser_state, moved = self._update(self._theta, self._optimiser_state, self._points)
        return bool(moved)

    def losses(self) -> dict[str, float]:
        return {name: float(value) for name, value in self._named(self._theta, self._points).items()}

    def not_finite(self) -> dict[str, tuple[int, int]]:
        return not_finite(self._setting.terms, lambda number, name: columns(self._arrays(number, self._theta, self._points[name])))

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
        optimiser: Any = None
        if self._phase is not None:
            optimiser = dict(self._phase.state)
        elif self._optimiser_state is not None:
            optimiser = [np.asarray(leaf) for leaf in jax.tree.leaves(self._optimiser_state)]
        return {"theta": jax.tree.map(np.asarray, self._theta), "optimiser": optimiser}

    def load(self, state: Any) -> None:
        self._theta = jax.tree.map(jnp.asarray, state["theta"])
        if state["optimiser"] is None:  # before the first phase
            self._optimiser_state = self._phase = None
        elif self._phase is not None:
            self._phase.state = dict(state["optimiser"])
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
