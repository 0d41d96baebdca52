"""How labels, lengths and words change over the dates of a column."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.rows.label_vocabulary import RowLabels
from bertjax.data.rows.timestamps import as_datetimes
from bertjax.eda.facts.typical_words import ClassWords, typical_words
from bertjax.eda.facts.words import Words
from bertjax.errors import DataError

_MOST_PERIODS = 30
_LABELS = 8  # that are shown by name; the others are one
OTHERS = "other labels"
_FREQUENCIES = ("h", "D", "W", "M", "Q", "Y")
_FREQUENT_WORDS = 2_000  # whose shares are compared


class Period(NamedTuple):
    """The rows of a day, month or year.

    Attributes:
      name: such as 2024-05.
      rows: their number.
      labels: label -> its share among the labels of the period.
      words: words of a text on average.
      label_distance, word_distance: Jensen-Shannon distance (base 2, from 0 to 1) of the labels and words of the
        period and those of all other rows; None where one of them has none.
    """

    name: str
    rows: int
    labels: dict[str, float]
    words: float
    label_distance: float | None
    word_distance: float | None


class Drift(NamedTuple):
    """The change over time.

    Attributes:
      column: of the dates.
      unread: rows whose cell is no date.
      first, last: in ISO 8601.
      periods: in their order.
      halves: what is typical of the words of the earlier and the later half of the rows.
    """

    column: str
    unread: int
    first: str
    last: str
    periods: tuple[Period, ...]
    halves: tuple[ClassWords, ...]


def find_drift(column: pd.Series, labels: RowLabels | None, labelled: np.ndarray, words: Words, source: str) -> Drift:
    """Compares the periods of a column of dates.

    Args:
      column: [n] the cell of each text.
      labels: of the rows at `labelled`; None where there are none.
      labelled: [m] ascending.
      words: of all texts.
      source: named in errors.

    Raises:
      DataError: no cell is a date.
    """
    times = as_datetimes(column)
    dated = np.flatnonzero(times.notna().to_numpy())
    if not len(dated):
        raise DataError(
            f"{source}: no cell of column {column.name!r} is a date (the first is {column.iloc[0]!r}); write dates as "
            f"2024-05-31"
        )
    times = times.iloc[dated].dt.tz_localize(None)
    names, period_of = _periods(times)
    label_counts, label_names = _label_counts(labels, labelled, dated, period_of, len(names), len(column))
    word_counts = _word_counts(words, dated, period_of, len(names))
    lengths = words.counts[dated]
    rows = np.bincount(period_of, minlength=len(names))
    mean_words = np.bincount(period_of, weights=lengths, minlength=len(names)) / np.maximum(rows, 1)
    label_distances, word_distances = _distances(label_counts), _distances(word_counts)
    shares = label_counts / np.maximum(label_counts.sum(axis=1, keepdims=True), 1)
    periods = tuple(
        Period(
            name, int(rows[i]), dict(zip(label_names, shares[i].tolist(), strict=True)), float(mean_words[i]),
            label_distances[i], word_distances[i],
        )
        for i, name in enumerate(names)
    )  # fmt: skip
    first, last = times.min(), times.max()
    return Drift(
        str(column.name), len(column) - len(dated), first.isoformat(), last.isoformat(), periods,
        _halves(words, dated, times),
    )  # fmt: skip


def _periods(times: pd.Series) -> tuple[list[str], np.ndarray]:
    """The names of the shortest periods of which there are not too many, and the period of each time."""
    for frequency in _FREQUENCIES:
        ordinals = times.dt.to_period(frequency).astype("int64").to_numpy()
        first, last = int(ordinals.min()), int(ordinals.max())
        if last - first < _MOST_PERIODS:
            break
    every = -(-(last - first + 1) // _MOST_PERIODS)  # years are joined
    numbers = (ordinals - first) // every
    names = [_name(first + i * every, frequency) for i in range(int(numbers.max()) + 1)]
    return [f"{name} to {int(name) + every - 1}" for name in names] if every > 1 else names, numbers


def _name(ordinal: int, frequency: str) -> str:
    """The name of a period by its number; that of a week is its first day."""
    period = pd.Period(ordinal=ordinal, freq=frequency)
    return f"{period.start_time:%Y-%m-%d}" if frequency == "W" else str(period)


def _label_counts(
    labels: RowLabels | None,
    labelled: np.ndarray,
    dated: np.ndarray,
    period_of: np.ndarray,
    num_periods: int,
    num_rows: int,
) -> tuple[np.ndarray, list[str]]:
    """[periods, labels] occurrences of the most frequent labels and of the others; and their names."""
    if labels is None or not len(labels.codes):
        return np.zeros((num_periods, 0), np.int64), []
    period = np.full(num_rows, -1)
    period[dated] = period_of
    order = np.argsort(-np.bincount(labels.codes, minlength=len(labels.names)), kind="stable")
    shown = order[:_LABELS] if len(order) > _LABELS + 1 else order
    place = np.full(len(labels.names), len(shown))
    place[shown] = np.arange(len(shown))
    names = [labels.names[code] for code in shown] + [OTHERS] * (len(shown) < len(order))
    of_code = period[labelled[labels.row_of]]
    kept = of_code >= 0
    flat = of_code[kept] * len(names) + place[labels.codes[kept]]
    return np.bincount(flat, minlength=num_periods * len(names)).reshape(num_periods, len(names)), names


def _word_counts(words: Words, dated: np.ndarray, period_of: np.ndarray, num_periods: int) -> np.ndarray:
    """[periods, words] occurrences of the most frequent words."""
    period = np.full(len(words.counts), -1)
    period[dated] = period_of
    frequent = np.argsort(-np.bincount(words.ids, minlength=len(words.vocabulary)), kind="stable")[:_FREQUENT_WORDS]
    place = np.full(len(words.vocabulary), -1)
    place[frequent] = np.arange(len(frequent))
    of_word = period[words.text_of]
    kept = (of_word >= 0) & (place[words.ids] >= 0)
    flat = of_word[kept] * len(frequent) + place[words.ids[kept]]
    return np.bincount(flat, minlength=num_periods * len(frequent)).reshape(num_periods, len(frequent))


def _distances(counts: np.ndarray) -> list[float | None]:
    """The distance of each row of counts from the sum of all others."""
    from scipy.spatial.distance import jensenshannon

    total = counts.sum(axis=0)
    return [
        float(jensenshannon(own, total - own, base=2)) if own.sum() and (total - own).sum() else None for own in counts
    ]


def _halves(words: Words, dated: np.ndarray, times: pd.Series) -> tuple[ClassWords, ...]:
    order = dated[np.argsort(times.to_numpy(), kind="stable")]
    middle = len(order) // 2
    return typical_words(words, {"earlier half": order[:middle], "later half": order[middle:]}, np.sort(order))
