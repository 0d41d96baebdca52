"""Train, validation and test rows of a `Table`: read, checked against its contract, split, and rid of leaks."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bertjax.data import holdout
from bertjax.data.contract import Finding, check, complaint
from bertjax.data.contract_file import read_contract
from bertjax.data.intake import Intake, TableIntake
from bertjax.data.labels import label_vocabulary
from bertjax.data.leaks import leaked_rows
from bertjax.data.preprocessing import Preprocessing
from bertjax.data.rows import Rows, drop_duplicates, preprocess, select_rows
from bertjax.data.sources import Read, read_table
from bertjax.data.table import Table
from bertjax.data.times import sortable_times
from bertjax.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

# Rows to hold out of a catalog data set whose own test rows are not in its package.
CATALOG_TEST_ROWS = {"trec": 500}
DEFAULT_TEST_SHARE = 0.2


class Splits(NamedTuple):
    """The rows of a run.

    Attributes:
      intake: what was read, dropped and removed on the way.
    """

    train: Rows
    validation: Rows | None
    test: Rows
    intake: Intake


def read_splits(table: Table) -> Splits:
    """Reads the tables, checks their contract, preprocesses, drops duplicates, holds out test rows, removes leaks.

    Raises:
      DataError: whatever the table's sources, columns, texts or labels get wrong, or a contract that is broken.
      ConfigError: settings of the split that contradict each other, or a contract that cannot be read.
    """
    _check_settings(table)
    preprocessing = preprocessing_of(table)
    named = {"train": table.train, "validation": table.validation, "test": table.test}
    sources = {side: source for side, source in named.items() if source}
    reads = {side: read_table(source, table.encoding, table.on_bad_row) for side, source in sources.items()}
    tables = _checked(table, sources, reads)
    rows = {side: select_rows(reads[side].frame, table, source) for side, source in sources.items()}
    rows["train"] = rows["train"]._replace(order=_order(table, reads["train"].frame))
    emptied = 0
    for side, source in sources.items():
        rows[side], dropped = preprocess(rows[side], preprocessing, source)
        emptied += dropped
    if emptied:
        logger.info("the preprocessing left no text in %d rows, which were dropped", emptied)

    train, duplicates = drop_duplicates(rows["train"])
    label_vocabulary(train.labels)  # one class is the clearer complaint than a split that cannot be made
    if "test" in rows:
        test = rows["test"]
    else:
        train, test = _split(table, train)
    leaks = leaked_rows(train, rows.get("validation"), test)
    removed = leaks if table.leaks == "remove" else []
    train = _without(train, removed, table)
    if leaks:
        logger.info(
            "%s: the text of %d training rows stands in the validation or test rows too; %d were removed",
            table.train, len(leaks), len(removed),
        )  # fmt: skip
    intake = Intake(tables, duplicates, len(leaks), len(removed), emptied)
    return Splits(train, rows.get("validation"), test, intake)


def preprocessing_of(table: Table) -> Preprocessing:
    """What a table's texts go through before they are tokenized.

    Raises:
      ConfigError: a step that is unknown or out of order.
    """
    return Preprocessing(table.steps, table.stop_words)


def _check_settings(table: Table) -> None:
    if table.test and table.split != "stratified":
        raise ConfigError(
            f"--split {table.split} holds test rows out of --train, but --test {table.test} names them; leave one out"
        )
    for name, column, split in (("group", table.group, "grouped"), ("time", table.time, "time")):
        if table.split == split and column is None:
            raise ConfigError(f"--split {split} needs --{name}, the column that it goes by")
        if table.split != split and column is not None:
            raise ConfigError(f"--{name} is for --split {split}, but --split is {table.split}; leave one out")
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


def _checked(table: Table, sources: Mapping[str, str], reads: Mapping[str, Read]) -> tuple[TableIntake, ...]:
    """What was read of each source; every table's broken expectations are one error."""
    contract = read_contract(table.contract) if table.contract else None
    tables, complaints = [], []
    for side, source in sources.items():
        frame, skipped = reads[side]
        findings: tuple[Finding, ...] = ()
        if contract is not None:
            # How many rows it takes is a question of training; the other tables may be small.
            findings = check(contract if side == "train" else replace(contract, min_rows=1), frame, table)
        if broken := complaint(findings):
            complaints.append(f"{source} breaks the contract {table.contract}: {broken}")
        tables.append(TableIntake(source, len(frame), skipped, findings))
    if complaints:
        raise DataError("; ".join(complaints))
    return tuple(tables)


def _order(table: Table, frame: pd.DataFrame) -> list[Any] | None:
    """The group or time of each row, where the split goes by one."""
    column = table.group or table.time
    if column is None:
        return None
    if column not in frame.columns:
        raise DataError(
            f"{table.train} has no column {column!r} to split by; its columns are {', '.join(map(str, frame.columns))}"
        )
    cells = frame[column]
    missing = (cells.isna() | (cells.astype(str).str.strip() == "")).to_numpy()
    if missing.any():
        raise DataError(
            f"{table.train}: {missing.sum()} {'row' if missing.sum() == 1 else 'rows'} without a value in column "
            f"{column!r} (the first is row {missing.argmax() + 1}), by which it is split; fill or remove them"
        )
    return cells.astype(str).tolist() if table.group else sortable_times(cells, table.train)


def _split(table: Table, rows: Rows) -> tuple[Rows, Rows]:
    """Training and test rows."""
    size, seed, source, labels = _test_size(table), table.split_seed, table.train, rows.labels
    asked = f"asked for {holdout.rows_to_hold_out(size, len(labels))}"
    if table.split == "kfold":
        sides = holdout.kfold(labels, table.folds, table.fold, seed, source)
        asked = f"fold {table.fold} of {table.folds}"
    elif rows.order is None:
        sides = holdout.stratified(labels, size, seed, source)
    elif table.split == "grouped":
        sides = holdout.grouped(labels, rows.order, size, seed, source)
    else:
        sides = holdout.by_time(rows.order, size, source)
    logger.info(
        "%s: the %s split holds out %d of %d rows (%s)",
        source, table.split, len(sides.test), len(labels), asked,
    )  # fmt: skip
    train, test = rows.take(sides.train), rows.take(sides.test)
    gone = sorted(set(labels) - set(train.labels))
    if gone:
        raise DataError(
            f"{source}: the {table.split} split holds out every row of {', '.join(map(repr, gone))}, so training would "
            f"never see it; choose another --test-size or --split-seed, or drop the class"
        )
    return train, test


def _without(train: Rows, leaks: list[int], table: Table) -> Rows:
    left = train.take(np.setdiff1d(np.arange(len(train.labels)), leaks))
    gone = sorted(set(train.labels) - set(left.labels))
    if gone:
        raise DataError(
            f"{table.train}: every training row of {', '.join(map(repr, gone))} has a text that stands in the "
            f"validation or test rows too; give other rows, or keep such rows with --leaks report"
        )
    return left


def _test_size(table: Table) -> float:
    if table.test_size is not None:
        if table.test_size <= 0:
            raise ConfigError(f"--test-size must be positive, got {table.test_size}")
        return table.test_size
    return CATALOG_TEST_ROWS.get(table.train, DEFAULT_TEST_SHARE)
