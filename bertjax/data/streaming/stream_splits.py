"""Train, validation and test rows of a `Table` whose training rows do not fit in memory.

One pass over the training rows encodes them, leaves their tokens on the disk, and gathers what a run must know of all
of them: how many there are, their lengths and labels, which repeat an earlier text, and which stand in the validation
or test rows too.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bertjax import catalog
from bertjax.data.encode.masking_settings import Masking
from bertjax.data.read.catalog_tables import in_catalog
from bertjax.data.read.sources import File, files_of, read_frames, read_table
from bertjax.data.rows.data_report import DataReport, TableReport
from bertjax.data.rows.labelled_rows import Rows, check_columns, preprocess
from bertjax.data.split.hold_out import hold_out, test_size
from bertjax.data.split.read_splits import (
    all_leaked,
    check_contract,
    check_order_column,
    check_settings,
    preprocessing_of,
    select,
)
from bertjax.data.streaming.disk_store import DiskStore, StoredExamples
from bertjax.data.streaming.encode_rows import Recipe, held_out_keys
from bertjax.data.streaming.ray_blocks import BLOCK_ROWS, encoded_blocks
from bertjax.data.streaming.stream_statistics import StreamStatistics
from bertjax.data.table import Side, Table
from bertjax.data.task_formats import TaskFormat
from bertjax.data.validate.contract_file import read_contract
from bertjax.errors import ConfigError

logger = logging.getLogger(__name__)

_MASKING = Masking()


class StreamedSplits(NamedTuple):
    """The rows of a run.

    Attributes:
      train: encoded; their tokens are on the disk.
      validation, test: the rows of tables of their own, or what is held out, encoded.
      digests: of what is encoded, 16 hexadecimal digits that change with any text, pair and label, and with the order.
      vocabulary: the label names of the training rows, in index order; empty where labels have no names.
      table: the settings that were followed, with the columns that were found.
      data_report: what was read, dropped and removed on the way.
    """

    train: StoredExamples
    validation: Rows | StoredExamples | None
    test: Rows | StoredExamples
    digests: Mapping[Side, str]
    vocabulary: tuple[str, ...]
    table: Table
    data_report: DataReport


def stream_splits(
    table: Table,
    task_format: TaskFormat,
    tokenizer: Path,
    vocabulary_size: int,
    max_length: int,
    masking: Masking = _MASKING,
    seed: int = 0,
    block_rows: int = BLOCK_ROWS,
) -> StreamedSplits:
    """What `read_splits` does, and the encoding of the training rows besides, with bounded memory.

    Validation and test tables are read into memory; what is held out instead are the rows that `read_splits` holds out.
    Texts with the same hash of 64 bits count as the same text.

    Args:
      table: its settings.
      task_format: how a row becomes an example.
      tokenizer: the folder of the model.
      vocabulary_size: of the tokenizer.
      max_length: longest example, in tokens.
      masking: how words are hidden, where the task is to fill them in.
      seed: of that.
      block_rows: rows that a worker encodes at a time.

    Raises:
      DataError: whatever the table's sources, columns, texts or labels get wrong, or a full disk.
      ConfigError: settings that contradict each other, or that need the texts of training rows.
    """
    source = table.train
    _check_streamed(table, task_format)
    files = files_of(source)
    columns = _columns(files[0], table)
    table = task_format.with_usual_columns(table, columns)
    needed = task_format.columns(table)
    contract = read_contract(table.contract) if table.contract else None
    check_columns(columns, needed, files[0].name)
    check_order_column(table, columns)
    sources: dict[Side, str | None] = {"validation": table.validation, "test": table.test}
    judged = {side: _judged(table, task_format, side, name) for side, name in sources.items() if name}

    optional = tuple(column for column in task_format.optional if column in columns)
    order = () if table.order_column is None else (table.order_column,)
    recipe = Recipe(task_format, table, (*needed, *optional, *order), tokenizer, max_length, masking, seed, contract)
    found = StreamStatistics(
        table, task_format, DiskStore(catalog.cache_folder() / "streams"), vocabulary_size, contract
    )
    for block in encoded_blocks(files, source, recipe, block_rows):
        found.add(block)
    found.finish()

    text_keys, leak_keys = found.column("text_keys"), found.column("leak_keys")
    assert text_keys is not None
    assert leak_keys is not None
    # Half the memory, as long as it is enough.
    place = np.int32 if len(text_keys) < 2**31 else np.int64
    kept = np.sort(np.unique(text_keys, return_index=True)[1]).astype(place)
    names = found.labels_of(kept).present()
    vocabulary = task_format.vocabulary(names, table)
    train, sides = _split(table, task_format, found, kept)
    judging = [held_out_keys([rows]) for rows, _, _ in judged.values()] + [leak_keys[rows] for rows in sides.values()]
    leaks = np.isin(leak_keys[train], np.concatenate(judging))
    removed = leaks if table.leaks == "remove" else np.zeros_like(leaks)
    train = train[~removed]
    gone = names - found.labels_of(train).present()
    if gone or not len(train):
        raise all_leaked(table, gone if len(train) else set())
    if leaks.any():
        logger.info(
            "%s: the text of %d training rows stands in the validation or test rows too; %d were removed",
            source, leaks.sum(), removed.sum(),
        )  # fmt: skip
    sides["train"] = train
    streamed = {side: found.examples(rows, vocabulary) for side, rows in sides.items()}
    data_report = DataReport(
        (found.data_report(), *(data_report for _, data_report, _ in judged.values())),
        found.num_rows - len(kept),
        int(leaks.sum()),
        int(removed.sum()),
        found.emptied + sum(emptied for *_, emptied in judged.values()),
    )
    named = {side: rows for side, (rows, _, _) in judged.items()}
    return StreamedSplits(
        streamed["train"],
        named.get("validation", streamed.get("validation")),
        named["test"] if "test" in named else streamed["test"],
        {side: found.digest(rows) for side, rows in sides.items()},
        vocabulary,
        table,
        data_report,
    )


def _split(
    table: Table, task_format: TaskFormat, found: StreamStatistics, rows: np.ndarray
) -> tuple[np.ndarray, dict[Side, np.ndarray]]:
    """Training rows, and those of each side that is held out of them."""
    sizes: dict[Side, float] = {} if table.test else {"test": test_size(table)}
    if table.validation_size is not None:
        sizes["validation"] = table.validation_size
    held: dict[Side, np.ndarray] = {}
    known = found.known_of(rows)
    for side, size in sizes.items():
        sides = hold_out(table, task_format, known, size, side)
        held[side], rows, known = rows[sides.test], rows[sides.train], known.take(sides.train)
    return rows, held


def _check_streamed(table: Table, task_format: TaskFormat) -> None:
    check_settings(table, task_format)
    if task_format.evaluated_by_texts and (not table.test or table.validation_size is not None):
        raise ConfigError(
            f"--reader ray keeps no texts of training rows, by which {task_format.task} is judged; name its rows with "
            f"--test and --validation, or use --reader pandas"
        )
    if in_catalog(table.train):
        raise ConfigError(f"{table.train} is a data set of the catalog, which fits in memory; leave --reader ray out")


def _columns(file: File, table: Table) -> list[str]:
    """The columns of the first rows of a file; a broken row is met again, and complained of then."""
    return list(next(read_frames(file, table.encoding, lambda row: None, table.documents, BLOCK_ROWS)).columns)


def _judged(table: Table, task_format: TaskFormat, side: Side, source: str) -> tuple[Rows, TableReport, int]:
    """The rows of a table that judges the model, what was read of it, and how many rows lost all their text."""
    read = read_table(source, table.encoding, table.on_bad_row, table.documents)
    findings = check_contract(table, {side: source}, {side: read})[side]
    selected = select(read.frame, table, task_format, source)
    rows = preprocess(selected.rows, preprocessing_of(table), source).rows
    data_report = TableReport(source, len(selected.kept), read.skipped + selected.skipped, findings)
    return rows, data_report, len(selected.kept) - len(rows.texts)
