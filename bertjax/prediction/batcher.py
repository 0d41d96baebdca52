"""The batches of prediction and evaluation: every example exactly once, packed, in few shapes.

The order of examples does not matter here, so rows are filled as full as they go. There are two policies of shapes: one
shape for a whole set, which compiles once, and a few shapes for any set, so that a service soon compiles no more.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator

import numpy as np

from bertjax.data.batching.collate import PackedBatch, collate
from bertjax.data.batching.packing import Layout, Row, pack
from bertjax.data.encode.examples import Examples

Batcher = Callable[[Examples, int], Iterator[PackedBatch]]
"""(examples, number of devices) -> batches whose rows are a multiple of the devices."""

_TOKENS = 4096  # of a full batch
_CHUNK = 2048  # examples packed together
_ROW_LENGTHS = (32, 64, 128, 256, 512)  # of `bucketed_batches`; longer ones are multiples of the last
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
    """Batches in shapes that do not depend on the set: those of `bucket_layouts`."""
    for indices in _chunks(examples):
        row_length = _row_lengths(int(examples.lengths[indices].max()))[-1]
        layouts = _layouts(row_length, num_devices, examples.kind.texts)
        rows = _packed(examples, indices, row_length)
        for start in range(0, len(rows), layouts[-1].rows):
            part = rows[start : start + layouts[-1].rows]
            yield collate(examples, indices, part, next(layout for layout in layouts if layout.rows >= len(part)))


def bucket_layouts(longest: int, num_devices: int, texts: int = 1) -> list[Layout]:
    """Every shape that `bucketed_batches` makes of examples up to a length.

    A row is the shortest of few lengths that holds the longest example; for each length there are a few numbers of
    rows, the largest for a full batch.

    Args:
      longest: tokens of an example.
      num_devices: rows are a multiple of it.
      texts: of an example, `LabelKind.texts`.
    """
    return [layout for length in _row_lengths(longest) for layout in _layouts(length, num_devices, texts)]


def _row_lengths(longest: int) -> list[int]:
    """The row lengths of examples up to a length, ascending; the last one holds the longest."""
    *shorter, step = _ROW_LENGTHS
    lengths = [*shorter, *range(step, longest + step, step)]
    return lengths[: bisect_left(lengths, longest) + 1]


def _layouts(row_length: int, num_devices: int, texts: int) -> list[Layout]:
    """The shapes with rows of one length, ascending."""
    # [CLS] and [SEP] are the shortest text, so this many slots always do.
    slots = max(row_length // (2 * texts), 1) * texts
    sizes = (*_FEW_ROWS, max(_TOKENS // row_length, *_FEW_ROWS))
    return [Layout(rows, row_length, slots) for rows in sorted({_round_up(size, num_devices) for size in sizes})]


def _chunks(examples: Examples) -> list[np.ndarray]:
    """Indices of the examples, those together that are packed together."""
    count = examples.num_examples
    return [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]


def _packed(examples: Examples, indices: np.ndarray, row_length: int) -> list[Row]:
    """Rows of positions in `indices`."""
    return pack(examples.lengths[indices].tolist(), row_length)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
