"""Torch operators without a rule, and custom functions, through their own first derivative."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

import opdsl
from opdsl.backends.torch.primitives import TABLE
from opdsl.errors import CaptureError, MissingRuleError, OpdslWarning
from opdsl.jets import first_derivative

POINTS = torch.tensor([[0.61, -0.18], [-0.27, 0.55], [0.14, 0.29]], dtype=torch.float64)
W = torch.tensor([[0.3, -0.8, 0.5], [0.9, 0.2, -0.4]], dtype=torch.float64)
TEXTS = ["u_x", "laplace(u)", "a*u_xx + u_xy", "laplace(laplace(u))", "u_xxxxx + u_xxy", "u_xxxxxx"]


class Product(torch.autograd.Function):
    """x eˣ; its backward uses an intermediate of the forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        e = torch.exp(x)
        ctx.save_for_backward(x, e)
        return x * e

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        x, e = ctx.saved_tensors
        return g * (x * e + e)


class Exponential(torch.autograd.Function):
    """eˣ, its derivative from its own result."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.saved_tensors[0]


class StraightThrough(torch.autograd.Function):
    """Rounding with the derivative of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(3 * x) / 3

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Layer(torch.autograd.Function):
    """(k tanh(x W), Σ x): several operands and results, a static argument."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, k: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, w)
        ctx.k = k
        return k * torch.tanh(x @ w), x.sum(1)

    @staticmethod
    def backward(ctx: Any, g: Tensor, h: Tensor) -> Any:
        x, w = ctx.saved_tensors
        s = ctx.k * g * (1 - torch.tanh(x @ w) ** 2)
        return s @ w.T + h[:, None], x.T @ s, None


class Transformable(torch.autograd.Function):
    """A function that `torch.func` accepts."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * g


bound = Exponential.apply


class Once(torch.autograd.Function):
    """A backward that has no derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * g


CUSTOM: dict[str, tuple[Any, Any]] = {
    "product": (lambda x: Product.apply(x.sin()).sum(1), lambda x: (x.sin() * x.sin().exp()).sum(1)),
    "exponential": (lambda x: Exponential.apply(x * x[:, :1]).sum(1), lambda x: torch.exp(x * x[:, :1]).sum(1)),
    "bound early": (lambda x: bound(x * x[:, :1]).sum(1), lambda x: torch.exp(x * x[:, :1]).sum(1)),
    "with a context set up apart": (lambda x: Transformable.apply(x.sin()).sum(1), lambda x: (x.sin() ** 3).sum(1)),
    "straight through": (lambda x: StraightThrough.apply(x.sin()).sum(1), lambda x: x.sin().sum(1)),
    "layer": (
        lambda x: sum(y.reshape(len(x), -1).sum(1) for y in Layer.apply(x * x, W, 2.0)),
        lambda x: (2 * torch.tanh(x * x @ W)).sum(1) + (x * x).sum(1),
    ),
}


def evaluate(text: str, function: Any, x: Tensor, **options: Any) -> Tensor:
    given = {"a": lambda p: 1 + p[:, 0] ** 2} if "a*" in text else {}
    op = opdsl.operator(text, coords="x y", params="a" if given else "")
    result: Tensor = op(function, x, **given, **options)
    return result


@pytest.mark.parametrize("grad", [False, True], ids=["plain points", "points with gradients"])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", CUSTOM)
def test_custom_functions_by_their_declared_derivative(name: str, text: str, grad: bool) -> None:
    function, reference = CUSTOM[name]
    x = POINTS.clone().requires_grad_(grad)
    # Nested differentiation is torch's own, which takes what a forward saved of its intermediates for constant.
    strategy = "n_tangentprop" if set(text) <= set("u_x") else "collapsed_taylor"
    torch.testing.assert_close(evaluate(text, function, x, strategy=strategy), evaluate(text, reference, x), rtol=1e-12, atol=1e-12)


def test_gradients_in_parameters_follow_the_declared_derivative() -> None:
    """Δ Σ tanh(v · round(W x)) with the rounding passed straight through: Σ tanh'(v · r) …, r the rounded value."""
    w = W.clone().requires_grad_(True)
    found = evaluate("laplace(u)", lambda x: torch.sin(2 * StraightThrough.apply(x @ w)).sum(1), POINTS)
    rounded = StraightThrough.apply(POINTS @ w)
    truth = (-4 * torch.sin(2 * rounded) * (w * w).sum(0)).sum(1)
    torch.testing.assert_close(found, truth, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(value.square().sum(), w)[0] for value in (found, truth)]
    torch.testing.assert_close(*slopes, rtol=1e-11, atol=1e-11)


def test_derivatives_inside_see_the_declared_derivative_too() -> None:
    def inside(apply: Any) -> Any:
        def function(x: Tensor) -> Tensor:
            with torch.enable_grad():
                p = x if x.requires_grad else x.requires_grad_(True)
                (slope,) = torch.autograd.grad(apply(p * p).sum(), p, create_graph=True)
            return slope.sum(1)

        return function

    found = evaluate("laplace(u)", inside(Exponential.apply), POINTS)
    torch.testing.assert_close(found, evaluate("laplace(u)", inside(torch.exp), POINTS), rtol=1e-12, atol=1e-12)


def test_what_cannot_be_differentiated_twice_is_refused_by_name() -> None:
    with pytest.raises(MissingRuleError, match=r"autograd\.Once.*once_differentiable"):
        evaluate("laplace(u)", lambda x: Once.apply(x).sum(1), POINTS, strategy="forward_laplacian")
    with pytest.raises(CaptureError, match=r"Transformable.*torch\.func"):
        evaluate("u_x", lambda x: torch.func.grad(lambda p: Transformable.apply(p).sum())(x).sum(1), POINTS)


def test_an_operator_of_a_library_warns_once_and_says_how_to_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opdsl.jets.first_derivative._announced", set())

    @torch.library.custom_op("opdsl_test::cubic", mutates_args=())
    def cubic(a: Tensor, b: Tensor) -> Tensor:
        return a**3 * b

    cubic.register_fake(lambda a, b: torch.empty_like(a))
    cubic.register_autograd(
        lambda ctx, g: (3 * g * ctx.saved_tensors[0] ** 2 * ctx.saved_tensors[1], g * ctx.saved_tensors[0] ** 3),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    with pytest.warns(OpdslWarning, match=r"'opdsl_test::cubic' has no jet rule.*2\^\(K/2\).*opdsl\.jet_rule"):
        found = [evaluate(t, lambda x: cubic(x.sin(), x.flip(1).cos()).sum(1), POINTS) for t in TEXTS]
    for text, value in zip(TEXTS, found, strict=True):
        truth = evaluate(text, lambda x: (x.sin() ** 3 * x.flip(1).cos()).sum(1), POINTS)
        torch.testing.assert_close(value, truth, rtol=1e-12, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate("laplace(u)", lambda x: cubic(x, x).sum(1), POINTS[:2])


@pytest.mark.family(keep=3)
@pytest.mark.parametrize("name", ["linalg_inv_ex", "linalg_cholesky_ex", "linalg_solve_triangular", "sort", "einsum", "bmm"])
def test_operators_of_torch_without_a_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of derivative: elementwise, bilinear, reduction, matrix function, selection."""
    from torch_corpus import FUNCTIONS
    from torch_corpus import POINTS as SPACE

    where = {"linalg_inv_ex": "inv", "linalg_cholesky_ex": "cholesky", "linalg_solve_triangular": "triangular solve", "sort": "sort topk"}
    function = FUNCTIONS[where.get(name, name)]
    op = opdsl.operator("laplace(u) + u_xxy", coords="x y z")

    def scalar(x: Tensor) -> Tensor:
        return torch.sin(function(x)).sum(1)

    truth = op(scalar, SPACE)
    monkeypatch.delitem(TABLE, name, raising=False)
    monkeypatch.setattr("opdsl.jets.first_derivative._announced", set())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OpdslWarning)
        found = opdsl.operator("laplace(u) + u_xxy", coords="x y z")(lambda x: scalar(x) + 0.0, SPACE)
    torch.testing.assert_close(found, truth, rtol=1e-11, atol=1e-11)
    assert first_derivative._announced == {("torch", name)}
