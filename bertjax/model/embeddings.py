"""Embeddings: the sum of word, position and token type embeddings, normalised (BERT, section 3, figure 2).

Other encoders have no token types, rotary positions in attention instead, or narrower embeddings and a projection.

B rows   T tokens in a row   D hidden size   W width of the embeddings   V vocabulary   H heads
"""

from typing import NamedTuple

import haiku as hk
from jaxtyping import Array, Float

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.model.dropout import drop_features, token_places
from bertjax.model.layers import embedding, layer_norm, linear, look_up
from bertjax.model.quantized import QuantizedWeight


class Embedded(NamedTuple):
    """The embedded batch, and the tables that later modules read too.

    Attributes:
      hidden_states: the first layer's input.
      words: the table of word embeddings, to which a masked-LM decoder is tied.
      distances: relative position biases of the attention scores, by bucket and head; None without them.
    """

    hidden_states: Float[Array, "B T D"]
    words: Float[Array, "V W"] | QuantizedWeight
    distances: Float[Array, "buckets H"] | None


class Embeddings(hk.Module):
    """Maps token, position and token type ids to the first layer's input."""

    def __init__(self, config: BertConfig, name: str = "embeddings"):
        super().__init__(name)
        self.config = config

    def __call__(
        self, batch: Batch, deterministic: bool, word_embeddings: Float[Array, "B T W"] | None = None
    ) -> Embedded:
        c = self.config
        table = embedding(c, c.vocab_size, "word")
        embedded = look_up(table, batch.token_ids) if word_embeddings is None else word_embeddings  # [B, T, W]
        positions = None
        if c.rotary is None:
            table_of_positions = embedding(c, c.max_position_embeddings, "position")
            positions = look_up(table_of_positions, batch.position_ids + c.position_offset)
        if c.type_vocab_size:
            embedded = embedded + look_up(embedding(c, c.type_vocab_size, "token_type"), batch.token_type_ids)
        if positions is not None:
            embedded = embedded + positions
        embedded = layer_norm(c, "norm")(embedded)
        embedded = drop_features(c.rate("embedding_dropout_rate"), embedded, token_places(batch), deterministic)
        if c.embedding_width != c.hidden_size:
            embedded = linear(c, c.hidden_size, "projection")(embedded)
        distances = None
        if c.distance_buckets:
            biases = embedding(c, c.distance_buckets, "distance", c.num_heads)
            assert not isinstance(biases, QuantizedWeight), "the word embeddings are the only quantised table"
            distances = biases
        return Embedded(embedded, table, distances)
