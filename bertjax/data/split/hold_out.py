"""Which rows a table holds out, from what is known of each: its label names, and its group or time."""

import logging
from typing import NamedTuple

import numpy as np

from bertjax.data.rows.label_vocabulary import LabelNames
from bertjax.data.split import splitters
from bertjax.data.split.splitters import Sides, Strata
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat
from bertjax.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

# Rows to hold out of a catalog data set whose own test rows are not in its package.
CATALOG_TEST_ROWS = {"trec": 500}
DEFAULT_TEST_SHARE = 0.2


class Known(NamedTuple):
    """What a split may go by.

    Attributes:
      labels: the label names of each row.
      order: [n] keys of the groups, or times; None where the split goes by neither.
    """

    labels: LabelNames
    order: np.ndarray | None

    def take(self, rows: np.ndarray) -> "Known":
        """What is known of some rows, in their order."""
        return Known(self.labels.take(rows), None if self.order is None else self.order[rows])


def hold_out(table: Table, task_format: TaskFormat, known: Known, size: float, side: str) -> Sides:
    """Training rows, and those that are held out for the other side, as their places among all.

    Args:
      table: its split.
      task_format: says whether rows have classes.
      known: of each row.
      size: rows to hold out, a count (1 or more) or a share.
      side: that they are held out for, "test" or "validation".

    Raises:
      DataError: a split that cannot be made, or that holds out every row of a label name.
    """
    seed, source = table.split_seed, table.train
    num_rows = known.labels.num_rows
    strata = _strata(known.labels) if task_format.classes else Strata(("",), np.zeros(num_rows, np.int32))
    asked, kind = f"asked for {splitters.rows_to_hold_out(size, num_rows)}", str(table.split)
    if table.split == "kfold" and side == "test":
        sides = splitters.kfold(strata, table.folds, table.fold, seed, source)
        asked = f"fold {table.fold} of {table.folds}"
    elif known.order is None:
        sides, kind = splitters.stratified(strata, size, seed, source, side), "stratified"
        if not task_format.classes:
            kind, sides = "random", _without_news(sides, known.labels)
    elif table.split == "grouped":
        sides = splitters.grouped(strata, known.order, size, seed, source, side)
    else:
        sides = splitters.by_time(known.order, size, source, side)
    logger.info(
        "%s: the %s split holds out %d of %d rows for %s (%s)",
        source, kind, len(sides.test), num_rows, side, asked,
    )  # fmt: skip
    gone = known.labels.present() - known.labels.take(sides.train).present()
    if gone:
        raise DataError(
            f"{source}: the {kind} split holds out every row of {', '.join(map(repr, sorted(gone)))}, so training "
            f"would never see it; choose another --{side}-size or --split-seed, or drop the class"
        )
    return sides


def test_size(table: Table) -> float:
    """Rows to hold out where there is no test table: a count, or a share.

    Raises:
      ConfigError: it is not positive.
    """
    if table.test_size is not None:
        if table.test_size <= 0:
            raise ConfigError(f"--test-size must be positive, got {table.test_size}")
        return table.test_size
    return CATALOG_TEST_ROWS.get(table.train, DEFAULT_TEST_SHARE)


def _strata(labels: LabelNames) -> Strata:
    """Classes in the order of their names, on which a seeded split depends."""
    by_name = np.array(sorted(range(len(labels.names)), key=labels.names.__getitem__), np.int32)
    return Strata(tuple(labels.names[code] for code in by_name), np.argsort(by_name).astype(np.int32)[labels.codes])


def _without_news(sides: Sides, labels: LabelNames) -> Sides:
    """The same sides, but rows that hold out the only ones of a label name stay in training."""
    train, test = labels.take(sides.train), labels.take(sides.test)
    is_unseen = ~np.isin(test.codes, train.codes)
    rows = np.arange(test.num_rows)
    of_row = rows if test.counts is None else np.repeat(rows, test.counts)
    is_new = np.bincount(of_row, weights=is_unseen, minlength=len(rows)) > 0
    return Sides(np.concatenate([sides.train, sides.test[is_new]]), sides.test[~is_new])
