"""PyTorch: functions of a batch (n, d), captured as ATen operators with live parameters.

Importing this module does not import torch; `Backend.is_array` must be able to answer "no" without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opdsl.backends.base import Backend, Capture, Evaluator, Example
from opdsl.backends.execution import Execution
from opdsl.backends.parameters import Linearised, Owned, Places
from opdsl.backends.torch.rates import RATES
from opdsl.errors import BackendError, ShapeError, StrategyError
from opdsl.jets.array_ops import ArrayOps
from opdsl.jets.points import Batched

if TYPE_CHECKING:
    from opdsl.backends.step import Bound, Run
    from opdsl.jets.graph import Array, Rule


class TorchBackend(Backend):
    """The torch backend.

    A field is an ``nn.Module`` or a function of points (n, d) that returns (n,) or (n, m), each row from its own point.
    Modules are captured as they stand: in training mode dropout draws a new mask at each evaluation, the same for a value and
    all its derivatives; batch normalisation must be in evaluation mode. What a function leaves behind (counters, running
    statistics) is not updated.
    """

    name = title = framework = distribution = "torch"
    convert = "torch.as_tensor(x)"
    execution = Execution(points=Batched, fuses=True, nesting="reverse")
    rates = RATES

    @cached_property
    def ops(self) -> ArrayOps:  # type: ignore[override]
        """Array operations; importing them imports torch."""
        from opdsl.backends.torch.array_ops import TorchOps

        return TorchOps()

    def is_array(self, value: object) -> bool:
        """Whether ``value`` is a tensor."""
        torch = sys.modules.get("torch")
        return torch is not None and hasattr(torch, "Tensor") and isinstance(value, torch.Tensor)

    def is_function(self, value: object) -> bool:
        """Whether ``value`` is an ``nn.Module``."""
        torch = sys.modules.get("torch")
        return torch is not None and hasattr(torch, "nn") and isinstance(value, torch.nn.Module)

    def prepare(self, x: Any, *, like: Any = None) -> Array:
        """Check the points: a floating tensor (n, d) or (d,)."""
        if not self.is_array(x):
            raise BackendError(f"the torch backend takes tensors, got {type(x).__name__}. Write torch.as_tensor(x).")
        if not x.is_floating_point():
            raise ShapeError(f"points must be real floating-point numbers, got {x.dtype}. Convert them, e.g. x.double().")
        if x.dim() not in (1, 2):
            raise ShapeError(f"points have shape (n, d), or (d,) for one point; got {tuple(x.shape)}.")
        return x

    def from_numpy(self, value: Any) -> Array:
        import torch

        return torch.tensor(value)

    def to_numpy(self, value: Array) -> Any:
        return value.detach().cpu().double().numpy()

    def register_container(
        self, kind: type[Any], take_apart: Callable[[Any], tuple[Sequence[Any], Any]], build: Callable[[Any, Sequence[Any]], Any]
    ) -> None:
        from torch.utils import _pytree

        def flatten(container: Any) -> tuple[list[Any], Any]:
            arrays, rest = take_apart(container)
            return list(arrays), rest

        _pytree.register_pytree_node(kind, flatten, lambda arrays, rest: build(rest, tuple(arrays)))

    def register(self, primitive: str, rule: Rule | Callable[..., Rule] | None) -> None:
        """Enter a rule into the table of ATen operators."""
        from opdsl.backends.torch import primitives

        primitives.enter(primitive, primitives.by_first_derivative if rule is None else rule)

    def trains(self, constants: Sequence[Sequence[Array]]) -> bool:
        """Whether any tensor requires its gradient."""
        return any(getattr(a, "requires_grad", False) for group in constants for a in group)

    def timed(
        self, run: Callable[..., Any], constants: Any, x: Array, bindings: Mapping[str, Array], training: bool
    ) -> Callable[[], Any]:
        from opdsl.backends.torch.timing import timed

        return timed(run, constants, x, bindings, training)

    def network(self, layers: Sequence[tuple[Any, Any]]) -> Any:
        """A ``Sequential`` of linear layers and tanh."""
        import torch

        parts: list[Any] = []
        for w, b in layers:
            linear = torch.nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.tensor(w.T))
                linear.bias.copy_(torch.tensor(b))
            parts += [linear, torch.nn.Tanh()]
        return torch.nn.Sequential(*parts[:-1])

    def capture(self, function: Callable[..., Any], x: Array, *, params: Any = None, batched: bool = False) -> Capture:
        """Record the ATen operators of ``function``; see `Backend.capture`.

        The recording of a function that differs from an earlier one in nothing but its tensors is reused: closures over new
        parameters, as `torch.func` and functional optimisers make them at each step.
        """
        from opdsl.backends.torch.cache import captured

        return captured(function, x, params)

    def compile(self, evaluator: Evaluator, example: Example) -> Callable[..., tuple[Array, ...]]:
        """A flat program of ATen operators; see `torch_compile`."""
        from opdsl.backends.torch.compile import compile_evaluator

        return compile_evaluator(evaluator, example)

    def kept(self, x: Array) -> Array | None:
        import torch

        # Inside a transformation (`torch.func`, `torch.vmap`) also points that it does not transform belong to it; what is made in
        # inference mode can never be trained through.
        if torch._C._functorch.peek_interpreter_stack() is not None or torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            return None
        # One row in the place of every other: the points themselves may be large.
        return x[:1].detach().clone().requires_grad_(x.requires_grad).expand(x.shape)

    def for_any_size(self, one: Any, more: Any, sizes: tuple[int, int], inputs: int) -> Any:
        from opdsl.backends.torch.compile import joined

        return joined(one, more, sizes, inputs)

    def in_pieces(
        self, run: Callable[[Array, Mapping[str, Array]], tuple[Array, ...]], x: Array, rows: Mapping[str, Array], size: int
    ) -> tuple[Array, ...]:
        import torch
        from torch.utils.checkpoint import checkpoint

        def cut(a: Array, start: int) -> Array:
            piece = a[start : start + size]
            return torch.cat([piece, piece[-1:].expand(size - len(piece), *piece.shape[1:])]) if len(piece) < size else piece

        found = []
        for start in range(0, len(x), size):
            piece = cut(x, start), {name: cut(a, start) for name, a in rows.items()}
            found.append(checkpoint(run, *piece, use_reentrant=False) if torch.is_grad_enabled() else run(*piece))
        return tuple(torch.cat(parts)[: len(x)] for parts in zip(*found, strict=True))

    def owned(self, functions: Mapping[str, Any], params: Any) -> Owned:
        """Tensors in ``params``; without these, the parameters of modules that require gradients, in their order."""
        from opdsl.backends.torch.jacobian import owned, owned_in

        return owned(functions) if params is None else owned_in(params)

    def per_point_jacobian(
        self, evaluator: Evaluator, one: Example, example: Example, places: Places, shapes: Sequence[Sequence[int]]
    ) -> Callable[..., tuple[Array, ...]]:
        from opdsl.backends.torch.jacobian import per_point_jacobian

        return per_point_jacobian(evaluator, one, example, places, shapes)

    def linearised(self, function: Callable[[Sequence[Array]], Array], arrays: Sequence[Array]) -> Linearised:
        from opdsl.backends.torch.jacobian import linearised

        return linearised(function, arrays)

    def without_history(self, array: Any) -> Any:
        from opdsl.backends.torch.jacobian import without_history

        return without_history(array)

    def free_memory(self, x: Any) -> float | None:
        """Of the device, where it is a graphics processor."""
        import torch

        return float(torch.cuda.mem_get_info(x.device)[0]) if x.device.type == "cuda" else super().free_memory(x)

    def normal(self, key: Any, shape: Sequence[int], x: Array) -> Array:
        """``key``: an integer or a ``torch.Generator``."""
        import torch

        generator = _generator(key)
        return torch.randn(tuple(shape), generator=generator, dtype=x.dtype, device=generator.device).to(x.device)

    def subsets(self, key: Any, count: int, size: int, of: int, x: Array) -> Array:
        """Floyd's algorithm on the host: ``size`` draws whatever ``of`` is (Bentley and Floyd, CACM 30 (1987) 754)."""
        import torch

        generator = _generator(key)
        uniform = torch.rand((count, size), generator=generator, dtype=torch.float64, device=generator.device).tolist()
        rows = []
        for row in uniform:
            chosen: dict[int, None] = {}
            for highest, u in zip(range(of - size, of), row, strict=True):
                drawn = min(int(u * (highest + 1)), highest)
                chosen[highest if drawn in chosen else drawn] = None
            rows.append(list(chosen))
        return torch.tensor(rows, device=x.device)

    def keys(self, key: Any, count: int) -> Sequence[Any]:
        import torch

        return torch.randint(2**62, (count,), generator=_generator(key), device=_generator(key).device).tolist()  # type: ignore[no-any-return]

    def bind(self, bound: Bound, first: Run, x: Array) -> Any:
        """An ``nn.Module`` that owns the networks; see `opdsl.backends.torch.bind`."""
        from opdsl.backends.torch.bind import Step, StepWithParameters

        return Step(bound, first, x) if bound.params is None else StepWithParameters(bound, first, x)

    def unusual(self, value: Any) -> str | None:
        """Sparse, nested and quantised tensors; tensors on the device ``meta``, which have no numbers."""
        from opdsl.backends.torch.cache import unusual

        return unusual(value)

    def structure(self, params: Any) -> Hashable:
        """The tree of its containers."""
        from torch.utils import _pytree

        return _pytree.tree_structure(params)  # type: ignore[no-any-return]

    def concrete(self, value: Any) -> Any:
        """None for tensors that somebody differentiates or maps over."""
        import torch

        if isinstance(value, torch.Tensor):
            if value.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(value):
                return None
            value = value.detach().cpu()
            value = (value if value.dtype == torch.float32 else value.double()).numpy()
        return super().concrete(value)


def _generator(key: Any) -> Any:
    """A generator; an integer seeds a new one, so that the same key gives the same numbers."""
    import torch

    if isinstance(key, torch.Generator):
        return key
    if not isinstance(key, int):
        raise StrategyError(f"key= must be an integer or a torch.Generator, got {type(key).__name__}.")
    return torch.Generator().manual_seed(key)
