"""BERT: embeddings and encoder under one name.

    B rows   T tokens in a row   D hidden size   H heads   R positions read   N layers   V vocabulary

Source: Devlin et al. 2018 (arXiv:1810.04805).
"""

from typing import NamedTuple

import haiku as hk
from jaxtyping import Array, Float, Int

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.model.embeddings import Embeddings
from bertjax.model.encoder import Encoded, encode


class ForwardOptions(NamedTuple):
    """What a caller wants of a forward pass.

    Attributes:
      deterministic: no dropout.
      hidden_states: the embeddings and every layer's output.
      attentions: every layer's attention weights.
    """

    deterministic: bool = True
    hidden_states: bool = False
    attentions: bool = False

    @property
    def every_position(self) -> bool:
        """Whether the last layer must be computed at every token."""
        return self.hidden_states or self.attentions


class Bert(hk.Module):
    """The encoder with its embeddings; all of its parameters live under `bert/`."""

    def __init__(self, config: BertConfig, name: str = "bert"):
        super().__init__(name)
        self.config = config

    def __call__(
        self, batch: Batch, wanted: ForwardOptions, output_positions: Int[Array, "B R"] | None = None
    ) -> tuple[Encoded, Float[Array, "V D"]]:
        """What the encoder returns, and the table of word embeddings.

        Args:
          batch: the input.
          wanted: of the forward pass.
          output_positions: the positions at which the last layer is needed, or None for all.
        """
        embedded = Embeddings(self.config)(batch, wanted.deterministic)
        encoded = encode(
            self.config,
            embedded.hidden_states,
            batch.segment_ids,
            output_positions=output_positions,
            deterministic=wanted.deterministic,
            return_hidden_states=wanted.hidden_states,
            return_attentions=wanted.attentions,
        )
        return encoded, embedded.word_embeddings
