"""Train, validation and test rows of a `Table` whose training rows do not fit in memory.

One pass over the training rows encodes them, writes their tokens to the disk, and gathers `StreamStatistics`, from
which the rows are split as rows in memory are.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from bertjax import catalog
from bertjax.data.encode.examples import Examples
from bertjax.data.encode.pretrained_tokenizer import num_entries, tokenizer_digest
from bertjax.data.read.catalog_tables import in_catalog
from bertjax.data.read.content import Reading
from bertjax.data.read.notes import logged_notes
from bertjax.data.read.sources import File, files_of, read_frames
from bertjax.data.split.labelled_table import check_columns, read_labelled_tables
from bertjax.data.split.read_splits import (
    Split,
    Splits,
    check_order_column,
    check_settings,
    encode_rows,
    fixed,
    with_losses,
)
from bertjax.data.split.split_rows import split_rows
from bertjax.data.streaming.disk_store import DiskStore
from bertjax.data.streaming.encode_block import Recipe
from bertjax.data.streaming.ray_blocks import BLOCK_ROWS, encoded_blocks
from bertjax.data.streaming.stream_statistics import StreamStatistics
from bertjax.data.table import Side, Table
from bertjax.data.task_formats import Encoding, TaskFormat
from bertjax.data.validate.contract_file import read_contract
from bertjax.data.validate.data_report import DataReport
from bertjax.errors import ConfigError


def stream_splits(
    table: Table, task_format: TaskFormat, encoding: Encoding, tokenizer: Path, block_rows: int = BLOCK_ROWS
) -> Splits:
    """`read_splits` and `encode_splits` with bounded memory: the same splits, the same examples.

    Validation and test tables are read into memory, and so are the rows that are held out without such tables.

    Args:
      table: settings.
      task_format: parses and encodes rows.
      encoding: settings of the encoder, but for the vocabulary and the table.
      tokenizer: the model folder with the tokenizer, which every worker can read.
      block_rows: rows that a worker encodes at a time.

    Raises:
      DataError: a source, column, text or label that cannot be used, or a full disk.
      ConfigError: settings that contradict each other, or that need the texts of training rows.
    """
    _check_streamed(table, task_format)
    files = files_of(table.train)
    columns = list(next(_frames(files[0], table, task_format)).columns)
    table = task_format.with_usual_columns(table, columns)
    frames = (frame for file in files for frame in _frames(file, table, task_format))
    table = task_format.decided(table, frames, table.train)
    contract = read_contract(table.contract) if table.contract else None
    check_columns(columns, task_format.columns(table), files[0].name)
    check_order_column(table, columns)
    sources = table.evaluated
    table, tables = read_labelled_tables(table, task_format, sources)

    needed = (*task_format.columns(table), *(name for name in task_format.optional if name in columns))
    recipe = Recipe(
        task_format, table, needed, tokenizer, tokenizer_digest(encoding.tokenizer), encoding.max_length,
        encoding.masking, encoding.seed, contract,
    )  # fmt: skip
    store = DiskStore(catalog.cache_folder() / "streams")
    token_dtype = np.min_scalar_type(num_entries(encoding.tokenizer) - 1)
    statistics = StreamStatistics(table, task_format, store, token_dtype, contract)
    with logged_notes() as on_note, encoding.progress.stage("reading and tokenizing", "rows", None) as advance:
        for block in encoded_blocks(files, table.train, recipe, block_rows):
            for note in block.notes:
                on_note(note)
            statistics.add(block)
            advance(0 if block.encoded is None else block.encoded.num_rows)
    statistics.finish()

    rows = {side: labelled.rows for side, labelled in tables.items()}
    split = split_rows(statistics.row_keys(), table, task_format, rows)
    encoding = encoding._replace(vocabulary=split.vocabulary, table=table)
    evaluated: dict[Side, Split[Examples]] = {
        side: fixed(encode_rows(sources[side], rows[side], task_format, encoding), table) for side in rows
    } | {side: fixed(statistics.split(indices, split.vocabulary), table) for side, indices in split.held_out.items()}
    reports = (statistics.report(), *(labelled.report for labelled in tables.values()))
    train = statistics.split(split.train, split.vocabulary)
    validation, test = evaluated.get("validation"), evaluated["test"]
    data_report = with_losses(
        DataReport(reports, split.duplicates, split.leaks, split.leaks_removed, split.contradictions),
        [side.examples for side in (train, validation, test) if side],
    )
    return Splits(train, validation, test, split.vocabulary, table, data_report)


def _check_streamed(table: Table, task_format: TaskFormat) -> None:
    check_settings(table, task_format)
    if task_format.evaluated_by_texts and (not table.test or table.validation_size is not None):
        raise ConfigError(
            f"--reader ray keeps no texts of training rows, by which {task_format.task} is judged; name its rows with "
            f"--test and --validation, or use --reader pandas"
        )
    if in_catalog(table.train):
        raise ConfigError(f"{table.train} is a data set of the catalog, which fits in memory; leave --reader ray out")


def _frames(file: File, table: Table, task_format: TaskFormat) -> Iterator[pd.DataFrame]:
    """The rows of a file; a broken one is left out, and reported with the notes by the pass that encodes them all."""
    reading = Reading.of(table, class_names=task_format.indexed)
    frames = read_frames(file, reading, lambda row: None, lambda note: None, BLOCK_ROWS)
    return task_format.gathered(frames, file.name)
