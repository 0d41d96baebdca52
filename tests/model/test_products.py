"""The product of features and weights: its two gradients are the same sums, and each platform has its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bertjax.config import Execution
from bertjax.model.products import derived_gradients, gradients_on_cpu, matmul

SHAPES = {
    "wider output": ((3, 5, 4), 6),
    "wider input": ((3, 5, 6), 4),
    "square": ((7, 4), 4),
    "one token": ((1, 5), 2),
}


def arrays(shape, width, runs=(), dtype=np.float64):
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal((*runs, *part)).astype(dtype) for part in (shape, (shape[-1], width), (*shape[:-1], width))
    ]


def truth(x, weight, gradient):
    """By NumPy, in float64."""
    return gradient @ weight.T, np.einsum("nd,nf->df", *(part.reshape(-1, part.shape[-1]) for part in (x, gradient)))


@pytest.mark.parametrize("gradients", [derived_gradients, gradients_on_cpu])
@pytest.mark.parametrize("case", SHAPES)
def test_gradients(case, gradients):
    wide = arrays(*SHAPES[case])
    of_x, of_weight = jax.jit(gradients)(*(part.astype(np.float32) for part in wide))
    for found, expected in zip((of_x, of_weight), truth(*wide), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", SHAPES)
def test_gradients_of_stacked_runs(case):
    """Several seeds in one program have a batch axis on features, weights and gradients."""
    stacked = arrays(*SHAPES[case], runs=(3,), dtype=np.float32)
    of_stack = jax.jit(jax.vmap(gradients_on_cpu))(*stacked)
    of_each = [gradients_on_cpu(*parts) for parts in zip(*map(jnp.asarray, stacked), strict=True)]
    for found, expected in zip(of_stack, map(jnp.stack, zip(*of_each, strict=True)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", SHAPES)
def test_gradients_in_bfloat16_are_rounded_once(case):
    rounded = [part.astype(jnp.bfloat16) for part in arrays(*SHAPES[case])]
    of_x, of_weight = gradients_on_cpu(*map(jnp.asarray, rounded))
    for found, expected in zip((of_x, of_weight), truth(*(np.float64(part) for part in rounded)), strict=True):
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float64(found), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize(("platform", "by_hand"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_each_platform_has_its_gradient(platform, by_hand):
    x, weight, _ = arrays(*SHAPES["wider input"], dtype=np.float32)
    gradient = jax.jit(jax.grad(lambda x, weight: matmul(Execution(), x, weight).sum(), argnums=(0, 1)))
    program = gradient.trace(x, weight).lower(lowering_platforms=(platform,)).as_text()
    assert ("optimization_barrier" in program) == by_hand


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
@pytest.mark.parametrize(("precision", "name"), [("tensorfloat32", "HIGH"), ("float32", "HIGHEST")])
def test_precision_of_a_gradient_is_that_of_the_execution(precision, name, platform):
    """The backward pass is traced outside of the context that the forward pass is traced in."""
    x, weight, _ = arrays(*SHAPES["wider output"], dtype=np.float32)
    gradient = jax.jit(jax.grad(lambda x, weight: matmul(Execution(precision=precision), x, weight).sum(), (0, 1)))
    program = gradient.trace(x, weight).lower(lowering_platforms=(platform,)).as_text()
    products = [line for line in program.splitlines() if "dot_general" in line]
    assert len(products) == 2
    assert all(f"precision = [{name}, {name}]" in line for line in products)
