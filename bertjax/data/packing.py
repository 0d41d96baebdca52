"""Packing: which examples share a row, and which few row shapes a run needs.

Rows are filled first-fit, longest example first (Johnson 1973; for BERT, Krell et al. 2021, arXiv:2107.02027), always
within one batch: which examples share an update is never changed, so packed and padded training see the same maths.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np

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
    """Puts examples into rows, first-fit decreasing.

    Args:
      lengths: tokens of each example, none above `row_length`.
      row_length: tokens a row holds.

    Returns:
      Rows of indices into `lengths`; every index appears exactly once.

    >>> pack([3, 8, 5, 2], row_length=8)
    [[1], [2, 0], [3]]
    """
    rows: list[Row] = []
    room: list[int] = []
    for i in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = lengths[i]
        for r, free in enumerate(room):
            if length <= free:
                rows[r].append(i)
                room[r] -= length
                break
        else:
            rows.append([i])
            room.append(row_length - length)
    return rows


def unpacked(lengths: Sequence[int]) -> list[Row]:
    """One example a row, in order: the padded layout."""
    return [[i] for i in range(len(lengths))]


def choose_sizes(needs: Iterable[int], count: int, multiple: int) -> tuple[int, ...]:
    """The `count` sizes that waste least when each need is rounded up to the next size.

    Args:
      needs: what each batch needs (rows, or tokens in a row).
      count: sizes at most.
      multiple: every size is a multiple of this.

    Returns:
      Increasing sizes; the last one holds the largest need.

    >>> choose_sizes([7, 7, 7, 8], count=2, multiple=1)
    (7, 8)
    """
    rounded = -(-np.asarray(list(needs)) // multiple) * multiple
    sizes, frequency = np.unique(rounded, return_counts=True)
    best = min(
        combinations_with_replacement(range(len(sizes)), count - 1),
        key=lambda chosen: _total(sizes, frequency, sorted({*chosen, len(sizes) - 1})),
    )
    return tuple(int(sizes[i]) for i in sorted({*best, len(sizes) - 1}))


def _total(sizes: np.ndarray, frequency: np.ndarray, chosen: list[int]) -> int:
    """What all needs cost when rounded up to the chosen sizes."""
    up = np.searchsorted(chosen, np.arange(len(sizes)))
    return int((sizes[np.asarray(chosen)[up]] * frequency).sum())
