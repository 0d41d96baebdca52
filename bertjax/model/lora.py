"""LoRA: low-rank adapters of the encoder's linear layers (Hu et al. 2021, arXiv:2106.09685, section 4.1).

    B rows   R positions   D input width   F output width   r rank

A layer x W + b becomes x W + b + s drop(x) A B with s = alpha / r. W and b are frozen; A [D, r] and B [r, F] are
trained. B starts at 0, so training starts from the pretrained network. `merged` adds s A B to W after training, which
gives a plain network again.

A starts uniform within 1 / sqrt(D), as in peft; the paper has a normal distribution.
"""

from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bertjax.config import ANY_LAYER, Adapters, BertConfig
from bertjax.model.dropout import TokenPlaces, drop_features
from bertjax.model.layers import linear
from bertjax.model.precision import in_32_bits, policy_of

Params = Mapping[str, Mapping[str, Any]]

_SUFFIX = "_lora"  # the module of an adapter is named after its layer, with this suffix


class Adapter(hk.Module):
    """s drop(x) A B, with the parameters `down` (A) and `up` (B)."""

    def __init__(self, config: BertConfig, adapters: Adapters, output_size: int, name: str):
        super().__init__(name)
        self.config, self.adapters, self.output_size = config, adapters, output_size

    def __call__(self, x: Float[Array, "B R D"], places: TokenPlaces, deterministic: bool) -> Float[Array, "B R F"]:
        rank, width = self.adapters.rank, x.shape[-1]
        start = hk.initializers.RandomUniform(-(width**-0.5), width**-0.5)
        down = hk.get_parameter("down", [width, rank], init=start)
        up = hk.get_parameter("up", [rank, self.output_size], init=jnp.zeros)
        x = drop_features(self.adapters.dropout_rate, x, places, deterministic)
        x = x.astype(policy_of(self.config.execution).compute_dtype)
        return (x @ down * self.adapters.scale) @ up


def adapted_linear(
    config: BertConfig, output_size: int, name: str
) -> Callable[[Float[Array, "B R D"], TokenPlaces, bool], Float[Array, "B R F"]]:
    """`linear`, with an adapter where the config has one for this layer.

    Returns:
      (x, places of its tokens, deterministic) -> the layer's output.
    """
    layer, adapters = linear(config, output_size, name), config.adapters
    # Scanned layers all have the same adapters, and their module name lacks the encoder's.
    path = f"{hk.experimental.current_name()}/{name}".replace(ANY_LAYER, "bert/layer_0")
    if adapters is None or path not in adapters.modules:
        return lambda x, places, deterministic: layer(x)
    adapter = Adapter(config, adapters, output_size, name + _SUFFIX)
    return lambda x, places, deterministic: layer(x) + adapter(x, places, deterministic)


def adapter_of(module: str) -> str:
    """The path of the adapter of a linear layer.

    >>> adapter_of("bert/layer_0/attention/query")
    'bert/layer_0/attention/query_lora'
    """
    return module + _SUFFIX


def is_adapter(module: str) -> bool:
    """Whether a path is that of an adapter."""
    return module.endswith(_SUFFIX)


@in_32_bits()
def merged(adapters: Adapters | None, params: Params) -> Params:
    """The parameters of the equivalent network without adapters: W + s A B instead of W."""
    if adapters is None:
        return params
    plain = {module: leaves for module, leaves in params.items() if not is_adapter(module)}
    for module in adapters.modules:
        weight, adapter = params[module]["w"], params[adapter_of(module)]
        # In full float32 whatever the precision of training: the sum is stored.
        product = jnp.matmul(adapter["down"], adapter["up"], precision=jax.lax.Precision.HIGHEST)
        plain[module] = {**params[module], "w": weight + adapters.scale * product}
    return plain
