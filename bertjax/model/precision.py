"""Mixed precision: which dtype each part of the network is computed in, as policies of jmp.

Parameters and outputs are float32. Matrix products and what a sublayer does between them are in the compute dtype.
Embeddings, layer norms, the residual stream between them, the softmax and GELU are in float32 (`layers`, `attention`),
so the parameters of the first two are never rounded.

The precision of a float32 matrix product is a separate setting: by default, JAX lets an NVIDIA GPU round them to
10 bits (TF32) and a TPU to 7 (bfloat16) on their way in.

JAX's own process-wide settings, which belong to the user, change none of this: what bertjax computes is traced under
the contexts of this file.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jmp
from jaxtyping import Array, Float32

from bertjax.config import Execution
from bertjax.errors import ConfigError
from bertjax.model.quantized import QuantizedWeight

_COMPUTE = {"float32": jnp.float32, "tensorfloat32": jnp.float32, "bfloat16": jnp.bfloat16}
_UNROUNDED = ("scale", "offset", "embeddings")  # Haiku's names of the parameters of layer norms, and of tables

Params = Mapping[str, Mapping[str, Any]]


def policy_of(execution: Execution) -> jmp.Policy:
    """float32 parameters and outputs around the execution's precision."""
    return jmp.Policy(jnp.float32, _COMPUTE[execution.precision], jnp.float32)


def matmul_precision(execution: Execution) -> AbstractContextManager[None]:
    """A context in which matrix products and their gradients have the precision of the execution."""
    # bfloat16 has nothing left to round; the default is named, or it would be the user's own.
    return jax.default_matmul_precision("default" if execution.precision == "bfloat16" else execution.precision)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def product(execution: Execution, formula: str, left: Array, right: Array) -> Float32[Array, "..."]:
    """`jnp.einsum` of two arrays of one dtype, summed and given in float32, for a softmax or a division to go on with.

    Its gradient is rounded to the dtype of the arrays first. Derived automatically, the two products of the backward
    pass would multiply a float32 gradient: in bfloat16 the matrix units of a GPU would stand idle for them. In float32
    the bits are those of `einsum`.
    """
    return jnp.einsum(formula, left, right, preferred_element_type=jnp.float32)


def _product_forward(execution: Execution, formula: str, left: Array, right: Array) -> tuple[Array, Any]:
    return product(execution, formula, left, right), (left, right)


def _product_backward(execution: Execution, formula: str, saved: Any, gradient: Array) -> tuple[Array, Array]:
    left, right = saved
    with matmul_precision(execution):  # traced outside of the caller's
        return jax.vjp(partial(jnp.einsum, formula), left, right)[1](gradient.astype(left.dtype))


product.defvjp(_product_forward, _product_backward)


@contextmanager
def in_32_bits() -> Iterator[None]:
    """A context, or a decorator, in which numbers have 32 bits at most: the same bits with `JAX_ENABLE_X64` as without.

    A dtype beside each array would not do: Optax, Haiku and JAX's own functions make numbers of their own, such as the
    power of a decay, or the uniform numbers behind a mask, and with 64 bits they are others.
    """
    with jax.enable_x64(False):
        yield


@contextmanager
def under_standard_rules() -> Iterator[None]:
    """`in_32_bits` with JAX's standard promotion, for Optax: it mixes integers with floats and ranks with each other,
    which a user's `JAX_NUMPY_DTYPE_PROMOTION` or `JAX_NUMPY_RANK_PROMOTION` may forbid. Our own functions mix none."""
    with in_32_bits(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def to_compute(policy: jmp.Policy, params: Params, kept: Collection[str] = ()) -> Params:
    """Parameters in the compute dtype; arrays of the host become JAX's.

    Args:
      policy: of `policy_of`.
      params: float32; a quantised weight stays as it is, its layer converts it.
      kept: modules whose parameters stay float32, as those of layer norms and embeddings do.
    """

    def cast(module: str, name: str, value: Any) -> Array | QuantizedWeight:
        if isinstance(value, QuantizedWeight):
            return QuantizedWeight(*map(jnp.asarray, value))
        return jnp.asarray(value if name in _UNROUNDED or module in kept else policy.cast_to_compute(value))

    return {
        module: {name: cast(module, name, value) for name, value in leaves.items()} for module, leaves in params.items()
    }


def check_execution(execution: Execution) -> None:
    """Checks that the devices of this machine can run an execution.

    Raises:
      ConfigError: a GPU's kernel without an NVIDIA GPU, or cuDNN's in float32.
    """
    attention, platform = execution.attention, jax.default_backend()
    if attention not in ("cudnn", "pallas"):
        return
    if attention == "cudnn" and execution.precision != "bfloat16":
        raise ConfigError(f"attention 'cudnn' computes in bfloat16, not in {execution.precision}; set the precision")
    if platform != "gpu":
        raise ConfigError(f"attention '{attention}' needs an NVIDIA GPU, the devices here are {platform}; use 'xla'")
