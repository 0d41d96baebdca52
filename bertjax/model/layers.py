"""Linear, embedding and layer norm with BERT's initialisation and epsilon, and the activations.

Haiku's defaults differ from BERT's: `hk.Linear` scales its weights by fan-in, `hk.LayerNorm` has epsilon 1e-5.
"""

import math
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32, Int

from bertjax.config import BertConfig
from bertjax.model.precision import policy_of
from bertjax.model.products import matmul
from bertjax.model.quantized import QuantizedWeight, int8_product, int8_rows

_SQRT_HALF = 0.5**0.5
_NORMAL_PEAK = (2 * math.pi) ** -0.5
_FEW_ROWS = 4  # up to here the gradient of a table is a masked sum per row: token types, not positions


@jax.custom_jvp
def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU, x times the normal distribution function (Hendrycks and Gimpel 2016); Hugging Face's "gelu".

    The derivative is written by hand so that the forward pass can store it: automatic differentiation would compute the
    error function, the costly part, again in the backward pass. Both are computed in float32 and rounded once; in
    bfloat16 each operation would round, and the error of the last hidden state would grow by a quarter.
    """
    wide = x.astype(jnp.float32)
    return (wide * _normal_cdf(wide)).astype(x.dtype)


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (x_dot,) = primals, tangents
    wide = x.astype(jnp.float32)
    cdf = _normal_cdf(wide)
    slope = cdf + wide * jnp.exp(-0.5 * wide * wide) * _NORMAL_PEAK
    return (wide * cdf).astype(x.dtype), slope.astype(x.dtype) * x_dot


def _normal_cdf(x: Array) -> Array:
    return 0.5 * (1.0 + lax.erf(x * _SQRT_HALF))


def _tanh_gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=True)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    # Hugging Face's "gelu" is exact; JAX's default is the tanh approximation, Hugging Face's "gelu_new".
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


def embedding(
    config: BertConfig, size: int, name: str, width: int | None = None
) -> Float[Array, "N D"] | QuantizedWeight:
    """The embedding table of the module `name`: `size` vectors, of the config's embedding width by default."""
    return hk.Embed(size, width or config.embedding_width, w_init=initializer(config), name=name).embeddings


def look_up(table: Float32[Array, "N D"] | QuantizedWeight, indices: Int[Array, "B T"]) -> Float32[Array, "B T D"]:
    """Rows of an embedding table. An index out of range gives NaN, where JAX would silently clamp it."""
    if isinstance(table, QuantizedWeight):
        return int8_rows(table, indices)
    return (_look_up_few if len(table) <= _FEW_ROWS else _rows_of)(table, indices)


def _rows_of(table: Array, indices: Array) -> Array:
    return table.at[indices].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


@jax.custom_vjp
def _look_up_few(table: Array, indices: Array) -> Array:
    """`_rows_of` with a gradient that is a masked sum per row instead of a scatter-add.

    On a GPU a scatter-add into few rows serialises on atomics: for the two rows of token types it took 78% of a
    training step on an H200.
    """
    return _rows_of(table, indices)


def _look_up_few_forward(table: Array, indices: Array) -> tuple[Array, tuple[Array, Array]]:
    return _rows_of(table, indices), (table, indices)


def _look_up_few_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None]:
    table, indices = saved
    rows = jnp.arange(len(table), dtype=indices.dtype)
    belongs = indices[None] == rows[:, None, None]  # [N, B, T]; no row has an index outside
    return jnp.where(belongs[..., None], gradient[None], 0).sum(axis=(1, 2)), None


_look_up_few.defvjp(_look_up_few_forward, _look_up_few_backward)


def gather_positions(values: Float[Array, "B T D"], positions: Int[Array, "B R"]) -> Float[Array, "B R D"]:
    """The values at some positions of each row. A position out of range gives NaN; JAX would wrap a negative one."""
    outside = values.shape[1]
    positions = jnp.where(positions < 0, outside, positions)
    return jnp.take_along_axis(values, positions[:, :, None], axis=1, mode="fill", fill_value=jnp.nan)


class _Linear(hk.Module):
    """`hk.Linear` with BERT's initialisation, the matrix product of `products`, and weights that may be int8."""

    def __init__(self, config: BertConfig, output_size: int, bias: bool, name: str):
        super().__init__(name)
        self.config, self.output_size, self.bias = config, output_size, bias

    def __call__(self, x: Float[Array, "*shape D"]) -> Float[Array, "*shape F"]:
        weight = hk.get_parameter("w", (x.shape[-1], self.output_size), x.dtype, init=initializer(self.config))
        if isinstance(weight, QuantizedWeight):
            mapped = int8_product(x, weight)
        else:
            mapped = matmul(self.config.execution, x, weight)
        if not self.bias:
            return mapped
        bias = hk.get_parameter("b", (self.output_size,), x.dtype, init=jnp.zeros)
        return mapped + jnp.broadcast_to(bias, mapped.shape)


def linear(
    config: BertConfig, output_size: int, name: str, dtype: DTypeLike | None = None, bias: bool | None = None
) -> Callable[[Float[Array, "*shape D"]], Float[Array, "*shape F"]]:
    """A linear layer over the last axis; its bias starts at 0.

    Args:
      config: of the network.
      output_size: F.
      name: of the module.
      dtype: of the parameters, to which the input is cast; None for the network's compute dtype.
      bias: whether it has one; None for what the layers of the encoder have.
    """
    module = _Linear(config, output_size, config.biases if bias is None else bias, name)
    computed = policy_of(config.execution).compute_dtype if dtype is None else dtype
    return lambda x: module(x.astype(computed))


def layer_norm(config: BertConfig, name: str) -> Callable[[Float[Array, "*shape D"]], Float32[Array, "*shape D"]]:
    """Layer normalisation over the last axis, with the checkpoint's epsilon, in float32."""
    module = hk.LayerNorm(axis=-1, create_scale=True, create_offset=config.biases, eps=config.layer_norm_eps, name=name)
    return lambda x: module(x.astype(jnp.float32))


def add_residual(residual: Float32[Array, "*shape"], x: Float[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """Adds the output of a sublayer to the residual stream.

    The stream stays float32 from the embeddings to the heads, as under torch's autocast: rounding it to bfloat16 after
    every norm adds a sixth to the error of the last hidden state.
    """
    return residual + x.astype(residual.dtype)
