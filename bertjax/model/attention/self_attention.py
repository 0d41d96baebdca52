"""Multi-head self-attention (Vaswani et al. 2017, section 3.2) within the examples of packed rows.

    B rows   T query positions   S key positions   D hidden size   H heads   K head size

Departs from the formula only in the order of operations: the softmax's division is applied to the weighted sum (K
numbers per query) instead of the weights (S numbers per query). The softmax is computed in float32 whatever the compute
dtype.
"""

from functools import partial
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from bertjax.config import BertConfig, LayerRotary
from bertjax.errors import ConfigError
from bertjax.model.attention.fused_attention import HEAD_SIZES, fused_attention
from bertjax.model.attention.local_attention import attend_in_blocks, blocks_save_work
from bertjax.model.attention.rotary import in_window, rotated
from bertjax.model.dropout import TokenPlaces, drop_weights, weight_dropout
from bertjax.model.lora import adapted_linear
from bertjax.model.precision import product

# On CPUs, and on GPUs as far as measured: the Pallas kernel has never run on one, and cuDNN's, which has no dropout,
# was not measured in training. `scripts/benchmark_gpu.py --parts rows attention` measures them all.
_FASTEST_MEASURED = "xla"


def attention_mask(query_segments: Int[Array, "B T"], key_segments: Int[Array, "B S"]) -> Bool[Array, "B T S"]:
    """True where a query may attend to a key: both belong to the same example, and neither is padding."""
    same_example = query_segments[:, :, None] == key_segments[:, None, :]
    return same_example & (key_segments != 0)[:, None, :]


def on_gpu() -> bool:
    """Whether programs are compiled for a GPU here."""
    return jax.default_backend() == "gpu"


def chosen_attention(config: BertConfig) -> str:
    """The implementation of attention: that of the setting, or what "auto" stands for.

    Raises:
      ConfigError: the named kernel cannot compute heads of this size.
    """
    name = config.execution.attention
    if name == "auto":
        return _FASTEST_MEASURED
    if name == "pallas" and config.head_size not in HEAD_SIZES:
        raise ConfigError(
            f"attention 'pallas' computes heads of {', '.join(map(str, HEAD_SIZES))} numbers, and the model's have "
            f"{config.head_size}; use 'xla'"
        )
    return name


class AttentionContext(NamedTuple):
    """What attention knows of queries and keys besides their vectors.

    Attributes:
      mask: True where the query may attend to the key.
      queries: the tokens of the queries, for dropout and rotary positions.
      keys: the tokens of the keys.
      bias: added to the scores, of each row or of all rows alike; None without relative positions.
      segment_ids: the example of each position, where every position is a query; None where only some are.
    """

    mask: Bool[Array, "B T S"]
    queries: TokenPlaces
    keys: TokenPlaces
    bias: Float[Array, "_ H T S"] | None = None
    segment_ids: Int[Array, "B S"] | None = None


class SelfAttention(hk.Module):
    """Multi-head attention of each query to the keys of its example; returns the weights too, if requested."""

    def __init__(self, config: BertConfig, rotary: LayerRotary | None = None, name: str = "attention"):
        super().__init__(name)
        self.config, self.rotary = config, rotary

    def __call__(
        self,
        queries_from: Float[Array, "B T D"],
        keys_from: Float[Array, "B S D"],
        context: AttentionContext,
        deterministic: bool,
        return_weights: bool = False,
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B H T S"] | None]:
        c, queries, keys = self.config, context.queries, context.keys
        query = adapted_linear(c, c.hidden_size, "query")(queries_from, queries, deterministic)  # [B, T, D]
        key = adapted_linear(c, c.hidden_size, "key")(keys_from, keys, deterministic)  # [B, S, D]
        value = adapted_linear(c, c.hidden_size, "value")(keys_from, keys, deterministic)  # [B, S, D]
        query, key, value = (
            split_heads(c, projected) for projected in (query, key, value)
        )  # [B, H, T, K], [B, H, S, K]
        if self.rotary is not None:
            query = rotated(self.rotary.base, query, queries.positions)
            key = rotated(self.rotary.base, key, keys.positions)
        if return_weights:
            mixed, weights = _dot_product_attention(c, query, key, value, context, deterministic)
        else:
            mixed, weights = self._mixed(query, key, value, context, deterministic), None
        output = adapted_linear(c, c.hidden_size, "output")(merge_heads(mixed), queries, deterministic)
        return output, weights

    def _mixed(
        self,
        query: Float[Array, "B H T K"],
        key: Float[Array, "B H S K"],
        value: Float[Array, "B H S K"],
        context: AttentionContext,
        deterministic: bool,
    ) -> Float[Array, "B H T K"]:
        """The weighted sums of the values, by the implementation that suits; a kernel saves nothing for few queries."""
        c, segment_ids = self.config, context.segment_ids
        window = None if self.rotary is None else self.rotary.window
        implementation = chosen_attention(c)
        if implementation == "pallas" and segment_ids is not None:
            dropout = weight_dropout(
                c.attention_dropout_rate, c.num_heads, context.queries, context.keys, deterministic
            )
            return fused_attention(query, key, value, segment_ids, dropout, interpret=not on_gpu())
        if implementation == "cudnn" and query.shape == key.shape:
            return _cudnn_attention(c, query, key, value, context.mask, deterministic)
        if window is not None and segment_ids is not None and blocks_save_work(window, segment_ids.shape[1]):
            attend = partial(_windowed_attention, c, window, deterministic)
            return attend_in_blocks(attend, window, query, key, value, segment_ids, context.queries)
        return _dot_product_attention(c, query, key, value, context, deterministic)[0]


def _dot_product_attention(
    config: BertConfig,
    query: Float[Array, "B H T K"],
    key: Float[Array, "B H S K"],
    value: Float[Array, "B H S K"],
    context: AttentionContext,
    deterministic: bool,
) -> tuple[Float[Array, "B H T K"], Float[Array, "B H T S"]]:
    """The formula as it is, compiled by XLA: the weighted sums, and the weights before dropout."""
    scores = product(config.execution, "BHTK,BHSK->BHTS", query * config.head_size**-0.5, key)
    if context.bias is not None:
        scores = scores + context.bias.astype(scores.dtype)
    # A finite floor keeps a query without any key (padding) finite too: it averages over the row, and is never read.
    scores = jnp.where(context.mask[:, None], scores, jnp.finfo(scores.dtype).min)
    # The shift cancels in the quotient, so no gradient flows through it.
    exponentials = jnp.exp(scores - lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    total = exponentials.sum(axis=-1, keepdims=True)  # [B, H, T, 1]
    kept = drop_weights(config.attention_dropout_rate, exponentials, context.queries, context.keys, deterministic)
    mixed = product(config.execution, "BHTS,BHSK->BHTK", kept.astype(value.dtype), value)
    return (mixed / total).astype(value.dtype), exponentials / total


def _windowed_attention(
    config: BertConfig,
    window: int,
    deterministic: bool,
    query: Float[Array, "B H T K"],
    key: Float[Array, "B H S K"],
    value: Float[Array, "B H S K"],
    query_segments: Int[Array, "B T"],
    key_segments: Int[Array, "B S"],
    queries: TokenPlaces,
    keys: TokenPlaces,
) -> Float[Array, "B H T K"]:
    """The weighted sums of the values of tokens within the window."""
    mask = attention_mask(query_segments, key_segments) & in_window(window, queries, keys)
    return _dot_product_attention(config, query, key, value, AttentionContext(mask, queries, keys), deterministic)[0]


def _cudnn_attention(
    config: BertConfig,
    query: Float[Array, "B H T K"],
    key: Float[Array, "B H T K"],
    value: Float[Array, "B H T K"],
    mask: Bool[Array, "B T T"],
    deterministic: bool,
) -> Float[Array, "B H T K"]:
    """The weighted sums, by cuDNN's kernel without dropout.

    Raises:
      ConfigError: attention weights would be dropped.
    """
    if not deterministic and config.attention_dropout_rate > 0:
        raise ConfigError(
            f"attention 'cudnn' cannot drop attention weights, and their dropout rate is "
            f"{config.attention_dropout_rate}; train with a dropout rate of 0, or with attention 'xla'"
        )
    queries, keys, values = (heads.transpose(0, 2, 1, 3) for heads in (query, key, value))  # [B, T, H, K]
    mixed = jax.nn.dot_product_attention(
        queries, keys, values, mask=mask[:, None], scale=config.head_size**-0.5, implementation="cudnn"
    )
    return mixed.transpose(0, 2, 1, 3)


def split_heads(config: BertConfig, projected: Float[Array, "B T D"]) -> Float[Array, "B H T K"]:
    """Splits the last axis into heads, which come first, so that each is one contiguous matrix product."""
    rows, length, _ = projected.shape
    return projected.reshape(rows, length, config.num_heads, config.head_size).transpose(0, 2, 1, 3)


def merge_heads(context: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
    """The inverse of `split_heads`."""
    rows, heads, length, size = context.shape
    return context.transpose(0, 2, 1, 3).reshape(rows, length, heads * size)
