"""BERT: embeddings and encoder under one name.

    B rows   T tokens in a row   D hidden size   R positions read

Source: Devlin et al. 2018 (arXiv:1810.04805).
"""

import haiku as hk
from jaxtyping import Array, Float, Int

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.model.embeddings import Embeddings
from bertjax.model.encoder import encode


class Bert(hk.Module):
    """The encoder with its embeddings; all of its parameters live under `bert/`."""

    def __init__(self, config: BertConfig, name: str = "bert"):
        super().__init__(name)
        self.config = config

    def __call__(
        self, batch: Batch, read_at: Int[Array, "B R"] | None = None, deterministic: bool = True
    ) -> Float[Array, "B R D"]:
        """Hidden states of the last layer, at every token or only at `read_at`."""
        hidden_states = Embeddings(self.config)(batch, deterministic)
        return encode(self.config, hidden_states, batch.segment_ids, read_at, deterministic)
