"""The one batch: what the data side hands to the network.

    B rows   T tokens in a row   E example slots in a row

A packed row holds several examples one after the other; a padded row is a packed row that holds one. Everything
that reads a batch (attention, heads, losses) works on this shape alone, so packing never changes the maths.
"""

from typing import Any, NamedTuple

import numpy as np

# Batches travel as numpy arrays on the host and as jax arrays inside a step, so the leaves are typed by shape alone.
Array = Any


class Batch(NamedTuple):
    """Examples laid out in rows. Integer leaves are int32, weights float32.

    Attributes:
      token_ids: [B, T] vocabulary indices.
      token_type_ids: [B, T] 0 for the first text of an example, 1 for the second of a pair.
      position_ids: [B, T] positions, restarting at 0 with each example.
      segment_ids: [B, T] 0 is padding; 1.. names the example in its row, so slot e of a row is segment e + 1.
      example_starts: [B, E] the token where each example of the row begins (its `[CLS]`); 0 in an empty slot.
      labels: [B, E] the label of each example; 0 in an empty slot.
      example_weights: [B, E] 1 for an example, 0 for an empty slot.
    """

    token_ids: Array
    token_type_ids: Array
    position_ids: Array
    segment_ids: Array
    example_starts: Array
    labels: Array
    example_weights: Array


def padded_batch(
    attention_mask: Array, token_ids: Array, token_type_ids: Array | None = None, labels: Array | None = None
) -> Batch:
    """The batch of a padded block of text, one example a row, as other libraries lay it out.

    Args:
      attention_mask: [B, T] 1 on real tokens, which must come first in each row, 0 on padding.
      token_ids: [B, T] vocabulary indices.
      token_type_ids: [B, T] or None for all 0.
      labels: [B] or None for all 0.

    Returns:
      A `Batch` with E = 1.
    """
    segment_ids = np.asarray(attention_mask, np.int32)
    rows, length = segment_ids.shape
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), (rows, length))
    return Batch(
        token_ids=np.asarray(token_ids, np.int32),
        token_type_ids=np.zeros_like(segment_ids) if token_type_ids is None else np.asarray(token_type_ids, np.int32),
        position_ids=positions * segment_ids,
        segment_ids=segment_ids,
        example_starts=np.zeros((rows, 1), np.int32),
        labels=np.zeros((rows, 1), np.int32) if labels is None else np.asarray(labels, np.int32).reshape(rows, 1),
        example_weights=np.ones((rows, 1), np.float32),
    )


def empty_batch(rows: int, row_length: int, slots: int) -> Batch:
    """A batch of padding alone: B = rows, T = row_length, E = slots."""
    tokens, examples = (rows, row_length), (rows, slots)
    return Batch(
        token_ids=np.zeros(tokens, np.int32),
        token_type_ids=np.zeros(tokens, np.int32),
        position_ids=np.zeros(tokens, np.int32),
        segment_ids=np.zeros(tokens, np.int32),
        example_starts=np.zeros(examples, np.int32),
        labels=np.zeros(examples, np.int32),
        example_weights=np.zeros(examples, np.float32),
    )
