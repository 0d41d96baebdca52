"""Train, validation and test rows of a `Table` whose training rows do not fit in memory.

One pass over the training rows encodes them, leaves their tokens on the disk, and gathers what a run must know of all
of them: how many there are, their lengths and labels, which repeat an earlier text, and which stand in the validation
or test rows too.
"""

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertjax import catalog
from bertjax.data.bad_rows import BadRow
from bertjax.data.intake import Intake, TableIntake
from bertjax.data.rows import Rows, check_columns, count_of, nothing_left, preprocess
from bertjax.data.sources import File, check_same_columns, files_of, listing, read_frames, read_table, stop
from bertjax.data.split import all_leaked, check_settings, preprocessing_of, select
from bertjax.data.streaming.encode import EncodedRows, Recipe, held_out_keys
from bertjax.data.streaming.ray_blocks import BLOCK_ROWS, FileBlock, encoded_blocks
from bertjax.data.streaming.spill import Spill, SpilledExamples
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat, format_of
from bertjax.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

STREAMED_TASKS = ("classification", "regression")


class StreamedSplits(NamedTuple):
    """The rows of a run.

    Attributes:
      train: encoded; their tokens are on the disk.
      digest: 16 hexadecimal digits that change with any of their texts, pairs and labels, and with their order.
      vocabulary: the label names of the training rows, in index order; empty where labels have no names.
      table: the settings that were followed, with the columns that were found.
      intake: what was read, dropped and removed on the way.
    """

    train: SpilledExamples
    digest: str
    validation: Rows | None
    test: Rows
    vocabulary: tuple[str, ...]
    table: Table
    intake: Intake


def stream_splits(
    table: Table, task: str, tokenizer: Path, vocabulary_size: int, max_length: int, block_rows: int = BLOCK_ROWS
) -> StreamedSplits:
    """What `read_splits` does, and the encoding of the training rows besides, with bounded memory.

    Validation and test rows are read into memory. Texts with the same hash of 64 bits count as the same text.

    Args:
      table: with a test table.
      task: one of `STREAMED_TASKS`.
      tokenizer: the folder of the model.
      vocabulary_size: of the tokenizer.
      max_length: longest example, in tokens.
      block_rows: rows that a worker encodes at a time.

    Raises:
      DataError: whatever the table's sources, columns, texts or labels get wrong, or a full disk.
      ConfigError: settings that contradict each other, or that need all training rows in memory.
    """
    _check_streamed(table, task)
    task_format, source = format_of(task), table.train
    files = files_of(source)
    columns = _columns(files[0], table)
    table = task_format.with_usual_columns(table, columns)
    check_columns(columns, task_format.columns(table), files[0].name)
    judged = {name: _judged(table, task_format, name) for name in (table.validation, table.test) if name}

    recipe = Recipe(task, table, tokenizer, max_length)
    spill = Spill(catalog.cache_folder() / "streams", vocabulary_size)
    found = _Pass(source, table)
    for block in encoded_blocks(files, source, recipe, block_rows):
        encoded = found.add(block)
        if encoded is not None:
            spill.append(encoded.token_ids, encoded.token_type_ids)
    found.finish()

    text_keys = np.concatenate(found.text_keys)
    kept = np.sort(np.unique(text_keys, return_index=True)[1])
    duplicates = found.num_encoded - len(kept)
    labels = found.all_labels()
    named = bool(found.names)
    present = [found.names[i] for i in np.unique(labels[kept])] if named else []
    vocabulary = task_format.vocabulary(present, table)
    leaks = np.isin(np.concatenate(found.leak_keys)[kept], held_out_keys(rows for rows, _, _ in judged.values()))
    removed = leaks if table.leaks == "remove" else np.zeros_like(leaks)
    train = kept[~removed]
    gone = {found.names[i] for i in np.setdiff1d(labels[kept], labels[train])} if named else set()
    if gone or not len(train):
        raise all_leaked(table, gone)
    if leaks.any():
        logger.info(
            "%s: the text of %d training rows stands in the validation or test rows too; %d were removed",
            source, leaks.sum(), removed.sum(),
        )  # fmt: skip
    if named:
        index = np.array([vocabulary.index(name) if name in vocabulary else -1 for name in found.names], np.int32)
        labels = index[labels]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(found.lengths), dtype=np.int64)])
    examples = SpilledExamples(spill, offsets, train, labels[train], found.truncated)
    intake = Intake(
        (found.intake(), *(intake for _, intake, _ in judged.values())),
        duplicates,
        int(leaks.sum()),
        int(removed.sum()),
        found.emptied + sum(emptied for *_, emptied in judged.values()),
    )
    assert table.test is not None
    validation = judged[table.validation][0] if table.validation else None
    digest = hashlib.sha256(text_keys[train].tobytes() + labels[train].tobytes()).hexdigest()[:16]
    return StreamedSplits(examples, digest, validation, judged[table.test][0], vocabulary, table, intake)


def _check_streamed(table: Table, task: str) -> None:
    check_settings(table)
    if task not in STREAMED_TASKS:
        raise ConfigError(
            f"--reader ray streams rows with one label each ({', '.join(STREAMED_TASKS)}); --task {task} needs "
            f"--reader pandas"
        )
    if not table.test:
        raise ConfigError(
            "--reader ray holds no rows out of a table that is not in memory; name them with --test, or use "
            "--reader pandas"
        )
    for flag, given in (("--validation-size", table.validation_size), ("--contract", table.contract)):
        if given is not None:
            raise ConfigError(f"{flag} looks at all training rows at once, which --reader ray never has; leave it out")
    if table.train in catalog.names("data") and not Path(table.train).exists():
        raise ConfigError(f"{table.train} is a data set of the catalog, which fits in memory; leave --reader ray out")


def _columns(file: File, table: Table) -> list[str]:
    """The columns of the first rows of a file; a broken row is met again, and complained of then."""
    return list(next(read_frames(file, table.encoding, lambda row: None, table.documents, BLOCK_ROWS)).columns)


def _judged(table: Table, task_format: TaskFormat, source: str) -> tuple[Rows, TableIntake, int]:
    """The rows of a table that judges the model, what was read of it, and how many rows lost all their text."""
    read = read_table(source, table.encoding, table.on_bad_row, table.documents)
    selected = select(read.frame, table, task_format, source)
    rows = preprocess(selected.rows, preprocessing_of(table), source).rows
    intake = TableIntake(source, len(selected.kept), read.skipped + selected.skipped)
    return rows, intake, len(selected.kept) - len(rows.texts)


class _Pass:
    """What a pass over the training rows has found so far.

    Attributes:
      num_encoded: rows that are left of those that were read.
      names: of the labels, in the order in which they were met.
      text_keys, leak_keys, lengths: one array a block.
    """

    def __init__(self, source: str, table: Table):
        self._source, self._table = source, table
        self._columns: dict[str, dict[str, None]] = {}  # of each file
        self._skipped: list[BadRow] = []
        self._num_read = self._num_usable = 0
        self._labels: list[np.ndarray] = []
        self.num_encoded = self.truncated = self.emptied = 0
        self.names: list[str] = []
        self.text_keys: list[np.ndarray] = []
        self.leak_keys: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []

    def add(self, block: FileBlock) -> EncodedRows | None:
        """Takes a block in; returns its rows, or None where it has none.

        Raises:
          DataError: what a worker met, or a bad row where one ends the run.
        """
        if block.file not in self._columns:
            self._check_last_file()
            self._columns[block.file] = {}
        self._columns[block.file] |= dict.fromkeys(block.columns)
        self._skip(block.broken)
        if block.mistake:
            raise DataError(block.mistake)
        encoded = block.encoded
        if encoded is None:
            return None
        self._skip(tuple(row._replace(line=row.line + self._num_read) for row in encoded.bad))
        self._num_read += encoded.num_rows
        self._num_usable += encoded.num_rows - len(encoded.bad)
        self.num_encoded += len(encoded.lengths)
        self.truncated += encoded.truncated
        self.emptied += encoded.emptied
        if not len(encoded.lengths):
            return None
        self.names += [name for name in encoded.names if name not in self.names]
        index = np.array([self.names.index(name) for name in encoded.names], np.int32)
        self._labels.append(index[encoded.labels] if encoded.names else encoded.labels)
        self.text_keys.append(encoded.text_keys)
        self.leak_keys.append(encoded.leak_keys)
        self.lengths.append(encoded.lengths)
        return encoded

    def finish(self) -> None:
        """Whether anything is left.

        Raises:
          DataError: nothing is.
        """
        self._check_last_file()
        if not self._num_read:
            but = f" but {listing(self._skipped)}" if self._skipped else ""
            raise DataError(f"{self._source} has no rows{but}")
        if not self._num_usable:
            raise DataError(f"{self._source} has no row that can be used; the first is {self._skipped[0]}")
        if not self.num_encoded:
            raise nothing_left(self._source, preprocessing_of(self._table), count_of(self._num_usable, "row"))
        if self._skipped:
            logger.warning("%s: left out %s", self._source, listing(self._skipped))
        if self.emptied:
            logger.info("the preprocessing left no text in %d rows, which were dropped", self.emptied)

    def all_labels(self) -> np.ndarray:
        """[n] or [n, L]; where labels have names, indices into `names`."""
        return np.concatenate(self._labels)

    def intake(self) -> TableIntake:
        """What was read of the table."""
        return TableIntake(self._source, self._num_usable, tuple(self._skipped))

    def _skip(self, rows: tuple[BadRow, ...]) -> None:
        for row in rows:
            if self._table.on_bad_row == "stop":
                stop(row)
            self._skipped.append(row)

    def _check_last_file(self) -> None:
        """Whether the file that has ended has the columns of the first, as far as either has rows."""
        filled = [(name, columns) for name, columns in self._columns.items() if columns]
        if len(filled) > 1:
            (first, expected), (last, columns) = filled[0], filled[-1]
            check_same_columns(first, expected, last, columns)
