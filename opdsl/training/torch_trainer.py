"""Training with PyTorch: torch.optim optimisers on bound operators."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from opdsl.training.formulas import constraint_functions
from opdsl.training.learned import slope, trained_number, value_of
from opdsl.training.least_squares import LeastSquares, Report
from opdsl.training.network import ArrayFunctions, TrialFunction
from opdsl.training.problem_tables import OptimiserSpec
from opdsl.training.residual_phase import ResidualPhase
from opdsl.training.stacking import columns, not_finite, stacked, transposed, with_learned
from opdsl.training.trainer import Points, Setting, Trainer, learning_rate

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "tanh": torch.tanh, "sin": torch.sin, "gelu": torch.nn.functional.gelu, "silu": torch.nn.functional.silu,
    "softplus": torch.nn.functional.softplus, "sigmoid": torch.sigmoid,
}  # fmt: skip

_LINE_SEARCH = 25  # evaluations at most


class Field(torch.nn.Module):  # type: ignore[misc]
    """The trial function as a module: points (n, d) → fields (n, m)."""

    def __init__(self, trial: TrialFunction, activation: str, dtype: torch.dtype) -> None:
        super().__init__()
        self._trial = trial
        self._dtype = dtype
        self._constants: dict[int, torch.Tensor] = {}
        self._functions = ArrayFunctions(
            activation=_ACTIVATIONS[activation], sin=torch.sin, cos=torch.cos,
            concatenate=lambda parts: torch.cat(list(parts), dim=-1), constant=self._constant,
        )  # fmt: skip
        initial = trial.initial()
        self.weights = torch.nn.ParameterDict(
            {name: torch.nn.Parameter(torch.as_tensor(value, dtype=dtype)) for name, value in initial.items()}
        )
        with torch.no_grad():  # one call makes all constants before anything records the module
            self(torch.zeros((1, trial.dimension), dtype=dtype))

    def _constant(self, value: Any, like: torch.Tensor) -> torch.Tensor:
        # Kept, so that a captured program and the module refer to the same tensors.
        if id(value) not in self._constants:
            self._constants[id(value)] = torch.as_tensor(value, dtype=self._dtype)
        return self._constants[id(value)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.weights, x)

    def function(self, weights: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """The same as a function of the weights."""
        return self._trial(self._functions, weights, x)  # type: ignore[no-any-return]


class TorchTrainer(Trainer):
    """See `Trainer`."""

    @staticmethod
    def use_threads(count: int | None) -> None:
        # Arrays of some thousand points are too small to share; two threads only wait for each other.
        torch.set_num_threads(count or 1)

    @staticmethod
    def missing(optimiser: str) -> str:
        if optimiser == "soap" and find_spec("pytorch_optimizer") is None:
            return "it comes from the package pytorch-optimizer: pip install pytorch-optimizer"
        return ""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._dtype: torch.dtype = getattr(torch, setting.dtype)
        problem = setting.problem
        trial = TrialFunction(problem, setting.seed, constraint_functions(problem, "torch"))
        self._field = Field(trial, problem.network.activation, self._dtype)
        learned = {p.name: trained_number(p) for p in problem.parameters if p.learn}
        self._parameters = {p.name: p for p in problem.parameters if p.learn}
        self._learned = {n: torch.nn.Parameter(torch.tensor(float(v), dtype=self._dtype)) for n, v in learned.items()}
        self._evaluated: deque[tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]] = deque(maxlen=32)
        self.set_points(setting.points)
        self._steps = [self._bind(term, self._field) for term in setting.terms]
        self._pure: list[Any] | None = None
        self._residuals: ResidualPhase | None = None
        self._optimiser: torch.optim.Optimizer | None = None
        self._schedule: Any = None
        self._phase = OptimiserSpec()

    def scope(self) -> AbstractContextManager[object]:
        return nullcontext()

    def _trainable(self) -> list[torch.nn.Parameter]:
        return [*self._field.weights.values(), *self._learned.values()]

    # -------------------------------------------------------------------------------------------------------- losses

    def _tensor(self, value: Any) -> torch.Tensor:
        return torch.as_tensor(value, dtype=self._dtype)

    def _values(self, learned: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: value_of(self._parameters[name], s, torch.exp) for name, s in learned.items()}

    def _bind(self, term: Any, network: Any, **options: Any) -> Any:
        learned = self._values(self._learned)
        given = {**self._setting.problem.constants, **{name: value.detach() for name, value in learned.items()}}
        used = {name: given[name] for name in term.parameters}
        return term.operator.bind(network, self._points[term.points[0]], **options, **used)

    def _learned_in(self, term: Any, values: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: values[name] for name in term.parameters if name in values}

    def _columns(self, number: int, x: torch.Tensor) -> torch.Tensor:
        term = self._setting.terms[number]
        return columns(term.arrays(self._steps[number](x, **self._learned_in(term, self._values(self._learned)))))  # type: ignore[no-any-return]

    def _named_losses(self) -> dict[str, torch.Tensor]:
        values = self._values(self._learned)
        found: dict[str, torch.Tensor] = {}
        for term, step in zip(self._setting.terms, self._steps, strict=True):
            given = self._learned_in(term, values)
            results = [term.arrays(step(self._points[name], **given)) for name in term.points]
            found |= term.losses(results, lambda r: r.square().mean())
        return found

    def _loss(self) -> torch.Tensor:
        weights = self._setting.problem.weights
        terms = [weights[name] * value for name, value in self._named_losses().items() if weights[name]]
        return torch.stack(terms).sum()

    def _remembered(self) -> torch.Tensor:
        """Loss and gradients at the present weights; the closure of L-BFGS.

        With one iteration per step torch evaluates every accepted point twice: at the end of a line search and at
        the start of the next step. The weights are the same to the last bit, so the second evaluation is looked up.
        """
        trainable = self._trainable()
        place = torch.cat([p.detach().reshape(-1) for p in trainable])
        for known, value, gradients in reversed(self._evaluated):
            if torch.equal(known, place):
                for parameter, gradient in zip(trainable, gradients, strict=True):
                    parameter.grad = gradient.clone()
                return value
        for parameter in trainable:
            parameter.grad = None
        loss = self._loss()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trainable]
        self._evaluated.append((place, loss.detach(), gradients))
        return loss.detach()

    # ----------------------------------------------------------------------------------------------------- residuals

    def _flat(self) -> Points:
        return torch.cat([p.detach().reshape(-1) for p in self._trainable()]).numpy()  # type: ignore[no-any-return]

    def _put(self, flat: Any) -> None:
        with torch.no_grad():
            parts = torch.as_tensor(np.array(flat)).split([p.numel() for p in self._trainable()])
            for parameter, part in zip(self._trainable(), parts, strict=True):
                parameter.copy_(part.reshape(parameter.shape))

    def _unflat(self, flat: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Weights and learned parameters, copied: what was computed from them stays right when the module moves on."""
        parts = [part.reshape(p.shape) for part, p in zip(
            torch.tensor(flat, dtype=self._dtype).split([p.numel() for p in self._trainable()]), self._trainable(), strict=True)]  # fmt: skip
        count = len(self._field.weights)
        return dict(zip(self._field.weights, parts[:count], strict=True)), dict(zip(self._learned, parts[count:], strict=True))

    def _functional(self) -> list[Any]:
        """The bound operators as functions of the weights."""
        if self._pure is None:
            weights, _ = self._unflat(self._flat())
            self._pure = [self._bind(term, self._field.function, params=weights) for term in self._setting.terms]
        return self._pure

    def least_squares(self) -> LeastSquares:
        terms, steps, points = self._setting.terms, self._functional(), dict(self._points)

        def rows(of: Callable[[int, str], torch.Tensor], *, observed: bool) -> Any:
            with torch.no_grad():
                return stacked(terms, self._setting.problem.weights, of, observed=observed).numpy()

        def residual(flat: Any) -> Any:
            weights, learned = self._unflat(flat)
            owns = [self._learned_in(term, self._values(learned)) for term in terms]
            return rows(lambda k, name: columns(terms[k].arrays(steps[k](weights, points[name], **owns[k]))), observed=True)

        def jacobian(flat: Any) -> Any:
            weights, learned = self._unflat(flat)
            values = self._values(learned)
            factors = {n: slope(self._parameters[n], v) for n, v in values.items()}
            owns = [self._learned_in(term, values) for term in terms]
            return rows(
                lambda k, name: with_learned(steps[k].jacobian(weights, points[name], **owns[k]), tuple(owns[k]), factors),
                observed=False,
            )

        def products(flat: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
            weights, learned = self._unflat(flat)
            values = self._values(learned)
            owns = [self._learned_in(term, values) for term in terms]
            made = {
                (k, name): steps[k].jacobian(weights, points[name], form="products", **owns[k])
                for k, term in enumerate(terms) for name in term.points
            }  # fmt: skip
            size, names = len(flat) - len(values), list(values)
            chosen = [torch.tensor([*range(size), *(size + names.index(n) for n in own)]) for own in owns]
            factors = self._tensor([1.0] * size + [float(slope(self._parameters[n], v)) for n, v in values.items()])

            def times(v: Any) -> Any:
                scaled = self._tensor(v) * factors
                return rows(lambda k, name: made[k, name].jvp(scaled[chosen[k]]), observed=False)

            def pull(k: int, name: str, w: torch.Tensor) -> torch.Tensor:
                return torch.zeros(len(flat), dtype=self._dtype).index_add(0, chosen[k], made[k, name].vjp(w))

            def pulled(w: Any) -> Any:
                shape = lambda k, name: made[k, name].shape[:2]  # noqa: E731
                found = transposed(terms, self._setting.problem.weights, self._tensor(w), shape, pull)
                return (found * factors).detach().numpy()

            return times, pulled

        return LeastSquares(residual, jacobian, products)

    @property
    def report(self) -> Report | None:
        return None if self._residuals is None else self._residuals.report

    # ------------------------------------------------------------------------------------------------------ training

    def set_points(self, points: Mapping[str, Points]) -> None:
        self._evaluated.clear()
        self._points = {name: self._tensor(value) for name, value in points.items()}

    def start(self, phase: OptimiserSpec) -> None:
        self._phase = phase
        self._evaluated.clear()
        trainable = self._trainable()
        self._schedule = self._residuals = None
        if phase.for_residuals:
            self._optimiser, self._residuals = None, ResidualPhase(phase, self._flat())
            return
        if phase.name == "lbfgs":
            # One iteration per step, so that a checkpoint can be taken after any of them. No tolerances: the loop ends
            # the phase when a step moves nothing. Left out, max_eval would be 5/4 of max_iter: no line search at all.
            self._optimiser = torch.optim.LBFGS(
                trainable,
                lr=1.0,
                max_iter=1,
                max_eval=1 + _LINE_SEARCH,
                history_size=phase.memory,
                tolerance_grad=0.0,
                tolerance_change=0.0,
                line_search_fn="strong_wolfe",
            )
            return
        self._optimiser = _first_order(phase.name)(trainable, lr=phase.rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: learning_rate(phase, step))

    def step(self) -> bool:
        if self._residuals is not None:
            flat, moved = self._residuals.step(self.least_squares(), self._flat().copy())
            self._put(flat)
            return moved
        assert self._optimiser is not None, "start() comes first"
        trainable = self._trainable()
        if self._phase.name != "lbfgs":
            self._optimiser.zero_grad()
            self._loss().backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
            self._schedule.step()
            return True
        before = [p.detach().clone() for p in trainable]
        self._optimiser.step(self._remembered)
        return any(not torch.equal(a, b) for a, b in zip(before, trainable, strict=True))

    def losses(self) -> dict[str, float]:
        with torch.no_grad():
            return {name: float(value) for name, value in self._named_losses().items()}

    def not_finite(self) -> dict[str, tuple[int, int]]:
        with torch.no_grad():
            return not_finite(self._setting.terms, lambda number, name: self._columns(number, self._points[name]))

    def predict(self, points: Points) -> Points:
        with torch.no_grad():
            parts = [self._field(self._tensor(points[k : k + 16384])) for k in range(0, len(points), 16384)]
            return torch.cat(parts).double().numpy().reshape(len(points), -1)  # type: ignore[no-any-return]

    def residual(self, points: Points) -> Points:
        with torch.no_grad():
            return self._columns(0, self._tensor(points)).norm(dim=1).double().numpy()  # type: ignore[no-any-return]

    def parameters(self) -> dict[str, float]:
        return {name: float(value.detach()) for name, value in self._values(self._learned).items()}

    # --------------------------------------------------------------------------------------------------------- state

    def state(self) -> Any:
        optimiser: Any = None
        if self._residuals is not None:
            optimiser = dict(self._residuals.state)
        elif self._optimiser is not None:
            optimiser = _to_numpy(self._optimiser.state_dict())
        return {
            "theta": [p.detach().numpy().copy() for p in self._trainable()],
            "optimiser": optimiser,
            "schedule": None if self._schedule is None else int(self._schedule.last_epoch),
        }

    def load(self, state: Any) -> None:
        self._evaluated.clear()
        with torch.no_grad():
            for parameter, value in zip(self._trainable(), state["theta"], strict=True):
                parameter.copy_(torch.as_tensor(value))
        if state["optimiser"] is None:  # before the first phase
            self._optimiser = self._schedule = self._residuals = None
        elif self._residuals is not None:
            self._residuals.state = dict(state["optimiser"])
        elif self._optimiser is not None:
            self._optimiser.load_state_dict(_to_torch(state["optimiser"]))
        if self._schedule is not None:
            self._schedule.last_epoch = state["schedule"]


def _first_order(name: str) -> Any:
    if name == "soap":
        from pytorch_optimizer import SOAP

        return partial(SOAP, weight_decay=0.0)  # decay belongs to classifiers: here it pulls away from the solution
    classes = {"adam": "Adam", "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam", "sgd": "SGD"}
    return getattr(torch.optim, classes[name])


def _to_numpy(node: Any) -> Any:
    if isinstance(node, torch.Tensor):
        return node.detach().numpy().copy()
    if isinstance(node, dict):
        return {key: _to_numpy(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_to_numpy(value) for value in node)
    return node


def _to_torch(node: Any) -> Any:
    if isinstance(node, np.ndarray):
        return torch.as_tensor(node.copy())
    if isinstance(node, dict):
        return {key: _to_torch(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(_to_torch(value) for value in node)
    return node
