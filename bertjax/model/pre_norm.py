"""The pre-norm layer (Xiong et al. 2020, arXiv:2002.04745) with a gated feed-forward block, as in ModernBERT.

    B rows   T tokens in a row   R positions to read   D hidden size   F feed-forward size   H heads

The residual stream is normalised only once, by `encode` after the last layer. The first layer reads embeddings, which
are normalised already, and has no norm before its attention.

The gate is GEGLU (Shazeer 2020, arXiv:2002.05202): the activation of one half of a layer of width 2F times the other.
Without a gate, the block is BERT's.
"""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from bertjax.config import BertConfig, LayerRotary
from bertjax.model.attention.self_attention import AttentionContext, SelfAttention
from bertjax.model.dropout import drop_features
from bertjax.model.layers import activation, add_residual, layer_norm
from bertjax.model.lora import adapted_linear


class PreNormLayer(hk.Module):
    """Self-attention, then a position-wise feed-forward block, each with a norm before it and a residual connection."""

    def __init__(self, config: BertConfig, rotary: LayerRotary | None, name: str):
        super().__init__(name)
        self.config, self.rotary, self.is_first = config, rotary, name == "layer_0"

    def __call__(
        self,
        queries_from: Float[Array, "B R D"],
        keys_from: Float[Array, "B T D"],
        context: AttentionContext,
        deterministic: bool,
        return_attentions: bool,
    ) -> tuple[Float[Array, "B R D"], Float[Array, "B H R T"] | None]:
        c, queries = self.config, context.queries
        normed_queries, normed_keys = queries_from, keys_from
        if not self.is_first:
            norm = layer_norm(c, "attention_norm")
            normed_queries = norm(queries_from)
            normed_keys = normed_queries if keys_from is queries_from else norm(keys_from)
        attended, weights = SelfAttention(c, self.rotary)(
            normed_queries, normed_keys, context, deterministic, return_attentions
        )
        # ModernBERT has one dropout rate for the attention weights and for attention's output.
        attended = drop_features(c.attention_dropout_rate, attended, queries, deterministic)
        attended = add_residual(queries_from, attended)

        widened = adapted_linear(c, (1 + c.gated) * c.intermediate_size, "intermediate")
        wide = widened(layer_norm(c, "output_norm")(attended), queries, deterministic)  # [B, R, W]
        inner = self._activated(wide)  # [B, R, F]
        inner = drop_features(c.hidden_dropout_rate, inner, queries, deterministic)
        output = adapted_linear(c, c.hidden_size, "output")(inner, queries, deterministic)
        return add_residual(attended, output), weights

    def _activated(self, wide: Float[Array, "B R W"]) -> Float[Array, "B R F"]:
        activated = activation(self.config.hidden_act)
        if not self.config.gated:
            return activated(wide)
        inputs, gate = jnp.split(wide, 2, axis=-1)
        return activated(inputs) * gate
