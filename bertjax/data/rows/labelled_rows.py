"""Rows: the text and label of each row of a table, checked, before any of it becomes a number."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import PLACE, BadRow
from bertjax.data.rows.cells import BadCell, is_missing
from bertjax.data.rows.preprocessing import DROP_DUPLICATES, DROP_EMPTY, Preprocessing
from bertjax.errors import DataError

Text = str | tuple[str, ...]
"""A text, or several that belong together: the words of a sentence, the candidates of a choice."""


class Row(NamedTuple):
    """One row of a table.

    Attributes:
      text: the text columns, joined by a space, or the words they hold.
      pair: the second text, or the candidates, or None where the task has none.
      label: as the task has it: a name, several names, numbers, answers; None where a text is its own label.
    """

    text: Text
    pair: Text | None
    label: Any


ReadRow = Callable[[Mapping[str, Any]], Row]
"""The cells of a row, by column -> the row. Raises BadCell where they cannot be used."""


class Rows(NamedTuple):
    """Aligned columns, one entry a row.

    Attributes:
      texts: of each row.
      pairs: the second text of each row, or None where the table has no pairs.
      labels: of each row, as the task has them.
      order: what the split goes by, a group or a time, or None where it goes by neither.
    """

    texts: list[Any]
    pairs: list[Any] | None
    labels: list[Any]
    order: list[Any] | None = None

    def digest(self) -> str:
        """16 hexadecimal digits that change with any text, pair or label, and with the order of rows."""
        content = hashlib.sha256()
        pairs = self.pairs or [None] * len(self.texts)
        for row in zip(self.texts, pairs, self.labels, strict=True):
            content.update(json.dumps(row, default=str).encode() + b"\n")
        return content.hexdigest()[:16]

    def take(self, indices: Iterable[int]) -> "Rows":
        """The rows at `indices`, in that order."""
        indices = list(indices)
        return Rows(
            texts=[self.texts[i] for i in indices],
            pairs=None if self.pairs is None else [self.pairs[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            order=None if self.order is None else [self.order[i] for i in indices],
        )


_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "truth values": (bool, np.bool_),
    "numbers": (int, float, np.number),
}


class Selected(NamedTuple):
    """What a frame holds of a task's rows.

    Attributes:
      rows: those that can be used.
      kept: their positions in the frame.
      skipped: the others, in the order of the frame.
    """

    rows: Rows
    kept: list[int]
    skipped: tuple[BadRow, ...]


def select_rows(
    frame: pd.DataFrame, columns: Sequence[str], read_row: ReadRow, source: str, on_bad_row: str = "stop"
) -> Selected:
    """The rows of a frame, as a task reads them.

    Args:
      frame: all columns of a table.
      columns: that the task reads.
      read_row: how it reads a row of them.
      source: named in errors.
      on_bad_row: "stop" ends with the first row that cannot be used; "skip" leaves such rows out, and returns them.

    Raises:
      DataError: a column is not there, or a row cannot be used. Rows are counted from 1, after the header, unless the
        frame says where they stand.
    """
    check_columns(frame.columns, columns, source)
    selected = read_rows(frame, columns, read_row, source)
    bad = selected.skipped
    if bad and on_bad_row == "stop":
        others = f" (and {count_of(len(bad) - 1, 'other row')} cannot be used)" if len(bad) > 1 else ""
        raise DataError(f"{bad[0]}{others}; mend it, or leave such rows out (--on-bad-row skip)")
    if not selected.kept:
        raise DataError(f"{source} has no row that can be used; the first is {bad[0]}")
    return selected


def check_columns(there: Iterable[str], needed: Iterable[str], source: str) -> None:
    """Whether a table has the columns that are read.

    Raises:
      DataError: it has not.
    """
    there = list(there)
    for column in needed:
        if column not in there:
            raise DataError(f"{source} has no column {column!r}; its columns are {', '.join(map(str, there))}")


class FirstOfKind(NamedTuple):
    """The first cell of a kind: its row, counted from 1, and how it looks."""

    row: int
    cell: str


def kinds_of(cells: Iterable[Any]) -> dict[str, FirstOfKind]:
    """The kinds of cells there are, text, numbers and truth values; missing cells and lists have no say."""
    first: dict[str, FirstOfKind] = {}
    for row, cell in enumerate(cells, start=1):
        kind = next((name for name, types in _KINDS.items() if isinstance(cell, types)), None)
        if kind is not None and kind not in first and not is_missing(cell):
            first[kind] = FirstOfKind(row, repr(cell))
    return first


def check_one_kind(kinds: Mapping[str, FirstOfKind], column: str, source: str) -> None:
    """Whether the cells of a column are all of one kind; "1" and 1 would be one label.

    Raises:
      DataError: they are not.
    """
    if len(kinds) > 1:
        found = " and ".join(f"{kind} (row {first.row}: {first.cell})" for kind, first in kinds.items())
        raise DataError(f"{source}: column {column!r} mixes {found}; write all of its cells as one of them")


def read_rows(frame: pd.DataFrame, columns: Sequence[str], read_row: ReadRow, source: str) -> Selected:
    """What a frame holds of a task's rows, be it nothing; see `select_rows`."""
    places = frame[PLACE].tolist() if PLACE in frame.columns else None
    read, kept, bad = [], [], []
    for i, cells in enumerate(zip(*(frame[column].tolist() for column in columns), strict=True)):
        try:
            read.append(read_row(dict(zip(columns, cells, strict=True))))
            kept.append(i)
        except BadCell as error:
            if places is None:
                bad.append(BadRow(source, i + 1, str(error), "row"))
            else:
                bad.append(BadRow(places[i].file, places[i].line + error.lines_on, str(error)))
    texts, pairs, labels = (list(column) for column in zip(*read, strict=True)) if read else ([], [], [])
    return Selected(Rows(texts, None if not pairs or pairs[0] is None else pairs, labels), kept, tuple(bad))


def spelled(text: Text) -> str:
    """A text as one string."""
    return text if isinstance(text, str) else " ".join(text)


class Preprocessed(NamedTuple):
    """Rows after the steps.

    Attributes:
      rows: those that are left.
      keys: what `drop_duplicates` compares of each of them, the text and the pair at that step; None without that step.
    """

    rows: Rows
    keys: list[tuple[Text, Text | None]] | None


def preprocess(rows: Rows, preprocessing: Preprocessing, source: str) -> Preprocessed:
    """Applies the steps to every text and pair; rows that repeat one are still there, see `drop_duplicates`.

    Raises:
      DataError: no row is left.
    """
    kept = preprocess_rows(rows, preprocessing)
    if not kept.rows.texts:
        raise nothing_left(source, preprocessing, count_of(len(rows.texts), "row"))
    return kept


def nothing_left(source: str, preprocessing: Preprocessing, rows: str) -> DataError:
    """What to say where the steps emptied every text."""
    steps = ", ".join(preprocessing.changing)
    return DataError(f"{source}: the preprocessing {steps} leaves no text in any of {rows}; leave out a step")


def preprocess_rows(rows: Rows, preprocessing: Preprocessing) -> Preprocessed:
    """What `preprocess` does, where no row may be left."""
    keys = None
    for step, apply in preprocessing.stages:
        if step == DROP_EMPTY:
            whole = [i for i, row in enumerate(_pairs(rows)) if all(text is None or _is_whole(text) for text in row)]
            if len(whole) < len(rows.texts):
                rows, keys = rows.take(whole), None if keys is None else [keys[i] for i in whole]
        elif step == DROP_DUPLICATES:
            keys = _pairs(rows)
        elif apply:
            pairs = None if rows.pairs is None else [_applied(apply, pair) for pair in rows.pairs]
            rows = rows._replace(texts=[_applied(apply, text) for text in rows.texts], pairs=pairs)
    return Preprocessed(rows, keys)


def drop_duplicates(preprocessed: Preprocessed) -> tuple[Rows, int]:
    """Keeps the first row of each text (or pair of texts); also returns how many rows were dropped.

    Duplicates go before the split: one copy in training and one in the test rows would be a leak.
    """
    rows, keys = preprocessed
    if keys is None:
        return rows, 0
    first = dict(zip(reversed(keys), reversed(range(len(keys))), strict=True))
    return rows.take(sorted(first.values())), len(keys) - len(first)


def _pairs(rows: Rows) -> list[tuple[Text, Text | None]]:
    return list(zip(rows.texts, rows.pairs or [None] * len(rows.texts), strict=True))


def _applied(apply: Callable[[str], str], text: Text) -> Text:
    return apply(text) if isinstance(text, str) else tuple(map(apply, text))


def _is_whole(text: Text) -> bool:
    return bool(text.strip()) if isinstance(text, str) else all(part.strip() for part in text)


def count_of(number: int, noun: str) -> str:
    """As in "1 row" and "2 rows"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
