"""`Rows`: the texts and labels of a table's rows, parsed and preprocessed, before they are encoded."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import PLACE, BadRow
from bertjax.data.rows.cells import BadCell
from bertjax.data.rows.preprocessing import DROP_DUPLICATES, DROP_EMPTY, Preprocessing

Text = str | tuple[str, ...]
"""A text, or several that belong together: the words of a sentence, the candidates of a choice."""


class Row(NamedTuple):
    """One row of a table.

    Attributes:
      text: the text columns, joined by a space, or the words they hold.
      pair: the second text, or the candidates, or None where the task has none.
      label: in the form of the task: a name, several names, numbers, answers; None where a text is its own label.
    """

    text: Text
    pair: Text | None
    label: Any


ReadRow = Callable[[Mapping[str, Any]], Row]
"""The cells of a row, by column -> the row. Raises BadCell where they cannot be used."""


class ClassProbabilities(NamedTuple):
    """How probable each class is for each row."""

    names: tuple[str, ...]  # of the classes, in the order of `sorted_labels`
    of_rows: np.ndarray  # [n, L] float32, each row of sum 1


class Rows(NamedTuple):
    """Aligned columns, one entry a row."""

    texts: list[Any]  # the text of each row
    pairs: list[Any] | None  # the second text of each row, or None where the table has no pairs
    labels: list[Any]  # the label of each row, in the form of the task
    positions: list[int]  # the position of each row in its table, from 0
    probabilities: ClassProbabilities | None = None  # soft labels, learned instead of the labels if the table has them

    def digest(self) -> str:
        """16 hexadecimal digits that change with any text, pair, label or probability, and with the order of rows."""
        content = hashlib.sha256()
        pairs = self.pairs or [None] * len(self.texts)
        for row in zip(self.texts, pairs, self.labels, strict=True):
            content.update(json.dumps(row, default=str).encode() + b"\n")
        if self.probabilities is not None:
            content.update(json.dumps(self.probabilities.names).encode() + self.probabilities.of_rows.tobytes())
        return content.hexdigest()[:16]

    def take(self, indices: Iterable[int]) -> "Rows":
        """The rows at `indices`, in that order."""
        indices = list(indices)
        return Rows(
            texts=[self.texts[i] for i in indices],
            pairs=None if self.pairs is None else [self.pairs[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            positions=[self.positions[i] for i in indices],
            probabilities=None
            if self.probabilities is None
            else self.probabilities._replace(of_rows=self.probabilities.of_rows[np.array(indices, np.int64)]),
        )

    def text_pairs(self) -> list[tuple[Text, Text | None]]:
        """Both texts of each row."""
        return list(zip(self.texts, self.pairs or [None] * len(self.texts), strict=True))


class ParsedRows(NamedTuple):
    """The rows of a frame in the form of a task."""

    rows: Rows  # the usable rows
    skipped: tuple[BadRow, ...]  # the unusable rows, in the order of the frame


def parse_rows(frame: pd.DataFrame, columns: Sequence[str], read_row: ReadRow, source: str) -> ParsedRows:
    """Parses the rows of a frame; any number of them may be unusable.

    Args:
      frame: a table or a part of one.
      columns: columns that the task reads.
      read_row: parses the cells of a row.
      source: named in the description of an unusable row, which counts from 1 unless the frame has a `PLACE` column.
    """
    places = frame[PLACE].tolist() if PLACE in frame.columns else None
    parsed, positions, skipped = [], [], []
    for i, cells in enumerate(zip(*(frame[column].tolist() for column in columns), strict=True)):
        try:
            parsed.append(read_row(dict(zip(columns, cells, strict=True))))
            positions.append(i)
        except BadCell as error:
            if places is None:
                skipped.append(BadRow(source, i + 1, str(error), "row"))
            else:
                skipped.append(BadRow(places[i].file, places[i].line + error.lines_on, str(error)))
    texts, pairs, labels = (list(column) for column in zip(*parsed, strict=True)) if parsed else ([], [], [])
    rows = Rows(texts, None if not pairs or pairs[0] is None else pairs, labels, positions)
    return ParsedRows(rows, tuple(skipped))


def as_string(text: Text) -> str:
    """A text as one string."""
    return text if isinstance(text, str) else " ".join(text)


class PreprocessedRows(NamedTuple):
    """Rows after the preprocessing: those that have text left."""

    rows: Rows
    compared: list[tuple[Text, Text | None]] | None  # what `drop_duplicates` compares, at that step; None without it


def preprocess(rows: Rows, preprocessing: Preprocessing) -> PreprocessedRows:
    """Applies the steps to every text and pair; repeated rows stay, see `split_rows`."""
    compared = None
    for step, apply in preprocessing.stages:
        if step == DROP_EMPTY:
            kept = [
                i for i, row in enumerate(rows.text_pairs()) if all(text is None or _has_text(text) for text in row)
            ]
            if len(kept) < len(rows.texts):
                rows, compared = rows.take(kept), None if compared is None else [compared[i] for i in kept]
        elif step == DROP_DUPLICATES:
            compared = rows.text_pairs()
        elif apply:
            pairs = None if rows.pairs is None else [_applied(apply, pair) for pair in rows.pairs]
            rows = rows._replace(texts=[_applied(apply, text) for text in rows.texts], pairs=pairs)
    return PreprocessedRows(rows, compared)


def _applied(apply: Callable[[str], str], text: Text) -> Text:
    return apply(text) if isinstance(text, str) else tuple(map(apply, text))


def _has_text(text: Text | None) -> bool:
    return text is None or (bool(text.strip()) if isinstance(text, str) else all(part.strip() for part in text))
