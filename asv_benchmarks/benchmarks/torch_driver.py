"""PyTorch, eager or compiled; counted by dispatch modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .cases import Case, points, weights
from .targets import Absent, Driver, Work, first_run


class TorchDriver(Driver):
    """PyTorch on one device."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        import torch

        self.torch = torch
        self.device = target.partition(":")[2]
        if self.device == "cuda" and not torch.cuda.is_available():
            raise Absent(f"{target} skipped: no CUDA device")
        torch.set_num_threads(1)

    def operator(self, case: Case, goal: str, strategy: str = "auto") -> Work:
        import opdsl

        matrix = case.matrix()
        given = {} if matrix is None else {"a": self._tensor(matrix.astype("float32"))}
        op = opdsl.operator(case.text, coords=case.coords, params="a_ij" if given else None)
        net, x = self._network(case), self._tensor(points(case.points, case.dimension))
        training = goal == "training"
        return self._work(lambda: op.bind(net, x, strategy=strategy, training=training, **given), x, goal)

    def plain(self, case: Case, goal: str, channels: int = 1) -> Work:
        net, x = self._network(case), self._tensor(points(channels * case.points, case.dimension))
        return self._work(lambda: net, x, goal)

    def memory(self, work: Work) -> float:
        if self.device != "cuda":
            return super().memory(work)
        cuda = self.torch.cuda
        cuda.reset_peak_memory_stats()
        base = cuda.memory_allocated()
        work.run()
        cuda.synchronize()
        return float(cuda.max_memory_allocated() - base)

    def _tensor(self, array: Any) -> Any:
        return self.torch.from_numpy(array).to(self.device)

    def _network(self, case: Case) -> Any:
        nn, torch = self.torch.nn, self.torch
        layers: list[Any] = []
        for w, b in weights(case.sizes):
            linear = nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w.T.copy()))
                linear.bias.copy_(torch.from_numpy(b))
            layers += [linear, nn.Tanh()]
        return nn.Sequential(*layers[:-1]).to(self.device)

    def _work(self, make: Callable[[], Any], x: Any, goal: str) -> Work:
        torch = self.torch
        wait: Callable[[], None] = torch.cuda.synchronize if self.device == "cuda" else lambda: None

        def ready() -> Callable[[], Any]:
            step = make()
            call = torch.compile(step, fullgraph=True) if self.compiled else step

            def evaluate() -> Any:
                with torch.no_grad():
                    result = call(x)
                wait()
                return result

            def train() -> Any:
                step.zero_grad(set_to_none=True)
                loss = (call(x) ** 2).mean()
                loss.backward()
                wait()
                return loss

            return evaluate if goal == "evaluation" else train

        work: Work

        def count() -> dict[str, float]:
            if self.compiled:
                raise Absent(f"{self.target} skipped: kernels of a compiled program are not dispatched one by one")
            return _counted(torch, work.run)

        work = first_run(ready, count)
        return work


def _counted(torch: Any, run: Callable[[], Any]) -> dict[str, float]:
    """FLOPs of matrix products, operators that compute, and the bytes they write."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    class Written(TorchDispatchMode):  # type: ignore[misc]
        nodes = 0
        size = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            known = {a.untyped_storage()._cdata for a in _tensors(torch, args)}
            fresh = [o for o in _tensors(torch, out) if o.untyped_storage()._cdata not in known and not func.is_view]
            self.nodes += bool(fresh)
            self.size += sum(o.numel() * o.element_size() for o in fresh)
            return out

    written, flops = Written(), FlopCounterMode(display=False)
    with written, flops:
        run()
    return {"flops": float(flops.get_total_flops()), "nodes": float(written.nodes), "temporaries": float(written.size)}


def _tensors(torch: Any, value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [t for v in value for t in _tensors(torch, v)]
    return [value] if isinstance(value, torch.Tensor) else []


make = TorchDriver
