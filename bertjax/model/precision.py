"""Mixed precision: the dtype that each part of the network is computed in, as policies of jmp.

Parameters and outputs are float32. Matrix products, and what is between them in a sublayer, are in the compute dtype.
Embeddings, layer norms, the residual stream, the softmax and GELU are in float32 (`layers`, `attention`), so the
parameters of embeddings and norms are never rounded.

The precision of a float32 matrix product is a separate setting: by default, JAX lets an NVIDIA GPU round its inputs to
10 bits of mantissa (TF32), and a TPU to 7 (bfloat16).

Process-wide settings of JAX belong to the user and change none of this: bertjax traces under the contexts below.
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
    """The policy of an execution: float32 parameters and outputs, and its compute dtype."""
    return jmp.Policy(jnp.float32, _COMPUTE[execution.precision], jnp.float32)


def matmul_precision(execution: Execution) -> AbstractContextManager[None]:
    """A context in which matrix products and their gradients have the precision of the execution."""
    # In bfloat16 there is nothing left to round. "default" is set explicitly, to override the user's setting.
    return jax.default_matmul_precision("default" if execution.precision == "bfloat16" else execution.precision)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def product(execution: Execution, formula: str, left: Array, right: Array) -> Float32[Array, "..."]:
    """`jnp.einsum` of two arrays of one dtype, accumulated and returned in float32, for a softmax or division after it.

    The incoming gradient is rounded to the dtype of the arrays. Automatic differentiation would multiply a float32
    gradient in the backward pass, which cannot use a GPU's bfloat16 matrix units. In float32 the bits are those of
    `einsum`.
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
    """A context, or decorator, that disables 64-bit types: the same bits with the user's `JAX_ENABLE_X64` as without.

    Explicit dtypes alone would not do, because Optax, Haiku and JAX create numbers of their own, such as powers of a
    decay or random numbers, which differ in 64 bits.
    """
    with jax.enable_x64(False):
        yield


@contextmanager
def under_standard_rules() -> Iterator[None]:
    """`in_32_bits` with JAX's standard promotion rules, for Optax, which mixes dtypes and ranks; the user's
    `JAX_NUMPY_DTYPE_PROMOTION` or `JAX_NUMPY_RANK_PROMOTION` may forbid that. bertjax's own functions do not."""
    with in_32_bits(), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def to_compute(policy: jmp.Policy, params: Params, kept: Collection[str] = ()) -> Params:
    """Casts parameters to the compute dtype; host arrays become JAX arrays.

    Args:
      policy: of `policy_of`.
      params: float32. Quantised weights are not cast; their layer converts them.
      kept: further modules whose parameters stay float32, as those of layer norms and embeddings do.
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
