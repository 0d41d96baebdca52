"""What reads the encoder: pooling of an example to one vector, and the heads that make logits of it.

    B rows   T tokens in a row   D hidden size   E example slots in a row   L labels

Three poolings: `pooler` (dense and tanh over `[CLS]`, as transformers' BertForSequenceClassification; it is in BERT's
code and not in the paper), `cls` (the hidden state of `[CLS]` as it is), `mean` (over the example's tokens, as
sentence encoders have it).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bertjax.batch import Batch
from bertjax.config import BertConfig
from bertjax.model.bert import Bert
from bertjax.model.dropout import maybe_dropout
from bertjax.model.layers import linear

Pooling = Literal["pooler", "cls", "mean"]


class BertOutput(NamedTuple):
    """What the network returns for a batch.

    Attributes:
      logits: [B, E, L] of a task head, or None for the bare encoder.
      pooled_output: [B, E, D] one vector for each example slot.
      hidden_states: [B, T, D] of the last layer, or None where they were not asked for.
    """

    logits: Float[Array, "B E L"] | None
    pooled_output: Float[Array, "B E D"]
    hidden_states: Float[Array, "B T D"] | None


def encoder(
    config: BertConfig, batch: Batch, pooling: Pooling, return_hidden_states: bool, deterministic: bool
) -> BertOutput:
    """The bare encoder: one vector an example.

    Unless the hidden states are asked for or the pooling needs them, the last layer runs at `[CLS]` alone.
    """
    bert = Bert(config)
    if pooling == "mean" or return_hidden_states:
        hidden_states = bert(batch, deterministic=deterministic)  # [B, T, D]
        if pooling == "mean":
            pooled = mean_of_examples(hidden_states, batch.segment_ids, batch.example_starts.shape[1])
        else:
            pooled = jnp.take_along_axis(hidden_states, batch.example_starts[:, :, None], axis=1)
    else:
        pooled = bert(batch, read_at=batch.example_starts, deterministic=deterministic)  # [B, E, D]
    if pooling == "pooler":
        pooled = jnp.tanh(linear(config, config.hidden_size, "pooler")(pooled))
    return BertOutput(logits=None, pooled_output=pooled, hidden_states=hidden_states if return_hidden_states else None)


def classification(
    config: BertConfig, num_labels: int, batch: Batch, pooling: Pooling, return_hidden_states: bool, deterministic: bool
) -> BertOutput:
    """Sequence classification: pool, dropout, one linear layer named `classifier` (BERT, section 4.1)."""
    output = encoder(config, batch, pooling, return_hidden_states, deterministic)
    features = maybe_dropout(config.hidden_dropout_rate, output.pooled_output, deterministic)
    return output._replace(logits=linear(config, num_labels, "classifier")(features))


def mean_of_examples(
    hidden_states: Float[Array, "B T D"], segment_ids: Int[Array, "B T"], num_slots: int
) -> Float[Array, "B E D"]:
    """The mean of each example's tokens; 0 in an empty slot."""
    membership = jax.nn.one_hot(segment_ids - 1, num_slots, axis=1, dtype=hidden_states.dtype)  # [B, E, T]
    total = jnp.einsum("BET,BTD->BED", membership, hidden_states)
    return total / jnp.maximum(membership.sum(axis=-1, keepdims=True), 1)
