"""The encoder: a stack of self-attention and feed-forward layers, normalised after each (BERT, section 3).

    B rows   T tokens in a row   D hidden size   F feed-forward size   R positions to read

The last layer can be computed only at the positions that a head reads: nothing else looks at the rest, so the
result is the same and its queries and its feed-forward cost next to nothing.
"""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bertjax.config import BertConfig
from bertjax.model.attention import SelfAttention, attention_mask
from bertjax.model.dropout import maybe_dropout
from bertjax.model.layers import activation, layer_norm, linear


class EncoderLayer(hk.Module):
    """Self-attention, then a position-wise feed-forward block; each adds to its input and normalises the sum."""

    def __init__(self, config: BertConfig, name: str):
        super().__init__(name)
        self.config = config

    def __call__(
        self,
        queries_from: Float[Array, "B R D"],
        keys_from: Float[Array, "B T D"],
        mask: Bool[Array, "B R T"],
        deterministic: bool,
    ) -> Float[Array, "B R D"]:
        c = self.config
        attended = SelfAttention(c)(queries_from, keys_from, mask, deterministic)
        attended = maybe_dropout(c.hidden_dropout_rate, attended, deterministic)
        attended = layer_norm(c, "attention_norm")(queries_from + attended)

        intermediate = linear(c, c.intermediate_size, "intermediate")(attended)  # [B, R, F]
        output = linear(c, c.hidden_size, "output")(activation(c.hidden_act)(intermediate))  # [B, R, D]
        output = maybe_dropout(c.hidden_dropout_rate, output, deterministic)
        return layer_norm(c, "output_norm")(attended + output)


def encode(
    config: BertConfig,
    hidden_states: Float[Array, "B T D"],
    segment_ids: Int[Array, "B T"],
    read_at: Int[Array, "B R"] | None,
    deterministic: bool,
) -> Float[Array, "B R D"]:
    """Runs the layers `layer_0` .. `layer_{n-1}`, made in the module that calls this.

    Args:
      config: the architecture.
      hidden_states: the embeddings.
      segment_ids: which example each token belongs to; 0 is padding.
      read_at: positions at which the result is needed, or None for all of them (R = T).
      deterministic: no dropout.
    """
    mask = attention_mask(segment_ids, segment_ids)
    for i in range(config.num_layers - 1):
        hidden_states = EncoderLayer(config, f"layer_{i}")(hidden_states, hidden_states, mask, deterministic)

    queries_from = hidden_states
    if read_at is not None:
        queries_from = jnp.take_along_axis(hidden_states, read_at[:, :, None], axis=1)  # [B, R, D]
        mask = jnp.take_along_axis(mask, read_at[:, :, None], axis=1)  # [B, R, T]
    return EncoderLayer(config, f"layer_{config.num_layers - 1}")(queries_from, hidden_states, mask, deterministic)
