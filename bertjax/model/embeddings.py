"""Embeddings: the sum of word, position and segment embeddings, normalised (BERT, section 3, figure 2).

B rows   T tokens in a row   D hidden size   V vocabulary
"""

import haiku as hk
from jaxtyping import Array, Float

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.model.dropout import drop_features, token_places
from bertjax.model.layers import embedding, layer_norm, look_up


class Embeddings(hk.Module):
    """Token, position and token-type indices to the first layer's input, beside the table of word embeddings, to which
    a decoder may be tied."""

    def __init__(self, config: BertConfig, name: str = "embeddings"):
        super().__init__(name)
        self.config = config

    def __call__(
        self, batch: Batch, deterministic: bool, word_embeddings: Float[Array, "B T D"] | None = None
    ) -> tuple[Float[Array, "B T D"], Float[Array, "V D"]]:
        c = self.config
        table = embedding(c, c.vocab_size, "word")
        words = look_up(table, batch.token_ids) if word_embeddings is None else word_embeddings  # [B, T, D]
        positions = look_up(embedding(c, c.max_position_embeddings, "position"), batch.position_ids)
        token_types = look_up(embedding(c, c.type_vocab_size, "token_type"), batch.token_type_ids)
        hidden_states = layer_norm(c, "norm")(words + token_types + positions)
        return drop_features(c.hidden_dropout_rate, hidden_states, token_places(batch), deterministic), table
