"""Train, validation and test rows of a `Table` whose training rows do not fit in memory.

One pass over the training rows encodes them, leaves their tokens on the disk, and gathers what a run must know of all
of them: how many there are, their lengths and labels, which repeat an earlier text, and which stand in the validation
or test rows too.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertjax import catalog
from bertjax.data.intake import Intake, TableIntake
from bertjax.data.masking_settings import Masking
from bertjax.data.rows import Rows, check_columns, preprocess
from bertjax.data.sources import File, files_of, read_frames, read_table
from bertjax.data.split import all_leaked, check_settings, preprocessing_of, select
from bertjax.data.streaming.encode import Recipe, held_out_keys
from bertjax.data.streaming.gathered import Gathered
from bertjax.data.streaming.ray_blocks import BLOCK_ROWS, encoded_blocks
from bertjax.data.streaming.spill import Spill, SpilledExamples
from bertjax.data.table import Table
from bertjax.data.task_formats import TaskFormat, format_of
from bertjax.errors import ConfigError

logger = logging.getLogger(__name__)

_MASKING = Masking()


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
    table: Table,
    task: str,
    tokenizer: Path,
    vocabulary_size: int,
    max_length: int,
    masking: Masking = _MASKING,
    seed: int = 0,
    block_rows: int = BLOCK_ROWS,
) -> StreamedSplits:
    """What `read_splits` does, and the encoding of the training rows besides, with bounded memory.

    Validation and test rows are read into memory. Texts with the same hash of 64 bits count as the same text.

    Args:
      table: with a test table.
      task: the name of a task format.
      tokenizer: the folder of the model.
      vocabulary_size: of the tokenizer.
      max_length: longest example, in tokens.
      masking: how words are hidden, where the task is to fill them in.
      seed: of that.
      block_rows: rows that a worker encodes at a time.

    Raises:
      DataError: whatever the table's sources, columns, texts or labels get wrong, or a full disk.
      ConfigError: settings that contradict each other, or that need all training rows in memory.
    """
    task_format, source = format_of(task), table.train
    _check_streamed(table, task, task_format)
    files = files_of(source)
    columns = _columns(files[0], table)
    table = task_format.with_usual_columns(table, columns)
    needed = task_format.columns(table)
    check_columns(columns, needed, files[0].name)
    judged = {name: _judged(table, task_format, name) for name in (table.validation, table.test) if name}

    optional = tuple(column for column in task_format.optional if column in columns)
    recipe = Recipe(task, table, (*needed, *optional), tokenizer, max_length, masking, seed)
    found = Gathered(table, task_format, Spill(catalog.cache_folder() / "streams"), vocabulary_size)
    for block in encoded_blocks(files, source, recipe, block_rows):
        found.add(block)
    found.finish()

    text_keys, leak_keys = found.column("text_keys"), found.column("leak_keys")
    assert text_keys is not None
    assert leak_keys is not None
    kept = np.sort(np.unique(text_keys, return_index=True)[1])
    names = found.names_of(kept)
    vocabulary = task_format.vocabulary(names, table)
    leaks = np.isin(leak_keys[kept], held_out_keys(rows for rows, _, _ in judged.values()))
    removed = leaks if table.leaks == "remove" else np.zeros_like(leaks)
    train = kept[~removed]
    gone = names - found.names_of(train)
    if gone or not len(train):
        raise all_leaked(table, gone if len(train) else set())
    if leaks.any():
        logger.info(
            "%s: the text of %d training rows stands in the validation or test rows too; %d were removed",
            source, leaks.sum(), removed.sum(),
        )  # fmt: skip
    intake = Intake(
        (found.intake(), *(intake for _, intake, _ in judged.values())),
        found.num_rows - len(kept),
        int(leaks.sum()),
        int(removed.sum()),
        found.emptied + sum(emptied for *_, emptied in judged.values()),
    )
    assert table.test is not None
    validation = judged[table.validation][0] if table.validation else None
    return StreamedSplits(
        found.examples(train, vocabulary),
        found.digest(train),
        validation,
        judged[table.test][0],
        vocabulary,
        table,
        intake,
    )


def _check_streamed(table: Table, task: str, task_format: TaskFormat) -> None:
    check_settings(table, task, task_format)
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
