"""Mixed precision: which dtype each part of the network is computed in, as policies of jmp.

Parameters and outputs are float32. Matrix products and what lies between them are in the compute dtype; layer norms and
the softmax go back to float32 on their own (`layers`, `attention`), so their parameters are never rounded.

The precision of a float32 matrix product is a separate setting: by default, JAX lets an NVIDIA GPU round them to
10 bits (TF32) and a TPU to 7 (bfloat16) on their way in.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
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
    # bfloat16 has nothing left to round.
    return nullcontext() if execution.precision == "bfloat16" else jax.default_matmul_precision(execution.precision)


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
      ConfigError: cuDNN without an NVIDIA GPU, or in float32.
    """
    if execution.attention != "cudnn":
        return
    if execution.precision != "bfloat16":
        raise ConfigError(f"attention 'cudnn' computes in bfloat16, not in {execution.precision}; set the precision")
    platform = jax.default_backend()
    if platform != "gpu":
        raise ConfigError(f"attention 'cudnn' needs an NVIDIA GPU, the devices here are {platform}; use 'xla'")
