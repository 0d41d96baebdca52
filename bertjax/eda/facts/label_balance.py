"""The labels of a table: how many rows each has, which look alike, and the distribution of numbers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bertjax.data.rows.label_vocabulary import RowLabels
from bertjax.data.rows.spellings import MISSING_WORDS, look_alikes, plain_spelling
from bertjax.report_pages.histogram import Histogram, histogram

_MOST_LABELS = 500  # that are listed, of a column that may hold a name for each row


class LabelCount(NamedTuple):
    """A label and the rows that have it."""

    name: str
    rows: int
    share: float  # of the rows with a label


class Balance(NamedTuple):
    """The labels of a table.

    Attributes:
      labels: the most frequent first; at most 500 of them.
      distinct: different labels.
      rows: rows with a label, or with several, or with none of them where a row may have none.
      per_row: labels of a row on average.
      ratio: rows of the most frequent label to those of the rarest.
      evenness: entropy of the labels over that of equal ones, 1 where all are equally frequent.
      look_alikes: groups of labels that look alike, or differ by case alone, with their rows.
      missing_words: labels that some programs write for a missing cell, with their rows.
    """

    labels: tuple[LabelCount, ...]
    distinct: int
    rows: int
    per_row: float
    ratio: float
    evenness: float
    look_alikes: tuple[dict[str, int], ...]
    missing_words: dict[str, int]


def label_balance(labels: RowLabels) -> Balance | None:
    """Counts the labels; None where there are none."""
    counts = dict(sorted(labels.counts().items(), key=lambda item: -item[1]))
    if not counts:
        return None
    numbers = np.array(list(counts.values()))
    shares = numbers / numbers.sum()
    entropy = float(-(shares * np.log(shares)).sum())
    return Balance(
        tuple(LabelCount(name, rows, rows / labels.num_rows) for name, rows in list(counts.items())[:_MOST_LABELS]),
        len(counts),
        labels.num_rows,
        len(labels.codes) / labels.num_rows,
        float(numbers[0] / numbers[-1]),
        entropy / float(np.log(len(counts))) if len(counts) > 1 else 1.0,
        _alike(counts),
        {word: counts[word] for word in sorted(MISSING_WORDS & counts.keys())},
    )


def _alike(counts: Mapping[str, int]) -> tuple[dict[str, int], ...]:
    groups = [*look_alikes(counts, plain_spelling)]
    groups += [group for group in look_alikes(counts, str.casefold) if group not in groups]
    return tuple({name: counts[name] for name in group} for group in groups)


class NumberFacts(NamedTuple):
    """The numbers of a column that is to be learned."""

    name: str
    rows: int
    mean: float
    deviation: float  # of the numbers themselves, not of their mean
    least: float
    quartiles: tuple[float, float, float]
    most: float
    distinct: int
    histogram: Histogram


def number_facts(names: Sequence[str], numbers: np.ndarray) -> tuple[NumberFacts, ...]:
    """The distribution of each column of [n, L] numbers."""
    return tuple(_of_column(name, column) for name, column in zip(names, numbers.T, strict=True) if len(column))


def _of_column(name: str, numbers: np.ndarray) -> NumberFacts:
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75]).tolist()
    return NumberFacts(
        name, len(numbers), float(numbers.mean()), float(numbers.std()), float(numbers.min()), (low, middle, high),
        float(numbers.max()), len(np.unique(numbers)), histogram(numbers),
    )  # fmt: skip
