"""Multi-head self-attention (Vaswani et al. 2017, section 3.2), joined only within an example.

    B rows   T query positions   S key positions   D hidden size   H heads   K head size

Departs from the formula in the order of operations, never in the result: the softmax's division is applied to the
weighted sum, which has K numbers a query, and not to the weights, of which there are S.
"""

import haiku as hk
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from bertjax.config import BertConfig
from bertjax.model.dropout import maybe_dropout
from bertjax.model.layers import linear


def attention_mask(query_segments: Int[Array, "B T"], key_segments: Int[Array, "B S"]) -> Bool[Array, "B T S"]:
    """True where a query may look at a key: both belong to the same example, and that is not padding."""
    same_example = query_segments[:, :, None] == key_segments[:, None, :]
    return same_example & (key_segments != 0)[:, None, :]


class SelfAttention(hk.Module):
    """Each query position's mix of the values of its own example."""

    def __init__(self, config: BertConfig, name: str = "attention"):
        super().__init__(name)
        self.config = config

    def __call__(
        self,
        queries_from: Float[Array, "B T D"],
        keys_from: Float[Array, "B S D"],
        mask: Bool[Array, "B T S"],
        deterministic: bool,
    ) -> Float[Array, "B T D"]:
        c = self.config
        query = split_heads(c, linear(c, c.hidden_size, "query")(queries_from))  # [B, H, T, K]
        key = split_heads(c, linear(c, c.hidden_size, "key")(keys_from))  # [B, H, S, K]
        value = split_heads(c, linear(c, c.hidden_size, "value")(keys_from))  # [B, H, S, K]

        scores = jnp.einsum("BHTK,BHSK->BHTS", query * c.head_size**-0.5, key)
        # A finite floor keeps a query without any key (padding) finite too: it averages over the row, unread.
        scores = jnp.where(mask[:, None], scores, jnp.finfo(scores.dtype).min)
        # The shift cancels in the quotient, so no gradient flows through it.
        weights = jnp.exp(scores - lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
        total = weights.sum(axis=-1, keepdims=True)  # [B, H, T, 1]
        weights = maybe_dropout(c.attention_dropout_rate, weights, deterministic)
        context = jnp.einsum("BHTS,BHSK->BHTK", weights, value) / total

        return linear(c, c.hidden_size, "output")(merge_heads(context))  # [B, T, D]


def split_heads(config: BertConfig, projected: Float[Array, "B T D"]) -> Float[Array, "B H T K"]:
    """Cuts the last axis into heads; heads come first, so that each is one contiguous matrix product."""
    rows, length, _ = projected.shape
    return projected.reshape(rows, length, config.num_heads, config.head_size).transpose(0, 2, 1, 3)


def merge_heads(context: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
    """The inverse of `split_heads`."""
    rows, heads, length, size = context.shape
    return context.transpose(0, 2, 1, 3).reshape(rows, length, heads * size)
