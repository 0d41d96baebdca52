"""Mixed precision: which dtype each part of the network is computed in, as policies of jmp.

Parameters and outputs are float32. Matrix products and what lies between them are in the compute dtype; layer norms and
the softmax go back to float32 on their own (`layers`, `attention`), so their parameters are never rounded.

The precision of a float32 matrix product is a separate setting: by default, JAX lets an NVIDIA GPU round them to
10 bits (TF32) and a TPU to 7 (bfloat16) on their way in.

JAX's own process-wide settings, which belong to the user, change none of this: what bertjax computes is traced under
the contexts of this file.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import jmp
from jaxtyping import Array

from bertjax.config import Execution
from bertjax.errors import ConfigError

_COMPUTE = {"float32": jnp.float32, "tensorfloat32": jnp.float32, "bfloat16": jnp.bfloat16}
_LAYER_NORM = ("scale", "offset")  # Haiku's names of its parameters

Params = Mapping[str, Mapping[str, Any]]


def policy_of(execution: Execution) -> jmp.Policy:
    """float32 parameters and outputs around the execution's precision."""
    return jmp.Policy(jnp.float32, _COMPUTE[execution.precision], jnp.float32)


def matmul_precision(execution: Execution) -> AbstractContextManager[None]:
    """A context in which matrix products and their gradients have the precision of the execution."""
    # bfloat16 has nothing left to round; the default is named, or it would be the user's own.
    return jax.default_matmul_precision("default" if execution.precision == "bfloat16" else execution.precision)


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
      params: float32.
      kept: modules whose parameters stay float32, as those of layer norms do.
    """

    def cast(module: str, name: str, value: Any) -> Array:
        return jnp.asarray(value if name in _LAYER_NORM or module in kept else policy.cast_to_compute(value))

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
