"""The batches of prediction and evaluation: every example exactly once, packed, in few shapes.

The order of examples does not matter here, so rows are filled as full as they go. There are two policies of shapes: one
shape for a whole set, which compiles once, and a few shapes for any set, so that a service soon compiles no more.
"""

from collections.abc import Callable, Iterator

import numpy as np

from bertjax.data.batching.collate import PackedBatch, collate
from bertjax.data.batching.packing import Layout, Row, pack
from bertjax.data.encode.examples import Examples

Batcher = Callable[[Examples, int], Iterator[PackedBatch]]
"""(examples, number of devices) -> batches whose rows are a multiple of the devices."""

_TOKENS = 4096  # of a full batch
_CHUNK = 2048  # examples packed together
_ROW_LENGTHS = (32, 64, 128, 256, 512)  # of `bucketed_batches`
_FEW_ROWS = (1, 8)  # of its batches that are not full


def one_shape_batches(examples: Examples, num_devices: int) -> Iterator[PackedBatch]:
    """Batches of one shape, which suits the whole set."""
    row_length = int(examples.lengths.max()) * 3 // 2  # room for a second example in most rows, and short attention
    chunks = [(indices, _packed(examples, indices, row_length)) for indices in _chunks(examples)]
    num_rows = min(max(len(rows) for _, rows in chunks), max(1, _TOKENS // row_length))
    layout = Layout(
        rows=_round_up(num_rows, num_devices),
        row_length=row_length,
        slots=max(len(row) for _, rows in chunks for row in rows) * examples.kind.texts,
    )
    for indices, rows in chunks:
        for start in range(0, len(rows), layout.rows):
            yield collate(examples, indices, rows[start : start + layout.rows], layout)


def bucketed_batches(examples: Examples, num_devices: int) -> Iterator[PackedBatch]:
    """Batches in shapes that do not depend on the set.

    A row is the shortest of five lengths that holds the longest example (or that example's own length where none does);
    for each length there are three numbers of rows.
    """
    for indices in _chunks(examples):
        longest = int(examples.lengths[indices].max())
        row_length = next((length for length in _ROW_LENGTHS if length >= longest), longest)
        texts = examples.kind.texts
        slots = row_length // (2 * texts) * texts  # [CLS] and [SEP] are the shortest text, so this many always do
        sizes = [_round_up(size, num_devices) for size in (*_FEW_ROWS, max(_TOKENS // row_length, *_FEW_ROWS))]
        rows = _packed(examples, indices, row_length)
        for start in range(0, len(rows), sizes[-1]):
            part = rows[start : start + sizes[-1]]
            num_rows = next(size for size in sizes if size >= len(part))
            yield collate(examples, indices, part, Layout(num_rows, row_length, slots))


def _chunks(examples: Examples) -> list[np.ndarray]:
    """Indices of the examples, those together that are packed together."""
    count = examples.num_examples
    return [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]


def _packed(examples: Examples, indices: np.ndarray, row_length: int) -> list[Row]:
    """Rows of positions in `indices`."""
    return pack(examples.lengths[indices].tolist(), row_length)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
