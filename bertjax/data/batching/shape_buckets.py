"""Batches for prediction: whatever is asked, in one of a few shapes, so that a service soon compiles no more."""

from collections.abc import Iterator

import numpy as np

from bertjax.data.batching.collate import PackedBatch, collate
from bertjax.data.batching.packing import Layout, pack
from bertjax.data.encode.tokenize import Examples

_ROW_LENGTHS = (32, 64, 128, 256, 512)
_FEW_ROWS = (1, 8)  # for what is left over, or was little to begin with
_TOKENS = 4096  # of a full batch
_CHUNK = 2048  # examples packed together


def bucketed_batches(examples: Examples) -> Iterator[PackedBatch]:
    """Every example exactly once, packed.

    A row is the shortest of five lengths that holds the longest example (or that example's own length where none does);
    for each there are three numbers of rows.
    """
    for first in range(0, len(examples.lengths), _CHUNK):
        chunk = np.arange(first, min(first + _CHUNK, len(examples.lengths)))
        lengths = examples.lengths[chunk]
        longest = int(lengths.max())
        row_length = next((length for length in _ROW_LENGTHS if length >= longest), longest)
        full = max(_TOKENS // row_length, *_FEW_ROWS)
        rows = pack(lengths.tolist(), row_length)
        for start in range(0, len(rows), full):
            some = rows[start : start + full]
            count = next(size for size in (*_FEW_ROWS, full) if size >= len(some))
            # [CLS] and [SEP] are the shortest example, so this many slots always do.
            yield collate(examples, chunk, some, Layout(count, row_length, row_length // 2))
