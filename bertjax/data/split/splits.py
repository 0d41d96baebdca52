"""`Splits`: the encoded train, validation and test rows of a run, whether they were read into memory or streamed."""

from typing import Generic, NamedTuple, TypeVar

import numpy as np

from bertjax.data.encode.examples import Examples, ExampleStore
from bertjax.data.rows.data_report import DataReport
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.table import Table
from bertjax.data.task_formats import Encoding, TaskFormat

Store_co = TypeVar("Store_co", bound=ExampleStore, covariant=True)


class Split(NamedTuple, Generic[Store_co]):
    """One side of a run's rows.

    Attributes:
      source: the table that the rows are from.
      examples: the encoded rows.
      digest: 16 hexadecimal digits that change with any text, pair and label, and with the order of rows.
      num_rows: rows; a row may be several examples.
    """

    source: str
    examples: Store_co
    digest: str
    num_rows: int


class Splits(NamedTuple):
    """The rows of a run, encoded.

    Attributes:
      train: examples in memory or on the disk.
      validation, test: examples in memory, in which masked tokens do not change between epochs.
      vocabulary: label names of the training rows, in index order; empty where labels have no names.
      table: the settings, with the columns that were found.
      data_report: counts of rows that were read, dropped and removed.
    """

    train: Split[ExampleStore]
    validation: Split[Examples] | None
    test: Split[Examples]
    vocabulary: tuple[str, ...]
    table: Table
    data_report: DataReport


def encode_rows(source: str, rows: Rows, task_format: TaskFormat, encoding: Encoding) -> Split[Examples]:
    """Encodes rows in memory.

    Raises:
      DataError: a label that no training row has, or a setting that the rows do not fit.
    """
    return Split(source, task_format.encode(rows, source, encoding), rows.digest(), len(rows.texts))


def fixed(split: Split[ExampleStore], table: Table) -> Split[Examples]:
    """Rows to evaluate on: in memory, with the tokens that the split's seed masks in every epoch."""
    examples = split.examples.take(np.arange(split.examples.num_examples))
    return Split(split.source, examples.fixed(table.split_seed), split.digest, split.num_rows)
