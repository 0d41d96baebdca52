"""The label vocabulary: which label has which index. It is sorted, so it does not depend on the order of rows."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.data.rows.spellings import plain_spelling
from bertjax.errors import DataError


class RowLabels(NamedTuple):
    """The label names of some rows, as codes.

    Attributes:
      names: distinct label names, in any order.
      codes: [total] int32 indices into `names`; the labels of a row follow those of the row before.
      per_row: [n] int32 number of labels of each row; None where every row has one label, which saves memory.
    """

    names: tuple[str, ...]
    codes: np.ndarray
    per_row: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        """n."""
        return len(self.codes if self.per_row is None else self.per_row)

    @property
    def row_of(self) -> np.ndarray:
        """[total] the row of each code."""
        rows = np.arange(self.num_rows)
        return rows if self.per_row is None else np.repeat(rows, self.per_row)

    def take(self, rows: np.ndarray) -> "RowLabels":
        """The labels of the rows at these indices, in that order."""
        if self.per_row is None:
            return self._replace(codes=self.codes[rows])
        begins = np.cumsum(self.per_row, dtype=np.int64) - self.per_row
        per_row = self.per_row[rows]
        return RowLabels(self.names, self.codes[consecutive(begins[rows], per_row)], per_row)

    def sorted_by_name(self) -> "RowLabels":
        """The same labels with `names` in the order of code points."""
        names = np.argsort(np.array(self.names, np.str_), kind="stable")
        codes = np.argsort(names).astype(np.int32)[self.codes]
        return RowLabels(tuple(self.names[i] for i in names), codes, self.per_row)

    def counts(self) -> dict[str, int]:
        """Occurrences of each label name that some row has, in the order of `names`."""
        counts = np.bincount(self.codes, minlength=len(self.names)).tolist()
        return {name: count for name, count in zip(self.names, counts, strict=True) if count}


def row_labels(names_of_rows: Iterable[Iterable[str]]) -> RowLabels:
    """The distinct label names of each row."""
    distinct = [tuple(dict.fromkeys(names)) for names in names_of_rows]
    names = sorted_labels({name for of_row in distinct for name in of_row})
    index = {name: i for i, name in enumerate(names)}
    codes = np.array([index[name] for of_row in distinct for name in of_row], np.int32)
    return RowLabels(names, codes, np.array([len(of_row) for of_row in distinct], np.int32))


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
    return sorted_labels(distinct)


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels by value where all are integers, else by code point."""
    labels = list(labels)
    try:
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(labels))


def class_indices(labels: Sequence[str], vocabulary: Sequence[str], source: str) -> np.ndarray:
    """The index of each row's only label: [N] int32; see `label_indices`."""
    (indices,) = label_indices([labels], vocabulary, source)
    return np.array(indices, np.int32)


def label_indices(labels: Sequence[Sequence[str]], vocabulary: Sequence[str], source: str) -> list[list[int]]:
    """The indices of each row's labels.

    Args:
      labels: the labels of each row.
      vocabulary: label names of the training rows.
      source: named in the error.

    Raises:
      DataError: a label that no training row has.
    """
    index = {label: i for i, label in enumerate(vocabulary)}
    unseen = sorted({label for of_row in labels for label in of_row} - set(index))
    if unseen:
        known = set(map(plain_spelling, vocabulary))
        alike = [label for label in unseen if plain_spelling(label) in known]
        raise DataError(
            f"{source} has labels that training never saw: {', '.join(map(repr, unseen))}; "
            f"training has {', '.join(map(repr, vocabulary))}"
            + (f"; {alike[0]!a} only looks like one of them (--label-spelling merge)" if alike else "")
        )
    return [[index[label] for label in of_row] for of_row in labels]
