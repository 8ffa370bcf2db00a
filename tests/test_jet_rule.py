"""A user's own primitive gets a rule in one line."""

import pytest

import opdsl
from opdsl.errors import BackendError

LAPLACIAN = opdsl.operator("laplace(u)", coords="x y")


def test_a_jax_primitive_of_ones_own():
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    jax.config.update("jax_enable_x64", True)
    from jax.extend.core import Primitive
    from jax.interpreters import batching, mlir

    cube = Primitive("cube_of_the_test")
    cube.def_impl(lambda a: a**3)
    cube.def_abstract_eval(lambda a: a)
    batching.defvectorized(cube)
    mlir.register_lowering(cube, mlir.lower_fun(lambda a: a**3, multiple_results=False))
    opdsl.jet_rule("cube_of_the_test", backend="jax", composed=lambda ops, a: ops.mul(ops.mul(a, a), a))
    x = jnp.asarray([[1.0, 2.0], [0.5, -1.0]])
    value = LAPLACIAN(lambda p: cube.bind(p).sum(), x)
    assert jnp.allclose(value, 6 * x.sum(1), rtol=1e-12)


def test_a_torch_operator_of_ones_own():
    torch = pytest.importorskip("torch")

    @torch.library.custom_op("opdsl_test::cube", mutates_args=())
    def cube(a: torch.Tensor) -> torch.Tensor:
        return a**3

    cube.register_fake(lambda a: torch.empty_like(a))
    opdsl.jet_rule("opdsl_test::cube", backend="torch", composed=lambda ops, a: ops.mul(ops.mul(a, a), a))
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
    value = LAPLACIAN(lambda p: torch.ops.opdsl_test.cube(p).sum(1), x, strategy="forward_laplacian")
    assert torch.allclose(value, 6 * x.sum(1), rtol=1e-12)


@pytest.mark.parametrize("kinds", [{}, {"linear": True, "bilinear": True}, {"elementwise": "tahn"}])
def test_exactly_one_kind_with_a_known_name(kinds):
    with pytest.raises(BackendError):
        opdsl.jet_rule("anything", backend="jax", **kinds)
