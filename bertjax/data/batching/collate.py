"""Collates examples into packed batches, in the shapes of a plan.

The batches are a pure function of examples, plan and step, so a run can resume at any step.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bertjax.batch import UNLABELLED, Batch, empty_batch
from bertjax.data.batching.batch_plan import Plan, Position
from bertjax.data.batching.packing import Layout, Row, pack, unpacked
from bertjax.data.encode.examples import Examples, ExampleStore


class PackedBatch(NamedTuple):
    """A batch and the indices of its examples.

    Attributes:
      example_ids: [B, E] index of each slot's example, -1 in an empty slot; [B, G] where an example is a group of
        texts.
      num_examples, num_tokens: counts without padding.
    """

    batch: Batch
    example_ids: np.ndarray
    num_examples: int
    num_tokens: int

    def token_sources(self, offsets: np.ndarray) -> np.ndarray:
        """The index of each token among the tokens of all examples, where an example is one text.

        Args:
          offsets: [N + 1] offsets of the examples.

        Returns:
          [B, T] indices; -1 in padding.
        """
        real = self.batch.segment_ids > 0
        examples = np.take_along_axis(self.example_ids, np.maximum(self.batch.segment_ids - 1, 0), axis=1)
        return np.where(real, offsets[examples] + self.batch.position_ids, -1)


class StoredBatches(NamedTuple):
    """The training batches of a run; its examples are read one window at a time."""

    examples: ExampleStore
    plan: Plan

    def batches(self, start: Position | None = None) -> Iterator[PackedBatch]:
        """The batches from a position on, or from the first, to the end of the run."""
        plan = self.plan
        first = start or plan.position(0)
        plan.step(first)
        order = plan.order(self.examples.lengths)
        for epoch in range(first.epoch, plan.epochs):
            for window in order.windows(epoch, first.batch if epoch == first.epoch else 0):
                examples = self.examples.take(window.examples)
                window_lengths = examples.lengths
                for positions in window.batches:
                    lengths = window_lengths[positions].tolist()
                    rows = pack(lengths, plan.layouts[0].row_length) if plan.packed else unpacked(lengths)
                    yield collate(examples, positions, rows, _fitting(plan.layouts, rows, lengths), epoch)


def _fitting(layouts: tuple[Layout, ...], rows: list[Row], lengths: list[int]) -> Layout:
    """The smallest layout that holds these rows; they are ordered by size."""
    needed_length = max(sum(lengths[i] for i in row) for row in rows)
    return next(layout for layout in layouts if layout.rows >= len(rows) and layout.row_length >= needed_length)


def collate(examples: Examples, indices: np.ndarray, rows: list[Row], layout: Layout, epoch: int = 0) -> PackedBatch:
    """Writes examples into a batch.

    Args:
      examples: the examples that `indices` index.
      indices: examples of this batch.
      rows: positions in `indices` of the examples of each row.
      layout: the shape; further rows stay empty.
      epoch: counted from 0; masked tokens depend on it.
    """
    batch = empty_batch(*layout, examples.kind)
    texts = examples.kind.texts
    example_ids = np.full((layout.rows, layout.slots // texts), -1, np.int64)
    # Examples in the order of the rows; then their texts, and their tokens.
    numbers = np.array([i for row in rows for i in row])
    taken = indices[numbers]
    in_row = np.array([len(row) for row in rows])
    row = np.repeat(np.arange(len(rows)), in_row)
    place = np.arange(len(taken)) - np.repeat(np.cumsum(in_row) - in_row, in_row)
    lengths = examples.offsets[taken + 1] - examples.offsets[taken]
    first = np.cumsum(lengths) - lengths
    in_row_first = first - first[np.searchsorted(row, row)]
    text_lengths = lengths[:, None] if examples.text_lengths is None else examples.text_lengths[taken]  # [n, C]
    text_first = np.cumsum(text_lengths, axis=1) - text_lengths
    slots = place[:, None] * texts + np.arange(texts)

    tokens = np.arange(lengths.sum())
    source = tokens + np.repeat(examples.offsets[taken] - first, lengths)
    target = tokens + np.repeat(row * layout.row_length + in_row_first - first, lengths)
    token_ids, token_labels = examples.tokens_in(epoch, taken, source)
    batch.token_ids.reshape(-1)[target] = token_ids
    batch.token_type_ids.reshape(-1)[target] = examples.token_type_ids[source]
    batch.position_ids.reshape(-1)[target] = tokens - np.repeat(
        (first[:, None] + text_first).ravel(), text_lengths.ravel()
    )
    batch.segment_ids.reshape(-1)[target] = np.repeat(slots.ravel() + 1, text_lengths.ravel())
    batch.example_starts[row[:, None], slots] = in_row_first[:, None] + text_first
    batch.example_numbers[row[:, None], slots] = numbers[:, None] * texts + np.arange(texts)
    weights = np.ones(len(taken), np.float32) if examples.weights is None else examples.weights[taken]
    if examples.labels_of == "tokens":
        labelled = token_labels != UNLABELLED
        batch.labels.reshape(-1)[target] = np.where(labelled, token_labels, 0)
        batch.example_weights.reshape(-1)[target] = np.where(labelled, np.repeat(weights, lengths), 0)
        if examples.teacher_scores is not None:
            scores = batch.teacher_scores.reshape(-1, *examples.teacher_scores.shape[1:])
            scores[target] = examples.teacher_scores[source]
    else:
        batch.labels[row, place] = examples.labels[taken]
        batch.example_weights[row, place] = weights
        if examples.teacher_scores is not None:
            batch.teacher_scores[row, place] = examples.teacher_scores[taken]
    example_ids[row, place] = taken if examples.ids is None else examples.ids[taken]
    return PackedBatch(batch, example_ids, len(taken), len(tokens))
