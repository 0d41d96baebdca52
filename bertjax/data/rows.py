"""Rows: the text and label of each row of a table, checked, before any of it becomes a number."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from bertjax.data.preprocessing import Preprocessing
from bertjax.data.table import Table
from bertjax.errors import DataError


class Rows(NamedTuple):
    """Aligned columns, one entry a row.

    Attributes:
      texts: the text columns, joined by a space.
      pairs: the second text of each row, or None where the table has no pairs.
      labels: labels as strings; integers are written without decimals.
      order: what the split goes by, a group or a time, or None where it goes by neither.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: list[str]
    order: list[Any] | None = None

    def take(self, indices: Iterable[int]) -> "Rows":
        """The rows at `indices`, in that order."""
        indices = list(indices)
        return Rows(
            texts=[self.texts[i] for i in indices],
            pairs=None if self.pairs is None else [self.pairs[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            order=None if self.order is None else [self.order[i] for i in indices],
        )


def select_rows(frame: pd.DataFrame, table: Table, source: str) -> Rows:
    """The text and label columns of a frame.

    A row may miss some of several text columns that are joined, never all of them.

    Raises:
      DataError: a column is not there, a text is missing or is no string, a label is missing or is neither string
        nor integer. Rows are counted from 1, after the header.
    """
    if not table.text:
        raise DataError("no text column is named; give at least one")
    for column in (*table.text, *table.text_pair, table.label):
        if column not in frame.columns:
            raise DataError(f"{source} has no column {column!r}; its columns are {', '.join(map(str, frame.columns))}")
    return Rows(
        texts=_join(frame, table.text, source),
        pairs=_join(frame, table.text_pair, source) if table.text_pair else None,
        labels=_labels(frame[table.label], source),
    )


def drop_duplicates(rows: Rows) -> tuple[Rows, int]:
    """Keeps the first row of each text (or pair of texts); also returns how many rows were dropped.

    Duplicates go before the split: one copy in training and one in the test rows would be a leak.
    """
    seen: set[tuple[str, str | None]] = set()
    kept = []
    for i, text in enumerate(rows.texts):
        key = (text, None if rows.pairs is None else rows.pairs[i])
        if key not in seen:
            seen.add(key)
            kept.append(i)
    return rows.take(kept), len(rows.texts) - len(kept)


def label_text(cell: Any) -> str | None:
    """A cell as the label it stands for, None where it is neither string nor integer."""
    # An integer column that met a missing cell on its way holds floats.
    value = int(cell) if isinstance(cell, float) and cell.is_integer() else cell
    return str(value).strip() if isinstance(value, str | int) else None


def preprocess(rows: Rows, preprocessing: Preprocessing, source: str) -> tuple[Rows, int]:
    """Preprocesses every text and pair, and drops the rows that it leaves without one; also returns how many.

    Raises:
      DataError: no row is left.
    """
    texts = [preprocessing(text) for text in rows.texts]
    pairs = None if rows.pairs is None else [preprocessing(pair) for pair in rows.pairs]
    kept = [i for i, text in enumerate(texts) if text.strip() and (pairs is None or pairs[i].strip())]
    if not kept:
        raise DataError(
            f"{source}: the preprocessing {', '.join(preprocessing.steps)} leaves no text in any of "
            f"{_count(len(texts), 'row')}; leave out a step"
        )
    return rows._replace(texts=texts, pairs=pairs).take(kept), len(texts) - len(kept)


def _join(frame: pd.DataFrame, columns: tuple[str, ...], source: str) -> list[str]:
    parts = [_strings(frame[column], source) for column in columns]
    joined = [" ".join(part for part in row if part.strip()) for row in zip(*parts, strict=True)]
    missing = [i for i, text in enumerate(joined) if not text]
    if missing:
        raise DataError(
            f"{source}: {_count(len(missing), 'row')} without text in {' and '.join(columns)} "
            f"(the first is row {missing[0] + 1}); fill or remove them"
        )
    return joined


def _strings(column: pd.Series, source: str) -> list[str]:
    """The cells of a column as strings; a missing cell is the empty string."""
    missing = column.isna()
    for i, (value, is_missing) in enumerate(zip(column, missing, strict=True)):
        if not is_missing and not isinstance(value, str):
            raise DataError(
                f"{source}: column {column.name!r} must hold text, but row {i + 1} holds "
                f"{value!r} ({type(value).__name__})"
            )
    return ["" if is_missing else value for value, is_missing in zip(column, missing, strict=True)]


def _labels(column: pd.Series, source: str) -> list[str]:
    missing = column.isna()
    if missing.any():
        first = int(missing.to_numpy().argmax())
        raise DataError(
            f"{source}: {_count(int(missing.sum()), 'row')} without a label in column {column.name!r} "
            f"(the first is row {first + 1}); fill or remove them"
        )
    labels = []
    for i, cell in enumerate(column.tolist()):
        label = label_text(cell)
        if label is None:
            raise DataError(
                f"{source}: a label must be a string or an integer, but row {i + 1} of {column.name!r} holds {cell!r}"
            )
        labels.append(label)
    return labels


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
