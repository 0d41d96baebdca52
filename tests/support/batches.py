"""Random token ids of ragged length, packed and padded as training packs and pads them."""

from typing import Any

import numpy as np

from bertjax.batch import Batch
from bertjax.data.batching.batch_plan import plan_training
from bertjax.data.batching.collate import StoredBatches
from bertjax.data.encode.examples import Examples


def make_examples(count: int = 30, seed: int = 0, lengths: tuple[int, int] = (3, 30)) -> Examples:
    """Examples of three classes; `lengths` are the shortest and one more than the longest."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(*lengths, count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    tokens = rng.integers(5, 60, offsets[-1]).astype(np.int32)
    return Examples(tokens, np.zeros_like(tokens), offsets, rng.integers(0, 3, count).astype(np.int32), 0)


def batches_of(
    examples: Examples, packed: bool, devices: int = 1, batch_size: int = 8, epochs: int = 1
) -> tuple[Any, list[Batch]]:
    """The plan of a training and all its batches."""
    plan = plan_training(examples.lengths, batch_size, epochs, 0, 16, devices, packed)
    return plan, [packed_batch.batch for packed_batch in StoredBatches(examples, plan).batches()]


def _packed_in_rows(rows: int) -> Batch:
    """Eight examples, packed in a multiple of so many rows; some rows are empty."""
    examples = make_examples(8, lengths=(3, 20))
    plan = plan_training(examples.lengths, 8, 1, 0, 16, rows, packed=True)
    return next(StoredBatches(examples, plan).batches()).batch


EIGHT_ROWS = _packed_in_rows(8)
