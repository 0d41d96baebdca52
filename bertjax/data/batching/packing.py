"""Packing: which examples share a row, and which few batch shapes a run needs.

Rows are filled one after the other, each with the longest example left and the subset of the others that fills it best
(the minimum bin slack heuristic of Gupta and Ho 1999; packing for BERT: Krell et al. 2021, arXiv:2107.02027). Packing
never changes which examples share an update, so packed and padded training compute the same. Batches of 32 TREC
questions take the fewest possible rows; first-fit needs one more for half of them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import combinations, islice, pairwise
from operator import neg
from typing import NamedTuple

import jax
import numpy as np

from bertjax.batch import Batch, LabelKind, LabelsOf, Pretraining, empty_batch

Row = list[int]


class Layout(NamedTuple):
    """A compiled batch shape: B rows of T tokens with E example slots each."""

    rows: int
    row_length: int
    slots: int

    @property
    def tokens(self) -> int:
        """Tokens the device computes for a batch of this shape, padding included."""
        return self.rows * self.row_length


def pack(lengths: Sequence[int], row_length: int) -> list[Row]:
    """Puts examples into rows, each filled as far as the remaining examples allow.

    Args:
      lengths: tokens of each example, none above `row_length`.
      row_length: tokens a row holds.

    Returns:
      Rows of indices into `lengths`; every index appears exactly once.

    >>> pack([3, 8, 5, 2, 2], row_length=8)
    [[1], [2, 0], [3, 4]]
    """
    ((_, rows),) = pack_by_length(lengths, [row_length])
    return rows


def pack_by_length(lengths: Sequence[int], row_lengths: Sequence[int]) -> list[tuple[int, list[Row]]]:
    """`pack` into rows of several lengths: each row is the shortest that holds the longest example left.

    Args:
      lengths: tokens of each example, none above the longest row.
      row_lengths: ascending.

    Returns:
      (row length, its rows) for each length, the longest first.

    >>> pack_by_length([3, 8, 5, 2, 2], [4, 8])
    [(8, [[1], [2, 0]]), (4, [[3, 4]])]
    """
    left = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    left_lengths = [lengths[i] for i in left]
    packed = []
    for row_length, shorter in pairwise([*reversed(row_lengths), -1]):
        rows: list[Row] = []
        while left and left_lengths[0] > shorter:
            longest, room = left.pop(0), row_length - left_lengths.pop(0)
            chosen = _fullest(left_lengths, room)
            rows.append([longest, *(left[place] for place in chosen)])
            for place in reversed(chosen):
                del left[place], left_lengths[place]
        packed.append((row_length, rows))
    return packed


def _fullest(lengths: Sequence[int], room: int) -> list[int]:
    """Places of the lengths that add up to the most that still fits: subset sum by dynamic programming.

    Bit t of `reached[i]` says whether some of the first i lengths that fit add up to t, so one shift of an integer adds
    a length to every sum at once.

    Args:
      lengths: descending.
      room: tokens to fill.
    """
    first = bisect_left(lengths, -room, key=neg)
    fits = (1 << room + 1) - 1
    reached, sums = [1], 1
    for length in islice(lengths, first, None):
        sums |= sums << length & fits
        reached.append(sums)
        if sums >> room:
            break
    chosen: list[int] = []
    place, total = len(reached) - 1, sums.bit_length() - 1
    while total:
        # Backtrack: the last length without which this total is not reached is part of it.
        while reached[place - 1] >> total & 1:
            place -= 1
        place -= 1
        chosen.append(first + place)
        total -= lengths[first + place]
    return chosen[::-1]


def pack_batch(
    batch: Batch, rows: Sequence[Row], layout: Layout, labels_of: LabelsOf | Pretraining = "examples"
) -> Batch:
    """Joins the rows of a batch into fewer, longer rows: the same examples in the same order, without their padding.

    Args:
      batch: on the host, of any task.
      rows: for each new row, which rows of `batch` it takes, one after the other.
      layout: the shape of the result; what is left of it stays empty. Its slots are a multiple of the batch's.
      labels_of: the axis that the labels lie on; their shape does not tell where a row has a slot for each token.

    Raises:
      ValueError: rows that do not fit the layout, or labels of tokens that are said to be of examples.
    """
    old_slots, places = batch.example_starts.shape[1], layout.slots // batch.example_starts.shape[1]
    real = batch.segment_ids != 0
    lengths = real.sum(axis=1)
    _check_fit(batch, rows, layout, labels_of)

    # The old row in each place, and the old token (counted over the batch) at each position.
    row_at = np.full((layout.rows, places), -1)
    token_at = np.full((layout.rows, layout.row_length), -1)
    place_at, first_of = np.zeros_like(token_at), np.zeros_like(row_at)
    for r, row in enumerate(rows):
        first = 0
        for place, old in enumerate(row):
            positions = slice(first, first + lengths[old])
            row_at[r, place], first_of[r, place] = old, first
            token_at[r, positions] = np.flatnonzero(real[old]) + old * real.shape[1]
            place_at[r, positions] = place
            first = positions.stop

    def of_tokens(leaf: np.ndarray) -> np.ndarray:
        taken = leaf.reshape(-1, *leaf.shape[2:])[token_at]
        taken[token_at < 0] = 0
        return taken

    def of_slots(leaf: np.ndarray) -> np.ndarray:
        taken = leaf[row_at]  # [B, places, entries of a row, ...]
        taken[row_at < 0] = 0
        return taken.reshape(layout.rows, places * leaf.shape[1], *leaf.shape[2:])

    def labelled(axis: LabelsOf, leaf: np.ndarray) -> np.ndarray:
        return of_tokens(leaf) if axis == "tokens" else of_slots(leaf)

    starts = np.take_along_axis(np.cumsum(real, axis=1) - 1, batch.example_starts, axis=1)  # among real tokens
    filled = (batch.segment_ids[:, None, :] == np.arange(1, old_slots + 1)[:, None]).any(axis=-1)  # [B, E]
    segments = of_tokens(batch.segment_ids)
    taught = None if batch.teacher_scores is None else jax.tree.map(labelled, labels_of, batch.teacher_scores)
    return Batch(
        token_ids=of_tokens(batch.token_ids),
        token_type_ids=of_tokens(batch.token_type_ids),
        position_ids=of_tokens(batch.position_ids),
        segment_ids=np.where(segments, segments + place_at * old_slots, 0).astype(np.int32),
        example_starts=((of_slots(starts) + first_of.repeat(old_slots, axis=1)) * of_slots(filled)).astype(np.int32),
        example_numbers=of_slots(batch.example_numbers),
        labels=jax.tree.map(labelled, labels_of, batch.labels),
        example_weights=jax.tree.map(labelled, labels_of, batch.example_weights),
        teacher_scores=taught,
        teacher_hidden_states=None if batch.teacher_hidden_states is None else of_tokens(batch.teacher_hidden_states),
    )


def _check_fit(batch: Batch, rows: Sequence[Row], layout: Layout, labels_of: LabelsOf | Pretraining) -> None:
    """Checks that `pack_batch` can make the layout of these rows.

    Raises:
      ValueError: it cannot.
    """
    old_slots, lengths = batch.example_starts.shape[1], (batch.segment_ids != 0).sum(axis=1)
    places = layout.slots // old_slots
    if len(rows) > layout.rows or layout.slots % old_slots or any(len(row) > places for row in rows):
        raise ValueError(f"{len(rows)} rows of up to {max(map(len, rows))} x {old_slots} slots do not fit {layout}")
    if any(lengths[row].sum() > layout.row_length for row in rows):
        raise ValueError(f"a row has more tokens than the {layout.row_length} of {layout}")

    if labels_of == "examples" and batch.labels.shape[1] > old_slots:
        raise ValueError(f"labels {list(batch.labels.shape)} are of tokens, not of {old_slots} slots; give labels_of")


def layout_of(batch: Batch) -> Layout:
    """The shape of a batch."""
    rows, row_length = batch.token_ids.shape
    return Layout(rows, row_length, batch.example_starts.shape[1])


def widened(batch: Batch, layout: Layout, kind: LabelKind, parts: int = 1) -> Batch:
    """The same batch in a larger shape.

    Args:
      batch: on the host.
      layout: the shape, which holds it.
      kind: kind of its labels.
      parts: equal shares of the rows, each of which gets its own empty rows, so that a device keeps its examples.
    """

    def padded(leaf: np.ndarray, target: np.ndarray) -> np.ndarray:
        shares = leaf.reshape(parts, -1, *leaf.shape[1:])
        shape = (parts, len(target) // parts, *target.shape[1:])
        room = [(0, new - old) for old, new in zip(shares.shape, shape, strict=True)]
        return np.pad(shares, room).reshape(target.shape)

    return batch if layout_of(batch) == layout else jax.tree.map(padded, batch, empty_batch(*layout, kind))


def unpacked(lengths: Sequence[int]) -> list[Row]:
    """One example a row, in order: the padded layout."""
    return [[i] for i in range(len(lengths))]


def choose_sizes(needs: Iterable[int], count: int, multiple: int = 1, price: float = 0) -> tuple[int, ...]:
    """The sizes that waste least when each need is rounded up to the next size.

    Args:
      needs: rows, or tokens in a row, that each batch needs.
      count: sizes at most.
      multiple: every size is a multiple of this.
      price: the least saving of each size beyond the first, in batches of the largest size.

    Returns:
      Increasing sizes; the last one holds the largest need.

    >>> choose_sizes([7, 7, 7, 8], count=2)
    (7, 8)
    >>> choose_sizes([7, 7, 7, 8], count=2, price=1)
    (8,)
    """
    rounded = -(-np.asarray(list(needs)) // multiple) * multiple
    sizes, frequency = np.unique(rounded, return_counts=True)
    largest = len(sizes) - 1

    def cost(chosen: tuple[int, ...]) -> float:
        up = np.asarray(chosen)[np.searchsorted(chosen, np.arange(len(sizes)))]
        return float((sizes[up] * frequency).sum() + price * len(chosen) * sizes[-1])

    candidates = ((*smaller, largest) for number in range(count) for smaller in combinations(range(largest), number))
    return tuple(int(sizes[i]) for i in min(candidates, key=cost))
