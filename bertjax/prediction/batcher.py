"""Batches for prediction and evaluation: every example exactly once, packed, in few shapes.

The order of examples does not matter here, so packing is free to fill rows. There are two policies of shapes: a single
shape chosen for a data set, which compiles once, or a few fixed shapes, after which a service never compiles again.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator

import numpy as np

from bertjax.data.batching.collate import PackedBatch, collate
from bertjax.data.batching.packing import Layout, Row, pack, pack_by_length
from bertjax.data.encode.examples import Examples

Batcher = Callable[[Examples, int], Iterator[PackedBatch]]
"""(examples, number of devices) -> batches whose rows are a multiple of the devices."""

_TOKENS = 4096  # of a full batch
_CHUNK = 2048  # examples packed together
_ROW_LENGTHS = (48, 96, 192, 384, 512)  # of `bucketed_batches`; longer ones are multiples of the last
_FEW_ROWS = (1, 8)  # of its batches that are not full
_FEW_EXAMPLES = 8  # of a row of a full batch


def one_shape_batches(examples: Examples, num_devices: int) -> Iterator[PackedBatch]:
    """Batches of one shape, chosen for these examples."""
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
    """Batches in shapes that do not depend on the examples: those of `bucket_layouts`."""
    texts = examples.kind.texts
    for indices in _chunks(examples):
        lengths = examples.lengths[indices].tolist()
        for row_length, rows in pack_by_length(lengths, _row_lengths(max(lengths))):
            for part, layout in _shaped(rows, _layouts(row_length, num_devices, texts), texts):
                yield collate(examples, indices, part, layout)


def bucket_layouts(longest: int, num_devices: int, texts: int = 1) -> list[Layout]:
    """Every shape that `bucketed_batches` uses for examples up to a length.

    There are a few row lengths, so that attention over short texts stays cheap, and for each length a few numbers of
    rows, the largest for a full batch. Rows of a full batch have few slots, so that a last layer that is computed only
    at these is cheap.

    Args:
      longest: tokens of an example.
      num_devices: rows are a multiple of it.
      texts: of an example, `LabelKind.texts`.
    """
    return [layout for length in _row_lengths(longest) for layout in _layouts(length, num_devices, texts)]


def row_length_of(longest: int) -> int:
    """The row length for examples up to a length, one of a few."""
    return _row_lengths(longest)[-1]


def _row_lengths(longest: int) -> list[int]:
    """The row lengths for examples up to a length, ascending; the last one holds the longest."""
    *shorter, step = _ROW_LENGTHS
    lengths = [*shorter, *range(step, longest + step, step)]
    return lengths[: bisect_left(lengths, longest) + 1]


def _layouts(row_length: int, num_devices: int, texts: int) -> list[Layout]:
    """The shapes with rows of one length, ascending by their number."""
    # [CLS] and [SEP] are the shortest text, so this many slots always do.
    slots = max(row_length // (2 * texts), 1) * texts
    few = [Layout(_round_up(rows, num_devices), row_length, slots) for rows in _FEW_ROWS]
    full = _round_up(max(_TOKENS // row_length, *_FEW_ROWS), num_devices)
    return [*few, Layout(full, row_length, min(slots, _FEW_EXAMPLES * texts))]


def _shaped(rows: list[Row], layouts: list[Layout], texts: int) -> Iterator[tuple[list[Row], Layout]]:
    """Splits rows into batches, each in the largest shape that they fill by three quarters, else in the smallest."""
    most = layouts[-1].slots // texts
    roomy, crowded = ([row for row in rows if (len(row) > most) == is_crowded] for is_crowded in (False, True))
    for left, shapes in ((roomy, layouts), (crowded, layouts[:-1])):
        start = 0
        while (count := len(left) - start) > 0:
            layout = next((layout for layout in reversed(shapes) if 4 * count >= 3 * layout.rows), shapes[0])
            yield left[start : start + layout.rows], layout
            start += layout.rows


def _chunks(examples: Examples) -> list[np.ndarray]:
    """Indices of the examples, in the chunks that are packed together."""
    count = examples.num_examples
    return [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]


def _packed(examples: Examples, indices: np.ndarray, row_length: int) -> list[Row]:
    """Rows of positions in `indices`."""
    return pack(examples.lengths[indices].tolist(), row_length)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple
