"""The label vocabulary: which class has which index. Sorted, so it never depends on the order of rows."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.errors import DataError


class LabelNames(NamedTuple):
    """The label names of some rows, in numbers.

    Attributes:
      names: in whatever order.
      codes: [total] int32 places in `names`, those of a row after those of the row before.
      counts: [n] int32 names of each row; None where each has one, which many rows would spend memory on.
    """

    names: tuple[str, ...]
    codes: np.ndarray
    counts: np.ndarray | None

    @property
    def num_rows(self) -> int:
        """n."""
        return len(self.codes if self.counts is None else self.counts)

    def take(self, rows: np.ndarray) -> "LabelNames":
        """Those of some rows, in their order."""
        if self.counts is None:
            return LabelNames(self.names, self.codes[rows], None)
        begins = np.cumsum(self.counts, dtype=np.int64) - self.counts
        return LabelNames(self.names, self.codes[consecutive(begins[rows], self.counts[rows])], self.counts[rows])

    def present(self) -> set[str]:
        """The names that some row has."""
        return {self.names[code] for code in np.unique(self.codes).tolist()}


def label_names(of_rows: Iterable[Iterable[str]]) -> LabelNames:
    """The distinct label names of each row."""
    distinct = [tuple(dict.fromkeys(of_row)) for of_row in of_rows]
    names = in_order({name for of_row in distinct for name in of_row})
    index = {name: i for i, name in enumerate(names)}
    codes = np.array([index[name] for of_row in distinct for name in of_row], np.int32)
    return LabelNames(names, codes, np.array([len(of_row) for of_row in distinct], np.int32))


def consecutive(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers `start, start + 1, ...` of each run, end to end.

    >>> consecutive(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


def label_vocabulary(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels in order: numbers by value where all are integers, else by code point.

    Raises:
      DataError: fewer than two classes.

    >>> label_vocabulary(["neg", "pos", "neg"])
    ('neg', 'pos')
    >>> label_vocabulary(["10", "9", "2"])
    ('2', '9', '10')
    """
    distinct = set(labels)
    if len(distinct) < 2:
        found = f"only {next(iter(distinct))!r}" if distinct else "none"
        raise DataError(f"classification needs two classes or more, the training rows have {found}")
    return in_order(distinct)


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels by value where all are integers, else by code point."""
    labels = list(labels)
    try:
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def label_ids(labels: Sequence[str], vocabulary: Sequence[str], source: str) -> np.ndarray:
    """The index of each label.

    Args:
      labels: one a row.
      vocabulary: of the training rows.
      source: named in the error.

    Returns:
      [N] int32.

    Raises:
      DataError: a label that training never saw.
    """
    (ids,) = label_indices([labels], vocabulary, source)
    return np.array(ids, np.int32)


def label_indices(labels: Sequence[Sequence[str]], vocabulary: Sequence[str], source: str) -> list[list[int]]:
    """The index of each label, where each row has several.

    Args:
      labels: several a row.
      vocabulary: of the training rows.
      source: named in the error.

    Raises:
      DataError: a label that training never saw.
    """
    index = {label: i for i, label in enumerate(vocabulary)}
    unseen = sorted({label for of_row in labels for label in of_row} - set(index))
    if unseen:
        raise DataError(
            f"{source} has labels that training never saw: {', '.join(map(repr, unseen))}; "
            f"training has {', '.join(map(repr, vocabulary))}"
        )
    return [[index[label] for label in of_row] for of_row in labels]
