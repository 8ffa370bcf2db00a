"""Capturing torch functions: what is refused, what is kept, what is captured again."""

from __future__ import annotations

import copy
import functools
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import opdsl
from opdsl.backends.torch.capture import capture
from opdsl.errors import BackendError, CaptureError, OpdslWarning, RowMixingError, ShapeError, StrategyError

LAPLACE = opdsl.operator("laplace(u)", coords="x y")


def mlp(width: int = 8, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1)).double()


def points(n: int = 6) -> Tensor:
    return torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def laplacian(function, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_(True)
    (g,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    return sum(torch.autograd.grad(g[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(2))


NET = mlp()

# ------------------------------------------------------------------------------------------------------------- refusals

MIXING = {
    "mean": lambda x: x - x.mean(0),
    "a faint mean": lambda x: NET(x) + 1e-6 * x.mean(0, keepdim=True)[:, :1],
    "softmax": lambda x: NET(x).softmax(0),
    "cumsum": lambda x: NET(x).cumsum(0),
    "sort": lambda x: NET(x).sort(0)[0],
    "flip": lambda x: NET(x).flip(0),
    "roll by two": lambda x: NET(x).roll(2, 0),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x)[:, :1],
    "gram": lambda x: (x @ x.T).sum(1),
    "first row": lambda x: NET(x) * x[:1, :1],
    "constant matrix": lambda x: torch.ones(len(x), len(x), dtype=x.dtype) @ x,
    "batch norm": nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)).double(),
}


@pytest.mark.parametrize("name", MIXING)
def test_mixing_rows_is_refused(name):
    with pytest.raises(RowMixingError, match="influence one another"):
        LAPLACE(MIXING[name], points())


@pytest.mark.parametrize("name", ["mean", "cumsum", "first row", "flip", "gram"])
def test_mixing_rows_is_refused_even_for_one_point(name):
    if name in ("cumsum", "flip"):
        with pytest.raises(RowMixingError):
            LAPLACE(MIXING[name], points(1))
    else:
        with pytest.raises(RowMixingError):
            LAPLACE(MIXING[name], points(1))


def test_a_refused_batch_norm_is_left_as_it_was():
    net = copy.deepcopy(MIXING["batch norm"])
    with pytest.raises(RowMixingError, match=r"\.eval\(\)"):
        LAPLACE(net, points())
    assert int(net[1].num_batches_tracked) == 0
    assert float(net[1].running_mean.abs().max()) == 0.0
    x = points()
    net.eval()
    torch.testing.assert_close(LAPLACE(net, x), laplacian(net, x))


REFUSED = {
    "branch on values": (lambda x: x if x.sum() > 0 else -x, CaptureError, "branches on values"),
    "item": (lambda x: NET(x) * x.max().item(), CaptureError, "branches on values"),
    "numpy": (lambda x: torch.from_numpy(x.detach().numpy()), CaptureError, "out of torch"),
    "list of values": (lambda x: torch.tensor(x.tolist()), CaptureError, "out of torch"),
    "failure": (lambda x: 1 / 0, CaptureError, "ZeroDivisionError"),
    "columns": (nn.Linear(3, 1).double(), CaptureError, "cannot be multiplied"),
    "no tensor": (lambda x: [x], CaptureError, "got list"),
    "integers": (lambda x: x.long(), CaptureError, "int64"),
    "too many axes": (lambda x: x[:, None, :], ShapeError, "one row per point"),
    "summed up": (lambda x: NET(x).sum(), ShapeError, "one row per point"),
    "selected rows": (lambda x: x[x[:, 0] > 0.5], ShapeError, "one row per point"),
    "single precision": (nn.Linear(2, 1), CaptureError, "float64, the function holds torch.float32"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_captured_says_why(name):
    function, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        LAPLACE(function, points())


def test_points_must_be_floating_tensors():
    with pytest.raises(ShapeError, match="int64"):
        LAPLACE(NET, torch.ones(3, 2, dtype=torch.long))
    with pytest.raises(BackendError, match="tensors"):
        LAPLACE(NET, points().numpy())


def test_an_empty_batch_and_a_single_point():
    assert LAPLACE(NET, points(0)).shape == (0,)
    assert LAPLACE(NET, points()[0]).shape == ()


class Rounded(torch.autograd.Function):
    """Rounds, with the derivative of the identity."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


def test_a_custom_function_keeps_its_own_derivative():
    def function(x: Tensor) -> Tensor:
        return (Rounded.apply(x * x) * x).sum(1)

    x = points()
    for strategy in ("forward_laplacian", "nested_ad"):
        torch.testing.assert_close(LAPLACE(function, x, strategy=strategy), laplacian(function, x))


# ------------------------------------------------------------------------------------------------- gradients cut by hand


def test_detach_and_no_grad_stop_derivatives():
    def function(x: Tensor) -> Tensor:
        with torch.no_grad():
            still = x[:, 0] ** 3
        return x[:, 1] ** 2 * x[:, 0].detach() + still * x[:, 1] + x.data[:, 1] * x[:, 0] ** 2

    x = points()
    torch.testing.assert_close(LAPLACE(function, x), laplacian(function, x))


def test_detached_parameters_get_no_gradient():
    w = torch.tensor([[0.3], [0.7]], dtype=torch.float64, requires_grad=True)
    v = w.detach().clone().requires_grad_(True)
    value = LAPLACE(lambda x: torch.sin(x @ w.detach() + x @ v), points())
    value.sum().backward()
    assert w.grad is None
    assert float(v.grad.abs().max()) > 0


def test_writing_without_gradients_keeps_the_old_derivative():
    def function(x: Tensor) -> Tensor:
        h = x * x
        with torch.no_grad():
            h.clamp_(max=0.3)
        return (h * x).sum(1)

    x = points()
    torch.testing.assert_close(LAPLACE(function, x), laplacian(function, x))


# -------------------------------------------------------------------------------------------------------------- dropout


def test_dropout_draws_one_mask_for_value_and_derivatives():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Dropout(0.5), nn.Linear(3, 1)).double()
    both = opdsl.operator("u; laplace(u)", coords="x y")
    x = points()
    with torch.no_grad():
        hidden = torch.tanh(net[0](x))
        parts = hidden * net[3].weight
        curved = -2 * hidden * (1 - hidden**2) * (net[0].weight ** 2).sum(1) * net[3].weight
    masks = torch.tensor([[i, j, k] for i in (0, 2) for j in (0, 2) for k in (0, 2)], dtype=torch.float64)
    drawn = []
    for _ in range(4):
        value, second = (v.detach() for v in both(net, x))
        # Which mask explains the value of each row: it must explain the Laplacian too.
        which = (parts @ masks.T + net[3].bias.detach() - value[:, None]).abs().argmin(1)
        torch.testing.assert_close((parts * masks[which]).sum(1) + net[3].bias.detach(), value)
        torch.testing.assert_close((curved * masks[which]).sum(1), second)
        drawn.append(which)
    assert any(not torch.equal(d, drawn[0]) for d in drawn), "a fresh mask at each evaluation"
    net.eval()
    assert torch.equal(both(net, x)[1], both(net, x)[1])


def test_capturing_leaves_the_random_state_alone():
    net = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.Linear(4, 1)).double()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    capture(net, points())
    assert torch.equal(torch.get_rng_state(), state)


# ------------------------------------------------------------------------------------------------------------ structure


def test_batch_axes_and_thin_channels():
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    graph = capture(net, points()).capture.graph
    dependent = graph.dependent()
    assert all(graph.values[i].batch_axis == 0 for i in dependent)
    assert all(node.flexible for node in graph.nodes if any(i in dependent for i in node.inputs))


def test_sizes_follow_the_batch():
    def function(x: Tensor) -> Tensor:
        return (x.reshape(x.shape[0], 1, 2).expand(x.shape[0], 3, 2) ** 2).sum((1, 2))

    graph = capture(function, points()).capture.graph
    for node in graph.nodes:
        if node.inputs and node.flexible:
            thin = [torch.zeros([1 if i == graph.values[k].batch_axis else s for i, s in enumerate(graph.values[k].shape)],
                                dtype=torch.float64) for k in node.inputs]  # fmt: skip
            assert node.apply(*thin).shape[graph.values[node.outputs[0]].batch_axis] == 1
    assert any("expand" in n.primitive and n.flexible for n in graph.nodes)


@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_keeps_an_axis_of_points_for_coefficients_per_point(need_weights):
    torch.manual_seed(0)
    attend, first = nn.MultiheadAttention(4, 2, batch_first=True).double(), nn.Linear(2, 12).double()

    def function(x: Tensor) -> Tensor:
        h = torch.tanh(first(x)).reshape(-1, 3, 4)
        output, weights = attend(h, h, h, need_weights=need_weights)
        assert (weights is not None) == need_weights
        return output.sum((1, 2))

    op, x = opdsl.operator("a_ij d_i d_j u", coords="x y", params="a_ij"), points()
    matrix = torch.diag_embed(1 + x**2) + 0.1
    p = x.clone().requires_grad_(True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        (g,) = torch.autograd.grad(function(p).sum(), p, create_graph=True)
        rows = torch.stack([torch.autograd.grad(g[:, i].sum(), p, retain_graph=True)[0] for i in range(2)], 1)
    torch.testing.assert_close(op(function, x, a=matrix), (matrix * rows).sum((1, 2)), rtol=1e-11, atol=1e-11)


def test_coefficients_per_point_need_an_axis_of_points():
    op, x = opdsl.operator("a_ij d_i d_j u", coords="x y", params="a_ij"), points()
    matrix = torch.diag_embed(1 + x**2)
    with pytest.raises(StrategyError, match="nested_ad"):
        op(lambda p: torch.cat([NET(c) for c in p.split(4)]), x, a=matrix, strategy="dof")
    value = op(lambda p: torch.cat([NET(c) for c in p.split(4)]), x, a=matrix, strategy="nested_ad")
    torch.testing.assert_close(value, op(NET, x, a=matrix), rtol=1e-11, atol=1e-11)


def test_a_capture_keeps_no_activations():
    def large() -> set[int]:
        gc.collect()
        tensors = [t for t in gc.get_objects() if type(t) is Tensor]
        return {id(t) for t in tensors if t.device.type != "meta" and t.numel() >= 500 * 64}

    before = large()
    kept = capture(mlp(64), points(500))
    assert kept.capture.graph.nodes
    assert large() <= before


def test_constants_are_the_live_parameters():
    net = mlp()
    constants = capture(net, points()).capture.constants
    assert {id(c) for c in constants} == {id(p) for p in net.parameters()}


def test_keys_tell_structures_apart_and_nothing_else():
    x = points()
    assert capture(mlp(8, 0), x).capture.key == capture(mlp(8, 1), x).capture.key
    assert capture(mlp(8), x).capture.key != capture(mlp(9), x).capture.key
    assert capture(lambda p: p**2, x).capture.key != capture(lambda p: p**3, x).capture.key


# -------------------------------------------------------------------------------------------------------------- caching

SCALE = 1.0
FACTORS = [1.0]


class Configured(nn.Module):
    """Reads an attribute, a list, a global, and takes turns."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self.power = 1
        self.factors = [1.0, 2.0]
        self.activation = torch.tanh

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.net(x)) ** self.power
        return h * self.factors[0] * SCALE * (2.0 if self.training else 1.0)


def change_attribute(net):
    net.power = 2


def change_list(net):
    net.factors[0] = 3.0


def change_function(net):
    net.activation = torch.sin


def change_mode(net):
    net.eval()


def swap_layer(net):
    net.net[1] = nn.Sigmoid()


def replace_parameter(net):
    net.net[0].weight = nn.Parameter(net.net[0].weight.detach() * 2)


def write_parameter(net):
    with torch.no_grad():
        net.net[0].weight *= 2


def replace_method(net):
    net.forward = lambda x: net.net(x) ** 3


def add_hook(net):
    net.net.register_forward_hook(lambda module, args, output: output**2)


def patch_class(net):
    type(net).extra = 1.0
    type(net).forward = lambda self, x: self.net(x) * 5


CHANGES = [
    change_attribute, change_list, change_function, change_mode, swap_layer, replace_parameter, write_parameter,
    replace_method, add_hook, patch_class,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_a_changed_network_is_captured_again(change):
    kind = type("Configured", (Configured,), {"forward": Configured.forward, "__module__": __name__})
    net, x = kind(), points()
    first = LAPLACE(net, x)
    torch.testing.assert_close(first, laplacian(net, x))
    change(net)
    second = LAPLACE(net, x)
    torch.testing.assert_close(second, laplacian(net, x))
    assert not torch.allclose(first, second)


def test_changed_globals_and_closures_are_noticed(monkeypatch):
    x = points()
    net = Configured()
    first = LAPLACE(net, x)
    monkeypatch.setitem(globals(), "SCALE", 2.0)
    torch.testing.assert_close(LAPLACE(net, x), 2 * first)
    factors = [1.0]

    def function(p: Tensor) -> Tensor:
        return (p**2).sum(1) * factors[0]

    assert float(LAPLACE(function, x)[0]) == 4.0
    factors[0] = 2.0
    assert float(LAPLACE(function, x)[0]) == 8.0
    assert float(LAPLACE(functools.partial(lambda c, p: c * (p**2).sum(1), 3.0), x)[0]) == 12.0
    assert float(LAPLACE(functools.partial(lambda c, p: c * (p**2).sum(1), 4.0), x)[0]) == 16.0


def test_values_read_into_python_are_read_again():
    scale = torch.tensor(2.0, dtype=torch.float64)

    def function(x: Tensor) -> Tensor:
        return (x**2).sum(1) * float(scale)

    x = points()
    assert float(LAPLACE(function, x)[0]) == 8.0
    scale.fill_(3.0)
    assert float(LAPLACE(function, x)[0]) == 12.0


def test_literals_and_closed_over_tensors_are_live_where_they_should_be():
    weight = torch.tensor([1.0, 2.0], dtype=torch.float64)
    factor = 1.0

    def function(x: Tensor) -> Tensor:
        return (x**2 * weight * torch.tensor([factor, 1.0], dtype=x.dtype)).sum(1)

    x = points()
    assert float(LAPLACE(function, x)[0]) == 6.0
    weight[0] = 10.0
    assert float(LAPLACE(function, x)[0]) == 24.0
    factor = 0.5
    assert float(LAPLACE(function, x)[0]) == 14.0


def test_a_new_closure_over_new_parameters_reuses_the_recording(monkeypatch):
    from opdsl.backends.torch import cache

    net, x = mlp(), points()
    calls = []
    original = cache.capture
    monkeypatch.setattr(cache, "capture", lambda *args: calls.append(1) or original(*args))

    def evaluate(params):
        return LAPLACE(lambda p: torch.func.functional_call(net, params, (p,)), x)

    for k in range(3):
        params = {name: p.detach() * (1 + k) for name, p in net.named_parameters()}
        expected = laplacian(lambda p, params=params: torch.func.functional_call(net, params, (p,)), x)
        torch.testing.assert_close(evaluate(params), expected)
    assert len(calls) == 1


def test_the_key_of_a_network_costs_little():
    """A few hundred Python calls for five layers, and as many more for every further one."""
    import cProfile

    from opdsl.backends.torch import cache

    def calls(layers):
        net = nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers)))
        assert cache.structure_of([net]) is not None
        profile = cProfile.Profile()
        profile.runcall(cache.structure_of, [net])
        return sum(entry.callcount for entry in profile.getstats())

    five, ten = calls(5), calls(10)
    assert five < 1200
    assert ten - five < 1.2 * five


def test_networks_are_not_kept_for_ever():
    net = mlp()
    gone = weakref.ref(net)
    op = opdsl.operator("laplace(u)", coords="x y")
    op(net, points())
    del net, op
    gc.collect()
    assert gone() is None


def test_state_of_its_own_is_used_and_not_kept():
    net = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 4)), nn.Tanh(), nn.Linear(4, 1)).double()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    buffers = {k: id(v) for k, v in net.named_buffers()}
    with pytest.warns(OpdslWarning, match="tensors of its own"):
        LAPLACE(net, points())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert {k: id(v) for k, v in net.named_buffers()} == buffers


class Remembering(nn.Module):
    """Stores what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls, self.last = mlp(), 0, None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.net(x)
        return self.last


def test_nothing_is_left_behind_in_the_network():
    net = Remembering()
    LAPLACE(net, points())
    LAPLACE(lambda x: net(x) ** 2, points())
    assert net.calls == 0
    assert net.last is None


def test_lazy_modules_are_called_first():
    net = nn.Sequential(nn.LazyLinear(3), nn.Tanh()).double()
    with pytest.raises(CaptureError, match="lazy"):
        opdsl.operator("laplace(u); laplace(v); laplace(w)", coords="x y", fields="u v w")(net, points())
