"""The rows of a table as a task reads them, with what cannot be used beside them instead of left out."""

import logging
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.read.bad_rows import PLACE
from bertjax.data.rows.cells import BadCell
from bertjax.data.rows.labelled_rows import Rows, Text, as_string
from bertjax.data.split.labelled_table import check_columns
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.eda.sampled_table import SampledTable

logger = logging.getLogger(__name__)


class Fault(NamedTuple):
    """Why a row has no text or no label that can be used."""

    row: int  # in the table, from 1
    reason: str  # continues "row 3 ..."


class ObservedRows(NamedTuple):
    """Rows of a table, those without text left out.

    Attributes:
      table: settings, with the columns that were found and how labels are read.
      rows: `positions` are places in the frame; the label of a row is None where it has none that can be used.
      numbers: [n] the place of each row in the table, from 0.
      is_labelled: whether the table has labels.
      without_text, without_label: rows that lack what can be used, in the order of the table.
    """

    table: Table
    rows: Rows
    numbers: np.ndarray
    is_labelled: bool
    without_text: tuple[Fault, ...]
    without_label: tuple[Fault, ...]

    def strings(self) -> list[str]:
        """All text of each row, as one string."""
        if self.rows.pairs is None:
            return [as_string(text) for text in self.rows.texts]
        pairs = zip(self.rows.texts, self.rows.pairs, strict=True)
        return [f"{as_string(text)} {as_string(pair)}" for text, pair in pairs]

    def parts(self) -> list[list[str]]:
        """The first texts of all rows, and the second ones; none where a row has one text."""
        if self.rows.pairs is None:
            return []
        return [list(map(as_string, self.rows.texts)), list(map(as_string, self.rows.pairs))]

    def labelled(self) -> np.ndarray:
        """The indices of the rows with a label."""
        return np.array([i for i, label in enumerate(self.rows.labels) if label is not None], np.int64)


def observe(sample: SampledTable, table: Table, task_format: TaskFormat, source: str) -> ObservedRows:
    """Reads texts and labels.

    Raises:
      DataError: there is no column of text, no column of labels where one was named, or no row with text.
      ConfigError: the task needs a setting of the table that is missing.
    """
    table = _with_columns(table, sample.frame, task_format)
    text_columns, label_columns = task_format.text_columns(table), task_format.label_columns(table)
    check_columns(sample.frame.columns, text_columns, source)
    has_default = (table.label, table.labels) == (Table.label, Table.labels)
    is_labelled = bool(label_columns) and all(name in sample.frame.columns for name in label_columns)
    if is_labelled:
        table = task_format.decided(table, [sample.frame], source)
    elif label_columns and not has_default:
        check_columns(sample.frame.columns, label_columns, source)
    elif label_columns:
        logger.info("%s has no column %r: what needs labels is left out", source, label_columns[0])
    columns = dict.fromkeys((*text_columns, *label_columns, *task_format.optional))
    present = [name for name in columns if name in sample.frame.columns]
    texts: list[tuple[Text, Text | None]] = []
    labels: list[Any] = []
    positions: list[int] = []
    without_text: list[Fault] = []
    without_label: list[Fault] = []
    for i, row in enumerate(zip(*(sample.frame[name].tolist() for name in present), strict=True)):
        cells, number = dict(zip(present, row, strict=True)), int(sample.numbers[i]) + 1
        try:
            text = task_format.read_texts(cells, table)
        except BadCell as error:
            without_text.append(Fault(number, str(error)))
            continue
        label = None
        if is_labelled:
            try:
                label = task_format.read_label(cells, table, text)
            except BadCell as error:
                without_label.append(Fault(number, str(error)))
        texts.append(text)
        labels.append(label)
        positions.append(i)
    pairs = None if not texts or texts[0][1] is None else [pair for _, pair in texts]
    rows = Rows([text for text, _ in texts], pairs, labels, positions)
    numbers = sample.numbers[np.array(positions, np.int64)]
    return ObservedRows(table, rows, numbers, is_labelled, tuple(without_text), tuple(without_label))


def _with_columns(table: Table, frame: pd.DataFrame, task_format: TaskFormat) -> Table:
    """The table with its columns named; the only column of a table is its text."""
    table = task_format.with_usual_columns(table, frame.columns)
    names = [name for name in frame.columns if name != PLACE]
    if len(names) == 1 and table.text == Table.text and names[0] not in table.text:
        logger.info("the only column, %r, is read as the text", names[0])
        return replace(table, text=(names[0],))
    return table
