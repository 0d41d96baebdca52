"""Train, validation and test rows of a `Table`: read, checked against its contract, split, and rid of leaks."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data.read.sources import Read, listing, read_table
from bertjax.data.rows.data_report import DataReport, TableReport
from bertjax.data.rows.label_vocabulary import label_names
from bertjax.data.rows.labelled_rows import (
    Rows,
    Selected,
    check_one_kind,
    count_of,
    drop_duplicates,
    kinds_of,
    preprocess,
    select_rows,
)
from bertjax.data.rows.preprocessing import DROP_DUPLICATES, DROP_EMPTY, JOIN, Preprocessing
from bertjax.data.rows.row_hashes import keys_of
from bertjax.data.rows.timestamps import sortable_times
from bertjax.data.split.hold_out import Known, hold_out, test_size
from bertjax.data.split.leaks import leaked_rows
from bertjax.data.table import Side, Table
from bertjax.data.task_formats import TaskFormat
from bertjax.data.task_formats.sequence_formats import CLASSIFICATION
from bertjax.data.validate.contract import Finding, check, complaint
from bertjax.data.validate.contract_file import read_contract
from bertjax.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


class Splits(NamedTuple):
    """The rows of a run.

    Attributes:
      vocabulary: the label names of the training rows, in index order; empty where labels have no names.
      table: the settings that were followed, with the columns that were found.
      data_report: what was read, dropped and removed on the way.
    """

    train: Rows
    validation: Rows | None
    test: Rows
    vocabulary: tuple[str, ...]
    table: Table
    data_report: DataReport


def read_splits(table: Table, task_format: TaskFormat = CLASSIFICATION) -> Splits:
    """Reads the tables, checks their contract, preprocesses, drops duplicates, holds out test rows, removes leaks.

    Raises:
      DataError: whatever the table's sources, columns, texts or labels get wrong, or a contract that is broken.
      ConfigError: settings that contradict each other or the task, or a contract that cannot be read.
    """
    check_settings(table, task_format)
    named: dict[Side, str | None] = {"train": table.train, "validation": table.validation, "test": table.test}
    sources = {side: source for side, source in named.items() if source}
    reads = {
        side: read_table(source, table.encoding, table.on_bad_row, table.documents) for side, source in sources.items()
    }
    table = task_format.with_usual_columns(table, reads["train"].frame.columns)
    findings = check_contract(table, sources, reads)
    selected = {side: select(reads[side].frame, table, task_format, source) for side, source in sources.items()}
    tables = tuple(
        TableReport(source, len(selected[side].kept), reads[side].skipped + selected[side].skipped, findings[side])
        for side, source in sources.items()
    )
    preprocessing = preprocessing_of(table)
    rows = {side: found.rows for side, found in selected.items()}
    order = _order(table, reads["train"].frame.iloc[selected["train"].kept])
    rows["train"] = rows["train"]._replace(order=order)
    preprocessed = {side: preprocess(rows[side], preprocessing, source) for side, source in sources.items()}
    emptied = sum(len(rows[side].texts) - len(preprocessed[side].rows.texts) for side in sources)
    if emptied:
        logger.info("the preprocessing left no text in %d rows, which were dropped", emptied)

    train, duplicates = drop_duplicates(preprocessed["train"])
    rows = {side: found.rows for side, found in preprocessed.items()}
    # One class is the clearer complaint than a split that cannot be made.
    vocabulary = task_format.vocabulary(_names(train, task_format), table)
    if "test" in rows:
        test = rows["test"]
    else:
        train, test = _split(table, task_format, train, test_size(table), "test")
    validation = rows.get("validation")
    if table.validation_size is not None:
        train, validation = _split(table, task_format, train, table.validation_size, "validation")
    leaks = leaked_rows(train, validation, test)
    removed = leaks if table.leaks == "remove" else []
    train = _without(train, removed, table, task_format)
    if leaks:
        logger.info(
            "%s: the text of %d training rows stands in the validation or test rows too; %d were removed",
            table.train, len(leaks), len(removed),
        )  # fmt: skip
    data_report = DataReport(tables, duplicates, len(leaks), len(removed), emptied)
    return Splits(train, validation, test, vocabulary, table, data_report)


def preprocessing_of(table: Table) -> Preprocessing:
    """What a table's rows go through before they are tokenized: its columns are joined first, and rows without text
    and rows that repeat one are dropped last, unless the steps say otherwise.

    Raises:
      ConfigError: a step that is unknown or out of order.
    """
    first = () if JOIN in table.steps else (JOIN,)
    last = tuple(step for step in (DROP_EMPTY, DROP_DUPLICATES) if step not in table.steps)
    return Preprocessing((*first, *table.steps, *last), table.stop_words, table.text, table.text_pair)


def check_settings(table: Table, task_format: TaskFormat) -> None:
    """Whether the settings of the table agree.

    Raises:
      ConfigError: they contradict each other, or the task.
    """
    if task_format.positions and preprocessing_of(table).changing:
        raise ConfigError(
            f"--steps {' '.join(table.steps)}: the labels of {task_format.task} point at places in the text, which a "
            f"step would move; leave --steps out"
        )
    if table.validation_size is not None:
        if table.validation:
            raise ConfigError("--validation names the validation rows, --validation-size holds out others; give one")
        if table.validation_size <= 0:
            raise ConfigError(f"--validation-size must be positive, got {table.validation_size}")
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


def _check_folds(table: Table) -> None:
    if table.split != "kfold":
        if (table.folds, table.fold) != (Table.folds, Table.fold):
            raise ConfigError(f"--folds and --fold are for --split kfold, but --split is {table.split}; leave them out")
        return
    if table.test_size is not None:
        raise ConfigError("--split kfold holds out one of --folds parts; leave --test-size out")
    if table.folds < 2:
        raise ConfigError(f"--folds must be 2 or more, got {table.folds}")
    if not 0 <= table.fold < table.folds:
        raise ConfigError(f"--fold counts from 0 to {table.folds - 1}, got {table.fold}")


def check_contract(
    table: Table, sources: Mapping[Side, str], reads: Mapping[Side, Read]
) -> dict[Side, tuple[Finding, ...]]:
    """What became of the contract in each table; every table's broken expectations are one error.

    Raises:
      ConfigError: the contract cannot be read.
      DataError: it is broken.
    """
    if not table.contract:
        return dict.fromkeys(sources, ())
    contract = read_contract(table.contract)
    findings: dict[Side, tuple[Finding, ...]] = {}
    complaints = []
    for side, source in sources.items():
        # How many rows it takes is a question of training; the other tables may be small.
        expected = contract if side == "train" else replace(contract, min_rows=1)
        findings[side] = check(expected, reads[side].frame, table)
        if broken := complaint(findings[side]):
            complaints.append(broken_contract(table, source, broken))
    if complaints:
        raise DataError("; ".join(complaints))
    return findings


def broken_contract(table: Table, source: str, broken: str) -> str:
    """What to say of a table that breaks its contract."""
    return f"{source} breaks the contract {table.contract}: {broken}"


def select(frame: pd.DataFrame, table: Table, task_format: TaskFormat, source: str) -> Selected:
    """The rows of a frame that a task can use; the others are logged.

    Raises:
      DataError: a column is not there, or a row cannot be used where that ends the run.
    """
    if task_format.classes and table.label in frame.columns:
        check_one_kind(kinds_of(frame[table.label].tolist()), table.label, source)
    selected = select_rows(
        frame,
        [*task_format.columns(table), *(column for column in task_format.optional if column in frame.columns)],
        lambda cells: task_format.read_row(cells, table),
        source,
        table.on_bad_row,
    )
    if selected.skipped:
        logger.warning("%s: left out %s", source, listing(selected.skipped))
    return selected


def _order(table: Table, frame: pd.DataFrame) -> list[Any] | None:
    """The group or time of each row, where the split goes by one."""
    column = table.order_column
    if column is None:
        return None
    check_order_column(table, frame.columns)
    missing = np.flatnonzero(is_blank(frame[column]))
    if len(missing):
        raise not_ordered(table, len(missing), int(missing[0]))
    return frame[column].astype(str).tolist() if table.group else sortable_times(frame[column], table.train).tolist()


def check_order_column(table: Table, columns: Iterable[str]) -> None:
    """Whether the column that the split goes by is there.

    Raises:
      DataError: it is not.
    """
    there = list(columns)
    if table.order_column is not None and table.order_column not in there:
        raise DataError(
            f"{table.train} has no column {table.order_column!r} to split by; its columns are "
            f"{', '.join(map(str, there))}"
        )


def is_blank(cells: pd.Series) -> np.ndarray:
    """Which cells are missing or hold white space alone: [n] bool."""
    return (cells.isna() | (cells.astype(str).str.strip() == "")).to_numpy(bool)


def not_ordered(table: Table, count: int, first: int) -> DataError:
    """What to say where rows lack the group or time that the split goes by; the first one is counted from 0."""
    return DataError(
        f"{table.train}: {count_of(count, 'row')} without a value in column {table.order_column!r} (the first is row "
        f"{first + 1}), by which it is split; fill or remove them"
    )


def _split(table: Table, task_format: TaskFormat, rows: Rows, size: float, side: str) -> tuple[Rows, Rows]:
    """Training rows, and those that are held out for the other side."""
    order = None if rows.order is None else keys_of(rows.order) if table.group else np.array(rows.order)
    known = Known(label_names(map(task_format.names, rows.labels)), order)
    sides = hold_out(table, task_format, known, size, side)
    return rows.take(sides.train), rows.take(sides.test)


def _without(train: Rows, leaks: list[int], table: Table, task_format: TaskFormat) -> Rows:
    left = train.take(np.setdiff1d(np.arange(len(train.labels)), leaks))
    gone = _names(train, task_format) - _names(left, task_format)
    if gone or not left.labels:
        raise all_leaked(table, gone if left.labels else set())
    return left


def all_leaked(table: Table, names: Iterable[str]) -> DataError:
    """What to say where every training row leaks, or every one of some label names."""
    whose = (
        f"every training row of {', '.join(map(repr, sorted(names)))} has a text that"
        if names
        else ("the text of every training row")
    )
    return DataError(
        f"{table.train}: {whose} stands in the validation or test rows too; give other rows, or keep such rows with "
        f"--leaks report"
    )


def _names(rows: Rows, task_format: TaskFormat) -> set[str]:
    return {name for label in rows.labels for name in task_format.names(label)}
