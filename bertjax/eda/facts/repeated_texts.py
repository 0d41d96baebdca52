"""Texts that stand in several rows: duplicates, contradictions, and leaks between the sides of a split."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.row_hashes import hash64
from bertjax.data.split.contradictions import contradicting_pairs
from bertjax.data.split.split_rows import leak_hashes
from bertjax.data.task_formats import TaskFormat


class Repeats(NamedTuple):
    """Which rows repeat which.

    Attributes:
      first: [n] the first row with the same text, letter by letter; a row itself where it is that one.
      contradicts: [n] whether the text has rows with another label, case, width and spaces aside.
      contradictions: [k, 2] the first row of each such text, and the first that contradicts it.
      leaks: side -> [n] whether its table has the text too, case, width and spaces aside.
    """

    first: np.ndarray
    contradicts: np.ndarray
    contradictions: np.ndarray
    leaks: dict[str, np.ndarray]

    @property
    def is_duplicate(self) -> np.ndarray:
        """[n] whether an earlier row has the same text."""
        return self.first != np.arange(len(self.first))


def find_repeats(rows: Rows, labelled: np.ndarray, task_format: TaskFormat, sides: Mapping[str, Rows]) -> Repeats:
    """Compares the rows of a table with each other and with those of other tables.

    Args:
      rows: of the table; the label of a row is None where it has none.
      labelled: [m] those with a label.
      task_format: says which labels are the same.
      sides: rows of validation and test tables.
    """
    texts = leak_hashes(rows)
    answers = hash64(task_format.comparable(rows.labels[i]) for i in labelled.tolist())
    pairs = labelled[contradicting_pairs(texts[labelled], answers)]
    contradicts = np.isin(texts, texts[pairs[:, 0]])
    leaks = {side: np.isin(texts, leak_hashes(others)) for side, others in sides.items()}
    return Repeats(first_rows(rows.text_pairs()), contradicts, pairs, leaks)


def first_rows(texts: list[Any]) -> np.ndarray:
    """[n] the first place of an equal text."""
    first: dict[Any, int] = {}
    return np.fromiter((first.setdefault(text, i) for i, text in enumerate(texts)), np.int64, len(texts))
