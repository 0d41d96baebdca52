"""`Splits`: the encoded train, validation and test rows of a `Table`, which are read into memory here.

They are read, checked, split, rid of leaks and encoded. `stream_splits` gives the same without the memory.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from bertjax.data.encode.examples import Examples, ExampleStore
from bertjax.data.rows.labelled_rows import Rows
from bertjax.data.rows.row_hashes import hash64
from bertjax.data.rows.timestamps import sortable_times
from bertjax.data.split.labelled_table import LabelledTable, count_of, preprocessing_of, read_labelled_tables
from bertjax.data.split.split_rows import RowKeys, split_rows
from bertjax.data.table import Side, Table
from bertjax.data.task_formats import Encoding, TaskFormat
from bertjax.data.validate.data_report import DataReport
from bertjax.errors import ConfigError, DataError

Store_co = TypeVar("Store_co", bound=ExampleStore, covariant=True)


class Split(NamedTuple, Generic[Store_co]):
    """One side of a run's rows."""

    source: str  # the table that the rows are from
    examples: Store_co  # the encoded rows
    digest: str  # 16 hexadecimal digits that change with any text, pair and label, and with the order of rows
    num_rows: int  # rows; a row may be several examples
    rows: Rows | None = None  # their texts and labels; None where those are not in memory


class Splits(NamedTuple):
    """The rows of a run, encoded; masked tokens of validation and test rows do not change between epochs."""

    train: Split[ExampleStore]  # in memory or on the disk
    validation: Split[Examples] | None
    test: Split[Examples]
    vocabulary: tuple[str, ...]  # label names of the training rows, in index order; empty where labels have no names
    table: Table  # settings, with the columns that were found
    data_report: DataReport


class RowSplits(NamedTuple):
    """The rows of a run, not encoded yet; fields as in `Splits`."""

    train: Rows
    validation: Rows | None
    test: Rows
    vocabulary: tuple[str, ...]
    table: Table
    data_report: DataReport


def read_splits(table: Table, task_format: TaskFormat) -> RowSplits:
    """Reads the tables, checks their contract, preprocesses, drops duplicates, holds out test rows, removes leaks.

    Raises:
      DataError: a source, column, text or label that cannot be used, or a broken contract.
      ConfigError: settings that contradict each other or the task, or a contract that cannot be read.
    """
    check_settings(table, task_format)
    table, tables = read_labelled_tables(table, task_format, {"train": table.train, **table.evaluated})
    train = tables["train"].rows
    rows: dict[Side, Rows] = {side: labelled.rows for side, labelled in tables.items() if side != "train"}
    split = split_rows(_row_keys(tables["train"], table, task_format), table, task_format, rows)
    rows |= {side: train.take(indices) for side, indices in split.held_out.items()}
    reports = tuple(labelled.report for labelled in tables.values())
    return RowSplits(
        train.take(split.train),
        rows.get("validation"),
        rows["test"],
        split.vocabulary,
        table,
        DataReport(reports, split.duplicates, split.leaks, split.leaks_removed, split.contradictions),
    )


def encode_splits(splits: RowSplits, task_format: TaskFormat, encoding: Encoding) -> Splits:
    """Encodes all rows, with the vocabulary and table of the splits.

    Raises:
      DataError: a label that no training row has, or a setting that the rows do not fit.
    """
    table = splits.table
    encoding = encoding._replace(vocabulary=splits.vocabulary, table=table)
    encode = partial(encode_rows, task_format=task_format, encoding=encoding)
    train = _learned(encode(table.train, splits.train), splits.train)
    test = fixed(encode(table.test or table.train, splits.test), table)
    validation = None
    if splits.validation is not None:
        validation = fixed(encode(table.validation or table.train, splits.validation), table)
    data_report = with_losses(splits.data_report, [side.examples for side in (train, validation, test) if side])
    return Splits(train, validation, test, splits.vocabulary, table, data_report)


def with_losses(report: DataReport, sides: Sequence[ExampleStore]) -> DataReport:
    """The report with what the encoded rows of some sides have lost."""
    words = [side.words for side in sides if side.words is not None]
    return report._replace(
        empty_texts=sum(side.num_empty for side in sides),
        lost_words=sum(len(of_side.lost.rows) for of_side in words),
        unlabelled_words=sum(len(of_side.unlabelled) for of_side in words),
    )


def encode_rows(source: str, rows: Rows, task_format: TaskFormat, encoding: Encoding) -> Split[Examples]:
    """Encodes rows in memory; raises DataError as `encode_splits`."""
    return Split(source, task_format.encode(rows, source, encoding), rows.digest(), len(rows.texts), rows)


def _learned(split: Split[Examples], rows: Rows) -> Split[Examples]:
    """Rows to train on: labelled by their probabilities [N, L] where they have some, an example a row."""
    if rows.probabilities is None:
        return split
    return split._replace(examples=split.examples.labelled(rows.probabilities.of_rows))


def fixed(split: Split[ExampleStore], table: Table) -> Split[Examples]:
    """Rows to evaluate on: in memory, with the tokens that the split's seed masks in every epoch."""
    examples = split.examples.take(np.arange(split.examples.num_examples))
    return Split(split.source, examples.fixed(table.split_seed), split.digest, split.num_rows, split.rows)


def check_settings(table: Table, task_format: TaskFormat) -> None:
    """Checks that the settings of the table agree.

    Raises:
      ConfigError: they contradict each other, or the task.
    """
    if task_format.positions and preprocessing_of(table).changing:
        raise ConfigError(
            f"--steps {' '.join(table.steps)}: the labels of {task_format.task} point at places in the text, which a "
            f"step would move; leave --steps out"
        )
    _check_label_names(table)
    if table.label_probabilities is not None:
        _check_label_probabilities(table, task_format)
    if table.per_class is not None and not task_format.classes:
        raise ConfigError(
            f"--per-class draws rows of each class, and a row of {task_format.task} does not have one; leave it out"
        )
    if table.validation_size is not None and table.validation:
        raise ConfigError("--validation names the validation rows, --validation-size holds out others; give one")
    if table.test and table.split != "stratified":
        raise ConfigError(
            f"--split {table.split} holds test rows out of --train, but --test {table.test} names them; leave one out"
        )
    for name, column, split in (("group", table.group, "grouped"), ("time", table.time, "time")):
        if table.split == split and column is None:
            raise ConfigError(f"--split {split} needs --{name}, the column that it goes by")
        if table.split != split and column is not None:
            raise ConfigError(f"--{name} is for --split {split}, but --split is {table.split}; leave one out")
    _check_folds(table)


def _check_label_names(table: Table) -> None:
    names = table.label_names
    if names is None:
        return
    if len(set(names)) < len(names):
        raise ConfigError(f"--label-names has a name twice: {' '.join(names)}")
    if table.labels or table.labels_as == "names":
        other = "--label-columns" if table.labels else "--labels-as names"
        raise ConfigError(f"--label-names is for lists of 0 and 1 in one column, which {other} rules out; give one")


def _check_label_probabilities(table: Table, task_format: TaskFormat) -> None:
    if not (task_format.classes and task_format.indexed):
        raise ConfigError(
            f"--label-probabilities is for rows of one class each out of several, which {task_format.task} does not "
            f"have; leave it out"
        )
    if table.reader == "ray":
        raise ConfigError("--label-probabilities needs all rows in memory; leave --reader ray out")


def _check_folds(table: Table) -> None:
    if table.split != "kfold":
        if (table.folds, table.fold) != (Table.folds, Table.fold):
            raise ConfigError(f"--folds and --fold are for --split kfold, but --split is {table.split}; leave them out")
        return
    if table.test_size is not None:
        raise ConfigError("--split kfold holds out one of --folds parts; leave --test-size out")
    if not 0 <= table.fold < table.folds:
        raise ConfigError(f"--fold counts from 0 to {table.folds - 1}, got {table.fold}")


def check_order_column(table: Table, columns: Iterable[str]) -> None:
    """Raises DataError where the table lacks the column that the split goes by."""
    columns = list(columns)
    if table.order_column is not None and table.order_column not in columns:
        raise DataError(
            f"{table.train} has no column {table.order_column!r} to split by; its columns are "
            f"{', '.join(map(str, columns))}"
        )


def is_blank(cells: pd.Series) -> np.ndarray:
    """Which cells are missing or hold only white space: [n] bool."""
    return (cells.isna() | (cells.astype(str).str.strip() == "")).to_numpy(bool)


def blank_order_error(table: Table, blank: np.ndarray) -> DataError:
    """The error for usable rows without the group or time that the split goes by; `blank` holds their indices."""
    return DataError(
        f"{table.train}: {count_of(len(blank), 'row')} without a value in column {table.order_column!r} (the first is "
        f"row {blank[0] + 1}), by which it is split; fill or remove them"
    )


def _row_keys(train: LabelledTable, table: Table, task_format: TaskFormat) -> RowKeys:
    check_order_column(table, train.frame.columns)
    keys = RowKeys.of(train.preprocessed, task_format)
    if table.order_column is None:
        return keys
    cells = train.frame[table.order_column].iloc[train.usable]
    blank = np.flatnonzero(is_blank(cells))
    if len(blank):
        raise blank_order_error(table, blank)
    order = hash64(cells.astype(str).str.strip()) if table.group else sortable_times(cells, table.train)
    return keys._replace(order=order[np.searchsorted(train.usable, train.rows.positions)])
