"""BERT without a head: the embeddings and the encoder as one module.

    B rows   T tokens in a row   D hidden size   H heads   R positions read   N layers   V vocabulary
    W width of the embeddings

Source: Devlin et al. 2018 (arXiv:1810.04805).
"""

from typing import NamedTuple

import haiku as hk
from jaxtyping import Array, Float, Int

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.model.dropout import token_places
from bertjax.model.embeddings import Embeddings
from bertjax.model.encoder import Encoded, encode
from bertjax.model.quantized import QuantizedWeight


class ForwardOptions(NamedTuple):
    """Options of a forward pass.

    Attributes:
      deterministic: whether dropout is off.
      hidden_states: whether to return the embeddings and every layer's output.
      attentions: whether to return every layer's attention weights.
      word_embeddings: used instead of looking up the batch's token ids, such as to differentiate with respect to them.
    """

    deterministic: bool = True
    hidden_states: bool = False
    attentions: bool = False
    word_embeddings: Float[Array, "B T W"] | None = None

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
        self, batch: Batch, options: ForwardOptions, output_positions: Int[Array, "B R"] | None = None
    ) -> tuple[Encoded, Float[Array, "V W"] | QuantizedWeight]:
        """The encoder's output, and the table of word embeddings.

        Args:
          batch: the input.
          options: of this forward pass.
          output_positions: positions at which the last layer is computed, or None for all.
        """
        embedded = Embeddings(self.config)(batch, options.deterministic, options.word_embeddings)
        encoded = encode(
            self.config,
            embedded.hidden_states,
            batch.segment_ids,
            token_places(batch),
            output_positions=output_positions,
            deterministic=options.deterministic,
            return_hidden_states=options.hidden_states,
            return_attentions=options.attentions,
            distances=embedded.distances,
        )
        return encoded, embedded.words
