"""`Batch`: the pytree that the data pipeline passes to the network.

    B rows   T tokens in a row   E example slots in a row

A packed row holds several examples one after the other; a padded row is a packed row with a single example. Everything
that reads a batch (attention, heads, losses) works on this one layout, so packing never changes the maths.
"""

from typing import Any, Literal, NamedTuple

import numpy as np

# Batches travel as numpy arrays on the host and as jax arrays inside a step, so the leaves are typed by shape alone.
Array = Any

LabelsOf = Literal["examples", "tokens"]
"""The axis of a batch that labels (or scores) lie on: one for each example, which may be a group of texts, or for each
token."""


class Batch(NamedTuple):
    """Packed examples. Integer leaves are int32, weights and real-valued labels float32.

    Labels and weights are per example slot [B, E], per token [B, T] or per group of slots [B, G], with trailing axes
    if a label is not a single number; `Pretraining` holds two of them.

    Attributes:
      token_ids: [B, T] vocabulary indices.
      token_type_ids: [B, T] 0 for the first text of an example, 1 for the second of a pair.
      position_ids: [B, T] positions, restarting at 0 with each example.
      segment_ids: [B, T] 0 for padding, e + 1 for the example in slot e of the row.
      example_starts: [B, E] position of each example's first token, `[CLS]`; 0 in an empty slot.
      example_numbers: [B, E] the example's number within its update, which seeds its dropout masks independently of the
        row and device it is on; 0 in an empty slot.
      labels: [B, E], or the shape of the task; 0 where the weight is 0. Positions of an answer count from the start of
        their example.
      example_weights: [B, E], or like the labels: weight in the loss; 0 for empty slots and unlabelled tokens.
      teacher_scores: a teacher's scores for distillation, [B, E, ...] or the shape of the task's scores; 0 where the
        weight is 0. None without a teacher.
      teacher_hidden_states: [B, T, K, D] hidden states of K layers of a teacher; None without them.
    """

    token_ids: Array
    token_type_ids: Array
    position_ids: Array
    segment_ids: Array
    example_starts: Array
    example_numbers: Array
    labels: Any
    example_weights: Any
    teacher_scores: Any = None
    teacher_hidden_states: Any = None


class Pretraining(NamedTuple):
    """The two tasks of BERT's pre-training, for labels, weights, logits and losses alike.

    Attributes:
      masked_lm: [B, T], logits [B, T, V].
      next_sentence: [B, E], logits [B, E, 2].
    """

    masked_lm: Array
    next_sentence: Array


class LabelKind(NamedTuple):
    """The shape and dtype of a task's labels, from which an empty batch can be made.

    Attributes:
      labels_of: whether they are per example or per token.
      shape: of a single label, such as (L,) for several numbers per example.
      dtype: int32 for indices, float32 for real numbers.
      texts: C, the texts of an example, which take consecutive slots of a row.
      taught: shape of a teacher's scores for a single label, such as (L,); None without a teacher.
    """

    labels_of: LabelsOf = "examples"
    shape: tuple[int, ...] = ()
    dtype: type = np.int32
    texts: int = 1
    taught: tuple[int, ...] | None = None


CLASS_INDEX = LabelKind()  # one index an example

UNLABELLED = -100  # the label of an unlabelled token, as in PyTorch and transformers


def padded_batch(
    attention_mask: Array,
    token_ids: Array,
    token_type_ids: Array | None = None,
    labels: Array | None = None,
    labels_of: LabelsOf = "examples",
) -> Batch:
    """The batch of a padded block of text, one example a row, as other libraries lay it out.

    Args:
      attention_mask: [B, T] 1 on real tokens, which must come first, 0 on padding. With several texts an example
        (the candidates of a multiple choice, a pair to compare) [B, C, T]: the texts follow one another in a row.
      token_ids: of the same shape, vocabulary indices.
      token_type_ids: of the same shape, or None for all 0.
      labels: [B] or [B, L] for examples, [B, T] for tokens, or None for all 0.
      labels_of: the axis that the labels lie on. A token labelled -100 weighs nothing.

    Returns:
      A `Batch` with E = 1, or E = C.
    """
    mask = np.asarray(attention_mask, np.int32)
    mask = mask[:, None] if mask.ndim == 2 else mask  # [B, C, T]
    rows, texts, length = mask.shape
    flat = (rows, texts * length)
    positions = np.arange(length, dtype=np.int32) * mask
    segments = np.arange(1, texts + 1, dtype=np.int32)[:, None] * mask
    starts = np.broadcast_to(np.arange(texts, dtype=np.int32) * length, (rows, texts))
    label_array = np.zeros(rows, np.int32) if labels is None else _label_array(labels)
    weights = np.ones((rows, 1), np.float32)
    if labels_of == "tokens":
        weights = ((label_array != UNLABELLED) & (segments.reshape(flat) != 0)).astype(np.float32)
        label_array = np.where(weights, label_array, 0)
    else:
        label_array = label_array[:, None]
    return Batch(
        token_ids=np.asarray(token_ids, np.int32).reshape(flat),
        token_type_ids=np.zeros(flat, np.int32)
        if token_type_ids is None
        else np.asarray(token_type_ids, np.int32).reshape(flat),
        position_ids=positions.reshape(flat),
        segment_ids=segments.reshape(flat),
        example_starts=np.array(starts),
        example_numbers=np.arange(rows * texts, dtype=np.int32).reshape(rows, texts),
        labels=label_array,
        example_weights=weights,
    )


def _label_array(labels: Array) -> np.ndarray:
    array = np.asarray(labels)
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def empty_batch(rows: int, row_length: int, slots: int, kind: LabelKind = CLASS_INDEX) -> Batch:
    """A batch of padding alone: B = rows, T = row_length, E = slots."""
    tokens, examples = (rows, row_length), (rows, slots)
    labelled = tokens if kind.labels_of == "tokens" else (rows, slots // kind.texts)
    return Batch(
        token_ids=np.zeros(tokens, np.int32),
        token_type_ids=np.zeros(tokens, np.int32),
        position_ids=np.zeros(tokens, np.int32),
        segment_ids=np.zeros(tokens, np.int32),
        example_starts=np.zeros(examples, np.int32),
        example_numbers=np.zeros(examples, np.int32),
        labels=np.zeros((*labelled, *kind.shape), kind.dtype),
        example_weights=np.zeros(labelled, np.float32),
        teacher_scores=None if kind.taught is None else np.zeros((*labelled, *kind.taught), np.float32),
    )
