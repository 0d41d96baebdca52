"""Embeddings: the sum of word, position and segment embeddings, normalised (BERT, section 3, figure 2).

A network may have no segments, positions elsewhere (`rotary`), and embeddings of another width than its layers.

B rows   T tokens in a row   D hidden size   W width of the embeddings   V vocabulary
"""

import haiku as hk
from jaxtyping import Array, Float

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.model.dropout import drop_features, token_places
from bertjax.model.layers import embedding, layer_norm, linear, look_up


class Embeddings(hk.Module):
    """Token, position and token-type indices to the first layer's input, beside the table of word embeddings, to which
    a decoder may be tied."""

    def __init__(self, config: BertConfig, name: str = "embeddings"):
        super().__init__(name)
        self.config = config

    def __call__(
        self, batch: Batch, deterministic: bool, word_embeddings: Float[Array, "B T W"] | None = None
    ) -> tuple[Float[Array, "B T D"], Float[Array, "V W"]]:
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
        return embedded, table
