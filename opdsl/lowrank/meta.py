r"""The meta phase: bases and a hypernetwork for a whole family of problems.

Loss, summed over a few parameters μ drawn at every step, each term a mean square over the points:

    Σ (equations + conditions) + w Σ_ℓ (‖UᵀU − I‖_F + ‖VᵀV − I‖_F) / r² + λ Σ_ℓ ‖relu(γ s_ℓ[1:] − s_ℓ[:−1])‖ / √M,

whose last term lets the coefficients fall by γ from each to the next, so that few of them stay (arXiv:2410.04001, §2; NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from opdsl.errors import ProblemError, ReductionError
from opdsl.lowrank import factors as lowrank_factors
from opdsl.lowrank import hypernetwork
from opdsl.lowrank.driver import Progress, cosine, detached, driver
from opdsl.lowrank.factors import Factors
from opdsl.lowrank.family import Family, Floats
from opdsl.lowrank.hypernetwork import Hypernetwork
from opdsl.lowrank.network import LRNR, ArrayLRNR, made
from opdsl.training import checkpoint

_FEWER = 4
"""Conditions are looked at on every fourth of the points of a step."""
_CHECKS = 40
"""How often in a phase the losses are told, and the variables are looked at."""


@dataclass(frozen=True, eq=False)
class MetaModel:
    """What the meta phase finds: a low-rank network for every value of the parameters. Arrays are NumPy's.

    Args:
        family: what it was trained for.
        factors: the bases.
        hyper: from parameters to coefficients.
    """

    family: Family
    factors: Factors
    hyper: Hypernetwork

    @property
    def scale(self) -> float:
        """√M."""
        return float(self.factors.widths[0] ** 0.5)

    def at(self, *, backend: str = "jax", dtype: str = "float64", **given: float) -> LRNR:
        """The network of these values of the parameters, with a warning outside of the trained ranges.

        Raises:
            BindingError: a value is missing or no number.
        """
        return made(ArrayLRNR(self.factors, self.coefficients(self.family.row(given, stacklevel=4))), backend, dtype)

    def coefficients(self, row: Floats) -> tuple[Floats, ...]:
        """s_ℓ for a row of parameters (p,)."""
        low, high = np.array(list(self.family.ranges.values())).T
        given = 2.0 * (row - low) / (high - low) - 1.0
        return self.hyper.coefficients(given, self.scale, np.tanh, lambda a: np.maximum(a, 0.0))

    def truncated(self, rows: Floats, tolerance: float = 1e-3) -> MetaModel:
        """Without the columns whose coefficients are nowhere above ``tolerance`` of the largest one of their layer.

        Args:
            rows: parameters (k, p) at which the coefficients are looked at.
            tolerance: 0 drops what is exactly zero at all of them.
        """
        found = [np.abs(np.stack(layer)).max(axis=0) for layer in zip(*(self.coefficients(r) for r in rows), strict=True)]
        keep = [np.flatnonzero(s > tolerance * s.max()) for s in found]
        if any(not len(k) for k in keep):
            raise ReductionError("all coefficients of a layer are zero: nothing would be left of it.")
        layers = tuple((u[:, k], v[:, k]) for (u, v), k in zip(self.factors.layers, keep, strict=True))
        heads = tuple((w[k], b[k]) for (w, b), k in zip(self.hyper.heads, keep, strict=True))
        return replace(self, factors=self.factors._replace(layers=layers), hyper=self.hyper._replace(heads=heads))

    def save(self, path: Path | str, **facts: Any) -> None:
        """One safetensors file, complete at every moment; ``facts`` are kept with it."""
        described = asdict(self.family)
        checkpoint.save(Path(path), {"family": described, "factors": list(self.factors), "hyper": list(self.hyper)}, facts)

    @classmethod
    def load(cls, path: Path | str) -> MetaModel:
        """What `save` wrote.

        Raises:
            ProblemError: there is none, it is damaged, or it is of something else.
        """
        tree, _ = checkpoint.load(Path(path))
        if not isinstance(tree, dict) or set(tree) != {"family", "factors", "hyper"}:
            raise ProblemError(f"{path} is a checkpoint of something else than a low-rank family", code="E821")
        return cls(Family(**tree["family"]), Factors(*tree["factors"]), Hypernetwork(*tree["hyper"]))


def initial(family: Family, *, width: int, rank: int, depth: int = 3, seed: int = 0) -> MetaModel:
    """A model with random bases and a random hypernetwork.

    Raises:
        ShapeError: the family has several fields of which nobody knows the components.
    """
    dimension = len(family.operator.residual().coords)
    outputs = sum(int(np.prod(f.shape, dtype=int)) for f in family.operator.residual().fields if not f.coefficient)
    factors, _ = lowrank_factors.initial(dimension, width, rank, depth, outputs, seed)
    last = factors.last[0] * width**0.5, factors.last[1]
    return MetaModel(family, factors._replace(last=last), hypernetwork.initial(len(family.ranges), (rank,) * depth, seed + 1))


def train(
    model: MetaModel,
    *,
    steps: int,
    rate: float = 1e-3,
    decay: float = 1e-4,
    gamma: float = 1.25,
    orthogonality: float = 1.0,
    weights: Mapping[str, float] | None = None,
    parameters: int = 8,
    points: int = 128,
    backend: str = "jax",
    dtype: str = "float32",
    seed: int = 0,
    progress: Progress | None = None,
    keep: Path | str | None = None,
) -> MetaModel:
    """The meta phase.

    Args:
        model: where to begin; see `initial`.
        steps: of Adam, with rates that fall along a cosine.
        rate: the first rate.
        decay: λ.
        gamma: γ.
        orthogonality: w.
        weights: of equations and conditions by name; 1 by default.
        parameters: values of the parameters drawn at every step.
        points: points drawn at every step.
        backend: ``"jax"`` or ``"torch"``.
        dtype: of the training.
        seed: of all draws.
        progress: told ``(step, steps, phase, losses by name)``.
        keep: a checkpoint, written whenever progress is told.

    Raises:
        ProblemError: a loss is no longer finite.
    """
    engine = driver(backend)
    family, scale = model.family, model.scale
    rng = np.random.default_rng(seed)
    low, high = np.array(list(family.ranges.values())).T
    importance = dict.fromkeys(family.names, 1.0) | dict(weights or {})
    template = made(ArrayLRNR(*_nothing(model)), backend, dtype)

    def batch(step: int) -> tuple[Any, Any, Any]:
        rows, x = family.draw(parameters, rng), family.points(points, rng)
        return tuple(engine.array(a, dtype) for a in (rows, 2.0 * (rows - low) / (high - low) - 1.0, x))  # type: ignore[return-value]

    def loss(variables: Any, given: Any) -> tuple[Any, dict[str, Any]]:
        found, hyper = Factors(*variables[0]), Hypernetwork(*variables[1])
        rows, scaled, x = given

        def one(row: Any, inside: Any) -> dict[str, Any]:
            s = hyper.coefficients(inside, scale, engine.tanh, engine.relu)
            named = {name: row[k] for k, name in enumerate(family.parameters)}
            terms = {name: (r**2).mean() for name, r in family.residuals(template.rebuilt(found, s), x, named, fewer=_FEWER).items()}
            rising = [engine.relu(gamma * v[1:] - v[:-1]) / scale for v in s]
            return terms | {"decay": sum(((v**2).sum() + 1e-20) ** 0.5 for v in rising)}

        terms = {name: v.mean() for name, v in engine.over_rows(one, rows, scaled).items()}
        terms["orthogonality"] = sum(_skew(a) for layer in found.layers for a in layer)
        weight = importance | {"decay": decay, "orthogonality": orthogonality}
        return sum(weight[name] * v for name, v in terms.items()), terms

    told = _told(family, steps, "meta", progress, keep)
    start = engine.mapped(lambda a: engine.array(a, dtype), (tuple(model.factors), tuple(model.hyper)))
    end = engine.minimise(loss, start, batch, cosine(rate, steps), told)
    return _as_model(family, end)


def _told(
    family: Family, steps: int, phase: str, progress: Progress | None, keep: Path | str | None
) -> Callable[..., None]:
    every = max(1, steps // _CHECKS)

    def told(step: int, variables: Any, terms: Mapping[str, Any]) -> None:
        if step % every and step != steps:
            return
        losses = {name: float(detached(v)) for name, v in terms.items()}
        bad = [name for name, v in losses.items() if not np.isfinite(v)]
        if bad:
            raise ProblemError(f"at step {step} of the {phase} phase the loss {bad[0]} is no longer finite: take a smaller rate.")
        if progress is not None:
            progress(step, steps, phase, losses)
        if keep is not None:
            _as_model(family, variables).save(keep, step=step, losses=losses)

    return told


def _as_model(family: Family, variables: Any) -> MetaModel:
    def copy(part: Any) -> Any:
        if isinstance(part, tuple):
            return tuple(copy(p) for p in part)
        return detached(part)

    return MetaModel(family, Factors(*copy(tuple(variables[0]))), Hypernetwork(*copy(tuple(variables[1]))))


def _nothing(model: MetaModel) -> tuple[Factors, Sequence[Any]]:
    """Arrays of the right kind, for a network whose parts are put in at every step."""
    return model.factors, tuple(np.zeros(r) for r in model.factors.ranks)


def _skew(basis: Any) -> Any:
    """‖BᵀB − I‖_F / r²."""
    rank = basis.shape[1]
    gram = basis.T @ basis
    square = (gram**2).sum() - 2.0 * (basis**2).sum() + float(rank)
    return (abs(square) + 1e-20) ** 0.5 / rank**2
