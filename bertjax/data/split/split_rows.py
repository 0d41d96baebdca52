"""Splits training rows into those to train on and those to hold out, from a few numbers per row."""

import logging
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from bertjax.data.rows.label_vocabulary import RowLabels, row_labels
from bertjax.data.rows.labelled_rows import PreprocessedRows, Rows, as_string
from bertjax.data.rows.row_hashes import hash64
from bertjax.data.rows.spellings import check_spellings
from bertjax.data.split import splitters
from bertjax.data.split.contradictions import warn_of_contradictions
from bertjax.data.split.splitters import TrainTest
from bertjax.data.table import Side, Table
from bertjax.data.task_formats import TaskFormat
from bertjax.errors import DataError

logger = logging.getLogger(__name__)

# Rows to hold out of a catalog data set whose own test rows are not in its package.
_CATALOG_TEST_ROWS = {"trec": 500}
_DEFAULT_TEST_SHARE = 0.2


class RowKeys(NamedTuple):
    """What a split compares of each training row."""

    texts: np.ndarray  # [n] uint64 hashes, equal for rows that repeat a text
    leaks: np.ndarray  # [n] uint64, see `leak_hashes`
    labels: RowLabels
    answers: np.ndarray  # [n] uint64 hashes, equal for rows whose labels say the same
    positions: np.ndarray  # [n] int64 places in the table, from 0
    order: np.ndarray | None = None  # [n] hashes of groups, or times, where the split goes by them
    classes: tuple[str, ...] = ()  # label names that belong to the vocabulary even where no row has them

    @classmethod
    def of(cls, preprocessed: PreprocessedRows, task_format: TaskFormat) -> "RowKeys":
        """The keys of some rows, without their order."""
        rows, compared = preprocessed
        assert compared is not None  # `preprocessing_of` always drops duplicates
        return cls(
            hash64(compared),
            leak_hashes(rows),
            row_labels(map(task_format.names, rows.labels)),
            hash64(map(task_format.comparable, rows.labels)),
            np.array(rows.positions, np.int64),
            classes=() if rows.probabilities is None else rows.probabilities.names,
        )


class SplitRows(NamedTuple):
    """The side of each training row, as indices of rows."""

    train: np.ndarray  # rows to train on
    held_out: dict[Side, np.ndarray]  # rows of the sides that have no table of their own
    vocabulary: tuple[str, ...]  # label names of the training rows, in index order; empty where labels have no names
    duplicates: int  # rows that repeat the text of an earlier row
    leaks: int  # training rows whose text is in the validation or test rows too
    leaks_removed: int  # leaks that `train` lacks, all or none
    contradictions: int  # texts whose rows have different labels


def split_rows(keys: RowKeys, table: Table, task_format: TaskFormat, tables: Mapping[Side, Rows]) -> SplitRows:
    """Checks labels, drops repeated rows, holds out the sides that have no table of their own, and finds leaks.

    Duplicates are dropped before the split: one copy in training and one in the test rows would be a leak. Texts with
    the same hash of 64 bits count as the same text.

    Args:
      keys: keys of all training rows.
      table: settings of the split.
      task_format: of the rows.
      tables: the rows of validation and test tables.

    Raises:
      DataError: labels that look alike, or a split that cannot be made, or that leaves no training row of some label.
    """
    distinct = first_of_each(keys.texts)
    names = set(keys.labels.take(distinct).counts())
    # That all rows have one class is the clearer error than a split that cannot be made.
    vocabulary = task_format.vocabulary(names.union(keys.classes), table)
    if not (table.labels or table.flag_names):
        check_spellings(keys.labels.counts(), table.train, table.label_spelling is not None)
    contradictions = warn_of_contradictions(keys.leaks, keys.answers, keys.positions, keys.labels, table.train)
    train, held_out = _hold_out_sides(keys, distinct, table, task_format)
    evaluated = [leak_hashes(rows) for rows in tables.values()] + [keys.leaks[rows] for rows in held_out.values()]
    is_leak = np.isin(keys.leaks[train], np.concatenate(evaluated))
    train = train[~is_leak] if table.leaks == "remove" else train
    missing = names - set(keys.labels.take(train).counts())
    if missing or not len(train):
        raise _leaked_error(table, missing if len(train) else ())
    leaks, removed = int(is_leak.sum()), len(is_leak) - len(train)
    if leaks:
        logger.info(
            "%s: the text of %d training rows stands in the validation or test rows too; %d were removed",
            table.train, leaks, removed,
        )  # fmt: skip
    if table.per_class is not None:
        train = train[_draw(keys.labels.take(train), table, table.per_class)]
    if contradicting := _contradicting_leaks(keys, task_format, tables.values()):
        logger.warning(
            "%s: the text of %d training row%s has another label in the validation or test table",
            table.train, contradicting, "" if contradicting == 1 else "s",
        )  # fmt: skip
    duplicates = len(keys.texts) - len(distinct)
    return SplitRows(train, held_out, vocabulary, duplicates, leaks, removed, contradictions)


def _draw(labels: RowLabels, table: Table, per_class: int) -> np.ndarray:
    """The indices of at most so many training rows of each class."""
    drawn = splitters.at_most(labels, per_class, table.per_class_seed)
    fewer = [f"{name!r} ({count})" for name, count in labels.counts().items() if count < per_class]
    logger.info(
        "%s: training on %d of %d rows, at most %d of each class%s",
        table.train, len(drawn), labels.num_rows, per_class,
        f"; all rows of {', '.join(fewer)}, which {'has' if len(fewer) == 1 else 'have'} fewer" if fewer else "",
    )  # fmt: skip
    return drawn


def first_of_each(hashes: np.ndarray) -> np.ndarray:
    """The first row of each hash, ascending."""
    # int32 is half the memory of a stream's index, as long as it is enough.
    dtype = np.int32 if len(hashes) < 2**31 else np.int64
    return np.sort(np.unique(hashes, return_index=True)[1]).astype(dtype)


def leak_hashes(rows: Rows) -> np.ndarray:
    """Hashes of texts, or pairs of texts, that are equal except for case, width and spaces: [n] uint64."""
    pairs = rows.text_pairs()
    places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}  # repeated texts are normalised once
    hashes = hash64(
        (_normalised(as_string(text)), None if pair is None else _normalised(as_string(pair))) for text, pair in places
    )
    return hashes[np.fromiter((places[pair] for pair in pairs), np.int64, len(pairs))]


def _contradicting_leaks(keys: RowKeys, task_format: TaskFormat, tables: Iterable[Rows]) -> int:
    """Training rows whose text stands in another table, and never with their label there."""
    contradicts = np.zeros(len(keys.leaks), bool)
    for rows in tables:
        texts, answers = leak_hashes(rows), hash64(map(task_format.comparable, rows.labels))
        contradicts |= np.isin(keys.leaks, texts) & ~np.isin(keys.leaks ^ keys.answers, texts ^ answers)
    return int(contradicts.sum())


def _normalised(text: str) -> str:
    """A text after Unicode's compatibility caseless folding, with single spaces.

    >>> _normalised(" \ufb01lm\\tNOIR ")
    'film noir'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def _hold_out_sides(
    keys: RowKeys, rows: np.ndarray, table: Table, task_format: TaskFormat
) -> tuple[np.ndarray, dict[Side, np.ndarray]]:
    """Training rows, and the rows of each side that is held out of them."""
    sizes: dict[Side, float] = {} if table.test else {"test": _test_size(table)}
    if table.validation_size is not None:
        sizes["validation"] = table.validation_size
    held_out: dict[Side, np.ndarray] = {}
    for side, size in sizes.items():
        order = None if keys.order is None else keys.order[rows]
        split = _hold_out(table, task_format, keys.labels.take(rows), order, size, side)
        rows, held_out[side] = rows[split.train], rows[split.test]
    return rows, held_out


def _hold_out(
    table: Table, task_format: TaskFormat, labels: RowLabels, order: np.ndarray | None, size: float, side: Side
) -> TrainTest:
    """Holds out `size` rows (a count from 1, or a share) by the splitter that the settings name."""
    seed, source, num_rows = table.split_seed, table.train, labels.num_rows
    # A seeded split depends on the order of the classes, so they are sorted.
    classes = labels.sorted_by_name() if task_format.classes else RowLabels(("",), np.zeros(num_rows, np.int32))
    asked, kind = f"asked for {splitters.rows_to_hold_out(size, num_rows)}", str(table.split)
    if table.split == "kfold" and side == "test":
        split = splitters.kfold(classes, table.folds, table.fold, seed, source)
        asked = f"fold {table.fold} of {table.folds}"
    elif order is None:
        split, kind = splitters.stratified(classes, size, seed, source, side), "stratified"
        if not task_format.classes:
            kind, split = "random", _keep_only_examples(split, labels)
    elif table.split == "grouped":
        split = splitters.grouped(classes, order, size, seed, source, side)
    else:
        split = splitters.by_time(order, size, source, side)
    logger.info(
        "%s: the %s split holds out %d of %d rows for %s (%s)",
        source, kind, len(split.test), num_rows, side, asked,
    )  # fmt: skip
    missing = labels.counts().keys() - labels.take(split.train).counts().keys()
    if missing:
        raise DataError(
            f"{source}: the {kind} split holds out every row of {', '.join(map(repr, sorted(missing)))}, so training "
            f"would never see it; choose another --{side}-size or --split-seed, or drop the class"
        )
    return split


def _test_size(table: Table) -> float:
    """Test rows to hold out: a count (1 or more), or a share."""
    if table.test_size is not None:
        return table.test_size
    return _CATALOG_TEST_ROWS.get(table.train, _DEFAULT_TEST_SHARE)


def _keep_only_examples(split: TrainTest, labels: RowLabels) -> TrainTest:
    """Moves held-out rows that have the only examples of a label name back to training."""
    train, test = labels.take(split.train), labels.take(split.test)
    is_unseen = ~np.isin(test.codes, train.codes)
    has_unseen = np.bincount(test.row_of, weights=is_unseen, minlength=test.num_rows) > 0
    return TrainTest(np.concatenate([split.train, split.test[has_unseen]]), split.test[~has_unseen])


def _leaked_error(table: Table, names: Iterable[str]) -> DataError:
    """The error where every training row leaks, or every row of some label names."""
    rows = (
        f"every training row of {', '.join(map(repr, sorted(names)))} has a text that"
        if names
        else "the text of every training row"
    )
    return DataError(
        f"{table.train}: {rows} stands in the validation or test rows too; give other rows, or keep such rows with "
        f"--leaks report"
    )
