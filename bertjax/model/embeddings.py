"""Embeddings: the sum of word, position and segment embeddings, normalised (BERT, section 3, figure 2).

A network may have no segments, positions elsewhere (`rotary`), and embeddings of another width than its layers.

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
    """The embeddings of a batch, and tables that are read again.

    Attributes:
      hidden_states: the first layer's input.
      words: the table of word embeddings, to which a decoder may be tied.
      distances: a bias of attention's scores for each bucket of distances and each head; None where there is none.
    """

    hidden_states: Float[Array, "B T D"]
    words: Float[Array, "V W"] | QuantizedWeight
    distances: Float[Array, "buckets H"] | None


class Embeddings(hk.Module):
    """Token, position and token-type indices to the first layer's input."""

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
            assert not isinstance(biases, QuantizedWeight), "the word embeddings are the only table of integers"
            distances = biases
        return Embedded(embedded, table, distances)
