"""Train, validation and test rows of a `Table`."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import train_test_split

from bertjax.data.labels import label_vocabulary
from bertjax.data.rows import Rows, drop_duplicates, select_rows
from bertjax.data.sources import read_table
from bertjax.data.table import Table
from bertjax.errors import DataError

# Rows to hold out of a catalog data set whose own test rows are not in its package.
CATALOG_TEST_ROWS = {"trec": 500}
DEFAULT_TEST_SHARE = 0.2


class Splits(NamedTuple):
    """The rows of a run.

    Attributes:
      duplicates: training rows that were dropped because an earlier one has the same text.
    """

    train: Rows
    validation: Rows | None
    test: Rows
    duplicates: int


def read_splits(table: Table) -> Splits:
    """Reads a table, drops duplicates, and holds out test rows unless the table names its own.

    Raises:
      DataError: whatever the table's sources, columns, texts or labels get wrong.
    """
    train, duplicates = drop_duplicates(_rows(table, table.train))
    label_vocabulary(train.labels)  # one class is the clearer complaint than a split that cannot be made
    validation = _rows(table, table.validation) if table.validation else None
    if table.test:
        test = _rows(table, table.test)
    else:
        train, test = stratified_split(train, _test_size(table), table.split_seed, table.train)
    return Splits(train=train, validation=validation, test=test, duplicates=duplicates)


def stratified_split(rows: Rows, test_size: float, seed: int, source: str) -> tuple[Rows, Rows]:
    """Holds out rows so that each class has the same share on both sides.

    Args:
      rows: to split.
      test_size: a count of rows (1 or more), or a share of them.
      seed: of the shuffle.
      source: named in the error.

    Raises:
      DataError: a class with one row, or a size that leaves a side without some class.
    """
    counts = Counter(rows.labels)
    lonely = sorted(label for label, count in counts.items() if count < 2)
    if lonely and len(counts) > 1:
        raise DataError(
            f"{source}: {', '.join(map(repr, lonely))} {'has' if len(lonely) == 1 else 'have'} a single row, which "
            f"cannot be on both sides of a stratified split; add rows, drop the class, or give a --test table"
        )
    total = len(rows.labels)
    held_out = round(test_size * total) if test_size < 1 else round(test_size)
    if not len(counts) <= held_out <= total - len(counts):
        raise DataError(
            f"{source}: holding out {held_out} of {total} rows leaves a side with fewer rows than the "
            f"{len(counts)} classes; choose another --test-size or give a --test table"
        )
    train, test = train_test_split(np.arange(total), test_size=held_out, random_state=seed, stratify=rows.labels)
    return rows.take(train), rows.take(test)


def _rows(table: Table, source: str) -> Rows:
    return select_rows(read_table(source, table.encoding), table, source)


def _test_size(table: Table) -> float:
    if table.test_size is not None:
        if table.test_size <= 0:
            raise DataError(f"--test-size must be positive, got {table.test_size}")
        return table.test_size
    return CATALOG_TEST_ROWS.get(table.train, DEFAULT_TEST_SHARE)
