"""The three layers that every part of BERT uses, with BERT's own initialisation and epsilon.

Haiku's defaults differ from BERT's: `hk.Linear` scales its weights by fan-in, `hk.LayerNorm` has epsilon 1e-5.
Both are set here, once.
"""

import math
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from bertjax.config import BertConfig

_SQRT_HALF = 0.5**0.5
_NORMAL_PEAK = (2 * math.pi) ** -0.5


@jax.custom_jvp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x times the normal distribution function, exactly (Hendrycks and Gimpel 2016); Hugging Face's "gelu".

    Its derivative is written by hand so that the forward pass keeps it: derived automatically, the backward pass
    computes the error function, the costly part, a second time.
    """
    return x * _normal_cdf(x)


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (x_dot,) = primals, tangents
    cdf = _normal_cdf(x)
    return x * cdf, (cdf + x * jnp.exp(-0.5 * x * x) * _NORMAL_PEAK) * x_dot


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + lax.erf(x * _SQRT_HALF))


def _tanh_gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=True)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    # Hugging Face's "gelu" is the exact one; JAX's default is the tanh approximation, which they call "gelu_new".
    "gelu": gelu,
    "gelu_python": gelu,
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate"), _tanh_gelu),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The elementwise function that `hidden_act` names in a `config.json`."""
    return _ACTIVATIONS[name]


def initializer(config: BertConfig) -> hk.initializers.Initializer:
    """Normal with BERT's standard deviation, for every weight matrix and embedding."""
    return hk.initializers.RandomNormal(stddev=config.initializer_range)


def embedding(config: BertConfig, size: int, name: str) -> Float[Array, "N D"]:
    """The table of a module `name`: `size` vectors of the hidden size."""
    return hk.Embed(size, config.hidden_size, w_init=initializer(config), name=name).embeddings


def look_up(table: Float[Array, "N D"], indices: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """Rows of a table. An index outside of it gives NaN, where JAX would silently take the nearest row."""
    return table.at[indices].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def read_positions(values: Float[Array, "B T D"], positions: Int[Array, "B R"]) -> Float[Array, "B R D"]:
    """Some positions of each row; NaN for one that the row does not have, where JAX would count from its end."""
    outside = values.shape[1]
    positions = jnp.where(positions < 0, outside, positions)
    return jnp.take_along_axis(values, positions[:, :, None], axis=1, mode="fill", fill_value=jnp.nan)


def linear(config: BertConfig, output_size: int, name: str) -> hk.Linear:
    """An affine map of the last axis; bias starts at 0."""
    return hk.Linear(output_size, w_init=initializer(config), name=name)


def layer_norm(config: BertConfig, name: str) -> Callable[[Float[Array, "*shape D"]], Float[Array, "*shape D"]]:
    """Layer normalisation over the last axis, with the checkpoint's epsilon, in float32 whatever comes in."""
    module = hk.LayerNorm(axis=-1, create_scale=True, create_offset=True, eps=config.layer_norm_eps, name=name)
    return lambda x: module(x.astype(jnp.float32)).astype(x.dtype)
