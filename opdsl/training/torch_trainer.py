"""Training with PyTorch: torch.optim optimisers on bound operators."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from opdsl.training.formulas import constraint_functions
from opdsl.training.network import ArrayFunctions, TrialFunction
from opdsl.training.problem_tables import OptimiserSpec
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
        return self._trial(self._functions, self.weights, x)  # type: ignore[no-any-return]


class TorchTrainer(Trainer):
    """See `Trainer`."""

    @staticmethod
    def use_threads(count: int | None) -> None:
        # Arrays of some thousand points are too small to share; two threads only wait for each other.
        torch.set_num_threads(count or 1)

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._dtype: torch.dtype = getattr(torch, setting.dtype)
        problem = setting.problem
        trial = TrialFunction(problem, setting.seed, constraint_functions(problem, "torch"))
        self._field = Field(trial, problem.network.activation, self._dtype)
        learned = {p.name: np.log(p.value) if p.positive else p.value for p in problem.parameters if p.learn}
        self._positive = frozenset(p.name for p in problem.parameters if p.positive)
        self._learned = {n: torch.nn.Parameter(torch.tensor(float(v), dtype=self._dtype)) for n, v in learned.items()}
        self._evaluated: deque[tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]] = deque(maxlen=32)
        self.set_points(setting.points)
        self._data = None if setting.data is None else self._tensor(setting.data)
        self._steps = [self._bind(term) for term in setting.terms]
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

    def _values(self) -> dict[str, torch.Tensor]:
        return {name: value.exp() if name in self._positive else value for name, value in self._learned.items()}

    def _bind(self, term: Any) -> Callable[..., Any]:
        learned = self._values()
        given = {**self._setting.problem.constants, **{name: value.detach() for name, value in learned.items()}}
        used = {name: given[name] for name in term.parameters}
        step = term.operator.bind(self._field, self._points[term.points[0]], **used)
        again = [name for name in term.parameters if name in learned]
        return lambda x, values: step(x, **{name: values[name] for name in again})

    def _named_losses(self) -> dict[str, torch.Tensor]:
        values = self._values()
        found: dict[str, torch.Tensor] = {}
        for term, step in zip(self._setting.terms, self._steps, strict=True):
            results = [term.arrays(step(self._points[name], values)) for name in term.points]
            found |= term.losses(results, lambda r: r.square().mean())
        if self._data is not None:
            found["data"] = (self._field(self._points["data"]) - self._data).square().mean()
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

    # ------------------------------------------------------------------------------------------------------ training

    def set_points(self, points: Mapping[str, Points]) -> None:
        self._evaluated.clear()
        self._points = {name: self._tensor(value) for name, value in points.items()}

    def start(self, phase: OptimiserSpec) -> None:
        self._phase = phase
        self._evaluated.clear()
        trainable = self._trainable()
        self._schedule = None
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
        makers: dict[str, Any] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "nadam": torch.optim.NAdam,
            "radam": torch.optim.RAdam,
            "sgd": torch.optim.SGD,
        }
        self._optimiser = makers[phase.name](trainable, lr=phase.rate)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimiser, lambda step: learning_rate(phase, step))

    def step(self) -> bool:
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

    def predict(self, points: Points) -> Points:
        with torch.no_grad():
            parts = [self._field(self._tensor(points[k : k + 16384])) for k in range(0, len(points), 16384)]
            return torch.cat(parts).double().numpy().reshape(len(points), -1)  # type: ignore[no-any-return]

    def residual(self, points: Points) -> Points:
        with torch.no_grad():
            values = {name: value.detach() for name, value in self._values().items()}
            results = self._setting.terms[0].arrays(self._steps[0](self._tensor(points), values))
            squares = torch.stack([r.reshape(r.shape[0], -1).square().sum(dim=1) for r in results]).sum(dim=0)
            return squares.sqrt().double().numpy()  # type: ignore[no-any-return]

    def parameters(self) -> dict[str, float]:
        return {name: float(value.detach()) for name, value in self._values().items()}

    # --------------------------------------------------------------------------------------------------------- state

    def state(self) -> Any:
        return {
            "theta": [p.detach().numpy().copy() for p in self._trainable()],
            "optimiser": None if self._optimiser is None else _to_numpy(self._optimiser.state_dict()),
            "schedule": None if self._schedule is None else int(self._schedule.last_epoch),
        }

    def load(self, state: Any) -> None:
        self._evaluated.clear()
        with torch.no_grad():
            for parameter, value in zip(self._trainable(), state["theta"], strict=True):
                parameter.copy_(torch.as_tensor(value))
        if state["optimiser"] is None:  # before the first phase
            self._optimiser = self._schedule = None
        elif self._optimiser is not None:
            self._optimiser.load_state_dict(_to_torch(state["optimiser"]))
        if self._schedule is not None:
            self._schedule.last_epoch = state["schedule"]


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
